use std::collections::BTreeMap;
use std::time::Duration;

use lamina_types::{PeerKey, Timestamp};

/// Time in which half of a score is forgiven. A guess: long against a burst of lies, short against a day's accidents.
pub const HALF_LIFE: Duration = Duration::from_secs(600);
/// A peer at or below this score is banned.
pub const BAN_THRESHOLD: f64 = -100.0;
/// How long a ban lasts.
pub const BAN: Duration = Duration::from_secs(600);
/// Most peers that are remembered; beyond, the one with the best score is forgotten first.
pub const PEERS_MAX: usize = 4096;

/// What a peer did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Offence {
    /// Bytes that don't decode.
    Malformed,
    /// A message above its topic's bound.
    Oversized,
    /// A signature that doesn't hold.
    WrongSignature,
    /// A message or request that's out of bounds though rightly signed: stale, or of an unknown epoch.
    OutOfBounds,
    /// A message that this node judged before.
    Repeated,
    /// An answer to another question, or bytes of another hash.
    WrongAnswer,
    /// No answer in time.
    NoAnswer,
    /// More requests than a peer may make.
    TooMany,
}

impl Offence {
    /// All offences.
    pub const ALL: [Self; 8] = [
        Self::Malformed,
        Self::Oversized,
        Self::WrongSignature,
        Self::OutOfBounds,
        Self::Repeated,
        Self::WrongAnswer,
        Self::NoAnswer,
        Self::TooMany,
    ];

    /// What it costs. Five lies that no honest node can tell are a ban; a slow link never is by itself.
    #[must_use]
    pub const fn cost(self) -> f64 {
        match self {
            Self::Malformed | Self::Oversized | Self::WrongSignature | Self::WrongAnswer => 20.0,
            Self::TooMany | Self::OutOfBounds => 5.0,
            Self::Repeated | Self::NoAnswer => 1.0,
        }
    }

    /// The offence's short name, as in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Oversized => "oversized",
            Self::WrongSignature => "wrong_signature",
            Self::OutOfBounds => "out_of_bounds",
            Self::Repeated => "repeated",
            Self::WrongAnswer => "wrong_answer",
            Self::NoAnswer => "no_answer",
            Self::TooMany => "too_many",
        }
    }
}

/// What peers' offences have cost them: 0 and below, halved every [`HALF_LIFE`].
#[derive(Debug, Clone, Default)]
pub struct Scores {
    peers: BTreeMap<PeerKey, Score>,
}

#[derive(Debug, Clone, Copy)]
struct Score {
    value: f64,
    at: Timestamp,
}

impl Score {
    fn at(self, now: Timestamp) -> f64 {
        self.value * 0.5_f64.powf(now.since(self.at).as_secs_f64() / HALF_LIFE.as_secs_f64())
    }
}

impl Scores {
    /// Holds an offence against a peer; returns the peer's new score.
    pub fn charge(&mut self, now: Timestamp, peer: PeerKey, offence: Offence) -> f64 {
        let value = self.get(now, &peer) - offence.cost();
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&peer) {
            self.forget_best(now);
        }
        self.peers.insert(peer, Score { value, at: now });
        value
    }

    /// A peer's score.
    #[must_use]
    pub fn get(&self, now: Timestamp, peer: &PeerKey) -> f64 {
        self.peers.get(peer).map_or(0.0, |score| score.at(now))
    }

    fn forget_best(&mut self, now: Timestamp) {
        let best = self.peers.iter().max_by(|a, b| a.1.at(now).total_cmp(&b.1.at(now)));
        if let Some(peer) = best.map(|(peer, _)| *peer) {
            self.peers.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerKey = PeerKey([1; 32]);
    const NOW: Timestamp = Timestamp(1_000_000);

    #[test]
    fn five_lies_are_a_ban() {
        let mut scores = Scores::default();
        let values: Vec<_> =
            (0..5).map(|_| scores.charge(NOW, PEER, Offence::WrongSignature)).collect();
        assert!(values[3] > BAN_THRESHOLD);
        assert!(values[4] <= BAN_THRESHOLD);
    }

    #[test]
    fn half_is_forgiven_in_a_half_life() {
        let mut scores = Scores::default();
        scores.charge(NOW, PEER, Offence::Malformed);
        let later = scores.get(NOW + HALF_LIFE, &PEER);
        assert!((later + Offence::Malformed.cost() / 2.0).abs() < 1e-9, "{later}");
    }

    #[test]
    fn strangers_do_not_push_out_the_worst() {
        let mut scores = Scores::default();
        scores.charge(NOW, PEER, Offence::Malformed);
        for i in 0..u32::try_from(PEERS_MAX).unwrap() {
            let mut key = [2; 32];
            key[..4].copy_from_slice(&i.to_be_bytes());
            scores.charge(NOW, PeerKey(key), Offence::NoAnswer);
        }
        assert_eq!(scores.peers.len(), PEERS_MAX);
        assert!(scores.get(NOW, &PEER) < 0.0);
    }
}
