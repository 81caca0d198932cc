//! Finality: the consensus on checkpoints.
//!
//! [`Engine`] decides one [`CheckpointHeader`](lamina_types::CheckpointHeader), with the [`Cut`](lamina_types::Cut) that it
//! names, per height: Tendermint's algorithm (Buchman, Kwon, Milosevic, <https://arxiv.org/abs/1807.04938>) as Malachite's
//! core runs it. A proposer shows a value, operators prevote it once they judged it right, precommit it once a quorum
//! prevoted it, and a quorum's precommits, BLS signatures on one message, add up to the checkpoint's certificate.
//! Prevotes and proposals are ed25519: nobody outside reads them.
//!
//! The engine does no I/O: messages, answers and time come in through [`Engine::handle`], and what is to be done goes out
//! through [`Engine::poll`], in an order that matters: a [`Output::Log`] is on disk before what follows it leaves.
//!
//! What comes from peers is checked here, once, before the core sees it: bounds, membership, signatures. The core gets
//! nothing unverified, so it is told that whatever it asks to verify holds.

mod ahead;
mod config;
mod context;
mod desk;
mod engine;
mod equivocation;
mod instance;
mod log;
mod message;
mod votes;

pub use config::Config;
pub use engine::{Engine, Input, Output, Signer};
pub use equivocation::{Equivocation, SignedProposal};
pub use log::{LogEntry, Wait};
pub use message::{
    ConsensusMessage, PolkaCertificate, Proposal, RoundCertificate, RoundVote, Step, Value, Vote,
    VoteSignature,
};
