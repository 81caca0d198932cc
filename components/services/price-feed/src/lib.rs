//! An oracle that tells the price of a pair by several sources.
//!
//! [`observe`] asks the sources that the parameters name for the pair, drops those that are too far from the others,
//! and takes the median of the rest. [`reduce`] takes the median by stake of what a quorum observed: it lies within
//! what honest operators observed as long as less than half of the stake behind the observations lies.
//!
//! Prices are decimal numbers with eight places ([`Decimal`]), never floating point, so that nothing is lost between a
//! source and the result.
//!
//! The quorum vouches for what its operators saw. If most sources err, or someone sits between them and most operators,
//! so does the result: it's the owner's to choose sources that don't copy from each other.

mod decimal;
mod error;
mod observe;
mod pair;
mod pointer;
mod reduce;
mod settings;

pub use decimal::{DECIMALS, Decimal, InvalidDecimal};
pub use error::Error;
pub use observe::{Observation, observe};
pub use pair::{InvalidPair, Pair, Request};
pub use pointer::Pointer;
pub use reduce::{Reduction, reduce};
pub use settings::{InvalidPercentage, Percentage, SOURCES_MAX, Settings, Source, Sources};

lamina_sdk::oracle!(observe = observe, reduce = reduce);
