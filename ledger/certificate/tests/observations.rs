//! What oracles' operators sign: observations, and the sets of them that are reduced.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

use lamina_certificate::{
    MEMBERS_MAX, Member, Members, Observation, ObservationSet, ObservationSetError, OperatorRecord,
    OperatorSet, SecretKey,
};
use lamina_types::{
    Address, Canonical, ChainId, Digest, EpochNumber, OBSERVATION_BYTES_MAX, ObservationValue,
    OperatorIndex, PeerKey, TaskId,
};
use proptest::prelude::*;

const TASK: TaskId = TaskId([7; 32]);

fn key(operator: u16) -> SecretKey {
    SecretKey::derive(&[u8::try_from(operator).unwrap() + 1; 32])
}

fn set_of_four() -> OperatorSet {
    let chain: ChainId = "lamina-test-1".parse().unwrap();
    let record = |i: u16| {
        let seed = u8::try_from(i).unwrap();
        OperatorRecord::new(&chain, Address([seed; 20]), PeerKey([seed; 32]), &key(i), 32)
    };
    let records: Vec<_> = (0..4).map(record).collect();
    OperatorSet::new(chain, EpochNumber(0), &records).unwrap()
}

fn observe(set: &OperatorSet, operator: u16, value: &[u8]) -> Observation {
    let value = ObservationValue::new(value).unwrap();
    Observation::sign(set, OperatorIndex(operator), &key(operator), TASK, value)
}

fn members(operators: &[u16]) -> Members {
    let member = |i: &u16| Member { operator: OperatorIndex(*i), value: Digest::of(b"21 degrees") };
    Members::truncated(operators.iter().map(member))
}

fn propose(set: &OperatorSet, proposer: u16, operators: &[u16]) -> ObservationSet {
    let members = members(operators);
    ObservationSet::sign(set, OperatorIndex(proposer), &key(proposer), TASK, members)
}

#[test]
fn an_observation_counts_for_its_own_operator_and_value_only() {
    let set = set_of_four();
    let own = observe(&set, 0, b"21 degrees");
    let verified = own.clone().verify(&set).unwrap();
    assert_eq!((verified.get(), verified.digest()), (&own, Digest::of(b"21 degrees")));
    let changes: [fn(&mut Observation); 5] = [
        |o| o.operator = OperatorIndex(1),
        |o| o.operator = OperatorIndex(4),
        |o| o.value = ObservationValue::new(*b"22 degrees").unwrap(),
        |o| o.task = TaskId([8; 32]),
        |o| o.epoch = EpochNumber(1),
    ];
    for change in changes {
        let mut other = own.clone();
        change(&mut other);
        assert_eq!(other.verify(&set), None);
    }
}

#[test]
fn a_quorums_set_holds_and_tells_its_members() {
    let set = set_of_four();
    let proposal = propose(&set, 3, &[0, 1, 2]);
    let verified = proposal.clone().verify(&set).unwrap();
    assert_eq!(verified.root(), proposal.root(set.chain()));
    assert_eq!(verified.root(), ObservationSet::root_of(&set, &TASK, &proposal.members));
    assert_eq!(verified.value_of(OperatorIndex(2)), Some(Digest::of(b"21 degrees")));
    assert_eq!(verified.value_of(OperatorIndex(3)), None);
}

#[test]
fn whoever_proposes_the_same_members_names_the_same_root() {
    let set = set_of_four();
    let roots = [0, 3].map(|i| propose(&set, i, &[0, 1, 2]).verify(&set).unwrap().root());
    assert_eq!(roots[0], roots[1]);
}

#[test]
fn sets_that_are_no_quorum_in_order_are_refused() {
    let set = set_of_four();
    let error = |operators: &[u16]| propose(&set, 0, operators).verify(&set).unwrap_err();
    assert_eq!(error(&[]), ObservationSetError::NoQuorum { stake_gwei: 0, of_gwei: 128 });
    assert_eq!(error(&[1, 2]), ObservationSetError::NoQuorum { stake_gwei: 64, of_gwei: 128 });
    let repeated = ObservationSetError::NotAscending { operator: OperatorIndex(2) };
    assert_eq!(error(&[1, 2, 2]), repeated);
    let unsorted = ObservationSetError::NotAscending { operator: OperatorIndex(0) };
    assert_eq!(error(&[1, 0, 2]), unsorted);
    let unknown = ObservationSetError::UnknownOperator { operator: OperatorIndex(4) };
    assert_eq!(error(&[0, 1, 2, 4]), unknown);
}

#[test]
fn sets_of_another_epoch_or_proposer_are_refused() {
    let set = set_of_four();
    let mut proposal = propose(&set, 0, &[0, 1, 2]);
    proposal.epoch = EpochNumber(1);
    let error = proposal.clone().verify(&set).unwrap_err();
    assert!(matches!(error, ObservationSetError::WrongEpoch { .. }));
    proposal.epoch = EpochNumber(0);
    proposal.proposer = OperatorIndex(1);
    assert_eq!(proposal.clone().verify(&set).unwrap_err(), ObservationSetError::Signature);
    proposal.proposer = OperatorIndex(4);
    let error = proposal.verify(&set).unwrap_err();
    assert_eq!(error, ObservationSetError::UnknownOperator { operator: OperatorIndex(4) });
}

#[test]
fn the_longest_of_each_fits_its_bound_exactly() {
    let set = set_of_four();
    let observation = observe(&set, 0, &[1; OBSERVATION_BYTES_MAX]);
    assert_eq!(observation.to_bytes().len(), Observation::BYTES_MAX);
    let operators: Vec<u16> = (0..u16::try_from(MEMBERS_MAX).unwrap()).collect();
    let proposal = propose(&set, 0, &operators);
    assert_eq!(proposal.to_bytes().len(), ObservationSet::BYTES_MAX);
}

/// Frozen: nodes of one version must understand each other. A change here is a new version of the topics.
#[test]
fn bytes_are_frozen() {
    let set = set_of_four();
    let bytes = observe(&set, 1, b"21 degrees").to_bytes();
    assert_eq!(bytes.len(), 8 + 32 + 2 + 4 + 10 + 96);
    assert_eq!(Digest::of(&bytes).to_string(), OBSERVATION_DIGEST);
    let bytes = propose(&set, 1, &[0, 1, 2]).to_bytes();
    assert_eq!(bytes.len(), 8 + 32 + 2 + 4 + 3 * 34 + 96);
    assert_eq!(Digest::of(&bytes).to_string(), SET_DIGEST);
}

const OBSERVATION_DIGEST: &str =
    "0x4b0508496d403556abe4c17cd721760d54bb4f1709dbe5cae8999e5bdcbc1208";
const SET_DIGEST: &str = "0x5ab7976a05497fb34e5d4c20873c56650bcad3b2418abeba89f1a5f72b467539";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn decoding_undoes_encoding(value in prop::collection::vec(any::<u8>(), 0..200), operator in 0u16..4) {
        let set = set_of_four();
        let observation = observe(&set, operator, &value);
        prop_assert_eq!(Observation::from_bytes(&observation.to_bytes()), Ok(observation));
        let proposal = propose(&set, operator, &[0, 1, 3]);
        prop_assert_eq!(ObservationSet::from_bytes(&proposal.to_bytes()), Ok(proposal));
    }

    #[test]
    fn one_changed_bit_never_verifies(bit in any::<prop::sample::Index>()) {
        let set = set_of_four();
        let mut bytes = observe(&set, 0, b"21 degrees").to_bytes();
        flip(&mut bytes, bit);
        prop_assert!(Observation::from_bytes(&bytes).ok().and_then(|o| o.verify(&set)).is_none());
        let mut bytes = propose(&set, 0, &[0, 1, 2]).to_bytes();
        flip(&mut bytes, bit);
        prop_assert!(ObservationSet::from_bytes(&bytes).ok().and_then(|s| s.verify(&set).ok()).is_none());
    }

    #[test]
    fn hostile_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(Observation::from_bytes(&bytes).is_err());
        prop_assert!(ObservationSet::from_bytes(&bytes).is_err());
    }
}

fn flip(bytes: &mut [u8], bit: prop::sample::Index) {
    let bit = bit.index(bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
}
