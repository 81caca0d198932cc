use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use crate::reach::without_peer;

/// Peers whose addresses are kept. When it's full, one that never was connected makes room, or else nobody.
pub(crate) const PEERS_MAX: usize = 1024;
/// Addresses of one peer: QUIC and TCP on a few interfaces.
const ADDRESSES_MAX: usize = 8;
/// Failed dials after which a peer that never was connected is forgotten.
const FAILURES_MAX: u32 = 5;
/// Wait after the first failed dial; doubled with each further one.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// Longest wait between two dials.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// The addresses of peers, and when to dial whom.
#[derive(Debug, Default)]
pub(crate) struct AddressBook {
    peers: BTreeMap<PeerId, Entry>,
    /// Configured addresses whose peer isn't known until it answers.
    unnamed: BTreeMap<Multiaddr, Retry>,
}

#[derive(Debug)]
struct Entry {
    /// The one that was last dialled with success is first.
    addresses: Vec<Multiaddr>,
    /// When the peer last was connected. Operators' peers count as connected from the start: they aren't forgotten.
    confirmed: Option<Instant>,
    retry: Retry,
}

#[derive(Debug, Clone, Copy)]
struct Retry {
    failures: u32,
    at: Instant,
}

impl Retry {
    /// Counts the dial as failed until the peer is known to be connected.
    fn dialled(&mut self, now: Instant) {
        let wait = RETRY_MIN.saturating_mul(2u32.saturating_pow(self.failures)).min(RETRY_MAX);
        *self = Self { failures: self.failures.saturating_add(1), at: now + wait };
    }
}

impl AddressBook {
    /// Takes an address from the configuration.
    pub(crate) fn configure(&mut self, address: &Multiaddr, now: Instant) {
        let peer = address.iter().find_map(|part| match part {
            Protocol::P2p(peer) => Some(peer),
            _ => None,
        });
        let address = without_peer(address);
        match peer {
            Some(peer) => self.connected(peer, Some(&address), now),
            None => {
                self.unnamed.entry(address).or_insert(Retry { failures: 0, at: now });
            }
        }
    }

    /// Takes an address that somebody tells of.
    pub(crate) fn insert(&mut self, peer: PeerId, address: &Multiaddr, now: Instant) {
        if !self.peers.contains_key(&peer) && self.peers.len() >= PEERS_MAX && !self.make_room() {
            return;
        }
        let retry = Retry { failures: 0, at: now };
        let fresh = Entry { addresses: Vec::new(), confirmed: None, retry };
        let entry = self.peers.entry(peer).or_insert(fresh);
        let address = without_peer(address);
        if entry.addresses.len() < ADDRESSES_MAX && !entry.addresses.contains(&address) {
            entry.addresses.push(address);
        }
    }

    /// Takes the addresses that a connected peer tells of itself, in place of what was heard before.
    pub(crate) fn announce(&mut self, peer: PeerId, addresses: &[Multiaddr], now: Instant) {
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.addresses.truncate(1);
        }
        addresses.iter().for_each(|address| self.insert(peer, address, now));
    }

    /// The peer is connected and of this chain; through this address, if this node dialled. A connection alone doesn't
    /// count: whoever refuses this node lets it in first, and would be dialled again at once.
    pub(crate) fn connected(&mut self, peer: PeerId, address: Option<&Multiaddr>, now: Instant) {
        if let Some(address) = address.map(without_peer) {
            self.insert(peer, &address, now);
            self.unnamed.entry(address.clone()).and_modify(|retry| retry.failures = 0);
            if let Some(entry) = self.peers.get_mut(&peer) {
                entry.addresses.retain(|known| *known != address);
                entry.addresses.insert(0, address);
                entry.addresses.truncate(ADDRESSES_MAX);
            }
        }
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.confirmed = Some(now);
            entry.retry = Retry { failures: 0, at: now };
        }
    }

    /// Forgets a peer.
    pub(crate) fn remove(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
    }

    /// Forgets one address: somebody else answered there.
    pub(crate) fn remove_address(&mut self, peer: &PeerId, address: &Multiaddr) {
        let address = without_peer(address);
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.addresses.retain(|known| *known != address);
        }
        self.peers.retain(|_, entry| !entry.addresses.is_empty());
    }

    /// Up to `count` peers whose turn it is, with their addresses; those that were connected before come first.
    pub(crate) fn take_due(
        &mut self,
        now: Instant,
        count: usize,
        wanted: impl Fn(&PeerId) -> bool,
    ) -> Vec<(PeerId, Vec<Multiaddr>)> {
        self.peers
            .retain(|_, entry| entry.confirmed.is_some() || entry.retry.failures < FAILURES_MAX);
        let due = self.peers.iter().filter(|(peer, entry)| entry.retry.at <= now && wanted(peer));
        let mut due: Vec<_> = due.map(|(peer, entry)| (Reverse(entry.confirmed), *peer)).collect();
        due.sort_unstable();
        due.truncate(count);
        let mut taken = Vec::with_capacity(due.len());
        for (_, peer) in due {
            if let Some(entry) = self.peers.get_mut(&peer) {
                entry.retry.dialled(now);
                taken.push((peer, entry.addresses.clone()));
            }
        }
        taken
    }

    /// Configured addresses without a peer whose turn it is.
    pub(crate) fn take_due_unnamed(&mut self, now: Instant) -> Vec<Multiaddr> {
        let due = self.unnamed.iter_mut().filter(|(_, retry)| retry.at <= now);
        due.map(|(address, retry)| {
            retry.dialled(now);
            address.clone()
        })
        .collect()
    }

    /// A peer's addresses.
    pub(crate) fn get(&self, peer: &PeerId) -> Vec<Multiaddr> {
        self.peers.get(peer).map_or_else(Vec::new, |entry| entry.addresses.clone())
    }

    /// All addresses with `/p2p/…`, the most recently confirmed peers first.
    pub(crate) fn to_vec(&self) -> Vec<Multiaddr> {
        let mut peers: Vec<_> = self.peers.iter().collect();
        peers.sort_by_key(|(_, entry)| Reverse(entry.confirmed));
        let with_peer = |(peer, entry): (&PeerId, &Entry)| {
            let peer = *peer;
            entry
                .addresses
                .clone()
                .into_iter()
                .map(move |address| address.with(Protocol::P2p(peer)))
        };
        peers.into_iter().flat_map(with_peer).collect()
    }

    /// Peers in the book.
    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }

    fn make_room(&mut self) -> bool {
        let unconfirmed = self.peers.iter().filter(|(_, entry)| entry.confirmed.is_none());
        let worst =
            unconfirmed.max_by_key(|(_, entry)| entry.retry.failures).map(|(peer, _)| *peer);
        worst.is_some_and(|peer| self.peers.remove(&peer).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/127.0.0.1/udp/{port}/quic-v1").parse().unwrap()
    }

    #[test]
    fn waits_grow_until_the_peer_is_forgotten() {
        let (mut book, now, peer) = (AddressBook::default(), Instant::now(), PeerId::random());
        book.insert(peer, &address(1), now);
        assert_eq!(book.take_due(now, 9, |_| true), [(peer, vec![address(1)])]);
        assert_eq!(book.take_due(now, 9, |_| true), []);
        for wait_s in [1, 2 + 1, 4 + 3, 8 + 7] {
            assert_eq!(book.take_due(now + Duration::from_secs(wait_s), 9, |_| true).len(), 1);
        }
        assert_eq!(book.take_due(now + RETRY_MAX, 9, |_| true), []);
        assert_eq!(book.len(), 0);
    }

    #[test]
    fn peers_that_were_connected_come_first_and_stay() {
        let (mut book, now) = (AddressBook::default(), Instant::now());
        let (stranger, friend) = (PeerId::random(), PeerId::random());
        book.insert(stranger, &address(1), now);
        book.connected(friend, Some(&address(2)), now);
        assert_eq!(book.take_due(now, 1, |_| true)[0].0, friend);
        for i in 0..20 {
            book.take_due(now + RETRY_MAX * i, 9, |_| true);
        }
        assert_eq!(book.get(&friend), [address(2)]);
        assert_eq!(book.get(&stranger), []);
    }

    #[test]
    fn strangers_do_not_push_out_those_that_were_connected() {
        let (mut book, now, friend) = (AddressBook::default(), Instant::now(), PeerId::random());
        book.connected(friend, Some(&address(1)), now);
        for _ in 0..PEERS_MAX + 10 {
            book.insert(PeerId::random(), &address(2), now);
        }
        assert_eq!(book.len(), PEERS_MAX);
        assert_eq!(book.get(&friend), [address(1)]);
    }

    #[test]
    fn addresses_of_a_peer_are_bounded() {
        let (mut book, now, peer) = (AddressBook::default(), Instant::now(), PeerId::random());
        for port in 1..100 {
            book.insert(peer, &address(port), now);
        }
        assert_eq!(book.get(&peer).len(), ADDRESSES_MAX);
        book.connected(peer, Some(&address(200)), now);
        assert_eq!(
            (book.get(&peer)[0].clone(), book.get(&peer).len()),
            (address(200), ADDRESSES_MAX)
        );
    }

    #[test]
    fn written_addresses_name_their_peers() {
        let (mut book, now, peer) = (AddressBook::default(), Instant::now(), PeerId::random());
        let named = address(7).with(Protocol::P2p(peer));
        book.configure(&named, now);
        book.configure(&address(8), now);
        assert_eq!(book.to_vec(), [named]);
        assert_eq!(book.take_due_unnamed(now), [address(8)]);
        assert_eq!(book.take_due_unnamed(now), [] as [Multiaddr; 0]);
    }
}
