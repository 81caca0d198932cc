//! The ledger on disk: redb tables for books, checkpoints, the state tree and the consensus log.
//!
//! One file, of its own. What isn't final yet is written by [`Store::write`], a decided checkpoint with all that it changes by
//! [`Store::commit`]; each is one transaction, on disk when the call returns. So a node that is killed at any instant finds
//! what was before a call or what was after it, never something between. [`Reader`] sees the state as of one checkpoint, and
//! makes proofs for as many older ones as [`Config::keep_versions`] says. [`Store::snapshot_chunk`] hands a state out piece by
//! piece, and [`Restore`] takes it in, from anyone: each piece is checked against the state root before it's written.
//!
//! Calls block on the disk: the daemon makes them on threads of their own. `DESIGN.md` draws the tables.

mod commit;
mod error;
mod reader;
mod restore;
mod snapshot;
mod store;
mod tables;
#[cfg(feature = "test-utils")]
pub mod testing;

pub use error::Error;
pub use reader::Reader;
pub use restore::{Progress, Restore};
pub use snapshot::{CHUNK_BYTES_MAX, Chunk, Entry};
pub use store::{Config, Order, Store};
pub use tables::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
