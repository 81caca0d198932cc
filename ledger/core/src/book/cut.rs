//! Cuts: which one this node would propose, whether it holds what another one names, and what is final by one.

use std::collections::{BTreeMap, BTreeSet};

use lamina_types::{
    BookCut, BookId, CUT_BOOKS_MAX, CUT_BYTES_MAX, CUT_LANES_MAX, ChangeId, Cut, LaneHead, List,
    OperationId, PeerKey, SignedOperation, VolumeId,
};

use super::lane::{FinalLane, Lane};
use super::{Books, VerifiedChange};

/// Names a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeRef {
    /// In which volume.
    pub volume: VolumeId,
    /// Whose.
    pub author: PeerKey,
    /// Its number.
    pub number: u64,
    /// Its identifier.
    pub change: ChangeId,
}

/// What came of a cut.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FinalisedCut {
    /// Changes that are final now, each after its author's change before it.
    pub changes: Vec<VerifiedChange>,
    /// Changes that were pending, and can't become final any more.
    pub dropped: Vec<ChangeId>,
    /// Volumes that were closed. The next ones are open.
    pub closed: Vec<VolumeId>,
    /// Operations that were pending, and are neither final nor pending now.
    pub fallen: Vec<Fallen>,
}

/// An operation that has to be inserted again: its change stood on a branch that wasn't taken, or in a closed volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallen {
    /// Who carried it.
    pub author: PeerKey,
    /// Its identifier.
    pub id: OperationId,
    /// What.
    pub operation: SignedOperation,
}

/// Why a cut isn't taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CutError {
    /// These changes are lacking; there may be more before them.
    #[error("{} changes of the cut are lacking", .0.len())]
    Missing(Vec<ChangeRef>),
    /// It holds at no honest node.
    #[error("the cut doesn't hold: {0}")]
    Invalid(#[from] InvalidCut),
}

/// Why a cut holds nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCut {
    /// Books or lanes aren't ascending, or a book has no lanes.
    #[error("books or lanes aren't in order")]
    Order,
    /// A volume that isn't the open one.
    #[error("volume {volume} isn't open")]
    Volume {
        /// Which one.
        volume: VolumeId,
    },
    /// A lane of somebody who may not write.
    #[error("{author} isn't an operator")]
    NotAuthor {
        /// Whose.
        author: PeerKey,
    },
    /// A lane that doesn't move forward, moves farther than may be pending, or has another number than its change.
    #[error("lane {author} can't move to {number}")]
    Lane {
        /// Whose.
        author: PeerKey,
        /// To where.
        number: u64,
    },
}

impl Books {
    /// The cut that this node would propose: of every lane as much as it has, at most `operations_max` operations in all.
    ///
    /// Authors are served in turn, a change each, and another one comes first at each checkpoint; so a flooder gets no more
    /// than its part. A change with more operations than are left is passed over: `operations_max` should be several
    /// times [`lamina_types::CHANGE_OPERATIONS_MAX`].
    #[must_use]
    pub fn propose(&self, operations_max: usize) -> Cut {
        let mut queues = self.queues();
        if !queues.is_empty() {
            let first = self.turn % queues.len();
            queues.rotate_left(first);
        }
        let mut draft = CutDraft::new(operations_max);
        while !queues.is_empty() {
            for queue in &mut queues {
                while let Some((volume, change)) = queue.pop() {
                    if draft.take(volume, change) {
                        break;
                    }
                }
            }
            queues.retain(|queue| !queue.is_empty());
        }
        draft.finish()
    }

    /// For each author what may be cut, the first one at the end: of its books in turn.
    fn queues(&self) -> Vec<Vec<(VolumeId, &VerifiedChange)>> {
        let mut queues: BTreeMap<PeerKey, Vec<(usize, VolumeId, &VerifiedChange)>> =
            BTreeMap::new();
        for (author, book) in self.busy.keys() {
            let volume = VolumeId { book: *book, volume: self.volume(book) };
            let lane = self.lane(book, author).filter(|_| self.authors.contains(author));
            let main = lane.into_iter().flat_map(Lane::main);
            let changes = main.enumerate().map(|(place, change)| (place, volume, change));
            queues.entry(*author).or_default().extend(changes);
        }
        let in_turn = |mut queue: Vec<(usize, VolumeId, _)>| {
            queue.sort_by_key(|(place, volume, _)| std::cmp::Reverse((*place, *volume)));
            queue.into_iter().map(|(_, volume, change)| (volume, change)).collect()
        };
        queues.into_values().map(in_turn).collect()
    }

    /// Whether this node holds all that `cut` adds, on the branches that it names. The operations, each once, by volume,
    /// author and place.
    ///
    /// What was final before and comes again is among them, at each node alike: applying it has to change nothing.
    ///
    /// # Errors
    /// [`CutError`].
    pub fn check(&self, cut: &Cut) -> Result<Vec<(OperationId, SignedOperation)>, CutError> {
        let branches = self.branches(cut)?;
        let mut seen = BTreeSet::new();
        let operations = branches.iter().flatten().flat_map(|change| change.operations());
        let first = operations.filter(|(id, _)| seen.insert(*id));
        Ok(first.map(|(id, signed)| (id, signed.clone())).collect())
    }

    /// What the cut adds, lane by lane.
    fn branches(&self, cut: &Cut) -> Result<Vec<Vec<&VerifiedChange>>, CutError> {
        check_order(cut)?;
        let (mut branches, mut missing) = (Vec::new(), Vec::new());
        for book in cut.books.as_slice() {
            let volume = VolumeId { book: book.book, volume: book.volume };
            if book.volume != self.volume(&book.book) {
                return Err(InvalidCut::Volume { volume }.into());
            }
            for head in book.lanes.as_slice() {
                match self.branch(&book.book, head)? {
                    Ok(branch) => branches.push(branch),
                    Err((number, change)) => {
                        missing.push(ChangeRef { volume, author: head.author, number, change });
                    }
                }
            }
        }
        if missing.is_empty() { Ok(branches) } else { Err(CutError::Missing(missing)) }
    }

    /// What leads to `head`, or else the change that is lacking.
    fn branch(
        &self,
        book: &BookId,
        head: &LaneHead,
    ) -> Result<Result<Vec<&VerifiedChange>, (u64, ChangeId)>, InvalidCut> {
        let LaneHead { author, number, change } = *head;
        if !self.authors.contains(&author) {
            return Err(InvalidCut::NotAuthor { author });
        }
        let wrong = InvalidCut::Lane { author, number };
        let lane = self.lane(book, &author);
        let last = lane.map_or(0, |lane| lane.last.head.number);
        let ahead = number.checked_sub(last).ok_or(wrong)?;
        if ahead == 0 || ahead > self.limits.pending_changes {
            return Err(wrong);
        }
        let Some(lane) = lane else { return Ok(Err((number, change))) };
        if lane.get(&change).is_some_and(|found| found.change().number != number) {
            return Err(wrong);
        }
        match lane.branch(&change) {
            Some(branch) if branch.is_empty() => Err(wrong),
            Some(branch) => Ok(Ok(branch)),
            None => Ok(Err(lane.lacks(head))),
        }
    }

    /// The open volumes of the cut's books as they are once it's final, with their lanes' ends, ascending by author.
    ///
    /// # Errors
    /// [`CutError`].
    pub fn after(&self, cut: &Cut) -> Result<Vec<(VolumeId, Vec<FinalLane>)>, CutError> {
        self.branches(cut)?;
        let volumes = cut.books.as_slice().iter().map(|book| {
            let lanes = self.lanes_after(book);
            let next = book.volume.checked_add(1).filter(|_| self.ends_volume(&lanes));
            let (volume, lanes) = next.map_or((book.volume, lanes), |next| (next, Vec::new()));
            (VolumeId { book: book.book, volume }, lanes)
        });
        Ok(volumes.collect())
    }

    fn lanes_after(&self, book: &BookCut) -> Vec<FinalLane> {
        let open = self.open.get(&book.book);
        let lanes = open.into_iter().flat_map(|open| &open.lanes);
        let ends = lanes.map(|(author, lane)| {
            let moved = book.lanes.as_slice().iter().find(|head| head.author == *author);
            moved.and_then(|head| lane.end_at(head)).unwrap_or(lane.last)
        });
        ends.filter(|end| end.head.number > 0).collect()
    }

    /// Takes a decided cut: its lanes are final on the branches that it names, other branches fall away, and volumes that
    /// are full are closed.
    ///
    /// # Errors
    /// [`CutError`], and nothing changes.
    ///
    /// # Panics
    /// Never: what it takes was checked.
    pub fn finalise(&mut self, cut: &Cut) -> Result<FinalisedCut, CutError> {
        self.branches(cut)?;
        self.turn = self.turn.wrapping_add(1);
        let mut result = FinalisedCut::default();
        let mut dropped = Vec::new();
        for book in cut.books.as_slice() {
            for head in book.lanes.as_slice() {
                self.finalise_lane(book.book, head, &mut result.changes, &mut dropped);
            }
            let volume = VolumeId { book: book.book, volume: book.volume };
            if self.is_full(&book.book) && self.close(&volume, &mut dropped) {
                result.closed.push(volume);
            }
        }
        result.dropped = dropped.iter().map(VerifiedChange::id).collect();
        result.fallen = self.fallen(&result.changes, &dropped);
        Ok(result)
    }

    fn finalise_lane(
        &mut self,
        book: BookId,
        head: &LaneHead,
        finals: &mut Vec<VerifiedChange>,
        dropped: &mut Vec<VerifiedChange>,
    ) {
        let open = self.open.get_mut(&book).expect("checked before");
        let lane = open.lanes.get_mut(&head.author).expect("checked before");
        let (changes, placed) = lane.finalise(head, &self.limits);
        self.index(book, &head.author, &placed.attached);
        dropped.extend(placed.dropped);
        for id in changes.iter().flat_map(VerifiedChange::operation_ids) {
            if let Some(pending) = self.pending.get_mut(id) {
                pending.is_final = true;
            }
        }
        finals.extend(changes);
    }

    fn is_full(&self, book: &BookId) -> bool {
        let Some(open) = self.open.get(book) else { return false };
        self.ends_volume(&open.lanes.values().map(|lane| lane.last).collect::<Vec<_>>())
    }

    fn ends_volume(&self, lanes: &[FinalLane]) -> bool {
        let operations: u64 = lanes.iter().map(|lane| lane.operations).sum();
        operations >= self.limits.volume_operations
            || lanes.iter().any(|last| self.limits.ends_lane(last.head.number, last.bytes))
    }

    /// Opens the next volume. False if there's none: then this one stays open.
    fn close(&mut self, volume: &VolumeId, dropped: &mut Vec<VerifiedChange>) -> bool {
        let Some(next) = volume.volume.checked_add(1) else { return false };
        let open = self.open.get_mut(&volume.book).expect("checked before");
        open.volume = next;
        let lanes = std::mem::take(&mut open.lanes);
        self.documents.remove(volume);
        dropped.extend(lanes.into_values().flat_map(|mut lane| lane.clear()));
        true
    }

    /// What was in dropped changes, and isn't in any other now.
    pub(super) fn fallen(
        &mut self,
        finals: &[VerifiedChange],
        dropped: &[VerifiedChange],
    ) -> Vec<Fallen> {
        // Read before forgetting: it's known of pending operations only whether they're final.
        let mut left_out: BTreeSet<_> =
            finals.iter().flat_map(VerifiedChange::operation_ids).copied().collect();
        let ids = dropped.iter().flat_map(VerifiedChange::operation_ids);
        left_out.extend(ids.filter(|id| self.pending.get(id).is_some_and(|p| p.is_final)));
        self.forget(dropped);
        self.forget(finals);
        let mut fallen = Vec::new();
        for change in dropped {
            for (id, signed) in change.operations() {
                if !self.pending.contains_key(&id) && left_out.insert(id) {
                    let author = change.change().author;
                    fallen.push(Fallen { author, id, operation: signed.clone() });
                }
            }
        }
        fallen
    }
}

fn check_order(cut: &Cut) -> Result<(), InvalidCut> {
    let books = cut.books.as_slice();
    let ascending = books.is_sorted_by(|a, b| a.book < b.book)
        && books.iter().all(|book| {
            let lanes = book.lanes.as_slice();
            !lanes.is_empty() && lanes.is_sorted_by(|a, b| a.author < b.author)
        });
    if ascending { Ok(()) } else { Err(InvalidCut::Order) }
}

/// A cut that grows change by change within its bounds.
struct CutDraft {
    books: BTreeMap<VolumeId, BTreeMap<PeerKey, LaneHead>>,
    /// Lanes of which a change was passed over, and with it all that follows.
    stopped: BTreeSet<(VolumeId, PeerKey)>,
    operations_left: usize,
    bytes_left: usize,
}

impl CutDraft {
    const fn new(operations_max: usize) -> Self {
        let bytes_left = CUT_BYTES_MAX - 4;
        Self {
            books: BTreeMap::new(),
            stopped: BTreeSet::new(),
            operations_left: operations_max,
            bytes_left,
        }
    }

    /// Moves a lane by its next change, if it fits.
    fn take(&mut self, volume: VolumeId, verified: &VerifiedChange) -> bool {
        let lane = (volume, verified.change().author);
        let taken = !self.stopped.contains(&lane) && self.fit(volume, verified);
        if !taken {
            self.stopped.insert(lane);
        }
        taken
    }

    fn fit(&mut self, volume: VolumeId, verified: &VerifiedChange) -> bool {
        let change = verified.change();
        let operations = verified.operation_ids().len();
        let book = self.books.get(&volume);
        let lane = book.and_then(|lanes| lanes.get(&change.author));
        let bytes = match (book, lane) {
            (_, Some(_)) => 0,
            (Some(lanes), None) if lanes.len() < CUT_LANES_MAX => LANE_BYTES,
            (None, None) if self.books.len() < CUT_BOOKS_MAX => LANE_BYTES + BOOK_BYTES,
            _ => return false,
        };
        if operations > self.operations_left || bytes > self.bytes_left {
            return false;
        }
        self.operations_left -= operations;
        self.bytes_left -= bytes;
        let head = LaneHead { author: change.author, number: change.number, change: verified.id() };
        self.books.entry(volume).or_default().insert(change.author, head);
        true
    }

    fn finish(self) -> Cut {
        let books = self.books.into_iter().map(|(VolumeId { book, volume }, lanes)| {
            let lanes = List::truncated(lanes.into_values());
            BookCut { book, volume, lanes }
        });
        Cut { books: List::truncated(books) }
    }
}

/// A lane in a cut, in bytes.
const LANE_BYTES: usize = 32 + 8 + 32;
/// A book in a cut without its lanes, in bytes.
const BOOK_BYTES: usize = 33 + 4 + 4;
