//! Puts Lamina's contracts onto an Ethereum chain that has EigenLayer.
//!
//! A [`Deployment`] says what is fixed when the contracts are created; [`deploy`] carries it out, step by step, through
//! whatever sends transactions ([`Sender`]): a person's wallet, or a development chain's own accounts. What a step came to is
//! kept in [`Progress`], so that a deployment that was interrupted goes on where it stopped.

#![allow(async_fn_in_trait, reason = "nobody needs the futures to be Send")]

mod abi;
mod artifacts;
mod config;
mod plan;

pub use artifacts::Artifacts;
pub use config::{Config, EigenLayer, Strategy};
pub use plan::{Contracts, Deployment, OPERATOR_SET, Progress, Sender, deploy};
