//! Ethereum without I/O: what its finalised chain says of Lamina, and how transactions get there without a leader.
//!
//! [`Follower`] turns what endpoints say into one ordered stream of finalised facts without gaps: deposits, operator sets,
//! anchors, task requests. [`Submitter`] gets a transaction onto the chain, from one account of many that try the same.
//! Both are told events, ask for actions and never wait: a shell (`lamina-ethereum`) asks the endpoints.
//! [`Anchors`] decides what a node submits by itself, and when.
//! [`calls`] makes what contracts are called with, [`points`] the encoding of keys and signatures that they read.
//!
//! Endpoints aren't trusted further than this: of an operator set the root is recomputed, numbered events must not leave
//! one out, blocks must go on from those that were emitted, and as many endpoints as configured must say the same. Block
//! hashes aren't recomputed: with an agreement of one, the endpoint that is asked first can invent a chain, or leave out
//! the last events before a step ends, which shows as a gap in the next one, when it's too late.

pub mod abi;
mod anchors;
pub mod calls;
mod config;
mod cursor;
mod decode;
mod endpoints;
mod fact;
mod follower;
pub mod points;
mod query;
mod submitter;

pub use anchors::{AnchorAction, AnchorConfig, AnchorEvent, Anchors};
pub use config::Config;
pub use cursor::{Cursor, REGISTRATIONS_MAX, Registered};
pub use decode::Lie;
pub use fact::{Deposit, Fact, FinalBlock, Registration, Snapshot};
pub use follower::{Action, Event, Follower, Notice, Output};
pub use lamina_certificate::EthereumContracts as Contracts;
pub use query::{Answer, EndpointIndex, Failure, LOGS_MAX, Log, Query, RequestId};
pub use submitter::{
    Fees, JOBS_MAX, Job, JobId, Probe, SubmitAction, SubmitAnswer, SubmitConfig, SubmitEvent,
    SubmitNotice, SubmitOutput, SubmitQuery, Submitter, Survey, rank,
};
