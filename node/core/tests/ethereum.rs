//! Deposits on Ethereum reach the ledger of every node once, whatever each sees of the chain, and when.

mod ledger_network;

use std::time::Duration;

use lamina_certificate::HandoverFile;
use lamina_ledger::state::Scope;
use lamina_ledger::state::bank::{self, Holder};
use lamina_ledger::state::claims;
use lamina_types::Asset;
use ledger_network::{Conduct, DEPOSIT, Flaw, Network, Plan, STRIDE, address, millis, seconds};
use proptest::prelude::*;

/// Longer than a node knows a block before it proposes it, and a few rounds.
const CREDITED: Duration = Duration::from_secs(30);

/// A network where nothing happens by itself for long.
fn quiet() -> Network {
    Network::new(&Plan { ethereum: true, idle_interval: seconds(3_000), ..Plan::of(4) })
}

fn balance(network: &Network, host: usize, account: u8) -> u128 {
    let holder = Holder::Account { account: address(account) };
    let scope = Scope::new(&network.hosts[host].disk.state);
    bank::balance(&scope, &holder, Asset::Ether).expect("in memory").0
}

/// How many deposits a node has credited.
fn credited(network: &Network, host: usize) -> usize {
    let scope = Scope::new(&network.hosts[host].disk.state);
    let deposits = network.ethereum.iter().flat_map(|stride| &stride.deposits);
    let is_credited = |id| claims::credit(&scope, id).expect("in memory").is_some();
    deposits.filter(|(id, _)| is_credited(id)).count()
}

fn named(network: &Network, host: usize) -> u64 {
    network.hosts[host].disk.tip().header.ethereum.number
}

#[test]
fn a_deposit_makes_a_checkpoint_though_nobody_writes() {
    let mut network = quiet();
    network.mine(&[]);
    network.pass(seconds(20));
    assert_eq!(network.height(0), 0, "a block alone is no reason for a checkpoint");
    network.mine(&[(0, 5), (1, 7), (0, 11)]);
    let done = |network: &Network| (0..4).all(|host| credited(network, host) == 3);
    network.until(CREDITED, "all have credited", done);
    network.settle();
    for host in 0..4 {
        assert_eq!(network.height(host), 1);
        assert_eq!(named(&network, host), 2 * STRIDE);
        assert_eq!(balance(&network, host, 0), DEPOSIT + 16);
        assert_eq!(balance(&network, host, 1), DEPOSIT + 7);
    }
    let rounds = network.witness.rounds.values().copied().max();
    assert_eq!(rounds, Some(0), "all knew the block in time");
}

#[test]
fn who_sees_a_block_later_waits_and_the_others_go_on_without_who_never_does() {
    let mut network = quiet();
    network.hosts[1].ethereum_lag = seconds(6);
    network.hosts[2].ethereum_lag = seconds(100);
    network.mine(&[(0, 5)]);
    let done = |network: &Network| [0, 1, 3].iter().all(|host| credited(network, *host) == 1);
    network.until(CREDITED * 2, "three have credited", done);
    assert_eq!(credited(&network, 2), 0, "it can't know what to credit");
    assert_eq!(network.height(2), 0);
    network.mine(&[(1, 7)]);
    network.load(5);
    network.until(seconds(300), "all have credited", |network| {
        (0..4).all(|host| credited(network, host) == 2)
    });
    network.settle();
    network.assert_applied();
}

#[test]
fn a_block_that_does_not_exist_is_never_decided() {
    for flaw in [Flaw::Block, Flaw::BlockHash] {
        let mut network = Network::new(&Plan { ethereum: true, ..Plan::of(4) });
        network.hosts[3].conduct = Conduct::Proposes(flaw);
        for i in 0..20 {
            network.load(2);
            network.mine(&[(i % 8, 1)]);
            network.pass(seconds(2));
        }
        assert!(network.witness.rounds.values().any(|round| *round > 0), "{flaw:?}");
        network.hosts[3].conduct = Conduct::Honest;
        network.pass(CREDITED);
        network.settle();
        network.assert_applied();
        for header in network.witness.headers_from(1) {
            let block = header.ethereum;
            let known = network.ethereum.iter().any(|stride| stride.block == block);
            assert!(known || block.number == 0, "{flaw:?}: {block:?}");
        }
        for host in 0..4 {
            assert_eq!(credited(&network, host), 20, "{flaw:?}");
        }
    }
}

#[test]
fn who_was_down_for_long_credits_the_same() {
    let mut network = quiet();
    network.kill(3);
    for i in 0..10 {
        network.mine(&[(i % 8, 3)]);
        network.pass(seconds(8));
    }
    assert_eq!(credited(&network, 3), 0);
    network.start(3);
    network.until(CREDITED * 2, "all have credited", |network| {
        (0..4).all(|host| credited(network, host) == 10)
    });
    network.settle();
}

/// The consensus that had begun over a deposit goes on after a restart before anyone knows of the deposit again. Proposals
/// without a reason were made then, kept as evaluated, and proposed for ever after.
#[test]
fn nodes_that_restart_before_they_hear_of_ethereum_go_on_once_they_do() {
    // One that proposes first, too, and has nothing to propose.
    for late in 0..4 {
        let mut network = quiet();
        network.partition(&[0, 1, 2, 3]);
        network.hosts[late].ethereum_lag = seconds(300);
        network.mine(&[(0, 5)]);
        network.pass(seconds(12));
        for host in 0..4 {
            assert_eq!(network.hosts[host].disk.log.is_empty(), host == late, "{host} has begun");
            network.kill(host);
            network.hosts[host].ethereum_lag = seconds(60);
        }
        network.heal();
        (0..4).for_each(|host| network.start(host));
        network.pass(seconds(50));
        assert!((0..4).all(|host| network.height(host) == 0), "there's no reason yet");
        network.until(CREDITED * 4, "all have credited", |network| {
            (0..4).all(|host| credited(network, host) == 1)
        });
        network.settle();
    }
}

#[test]
fn operators_that_ethereum_snapshots_take_over_one_checkpoint_later() {
    let mut network = Network::new(&Plan { ethereum: true, hosts: 6, ..Plan::of(4) });
    network.load(4);
    network.pass(seconds(4));
    network.roll(&[2, 3, 4, 5]);
    let epoch = |network: &Network, number: u64| {
        (0..6).all(|host| network.hosts[host].disk.tip().header.epoch.0 == number)
    };
    assert!(epoch(&network, 0));
    let mut step = 0;
    while !epoch(&network, 1) {
        network.load(1);
        network.pass(seconds(1));
        step += 1;
        assert!(step < 60, "{}", network.describe());
    }
    let headers = network.witness.headers_from(1);
    let first = headers.iter().position(|header| header.epoch.0 == 1).unwrap();
    let (last, first) = (headers[first - 1], headers[first]);
    assert_ne!(last.next_operators, last.operators);
    assert_eq!(last.next_operators, first.operators);
    // Those who left aren't needed any more, and those who came are.
    network.kill(0);
    network.kill(1);
    network.load(10);
    let height = network.height(5);
    network.pass(seconds(10));
    assert!(network.height(5) > height, "{}", network.describe());
    network.settle();
    network.assert_applied();
}

#[test]
fn a_snapshot_is_followed_by_who_hears_of_it_late_or_was_away() {
    let mut network = Network::new(&Plan { ethereum: true, hosts: 5, ..Plan::of(4) });
    network.hosts[3].ethereum_lag = seconds(25);
    network.kill(4);
    for operators in [vec![0, 1, 2, 3, 4], vec![1, 2, 3, 4], vec![0, 1, 2, 3]] {
        network.roll(&operators);
        for _ in 0..8 {
            network.load(2);
            network.pass(seconds(2));
        }
    }
    network.settle();
    network.load(1);
    network.until(CREDITED * 4, "all are in the last epoch", |network| {
        (0..5).all(|host| network.hosts[host].disk.tip().header.epoch.0 == 3)
    });
    network.settle();
    network.assert_applied();
    let tip = network.hosts[4].disk.tip();
    assert_eq!(network.hosts[4].disk.handovers.len(), 3);
    for (host, handovers) in network.hosts.iter().map(|host| &host.disk.handovers).enumerate() {
        assert_eq!(handovers, &network.hosts[0].disk.handovers, "{host}");
    }
    let file = HandoverFile::new(network.hosts[4].disk.handovers.values().cloned().collect());
    let epochs = file.unwrap().epochs(&network.genesis).unwrap();
    assert_eq!(epochs.last().unwrap().1.root(), tip.header.operators);
}

#[test]
fn a_long_absence_of_everyone_is_made_up_for_in_steps() {
    let mut network = quiet();
    network.partition(&[0, 1, 2, 3]);
    for i in 0..1_500 {
        let deposits = if i == 1_400 { vec![(0, 9)] } else { Vec::new() };
        network.mine(&deposits);
    }
    network.pass(seconds(30));
    network.heal();
    network.until(seconds(200), "all have credited", |network| {
        (0..4).all(|host| credited(network, host) == 1)
    });
    network.settle();
}

#[test]
fn a_network_without_contracts_names_no_block() {
    let mut network = Network::new(&Plan::of(4));
    network.mine(&[(0, 5)]);
    network.load(5);
    network.pass(seconds(30));
    for header in network.witness.headers_from(1) {
        assert_eq!(header.ethereum.number, 0);
    }
    assert_eq!(balance(&network, 0, 0) / DEPOSIT, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Lags, kills and losses: deposits are credited once, operators change, and everywhere alike.
    #[test]
    fn deposits_are_credited_once_whatever_the_timing(
        seed: u64,
        lags in prop::collection::vec(0_u64..20_000, 4),
        deeds in prop::collection::vec((0_u8..9, 0_usize..4), 8..24),
    ) {
        let mut network = Network::new(&Plan { seed, ethereum: true, ..Plan::of(4) });
        for (host, lag) in network.hosts.iter_mut().zip(lags) {
            host.ethereum_lag = millis(lag);
        }
        network.loss = 5;
        for (deed, host) in deeds {
            match deed {
                0 if network.running().len() == 4 => network.kill(host),
                1 if network.hosts[host].node.is_none() => network.start(host),
                2..=4 => network.load(2),
                // Three of four, so that others than those who were there are needed.
                8 => network.roll(&[host, (host + 1) % 4, (host + 2) % 4]),
                _ => network.mine(&[(deed, 1), ((deed + 1) % 8, 2)]),
            }
            network.pass(seconds(2));
        }
        network.settle();
        let all = network.ethereum.iter().map(|stride| stride.deposits.len()).sum::<usize>();
        network.until(seconds(200), "all is credited", |network| {
            (0..4).all(|host| credited(network, host) == all)
        });
        network.settle();
    }
}
