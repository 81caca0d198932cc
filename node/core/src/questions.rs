//! What this node asks of its peers, at the pace that they allow.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::ledger::LedgerQuestion;
use lamina_p2p::Request;
use lamina_types::{Digest, OperatorIndex, PeerKey, ServiceId, TaskId, Timestamp};

/// Questions to one peer that are open. Half of what a node answers at once.
pub(crate) const OPEN_MAX: usize = 4;
/// Questions to one peer in a second, on average. Below the 20 that a node allows.
pub(crate) const PER_SECOND: f64 = 15.0;
/// Questions to one peer at once after a while of silence. Below the 100 that a node allows.
pub(crate) const BURST: f64 = 60.0;
/// Questions that wait for one peer. Beyond, they aren't asked: the next round of syncing finds out what's missing.
pub(crate) const WAITING_MAX: usize = 64;

/// What was asked, to judge the answer by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Question {
    Inventory,
    Tasks(BTreeSet<TaskId>),
    Evidence(BTreeSet<TaskId>),
    Outcome(TaskId),
    Blob(ServiceId, Digest),
    Observations(TaskId, BTreeSet<OperatorIndex>),
    Ledger(LedgerQuestion),
}

/// Open and waiting questions, by peer.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    open: BTreeMap<u64, (PeerKey, Question)>,
    lines: BTreeMap<PeerKey, Line>,
    next_id: u64,
}

/// One peer's questions.
#[derive(Debug)]
struct Line {
    open: usize,
    /// The peer is gone: the line ends with its last open question.
    gone: bool,
    waiting: VecDeque<(Question, Request)>,
    /// What may be asked at once; it grows by [`PER_SECOND`] up to [`BURST`].
    allowance: f64,
    at: Timestamp,
}

impl Questions {
    /// Puts a question to the end of its peer's line; an equal one that waits already does for both.
    pub(crate) fn push(
        &mut self,
        now: Timestamp,
        to: PeerKey,
        question: Question,
        request: Request,
    ) {
        let line = self.lines.entry(to).or_insert_with(|| Line {
            open: 0,
            gone: false,
            waiting: VecDeque::new(),
            allowance: BURST,
            at: now,
        });
        line.gone = false;
        let waits = line.waiting.iter().any(|(waiting, _)| *waiting == question);
        if !waits && line.waiting.len() < WAITING_MAX {
            line.waiting.push_back((question, request));
        }
    }

    /// The next question to `peer`, if it may be asked now.
    pub(crate) fn next(&mut self, now: Timestamp, peer: &PeerKey) -> Option<(u64, Request)> {
        let line = self.lines.get_mut(peer)?;
        line.allowance = line.allowance_at(now);
        line.at = now;
        if line.open >= OPEN_MAX || line.allowance < 1.0 {
            return None;
        }
        let (question, request) = line.waiting.pop_front()?;
        line.allowance -= 1.0;
        line.open += 1;
        self.next_id += 1;
        self.open.insert(self.next_id, (*peer, question));
        Some((self.next_id, request))
    }

    /// When a question that waits for the peer's allowance can be asked; `None` if none does.
    pub(crate) fn due(&self, now: Timestamp, peer: &PeerKey) -> Option<Timestamp> {
        let line = self.lines.get(peer)?;
        let lacking = 1.0 - line.allowance_at(now);
        let waits = !line.waiting.is_empty() && line.open < OPEN_MAX && lacking > 0.0;
        // A millisecond more than it takes, so that it's enough however the numbers are rounded.
        waits
            .then(|| now + Duration::from_secs_f64(lacking / PER_SECOND) + Duration::from_millis(1))
    }

    /// Ends a question; tells what it was.
    pub(crate) fn end(&mut self, id: u64) -> Option<(PeerKey, Question)> {
        let (peer, question) = self.open.remove(&id)?;
        if let Some(line) = self.lines.get_mut(&peer) {
            line.open -= 1;
            if line.gone && line.open == 0 {
                self.lines.remove(&peer);
            }
        }
        Some((peer, question))
    }

    /// Drops what waits for a peer that's gone; its open questions are still answered, if only by a failure.
    pub(crate) fn forget(&mut self, peer: &PeerKey) {
        if let Some(line) = self.lines.get_mut(peer) {
            line.waiting.clear();
            line.gone = true;
            if line.open == 0 {
                self.lines.remove(peer);
            }
        }
    }

    /// The services whose components are asked for, or wait to be.
    pub(crate) fn blobs(&self) -> BTreeSet<ServiceId> {
        let open = self.open.values().map(|(_, question)| question);
        let waiting = self.lines.values().flat_map(|line| &line.waiting).map(|(q, _)| q);
        open.chain(waiting)
            .filter_map(|question| match question {
                Question::Blob(service, _) => Some(*service),
                _ => None,
            })
            .collect()
    }
}

impl Line {
    fn allowance_at(&self, now: Timestamp) -> f64 {
        (self.allowance + now.since(self.at).as_secs_f64() * PER_SECOND).min(BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerKey = PeerKey([1; 32]);

    fn questions(count: u8) -> Questions {
        let mut questions = Questions::default();
        for i in 0..count {
            let task = TaskId([i; 32]);
            questions.push(Timestamp(0), PEER, Question::Outcome(task), Request::Outcome(task));
        }
        questions
    }

    #[test]
    fn few_are_open_at_a_time() {
        let mut questions = questions(10);
        let open: Vec<_> =
            std::iter::from_fn(|| questions.next(Timestamp(0), &PEER)).map(|(id, _)| id).collect();
        assert_eq!(open.len(), OPEN_MAX);
        assert!(questions.end(open[0]).is_some());
        assert!(questions.next(Timestamp(0), &PEER).is_some());
        assert!(questions.next(Timestamp(0), &PEER).is_none());
    }

    #[test]
    fn many_are_spread_over_time() {
        let mut now = Timestamp(0);
        let (mut asked, mut next) = (0u32, 0u8);
        let mut questions = Questions::default();
        while now < Timestamp(10_000_000) {
            let task = TaskId([next; 32]);
            next = next.wrapping_add(1);
            questions.push(now, PEER, Question::Outcome(task), Request::Outcome(task));
            while let Some((id, _)) = questions.next(now, &PEER) {
                asked += 1;
                questions.end(id);
            }
            now = questions.due(now, &PEER).unwrap_or(now + Duration::from_millis(1));
        }
        let most = BURST + PER_SECOND * 10.0;
        assert!(f64::from(asked) <= most && f64::from(asked) > most * 0.9, "{asked}");
    }

    #[test]
    fn nothing_is_left_of_a_peer_that_is_gone() {
        let mut questions = questions(10);
        let (id, _) = questions.next(Timestamp(0), &PEER).unwrap();
        questions.forget(&PEER);
        assert!(questions.next(Timestamp(0), &PEER).is_none());
        assert!(questions.end(id).is_some());
        assert!(questions.lines.is_empty() && questions.open.is_empty());
    }

    #[test]
    fn an_equal_question_waits_once_and_a_long_line_is_cut() {
        let mut questions = questions(5);
        for _ in 0..3 {
            questions.push(Timestamp(0), PEER, Question::Inventory, Request::Inventory);
        }
        assert_eq!(questions.lines[&PEER].waiting.len(), 6);
        for i in 0..200u8 {
            let task = TaskId([i; 32]);
            questions.push(Timestamp(0), PEER, Question::Outcome(task), Request::Outcome(task));
        }
        assert_eq!(questions.lines[&PEER].waiting.len(), WAITING_MAX);
    }
}
