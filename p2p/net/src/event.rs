use lamina_p2p::{Offence, Request, Response, Topic};
use lamina_types::PeerKey;
use libp2p::Multiaddr;
use libp2p::request_response::InboundRequestId;

/// What the network tells the application.
#[derive(Debug)]
pub enum Event {
    /// The node can be reached at this address.
    Listening(Multiaddr),
    /// A peer is connected and has shown that it belongs to this chain. Comes once, however many connections there are.
    PeerConnected {
        /// Who.
        peer: PeerKey,
        /// The other end of its first connection; the port is its listening port only if this node dialled.
        address: Multiaddr,
    },
    /// The last connection of a peer is gone. Comes after a [`Self::PeerConnected`] only.
    PeerDisconnected {
        /// Who.
        peer: PeerKey,
    },
    /// A message, not longer than its topic allows. It's forwarded when [`crate::Handle::judge`] accepts it.
    Gossip {
        /// What to name it by in the verdict.
        delivery: DeliveryId,
        /// Who sent it here; not necessarily who made it.
        from: PeerKey,
        /// What it's about.
        topic: Topic,
        /// Its content, not decoded.
        bytes: Vec<u8>,
    },
    /// A peer asks for something; answer with [`crate::Handle::answer`].
    Request {
        /// Who.
        from: PeerKey,
        /// What to name it by in the answer.
        id: InboundId,
        /// What for.
        request: Request,
    },
    /// What became of a [`crate::Handle::ask`]. Comes exactly once for each.
    Response {
        /// Who was asked.
        from: PeerKey,
        /// The identifier that was given with the question.
        id: u64,
        /// The answer. Whether it's one to this question is for the application to check.
        response: Result<Response, RequestError>,
    },
    /// A peer did something that no honest peer does.
    Offence {
        /// Who.
        peer: PeerKey,
        /// What.
        offence: Offence,
    },
}

/// Names a gossiped message that waits for its verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(pub(crate) u64);

/// Names a peer's request that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboundId(pub(crate) InboundRequestId);

/// Why there's no answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The peer isn't connected, and couldn't be.
    #[error("the peer can't be reached")]
    Unreachable,
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The peer closed the stream or the connection: it's busy, refuses, or is gone.
    #[error("closed by the peer")]
    Closed,
    /// The peer doesn't speak the protocol.
    #[error("the peer doesn't answer requests")]
    Unsupported,
    /// The answer doesn't decode. An [`Event::Offence`] comes, too.
    #[error("the answer is malformed")]
    Malformed,
    /// The answer is longer than [`lamina_p2p::RESPONSE_BYTES_MAX`]. An [`Event::Offence`] comes, too.
    #[error("the answer is too long")]
    Oversized,
    /// More questions are open than [`crate::ASKS_OPEN_MAX`]; nothing was sent.
    #[error("too many questions are open")]
    TooMany,
}
