use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::signing::{Domain, Preimage};
use crate::{
    Canonical, ChainId, ChangeId, Digest, List, OPERATION_BYTES_MAX, PeerKey, ServiceId,
    SignedOperation,
};

/// Most operations of one change.
pub const CHANGE_OPERATIONS_MAX: usize = 256;
/// Longest change, in bytes: the longest operation and some short ones; fits into one gossip message.
pub const CHANGE_BYTES_MAX: usize = OPERATION_BYTES_MAX + 6 * 1024;

/// A book: what its operations are about.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum BookId {
    /// Accounts, operators, vaults, and services' first manifests.
    Network,
    /// One service's.
    Service(ServiceId),
}

impl fmt::Display for BookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network => f.write_str("network"),
            Self::Service(id) => id.fmt(f),
        }
    }
}

/// A volume of a book; volumes count from 0.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct VolumeId {
    /// Of which book.
    pub book: BookId,
    /// Which one.
    pub volume: u32,
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.book, self.volume)
    }
}

/// Which change it is, and on what: all that its author signs. Two of them with one place are proof of equivocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ChangeHead {
    /// In which volume.
    pub volume: VolumeId,
    /// The operator whose lane it stands in.
    pub author: PeerKey,
    /// Its place in the lane, from 1.
    pub number: u64,
    /// The author's change before it in this volume; zero for the first.
    pub previous: ChangeId,
    /// SHA-256 of the operations' canonical bytes.
    pub operations: Digest,
}

impl ChangeHead {
    /// The change's identifier, which is what its author signs.
    #[must_use]
    pub fn id(&self, chain: &ChainId) -> ChangeId {
        let (kind, service) = match self.volume.book {
            BookId::Network => (0, [0; 32]),
            BookId::Service(id) => (1, id.0),
        };
        let digest = Preimage::new(Domain::Change, chain)
            .fixed(&[kind])
            .fixed(&service)
            .number(self.volume.volume.into())
            .fixed(&self.author.0)
            .number(self.number)
            .fixed(&self.previous.0)
            .fixed(&self.operations.0)
            .digest();
        ChangeId(digest.0)
    }
}

/// What an operator adds to a book at once. Every node builds the same Automerge change from it.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Change {
    /// In which volume.
    pub volume: VolumeId,
    /// The operator whose lane it stands in.
    pub author: PeerKey,
    /// Its place in the lane, from 1.
    pub number: u64,
    /// The author's change before it in this volume; zero for the first.
    pub previous: ChangeId,
    /// What it inserts, at least one, each under its own identifier.
    pub operations: List<SignedOperation, CHANGE_OPERATIONS_MAX>,
    /// The author's ed25519 signature on its identifier.
    pub signature: [u8; 64],
}

impl Change {
    /// What its author signs.
    ///
    /// # Panics
    /// Never: writing to memory doesn't fail.
    #[must_use]
    pub fn head(&self) -> ChangeHead {
        let operations = borsh::to_vec(&self.operations).expect("writing to memory doesn't fail");
        ChangeHead {
            volume: self.volume,
            author: self.author,
            number: self.number,
            previous: self.previous,
            operations: Digest::of(&operations),
        }
    }
}

impl Canonical for Change {
    const BYTES_MAX: usize = CHANGE_BYTES_MAX;
}
