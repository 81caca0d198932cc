//! The ledger on disk: redb tables for books, checkpoints, the state tree and the consensus log.
