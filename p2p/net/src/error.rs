use std::io;

use libp2p::Multiaddr;

/// Why the network didn't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field of the configuration is out of its range.
    #[error("p2p.{field} is {value}; choose {min} to {max}")]
    Config {
        /// Which one.
        field: &'static str,
        /// What it is.
        value: u64,
        /// The smallest value.
        min: u64,
        /// The largest value.
        max: u64,
    },
    /// Another program listens on the port.
    #[error("port {port} is taken; choose another with --p2p.listen")]
    PortTaken {
        /// Which one.
        port: u16,
    },
    /// Listening failed for another reason.
    #[error("can't listen on {address}; change it with --p2p.listen")]
    Listen {
        /// Where.
        address: Multiaddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The address is of a transport that isn't spoken.
    #[error("{address} is neither /ip4/…/udp/…/quic-v1 nor /ip4/…/tcp/… (nor their /ip6 forms)")]
    Transport {
        /// Which one.
        address: Multiaddr,
    },
    /// The system's name resolver couldn't be set up.
    #[error("reading the name resolver's configuration")]
    Dns(#[source] io::Error),
    /// Multicast DNS couldn't be set up.
    #[error("setting up multicast DNS; switch it off with --p2p.mdns=false")]
    Mdns(#[source] io::Error),
}
