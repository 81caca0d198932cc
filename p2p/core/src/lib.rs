//! How nodes gossip, score, aggregate and fetch: the rules, without I/O.
//!
//! [`Topic`] and [`Gossip`] say what is spread to everyone, [`Request`] and [`Response`] what one node asks of another; both
//! are bounded and have one byte form. [`Collector`] turns operators' attestations on a task into a certificate,
//! [`Download`] assembles a blob from peers that may lie, and [`Scores`] keeps what peers cost.
//!
//! The bytes are drawn in `p2p/DESIGN.md`. The swarm that carries them is `lamina-p2p-net`.

mod collector;
mod download;
mod exchange;
mod gossip;
mod score;
mod seen;

pub use collector::{Collector, Inserted};
pub use download::{CHUNK_BYTES_MAX, Download, Progress};
pub use exchange::{
    ATTESTATIONS_PER_TASK_MAX, CERTIFIED_MAX, CHANGE_REFS_MAX, CHANGES_MAX, CHECKPOINTS_MAX,
    ChangeRef, HANDOVERS_MAX, IDS_MAX, INVENTORY_MAX, ITEMS_MAX, LANES_MAX, LaneRange,
    LedgerStatus, OBSERVATIONS_MAX, PAGE_BYTES_MAX, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX, Request,
    Response, TaskEvidence,
};
pub use gossip::{
    CONSENSUS_BYTES_MAX, Error as GossipError, GOSSIP_BYTES_MAX, Gossip, MessageId, Second, Topic,
    Verdict, message_id,
};
pub use score::{BAN, BAN_THRESHOLD, HALF_LIFE, Offence, PEERS_MAX, Scores};
pub use seen::{SEEN_MAX, Seen};
