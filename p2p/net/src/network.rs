use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use lamina_p2p::{Offence, Request, Response, Topic, Verdict};
use lamina_types::{ChainId, PeerKey};
use libp2p::core::ConnectedPoint;
use libp2p::core::transport::TransportError;
use libp2p::gossipsub::{MessageAcceptance, MessageId, PublishError};
use libp2p::multiaddr::Protocol;
use libp2p::request_response::{self, Message, OutboundFailure};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{DialError, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, gossipsub, identify, kad, mdns, ping};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::Instrument as _;
use zeroize::Zeroizing;

use crate::addresses::AddressBook;
use crate::behaviour::{self, Behaviour, BehaviourEvent};
use crate::exchange::{Fault, fault_in};
use crate::gossip::{Topics, VERDICT_TIMEOUT};
use crate::handle::Command;
use crate::metrics::Counters;
use crate::outbox::Outbox;
use crate::reach::{Reach, is_spoken, without_peer};
use crate::requests::{Asks, Inbound, Refusal};
use crate::{
    COMMANDS_MAX, Config, DeliveryId, Error, Event, Handle, InboundId, PeerStatus, RequestError,
    Status, identity, peer_id, peer_key, peer_key_of,
};

/// Events that wait for the application. When it's full, gossip is ignored (nobody is blamed; what's missed comes with the
/// next exchange of inventories), requests are refused and offences dropped, all counted; the rest waits beside it.
pub const EVENTS_MAX: usize = 1024;
/// Questions that may be open; each may bring an answer of 1 MiB. Beyond, [`RequestError::TooMany`] is the answer.
pub const ASKS_OPEN_MAX: usize = 64;

/// Starts the network: listens, dials, and goes on until [`Handle::shutdown`], or until the last handle or the receiver of
/// events is dropped.
///
/// `secret` is the seed of the node's ed25519 key.
///
/// # Errors
/// [`Error`] if the configuration doesn't hold or listening fails.
///
/// # Panics
/// Outside a tokio runtime.
pub fn start(
    config: &Config,
    secret: &Zeroizing<[u8; 32]>,
    chain: &ChainId,
) -> Result<(Handle, mpsc::Receiver<Event>, JoinHandle<()>), Error> {
    config.check()?;
    let counters = Arc::new(Counters::default());
    let reach = Arc::new(Reach::new(config));
    let topics = Topics::new(chain);
    let keypair = identity::keypair(secret);
    let mut swarm =
        behaviour::swarm(config, &keypair, chain, &topics, Arc::clone(&reach), &counters)?;
    for address in &config.listen {
        listen(&mut swarm, address)?;
    }
    for address in &config.external {
        swarm.add_external_address(address.clone());
    }

    let (commands_in, commands) = mpsc::channel(COMMANDS_MAX);
    let (events, events_out) = mpsc::channel(EVENTS_MAX);
    let (stop_in, stop) = watch::channel(false);
    let local = peer_key(secret);
    let handle = Handle::new(commands_in, Arc::new(stop_in), Arc::clone(&counters), local);
    let outbox = Outbox::new(events, Arc::clone(&counters));
    let network = Network::new(config, chain, swarm, topics, reach, outbox, counters);
    let span = tracing::info_span!("network", peer = %local.short());
    let task = tokio::spawn(network.run(commands, stop).instrument(span));
    Ok((handle, events_out, task))
}

fn listen(swarm: &mut Swarm<Behaviour>, address: &Multiaddr) -> Result<(), Error> {
    if !is_spoken(address) {
        return Err(Error::Transport { address: address.clone() });
    }
    // Libp2p's TCP sockets share their port with any other of the same user, so that a second node would start unseen; and
    // its errors no longer tell that a port is taken.
    probe(address).map_err(|source| match port_of(address) {
        Some(port) if source.kind() == io::ErrorKind::AddrInUse => Error::PortTaken { port },
        _ => Error::Listen { address: address.clone(), source },
    })?;
    swarm.listen_on(address.clone()).map(|_| ()).map_err(|error| match error {
        TransportError::MultiaddrNotSupported(address) => Error::Transport { address },
        TransportError::Other(source) => Error::Listen { address: address.clone(), source },
    })
}

/// Takes the port for a moment.
fn probe(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let ip: Option<IpAddr> = match parts.next() {
        Some(Protocol::Ip4(ip)) => Some(ip.into()),
        Some(Protocol::Ip6(ip)) => Some(ip.into()),
        _ => None,
    };
    match (ip, parts.next()) {
        (Some(ip), Some(Protocol::Tcp(port))) => TcpListener::bind((ip, port)).map(drop),
        (Some(ip), Some(Protocol::Udp(port))) => UdpSocket::bind((ip, port)).map(drop),
        _ => Ok(()),
    }
}

fn port_of(address: &Multiaddr) -> Option<u16> {
    address.iter().find_map(|part| match part {
        Protocol::Tcp(port) | Protocol::Udp(port) => Some(port),
        _ => None,
    })
}

/// The task that owns the swarm.
struct Network {
    swarm: Swarm<Behaviour>,
    topics: Topics,
    protocol_version: String,
    reach: Arc<Reach>,
    outbox: Outbox,
    counters: Arc<Counters>,
    book: AddressBook,
    peers: BTreeMap<PeerId, Peer>,
    peers_target: usize,
    bans: BTreeMap<PeerId, Instant>,
    /// Messages that wait for their verdict, the oldest first; at most [`DELIVERIES_MAX`].
    deliveries: BTreeMap<DeliveryId, Delivery>,
    next_delivery: u64,
    inbound: Inbound,
    asks: Asks,
    walk: Walk,
}

/// A peer with at least one connection.
struct Peer {
    key: PeerKey,
    address: Multiaddr,
    dialled: bool,
    since: Instant,
    connections: u32,
    round_trip: Option<Duration>,
    /// What it says it runs, once it has shown that it belongs to this chain.
    agent: Option<String>,
}

struct Delivery {
    message: MessageId,
    from: PeerId,
    topic: Topic,
    at: Instant,
}

/// When to look for peers next: soon as long as new ones turn up, then ever more seldom.
struct Walk {
    at: Instant,
    wait: Duration,
}

impl Network {
    fn new(
        config: &Config,
        chain: &ChainId,
        swarm: Swarm<Behaviour>,
        topics: Topics,
        reach: Arc<Reach>,
        outbox: Outbox,
        counters: Arc<Counters>,
    ) -> Self {
        let now = Instant::now();
        let mut book = AddressBook::default();
        config.bootstrap.iter().for_each(|address| book.configure(address, now));
        Self {
            swarm,
            topics,
            protocol_version: behaviour::protocol_version(chain),
            reach,
            outbox,
            counters,
            book,
            peers: BTreeMap::new(),
            peers_target: config.peers_target as usize,
            bans: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            next_delivery: 0,
            inbound: Inbound::new(config),
            asks: Asks::new(),
            walk: Walk { at: now, wait: WALK_MIN },
        }
    }

    async fn run(mut self, mut commands: mpsc::Receiver<Command>, mut stop: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let queue = self.outbox.queue().clone();
        tracing::info!("network started");
        loop {
            tokio::select! {
                biased;
                // Also ends when the last handle is dropped, which drops the sender.
                _ = stop.wait_for(|stop| *stop) => break,
                () = queue.closed() => break,
                room = queue.reserve(), if self.outbox.is_waiting() => {
                    drop(room);
                    self.outbox.flush();
                }
                Some(command) = commands.recv() => self.handle_command(command),
                _ = tick.tick() => self.handle_tick(Instant::now()),
                event = self.swarm.select_next_some() => self.handle_event(event),
            }
        }
        self.close().await;
        tracing::info!("network stopped");
    }

    /// Closes all connections, so that peers know at once.
    async fn close(&mut self) {
        let peers: Vec<_> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            // An error means that it's gone already.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let gone = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, gone).await.is_err() {
            tracing::debug!("connections not closed in time");
        }
    }
}

/// What the application asks.
impl Network {
    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Publish { topic, bytes } => self.publish(topic, bytes),
            Command::Judge { delivery, verdict } => self.judge(delivery, verdict),
            Command::Ask { peer, id, request } => self.ask(peer, id, request),
            Command::Answer { id, response } => self.answer(id, response),
            Command::SetScore { peer, score } => {
                if let Some(peer) = peer_id(&peer) {
                    self.swarm.behaviour_mut().gossip.set_application_score(&peer, score);
                }
            }
            Command::Ban { peer, duration } => {
                if let Some(peer) = peer_id(&peer) {
                    self.counters.bans.increment();
                    self.ban(peer, duration);
                }
            }
            Command::Dial(address) => self.book.configure(&address, Instant::now()),
            // A receiver that's gone doesn't want the answer any more.
            Command::Status(sender) => drop(sender.send(self.status())),
            Command::KnownAddresses(sender) => drop(sender.send(self.book.to_vec())),
        }
    }

    fn publish(&mut self, topic: Topic, bytes: Vec<u8>) {
        let counters = Arc::clone(&self.counters);
        let counters = counters.topic(topic);
        let length = bytes.len();
        if length > topic.bytes_max() {
            counters.publish_failed.increment();
            tracing::error!(topic = topic.name(), bytes = length, "own message is too long");
            return;
        }
        match self.swarm.behaviour_mut().gossip.publish(self.topics.hash(topic), bytes) {
            Ok(_) => {
                counters.published.increment();
                counters.published_bytes.add(length as u64);
            }
            Err(PublishError::Duplicate) => {
                tracing::debug!(topic = topic.name(), "message is known already");
            }
            Err(error) => {
                counters.publish_failed.increment();
                tracing::debug!(topic = topic.name(), %error, "message not published");
            }
        }
    }

    fn judge(&mut self, delivery: DeliveryId, verdict: Verdict) {
        if let Some(delivery) = self.deliveries.remove(&delivery) {
            self.report(&delivery, verdict);
        }
    }

    fn report(&mut self, delivery: &Delivery, verdict: Verdict) {
        let counters = self.counters.topic(delivery.topic);
        let (counter, acceptance) = match verdict {
            Verdict::Accept => (&counters.accepted, MessageAcceptance::Accept),
            Verdict::Ignore => (&counters.ignored, MessageAcceptance::Ignore),
            Verdict::Reject => (&counters.rejected, MessageAcceptance::Reject),
        };
        counter.increment();
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        gossip.report_message_validation_result(&delivery.message, &delivery.from, acceptance);
    }

    fn ask(&mut self, peer: PeerKey, id: u64, request: Request) {
        self.counters.requests_out.increment();
        let Some(target) = peer_id(&peer) else {
            return self.tell_failure(peer, id, RequestError::Unreachable);
        };
        if self.asks.len() >= ASKS_OPEN_MAX {
            return self.tell_failure(peer, id, RequestError::TooMany);
        }
        let addresses = self.book.get(&target);
        let exchange = &mut self.swarm.behaviour_mut().exchange;
        let ask = exchange.send_request_with_addresses(&target, Ok(request), addresses);
        self.asks.insert(ask, (peer, id));
    }

    fn tell_failure(&mut self, from: PeerKey, id: u64, error: RequestError) {
        self.counters.requests_out_failed.increment();
        self.outbox.tell(Event::Response { from, id, response: Err(error) });
    }

    fn answer(&mut self, id: InboundId, response: Response) {
        let Some(channel) = self.inbound.answer(id.0) else { return };
        if self.swarm.behaviour_mut().exchange.send_response(channel, response).is_err() {
            self.inbound.close(id.0);
        }
    }

    /// Keeps a peer out until then. The ban that ends first makes room when there are too many.
    fn ban(&mut self, peer: PeerId, duration: Duration) {
        let now = Instant::now();
        let until = now.checked_add(duration).unwrap_or_else(|| now + BAN_MAX).min(now + BAN_MAX);
        if self.bans.len() >= BANS_MAX && !self.bans.contains_key(&peer) {
            let first = self.bans.iter().min_by_key(|(_, until)| **until).map(|(peer, _)| *peer);
            if let Some(first) = first {
                self.unban(first);
            }
        }
        tracing::debug!(%peer, ?duration, "peer banned");
        self.bans.insert(peer, until);
        self.swarm.behaviour_mut().blocked.block_peer(peer);
    }

    fn unban(&mut self, peer: PeerId) {
        self.bans.remove(&peer);
        self.swarm.behaviour_mut().blocked.unblock_peer(peer);
    }

    fn status(&self) -> Status {
        let local = *self.swarm.local_peer_id();
        let listening = self.swarm.listeners().chain(self.swarm.external_addresses());
        let mut peers: Vec<_> = self
            .peers
            .iter()
            .filter_map(|(id, peer)| Some(self.peer_status(id, peer, peer.agent.as_ref()?)))
            .collect();
        peers.sort_by_key(|peer| peer.peer);
        Status {
            local: peer_key_of(&local).expect("made from an ed25519 key"),
            listening: listening.map(|address| with_peer(address, local)).collect(),
            peers,
            peers_known: self.book.len(),
            peers_banned: self.bans.len(),
        }
    }

    fn peer_status(&self, id: &PeerId, peer: &Peer, agent: &str) -> PeerStatus {
        let gossip = &self.swarm.behaviour().gossip;
        let in_mesh = |hash| gossip.mesh_peers(hash).any(|member| member == id);
        let meshes = self.topics.iter().filter(|(_, hash)| in_mesh(hash));
        PeerStatus {
            peer: peer.key,
            address: peer.address.clone(),
            dialled: peer.dialled,
            connections: peer.connections,
            round_trip: peer.round_trip,
            score: gossip.peer_score(id).unwrap_or(0.0),
            meshes: meshes.map(|(topic, _)| topic).collect(),
            agent: agent.to_owned(),
        }
    }
}

/// What time brings.
impl Network {
    fn handle_tick(&mut self, now: Instant) {
        self.end_bans(now);
        self.ignore_unjudged(now);
        self.inbound.tidy(now);
        self.disconnect_silent(now);
        if self.members() < self.peers_target {
            self.dial_due(now);
        }
        if now >= self.walk.at {
            self.walk(now);
        }
    }

    fn end_bans(&mut self, now: Instant) {
        let ended = self.bans.iter().filter(|(_, until)| **until <= now);
        let ended: Vec<_> = ended.map(|(peer, _)| *peer).collect();
        ended.into_iter().for_each(|peer| self.unban(peer));
    }

    fn ignore_unjudged(&mut self, now: Instant) {
        while let Some(first) = self.deliveries.first_entry() {
            if now.saturating_duration_since(first.get().at) < VERDICT_TIMEOUT {
                return;
            }
            let delivery = first.remove();
            self.counters.verdicts_missed.increment();
            self.report(&delivery, Verdict::Ignore);
        }
    }

    /// Disconnects those that don't say which chain they belong to.
    fn disconnect_silent(&mut self, now: Instant) {
        let silent = |peer: &Peer| peer.agent.is_none() && now - peer.since > IDENTIFY_TIMEOUT;
        let silent = self.peers.iter().filter(|(_, peer)| silent(peer)).map(|(id, _)| *id);
        for peer in silent.collect::<Vec<_>>() {
            self.disconnect(peer);
        }
    }

    fn dial_due(&mut self, now: Instant) {
        let missing = self.peers_target - self.members();
        let wanted =
            |peer: &PeerId| !self.peers.contains_key(peer) && !self.bans.contains_key(peer);
        let due = self.book.take_due(now, missing.min(DIALS_PER_TICK_MAX), wanted);
        for (peer, addresses) in due {
            self.dial(DialOpts::peer_id(peer).addresses(addresses).build());
        }
        for address in self.book.take_due_unnamed(now) {
            let known = self.peers.values().any(|peer| peer.dialled && peer.address == address);
            if !known {
                self.dial(DialOpts::unknown_peer_id().address(address).build());
            }
        }
    }

    fn dial(&mut self, options: DialOpts) {
        // Also refused when a dial to this peer is on its way, or there are too many.
        if let Err(error) = self.swarm.dial(options) {
            tracing::debug!(%error, "not dialled");
        }
    }

    fn walk(&mut self, now: Instant) {
        self.walk.at = now + self.walk.wait;
        self.walk.wait = (self.walk.wait * 2).min(WALK_MAX);
        let local = *self.swarm.local_peer_id();
        if let Some(kad) = self.swarm.behaviour_mut().kad.as_mut() {
            kad.get_closest_peers(local);
            kad.get_closest_peers(PeerId::random());
        }
    }

    fn members(&self) -> usize {
        self.peers.values().filter(|peer| peer.agent.is_some()).count()
    }
}

/// What the swarm tells.
impl Network {
    fn handle_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.handle_behaviour(event),
            SwarmEvent::ConnectionEstablished { peer_id, endpoint, .. } => {
                self.handle_connected(peer_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established, .. } => {
                self.handle_disconnected(peer_id, num_established);
            }
            SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => {
                self.counters.connections_failed.increment();
                self.handle_dial_error(peer_id, &error);
            }
            SwarmEvent::IncomingConnectionError { error, .. } => {
                self.counters.connections_failed.increment();
                tracing::debug!(%error, "inbound connection failed");
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                tracing::info!(%address, "listening");
                self.reach.listen(&address);
                self.outbox.tell(Event::Listening(address));
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "listener failed"),
            SwarmEvent::ListenerClosed { addresses, reason: Err(error), .. } => {
                tracing::error!(?addresses, %error, "no longer listening; restart the node");
            }
            _ => {}
        }
    }

    fn handle_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gossip(event) => self.handle_gossip(event),
            BehaviourEvent::Exchange(event) => self.handle_exchange(event),
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.handle_identified(peer_id, &info);
            }
            BehaviourEvent::Ping(event) => self.handle_ping(&event),
            BehaviourEvent::Kad(event) => self.handle_kad(event),
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
                for (peer, address) in found {
                    self.hear_of(peer, &[address]);
                }
            }
            _ => {}
        }
    }

    fn handle_connected(&mut self, id: PeerId, endpoint: &ConnectedPoint) {
        let Some(key) = peer_key_of(&id) else {
            self.counters.peers_foreign.increment();
            return self.disconnect(id);
        };
        let peer = self.peers.entry(id).or_insert_with(|| Peer {
            key,
            address: without_peer(endpoint.get_remote_address()),
            dialled: endpoint.is_dialer(),
            since: Instant::now(),
            connections: 0,
            round_trip: None,
            agent: None,
        });
        peer.connections += 1;
        self.update_gauges();
    }

    fn handle_disconnected(&mut self, id: PeerId, connections: u32) {
        if connections > 0 {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.connections = connections;
            }
        } else if let Some(peer) = self.peers.remove(&id)
            && peer.agent.is_some()
        {
            tracing::debug!(peer = %peer.key.short(), "peer disconnected");
            self.outbox.tell(Event::PeerDisconnected { peer: peer.key });
        }
        self.update_gauges();
    }

    fn handle_dial_error(&mut self, peer: Option<PeerId>, error: &DialError) {
        tracing::debug!(peer = ?peer, %error, "dial failed");
        if let (Some(peer), DialError::WrongPeerId { address, .. }) = (peer, error) {
            self.book.remove_address(&peer, address);
        }
    }

    fn handle_identified(&mut self, id: PeerId, info: &identify::Info) {
        if info.protocol_version != self.protocol_version {
            tracing::debug!(peer = %id, "peer belongs to another chain");
            return self.refuse_foreigner(id);
        }
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let agent = info.agent_version.chars().filter(char::is_ascii_graphic);
        let agent: String = agent.take(AGENT_CHARS_MAX).collect();
        if peer.agent.as_ref().is_some_and(|before| *before != agent) {
            return self.handle_restarted(id, info);
        }
        let known = peer.agent.replace(agent).is_some();
        let (key, address, dialled) = (peer.key, peer.address.clone(), peer.dialled);
        self.take_addresses(id, &info.listen_addrs, dialled.then_some(&address));
        if !known {
            tracing::debug!(peer = %key.short(), %address, "peer connected");
            self.outbox.tell(Event::PeerConnected { peer: key, address });
            self.look_again();
            self.update_gauges();
        }
    }

    /// A peer was restarted, and an older connection of it isn't known to be dead yet. Gossipsub has told the old process what
    /// this node subscribes to, and says it again on a first connection only: so there must be one.
    fn handle_restarted(&mut self, id: PeerId, info: &identify::Info) {
        tracing::debug!(peer = %id, "peer was restarted");
        self.take_addresses(id, &info.listen_addrs, None);
        self.disconnect(id);
        self.look_again();
    }

    /// Takes what a peer says of itself, and where it was dialled.
    fn take_addresses(&mut self, id: PeerId, told: &[Multiaddr], dialled: Option<&Multiaddr>) {
        let told = told.iter().take(TOLD_ADDRESSES_MAX);
        let admitted: Vec<_> = told.filter(|address| self.reach.admits(address)).cloned().collect();
        self.book.announce(id, &admitted, Instant::now());
        self.book.connected(id, dialled, Instant::now());
        if let Some(kad) = self.swarm.behaviour_mut().kad.as_mut() {
            for address in admitted {
                kad.add_address(&id, address);
            }
        }
    }

    /// Keeps a peer of another chain away for a while, or both would dial each other for ever.
    fn refuse_foreigner(&mut self, id: PeerId) {
        self.counters.peers_foreign.increment();
        self.book.remove(&id);
        if let Some(kad) = self.swarm.behaviour_mut().kad.as_mut() {
            kad.remove_peer(&id);
        }
        self.ban(id, FOREIGN_BAN);
    }

    /// Someone new may know others.
    fn look_again(&mut self) {
        if self.members() < self.peers_target {
            self.walk.wait = WALK_MIN;
            self.walk.at = self.walk.at.min(Instant::now() + WALK_MIN);
        }
    }

    fn handle_ping(&mut self, event: &ping::Event) {
        match &event.result {
            Ok(round_trip) => {
                if let Some(peer) = self.peers.get_mut(&event.peer) {
                    peer.round_trip = Some(*round_trip);
                }
            }
            Err(ping::Failure::Unsupported) => {}
            Err(error) => {
                tracing::debug!(peer = %event.peer, %error, "ping failed");
                self.swarm.close_connection(event.connection);
            }
        }
    }

    fn handle_kad(&mut self, event: kad::Event) {
        let kad::Event::OutboundQueryProgressed {
            result: kad::QueryResult::GetClosestPeers(result),
            ..
        } = event
        else {
            return;
        };
        let found = match result {
            Ok(found) => found.peers,
            Err(kad::GetClosestPeersError::Timeout { peers, .. }) => peers,
        };
        for peer in found {
            self.hear_of(peer.peer_id, &peer.addrs);
        }
    }

    /// Takes others' word for where a peer is.
    fn hear_of(&mut self, peer: PeerId, addresses: &[Multiaddr]) {
        if peer == *self.swarm.local_peer_id() || peer_key_of(&peer).is_none() {
            return;
        }
        let now = Instant::now();
        for address in addresses.iter().take(TOLD_ADDRESSES_MAX) {
            if self.reach.admits(address) {
                self.book.insert(peer, address, now);
            }
        }
    }

    fn disconnect(&mut self, peer: PeerId) {
        // An error means that it's gone already.
        let _ = self.swarm.disconnect_peer_id(peer);
    }

    fn update_gauges(&self) {
        let info = self.swarm.network_info();
        let counters = info.connection_counters();
        self.counters.peers_connected.set(self.members() as u64);
        self.counters.connections_in.set(counters.num_established_incoming().into());
        self.counters.connections_out.set(counters.num_established_outgoing().into());
    }

    fn offend(&mut self, peer: &PeerId, offence: Offence) {
        if let Some(peer) = peer_key_of(peer) {
            tracing::debug!(peer = %peer.short(), offence = offence.name(), "offence");
            self.counters.offences.increment();
            self.outbox.offer(Event::Offence { peer, offence });
        }
    }
}

/// Gossip.
impl Network {
    fn handle_gossip(&mut self, event: gossipsub::Event) {
        let gossipsub::Event::Message { propagation_source, message_id, message } = event else {
            return;
        };
        let Some(topic) = self.topics.of(&message.topic) else { return };
        let at = Instant::now();
        let delivery = Delivery { message: message_id, from: propagation_source, topic, at };
        if message.data.len() > topic.bytes_max() {
            self.counters.topic(topic).dropped.increment();
            self.report(&delivery, Verdict::Reject);
            return self.offend(&propagation_source, Offence::Oversized);
        }
        if !self.deliver(&delivery, message.data) {
            self.counters.topic(topic).dropped.increment();
            return self.report(&delivery, Verdict::Ignore);
        }
        self.counters.topic(topic).delivered.increment();
        self.deliveries.insert(DeliveryId(self.next_delivery), delivery);
        self.next_delivery += 1;
    }

    fn deliver(&mut self, delivery: &Delivery, bytes: Vec<u8>) -> bool {
        let Some(from) = peer_key_of(&delivery.from) else { return false };
        if self.deliveries.len() >= DELIVERIES_MAX {
            self.counters.events_dropped.increment();
            return false;
        }
        let topic = delivery.topic;
        self.outbox.offer(Event::Gossip {
            delivery: DeliveryId(self.next_delivery),
            from,
            topic,
            bytes,
        })
    }
}

/// Requests and responses.
impl Network {
    fn handle_exchange(
        &mut self,
        event: request_response::Event<Result<Request, Fault>, Response>,
    ) {
        use request_response::Event as E;
        match event {
            E::Message {
                peer, message: Message::Request { request_id, request, channel }, ..
            } => {
                self.handle_request(peer, request_id, request, channel);
            }
            E::Message { message: Message::Response { request_id, response }, .. } => {
                if let Some((from, id)) = self.asks.remove(&request_id) {
                    self.outbox.tell(Event::Response { from, id, response: Ok(response) });
                }
            }
            E::OutboundFailure { peer, request_id, error, .. } => {
                tracing::debug!(%peer, %error, "question failed");
                let error = self.judge_outbound(&peer, &error);
                if let Some((from, id)) = self.asks.remove(&request_id) {
                    self.tell_failure(from, id, error);
                }
            }
            E::InboundFailure { peer, request_id, error, .. } => {
                self.inbound.close(request_id);
                tracing::debug!(%peer, %error, "request not answered");
            }
            E::ResponseSent { request_id, .. } => {
                self.counters.answers_sent.increment();
                self.inbound.close(request_id);
            }
        }
    }

    fn handle_request(
        &mut self,
        peer: PeerId,
        id: request_response::InboundRequestId,
        request: Result<Request, Fault>,
        channel: request_response::ResponseChannel<Response>,
    ) {
        let Some(from) = peer_key_of(&peer) else { return };
        let request = match request {
            Ok(request) => request,
            Err(fault) => {
                self.counters.requests_in_refused.increment();
                return self.offend(&peer, fault.offence());
            }
        };
        let opened = self.inbound.open(Instant::now(), peer, id, channel);
        let event = Event::Request { from, id: InboundId(id), request };
        match opened {
            Ok(()) if self.outbox.offer(event) => return self.counters.requests_in.increment(),
            Ok(()) => self.inbound.close(id),
            Err(Refusal::TooMany) => self.offend(&peer, Offence::TooMany),
            Err(Refusal::Busy) => {}
        }
        self.counters.requests_in_refused.increment();
    }

    /// What to tell the application of a failed question; holds it against the peer if it's its fault.
    fn judge_outbound(&mut self, peer: &PeerId, error: &OutboundFailure) -> RequestError {
        match error {
            OutboundFailure::DialFailure => RequestError::Unreachable,
            OutboundFailure::Timeout => RequestError::Timeout,
            OutboundFailure::ConnectionClosed => RequestError::Closed,
            OutboundFailure::UnsupportedProtocols => RequestError::Unsupported,
            OutboundFailure::Io(error) => match fault_in(error).map(|fault| fault.offence()) {
                None => RequestError::Closed,
                Some(offence) => {
                    self.offend(peer, offence);
                    match offence {
                        Offence::Oversized => RequestError::Oversized,
                        _ => RequestError::Malformed,
                    }
                }
            },
        }
    }
}

fn with_peer(address: &Multiaddr, peer: PeerId) -> Multiaddr {
    address.clone().with_p2p(peer).unwrap_or_else(|address| address)
}

/// How often the network looks after itself.
const TICK: Duration = Duration::from_millis(250);
/// Wait between two searches for peers, doubled each time nothing new was found.
const WALK_MIN: Duration = Duration::from_secs(1);
/// Longest wait between two searches for peers.
const WALK_MAX: Duration = Duration::from_secs(300);
/// Peers that are dialled in a tick; the rest waits for the next, so that a start doesn't look like an attack.
const DIALS_PER_TICK_MAX: usize = 8;
/// How long a peer has to say which chain it belongs to.
const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a peer of another chain is kept away: short, since it may be a node whose configuration is being mended.
const FOREIGN_BAN: Duration = Duration::from_secs(60);
/// Longest ban.
const BAN_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Most bans at a time.
const BANS_MAX: usize = 4096;
/// Messages that wait for their verdict; beyond, new ones are ignored and counted. With 64 KiB each: 64 MiB.
const DELIVERIES_MAX: usize = 1024;
/// Addresses that are taken when somebody tells some.
const TOLD_ADDRESSES_MAX: usize = 16;
/// Characters that are kept of what a peer says it runs.
const AGENT_CHARS_MAX: usize = 64;
/// How long closing all connections may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
