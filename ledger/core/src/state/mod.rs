//! The state: what finalised operations come to.

pub mod bank;
mod executed;
mod module;
mod refusal;
mod scope;

pub use executed::{Executed, Receipt};
pub use module::{Env, Module, Origin, Shortfall, Stop};
pub use refusal::Refusal;
pub use scope::{Scope, Writes};
