//! The ledger in a node: books, the consensus on checkpoints and the state after each, composed.
//!
//! Operations that this node accepted are carried in its lane of a book (`submit`). When something waits to become final, or
//! is due, the consensus on the next checkpoint begins (`consensus`): a proposer names how far books go, everyone
//! evaluates what follows from it, and a quorum's precommits decide. What's decided is applied and committed (`apply`), one
//! checkpoint after the other. Who was away asks for checkpoints and changes, or begins from a snapshot (`sync`).
//!
//! What it learns and others should know, certified tasks and evidence, a node with an account writes in by itself (`reports`).
//!
//! It's told of messages, answers and what the shell did, and asks for actions, as all cores. Whatever leaves the node
//! after a promise waits until the promise is on disk.

mod apply;
mod consensus;
mod epochs;
mod ethereum;
mod outbox;
mod pace;
mod registry;
mod reports;
mod start;
mod submit;
mod sync;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lamina_certificate::{Checkpoint, OperatorSet};
use lamina_ledger::Record;
use lamina_ledger::book::Books;
use lamina_ledger::finality::{Engine, Input, LogEntry, Signer};
use lamina_ledger::history::Mmr;
use lamina_ledger::state::{CheckpointInput, Receipt, Refusal};
use lamina_p2p::{Gossip, Offence, Request, Response};
use lamina_types::account::SigningContext;
use lamina_types::{
    Action, Address, Change, ChangeId, CheckpointHeader, Cut, HeaderId, Height, OperationId,
    PeerKey, SignedOperation, Timestamp,
};
use rand_chacha::ChaCha20Rng;

use crate::{CheckpointView, CommandError, Notice, Reply};
use apply::{Decision, Evaluation};
use consensus::Judgement;
use epochs::Epochs;
use ethereum::Ethereum;
use outbox::Outbox;
use pace::Pace;
use reports::Reports;
use submit::Submitter;
use sync::Peer;

pub use apply::{Commitment, Evaluated};
pub use ethereum::EthereumStride;
pub use registry::Registry;
pub use reports::AccountSigner;
pub use start::{LedgerStart, Restored, genesis_checkpoint};
pub(crate) use sync::LedgerQuestion;
pub use sync::{SnapshotPart, SnapshotProgress};
pub use view::LedgerView;

/// Bounds and intervals of a node's ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerConfig {
    /// Most operations that this node carries before they are final. Beyond, submissions are refused.
    pub promises_max: usize,
    /// Most operations in one cut.
    pub operations_per_checkpoint_max: usize,
    /// How long the evaluation of a cut that this node proposes may take, judged by what the last ones took: a part of what
    /// others wait for a proposal.
    pub evaluation_target: Duration,
    /// How far a proposed checkpoint's time may be ahead of this node's clock.
    pub drift_max: Duration,
    /// How long operations are gathered into one change.
    pub compose_window: Duration,
    /// How long an operation that's in nobody's lane is waited for before the next operator in rank carries it.
    pub carry_step: Duration,
    /// A node that's so many checkpoints behind begins from a snapshot instead of following.
    pub snapshot_distance: u64,
    /// How long a node's report is waited for before the next one in rank makes it.
    pub report_step: Duration,
    /// Most operations that this node signs by itself in a minute. Beyond, its reports wait.
    pub reports_per_minute_max: usize,
    /// How long this node knows a block of Ethereum before it proposes it: others should know it by then, or they'd wait.
    pub ethereum_settling: Duration,
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self {
            promises_max: 65_536,
            operations_per_checkpoint_max: 4_096,
            evaluation_target: Duration::from_millis(500),
            drift_max: Duration::from_secs(2),
            compose_window: Duration::from_millis(10),
            carry_step: Duration::from_secs(2),
            snapshot_distance: 500,
            report_step: Duration::from_secs(3),
            reports_per_minute_max: 60,
            ethereum_settling: Duration::from_secs(5),
        }
    }
}

/// How long a node repeats its votes of a height that it has decided. Who is later asks for the checkpoint.
const REPEAT: Duration = Duration::from_secs(5);

/// The last checkpoint that's committed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tip {
    /// Its header.
    pub header: CheckpointHeader,
    /// The header's hash.
    pub id: HeaderId,
}

/// A node's ledger. See the module's head.
pub(crate) struct Ledger {
    config: LedgerConfig,
    context: SigningContext,
    key: PeerKey,
    rng: ChaCha20Rng,
    /// What this node signs with, if it's an operator of any epoch.
    signer: Option<Arc<dyn Signer + Sync>>,
    epochs: Epochs,
    ethereum: Ethereum,
    /// Time between two checkpoints with and without anything to finalise.
    interval: Duration,
    idle_interval: Duration,
    books: Books,
    engine: Engine,
    history: Mmr,
    tip: Tip,
    /// The first checkpoint that this node can send with all its changes.
    first: Height,
    /// The first moment at which the state has something to do by itself.
    next_timer: Option<Timestamp>,
    /// What was logged for the height after the tip before a crash.
    log: Vec<LogEntry>,
    /// Whether the engine works on the height after the tip.
    started: bool,
    /// Whether peers work on it.
    called: bool,
    /// When the tip was committed here.
    committed_at: Timestamp,
    outbox: Outbox<LedgerAction>,
    /// Operations that this node must see final, or refused.
    promises: BTreeMap<OperationId, SignedOperation>,
    /// Those of them that wait to be put into this node's lane.
    to_compose: VecDeque<OperationId>,
    compose_at: Option<Timestamp>,
    /// Operations of other nodes that nobody carries yet, and when this node would.
    to_carry: BTreeMap<OperationId, (Timestamp, SignedOperation)>,
    /// Pending operations by account and sequence.
    sequences: BTreeMap<(Address, u64), OperationId>,
    /// Submissions that wait for the state's word.
    submissions: BTreeMap<u64, (Submitter, OperationId, SignedOperation)>,
    /// Promises that wait for the disk.
    promised: BTreeMap<u64, (Submitter, OperationId)>,
    reports: Reports,
    evaluations: BTreeMap<u64, Evaluation>,
    judgements: BTreeMap<HeaderId, Judgement>,
    /// The round for which the consensus waits for this node's proposal.
    wanted: Option<u32>,
    pace: Pace,
    /// Changes that aren't on disk: they waited for others when they came, or are an equivocator's. Most are never needed.
    unsaved: BTreeSet<ChangeId>,
    /// Whether a forged precommit of the height was passed on: from now on each is verified first.
    wary: bool,
    decision: Option<Decision>,
    /// Checkpoints of peers whose certificates hold, to be applied after the tip.
    ahead: VecDeque<(Checkpoint, Cut)>,
    peers: BTreeMap<PeerKey, Peer>,
    snapshot: Option<sync::Snapshot>,
    /// Lanes and changes that were asked for, until the answer comes.
    asked: BTreeSet<(PeerKey, LedgerQuestion)>,
    next_id: u64,
    actions: VecDeque<LedgerAction>,
    metrics: LedgerMetrics,
    now: Timestamp,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("tip", &self.tip.header.height).finish_non_exhaustive()
    }
}

/// Counters of a ledger since its start.
#[derive(Debug, Clone, Copy, Default)]
pub struct LedgerMetrics {
    /// Operations that were accepted from users here.
    pub operations_accepted: u64,
    /// Operations that were refused at submission.
    pub operations_refused: u64,
    /// Operations that became final.
    pub operations_final: u64,
    /// Changes that this node made.
    pub changes_made: u64,
    /// Changes of others that were taken.
    pub changes_taken: u64,
    /// Changes of others that this node has no place for.
    pub changes_refused: u64,
    /// Authors who signed two changes with one number.
    pub changes_equivocal: u64,
    /// Checkpoints that were committed.
    pub checkpoints: u64,
    /// Those of them that came from peers, since this node was away.
    pub checkpoints_fetched: u64,
    /// Proposals of others that didn't hold.
    pub proposals_refused: u64,
    /// Two votes or proposals of one operator in one step.
    pub votes_equivocal: u64,
    /// Messages of the consensus that turned out wrong after they were passed on.
    pub votes_refused: u64,
    /// Operations that this node signed by itself: certified tasks and evidence.
    pub reports_made: u64,
    /// Reports that it gave up: the state doesn't take them, or they came to nothing several times.
    pub reports_refused: u64,
    /// Reports that it had no room for.
    pub reports_dropped: u64,
}

/// What the ledger wants done: through the node's own means, or by the shell.
#[derive(Debug)]
pub(crate) enum LedgerAction {
    Publish(Box<Gossip>),
    Ask(PeerKey, LedgerQuestion, Request),
    Answer(u64, Response),
    Charge(PeerKey, Offence),
    Reply(u64, Result<Reply, CommandError>),
    Notify(Notice),
    /// Tell the tasks what a checkpoint changed.
    View(Box<CheckpointView>),
    Work(LedgerWork),
}

/// What the shell does for the ledger, in this order.
#[derive(Debug)]
pub enum LedgerWork {
    /// Put records on disk, all or none; answered by [`LedgerEvent::Stored`].
    Store(u64, Vec<Record>),
    /// Carry operations out on the state as of the tip, without committing; answered by [`LedgerEvent::Evaluated`].
    Evaluate(u64, Box<CheckpointInput>),
    /// What an evaluation came to isn't needed any more.
    Forget(u64),
    /// Commit a checkpoint; answered by [`LedgerEvent::Committed`].
    Commit(Box<Commitment>),
    /// Say whether an operation would take effect on the state as it is; answered by [`LedgerEvent::Prechecked`].
    Precheck {
        /// Names the check.
        id: u64,
        /// The operation's identifier.
        operation: OperationId,
        /// The operation.
        signed: Box<SignedOperation>,
    },
    /// Say what number an account's next operation has, and whether it would take effect on the state as it is; answered by
    /// [`LedgerEvent::Rehearsed`]. One at a time.
    Rehearse {
        /// Whose.
        account: Address,
        /// What it would do.
        action: Box<Action>,
    },
    /// Answer a peer's request for changes, checkpoints or state from what's stored.
    Answer {
        /// Names the request.
        id: u64,
        /// What.
        request: Request,
        /// Changes that belong to the answer, after those that are stored as final.
        pending: Vec<Change>,
    },
    /// Take a part of a snapshot; answered by [`LedgerEvent::Restored`].
    Restore {
        /// The snapshot's checkpoint, whose certificate holds.
        checkpoint: Box<(Checkpoint, Cut)>,
        /// The part.
        part: SnapshotPart,
    },
    /// Stop the node: it can't go on without lying.
    Halt(String),
}

/// What the shell did for the ledger.
#[derive(Debug)]
pub enum LedgerEvent {
    /// A [`LedgerWork::Store`] is on disk.
    Stored(u64),
    /// A [`LedgerWork::Evaluate`] is done.
    Evaluated(u64, Box<Evaluated>),
    /// A [`LedgerWork::Commit`] is on disk.
    Committed {
        /// What became of the operations.
        receipts: Vec<Receipt>,
        /// When the state has something to do by itself.
        next_timer: Option<Timestamp>,
        /// What tasks need of it ([`Registry::changed`]).
        view: Box<CheckpointView>,
    },
    /// A [`LedgerWork::Precheck`] is done.
    Prechecked(u64, Result<(), Refusal>),
    /// A [`LedgerWork::Rehearse`] is done.
    Rehearsed {
        /// The account's next number.
        next: u64,
        /// Whether the operation would take effect.
        result: Result<(), Refusal>,
    },
    /// A [`LedgerWork::Restore`] is done.
    Restored(SnapshotProgress),
    /// Ethereum's finalised chain went on: in its order, without gaps, told again from the tip's block on after each start.
    Ethereum(Vec<EthereumStride>),
}

impl Ledger {
    /// What must be done next.
    pub(crate) fn poll(&mut self) -> Option<LedgerAction> {
        if self.actions.is_empty() {
            self.drive();
        }
        self.actions.pop_front()
    }

    /// Time passed.
    pub(crate) fn tick(&mut self, now: Timestamp) {
        self.now = now;
        if self.is_heard() && self.engine.next_deadline().is_some_and(|at| at <= now) {
            self.engine.handle(now, Input::Tick);
        }
        self.carry_due();
        self.compose_due();
    }

    /// When to call [`Self::tick`].
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        let engine = self.is_heard().then(|| self.engine.next_deadline()).flatten();
        let carry = self.to_carry.values().map(|(at, _)| *at).min();
        let report = self.reports.next_deadline();
        [engine, self.compose_at, carry, report, self.next_start()].into_iter().flatten().min()
    }

    /// The shell did something.
    pub(crate) fn handle(&mut self, now: Timestamp, event: LedgerEvent) {
        self.now = now;
        match event {
            LedgerEvent::Stored(id) => self.stored(id),
            LedgerEvent::Evaluated(id, evaluated) => self.evaluated(id, *evaluated),
            LedgerEvent::Committed { receipts, next_timer, view } => {
                self.act(LedgerAction::View(view));
                self.committed(&receipts, next_timer);
            }
            LedgerEvent::Prechecked(id, result) => self.prechecked(id, result),
            LedgerEvent::Rehearsed { next, result } => self.rehearsed(next, result),
            LedgerEvent::Restored(progress) => self.restored(progress),
            LedgerEvent::Ethereum(strides) => self.followed(strides),
        }
    }

    fn stored(&mut self, id: u64) {
        if let Some((by, operation)) = self.promised.remove(&id) {
            if let Submitter::Command(command) = by {
                self.act(LedgerAction::Reply(command, Ok(Reply::Operation(operation))));
            }
            self.take_up(operation);
        }
        for action in self.outbox.stored(id) {
            self.act(action);
        }
    }

    /// Ethereum went on: what waits for its blocks goes on, too.
    fn followed(&mut self, strides: Vec<EthereumStride>) {
        for EthereumStride { block, operators, .. } in &strides {
            // Those of the genesis file, and those that checkpoints have handed over to, come again.
            let of = |set: &OperatorSet| self.epochs.of(set.epoch()).map(|known| known.root());
            let contradicts =
                |set: &Arc<OperatorSet>| of(set).is_some_and(|known| known != set.root());
            if operators.as_ref().is_some_and(contradicts) {
                return self.halt_at_operators(block);
            }
        }
        let epoch = self.epochs.number(Height(self.tip.header.height.0 + 1));
        match self.ethereum.take(self.now, &self.tip.header.ethereum, epoch, strides) {
            Ok(()) => {
                self.go_on();
                self.catch_up();
            }
            Err(block) => self.halt_at_block(&block),
        }
    }

    pub(crate) const fn metrics(&self) -> &LedgerMetrics {
        &self.metrics
    }

    fn act(&mut self, action: LedgerAction) {
        self.actions.push_back(action);
    }

    fn work(&mut self, work: LedgerWork) {
        self.act(LedgerAction::Work(work));
    }

    fn store(&mut self, records: Vec<Record>) -> u64 {
        let id = self.fresh_id();
        self.work(LedgerWork::Store(id, records));
        id
    }

    const fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Goes on with whatever can go on.
    fn drive(&mut self) {
        self.advance();
        self.start_if_due();
        self.propose_wanted();
        self.drive_engine();
        self.report_due();
    }

    /// Whether the engine is at work, or still repeats its last votes for those who missed some.
    fn is_heard(&self) -> bool {
        self.started || self.now < self.committed_at + REPEAT
    }

    /// Whether this node writes to books.
    fn writes(&self) -> bool {
        self.signer.is_some() && self.epochs.is_operator(self.tip.header.height, &self.key)
    }
}
