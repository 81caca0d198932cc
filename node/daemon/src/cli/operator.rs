//! Becoming an operator on Ethereum: stake at EigenLayer, and the node's keys at Lamina's registrar.

use std::path::PathBuf;
use std::time::Duration;

use alloy_sol_types::SolCall as _;
use anyhow::Context as _;
use clap::{Args, Subcommand};
use ed25519_dalek::{Signer as _, SigningKey};
use lamina_certificate::{EthereumContracts, Genesis, SecretKey};
use lamina_ethereum::{Endpoints, Wallet};
use lamina_ethereum_core::abi::EigenLayer as el;
use lamina_ethereum_core::{abi, calls};
use lamina_keystore::{KeyDirectory, KeyKind, Passphrase};
use lamina_types::{Address, Amount, ChainId, PeerKey, signing};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::ethereum::{self, EigenLayer, EigenLayerOptions, EthereumOptions};
use super::output::{fields, plain, print};
use super::{AccountOptions, ApiOptions};
use crate::daemon::read_genesis;

/// All of an operator's magnitude at a strategy (EigenLayer's `WAD`).
const WHOLE: u64 = 1_000_000_000_000_000_000;
/// Time between two looks at what Ethereum has.
const POLL: Duration = Duration::from_secs(2);

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make the account an operator of this network: at EigenLayer, with stake that can be slashed, and with the node's keys.
    /// What's done already is left; run it again after whatever stopped it.
    Register {
        /// Stake of the account's own to deposit first, in the token's smallest unit.
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
}

impl Verb {
    pub(crate) async fn run(self, json: bool) -> anyhow::Result<()> {
        match self {
            Self::Register { stake, metadata, wait, common } => {
                let (genesis, contracts) = common.network().await?;
                let passphrase = common.account.passphrase()?;
                let wallet =
                    common.ethereum.wallet(&common.account.secret(&passphrase)?, &genesis)?;
                let eigenlayer = common.eigenlayer.read()?;
                let keys = NodeKeys::unlock(&KeyDirectory::new(&common.directory), &passphrase)?;
                let registration = Registration {
                    chain: &genesis.chain_id,
                    contracts: &contracts,
                    eigenlayer: &eigenlayer,
                    keys: &keys,
                    stake: stake.map(|amount| amount.0),
                    metadata: &metadata,
                    wait: Duration::from_secs(wait),
                };
                registration
                    .run(&wallet, &mut |step| print(json, step, || step_text(step)))
                    .await?;
                let view = status(
                    &common.ethereum.endpoints()?,
                    &contracts,
                    &eigenlayer,
                    wallet.address(),
                )
                .await?;
                print(json, &view, || status_text(&view));
                Ok(())
            }
            Self::Status { operator, common } => {
                let (_, contracts) = common.network().await?;
                let operator = match operator {
                    Some(operator) => operator,
                    None => common.account.address()?,
                };
                let endpoints = common.ethereum.endpoints()?;
                let view =
                    status(&endpoints, &contracts, &common.eigenlayer.read()?, operator).await?;
                print(json, &view, || status_text(&view));
                Ok(())
            }
            Self::Roll { common } => {
                let (genesis, contracts) = common.network().await?;
                let wallet = common.wallet(&genesis)?;
                let sent = wallet.send(contracts.checkpoints, calls::roll(None), 0).await;
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
                let sent = wallet.send(to, call.abi_encode(), 0).await.context("leaving")?;
                let step = ethereum::sent("deregistered", &sent);
                print(json, &step, || step_text(&step));
                Ok(())
            }
        }
    }
}

/// The keys that a node signs with.
pub(crate) struct NodeKeys {
    bls: SecretKey,
    peer: SigningKey,
}

impl NodeKeys {
    pub(crate) fn unlock(
        directory: &KeyDirectory,
        passphrase: &Passphrase,
    ) -> anyhow::Result<Self> {
        let bls = directory.read(KeyKind::Bls)?.decrypt(passphrase)?;
        let peer = directory.read(KeyKind::Peer)?.decrypt(passphrase)?;
        Ok(Self {
            bls: SecretKey::from_bytes(bls.expose())?,
            peer: SigningKey::from_bytes(peer.expose()),
        })
    }
}

/// What it takes to become an operator.
pub(crate) struct Registration<'a> {
    pub(crate) chain: &'a ChainId,
    pub(crate) contracts: &'a EthereumContracts,
    pub(crate) eigenlayer: &'a EigenLayer,
    pub(crate) keys: &'a NodeKeys,
    /// What to deposit, in the token's smallest unit.
    pub(crate) stake: Option<u128>,
    pub(crate) metadata: &'a str,
    /// How long to wait for EigenLayer's delays.
    pub(crate) wait: Duration,
}

impl Registration<'_> {
    /// Does what isn't done; tells each step.
    pub(crate) async fn run(
        &self,
        wallet: &Wallet,
        tell: &mut impl FnMut(&Value),
    ) -> anyhow::Result<()> {
        let EigenLayer { allocation_manager, delegation_manager, strategy_manager, strategy } =
            *self.eigenlayer;
        let operator = wallet.address().0.into();
        if !wallet.call(delegation_manager, &el::isOperatorCall { operator }).await? {
            let call = el::registerAsOperatorCall {
                approver: Address::default().0.into(),
                allocationDelay: 0,
                metadata: self.metadata.to_owned(),
            };
            let sent = wallet.send(delegation_manager, call.abi_encode(), 0).await;
            let sent = sent.context("becoming an operator at EigenLayer")?;
            tell(&ethereum::sent("operator at EigenLayer", &sent));
        }
        if let Some(stake) = self.stake.filter(|stake| *stake > 0) {
            let token = wallet
                .call(strategy, &el::underlyingTokenCall {})
                .await
                .context("asking the strategy for its token")?;
            let token_address = Address(token.into());
            ethereum::approve(wallet, token_address, strategy_manager, stake)
                .await
                .context("approving the stake")?;
            let amount = stake.try_into().context("an amount fits 256 bits")?;
            let call = el::depositIntoStrategyCall { strategy: strategy.0.into(), token, amount };
            let sent = wallet.send(strategy_manager, call.abi_encode(), 0).await;
            tell(&ethereum::sent("stake deposited", &sent.context("depositing the stake")?));
        }
        let set = operator_set(wallet.endpoints(), self.contracts).await?;
        let member = el::isMemberOfOperatorSetCall { operator, set: set.clone() };
        if !wallet.call(allocation_manager, &member).await? {
            let peer_key = PeerKey(self.keys.peer.verifying_key().to_bytes());
            let possession = signing::peer_possession(self.chain, &wallet.address(), &peer_key);
            let proof = self.keys.peer.sign(&possession.0).to_bytes();
            let (account, registrar) = (wallet.address(), self.contracts.registrar);
            let data = calls::registration(
                self.chain,
                &account,
                &registrar,
                &self.keys.bls,
                &peer_key,
                &proof,
            );
            let params = el::RegisterParams {
                avs: set.avs,
                operatorSetIds: vec![set.id],
                data: data.into(),
            };
            let call = el::registerForOperatorSetsCall { operator, params };
            let sent = wallet.send(allocation_manager, call.abi_encode(), 0).await;
            tell(&ethereum::sent(
                "registered with the node's keys",
                &sent.context("registering for the operator set")?,
            ));
        }
        let asked =
            el::getAllocationCall { operator, set: set.clone(), strategy: strategy.0.into() };
        let allocation = wallet.call(allocation_manager, &asked).await?;
        if allocation.currentMagnitude == 0 && allocation.effectBlock == 0 {
            self.wait_for_delay(wallet).await?;
            let params = vec![el::AllocateParams {
                operatorSet: set,
                strategies: vec![strategy.0.into()],
                newMagnitudes: vec![WHOLE],
            }];
            let call = el::modifyAllocationsCall { operator, params };
            let sent = wallet.send(allocation_manager, call.abi_encode(), 0).await;
            tell(&ethereum::sent("stake allocated", &sent.context("allocating the stake")?));
        }
        Ok(())
    }

    /// A new operator's allocation delay holds only after a while.
    async fn wait_for_delay(&self, wallet: &Wallet) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + self.wait;
        loop {
            let asked = el::getAllocationDelayCall { operator: wallet.address().0.into() };
            if wallet.call(self.eigenlayer.allocation_manager, &asked).await?.isSet {
                return Ok(());
            }
            anyhow::ensure!(
                tokio::time::Instant::now() < deadline,
                "EigenLayer lets a new operator allocate stake after its configuration delay only (17.5 days on mainnet): run \
                 this again then, or wait with --wait SECONDS"
            );
            sleep(POLL).await;
        }
    }
}

async fn operator_set(
    endpoints: &Endpoints,
    contracts: &EthereumContracts,
) -> anyhow::Result<el::OperatorSet> {
    let avs = endpoints.call(contracts.registrar, &abi::Registrar::avsCall {}).await?;
    let id = endpoints.call(contracts.registrar, &abi::Registrar::operatorSetIdCall {}).await?;
    Ok(el::OperatorSet { avs, id })
}

/// What Ethereum knows of an operator.
async fn status(
    endpoints: &Endpoints,
    contracts: &EthereumContracts,
    eigenlayer: &EigenLayer,
    operator: Address,
) -> anyhow::Result<Value> {
    let EigenLayer { allocation_manager, delegation_manager, strategy, .. } = *eigenlayer;
    let (account, strategy) = (operator.0.into(), strategy.0.into());
    let set = operator_set(endpoints, contracts).await?;
    let is_operator =
        endpoints.call(delegation_manager, &el::isOperatorCall { operator: account }).await?;
    let shares = el::operatorSharesCall { operator: account, strategy };
    let shares = endpoints.call(delegation_manager, &shares).await?;
    let member = el::isMemberOfOperatorSetCall { operator: account, set: set.clone() };
    let registered = endpoints.call(allocation_manager, &member).await?;
    let allocation = el::getAllocationCall { operator: account, set, strategy };
    let allocation = endpoints.call(allocation_manager, &allocation).await?;
    let index = if registered {
        let asked = abi::Registrar::indexOfCall { operator: account };
        Some(u64::try_from(endpoints.call(contracts.registrar, &asked).await?)?)
    } else {
        None
    };
    let next = endpoints.call(contracts.checkpoints, &abi::Checkpoints::nextEpochCall {}).await?;
    let epoch = next.checked_sub(1);
    let stake = match (epoch, index) {
        (Some(number), Some(index)) => {
            let asked = abi::Checkpoints::membersCall { number, consensus: false };
            // Before the first snapshot there's none to ask for.
            let members = endpoints.call(contracts.checkpoints, &asked).await.ok();
            members.and_then(|members| {
                let places = members.registrations.iter().zip(members.stakesGwei);
                let mine =
                    |(of, stake): (&_, u64)| (u64::try_from(*of) == Ok(index)).then_some(stake);
                places.into_iter().find_map(mine)
            })
        }
        _ => None,
    };
    Ok(json!({
        "operator": operator, "eigenlayer_operator": is_operator, "shares": shares.to_string(),
        "registered": registered, "registration": index,
        "magnitude": allocation.currentMagnitude,
        "allocation_pending": allocation.pendingDiff.to_string(), "allocation_effect_block": allocation.effectBlock,
        "epoch": epoch, "in_epoch": stake.is_some(), "stake_gwei": stake,
    }))
}

fn step_text(step: &Value) -> String {
    format!(
        "{}: {} ({} gas)",
        plain(&step["step"]),
        plain(&step["transaction"]),
        plain(&step["gas_used"])
    )
}

fn status_text(view: &Value) -> String {
    let yes = |name: &str| if view[name] == true { "yes" } else { "no" }.to_owned();
    let share = view["magnitude"].as_u64().unwrap_or(0) as f64 / WHOLE as f64 * 100.0;
    let allocation = match view["allocation_effect_block"].as_u64() {
        Some(block) if block > 0 => format!("{share:.1}%, changes at block {block}"),
        _ => format!("{share:.1}%"),
    };
    let epoch = match (view["epoch"].as_u64(), view["stake_gwei"].as_u64()) {
        (Some(epoch), Some(stake)) => format!("in epoch {epoch} with {stake} gwei"),
        (Some(epoch), None) => {
            format!("not in epoch {epoch}; the next snapshot takes in who is registered with stake")
        }
        (None, _) => "no snapshot was taken yet".to_owned(),
    };
    fields(&[
        ("operator", plain(&view["operator"])),
        ("at EigenLayer", yes("eigenlayer_operator")),
        ("shares", plain(&view["shares"])),
        ("registered", yes("registered")),
        ("allocated", allocation),
        ("epoch", epoch),
    ])
}
