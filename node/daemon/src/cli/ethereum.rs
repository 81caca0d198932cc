//! What the commands that act on Ethereum share: which endpoint, which contracts, whose key.

use std::path::PathBuf;

use alloy_sol_types::SolCall as _;
use anyhow::Context as _;
use clap::Args;
use lamina_certificate::{EthereumContracts, Genesis};
use lamina_ethereum::{Endpoints, PrivateKeySigner, Sent, Wallet};
use lamina_ethereum_core::abi;
use lamina_keystore::Secret;
use lamina_types::{Address, Asset};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::Client;

/// How Ethereum is reached, and what it may cost.
#[derive(Debug, Args)]
pub(crate) struct EthereumOptions {
    /// HTTP endpoints of the Ethereum chain, the preferred one first.
    #[arg(
        long = "rpc",
        value_name = "URL",
        env = "LAMINA_ETHEREUM_RPC",
        value_delimiter = ',',
        required = true
    )]
    pub(super) rpc: Vec<String>,
    /// Most that is paid for a unit of gas, in gwei.
    #[arg(long, default_value_t = 100)]
    pub(super) fee_max_gwei: u64,
}

impl EthereumOptions {
    pub(crate) fn endpoints(&self) -> anyhow::Result<Endpoints> {
        Ok(Endpoints::new(&self.rpc)?)
    }

    /// The wallet of an account on the network's chain.
    pub(crate) fn wallet(&self, secret: &Secret, genesis: &Genesis) -> anyhow::Result<Wallet> {
        let key = PrivateKeySigner::from_slice(secret.expose())?;
        let fee_max = u128::from(self.fee_max_gwei) * 1_000_000_000;
        Ok(Wallet::new(self.endpoints()?, key, genesis.ethereum_chain_id, fee_max))
    }
}

/// The contracts of a node's network.
pub(crate) async fn contracts(client: &Client) -> anyhow::Result<(Genesis, EthereumContracts)> {
    let genesis = client.genesis().await?;
    let contracts = contracts_of(&genesis)?;
    Ok((genesis, contracts))
}

/// The contracts that a genesis file names.
pub(crate) fn contracts_of(genesis: &Genesis) -> anyhow::Result<EthereumContracts> {
    let contracts = genesis.ethereum.as_ref().map(|ethereum| ethereum.contracts);
    contracts.context("this network has no contracts on Ethereum")
}

/// EigenLayer's contracts on that chain. A JSON file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EigenLayer {
    pub(crate) allocation_manager: Address,
    pub(crate) delegation_manager: Address,
    pub(crate) strategy_manager: Address,
    /// The strategy that stake is put into.
    pub(crate) strategy: Address,
}

/// Which of EigenLayer's contracts.
#[derive(Debug, Args)]
pub(crate) struct EigenLayerOptions {
    /// Addresses of EigenLayer's `allocation_manager`, `delegation_manager`, `strategy_manager`, and of the `strategy` to
    /// stake by, as JSON. EigenLayer's documentation lists them for each chain.
    #[arg(long, value_name = "FILE", env = "LAMINA_EIGENLAYER", default_value = "eigenlayer.json")]
    eigenlayer: PathBuf,
}

impl EigenLayerOptions {
    pub(crate) fn read(&self) -> anyhow::Result<EigenLayer> {
        let shown = self.eigenlayer.display();
        let text = std::fs::read_to_string(&self.eigenlayer)
            .with_context(|| format!("reading EigenLayer's addresses in {shown}"))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{shown} hasn't EigenLayer's addresses"))
    }
}

/// Lets `spender` take so much of the account's tokens.
pub(crate) async fn approve(
    wallet: &Wallet,
    token: Address,
    spender: Address,
    amount: u128,
) -> anyhow::Result<Sent> {
    let value = amount.try_into().context("an amount fits 256 bits")?;
    let call = abi::Erc20::approveCall { spender: spender.0.into(), value };
    Ok(wallet.send(token, call.abi_encode(), 0).await?)
}

/// The token of an asset; `None` for ether.
pub(crate) fn token(asset: Asset) -> anyhow::Result<Option<Address>> {
    match asset {
        Asset::Ether => Ok(None),
        Asset::Erc20(token) => Ok(Some(token)),
        Asset::Ibc(_) => anyhow::bail!("vouchers of IBC aren't on Ethereum"),
    }
}

/// A transaction as it's shown.
pub(crate) fn sent(what: &str, sent: &Sent) -> Value {
    json!({
        "step": what, "transaction": sent.transaction, "block": sent.block, "gas_used": sent.gas_used,
    })
}
