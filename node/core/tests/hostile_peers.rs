//! What peers send that's wrong is dropped, counted, and costs them.

mod harness;

use std::time::Duration;

use harness::{Network, peer};
use lamina_certificate::{SecretKey, TaskCertificate};
use lamina_node_core::{Event, Notice, TaskStatus};
use lamina_p2p::{Gossip, Offence, Topic, Verdict};
use lamina_types::{
    AccountKey, Canonical, Digest, EpochNumber, Height, OperatorIndex, TaskId, Timestamp,
};

const TASK: TaskId = TaskId([1; 32]);
const OUTCOME: Digest = Digest([2; 32]);

fn offences(network: &Network, host: usize, offence: Offence) -> u64 {
    network.node(host).metrics().offences[offence as usize]
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
    let mut forged = network.attest(2, TASK, OUTCOME);
    forged.signature =
        SecretKey::derive(&[99; 32]).sign(&network.set.attestation_message(&TASK, &OUTCOME));
    let (topic, bytes) = Gossip::Attestation(forged).encode();
    assert_eq!(network.gossip(0, 1, topic, bytes), Verdict::Reject);
    assert_eq!(offences(&network, 0, Offence::WrongSignature), 1);
    assert!(network.node(0).task(&TASK).is_none());
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
    let mut ahead = network.request(service, 2);
    ahead.request.height = Height(1);
    let (topic, bytes) = Gossip::Task(Box::new(ahead)).encode();
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
    let attestation = network.attest(0, TASK, OUTCOME);
    let mut signers = lamina_certificate::SignerBitmap::empty(4);
    signers.insert(OperatorIndex(0));
    let certificate = TaskCertificate {
        task: TASK,
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
    for i in 1..=3u8 {
        let attestation = network.attest(2, TASK, Digest([i; 32]));
        let (topic, bytes) = Gossip::Attestation(attestation).encode();
        let verdict = network.gossip(0, 2, topic, bytes);
        assert_eq!(verdict, if i < 3 { Verdict::Accept } else { Verdict::Ignore });
    }
    let notice = |n: &&Notice| matches!(n, Notice::Equivocation(_, OperatorIndex(2)));
    assert_eq!(network.hosts[0].notices.iter().filter(notice).count(), 1);
    assert_eq!(network.task(0, &TASK).outcomes.len(), 2);
}

#[test]
fn what_one_operator_can_attest_ahead_of_requests_is_bounded_and_forgotten() {
    let mut network = Network::down(4);
    network.config.orphans_per_operator_max = 3;
    network.start(0);
    for i in 0..5u8 {
        let attestation = network.attest(2, TaskId([i; 32]), OUTCOME);
        let (topic, bytes) = Gossip::Attestation(attestation).encode();
        network.gossip(0, 2, topic, bytes);
    }
    assert_eq!(network.node(0).load().0, 3);
    network.pass(Duration::from_secs(601));
    assert_eq!(network.node(0).load().0, 0);
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
    let samples = [
        Gossip::Service(Box::new(network.registration())).encode(),
        Gossip::Task(Box::new(network.request(service, 1))).encode(),
        Gossip::Attestation(network.attest(1, TASK, OUTCOME)).encode(),
    ];
    for (topic, bytes) in samples {
        for bit in (0..bytes.len() * 8).step_by(7) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(network.gossip(0, 1, topic, flipped), Verdict::Accept, "bit {bit}");
        }
    }
    assert!(lamina_types::SignedTaskRequest::from_bytes(&[]).is_err());
}
