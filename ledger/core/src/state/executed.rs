use borsh::{BorshDeserialize, BorshSerialize};
use jmt::storage::TreeUpdateBatch;
use lamina_types::{Address, Amount, Digest, Height, OperationId, TaskId};
use serde::{Deserialize, Serialize};

use super::{Refusal, Writes};

/// What a checkpoint's operations come to, before it is decided.
#[derive(Debug)]
pub struct Executed {
    /// Root of the state tree.
    pub state: Digest,
    /// Root of the claims on Ethereum.
    pub claims: Digest,
    /// Root of [`Self::outcomes`].
    pub results: Digest,
    /// Keys and what they become.
    pub writes: Writes,
    /// The state tree's new nodes, and those that are stale with them.
    pub tree: TreeUpdateBatch,
    /// What became of each operation, in the order in which they were carried out.
    pub receipts: Vec<Receipt>,
    /// The tasks that were recorded, ascending, with the digests of their outcomes.
    pub outcomes: Vec<(TaskId, Digest)>,
}

/// What became of an operation.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Receipt {
    /// Which one.
    pub operation: OperationId,
    /// The checkpoint in which it was carried out or refused.
    pub height: Height,
    /// Whose.
    pub account: Address,
    /// Its number.
    pub sequence: u64,
    /// What was paid for it.
    pub fee: Amount,
    /// Why it changed nothing but for the fee, if it didn't.
    pub refusal: Option<Refusal>,
}
