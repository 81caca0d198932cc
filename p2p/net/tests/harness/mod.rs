//! Nodes on loopback whose events are kept, so that tests can wait for what should happen.

#![allow(dead_code, unreachable_pub, reason = "shared by test files, each of which uses a part")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lamina_p2p::{Offence, Request, Response, Topic, Verdict};
use lamina_p2p_net::{
    Config, DeliveryId, Error, Event, Handle, InboundId, Multiaddr, RequestError, peer_id, start,
};
use lamina_types::{ChainId, PeerKey};
use libp2p::multiaddr::Protocol;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

/// How long a condition may take to come true: long enough for a slow machine with other work.
const PATIENCE: Duration = Duration::from_secs(30);

pub const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
pub const TCP: &str = "/ip4/127.0.0.1/tcp/0";

pub fn chain() -> ChainId {
    "lamina-test-1".parse().unwrap()
}

/// A configuration for one machine: loopback, a free port, no multicast.
pub fn config(bootstrap: &[Multiaddr]) -> Config {
    Config {
        listen: vec![QUIC.parse().unwrap()],
        bootstrap: bootstrap.to_vec(),
        mdns: false,
        ..Config::default()
    }
}

/// A configuration with which a node knows only those peers that it's told, and those that were told of it.
pub fn fixed(bootstrap: &[Multiaddr]) -> Config {
    Config { discovery: false, ..config(bootstrap) }
}

pub fn secret(seed: u8) -> Zeroizing<[u8; 32]> {
    Zeroizing::new([seed; 32])
}

/// Waits until `check` says true.
///
/// # Panics
/// If it doesn't in time; `what` says what was waited for.
pub async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let done = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, done).await.is_ok(), "timed out: {what}");
}

/// What a node was told.
#[derive(Debug, Default)]
pub struct Seen {
    pub listening: Vec<Multiaddr>,
    pub connected: Vec<PeerKey>,
    pub disconnected: Vec<PeerKey>,
    pub gossip: Vec<(DeliveryId, PeerKey, Topic, Vec<u8>)>,
    pub requests: Vec<(PeerKey, InboundId, Request)>,
    pub responses: Vec<(PeerKey, u64, Result<Response, RequestError>)>,
    pub offences: Vec<(PeerKey, Offence)>,
}

impl Seen {
    fn take(&mut self, event: Event) {
        match event {
            Event::Listening(address) => self.listening.push(address),
            Event::PeerConnected { peer, .. } => self.connected.push(peer),
            Event::PeerDisconnected { peer } => self.disconnected.push(peer),
            Event::Gossip { delivery, from, topic, bytes } => {
                self.gossip.push((delivery, from, topic, bytes));
            }
            Event::Request { from, id, request } => self.requests.push((from, id, request)),
            Event::Response { from, id, response } => self.responses.push((from, id, response)),
            Event::Offence { peer, offence } => self.offences.push((peer, offence)),
        }
    }
}

/// A node whose events are kept.
pub struct Node {
    pub handle: Handle,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Node {
    /// Starts a node that gives all gossip this verdict, or none.
    pub async fn start(seed: u8, config: &Config, verdict: Option<Verdict>) -> Self {
        Self::start_on(&chain(), seed, config, verdict).await
    }

    pub async fn start_on(
        chain: &ChainId,
        seed: u8,
        config: &Config,
        verdict: Option<Verdict>,
    ) -> Self {
        let (handle, events, task) = start_when_free(config, seed, chain).await;
        let seen = Arc::new(Mutex::new(Seen::default()));
        tokio::spawn(keep(events, Arc::clone(&seen), handle.clone(), verdict));
        let node = Self { handle, seen, task };
        let listeners = config.listen.len();
        eventually("listening", async || node.see(|seen| seen.listening.len() >= listeners)).await;
        node
    }

    pub fn see<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap())
    }

    pub fn key(&self) -> PeerKey {
        self.handle.local_key()
    }

    /// Its first address, with `/p2p/…`.
    pub fn address(&self) -> Multiaddr {
        self.see(|seen| seen.listening[0].clone())
            .with(Protocol::P2p(peer_id(&self.key()).unwrap()))
    }

    pub async fn is_connected(&self, peer: PeerKey) -> bool {
        self.handle.status().await.unwrap().peers.iter().any(|status| status.peer == peer)
    }

    pub async fn wait_for(&self, peer: PeerKey) {
        eventually("connected", async || self.is_connected(peer).await).await;
    }

    /// Waits until `peers` of its peers are in the mesh of `topic`.
    pub async fn wait_for_mesh(&self, topic: Topic, peers: usize) {
        eventually("mesh", async || {
            let status = self.handle.status().await.unwrap();
            status.peers.iter().filter(|peer| peer.meshes.contains(&topic)).count() >= peers
        })
        .await;
    }

    /// What gossipsub thinks of a connected peer.
    pub async fn score(&self, peer: PeerKey) -> Option<f64> {
        let status = self.handle.status().await.unwrap();
        status.peers.iter().find(|status| status.peer == peer).map(|status| status.score)
    }

    pub fn has_gossip(&self, bytes: &[u8]) -> bool {
        self.see(|seen| seen.gossip.iter().any(|(_, _, _, content)| content == bytes))
    }

    pub fn has_offence(&self, peer: PeerKey, offence: Offence) -> bool {
        self.see(|seen| seen.offences.contains(&(peer, offence)))
    }

    pub fn response(&self, id: u64) -> Option<Result<Response, RequestError>> {
        self.see(|seen| {
            let found = seen.responses.iter().find(|(_, other, _)| *other == id);
            found.map(|(_, _, response)| response.clone())
        })
    }

    /// Stops it and waits until it has ended.
    pub async fn stop(self) {
        self.handle.shutdown();
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

/// A node that was just stopped may keep its QUIC port until its peers have heard of it.
async fn start_when_free(
    config: &Config,
    seed: u8,
    chain: &ChainId,
) -> (Handle, mpsc::Receiver<Event>, JoinHandle<()>) {
    let mut started = None;
    eventually("port is free", async || {
        started = match start(config, &secret(seed), chain) {
            Err(Error::PortTaken { .. }) => None,
            result => Some(result.unwrap()),
        };
        started.is_some()
    })
    .await;
    started.unwrap()
}

async fn keep(
    mut events: mpsc::Receiver<Event>,
    seen: Arc<Mutex<Seen>>,
    handle: Handle,
    verdict: Option<Verdict>,
) {
    while let Some(event) = events.recv().await {
        if let (Event::Gossip { delivery, .. }, Some(verdict)) = (&event, verdict) {
            handle.judge(*delivery, verdict).unwrap();
        }
        seen.lock().unwrap().take(event);
    }
}

/// A peer that keeps to libp2p, but not to Lamina's rules: it sends what bytes it's told.
pub mod rogue {
    use std::io;

    use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
    use lamina_p2p_net::Multiaddr;
    use lamina_types::{ChainId, PeerKey};
    use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, ValidationMode};
    use libp2p::request_response::{self, ProtocolSupport};
    use libp2p::swarm::{NetworkBehaviour, Swarm, SwarmEvent};
    use libp2p::{StreamProtocol, SwarmBuilder, identify, noise, tcp, yamux};

    use lamina_p2p_net::{peer_id, peer_key};

    #[derive(NetworkBehaviour)]
    pub struct Behaviour {
        pub identify: identify::Behaviour,
        pub gossip: gossipsub::Behaviour,
        pub exchange: request_response::Behaviour<RawCodec>,
    }

    pub struct Rogue {
        pub swarm: Swarm<Behaviour>,
        pub key: PeerKey,
    }

    impl Rogue {
        /// A peer that listens on loopback; its address is the second value.
        pub async fn start(seed: u8, chain: &ChainId) -> (Self, Multiaddr) {
            let keypair = libp2p::identity::Keypair::ed25519_from_bytes([seed; 32]).unwrap();
            let mut swarm = SwarmBuilder::with_existing_identity(keypair)
                .with_tokio()
                .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
                .unwrap()
                .with_quic()
                .with_behaviour(|keypair| behaviour(keypair, chain))
                .unwrap()
                .build();
            swarm.listen_on(super::QUIC.parse().unwrap()).unwrap();
            let address = loop {
                if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                    break address;
                }
            };
            let key = peer_key(&super::secret(seed));
            let id = peer_id(&key).unwrap();
            (Self { swarm, key }, address.with_p2p(id).unwrap())
        }

        pub fn subscribe(&mut self, topic: &str) {
            self.swarm.behaviour_mut().gossip.subscribe(&IdentTopic::new(topic)).unwrap();
        }

        pub fn publish(&mut self, topic: &str, bytes: Vec<u8>) -> bool {
            let gossip = &mut self.swarm.behaviour_mut().gossip;
            gossip.publish(IdentTopic::new(topic), bytes).is_ok()
        }

        /// Sends the bytes as they are, length included.
        pub fn ask(&mut self, peer: PeerKey, bytes: Vec<u8>) {
            let peer = peer_id(&peer).unwrap();
            self.swarm.behaviour_mut().exchange.send_request(&peer, bytes);
        }
    }

    /// Whether an event is a request; then it's answered with these bytes.
    pub fn answer(rogue: &mut Rogue, event: SwarmEvent<BehaviourEvent>, bytes: &[u8]) {
        if let SwarmEvent::Behaviour(BehaviourEvent::Exchange(request_response::Event::Message {
            message: request_response::Message::Request { channel, .. },
            ..
        })) = event
        {
            let exchange = &mut rogue.swarm.behaviour_mut().exchange;
            exchange.send_response(channel, bytes.to_vec()).unwrap();
        }
    }

    fn behaviour(keypair: &libp2p::identity::Keypair, chain: &ChainId) -> Behaviour {
        let version = format!("/lamina/{chain}/1");
        let exchange = StreamProtocol::try_from_owned(format!("/lamina/{chain}/exchange/3"));
        let config = gossipsub::ConfigBuilder::default()
            .validation_mode(ValidationMode::Anonymous)
            .max_transmit_size(1 << 20)
            .heartbeat_initial_delay(std::time::Duration::from_millis(100))
            .build()
            .unwrap();
        Behaviour {
            identify: identify::Behaviour::new(identify::Config::new(version, keypair.public())),
            gossip: gossipsub::Behaviour::new(MessageAuthenticity::Anonymous, config).unwrap(),
            exchange: request_response::Behaviour::new(
                [(exchange.unwrap(), ProtocolSupport::Full)],
                request_response::Config::default(),
            ),
        }
    }

    /// Bytes as they are.
    #[derive(Debug, Clone, Default)]
    pub struct RawCodec;

    impl request_response::Codec for RawCodec {
        type Protocol = StreamProtocol;
        type Request = Vec<u8>;
        type Response = Vec<u8>;

        async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
        where
            T: AsyncRead + Unpin + Send,
        {
            let mut length = [0; 4];
            io.read_exact(&mut length).await?;
            let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
            io.read_exact(&mut bytes).await?;
            Ok(bytes)
        }

        async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
        where
            T: AsyncRead + Unpin + Send,
        {
            let mut bytes = Vec::new();
            io.read_to_end(&mut bytes).await?;
            Ok(bytes)
        }

        async fn write_request<T>(
            &mut self,
            _: &StreamProtocol,
            io: &mut T,
            bytes: Vec<u8>,
        ) -> io::Result<()>
        where
            T: AsyncWrite + Unpin + Send,
        {
            io.write_all(&bytes).await
        }

        async fn write_response<T>(
            &mut self,
            _: &StreamProtocol,
            io: &mut T,
            bytes: Vec<u8>,
        ) -> io::Result<()>
        where
            T: AsyncWrite + Unpin + Send,
        {
            io.write_all(&bytes).await
        }
    }
}
