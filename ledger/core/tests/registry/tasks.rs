use std::sync::Arc;

use lamina_certificate::{Attestation, OperatorSet, Signature, SignerBitmap, TaskCertificate};
use lamina_ledger::state::Refusal;
use lamina_ledger::state::operators::{self, SERVICE_SET_HEIGHTS_MAX};
use lamina_ledger::state::services;
use lamina_ledger::state::tasks::{self, LedgerTask};
use lamina_types::{
    Action, Address, Bytes, Canonical as _, Digest, EpochNumber, Height, Input, OperatorIndex,
    ServiceId, SignedTaskRequest, TaskId, TaskRecord, TaskRequest, Timestamp,
};
use proptest::prelude::*;

use crate::network::{EPOCH_1, Network, UNKNOWN, account, address, bls, reason, seeds};

const OUTCOME: Digest = Digest([5; 32]);

/// Operators of epoch 0 with five of five gwei, four of five, and three.
const ALL: &[u8] = &[1, 2, 3, 4];
const QUORUM: &[u8] = &[1, 3, 4];
const TOO_FEW: &[u8] = &[1, 4];

fn request(network: &Network, service: ServiceId, height: u64) -> SignedTaskRequest {
    let request = TaskRequest {
        service,
        input: Input::new(*b"hello").unwrap(),
        requester: address(8),
        nonce: 7,
        height: Height(height),
        valid_until: Timestamp(1_000),
    };
    request.sign(&account(8), &network.context)
}

fn certify(set: &OperatorSet, task: TaskId, outcome: Digest, signers: &[u8]) -> TaskCertificate {
    let all = seeds(set);
    let mut bitmap = SignerBitmap::empty(set.size());
    let mut signatures = Vec::new();
    for signer in signers {
        let index = all.iter().position(|seed| seed == signer).unwrap();
        let index = OperatorIndex(u16::try_from(index).unwrap());
        bitmap.insert(index);
        signatures.push(Attestation::sign(set, index, &bls(*signer), task, outcome).signature);
    }
    let signature = Signature::aggregate(&signatures).unwrap();
    TaskCertificate { task, outcome, epoch: set.epoch(), signers: bitmap, signature }
}

/// A service, a task of it pinned to the checkpoint that brought it, and what records it.
struct Task {
    service: ServiceId,
    request: SignedTaskRequest,
    id: TaskId,
    set: Arc<OperatorSet>,
}

impl Task {
    fn new(network: &mut Network) -> Self {
        let service = network.register(9);
        let height = network.height().0;
        Self::at(network, service, height)
    }

    fn at(network: &Network, service: ServiceId, height: u64) -> Self {
        let request = request(network, service, height);
        let id = request.verify(&network.context).unwrap();
        Self { service, request, id, set: network.service_set(service, Height(height)) }
    }

    fn record(&self, certificate: &TaskCertificate) -> TaskRecord {
        TaskRecord::new(&self.request, 1, Bytes::new(certificate.to_bytes()).unwrap())
    }

    fn signed_by(&self, signers: &[u8]) -> TaskRecord {
        self.record(&certify(&self.set, self.id, OUTCOME, signers))
    }
}

fn record_task(network: &mut Network, record: TaskRecord) -> Result<(), Refusal> {
    network.apply(address(9), Action::RecordTask { record: Box::new(record) })
}

fn taken_part(network: &Network, service: ServiceId) -> [u64; 4] {
    let scope = network.scope();
    [1, 2, 3, 4].map(|seed| operators::participation(&scope, service, address(seed)).unwrap())
}

#[test]
fn task_is_recorded_once_and_its_signers_are_credited() {
    let mut network = Network::new();
    let task = Task::new(&mut network);
    record_task(&mut network, task.signed_by(QUORUM)).unwrap();
    let again = record_task(&mut network, task.signed_by(ALL));
    assert_eq!(again, Err(Refusal::exists("task")));
    let recorded = tasks::recorded(&network.scope(), &task.id).unwrap().unwrap();
    assert_eq!((recorded.service, recorded.requester), (task.service, address(8)));
    assert_eq!((recorded.outcome, recorded.epoch), (OUTCOME, EpochNumber(0)));
    assert_eq!((recorded.pinned, recorded.height), (Height(1), Height(2)));
    assert_eq!(recorded.signers.iter().map(|i| i.0).collect::<Vec<_>>(), [0, 2, 3]);
    assert_eq!(taken_part(&network, task.service), [1, 0, 1, 1]);
    let credited: Vec<_> = QUORUM.iter().map(|seed| address(*seed)).collect();
    assert_eq!(*network.credits.noted.lock().unwrap(), [(task.service, credited)]);
}

#[test]
fn results_are_those_of_the_last_checkpoint() {
    let mut network = Network::new();
    let first = Task::new(&mut network);
    let second = Task::at(&network, first.service, 1);
    let records = [first.signed_by(ALL), second.signed_by(QUORUM)];
    let operations =
        records.map(|record| (address(9), Action::RecordTask { record: Box::new(record) }));
    assert_eq!(network.apply_all(operations.to_vec()), [Ok(()), Err(Refusal::exists("task"))]);
    let height = network.height();
    let key = [b"results/".as_slice(), &height.0.to_be_bytes(), &first.id.0].concat();
    assert_eq!(network.memory.entries[&key], OUTCOME.0);
    assert_eq!(tasks::results(&network.scope(), height).unwrap(), [(first.id, OUTCOME)]);
    network.apply_all(Vec::new());
    assert!(!network.memory.entries.keys().any(|key| key.starts_with(b"results/")));
    assert!(tasks::recorded(&network.scope(), &first.id).unwrap().is_some());
}

#[test]
fn certificate_without_a_quorum_is_refused() {
    let mut network = Network::new();
    let task = Task::new(&mut network);
    let refused = record_task(&mut network, task.signed_by(TOO_FEW));
    assert!(reason(refused).contains("more than two thirds"));
    assert_eq!(taken_part(&network, task.service), [0; 4]);
}

/// Whoever adds signers to the bitmap can't add them to the signature.
#[test]
fn signers_who_did_not_sign_are_not_credited() {
    let mut network = Network::new();
    let task = Task::new(&mut network);
    let mut certificate = certify(&task.set, task.id, OUTCOME, QUORUM);
    certificate.signers.insert(OperatorIndex(1));
    let refused = record_task(&mut network, task.record(&certificate));
    assert_eq!(reason(refused), "the certificate: the aggregate signature doesn't hold");
}

#[test]
fn certificate_of_another_outcome_task_or_epoch_is_refused() {
    let mut network = Network::new();
    let task = Task::new(&mut network);
    let good = certify(&task.set, task.id, OUTCOME, ALL);
    let mut other_outcome = good.clone();
    other_outcome.outcome = Digest([6; 32]);
    let mut other_epoch = good.clone();
    other_epoch.epoch = EpochNumber(1);
    let other_task = certify(&task.set, TaskId([1; 32]), OUTCOME, ALL);
    for certificate in [other_outcome, other_epoch, other_task] {
        let refused = record_task(&mut network, task.record(&certificate));
        assert!(reason(refused).starts_with("the certificate: "));
    }
    assert_eq!(record_task(&mut network, task.record(&good)), Ok(()));
}

/// The operators of epoch 1 can't certify a task of epoch 0, nor the other way round.
#[test]
fn certificate_is_of_the_epoch_of_the_task_s_height() {
    let mut network = Network::new();
    let service = network.register(9);
    network.skip_to(EPOCH_1);
    let old = Task::at(&network, service, EPOCH_1 - 1);
    let new = Task::at(&network, service, EPOCH_1);
    let swapped = certify(&new.set, old.id, OUTCOME, &[2, 3, 4, 5]);
    let refused = record_task(&mut network, old.record(&swapped));
    assert!(reason(refused).contains("certificate of epoch 1, operator set of epoch 0"));
    let swapped = certify(&old.set, new.id, OUTCOME, ALL);
    let refused = record_task(&mut network, new.record(&swapped));
    assert!(reason(refused).contains("certificate of epoch 0, operator set of epoch 1"));
    assert_eq!(record_task(&mut network, old.signed_by(ALL)), Ok(()));
    assert_eq!(record_task(&mut network, new.signed_by(&[2, 3, 4, 5])), Ok(()));
}

#[test]
fn certificate_is_of_the_service_set_of_the_task_s_height() {
    let mut network = Network::new();
    let before = Task::new(&mut network);
    let service = before.service;
    for seed in [2, 3] {
        network.apply(address(seed), Action::OptIn { service }).unwrap();
    }
    let after = Task::at(&network, service, network.height().0);
    network.apply(address(2), Action::OptOut { service }).unwrap();
    let everyone_s = certify(&before.set, after.id, OUTCOME, ALL);
    let refused = record_task(&mut network, after.record(&everyone_s));
    assert!(reason(refused).contains("bitmap of 4 operators, operator set of 2"));
    assert_eq!(record_task(&mut network, before.signed_by(ALL)), Ok(()));
    assert_eq!(record_task(&mut network, after.signed_by(&[2, 3])), Ok(()));
    assert_eq!(taken_part(&network, service), [1, 2, 2, 1]);
    let recorded = tasks::recorded(&network.scope(), &after.id).unwrap().unwrap();
    assert_eq!(recorded.signers.iter().map(|i| i.0).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn request_that_was_not_signed_is_refused() {
    let mut network = Network::new();
    let task = Task::new(&mut network);
    let mut record = task.signed_by(ALL);
    record.requester = address(7);
    assert!(reason(record_task(&mut network, record)).starts_with("signed by"));
    let mut record = task.signed_by(ALL);
    record.request_signature = Bytes::default();
    assert!(record_task(&mut network, record).is_err());
}

#[test]
fn task_of_a_checkpoint_that_does_not_count_is_refused() {
    let mut network = Network::new();
    network.skip_to(3);
    let task = Task::new(&mut network);
    let registered = network.height().0;
    let early = Task::at(&network, task.service, registered - 1);
    let refused = reason(record_task(&mut network, early.signed_by(ALL)));
    assert_eq!(refused, "the service wasn't there at the task's checkpoint");
    let next = network.height().0 + 1;
    let future = Task::at(&network, task.service, next);
    let refused = reason(record_task(&mut network, future.signed_by(ALL)));
    assert_eq!(refused, "the task is of a checkpoint that's yet to come");
    network.skip_to(registered + SERVICE_SET_HEIGHTS_MAX);
    let refused = reason(record_task(&mut network, task.signed_by(ALL)));
    assert_eq!(refused, "the task's checkpoint is too long ago");
    network.skip_to(registered + SERVICE_SET_HEIGHTS_MAX - 1);
    assert_eq!(record_task(&mut network, task.signed_by(ALL)), Ok(()));
}

#[test]
fn task_of_an_unknown_service_is_refused() {
    let mut network = Network::new();
    let task = Task::at(&network, UNKNOWN, 0);
    let refused = record_task(&mut network, task.signed_by(ALL));
    assert_eq!(refused, Err(Refusal::unknown("service")));
}

#[test]
fn task_that_cannot_be_credited_is_not_recorded() {
    let mut network = Network::new();
    let task = Task::new(&mut network);
    *network.credits.refuses.lock().unwrap() = true;
    let before = network.memory.entries.clone();
    assert_eq!(record_task(&mut network, task.signed_by(ALL)), Err(Refusal::Overflow));
    assert_eq!(network.memory.entries, before);
}

fn request_task(
    network: &mut Network,
    requester: Address,
    service: ServiceId,
    input: &[u8],
) -> Result<(), Refusal> {
    let input = Input::new(input).unwrap();
    network.apply(requester, Action::RequestTask { service, input })
}

#[test]
fn requests_stand_in_the_order_of_the_ledger() {
    let mut network = Network::new();
    let (service, other) = (network.register(9), network.register(8));
    for (requester, service, input) in [(1, service, b"a"), (2, other, b"b"), (3, service, b"c")] {
        request_task(&mut network, address(requester), service, input).unwrap();
    }
    let scope = network.scope();
    let inputs = |service, from, limit| -> Vec<(u64, Vec<u8>)> {
        let found = tasks::requests(&scope, service, from, limit).unwrap();
        found.into_iter().map(|(n, LedgerTask { input, .. })| (n, input.into_vec())).collect()
    };
    assert_eq!(inputs(service, 0, 9), [(0, b"a".to_vec()), (1, b"c".to_vec())]);
    assert_eq!(inputs(service, 1, 9), [(1, b"c".to_vec())]);
    assert_eq!(inputs(service, 0, 1), [(0, b"a".to_vec())]);
    assert_eq!(inputs(other, 0, 9), [(0, b"b".to_vec())]);
    assert_eq!(tasks::requests_count(&scope, service).unwrap(), 2);
    let (_, first) = &tasks::requests(&scope, service, 0, 1).unwrap()[0];
    assert_eq!((first.requester, first.height), (address(1), Height(3)));
}

#[test]
fn requests_that_the_service_does_not_take_are_refused() {
    let mut network = Network::new();
    let service = network.register(9);
    let unknown = request_task(&mut network, address(1), UNKNOWN, b"a");
    assert_eq!(unknown, Err(Refusal::unknown("service")));
    let long = request_task(&mut network, address(1), service, &[0; 9]);
    assert_eq!(reason(long), "the service takes at most 8 bytes of input");
    assert_eq!(request_task(&mut network, address(1), service, &[0; 8]), Ok(()));
    network.change(|scope, _| services::set_paused(scope, service, true)).unwrap();
    let paused = request_task(&mut network, address(1), service, b"a");
    assert_eq!(reason(paused), "the service is paused");
    assert_eq!(tasks::requests_count(&network.scope(), service).unwrap(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_bytes_pass_for_a_certificate(bytes in prop::collection::vec(any::<u8>(), 0..400), bit in any::<prop::sample::Index>()) {
        let mut network = Network::new();
        let task = Task::new(&mut network);
        let mut record = task.signed_by(ALL);
        let mut flipped = record.certificate.clone().into_vec();
        let bit = bit.index(flipped.len() * 8);
        flipped[bit / 8] ^= 1 << (bit % 8);
        for certificate in [bytes, flipped] {
            record.certificate = Bytes::new(certificate).unwrap();
            prop_assert!(record_task(&mut network, record.clone()).is_err());
        }
    }
}
