use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::signing::{Domain, Preimage};
use crate::{
    BookId, Canonical, ChainId, ChangeId, Digest, EpochNumber, HeaderId, Height, List, PeerKey,
    Timestamp,
};

/// Most books that one cut moves.
pub const CUT_BOOKS_MAX: usize = 512;
/// Most lanes of one book that a cut moves: as many as there are operators who write.
pub const CUT_LANES_MAX: usize = 1024;
/// Longest cut, in bytes: about 650 lanes. It travels with a proposal, in one gossip message of 64 KiB.
pub const CUT_BYTES_MAX: usize = 48 * 1024;

/// A block of Ethereum.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct EthereumBlock {
    /// Its number; 0 while no chain is connected.
    pub number: u64,
    /// Its hash; zero while no chain is connected.
    pub hash: Digest,
}

/// What the consensus set agrees on: everything up to here.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct CheckpointHeader {
    /// The operator set that signs it.
    pub epoch: EpochNumber,
    /// Its number. Genesis is 0.
    pub height: Height,
    /// The header before it; zero for genesis.
    pub previous: HeaderId,
    /// The accumulator of all headers before it: the root of a Merkle mountain range (`lamina-ledger`, `history`).
    pub history: Digest,
    /// SHA-256 of the cut's canonical bytes.
    pub cut: Digest,
    /// Root of the state tree after the cut's operations.
    pub state: Digest,
    /// Root of the Keccak tree of claims on Ethereum.
    pub claims: Digest,
    /// Root of the tree of task results since the checkpoint before.
    pub results: Digest,
    /// The finalised block up to which Ethereum was followed.
    pub ethereum: EthereumBlock,
    /// When; later than the checkpoint before.
    pub time: Timestamp,
    /// Root of this epoch's operator set.
    pub operators: Digest,
    /// Root of the operator set that signs the next checkpoint.
    pub next_operators: Digest,
}

impl CheckpointHeader {
    /// Its hash.
    #[must_use]
    pub fn id(&self, chain: &ChainId) -> HeaderId {
        let digest = Preimage::new(Domain::Checkpoint, chain)
            .number(self.epoch.0)
            .number(self.height.0)
            .fixed(&self.previous.0)
            .fixed(&self.history.0)
            .fixed(&self.cut.0)
            .fixed(&self.state.0)
            .fixed(&self.claims.0)
            .fixed(&self.results.0)
            .number(self.ethereum.number)
            .fixed(&self.ethereum.hash.0)
            .number(self.time.0)
            .fixed(&self.operators.0)
            .fixed(&self.next_operators.0)
            .digest();
        HeaderId(digest.0)
    }
}

impl Canonical for CheckpointHeader {
    const BYTES_MAX: usize = 8 + 8 + 32 * 9 + 8 + 8;
}

/// How far each lane is final, of those that moved since the checkpoint before: a downward-closed set of operations.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Cut {
    /// Ascending by book; none is empty.
    pub books: List<BookCut, CUT_BOOKS_MAX>,
}

/// How far the lanes of one book's open volume are final.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct BookCut {
    /// Which book.
    pub book: BookId,
    /// Its open volume.
    pub volume: u32,
    /// Ascending by author; none has the number that it had before.
    pub lanes: List<LaneHead, CUT_LANES_MAX>,
}

/// The last change of a lane.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct LaneHead {
    /// Whose lane.
    pub author: PeerKey,
    /// The change's number.
    pub number: u64,
    /// The change.
    pub change: ChangeId,
}

impl Cut {
    /// SHA-256 of its canonical bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }
}

impl Canonical for Cut {
    const BYTES_MAX: usize = CUT_BYTES_MAX;
}
