//! What a node shows of its state.

use lamina_certificate::SignerBitmap;
use lamina_types::{
    Address, Digest, Height, Manifest, ObservationValue, OperatorIndex, Outcome, PeerKey,
    ServiceId, TaskId, TaskRequest, Timestamp,
};
use serde::{Deserialize, Serialize};

/// How far a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    /// No quorum has attested one outcome yet.
    Open,
    /// A quorum has.
    Certified,
    /// None did in time.
    Expired,
}

/// When a node saw what of a task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// The request came.
    pub accepted: Timestamp,
    /// Its run began here.
    pub started: Option<Timestamp>,
    /// Its run ended here.
    pub executed: Option<Timestamp>,
    /// This node's attestation was signed.
    pub attested: Option<Timestamp>,
    /// A certificate was complete.
    pub certified: Option<Timestamp>,
}

/// A task.
#[derive(Debug, Clone, Serialize)]
pub struct TaskView {
    /// Its identifier.
    pub id: TaskId,
    /// How far it is.
    pub status: TaskStatus,
    /// What was asked for.
    pub request: Option<TaskRequest>,
    /// The certified outcome; before that, this node's own.
    pub outcome: Option<Outcome>,
    /// The certified digest; before that, this node's own.
    pub outcome_digest: Option<Digest>,
    /// What the outcome costs, in units of [`lamina_types::Price`]; absent without outcome, or where the service as of the
    /// task's height isn't known any more.
    pub price: Option<u64>,
    /// Why this node doesn't attest.
    pub abstention: Option<Abstention>,
    /// Whether this node came to another outcome than the certified one.
    pub dissent: bool,
    /// Who attested, whatever the outcome, of the operators that serve the service as of the task's height.
    pub signers: SignerBitmap,
    /// Who of them didn't, with places in that set; none where it isn't known any more.
    pub missing: Vec<OperatorView>,
    /// The attested outcomes with the stake behind them, in gwei.
    pub outcomes: Vec<(Digest, u64)>,
    /// What a certificate needs more than, in gwei; 0 where the set isn't known any more.
    pub quorum_gwei: u64,
    /// What operators observed, of an oracle's task: all that's here while it's open, then what was reduced, as long as the
    /// node remembers it. Left out where tasks are listed.
    pub observations: Vec<ObservationView>,
    /// When this node saw what.
    pub timeline: Timeline,
}

/// What an operator observed for a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ObservationView {
    /// Who.
    pub operator: OperatorIndex,
    /// What.
    pub value: ObservationValue,
    /// Whether it's in the set that was reduced.
    pub in_set: bool,
}

/// Why a node doesn't attest a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abstention {
    /// In words.
    pub reason: String,
}

/// An operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OperatorView {
    /// Its place in the operator set.
    pub index: OperatorIndex,
    /// Its account.
    pub address: Address,
    /// Its node's key.
    pub peer_key: PeerKey,
    /// Its stake in that set, in gwei.
    pub stake_gwei: u64,
    /// Whether this node is connected to it, or is it.
    pub connected: bool,
}

/// Whether a node can run a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status", content = "reason")]
pub enum ServiceStatus {
    /// The component is being compiled.
    Preparing,
    /// The component is being fetched from peers.
    Fetching,
    /// It can.
    Ready,
    /// It can't, for this reason.
    Refused(String),
}

/// A service.
#[derive(Debug, Clone, Serialize)]
pub struct ServiceView {
    /// Its identifier.
    pub id: ServiceId,
    /// Its newest manifest.
    pub manifest: Manifest,
    /// Whether this node can run it.
    #[serde(flatten)]
    pub status: ServiceStatus,
    /// Whether it takes no requests.
    pub paused: bool,
    /// The checkpoint that brought the newest of what's said here.
    pub height: Height,
    /// How many operators serve it.
    pub operators: u16,
}
