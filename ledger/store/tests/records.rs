//! What isn't a key of the state: changes, operations, receipts, promises, evidence and the consensus log.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

mod support;

use lamina_ledger::Record;
use lamina_ledger::state::Writes;
use lamina_ledger_store::{Error, Order, Store};
use lamina_types::{Canonical as _, Change, ChangeId, Digest, Height, TaskId};
use support::{
    AUTHOR, advance, chain, change, config, cut_at, memory, next, operation, receipt, volume,
    writes,
};

fn with_genesis() -> Store {
    let store = memory(10);
    let mut genesis = next(&store, writes([("a", "1")]));
    genesis.opened = vec![volume(0)];
    store.commit(&genesis).unwrap();
    store
}

fn pending(change: &lamina_ledger::FinalChange) -> Record {
    Record::Change(change.id, Box::new(change.change.clone()))
}

fn log(height: u64, entry: &[u8]) -> Record {
    Record::Log { height: Height(height), entry: entry.to_vec() }
}

#[test]
fn file_of_another_network_or_version_is_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    let store = Store::open(&path, &chain(), config(10)).unwrap();
    assert!(matches!(Store::open(&path, &chain(), config(10)), Err(Error::InUse { .. })));
    drop(store);
    let other = "lamina-test-2".parse().unwrap();
    let error = Store::open(&path, &other, config(10)).unwrap_err();
    assert!(matches!(error, Error::Foreign { key: "chain", .. }));
    assert!(error.to_string().contains("choose another folder"), "{error}");
    assert!(Store::open(&path, &chain(), config(10)).is_ok());
}

/// The first start was interrupted: what it left is made anew.
#[test]
fn file_that_was_being_made_is_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    std::fs::write(folder.path().join("ledger.redb.new"), [0; 5000]).unwrap();
    drop(Store::open(&path, &chain(), config(10)).unwrap());
    assert!(Store::open(&path, &chain(), config(10)).is_ok());
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    let nowhere = folder.path().join("absent").join("ledger.redb");
    assert!(Store::open(&nowhere, &chain(), config(10)).is_err());
}

#[test]
fn empty_store_has_no_tip_and_a_reader_for_genesis() {
    let store = memory(10);
    assert_eq!(store.tip().unwrap(), None);
    assert_eq!(store.reader().unwrap().height(), None);
    assert!(store.open_volumes().unwrap().is_empty());
}

#[test]
fn checkpoints_are_listed_from_either_end() {
    let store = with_genesis();
    for _ in 0..4 {
        advance(&store, Writes::new());
    }
    let heights = |range: std::ops::Range<u64>, limit, order| -> Vec<u64> {
        let found = store.checkpoints(range, limit, order).unwrap();
        found.iter().map(|decision| decision.header.height.0).collect()
    };
    assert_eq!(heights(0..9, 2, Order::OldestFirst), [0, 1]);
    assert_eq!(heights(0..9, 2, Order::NewestFirst), [4, 3]);
    assert_eq!(heights(1..3, 9, Order::NewestFirst), [2, 1]);
    assert_eq!(store.tip().unwrap().unwrap().header.height, Height(4));
    assert!(store.checkpoint(Height(4)).unwrap().unwrap().checkpoint().is_some());
    assert!(store.checkpoint(Height(0)).unwrap().unwrap().checkpoint().is_none());
    assert_eq!(store.checkpoint(Height(5)).unwrap(), None);
}

#[test]
fn changes_move_from_pending_to_final() {
    let store = with_genesis();
    let first = change(volume(0), None, 0);
    let second = change(volume(0), Some(&first), 1);
    let fork = change(volume(0), Some(&first), 2);
    store.write([&first, &second, &fork, &first].map(pending).into()).unwrap();
    assert_eq!(store.pending_changes().unwrap().len(), 3);
    let mut finalised = next(&store, Writes::new());
    finalised.changes = vec![first.clone(), second.clone()];
    finalised.dropped = vec![fork.id];
    cut_at(&mut finalised, &second);
    store.commit(&finalised).unwrap();
    assert_eq!(store.pending_changes().unwrap(), []);
    let found = store.operation(&operation(1).0).unwrap().unwrap();
    assert_eq!((found.operation, found.number), (operation(1).1, 2));
    assert_eq!((found.volume, found.author), (volume(0), AUTHOR));
    assert_eq!(store.operation(&operation(2).0).unwrap(), None);
    let open = store.open_volumes().unwrap();
    assert_eq!((open.len(), open[0].operations, open[0].volume), (1, 2, volume(0)));
    assert_eq!((open[0].lanes[0].number, open[0].lanes[0].change), (2, second.id));
}

#[test]
fn changes_are_handed_out_in_pieces() {
    let store = with_genesis();
    let mut changes = vec![change(volume(0), None, 0)];
    for sequence in 1..5 {
        changes.push(change(volume(0), changes.last(), sequence));
    }
    let mut finalised = next(&store, Writes::new());
    finalised.changes = changes.clone();
    store.commit(&finalised).unwrap();
    let numbers = |after, bytes_max| -> Vec<u64> {
        let found = store.changes(&volume(0), &AUTHOR, after, bytes_max).unwrap();
        found.iter().map(|bytes| Change::from_bytes(bytes).unwrap().number).collect()
    };
    assert_eq!(numbers(0, usize::MAX), [1, 2, 3, 4, 5]);
    assert_eq!(numbers(3, usize::MAX), [4, 5]);
    assert_eq!(numbers(1, 0), [2]);
    assert_eq!(numbers(0, changes[0].change.to_bytes().len() * 2), [1, 2]);
    assert_eq!(numbers(u64::MAX, 9), [0_u64; 0]);
    assert!(store.changes(&volume(1), &AUTHOR, 0, 9).unwrap().is_empty());
}

#[test]
fn lane_with_a_gap_a_branch_or_no_volume_is_refused_as_a_whole() {
    let store = with_genesis();
    let first = change(volume(0), None, 0);
    let second = change(volume(0), Some(&first), 1);
    let other = change(volume(0), None, 5);
    let mut headless = second.clone();
    headless.operations.clear();
    let stranger = change(volume(1), None, 0);
    for changes in [vec![second.clone()], vec![first.clone(), other], vec![first.clone(), headless]]
    {
        let mut finalised = next(&store, writes([("b", "1")]));
        finalised.changes = changes;
        assert!(matches!(store.commit(&finalised), Err(Error::Mismatch { .. })));
    }
    let mut finalised = next(&store, writes([("b", "1")]));
    finalised.changes = vec![stranger];
    assert!(matches!(store.commit(&finalised), Err(Error::NotOpen(_))));
    let mut finalised = next(&store, writes([("b", "1")]));
    finalised.changes = vec![first.clone()];
    cut_at(&mut finalised, &second);
    assert!(matches!(store.commit(&finalised), Err(Error::Mismatch { .. })));
    assert!(store.open_volumes().unwrap()[0].lanes.is_empty());
    assert_eq!(store.tip().unwrap().unwrap().header.height, Height(0));
}

#[test]
fn closed_volume_takes_its_pending_changes_with_it_and_keeps_its_final_ones() {
    let store = with_genesis();
    let first = change(volume(0), None, 0);
    let late = change(volume(0), Some(&first), 1);
    let elsewhere = change(volume(1), None, 2);
    store.write([&late, &elsewhere].map(pending).into()).unwrap();
    let mut finalised = next(&store, Writes::new());
    finalised.changes = vec![first.clone()];
    finalised.closed = vec![volume(0)];
    finalised.opened = vec![volume(1)];
    cut_at(&mut finalised, &first);
    store.commit(&finalised).unwrap();
    let pending: Vec<ChangeId> = store.pending_changes().unwrap().iter().map(|p| p.0).collect();
    assert_eq!(pending, [elsewhere.id]);
    let open = store.open_volumes().unwrap();
    assert_eq!((open.len(), open[0].volume, open[0].operations), (1, volume(1), 0));
    assert_eq!(store.changes(&volume(0), &AUTHOR, 0, usize::MAX).unwrap().len(), 1);
    let mut finalised = next(&store, Writes::new());
    finalised.changes = vec![late];
    assert!(store.commit(&finalised).is_err());
}

#[test]
fn operation_that_is_carried_again_stays_where_it_was_first() {
    let store = with_genesis();
    let first = change(volume(0), None, 0);
    let again = change(volume(0), Some(&first), 0);
    let mut finalised = next(&store, Writes::new());
    finalised.changes = vec![first, again];
    store.commit(&finalised).unwrap();
    assert_eq!(store.operation(&operation(0).0).unwrap().unwrap().number, 1);
}

#[test]
fn promise_lasts_until_the_receipt_in_either_order() {
    let store = with_genesis();
    let promise = |sequence| {
        let (id, operation) = operation(sequence);
        Record::Promise(id, Box::new(operation))
    };
    store.write(vec![promise(0), promise(1), promise(0)]).unwrap();
    let mut finalised = next(&store, Writes::new());
    finalised.executed.receipts = vec![receipt(operation(0).0, 1)];
    store.commit(&finalised).unwrap();
    store.write(vec![promise(0)]).unwrap();
    assert_eq!(store.promises().unwrap(), [operation(1)]);
}

#[test]
fn first_receipt_stays() {
    let store = with_genesis();
    let id = operation(0).0;
    for height in 1..3 {
        let mut finalised = next(&store, Writes::new());
        finalised.executed.receipts = vec![receipt(id, height)];
        store.commit(&finalised).unwrap();
    }
    assert_eq!(store.receipt(&id).unwrap(), Some(receipt(id, 1)));
    assert_eq!(store.receipt(&operation(1).0).unwrap(), None);
}

#[test]
fn log_keeps_its_order_until_the_checkpoint_is_committed() {
    let store = with_genesis();
    store.write(vec![log(1, b"b"), log(2, b"x"), log(1, b"a")]).unwrap();
    store.write(vec![log(1, b"a")]).unwrap();
    assert_eq!(store.log(Height(1)).unwrap(), [b"b", b"a", b"a"]);
    advance(&store, Writes::new());
    assert!(store.log(Height(1)).unwrap().is_empty());
    assert_eq!(store.log(Height(2)).unwrap(), [b"x"]);
}

#[test]
fn evidence_is_kept_once() {
    let store = with_genesis();
    let evidence = |byte| Record::Evidence(vec![byte; 9]);
    store.write(vec![evidence(1), evidence(2), evidence(1)]).unwrap();
    assert_eq!(store.evidence(10).unwrap().len(), 2);
    assert_eq!(store.evidence(1).unwrap().len(), 1);
}

#[test]
fn outcomes_and_history_are_kept() {
    let store = with_genesis();
    let mut finalised = next(&store, Writes::new());
    finalised.executed.outcomes = vec![(TaskId([1; 32]), Digest([2; 32]))];
    finalised.history_nodes = vec![(0, Digest([3; 32])), (2, Digest([4; 32]))];
    store.commit(&finalised).unwrap();
    assert_eq!(store.outcomes(Height(1)).unwrap(), [(TaskId([1; 32]), Digest([2; 32]))]);
    assert!(store.outcomes(Height(0)).unwrap().is_empty());
    assert_eq!(store.history_node(2).unwrap(), Some(Digest([4; 32])));
    assert_eq!(store.history_node(1).unwrap(), None);
}
