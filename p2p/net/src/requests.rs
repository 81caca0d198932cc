use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lamina_p2p::Response;
use lamina_types::PeerKey;
use libp2p::PeerId;
use libp2p::request_response::{InboundRequestId, OutboundRequestId, ResponseChannel};

use crate::Config;

/// Peers whose rate is remembered: those that asked within the time in which a bucket fills. When it's full, requests of
/// others are refused.
const BUCKETS_MAX: usize = 4096;

/// Peers' requests that are being answered, bounded by peer and in all, and how often peers may ask.
#[derive(Debug)]
pub(crate) struct Inbound {
    open: BTreeMap<InboundRequestId, Open>,
    buckets: BTreeMap<PeerId, Bucket>,
    per_second: f64,
    burst: f64,
    open_max: usize,
    open_per_peer_max: usize,
}

#[derive(Debug)]
struct Open {
    peer: PeerId,
    /// Taken when the answer is there; the request stays open until the answer is written.
    channel: Option<ResponseChannel<Response>>,
}

/// A token bucket: what a peer may still ask at once.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// Why a request isn't answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The peer asks more than it may.
    TooMany,
    /// Others' requests take all there is; nobody's fault.
    Busy,
}

impl Inbound {
    pub(crate) const fn new(config: &Config) -> Self {
        Self {
            open: BTreeMap::new(),
            buckets: BTreeMap::new(),
            per_second: config.requests_per_peer_per_second as f64,
            burst: config.requests_per_peer_burst as f64,
            open_max: config.requests_open_max as usize,
            open_per_peer_max: config.requests_per_peer_open_max as usize,
        }
    }

    /// Takes a request, unless there are too many; then dropping the channel closes the stream.
    pub(crate) fn open(
        &mut self,
        now: Instant,
        peer: PeerId,
        id: InboundRequestId,
        channel: ResponseChannel<Response>,
    ) -> Result<(), Refusal> {
        self.admit(now, peer)?;
        self.open.insert(id, Open { peer, channel: Some(channel) });
        Ok(())
    }

    /// The channel for an answer; `None` if it's too late or was answered.
    pub(crate) fn answer(&mut self, id: InboundRequestId) -> Option<ResponseChannel<Response>> {
        self.open.get_mut(&id)?.channel.take()
    }

    /// The request is answered, or can't be any more.
    pub(crate) fn close(&mut self, id: InboundRequestId) {
        self.open.remove(&id);
    }

    /// Forgets peers that asked nothing for a while.
    pub(crate) fn tidy(&mut self, now: Instant) {
        let (per_second, burst) = (self.per_second, self.burst);
        self.buckets.retain(|_, bucket| bucket.tokens_at(now, per_second, burst) < burst);
    }

    fn admit(&mut self, now: Instant, peer: PeerId) -> Result<(), Refusal> {
        if self.buckets.len() >= BUCKETS_MAX && !self.buckets.contains_key(&peer) {
            self.tidy(now);
            if self.buckets.len() >= BUCKETS_MAX {
                return Err(Refusal::Busy);
            }
        }
        let bucket = self.buckets.entry(peer).or_insert(Bucket { tokens: self.burst, at: now });
        let tokens = bucket.tokens_at(now, self.per_second, self.burst);
        let left = if tokens < 1.0 { tokens } else { tokens - 1.0 };
        *bucket = Bucket { tokens: left, at: now };
        let open_of_peer = self.open.values().filter(|open| open.peer == peer).count();
        if tokens < 1.0 || open_of_peer >= self.open_per_peer_max {
            return Err(Refusal::TooMany);
        }
        if self.open.len() >= self.open_max { Err(Refusal::Busy) } else { Ok(()) }
    }
}

impl Bucket {
    fn tokens_at(self, now: Instant, per_second: f64, burst: f64) -> f64 {
        let passed: Duration = now.saturating_duration_since(self.at);
        passed.as_secs_f64().mul_add(per_second, self.tokens).min(burst)
    }
}

/// This node's questions that have no answer yet: whom, and the application's name for it.
pub(crate) type Asks = BTreeMap<OutboundRequestId, (PeerKey, u64)>;

#[cfg(test)]
mod tests {
    use super::*;

    fn inbound() -> Inbound {
        Inbound::new(&Config {
            requests_per_peer_per_second: 2,
            requests_per_peer_burst: 3,
            ..Config::default()
        })
    }

    #[test]
    fn a_burst_is_allowed_then_only_the_rate() {
        let (mut inbound, now, peer) = (inbound(), Instant::now(), PeerId::random());
        let mut admitted = |at| inbound.admit(now + Duration::from_millis(at), peer).is_ok();
        assert_eq!([0, 0, 0, 0].map(&mut admitted), [true, true, true, false]);
        assert_eq!([499, 500, 999, 1000].map(&mut admitted), [false, true, false, true]);
        assert_eq!([9000, 9000, 9000, 9000].map(&mut admitted), [true, true, true, false]);
    }

    #[test]
    fn one_peers_requests_do_not_count_against_another() {
        let (mut inbound, now, peer) = (inbound(), Instant::now(), PeerId::random());
        while inbound.admit(now, peer).is_ok() {}
        assert_eq!(inbound.admit(now, peer), Err(Refusal::TooMany));
        assert_eq!(inbound.admit(now, PeerId::random()), Ok(()));
    }

    #[test]
    fn rates_are_kept_while_they_matter_and_bounded() {
        let (mut inbound, now) = (inbound(), Instant::now());
        for _ in 0..BUCKETS_MAX {
            inbound.admit(now, PeerId::random()).unwrap();
        }
        assert_eq!(inbound.admit(now, PeerId::random()), Err(Refusal::Busy));
        assert_eq!(inbound.admit(now + Duration::from_secs(1), PeerId::random()), Ok(()));
        assert_eq!(inbound.buckets.len(), 1);
    }
}
