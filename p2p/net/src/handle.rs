use std::sync::Arc;
use std::time::Duration;

use lamina_p2p::{Request, Response, Topic, Verdict};
use lamina_types::PeerKey;
use libp2p::Multiaddr;
use tokio::sync::{mpsc, oneshot, watch};

use crate::metrics::Counters;
use crate::{DeliveryId, InboundId, Metrics};

/// Commands that wait for the swarm. When it's full, the command is refused ([`HandleError::Full`]) and counted.
///
/// The swarm takes commands as fast as it takes anything, so a full queue means an overloaded machine.
pub const COMMANDS_MAX: usize = 1024;

/// Tells the network what to do. Cheap to clone; none of the commands waits.
///
/// The network stops when [`Self::shutdown`] is called or the last handle is dropped.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    stop: Arc<watch::Sender<bool>>,
    counters: Arc<Counters>,
    local: PeerKey,
}

/// What a [`Handle`] asks of the swarm's task.
#[derive(Debug)]
pub(crate) enum Command {
    Publish { topic: Topic, bytes: Vec<u8> },
    Judge { delivery: DeliveryId, verdict: Verdict },
    Ask { peer: PeerKey, id: u64, request: Request },
    Answer { id: InboundId, response: Response },
    SetScore { peer: PeerKey, score: f64 },
    Ban { peer: PeerKey, duration: Duration },
    Dial(Multiaddr),
    Status(oneshot::Sender<Status>),
    KnownAddresses(oneshot::Sender<Vec<Multiaddr>>),
}

impl Handle {
    pub(crate) const fn new(
        commands: mpsc::Sender<Command>,
        stop: Arc<watch::Sender<bool>>,
        counters: Arc<Counters>,
        local: PeerKey,
    ) -> Self {
        Self { commands, stop, counters, local }
    }

    /// Spreads a message. It's sent to the peers that are there; whether it reached them isn't known, so publish again
    /// what matters. A message that was published or received within [`crate::Config::seen`] isn't sent again.
    ///
    /// # Errors
    /// [`HandleError`]. A message longer than its topic allows is dropped and counted, as peers would.
    pub fn publish(&self, topic: Topic, bytes: Vec<u8>) -> Result<(), HandleError> {
        self.send(Command::Publish { topic, bytes })
    }

    /// Says what becomes of a gossiped message. Without a verdict within a few seconds it counts as ignored.
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn judge(&self, delivery: DeliveryId, verdict: Verdict) -> Result<(), HandleError> {
        self.send(Command::Judge { delivery, verdict })
    }

    /// Asks a peer; exactly one [`crate::Event::Response`] with this `id` follows. A peer that isn't connected is dialled
    /// if an address of it is known.
    ///
    /// # Errors
    /// [`HandleError`]; then no response follows.
    pub fn ask(&self, peer: PeerKey, id: u64, request: Request) -> Result<(), HandleError> {
        self.send(Command::Ask { peer, id, request })
    }

    /// Answers a peer's request. Does nothing if it's too late, or answered already.
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn answer(&self, id: InboundId, response: Response) -> Result<(), HandleError> {
        self.send(Command::Answer { id, response })
    }

    /// Tells gossipsub what the application thinks of a peer: 0 is neutral, −100 the worst ([`lamina_p2p::Scores`]).
    ///
    /// It's forgotten ten minutes after the peer disconnects, and has no effect on a peer that never was connected: set
    /// it again on [`crate::Event::PeerConnected`].
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn set_score(&self, peer: PeerKey, score: f64) -> Result<(), HandleError> {
        self.send(Command::SetScore { peer, score })
    }

    /// Disconnects a peer and keeps it out for some time. A second ban replaces the first.
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn ban(&self, peer: PeerKey, duration: Duration) -> Result<(), HandleError> {
        self.send(Command::Ban { peer, duration })
    }

    /// Dials an address, with or without `/p2p/…`, as those of [`crate::Config::bootstrap`].
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn dial(&self, address: Multiaddr) -> Result<(), HandleError> {
        self.send(Command::Dial(address))
    }

    /// Ends the network: connections are closed, then the task ends. Never refused.
    pub fn shutdown(&self) {
        self.stop.send_replace(true);
    }

    /// This node's key.
    #[must_use]
    pub const fn local_key(&self) -> PeerKey {
        self.local
    }

    /// What was counted so far. Reads atomics only.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.counters.snapshot()
    }

    /// Who is connected, and where this node listens.
    ///
    /// # Errors
    /// [`HandleError`].
    pub async fn status(&self) -> Result<Status, HandleError> {
        let (sender, receiver) = oneshot::channel();
        self.send(Command::Status(sender))?;
        receiver.await.map_err(|_| HandleError::Stopped)
    }

    /// Addresses of peers that were connected or found, each with `/p2p/…`, the most recently confirmed first: what a node
    /// keeps to find its network again.
    ///
    /// # Errors
    /// [`HandleError`].
    pub async fn known_addresses(&self) -> Result<Vec<Multiaddr>, HandleError> {
        let (sender, receiver) = oneshot::channel();
        self.send(Command::KnownAddresses(sender))?;
        receiver.await.map_err(|_| HandleError::Stopped)
    }

    fn send(&self, command: Command) -> Result<(), HandleError> {
        self.commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                self.counters.commands_refused.increment();
                HandleError::Full
            }
            mpsc::error::TrySendError::Closed(_) => HandleError::Stopped,
        })
    }
}

/// Why a command wasn't taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandleError {
    /// [`COMMANDS_MAX`] commands wait.
    #[error("the network's command queue is full")]
    Full,
    /// The network has stopped.
    #[error("the network has stopped")]
    Stopped,
}

/// The network as this node sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// This node's key.
    pub local: PeerKey,
    /// Where it listens, with `/p2p/…`.
    pub listening: Vec<Multiaddr>,
    /// Who is connected, ordered by key.
    pub peers: Vec<PeerStatus>,
    /// Peers whose addresses are known.
    pub peers_known: usize,
    /// Peers that are banned.
    pub peers_banned: usize,
}

/// A connected peer.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerStatus {
    /// Who.
    pub peer: PeerKey,
    /// The other end of its first connection.
    pub address: Multiaddr,
    /// Whether this node dialled it.
    pub dialled: bool,
    /// Its connections.
    pub connections: u32,
    /// The last ping's round trip.
    pub round_trip: Option<Duration>,
    /// Gossipsub's score: the one set by the application, and what gossipsub saw itself. Below 0 is bad.
    pub score: f64,
    /// Topics in whose mesh it is.
    pub meshes: Vec<Topic>,
    /// The software it says it runs: at most 64 bytes of visible ASCII.
    pub agent: String,
}
