//! Books as nodes keep them: what comes in any order ends alike, lies are contained, cuts are final everywhere alike.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use automerge::{ObjId, ROOT, ReadDoc as _};
use ed25519_dalek::{Signer as _, SigningKey};
use lamina_ledger::StorageError;
use lamina_ledger::book::{
    Books, ChangeError, CutError, Document, Draft, FinalisedCut, Inserted, InvalidCut, Limits,
    Refused, VerifiedChange, VolumeSource, export, verify, verify_with,
};
use lamina_types::account::SigningContext;
use lamina_types::{
    AccountKey, Action, Address, Amount, Asset, BookId, Canonical as _, Change, ChangeId, Cut,
    Digest, LaneHead, List, Operation, OperationId, PeerKey, ServiceId, SignedOperation, Timestamp,
    VolumeId,
};
use proptest::collection::vec;
use proptest::prelude::*;

const NETWORK: VolumeId = VolumeId { book: BookId::Network, volume: 0 };
const SERVICE: BookId = BookId::Service(ServiceId([9; 32]));

fn context() -> SigningContext {
    SigningContext { chain: "books-1".parse().expect("a chain id"), ethereum_chain: 31337 }
}

fn key(author: u8) -> SigningKey {
    SigningKey::from_bytes(&[author + 1; 32])
}

fn peer(author: u8) -> PeerKey {
    PeerKey(key(author).verifying_key().to_bytes())
}

fn operation(book: BookId, sequence: u64) -> (OperationId, SignedOperation) {
    let account = AccountKey::from_bytes(&[7; 32]).expect("below the order");
    let action = match book {
        BookId::Network => {
            Action::Transfer { to: Address([1; 20]), asset: Asset::Ether, amount: Amount(1) }
        }
        BookId::Service(service) => Action::OptIn { service },
    };
    let operation = Operation {
        account: account.address(),
        sequence,
        valid_until: Timestamp(1),
        fee_max: Amount(1),
        action,
    };
    (operation.id(&context()), operation.sign(&account, &context()))
}

fn sign(draft: Draft, author: u8) -> VerifiedChange {
    let change = draft.sign(&context(), &|digest| key(author).sign(&digest.0).to_bytes());
    verify_with(change, &context(), &|_, _| true).expect("well-formed")
}

/// A change of the network's book with one operation for each sequence number.
fn change(author: u8, number: u64, previous: ChangeId, sequences: &[u64]) -> VerifiedChange {
    let operations = sequences.iter().map(|n| operation(BookId::Network, *n).1);
    let operations = List::truncated(operations);
    sign(Draft { volume: NETWORK, author: peer(author), number, previous, operations }, author)
}

/// A lane of so many changes, each with one operation.
fn lane(author: u8, count: u64, first_sequence: u64) -> Vec<VerifiedChange> {
    let mut lane: Vec<VerifiedChange> = Vec::new();
    for number in 1..=count {
        let previous = lane.last().map(VerifiedChange::id).unwrap_or_default();
        lane.push(change(author, number, previous, &[first_sequence + number]));
    }
    lane
}

/// A node with its disk.
struct Node {
    author: u8,
    books: Books,
    disk: Disk,
}

#[derive(Default)]
struct Disk(BTreeMap<VolumeId, Vec<VerifiedChange>>);

impl VolumeSource for Disk {
    fn changes(&self, volume: &VolumeId) -> Result<Vec<VerifiedChange>, StorageError> {
        Ok(self.0.get(volume).cloned().unwrap_or_default())
    }
}

impl Node {
    fn network(count: u8, limits: &Limits) -> Vec<Self> {
        let authors: BTreeSet<_> = (0..count).map(peer).collect();
        let node = |author| Self {
            author,
            books: Books::new(limits.clone(), Some(peer(author)), authors.clone()),
            disk: Disk::default(),
        };
        (0..count).map(node).collect()
    }

    /// Writes operations into its own lanes. The changes to be sent.
    fn write(&mut self, operations: &[(OperationId, SignedOperation)]) -> Vec<VerifiedChange> {
        let drafts = self.books.compose(operations);
        let changes: Vec<_> = drafts.into_iter().map(|draft| sign(draft, self.author)).collect();
        for change in &changes {
            assert_eq!(self.books.insert(change.clone()), Inserted::New);
        }
        changes
    }

    fn finalise(&mut self, cut: &Cut) -> FinalisedCut {
        let result = self.books.finalise(cut).expect("a cut that holds");
        for change in &result.changes {
            self.disk.0.entry(change.change().volume).or_default().push(change.clone());
        }
        result
    }

    fn document(&mut self, volume: VolumeId) -> &Document {
        self.books.document(&volume, &self.disk).expect("a good disk")
    }

    fn pending(&self) -> Vec<OperationId> {
        self.books.pending().map(|(id, _)| id).collect()
    }
}

fn single() -> Node {
    Node::network(3, &Limits::default()).remove(0)
}

/// Each node asks each other one for what it lacks, by heads and numbers.
fn exchange(nodes: &mut [Node]) {
    for to in 0..nodes.len() {
        for from in 0..nodes.len() {
            let mut changes = Vec::new();
            for (volume, lanes) in nodes[from].books.heads() {
                for head in lanes {
                    let lane = nodes[from].books.changes(&volume, &head.author, 0, usize::MAX);
                    changes.extend(lane.into_iter().cloned());
                }
            }
            for change in changes {
                let verified = verify_with(change, &context(), &|_, _| true);
                nodes[to].books.insert(verified.expect("it was verified before"));
            }
        }
    }
}

fn assert_equal(nodes: &mut [Node], volumes: &[VolumeId]) {
    let (first, others) = nodes.split_first_mut().expect("there are nodes");
    for other in others {
        assert_eq!(first.books.heads(), other.books.heads());
        assert_eq!(first.pending(), other.pending());
        for volume in volumes {
            assert_eq!(first.document(*volume).heads(), other.document(*volume).heads());
        }
    }
}

fn count(document: &Document) -> usize {
    document.automerge().length(operations(document))
}

fn operations(document: &Document) -> ObjId {
    let found = document.automerge().get(ROOT, "operations").expect("readable");
    found.expect("the map is there").1
}

/// All values of each key, those that lose against another author's, too.
fn contents(document: &Document) -> Vec<(String, Vec<String>)> {
    let automerge = document.automerge();
    let operations = operations(document);
    let values = |key: &str| {
        let all = automerge.get_all(&operations, key).expect("readable");
        all.into_iter().map(|(value, _)| format!("{value:?}")).collect()
    };
    automerge.keys(&operations).map(|key| (key.clone(), values(&key))).collect()
}

fn cut(lanes: &[&VerifiedChange]) -> Cut {
    let mut heads: Vec<_> = lanes
        .iter()
        .map(|change| LaneHead {
            author: change.change().author,
            number: change.change().number,
            change: change.id(),
        })
        .collect();
    heads.sort_by_key(|head| head.author);
    let lanes = List::truncated(heads);
    let book = lamina_types::BookCut { book: BookId::Network, volume: 0, lanes };
    Cut { books: List::truncated([book]) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// Writes at random nodes; each message reaches each other node late, twice or never; then nodes exchange what they
    /// lack, and finalise in some cuts.
    #[test]
    fn any_delivery_ends_in_equal_books(
        count in 2_u8..=5,
        writes in vec((any::<u8>(), any::<bool>(), 1_u64..4), 1..14),
        deliveries in vec((any::<prop::sample::Index>(), any::<u8>()), 0..60),
        operations_max in 3_usize..20,
    ) {
        let mut nodes = Node::network(count, &Limits::default());
        let mut sent = Vec::new();
        for (index, (at, service, size)) in writes.into_iter().enumerate() {
            let book = if service { SERVICE } else { BookId::Network };
            // Some operations are written at two nodes.
            let first = index as u64 * 2;
            let operations: Vec<_> = (first..first + size).map(|n| operation(book, n)).collect();
            sent.extend(nodes[usize::from(at % count)].write(&operations));
        }
        for (which, to) in deliveries {
            if !sent.is_empty() {
                nodes[usize::from(to % count)].books.insert(which.get(&sent).clone());
            }
        }
        exchange(&mut nodes);
        let volumes = [NETWORK, VolumeId { book: SERVICE, volume: 0 }];
        assert_equal(&mut nodes, &volumes);
        let before: Vec<_> = volumes.map(|volume| nodes[0].document(volume).heads()).to_vec();

        let mut finals = BTreeSet::new();
        loop {
            let proposer = finals.len() % nodes.len();
            let cut = nodes[proposer].books.propose(operations_max);
            if cut.books.as_slice().is_empty() { break }
            prop_assert_eq!(Cut::from_bytes(&cut.to_bytes()), Ok(cut.clone()));
            let checked: Vec<_> = nodes.iter().map(|node| node.books.check(&cut)).collect();
            prop_assert!(checked.iter().all(|other| *other == checked[0]));
            let operations = checked[0].clone().unwrap();
            prop_assert!(!operations.is_empty() && operations.len() <= operations_max);
            finals.extend(operations.into_iter().map(|(id, _)| id));
            let results: Vec<_> = nodes.iter_mut().map(|node| node.finalise(&cut)).collect();
            prop_assert!(results.iter().all(|other| *other == results[0]));
            prop_assert!(results[0].fallen.is_empty() && results[0].closed.is_empty());
            assert_equal(&mut nodes, &volumes);
        }
        prop_assert!(nodes[0].pending().is_empty());
        let written: BTreeSet<_> =
            sent.iter().flat_map(VerifiedChange::operation_ids).copied().collect();
        prop_assert_eq!(finals, written);
        // A node that kept nothing in memory reads the same from its disk.
        for node in &mut nodes {
            node.books = Books::new(Limits::default(), None, BTreeSet::new());
        }
        for (volume, heads) in volumes.iter().zip(&before) {
            let disk = Disk(nodes[0].disk.0.clone());
            let mut document = Document::new(volume);
            document.extend(&disk.changes(volume).unwrap()).unwrap();
            prop_assert_eq!(&document.heads(), heads);
        }
    }

    /// Whatever a peer makes of a good change's bytes: decoding, verifying and inserting say no, and don't panic.
    #[test]
    fn mutated_bytes_are_refused(
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut_to in any::<prop::sample::Index>(),
    ) {
        let good = change(1, 1, ChangeId::default(), &[1, 2]).into_change().to_bytes();
        let mut bytes = good.clone();
        for (place, value) in edits {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let mut node = single();
        for bytes in [&bytes[..], &bytes[..cut_to.index(bytes.len())]] {
            let Ok(change) = Change::from_bytes(bytes) else { continue };
            match verify(change, &context()) {
                Ok(verified) => {
                    prop_assert_eq!(bytes, &good[..]);
                    prop_assert_eq!(node.books.insert(verified), Inserted::New);
                }
                Err(_) => prop_assert_ne!(bytes, &good[..]),
            }
        }
    }

    /// With all signatures right, a hostile author's places may be anything.
    #[test]
    fn signed_nonsense_is_contained(
        changes in vec((0_u64..7, 0_usize..9, 0_u64..4), 1..30),
    ) {
        let mut node = single();
        let mut made = vec![ChangeId::default()];
        for (number, previous, sequence) in changes {
            let previous = made[previous % made.len()];
            let operations = List::truncated([operation(BookId::Network, sequence).1]);
            let draft =
                Draft { volume: NETWORK, author: peer(1), number, previous, operations };
            let signed = draft.sign(&context(), &|digest| key(1).sign(&digest.0).to_bytes());
            let Ok(change) = verify_with(signed, &context(), &|_, _| true) else { continue };
            made.push(change.id());
            node.books.insert(change);
            let numbers: Vec<_> = node.books.changes(&NETWORK, &peer(1), 0, 99)
                .iter().map(|change| change.number).collect();
            prop_assert!(numbers.iter().copied().eq(1..=numbers.len() as u64));
            node.document(NETWORK);
        }
        let cut = node.books.propose(1000);
        node.finalise(&cut);
        node.document(NETWORK);
    }

    /// Authors that branch as they like, seen in different orders: nodes with the same changes agree on all, before and
    /// after each cut, and no pending operation is lost by one.
    #[test]
    fn branching_lanes_in_any_order_end_alike(
        changes in vec((1_u8..3, 0_usize..20, 0_u64..8), 1..25),
        shuffles in (any::<u64>(), any::<u64>()),
        operations_max in 1_usize..8,
    ) {
        let mut nodes = Node::network(3, &Limits::default());
        let mut made: Vec<VerifiedChange> = Vec::new();
        for (author, previous, sequence) in changes {
            let lane: Vec<_> =
                made.iter().filter(|c| c.change().author == peer(author)).collect();
            let previous = previous.checked_rem(lane.len() + 1).and_then(|n| lane.get(n));
            let (number, previous) =
                previous.map_or((1, ChangeId([0; 32])), |c| (c.change().number + 1, c.id()));
            made.push(change(author, number, previous, &[sequence]));
        }
        let mut orders = [made.clone(), made.clone(), made];
        orders[1].sort_by_key(|c| mixed(c, shuffles.0));
        orders[2].sort_by_key(|c| mixed(c, shuffles.1));
        for (node, order) in nodes.iter_mut().zip(orders) {
            for change in order {
                node.books.insert(change);
            }
        }
        assert_equal(&mut nodes, &[NETWORK]);
        for turn in 0.. {
            let cut = nodes[turn % 3].books.propose(operations_max);
            if cut.books.as_slice().is_empty() { break }
            let before: BTreeSet<_> = nodes[0].pending().into_iter().collect();
            let results: Vec<_> = nodes.iter_mut().map(|node| node.finalise(&cut)).collect();
            prop_assert!(results.iter().all(|other| *other == results[0]));
            assert_equal(&mut nodes, &[NETWORK]);
            let mut after: BTreeSet<_> = nodes[0].pending().into_iter().collect();
            prop_assert!(results[0].fallen.iter().all(|fallen| !after.contains(&fallen.id)));
            after.extend(results[0].fallen.iter().map(|fallen| fallen.id));
            after.extend(results[0].changes.iter().flat_map(VerifiedChange::operation_ids));
            prop_assert!(before.is_subset(&after));
        }
        prop_assert!(nodes[0].pending().is_empty() && nodes[0].books.heads().is_empty());
    }
}

/// A number that puts changes into an order by `seed`.
fn mixed(change: &VerifiedChange, seed: u64) -> Digest {
    Digest::of(&[&change.id().0[..], &seed.to_be_bytes()].concat())
}

#[test]
fn equivocator_harms_its_own_lane_alone() {
    let mut nodes = Node::network(4, &Limits::default());
    let first = change(3, 1, ChangeId::default(), &[100]);
    let left = change(3, 2, first.id(), &[101]);
    let left_on = change(3, 3, left.id(), &[103]);
    let right = change(3, 2, first.id(), &[102]);
    let honest = nodes[0].write(&[operation(BookId::Network, 1)]).remove(0);
    for node in &mut nodes[..3] {
        node.books.insert(honest.clone());
        assert_eq!(node.books.insert(first.clone()), Inserted::New);
    }
    assert_eq!(nodes[0].books.insert(left.clone()), Inserted::New);
    assert_eq!(nodes[1].books.insert(right.clone()), Inserted::New);

    // A cut of the branch that a node doesn't have names what is lacking.
    let chosen = cut(&[&honest, &right]);
    let Err(CutError::Missing(missing)) = nodes[0].books.check(&chosen) else { panic!() };
    assert_eq!((missing[0].number, missing[0].change), (2, right.id()));
    let Inserted::Equivocation(proof) = nodes[0].books.insert(right.clone()) else { panic!() };
    assert_eq!((proof.0.number, proof.2.number), (2, 2));
    assert_ne!(proof.0, proof.2);
    assert!(matches!(nodes[1].books.insert(left.clone()), Inserted::Equivocation(_)));
    for node in [2, 0, 1] {
        for change in [&left_on, &right, &left] {
            nodes[node].books.insert(change.clone());
        }
    }
    assert_equal(&mut nodes[..3], &[NETWORK]);
    assert_eq!(count(nodes[0].document(NETWORK)), 4);

    for node in &mut nodes[..3] {
        let operations = node.books.check(&chosen).unwrap();
        assert_eq!(operations.len(), 3);
        let result = node.finalise(&chosen);
        let fallen: BTreeSet<_> = result.fallen.iter().map(|fallen| fallen.id).collect();
        let lost = [101, 103].map(|n| operation(BookId::Network, n).0);
        assert_eq!(fallen, BTreeSet::from(lost));
        assert!(result.fallen.iter().all(|fallen| fallen.author == peer(3)));
        assert!(node.pending().is_empty());
        assert_eq!(node.books.insert(left.clone()), Inserted::Refused(Refused::Behind));
        assert_eq!(node.books.insert(left_on.clone()), Inserted::Refused(Refused::Behind));
    }
    assert_equal(&mut nodes[..3], &[NETWORK]);
    // Somebody else carries again what fell away; a document made before shows it.
    let again = [operation(BookId::Network, 101), operation(BookId::Network, 103)];
    assert_eq!(nodes[1].write(&again).len(), 1);
    assert_eq!(count(nodes[1].document(NETWORK)), 5);
}

#[test]
fn side_branches_are_bounded_and_make_room_for_the_one_that_a_cut_names() {
    let limits = Limits { pending_changes: 4, ..Limits::default() };
    let mut node = Node::network(2, &limits).remove(0);
    let side = |n| change(1, 1, ChangeId::default(), &[n]);
    for n in 0..50 {
        node.books.insert(side(n));
    }
    let kept = (0..50).filter(|n| node.books.change(&side(*n).id()).is_some()).count();
    assert_eq!(kept, 8);
    let named = side(0);
    node.books.insert(named.clone());
    assert!(node.books.check(&cut(&[&named])).is_ok());
    let result = node.finalise(&cut(&[&named]));
    assert!(node.pending().is_empty());
    assert!(!result.fallen.iter().any(|fallen| fallen.id == named.operation_ids()[0]));
}

#[test]
fn changes_out_of_order_wait_for_the_one_that_lacks() {
    let mut node = single();
    let lane = lane(1, 4, 0);
    let lacks = |number: u64, change| Inserted::Lacks { author: peer(1), number, change };
    assert_eq!(node.books.insert(lane[3].clone()), lacks(3, lane[2].id()));
    assert_eq!(node.books.insert(lane[2].clone()), lacks(2, lane[1].id()));
    assert_eq!(node.books.insert(lane[2].clone()), Inserted::Known);
    assert!(node.pending().is_empty() && node.books.heads().is_empty());
    let Err(CutError::Missing(missing)) = node.books.check(&cut(&[&lane[3]])) else { panic!() };
    assert_eq!((missing[0].number, missing[0].change), (2, lane[1].id()));
    assert_eq!(node.books.insert(lane[0].clone()), Inserted::New);
    assert_eq!(node.books.insert(lane[1].clone()), Inserted::New);
    assert_eq!(node.pending().len(), 4);
    assert_eq!(node.books.check(&cut(&[&lane[3]])).unwrap().len(), 4);
}

#[test]
fn changes_that_do_not_hold_are_refused() {
    let good = change(1, 1, ChangeId::default(), &[1]).into_change();
    let refused = |edit: &dyn Fn(&mut Change), signed: bool| {
        let mut change = good.clone();
        edit(&mut change);
        if signed {
            let digest = change.head().id(&context().chain);
            change.signature = key(1).sign(&digest.0).to_bytes();
        }
        verify(change, &context()).unwrap_err()
    };
    let twice = List::truncated([1, 1].map(|n| operation(BookId::Network, n).1));
    let foreign = List::truncated([operation(SERVICE, 1).1]);
    let mut forged = operation(BookId::Network, 1).1;
    forged.operation.sequence = 2;
    assert_eq!(refused(&|c| c.signature[5] ^= 1, false), ChangeError::Signature);
    assert_eq!(refused(&|c| c.author = peer(2), false), ChangeError::Signature);
    assert_eq!(refused(&|c| c.number = 0, true), ChangeError::Place);
    assert_eq!(refused(&|c| c.number = 2, true), ChangeError::Place);
    assert_eq!(refused(&|c| c.previous = ChangeId([1; 32]), true), ChangeError::Place);
    assert_eq!(refused(&|c| c.operations = List::default(), true), ChangeError::Empty);
    assert_eq!(refused(&|c| c.operations = twice.clone(), true), ChangeError::Twice { index: 1 });
    let error = refused(&|c| c.operations = foreign.clone(), true);
    assert_eq!(error, ChangeError::ForeignBook { index: 0 });
    let error = refused(&|c| c.operations = List::truncated([forged.clone()]), true);
    assert!(matches!(error, ChangeError::Operation { index: 0, .. }));
    let other = SigningContext { chain: "books-2".parse().unwrap(), ethereum_chain: 31337 };
    assert_eq!(verify(good.clone(), &other), Err(ChangeError::Signature));
    assert!(verify(good, &context()).is_ok());
}

#[test]
fn changes_out_of_place_are_refused() {
    let mut node = single();
    let lane = lane(1, 3, 0);
    let stranger = change(8, 1, ChangeId::default(), &[1]);
    assert_eq!(node.books.insert(stranger), Inserted::Refused(Refused::NotAuthor));
    node.books.insert(lane[0].clone());
    let leap = change(1, 3, lane[0].id(), &[9]);
    assert_eq!(node.books.insert(leap), Inserted::Refused(Refused::Number));
    let operations = List::truncated([operation(BookId::Network, 1).1]);
    let volume = VolumeId { volume: 1, ..NETWORK };
    let draft =
        Draft { volume, author: peer(1), number: 1, previous: ChangeId::default(), operations };
    assert_eq!(node.books.insert(sign(draft, 1)), Inserted::Refused(Refused::Future));
    let fallen = node.books.set_authors(BTreeSet::from([peer(0)]));
    assert_eq!(fallen.iter().map(|f| f.id).collect::<Vec<_>>(), lane[0].operation_ids());
    assert!(node.pending().is_empty() && node.books.heads().is_empty());
    let Err(error) = node.books.check(&cut(&[&lane[0]])) else { panic!() };
    assert_eq!(error, InvalidCut::NotAuthor { author: peer(1) }.into());
}

#[test]
fn cuts_that_do_not_hold_change_nothing() {
    let mut node = single();
    let lanes = [lane(1, 2, 0), lane(2, 2, 10)];
    for change in lanes.iter().flatten() {
        node.books.insert(change.clone());
    }
    node.finalise(&cut(&[&lanes[0][0]]));
    let heads = node.books.heads();
    let mut backwards = cut(&[&lanes[0][1], &lanes[1][0]]);
    let mut lanes_of = backwards.books.as_slice()[0].lanes.as_slice().to_vec();
    lanes_of.reverse();
    let mut book = backwards.books.as_slice()[0].clone();
    book.lanes = List::truncated(lanes_of);
    backwards.books = List::truncated([book.clone()]);
    let empty = lamina_types::BookCut { lanes: List::default(), ..book.clone() };
    let mut wrong_number = cut(&[&lanes[1][1]]);
    let head = LaneHead { number: 1, ..wrong_number.books.as_slice()[0].lanes.as_slice()[0] };
    let lane = lamina_types::BookCut { lanes: List::truncated([head]), ..book.clone() };
    wrong_number.books = List::truncated([lane]);
    let other_volume =
        lamina_types::BookCut { volume: 1, ..cut(&[&lanes[1][1]]).books.as_slice()[0].clone() };
    let cuts = [
        cut(&[&lanes[0][0]]),
        backwards,
        Cut { books: List::truncated([empty]) },
        wrong_number,
        Cut { books: List::truncated([other_volume]) },
    ];
    for cut in cuts {
        assert!(matches!(node.books.check(&cut), Err(CutError::Invalid(_))), "{cut:?}");
        assert!(matches!(node.books.finalise(&cut), Err(CutError::Invalid(_))));
        assert_eq!(node.books.heads(), heads);
    }
}

#[test]
fn full_volume_is_closed_and_what_was_not_final_comes_back() {
    let limits = Limits { volume_operations: 3, ..Limits::default() };
    let mut nodes = Node::network(2, &limits);
    let mine = nodes[0].write(&(0..3).map(|n| operation(BookId::Network, n)).collect::<Vec<_>>());
    let late = nodes[0].write(&[operation(BookId::Network, 3)]).remove(0);
    // The other one carries an operation that is final by the cut, and one that isn't.
    let other = change(1, 1, ChangeId::default(), &[0, 4]);
    nodes[0].books.insert(other.clone());
    nodes[0].document(NETWORK);
    let result = nodes[0].finalise(&cut(&[&mine[0]]));
    assert_eq!(result.closed, [NETWORK]);
    let fallen: BTreeSet<_> = result.fallen.iter().map(|f| (f.author, f.id)).collect();
    let expected = [(0, 3), (1, 4)].map(|(a, n)| (peer(a), operation(BookId::Network, n).0));
    assert_eq!(fallen, BTreeSet::from(expected));
    assert_eq!(nodes[0].books.insert(other), Inserted::Refused(Refused::Closed));
    assert_eq!(nodes[0].books.insert(late), Inserted::Refused(Refused::Closed));
    assert_eq!(count(nodes[0].document(NETWORK)), 3);
    let again = nodes[0].write(&[operation(BookId::Network, 3)]).remove(0);
    let change = again.change();
    assert_eq!((change.volume.volume, change.number), (1, 1));
    assert_eq!(change.previous, ChangeId::default());
}

#[test]
fn flooder_meets_its_bounds_and_starves_nobody() {
    let limits = Limits { pending_changes: 4, lane_changes: 6, ..Limits::default() };
    let mut node = Node::network(3, &limits).remove(0);
    let flood = lane(1, 7, 0);
    let honest = lane(2, 1, 50);
    for change in &flood[..4] {
        assert_eq!(node.books.insert(change.clone()), Inserted::New);
    }
    assert_eq!(node.books.insert(flood[4].clone()), Inserted::Refused(Refused::Ahead));
    node.books.insert(honest[0].clone());
    let proposed = node.books.propose(2);
    let mut authors: Vec<_> =
        proposed.books.as_slice()[0].lanes.as_slice().iter().map(|lane| lane.author).collect();
    authors.sort_unstable();
    let mut expected = vec![peer(1), peer(2)];
    expected.sort_unstable();
    assert_eq!(authors, expected);
    node.finalise(&cut(&[&flood[3]]));
    for change in &flood[4..6] {
        assert_eq!(node.books.insert(change.clone()), Inserted::New);
    }
    assert_eq!(node.books.insert(flood[6].clone()), Inserted::Refused(Refused::Quota));
    // The lane at its quota ends the volume.
    assert_eq!(node.finalise(&cut(&[&flood[5]])).closed, [NETWORK]);
}

#[test]
fn author_may_have_changes_in_so_many_books_only() {
    let limits = Limits { author_books: 2, ..Limits::default() };
    let mut node = Node::network(2, &limits).remove(0);
    let books = [BookId::Network, SERVICE, BookId::Service(ServiceId([8; 32]))];
    let operations = books.map(|book| operation(book, 1));
    let mut drafts = node.books.compose(&operations);
    assert_eq!(drafts.len(), 3);
    let third = drafts.pop().unwrap();
    for draft in drafts {
        assert_eq!(node.books.insert(sign(draft, 0)), Inserted::New);
    }
    assert_eq!(node.books.insert(sign(third, 0)), Inserted::Refused(Refused::Ahead));
    assert!(node.books.compose(&operations).is_empty());
}

#[test]
fn author_of_too_many_books_cannot_keep_nodes_from_checking_a_cut() {
    let limits = Limits { author_books: 2, ..Limits::default() };
    let mut nodes = Node::network(3, &limits);
    let books = [BookId::Network, SERVICE, BookId::Service(ServiceId([8; 32]))];
    // Drafted by a node that doesn't keep to its own bounds.
    let all = nodes[1].books.compose(&books.map(|book| operation(book, 1)));
    let all: Vec<_> = all.into_iter().map(|draft| sign(draft, 1)).collect();
    for (node, shown) in [(0, [0, 1]), (2, [1, 2])] {
        for index in shown {
            assert_eq!(nodes[node].books.insert(all[index].clone()), Inserted::New);
        }
    }
    let cut = nodes[2].books.propose(10);
    let Err(CutError::Missing(missing)) = nodes[0].books.check(&cut) else { panic!() };
    let lacking = all.iter().find(|change| change.id() == missing[0].change).unwrap().clone();
    let refused = Inserted::Refused(Refused::Ahead);
    assert_eq!(nodes[0].books.insert(lacking.clone()), refused);
    assert_eq!(nodes[0].books.insert_for(&Cut::default(), lacking.clone()), refused);
    assert_eq!(nodes[0].books.insert_for(&cut, lacking), Inserted::New);
    assert_eq!(nodes[0].books.check(&cut), nodes[2].books.check(&cut));
    assert_eq!(nodes[0].finalise(&cut).changes.len(), 2);
    assert!(nodes[0].pending().is_empty());
}

#[test]
fn documents_that_were_not_looked_at_lately_are_made_again() {
    let limits = Limits { documents: 1, ..Limits::default() };
    let mut node = Node::network(1, &limits).remove(0);
    let other = VolumeId { book: SERVICE, volume: 0 };
    let change = node.write(&[operation(BookId::Network, 1)]).remove(0);
    node.write(&[operation(SERVICE, 1)]);
    let heads = [NETWORK, other].map(|volume| node.document(volume).heads());
    node.finalise(&cut(&[&change]));
    assert_eq!([NETWORK, other].map(|volume| node.document(volume).heads()), heads);
    // The one that was looked at last needs no disk; the other one does, and this disk is empty.
    assert!(node.books.document(&other, &Disk::default()).is_ok());
    assert!(node.books.document(&NETWORK, &Disk::default()).is_err());
}

#[test]
fn own_changes_hold_what_fits_and_leave_out_what_is_pending() {
    let mut node = single();
    let operations: Vec<_> = (0..300).map(|n| operation(BookId::Network, n)).collect();
    let sizes: Vec<_> = (0..3)
        .flat_map(|_| node.write(&operations))
        .map(|change| change.operation_ids().len())
        .collect();
    assert_eq!(sizes, [256, 44]);
    assert_eq!(node.pending().len(), 300);
}

#[test]
fn restored_books_go_on_where_they_stopped() {
    let mut node = single();
    let mine = node.write(&[operation(BookId::Network, 1)]).remove(0);
    let pending = node.write(&[operation(BookId::Network, 2)]).remove(0);
    node.finalise(&cut(&[&mine]));
    let lanes = node.books.final_lanes(&BookId::Network);
    let authors = BTreeSet::from([peer(0)]);
    let mut again = Books::new(Limits::default(), Some(peer(0)), authors);
    again.restore(NETWORK, lanes, vec![pending.clone()]);
    assert_eq!(again.heads(), node.books.heads());
    let draft = again.compose(&[operation(BookId::Network, 3)]).remove(0);
    assert_eq!((draft.number, draft.previous), (3, pending.id()));
    assert_eq!(
        again.document(&NETWORK, &node.disk).unwrap().heads(),
        node.document(NETWORK).heads()
    );
    // A disk that lacks what is final isn't passed over.
    let mut other = Books::new(Limits::default(), None, BTreeSet::from([peer(0)]));
    other.restore(NETWORK, again.final_lanes(&BookId::Network), Vec::new());
    assert!(other.document(&NETWORK, &Disk::default()).is_err());
}

#[test]
fn books_that_a_checkpoint_moves_on_keep_what_is_still_due() {
    let mut node = single();
    let mine: Vec<_> =
        (1..=3).map(|at| node.write(&[operation(BookId::Network, at)]).remove(0)).collect();
    let mut ahead = single();
    for change in &mine {
        ahead.books.insert(change.clone());
    }
    ahead.finalise(&cut(&[&mine[1]]));
    node.document(NETWORK);
    node.books.restore(NETWORK, ahead.books.final_lanes(&BookId::Network), Vec::new());
    assert_eq!(node.books.heads(), ahead.books.heads());
    assert_eq!(node.pending(), ahead.pending());
    assert!(node.books.change(&mine[0].id()).is_none());
    assert_eq!(node.books.change(&mine[2].id()), Some(mine[2].change()));
    assert_eq!(node.books.insert(mine[0].clone()), Inserted::Refused(Refused::Behind));
    let draft = node.books.compose(&[operation(BookId::Network, 4)]).remove(0);
    assert_eq!((draft.number, draft.previous), (4, mine[2].id()));
    let document = node.books.document(&NETWORK, &ahead.disk).unwrap();
    assert_eq!(document.heads(), ahead.document(NETWORK).heads());
}

#[test]
fn batch_and_one_by_one_make_the_same_document() {
    // The second lane repeats an operation of the first one, and one of its own.
    let first = lane(1, 3, 0);
    let one = change(2, 1, ChangeId::default(), &[1, 7]);
    let two = change(2, 2, one.id(), &[7, 8]);
    let all: Vec<_> = first.into_iter().chain([one, two]).collect();
    let mut batch = Document::new(&NETWORK);
    batch.extend(&all).unwrap();
    let mut singly = Document::new(&NETWORK);
    for change in all[3..].iter().chain(&all[..3]) {
        singly.extend([change]).unwrap();
    }
    assert_eq!(batch.heads(), singly.heads());
    assert_eq!(batch.heads().len(), 2);
    assert_eq!(contents(&batch), contents(&singly));
    assert_eq!(export(&all, &NETWORK), export(all.iter().rev(), &NETWORK));
    assert_eq!((count(&batch), count(&singly)), (5, 5));
    assert!(batch.extend([&all[0]]).is_err());
}

#[test]
fn automerge_changes_are_what_automerge_itself_would_write() {
    let lane = lane(1, 2, 0);
    let mut document = Document::new(&NETWORK);
    document.extend(&lane).unwrap();
    for change in document.automerge().get_changes(&[]) {
        let again = automerge::Change::from(change.decode());
        assert_eq!((again.hash(), again.raw_bytes()), (change.hash(), change.raw_bytes()));
    }
    // Automerge's own reader, which verifies hashes, takes the file.
    let read = automerge::Automerge::load(&export(&lane, &NETWORK).unwrap()).unwrap();
    let mut heads = read.get_heads();
    heads.sort_unstable();
    assert_eq!(heads, document.heads());
    let last = document.automerge().get_change_meta_by_hash(&heads[0]).unwrap();
    assert_eq!((last.seq, last.timestamp, last.actor.to_bytes()), (2, 0, &peer(1).0[..]));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test may write what another program reads")]
fn exported_book_opens_in_javascript() {
    let sequences: Vec<u64> = (0..20).collect();
    let first = change(1, 1, ChangeId::default(), &sequences);
    // Twelve of the other lane's are in the first one, too.
    let second = change(2, 1, ChangeId::default(), &(8..30).collect::<Vec<_>>());
    let bytes = export([&first, &second], &NETWORK).unwrap();

    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("javascript");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/javascript");
    std::fs::create_dir_all(&folder).unwrap();
    for file in ["package.json", "package-lock.json", "count.mjs"] {
        std::fs::copy(source.join(file), folder.join(file)).unwrap();
    }
    std::fs::write(folder.join("book.automerge"), bytes).unwrap();
    run(Command::new("npm").current_dir(&folder).args([
        "ci",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ]));
    let output =
        run(Command::new("node").current_dir(&folder).args(["count.mjs", "book.automerge"]));
    assert_eq!(output.trim(), "30 network 0");
}

/// What the command prints.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error}; install Node.js: apt-get install nodejs npm")
    });
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).expect("it prints text")
}

#[test]
fn digest_that_is_signed_is_the_changes_identifier() {
    let operations = List::truncated([operation(BookId::Network, 1).1]);
    let (author, previous) = (peer(1), ChangeId::default());
    let draft = Draft { volume: NETWORK, author, number: 1, previous, operations };
    let seen = std::cell::Cell::new(Digest::default());
    let change = draft.sign(&context(), &|digest| {
        seen.set(*digest);
        key(1).sign(&digest.0).to_bytes()
    });
    assert_eq!(verify(change, &context()).unwrap().id().0, seen.get().0);
}
