//! Real parts for tests and development networks: anvil, EigenLayer's own contracts on it, and Lamina's.
//!
//! [`Tools`] installs what npm offers of Foundry, [`Anvil`] is a chain that ends with its owner, [`EigenLayer`] is the v1.4 core
//! deployed from the bytecode that a published crate carries.
//!
//! EigenLayer's bytecode is under the BUSL-1.1: it is fetched, used in tests and development networks, and neither
//! committed nor shipped; the same goes for state dumps, which lie in the target folder.

mod anvil;
mod artifacts;
mod chain;
mod command;
mod contracts;
mod eigenlayer;
mod solidity;
mod tools;

pub use anvil::{Anvil, AnvilOptions};
pub use chain::{Chain, Receipt};
pub use contracts::Contracts;
pub use eigenlayer::{EigenLayer, OPERATOR_SET};
pub use tools::Tools;
