//! From attestations to a certificate that anyone verifies, and what of it can't be bent.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

use lamina_certificate::{
    Attestation, Backing, CertificateError, CertifiedTask, CertifiedTaskError, Checkpoint,
    CheckpointCertificate, EpochStart, EthereumGenesis, Genesis, OperatorRecord, OperatorSet,
    RecordProof, SecretKey, Signature, SignerBitmap, TaskCertificate, VerifiedAttestation,
    VerifiedTask, VerifiedTaskCertificate, results, verify_attestations,
};
use lamina_types::{
    AccountKey, Address, Canonical, CheckpointHeader, Digest, EpochNumber, EthereumBlock, HeaderId,
    Height, Input, OperatorIndex, Outcome, Output, PeerKey, ServiceId, TaskId, TaskRequest,
    Timestamp, signing,
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
            ethereum: None,
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

    /// The task of all tests that need one, with what this makes of it behind its outcome.
    fn task(&self, back: impl FnOnce(TaskId, Digest) -> Backing) -> CertifiedTask {
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
        let backing = back(task, outcome.digest(&self.genesis.chain_id, &task));
        CertifiedTask::new(self.genesis.chain_id.clone(), request, outcome, backing)
    }

    fn certified_task(&self) -> CertifiedTask {
        self.task(|task, outcome| {
            Backing::Certificate(Box::new(self.certify(&[0, 2, 3], task, outcome).unwrap()))
        })
    }

    /// The task among others in a checkpoint of this height, which these operators signed.
    fn recorded_task(&self, height: u64, signers: &[u16]) -> CertifiedTask {
        self.task(|task, outcome| {
            Backing::Record(Box::new(self.record(task, outcome, height, signers)))
        })
    }

    fn record(&self, task: TaskId, outcome: Digest, height: u64, signers: &[u16]) -> RecordProof {
        let mut outcomes: Vec<_> =
            (1..6u8).map(|i| (TaskId([i * 40; 32]), Digest([i; 32]))).collect();
        outcomes.push((task, outcome));
        outcomes.sort();
        let checkpoint = self.checkpoint(height, results::root(&outcomes), signers);
        RecordProof { checkpoint, result: results::prove(&outcomes, &task).unwrap() }
    }

    fn checkpoint(&self, height: u64, results: Digest, signers: &[u16]) -> Checkpoint {
        let (chain, epoch, height) = (&self.genesis.chain_id, self.set.epoch(), Height(height));
        let header = CheckpointHeader {
            epoch,
            height,
            previous: HeaderId([1; 32]),
            history: Digest([2; 32]),
            cut: Digest([3; 32]),
            state: Digest([4; 32]),
            claims: Digest([5; 32]),
            results,
            ethereum: EthereumBlock::default(),
            time: Timestamp(9),
            operators: self.set.root(),
            next_operators: self.set.root(),
        };
        let (id, round) = (header.id(chain), 0);
        let message = signing::precommit(chain, epoch, height, round, Some(&id));
        let signatures: Vec<_> =
            signers.iter().map(|i| self.keys[usize::from(*i)].sign(&message)).collect();
        let mut bitmap = SignerBitmap::empty(self.set.size());
        signers.iter().for_each(|i| assert!(bitmap.insert(OperatorIndex(*i))));
        let signature = Signature::aggregate(&signatures).unwrap();
        let certificate =
            CheckpointCertificate { epoch, height, round, header: id, signers: bitmap, signature };
        Checkpoint { header, certificate }
    }

    fn verify(&self, task: &CertifiedTask) -> Result<VerifiedTask, CertifiedTaskError> {
        task.verify(&self.genesis.signing_context(), &self.genesis.epochs().unwrap())
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
fn a_genesis_file_names_ethereum_or_is_as_it_was() {
    let mut genesis = Network::new(1).genesis;
    let text = serde_json::to_string(&genesis).unwrap();
    assert!(!text.contains("contracts"));
    assert_eq!(serde_json::from_str::<Genesis>(&text).unwrap(), genesis);
    let section = |stride: u64| {
        let zero = Address([0; 20]);
        let contracts = ["registrar", "checkpoints", "vault", "tasks", "slasher"];
        let contracts: serde_json::Map<_, _> =
            contracts.map(|name| (name.to_owned(), serde_json::json!(zero))).into_iter().collect();
        serde_json::json!({
            "contracts": contracts, "start": 1, "stride": stride, "first_epoch": 1
        })
    };
    genesis.ethereum = Some(serde_json::from_value(section(32)).unwrap());
    let text = serde_json::to_string(&genesis).unwrap();
    assert_eq!(serde_json::from_str::<Genesis>(&text).unwrap(), genesis);
    assert!(serde_json::from_value::<EthereumGenesis>(section(0)).is_err());
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
fn a_certified_task_is_verified_by_its_certificate() {
    let network = Network::new(4);
    let verified = network.verify(&network.certified_task()).unwrap();
    assert_eq!((verified.checkpoint, verified.signers.count()), (None, 3));
    assert_eq!((verified.stake_gwei, verified.of_gwei), (96, 128));
}

#[test]
fn a_recorded_task_is_verified_by_its_checkpoint() {
    let network = Network::new(4);
    let task = network.recorded_task(7, &[0, 1, 3]);
    let verified = network.verify(&task).unwrap();
    assert_eq!(verified.task, task.request.request.task_id(&network.genesis.chain_id));
    assert_eq!((verified.checkpoint, verified.signers.count()), (Some(Height(7)), 3));
    assert_eq!(CertifiedTask::from_bytes(&task.to_bytes()), Ok(task));
}

#[test]
fn a_checkpoint_of_a_minority_or_with_another_outcome_proves_nothing() {
    let network = Network::new(4);
    let error = network.verify(&network.recorded_task(7, &[0, 1])).unwrap_err();
    let no_quorum = CertificateError::NoQuorum { stake_gwei: 64, of_gwei: 128 };
    assert_eq!(error, CertifiedTaskError::Checkpoint(no_quorum));
    let of_another = network.task(|task, _| {
        Backing::Record(Box::new(network.record(task, Digest([6; 32]), 7, &[0, 1, 2])))
    });
    let error = network.verify(&of_another).unwrap_err();
    assert!(matches!(error, CertifiedTaskError::NotRecorded { height: Height(7), .. }));
}

/// Some operators serve the service: the genesis file doesn't say which.
#[test]
fn a_certificate_of_a_part_is_refused_with_advice_and_its_checkpoint_is_not() {
    let network = Network::new(5);
    let members = network.set.iter().take(3).map(|(_, operator)| operator.clone()).collect();
    let chain = network.genesis.chain_id.clone();
    let part = OperatorSet::of_operators(chain, EpochNumber(0), members).unwrap();
    let sign = |task, outcome| {
        let sign = |i: u16| {
            let key = &network.keys[usize::from(i)];
            let attestation = Attestation::sign(&part, OperatorIndex(i), key, task, outcome);
            attestation.verify(&part).unwrap()
        };
        let attestations: Vec<_> = (0..3).map(sign).collect();
        VerifiedTaskCertificate::aggregate(&part, &attestations).unwrap().get().clone()
    };
    let task = network.task(|task, outcome| Backing::Certificate(Box::new(sign(task, outcome))));
    let error = network.verify(&task).unwrap_err();
    assert_eq!(error, CertifiedTaskError::Part { part: 3, of: 5 });
    assert!(error.to_string().contains("recorded in the ledger, and fetch the file again"));
    assert!(network.verify(&network.recorded_task(7, &[0, 1, 3, 4])).is_ok());
}

#[test]
fn a_checkpoint_counts_for_the_operators_of_its_own_epoch() {
    let mut network = Network::new(4);
    // The second epoch has these four, the first had others.
    let records = network.genesis.operators.clone();
    network.genesis.operators = Network::new(5).genesis.operators[1..].to_vec();
    network.genesis.ledger.epochs = vec![EpochStart { height: Height(7), operators: records }];
    network.set = network.genesis.epochs().unwrap().pop().unwrap().1;
    let signers = [0, 1, 2];
    assert!(network.verify(&network.recorded_task(7, &signers)).is_ok());
    assert!(network.verify(&network.recorded_task(900, &signers)).is_ok());
    // One before its time.
    let error = network.verify(&network.recorded_task(6, &signers)).unwrap_err();
    assert!(matches!(error, CertifiedTaskError::Checkpoint(CertificateError::WrongEpoch { .. })));
}

/// No bit of a file can be flipped, whatever stands behind its outcome.
fn assert_every_bit_counts(network: &Network, task: &CertifiedTask) {
    let context = network.genesis.signing_context();
    let epochs = network.genesis.epochs().unwrap();
    let bytes = task.to_bytes();
    let verify = |bytes: &[u8]| {
        CertifiedTask::from_bytes(bytes).is_ok_and(|t| t.verify(&context, &epochs).is_ok())
    };
    assert!(verify(&bytes));
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(!verify(&flipped), "bit {bit} of {}", bytes.len() * 8);
    }
}

#[test]
fn no_single_bit_of_a_certified_task_can_be_flipped() {
    let network = Network::new(4);
    assert_every_bit_counts(&network, &network.certified_task());
}

#[test]
fn no_single_bit_of_a_recorded_task_can_be_flipped() {
    let network = Network::new(4);
    assert_every_bit_counts(&network, &network.recorded_task(7, &[0, 1, 3]));
}

/// Frozen: files that people keep must stay readable. A change here is a new version of the format.
#[test]
fn bytes_of_a_certified_task_are_frozen() {
    let bytes = Network::new(4).certified_task().to_bytes();
    assert_eq!(bytes.len(), 368);
    assert_eq!(
        Digest::of(&bytes).to_string(),
        "0x9216c506522c2373b328327e77d2fabcf6f87d9e533c03d7f0bb985432e18711"
    );
    let bytes = Network::new(4).recorded_task(7, &[0, 1, 3]).to_bytes();
    assert_eq!(bytes.len(), 772);
    assert_eq!(
        Digest::of(&bytes).to_string(),
        "0x40ad86235047c3167b54690875072803850e8e7ba24cb350394a87ef996d4ecc"
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
