//! Becoming an operator on Ethereum: stake at EigenLayer, and the node's keys at Lamina's registrar.

mod registration;
mod status;

use std::path::PathBuf;
use std::time::Duration;

use alloy_sol_types::SolCall as _;
use anyhow::Context as _;
use clap::{Args, Subcommand};
use lamina_certificate::{EthereumContracts, Genesis};
use lamina_ethereum::Wallet;
use lamina_ethereum_core::abi::EigenLayer as el;
use lamina_ethereum_core::calls;
use lamina_keystore::KeyDirectory;
use lamina_types::{Address, Amount};
use serde_json::{Value, json};

use super::ethereum::{self, EigenLayerOptions, EthereumOptions, advise};
use super::output::{plain, print};
use super::{AccountOptions, ApiOptions};
use crate::daemon::read_genesis;
pub(crate) use registration::{NodeKeys, Registration};
use registration::{PublicKeys, operator_set};
use status::Status;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make the account an operator of this network: at EigenLayer, with stake that can be slashed, and with the node's keys.
    /// What's done already is left; run it again after whatever stopped it.
    Register {
        /// Stake of the account's own that is to be deposited, in the token's smallest unit: what lacks of it is.
        #[arg(long)]
        stake: Option<Amount>,
        /// Where the operator describes itself: the address of a JSON file, as EigenLayer has it.
        #[arg(long, default_value = "")]
        metadata: String,
        /// Wait, in seconds, for what EigenLayer delays: the allocation of stake of a new operator takes days on public chains.
        #[arg(long, default_value_t = 0)]
        wait: u64,
        #[command(flatten)]
        common: Common,
    },
    /// Show what Ethereum knows of an operator.
    Status {
        /// Whose account; by default the keystore's.
        #[arg(long)]
        operator: Option<Address>,
        #[command(flatten)]
        common: Common,
    },
    /// Have the contracts take the next snapshot of operators: who is registered then, with stake, signs from soon after. Nodes
    /// do it once a day by themselves; the first one is for whoever begins a network.
    Roll {
        #[command(flatten)]
        common: Common,
    },
    /// Leave: the node's keys are good for nothing from the next snapshot on, and never again.
    Deregister {
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Common {
    /// The folder with the node's keys.
    #[arg(long, default_value = "keys")]
    directory: PathBuf,
    /// The network's genesis file; by default the node is asked for it.
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    #[command(flatten)]
    eigenlayer: EigenLayerOptions,
    #[command(flatten)]
    ethereum: EthereumOptions,
    #[command(flatten)]
    account: AccountOptions,
    #[command(flatten)]
    api: ApiOptions,
}

impl Common {
    async fn network(&self) -> anyhow::Result<(Genesis, EthereumContracts)> {
        let genesis = match &self.genesis {
            Some(path) => read_genesis(path)?,
            None => self.api.client()?.genesis().await?,
        };
        let contracts = ethereum::contracts_of(&genesis)?;
        Ok((genesis, contracts))
    }

    fn wallet(&self, genesis: &Genesis) -> anyhow::Result<Wallet> {
        let secret = self.account.secret(&self.account.passphrase()?)?;
        self.ethereum.wallet(&secret, genesis)
    }

    async fn status(
        &self,
        contracts: &EthereumContracts,
        operator: Address,
    ) -> anyhow::Result<Status> {
        let keys = PublicKeys::in_directory(&KeyDirectory::new(&self.directory));
        // Of somebody else's account, this folder's keys say nothing.
        let keys = keys.filter(|_| self.account.address().is_ok_and(|own| own == operator));
        let endpoints = self.ethereum.endpoints()?;
        Status::read(&endpoints, contracts, &self.eigenlayer.read()?, operator, keys).await
    }
}

impl Verb {
    pub(crate) async fn run(self, json: bool) -> anyhow::Result<()> {
        match self {
            Self::Register { stake, metadata, wait, common } => {
                let (genesis, contracts) = common.network().await?;
                let passphrase = common.account.passphrase()?;
                let wallet =
                    common.ethereum.wallet(&common.account.secret(&passphrase)?, &genesis)?;
                let keys = NodeKeys::unlock(&KeyDirectory::new(&common.directory), &passphrase)?;
                let registration = Registration {
                    chain: &genesis.chain_id,
                    contracts: &contracts,
                    eigenlayer: &common.eigenlayer.read()?,
                    keys: &keys,
                    stake: stake.map(|amount| amount.0),
                    metadata: &metadata,
                    wait: Duration::from_secs(wait),
                };
                let mut tell = |step: &Value| print(json, step, || step_text(step));
                registration.run(&wallet, &mut tell).await?;
                show(json, &common.status(&contracts, wallet.address()).await?)
            }
            Self::Status { operator, common } => {
                let (_, contracts) = common.network().await?;
                let operator = match operator {
                    Some(operator) => operator,
                    None => common.account.address()?,
                };
                show(json, &common.status(&contracts, operator).await?)
            }
            Self::Roll { common } => {
                let (genesis, contracts) = common.network().await?;
                let wallet = common.wallet(&genesis)?;
                let sent = wallet.send(contracts.checkpoints, calls::roll(None), 0).await;
                let sent = sent.map_err(advise);
                let step =
                    ethereum::sent("operators snapshotted", &sent.context("taking a snapshot")?);
                print(json, &step, || step_text(&step));
                Ok(())
            }
            Self::Deregister { common } => {
                let (genesis, contracts) = common.network().await?;
                let wallet = common.wallet(&genesis)?;
                let set = operator_set(wallet.endpoints(), &contracts).await?;
                let params = el::DeregisterParams {
                    operator: wallet.address().0.into(),
                    avs: set.avs,
                    operatorSetIds: vec![set.id],
                };
                let call = el::deregisterFromOperatorSetsCall { params };
                let to = common.eigenlayer.read()?.allocation_manager;
                let sent = wallet.send(to, call.abi_encode(), 0).await.map_err(advise);
                let step = ethereum::sent("deregistered", &sent.context("leaving")?);
                print(json, &step, || step_text(&step));
                Ok(())
            }
        }
    }
}

fn show(json: bool, status: &Status) -> anyhow::Result<()> {
    print(json, &json!(status), || status.text());
    Ok(())
}

fn step_text(step: &Value) -> String {
    format!(
        "{}: {} ({} gas)",
        plain(&step["step"]),
        plain(&step["transaction"]),
        plain(&step["gas_used"])
    )
}
