//! The ledger without I/O: books, the state machine and its modules, and finality.
//!
//! [`book`] keeps operators' signed changes and makes cuts through them, [`finality`] is the consensus on checkpoints, and
//! [`state`] is what finalised operations come to. [`history`] accumulates headers, [`system`] is what the ledger keeps of
//! itself in the state, and [`mod@file`] is a checkpoint that anyone can verify. Cores don't know each other: `lamina-node-core`
//! composes them, and `lamina-ledger-store` keeps what they come to.

pub mod book;
pub mod file;
pub mod finality;
pub mod history;
pub mod state;
mod storage;
pub mod system;
#[cfg(feature = "test-utils")]
pub mod testing;

pub use storage::{
    Decision, Entries, FinalChange, FinalOperation, Finalised, OpenVolume, Record, StateReader,
    StorageError,
};
