use lamina_certificate::VerifiedTaskCertificate;
use lamina_types::{ObservationValue, Outcome, SignedTaskRequest, TaskId, Timestamp};

/// Something that a node keeps over a restart.
///
/// Of a task, nothing is kept before its request, by which the store finds and forgets it. Attestations aren't kept: a
/// node's own is made again from its outcome, and others' are asked for. So it is with observations: this node's own is
/// signed again, and which of all of them were reduced is asked for. What services are, the ledger tells.
#[derive(Debug, Clone)]
pub enum Record {
    /// A request, and when it was taken up.
    Request(TaskId, Box<SignedTaskRequest>, Timestamp),
    /// What this node came to, or what a quorum certified.
    Outcome(TaskId, Box<Outcome>),
    /// What this node observed for an oracle's task. On disk before it's signed.
    Observation(TaskId, Box<ObservationValue>),
    /// A certificate that holds, and when it was complete.
    Certificate(Box<VerifiedTaskCertificate>, Timestamp),
}
