use jmt::Version;
use jmt::storage::{HasPreimage, TreeReader};

/// The ledger's state as of the last checkpoint that was committed. Reads are consistent with each other.
///
/// Beside keys and values it has the tree that they make, for its root and for proofs: nodes by jmt's rules, whose version
/// is the checkpoint's height, and the key of each hash.
pub trait StateReader: TreeReader + HasPreimage {
    /// The checkpoint's height, which is the tree's version.
    fn version(&self) -> Version;

    /// A key's value.
    ///
    /// # Errors
    /// [`StorageError`]: it couldn't be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;

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
