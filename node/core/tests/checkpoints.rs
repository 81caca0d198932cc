//! Services and operators come from the ledger's checkpoints: each task is of the height that it's pinned to.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

mod harness;

use std::time::Duration;

use harness::{Network, account, peer, slow};
use lamina_certificate::{Attestation, Observation, OperatorSet, SecretKey};
use lamina_node_core::{
    Action, CommandError, Event, HEIGHTS_KEPT, Notice, Record, Reply, ServiceStatus, TaskStatus,
};
use lamina_p2p::{Gossip, Offence, Verdict};
use lamina_types::{
    Digest, EpochNumber, Height, OperatorIndex, ServiceId, SignedTaskRequest, TaskId, TaskRequest,
};
use proptest::prelude::*;

const LONG: Duration = Duration::from_secs(20);
const OUTCOME: Digest = Digest([2; 32]);

/// A request that's pinned to this height.
fn pinned(network: &Network, service: ServiceId, nonce: u64, height: Height) -> SignedTaskRequest {
    let request = network.request(service, nonce).request;
    TaskRequest { height, ..request }.sign(&account(), &network.genesis.signing_context())
}

fn submit(network: &mut Network, at: usize, request: &SignedTaskRequest) -> TaskId {
    let command = lamina_node_core::Command::SubmitTask(Box::new(request.clone()));
    network.command(at, command);
    request.request.task_id(&network.genesis.chain_id)
}

fn gossip(network: &mut Network, to: usize, request: &SignedTaskRequest) -> Verdict {
    let (topic, bytes) = Gossip::Task(Box::new(request.clone())).encode();
    network.gossip(to, 1, topic, bytes)
}

fn offences(network: &Network, host: usize, offence: Offence) -> u64 {
    network.node(host).metrics().offences[offence as usize]
}

/// The service says this after each input from the next checkpoint on.
fn say(network: &mut Network, service: ServiceId, text: &str) {
    network.change(service, |version| {
        let name = "says".to_owned();
        version.manifest.parameters =
            [(name.try_into().unwrap(), lamina_types::Text::new(text).unwrap())].into();
    });
}

fn output(network: &Network, host: usize, task: &TaskId) -> String {
    let output = network.task(host, task).outcome.unwrap().result.unwrap();
    String::from_utf8(output.into_vec()).unwrap()
}

#[test]
fn a_task_runs_with_the_manifest_of_its_height_at_every_node() {
    let mut network = Network::new(4);
    let service = network.deploy(0);
    let before = network.request(service, 1);
    say(&mut network, service, "!");
    let after = network.submit(1, service, 2);
    let before = submit(&mut network, 2, &before);
    network.assert_certified(&before);
    network.assert_certified(&after);
    for host in 0..4 {
        assert_eq!(output(&network, host, &before), "hello");
        assert_eq!(output(&network, host, &after), "hello!");
        assert_eq!(network.hosts[host].executed.len(), 2);
        assert_ne!(network.hosts[host].executed[0].1, network.hosts[host].executed[1].1);
        // Nothing needs the older one any more, though requests may still be pinned to it.
        assert_eq!(network.hosts[host].prepared.len(), 1);
    }
    assert_eq!(network.node(0).service(&service).unwrap().height, Height(2));
}

#[test]
fn an_open_task_goes_on_with_its_manifest_and_gives_it_back() {
    let mut network = Network::new(4);
    let service = network.deploy(0);
    network.kill(2);
    network.kill(3);
    let task = network.submit(0, service, 1);
    say(&mut network, service, "!");
    say(&mut network, service, "?");
    // The one between was of no use to any task.
    assert_eq!(network.hosts[0].prepared.len(), 2);
    network.start(2);
    network.pass(LONG);
    network.assert_certified(&task);
    assert_eq!(output(&network, 2, &task), "hello");
    assert_eq!(network.hosts[0].prepared.len(), 1);
    assert_eq!(network.hosts[2].prepared.len(), 1);
}

#[test]
fn a_manifest_that_comes_back_is_made_ready_once() {
    let mut network = Network::new(1);
    let service = network.deploy(0);
    let tasks = ["a", "b", "a"].map(|text| {
        say(&mut network, service, text);
        network.submit(0, service, 1)
    });
    let said = tasks.map(|task| output(&network, 0, &task));
    assert_eq!(said, ["helloa", "hellob", "helloa"]);
    assert_eq!(network.hosts[0].prepared.len(), 1);
}

/// Three of five serve, and one of them has as much stake as the two others.
fn three_of_five() -> (Network, ServiceId) {
    let mut network = Network::new(5);
    let service = network.deploy(0);
    let set = network.part(&[(0, 50), (2, 25), (4, 25)]);
    network.change(service, |version| version.set = Some(set));
    (network, service)
}

#[test]
fn a_service_s_operators_are_its_quorum() {
    let (mut network, service) = three_of_five();
    let task = network.submit(1, service, 1);
    network.assert_certified(&task);
    let signed: Vec<_> = network.hosts.iter().map(|host| host.signed.len()).collect();
    assert_eq!(signed, [1, 0, 1, 0, 1]);
    let executed: Vec<_> = network.hosts.iter().map(|host| host.executed.len()).collect();
    assert_eq!(executed, [1, 0, 1, 0, 1]);
    let view = network.task(3, &task);
    assert_eq!((view.signers.set_size(), view.quorum_gwei), (3, 66));
    assert_eq!(network.node(3).service(&service).unwrap().operators, 3);
    assert_eq!(network.node(3).operators().count(), 5);
}

#[test]
fn weights_are_those_of_the_service() {
    let (mut network, service) = three_of_five();
    network.kill(2);
    // 75 of 100: a quorum.
    let task = network.submit(1, service, 1);
    network.assert_certified(&task);
    network.start(2);
    network.run();
    network.kill(0);
    // 50 of 100, though two of three operators.
    let task = network.submit(1, service, 2);
    network.pass(LONG);
    let view = network.task(1, &task);
    assert_eq!(view.status, TaskStatus::Open);
    assert_eq!(view.outcomes.iter().map(|(_, stake)| *stake).collect::<Vec<_>>(), [50]);
    let missing: Vec<_> = view.missing.iter().map(|o| (o.index, o.peer_key)).collect();
    assert_eq!(missing, [(OperatorIndex(0), peer(0))]);
    network.start(0);
    network.pass(LONG);
    network.assert_certified(&task);
}

#[test]
fn outsiders_attestations_are_refused() {
    let (mut network, service) = three_of_five();
    network.hosts.iter_mut().for_each(|host| host.behaviour = slow);
    let task = network.submit(1, service, 1);
    // With its place in the epoch's set, which the service's hasn't got.
    let outside = network.attest(3, task, OUTCOME);
    let (topic, bytes) = Gossip::Attestation(outside).encode();
    assert_eq!(network.gossip(1, 3, topic, bytes), Verdict::Reject);
    assert_eq!(offences(&network, 1, Offence::OutOfBounds), 1);
    // With the place of one who serves.
    let set = network.part(&[(0, 50), (3, 25), (4, 25)]);
    let key = SecretKey::derive(&[3; 32]);
    let posing = Attestation::sign(&set, OperatorIndex(1), &key, task, OUTCOME);
    let (topic, bytes) = Gossip::Attestation(posing).encode();
    assert_eq!(network.gossip(1, 3, topic, bytes), Verdict::Reject);
    assert_eq!(offences(&network, 1, Offence::WrongSignature), 1);
    assert_eq!(network.task(1, &task).signers.count(), 0);
    // Certificates of the epoch's operators don't count, either.
    let attestations: Vec<_> =
        (0..5).map(|i| network.attest(i, task, OUTCOME).verify(&network.set).unwrap()).collect();
    let certificate =
        lamina_certificate::VerifiedTaskCertificate::aggregate(&network.set, &attestations);
    let (topic, bytes) = Gossip::Certificate(certificate.unwrap().get().clone()).encode();
    assert_eq!(network.gossip(1, 3, topic, bytes), Verdict::Reject);
    assert_eq!(network.task(1, &task).status, TaskStatus::Open);
}

#[test]
fn an_oracle_s_observers_and_proposers_are_its_operators() {
    let mut network = Network::new(5);
    let service = network.deploy_oracle(0);
    let set = network.part(&[(1, 32), (2, 32), (4, 32)]);
    network.change(service, |version| version.set = Some(set.clone()));
    for nonce in 0..4 {
        let task = network.submit(0, service, nonce);
        network.pass(LONG);
        network.assert_certified(&task);
        assert_eq!(output(&network, 3, &task), "0: 21 degrees, 1: 22 degrees, 2: 24 degrees");
        assert_eq!(network.task(3, &task).observations.len(), 3);
    }
    for outsider in [0, 3] {
        let host = &network.hosts[outsider];
        assert_eq!(host.observed, 0);
        assert!(host.signed.is_empty());
        assert!(host.signed_observations.is_empty() && host.signed_proposals.is_empty());
    }
    network.kill(4);
    let task = network.submit(0, service, 9);
    let key = SecretKey::derive(&[3; 32]);
    let posing =
        Observation::sign(&set, OperatorIndex(2), &key, task, harness::value("23 degrees"));
    let (topic, bytes) = Gossip::Observation(Box::new(posing)).encode();
    assert_eq!(network.gossip(0, 3, topic, bytes), Verdict::Reject);
    let outside = network.observe(3, task, "23 degrees");
    let (topic, bytes) = Gossip::Observation(Box::new(outside)).encode();
    assert_eq!(network.gossip(0, 3, topic, bytes), Verdict::Reject);
}

#[test]
fn an_operator_that_opted_out_still_serves_tasks_from_before() {
    let mut network = Network::new(4);
    let service = network.deploy(0);
    let before = network.request(service, 1);
    let set = network.part(&[(0, 32), (1, 32), (2, 32)]);
    network.change(service, |version| version.set = Some(set));
    network.kill(0);
    let after = network.submit(1, service, 2);
    assert_eq!(network.task(1, &after).status, TaskStatus::Open, "two of three are no quorum");
    let before = submit(&mut network, 1, &before);
    network.assert_certified(&before);
    assert_eq!(network.hosts[3].signed.keys().collect::<Vec<_>>(), [&before]);
    network.start(0);
    network.pass(LONG);
    network.assert_certified(&after);
    assert_eq!(network.hosts[3].signed.len(), 1);
}

#[test]
fn a_task_is_of_the_epoch_of_its_height() {
    let mut network = Network::new(4);
    let service = network.deploy(0);
    let before = network.request(service, 1);
    let three = network.part(&[(0, 32), (1, 32), (2, 32)]);
    let operators = three.iter().map(|(_, operator)| operator.clone()).collect();
    let chain = network.genesis.chain_id.clone();
    let next = OperatorSet::of_operators(chain, EpochNumber(1), operators).unwrap();
    let previous = std::mem::replace(&mut network.set, std::sync::Arc::new(next));
    let set = network.set.clone();
    network.change(service, |version| version.set = Some(set));
    assert_eq!((network.node(2).index(), network.node(3).index()), (Some(OperatorIndex(2)), None));
    assert_eq!(network.node(3).operators().count(), 3);
    network.hosts[1].behaviour = slow;
    network.hosts[2].behaviour = slow;
    let before = submit(&mut network, 0, &before);
    let after = network.submit(0, service, 2);
    let set_of = |task: &TaskId| network.task(3, task).signers.set_size();
    assert_eq!((set_of(&before), set_of(&after)), (4, 3));
    // Of the other epoch, each way.
    let key = SecretKey::derive(&[1; 32]);
    for (set, task) in [(network.set.clone(), before), (previous, after)] {
        let attestation = Attestation::sign(&set, OperatorIndex(1), &key, task, OUTCOME);
        let (topic, bytes) = Gossip::Attestation(attestation).encode();
        assert_eq!(network.gossip(0, 1, topic, bytes), Verdict::Reject);
    }
    assert_eq!(offences(&network, 0, Offence::OutOfBounds), 2);
    // Who left the set still signs what's from before.
    assert_eq!(network.hosts[3].signed.keys().collect::<Vec<_>>(), [&before]);
}

#[test]
fn a_node_that_is_a_checkpoint_behind_takes_part_as_soon_as_it_catches_up() {
    let mut network = Network::new(4);
    let service = network.deploy(0);
    network.hosts[3].lags = true;
    network.kill(2);
    say(&mut network, service, "!");
    let task = network.submit(0, service, 1);
    network.pass(Duration::from_secs(3));
    assert_eq!(network.task(0, &task).status, TaskStatus::Open);
    assert!(network.node(3).task(&task).is_none());
    network.catch_up(3);
    network.run();
    network.assert_certified(&task);
    assert_eq!(output(&network, 3, &task), "hello!");
    assert!(network.hosts.iter().all(|host| host.banned.is_empty() && host.scores.is_empty()));
}

#[test]
fn a_node_that_is_behind_for_too_long_has_judged_and_asks_again() {
    let mut network = Network::new(4);
    let service = network.deploy(0);
    network.hosts[3].lags = true;
    network.commit(Vec::new());
    let request = network.request(service, 1);
    let (topic, bytes) = Gossip::Task(Box::new(request.clone())).encode();
    let delivery = network.send(3, 0, topic, bytes);
    network.pass(Duration::from_millis(4_900));
    assert!(!network.hosts[3].verdicts.contains_key(&delivery));
    network.pass(Duration::from_millis(400));
    assert_eq!(network.hosts[3].verdicts[&delivery], Verdict::Ignore);
    // It's kept for a while longer.
    network.catch_up(3);
    network.run();
    let task = request.request.task_id(&network.genesis.chain_id);
    assert!(network.node(3).task(&task).is_some());
    // Another one that it misses altogether.
    network.commit(Vec::new());
    let task = network.submit(0, service, 2);
    network.pass(Duration::from_secs(60));
    assert!(network.node(3).task(&task).is_none());
    network.catch_up(3);
    network.pass(LONG);
    network.assert_certified(&task);
    assert!(network.hosts.iter().all(|host| host.banned.is_empty()));
}

#[test]
fn heights_that_are_gone_or_to_come_are_refused() {
    let mut network = Network::new(2);
    let service = network.deploy(0);
    let height = network.tip();
    (0..HEIGHTS_KEPT).for_each(|_| network.commit(Vec::new()));
    let oldest = pinned(&network, service, 1, height);
    submit(&mut network, 0, &oldest);
    assert!(matches!(network.hosts[0].replies[0], Ok(Reply::Task(_))));
    network.commit(Vec::new());
    let stale = pinned(&network, service, 2, height);
    submit(&mut network, 0, &stale);
    let oldest = Height(height.0 + 1);
    assert_eq!(network.hosts[0].replies[1], Err(CommandError::StaleHeight { height, oldest }));
    let tip = network.tip();
    let ahead = pinned(&network, service, 3, Height(tip.0 + 1));
    submit(&mut network, 0, &ahead);
    let error = CommandError::Behind { height: Height(tip.0 + 1), tip };
    assert_eq!(network.hosts[0].replies[2], Err(error.clone()));
    let text = format!("the request is pinned to checkpoint {}, this node is at {tip}", tip.0 + 1);
    assert_eq!(error.to_string(), text);
    // Honest nodes differ by a few checkpoints.
    assert_eq!(gossip(&mut network, 0, &stale), Verdict::Ignore);
    assert_eq!(gossip(&mut network, 0, &ahead), Verdict::Ignore);
    let endless = pinned(&network, service, 4, Height(u64::MAX));
    // Nor does one wait for what this node won't get to in time.
    let (topic, bytes) = Gossip::Task(Box::new(endless)).encode();
    let delivery = network.send(0, 1, topic, bytes);
    assert_eq!(network.hosts[0].verdicts[&delivery], Verdict::Ignore);
    assert_eq!(offences(&network, 0, Offence::OutOfBounds), 0);
    // But not by that many.
    let far = pinned(&network, service, 5, Height(0));
    assert_eq!(gossip(&mut network, 0, &far), Verdict::Ignore);
    (0..HEIGHTS_KEPT).for_each(|_| network.commit(Vec::new()));
    let far = pinned(&network, service, 6, Height(0));
    assert_eq!(gossip(&mut network, 0, &far), Verdict::Reject);
    assert_eq!(offences(&network, 0, Offence::OutOfBounds), 1);
}

#[test]
fn who_answers_with_a_task_from_long_ago_is_not_charged() {
    let mut network = Network::new(4);
    let service = network.deploy(0);
    network.kill(3);
    let task = network.submit(0, service, 1);
    (0..HEIGHTS_KEPT * 2 + 10).for_each(|_| network.commit(Vec::new()));
    network.start(3);
    network.pass(Duration::from_secs(60));
    // Its operators aren't known any more: it's asked of each peer once, at most.
    assert!(network.node(3).task(&task).is_none());
    let asked = &network.hosts[3].asked;
    let asks = |request: &&lamina_p2p::Request| matches!(request, lamina_p2p::Request::Tasks(_));
    assert!((1..=3).contains(&asked.iter().filter(asks).count()));
    assert!(network.hosts.iter().all(|host| host.scores.is_empty()));
}

#[test]
fn a_version_from_before_the_window_holds_at_its_beginning() {
    let mut network = Network::new(1);
    let service = network.deploy(0);
    say(&mut network, service, "!");
    (0..HEIGHTS_KEPT + 5).for_each(|_| network.commit(Vec::new()));
    say(&mut network, service, "?");
    let first = Height(network.tip().0 - HEIGHTS_KEPT);
    let oldest = pinned(&network, service, 1, first);
    let oldest = submit(&mut network, 0, &oldest);
    let newest = network.submit(0, service, 2);
    assert_eq!(output(&network, 0, &oldest), "hello!");
    assert_eq!(output(&network, 0, &newest), "hello?");
}

#[test]
fn a_service_that_takes_no_requests_has_them_refused_as_of_their_height() {
    let mut network = Network::new(2);
    let service = network.deploy(0);
    let before = network.request(service, 1);
    network.change(service, |version| version.paused = true);
    let paused = network.request(service, 2);
    network.change(service, |version| {
        version.paused = false;
        version.set = None;
    });
    let unserved = network.request(service, 3);
    let set = network.set.clone();
    network.change(service, |version| version.set = Some(set));
    for request in [&paused, &unserved] {
        submit(&mut network, 0, request);
        assert_eq!(gossip(&mut network, 0, request), Verdict::Reject);
    }
    let errors = [CommandError::Paused(service), CommandError::Unserved(service)];
    assert_eq!(network.hosts[0].replies, errors.map(Err));
    assert_eq!(offences(&network, 0, Offence::OutOfBounds), 2);
    // Before that, and after, it does.
    let before = submit(&mut network, 0, &before);
    network.assert_certified(&before);
    let after = network.submit(0, service, 4);
    network.assert_certified(&after);
}

#[test]
fn pauses_and_operators_are_shown() {
    let mut network = Network::new(2);
    let service = network.deploy(0);
    network.change(service, |version| {
        version.paused = true;
        version.set = None;
    });
    let view = network.node(1).service(&service).unwrap();
    assert_eq!((view.paused, view.height, view.operators), (true, Height(2), 0));
    assert_eq!(view.status, ServiceStatus::Ready);
    assert_eq!(network.node(1).tip().unwrap().0, Height(2));
}

#[test]
fn a_stateful_service_takes_no_requests() {
    let mut network = Network::new(2);
    let mut manifest = network.manifest();
    manifest.limits.state_bytes = 1;
    let service = network.register(0, manifest);
    network.submit(0, service, 1);
    assert_eq!(network.hosts[0].replies, [Err(CommandError::Stateful)]);
    let status = network.node(0).service(&service).unwrap().status;
    assert_eq!(status, ServiceStatus::Refused(CommandError::Stateful.to_string()));
    assert!(network.hosts[0].prepared.is_empty());
}

#[test]
fn a_request_as_of_a_height_before_the_service_is_refused() {
    let mut network = Network::new(2);
    let service = network.deploy(0);
    let before = pinned(&network, service, 1, Height(0));
    submit(&mut network, 0, &before);
    assert_eq!(network.hosts[0].replies, [Err(CommandError::UnknownService(service))]);
    assert_eq!(gossip(&mut network, 1, &before), Verdict::Reject);
}

#[test]
fn attestations_and_certificates_before_their_request_count_when_it_comes() {
    let mut network = Network::down(4);
    network.start(0);
    let service = network.deploy(0);
    let request = network.request(service, 1);
    let task = request.request.task_id(&network.genesis.chain_id);
    let outcome = harness::honest(&request.request.input).unwrap();
    let digest = outcome.digest(&network.genesis.chain_id, &task);
    let mut deliveries = Vec::new();
    for operator in 1..3 {
        let (topic, bytes) = Gossip::Attestation(network.attest(operator, task, digest)).encode();
        deliveries.push(network.send(0, operator, topic, bytes));
    }
    assert!(network.hosts[0].verdicts.is_empty());
    submit(&mut network, 0, &request);
    assert!(deliveries.iter().all(|id| network.hosts[0].verdicts[id] == Verdict::Accept));
    assert_eq!(network.task(0, &task).status, TaskStatus::Certified);
    // A certificate before its request: then the task isn't run.
    let request = network.request(service, 2);
    let task = request.request.task_id(&network.genesis.chain_id);
    let digest = outcome.digest(&network.genesis.chain_id, &task);
    let attestations: Vec<_> =
        (1..4).map(|i| network.attest(i, task, digest).verify(&network.set).unwrap()).collect();
    let certificate =
        lamina_certificate::VerifiedTaskCertificate::aggregate(&network.set, &attestations);
    let (topic, bytes) = Gossip::Certificate(certificate.unwrap().get().clone()).encode();
    let attestation = Gossip::Attestation(network.attest(1, task, digest)).encode();
    let late = network.send(0, 1, attestation.0, attestation.1);
    let delivery = network.send(0, 1, topic, bytes);
    let verified = network.node(0).metrics().attestations_verified;
    submit(&mut network, 0, &request);
    assert_eq!(network.hosts[0].verdicts[&delivery], Verdict::Accept);
    // What came with it isn't worth a check any more.
    assert_eq!(network.hosts[0].verdicts[&late], Verdict::Ignore);
    assert_eq!(network.node(0).metrics().attestations_verified, verified);
    assert_eq!(network.task(0, &task).status, TaskStatus::Certified);
    assert_eq!(network.hosts[0].executed.len(), 1);
    // All of it is found again, in the order in which it was stored.
    network.kill(0);
    network.start(0);
    assert_eq!(network.node(0).tasks().filter(|t| t.status == TaskStatus::Certified).count(), 2);
}

#[test]
fn a_restarted_node_goes_on_with_tasks_from_before_its_checkpoint() {
    let mut network = Network::new(4);
    let service = network.deploy(0);
    network.kill(2);
    network.kill(3);
    let task = network.submit(0, service, 1);
    say(&mut network, service, "!");
    network.kill(1);
    network.kill(0);
    (0..4).for_each(|index| network.start(index));
    network.pass(LONG);
    network.assert_certified(&task);
    assert_eq!(output(&network, 3, &task), "hello");
}

#[test]
fn requests_whose_version_is_not_known_any_more_are_forgotten_unless_certified() {
    let mut network = Network::new(4);
    let service = network.deploy(0);
    let certified = network.submit(0, service, 1);
    network.kill(2);
    network.kill(3);
    let open = network.submit(0, service, 2);
    say(&mut network, service, "!");
    // A ledger that tells no older version: it was restored from a snapshot.
    let tip = network.tip();
    network.checkpoints.iter_mut().take(2).for_each(|view| view.services.clear());
    network.kill(0);
    network.hosts[0].asked.clear();
    network.start(0);
    network.run();
    assert!(network.node(0).task(&open).is_none());
    assert_eq!(network.node(0).load().0, 0);
    let view = network.task(0, &certified);
    assert_eq!(view.status, TaskStatus::Certified);
    assert!(view.missing.is_empty() && view.signers.count() >= 3);
    assert_eq!(network.node(0).certified_task(&certified).unwrap().request.request.nonce, 1);
    let stored = |r: &&Record| matches!(r, Record::Request(id, ..) if *id == open);
    assert_eq!(network.hosts[0].records.iter().filter(stored).count(), 1);
    // The other one says that it's open, in vain: it isn't asked for again, and nobody is charged.
    network.pass(LONG);
    let asks = |request: &&lamina_p2p::Request| matches!(request, lamina_p2p::Request::Tasks(_));
    assert_eq!(network.hosts[0].asked.iter().filter(asks).count(), 0);
    assert!(network.node(0).task(&open).is_none());
    assert!(network.hosts.iter().all(|host| host.banned.is_empty() && host.scores.is_empty()));
    assert_eq!(network.tip(), tip);
    let after = network.request(service, 3);
    let after = submit(&mut network, 0, &after);
    assert!(network.node(0).task(&after).is_some());
}

#[test]
fn after_a_gap_nothing_from_before_is_taken_to_hold() {
    let mut network = Network::new(1);
    let service = network.deploy(0);
    let before = network.tip();
    (0..3).for_each(|_| network.commit(Vec::new()));
    let mut view = network.checkpoints.last().unwrap().clone();
    view.height = Height(10);
    let mut version = network.checkpoints[1].services[0].clone();
    version.since = Height(9);
    view.services = vec![version];
    let node = network.hosts[0].node.as_mut().unwrap();
    node.handle(network.now, Event::Checkpoint(Box::new(view.clone())));
    while node.poll().is_some() {}
    for (nonce, height) in [(1, before), (2, Height(8))] {
        let request = pinned(&network, service, nonce, height);
        submit(&mut network, 0, &request);
        let reply = network.hosts[0].replies.last().unwrap();
        assert_eq!(*reply, Err(CommandError::UnknownService(service)));
        // Others may know better.
        assert_eq!(gossip(&mut network, 0, &request), Verdict::Ignore);
    }
    let never = ServiceId([1; 32]);
    for (height, verdict) in [(before, Verdict::Ignore), (Height(10), Verdict::Reject)] {
        let request = pinned(&network, never, 4, height);
        assert_eq!(gossip(&mut network, 0, &request), verdict);
    }
    let request = pinned(&network, service, 3, Height(9));
    let task = submit(&mut network, 0, &request);
    assert_eq!(network.task(0, &task).status, TaskStatus::Certified);
    // One that came before changes nothing.
    view.height = Height(4);
    view.services.clear();
    let node = network.hosts[0].node.as_mut().unwrap();
    node.handle(network.now, Event::Checkpoint(Box::new(view)));
    assert!(node.poll().is_none());
    assert_eq!(node.tip().unwrap().0, Height(10));
}

/// Two versions with components of their own, neither of which is here, and a peer that's asked for them.
struct Fetching {
    network: Network,
    service: ServiceId,
    blobs: [&'static [u8]; 2],
    actions: Vec<Action>,
}

impl Fetching {
    /// The first version is known; whether a task needs it, the caller says.
    fn new(with_task: bool) -> Self {
        let mut network = Network::down(1);
        network.start(0);
        let blobs: [&[u8]; 2] = [b"an older component", b"a newer component"];
        let mut manifest = network.manifest();
        (manifest.component, manifest.component_bytes) = (Digest::of(blobs[0]), 18);
        let service = network.register(0, manifest);
        if with_task {
            network.submit(0, service, 1);
        }
        let mut fetching = Self { network, service, blobs, actions: Vec::new() };
        fetching.tell(Event::PeerConnected(peer(1)));
        fetching.tell(Event::BlobMissing(service, Digest::of(blobs[0])));
        fetching
    }

    /// The second version holds from the next checkpoint on.
    fn renew(&mut self) {
        let mut view = self.network.checkpoints.last().unwrap().clone();
        view.height.0 += 1;
        let newer = &mut view.services[0];
        (newer.manifest.component, newer.manifest.component_bytes) =
            (Digest::of(self.blobs[1]), 17);
        self.tell(Event::Checkpoint(Box::new(view)));
        self.tell(Event::BlobMissing(self.service, Digest::of(self.blobs[1])));
    }

    fn tell(&mut self, event: Event) {
        let node = self.network.hosts[0].node.as_mut().unwrap();
        node.handle(self.network.now, event);
        self.actions.extend(std::iter::from_fn(|| node.poll()));
    }

    /// What was asked of the peer for this blob.
    fn asked_for(&self, blob: usize) -> Vec<u64> {
        let digest = Digest::of(self.blobs[blob]);
        let asked = |action: &Action| match action {
            Action::Ask { id, request: lamina_p2p::Request::Blob { digest: d, .. }, .. } => {
                (*d == digest).then_some(*id)
            }
            _ => None,
        };
        self.actions.iter().filter_map(asked).collect()
    }

    /// The peer answers, and the part is stored if it's wanted.
    fn answer(&mut self, blob: usize, id: u64) {
        let part = lamina_types::Bytes::new(self.blobs[blob]).unwrap();
        let response = Some(lamina_p2p::Response::Blob(Some(part)));
        let before = self.actions.len();
        self.tell(Event::Response { from: peer(1), id, response });
        let stores = |action: &Action| matches!(action, Action::StoreBlob { complete: true, .. });
        if self.actions[before..].iter().any(stores) {
            self.tell(Event::BlobStored(self.service, Ok(())));
        }
    }

    fn prepared(&self) -> Vec<Digest> {
        let prepared = |action: &Action| match action {
            Action::Prepare(_, manifest) => Some(manifest.component),
            _ => None,
        };
        self.actions.iter().filter_map(prepared).collect()
    }
}

#[test]
fn components_of_two_versions_are_fetched_one_after_the_other() {
    let mut fetching = Fetching::new(true);
    fetching.renew();
    assert_eq!((fetching.asked_for(0).len(), fetching.asked_for(1).len()), (1, 0));
    let older = fetching.asked_for(0)[0];
    fetching.actions.clear();
    fetching.answer(0, older);
    // Whatever waits is tried again: the shell says what it still lacks.
    let mut prepared = fetching.prepared();
    prepared.sort();
    let mut components = fetching.blobs.map(Digest::of);
    components.sort();
    assert_eq!(prepared, components);
    let service = fetching.service;
    let missing = Digest::of(fetching.blobs[1]);
    fetching.tell(Event::BlobMissing(service, missing));
    assert_eq!(fetching.asked_for(1).len(), 1);
    let newer = fetching.asked_for(1)[0];
    fetching.answer(1, newer);
    assert_eq!(fetching.prepared().last(), Some(&Digest::of(fetching.blobs[1])));
    assert!(!fetching.actions.iter().any(|action| matches!(action, Action::SetScore(..))));
}

#[test]
fn a_component_that_nothing_needs_any_more_is_not_fetched_to_the_end() {
    let mut fetching = Fetching::new(false);
    fetching.renew();
    assert!(fetching.actions.iter().any(|action| matches!(action, Action::Forget(..))));
    assert_eq!((fetching.asked_for(0).len(), fetching.asked_for(1).len()), (1, 1));
    // The answer to the first question is late, and nobody's fault.
    let (older, newer) = (fetching.asked_for(0)[0], fetching.asked_for(1)[0]);
    fetching.actions.clear();
    fetching.answer(0, older);
    assert!(fetching.actions.is_empty());
    fetching.answer(1, newer);
    assert_eq!(fetching.prepared(), [Digest::of(fetching.blobs[1])]);
    assert!(!fetching.actions.iter().any(|action| matches!(action, Action::SetScore(..))));
}

#[test]
fn a_part_that_is_being_written_is_waited_for() {
    let mut fetching = Fetching::new(false);
    let older = fetching.asked_for(0)[0];
    let part = lamina_types::Bytes::new(fetching.blobs[0]).unwrap();
    let response = Some(lamina_p2p::Response::Blob(Some(part)));
    fetching.tell(Event::Response { from: peer(1), id: older, response });
    fetching.renew();
    // Two parts at a time would mix.
    assert_eq!(fetching.asked_for(1).len(), 0);
    let service = fetching.service;
    fetching.tell(Event::BlobStored(service, Ok(())));
    assert_eq!(fetching.prepared().last(), Some(&Digest::of(fetching.blobs[1])));
    let missing = Digest::of(fetching.blobs[1]);
    fetching.tell(Event::BlobMissing(service, missing));
    let newer = fetching.asked_for(1)[0];
    fetching.answer(1, newer);
    let service = fetching.service;
    let digest = fetching.network.node(0).service(&service).unwrap().manifest.digest();
    fetching.tell(Event::Prepared(service, digest, Ok(())));
    let status = fetching.network.node(0).service(&service).unwrap().status;
    assert_eq!(status, ServiceStatus::Ready);
}

#[test]
fn a_disk_that_fails_refuses_what_waits_for_it() {
    let mut fetching = Fetching::new(true);
    fetching.renew();
    let service = fetching.service;
    fetching.tell(Event::BlobStored(service, Err("the disk is full".to_owned())));
    let status = fetching.network.node(0).service(&service).unwrap().status;
    assert_eq!(status, ServiceStatus::Refused("the disk is full".to_owned()));
    let task = fetching.network.node(0).tasks().next().unwrap();
    assert!(task.abstention.unwrap().reason.contains("the disk is full"));
}

#[test]
fn a_request_in_anothers_name_ahead_of_its_checkpoint_does_not_hide_the_right_one() {
    let mut network = Network::new(2);
    let service = network.deploy(0);
    let right = pinned(&network, service, 1, Height(network.tip().0 + 1));
    let mut forged = right.clone();
    forged.signature = network.request(service, 2).signature;
    let deliveries = [(0, forged), (1, right.clone())].map(|(from, request)| {
        let (topic, bytes) = Gossip::Task(Box::new(request)).encode();
        // As if a third node had sent the forged one.
        network.send(0, from + 1, topic, bytes)
    });
    network.commit(Vec::new());
    assert_eq!(network.hosts[0].verdicts[&deliveries[0]], Verdict::Reject);
    assert_eq!(network.hosts[0].verdicts[&deliveries[1]], Verdict::Accept);
    let task = right.request.task_id(&network.genesis.chain_id);
    assert!(network.node(0).task(&task).is_some());
    let accepted = |n: &&Notice| matches!(n, Notice::TaskAccepted(id) if *id == task);
    assert_eq!(network.hosts[0].notices.iter().filter(accepted).count(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever comes first: requests, attestations, certificates; with operators of the service's own, and one that lags.
    #[test]
    fn messages_in_any_order_end_in_certificates(seed in any::<u64>(), tasks in 1u64..5) {
        let (mut network, service) = three_of_five();
        network.shuffle(seed);
        network.hosts[4].lags = true;
        say(&mut network, service, "!");
        let tasks: Vec<_> = (0..tasks).map(|nonce| network.submit(1, service, nonce)).collect();
        network.pass(Duration::from_secs(1));
        network.catch_up(4);
        network.pass(LONG);
        for task in tasks {
            network.assert_certified(&task);
        }
        for host in &network.hosts {
            prop_assert!(host.banned.is_empty() && host.scores.is_empty(), "honest nodes cost nobody");
        }
    }
}
