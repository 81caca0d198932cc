use std::time::Duration;

use lamina_certificate::EthereumContracts as Contracts;
use lamina_types::ChainId;

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
