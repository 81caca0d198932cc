//! Value from Ethereum into the ledger.

use std::time::Duration;

use alloy_sol_types::SolCall as _;
use anyhow::Context as _;
use clap::Args;
use lamina_ethereum_core::abi;
use lamina_ledger::state::claims::Credit;
use lamina_types::{Address, Amount, Asset};
use serde_json::json;

use super::ethereum::{self, EthereumOptions, advise, wait_for};
use super::output::{fields, print};
use super::{AccountOptions, ApiOptions};
use crate::client::Client;

/// `lamina deposit`.
#[derive(Debug, Args)]
pub(crate) struct Deposit {
    /// How much, in the asset's smallest unit.
    amount: Amount,
    /// Of what: `ether` or `erc20:0x…`.
    #[arg(long, default_value = "ether")]
    asset: Asset,
    /// Who is credited; by default the account that pays.
    #[arg(long = "for", value_name = "ACCOUNT")]
    account_for: Option<Address>,
    /// Don't wait until the ledger has credited it.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for the credit, in seconds: Ethereum finalises a block after some 13 minutes.
    #[arg(long, default_value_t = 1800)]
    wait: u64,
    #[command(flatten)]
    ethereum: EthereumOptions,
    #[command(flatten)]
    account: AccountOptions,
    #[command(flatten)]
    api: ApiOptions,
}

impl Deposit {
    pub(crate) async fn run(self, json: bool) -> anyhow::Result<()> {
        let token = ethereum::token(self.asset)?;
        let client = self.api.client()?;
        let (genesis, contracts) = ethereum::contracts(&client).await?;
        let secret = self.account.secret(&self.account.passphrase()?)?;
        let wallet = self.ethereum.wallet(&secret, &genesis)?;
        let account = self.account_for.unwrap_or_else(|| wallet.address());
        let (vault, amount) = (contracts.vault, self.amount.0);
        let (input, wei) = match token {
            None => {
                let call = abi::Vault::depositEtherCall { account: account.0.into() };
                (call.abi_encode(), amount)
            }
            Some(token) => {
                ethereum::approve(&wallet, token, vault, amount).await.context("approving")?;
                let (token, account) = (token.0.into(), account.0.into());
                let amount = amount.try_into().context("an amount fits 256 bits")?;
                (abi::Vault::depositCall { token, amount, account }.abi_encode(), 0)
            }
        };
        let sent = wallet.send(vault, input, wei).await.map_err(advise).context("depositing")?;
        let transaction = sent.transaction;
        let credited = match self.no_wait {
            true => None,
            false => {
                if !json {
                    println!(
                        "deposited by {transaction} in block {}; waiting until it's final and credited…",
                        sent.block
                    );
                }
                let missing = format!(
                    "transaction {transaction} has deposited it, and the ledger hasn't credited it yet; `lamina account show \
                     {account}` tells once it has"
                );
                // Asked anew each time: another block may have taken the place of the deposit's.
                let credit = async || {
                    let index = wallet.endpoints().deposit_index(vault, &transaction).await?;
                    let Some(index) = index else { return Ok(None) };
                    let credit = credit(&client, index).await?;
                    let is_ours = |c: &Credit| c.account == account && c.asset == self.asset;
                    Ok(credit.filter(is_ours).map(|credit| (index, credit.amount)))
                };
                Some(wait_for(Duration::from_secs(self.wait), &missing, credit).await?)
            }
        };
        let (index, credited) = credited.unzip();
        let view = json!({
            "account": account, "asset": self.asset, "amount": self.amount, "transaction": transaction,
            "block": sent.block, "gas_used": sent.gas_used, "deposit": index, "credited": credited,
        });
        print(json, &view, || {
            let credited =
                credited.map_or_else(|| "not yet".to_owned(), |amount| amount.to_string());
            fields(&[
                ("account", account.to_string()),
                ("amount", format!("{} {}", self.amount, self.asset)),
                ("transaction", transaction.to_string()),
                ("gas used", sent.gas_used.to_string()),
                ("credited", credited),
            ])
        });
        Ok(())
    }
}

/// What the ledger has credited for the deposit with this number, if it has.
async fn credit(client: &Client, index: u64) -> anyhow::Result<Option<Credit>> {
    let view = client.get(&format!("/v1/deposits/{index}")).await?;
    serde_json::from_value(view["credit"].clone()).context("the node's answer")
}
