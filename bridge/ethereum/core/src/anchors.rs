use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lamina_certificate::{CONSENSUS_OPERATORS_MAX, CheckpointCertificate, Evidence, OperatorSet};
use lamina_types::{Address, ChainId, Digest, EpochNumber, HeaderId, Height, PeerKey, Timestamp};

use crate::{Contracts, Job, JobId, calls, rank};

/// After a transaction that would revert, how long until another one is tried.
const AGAIN: Duration = Duration::from_secs(60);
/// Offences whose slashing is under way or over; beyond, no more are taken on. More than a network should ever see.
const OFFENCES_MAX: usize = 10_000;

/// What is written to the contracts, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchorConfig {
    /// The network.
    pub chain: ChainId,
    /// Its contracts.
    pub contracts: Contracts,
    /// The first epoch that the contracts know: earlier ones' certificates are nothing to them.
    pub first_epoch: EpochNumber,
    /// This node's key, by which its operator is found.
    pub key: PeerKey,
    /// Time between two anchors while nothing waits to leave.
    pub interval: Duration,
    /// The same while value waits to leave.
    pub claims_interval: Duration,
    /// Time between two snapshots of operators: less than the contracts let one sign for.
    pub epoch_interval: Duration,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum AnchorEvent {
    /// Time has passed.
    Tick,
    /// A checkpoint is final here: its certificate, the root of its claims, and the operators of its epoch.
    Committed(Box<CheckpointCertificate>, Digest, Arc<OperatorSet>),
    /// Ethereum has, finally, an anchor; with what this node's own ledger has at that height, if it has got there: the header and
    /// the root of its claims.
    Anchored {
        /// At which height.
        height: Height,
        /// Which header.
        header: HeaderId,
        /// What's here.
        own: Option<(HeaderId, Digest)>,
    },
    /// Ethereum has, finally, a snapshot of operators.
    EpochStarted(EpochNumber),
    /// The ledger has finalised evidence against this operator, of this set.
    Evidence(Box<Evidence>, Arc<OperatorSet>, Address),
    /// A job is done, by whomever.
    Done(JobId),
    /// A job was given up.
    GivenUp(JobId),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnchorAction {
    /// Have this submitted.
    Submit(Box<Job>),
    /// Ethereum has another header at this height than this node's ledger: two certificates stand at one height. Nothing is
    /// submitted any more.
    Conflict {
        /// Which height.
        height: Height,
        /// What Ethereum has.
        anchored: HeaderId,
        /// What is here.
        own: HeaderId,
    },
}

/// Decides what this node submits to Ethereum: checkpoints, snapshots of operators, and evidence that costs stake there. All
/// nodes with an account decide alike, and each waits its turn ([`rank`]), so mostly one pays.
///
/// One anchor and one snapshot are under way at a time. It keeps nothing that must survive: after a restart the next interval
/// begins anew, and what somebody has done is found out before anything is sent.
#[derive(Debug)]
pub struct Anchors {
    config: AnchorConfig,
    /// The last checkpoint that is final here and whose epoch the contracts can know.
    latest: Option<Latest>,
    /// The last anchor: its height, the root of its claims if it's known, and when this node heard of it.
    anchored: Option<(Height, Option<Digest>)>,
    anchored_at: Timestamp,
    anchoring: Option<(JobId, Height, Digest)>,
    epoch: Option<EpochNumber>,
    epoch_at: Timestamp,
    rolling: Option<(JobId, EpochNumber)>,
    /// Offences that were taken on, and their jobs while these are under way.
    offences: BTreeMap<Digest, Option<JobId>>,
    /// No transaction of a kind is tried before this moment.
    not_before: Timestamp,
    has_conflict: bool,
    next_job: u64,
    actions: VecDeque<AnchorAction>,
}

#[derive(Debug)]
struct Latest {
    certificate: CheckpointCertificate,
    claims: Digest,
    set: Arc<OperatorSet>,
}

impl Anchors {
    /// Begins at `now`, with the last epoch that Ethereum is known to have.
    #[must_use]
    pub const fn new(config: AnchorConfig, now: Timestamp, epoch: Option<EpochNumber>) -> Self {
        Self {
            config,
            latest: None,
            anchored: None,
            anchored_at: now,
            anchoring: None,
            epoch,
            epoch_at: now,
            rolling: None,
            offences: BTreeMap::new(),
            not_before: now,
            has_conflict: false,
            next_job: 0,
            actions: VecDeque::new(),
        }
    }

    /// Tells it what happened.
    pub fn handle(&mut self, now: Timestamp, event: AnchorEvent) {
        match event {
            AnchorEvent::Tick => {}
            AnchorEvent::Committed(certificate, claims, set) => {
                if certificate.epoch >= self.config.first_epoch {
                    self.latest = Some(Latest { certificate: *certificate, claims, set });
                }
            }
            AnchorEvent::Anchored { height, header, own } => self.seen(now, height, header, own),
            AnchorEvent::EpochStarted(epoch) => self.started(now, epoch),
            AnchorEvent::Evidence(evidence, set, offender) => self.slash(&evidence, &set, offender),
            AnchorEvent::Done(job) => self.done(now, job),
            AnchorEvent::GivenUp(job) => self.given_up(now, job),
        }
        if !self.has_conflict && now >= self.not_before {
            self.anchor(now);
            self.roll(now);
        }
    }

    /// What to do next; `None` until there's another event.
    pub fn poll(&mut self) -> Option<AnchorAction> {
        self.actions.pop_front()
    }

    /// When to call [`Self::handle`] with a tick.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let anchor = self.anchor_due().filter(|_| self.anchoring.is_none());
        let roll = self.roll_due().filter(|_| self.rolling.is_none());
        let next = [anchor, roll].into_iter().flatten().min()?;
        (!self.has_conflict).then_some(next.max(self.not_before))
    }

    /// The last anchor that this node knows of.
    #[must_use]
    pub fn anchored(&self) -> Option<Height> {
        self.anchored.map(|(height, _)| height)
    }

    fn seen(
        &mut self,
        now: Timestamp,
        height: Height,
        header: HeaderId,
        own: Option<(HeaderId, Digest)>,
    ) {
        if let Some((own, _)) = own.filter(|(own, _)| *own != header) {
            self.has_conflict = true;
            self.actions.push_back(AnchorAction::Conflict { height, anchored: header, own });
        }
        self.note(now, height, own.map(|(_, claims)| claims));
    }

    fn note(&mut self, now: Timestamp, height: Height, claims: Option<Digest>) {
        if self.anchored.is_none_or(|(last, _)| last < height) {
            self.anchored = Some((height, claims));
            self.anchored_at = now;
        }
    }

    fn started(&mut self, now: Timestamp, epoch: EpochNumber) {
        if self.epoch.is_none_or(|last| last < epoch) {
            (self.epoch, self.epoch_at) = (Some(epoch), now);
        }
    }

    fn done(&mut self, now: Timestamp, job: JobId) {
        if let Some((_, height, claims)) = self.anchoring.take_if(|(id, ..)| *id == job) {
            // By a later one, perhaps, of which the chain will tell.
            self.note(now, height, Some(claims));
        }
        if let Some((_, epoch)) = self.rolling.take_if(|(id, _)| *id == job) {
            self.started(now, epoch);
        }
        self.forget(job);
    }

    /// The contracts don't take it: they know better why than this node, and later they may.
    fn given_up(&mut self, now: Timestamp, job: JobId) {
        self.anchoring.take_if(|(id, ..)| *id == job);
        self.rolling.take_if(|(id, _)| *id == job);
        self.forget(job);
        self.not_before = now + AGAIN;
    }

    fn forget(&mut self, job: JobId) {
        self.offences.values_mut().filter(|of| **of == Some(job)).for_each(|of| *of = None);
    }

    /// When the latest checkpoint is worth an anchor: nothing is anchored yet, value waits, or it's time.
    fn anchor_due(&self) -> Option<Timestamp> {
        let latest = self.latest.as_ref()?;
        let Some((height, claims)) = self.anchored else { return Some(self.anchored_at) };
        if latest.certificate.height <= height {
            return None;
        }
        let waits = claims != Some(latest.claims);
        let interval = if waits { self.config.claims_interval } else { self.config.interval };
        Some(self.anchored_at + interval)
    }

    fn anchor(&mut self, now: Timestamp) {
        if self.anchoring.is_some() || self.anchor_due().is_none_or(|due| due > now) {
            return;
        }
        let Some(Latest { certificate, claims, set }) = &self.latest else { return };
        let contract = self.config.contracts.checkpoints;
        let (height, claims) = (certificate.height, *claims);
        let input = calls::anchor(certificate);
        let done = calls::is_anchored(contract, height);
        let rank = self.rank(set, certificate.epoch, height);
        let job = self.submit(contract, input, done, rank);
        self.anchoring = Some((job, height, claims));
    }

    /// When the next snapshot of operators is due.
    fn roll_due(&self) -> Option<Timestamp> {
        self.epoch.map(|_| self.epoch_at + self.config.epoch_interval)
    }

    fn roll(&mut self, now: Timestamp) {
        if self.rolling.is_some() || self.roll_due().is_none_or(|due| due > now) {
            return;
        }
        let (Some(epoch), Some(Latest { set, .. })) = (self.epoch, &self.latest) else { return };
        // Of more, somebody must say who of them are the ones of highest stake.
        if usize::from(set.size()) > CONSENSUS_OPERATORS_MAX {
            return;
        }
        let contract = self.config.contracts.checkpoints;
        let next = EpochNumber(epoch.0.saturating_add(1));
        let rank = self.rank(set, next, Height(0));
        let done = calls::has_started(contract, next);
        let job = self.submit(contract, calls::roll(None), done, rank);
        self.rolling = Some((job, next));
    }

    /// Has the offender pay on Ethereum, if the contracts take such evidence.
    fn slash(&mut self, evidence: &Evidence, set: &OperatorSet, offender: Address) {
        let offence = evidence.place(&self.config.chain, &offender);
        if self.offences.contains_key(&offence) || self.offences.len() >= OFFENCES_MAX {
            return;
        }
        let member = set.iter().find(|(_, operator)| operator.address == offender);
        let Some((member, _)) = member else { return };
        let (epoch, input) = match evidence {
            Evidence::Precommits { epoch, height, round, votes, .. } => {
                (*epoch, calls::slash_precommits(*epoch, *height, *round, member.0, votes))
            }
            Evidence::Attestations { epoch, task, outcomes, .. } => {
                (*epoch, calls::slash_attestations(*epoch, task, member.0, outcomes))
            }
            // Signed with keys that the contracts can't check.
            _ => return,
        };
        if epoch < self.config.first_epoch {
            return;
        }
        let contract = self.config.contracts.slasher;
        let turn = Height(u64::from_be_bytes(*offence.0.first_chunk().expect("has 32 bytes")));
        let rank = self.rank(set, epoch, turn);
        let job = self.submit(contract, input, calls::is_slashed(contract, &offence), rank);
        self.offences.insert(offence, Some(job));
    }

    /// This operator's turn.
    fn rank(&self, set: &OperatorSet, epoch: EpochNumber, height: Height) -> u32 {
        let operators: Vec<Address> = set.iter().map(|(_, operator)| operator.address).collect();
        let own = set.index_of_peer(&self.config.key).and_then(|index| set.get(index));
        own.map_or_else(|| set.size().into(), |own| rank(epoch, height, &operators, &own.address))
    }

    fn submit(
        &mut self,
        contract: Address,
        input: Vec<u8>,
        done: crate::Probe,
        rank: u32,
    ) -> JobId {
        self.next_job += 1;
        let id = JobId(self.next_job);
        let job = Job { id, contract, input, value_wei: 0, done, rank };
        self.actions.push_back(AnchorAction::Submit(Box::new(job)));
        id
    }
}
