//! From attestations to a certificate that anyone verifies, and what of it can't be bent.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

use lamina_certificate::{
    Attestation, CertificateError, CertifiedTask, Genesis, OperatorRecord, OperatorSet, SecretKey,
    SignerBitmap, TaskCertificate, VerifiedAttestation, VerifiedTaskCertificate,
    verify_attestations,
};
use lamina_types::{
    AccountKey, Address, Canonical, Digest, EpochNumber, Height, Input, OperatorIndex, Outcome,
    Output, PeerKey, ServiceId, TaskId, TaskRequest, Timestamp,
};
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

/// Operators with keys that the test knows.
struct Network {
    genesis: Genesis,
    set: OperatorSet,
    keys: Vec<SecretKey>,
}

impl Network {
    fn new(operators: u8) -> Self {
        let keys: Vec<_> = (1..=operators).map(|i| SecretKey::derive(&[i; 32])).collect();
        let chain_id: lamina_types::ChainId = "lamina-test-1".parse().unwrap();
        let records = (1..=operators)
            .zip(&keys)
            .map(|(i, key)| {
                OperatorRecord::new(&chain_id, Address([i; 20]), PeerKey([i; 32]), key, 32)
            })
            .collect();
        let genesis = Genesis {
            chain_id,
            ethereum_chain_id: 31337,
            runtime: lamina_types::testing::runtime(),
            operators: records,
            ledger: lamina_certificate::LedgerGenesis::default(),
        };
        let set = genesis.operator_set().unwrap();
        Self { genesis, set, keys }
    }

    fn attest(&self, operator: u16, task: TaskId, outcome: Digest) -> Attestation {
        let key = &self.keys[usize::from(operator)];
        Attestation::sign(&self.set, OperatorIndex(operator), key, task, outcome)
    }

    fn certify(&self, signers: &[u16], task: TaskId, outcome: Digest) -> Option<TaskCertificate> {
        let attestations: Vec<VerifiedAttestation> = signers
            .iter()
            .map(|i| self.attest(*i, task, outcome).verify(&self.set).unwrap())
            .collect();
        VerifiedTaskCertificate::aggregate(&self.set, &attestations).map(|c| c.get().clone())
    }

    fn certified_task(&self) -> CertifiedTask {
        let requester = AccountKey::from_bytes(&[9; 32]).unwrap();
        let request = TaskRequest {
            service: ServiceId([1; 32]),
            input: Input::new(*b"hello").unwrap(),
            requester: requester.address(),
            nonce: 1,
            height: Height(0),
            valid_until: Timestamp(1_000),
        }
        .sign(&requester, &self.genesis.signing_context());
        let task = request.request.task_id(&self.genesis.chain_id);
        let outcome = Outcome::new(5, Ok(Output::new(*b"allow").unwrap()));
        let digest = outcome.digest(&self.genesis.chain_id, &task);
        let certificate = self.certify(&[0, 2, 3], task, digest).unwrap();
        CertifiedTask::new(self.genesis.chain_id.clone(), request, outcome, certificate)
    }
}

const TASK: TaskId = TaskId([7; 32]);
const OUTCOME: Digest = Digest([8; 32]);

#[test]
fn three_of_four_certify() {
    let network = Network::new(4);
    let certificate = network.certify(&[0, 2, 3], TASK, OUTCOME).unwrap();
    assert!(certificate.clone().verify(&network.set).is_ok());
    assert_eq!(TaskCertificate::from_bytes(&certificate.to_bytes()), Ok(certificate));
}

#[test]
fn two_of_four_do_not() {
    assert_eq!(Network::new(4).certify(&[0, 1], TASK, OUTCOME), None);
}

#[test]
fn a_signer_more_in_the_bitmap_is_refused() {
    let network = Network::new(4);
    let mut certificate = network.certify(&[0, 2, 3], TASK, OUTCOME).unwrap();
    certificate.signers.insert(OperatorIndex(1));
    assert_eq!(certificate.verify(&network.set).unwrap_err(), CertificateError::Signature);
}

#[test]
fn empty_and_minority_bitmaps_are_refused() {
    let network = Network::new(4);
    let mut certificate = network.certify(&[0, 2, 3], TASK, OUTCOME).unwrap();
    certificate.signers = SignerBitmap::empty(4);
    let error = certificate.verify(&network.set).unwrap_err();
    assert_eq!(error, CertificateError::NoQuorum { stake_gwei: 0, of_gwei: 128 });
}

#[test]
fn certificates_of_another_epoch_or_set_are_refused() {
    let network = Network::new(4);
    let mut certificate = network.certify(&[0, 2, 3], TASK, OUTCOME).unwrap();
    certificate.epoch = EpochNumber(1);
    let error = certificate.clone().verify(&network.set).unwrap_err();
    assert!(matches!(error, CertificateError::WrongEpoch { .. }));
    certificate.epoch = EpochNumber(0);
    let error = certificate.verify(&Network::new(5).set).unwrap_err();
    assert_eq!(error, CertificateError::WrongSize { bitmap: 4, set: 5 });
}

#[test]
fn an_attestation_counts_for_its_own_operator_and_outcome_only() {
    let network = Network::new(4);
    let own = network.attest(0, TASK, OUTCOME);
    assert!(own.verify(&network.set).is_some());
    let changes: [fn(&mut Attestation); 4] = [
        |a| a.operator = OperatorIndex(1),
        |a| a.operator = OperatorIndex(4),
        |a| a.outcome = Digest([9; 32]),
        |a| a.epoch = EpochNumber(1),
    ];
    for change in changes {
        let mut other = own.clone();
        change(&mut other);
        assert!(other.verify(&network.set).is_none());
    }
}

#[test]
fn a_batch_refuses_what_does_not_belong_to_it() {
    let network = Network::new(4);
    let mut batch: Vec<_> = (0..4).map(|i| network.attest(i, TASK, OUTCOME)).collect();
    batch[1] = network.attest(1, TASK, Digest([9; 32]));
    batch[2].operator = OperatorIndex(3);
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let verified = verify_attestations(&network.set, &batch, &mut rng);
    let holds: Vec<_> = verified.iter().map(Option::is_some).collect();
    assert_eq!(holds, [true, false, false, true]);
}

#[test]
fn no_single_bit_of_a_certified_task_can_be_flipped() {
    let network = Network::new(4);
    let context = network.genesis.signing_context();
    let bytes = network.certified_task().to_bytes();
    let verify = |bytes: &[u8]| {
        CertifiedTask::from_bytes(bytes).is_ok_and(|t| t.verify(&context, &network.set).is_ok())
    };
    assert!(verify(&bytes));
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(!verify(&flipped), "bit {bit} of {}", bytes.len() * 8);
    }
}

/// Frozen: files that people keep must stay readable. A change here is a new version of the format.
#[test]
fn bytes_of_a_certified_task_are_frozen() {
    let bytes = Network::new(4).certified_task().to_bytes();
    assert_eq!(bytes.len(), 367);
    assert_eq!(
        Digest::of(&bytes).to_string(),
        "0x91dce01f5a329529807b27316c48bb0b519bea6960cbd02ab130e34e4706709c"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_order_of_attestations_makes_the_same_certificate(order in Just(vec![0u16, 1, 2, 3, 4]).prop_shuffle()) {
        let network = Network::new(5);
        prop_assert_eq!(
            network.certify(&order, TASK, OUTCOME),
            network.certify(&[0, 1, 2, 3, 4], TASK, OUTCOME)
        );
    }

    #[test]
    fn hostile_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(TaskCertificate::from_bytes(&bytes).is_err());
        prop_assert!(Attestation::from_bytes(&bytes).is_err());
        prop_assert!(CertifiedTask::from_bytes(&bytes).is_err());
    }
}
