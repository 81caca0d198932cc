//! All open volumes, in memory: what isn't final of each lane, and documents that were looked at lately.

use std::collections::{BTreeMap, BTreeSet};

use lamina_types::{
    BookId, CHANGE_BYTES_MAX, CHANGE_OPERATIONS_MAX, Change, ChangeHead, ChangeId, Cut, LaneHead,
    List, OperationId, PeerKey, SignedOperation, VolumeId,
};

use super::change::book_of;
use super::lane::Lane;
use super::{Document, Draft, Fallen, FinalLane, Limits, VerifiedChange};
use crate::StorageError;

/// The open volume of each book. A book that nobody wrote into has volume 0, without lanes.
///
/// Changes that became final are handed out by [`Books::finalise`] and forgotten here.
#[derive(Debug)]
pub struct Books {
    pub(super) limits: Limits,
    me: Option<PeerKey>,
    pub(super) authors: BTreeSet<PeerKey>,
    pub(super) open: BTreeMap<BookId, Volume>,
    /// Where each change stands that isn't final.
    places: BTreeMap<ChangeId, (BookId, PeerKey)>,
    /// How many of these there are of each author in each book.
    pub(super) busy: BTreeMap<(PeerKey, BookId), usize>,
    pub(super) pending: BTreeMap<OperationId, Pending>,
    /// With when they were used last. Of a closed volume: made after it was closed.
    pub(super) documents: BTreeMap<VolumeId, (u64, Document)>,
    documents_used: u64,
    /// Cuts that were finalised; who is served first in a proposal follows it.
    pub(super) turn: usize,
}

/// The open volume of a book.
#[derive(Debug, Default)]
pub(super) struct Volume {
    pub(super) volume: u32,
    pub(super) lanes: BTreeMap<PeerKey, Lane>,
}

/// An operation in changes that aren't final.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// The changes that hold it, and where.
    changes: BTreeMap<ChangeId, usize>,
    /// It became final by another change.
    pub(super) is_final: bool,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inserted {
    /// It's in its lane, and so is what waited for it.
    New,
    /// It was here already.
    Known,
    /// It waits for this one.
    Lacks {
        /// Whose change is lacking.
        author: PeerKey,
        /// Its number.
        number: u64,
        /// Its identifier.
        change: ChangeId,
    },
    /// It's kept, and proves with an earlier one that its author signed two changes with one number.
    Equivocation(Box<(ChangeHead, [u8; 64], ChangeHead, [u8; 64])>),
    /// It isn't kept.
    Refused(Refused),
}

/// Why a change isn't kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Its volume was closed. What it holds and isn't final belongs into the next one.
    #[error("the volume is closed")]
    Closed,
    /// Its volume isn't open yet; it may come again.
    #[error("the volume isn't open yet")]
    Future,
    /// Its author may not write.
    #[error("the author isn't an operator")]
    NotAuthor,
    /// The lane is final up to its number or further, or on another branch.
    #[error("the lane is final up to there")]
    Behind,
    /// Its number isn't the one after its predecessor's. The author's mistake.
    #[error("the number doesn't follow the previous change's")]
    Number,
    /// The author wrote as much as it may into this volume.
    #[error("the author's quota of the volume is used up")]
    Quota,
    /// Too much of the author isn't final yet; it may come again.
    #[error("too far ahead of what is final")]
    Ahead,
}

/// Final changes on disk.
pub trait VolumeSource {
    /// All final changes of a volume, each after its author's change before it.
    ///
    /// # Errors
    /// [`StorageError`]: they couldn't be read.
    fn changes(&self, volume: &VolumeId) -> Result<Vec<VerifiedChange>, StorageError>;
}

impl Books {
    /// No lanes. `me` is the author whose changes [`Books::compose`] drafts, `authors` who may write: the operators of this
    /// epoch and the one before.
    #[must_use]
    pub const fn new(limits: Limits, me: Option<PeerKey>, authors: BTreeSet<PeerKey>) -> Self {
        Self {
            limits,
            me,
            authors,
            open: BTreeMap::new(),
            places: BTreeMap::new(),
            busy: BTreeMap::new(),
            pending: BTreeMap::new(),
            documents: BTreeMap::new(),
            documents_used: 0,
            turn: 0,
        }
    }

    /// Sets who may write. What others wrote and isn't final is dropped; its operations are returned, to be inserted again.
    pub fn set_authors(&mut self, authors: BTreeSet<PeerKey>) -> Vec<Fallen> {
        self.authors = authors;
        let mut dropped = Vec::new();
        for volume in self.open.values_mut() {
            for (author, lane) in &mut volume.lanes {
                if !self.authors.contains(author) {
                    dropped.extend(lane.clear());
                }
            }
        }
        self.fallen(&[], &dropped)
    }

    /// Puts a volume as it is by a checkpoint: how far it's final, and changes that aren't. Those of the book that were here
    /// already stay as far as they're still due.
    ///
    /// Own changes must all be among them, or the next one has a number that was used before.
    pub fn restore(
        &mut self,
        volume: VolumeId,
        lanes: Vec<FinalLane>,
        changes: Vec<VerifiedChange>,
    ) {
        let lanes = lanes.into_iter().map(|last| (last.head.author, Lane::after(last))).collect();
        let restored = Volume { volume: volume.volume, lanes };
        let before = self.open.insert(volume.book, restored).unwrap_or_default();
        let before: Vec<_> = before.lanes.into_values().flat_map(|mut lane| lane.clear()).collect();
        self.forget(&before);
        self.documents.retain(|id, _| id.book != volume.book);
        for change in before.into_iter().chain(changes) {
            self.insert(change);
        }
    }

    /// Takes a change, in any order and any number of times.
    pub fn insert(&mut self, change: VerifiedChange) -> Inserted {
        let (id, volume, author) = (change.id(), change.change().volume, change.change().author);
        if self.places.contains_key(&id) {
            return Inserted::Known;
        }
        if let Err(refused) = self.admit(&change) {
            return Inserted::Refused(refused);
        }
        let head = change.signed_head();
        let end = LaneHead { author, number: change.change().number, change: id };
        let Self { limits, open, places, busy, .. } = self;
        let open = open.entry(volume.book).or_default();
        let lane = open.lanes.entry(author).or_insert_with(|| Lane::new(author));
        let rival = lane.rival(&change).map(VerifiedChange::signed_head);
        places.insert(id, (volume.book, author));
        *busy.entry((author, volume.book)).or_default() += 1;
        let placed = lane.place(change, limits);
        let (number, lacking) = lane.lacks(&end);
        let is_waiting = !lane.is_attached(&id);
        self.index(volume.book, &author, &placed.attached);
        self.forget(&placed.dropped);
        match rival {
            Some(rival) => Inserted::Equivocation(Box::new((rival.0, rival.1, head.0, head.1))),
            // It came farthest ahead of all that waits, and there was no room.
            None if !self.places.contains_key(&id) => Inserted::Refused(Refused::Ahead),
            None if is_waiting => Inserted::Lacks { author, number, change: lacking },
            None => Inserted::New,
        }
    }

    /// As [`Books::insert`], for a change that was asked for since `cut` needs it.
    ///
    /// An author that writes into more books than it may, and shows others to each node, would keep all from holding the
    /// same; so its changes in a book that the cut doesn't name give way, as far as they have to.
    pub fn insert_for(&mut self, cut: &Cut, change: VerifiedChange) -> Inserted {
        let (book, author) = (change.change().volume.book, change.change().author);
        let is_new = self.lane(&book, &author).is_none_or(Lane::is_idle);
        let is_needed = is_new && names(cut, &book, &author) && self.me != Some(author);
        if is_needed && self.busy_books(&author) >= self.limits.author_books {
            let mut lanes = self
                .open
                .iter_mut()
                .filter_map(|(book, open)| Some((book, open.lanes.get_mut(&author)?)));
            let given_up = lanes.find(|(book, lane)| !lane.is_idle() && !names(cut, book, &author));
            let dropped: Vec<_> =
                given_up.map(|(_, lane)| lane.clear()).into_iter().flatten().collect();
            self.forget(&dropped);
        }
        self.insert(change)
    }

    fn admit(&self, change: &VerifiedChange) -> Result<(), Refused> {
        let VolumeId { book, volume } = change.change().volume;
        let author = change.change().author;
        if !self.authors.contains(&author) {
            return Err(Refused::NotAuthor);
        }
        match volume.cmp(&self.volume(&book)) {
            std::cmp::Ordering::Less => return Err(Refused::Closed),
            std::cmp::Ordering::Greater => return Err(Refused::Future),
            std::cmp::Ordering::Equal => {}
        }
        let lane = self.lane(&book, &author);
        if lane.is_none_or(Lane::is_idle) && self.busy_books(&author) >= self.limits.author_books {
            return Err(Refused::Ahead);
        }
        match lane {
            Some(lane) => lane.admit(change, &self.limits),
            None => Lane::new(author).admit(change, &self.limits),
        }
    }

    /// Books in which an author has something that isn't final.
    fn busy_books(&self, author: &PeerKey) -> usize {
        let books = self.busy.range((*author, BookId::Network)..);
        books.take_while(|((other, _), _)| other == author).count()
    }

    pub(super) fn lane(&self, book: &BookId, author: &PeerKey) -> Option<&Lane> {
        self.open.get(book)?.lanes.get(author)
    }

    /// The number of a book's open volume.
    #[must_use]
    pub fn volume(&self, book: &BookId) -> u32 {
        self.open.get(book).map_or(0, |open| open.volume)
    }

    /// Adds changes that came into a lane's tree to the pending operations.
    pub(super) fn index(&mut self, book: BookId, author: &PeerKey, attached: &[ChangeId]) {
        for id in attached {
            let lane = self.open.get(&book).and_then(|open| open.lanes.get(author));
            let change = lane.and_then(|lane| lane.get(id)).expect("it was put there");
            for (index, operation) in change.operation_ids().iter().enumerate() {
                let pending = self.pending.entry(*operation).or_default();
                pending.changes.insert(*id, index);
            }
        }
    }

    /// Takes changes out of the indices.
    pub(super) fn forget(&mut self, changes: &[VerifiedChange]) {
        for change in changes {
            if let Some((book, author)) = self.places.remove(&change.id()) {
                self.leave(author, book);
            }
            for operation in change.operation_ids() {
                let Some(pending) = self.pending.get_mut(operation) else { continue };
                pending.changes.remove(&change.id());
                if pending.changes.is_empty() {
                    self.pending.remove(operation);
                }
            }
        }
    }

    fn leave(&mut self, author: PeerKey, book: BookId) {
        let count = self.busy.get_mut(&(author, book)).expect("counted when it came");
        *count -= 1;
        if *count == 0 {
            self.busy.remove(&(author, book));
        }
    }

    /// Drafts of own changes that bring these operations into their books: one for each book, of as many as fit. What
    /// is pending is left out; what is final the caller leaves out.
    ///
    /// A book whose own lane is full is left out, too, until more of it is final.
    #[must_use]
    pub fn compose(&self, operations: &[(OperationId, SignedOperation)]) -> Vec<Draft> {
        let Some(me) = self.me.filter(|me| self.authors.contains(me)) else { return Vec::new() };
        let mut books: BTreeMap<BookId, Vec<&SignedOperation>> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for (id, signed) in operations {
            if !self.pending.contains_key(id) && seen.insert(id) {
                books.entry(book_of(signed)).or_default().push(signed);
            }
        }
        books.into_iter().filter_map(|(book, all)| self.draft(book, me, &all)).collect()
    }

    fn draft(&self, book: BookId, me: PeerKey, operations: &[&SignedOperation]) -> Option<Draft> {
        let volume = VolumeId { book, volume: self.volume(&book) };
        let tip = self.lane(&book, &me).map_or_else(|| Lane::new(me).last.head, Lane::tip);
        let number = tip.number.checked_add(1)?;
        let mut bytes = CHANGE_ENVELOPE_BYTES;
        let fitting = operations.iter().take(CHANGE_OPERATIONS_MAX).take_while(|signed| {
            bytes += borsh::object_length(**signed).expect("counting bytes doesn't fail");
            bytes <= CHANGE_BYTES_MAX
        });
        let operations = List::truncated(fitting.map(|signed| (*signed).clone()));
        if operations.as_slice().is_empty() || !self.has_room(&book, &me, number, bytes) {
            return None;
        }
        Some(Draft { volume, author: me, number, previous: tip.change, operations })
    }

    fn has_room(&self, book: &BookId, me: &PeerKey, number: u64, bytes: usize) -> bool {
        let empty = Lane::new(*me);
        let lane = self.lane(book, me).unwrap_or(&empty);
        let is_allowed = !lane.is_idle() || self.busy_books(me) < self.limits.author_books;
        is_allowed && lane.has_room(number, bytes as u64, &self.limits)
    }

    /// Operations that aren't final, with their identifiers, ascending.
    pub fn pending(&self) -> impl Iterator<Item = (OperationId, &SignedOperation)> {
        self.not_final().map(|(id, pending)| (*id, self.operation_of(pending)))
    }

    /// How many they are.
    #[must_use]
    pub fn pending_count(&self) -> usize {
        self.not_final().count()
    }

    /// One of them.
    #[must_use]
    pub fn pending_operation(&self, id: &OperationId) -> Option<&SignedOperation> {
        let pending = self.pending.get(id).filter(|pending| !pending.is_final)?;
        Some(self.operation_of(pending))
    }

    fn not_final(&self) -> impl Iterator<Item = (&OperationId, &Pending)> {
        self.pending.iter().filter(|(_, pending)| !pending.is_final)
    }

    fn operation_of(&self, pending: &Pending) -> &SignedOperation {
        let (change, index) = pending.changes.first_key_value().expect("one holds it");
        let change = self.verified(change).expect("it's in its lane");
        &change.change().operations.as_slice()[*index]
    }

    /// Whether an operation is in a change that isn't final.
    #[must_use]
    pub fn contains(&self, operation: &OperationId) -> bool {
        self.pending.contains_key(operation)
    }

    /// Whether anything is pending.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.pending.values().any(|pending| !pending.is_final)
    }

    /// The number of a lane's last change here, 0 if it has none; `None` if the volume isn't the open one.
    #[must_use]
    pub fn lane_tip(&self, volume: &VolumeId, author: &PeerKey) -> Option<u64> {
        let lane = || self.lane(&volume.book, author).map_or(0, |lane| lane.tip().number);
        (self.volume(&volume.book) == volume.volume).then(lane)
    }

    /// The ends of lanes with something that isn't final, by volume and author.
    #[must_use]
    pub fn heads(&self) -> Vec<(VolumeId, Vec<LaneHead>)> {
        let mut heads: BTreeMap<VolumeId, Vec<LaneHead>> = BTreeMap::new();
        for (author, book) in self.busy.keys() {
            let lane = self.lane(book, author).expect("it has something that isn't final");
            let tip = lane.tip();
            if tip != lane.last.head {
                let volume = VolumeId { book: *book, volume: self.volume(book) };
                heads.entry(volume).or_default().push(tip);
            }
        }
        heads.into_iter().collect()
    }

    /// How far the lanes of a book's open volume are final: for [`Books::restore`].
    #[must_use]
    pub fn final_lanes(&self, book: &BookId) -> Vec<FinalLane> {
        let lanes = self.open.get(book).into_iter().flat_map(|open| open.lanes.values());
        lanes.map(|lane| lane.last).filter(|last| last.head.number > 0).collect()
    }

    /// An author's changes that aren't final, on the branch that counts, after a number; at most `limit`.
    #[must_use]
    pub fn changes(
        &self,
        volume: &VolumeId,
        author: &PeerKey,
        after: u64,
        limit: usize,
    ) -> Vec<&Change> {
        let open = self.open.get(&volume.book).filter(|open| open.volume == volume.volume);
        let lane = open.and_then(|open| open.lanes.get(author));
        let main = lane.into_iter().flat_map(Lane::main).map(VerifiedChange::change);
        main.filter(|change| change.number > after).take(limit).collect()
    }

    /// A change that isn't final, on whatever branch, waiting ones, too.
    #[must_use]
    pub fn change(&self, id: &ChangeId) -> Option<&Change> {
        self.verified(id).map(VerifiedChange::change)
    }

    fn verified(&self, id: &ChangeId) -> Option<&VerifiedChange> {
        let (book, author) = self.places.get(id)?;
        self.lane(book, author)?.get(id)
    }

    /// A volume as Automerge has it: what is final, from `source`, and in the open volume what is pending, of each
    /// lane the branch that counts.
    ///
    /// # Errors
    /// [`StorageError`]: `source` fails, or has other changes than those that are final.
    ///
    /// # Panics
    /// Never: the document was put there before.
    pub fn document(
        &mut self,
        volume: &VolumeId,
        source: &dyn VolumeSource,
    ) -> Result<&Document, StorageError> {
        let cached = self.documents.remove(volume).map(|(_, document)| document);
        let document = match cached.and_then(|document| self.continued(volume, document)) {
            Some(document) => document,
            None => self.built(volume, source)?,
        };
        self.documents_used += 1;
        while self.documents.len() >= self.limits.documents.max(1) {
            let oldest = self.documents.iter().min_by_key(|(_, (used, _))| *used);
            let Some(oldest) = oldest.map(|(volume, _)| *volume) else { break };
            self.documents.remove(&oldest);
        }
        self.documents.insert(*volume, (self.documents_used, document));
        Ok(&self.documents.get(volume).expect("it was put there").1)
    }

    /// The document with what came since, if it's still a part of the volume as it is.
    fn continued(&self, volume: &VolumeId, mut document: Document) -> Option<Document> {
        let Some(open) = self.open.get(&volume.book).filter(|open| open.volume == volume.volume)
        else {
            return Some(document);
        };
        if document.authors().any(|author| !open.lanes.contains_key(author)) {
            return None;
        }
        let mut news = Vec::new();
        for (author, lane) in &open.lanes {
            let (number, change) = document.end(author);
            let main: Vec<_> = lane.main().collect();
            let last = lane.last.head;
            let at_last = (last.number, last.change) == (number, change);
            let place = main.iter().position(|c| c.id() == change).map(|index| index + 1);
            news.extend(main.into_iter().skip(place.or_else(|| at_last.then_some(0))?));
        }
        document.extend(news).ok()?;
        Some(document)
    }

    fn built(
        &self,
        volume: &VolumeId,
        source: &dyn VolumeSource,
    ) -> Result<Document, StorageError> {
        let differs = || StorageError(format!("volume {volume} isn't what is final"));
        let mut document = Document::new(volume);
        let finals = source.changes(volume)?;
        if finals.iter().any(|change| change.change().volume != *volume) {
            return Err(differs());
        }
        let Some(open) = self.open.get(&volume.book).filter(|open| open.volume == volume.volume)
        else {
            document.extend(&finals).map_err(|_| differs())?;
            return Ok(document);
        };
        let pending = open.lanes.values().flat_map(Lane::main);
        document.extend(finals.iter().chain(pending)).map_err(|_| differs())?;
        let agrees = |(author, lane): (&PeerKey, &Lane)| {
            let tip = lane.tip();
            document.end(author) == (tip.number, tip.change)
        };
        let known = document.authors().all(|author| open.lanes.contains_key(author));
        if known && open.lanes.iter().all(agrees) { Ok(document) } else { Err(differs()) }
    }
}

/// Whether a cut moves this lane.
fn names(cut: &Cut, book: &BookId, author: &PeerKey) -> bool {
    let books = cut.books.as_slice();
    let book = books.binary_search_by_key(&book, |found| &found.book).ok();
    book.is_some_and(|index| {
        books[index].lanes.as_slice().binary_search_by_key(author, |lane| lane.author).is_ok()
    })
}

/// A change without its operations, in bytes.
const CHANGE_ENVELOPE_BYTES: usize = 33 + 4 + 32 + 8 + 32 + 4 + 64;
