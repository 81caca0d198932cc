use std::collections::{BTreeSet, VecDeque};

use crate::MessageId;

/// Messages that are remembered as judged. At 200 messages a second that's five minutes.
pub const SEEN_MAX: usize = 65_536;

/// The messages that were judged lately, so that one that comes again costs its sender and nobody else.
///
/// Gossipsub drops repeats for a while by itself; this remembers longer. An honest node sends a message once.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    ids: BTreeSet<MessageId>,
    order: VecDeque<MessageId>,
}

impl Seen {
    /// Remembers a message; false if it was there. The oldest is forgotten for it when there are [`SEEN_MAX`].
    pub fn insert(&mut self, id: MessageId) -> bool {
        if !self.ids.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(i: usize) -> MessageId {
        let mut id = [0; 20];
        id[..8].copy_from_slice(&(i as u64).to_be_bytes());
        id
    }

    #[test]
    fn repeats_are_told_until_they_are_old() {
        let mut seen = Seen::default();
        assert!(seen.insert(id(0)));
        assert!(!seen.insert(id(0)));
        for i in 1..=SEEN_MAX {
            assert!(seen.insert(id(i)));
        }
        assert!(seen.insert(id(0)));
        assert_eq!(seen.ids.len(), SEEN_MAX);
    }
}
