use std::sync::atomic::{AtomicU64, Ordering};

use lamina_p2p::Topic;

/// What was counted since the start; connections are those of the moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metrics {
    /// By topic, in the order of [`Topic::ALL`].
    pub topics: [TopicMetrics; Topic::ALL.len()],
    /// Peers that are connected.
    pub peers_connected: u64,
    /// Connections that peers made.
    pub connections_in: u64,
    /// Connections that this node made.
    pub connections_out: u64,
    /// Connections that were refused or failed while they were made, in either direction.
    pub connections_failed: u64,
    /// Peers that were disconnected because they belong to another chain or have no ed25519 key.
    pub peers_foreign: u64,
    /// Bans.
    pub bans: u64,
    /// Requests that peers made and the application was given.
    pub requests_in: u64,
    /// Requests of peers that were refused: too many, or the event queue was full.
    pub requests_in_refused: u64,
    /// Answers that were sent.
    pub answers_sent: u64,
    /// Questions that were asked.
    pub requests_out: u64,
    /// Questions that got no answer.
    pub requests_out_failed: u64,
    /// Offences that the network itself noticed.
    pub offences: u64,
    /// Events (gossip, requests, offences) that were dropped because the application was behind.
    pub events_dropped: u64,
    /// Commands that were refused because the network was behind.
    pub commands_refused: u64,
    /// Deliveries that were ignored for lack of a verdict in time.
    pub verdicts_missed: u64,
}

/// What was counted of one topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TopicMetrics {
    /// Messages that arrived, copies included.
    pub received: u64,
    /// Their content, in bytes.
    pub received_bytes: u64,
    /// Messages that the application was given.
    pub delivered: u64,
    /// Messages that were dropped unseen: longer than the topic allows, or the application was behind.
    pub dropped: u64,
    /// Messages that this node published.
    pub published: u64,
    /// Their content, in bytes.
    pub published_bytes: u64,
    /// Messages that couldn't be published: no peer, all queues full, or too long.
    pub publish_failed: u64,
    /// Deliveries that were accepted.
    pub accepted: u64,
    /// Deliveries that were ignored.
    pub ignored: u64,
    /// Deliveries that were rejected.
    pub rejected: u64,
}

impl TopicMetrics {
    /// Copies of messages that were there already.
    #[must_use]
    pub const fn duplicates(&self) -> u64 {
        self.received.saturating_sub(self.delivered + self.dropped)
    }
}

impl Metrics {
    /// The counters of a topic.
    #[must_use]
    pub fn topic(&self, topic: Topic) -> &TopicMetrics {
        &self.topics[index(topic)]
    }
}

/// A number that only grows, or a gauge that's set.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The live form of a metrics struct: the same fields as atomics. A field of the snapshot that's missing here doesn't
/// compile.
macro_rules! counters {
    ($live:ident, $snapshot:ident, $($field:ident),*; $($nested:ident: $type:ty),*) => {
        #[derive(Debug, Default)]
        pub(crate) struct $live {
            $(pub(crate) $field: Counter,)*
            $($nested: $type,)*
        }

        impl $live {
            pub(crate) fn snapshot(&self) -> $snapshot {
                $snapshot {
                    $($field: self.$field.get(),)*
                    $($nested: self.$nested.each_ref().map(|counters| counters.snapshot()),)*
                }
            }
        }
    };
}

counters!(
    TopicCounters, TopicMetrics,
    received, received_bytes, delivered, dropped, published, published_bytes, publish_failed,
    accepted, ignored, rejected;
);
counters!(
    Counters, Metrics,
    peers_connected, connections_in, connections_out, connections_failed, peers_foreign, bans,
    requests_in, requests_in_refused, answers_sent, requests_out, requests_out_failed, offences,
    events_dropped, commands_refused, verdicts_missed;
    topics: [TopicCounters; Topic::ALL.len()]
);

impl Counters {
    pub(crate) const fn topic(&self, topic: Topic) -> &TopicCounters {
        &self.topics[index(topic)]
    }
}

/// A topic's place in [`Topic::ALL`].
const fn index(topic: Topic) -> usize {
    match topic {
        Topic::Tasks => 0,
        Topic::Attestations => 1,
        Topic::Certificates => 2,
        Topic::Observations => 3,
        Topic::ObservationSets => 4,
        Topic::Operations => 5,
        Topic::Changes => 6,
        Topic::Consensus => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_have_their_place() {
        for (place, topic) in Topic::ALL.into_iter().enumerate() {
            assert_eq!(index(topic), place);
        }
    }

    #[test]
    fn snapshot_shows_what_was_counted() {
        let counters = Counters::default();
        counters.bans.increment();
        counters.topic(Topic::Tasks).received.add(3);
        let metrics = counters.snapshot();
        assert_eq!((metrics.bans, metrics.topic(Topic::Tasks).duplicates()), (1, 3));
    }
}
