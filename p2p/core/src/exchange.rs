use borsh::{BorshDeserialize, BorshSerialize};
use lamina_certificate::{
    Attestation, Checkpoint, Handover, Observation, ObservationSet, TaskCertificate,
};
use lamina_types::{
    Bytes, Canonical, Change, ChangeId, Cut, Digest, EpochNumber, HeaderId, Height, LaneHead, List,
    OperatorIndex, Outcome, PeerKey, SignedTaskRequest, TaskId, VolumeId,
};

use crate::CHUNK_BYTES_MAX;

/// Most identifiers in a request.
pub const IDS_MAX: usize = 64;
/// Most requests in a response: 16 of 32 KiB fit into [`RESPONSE_BYTES_MAX`].
pub const ITEMS_MAX: usize = 16;
/// Most identifiers of each kind in an inventory.
pub const INVENTORY_MAX: usize = 4096;
/// Most certified tasks in an inventory.
pub const CERTIFIED_MAX: usize = 256;
/// Most attestations on one task in a response. Above, certificates are what's exchanged.
pub const ATTESTATIONS_PER_TASK_MAX: usize = 64;
/// Most observations of one task in a request or a response.
pub const OBSERVATIONS_MAX: usize = 64;
/// Most lanes whose tips are told at once.
pub const LANES_MAX: usize = 4096;
/// Most lanes, or single changes, that are asked for at once.
pub const CHANGE_REFS_MAX: usize = 24;
/// Most changes in a response; their bytes together stay within [`PAGE_BYTES_MAX`].
pub const CHANGES_MAX: usize = 1024;
/// Most checkpoints in a response; their bytes together stay within [`PAGE_BYTES_MAX`].
pub const CHECKPOINTS_MAX: usize = 256;
/// Most handovers in a response; their bytes together stay within [`PAGE_BYTES_MAX`].
pub const HANDOVERS_MAX: usize = 64;
/// Most bytes of changes, checkpoints or handovers in a response, unless the first alone has more.
pub const PAGE_BYTES_MAX: usize = 896 * 1024;
/// Longest request, in bytes.
pub const REQUEST_BYTES_MAX: usize = 4 * 1024;
/// Longest response, in bytes.
pub const RESPONSE_BYTES_MAX: usize = 1024 * 1024;

/// What one node asks of another.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Request {
    /// Which tasks do you know? Asked on connecting, and now and then.
    Inventory,
    /// Send these requests.
    Tasks(List<TaskId, ITEMS_MAX>),
    /// Send what was attested on these tasks.
    Evidence(List<TaskId, IDS_MAX>),
    /// Send the outcome of a task that was certified.
    Outcome(TaskId),
    /// Send a part of a blob, of at most [`CHUNK_BYTES_MAX`].
    Blob {
        /// SHA-256 of the whole.
        digest: Digest,
        /// Where the part begins, in bytes.
        offset: u32,
    },
    /// Send what these operators observed for a task, and the set that's to be reduced.
    Observations {
        /// The task.
        task: TaskId,
        /// Whose observations the asker lacks.
        operators: List<OperatorIndex, OBSERVATIONS_MAX>,
    },
    /// How far is your ledger? Asked on connecting, and now and then.
    Ledger,
    /// Send checkpoints with their cuts, ascending.
    Checkpoints {
        /// The first one.
        from: Height,
    },
    /// Send what follows in these lanes.
    Lanes(List<LaneRange, CHANGE_REFS_MAX>),
    /// Send these changes.
    Changes(List<ChangeRef, CHANGE_REFS_MAX>),
    /// Send a part of the state as of a checkpoint.
    Snapshot {
        /// The checkpoint.
        height: Height,
        /// The hash of the last key that's there; `None` at the beginning.
        after: Option<Digest>,
    },
    /// Send how operators handed over to those of later epochs, ascending.
    Handovers {
        /// To which epochs: those after this one.
        after: EpochNumber,
    },
}

/// A part of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct LaneRange {
    /// In which volume.
    pub volume: VolumeId,
    /// Whose lane.
    pub author: PeerKey,
    /// Changes with higher numbers are wanted, in order.
    pub after: u64,
}

/// A change by its place and identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct ChangeRef {
    /// In which volume.
    pub volume: VolumeId,
    /// Whose lane.
    pub author: PeerKey,
    /// Its number.
    pub number: u64,
    /// The change.
    pub change: ChangeId,
}

/// How far a node's ledger is.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct LedgerStatus {
    /// The last checkpoint.
    pub height: Height,
    /// Its header.
    pub header: HeaderId,
    /// The first checkpoint that the node can send with all its changes.
    pub first: Height,
    /// The last changes of lanes that aren't final yet.
    pub lanes: List<(VolumeId, LaneHead), LANES_MAX>,
}

impl Canonical for Request {
    const BYTES_MAX: usize = REQUEST_BYTES_MAX;
}

/// The answer to a [`Request`], of the same name. What isn't known is left out.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Response {
    /// What the node knows, the latest first.
    Inventory {
        /// Its tasks that have no certificate yet.
        open_tasks: List<TaskId, INVENTORY_MAX>,
        /// Its latest tasks that have one: for those who missed them altogether.
        certified_tasks: List<TaskId, CERTIFIED_MAX>,
    },
    /// Requests.
    Tasks(List<SignedTaskRequest, ITEMS_MAX>),
    /// What was attested.
    Evidence(List<TaskEvidence, IDS_MAX>),
    /// An outcome.
    Outcome(Option<Outcome>),
    /// A part of a blob; `None` if the node doesn't have it.
    Blob(Option<Bytes<CHUNK_BYTES_MAX>>),
    /// What was observed.
    Observations {
        /// The set that the node reduces; before it does, one that waits there.
        set: Option<Box<ObservationSet>>,
        /// Observations of the operators asked for, those of the set first; two of one operator if they differ.
        observations: List<Observation, OBSERVATIONS_MAX>,
    },
    /// How far the ledger is.
    Ledger(Box<LedgerStatus>),
    /// Checkpoints, one after the other; none if the first isn't there.
    Checkpoints(List<(Checkpoint, Cut), CHECKPOINTS_MAX>),
    /// To [`Request::Lanes`] and [`Request::Changes`]: what's there, each lane's in order.
    Changes(List<Change, CHANGES_MAX>),
    /// A part of the state, as the ledger's store reads it; `None` if the checkpoint's state isn't kept.
    Snapshot(Option<Bytes<CHUNK_BYTES_MAX>>),
    /// Handovers, one after the other.
    Handovers(List<Handover, HANDOVERS_MAX>),
}

impl Canonical for Response {
    const BYTES_MAX: usize = RESPONSE_BYTES_MAX;
}

/// What a node knows of a task's attestations.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum TaskEvidence {
    /// No quorum yet.
    Attestations(List<Attestation, ATTESTATIONS_PER_TASK_MAX>),
    /// A quorum's signature.
    Certificate(Box<TaskCertificate>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn largest_request_fits_its_bound() {
        let request = Request::Evidence(List::truncated(vec![TaskId([1; 32]); IDS_MAX + 1]));
        assert_eq!(Request::from_bytes(&request.to_bytes()), Ok(request));
        let operators = List::truncated(vec![OperatorIndex(1); OBSERVATIONS_MAX + 1]);
        let request = Request::Observations { task: TaskId([1; 32]), operators };
        assert_eq!(Request::from_bytes(&request.to_bytes()), Ok(request));
    }

    #[test]
    fn most_changes_can_be_asked_for() {
        let volume = VolumeId {
            book: lamina_types::BookId::Service(lamina_types::ServiceId([1; 32])),
            volume: 1,
        };
        let (author, number, change) = (PeerKey([1; 32]), 7, ChangeId([2; 32]));
        let one = ChangeRef { volume, author, number, change };
        let request = Request::Changes(List::truncated(vec![one; CHANGE_REFS_MAX]));
        assert_eq!(Request::from_bytes(&request.to_bytes()), Ok(request));
        let status = LedgerStatus {
            height: Height(1),
            header: HeaderId([1; 32]),
            first: Height(0),
            lanes: List::truncated(vec![(volume, LaneHead { author, number, change }); LANES_MAX]),
        };
        let response = Response::Ledger(Box::new(status));
        assert_eq!(Response::from_bytes(&response.to_bytes()), Ok(response));
    }

    #[test]
    fn largest_answers_fit_the_bound() {
        const { assert!(ITEMS_MAX * SignedTaskRequest::BYTES_MAX < RESPONSE_BYTES_MAX) };
        const { assert!((INVENTORY_MAX + CERTIFIED_MAX) * 32 + 16 < RESPONSE_BYTES_MAX) };
        const {
            assert!(
                IDS_MAX * ATTESTATIONS_PER_TASK_MAX * Attestation::BYTES_MAX < RESPONSE_BYTES_MAX
            );
        };
        const {
            assert!(
                OBSERVATIONS_MAX * Observation::BYTES_MAX + ObservationSet::BYTES_MAX + 16
                    < RESPONSE_BYTES_MAX
            );
        };
        const { assert!(PAGE_BYTES_MAX + Change::BYTES_MAX + 16 < RESPONSE_BYTES_MAX) };
        const { assert!(PAGE_BYTES_MAX + Checkpoint::BYTES_MAX + Cut::BYTES_MAX < RESPONSE_BYTES_MAX) };
        const { assert!(PAGE_BYTES_MAX + 16 < RESPONSE_BYTES_MAX) };
        const { assert!(Handover::BYTES_MAX < PAGE_BYTES_MAX) };
        const { assert!(CHUNK_BYTES_MAX + 16 < RESPONSE_BYTES_MAX) };
        const { assert!(Outcome::BYTES_MAX + 16 < RESPONSE_BYTES_MAX) };
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoders_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(request) = Request::from_bytes(&bytes) {
                prop_assert_eq!(request.to_bytes(), bytes.clone());
            }
            if let Ok(response) = Response::from_bytes(&bytes) {
                prop_assert_eq!(response.to_bytes(), bytes);
            }
        }
    }
}
