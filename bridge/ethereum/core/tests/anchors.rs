//! What a node submits to Ethereum by itself, and when.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

use std::sync::Arc;
use std::time::Duration;

use lamina_certificate::{
    CheckpointCertificate, Evidence, OperatorRecord, OperatorSet, SecretKey, SignedTwice,
    SignerBitmap,
};
use lamina_ethereum_core::{
    AnchorAction, AnchorConfig, AnchorEvent, Anchors, Contracts, Job, JobId, calls,
};
use lamina_types::{
    Address, ChainId, Digest, EpochNumber, HeaderId, Height, OperatorIndex, PeerKey, Timestamp,
};

const INTERVAL: Duration = Duration::from_secs(600);
const CLAIMS: Duration = Duration::from_secs(60);
const EPOCH: Duration = Duration::from_secs(86_400);

fn chain() -> ChainId {
    "lamina-test-1".parse().unwrap()
}

fn set(epoch: u64) -> Arc<OperatorSet> {
    let record = |i: u8| {
        let key = SecretKey::derive(&[i; 32]);
        OperatorRecord::new(&chain(), Address([i; 20]), PeerKey([i; 32]), &key, 32)
    };
    let records: Vec<_> = (1..=4).map(record).collect();
    Arc::new(OperatorSet::new(chain(), EpochNumber(epoch), &records).unwrap())
}

fn contracts() -> Contracts {
    let [registrar, checkpoints, vault, tasks, slasher] = [1, 2, 3, 4, 5].map(|i| Address([i; 20]));
    Contracts { registrar, checkpoints, vault, tasks, slasher }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp(seconds * 1_000_000)
}

/// Of operator `i`, from second 0 on.
fn anchors(i: u8) -> Anchors {
    let config = AnchorConfig {
        chain: chain(),
        contracts: contracts(),
        first_epoch: EpochNumber(1),
        key: PeerKey([i; 32]),
        interval: INTERVAL,
        claims_interval: CLAIMS,
        epoch_interval: EPOCH,
    };
    Anchors::new(config, at(0), Some(EpochNumber(1)))
}

fn header(height: u64) -> HeaderId {
    HeaderId(Digest::of(&height.to_be_bytes()).0)
}

fn committed(epoch: u64, height: u64, claims: u8) -> AnchorEvent {
    let mut signers = SignerBitmap::empty(4);
    (0..3).for_each(|i| assert!(signers.insert(OperatorIndex(i))));
    let certificate = CheckpointCertificate {
        epoch: EpochNumber(epoch),
        height: Height(height),
        round: 0,
        header: header(height),
        signers,
        signature: SecretKey::derive(&[1; 32]).sign(&Digest::default()),
    };
    AnchorEvent::Committed(Box::new(certificate), Digest([claims; 32]), set(epoch))
}

fn anchored(height: u64, claims: u8) -> AnchorEvent {
    let own = Some((header(height), Digest([claims; 32])));
    AnchorEvent::Anchored { height: Height(height), header: header(height), own }
}

/// What's to be submitted after this.
fn jobs(anchors: &mut Anchors, seconds: u64, event: AnchorEvent) -> Vec<Job> {
    anchors.handle(at(seconds), event);
    std::iter::from_fn(|| anchors.poll())
        .map(|action| match action {
            AnchorAction::Submit(job) => *job,
            conflict @ AnchorAction::Conflict { .. } => panic!("{conflict:?}"),
        })
        .collect()
}

#[test]
fn the_first_checkpoint_is_anchored_at_once_and_later_ones_by_the_interval() {
    let mut anchors = anchors(1);
    let first = jobs(&mut anchors, 1, committed(1, 5, 0));
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].contract, contracts().checkpoints);
    assert_eq!(first[0].done, calls::is_anchored(contracts().checkpoints, Height(5)));
    assert!(jobs(&mut anchors, 2, committed(1, 6, 0)).is_empty(), "one at a time");
    assert!(jobs(&mut anchors, 10, AnchorEvent::Done(first[0].id)).is_empty());
    assert_eq!(anchors.next_deadline(), Some(at(610)));
    assert!(jobs(&mut anchors, 609, committed(1, 200, 0)).is_empty());
    let second = jobs(&mut anchors, 610, AnchorEvent::Tick);
    assert_eq!(second[0].done.at_least, 200, "the latest");
}

#[test]
fn value_that_waits_to_leave_is_anchored_sooner() {
    let mut anchors = anchors(1);
    jobs(&mut anchors, 1, anchored(5, 1));
    jobs(&mut anchors, 2, committed(1, 6, 1));
    assert_eq!(anchors.next_deadline(), Some(at(601)));
    assert!(jobs(&mut anchors, 10, committed(1, 7, 2)).is_empty());
    assert_eq!(anchors.next_deadline(), Some(at(61)));
    assert_eq!(jobs(&mut anchors, 61, AnchorEvent::Tick).len(), 1);
}

#[test]
fn what_somebody_else_anchored_is_not_anchored_again() {
    let mut anchors = anchors(1);
    jobs(&mut anchors, 1, anchored(5, 1));
    jobs(&mut anchors, 590, committed(1, 300, 1));
    jobs(&mut anchors, 599, anchored(300, 1));
    assert!(jobs(&mut anchors, 700, AnchorEvent::Tick).is_empty());
    assert_eq!(anchors.anchored(), Some(Height(300)));
}

#[test]
fn each_waits_its_turn_and_who_is_no_operator_waits_longest() {
    let rank = |i: u8| jobs(&mut anchors(i), 1, committed(1, 5, 0))[0].rank;
    let mut ranks: Vec<_> = (1..=4).map(rank).collect();
    ranks.sort_unstable();
    assert_eq!(ranks, [0, 1, 2, 3]);
    assert_eq!(rank(9), 4);
}

#[test]
fn certificates_that_the_contracts_cannot_know_are_not_submitted() {
    let mut anchors = anchors(1);
    assert!(jobs(&mut anchors, 1, committed(0, 5, 0)).is_empty());
    assert_eq!(jobs(&mut anchors, 2, committed(1, 6, 0)).len(), 1);
}

#[test]
fn what_the_contracts_refuse_is_tried_again_later() {
    let mut anchors = anchors(1);
    let first = jobs(&mut anchors, 1, committed(1, 5, 0));
    assert!(jobs(&mut anchors, 20, AnchorEvent::GivenUp(first[0].id)).is_empty());
    assert!(jobs(&mut anchors, 79, committed(1, 60, 0)).is_empty());
    assert_eq!(anchors.next_deadline(), Some(at(80)));
    assert_eq!(jobs(&mut anchors, 80, AnchorEvent::Tick)[0].done.at_least, 60);
}

#[test]
fn operators_are_snapshotted_once_a_day_by_whomever() {
    let mut anchors = anchors(1);
    jobs(&mut anchors, 1, anchored(5, 0));
    jobs(&mut anchors, 2, committed(1, 5, 0));
    assert_eq!(anchors.next_deadline(), Some(at(86_400)));
    let rolls = jobs(&mut anchors, 86_400, AnchorEvent::Tick);
    assert_eq!(rolls.len(), 1);
    assert_eq!(rolls[0].done, calls::has_started(contracts().checkpoints, EpochNumber(2)));
    jobs(&mut anchors, 86_500, AnchorEvent::EpochStarted(EpochNumber(2)));
    assert!(jobs(&mut anchors, 86_501, AnchorEvent::Done(rolls[0].id)).is_empty());
    assert_eq!(anchors.next_deadline(), Some(at(2 * 86_400 + 100)));
}

#[test]
fn another_header_on_ethereum_stops_everything() {
    let mut anchors = anchors(1);
    let own = Some((header(4), Digest::default()));
    let event = AnchorEvent::Anchored { height: Height(5), header: header(5), own };
    anchors.handle(at(1), event);
    let conflict =
        AnchorAction::Conflict { height: Height(5), anchored: header(5), own: header(4) };
    assert_eq!(anchors.poll(), Some(conflict));
    anchors.handle(at(90_000), committed(1, 9, 9));
    assert_eq!(anchors.poll(), None);
    assert_eq!(anchors.next_deadline(), None);
}

#[test]
fn an_offence_is_slashed_once() {
    let (set, key) = (set(1), SecretKey::derive(&[3; 32]));
    let votes = SignedTwice {
        first: Some(header(1)),
        first_signature: key.sign(&Digest([1; 32])),
        second: Some(header(2)),
        second_signature: key.sign(&Digest([2; 32])),
    };
    let (epoch, height, operator) = (EpochNumber(1), Height(7), OperatorIndex(2));
    let evidence = Evidence::Precommits { epoch, height, round: 0, operator, votes };
    let event = AnchorEvent::Evidence(Box::new(evidence.clone()), set, Address([3; 20]));
    let mut anchors = anchors(1);
    let slashing = jobs(&mut anchors, 1, event.clone());
    assert_eq!(slashing.len(), 1);
    let offence = evidence.place(&chain(), &Address([3; 20]));
    assert_eq!(slashing[0].done, calls::is_slashed(contracts().slasher, &offence));
    assert_eq!(slashing[0].input, calls::slash_precommits(epoch, height, 0, 2, &votes));
    assert!(jobs(&mut anchors, 2, event.clone()).is_empty());
    jobs(&mut anchors, 3, AnchorEvent::Done(JobId(1)));
    assert!(jobs(&mut anchors, 4, event).is_empty());
}
