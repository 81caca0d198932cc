use std::collections::{BTreeMap, VecDeque};

use lamina_types::{Height, PeerKey};

use super::message::ConsensusMessage;

/// Bytes of messages kept per sender: all votes and certificates of a round, or a proposal and the votes beside it.
const SENDER_BYTES: usize = 192 * 1024;
/// Messages kept per sender.
const SENDER_MESSAGES: usize = 400;
/// Senders whose messages are kept, the first to come: 25 MB in all. A consensus set, and some who forward.
const SENDERS: usize = 128;

/// Messages of the height after the current one, from peers who are there already. Nothing in it is verified: the set that
/// it would be verified against may not be known yet.
///
/// Bounded per sender, so that a flood displaces the flooder's own messages only; the oldest of them go first.
#[derive(Debug, Default)]
pub(super) struct Ahead(BTreeMap<PeerKey, Queue>);

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<(usize, ConsensusMessage)>,
    bytes: usize,
}

impl Ahead {
    pub(super) fn push(&mut self, from: PeerKey, message: ConsensusMessage) {
        if self.0.len() >= SENDERS && !self.0.contains_key(&from) {
            return;
        }
        self.0.entry(from).or_default().push(message);
    }

    /// Takes the messages of `height`, drops all others.
    pub(super) fn take(&mut self, height: Height) -> Vec<(PeerKey, ConsensusMessage)> {
        std::mem::take(&mut self.0)
            .into_iter()
            .flat_map(|(from, queue)| queue.messages.into_iter().map(move |(_, m)| (from, m)))
            .filter(|(_, message)| message.height() == height)
            .collect()
    }
}

impl Queue {
    fn push(&mut self, message: ConsensusMessage) {
        let bytes = borsh::object_length(&message).unwrap_or(SENDER_BYTES);
        self.bytes += bytes;
        self.messages.push_back((bytes, message));
        while self.bytes > SENDER_BYTES || self.messages.len() > SENDER_MESSAGES {
            let Some((bytes, _)) = self.messages.pop_front() else { return };
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finality::message::{Vote, VoteSignature};
    use lamina_types::OperatorIndex;

    fn vote(height: u64, round: u32) -> ConsensusMessage {
        ConsensusMessage::Vote(Vote {
            height: Height(height),
            round,
            header: None,
            operator: OperatorIndex(0),
            signature: VoteSignature::Precommit([0; 96]),
        })
    }

    #[test]
    fn a_flood_displaces_the_flooder_s_oldest_messages_only() {
        let mut ahead = Ahead::default();
        ahead.push(PeerKey([1; 32]), vote(5, 0));
        for round in 0..10_000 {
            ahead.push(PeerKey([2; 32]), vote(5, round));
        }
        let kept = ahead.take(Height(5));
        assert_eq!(kept.len(), 1 + SENDER_MESSAGES);
        assert_eq!(kept[0], (PeerKey([1; 32]), vote(5, 0)));
        assert_eq!(kept[kept.len() - 1].1, vote(5, 9_999));
    }

    #[test]
    fn senders_are_bounded_and_other_heights_dropped() {
        let mut ahead = Ahead::default();
        for sender in 0..=255 {
            ahead.push(PeerKey([sender; 32]), vote(5, 0));
        }
        ahead.push(PeerKey([0; 32]), vote(6, 0));
        assert_eq!(ahead.take(Height(5)).len(), SENDERS);
        assert!(ahead.take(Height(6)).is_empty());
    }
}
