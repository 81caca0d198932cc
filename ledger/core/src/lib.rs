//! The ledger without I/O: books, the state machine and its modules, and finality.

pub mod book;
pub mod finality;
pub mod state;
mod storage;

pub use storage::{Entries, StateReader, StorageError};
