//! The state and its tree: what was written is read and proven, at all heights that are kept, and equals plain maps.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

mod support;

use std::collections::BTreeMap;

use jmt::Sha256Jmt;
use jmt::mock::MockTreeStore;
use lamina_ledger::StateReader as _;
use lamina_ledger::state::{Writes, tree};
use lamina_ledger_store::{Error, Reader};
use lamina_types::{Digest, Height};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use support::{advance, execute, finalised, many, memory, next, writes};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn verifies(reader: &Reader, root: &Digest, key: &[u8], height: u64) -> Option<Vec<u8>> {
    let (value, proof) = reader.prove(key, Height(height)).unwrap();
    let verifies = proof.verify(root, key, value.as_deref());
    assert!(verifies, "{} at {height}", String::from_utf8_lossy(key));
    value
}

/// The root of a tree that was built at once.
fn root_of(model: &Model) -> Digest {
    let store = MockTreeStore::default();
    let entries = model.iter().map(|(k, v)| (tree::key_hash(k), Some(tree::in_tree(v))));
    let (root, _) = Sha256Jmt::new(&store).put_value_set(entries, 0).unwrap();
    Digest(root.0)
}

fn apply(model: &mut Model, writes: &Writes) {
    for (key, value) in writes {
        match value {
            Some(value) => model.insert(key.clone(), value.clone()),
            None => model.remove(key),
        };
    }
}

#[test]
fn reader_sees_the_checkpoint_at_which_it_was_made() {
    let store = memory(10);
    advance(&store, writes([("a", "1"), ("b", "2")]));
    let before = store.reader().unwrap();
    advance(&store, writes([("a", ""), ("b", "3")]));
    let after = store.reader().unwrap();
    assert_eq!((before.version(), after.version()), (0, 1));
    assert_eq!(before.get(b"a").unwrap().as_deref(), Some(b"1".as_slice()));
    assert_eq!(after.get(b"a").unwrap(), None);
    let all = |reader: &Reader| reader.range(b"a", b"z", 10).unwrap();
    assert_eq!(all(&before), [(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"2".to_vec())]);
    assert_eq!(all(&after), [(b"b".to_vec(), b"3".to_vec())]);
    assert_eq!(after.range(b"z", b"a", 10).unwrap(), []);
}

#[test]
fn checkpoint_that_comes_twice_or_too_early_is_refused() {
    let store = memory(10);
    advance(&store, writes([("a", "1")]));
    let executed = execute(&store, writes([("a", "2")]));
    let early = finalised(2, executed);
    let expected = |height| Height(height);
    let refused = store.commit(&early).unwrap_err();
    assert!(matches!(refused, Error::OutOfOrder { expected: e, .. } if e == expected(1)));
    let once = next(&store, writes([("a", "2")]));
    store.commit(&once).unwrap();
    assert!(matches!(store.commit(&once), Err(Error::OutOfOrder { .. })));
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let store = memory(10);
    advance(&store, writes([("a", "1")]));
    let spoilt: [fn(&mut lamina_ledger::Finalised); 6] = [
        |f| f.decision.header.state = Digest([9; 32]),
        |f| {
            f.executed.state = Digest([9; 32]);
            f.decision.header.state = Digest([9; 32]);
        },
        |f| f.decision.header.cut = Digest([9; 32]),
        |f| f.decision.certificate = None,
        |f| drop(f.executed.writes.remove(b"b".as_slice())),
        |f| f.executed.tree = Default::default(),
    ];
    for spoil in spoilt {
        let mut finalised = next(&store, writes([("b", "2")]));
        spoil(&mut finalised);
        assert!(matches!(store.commit(&finalised), Err(Error::Mismatch { .. })));
    }
    let reader = store.reader().unwrap();
    assert_eq!((reader.version(), reader.get(b"b").unwrap()), (0, None));
}

#[test]
fn keys_and_values_that_no_proof_or_snapshot_could_carry_are_refused() {
    let store = memory(10);
    let long_key = vec![1; lamina_ledger_store::KEY_BYTES_MAX + 1];
    let long_value = vec![1; lamina_ledger_store::VALUE_BYTES_MAX + 1];
    for (key, value) in [(long_key, vec![1]), (vec![], vec![1]), (vec![1], long_value)] {
        let finalised = next(&store, Writes::from([(key, Some(value))]));
        assert!(matches!(store.commit(&finalised), Err(Error::Mismatch { .. })));
    }
}

#[test]
fn checkpoint_without_writes_keeps_the_root() {
    let store = memory(10);
    let root = advance(&store, writes([("a", "1")]));
    assert_eq!(advance(&store, Writes::new()), root);
    assert_eq!(advance(&store, Writes::new()), root);
    let both = advance(&store, writes([("b", "1")]));
    let model = Model::from([(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"1".to_vec())]);
    assert_eq!(both, root_of(&model));
}

#[test]
fn proofs_verify_for_kept_heights_and_fail_clearly_for_others() {
    let store = memory(3);
    let roots: Vec<_> = (0..10).map(|height| advance(&store, many(50, height))).collect();
    let reader = store.reader().unwrap();
    for height in 7..10 {
        let root = &roots[usize::try_from(height).unwrap()];
        assert_eq!(reader.root(Height(height)).unwrap(), *root);
        let value = verifies(&reader, root, b"commitments/00000007", height);
        assert_eq!(value, many(50, height)[b"commitments/00000007".as_slice()]);
        assert_eq!(verifies(&reader, root, b"commitments/absent", height), None);
    }
    let pruned = reader.prove(b"commitments/00000007", Height(6)).unwrap_err();
    assert!(matches!(pruned, Error::Pruned { oldest: Height(7), .. }), "{pruned}");
    assert!(matches!(reader.prove(b"a", Height(10)), Err(Error::Future(Height(10)))));
    assert!(reader.prove(b"", Height(9)).is_err());
}

/// Of a key that was removed, neighbours' proofs of absence need what was there before: as long as that's kept, and no longer.
#[test]
fn removed_keys_are_proven_absent_and_come_back() {
    let store = memory(2);
    advance(&store, writes([("a", "1"), ("b", "2"), ("c", "3")]));
    for round in 0..4_u64 {
        let height = 1 + 4 * round;
        let without = advance(&store, writes([("b", "")]));
        assert_eq!(verifies(&store.reader().unwrap(), &without, b"b", height), None);
        advance(&store, Writes::new());
        advance(&store, Writes::new());
        let with = advance(&store, writes([("b", "4")]));
        let value = verifies(&store.reader().unwrap(), &with, b"b", height + 3);
        assert_eq!(value.as_deref(), Some(b"4".as_slice()));
        for absent in ["x", "y", "z"] {
            let reader = store.reader().unwrap();
            assert_eq!(verifies(&reader, &with, absent.as_bytes(), height + 3), None);
        }
    }
}

/// The same keys over and over: the tables hold what the kept heights need, and no more.
#[test]
fn file_stops_growing_when_old_versions_are_pruned() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    let store =
        lamina_ledger_store::Store::open(&path, &support::chain(), support::config(5)).unwrap();
    let size = |heights: std::ops::Range<u64>| {
        for height in heights {
            advance(&store, many(100, height));
        }
        std::fs::metadata(&path).unwrap().len()
    };
    let (early, late) = (size(0..30), size(30..120));
    assert!(late <= early + early / 4, "{early} grew to {late}");
}

fn batches() -> impl Strategy<Value = Vec<BTreeMap<u8, Option<u8>>>> {
    vec(btree_map(0..24_u8, proptest::option::of(any::<u8>()), 0..12), 1..14)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Every height that's kept is as a map was then, and has the root of a tree that was built from it at once.
    #[test]
    fn state_equals_plain_maps(batches in batches(), keep in 1..6_u64) {
        let store = memory(keep);
        let mut model = Model::from([(b"seed".to_vec(), vec![1])]);
        let seed = model.iter().map(|(k, v)| (k.clone(), Some(v.clone()))).collect();
        let mut past = vec![(model.clone(), advance(&store, seed))];
        for batch in &batches {
            let writes: Writes =
                batch.iter().map(|(k, v)| (vec![b'k', *k], v.map(|v| vec![v]))).collect();
            apply(&mut model, &writes);
            past.push((model.clone(), advance(&store, writes)));
        }
        let reader = store.reader().unwrap();
        let entries = reader.range(&[0], &[u8::MAX], usize::MAX).unwrap();
        prop_assert_eq!(entries, model.clone().into_iter().collect::<Vec<_>>());
        for (height, (model, root)) in (0..).zip(&past) {
            if height < reader.oldest().0 {
                let pruned = matches!(reader.root(Height(height)), Err(Error::Pruned { .. }));
                prop_assert!(pruned);
                continue;
            }
            prop_assert_eq!(reader.root(Height(height)).unwrap(), *root);
            prop_assert_eq!(root_of(model), *root);
            for key in (0..24).map(|k| vec![b'k', k]) {
                prop_assert_eq!(verifies(&reader, root, &key, height), model.get(&key).cloned());
            }
        }
    }
}
