use lamina_sdk::parameters;

use crate::{Pair, SOURCES_MAX};

/// Why there's no price.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The owner has set something that can't be used, or not at all.
    #[error(transparent)]
    Parameter(#[from] parameters::Error),
    /// The parameter `sources` names no sources of the pair.
    #[error("there are no sources of {pair}")]
    UnknownPair {
        /// The pair.
        pair: Pair,
    },
    /// A pair has fewer sources than have to agree, or more than one observation may ask.
    #[error("{pair} has {count} sources, it must have {min} to {SOURCES_MAX}")]
    SourceCount {
        /// The pair.
        pair: Pair,
        /// How many it has.
        count: usize,
        /// The parameter `sources_min`.
        min: usize,
    },
    /// Too few sources answered with prices that are close to each other.
    #[error("{count} sources agree on {pair}, at least {min} must")]
    TooFewSources {
        /// The pair.
        pair: Pair,
        /// How many do.
        count: usize,
        /// The parameter `sources_min`.
        min: usize,
    },
    /// At least half of the stake behind the observations observed nothing that can be used.
    #[error("prices of {pair} have {valid} of {total} gwei behind them, more than half is needed")]
    TooLittleStake {
        /// The pair.
        pair: Pair,
        /// Stake of those who observed a price, in gwei.
        valid: u128,
        /// Stake of all, in gwei.
        total: u128,
    },
}
