//! Follows Ethereum and submits to it over HTTP: the shell of [`lamina_ethereum_core`].
//!
//! [`follow`] and [`submit`] are two tasks that a node runs beside its others. Each asks [`Endpoints`], one at a time,
//! with a limit on time and bytes; what comes back is made into the core's own types at once. [`Wallet`] is for people.

mod clock;
mod endpoints;
mod error;
mod follow;
mod submit;
mod transport;
mod wallet;

pub use alloy::signers::local::PrivateKeySigner;
pub use endpoints::{ANSWER_BYTES_MAX, Endpoints};
pub use error::Error;
pub use follow::follow;
pub use submit::{Command, submit};
pub use wallet::{Sent, Wallet, WalletError};
