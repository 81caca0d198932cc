//! What nodes write into the ledger by themselves: certified tasks and evidence, once each, at a bounded cost.

mod ledger_network;

use std::collections::BTreeMap;

use lamina_certificate::{OffenceKind, TaskCertificate};
use lamina_ledger::state::operators::Offence;
use lamina_ledger::state::tasks::{self, RecordedTask};
use lamina_ledger::state::{Refusal, Scope};
use lamina_node_core::{LedgerConfig, Notice};
use lamina_p2p::Gossip;
use lamina_types::{
    Action, Address, Amount, Bytes, Canonical as _, Digest, Limits, Manifest, Operation, ServiceId,
    SignedOperation, TaskId, TaskRecord, Text,
};
use ledger_network::{Conduct, FUEL_USED, Network, Plan, account, address, millis, purse, seconds};
use proptest::prelude::*;

/// Four operators whose nodes all have accounts, and a service.
fn network(plan: &Plan) -> (Network, ServiceId) {
    let mut network = Network::new(plan);
    let service = deploy(&mut network);
    (network, service)
}

fn with_purses(count: usize) -> Plan {
    Plan { purses: (0..count).collect(), ..Plan::of(4) }
}

fn deploy(network: &mut Network) -> ServiceId {
    let manifest = Manifest {
        owner: address(0),
        name: "echo".to_owned().try_into().expect("a name"),
        description: Text::default(),
        component: Digest([1; 32]),
        component_bytes: 1,
        limits: Limits {
            fuel: 1,
            memory_bytes: 1,
            input_bytes: 1024,
            output_bytes: 1024,
            state_bytes: 0,
        },
        parameters: BTreeMap::new(),
        blobs: BTreeMap::new(),
        oracle: None,
    };
    let service = manifest.service_id(&network.genesis.chain_id);
    let register = network.sign(0, Action::RegisterService { manifest: Box::new(manifest) });
    let id = network.submit(0, register);
    network.until(seconds(20), "the service is known", |n| {
        n.honest().iter().all(|index| n.hosts[*index].disk.receipts.contains_key(&id))
    });
    service
}

fn recorded(network: &Network, index: usize, task: &TaskId) -> Option<RecordedTask> {
    tasks::recorded(&Scope::new(&network.hosts[index].disk.state), task).expect("memory is read")
}

fn is_recorded_everywhere(network: &Network, tasks: &[TaskId]) -> bool {
    let honest = network.honest();
    tasks.iter().all(|task| honest.iter().all(|index| recorded(network, *index, task).is_some()))
}

/// All final operations of nodes, in the order of their lanes.
fn reports(network: &Network) -> Vec<SignedOperation> {
    let purses: Vec<Address> = (0..network.hosts.len()).map(purse).collect();
    let changes = network.hosts[0].disk.changes.values();
    let operations = changes.flat_map(|change| change.operations.as_slice().iter().cloned());
    operations.filter(|signed| purses.contains(&signed.operation.account)).collect()
}

fn refusal(network: &Network, signed: &SignedOperation) -> Option<Refusal> {
    let id = signed.operation.id(&network.genesis.signing_context());
    network.hosts[0].disk.receipts[&id].refusal.clone()
}

fn made(network: &Network, index: usize) -> u64 {
    network.node(index).ledger_metrics().expect("it has a ledger").reports_made
}

/// What's proven of an operator, at this host.
fn offences(network: &Network, index: usize, operator: usize) -> Vec<Offence> {
    let byte = u8::try_from(operator).expect("few") + 1;
    let prefix = [b"operators/offences/".as_slice(), &[byte; 20]].concat();
    let entries = network.hosts[index].disk.state.entries().iter();
    let found = entries.filter(|(key, _)| key.starts_with(&prefix));
    found.map(|(_, value)| borsh::from_slice(value).expect("an offence")).collect()
}

#[test]
fn a_certified_task_is_recorded_by_one_node() {
    let (mut network, service) = network(&with_purses(4));
    network.pass(seconds(12));
    let tasks: Vec<_> = (0..8).map(|i| network.submit_task(i % 4, service, i as u64)).collect();
    network.until(seconds(20), "they are recorded", |n| is_recorded_everywhere(n, &tasks));
    network.pass(seconds(30));
    network.settle();
    let reports = reports(&network);
    assert_eq!(reports.len(), 8, "one operation each");
    assert!(reports.iter().all(|report| refusal(&network, report).is_none()));
    let by: std::collections::BTreeSet<_> = reports.iter().map(|r| r.operation.account).collect();
    assert!(by.len() > 1, "they take turns");
    for report in &reports {
        let Action::RecordTask { record } = &report.operation.action else { panic!("{report:?}") };
        assert_eq!((record.service, record.fuel_used), (service, FUEL_USED));
    }
    let signers = recorded(&network, 0, &tasks[0]).expect("it's recorded").signers;
    assert!(signers.count() >= 3, "who took part is credited");
}

#[test]
fn whoever_has_an_account_records_in_its_turn() {
    let (mut network, service) = network(&Plan { purses: vec![2], ..Plan::of(4) });
    network.pass(seconds(12));
    let tasks: Vec<_> = (0..6).map(|i| network.submit_task(0, service, i)).collect();
    network.until(seconds(30), "they are recorded", |n| is_recorded_everywhere(n, &tasks));
    network.settle();
    assert!(reports(&network).iter().all(|report| report.operation.account == purse(2)));
    assert_eq!([0, 1, 2, 3].map(|index| made(&network, index)), [0, 0, 6, 0]);
}

/// An observer records last, and hands its operations to operators.
#[test]
fn who_is_no_operator_records_what_nobody_else_does() {
    let (mut network, service) = network(&Plan { purses: vec![4], hosts: 5, ..Plan::of(4) });
    network.pass(seconds(12));
    let task = network.submit_task(0, service, 1);
    network.pass(seconds(10));
    assert_eq!(recorded(&network, 0, &task), None);
    network.until(seconds(20), "it's recorded", |n| is_recorded_everywhere(n, &[task]));
    network.settle();
}

#[test]
fn without_an_account_nothing_is_recorded() {
    let (mut network, service) = network(&Plan::of(4));
    let task = network.submit_task(0, service, 1);
    network.pass(seconds(60));
    assert_eq!(recorded(&network, 0, &task), None);
    assert!(network.node(0).task(&task).expect("it's known").timeline.certified.is_some());
    network.settle();
}

/// With no time between their turns, all sign; whoever is late is told so, and leaves it at that.
#[test]
fn of_nodes_that_race_one_records() {
    let config = LedgerConfig { report_step: millis(0), ..LedgerConfig::default() };
    let (mut network, service) = network(&Plan { config, ..with_purses(4) });
    network.pass(seconds(12));
    let tasks: Vec<_> = (0..6).map(|i| network.submit_task(i % 4, service, i as u64)).collect();
    network.until(seconds(20), "they are recorded", |n| is_recorded_everywhere(n, &tasks));
    network.pass(seconds(400));
    network.settle();
    let all = reports(&network);
    let (done, late): (Vec<_>, Vec<_>) =
        all.iter().partition(|report| refusal(&network, report).is_none());
    assert_eq!(done.len(), tasks.len());
    assert!(!late.is_empty(), "nobody raced");
    assert!(all.len() <= 4 * tasks.len(), "one operation a node and task: {}", all.len());
    let is_exists = |report: &&SignedOperation| {
        matches!(refusal(&network, report), Some(Refusal::Exists { .. }))
    };
    assert!(late.iter().all(is_exists));
    let refused = |index| network.node(index).ledger_metrics().map(|m| m.reports_refused);
    assert!((0..4).all(|index| refused(index) == Some(0)), "that's no error");
}

#[test]
fn what_is_not_recorded_when_all_stop_is_recorded_when_they_start() {
    let (mut network, service) = network(&with_purses(4));
    // Too soon after the start for anyone to report.
    let tasks: Vec<_> = (0..4).map(|i| network.submit_task(0, service, i)).collect();
    network.pass(seconds(2));
    let certified = |n: &Network, task| n.node(1).task(task).and_then(|t| t.timeline.certified);
    assert!(tasks.iter().all(|task| certified(&network, task).is_some()));
    assert!(!is_recorded_everywhere(&network, &tasks));
    (0..4).for_each(|index| network.kill(index));
    (0..4).for_each(|index| network.start(index));
    network.until(seconds(40), "they are recorded", |n| is_recorded_everywhere(n, &tasks));
    network.settle();
    assert_eq!(reports(&network).len(), 4);
    // And not once more when they start again.
    (0..4).for_each(|index| network.restart(index));
    network.pass(seconds(40));
    network.settle();
    assert_eq!(reports(&network).len(), 4);
}

#[test]
fn an_operation_that_was_promised_before_a_kill_is_the_only_one() {
    let (mut network, service) = network(&Plan { purses: vec![2], ..Plan::of(4) });
    network.pass(seconds(12));
    let task = network.submit_task(0, service, 1);
    network.until(seconds(20), "it's promised", |n| !n.hosts[2].disk.promises.is_empty());
    network.restart(2);
    network.until(seconds(20), "it's recorded", |n| is_recorded_everywhere(n, &[task]));
    network.pass(seconds(30));
    network.settle();
    assert_eq!(reports(&network).len(), 1);
}

/// A node that was away has tasks that others recorded meanwhile, and an old state: it mustn't pay for them again.
#[test]
fn who_was_away_does_not_record_what_others_have() {
    let (mut network, service) = network(&with_purses(4));
    network.pass(seconds(12));
    network.partition(&[0, 0, 0, 1]);
    let tasks: Vec<_> = (0..8).map(|i| network.submit_task(0, service, i)).collect();
    for _ in 0..90 {
        network.load(1);
        network.pass(seconds(1));
    }
    assert!(tasks.iter().all(|task| recorded(&network, 0, task).is_some()));
    assert_eq!(recorded(&network, 3, &tasks[0]), None);
    let before = made(&network, 3);
    network.heal();
    network.pass(seconds(60));
    network.settle();
    assert_eq!(made(&network, 3), before);
    assert_eq!(reports(&network).len(), 8);
}

/// Who is cut off doesn't know what others do, and that it doesn't it can tell from the age of its last checkpoint.
#[test]
fn who_is_cut_off_does_not_record_in_its_turn() {
    let config = LedgerConfig { report_step: seconds(40), ..LedgerConfig::default() };
    let (mut network, service) = network(&Plan { config, purses: vec![1, 2, 3], ..Plan::of(4) });
    network.pass(seconds(12));
    let tasks: Vec<_> = (0..12).map(|i| network.submit_task(0, service, i)).collect();
    network.pass(seconds(5));
    // Whose first operator has no account aren't recorded yet, and the last one would be next for some.
    let is_open = |n: &Network| tasks.iter().filter(|task| recorded(n, 0, task).is_none()).count();
    assert!(is_open(&network) > 0);
    let before = made(&network, 3);
    network.partition(&[0, 0, 0, 1]);
    for _ in 0..150 {
        network.load(1);
        network.pass(seconds(1));
    }
    assert_eq!(is_open(&network), 0, "the others have recorded them");
    network.heal();
    network.pass(seconds(60));
    network.settle();
    assert_eq!(made(&network, 3), before);
    assert_eq!(reports(&network).len(), tasks.len());
}

#[test]
fn a_certificate_that_does_not_hold_is_never_recorded() {
    let (mut network, service) = network(&with_purses(4));
    network.pass(seconds(12));
    // Nobody attests, so nothing is certified but by the forger.
    network.hosts.iter_mut().for_each(|host| host.abstains = true);
    network.hosts[3].conduct = Conduct::Silent;
    let task = network.submit_task(0, service, 1);
    network.pass(seconds(1));
    let certificate = forged(&network, task);
    network.say(3, &[0, 1, 2], &Gossip::Certificate(certificate.clone()));
    network.pass(seconds(30));
    assert_eq!(recorded(&network, 0, &task), None);
    assert_eq!([0, 1, 2].map(|index| made(&network, index)), [0; 3]);
    // Handed in by somebody as an operation, it's refused.
    let record = record(&network, service, 1, &certificate);
    let signed = network.sign(1, Action::RecordTask { record });
    network.submit(0, signed);
    network.pass(seconds(1));
    let wish = network.wishes.last().expect("it was handed in");
    assert!(!wish.acknowledged && wish.errors[0].to_string().contains("the certificate"));
}

/// A certificate with the right signers and somebody's signature.
fn forged(network: &Network, task: TaskId) -> TaskCertificate {
    let set = network.genesis.operator_set().expect("it holds");
    let mut signers = lamina_certificate::SignerBitmap::empty(4);
    for index in 0..3 {
        signers.insert(lamina_types::OperatorIndex(index));
    }
    let key = lamina_certificate::SecretKey::derive(&[9; 32]);
    TaskCertificate {
        task,
        outcome: Digest([7; 32]),
        epoch: set.epoch(),
        signers,
        signature: key.sign(&Digest([7; 32])),
    }
}

fn record(
    network: &Network,
    service: ServiceId,
    nonce: u64,
    certificate: &TaskCertificate,
) -> Box<TaskRecord> {
    let task = network.hosts[0].records.iter().find_map(|record| match record {
        lamina_node_core::Record::Request(_, request, _)
            if (request.request.service, request.request.nonce) == (service, nonce) =>
        {
            Some(request.clone())
        }
        _ => None,
    });
    let bytes = Bytes::new(certificate.to_bytes()).expect("it's short");
    Box::new(TaskRecord::new(&task.expect("it was submitted"), FUEL_USED, bytes))
}

/// Whoever makes others wait for an operation that never takes effect doesn't do so for long.
#[test]
fn a_pending_record_that_comes_to_nothing_holds_nobody_up() {
    let (mut network, service) = network(&with_purses(4));
    network.pass(seconds(12));
    let task = network.submit_task(0, service, 1);
    network.pass(millis(150));
    let record = record(&network, service, 1, &forged(&network, task));
    // Far ahead of its account's next number, so that nobody looks at it closely.
    let operation = Operation {
        account: address(5),
        sequence: 60,
        valid_until: network.now + seconds(3600),
        fee_max: Amount(u128::MAX),
        action: Action::RecordTask { record },
    };
    let signed = operation.sign(&account(5), &network.genesis.signing_context());
    let command = lamina_node_core::Command::SubmitOperation(Box::new(signed));
    network.command(1, command);
    network
        .until(seconds(40), "it's recorded all the same", |n| is_recorded_everywhere(n, &[task]));
}

#[test]
fn so_many_operations_a_minute_and_no_more() {
    let config = LedgerConfig { reports_per_minute_max: 2, ..LedgerConfig::default() };
    let (mut network, service) = network(&Plan { config, purses: vec![1], ..Plan::of(4) });
    network.pass(seconds(12));
    let tasks: Vec<_> = (0..7).map(|i| network.submit_task(0, service, i)).collect();
    network.pass(seconds(45));
    assert_eq!(made(&network, 1), 2);
    network.pass(seconds(60));
    assert_eq!(made(&network, 1), 4);
    network.until(seconds(150), "all are recorded", |n| is_recorded_everywhere(n, &tasks));
    network.settle();
    assert_eq!(made(&network, 1), 7);
}

#[test]
fn an_account_that_cannot_pay_is_told_of_and_tried_again() {
    let mut plan = with_purses(1);
    plan.fees.base = Amount(1_000);
    let (mut network, service) = network(&plan);
    network.pass(seconds(12));
    let task = network.submit_task(0, service, 1);
    network.pass(seconds(30));
    let complains = |n: &Network| {
        n.hosts[0].notices.iter().filter(|n| matches!(n, Notice::CannotPay(_))).count()
    };
    assert_eq!((complains(&network), made(&network, 0)), (1, 0));
    let asset = lamina_types::Asset::Ether;
    let give = Action::Transfer { to: purse(0), asset, amount: Amount(1_000_000) };
    let signed = network.sign(1, give);
    network.submit(0, signed);
    network.until(seconds(90), "it's recorded", |n| is_recorded_everywhere(n, &[task]));
    assert_eq!(made(&network, 0), 1);
}

/// What an operator does wrong is proven and noted without anyone's help, once for each place.
fn offender_is_reported(conduct: Conduct, kind: OffenceKind) {
    let (mut network, service) = network(&with_purses(4));
    network.hosts[3].conduct = conduct;
    network.pass(seconds(12));
    for nonce in 0..6 {
        for _ in 0..3 {
            let signed = network.give(1, 2, 1);
            network.submit(3, signed);
        }
        network.submit_task(0, service, nonce);
        network.pass(seconds(1));
    }
    network.until(seconds(60), "the offence is known everywhere", |n| {
        n.honest().iter().all(|index| offences(n, *index, 3).iter().any(|o| o.kind == kind))
    });
    network.hosts[3].conduct = Conduct::Silent;
    network.pass(seconds(60));
    let found = offences(&network, 0, 3);
    let reporters: Vec<_> = (0..4).map(purse).collect();
    assert!(found.iter().all(|offence| reporters.contains(&offence.reporter)));
    assert!((0..3).all(|index| offences(&network, 0, index).is_empty()));
    let evidence = reports(&network)
        .into_iter()
        .filter(|report| matches!(report.operation.action, Action::SubmitEvidence { .. }));
    let in_vain = evidence.filter(|report| refusal(&network, report).is_some()).count();
    assert_eq!(in_vain, 0, "each was reported once");
}

#[test]
fn two_changes_with_one_number_are_reported() {
    offender_is_reported(Conduct::WritesTwice, OffenceKind::Changes);
}

#[test]
fn two_votes_in_one_step_are_reported() {
    offender_is_reported(Conduct::VotesTwice, OffenceKind::Prevotes);
}

#[test]
fn two_proposals_in_one_round_are_reported() {
    offender_is_reported(Conduct::ProposesTwice, OffenceKind::Proposals);
}

#[test]
fn two_outcomes_of_one_task_are_reported() {
    offender_is_reported(Conduct::AttestsTwice, OffenceKind::Attestations);
}

#[test]
fn evidence_that_was_kept_is_reported_after_a_restart() {
    let (mut network, _) = network(&with_purses(4));
    network.hosts[3].conduct = Conduct::VotesTwice;
    network.load(2);
    network.pass(seconds(3));
    network.hosts[3].conduct = Conduct::Silent;
    assert!(!network.evidence_of(0, 3).is_empty());
    assert!(offences(&network, 0, 3).is_empty(), "it's too soon for reports");
    (0..3).for_each(|index| network.restart(index));
    network.until(seconds(60), "it's proven", |n| !offences(n, 0, 3).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    /// Kills, losses and repeats, in the middle of whatever nodes do: each task is recorded, and none of them twice.
    #[test]
    fn tasks_are_recorded_whatever_happens(seed in any::<u64>(), kills in prop::collection::vec((0usize..4, 50u64..3000), 1..6)) {
        let (mut network, service) = network(&Plan { seed, ..with_purses(4) });
        network.pass(seconds(12));
        (network.loss, network.duplicate) = (3, 10);
        let mut tasks = Vec::new();
        for (nonce, (victim, after)) in kills.into_iter().enumerate() {
            tasks.push(network.submit_task(victim, service, nonce as u64));
            network.pass(millis(after));
            network.restart(victim);
        }
        network.heal();
        network.pass(seconds(30));
        network.settle();
        let certified = |n: &Network, task: &TaskId| {
            n.honest().iter().any(|i| n.node(*i).task(task).is_some_and(|t| t.timeline.certified.is_some()))
        };
        let tasks: Vec<_> = tasks.into_iter().filter(|task| certified(&network, task)).collect();
        network.until(seconds(120), "they are recorded", |n| is_recorded_everywhere(n, &tasks));
        network.settle();
    }
}
