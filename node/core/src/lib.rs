//! What a node is: the cores composed, without I/O.
//!
//! A [`Node`] knows services and tasks: services and who serves them by the ledger's checkpoints, tasks from their requests,
//! each pinned to a checkpoint. It judges what peers gossip, has tasks run and outcomes signed, collects attestations into
//! certificates, and asks peers for what it lacks; of an oracle's task it collects operators' observations first. Tell it
//! what happened with [`Node::handle`], carry out what [`Node::poll`] returns until that is `None`, and tell it the time again
//! at [`Node::next_deadline`]. Attestations that are handled before the next poll are verified together, so batches grow with
//! the load and nothing waits without.
//!
//! It assumes that the shell answers each action once, keeps what it's asked to store, and never signs two outcomes
//! for one task. It has no clock, no sockets and no randomness of its own: the simulator runs the same code.

mod config;
mod early;
mod event;
mod ledger;
mod metrics;
mod node;
mod oracle;
mod questions;
mod record;
mod service;
mod sync;
mod task;
mod view;

pub use config::Config;
pub use event::{
    Action, CheckpointView, Command, CommandError, Event, Execution, Notice, Observed, Reply,
    ServiceVersion, Signer,
};
pub use ledger::{
    AccountSigner, Commitment, EthereumStride, Evaluated, LedgerConfig, LedgerEvent, LedgerMetrics,
    LedgerStart, LedgerView, LedgerWork, Registry, Restored, SnapshotPart, SnapshotProgress, Tip,
    genesis_checkpoint,
};
pub use metrics::Metrics;
pub use node::Node;
pub use record::Record;
pub use service::HEIGHTS_KEPT;
pub use view::{
    Abstention, ObservationView, OperatorView, ServiceStatus, ServiceView, TaskStatus, TaskView,
    Timeline,
};
