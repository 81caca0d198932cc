use borsh::{BorshDeserialize, BorshSerialize};
use jmt::Version;
use jmt::storage::{HasPreimage, TreeReader};
use lamina_certificate::{Checkpoint, CheckpointCertificate, Handover};
use lamina_types::{
    Canonical, Change, ChangeId, CheckpointHeader, Cut, Digest, Height, LaneHead, OperationId,
    PeerKey, SignedOperation, VolumeId,
};

use crate::state::Executed;

/// The ledger's state as of the last checkpoint that was committed. Reads are consistent with each other.
///
/// Beside keys and values it has the tree that they make, for its root and for proofs: nodes by jmt's rules, whose version
/// is the checkpoint's height, and the key of each hash. The tree's values are the ones that come with its nodes, which for
/// long values of the state are stand-ins ([`crate::state::tree::in_tree`]). A hash's key is needed for as long as a version
/// is kept that has it.
pub trait StateReader: TreeReader + HasPreimage {
    /// The checkpoint's height, which is the tree's version.
    fn version(&self) -> Version;

    /// A key's value.
    ///
    /// # Errors
    /// [`StorageError`]: it couldn't be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;

    /// A key's value as of an earlier checkpoint, if that one's state is kept.
    ///
    /// # Errors
    /// [`StorageError`]: it couldn't be read.
    fn get_at(&self, key: &[u8], version: Version) -> Result<Option<Vec<u8>>, StorageError>;

    /// Keys from `start` up to `end` (exclusive), ascending, with their values; at most `limit`.
    ///
    /// # Errors
    /// [`StorageError`]: they couldn't be read.
    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Entries, StorageError>;
}

/// Keys with their values.
pub type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// The disk failed, or holds what it shouldn't. Nothing that a peer or user does leads here; a node stops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ledger's storage: {0}")]
pub struct StorageError(pub String);

/// What is written before it's final. It's on disk before anything is sent that relies on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A change of an open volume.
    Change(ChangeId, Box<Change>),
    /// What the consensus on a checkpoint needs after a restart; in the order of its coming.
    Log {
        /// Of which checkpoint.
        height: Height,
        /// Its bytes.
        entry: Vec<u8>,
    },
    /// An operation that was accepted from a user, and is carried until it has a receipt.
    Promise(OperationId, Box<SignedOperation>),
    /// Canonical bytes of what proves an operator's fault.
    Evidence(Vec<u8>),
    /// How the operators of an epoch handed over to those of the next; it was verified.
    Handover(Box<Handover>),
}

/// A checkpoint as it was decided.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Decision {
    /// What was agreed on.
    pub header: CheckpointHeader,
    /// By whom. Genesis alone has none: nobody signs what everyone begins with.
    pub certificate: Option<CheckpointCertificate>,
    /// The cut that the header names.
    pub cut: Cut,
}

impl Decision {
    /// What anyone needs who has the operator set; `None` for genesis.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        let certificate = self.certificate.clone()?;
        Some(Checkpoint { header: self.header.clone(), certificate })
    }
}

impl Canonical for Decision {
    const BYTES_MAX: usize =
        CheckpointHeader::BYTES_MAX + 1 + CheckpointCertificate::BYTES_MAX + Cut::BYTES_MAX;
}

/// A change that is final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalChange {
    /// Its identifier.
    pub id: ChangeId,
    /// The change.
    pub change: Change,
    /// Its operations' identifiers, in their order.
    pub operations: Vec<OperationId>,
}

/// All that a decided checkpoint changes on disk, in one piece.
#[derive(Debug)]
pub struct Finalised {
    /// The checkpoint.
    pub decision: Decision,
    /// What its operations came to.
    pub executed: Executed,
    /// Volumes that begin with it, before its changes.
    pub opened: Vec<VolumeId>,
    /// The changes that its cut adds; each lane's in the order of their numbers.
    pub changes: Vec<FinalChange>,
    /// Volumes that end with it. Their changes that aren't final are gone.
    pub closed: Vec<VolumeId>,
    /// Changes that can't become final any more, because another one took their place.
    pub dropped: Vec<ChangeId>,
    /// New nodes of the accumulator of headers, by position.
    pub history_nodes: Vec<(u64, Digest)>,
    /// How its operators hand over, if it's the last one of their epoch.
    pub handover: Option<Box<Handover>>,
}

/// A volume that takes changes, and how far it's final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenVolume {
    /// Which one.
    pub volume: VolumeId,
    /// The last final change of each lane, ascending by author.
    pub lanes: Vec<LaneHead>,
    /// How many operations are final.
    pub operations: u32,
}

/// A final operation, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalOperation {
    /// The operation.
    pub operation: SignedOperation,
    /// In which volume.
    pub volume: VolumeId,
    /// In whose lane.
    pub author: PeerKey,
    /// In which change of the lane.
    pub number: u64,
}
