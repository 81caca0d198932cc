use lamina_ledger::StorageError;
use lamina_types::{Height, VolumeId};

/// Why the store can't do what it should. After anything but [`Error::Chunk`], [`Error::Pruned`] and [`Error::Future`] a node
/// had better stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process has the file open.
    #[error("{path} is in use; is another node running with this folder?")]
    InUse {
        /// The file.
        path: String,
    },
    /// The file was made by another version of the program, or for another network.
    #[error(
        "the ledger's {key} is {found:?}, {expected:?} is needed; choose another folder, or move this one away and start anew"
    )]
    Foreign {
        /// `version` or `chain`.
        key: &'static str,
        /// What the file says.
        found: String,
        /// What it should say.
        expected: String,
    },
    /// The file isn't there and can't be made.
    #[error("{path} can't be created; is its folder there, and writable?")]
    Create {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The disk failed, or is full.
    #[error("the ledger can't be read or written")]
    Database(#[source] Box<redb::Error>),
    /// The file holds what this program wouldn't write.
    #[error("table {table} is damaged: {reason}")]
    Corrupt {
        /// Which table.
        table: &'static str,
        /// What's wrong.
        reason: String,
    },
    /// What is read through the state's own interface failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The state tree couldn't be walked.
    #[error("the state tree: {0}")]
    Tree(String),
    /// Checkpoints are committed one after the other, each once.
    #[error("checkpoint {found} came, {expected} is the next one")]
    OutOfOrder {
        /// What comes next.
        expected: Height,
        /// What came.
        found: Height,
    },
    /// The parts of a checkpoint don't belong together. Nothing was written.
    #[error("checkpoint {height}: {reason}")]
    Mismatch {
        /// Which checkpoint.
        height: Height,
        /// What doesn't fit.
        reason: String,
    },
    /// A change or cut of a volume that isn't open. Nothing was written.
    #[error("volume {0} isn't open")]
    NotOpen(VolumeId),
    /// The state of this height isn't kept any more.
    #[error("the state at height {height} isn't kept any more; the oldest is {oldest}")]
    Pruned {
        /// Which was asked for.
        height: Height,
        /// The oldest that's kept.
        oldest: Height,
    },
    /// The state of this height isn't known yet.
    #[error("there is no state at height {0} yet")]
    Future(Height),
    /// A snapshot is being restored: there's no state until it's complete.
    #[error("a snapshot is being restored")]
    Restoring,
    /// Snapshots are restored into an empty store.
    #[error("the store has a state already; restore into a new file")]
    NotEmpty,
    /// A piece of a snapshot that isn't of this state, or comes out of turn. Ask somebody else.
    #[error("a wrong piece of the snapshot: {0}")]
    Chunk(String),
}

impl Error {
    /// What's in a table isn't what was put there.
    pub fn corrupt(table: &'static str, reason: impl ToString) -> Self {
        Self::Corrupt { table, reason: reason.to_string() }
    }

    pub(crate) fn tree(error: impl ToString) -> Self {
        Self::Tree(error.to_string())
    }

    pub(crate) fn chunk(reason: impl ToString) -> Self {
        Self::Chunk(reason.to_string())
    }
}

macro_rules! from_redb {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for Error {
            fn from(error: redb::$error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        }
    )*};
}

from_redb!(
    DatabaseError,
    TransactionError,
    TableError,
    StorageError,
    CommitError,
    SetDurabilityError
);

/// With its causes in one line, since the core's error has no source.
impl From<Error> for StorageError {
    fn from(error: Error) -> Self {
        match &error {
            Error::Database(source) => Self(format!("{error}: {source}")),
            _ => Self(error.to_string()),
        }
    }
}
