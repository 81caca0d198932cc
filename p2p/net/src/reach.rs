use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use libp2p::Multiaddr;
use libp2p::core::Transport;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;

use crate::Config;

/// Which addresses are dialled.
///
/// Peers tell each other addresses, and may lie to have nodes knock on doors of somebody's own network. So loopback and
/// private addresses count only on nodes that are there themselves, and names are resolved only for the operator.
#[derive(Debug)]
pub(crate) struct Reach {
    configured: BTreeSet<Multiaddr>,
    loopback: AtomicBool,
    private: AtomicBool,
}

impl Reach {
    /// Begins with what the operator wrote down.
    pub(crate) fn new(config: &Config) -> Self {
        let named = config.bootstrap.iter().chain(&config.listen);
        let reach = Self {
            configured: config.bootstrap.iter().map(without_peer).collect(),
            loopback: AtomicBool::new(false),
            private: AtomicBool::new(false),
        };
        named.for_each(|address| reach.name(address));
        reach
    }

    /// Takes an address that the operator named.
    fn name(&self, address: &Multiaddr) {
        if ip_of(address).map(Scope::of) == Some(Scope::Loopback) {
            self.loopback.store(true, Ordering::Relaxed);
        }
        self.listen(address);
    }

    /// Takes an address that the node listens on. Every node that listens everywhere has a loopback one: that says nothing.
    pub(crate) fn listen(&self, address: &Multiaddr) {
        if ip_of(address).map(Scope::of) == Some(Scope::Private) {
            self.private.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a node at the configured addresses dials this one.
    pub(crate) fn admits(&self, address: &Multiaddr) -> bool {
        if self.configured.contains(&without_peer(address)) {
            return true;
        }
        if !is_spoken(address) {
            return false;
        }
        match ip_of(address).map(Scope::of) {
            Some(Scope::Global) => true,
            Some(Scope::Private) => self.private.load(Ordering::Relaxed),
            Some(Scope::Loopback) => self.loopback.load(Ordering::Relaxed),
            Some(Scope::Nowhere) | None => false,
        }
    }
}

/// From where an IP address can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Global,
    Private,
    Loopback,
    Nowhere,
}

impl Scope {
    fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::of_v4(ip),
            IpAddr::V6(ip) => Self::of_v6(ip),
        }
    }

    /// IANA IPv4 Special-Purpose Address Registry.
    fn of_v4(ip: Ipv4Addr) -> Self {
        let [a, b, ..] = ip.octets();
        let shared_by_carriers = a == 100 && b & 0b1100_0000 == 64;
        if ip.is_loopback() {
            Self::Loopback
        } else if ip.is_private() || ip.is_link_local() || shared_by_carriers {
            Self::Private
        } else if a == 0 || a >= 240 || ip.is_multicast() || ip.is_documentation() {
            Self::Nowhere
        } else {
            Self::Global
        }
    }

    /// IANA IPv6 Special-Purpose Address Registry.
    fn of_v6(ip: Ipv6Addr) -> Self {
        if ip.is_loopback() {
            Self::Loopback
        } else if ip.is_unique_local() || ip.is_unicast_link_local() {
            Self::Private
        } else if ip.segments()[0] & 0xe000 == 0x2000 && ip.segments()[..2] != [0x2001, 0x0db8] {
            Self::Global
        } else {
            Self::Nowhere
        }
    }
}

/// The address without `/p2p/…`.
pub(crate) fn without_peer(address: &Multiaddr) -> Multiaddr {
    address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect()
}

/// Whether the address is an IP's, of a transport that's spoken: QUIC or TCP.
pub(crate) fn is_spoken(address: &Multiaddr) -> bool {
    let mut parts = address.iter();
    let ip = matches!(parts.next(), Some(Protocol::Ip4(_) | Protocol::Ip6(_)));
    let transport = match parts.next() {
        Some(Protocol::Udp(_)) => parts.next() == Some(Protocol::QuicV1),
        Some(Protocol::Tcp(_)) => true,
        _ => false,
    };
    ip && transport && matches!((parts.next(), parts.next()), (None | Some(Protocol::P2p(_)), None))
}

fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

/// A transport that dials only what [`Reach`] admits, whichever protocol asks for it.
#[derive(Debug)]
pub(crate) struct Guarded<T> {
    inner: T,
    reach: Arc<Reach>,
}

impl<T> Guarded<T> {
    pub(crate) const fn new(inner: T, reach: Arc<Reach>) -> Self {
        Self { inner, reach }
    }
}

impl<T: Transport + Unpin> Transport for Guarded<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        if self.reach.admits(&address) {
            self.inner.dial(address, options)
        } else {
            Err(TransportError::MultiaddrNotSupported(address))
        }
    }

    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.inner).poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(listen: &str, bootstrap: &[&str]) -> Reach {
        Reach::new(&Config {
            listen: vec![listen.parse().unwrap()],
            bootstrap: bootstrap.iter().map(|text| text.parse().unwrap()).collect(),
            ..Config::default()
        })
    }

    fn admits(reach: &Reach, address: &str) -> bool {
        reach.admits(&address.parse().unwrap())
    }

    #[test]
    fn private_and_loopback_addresses_need_a_node_there() {
        let public = reach("/ip4/0.0.0.0/udp/4001/quic-v1", &[]);
        assert!(admits(&public, "/ip4/1.1.1.1/udp/4001/quic-v1"));
        assert!(!admits(&public, "/ip4/127.0.0.1/udp/4001/quic-v1"));
        assert!(!admits(&public, "/ip4/10.1.2.3/tcp/4001"));
        public.listen(&"/ip4/127.0.0.1/tcp/4001".parse().unwrap());
        public.listen(&"/ip4/192.168.1.7/tcp/4001".parse().unwrap());
        assert!(admits(&public, "/ip4/10.1.2.3/tcp/4001"));
        assert!(!admits(&public, "/ip4/127.0.0.1/tcp/4001"));
        let local = reach("/ip4/127.0.0.1/udp/0/quic-v1", &[]);
        assert!(admits(&local, "/ip4/127.0.0.1/tcp/4001"));
        assert!(admits(&local, "/ip6/::1/tcp/4001"));
    }

    #[test]
    fn mapped_addresses_are_no_way_around() {
        let public = reach("/ip4/0.0.0.0/udp/4001/quic-v1", &[]);
        assert!(!admits(&public, "/ip6/::ffff:127.0.0.1/tcp/80"));
        assert!(!admits(&public, "/ip6/fe80::1/tcp/80"));
        assert!(!admits(&public, "/ip6/64:ff9b::7f00:1/tcp/80"));
    }

    #[test]
    fn names_and_other_transports_are_the_operators() {
        let configured = "/dns4/seed.example/udp/4001/quic-v1";
        let public = reach("/ip4/0.0.0.0/udp/4001/quic-v1", &[configured]);
        assert!(admits(&public, configured));
        assert!(!admits(&public, "/dns4/other.example/udp/4001/quic-v1"));
        assert!(!admits(&public, "/ip4/1.1.1.1/tcp/80/ws"));
        assert!(!admits(&public, "/ip4/1.1.1.1/udp/4001"));
        assert!(!admits(&public, "/ip4/0.0.0.0/tcp/80"));
        assert!(!admits(&public, "/ip4/224.0.0.251/udp/5353/quic-v1"));
    }
}
