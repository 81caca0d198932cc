//! From the genesis file's operators to those of later epochs.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

use lamina_certificate::{
    Checkpoint, CheckpointCertificate, Genesis, Handover, HandoverError, HandoverFile,
    LedgerGenesis, OperatorRecord, OperatorSet, SecretKey, Signature, SignerBitmap,
};
use lamina_types::{
    Address, Canonical as _, ChainId, CheckpointHeader, Digest, EpochNumber, EthereumBlock,
    HeaderId, Height, OperatorIndex, PeerKey, Timestamp, signing,
};

fn chain() -> ChainId {
    "lamina-test-1".parse().unwrap()
}

fn key(operator: u8) -> SecretKey {
    SecretKey::derive(&[operator; 32])
}

fn record(operator: u8) -> OperatorRecord {
    let (address, peer) = (Address([operator; 20]), PeerKey([operator; 32]));
    OperatorRecord::new(&chain(), address, peer, &key(operator), 32)
}

fn genesis() -> Genesis {
    Genesis {
        chain_id: chain(),
        ethereum_chain_id: 31337,
        ethereum: None,
        runtime: lamina_types::testing::runtime(),
        operators: (1..=4).map(record).collect(),
        ledger: LedgerGenesis::default(),
    }
}

/// The set of these operators, whose keys have these numbers.
fn set(epoch: u64, operators: &[u8]) -> OperatorSet {
    let records: Vec<_> = operators.iter().copied().map(record).collect();
    OperatorSet::new(chain(), EpochNumber(epoch), &records).unwrap()
}

/// A checkpoint of `set` that all of these operators sign, which hands over to `next`.
fn checkpoint(height: u64, set: &OperatorSet, signers: &[u8], next: &OperatorSet) -> Checkpoint {
    let (epoch, height, round) = (set.epoch(), Height(height), 0);
    let header = CheckpointHeader {
        epoch,
        height,
        previous: HeaderId([1; 32]),
        history: Digest([2; 32]),
        cut: Digest([3; 32]),
        state: Digest([4; 32]),
        claims: Digest([5; 32]),
        results: Digest([6; 32]),
        ethereum: EthereumBlock::default(),
        time: Timestamp(9),
        operators: set.root(),
        next_operators: next.root(),
    };
    let id = header.id(&chain());
    let message = signing::precommit(&chain(), epoch, height, round, Some(&id));
    let mut bitmap = SignerBitmap::empty(set.size());
    for (index, operator) in set.iter() {
        if signers.contains(&operator.address.0[0]) {
            bitmap.insert(OperatorIndex(index.0));
        }
    }
    let signatures: Vec<_> = signers.iter().map(|i| key(*i).sign(&message)).collect();
    let signature = Signature::aggregate(&signatures).unwrap();
    let certificate =
        CheckpointCertificate { epoch, height, round, header: id, signers: bitmap, signature };
    Checkpoint { header, certificate }
}

#[test]
fn sets_are_verified_one_by_the_other_from_genesis_on() {
    let (first, second) = (set(0, &[1, 2, 3, 4]), set(1, &[3, 4, 5]));
    let third = set(4, &[5, 6]);
    let handovers = vec![
        Handover::new(checkpoint(7, &first, &[1, 2, 4], &second), &second).unwrap(),
        Handover::new(checkpoint(9, &second, &[3, 4, 5], &third), &third).unwrap(),
    ];
    let file = HandoverFile::new(handovers).unwrap();
    let read = HandoverFile::from_bytes(&file.to_bytes()).unwrap();
    assert_eq!(read, file);
    let epochs = read.epochs(&genesis()).unwrap();
    let found: Vec<_> =
        epochs.iter().map(|(first, set)| (first.0, set.epoch().0, set.root())).collect();
    let expected = [(0, 0, first.root()), (8, 1, second.root()), (10, 4, third.root())];
    assert_eq!(found, expected);
}

#[test]
fn nobody_else_hands_over_and_to_nobody_else() {
    let (first, second) = (set(0, &[1, 2, 3, 4]), set(1, &[3, 4, 5]));
    let minority = Handover::new(checkpoint(7, &first, &[1, 2], &second), &second).unwrap();
    assert!(matches!(minority.verify(&first), Err(HandoverError::Certificate(_))));
    let by_others = Handover::new(checkpoint(7, &second, &[3, 4, 5], &second), &second).unwrap();
    assert!(matches!(by_others.verify(&first), Err(HandoverError::Certificate(_))));
    let other = set(1, &[3, 4, 6]);
    let to_others = Handover::new(checkpoint(7, &first, &[1, 2, 3], &second), &other).unwrap();
    let epoch = EpochNumber(1);
    assert_eq!(to_others.verify(&first).unwrap_err(), HandoverError::OtherSet { epoch });
    let same = Handover::new(checkpoint(7, &first, &[1, 2, 3], &first), &first).unwrap();
    assert!(matches!(same.verify(&first), Err(HandoverError::Order { .. })));
}

#[test]
fn handovers_go_on_in_height_and_epoch() {
    let (first, second, third) = (set(0, &[1, 2, 3, 4]), set(1, &[3, 4, 5]), set(2, &[5]));
    let early = vec![
        Handover::new(checkpoint(7, &first, &[1, 2, 4], &second), &second).unwrap(),
        Handover::new(checkpoint(7, &second, &[3, 4, 5], &third), &third).unwrap(),
    ];
    let error = HandoverFile::new(early).unwrap().epochs(&genesis()).unwrap_err();
    assert!(matches!(error, HandoverError::Order { epoch: EpochNumber(2), .. }), "{error}");
}

#[test]
fn no_bit_of_a_handover_can_be_changed() {
    let (first, second) = (set(0, &[1, 2, 3, 4]), set(1, &[3, 4, 5]));
    let handover = Handover::new(checkpoint(7, &first, &[1, 2, 4], &second), &second).unwrap();
    let bytes = handover.to_bytes();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let verified = Handover::from_bytes(&changed).map(|handover| handover.verify(&first));
        assert!(!matches!(verified, Ok(Ok(_))), "bit {bit}");
    }
}
