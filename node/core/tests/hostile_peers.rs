//! What peers send that's wrong is dropped, counted, and costs them.

mod harness;

use std::time::Duration;

use harness::{Network, peer, slow};
use lamina_certificate::{
    Attestation, Observation, SecretKey, TaskCertificate, VerifiedTaskCertificate,
};
use lamina_node_core::{Event, Notice, TaskStatus};
use lamina_p2p::{Gossip, Offence, Topic, Verdict};
use lamina_types::{
    AccountKey, Canonical, Digest, EpochNumber, OperatorIndex, ServiceId, SignedTaskRequest,
    TaskId, Timestamp,
};

const OUTCOME: Digest = Digest([2; 32]);

fn offences(network: &Network, host: usize, offence: Offence) -> u64 {
    network.node(host).metrics().offences[offence as usize]
}

/// A task that stays open: every operator abstains.
fn open_task(network: &mut Network) -> TaskId {
    network.hosts.iter_mut().for_each(|host| host.behaviour = slow);
    let service = network.deploy(0);
    network.submit(0, service, 1)
}

#[test]
fn malformed_messages_are_rejected_and_five_are_a_ban() {
    let mut network = Network::new(4);
    for i in 0..5u8 {
        assert!(network.hosts[0].banned.is_empty());
        let verdict = network.gossip(0, 1, Topic::Tasks, vec![i; 50]);
        assert_eq!(verdict, Verdict::Reject);
    }
    assert!(network.hosts[0].banned.contains(&peer(1)));
    assert_eq!(offences(&network, 0, Offence::Malformed), 5);
    assert_eq!(network.node(0).metrics().bans, 1);
}

#[test]
fn a_peer_that_comes_back_is_worth_what_it_was() {
    let mut network = Network::new(4);
    network.gossip(0, 1, Topic::Tasks, vec![0; 50]);
    assert_eq!(network.hosts[0].scores[&peer(1)], -Offence::Malformed.cost());
    network.kill(1);
    network.run();
    network.hosts[0].scores.clear();
    network.start(1);
    network.run();
    assert_eq!(network.hosts[0].scores[&peer(1)], -Offence::Malformed.cost());
    assert!(!network.hosts[0].scores.contains_key(&peer(2)));
}

#[test]
fn a_repeated_message_is_dropped_and_costs() {
    let mut network = Network::new(4);
    let service = network.deploy(0);
    let (topic, bytes) = Gossip::Task(Box::new(network.request(service, 1))).encode();
    assert_eq!(network.gossip(0, 1, topic, bytes.clone()), Verdict::Accept);
    assert_eq!(network.gossip(0, 1, topic, bytes), Verdict::Ignore);
    assert_eq!(offences(&network, 0, Offence::Repeated), 1);
    assert_eq!(network.node(0).metrics().tasks_accepted, 1);
}

#[test]
fn a_wrongly_signed_attestation_is_rejected_and_counts_nothing() {
    let mut network = Network::new(4);
    let task = open_task(&mut network);
    let mut forged = network.attest(2, task, OUTCOME);
    forged.signature =
        SecretKey::derive(&[99; 32]).sign(&network.set.attestation_message(&task, &OUTCOME));
    let (topic, bytes) = Gossip::Attestation(forged).encode();
    assert_eq!(network.gossip(0, 1, topic, bytes), Verdict::Reject);
    assert_eq!(offences(&network, 0, Offence::WrongSignature), 1);
    assert_eq!(network.task(0, &task).signers.count(), 0);
}

#[test]
fn a_request_in_anothers_name_is_rejected() {
    let mut network = Network::new(4);
    let service = network.deploy(0);
    let mut request = network.request(service, 1);
    request.request.requester = AccountKey::from_bytes(&[8; 32]).unwrap().address();
    let (topic, bytes) = Gossip::Task(Box::new(request)).encode();
    assert_eq!(network.gossip(0, 1, topic, bytes), Verdict::Reject);
    assert_eq!(offences(&network, 0, Offence::WrongSignature), 1);
}

#[test]
fn requests_out_of_bounds_are_refused_before_their_signature_is_checked() {
    let mut network = Network::new(4);
    let service = network.deploy(0);
    let mut endless = network.request(service, 1);
    endless.request.valid_until = Timestamp(u64::MAX);
    let (topic, bytes) = Gossip::Task(Box::new(endless)).encode();
    assert_eq!(network.gossip(0, 1, topic, bytes), Verdict::Reject);
    let mut unknown = network.request(service, 2);
    unknown.request.service = ServiceId([1; 32]);
    let (topic, bytes) = Gossip::Task(Box::new(unknown)).encode();
    assert_eq!(network.gossip(0, 1, topic, bytes), Verdict::Reject);
    assert_eq!(offences(&network, 0, Offence::OutOfBounds), 2);
    let mut stale = network.request(service, 3);
    stale.request.valid_until = Timestamp(1);
    let (topic, bytes) = Gossip::Task(Box::new(stale)).encode();
    assert_eq!(network.gossip(0, 1, topic, bytes), Verdict::Ignore);
}

#[test]
fn a_certificate_without_a_quorum_is_rejected() {
    let mut network = Network::new(4);
    let task = open_task(&mut network);
    let attestation = network.attest(0, task, OUTCOME);
    let mut signers = lamina_certificate::SignerBitmap::empty(4);
    signers.insert(OperatorIndex(0));
    let certificate = TaskCertificate {
        task,
        outcome: OUTCOME,
        epoch: EpochNumber(0),
        signers,
        signature: attestation.signature,
    };
    let (topic, bytes) = Gossip::Certificate(certificate).encode();
    assert_eq!(network.gossip(0, 1, topic, bytes), Verdict::Reject);
    assert_eq!(offences(&network, 0, Offence::WrongSignature), 1);
}

#[test]
fn an_operator_that_attests_two_outcomes_is_noticed_once_and_bounded() {
    let mut network = Network::new(4);
    let task = open_task(&mut network);
    for i in 1..=3u8 {
        let attestation = network.attest(2, task, Digest([i; 32]));
        let (topic, bytes) = Gossip::Attestation(attestation).encode();
        let verdict = network.gossip(0, 2, topic, bytes);
        assert_eq!(verdict, if i < 3 { Verdict::Accept } else { Verdict::Ignore });
    }
    let notice = |n: &&Notice| matches!(n, Notice::Equivocation(_, OperatorIndex(2)));
    assert_eq!(network.hosts[0].notices.iter().filter(notice).count(), 1);
    assert_eq!(network.task(0, &task).outcomes.len(), 2);
}

#[test]
fn attestations_for_tasks_that_nobody_asked_for_are_bounded_and_forgotten() {
    let mut network = Network::down(4);
    network.config.early_bytes_per_peer_max = 5_000;
    network.config.early_bytes_max = 12_000;
    network.start(0);
    let mut deliveries = Vec::new();
    for i in 0..100u8 {
        for from in 1..4 {
            let (topic, bytes) =
                Gossip::Attestation(network.attest(from, TaskId([i; 32]), OUTCOME)).encode();
            deliveries.push(network.send(0, from, topic, bytes));
        }
    }
    // Each takes 170 bytes and 256 for what's around it: 28 in all.
    let dropped = network.node(0).metrics().dropped_full;
    assert_eq!(dropped, 300 - 28);
    let verdicts = &network.hosts[0].verdicts;
    assert_eq!(verdicts.len() as u64, dropped);
    assert!(verdicts.values().all(|verdict| *verdict == Verdict::Ignore));
    // The latest of each peer are kept: no peer's flood is another one's loss.
    assert!(deliveries[300 - 24..].iter().all(|delivery| !verdicts.contains_key(delivery)));
    network.pass(Duration::from_millis(5_500));
    let verdicts = &network.hosts[0].verdicts;
    assert!(deliveries.iter().all(|delivery| verdicts[delivery] == Verdict::Ignore));
    assert_eq!(network.node(0).load().0, 0);
    assert!(network.hosts[0].banned.is_empty(), "who is early is no liar");
}

#[test]
fn a_flood_of_early_lies_costs_five_checks_and_a_ban() {
    let mut network = Network::down(4);
    network.start(0);
    let service = network.deploy_oracle(0);
    network.hosts[0].sight = harness::blind;
    let request = network.request(service, 1);
    let task = request.request.task_id(&network.genesis.chain_id);
    let liar = SecretKey::derive(&[99; 32]);
    let mut lies = Vec::new();
    for (operator, i) in (0..4).flat_map(|operator| (0..5u8).map(move |i| (operator, i))) {
        let (set, operator) = (&network.set, OperatorIndex(operator));
        let outcome = Digest::of(&[u8::try_from(operator.0).unwrap(), i]);
        let attestation = Attestation::sign(set, operator, &liar, task, outcome);
        lies.push((2, Gossip::Attestation(attestation)));
        let value = harness::value(&i.to_string());
        let observation = Observation::sign(set, operator, &liar, task, value);
        lies.push((1, Gossip::Observation(Box::new(observation))));
    }
    for (from, lie) in lies {
        let (topic, bytes) = lie.encode();
        network.send(0, from, topic, bytes);
    }
    // Two of each operator are kept: no honest one signs more.
    assert_eq!(network.hosts[0].verdicts.len(), 2 * 4 * 3);
    network.submit(0, service, 1);
    assert_eq!(network.hosts[0].verdicts.len(), 40);
    let rejected = |verdict: &&Verdict| **verdict == Verdict::Reject;
    assert_eq!(network.hosts[0].verdicts.values().filter(rejected).count(), 10);
    assert_eq!(network.hosts[0].banned, [peer(1), peer(2)].into());
    assert_eq!(offences(&network, 0, Offence::WrongSignature), 10);
    let view = network.task(0, &task);
    assert_eq!((view.signers.count(), view.observations.len()), (0, 0));
}

#[test]
fn only_a_certificate_that_holds_has_a_stale_request_taken_up() {
    let mut network = Network::down(4);
    network.start(0);
    let service = network.deploy(0);
    let requests = [1, 2].map(|nonce| network.request(service, nonce));
    network.pass(Duration::from_secs(3601));
    let certificates = requests.clone().map(|request| {
        let task = request.request.task_id(&network.genesis.chain_id);
        let attested = (0..3).map(|i| network.attest(i, task, OUTCOME).verify(&network.set));
        let attested: Option<Vec<_>> = attested.collect();
        VerifiedTaskCertificate::aggregate(&network.set, &attested.unwrap()).unwrap().get().clone()
    });
    let wrong = TaskCertificate { outcome: Digest([9; 32]), ..certificates[0].clone() };
    let (topic, bytes) = Gossip::Certificate(wrong).encode();
    let lie = network.send(0, 1, topic, bytes);
    let (topic, bytes) = Gossip::Task(Box::new(requests[0].clone())).encode();
    assert_eq!(network.gossip(0, 2, topic, bytes), Verdict::Ignore);
    assert_eq!(network.hosts[0].verdicts[&lie], Verdict::Reject);
    assert_eq!(offences(&network, 0, Offence::WrongSignature), 1);
    assert!(network.node(0).task(&certificates[0].task).is_none());
    // One that holds, and a request in another's name.
    let (topic, bytes) = Gossip::Certificate(certificates[1].clone()).encode();
    let early = network.send(0, 2, topic, bytes);
    let signature = requests[0].signature;
    let forged = SignedTaskRequest { signature, ..requests[1].clone() };
    let (topic, bytes) = Gossip::Task(Box::new(forged)).encode();
    assert_eq!(network.gossip(0, 1, topic, bytes), Verdict::Reject);
    assert!(!network.hosts[0].verdicts.contains_key(&early));
    // The request itself: it's for the record, and not run.
    let (topic, bytes) = Gossip::Task(Box::new(requests[1].clone())).encode();
    assert_eq!(network.gossip(0, 2, topic, bytes), Verdict::Accept);
    assert_eq!(network.hosts[0].verdicts[&early], Verdict::Accept);
    assert_eq!(network.task(0, &certificates[1].task).status, TaskStatus::Certified);
    assert!(network.hosts[0].executed.is_empty());
}

#[test]
fn answers_to_other_questions_cost() {
    let mut network = Network::new(4);
    let service = network.deploy(0);
    network.kill(2);
    network.kill(3);
    let task = network.submit(0, service, 1);
    // Whatever is asked next is answered with nonsense by operator 1.
    network.kill(1);
    network.run();
    let node = network.hosts[0].node.as_mut().unwrap();
    node.handle(network.now, Event::PeerConnected(peer(1)));
    let mut asked = Vec::new();
    while let Some(action) = node.poll() {
        if let lamina_node_core::Action::Ask { peer, id, .. } = action {
            asked.push((peer, id));
        }
    }
    assert!(!asked.is_empty());
    for (from, id) in asked {
        let response = Some(lamina_p2p::Response::Outcome(None));
        node.handle(network.now, Event::Response { from, id, response });
    }
    assert!(offences(&network, 0, Offence::WrongAnswer) > 0);
    assert_eq!(network.task(0, &task).status, TaskStatus::Open);
}

#[test]
fn foreign_bytes_never_stop_a_node() {
    let mut network = Network::new(2);
    let service = network.deploy(0);
    network.hosts.iter_mut().for_each(|host| host.behaviour = slow);
    let task = network.submit(0, service, 2);
    let samples = [
        Gossip::Task(Box::new(network.request(service, 1))).encode(),
        Gossip::Attestation(network.attest(1, task, OUTCOME)).encode(),
    ];
    for (topic, bytes) in samples {
        for bit in (0..bytes.len() * 8).step_by(7) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(network.gossip(0, 1, topic, flipped), Verdict::Accept, "bit {bit}");
        }
    }
    assert!(SignedTaskRequest::from_bytes(&[]).is_err());
}
