//! Four operators observe, agree on which observations count, and certify what these are reduced to.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

mod harness;

use std::time::Duration;

use harness::{Network, blind, slow, thermometer, value};
use lamina_certificate::{Observation, ObservationSet, SecretKey};
use lamina_node_core::{Notice, TaskStatus};
use lamina_p2p::{Gossip, Offence, Topic, Verdict};
use lamina_types::{Digest, EpochNumber, OperatorIndex, Outcome, ServiceId, TaskId};
use proptest::prelude::*;

const LONG: Duration = Duration::from_secs(20);
const WINDOW: Duration = Duration::from_millis(200);

/// Four operators that are up, and an oracle that they serve.
fn oracle() -> (Network, ServiceId) {
    let mut network = Network::new(4);
    let service = network.deploy_oracle(0);
    (network, service)
}

/// A task of which `operator` proposes first, submitted at `at`.
fn submit_ranked(
    network: &mut Network,
    at: usize,
    service: ServiceId,
    operator: usize,
    rank: usize,
) -> TaskId {
    let fits = |nonce: &u64| {
        let request = network.request(service, *nonce).request;
        network.ranks(&request.task_id(&network.genesis.chain_id))[rank] == operator
    };
    let nonce = (1..1000).find(fits).expect("one in four does");
    network.submit(at, service, nonce)
}

fn observation(of: &Observation) -> (Topic, Vec<u8>) {
    Gossip::Observation(Box::new(of.clone())).encode()
}

fn set(of: &ObservationSet) -> (Topic, Vec<u8>) {
    Gossip::ObservationSet(Box::new(of.clone())).encode()
}

fn send(network: &mut Network, to: usize, (topic, bytes): (Topic, Vec<u8>)) -> Verdict {
    network.gossip(to, 3, topic, bytes)
}

fn offences(network: &Network, host: usize, offence: Offence) -> u64 {
    network.node(host).metrics().offences[offence as usize]
}

fn outcome(network: &Network, host: usize, task: &TaskId) -> Outcome {
    network.task(host, task).outcome.expect("the task is certified")
}

fn output(network: &Network, host: usize, task: &TaskId) -> String {
    let output = outcome(network, host, task).result.expect("it's an output");
    String::from_utf8(output.into_vec()).unwrap()
}

/// What an honest operator signs here.
fn seen_by(network: &Network, operator: usize, task: TaskId) -> Observation {
    let value = thermometer(operator).unwrap();
    network.observe(operator, task, std::str::from_utf8(value.as_slice()).unwrap())
}

/// The certificates that anyone who runs has are of one outcome; tells whether there's one.
fn assert_at_most_one_certificate(network: &Network, task: &TaskId) -> bool {
    let running = network.hosts.iter().filter_map(|host| host.node.as_ref());
    let views = running.filter_map(|node| node.task(task));
    let certified = views.filter(|view| view.status == TaskStatus::Certified);
    let digests: std::collections::BTreeSet<Digest> =
        certified.filter_map(|view| view.outcome_digest).collect();
    assert!(digests.len() <= 1, "two certificates for one task");
    !digests.is_empty()
}

#[test]
fn differing_observations_make_one_outcome() {
    let (mut network, service) = oracle();
    let task = network.submit(1, service, 1);
    network.pass(WINDOW);
    network.assert_certified(&task);
    let expected = "0: 20 degrees, 1: 21 degrees, 2: 22 degrees, 3: 23 degrees";
    assert_eq!(output(&network, 2, &task), expected);
    let view = network.task(2, &task);
    let seen: Vec<_> = view.observations.iter().map(|o| (o.operator.0, o.in_set)).collect();
    assert_eq!(seen, [(0, true), (1, true), (2, true), (3, true)]);
    assert!(network.node(2).tasks().all(|listed| listed.observations.is_empty()));
}

#[test]
fn root_in_the_outcome_is_that_of_the_observations() {
    let (mut network, service) = oracle();
    let task = network.submit(1, service, 1);
    network.pass(WINDOW);
    let all: Vec<_> = (0..4).map(|i| seen_by(&network, i, task)).collect();
    let root = network.propose(0, task, &all).root(network.set.chain());
    assert_eq!(outcome(&network, 0, &task).observations, Some(root));
}

#[test]
fn all_observations_are_not_waited_for_longer_than_the_window() {
    let (mut network, service) = oracle();
    network.kill(3);
    let task = submit_ranked(&mut network, 0, service, 1, 0);
    assert_eq!(network.task(0, &task).status, TaskStatus::Open);
    network.pass(WINDOW);
    network.assert_certified(&task);
    assert_eq!(output(&network, 0, &task), "0: 20 degrees, 1: 21 degrees, 2: 22 degrees");
}

#[test]
fn an_operator_that_could_not_observe_reduces_and_attests_all_the_same() {
    let (mut network, service) = oracle();
    network.hosts[2].sight = blind;
    let task = network.submit(0, service, 1);
    network.pass(LONG);
    network.assert_certified(&task);
    assert_eq!(output(&network, 2, &task), "0: 20 degrees, 1: 21 degrees, 3: 23 degrees");
    assert!(network.hosts[2].signed.contains_key(&task));
    assert_eq!(network.node(2).metrics().observations_failed, 1);
}

#[test]
fn without_a_quorum_of_observations_the_reason_is_shown() {
    let (mut network, service) = oracle();
    network.hosts[2].sight = blind;
    network.kill(3);
    let task = network.submit(0, service, 1);
    network.pass(LONG);
    assert_eq!(network.task(0, &task).status, TaskStatus::Open);
    let abstention = network.task(2, &task).abstention.unwrap();
    assert_eq!(abstention.reason, "the endpoint doesn't answer");
    assert!(network.hosts.iter().all(|host| host.signed_proposals.is_empty()));
}

/// Sources that never answer take the places of observations, and none of those that run.
#[test]
fn slow_sources_do_not_hold_up_other_tasks() {
    let (mut network, oracle) = oracle();
    let echo = network.deploy(0);
    network.hosts.iter_mut().for_each(|host| host.stares = true);
    let places = u32::try_from(network.config.observations_max).unwrap();
    for nonce in 0..places + 2 {
        network.submit(0, oracle, nonce.into());
    }
    network.run();
    assert!(network.hosts.iter().all(|host| host.observed == places));
    let task = network.submit(1, echo, 1000);
    network.run();
    network.assert_certified(&task);
}

#[test]
fn a_lie_is_one_observation_among_others() {
    let (mut network, service) = oracle();
    network.hosts[3].sight = |_| Ok(value("-273 degrees"));
    let task = network.submit(0, service, 1);
    network.pass(LONG);
    network.assert_certified(&task);
    assert!(output(&network, 0, &task).ends_with("3: -273 degrees"));
    let mut observed: Vec<_> = (0..3).map(|i| seen_by(&network, i, task)).collect();
    observed.push(network.observe(3, task, "-273 degrees"));
    let root = network.propose(0, task, &observed).root(network.set.chain());
    assert_eq!(outcome(&network, 0, &task).observations, Some(root));
}

#[test]
fn the_next_proposer_takes_over_when_the_first_is_down() {
    let (mut network, service) = oracle();
    network.kill(3);
    let task = submit_ranked(&mut network, 0, service, 3, 0);
    network.pass(WINDOW);
    assert_eq!(network.task(0, &task).status, TaskStatus::Open);
    network.pass(network.config.proposal_step);
    network.assert_certified(&task);
    let second = network.ranks(&task)[1];
    assert!(network.hosts[second].signed_proposals.contains_key(&task));
    assert_eq!(network.hosts.iter().filter(|h| !h.signed_proposals.is_empty()).count(), 1);
}

#[test]
fn a_set_before_its_turn_waits() {
    let (mut network, service) = oracle();
    network.kill(3);
    let task = submit_ranked(&mut network, 0, service, 3, 3);
    let observed: Vec<_> = (0..4).map(|i| seen_by(&network, i, task)).collect();
    let early = network.propose(3, task, &observed[1..]);
    let later = network.ranks(&task)[1..3].to_vec();
    for to in &later {
        assert_eq!(send(&mut network, *to, observation(&observed[3])), Verdict::Accept);
        assert_eq!(send(&mut network, *to, set(&early)), Verdict::Accept);
        assert_eq!(network.node(*to).metrics().observation_sets_accepted, 0);
    }
    network.pass(LONG);
    network.assert_certified(&task);
    let first = network.propose(0, task, &observed[..3]).root(network.set.chain());
    assert_eq!(outcome(&network, 0, &task).observations, Some(first));
}

#[test]
fn an_observer_that_says_two_things_is_noticed_and_one_thing_counts() {
    let (mut network, service) = oracle();
    network.kill(3);
    let task = submit_ranked(&mut network, 0, service, 3, 0);
    let (warm, cold) =
        (network.observe(3, task, "23 degrees"), network.observe(3, task, "-273 degrees"));
    assert_eq!(send(&mut network, 0, observation(&warm)), Verdict::Accept);
    assert_eq!(send(&mut network, 1, observation(&warm)), Verdict::Accept);
    assert_eq!(send(&mut network, 2, observation(&cold)), Verdict::Accept);
    network.pass(LONG);
    network.assert_certified(&task);
    let noticed = |n: &Notice| matches!(n, Notice::ObservationEquivocation(id, OperatorIndex(3)) if *id == task);
    assert!(network.hosts.iter().any(|host| host.notices.iter().any(noticed)));
}

#[test]
fn what_an_observer_can_have_kept_is_bounded() {
    let (mut network, service) = oracle();
    network.kill(2);
    network.kill(3);
    let task = network.submit(0, service, 1);
    let verdicts: Vec<_> = (0..4)
        .map(|i| {
            let said = network.observe(3, task, &format!("{i} degrees"));
            send(&mut network, 0, observation(&said))
        })
        .collect();
    use Verdict::{Accept, Ignore};
    assert_eq!(verdicts, [Accept, Accept, Ignore, Ignore]);
    assert_eq!(network.node(0).metrics().observation_equivocations, 1);
    assert_eq!(network.hosts[0].banned.len(), 0);
}

#[test]
fn what_all_of_an_observers_tasks_take_is_bounded_and_given_back() {
    let mut network = Network::down(4);
    network.config.observation_bytes_per_operator_max = 600;
    network.start(0);
    let service = network.deploy_oracle(0);
    let tasks: Vec<TaskId> = (1..=4).map(|nonce| network.submit(0, service, nonce)).collect();
    let said: Vec<_> = tasks.iter().map(|task| network.observe(3, *task, "23 degrees")).collect();
    let verdicts: Vec<_> =
        said[..3].iter().map(|said| send(&mut network, 0, observation(said))).collect();
    assert_eq!(verdicts, [Verdict::Accept, Verdict::Accept, Verdict::Ignore]);
    assert_eq!(network.node(0).metrics().dropped_full, 1);
    // Nobody certifies these tasks: they expire, and there's room again.
    network.pass(Duration::from_secs(3601));
    assert_eq!(network.node(0).load().0, 0);
    let task = network.submit(0, service, 5);
    let said = network.observe(3, task, "23 degrees");
    assert_eq!(send(&mut network, 0, observation(&said)), Verdict::Accept);
}

#[test]
fn observations_ahead_of_their_request_count_when_it_comes() {
    let mut network = Network::down(4);
    network.start(0);
    let service = network.deploy_oracle(0);
    let request = network.request(service, 1).request;
    let task = request.task_id(&network.genesis.chain_id);
    let mut deliveries = Vec::new();
    for operator in 1..4 {
        let (topic, bytes) = observation(&seen_by(&network, operator, task));
        deliveries.push(network.send(0, 3, topic, bytes));
    }
    assert!(network.hosts[0].verdicts.is_empty());
    network.submit(0, service, 1);
    assert!(deliveries.iter().all(|id| network.hosts[0].verdicts[id] == Verdict::Accept));
    assert_eq!(network.task(0, &task).observations.len(), 4);
    network.pass(LONG);
    assert_eq!(network.hosts[0].signed.len(), 1);
}

/// The worst that a proposer can do: it splits the operators, and attests to both sides.
#[test]
fn a_proposer_that_proposes_two_sets_never_gets_two_certificates() {
    let (mut network, service) = oracle();
    network.kill(3);
    let task = submit_ranked(&mut network, 0, service, 3, 0);
    let three: Vec<_> = (0..3).map(|i| seen_by(&network, i, task)).collect();
    let mut four = three.clone();
    four.push(network.observe(3, task, "23 degrees"));
    let (some, all) = (network.propose(3, task, &three), network.propose(3, task, &four));
    assert_eq!(send(&mut network, 0, set(&some)), Verdict::Accept);
    for to in 1..3 {
        assert_eq!(send(&mut network, to, set(&all)), Verdict::Accept);
        assert_eq!(send(&mut network, to, observation(&four[3])), Verdict::Accept);
    }
    let outcomes: Vec<_> = (0..3).map(|i| network.hosts[i].signed[&task]).collect();
    assert!(outcomes[0] != outcomes[1] && outcomes[1] == outcomes[2]);
    // Gossip brings each side the other's set.
    assert_eq!(send(&mut network, 0, set(&all)), Verdict::Accept);
    let noticed =
        |n: &Notice| matches!(n, Notice::ProposalEquivocation(id, OperatorIndex(3)) if *id == task);
    assert!(network.hosts[0].notices.iter().any(noticed));
    assert_eq!(network.node(0).metrics().proposal_equivocations, 1);
    network.pass(LONG);
    assert!(!assert_at_most_one_certificate(&network, &task), "neither side is a quorum");
    for (to, outcome) in [(0, outcomes[0]), (1, outcomes[1])] {
        let (topic, bytes) = Gossip::Attestation(network.attest(3, task, outcome)).encode();
        network.gossip(to, 3, topic, bytes);
    }
    network.pass(LONG);
    assert!(assert_at_most_one_certificate(&network, &task));
    assert_eq!(network.task(0, &task).outcome_digest, Some(outcomes[1]));
    // Who was on the other side gets the certified outcome, and signed nothing else.
    assert_eq!(network.hosts[0].signed[&task], outcomes[0]);
}

#[test]
fn a_split_task_expires() {
    let (mut network, service) = oracle();
    network.kill(3);
    let task = submit_ranked(&mut network, 0, service, 3, 0);
    let three: Vec<_> = (0..3).map(|i| seen_by(&network, i, task)).collect();
    let mut four = three.clone();
    four.push(network.observe(3, task, "23 degrees"));
    let (some, all) = (network.propose(3, task, &three), network.propose(3, task, &four));
    send(&mut network, 0, set(&some));
    send(&mut network, 1, set(&all));
    send(&mut network, 1, observation(&four[3]));
    network.pass(Duration::from_secs(3601));
    assert!(!assert_at_most_one_certificate(&network, &task));
    assert_eq!(network.task(0, &task).status, TaskStatus::Expired);
}

#[test]
fn a_node_that_is_killed_after_observing_does_not_look_again() {
    let (mut network, service) = oracle();
    network.kill(2);
    network.kill(3);
    let task = network.submit(0, service, 1);
    network.kill(0);
    network.hosts[0].sight = |_| Ok(value("another day, 5 degrees"));
    network.start(0);
    network.pass(LONG);
    assert_eq!(network.hosts[0].observed, 1);
    network.start(2);
    network.pass(LONG);
    network.assert_certified(&task);
    assert_eq!(output(&network, 2, &task), "0: 20 degrees, 1: 21 degrees, 2: 22 degrees");
}

#[test]
fn a_node_that_is_killed_after_attesting_goes_on_with_its_set() {
    let (mut network, service) = oracle();
    network.kill(3);
    for host in &mut network.hosts[1..3] {
        // Only operator 0 gets as far as to attest.
        host.behaviour = slow;
    }
    let task = submit_ranked(&mut network, 0, service, 0, 0);
    network.pass(WINDOW);
    let signed = network.hosts[0].signed.clone();
    assert!(signed.contains_key(&task));
    network.kill(0);
    network.start(0);
    network.start(3);
    network.pass(LONG);
    network.assert_certified(&task);
    assert_eq!(network.hosts[0].signed, signed);
}

#[test]
fn a_node_that_was_away_gets_observations_by_asking() {
    let (mut network, service) = oracle();
    network.kill(2);
    network.kill(3);
    let task = network.submit(0, service, 1);
    network.pass(LONG);
    network.start(2);
    network.pass(LONG);
    network.assert_certified(&task);
    network.start(3);
    network.pass(LONG);
    network.assert_certified(&task);
    assert_eq!(network.hosts[3].observed, 0, "what's certified isn't observed again");
}

#[test]
fn a_set_that_gossip_lost_is_asked_for() {
    let (mut network, service) = oracle();
    network.kill(3);
    let task = submit_ranked(&mut network, 0, service, 1, 0);
    network.loss_percent = 100;
    network.pass(WINDOW);
    assert!(network.hosts[1].signed_proposals.contains_key(&task));
    assert_eq!(network.node(0).metrics().observation_sets_accepted, 0);
    network.pass(network.config.proposal_step / 2);
    assert_eq!(network.node(0).metrics().observation_sets_accepted, 1);
    network.pass(LONG);
    network.assert_certified(&task);
    assert_eq!(network.hosts.iter().filter(|h| !h.signed_proposals.is_empty()).count(), 1);
}

/// Not even the request is gossiped: all is asked for.
#[test]
fn a_task_is_certified_without_any_gossip() {
    let (mut network, service) = oracle();
    network.loss_percent = 100;
    let task = network.submit(0, service, 1);
    network.pass(LONG);
    network.assert_certified(&task);
}

#[test]
fn lost_gossip_costs_time_only() {
    for nonce in 0..8 {
        let (mut network, service) = oracle();
        network.reorder = true;
        network.loss_percent = 40;
        let task = network.submit(1, service, nonce);
        network.pass(LONG * 2);
        network.assert_certified(&task);
    }
}

#[test]
fn a_follower_keeps_what_was_observed() {
    let mut network = Network::down_with(4, 1);
    (0..5).for_each(|index| network.start(index));
    network.run();
    let service = network.deploy_oracle(0);
    let task = network.submit(4, service, 1);
    network.pass(LONG);
    network.assert_certified(&task);
    assert_eq!(network.task(4, &task).observations.len(), 4);
    assert_eq!((network.hosts[4].observed, network.hosts[4].signed.len()), (0, 0));
}

#[test]
fn observations_of_ended_tasks_are_forgotten_beyond_the_bound() {
    let mut network = Network::down(4);
    // Those of one task have less than 1,500 bytes.
    network.config.ended_observation_bytes_max = 2000;
    (0..4).for_each(|index| network.start(index));
    network.run();
    let service = network.deploy_oracle(0);
    let tasks = [1, 2].map(|nonce| {
        let task = network.submit(0, service, nonce);
        network.pass(LONG);
        task
    });
    tasks.iter().for_each(|task| network.assert_certified(task));
    assert_eq!(tasks.map(|task| network.task(1, &task).observations.len()), [0, 4]);
    assert_eq!(network.node(1).metrics().tasks_dissented, 0);
}

#[test]
fn observations_that_no_honest_node_sends_are_refused_and_cost() {
    let (mut network, service) = oracle();
    network.kill(2);
    network.kill(3);
    let task = network.submit(0, service, 1);
    let own = network.observe(3, task, "23 degrees");
    let stranger = SecretKey::derive(&[99; 32]);
    let forged =
        Observation::sign(&network.set, OperatorIndex(3), &stranger, task, value("23 degrees"));
    assert_eq!(send(&mut network, 0, observation(&forged)), Verdict::Reject);
    let other_value = Observation { value: value("24 degrees"), ..own.clone() };
    assert_eq!(send(&mut network, 0, observation(&other_value)), Verdict::Reject);
    assert_eq!(offences(&network, 0, Offence::WrongSignature), 2);
    let unknown = Observation { operator: OperatorIndex(4), ..own.clone() };
    assert_eq!(send(&mut network, 0, observation(&unknown)), Verdict::Reject);
    let other_epoch = Observation { epoch: EpochNumber(1), ..own.clone() };
    assert_eq!(send(&mut network, 0, observation(&other_epoch)), Verdict::Reject);
    assert_eq!(offences(&network, 0, Offence::OutOfBounds), 2);
    let (topic, mut bytes) = observation(&own);
    bytes.truncate(60);
    assert_eq!(network.gossip(0, 3, topic, bytes), Verdict::Reject);
    assert_eq!(offences(&network, 0, Offence::Malformed), 1);
    assert_eq!(network.task(0, &task).observations.len(), 2);
}

#[test]
fn sets_that_no_honest_node_sends_are_refused_and_cost() {
    let (mut network, service) = oracle();
    network.kill(2);
    network.kill(3);
    let task = network.submit(0, service, 1);
    let observed: Vec<_> = (0..4).map(|i| seen_by(&network, i, task)).collect();
    let below_quorum = network.propose(3, task, &observed[..2]);
    assert_eq!(send(&mut network, 0, set(&below_quorum)), Verdict::Reject);
    let repeated = [observed[0].clone(), observed[1].clone(), observed[1].clone()];
    let repeated = network.propose(3, task, &repeated);
    assert_eq!(send(&mut network, 0, set(&repeated)), Verdict::Reject);
    let mut unknown = observed.clone();
    unknown[3].operator = OperatorIndex(4);
    let unknown = network.propose(3, task, &unknown);
    assert_eq!(send(&mut network, 0, set(&unknown)), Verdict::Reject);
    let mut stranger = network.propose(3, task, &observed);
    stranger.proposer = OperatorIndex(9);
    assert_eq!(send(&mut network, 0, set(&stranger)), Verdict::Reject);
    assert_eq!(offences(&network, 0, Offence::OutOfBounds), 4);
    let mut forged = network.propose(3, task, &observed);
    forged.proposer = OperatorIndex(2);
    assert_eq!(send(&mut network, 0, set(&forged)), Verdict::Reject);
    assert_eq!(offences(&network, 0, Offence::WrongSignature), 1);
    network.pass(LONG);
    assert_eq!(network.node(0).metrics().observation_sets_accepted, 0);
}

#[test]
fn observations_of_a_deterministic_services_task_are_of_no_use() {
    let mut network = Network::new(4);
    let service = network.deploy(0);
    network.kill(2);
    network.kill(3);
    let task = network.submit(0, service, 1);
    let observed: Vec<_> = (0..4).map(|i| seen_by(&network, i, task)).collect();
    assert_eq!(send(&mut network, 0, observation(&observed[3])), Verdict::Ignore);
    let proposal = network.propose(3, task, &observed);
    assert_eq!(send(&mut network, 0, set(&proposal)), Verdict::Ignore);
    assert!(network.hosts[0].scores.is_empty());
}

/// A set may name what nobody observed: it waits for that in vain, and the next proposer's set counts.
#[test]
fn a_set_of_observations_that_do_not_exist_is_passed_over() {
    let (mut network, service) = oracle();
    network.kill(3);
    let task = submit_ranked(&mut network, 0, service, 3, 0);
    let mut observed: Vec<_> = (0..3).map(|i| seen_by(&network, i, task)).collect();
    observed[1] = network.observe(1, task, "nobody ever said so");
    let invented = network.propose(3, task, &observed);
    for to in 0..3 {
        assert_eq!(send(&mut network, to, set(&invented)), Verdict::Accept);
    }
    network.pass(LONG);
    network.assert_certified(&task);
    assert!(output(&network, 0, &task).contains("1: 21 degrees"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever gossip loses and reorders, there's never a second certificate, and honest nodes never ban each other.
    #[test]
    fn lost_and_reordered_gossip_never_makes_two_certificates(loss_percent in 0u64..90, nonce in any::<u64>()) {
        let mut network = Network::new(4);
        network.reorder = true;
        let service = network.deploy_oracle(0);
        network.pass(LONG);
        network.loss_percent = loss_percent;
        let task = network.submit(1, service, nonce);
        network.pass(Duration::from_secs(120));
        assert_at_most_one_certificate(&network, &task);
        for host in &network.hosts {
            prop_assert!(host.banned.is_empty());
        }
    }
}
