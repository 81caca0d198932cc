//! The libp2p swarm (QUIC, TCP) that carries the rules of lamina-p2p.
//!
//! [`start`] spawns one task that owns the swarm. It tells the application what happens as [`Event`]s and is told what to do
//! through a [`Handle`]. Gossip (gossipsub) is forwarded only after the application's verdict; requests and responses are
//! bounded before they are read, and decoded here, so that the application sees values only. Peers are found from one
//! address (Kademlia, used for nothing else), or none at all on a local network (mDNS).
//!
//! Every queue is bounded. Towards the application, gossip and requests that find the queue full are dropped and counted;
//! answers and who is connected are kept, which is bounded by what was asked and by the connections. Towards the swarm, a
//! full queue refuses the command ([`HandleError::Full`]).
//!
//! A peer is its ed25519 key. Which peers behave is for the application to say ([`Handle::set_score`], [`Handle::ban`]);
//! what the swarm notices itself comes as [`Event::Offence`].
//!
//! The bytes on the wire and gossipsub's parameters are in `p2p/DESIGN.md`.

mod addresses;
mod behaviour;
mod config;
mod error;
mod event;
mod exchange;
mod gossip;
mod handle;
mod identity;
mod metrics;
mod network;
mod outbox;
mod reach;
mod requests;

pub use config::Config;
pub use error::Error;
pub use event::{DeliveryId, Event, InboundId, RequestError};
pub use handle::{COMMANDS_MAX, Handle, HandleError, PeerStatus, Status};
pub use identity::{peer_id, peer_key, peer_key_of};
pub use libp2p::{Multiaddr, PeerId};
pub use metrics::{Metrics, TopicMetrics};
pub use network::{ASKS_OPEN_MAX, EVENTS_MAX, start};
