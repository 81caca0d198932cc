//! Gossipsub's parameters; their reasons are in `p2p/DESIGN.md`.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use lamina_p2p::{BAN, GOSSIP_BYTES_MAX, HALF_LIFE, Topic, message_id};
use lamina_types::ChainId;
use libp2p::gossipsub::{
    Behaviour, Config, ConfigBuilder, DataTransform, IdentTopic, Message, MessageAuthenticity,
    MessageId, PeerScoreParams, PeerScoreThresholds, RawMessage, TopicHash, TopicScoreParams,
    ValidationMode, WhitelistSubscriptionFilter, score_parameter_decay,
};

use crate::metrics::Counters;

/// Gossipsub as Lamina speaks it.
pub(crate) type Gossipsub = Behaviour<Counting, WhitelistSubscriptionFilter>;

/// How long the application has for a verdict; a heartbeat less than messages are kept ([`HISTORY`]).
pub(crate) const VERDICT_TIMEOUT: Duration = Duration::from_millis(HEARTBEAT_MS * (HISTORY - 1));

/// Gossipsub, subscribed to all topics. `seen` is how long a message is remembered.
pub(crate) fn behaviour(topics: &Topics, seen: Duration, counters: &Arc<Counters>) -> Gossipsub {
    let counting = Counting { topics: topics.clone(), counters: Arc::clone(counters) };
    let filter = WhitelistSubscriptionFilter(topics.hashes.iter().cloned().collect());
    let mut gossip = Behaviour::new_with_subscription_filter_and_transform(
        MessageAuthenticity::Anonymous,
        config(seen),
        filter,
        counting,
    )
    .expect("anonymous messages and anonymous validation belong together");
    gossip.with_peer_score(score(topics), thresholds()).expect("the constants are in range");
    for name in &topics.hashes {
        gossip.subscribe(&IdentTopic::new(name.as_str())).expect("the filter admits it");
    }
    gossip
}

/// The topics and their names on the wire.
#[derive(Debug, Clone)]
pub(crate) struct Topics {
    hashes: [TopicHash; Topic::ALL.len()],
    by_hash: Arc<HashMap<TopicHash, Topic>>,
}

impl Topics {
    pub(crate) fn new(chain: &ChainId) -> Self {
        let hashes = Topic::ALL.map(|topic| IdentTopic::new(topic.wire_name(chain)).hash());
        let by_hash = Arc::new(hashes.iter().cloned().zip(Topic::ALL).collect());
        Self { hashes, by_hash }
    }

    pub(crate) fn of(&self, hash: &TopicHash) -> Option<Topic> {
        self.by_hash.get(hash).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Topic, &TopicHash)> {
        Topic::ALL.into_iter().zip(&self.hashes)
    }

    pub(crate) fn hash(&self, topic: Topic) -> TopicHash {
        let found = self.iter().find(|(other, _)| *other == topic);
        found.expect("all topics have a name").1.clone()
    }
}

/// Counts what arrives before gossipsub drops the copies.
#[derive(Debug, Clone)]
pub(crate) struct Counting {
    topics: Topics,
    counters: Arc<Counters>,
}

impl DataTransform for Counting {
    fn inbound_transform(&self, raw: RawMessage) -> io::Result<Message> {
        if let Some(topic) = self.topics.of(&raw.topic) {
            let counters = self.counters.topic(topic);
            counters.received.increment();
            counters.received_bytes.add(raw.data.len() as u64);
        }
        let RawMessage { source, data, sequence_number, topic, .. } = raw;
        Ok(Message { source, data, sequence_number, topic })
    }

    fn outbound_transform(&self, _: &TopicHash, data: Vec<u8>) -> io::Result<Vec<u8>> {
        Ok(data)
    }
}

fn config(seen: Duration) -> Config {
    ConfigBuilder::default()
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|m: &Message| MessageId::new(&message_id(m.topic.as_str(), &m.data)))
        .max_transmit_size(2 * GOSSIP_BYTES_MAX)
        .duplicate_cache_time(seen)
        .heartbeat_initial_delay(Duration::from_millis(100))
        .heartbeat_interval(Duration::from_millis(HEARTBEAT_MS))
        .history_length(usize::try_from(HISTORY).expect("small"))
        .history_gossip(4)
        .mesh_n(8)
        .mesh_n_low(6)
        .mesh_n_high(12)
        .mesh_outbound_min(3)
        .gossip_lazy(6)
        .gossip_factor(0.25)
        .flood_publish(true)
        .idontwant_message_size_threshold(1000)
        .prune_backoff(Duration::from_secs(15))
        .graft_flood_threshold(Duration::from_secs(3))
        .connection_handler_queue_len(512)
        .forward_queue_duration(Duration::from_secs(3))
        .max_publish_messages(512)
        .max_control_messages_sent(512)
        .build()
        .expect("the constants fit each other")
}

fn score(topics: &Topics) -> PeerScoreParams {
    PeerScoreParams {
        topics: topics.hashes.iter().map(|hash| (hash.clone(), topic_score())).collect(),
        topic_score_cap: 20.0,
        app_specific_weight: 1.0,
        ip_colocation_factor_weight: -1.0,
        ip_colocation_factor_threshold: 10.0,
        ip_colocation_factor_whitelist: [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            .into(),
        behaviour_penalty_weight: -5.0,
        behaviour_penalty_threshold: 6.0,
        behaviour_penalty_decay: score_parameter_decay(Duration::from_secs(60)),
        retain_score: BAN,
        ..PeerScoreParams::default()
    }
}

fn topic_score() -> TopicScoreParams {
    TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.01,
        time_in_mesh_quantum: Duration::from_secs(1),
        time_in_mesh_cap: 300.0,
        first_message_deliveries_weight: 0.1,
        first_message_deliveries_decay: score_parameter_decay(Duration::from_secs(100)),
        first_message_deliveries_cap: 20.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: -2.0,
        invalid_message_deliveries_decay: score_parameter_decay(HALF_LIFE),
        ..TopicScoreParams::default()
    }
}

const fn thresholds() -> PeerScoreThresholds {
    PeerScoreThresholds {
        gossip_threshold: -30.0,
        publish_threshold: -50.0,
        graylist_threshold: -80.0,
        accept_px_threshold: 0.0,
        opportunistic_graft_threshold: 1.0,
    }
}

/// Time between two heartbeats, in which the mesh is mended and digests are sent, in milliseconds.
const HEARTBEAT_MS: u64 = 700;
/// Heartbeats for which a message is kept, for those who ask for it and for its verdict: 8.4 s.
const HISTORY: u64 = 12;
