//! Services, operators, claims, tasks and evidence as modules of the state, each carried out as the machine does it.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

mod claims;
mod evidence;
mod network;
mod operators;
mod services;
mod tasks;
