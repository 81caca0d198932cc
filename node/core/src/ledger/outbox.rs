use std::collections::VecDeque;

/// What leaves the node and waits for the disk: each leaves once all that was to be stored before it is.
#[derive(Debug)]
pub(crate) struct Outbox<T> {
    waiting: VecDeque<Entry<T>>,
}

#[derive(Debug)]
enum Entry<T> {
    Write(u64),
    Message(T),
}

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new() }
    }
}

impl<T> Outbox<T> {
    /// What is sent from now on waits for this write.
    pub(crate) fn write(&mut self, id: u64) {
        self.waiting.push_back(Entry::Write(id));
    }

    /// Sends a message; returns it if nothing has to come before.
    pub(crate) fn send(&mut self, message: T) -> Option<T> {
        if self.waiting.is_empty() {
            return Some(message);
        }
        self.waiting.push_back(Entry::Message(message));
        None
    }

    /// A write is done; returns what may leave. Writes are done in their order.
    pub(crate) fn stored(&mut self, id: u64) -> Vec<T> {
        let Some(at) = self.waiting.iter().position(|e| matches!(e, Entry::Write(w) if *w == id))
        else {
            return Vec::new();
        };
        self.waiting.remove(at);
        let mut free = Vec::new();
        while let Some(Entry::Message(_)) = self.waiting.front() {
            if let Some(Entry::Message(message)) = self.waiting.pop_front() {
                free.push(message);
            }
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lamina_p2p::{Gossip, Second};
    use lamina_types::Bytes;

    fn message(text: &str) -> Gossip {
        Gossip::Consensus(Second(0), Bytes::new(text).unwrap())
    }

    #[test]
    fn what_comes_after_a_write_waits_for_it() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.send(message("a")), Some(message("a")));
        outbox.write(1);
        assert_eq!(outbox.send(message("b")), None);
        outbox.write(2);
        assert_eq!(outbox.send(message("c")), None);
        assert_eq!(outbox.stored(1), [message("b")]);
        assert_eq!(outbox.stored(7), []);
        assert_eq!(outbox.stored(2), [message("c")]);
        assert_eq!(outbox.send(message("d")), Some(message("d")));
    }

    #[test]
    fn a_later_write_frees_nothing_before_an_earlier_one() {
        let mut outbox = Outbox::default();
        outbox.write(1);
        assert_eq!(outbox.send(message("a")), None);
        outbox.write(2);
        assert_eq!(outbox.send(message("b")), None);
        assert_eq!(outbox.stored(2), []);
        assert_eq!(outbox.stored(1), [message("a"), message("b")]);
    }
}
