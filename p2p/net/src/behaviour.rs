use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lamina_types::ChainId;
use libp2p::allow_block_list::{self, BlockedPeers};
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::Transport as _;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::kad::store::MemoryStore;
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{self, NetworkBehaviour, Swarm};
use libp2p::{PeerId, StreamProtocol, dns, identify, kad, mdns, noise, ping, quic, tcp, yamux};

use crate::exchange::{self, Codec};
use crate::gossip::{self, Gossipsub, Topics};
use crate::metrics::Counters;
use crate::reach::{Guarded, Reach};
use crate::{Config, Error};

/// All protocols of a node. Those that refuse connections come first.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) blocked: allow_block_list::Behaviour<BlockedPeers>,
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) identify: identify::Behaviour,
    pub(crate) ping: ping::Behaviour,
    pub(crate) kad: Toggle<kad::Behaviour<MemoryStore>>,
    pub(crate) mdns: Toggle<mdns::tokio::Behaviour>,
    pub(crate) gossip: Gossipsub,
    pub(crate) exchange: request_response::Behaviour<Codec>,
}

/// What peers of a chain say in `identify`, and nobody else.
pub(crate) fn protocol_version(chain: &ChainId) -> String {
    format!("/lamina/{chain}/1")
}

/// The swarm, not yet listening.
pub(crate) fn swarm(
    config: &Config,
    keypair: &Keypair,
    chain: &ChainId,
    topics: &Topics,
    reach: Arc<Reach>,
    counters: &Arc<Counters>,
) -> Result<Swarm<Behaviour>, Error> {
    let local = keypair.public().to_peer_id();
    let behaviour = Behaviour {
        blocked: allow_block_list::Behaviour::default(),
        limits: connection_limits::Behaviour::new(limits(config)),
        identify: identify(keypair, chain),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_INTERVAL)),
        kad: config.discovery.then(|| kademlia(local, chain)).into(),
        mdns: multicast(config, local)?.into(),
        gossip: gossip::behaviour(topics, config.seen, counters),
        exchange: exchange_behaviour(config, chain),
    };
    let swarm_config = swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(IDLE_TIMEOUT)
        .with_max_negotiating_inbound_streams(STREAMS_NEGOTIATING_MAX)
        .with_smart_dial();
    Ok(Swarm::new(transport(keypair, reach)?, behaviour, local, swarm_config))
}

fn transport(
    keypair: &Keypair,
    reach: Arc<Reach>,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, Error> {
    let noise = noise::Config::new(keypair).expect("an ed25519 key signs");
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let quic = quic::tokio::Transport::new(quic::Config::new(keypair))
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let either = quic.or_transport(tcp).map(|either, _| either.into_inner());
    let named = dns::tokio::Transport::system(either).map_err(Error::Dns)?;
    Ok(Guarded::new(TransportTimeout::new(named, HANDSHAKE_TIMEOUT), reach).boxed())
}

fn limits(config: &Config) -> ConnectionLimits {
    ConnectionLimits::default()
        .with_max_established_incoming(Some(config.connections_in_max))
        .with_max_established_outgoing(Some(config.connections_out_max))
        .with_max_pending_incoming(Some(config.connections_pending_max))
        .with_max_pending_outgoing(Some(config.connections_pending_max))
        .with_max_established_per_peer(Some(config.connections_per_peer_max))
}

fn identify(keypair: &Keypair, chain: &ChainId) -> identify::Behaviour {
    // The moment of the start tells peers that a node was restarted while they still take an older connection for alive.
    let start = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    let agent = format!("lamina/{}+{start:x}", env!("CARGO_PKG_VERSION"));
    let config = identify::Config::new(protocol_version(chain), keypair.public())
        .with_agent_version(agent)
        .with_push_listen_addr_updates(true)
        .with_cache_size(0);
    identify::Behaviour::new(config)
}

/// Kademlia as a way to find peers: nobody's records are kept.
fn kademlia(local: PeerId, chain: &ChainId) -> kad::Behaviour<MemoryStore> {
    let name = format!("/lamina/{chain}/kad/1");
    let protocol = StreamProtocol::try_from_owned(name).expect("begins with a slash");
    let mut config = kad::Config::new(protocol);
    config
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_caching(kad::Caching::Disabled)
        .set_periodic_bootstrap_interval(None)
        .set_query_timeout(QUERY_TIMEOUT);
    let mut kad = kad::Behaviour::with_config(local, MemoryStore::new(local), config);
    kad.set_mode(Some(kad::Mode::Server));
    kad
}

fn multicast(config: &Config, local: PeerId) -> Result<Option<mdns::tokio::Behaviour>, Error> {
    if !config.mdns {
        return Ok(None);
    }
    mdns::tokio::Behaviour::new(mdns::Config::default(), local).map(Some).map_err(Error::Mdns)
}

fn exchange_behaviour(config: &Config, chain: &ChainId) -> request_response::Behaviour<Codec> {
    let request_config = request_response::Config::default()
        .with_request_timeout(config.request_timeout)
        .with_max_concurrent_streams(EXCHANGE_STREAMS_MAX);
    let protocols = [(exchange::protocol(chain), ProtocolSupport::Full)];
    request_response::Behaviour::new(protocols, request_config)
}

/// How long a handshake may take; libp2p's own default.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection lives on which no protocol has a stream. Gossipsub's streams keep those of peers.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Time between two pings. A ping that fails closes its connection.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// How long a search for peers may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(30);
/// Streams of one connection whose protocol isn't agreed yet. Libp2p's default, 128, is for larger protocols' sake.
const STREAMS_NEGOTIATING_MAX: usize = 64;
/// Requests and questions on one connection. What's above is dropped by libp2p before it's read.
const EXCHANGE_STREAMS_MAX: usize = 64;
