//! Value from the ledger to Ethereum.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use lamina_ethereum::Wallet;
use lamina_keystore::Secret;
use lamina_types::{Action, Address, Amount, Asset};
use serde_json::json;

use super::claim::{self, paid_text};
use super::ethereum::{self, EthereumOptions};
use super::operation::{self, SubmitOptions};
use super::output::{plain, print};
use crate::client::Client;

/// `lamina withdraw`.
#[derive(Debug, Args)]
pub(crate) struct Withdraw {
    /// How much, in the asset's smallest unit.
    amount: Amount,
    /// Of what: `ether` or `erc20:0x…`.
    #[arg(long, default_value = "ether")]
    asset: Asset,
    #[command(flatten)]
    payout: PayoutOptions,
    #[command(flatten)]
    options: SubmitOptions,
}

impl Withdraw {
    pub(crate) async fn run(self, json: bool) -> anyhow::Result<()> {
        let client = self.options.client()?;
        let withdrawal = self.payout.prepare(&client, &self.options, self.asset).await?;
        withdrawal.run(json, &client, &self.options, self.amount).await
    }
}

/// Who is paid on Ethereum, and by whose transaction.
#[derive(Debug, Args)]
pub(crate) struct PayoutOptions {
    /// Who is paid on Ethereum; by default the account itself.
    #[arg(long)]
    to: Option<Address>,
    /// Only sign the withdrawal; `lamina claim pay` has it paid later.
    #[arg(long)]
    no_pay: bool,
    /// How long to wait for a checkpoint on Ethereum that proves it, in seconds.
    #[arg(long, default_value_t = 1800)]
    wait_anchor: u64,
    /// HTTP endpoints of the Ethereum chain, the preferred one first.
    #[arg(long = "rpc", value_name = "URL", env = "LAMINA_ETHEREUM_RPC", value_delimiter = ',')]
    rpc: Vec<String>,
    /// Most that is paid for a unit of gas, in gwei.
    #[arg(long, default_value_t = 100)]
    fee_max_gwei: u64,
}

impl PayoutOptions {
    /// Finds what is wrong before anything is signed.
    pub(crate) async fn prepare(
        self,
        client: &Client,
        options: &SubmitOptions,
        asset: Asset,
    ) -> anyhow::Result<Withdrawal> {
        ethereum::token(asset)?;
        let pays = !self.no_pay && !options.is_hasty();
        anyhow::ensure!(
            !pays || !self.rpc.is_empty(),
            "to be paid on Ethereum it takes an endpoint: --rpc URL, or --no-pay to sign only"
        );
        let account = options.account();
        let secret = account.secret(&account.passphrase()?)?;
        let payer = match pays {
            false => None,
            true => {
                let (genesis, _) = ethereum::contracts(client).await?;
                let ethereum = EthereumOptions { rpc: self.rpc, fee_max_gwei: self.fee_max_gwei };
                Some(ethereum.wallet(&secret, &genesis)?)
            }
        };
        let recipient = match self.to {
            Some(recipient) => recipient,
            None => account.key_of(&secret)?.address(),
        };
        let wait_anchor = Duration::from_secs(self.wait_anchor);
        Ok(Withdrawal { secret, payer, recipient, asset, wait_anchor })
    }

    /// Whether anything was said about Ethereum.
    pub(crate) const fn says_something(&self) -> bool {
        self.to.is_some() || self.no_pay
    }
}

/// A withdrawal of which all but the amount is known.
pub(crate) struct Withdrawal {
    /// The account's.
    pub(crate) secret: Secret,
    /// `None` if it's only signed.
    payer: Option<Wallet>,
    recipient: Address,
    asset: Asset,
    wait_anchor: Duration,
}

impl Withdrawal {
    /// What is signed.
    pub(crate) const fn action(&self, amount: Amount) -> Action {
        Action::Withdraw { recipient: self.recipient, asset: self.asset, amount }
    }

    /// Signs it, waits until it's final and anchored, and has it paid.
    pub(crate) async fn run(
        self,
        json: bool,
        client: &Client,
        options: &SubmitOptions,
        amount: Amount,
    ) -> anyhow::Result<()> {
        let account = options.account().key_of(&self.secret)?;
        let view = options.send(client, account, self.action(amount)).await?;
        let operation = plain(&view["id"]);
        if options.is_hasty() {
            let view = json!({ "operation": operation, "claim": null, "paid": false });
            print(json, &view, || {
                format!(
                    "operation {operation} is on its way; `lamina claim list` shows its claim once it's final"
                )
            });
            return Ok(());
        }
        operation::check(&view)?;
        let record = claim::of_operation(client, self.recipient, &operation).await?;
        let index = record.claim.index;
        let Some(wallet) = self.payer else {
            let view = json!({ "operation": operation, "claim": record.claim, "paid": false });
            print(json, &view, || {
                format!(
                    "claim {index}; `lamina claim pay {index}` has it paid once a checkpoint is anchored"
                )
            });
            return Ok(());
        };
        if !json {
            println!(
                "claim {index} is final in checkpoint {}; waiting for an anchor…",
                record.height
            );
        }
        let paid = claim::pay(json, client, &wallet, &[record], self.wait_anchor).await;
        let paid = paid
            .with_context(|| format!("claim {index} stays; `lamina claim pay {index}` goes on"))?;
        print(json, &paid, || paid_text(&paid));
        Ok(())
    }
}
