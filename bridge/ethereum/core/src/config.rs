use std::time::Duration;

use lamina_types::{Address, ChainId};

/// What to follow, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The Lamina network.
    pub chain: ChainId,
    /// The Ethereum chain (EIP-155); an endpoint of another one is refused.
    pub ethereum_chain: u64,
    /// Lamina's contracts.
    pub contracts: Contracts,
    /// The first block to read: the one that created the contracts, or an earlier one.
    pub start: u64,
    /// The first epoch that the contract snapshots.
    pub first_epoch: u64,
    /// Followed is up to blocks whose number is a multiple of this, at least 1. The same at all nodes, so that each knows the
    /// hash of every block that another one may have followed up to.
    pub stride: u64,
    /// How many endpoints must say the same before it counts: at least 1; at most as many as there are.
    pub agreement: usize,
    /// Time between two looks at the finalised block while nothing is new.
    pub poll: Duration,
}

/// Where Lamina's contracts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contracts {
    /// Operators and their keys.
    pub registrar: Address,
    /// Epochs and anchors.
    pub checkpoints: Address,
    /// Deposits and claims.
    pub vault: Address,
    /// Task requests and results.
    pub tasks: Address,
    /// Slashing.
    pub slasher: Address,
}

impl Contracts {
    /// All of them.
    #[must_use]
    pub const fn all(&self) -> [Address; 5] {
        [self.registrar, self.checkpoints, self.vault, self.tasks, self.slasher]
    }
}
