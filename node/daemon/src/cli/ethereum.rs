//! What the commands that act on Ethereum share: which endpoint, which contracts, whose key.

use std::path::PathBuf;
use std::time::Duration;

use alloy_sol_types::SolCall as _;
use anyhow::Context as _;
use clap::Args;
use lamina_certificate::{EthereumContracts, Genesis};
use lamina_ethereum::{Endpoints, PrivateKeySigner, Sent, Wallet, WalletError};
use lamina_ethereum_core::abi;
use lamina_keystore::Secret;
use lamina_types::{Address, Asset};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::client::Client;

/// Time between two looks at what's waited for.
const POLL: Duration = Duration::from_secs(1);

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

/// Lets `spender` take so much of the account's tokens, unless it may already. `None` if there was nothing to do.
pub(crate) async fn approve(
    wallet: &Wallet,
    token: Address,
    spender: Address,
    amount: u128,
) -> anyhow::Result<Option<Sent>> {
    let account = wallet.address();
    let (value, owner) = (amount.try_into().context("an amount fits 256 bits")?, account.0.into());
    let held = wallet.call(token, &abi::Erc20::balanceOfCall { account: owner }).await;
    let held = held.context("asking the token for the account's balance")?;
    // Tokens have words of their own for it, or none.
    anyhow::ensure!(
        held >= value,
        "account {account} has {held} of token {token}, it takes {amount}"
    );
    let asked = abi::Erc20::allowanceCall { account: owner, spender: spender.0.into() };
    if wallet.call(token, &asked).await? >= value {
        return Ok(None);
    }
    let call = abi::Erc20::approveCall { spender: spender.0.into(), value };
    let sent = wallet.send(token, call.abi_encode(), 0).await;
    Ok(Some(sent.map_err(advise)?))
}

/// An error with what to do about it, where that isn't plain.
pub(crate) fn advise(error: WalletError) -> anyhow::Error {
    let advice = match &error {
        WalletError::Reverts { reason } => advice(reason),
        WalletError::FeeCap { .. } => Some("wait, or allow more with --fee-max-gwei"),
        WalletError::OutOfFunds { .. } => Some("send ether to the account"),
        _ => None,
    };
    let error = anyhow::Error::new(error);
    match advice {
        Some(advice) => anyhow::anyhow!("{error}: {advice}"),
        None => error,
    }
}

/// By an error's name.
fn advice(reason: &str) -> Option<&'static str> {
    let name = reason.split(' ').next().unwrap_or_default();
    Some(match name {
        "ActivelyDelegated" => {
            "the account has delegated its stake to somebody; undelegate it at EigenLayer, or use another account"
        }
        "BalanceExceedsMaxTotalDeposits" | "MaxPerDepositExceedsMax" => {
            "the strategy takes no more; see its limits at EigenLayer"
        }
        "BlsKeyTaken" | "PeerKeyTaken" => {
            "these keys were registered before, and none is registered twice; make new ones with `lamina keys new`, and name \
             their folder with --directory"
        }
        "CurrentlyPaused" | "EnforcedPause" => "the contract is paused; try again later",
        "DepositsClosed" => "the network has ended on Ethereum; deposits aren't taken any more",
        "AlreadyMemberOfSet" => {
            "EigenLayer doesn't let an account register again while the stake of its last registration can still be slashed"
        }
        "NotAdmitted" => {
            "the network's administrators admit operators; ask them to admit this account"
        }
        "StrategyNotWhitelisted" => {
            "EigenLayer doesn't take stake for this strategy; name another one"
        }
        _ => return None,
    })
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

/// Looks until there's something, for so long. Whoever fails meanwhile, the node or an endpoint, may be back; it's told.
pub(crate) async fn wait_for<T>(
    wait: Duration,
    missing: &str,
    look: impl AsyncFn() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + wait;
    let mut told = String::new();
    loop {
        let failed = match look().await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if Instant::now() >= deadline {
            let waited = format!("{missing}; waited {} s", wait.as_secs());
            return Err(match failed {
                Some(error) => error.context(waited),
                None => anyhow::anyhow!(waited),
            });
        }
        if let Some(text) = failed.map(|error| format!("{error:#}")).filter(|text| *text != told) {
            eprintln!("waiting on: {text}");
            told = text;
        }
        sleep(POLL).await;
    }
}
