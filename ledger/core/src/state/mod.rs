//! The state: what finalised operations come to.
//!
//! A [`Machine`] carries out a checkpoint's operations by its [`Module`]s, each of which owns a part of the state's keys and of
//! the actions. [`bank`] is where value moves, [`tree`] makes roots and proofs.

pub mod accounts;
pub mod bank;
pub mod claims;
pub mod commitments;
mod directory;
pub mod evidence;
mod executed;
mod executor;
pub mod governance;
mod machine;
mod module;
pub mod operators;
mod refusal;
pub mod results;
pub mod rewards;
mod scope;
pub mod services;
pub mod tasks;
pub mod tree;
pub mod vaults;

pub use directory::Directory;
pub use executed::{Executed, Receipt};
pub use executor::{
    CHAIN_KEY, CLAIMS_KEY, CURRENT_KEY, CheckpointInput, Current, Machine, TIMERS_MAX, next_timer,
};
pub use machine::{OFFENCE_PPM, machine};
pub use module::{Env, Module, Origin, Shortfall, Stop};
pub use refusal::Refusal;
pub use scope::{Scope, Writes};
