use ed25519_dalek::Signer as _;
use lamina_certificate::{Evidence, OffenceKind, SignedTwice};
use lamina_ledger::state::Refusal;
use lamina_ledger::state::evidence::EVIDENCE_EPOCHS_MAX;
use lamina_ledger::state::operators;
use lamina_types::{
    Action, Bytes, Canonical as _, EpochNumber, HeaderId, Height, OperatorIndex, TaskId, signing,
};
use proptest::prelude::*;

use crate::network::{EPOCH_1, Network, address, bls, chain, peer, reason};

fn submit(network: &mut Network, evidence: &Evidence) -> Result<(), Refusal> {
    let evidence = Bytes::new(evidence.to_bytes()).unwrap();
    network.apply(address(9), Action::SubmitEvidence { evidence })
}

/// Two prevotes of the second operator of the epoch.
fn prevotes(epoch: u64, round: u32, headers: [u8; 2]) -> Evidence {
    let (epoch, height) = (EpochNumber(epoch), Height(3));
    let offender = if epoch.0 == 0 { 2 } else { 3 };
    let sign = |header: u8| {
        let header = HeaderId([header; 32]);
        let message = signing::prevote(&chain(), epoch, height, round, Some(&header));
        (Some(header), peer(offender).sign(&message.0).to_bytes())
    };
    let ((first, first_signature), (second, second_signature)) =
        (sign(headers[0]), sign(headers[1]));
    let votes = SignedTwice { first, first_signature, second, second_signature };
    Evidence::Prevotes { epoch, height, round, operator: OperatorIndex(1), votes }
}

fn attestations() -> Evidence {
    let (epoch, task) = (EpochNumber(0), TaskId([1; 32]));
    let sign = |outcome: u8| {
        let outcome = lamina_types::Digest([outcome; 32]);
        (outcome, bls(2).sign(&signing::attestation(&chain(), epoch, &task, &outcome)))
    };
    let ((first, first_signature), (second, second_signature)) = (sign(1), sign(2));
    let outcomes = SignedTwice { first, first_signature, second, second_signature };
    Evidence::Attestations { epoch, task, operator: OperatorIndex(1), outcomes }
}

#[test]
fn offence_is_noted_and_slashed_once() {
    let mut network = Network::new();
    assert_eq!(submit(&mut network, &prevotes(0, 1, [1, 2])), Ok(()));
    let known = Err(Refusal::exists("evidence"));
    assert_eq!(submit(&mut network, &prevotes(0, 1, [1, 2])), known);
    assert_eq!(submit(&mut network, &prevotes(0, 1, [2, 1])), known);
    assert_eq!(submit(&mut network, &prevotes(0, 1, [3, 4])), known);
    assert_eq!(*network.slashed.lock().unwrap(), [address(2)]);
    let offences = operators::offences(&network.scope(), address(2)).unwrap();
    let (_, offence) = offences.first_key_value().unwrap();
    assert_eq!(offences.len(), 1);
    assert_eq!((offence.kind, offence.epoch), (OffenceKind::Prevotes, EpochNumber(0)));
    assert_eq!((offence.height, offence.reporter), (Height(1), address(9)));
    assert!(operators::offences(&network.scope(), address(1)).unwrap().is_empty());
}

#[test]
fn offences_at_other_places_are_others() {
    let mut network = Network::new();
    for evidence in [prevotes(0, 1, [1, 2]), prevotes(0, 2, [1, 2]), attestations()] {
        assert_eq!(submit(&mut network, &evidence), Ok(()));
    }
    assert_eq!(operators::offences(&network.scope(), address(2)).unwrap().len(), 3);
    assert_eq!(network.slashed.lock().unwrap().len(), 3);
}

#[test]
fn epochs_have_their_own_sets() {
    let mut network = Network::new();
    network.skip_to(EPOCH_1);
    assert_eq!(submit(&mut network, &prevotes(1, 1, [1, 2])), Ok(()));
    assert_eq!(submit(&mut network, &prevotes(0, 1, [1, 2])), Ok(()));
    assert_eq!(*network.slashed.lock().unwrap(), [address(3), address(2)]);
    let unknown = submit(&mut network, &prevotes(2, 1, [1, 2]));
    assert_eq!(reason(unknown), "the evidence: no operator set of epoch 2 is known");
}

#[test]
fn evidence_that_does_not_hold_changes_nothing() {
    let mut network = Network::new();
    let before = network.memory.entries.clone();
    let mut others = prevotes(0, 1, [1, 2]);
    if let Evidence::Prevotes { operator, .. } = &mut others {
        operator.0 = 0;
    }
    assert_eq!(reason(submit(&mut network, &others)), "the evidence: a signature doesn't hold");
    let same = submit(&mut network, &prevotes(0, 1, [1, 1]));
    assert_eq!(reason(same), "the evidence: both contents are the same");
    assert_eq!(network.memory.entries, before);
    assert!(network.slashed.lock().unwrap().is_empty());
}

#[test]
fn evidence_of_long_ago_is_refused() {
    let mut network = Network::new();
    let at = |network: &mut Network, epoch| {
        let evidence = Bytes::new(prevotes(0, 1, [1, 2]).to_bytes()).unwrap();
        network.submit_in(EpochNumber(epoch), evidence)
    };
    let refused = at(&mut network, EVIDENCE_EPOCHS_MAX + 1);
    assert_eq!(reason(refused), "the evidence: its epoch is too long ago");
    assert_eq!(at(&mut network, EVIDENCE_EPOCHS_MAX), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_pass_for_evidence(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut network = Network::new();
        let evidence = Bytes::new(bytes).unwrap();
        let refused = network.apply(address(9), Action::SubmitEvidence { evidence });
        prop_assert!(refused.is_err());
    }
}
