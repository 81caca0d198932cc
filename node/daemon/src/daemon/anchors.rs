//! Submits to Ethereum what the network has decided: checkpoints, snapshots of operators, evidence. When, and whose turn it
//! is, [`Anchors`] decides; this carries its actions out with the node's own account.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use lamina_certificate::{Evidence, Genesis};
use lamina_ethereum::{Command, Endpoints, PrivateKeySigner, submit};
use lamina_ethereum_core::{
    AnchorAction, AnchorConfig, AnchorEvent, Anchors, SubmitConfig, SubmitNotice, SubmitOutput,
};
use lamina_ledger::StateReader as _;
use lamina_ledger::state::Scope;
use lamina_ledger::state::operators::{self, Sets};
use lamina_node_core::Notice;
use lamina_types::{
    Action, Address, Canonical as _, Digest, EpochNumber, HeaderId, Height, PeerKey,
};
use tokio::sync::{broadcast, mpsc};

use super::ethereum::Followed;
use super::ledger::Archive;
use super::metrics::BridgeMetrics;
use super::now;
use crate::config;

/// Jobs that wait for the submitter, and what it tells. Both ends are quick.
const QUEUE_MAX: usize = 64;
/// How often it's looked whether there's new evidence.
const EVIDENCE_INTERVAL: Duration = Duration::from_secs(30);

/// What became of what this node submitted, for those who look.
#[derive(Debug, Default)]
pub(crate) struct AnchorStatus {
    /// Jobs that this node took on, and those of them that are done by whomever, or were given up.
    submitted: AtomicU64,
    done: AtomicU64,
    /// Of those that are done, the ones for which this node sent a transaction.
    sent: AtomicU64,
    given_up: AtomicU64,
    /// Contradictions between Ethereum and the ledger.
    conflicts: AtomicU64,
    /// Why nothing goes on, if the account lacks ether or the fee cap is too low.
    stuck: RwLock<Option<String>>,
}

impl AnchorStatus {
    pub(crate) fn stuck(&self) -> Option<String> {
        self.stuck.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn metrics(&self, anchored: Height) -> BridgeMetrics {
        let jobs = [&self.submitted, &self.done, &self.sent, &self.given_up];
        BridgeMetrics {
            jobs: jobs.map(|count| count.load(Ordering::Relaxed)),
            conflicts: self.conflicts.load(Ordering::Relaxed),
            is_stuck: self.stuck().is_some(),
            anchored: anchored.0,
        }
    }

    fn set_stuck(&self, why: Option<String>) {
        *self.stuck.write().unwrap_or_else(PoisonError::into_inner) = why;
    }
}

/// What it works with.
pub(crate) struct Anchoring {
    chain: lamina_types::ChainId,
    followed: Followed,
    archive: Archive,
    notices: broadcast::Receiver<Notice>,
    commands: mpsc::Sender<Command>,
    outputs: mpsc::Receiver<SubmitOutput>,
    anchors: Anchors,
    status: Arc<AnchorStatus>,
    sets: Sets,
    /// Up to which height what Ethereum has was looked at.
    seen: Height,
    seen_epoch: Option<EpochNumber>,
}

/// Starts to submit with the account's key.
///
/// # Errors
/// If an endpoint's address isn't one, or what's on disk can't be read.
pub(crate) fn start(
    config: &config::Ethereum,
    genesis: &Genesis,
    key: PeerKey,
    account: PrivateKeySigner,
    archive: Archive,
    followed: Followed,
    notices: broadcast::Receiver<Notice>,
) -> anyhow::Result<Arc<AnchorStatus>> {
    let ethereum = genesis.ethereum.as_ref().context("the network has no contracts")?;
    let endpoints = Endpoints::new(&config.rpc)?;
    let submit_config = SubmitConfig {
        ethereum_chain: genesis.ethereum_chain_id,
        account: Address(account.address().into()),
        slot: config.slot,
        stuck_after: config.stuck_after,
        poll: config.poll,
        fee_per_gas_max: config.fee_per_gas_max_wei.into(),
        tip_per_gas_min: config.tip_per_gas_min_wei.into(),
    };
    let anchor_config = AnchorConfig {
        chain: genesis.chain_id.clone(),
        contracts: ethereum.contracts,
        first_epoch: ethereum.first_epoch,
        key,
        interval: config.anchor_interval,
        claims_interval: config.claims_interval,
        epoch_interval: config.epoch_interval,
    };
    let (commands, queue) = mpsc::channel(QUEUE_MAX);
    let (sender, outputs) = mpsc::channel(QUEUE_MAX);
    tokio::spawn(submit(submit_config, endpoints, account, queue, sender));
    let status = Arc::new(AnchorStatus::default());
    let seen_epoch = followed.last_epoch()?;
    let anchoring = Anchoring {
        chain: genesis.chain_id.clone(),
        anchors: Anchors::new(anchor_config, now(), seen_epoch),
        followed,
        archive,
        notices,
        commands,
        outputs,
        status: status.clone(),
        sets: Sets::default(),
        seen: Height(0),
        seen_epoch,
    };
    tokio::spawn(async move {
        if let Err(error) = anchoring.run().await {
            tracing::error!(%error, "nothing is submitted to Ethereum any more");
        }
    });
    Ok(status)
}

impl Anchoring {
    /// Until the node ends.
    async fn run(mut self) -> anyhow::Result<()> {
        let mut look = tokio::time::interval(EVIDENCE_INTERVAL);
        self.hear_of_ethereum()?;
        self.hear_of_checkpoints()?;
        loop {
            while let Some(action) = self.anchors.poll() {
                if !self.act(action).await {
                    return Ok(());
                }
            }
            let deadline = self.anchors.next_deadline();
            tokio::select! {
                notice = self.notices.recv() => match notice {
                    // Of some that were missed, the last one counts.
                    Ok(Notice::Checkpoint(..) | Notice::SnapshotRestored(_))
                    | Err(broadcast::error::RecvError::Lagged(_)) => self.hear_of_checkpoints()?,
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Closed) => return Ok(()),
                },
                changed = self.followed.changed() => {
                    if !changed {
                        return Ok(());
                    }
                    self.hear_of_ethereum()?;
                }
                output = self.outputs.recv() => {
                    self.hear(output.context("the submitter has ended")?);
                }
                _ = look.tick() => self.hear_of_evidence()?,
                () = sleep_until(deadline) => self.anchors.handle(now(), AnchorEvent::Tick),
            }
        }
    }

    async fn act(&self, action: AnchorAction) -> bool {
        match action {
            AnchorAction::Submit(job) => {
                self.status.submitted.fetch_add(1, Ordering::Relaxed);
                self.commands.send(Command::Submit(*job)).await.is_ok()
            }
            AnchorAction::Conflict { height, anchored, own } => {
                self.status.conflicts.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    height = height.0,
                    %anchored,
                    %own,
                    "Ethereum has another checkpoint at this height than this node: a quorum has signed two, or this \
                     node's ledger is of another network. It submits nothing more; with the other's certificate, anyone \
                     can freeze the contracts"
                );
                true
            }
        }
    }

    fn hear(&mut self, output: SubmitOutput) {
        match output {
            SubmitOutput::Done { job, sent } => {
                self.status.done.fetch_add(1, Ordering::Relaxed);
                self.status.sent.fetch_add(u64::from(sent), Ordering::Relaxed);
                self.status.set_stuck(None);
                self.anchors.handle(now(), AnchorEvent::Done(job));
            }
            SubmitOutput::GivenUp { job, .. } => {
                self.status.given_up.fetch_add(1, Ordering::Relaxed);
                self.anchors.handle(now(), AnchorEvent::GivenUp(job));
            }
            SubmitOutput::Notice(SubmitNotice::OutOfFunds { account, balance_wei, needed_wei }) => {
                self.status.set_stuck(Some(format!(
                    "account {account} has {balance_wei} wei on Ethereum and needs {needed_wei}: send ether to it"
                )));
            }
            SubmitOutput::Notice(SubmitNotice::FeeCap { needed, cap }) => {
                self.status.set_stuck(Some(format!(
                    "Ethereum asks for {needed} wei a unit of gas, ethereum.fee_per_gas_max_wei allows {cap}"
                )));
            }
            _ => {}
        }
    }

    fn hear_of_checkpoints(&mut self) -> anyhow::Result<()> {
        let store = self.archive.store();
        let Some(decision) = store.tip()? else { return Ok(()) };
        let Some(certificate) = decision.certificate else { return Ok(()) };
        let reader = store.reader()?;
        let set = self.sets.of_epoch(&Scope::new(&reader), certificate.epoch)?;
        let set = set.context("the epoch of a checkpoint is in the state")?;
        let event = AnchorEvent::Committed(Box::new(certificate), decision.header.claims, set);
        self.anchors.handle(now(), event);
        Ok(())
    }

    fn hear_of_ethereum(&mut self) -> anyhow::Result<()> {
        let store = self.archive.store();
        for (height, anchor) in self.followed.anchors_after(self.seen)? {
            let own = store.checkpoint(height)?.map(|decision| decision.header);
            let own = own.map(|header| (header.id(&self.chain), header.claims));
            self.seen = height;
            let event = AnchorEvent::Anchored { height, header: anchor.header, own };
            self.anchors.handle(now(), event);
        }
        let epoch = self.followed.last_epoch()?;
        if let Some(epoch) = epoch.filter(|_| epoch != self.seen_epoch) {
            self.seen_epoch = Some(epoch);
            self.anchors.handle(now(), AnchorEvent::EpochStarted(epoch));
        }
        Ok(())
    }

    /// What the ledger has finalised of operators' offences in this epoch and the one before: evidence of older ones comes too
    /// late.
    fn hear_of_evidence(&mut self) -> anyhow::Result<()> {
        let store = self.archive.store();
        let reader = store.reader()?;
        let scope = Scope::new(&reader);
        let Some(epoch) = operators::epoch_at(&scope, Height(reader.version()))? else {
            return Ok(());
        };
        let mut known = Vec::new();
        for number in epoch.0.saturating_sub(1)..=epoch.0 {
            let Some(set) = self.sets.of_epoch(&scope, EpochNumber(number))? else { continue };
            for (_, operator) in set.iter() {
                let offences = operators::offences(&scope, operator.address)?.into_values();
                known.extend(offences.map(|offence| (operator.address, offence)));
            }
        }
        for (offender, offence) in known {
            let Some(found) = store.operation(&offence.operation)? else { continue };
            let Action::SubmitEvidence { evidence } = &found.operation.operation.action else {
                continue;
            };
            let Ok(evidence) = Evidence::from_bytes(evidence.as_slice()) else { continue };
            let Some(set) = self.sets.of_epoch(&scope, evidence.epoch())? else { continue };
            let event = AnchorEvent::Evidence(Box::new(evidence), set, offender);
            self.anchors.handle(now(), event);
        }
        Ok(())
    }
}

async fn sleep_until(deadline: Option<lamina_types::Timestamp>) {
    match deadline {
        Some(deadline) => {
            tokio::time::sleep(deadline.since(now()).max(Duration::from_millis(1))).await;
        }
        None => std::future::pending().await,
    }
}

/// An anchor that's final on Ethereum.
#[derive(Debug, Clone, PartialEq, Eq, borsh::BorshSerialize, borsh::BorshDeserialize)]
pub(crate) struct Anchor {
    pub(crate) header: HeaderId,
    pub(crate) epoch: EpochNumber,
    pub(crate) submitter: Address,
    /// The hash of its transaction.
    pub(crate) transaction: Digest,
    /// The number of the block that has it.
    pub(crate) block: u64,
}
