use std::sync::Arc;

use lamina_certificate::{
    Attestation, Members, Observation, ObservationSet, OperatorSet, VerifiedTaskCertificate,
};
use lamina_p2p::{Gossip, Offence, Request, Response, Topic, Verdict};
use lamina_types::{
    Bytes, Digest, EpochNumber, Height, Input, Manifest, ObservationValue, OperationId,
    OperatorIndex, Outcome, PeerKey, ServiceId, SignedOperation, SignedTaskRequest, TaskId,
    Timestamp, account,
};

use crate::Record;
use crate::ledger::{LedgerEvent, LedgerWork};

/// What happened in the world.
#[derive(Debug)]
pub enum Event {
    /// A peer's first connection is up.
    PeerConnected(PeerKey),
    /// A peer's last connection is gone.
    PeerDisconnected(PeerKey),
    /// A peer sent a message; it waits for [`Action::Judge`].
    Gossip {
        /// Names the delivery.
        delivery: u64,
        /// Who sent it (not: who made it).
        from: PeerKey,
        /// Where.
        topic: Topic,
        /// The message.
        bytes: Vec<u8>,
    },
    /// A peer asks; it waits for [`Action::Answer`].
    Request {
        /// Who asks.
        from: PeerKey,
        /// Names the request.
        id: u64,
        /// What.
        request: Request,
    },
    /// A peer answered an [`Action::Ask`], or failed to.
    Response {
        /// Who.
        from: PeerKey,
        /// The action's.
        id: u64,
        /// `None`: no answer in time, or the connection broke.
        response: Option<Response>,
    },
    /// An [`Action::Ask`] was dropped here, through no fault of the peer: too many were under way.
    NotAsked(u64),
    /// The shell noticed something that a peer did wrong.
    Offence(PeerKey, Offence),
    /// The ledger committed a checkpoint. The first one comes before all other events.
    Checkpoint(Box<CheckpointView>),
    /// Someone asks this node for something; it waits for [`Action::Reply`].
    Command {
        /// Names the command.
        id: u64,
        /// What.
        command: Command,
    },
    /// An [`Action::Store`] is on disk.
    Stored(u64),
    /// An [`Action::Prepare`] of the manifest with this digest is done: the component can be run, or is refused for this
    /// reason.
    Prepared(ServiceId, Digest, Result<(), String>),
    /// An [`Action::Prepare`] lacks the component's bytes, or those of a blob that the manifest names.
    BlobMissing(ServiceId, Digest),
    /// An [`Action::StoreBlob`] is done, or failed for this reason.
    BlobStored(ServiceId, Result<(), String>),
    /// An [`Action::Execute`] is done. The error says why this operator abstains.
    Executed(TaskId, Result<Outcome, String>),
    /// An [`Action::Sign`] is done. The error says why the signing store refused.
    Signed(TaskId, Result<Box<Attestation>, String>),
    /// An [`Action::Observe`] is done. The error says why this operator has no observation.
    Observed(TaskId, Result<ObservationValue, String>),
    /// An [`Action::SignObservation`] is done. The error says why the signing store refused.
    ObservationSigned(TaskId, Result<Box<Observation>, String>),
    /// An [`Action::SignProposal`] is done. The error says why the signing store refused.
    ProposalSigned(TaskId, Result<Box<ObservationSet>, String>),
    /// The shell did something for the ledger.
    Ledger(LedgerEvent),
    /// Time passed.
    Tick,
}

/// What tasks need of a checkpoint.
///
/// Checkpoints come in the order of their heights, and none is left out. Where one must be, after a snapshot, the next view
/// holds all services, as the first one does.
#[derive(Debug, Clone)]
pub struct CheckpointView {
    /// Its height.
    pub height: Height,
    /// Its time.
    pub time: Timestamp,
    /// The operators of its epoch.
    pub operators: Arc<OperatorSet>,
    /// The services that changed with it; all of them in a first view.
    pub services: Vec<ServiceVersion>,
}

/// What the ledger says of a service from some height on, until it says something else.
#[derive(Debug, Clone)]
pub struct ServiceVersion {
    /// The service.
    pub id: ServiceId,
    /// The checkpoint that brought it: the view's own; an earlier one in a first view, which may hold a service's older
    /// versions, too, so that tasks from before a restart can go on. What's unknown of is refused.
    pub since: Height,
    /// What its owner says of it.
    pub manifest: Box<Manifest>,
    /// Whether it takes no requests.
    pub paused: bool,
    /// The operators that serve it, with their weights, in the order of the epoch's set but with indices of their own; of
    /// the epoch of `since`. `None` if nobody does.
    pub set: Option<Arc<OperatorSet>>,
}

/// What an application asks of its node.
#[derive(Debug, Clone)]
pub enum Command {
    /// Have a task run.
    SubmitTask(Box<SignedTaskRequest>),
    /// Have an operation done in the ledger.
    SubmitOperation(Box<SignedOperation>),
}

/// What a command came to, once it's on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The task is known under this identifier.
    Task(TaskId),
    /// The operation is kept, and carried until it's final.
    Operation(OperationId),
}

/// Why a command is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The requester's signature doesn't hold.
    #[error("the requester's signature doesn't hold: {0}")]
    Signature(#[from] account::Error),
    /// The operation can't take effect.
    #[error("{0}")]
    Operation(String),
    /// This node keeps no ledger.
    #[error("this node keeps no ledger")]
    NoLedger,
    /// The request is stale.
    #[error("the request was valid until {valid_until_s}, now it's {now_s} (seconds since 1970)")]
    Stale {
        /// The request's.
        valid_until_s: u64,
        /// The node's.
        now_s: u64,
    },
    /// The request is valid for too long.
    #[error("the request is valid for more than {max_s} seconds")]
    ValidTooLong {
        /// The longest validity, in seconds.
        max_s: u64,
    },
    /// The request is pinned to a checkpoint that's too old.
    #[error("the request is pinned to checkpoint {height}; the oldest that it may be is {oldest}")]
    StaleHeight {
        /// The request's.
        height: Height,
        /// The oldest one that's taken.
        oldest: Height,
    },
    /// The request is pinned to a checkpoint that this node hasn't got to.
    #[error("the request is pinned to checkpoint {height}, this node is at {tip}")]
    Behind {
        /// The request's.
        height: Height,
        /// The node's.
        tip: Height,
    },
    /// No such service as of the request's checkpoint.
    #[error("service {0} isn't known here; `lamina service list` shows those that are")]
    UnknownService(ServiceId),
    /// The service takes no requests as of the request's checkpoint.
    #[error("service {0} is paused")]
    Paused(ServiceId),
    /// The service has no operators as of the request's checkpoint.
    #[error("no operator serves service {0}")]
    Unserved(ServiceId),
    /// The service keeps something from task to task.
    #[error(
        "the service keeps state (limits.state_bytes), so its tasks come from the ledger, which orders them, and not from requests"
    )]
    Stateful,
    /// The node has no room.
    #[error("this node holds its most {what} ({max}); try again later, or another node")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many.
        max: usize,
    },
}

/// What the shell must do.
#[derive(Debug)]
pub enum Action {
    /// Forward a message, or drop it.
    Judge(u64, Verdict),
    /// Spread a message.
    Publish(Box<Gossip>),
    /// Ask a peer; answered by [`Event::Response`] or [`Event::NotAsked`].
    Ask {
        /// Whom.
        peer: PeerKey,
        /// Names the question.
        id: u64,
        /// What.
        request: Request,
    },
    /// Answer a peer.
    Answer(u64, Response),
    /// Answer a peer with a part of a blob, of at most [`lamina_p2p::CHUNK_BYTES_MAX`].
    AnswerBlob {
        /// Names the request.
        id: u64,
        /// Which blob.
        digest: Digest,
        /// Where the part begins.
        offset: u32,
    },
    /// Tell the swarm what a peer is worth: 0 and below.
    SetScore(PeerKey, f64),
    /// Disconnect a peer and stay so for [`lamina_p2p::BAN`].
    Ban(PeerKey),
    /// Put records on disk, all or none; answered by [`Event::Stored`].
    Store(u64, Vec<Record>),
    /// Make a service's component ready to run with this manifest; answered by [`Event::Prepared`] or
    /// [`Event::BlobMissing`]. What's ready with other manifests stays so.
    Prepare(ServiceId, Box<Manifest>),
    /// Drop what's ready of a service with the manifest of this digest, or about to be: nothing new is run with it, unless
    /// it's prepared again.
    Forget(ServiceId, Digest),
    /// Keep a part of a blob; answered by [`Event::BlobStored`].
    StoreBlob {
        /// The service that it's for; another service's parts of the same blob are other ones.
        service: ServiceId,
        /// SHA-256 of the whole.
        digest: Digest,
        /// Where the part begins. At 0, what was kept of the blob for this service is dropped.
        offset: u32,
        /// The part.
        part: Bytes<{ lamina_p2p::CHUNK_BYTES_MAX }>,
        /// Whether all is there with it: then the hash is right.
        complete: bool,
    },
    /// Run a task; answered by [`Event::Executed`].
    Execute(Execution),
    /// Record in the signing store, sync, sign; answered by [`Event::Signed`].
    Sign(TaskId, Digest, Signer),
    /// Observe for an oracle's task; answered by [`Event::Observed`].
    Observe(Execution),
    /// Record in the signing store, sync, sign what was observed; answered by [`Event::ObservationSigned`].
    SignObservation(TaskId, ObservationValue, Signer),
    /// Record in the signing store, sync, sign the set of these members as its proposer; answered by
    /// [`Event::ProposalSigned`].
    SignProposal(TaskId, Box<Members>, Signer),
    /// Do something for the ledger.
    Ledger(LedgerWork),
    /// Answer a command.
    Reply(u64, Result<Reply, CommandError>),
    /// Tell the application.
    Notify(Notice),
}

/// As whom this node signs: as an operator of a task's set.
#[derive(Debug, Clone)]
pub struct Signer {
    /// The operators that serve the task's service as of its height.
    pub set: Arc<OperatorSet>,
    /// This node's place among them.
    pub operator: OperatorIndex,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Execution {
    /// The task.
    pub task: TaskId,
    /// Its service.
    pub service: ServiceId,
    /// Digest of the manifest that it runs with: the one as of `height`.
    pub manifest: Digest,
    /// What it runs on.
    pub input: Input,
    /// The checkpoint that it's pinned to.
    pub height: Height,
    /// What an oracle reduces, ascending by operator; `None` for a deterministic service, and while observing.
    pub observations: Option<Vec<Observed>>,
}

/// One operator's observation, as `reduce` gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Who observed.
    pub operator: OperatorIndex,
    /// Its stake, in gwei.
    pub stake_gwei: u64,
    /// What it observed.
    pub value: ObservationValue,
}

/// What an application is told.
#[derive(Debug, Clone)]
pub enum Notice {
    /// A service can be run here, with its newest manifest or an older one.
    ServiceReady(ServiceId),
    /// A request was taken up.
    TaskAccepted(TaskId),
    /// A task has its certificate.
    TaskCertified(TaskId, Box<VerifiedTaskCertificate>),
    /// A task expired without one.
    TaskExpired(TaskId),
    /// This node's outcome isn't the certified one: its build or its machine differs from the others'.
    Dissent(TaskId),
    /// An operator attested two outcomes of one task.
    Equivocation(TaskId, OperatorIndex),
    /// An operator signed two observations for one task.
    ObservationEquivocation(TaskId, OperatorIndex),
    /// An operator proposed two sets of observations for one task.
    ProposalEquivocation(TaskId, OperatorIndex),
    /// A checkpoint is final and on disk, with so many operations.
    Checkpoint(Height, usize),
    /// The operators of a later epoch sign from the next checkpoint on: its number, and how many they are.
    EpochBegins(EpochNumber, u16),
    /// The operators of this epoch have another BLS key for this node than it has: it signs nothing.
    ForeignKey(EpochNumber),
    /// The ledger begins from the state of this checkpoint.
    SnapshotRestored(Height),
    /// The operator with this key signed two changes with one number.
    ChangeEquivocation(PeerKey),
    /// An operator signed two votes or proposals in one step of the consensus.
    VoteEquivocation(OperatorIndex),
    /// This node's account can't pay for what the node would do by itself, for this reason.
    CannotPay(String),
}
