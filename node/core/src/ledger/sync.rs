//! Who was away: asks how far others are, follows checkpoint by checkpoint, or begins from a snapshot.
//!
//! Nothing that a peer says is believed: checkpoints count by their certificates, changes by their signatures, a snapshot by
//! the state root of its checkpoint.

use std::time::Duration;

use std::sync::Arc;

use lamina_certificate::{Checkpoint, Handover, OperatorSet};
use lamina_ledger::book::verify_with;
use lamina_ledger::{FinalChange, Record};
use lamina_p2p::{
    CHANGE_REFS_MAX, CHANGES_MAX, ChangeRef, LaneRange, LedgerStatus, Offence, Request, Response,
};
use lamina_types::{
    Change, CheckpointHeader, Cut, Digest, EpochNumber, Height, List, PeerKey, Timestamp,
};
use rand_core::Rng as _;

use super::apply::final_change;
use super::start::Restored;
use super::{Ledger, LedgerAction, LedgerWork, Tip};
use crate::Notice;

/// How soon a peer is asked again how far it is, when its messages are of a later height.
const STATUS_AGAIN: Duration = Duration::from_millis(250);
/// Checkpoints of peers that wait to be applied.
const AHEAD_MAX: usize = 512;

/// What a peer was asked about the ledger.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LedgerQuestion {
    Status,
    Checkpoints(Height),
    Lanes(Vec<LaneRange>),
    Changes(Vec<ChangeRef>),
    Snapshot(Height, Option<Digest>),
    Handovers(EpochNumber),
}

/// What is known of a peer's ledger.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Peer {
    height: Height,
    first: Height,
    asked: Option<Timestamp>,
}

impl Peer {
    pub(super) const fn height(&self) -> Height {
        self.height
    }
}

/// A snapshot on its way.
#[derive(Debug)]
pub(crate) struct Snapshot {
    checkpoint: (Checkpoint, Cut),
    from: PeerKey,
}

/// What a snapshot is made of.
#[derive(Debug)]
pub enum SnapshotPart {
    /// A part of the state, as a peer sent it.
    State(Vec<u8>),
    /// Final changes of the volumes that are open by the state; signed by their authors.
    Changes(Vec<FinalChange>),
}

/// What became of a snapshot's part.
#[derive(Debug)]
pub enum SnapshotProgress {
    /// It holds; the next part of the state comes after this key's hash.
    After(Option<Digest>),
    /// The state is complete. Of the open volumes, this is missing.
    Lacks(Vec<LaneRange>),
    /// All is there, and the node goes on from it.
    Complete(Box<Restored>),
    /// It doesn't belong to the checkpoint.
    Wrong,
}

impl Ledger {
    /// A peer is connected.
    pub(crate) fn connected(&mut self, now: Timestamp, peer: PeerKey) {
        self.now = now;
        self.peers.insert(peer, Peer::default());
        self.ask(peer, LedgerQuestion::Status);
        // Whoever connects may have missed what this node says now and then only.
        self.repeat_promises();
    }

    /// A peer is gone.
    pub(crate) fn disconnected(&mut self, now: Timestamp, peer: &PeerKey) {
        self.now = now;
        self.peers.remove(peer);
        self.asked.retain(|(asked, _)| asked != peer);
        if self.snapshot.as_ref().is_some_and(|snapshot| snapshot.from == *peer) {
            self.snapshot = None;
            self.asked.clear();
            self.catch_up();
        }
    }

    /// Asks a peer how far it is; called now and then.
    pub(crate) fn sync_with(&mut self, now: Timestamp, peer: PeerKey) {
        self.now = now;
        // Answers may have been lost with their connection.
        self.asked.clear();
        self.ask(peer, LedgerQuestion::Status);
        self.repeat_promises();
        self.go_on();
        self.catch_up();
    }

    /// Takes up again what nobody carries yet: a node that writes to no book says it again, and who came to write to them, or
    /// ceased to, has some left.
    fn repeat_promises(&mut self) {
        // What's being committed is in no book, and yet in its place.
        if self.decision.is_some() {
            return;
        }
        let lost: Vec<_> = self
            .promises
            .iter()
            .filter(|(id, _)| !self.books.contains(id) && !self.to_compose.contains(id))
            .take(64)
            .map(|(id, _)| *id)
            .collect();
        for id in lost {
            self.take_up(id);
        }
    }

    /// A peer asks. Its answer waits for the disk, as all that leaves: what an answer shows of this node's lane, and the disk
    /// then lost, would have another change's number after a restart.
    pub(crate) fn answer(&mut self, id: u64, request: Request) {
        if !matches!(request, Request::Ledger) {
            let pending = self.pending_of(&request);
            let work = LedgerWork::Answer { id, request, pending };
            return self.leave(LedgerAction::Work(work));
        }
        let lanes = self.books.heads().into_iter();
        let lanes = lanes.flat_map(|(volume, heads)| heads.into_iter().map(move |h| (volume, h)));
        let status = LedgerStatus {
            height: self.tip.header.height,
            header: self.tip.id,
            first: self.first,
            lanes: List::truncated(lanes),
        };
        self.leave(LedgerAction::Answer(id, Response::Ledger(Box::new(status))));
    }

    /// Changes that are asked for and not final: those are in memory alone.
    fn pending_of(&self, request: &Request) -> Vec<Change> {
        match request {
            Request::Lanes(ranges) => ranges
                .as_slice()
                .iter()
                .flat_map(|r| self.books.changes(&r.volume, &r.author, r.after, CHANGES_MAX))
                .cloned()
                .collect(),
            Request::Changes(refs) => {
                let known = refs.as_slice().iter().filter_map(|r| self.books.change(&r.change));
                known.cloned().collect()
            }
            _ => Vec::new(),
        }
    }

    /// A peer answered, or failed to.
    pub(crate) fn response(
        &mut self,
        now: Timestamp,
        from: PeerKey,
        question: &LedgerQuestion,
        response: Option<Response>,
    ) {
        self.now = now;
        self.asked.remove(&(from, question.clone()));
        match (question, response) {
            (LedgerQuestion::Status, Some(Response::Ledger(status))) => {
                self.handle_status(from, *status);
            }
            (LedgerQuestion::Checkpoints(first), Some(Response::Checkpoints(list))) => {
                self.handle_checkpoints(from, *first, list.into_vec());
            }
            (
                LedgerQuestion::Lanes(_) | LedgerQuestion::Changes(_),
                Some(Response::Changes(list)),
            ) => self.handle_changes(from, list.into_vec()),
            (LedgerQuestion::Snapshot(height, _), Some(Response::Snapshot(part))) => {
                match part {
                    // It may be of a snapshot that was given up.
                    _ if !self.takes_snapshot(from, *height) => {}
                    Some(part) => self.restore(SnapshotPart::State(part.into_vec())),
                    // The peer keeps that state no longer: from a later one, then.
                    None => self.snapshot = None,
                }
            }
            (LedgerQuestion::Handovers(after), Some(Response::Handovers(list))) => {
                self.handle_handovers(from, *after, list.into_vec());
            }
            (_, Some(_)) => self.act(LedgerAction::Charge(from, Offence::WrongAnswer)),
            (LedgerQuestion::Snapshot(height, _), None) if self.takes_snapshot(from, *height) => {
                self.snapshot = None;
            }
            (_, None) => {}
        }
    }

    /// Whether a snapshot of this checkpoint is on its way from this peer.
    fn takes_snapshot(&self, from: PeerKey, height: Height) -> bool {
        let is_this = |s: &Snapshot| s.from == from && s.checkpoint.0.header.height == height;
        self.snapshot.as_ref().is_some_and(is_this)
    }

    /// A part of a snapshot was looked at.
    pub(super) fn restored(&mut self, progress: SnapshotProgress) {
        let Some(snapshot) = &self.snapshot else { return };
        let (from, header) = (snapshot.from, snapshot.checkpoint.0.header.clone());
        let height = header.height;
        match progress {
            SnapshotProgress::After(after) => {
                self.ask(from, LedgerQuestion::Snapshot(height, after));
            }
            SnapshotProgress::Lacks(ranges) => {
                for ranges in ranges.chunks(CHANGE_REFS_MAX) {
                    self.ask(from, LedgerQuestion::Lanes(ranges.to_vec()));
                }
            }
            SnapshotProgress::Wrong => {
                self.snapshot = None;
                self.act(LedgerAction::Charge(from, Offence::WrongAnswer));
                self.catch_up();
            }
            SnapshotProgress::Complete(restored) => {
                let id = header.id(&self.context.chain);
                self.snapshot = None;
                self.first = Height(height.0 + 1);
                self.resume_from(Tip { header, id }, *restored);
                self.act(LedgerAction::Notify(Notice::SnapshotRestored(height)));
                self.catch_up();
            }
        }
    }

    fn handle_status(&mut self, from: PeerKey, status: LedgerStatus) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        peer.height = peer.height.max(status.height);
        peer.first = status.first;
        let tips = status.lanes.into_vec();
        let behind = tips.into_iter().filter_map(|(volume, head)| {
            let after = self.books.lane_tip(&volume, &head.author)?;
            (after < head.number).then_some(LaneRange { volume, author: head.author, after })
        });
        let behind: Vec<LaneRange> = behind.collect();
        for ranges in behind.chunks(CHANGE_REFS_MAX) {
            self.ask(from, LedgerQuestion::Lanes(ranges.to_vec()));
        }
        self.catch_up();
    }

    /// Asks a peer how far it is: its messages are of a later height than this node's.
    pub(super) fn ask_how_far(&mut self, from: PeerKey) {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if peer.asked.is_none_or(|at| at + STATUS_AGAIN <= now) {
            peer.asked = Some(now);
            self.ask(from, LedgerQuestion::Status);
        }
    }

    /// Asks for the checkpoints that follow, if a peer has more of them.
    pub(super) fn catch_up(&mut self) {
        if self.snapshot.is_some() {
            return;
        }
        let have = self.ahead.back().map(|(checkpoint, _)| checkpoint.header.height);
        let decided = Height(self.tip.header.height.0 + u64::from(self.decision.is_some()));
        let have = have.unwrap_or(decided).max(decided);
        let busy = |(_, q): &(_, LedgerQuestion)| matches!(q, LedgerQuestion::Checkpoints(_));
        if self.ahead.len() > AHEAD_MAX / 2 || self.asked.iter().any(busy) {
            return;
        }
        // Until it's known who signs what follows, there's no use in it.
        if !self.knows_who_follows(have) {
            return;
        }
        let best: Vec<_> = self.peers.iter().filter(|(_, peer)| peer.height > have).collect();
        if best.is_empty() {
            return;
        }
        let pick = usize::try_from(self.rng.next_u64() % best.len() as u64).expect("an index");
        let (from, peer) = (*best[pick].0, *best[pick].1);
        let next = Height(have.0 + 1);
        let far = peer.height.0 - have.0 > self.config.snapshot_distance;
        if (far || peer.first > next) && self.ahead.is_empty() && self.decision.is_none() {
            // The last checkpoint of the peer, to take its state.
            self.ask(from, LedgerQuestion::Checkpoints(peer.height));
        } else if peer.first <= next {
            self.ask(from, LedgerQuestion::Checkpoints(next));
        }
    }

    fn handle_checkpoints(&mut self, from: PeerKey, first: Height, list: Vec<(Checkpoint, Cut)>) {
        if list.is_empty()
            && let Some(peer) = self.peers.get_mut(&from)
        {
            // It hasn't what it said that it has: until it says so again, others are asked.
            peer.height = Height::default();
        }
        let mut expected = first;
        for (checkpoint, cut) in list {
            let header = &checkpoint.header;
            let height = header.height;
            if header.epoch > self.epochs.last().epoch() {
                // Of operators that aren't known: of a list, because the one before it changed them and Ethereum's chain isn't
                // here so far; alone, because this node is far behind.
                if height == first {
                    self.ask(from, LedgerQuestion::Handovers(self.epochs.last().epoch()));
                }
                break;
            }
            let set = self.epochs.consensus(height);
            let holds =
                height == expected && header.cut == cut.digest() && checkpoint.verify(set).is_ok();
            if !holds {
                return self.act(LedgerAction::Charge(from, Offence::WrongAnswer));
            }
            self.learn_operators(&checkpoint.header);
            expected = Height(height.0 + 1);
            let next = Height(self.tip.header.height.0 + 1);
            if height.0 > next.0 + self.ahead.len() as u64 + 1 {
                self.begin_snapshot(from, (checkpoint, cut));
                return;
            }
            let follows = self.ahead.back().map_or(next, |(c, _)| Height(c.header.height.0 + 1));
            if height == follows && self.ahead.len() < AHEAD_MAX {
                self.ahead.push_back((checkpoint, cut));
            }
        }
        self.advance();
        self.catch_up();
    }

    /// Takes the operators that a checkpoint, whose certificate holds, hands over to, if Ethereum's chain is here so far.
    fn learn_operators(&mut self, header: &CheckpointHeader) {
        let next = Height(header.height.0 + 1);
        let root = header.next_operators;
        let announced = |(set, _): &(&Arc<OperatorSet>, _)| {
            set.epoch() > self.epochs.last().epoch() && set.root() == root
        };
        if self.epochs.root(next) != root
            && let Some((set, _)) = self.ethereum.operators().find(announced)
        {
            self.epochs.begin(next, set.clone());
        }
    }

    /// Whether it's known who signs the checkpoint after the one of this height, which is decided.
    fn knows_who_follows(&mut self, height: Height) -> bool {
        let decided = self.decision.as_ref().map(super::apply::Decision::header);
        let last = self.ahead.back().map(|(checkpoint, _)| &checkpoint.header);
        let Some(header) = last.or(decided).filter(|header| header.height == height) else {
            return true;
        };
        let header = header.clone();
        self.learn_operators(&header);
        self.epochs.root(Height(height.0 + 1)) == header.next_operators
    }

    /// How operators handed over to those of later epochs; then the checkpoint comes that was asked for before.
    fn handle_handovers(&mut self, from: PeerKey, after: EpochNumber, list: Vec<Handover>) {
        let mut known = self.epochs.last().clone();
        if known.epoch() != after {
            return self.catch_up();
        }
        if list.is_empty()
            && let Some(peer) = self.peers.get_mut(&from)
        {
            peer.height = Height::default();
        }
        let mut records = Vec::new();
        for handover in list {
            let Ok(set) = handover.verify(&known) else {
                return self.act(LedgerAction::Charge(from, Offence::WrongAnswer));
            };
            known = Arc::new(set);
            self.epochs.begin(handover.first(), known.clone());
            records.push(Record::Handover(Box::new(handover)));
        }
        self.store(records);
        self.catch_up();
    }

    fn begin_snapshot(&mut self, from: PeerKey, checkpoint: (Checkpoint, Cut)) {
        let height = checkpoint.0.header.height;
        self.started = false;
        self.snapshot = Some(Snapshot { checkpoint, from });
        self.ask(from, LedgerQuestion::Snapshot(height, None));
    }

    fn restore(&mut self, part: SnapshotPart) {
        let Some(snapshot) = &self.snapshot else { return };
        let checkpoint = Box::new(snapshot.checkpoint.clone());
        self.work(LedgerWork::Restore { checkpoint, part });
    }

    /// Changes that were asked for while a snapshot is on its way belong to it.
    fn restore_changes(&mut self, from: PeerKey, list: Vec<Change>) {
        if list.is_empty() && self.snapshot.as_ref().is_some_and(|s| s.from == from) {
            // Without the changes that lead to the state there's no going on from it: from another one, then.
            self.snapshot = None;
            return;
        }
        let mut changes = Vec::with_capacity(list.len());
        for change in list {
            // The author's signature is what counts: the lane's end stands in the state.
            let Ok(change) = verify_with(change, &self.context, &|_, _| true) else {
                return self.act(LedgerAction::Charge(from, Offence::WrongSignature));
            };
            changes.push(final_change(change));
        }
        self.restore(SnapshotPart::Changes(changes));
    }

    fn handle_changes(&mut self, from: PeerKey, list: Vec<Change>) {
        if self.snapshot.is_some() {
            return self.restore_changes(from, list);
        }
        for change in list {
            if let Err(offence) = self.judge_change(self.now, from, change) {
                return self.act(LedgerAction::Charge(from, offence));
            }
        }
        self.go_on();
    }

    /// Asks for changes that a cut names: of its proposer, and of somebody else.
    pub(super) fn ask_for_changes(&mut self, proposer: Option<PeerKey>, missing: &[ChangeRef]) {
        let mut whom: Vec<PeerKey> =
            proposer.into_iter().filter(|peer| self.peers.contains_key(peer)).collect();
        if !self.peers.is_empty() {
            let pick = self.rng.next_u64() % self.peers.len() as u64;
            let pick = usize::try_from(pick).expect("an index");
            whom.extend(self.peers.keys().nth(pick).filter(|p| !whom.contains(p)).copied());
        }
        for refs in missing.chunks(CHANGE_REFS_MAX) {
            let lanes: Vec<LaneRange> = refs.iter().filter_map(|r| self.range_to(r)).collect();
            for peer in &whom {
                if !lanes.is_empty() {
                    self.ask(*peer, LedgerQuestion::Lanes(lanes.clone()));
                }
                self.ask(*peer, LedgerQuestion::Changes(refs.to_vec()));
            }
        }
    }

    /// The part of a lane that leads to a change, if this node's lane is shorter.
    fn range_to(&self, to: &ChangeRef) -> Option<LaneRange> {
        let after = self.books.lane_tip(&to.volume, &to.author)?;
        let range = LaneRange { volume: to.volume, author: to.author, after };
        (after + 1 < to.number).then_some(range)
    }

    fn ask(&mut self, peer: PeerKey, question: LedgerQuestion) {
        let once = !matches!(question, LedgerQuestion::Status);
        if once && !self.asked.insert((peer, question.clone())) {
            return;
        }
        let request = match &question {
            LedgerQuestion::Status => Request::Ledger,
            LedgerQuestion::Checkpoints(from) => Request::Checkpoints { from: *from },
            LedgerQuestion::Lanes(ranges) => Request::Lanes(List::truncated(ranges.clone())),
            LedgerQuestion::Changes(refs) => Request::Changes(List::truncated(refs.clone())),
            LedgerQuestion::Snapshot(height, after) => {
                Request::Snapshot { height: *height, after: *after }
            }
            LedgerQuestion::Handovers(after) => Request::Handovers { after: *after },
        };
        self.act(LedgerAction::Ask(peer, question, request));
    }
}
