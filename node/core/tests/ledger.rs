//! Whole ledgers in one thread: users, faults and lies, and what must hold all the same.

mod ledger_network;

use std::collections::BTreeMap;
use std::time::Duration;

use lamina_certificate::OffenceKind;
use lamina_ledger::finality::{ConsensusMessage, Vote, VoteSignature};
use lamina_node_core::Notice;
use lamina_p2p::{Gossip, Second};
use lamina_types::{
    Action, Address, Amount, Asset, BookId, Change, ChangeId, Digest, HeaderId, Height, Limits,
    List, Manifest, OperationId, OperatorIndex, Purpose, ServiceId, Text, VolumeId,
};
use ledger_network::{Conduct, Flaw, Network, Plan, address, consensus, millis, seconds};
use proptest::prelude::*;

/// Load for so many seconds, some operations a second.
fn busy(network: &mut Network, seconds_long: u64, per_second: usize) {
    for _ in 0..seconds_long {
        network.load(per_second);
        network.pass(seconds(1));
    }
}

fn manifest() -> Manifest {
    Manifest {
        owner: address(0),
        name: "echo".to_owned().try_into().expect("a name"),
        description: Text::default(),
        component: Digest([1; 32]),
        component_bytes: 1,
        limits: Limits {
            fuel: 1,
            memory_bytes: 1,
            input_bytes: 1,
            output_bytes: 1,
            state_bytes: 0,
        },
        parameters: BTreeMap::new(),
        blobs: BTreeMap::new(),
        oracle: None,
    }
}

#[test]
fn what_accounts_do_at_several_nodes_is_final_everywhere() {
    let mut network = Network::new(&Plan::of(4));
    busy(&mut network, 5, 8);
    network.settle();
    network.assert_applied();
    let rounds = network.witness.rounds.values().copied().max();
    assert_eq!(rounds, Some(0), "nobody was at fault, and still a round failed");
}

#[test]
fn commitments_made_at_one_node_are_pending_and_then_final_at_all() {
    let mut network = Network::new(&Plan::of(4));
    let service = manifest().service_id(&network.genesis.chain_id);
    let register = network.sign(0, Action::RegisterService { manifest: Box::new(manifest()) });
    network.submit(0, register);
    network.settle();
    let ids: Vec<_> = (0..4)
        .map(|at| {
            let commit = Action::Commit {
                vault: None,
                service,
                operator: Address([1; 20]),
                asset: Asset::Ether,
                amount: Amount(1_000),
                unbonding_s: 5,
                purpose: Purpose::Rewards,
            };
            let signed = network.sign(u8::try_from(at).expect("a few"), commit);
            network.submit(at, signed)
        })
        .collect();
    let everywhere = |network: &Network| {
        let sees = |i: usize| ids.iter().all(|id| network.node(i).pending_operation(id).is_some());
        (0..4).all(sees)
    };
    network.until(millis(400), "all see all of them as pending", everywhere);
    network.settle();
    network.assert_applied();
}

#[test]
fn who_is_no_operator_hands_operations_on() {
    let mut network = Network::new(&Plan { hosts: 6, ..Plan::of(4) });
    for _ in 0..10 {
        let signed = network.give(0, 1, 5);
        network.submit(4, signed);
        let signed = network.give(1, 0, 5);
        network.submit(5, signed);
        network.pass(millis(500));
    }
    network.settle();
    network.assert_applied();
    assert_eq!(network.node(4).ledger_metrics().map(|m| m.changes_made), Some(0));
}

#[test]
fn who_hands_on_is_heard_though_the_operators_whose_turn_it_is_are_down() {
    let mut network = Network::new(&Plan { hosts: 5, ..Plan::of(4) });
    network.pass(seconds(1));
    network.kill(2);
    for _ in 0..6 {
        let signed = network.give(0, 1, 5);
        network.submit(4, signed);
    }
    network.until(seconds(12), "others carry them in their turn", |n| {
        n.wishes.iter().all(|wish| n.hosts[4].disk.receipts.contains_key(&wish.id))
    });
    network.settle();
}

/// An operation that waits for its predecessor is final, though it has no receipt: it was once said again every two seconds,
/// carried each time, and made a checkpoint each time.
#[test]
fn what_waits_in_the_state_is_not_carried_again() {
    let mut network = Network::new(&Plan { hosts: 5, ..Plan::of(4) });
    let first = network.give(0, 1, 5);
    let second = network.give(0, 1, 6);
    network.submit(4, second);
    network.until(seconds(10), "it's final", |n| !n.hosts[0].disk.changes.is_empty());
    let before = network.hosts[0].disk.changes.len();
    network.pass(seconds(15));
    assert_eq!(network.hosts[0].disk.changes.len(), before);
    network.submit(4, first);
    network.settle();
    network.assert_applied();
}

/// 256 fit into a change. The rest once waited for somebody to hand in another operation.
#[test]
fn more_promises_than_fit_into_one_change_are_carried_after_a_restart() {
    let mut network = Network::new(&Plan::of(4));
    network.kill(0);
    for _ in 0..60 {
        for by in 0..8 {
            let signed = network.give(by, (by + 1) % 8, 1);
            network.promise(0, signed);
        }
    }
    network.start(0);
    network.settle();
    network.assert_applied();
}

#[test]
fn one_of_four_is_killed_again_and_again() {
    for seed in 0..3 {
        let mut network = Network::new(&Plan { seed, ..Plan::of(4) });
        for _ in 0..10 {
            let victim = network.below(4);
            network.load(4);
            let wait = network.below(1500) as u64;
            network.pass(millis(wait));
            network.kill(victim);
            network.load(2);
            let wait = network.below(2500) as u64;
            network.pass(millis(wait));
            network.start(victim);
        }
        network.settle();
        network.assert_applied();
    }
}

#[test]
fn two_of_four_are_killed_again_and_again() {
    for seed in 10..13 {
        let mut network = Network::new(&Plan { seed, ..Plan::of(4) });
        for _ in 0..10 {
            let first = network.below(4);
            let second = (first + 1 + network.below(3)) % 4;
            network.load(4);
            for victim in [first, second] {
                let wait = network.below(700) as u64;
                network.pass(millis(wait));
                network.kill(victim);
            }
            network.load(2);
            let wait = network.below(2500) as u64;
            network.pass(millis(wait));
            network.start(first);
            network.start(second);
        }
        network.settle();
        network.assert_applied();
    }
}

/// A node's answers once told of changes that weren't on its disk: after a crash it gave their numbers to others.
#[test]
fn what_is_not_on_disk_is_not_shown() {
    let mut network = Network::new(&Plan::of(4));
    network.pass(seconds(1));
    for by in 0..6 {
        let signed = network.give(by, 7, 1);
        network.submit(0, signed);
    }
    while network.wishes.iter().any(|wish| !wish.acknowledged) {
        network.pass(millis(1));
    }
    network.hosts[0].stalled = true;
    network.pass(seconds(8));
    network.kill(0);
    network.hosts[0].stalled = false;
    network.start(0);
    network.settle();
    network.assert_applied();
}

/// What a node acknowledged it still has when it's killed with the next breath, and when all are.
#[test]
fn all_are_killed_at_once() {
    for seed in 20..24 {
        let mut network = Network::new(&Plan { seed, ..Plan::of(4) });
        for _ in 0..5 {
            network.load(6);
            let wait = 200 + network.below(1500) as u64;
            network.pass(millis(wait));
            (0..4).for_each(|index| network.restart(index));
        }
        network.settle();
        network.assert_applied();
    }
}

#[test]
fn halves_agree_on_nothing_until_they_meet() {
    let mut network = Network::new(&Plan::of(4));
    busy(&mut network, 2, 4);
    network.partition(&[0, 0, 1, 1]);
    network.pass(seconds(1));
    let before = network.height(0).max(network.height(2));
    busy(&mut network, 10, 4);
    assert!((0..4).all(|index| network.height(index) <= before));
    network.heal();
    let healed = network.now;
    network.until(seconds(5), "they go on", |n| (0..4).all(|i| n.height(i) > before));
    println!("all have a checkpoint {:?} after healing", network.now.since(healed));
    network.settle();
    network.assert_applied();
}

#[test]
fn who_was_cut_off_catches_up_by_checkpoints_and_changes() {
    let mut network = Network::new(&Plan::of(4));
    busy(&mut network, 2, 4);
    network.partition(&[0, 0, 0, 1]);
    busy(&mut network, 20, 4);
    let (there, here) = (network.height(0), network.height(3));
    assert!(there > here + 10);
    network.heal();
    let healed = network.now;
    network.until(seconds(10), "it has what they had", |n| n.height(3) >= there);
    println!("{} checkpoints in {:?}", there - here, network.now.since(healed));
    network.settle();
    network.assert_applied();
    assert!(network.node(3).ledger_metrics().is_some_and(|m| m.checkpoints_fetched > 10));
}

/// How long is a node without a checkpoint that the others have, when it misses all that's said for some seconds?
#[test]
fn who_missed_some_heights_under_load_is_soon_back() {
    let mut network = Network::new(&Plan::of(4));
    busy(&mut network, 3, 4);
    let mut longest = Duration::ZERO;
    for missed_s in [2, 3, 3, 4, 5] {
        // Connections don't notice.
        network.hosts[3].deaf = true;
        busy(&mut network, missed_s, 4);
        network.hosts[3].deaf = false;
        let (hears, there) = (network.now, network.height(0));
        network.until(seconds(10), "it has what they had", |n| n.height(3) >= there);
        println!("{missed_s} s missed, back after {:?}", network.now.since(hears));
        longest = longest.max(network.now.since(hears));
        busy(&mut network, 2, 4);
    }
    assert!(longest < seconds(3), "{longest:?}");
    network.settle();
}

#[test]
fn messages_that_are_lost_or_come_twice_delay_and_no_more() {
    for seed in 30..33 {
        let mut network = Network::new(&Plan { seed, ..Plan::of(4) });
        (network.loss, network.duplicate) = (10, 10);
        busy(&mut network, 15, 4);
        let height = network.height(0);
        assert!(height > 5, "{height}");
        network.settle();
        network.assert_applied();
    }
}

#[test]
fn who_has_nothing_to_do_makes_a_checkpoint_now_and_then() {
    let mut network = Network::new(&Plan::of(4));
    network.pass(seconds(65));
    let headers = network.witness.headers_from(1);
    assert_eq!(headers.len(), 3, "every 20 seconds");
    let times: Vec<_> = headers.iter().map(|header| header.time).collect();
    let genesis = network.genesis.ledger.time;
    assert!(times[0].since(genesis) >= seconds(20));
    assert!(times.windows(2).all(|pair| pair[1].since(pair[0]) >= seconds(20)));
}

#[test]
fn a_timer_makes_a_checkpoint() {
    let plan = Plan { idle_interval: seconds(3000), ..Plan::of(4) };
    let mut network = Network::new(&plan);
    network.pass(seconds(10));
    // Its predecessor never comes, so it waits until it's forgotten.
    network.give(0, 1, 5);
    let waits = network.give(0, 1, 6);
    let id = network.submit(0, waits);
    network.until(seconds(10), "it's in a checkpoint", |n| n.height(0) == 1);
    network.pass(seconds(600));
    assert_eq!(network.height(0), 1);
    assert!(!network.hosts[0].disk.receipts.contains_key(&id));
    network.until(seconds(3100), "its timer is due", |n| {
        n.hosts.iter().all(|host| host.disk.receipts.contains_key(&id))
    });
    let headers = network.witness.headers_from(1);
    assert_eq!(headers.len(), 2 + usize::from(headers.len() == 3), "{headers:?}");
}

#[test]
fn operators_change_at_an_epochs_first_checkpoint() {
    let plan = Plan { epochs: vec![(5, vec![1, 2, 3, 4])], hosts: 5, ..Plan::of(4) };
    let mut network = Network::new(&plan);
    busy(&mut network, 14, 4);
    network.settle();
    network.assert_applied();
    assert!(network.height(0) > 8);
    let made = |n: &Network, index: usize| n.node(index).ledger_metrics().map(|m| m.changes_made);
    assert!(made(&network, 4) > Some(0), "who joined writes");
    network.kill(0);
    let before = network.height(1);
    busy(&mut network, 4, 4);
    network.kill(1);
    busy(&mut network, 3, 4);
    network.until(seconds(20), "three of the new four are enough", |n| n.height(2) > before + 3);
    network.settle();
    network.assert_applied();
}

/// Two epochs on, whoever left may write no more; what it had in books and in mind isn't lost.
#[test]
fn what_was_in_the_lane_of_one_who_may_write_no_more_is_carried_by_others() {
    let epochs = vec![(4, vec![1, 2, 3, 4]), (8, vec![1, 2, 3, 4])];
    for seed in 40..43 {
        let plan = Plan { seed, epochs: epochs.clone(), hosts: 5, ..Plan::of(4) };
        let mut network = Network::new(&plan);
        while network.height(0) < 9 {
            for by in 0..2 {
                let signed = network.give(by, by + 2, 1);
                network.submit(0, signed);
            }
            network.load(1);
            network.pass(millis(150));
        }
        network.settle();
        network.assert_applied();
    }
}

#[test]
fn volumes_are_rotated_under_load() {
    let mut network = Network::new(&Plan::of(4));
    for _ in 0..60 {
        network.load(40);
        network.pass(millis(600));
    }
    network.settle();
    network.assert_applied();
    assert!(!network.hosts[0].disk.closed.is_empty(), "2,000 operations fill a volume");
}

/// The same if it went away before: what others saw in its lane they carry.
#[test]
fn what_fell_out_of_the_lane_of_one_who_left_is_carried_by_others() {
    let epochs = vec![(4, vec![1, 2, 3, 4]), (8, vec![1, 2, 3, 4])];
    let mut network = Network::new(&Plan { epochs, hosts: 5, ..Plan::of(4) });
    let mut seen = Vec::new();
    while network.height(1) < 7 {
        let sees = |id: &OperationId| network.node(1).pending_operation(id).is_some();
        seen = network.wishes.iter().map(|wish| wish.id).filter(sees).collect();
        let by = u8::try_from(network.wishes.len() % 8).expect("few");
        let signed = network.give(by, (by + 1) % 8, 1);
        network.submit(0, signed);
        network.pass(millis(20));
    }
    network.kill(0);
    let has = |n: &Network, id| n.hosts[1].disk.receipts.contains_key(id);
    assert!(seen.iter().any(|id| !has(&network, id)), "nothing fell");
    network.until(seconds(20), "others carry it", |n| seen.iter().all(|id| has(n, id)));
    network.settle();
    network.assert_applied();
}

/// Submits operations at the liar, too: what it writes is what it lies about.
fn with_liar(conduct: Conduct, seed: u64) -> Network {
    let mut network = Network::new(&Plan { seed, ..Plan::of(4) });
    network.hosts[3].conduct = conduct;
    // The last account is the liar's own, that its second changes are filled from.
    for _ in 0..12 {
        for _ in 0..4 {
            let by = u8::try_from(network.below(6)).expect("few");
            let signed = network.give(by, by + 1, 1);
            let at = network.below(4);
            network.submit(at, signed);
        }
        network.pass(seconds(1));
    }
    network
}

#[test]
fn two_changes_with_one_number_harm_their_author_alone() {
    for seed in 50..53 {
        let mut network = with_liar(Conduct::WritesTwice, seed);
        network.hosts[3].conduct = Conduct::Silent;
        network.settle();
        for index in 0..3 {
            let evidence = network.evidence_of(index, 3);
            assert!(evidence.contains(&OffenceKind::Changes), "{index} has none");
            let liar = network.hosts[3].peer;
            let told = |n: &Notice| matches!(n, Notice::ChangeEquivocation(by) if *by == liar);
            assert!(network.hosts[index].notices.iter().any(told));
        }
    }
}

#[test]
fn changes_that_are_withheld_are_not_final_and_hold_nothing_up() {
    let mut network = with_liar(Conduct::Withholds, 1);
    let before = network.height(0);
    assert!(before >= 6, "{before}");
    let liar = network.hosts[3].peer;
    assert!(network.hosts[0].disk.changes.keys().all(|(_, author, _)| *author != liar));
    assert!(network.witness.rounds.values().any(|round| *round > 0), "it never proposed");
    network.hosts[3].conduct = Conduct::Silent;
    network.settle();
}

/// A proposal that nobody can judge in its round mustn't be followed by others that nobody can judge in theirs.
#[test]
fn operations_that_take_longer_to_evaluate_than_a_round_are_final_all_the_same() {
    for seed in 60..63 {
        let mut network = Network::new(&Plan { seed, ..Plan::of(4) });
        network.evaluation = millis(25);
        for by in 0..6 {
            for _ in 0..40 {
                let signed = network.give(by, 1 + (by + 1) % 6, 1);
                let at = network.below(4);
                network.submit(at, signed);
            }
            network.pass(millis(200));
        }
        network.settle();
    }
}

/// It was once asked again at each of its answers.
#[test]
fn who_says_to_be_ahead_and_has_nothing_to_show_is_asked_now_and_then() {
    let mut network = with_liar(Conduct::Boasts, 5);
    let asked = network.hosts[3].asked_for_checkpoints;
    assert!((1..200).contains(&asked), "{asked} times");
    network.hosts[3].conduct = Conduct::Honest;
    network.settle();
}

#[test]
fn proposals_that_do_not_hold_are_refused_and_the_next_proposer_decides() {
    let flaws = [
        Flaw::State,
        Flaw::Claims,
        Flaw::History,
        Flaw::Past,
        Flaw::Future,
        Flaw::Epoch,
        Flaw::Empty,
    ];
    for flaw in flaws {
        let mut network = with_liar(Conduct::Proposes(flaw), 2);
        let refused = |i: usize| {
            let metrics = network.node(i).ledger_metrics();
            metrics.is_some_and(|m| m.proposals_refused + m.votes_refused > 0)
        };
        assert!((0..3).any(refused), "{flaw:?}");
        assert!(network.height(0) >= 6, "{flaw:?}");
        assert!(network.witness.rounds.values().any(|round| *round > 0), "{flaw:?}");
        network.hosts[3].conduct = Conduct::Honest;
        network.settle();
    }
}

#[test]
fn two_votes_in_one_step_are_kept_as_evidence() {
    let mut network = with_liar(Conduct::VotesTwice, 3);
    for index in 0..3 {
        let kinds = network.evidence_of(index, 3);
        assert!(kinds.contains(&OffenceKind::Prevotes), "{kinds:?}");
        let liar = OperatorIndex(3);
        let told = |n: &Notice| matches!(n, Notice::VoteEquivocation(by) if *by == liar);
        assert!(network.hosts[index].notices.iter().any(told));
    }
    network.hosts[3].conduct = Conduct::Silent;
    network.settle();
}

#[test]
fn two_proposals_in_one_round_are_kept_as_evidence() {
    let mut network = with_liar(Conduct::ProposesTwice, 4);
    let kinds = |n: &Network, i| n.evidence_of(i, 3);
    assert!((0..3).any(|i| kinds(&network, i).contains(&OffenceKind::Proposals)));
    network.hosts[3].conduct = Conduct::Silent;
    network.settle();
}

fn garbage(network: &mut Network, number: u64) -> Change {
    let mut signed = network.give(7, 6, 1);
    signed.operation.fee_max = Amount(u128::from(number));
    let volume = VolumeId { book: BookId::Network, volume: 0 };
    let (author, previous) = (network.hosts[3].peer, ChangeId::default());
    let operations = List::truncated([signed]);
    Change { volume, author, number: 1, previous, operations, signature: [0; 64] }
}

#[test]
fn a_flood_of_garbage_is_its_senders_own() {
    let mut network = Network::new(&Plan::of(4));
    network.hosts[3].conduct = Conduct::Silent;
    network.pass(seconds(1));
    for number in 0..40 {
        // The author's signature holds in every second one, the operation's in none.
        let change = garbage(&mut network, number);
        let signed = network.sign_change(&network.hosts[3], change.clone());
        let change = if number % 2 == 0 { change } else { signed };
        network.say(3, &[0], &Gossip::Change(Box::new(change)));
        network.pass(millis(50));
    }
    assert!(network.hosts[0].banned.contains(&network.hosts[3].peer));
    assert!(network.hosts[0].disk.pending.is_empty());
    for by in 0..4 {
        let signed = network.give(by, by + 1, 1);
        network.submit(usize::from(by) % 3, signed);
    }
    network.settle();
}

/// Those who pass a forged vote on can't be told from who made it, before it's verified: honest nodes once banned each other
/// for it.
#[test]
fn forged_votes_do_not_make_honest_nodes_ban_each_other() {
    let mut network = Network::new(&Plan::of(4));
    network.hosts[3].conduct = Conduct::Silent;
    for number in 0..60_u8 {
        network.load(1);
        network.pass(millis(300));
        let height = Height(network.height(0) + 1);
        for signature in [VoteSignature::Prevote([9; 64]), VoteSignature::Precommit([9; 96])] {
            let operator = OperatorIndex(u16::from(number % 4));
            let header = Some(HeaderId([number; 32]));
            let vote = Vote { height, round: 0, header, operator, signature };
            let message = consensus(Second::of(network.now), &ConsensusMessage::Vote(vote));
            network.say(3, &[usize::from(number % 3)], &message);
        }
    }
    network.settle();
}

#[test]
fn precommits_with_another_ones_signature_do_not_make_honest_nodes_ban_each_other() {
    let mut network = Network::new(&Plan::of(4));
    network.hosts[3].conduct = Conduct::Silent;
    for number in 0..60_u8 {
        network.load(1);
        network.pass(millis(300));
        let height = Height(network.height(0) + 1);
        let header = Some(HeaderId([number; 32]));
        let signature = VoteSignature::Precommit([0; 96]);
        let operator = OperatorIndex(3);
        let vote = Vote { height, round: 0, header, operator, signature };
        let mut vote = network.signed(&network.hosts[3], vote);
        vote.operator = OperatorIndex(u16::from(number % 3));
        let message = consensus(Second::of(network.now), &ConsensusMessage::Vote(vote));
        network.say(3, &[usize::from(number % 3)], &message);
    }
    network.settle();
}

#[test]
fn changes_of_volumes_that_are_closed_or_not_yet_open_are_not_taken() {
    let mut network = Network::new(&Plan::of(4));
    network.hosts[3].conduct = Conduct::Silent;
    for _ in 0..55 {
        network.load(40);
        network.pass(millis(500));
    }
    network.hosts[3].conduct = Conduct::Honest;
    network.settle();
    assert_eq!(network.hosts[0].disk.closed.len(), 1);
    network.hosts[3].conduct = Conduct::Silent;
    for volume in [0, 2, 7] {
        let signed = network.give(7, 6, 1);
        let change = Change {
            volume: VolumeId { book: BookId::Network, volume },
            author: network.hosts[3].peer,
            number: 1,
            previous: ChangeId::default(),
            operations: List::truncated([signed]),
            signature: [0; 64],
        };
        let change = network.sign_change(&network.hosts[3], change);
        network.say(3, &[0, 1, 2], &Gossip::Change(Box::new(change)));
    }
    network.pass(seconds(2));
    assert!((0..3).all(|index| network.hosts[index].disk.pending.is_empty()));
}

/// Its predecessor never comes, so nothing in it will ever be final by it.
#[test]
fn a_change_that_waits_forever_keeps_nobody_from_carrying_what_is_in_it() {
    let mut network = Network::new(&Plan { hosts: 5, ..Plan::of(4) });
    network.hosts[3].conduct = Conduct::Withholds;
    network.pass(seconds(1));
    let operations: Vec<_> = (0..32).map(|i| network.give(i % 8, (i + 1) % 8, 1)).collect();
    for signed in &operations {
        network.submit(4, signed.clone());
    }
    network.pass(millis(100));
    let change = Change {
        volume: VolumeId { book: BookId::Network, volume: 0 },
        author: network.hosts[3].peer,
        number: 2,
        previous: ChangeId([9; 32]),
        operations: List::truncated(operations),
        signature: [0; 64],
    };
    let change = network.sign_change(&network.hosts[3], change);
    network.say(3, &[0, 1, 2], &Gossip::Change(Box::new(change)));
    // Nor does the one who handed them on say them again.
    network.kill(4);
    let has = |n: &Network, i: usize, id: &OperationId| n.hosts[i].disk.receipts.contains_key(id);
    network.until(seconds(20), "others carry it", |n| {
        n.wishes.iter().all(|wish| (0..3).all(|i| has(n, i, &wish.id)))
    });
    network.settle();
    network.assert_applied();
}

/// An author may have something that isn't final in 64 books. One that shows each node others would keep them from ever
/// holding the same, if what a cut needs didn't come first.
#[test]
fn more_books_than_an_author_may_write_into_do_not_keep_nodes_apart() {
    let mut network = Network::new(&Plan::of(4));
    network.hosts[3].conduct = Conduct::Silent;
    network.pass(seconds(1));
    for (part, to) in [(1, &[0, 1][..]), (2, &[2][..])] {
        for book in 0..64 {
            let mut id = [part; 32];
            id[1] = book;
            let service = ServiceId(id);
            let signed = network.sign(7, Action::OptIn { service });
            let change = Change {
                volume: VolumeId { book: BookId::Service(service), volume: 0 },
                author: network.hosts[3].peer,
                number: 1,
                previous: ChangeId::default(),
                operations: List::truncated([signed]),
                signature: [0; 64],
            };
            let change = network.sign_change(&network.hosts[3], change);
            network.say(3, to, &Gossip::Change(Box::new(change)));
        }
    }
    for by in 0..6 {
        let signed = network.give(by, by + 1, 1);
        network.submit(usize::from(by) % 3, signed);
    }
    network.settle();
    let finals = &network.hosts[0].disk.changes;
    assert!(finals.keys().filter(|(_, author, _)| *author == network.hosts[3].peer).count() >= 64);
}

/// What goes wrong, and when it has gone on for a while.
#[derive(Debug, Clone)]
enum Fault {
    Kill(usize),
    Restart(usize),
    RestartAll,
    Partition([u8; 4]),
    Lose(u64),
    Heal,
}

fn faults() -> impl Strategy<Value = Vec<(Fault, u64, usize)>> {
    let fault = prop_oneof![
        3 => (0..4usize).prop_map(Fault::Kill),
        3 => (0..4usize).prop_map(Fault::Restart),
        1 => Just(Fault::RestartAll),
        2 => proptest::array::uniform4(0..2u8).prop_map(Fault::Partition),
        1 => (0..30u64).prop_map(Fault::Lose),
        2 => Just(Fault::Heal),
    ];
    proptest::collection::vec((fault, 0..4000u64, 0..5usize), 1..12)
}

fn go_through(seed: u64, schedule: Vec<(Fault, u64, usize)>) {
    let mut network = Network::new(&Plan { seed, hosts: 5, ..Plan::of(4) });
    for (fault, lasts_ms, load) in schedule {
        match fault {
            Fault::Kill(index) if network.running().contains(&index) => network.kill(index),
            Fault::Kill(index) => network.start(index),
            Fault::Restart(index) if network.running().contains(&index) => network.restart(index),
            Fault::Restart(_) => {}
            Fault::RestartAll => network.running().into_iter().for_each(|i| network.restart(i)),
            Fault::Partition([a, b, c, d]) => network.partition(&[a, b, c, d, a]),
            Fault::Lose(percent) => (network.loss, network.duplicate) = (percent, percent),
            Fault::Heal => network.heal(),
        }
        network.load(load);
        network.pass(millis(lasts_ms));
    }
    network.settle();
    network.assert_applied();
}

/// `LAMINA_LEDGER_CASES` for more than a few.
fn cases() -> u32 {
    std::env::var("LAMINA_LEDGER_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(12)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        max_shrink_iters: 60,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens_nothing_acknowledged_is_lost(seed: u64, schedule in faults()) {
        go_through(seed, schedule);
    }
}
