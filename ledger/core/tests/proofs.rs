//! Proofs from the state tree, and the published vectors on the same path.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{FEES, Network, give, take};
use lamina_ledger::state::bank::{self, Holder};
use lamina_ledger::state::tree::{self, Error, PROOF_BYTES_MAX, StateProof, VALUE_BYTES_MAX};
use lamina_ledger::state::{CHAIN_KEY, Env, Module, Origin, Scope, Stop};
use lamina_ledger::{StateReader, StorageError};
use lamina_types::testing::vectors;
use lamina_types::{Action, Amount, Asset, Canonical, Digest, Height};
use proptest::prelude::*;

/// Writes and removes keys by the checkpoint's height.
#[derive(Debug)]
struct Notes;

impl Module for Notes {
    fn name(&self) -> &'static str {
        "notes"
    }

    fn handles(&self, _: &Action) -> bool {
        false
    }

    fn apply(&self, _: &mut Scope<'_>, _: &Env<'_>, _: &Origin, _: &Action) -> Result<(), Stop> {
        panic!("it handles nothing")
    }

    fn begin(&self, scope: &mut Scope<'_>, env: &Env<'_>) -> Result<(), StorageError> {
        for i in (0..60u64).filter(|i| (i + env.height.0).is_multiple_of(3)) {
            if (i + env.height.0).is_multiple_of(2) {
                scope.write(note(i), &(i, env.height.0));
            } else {
                scope.remove(note(i));
            }
        }
        Ok(())
    }
}

fn note(i: u64) -> Vec<u8> {
    format!("notes/{i}").into_bytes()
}

fn notes() -> Network {
    Network::with(vec![Box::new(Notes)], FEES)
}

#[test]
fn every_key_of_every_height_is_proven_there_or_absent() {
    let mut network = notes();
    let mut snapshots = vec![(network.state.root(), network.state.entries().clone())];
    for _ in 0..8 {
        network.checkpoint(&[]);
        snapshots.push((network.state.root(), network.state.entries().clone()));
    }
    for (height, (root, entries)) in (0..).map(Height).zip(&snapshots) {
        assert_eq!(tree::root(&network.state, height), Ok(Some(*root)));
        for key in (0..70).map(note).chain(entries.keys().cloned()) {
            let (value, proof) = tree::prove(&network.state, &key, height).unwrap();
            assert_eq!(value.as_ref(), entries.get(&key), "{height}");
            assert!(proof.verify(root, &key, value.as_deref()));
            assert_eq!(StateProof::from_bytes(&proof.to_bytes()), Ok(proof.clone()));
            assert_holds_for_nothing_else(&proof, root, &key, value.as_deref());
        }
    }
}

fn assert_holds_for_nothing_else(
    proof: &StateProof,
    root: &Digest,
    key: &[u8],
    value: Option<&[u8]>,
) {
    assert!(!proof.verify(&Digest([7; 32]), key, value), "another root");
    assert!(!proof.verify(root, b"another/key", value) || value.is_none());
    assert!(!proof.verify(root, key, Some(b"another value")));
    assert!(value.is_none() || !proof.verify(root, key, None), "there, and said to be absent");
    assert!(value.is_some() || !proof.verify(root, CHAIN_KEY, None), "another key is there");
}

#[test]
fn absence_is_provable_in_the_smallest_state() {
    let network = notes();
    let (value, proof) = tree::prove(&network.state, b"nothing", Height(0)).unwrap();
    assert_eq!(value, None);
    assert!(proof.verify(&network.state.root(), b"nothing", None));
}

#[test]
fn what_is_withdrawn_and_what_is_left_is_proven() {
    let mut network = Network::new();
    network.checkpoint(&[network.sign(1, 0, give(0, 250))]);
    let signed = network.sign(1, 1, take(1_000));
    let executed = network.checkpoint(std::slice::from_ref(&signed));
    let holder = Holder::Account { account: common::address(1) };
    let left = Amount(network.balance(1));
    let proven = [
        (bank::balance_key(&holder, Asset::Ether), left),
        (bank::supply_key(Asset::Ether), Amount(4 * common::DEPOSIT - 1_000)),
    ];
    for (key, amount) in proven {
        let (_, proof) = tree::prove(&network.state, &key, Height(2)).unwrap();
        assert!(proof.verify(&executed.state, &key, Some(&borsh::to_vec(&amount).unwrap())));
        assert!(!proof.verify(&executed.state, &key, Some(&borsh::to_vec(&Amount(1)).unwrap())));
    }
}

#[test]
fn heights_that_are_not_kept_and_empty_keys_have_no_proof() {
    let network = notes();
    let height = Height(1);
    assert_eq!(tree::prove(&network.state, b"a", height), Err(Error::NotKept { height }));
    assert_eq!(tree::prove(&network.state, b"", Height(0)), Err(Error::EmptyKey));
    let long = vec![1; PROOF_BYTES_MAX];
    let error = tree::prove(&network.state, &long, Height(0)).unwrap_err();
    assert!(matches!(error, Error::TooLong { .. }));
}

/// Writes one long value, of another content in each checkpoint.
#[derive(Debug)]
struct Long;

impl Module for Long {
    fn name(&self) -> &'static str {
        "long"
    }

    fn handles(&self, _: &Action) -> bool {
        false
    }

    fn apply(&self, _: &mut Scope<'_>, _: &Env<'_>, _: &Origin, _: &Action) -> Result<(), Stop> {
        panic!("it handles nothing")
    }

    fn begin(&self, scope: &mut Scope<'_>, env: &Env<'_>) -> Result<(), StorageError> {
        scope.write(b"long/value".to_vec(), &vec![env.height.0; 10 * VALUE_BYTES_MAX]);
        Ok(())
    }
}

#[test]
fn long_values_have_short_proofs_and_make_none_of_their_neighbours_long() {
    let mut network = Network::with(vec![Box::new(Long)], FEES);
    let genesis_root = network.state.root();
    network.checkpoint(&[]);
    let root = network.state.root();
    let (value, proof) = tree::prove(&network.state, b"long/value", Height(1)).unwrap();
    let value = value.unwrap();
    assert_eq!(network.state.get(b"long/value"), Ok(Some(value.clone())));
    assert!(proof.verify(&root, b"long/value", Some(&value)));
    assert!(proof.as_slice().len() < 1_000);
    let stand_in = tree::in_tree(&value);
    assert!(!proof.verify(&root, b"long/value", Some(&stand_in)), "the stand-in is no value");
    // As of an earlier checkpoint, it's that one's value.
    let (earlier, proof) = tree::prove(&network.state, b"long/value", Height(0)).unwrap();
    assert_ne!(earlier, Some(value));
    assert!(proof.verify(&genesis_root, b"long/value", earlier.as_deref()));
    for i in 0..50 {
        let (_, proof) = tree::prove(&network.state, &note(i), Height(1)).unwrap();
        assert!(proof.verify(&root, &note(i), None));
        assert!(proof.as_slice().len() < 2_000);
    }
}

#[test]
fn no_two_values_stand_for_each_other() {
    let long = vec![1; VALUE_BYTES_MAX + 1];
    let stand_in = tree::in_tree(&long);
    assert_ne!(tree::in_tree(&stand_in), stand_in);
    assert_eq!(tree::in_tree(&long[1..]), &long[1..]);
}

#[test]
fn a_proof_with_any_bit_changed_holds_no_longer() {
    let mut network = notes();
    network.checkpoint(&[]);
    let root = network.state.root();
    let there = network.state.entries().keys().next().unwrap().clone();
    for key in [there, b"nothing".to_vec()] {
        let (value, proof) = tree::prove(&network.state, &key, Height(1)).unwrap();
        for bit in 0..proof.as_slice().len() * 8 {
            let mut bytes = proof.as_slice().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let forged = StateProof::new(bytes).unwrap();
            assert!(!forged.verify(&root, &key, value.as_deref()), "bit {bit}");
        }
        for end in 0..proof.as_slice().len() {
            let cut = StateProof::new(&proof.as_slice()[..end]).unwrap();
            assert!(!cut.verify(&root, &key, value.as_deref()));
        }
    }
}

/// A second byte form of a proof: protobuf lets fields be repeated, of which the last counts.
#[test]
fn proofs_have_one_byte_form() {
    let network = notes();
    let (value, proof) = tree::prove(&network.state, CHAIN_KEY, Height(0)).unwrap();
    let unknown_field = [proof.as_slice(), &[0x78, 1]].concat();
    let second = StateProof::new(unknown_field).unwrap();
    assert!(!second.verify(&network.state.root(), CHAIN_KEY, value.as_deref()));
}

proptest! {
    #[test]
    fn garbage_proves_nothing(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let proof = StateProof::new(bytes).unwrap();
        prop_assert!(!proof.verify(&Digest([0; 32]), b"key", None));
        prop_assert!(!proof.verify(&Digest([0; 32]), b"key", Some(b"value")));
    }

    /// The tree agrees with a map, whatever is written and removed.
    #[test]
    fn the_root_is_of_what_is_there_and_not_of_how_it_came(
        rounds in prop::collection::vec(prop::collection::vec((0u64..12, 0u8..3), 0..8), 1..6),
    ) {
        let mut network = Network::with(vec![Box::new(Scripted(rounds.clone()))], FEES);
        for _ in 1..rounds.len() {
            network.checkpoint(&[]);
        }
        let mut at_once: BTreeMap<u64, u8> = BTreeMap::new();
        for (i, value) in rounds.iter().flatten() {
            if *value == 0 { at_once.remove(i) } else { at_once.insert(*i, *value) };
        }
        let height = Height(network.height);
        for i in 0..12 {
            let (value, proof) = tree::prove(&network.state, &note(i), height).unwrap();
            prop_assert_eq!(value.clone(), at_once.get(&i).map(|value| vec![*value]));
            prop_assert!(proof.verify(&network.state.root(), &note(i), value.as_deref()));
        }
        let once = at_once.into_iter().collect();
        let mut rounds = vec![vec![]; rounds.len()];
        *rounds.last_mut().unwrap() = once;
        let mut other = Network::with(vec![Box::new(Scripted(rounds.clone()))], FEES);
        for _ in 1..rounds.len() {
            other.checkpoint(&[]);
        }
        prop_assert_eq!(network.state.root(), other.state.root());
    }
}

/// Writes notes by a script: for each height which notes become what; 0 removes one.
#[derive(Debug)]
struct Scripted(Vec<Vec<(u64, u8)>>);

impl Module for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn handles(&self, _: &Action) -> bool {
        false
    }

    fn apply(&self, _: &mut Scope<'_>, _: &Env<'_>, _: &Origin, _: &Action) -> Result<(), Stop> {
        panic!("it handles nothing")
    }

    fn begin(&self, scope: &mut Scope<'_>, env: &Env<'_>) -> Result<(), StorageError> {
        for (i, value) in &self.0[usize::try_from(env.height.0).unwrap()] {
            if *value == 0 { scope.remove(note(*i)) } else { scope.write(note(*i), value) }
        }
        Ok(())
    }
}

#[test]
fn proofs_of_a_large_state_stay_short() {
    let notes = (0..5_000).map(|i| (2 * i, 1)).collect();
    let network = Network::with(vec![Box::new(Scripted(vec![notes]))], FEES);
    for i in 0..600 {
        let (value, proof) = tree::prove(&network.state, &note(i), Height(0)).unwrap();
        assert_eq!(value, i.is_multiple_of(2).then(|| vec![1]));
        assert!(proof.verify(&network.state.root(), &note(i), value.as_deref()));
        assert!(proof.as_slice().len() < 4 * 1024, "{}", proof.as_slice().len());
    }
}

/// Of `cosmos/ics23`: nine proofs from trees of three other kinds, through the same code but for the tree's rules.
#[test]
fn published_ics23_vectors_hold() {
    let Some(folder) = vectors("ICS-23 vectors", "ics23") else { return };
    let specs = [
        ("iavl", ics23::iavl_spec()),
        ("smt", ics23::smt_spec()),
        ("tendermint", ics23::tendermint_spec()),
    ];
    let mut count = 0;
    for (set, spec) in specs {
        for entry in folder.join(set).read_dir().unwrap() {
            check_vector(&entry.unwrap().path(), &spec);
            count += 1;
        }
    }
    assert_eq!(count, 9);
}

fn check_vector(path: &Path, spec: &ics23::ProofSpec) {
    let text = std::fs::read_to_string(path).unwrap();
    let case: serde_json::Value = serde_json::from_str(&text).unwrap();
    let bytes = |name: &str| hex::decode(case[name].as_str().unwrap()).unwrap();
    let name = path.display();
    let proof = StateProof::new(bytes("proof")).unwrap();
    let root = Digest(bytes("root").try_into().unwrap());
    let (key, value) = (bytes("key"), bytes("value"));
    let value = (!value.is_empty()).then_some(value);
    let value = value.as_deref();
    assert!(proof.verify_with(spec, &root, &key, value), "{name}");
    assert!(!proof.verify_with(spec, &Digest([1; 32]), &key, value), "{name}: another root");
    assert!(!proof.verify_with(spec, &root, &key, Some(b"other")), "{name}: another value");
    assert!(!proof.verify(&root, &key, value), "{name}: not a proof of our tree");
    let absent = value.is_none();
    assert!(absent || !proof.verify_with(spec, &root, &key, None), "{name}: absence");
}
