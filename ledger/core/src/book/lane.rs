//! One author's changes in one open volume.
//!
//! What isn't final is a tree that grows from the last final change; an honest author's is a line. The branch that counts
//! is the longest one, of equal ones that with the least identifier, so nodes that have the same changes show the same.
//! Changes whose predecessor is lacking wait beside the tree.

use std::collections::{BTreeMap, BTreeSet};

use borsh::{BorshDeserialize, BorshSerialize};
use lamina_types::{ChangeId, LaneHead, PeerKey};

use super::{Limits, Refused, VerifiedChange};

/// How far a lane is final, and what that took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct FinalLane {
    /// Its last final change; number 0 and zero if there's none.
    pub head: LaneHead,
    /// Its final operations.
    pub operations: u64,
    /// Its final changes' canonical bytes.
    pub bytes: u64,
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) last: FinalLane,
    tree: BTreeMap<ChangeId, Node>,
    waiting: BTreeMap<ChangeId, VerifiedChange>,
    arrivals: u64,
}

/// A change in the tree.
#[derive(Debug)]
struct Node {
    change: VerifiedChange,
    sums: Sums,
    arrival: u64,
}

/// How much there is in a lane, up to one of its changes.
#[derive(Debug, Clone, Copy)]
struct Sums {
    number: u64,
    operations: u64,
    bytes: u64,
}

/// What became of a change.
#[derive(Debug, Default)]
pub(super) struct Placed {
    /// Changes that are in the tree now, and weren't.
    pub(super) attached: Vec<ChangeId>,
    /// Changes that were dropped for it.
    pub(super) dropped: Vec<VerifiedChange>,
}

impl Lane {
    pub(super) const fn new(author: PeerKey) -> Self {
        let head = LaneHead { author, number: 0, change: ChangeId([0; 32]) };
        Self::after(FinalLane { head, operations: 0, bytes: 0 })
    }

    pub(super) const fn after(last: FinalLane) -> Self {
        Self { last, tree: BTreeMap::new(), waiting: BTreeMap::new(), arrivals: 0 }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.tree.is_empty() && self.waiting.is_empty()
    }

    pub(super) fn get(&self, id: &ChangeId) -> Option<&VerifiedChange> {
        self.tree.get(id).map(|node| &node.change).or_else(|| self.waiting.get(id))
    }

    /// Another change with this one's number.
    pub(super) fn rival(&self, change: &VerifiedChange) -> Option<&VerifiedChange> {
        let number = change.change().number;
        self.tree
            .values()
            .map(|node| &node.change)
            .chain(self.waiting.values())
            .find(|other| other.change().number == number && other.id() != change.id())
    }

    /// Whether a change may come into this lane, as far as is known before its predecessors are.
    pub(super) fn admit(&self, change: &VerifiedChange, limits: &Limits) -> Result<(), Refused> {
        let number = change.change().number;
        if number > limits.lane_changes {
            return Err(Refused::Quota);
        }
        let Some(ahead) = number.checked_sub(self.last.head.number).filter(|ahead| *ahead > 0)
        else {
            return Err(Refused::Behind);
        };
        if ahead == 1 && change.change().previous != self.last.head.change {
            return Err(Refused::Behind);
        }
        if ahead > limits.pending_changes {
            return Err(Refused::Ahead);
        }
        let Some(before) = self.sums_at(&change.change().previous) else { return Ok(()) };
        if before.number + 1 != number {
            return Err(Refused::Number);
        }
        self.admit_bytes(before.bytes.saturating_add(change.bytes() as u64), limits)
    }

    fn admit_bytes(&self, bytes: u64, limits: &Limits) -> Result<(), Refused> {
        if bytes > limits.lane_bytes {
            return Err(Refused::Quota);
        }
        let pending = bytes.saturating_sub(self.last.bytes);
        if pending > limits.pending_bytes { Err(Refused::Ahead) } else { Ok(()) }
    }

    /// Whether its author may add a change after the branch that counts. Not while one of its own waits for others, whose
    /// number it could have.
    pub(super) fn has_room(&self, number: u64, bytes: u64, limits: &Limits) -> bool {
        let before = self.sums_at(&self.tip().change).expect("it's in the tree, or final");
        self.waiting.is_empty()
            && number <= limits.lane_changes
            && number - self.last.head.number <= limits.pending_changes
            && self.admit_bytes(before.bytes.saturating_add(bytes), limits).is_ok()
    }

    /// The end that the lane has once it's final up to a change, if that's in the tree.
    pub(super) fn end_at(&self, head: &LaneHead) -> Option<FinalLane> {
        let Sums { operations, bytes, .. } = self.sums_at(&head.change)?;
        Some(FinalLane { head: *head, operations, bytes })
    }

    /// The lane up to a change, if it's in the tree or the last final one.
    fn sums_at(&self, id: &ChangeId) -> Option<Sums> {
        if *id == self.last.head.change {
            let FinalLane { head, operations, bytes } = self.last;
            return Some(Sums { number: head.number, operations, bytes });
        }
        self.tree.get(id).map(|node| node.sums)
    }

    /// Puts an admitted change that isn't here yet into the tree or beside it.
    pub(super) fn place(&mut self, change: VerifiedChange, limits: &Limits) -> Placed {
        let mut placed = Placed::default();
        if self.sums_at(&change.change().previous).is_none() {
            self.waiting.insert(change.id(), change);
        } else {
            placed.attached.push(self.attach(change));
            self.attach_waiting(limits, &mut placed);
        }
        self.make_room(limits, &mut placed);
        placed
    }

    /// Puts a change into the tree.
    fn attach(&mut self, change: VerifiedChange) -> ChangeId {
        let before = self.sums_at(&change.change().previous).expect("its predecessor is here");
        let id = change.id();
        let sums = Sums {
            number: change.change().number,
            operations: before.operations + change.operation_ids().len() as u64,
            bytes: before.bytes + change.bytes() as u64,
        };
        self.arrivals += 1;
        self.tree.insert(id, Node { change, sums, arrival: self.arrivals });
        id
    }

    /// Moves what waited for what has come into the tree; drops what turns out not to be allowed.
    fn attach_waiting(&mut self, limits: &Limits, placed: &mut Placed) {
        loop {
            let ready = self.waiting.iter().find(|(_, change)| self.is_ready(change));
            let Some(id) = ready.map(|(id, _)| *id) else { return };
            let change = self.waiting.remove(&id).expect("it was found");
            if self.admit(&change, limits).is_ok() {
                placed.attached.push(self.attach(change));
            } else {
                placed.dropped.push(change);
            }
        }
    }

    fn is_ready(&self, change: &VerifiedChange) -> bool {
        self.sums_at(&change.change().previous).is_some()
    }

    /// Drops what is over the bounds: the longest-waiting side branches from their ends, and of what waits the farthest.
    fn make_room(&mut self, limits: &Limits, placed: &mut Placed) {
        let over = |changes: usize, bytes: usize, factor: u64| {
            changes as u64 > factor * limits.pending_changes
                || bytes as u64 > factor * limits.pending_bytes
        };
        let size = |lane: &Self| lane.tree.values().map(|node| node.change.bytes()).sum();
        // The main branch fits once by itself; as much again is left for side branches.
        while over(self.tree.len(), size(self), 2) {
            let Some(id) = self.oldest_side_end() else { break };
            placed.attached.retain(|attached| *attached != id);
            placed.dropped.extend(self.tree.remove(&id).map(|node| node.change));
        }
        let size = |lane: &Self| lane.waiting.values().map(VerifiedChange::bytes).sum();
        while over(self.waiting.len(), size(self), 1) {
            let farthest = self.waiting.iter().max_by_key(|(id, c)| (c.change().number, **id));
            let Some(id) = farthest.map(|(id, _)| *id) else { break };
            placed.dropped.extend(self.waiting.remove(&id));
        }
    }

    fn oldest_side_end(&self) -> Option<ChangeId> {
        let mut kept: BTreeSet<_> = self.main().map(VerifiedChange::id).collect();
        kept.extend(self.tree.values().map(|node| node.change.change().previous));
        self.tree
            .iter()
            .filter(|(id, _)| !kept.contains(id))
            .min_by_key(|(_, node)| node.arrival)
            .map(|(id, _)| *id)
    }

    /// The end of the branch that counts; the last final change if there's nothing after it.
    pub(super) fn tip(&self) -> LaneHead {
        let best = self
            .tree
            .iter()
            .max_by(|(a, x), (b, y)| x.sums.number.cmp(&y.sums.number).then(b.cmp(a)));
        best.map_or(self.last.head, |(id, node)| LaneHead {
            author: self.last.head.author,
            number: node.sums.number,
            change: *id,
        })
    }

    /// The branch that counts, from the first change that isn't final.
    pub(super) fn main(&self) -> impl Iterator<Item = &VerifiedChange> {
        self.branch(&self.tip().change).unwrap_or_default().into_iter()
    }

    /// What leads from the last final change to this one, which is in the tree; empty for the last final one.
    pub(super) fn branch(&self, end: &ChangeId) -> Option<Vec<&VerifiedChange>> {
        let mut branch = Vec::new();
        let mut id = *end;
        while id != self.last.head.change {
            let node = self.tree.get(&id)?;
            branch.push(&node.change);
            id = node.change.change().previous;
        }
        branch.reverse();
        Some(branch)
    }

    /// The change that must come before `end` can be in the tree: its number and identifier.
    pub(super) fn lacks(&self, end: &LaneHead) -> (u64, ChangeId) {
        let (mut number, mut id) = (end.number, end.change);
        while let Some(change) = self.waiting.get(&id) {
            number = change.change().number - 1;
            id = change.change().previous;
        }
        (number, id)
    }

    /// Whether a change is in the tree, and not waiting.
    pub(super) fn is_attached(&self, id: &ChangeId) -> bool {
        self.tree.contains_key(id)
    }

    /// Sets the end of what is final to a change of the tree. The changes up to it, and what falls away.
    pub(super) fn finalise(
        &mut self,
        end: &LaneHead,
        limits: &Limits,
    ) -> (Vec<VerifiedChange>, Placed) {
        let ids: Vec<_> = self
            .branch(&end.change)
            .expect("checked before")
            .into_iter()
            .map(VerifiedChange::id)
            .collect();
        let Sums { operations, bytes, .. } = self.sums_at(&end.change).expect("checked before");
        let finals =
            ids.iter().filter_map(|id| self.tree.remove(id)).map(|node| node.change).collect();
        self.last = FinalLane { head: *end, operations, bytes };
        let mut placed = Placed { dropped: self.prune(), ..Placed::default() };
        self.attach_waiting(limits, &mut placed);
        (finals, placed)
    }

    /// Takes out what doesn't come after the last final change any more.
    fn prune(&mut self) -> Vec<VerifiedChange> {
        let last = self.last.head;
        let mut by_number: Vec<_> = self.tree.iter().collect();
        by_number.sort_unstable_by_key(|(_, node)| node.sums.number);
        let mut alive = BTreeSet::from([last.change]);
        for (id, node) in by_number {
            if alive.contains(&node.change.change().previous) {
                alive.insert(*id);
            }
        }
        let mut dropped: Vec<_> = self
            .tree
            .extract_if(.., |id, _| !alive.contains(id))
            .map(|(_, node)| node.change)
            .collect();
        let dead = |change: &VerifiedChange| {
            let (number, previous) = (change.change().number, change.change().previous);
            number <= last.number || (number == last.number + 1 && previous != last.change)
        };
        dropped.extend(self.waiting.extract_if(.., |_, change| dead(change)).map(|(_, c)| c));
        dropped
    }

    /// Takes out all that isn't final.
    pub(super) fn clear(&mut self) -> Vec<VerifiedChange> {
        let tree = std::mem::take(&mut self.tree).into_values().map(|node| node.change);
        tree.chain(std::mem::take(&mut self.waiting).into_values()).collect()
    }
}
