use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::Event;
use crate::metrics::Counters;

/// Events on their way to the application.
///
/// Gossip, requests and offences that find the queue full are dropped and counted. Answers and who's connected must not be
/// lost, so they wait beside the queue, bounded by what they tell of: an answer by its question, and of a peer at most the
/// news that it went and the news that it came again.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: mpsc::Sender<Event>,
    waiting: VecDeque<Event>,
    counters: Arc<Counters>,
}

impl Outbox {
    pub(crate) const fn new(queue: mpsc::Sender<Event>, counters: Arc<Counters>) -> Self {
        Self { queue, waiting: VecDeque::new(), counters }
    }

    /// Tells what must not be lost.
    pub(crate) fn tell(&mut self, event: Event) {
        if let Event::PeerDisconnected { peer } = event {
            let came = |waiting: &Event| matches!(waiting, Event::PeerConnected { peer: other, .. } if *other == peer);
            if let Some(place) = self.waiting.iter().position(came) {
                self.waiting.remove(place);
                return;
            }
        }
        self.waiting.push_back(event);
        self.flush();
    }

    /// Tells what may be dropped; false if it was.
    pub(crate) fn offer(&mut self, event: Event) -> bool {
        let sent = self.waiting.is_empty() && self.queue.try_send(event).is_ok();
        if !sent {
            self.counters.events_dropped.increment();
        }
        sent
    }

    /// Whether something waits beside the queue.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The queue, to wait for room in it or for its end.
    pub(crate) const fn queue(&self) -> &mpsc::Sender<Event> {
        &self.queue
    }

    /// Moves what waits into the queue as far as there's room.
    pub(crate) fn flush(&mut self) {
        while let Some(event) = self.waiting.pop_front() {
            if let Err(error) = self.queue.try_send(event) {
                if let mpsc::error::TrySendError::Full(event) = error {
                    self.waiting.push_front(event);
                }
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lamina_p2p::Offence;
    use lamina_types::PeerKey;

    fn outbox() -> (Outbox, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(1);
        (Outbox::new(sender, Arc::default()), receiver)
    }

    fn connected(peer: u8) -> Event {
        let address = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        Event::PeerConnected { peer: PeerKey([peer; 32]), address }
    }

    fn disconnected(peer: u8) -> Event {
        Event::PeerDisconnected { peer: PeerKey([peer; 32]) }
    }

    fn offence() -> Event {
        Event::Offence { peer: PeerKey([9; 32]), offence: Offence::TooMany }
    }

    #[test]
    fn what_may_be_dropped_is_when_the_queue_is_full() {
        let (mut outbox, mut receiver) = outbox();
        assert!(outbox.offer(offence()));
        assert!(!outbox.offer(offence()));
        assert_eq!(outbox.counters.snapshot().events_dropped, 1);
        assert!(receiver.try_recv().is_ok());
        assert!(outbox.offer(offence()));
    }

    #[test]
    fn what_must_arrive_waits_and_keeps_its_order() {
        let (mut outbox, mut receiver) = outbox();
        for peer in 0..3 {
            outbox.tell(connected(peer));
        }
        assert!(!outbox.offer(offence()));
        for peer in 0..3 {
            let Ok(Event::PeerConnected { peer: told, .. }) = receiver.try_recv() else { panic!() };
            assert_eq!(told, PeerKey([peer; 32]));
            outbox.flush();
        }
        assert!(!outbox.is_waiting());
    }

    #[test]
    fn peers_that_come_and_go_do_not_fill_the_memory() {
        let (mut outbox, mut receiver) = outbox();
        outbox.tell(connected(0));
        for _ in 0..100 {
            outbox.tell(disconnected(0));
            outbox.tell(connected(0));
        }
        assert_eq!(outbox.waiting.len(), 2);
        let mut told = Vec::new();
        while let Ok(event) = receiver.try_recv() {
            told.push(matches!(event, Event::PeerConnected { .. }));
            outbox.flush();
        }
        assert_eq!(told, [true, false, true]);
    }
}
