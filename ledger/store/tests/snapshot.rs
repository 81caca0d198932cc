//! A state goes from one store to another in pieces, whoever hands them out.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

mod support;

use lamina_ledger::StateReader as _;
use lamina_ledger::state::Writes;
use lamina_ledger_store::{CHUNK_BYTES_MAX, Chunk, Error, Restore, Store};
use lamina_types::{Bytes, Canonical as _, Digest, Height, List};
use support::{AUTHOR, advance, change, cut_at, many, memory, next, volume, writes};

/// About ten entries a piece.
const PIECE: usize = 18_000;

/// A store at height 3 whose keys were written at several heights, and one more checkpoint.
fn source() -> (Store, lamina_ledger::Decision) {
    let store = memory(10);
    advance(&store, many(100, 0));
    advance(&store, many(50, 1));
    advance(&store, writes([("a", "1"), ("commitments/00000099", "")]));
    advance(&store, writes([("b", "1")]));
    let decision = store.tip().unwrap().unwrap();
    advance(&store, many(100, 7));
    (store, decision)
}

fn restore_all(source: &Store, restore: &mut Restore<'_>) -> u64 {
    let height = restore.progress().height;
    while !restore.progress().complete {
        let chunk = source.snapshot_chunk(height, restore.after(), PIECE).unwrap();
        restore.add(&Chunk::from_bytes(&chunk.to_bytes()).unwrap()).unwrap();
    }
    restore.progress().chunks
}

fn entries(store: &Store) -> lamina_ledger::Entries {
    store.reader().unwrap().range(&[0], &[u8::MAX], usize::MAX).unwrap()
}

/// While the state moves on, the piece is of the height that was asked for.
#[test]
fn restored_store_goes_on_with_equal_roots() {
    let (source, decision) = source();
    let (root, height) = (decision.header.state, decision.header.height);
    let target = memory(10);
    let mut restore = Restore::begin(&target, height, root).unwrap();
    let chunks = restore_all(&source, &mut restore);
    assert!(chunks > 5, "{chunks} pieces");
    assert!(matches!(target.reader(), Err(Error::Restoring)));
    restore.finish(&decision, &[(0, Digest([1; 32]))]).unwrap();
    assert_eq!(target.tip().unwrap(), Some(decision));
    let reader = target.reader().unwrap();
    assert_eq!(reader.root(height).unwrap(), root);
    assert!(matches!(reader.root(Height(2)), Err(Error::Pruned { .. })));
    assert_eq!(reader.prove(b"commitments/00000099", height).unwrap().0, None);
    assert!(reader.prove(b"a", height).unwrap().0.is_some());
    assert_eq!(advance(&target, many(100, 7)), source.tip().unwrap().unwrap().header.state);
    assert_eq!(entries(&target), entries(&source));
    for height in 5..25 {
        assert_eq!(advance(&target, many(60, height)), advance(&source, many(60, height)));
    }
}

#[test]
fn wrong_pieces_are_refused_at_once_and_change_nothing() {
    let (source, decision) = source();
    let (root, height) = (decision.header.state, decision.header.height);
    let target = memory(10);
    let mut restore = Restore::begin(&target, height, root).unwrap();
    let mut round = 0_u8;
    while !restore.progress().complete {
        for spoil in
            [value, key, missing_first, missing_middle, swapped, proof, other_height, early_end]
        {
            let mut chunk = source.snapshot_chunk(height, restore.after(), PIECE).unwrap();
            let honest = chunk.clone();
            spoil(&mut chunk, &source);
            // What leaves a piece as it is, or cuts it short rightly, is no lie.
            if chunk != honest {
                let refused = restore.add(&chunk);
                assert!(matches!(refused, Err(Error::Chunk(_))), "round {round}: {refused:?}");
            }
        }
        let chunk = source.snapshot_chunk(height, restore.after(), PIECE).unwrap();
        restore.add(&chunk).unwrap();
        round += 1;
    }
    restore.finish(&decision, &[]).unwrap();
    assert_eq!(target.reader().unwrap().root(height).unwrap(), root);
    assert_eq!(advance(&target, many(100, 7)), source.tip().unwrap().unwrap().header.state);
}

fn edit(chunk: &mut Chunk, edit: impl FnOnce(&mut Vec<lamina_ledger_store::Entry>)) {
    let mut entries = std::mem::take(&mut chunk.entries).into_vec();
    edit(&mut entries);
    chunk.entries = List::new(entries).unwrap();
}

fn value(chunk: &mut Chunk, _: &Store) {
    edit(chunk, |entries| entries[0].value = Bytes::new(*b"lie").unwrap());
}

fn key(chunk: &mut Chunk, _: &Store) {
    edit(chunk, |entries| entries[0].key = Bytes::new(*b"lie").unwrap());
}

fn missing_first(chunk: &mut Chunk, _: &Store) {
    edit(chunk, |entries| drop(entries.remove(0)));
}

fn missing_middle(chunk: &mut Chunk, _: &Store) {
    edit(chunk, |entries| drop(entries.remove(entries.len() / 2)));
}

fn swapped(chunk: &mut Chunk, _: &Store) {
    edit(chunk, |entries| entries.reverse());
}

fn proof(chunk: &mut Chunk, _: &Store) {
    chunk.proof = Bytes::new(*b"lie").unwrap();
}

fn other_height(chunk: &mut Chunk, source: &Store) {
    *chunk = source.snapshot_chunk(Height(4), None, PIECE).unwrap();
}

/// Or a late one: the last piece says that more follows.
fn early_end(chunk: &mut Chunk, _: &Store) {
    if !chunk.last {
        chunk.last = true;
    }
}

#[test]
fn pieces_without_entries_are_refused_where_something_is_missing() {
    let (source, decision) = source();
    let (root, height) = (decision.header.state, decision.header.height);
    let target = memory(10);
    let mut restore = Restore::begin(&target, height, root).unwrap();
    let empty = |last| Chunk { entries: List::default(), proof: Bytes::default(), last };
    for last in [true, false] {
        assert!(matches!(restore.add(&empty(last)), Err(Error::Chunk(_))));
    }
    restore.add(&source.snapshot_chunk(height, None, PIECE).unwrap()).unwrap();
    for last in [true, false, true] {
        assert!(matches!(restore.add(&empty(last)), Err(Error::Chunk(_))));
    }
    restore_all(&source, &mut restore);
    assert!(restore.add(&empty(true)).is_err());
}

/// A last piece that hides that it's the last is followed by an empty one.
#[test]
fn end_may_come_alone() {
    let (source, decision) = source();
    let (root, height) = (decision.header.state, decision.header.height);
    let target = memory(10);
    let mut restore = Restore::begin(&target, height, root).unwrap();
    let mut chunk = source.snapshot_chunk(height, None, CHUNK_BYTES_MAX).unwrap();
    assert!(chunk.last);
    chunk.last = false;
    restore.add(&chunk).unwrap();
    restore_all(&source, &mut restore);
    restore.finish(&decision, &[]).unwrap();
}

/// The tree's first leaf, its only one, at pieces of one entry: all the places where jmt treats the end apart.
#[test]
fn small_states_are_restored_too() {
    for count in 1..6 {
        let source = memory(10);
        let root = advance(&source, many(count, 3));
        let decision = source.tip().unwrap().unwrap();
        let target = memory(10);
        let mut restore = Restore::begin(&target, Height(0), root).unwrap();
        while !restore.progress().complete {
            let chunk = source.snapshot_chunk(Height(0), restore.after(), 0).unwrap();
            assert_eq!(chunk.entries.as_slice().len(), 1);
            restore.add(&chunk).unwrap();
        }
        restore.finish(&decision, &[]).unwrap();
        assert_eq!(entries(&target), entries(&source));
        assert_eq!(advance(&target, many(9, 4)), advance(&source, many(9, 4)));
    }
}

#[test]
fn restore_goes_on_after_a_stop_at_each_piece() {
    let (source, decision) = source();
    let (root, height) = (decision.header.state, decision.header.height);
    for piece in [0, PIECE] {
        let target = memory(10);
        let mut chunks = 0;
        loop {
            // Two pieces between stops: the first begins with the last key again, and may hold no more than that.
            let mut restore = Restore::begin(&target, height, root).unwrap();
            for _ in 0..2 {
                if !restore.progress().complete {
                    let chunk = source.snapshot_chunk(height, restore.after(), piece).unwrap();
                    restore.add(&chunk).unwrap();
                    chunks += 1;
                }
            }
            assert_eq!(restore.progress().chunks, chunks);
            if restore.progress().complete {
                restore.finish(&decision, &[]).unwrap();
                break;
            }
        }
        assert_eq!(target.reader().unwrap().root(height).unwrap(), root);
        assert_eq!(advance(&target, many(100, 7)), source.tip().unwrap().unwrap().header.state);
    }
}

#[test]
fn what_was_begun_for_another_height_is_given_up() {
    let (source, decision) = source();
    let target = memory(10);
    let root = |height| source.reader().unwrap().root(Height(height)).unwrap();
    let mut first = Restore::begin(&target, Height(2), root(2)).unwrap();
    first.add(&source.snapshot_chunk(Height(2), None, PIECE).unwrap()).unwrap();
    let mut second = Restore::begin(&target, Height(3), root(3)).unwrap();
    assert_eq!((second.progress().chunks, second.after()), (0, None));
    restore_all(&source, &mut second);
    second.finish(&decision, &[]).unwrap();
    assert_eq!(target.reader().unwrap().root(Height(3)).unwrap(), root(3));
    assert!(matches!(Restore::begin(&target, Height(3), root(3)), Err(Error::NotEmpty)));
}

#[test]
fn pruned_heights_are_not_handed_out() {
    let store = memory(2);
    for height in 0..5 {
        advance(&store, many(5, height));
    }
    let chunk = |height| store.snapshot_chunk(Height(height), None, PIECE);
    assert!(matches!(chunk(2), Err(Error::Pruned { oldest: Height(3), .. })));
    assert!(matches!(chunk(5), Err(Error::Future(_))));
    assert!(chunk(3).unwrap().last);
}

#[test]
fn chunks_stay_below_their_bound() {
    let store = memory(10);
    let value = vec![7; lamina_ledger_store::VALUE_BYTES_MAX];
    let large = |key: &str| (key.as_bytes().to_vec(), Some(value.clone()));
    let root = advance(&store, Writes::from(["a", "b", "c"].map(large)));
    let target = memory(10);
    let mut restore = Restore::begin(&target, Height(0), root).unwrap();
    while !restore.progress().complete {
        let chunk = store.snapshot_chunk(Height(0), restore.after(), usize::MAX).unwrap();
        assert!(chunk.to_bytes().len() <= CHUNK_BYTES_MAX);
        restore.add(&chunk).unwrap();
    }
}

/// Open volumes come with the snapshot, in any number of steps, and twice.
#[test]
fn open_volumes_are_restored_and_checked_against_the_cut() {
    let source = memory(10);
    let mut genesis = next(&source, many(10, 0));
    genesis.opened = vec![volume(0)];
    source.commit(&genesis).unwrap();
    let first = change(volume(0), None, 0);
    let second = change(volume(0), Some(&first), 1);
    let mut finalised = next(&source, Writes::new());
    finalised.changes = vec![first.clone(), second.clone()];
    cut_at(&mut finalised, &second);
    source.commit(&finalised).unwrap();
    let decision = source.tip().unwrap().unwrap();
    let target = memory(10);
    let begin = || Restore::begin(&target, Height(1), decision.header.state).unwrap();
    let mut restore = begin();
    restore_all(&source, &mut restore);
    let opened = [volume(0)];
    assert!(restore.add_changes(&[], vec![first.clone()]).is_err());
    assert!(restore.add_changes(&opened, vec![second.clone()]).is_err());
    restore.add_changes(&opened, vec![first.clone()]).unwrap();
    assert!(matches!(
        restore.finish(&decision, &[]),
        Err(Error::NotOpen(_) | Error::Mismatch { .. })
    ));
    let restore = begin();
    restore.add_changes(&opened, vec![first, second]).unwrap();
    restore.finish(&decision, &[]).unwrap();
    assert_eq!(target.open_volumes().unwrap(), source.open_volumes().unwrap());
    let changes = |store: &Store| store.changes(&volume(0), &AUTHOR, 0, usize::MAX).unwrap();
    assert_eq!(changes(&target), changes(&source));
}

/// A long value stands in the tree by its hash, and is handed out whole: as it was at the snapshot's height.
#[test]
fn long_values_are_restored_as_they_were_at_their_height() {
    let source = memory(10);
    let long = |byte: u8| vec![byte; 5_000];
    let write = |byte| [(b"long".to_vec(), Some(long(byte)))].into_iter().collect();
    advance(&source, many(50, 1));
    advance(&source, write(1));
    let decision = source.tip().unwrap().unwrap();
    let height = decision.header.height;
    advance(&source, write(2));
    let (value, proof) = source.reader().unwrap().prove(b"long", height).unwrap();
    assert_eq!(value, Some(long(1)));
    assert!(proof.verify(&decision.header.state, b"long", value.as_deref()));
    let target = memory(10);
    let mut restore = Restore::begin(&target, height, decision.header.state).unwrap();
    restore_all(&source, &mut restore);
    restore.finish(&decision, &[(0, Digest([1; 32]))]).unwrap();
    let reader = target.reader().unwrap();
    assert_eq!(reader.get(b"long").unwrap(), Some(long(1)));
    let (value, proof) = reader.prove(b"long", height).unwrap();
    assert!(proof.verify(&decision.header.state, b"long", value.as_deref()));
    assert_eq!(advance(&target, write(2)), source.tip().unwrap().unwrap().header.state);
}
