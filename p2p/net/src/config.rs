use std::time::Duration;

use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};

use crate::Error;

/// How a node meets others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen: `/ip4/…/udp/…/quic-v1` (QUIC) or `/ip4/…/tcp/…` (TCP with Noise and Yamux, for networks that
    /// drop UDP). Port 0 takes a free one. On all interfaces by default; add `/ip6/::/…` where there is IPv6.
    pub listen: Vec<Multiaddr>,
    /// Where others reach this node, if it can't know by itself: behind a router that forwards a port, say.
    pub external: Vec<Multiaddr>,
    /// Peers to begin with, `/ip4/…/udp/4001/quic-v1/p2p/12D3…` say; one is enough. The part from `/p2p` on may be left
    /// out: then whoever answers is taken. Also `/dns4/…` and `/dnsaddr/…`.
    pub bootstrap: Vec<Multiaddr>,
    /// Whether to find peers through Kademlia. Without it only `bootstrap` and what mDNS finds are dialled.
    pub discovery: bool,
    /// Whether to find peers on the local network through multicast DNS.
    pub mdns: bool,
    /// Peers below which others are looked for and dialled; up to that many, all nodes of a network connect to each
    /// other. Gossip needs at least 12; more make a node harder to cut off.
    pub peers_target: u32,
    /// Most connections that others make to this node. Each takes some tens of KiB.
    pub connections_in_max: u32,
    /// Most connections that this node makes.
    pub connections_out_max: u32,
    /// Most connections in either direction that are being made.
    pub connections_pending_max: u32,
    /// Most connections to one peer. Two nodes that dial each other at once make two; what's above lets a peer that
    /// restarted come back before its old connections are seen to be dead.
    pub connections_per_peer_max: u32,
    /// How long a peer has for an answer, and this node for its own, reading and writing included.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// Requests that a peer may make in a second, on average. An honest node that catches up makes about 10.
    pub requests_per_peer_per_second: u32,
    /// Requests that a peer may make at once, after it was silent for a while.
    pub requests_per_peer_burst: u32,
    /// Most requests of one peer that are being answered.
    pub requests_per_peer_open_max: u32,
    /// Most requests of all peers that are being answered. Each may hold an answer of up to 1 MiB.
    pub requests_open_max: u32,
    /// How long a gossiped message is remembered, so that it's taken once only; longer than any copy is on its way.
    #[serde(with = "humantime_serde")]
    pub seen: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let listen = ["/ip4/0.0.0.0/udp/4001/quic-v1", "/ip4/0.0.0.0/tcp/4001"];
        Self {
            listen: listen.map(|text| text.parse().expect("a multiaddr")).into(),
            external: Vec::new(),
            bootstrap: Vec::new(),
            discovery: true,
            mdns: true,
            peers_target: 32,
            connections_in_max: 128,
            connections_out_max: 64,
            connections_pending_max: 64,
            connections_per_peer_max: 4,
            request_timeout: Duration::from_secs(10),
            requests_per_peer_per_second: 20,
            requests_per_peer_burst: 100,
            requests_per_peer_open_max: 8,
            requests_open_max: 64,
            seen: Duration::from_secs(120),
        }
    }
}

impl Config {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Config`] names the first field out of its range; [`Error::Transport`] an address of another transport.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let within = |field, value: u64, min: u64, max: u64| {
            let inside = (min..=max).contains(&value);
            if inside { Ok(()) } else { Err(Error::Config { field, value, min, max }) }
        };
        let counts = [
            ("peers_target", self.peers_target),
            ("connections_in_max", self.connections_in_max),
            ("connections_out_max", self.connections_out_max),
            ("connections_pending_max", self.connections_pending_max),
            ("connections_per_peer_max", self.connections_per_peer_max),
            ("requests_per_peer_per_second", self.requests_per_peer_per_second),
            ("requests_per_peer_burst", self.requests_per_peer_burst),
            ("requests_per_peer_open_max", self.requests_per_peer_open_max),
            ("requests_open_max", self.requests_open_max),
        ];
        for (field, value) in counts {
            within(field, value.into(), 1, 10_000)?;
        }
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        within("request_timeout (in ms)", millis(self.request_timeout), 1, 600_000)?;
        within("seen (in ms)", millis(self.seen), 10_000, 3_600_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_leads_back_to_the_defaults() {
        let text = toml::to_string(&Config::default()).unwrap();
        assert!(text.contains("request_timeout = \"10s\""), "{text}");
        assert!(text.contains("\"/ip4/0.0.0.0/udp/4001/quic-v1\""), "{text}");
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), Config::default());
    }

    #[test]
    fn unknown_fields_are_refused() {
        assert!(toml::from_str::<Config>("mnds = true").is_err());
    }

    #[test]
    fn values_out_of_range_are_named() {
        let config = Config { requests_open_max: 0, ..Config::default() };
        let error = config.check().unwrap_err().to_string();
        assert_eq!(error, "p2p.requests_open_max is 0; choose 1 to 10000");
    }
}
