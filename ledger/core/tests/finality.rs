//! Finality, as stories of a network in virtual time.

mod finality_network;

use std::sync::Arc;
use std::time::Duration;

use finality_network::{Conduct, Keys, Network, WRONG, engine, operator_set, value};
use lamina_ledger::finality::{
    Config, ConsensusMessage, Engine, Equivocation, Input, Output, Proposal, Step, Vote,
    VoteSignature,
};
use lamina_types::{Canonical as _, Digest, HeaderId, Height, OperatorIndex, PeerKey, Timestamp};
use proptest::prelude::*;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn four_operators_decide_twenty_heights_in_a_round_each() {
    let mut network = Network::new(4, 1);
    network.run_to(20, MINUTE);
    let decided = &network.nodes[0].decided;
    assert!(decided.values().all(|checkpoint| checkpoint.certificate.round == 0));
    assert!(network.elapsed() < Duration::from_secs(20), "{:?}", network.elapsed());
    assert!(network.offences.is_empty(), "{:?}", network.offences);
    assert!(network.equivocations.is_empty());
    assert!(network.judged.values().all(|times| *times == 1));
    // The precommits that were under way are gathered.
    let signers = decided.values().map(|c| c.certificate.signers.count()).sum::<usize>();
    assert!(signers > 70, "{signers} of 80");
}

#[test]
fn the_same_seed_makes_the_same_trace() {
    let run = |seed| {
        let mut network = Network::new(4, seed);
        network.loss = 10;
        network.run_to(3, 5 * MINUTE);
        network.trace
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn one_of_four_may_be_down() {
    let mut network = Network::new(4, 2);
    network.crash(3);
    network.run_to(8, 2 * MINUTE);
    network.nodes[3].alive = true;
    network.restart(3);
    network.run_to(10, MINUTE);
}

#[test]
fn two_of_four_may_not() {
    let mut network = Network::new(4, 2);
    network.run_to(2, MINUTE);
    network.crash(2);
    network.crash(3);
    network.run_for(5 * MINUTE);
    assert!(network.height() <= 3);
    network.restart(2);
    network.restart(3);
    network.run_to(6, 2 * MINUTE);
}

/// At each entry of its log an operator dies; nothing that it had not synced had left.
#[test]
fn who_dies_at_any_log_entry_comes_back_without_a_second_vote() {
    for loss in [0, 15] {
        for entries in 1..=22 {
            let mut network = Network::new(4, entries as u64);
            network.loss = loss;
            network.nodes[1].dies_after = Some(entries);
            network.run_to(3, 5 * MINUTE);
            let logged = network.nodes[1].logged;
            assert!(logged >= entries || loss > 0, "{logged} entries");
            assert!(network.equivocations.is_empty());
        }
    }
}

/// The worst that is allowed at once: one of four lies, another one dies in the middle, messages get lost and changed.
/// `LAMINA_SEEDS` sets how many runs.
#[test]
fn a_liar_a_crash_and_loss_together_cost_time_only() {
    let conducts =
        [Conduct::VotesTwice, Conduct::ProposesTwice, Conduct::SignsBadly, Conduct::ProposesWrong];
    let seeds = std::env::var("LAMINA_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(12);
    for seed in 0..seeds {
        let mut network = Network::new(4, seed);
        network.loss = seed % 4 * 6;
        network.garbled = seed % 3 * 10;
        network.nodes[2].conduct = conducts[usize::try_from(seed).unwrap() % 4];
        network.nodes[1].dies_after = Some(usize::try_from(seed * 7 % 29).unwrap() + 1);
        network.run_to(4, 10 * MINUTE);
        let liar = |both: &Equivocation| both.operator() == OperatorIndex(2);
        assert!(network.equivocations.iter().all(liar), "seed {seed}");
    }
}

/// All die and come back, over and over, with no more than their logs.
#[test]
fn everyone_may_die_at_once() {
    let mut network = Network::new(4, 5);
    for _ in 0..12 {
        network.run_for(Duration::from_millis(130));
        (0..4).for_each(|node| network.crash(node));
        (0..4).for_each(|node| network.restart(node));
    }
    let height = network.height();
    network.run_to(height + 2, 2 * MINUTE);
    assert!(network.equivocations.is_empty());
}

/// Without its log, what peers repeat is all that an operator knows of its own votes: it must not contradict that.
#[test]
fn an_own_vote_that_comes_back_from_a_peer_is_not_contradicted() {
    let set = Arc::new(operator_set(&[1, 1, 1, 1]));
    let me = Keys::of(3);
    let mut own = Vote {
        height: Height(1),
        round: 0,
        header: Some(HeaderId([9; 32])),
        operator: OperatorIndex(2),
        signature: VoteSignature::Prevote([0; 64]),
    };
    me.sign(&mut own);
    let mut engine = engine(&me, true, 1, Config::default());
    engine.start(Timestamp(0), Height(1), set, Vec::new());
    let message = ConsensusMessage::Vote(own);
    engine.handle(Timestamp(1), Input::Message { from: PeerKey([1; 32]), message });
    engine.handle(engine.next_deadline().unwrap() + MINUTE, Input::Tick);
    let votes = published(&mut engine);
    assert!(votes.is_empty(), "{votes:?}");
}

#[test]
fn halves_stop_and_go_on_when_healed() {
    let mut network = Network::new(4, 3);
    network.run_to(2, MINUTE);
    network.groups = vec![0, 0, 1, 1];
    network.run_for(MINUTE);
    assert!(network.height() <= 3);
    let height = network.height();
    network.groups = vec![0; 4];
    network.run_to(height + 4, 3 * MINUTE);
}

#[test]
fn who_was_cut_off_alone_catches_up() {
    let mut network = Network::new(4, 4);
    network.run_to(2, MINUTE);
    network.groups = vec![0, 0, 0, 1];
    network.run_for(MINUTE / 2);
    assert!(network.nodes[0].next_height() > Height(8));
    assert!(network.nodes[3].next_height() <= Height(4));
    network.groups = vec![0; 4];
    let height = network.nodes[0].next_height().0;
    network.run_to(height + 3, 2 * MINUTE);
}

#[test]
fn lost_messages_cost_time_only() {
    for (loss, seed) in [(10, 1), (20, 2), (20, 3)] {
        let mut network = Network::new(4, seed);
        network.loss = loss;
        network.run_to(8, 10 * MINUTE);
    }
}

#[test]
fn who_votes_twice_is_named_and_outvoted() {
    let mut network = Network::new(4, 6);
    network.nodes[3].conduct = Conduct::VotesTwice;
    network.run_to(8, 5 * MINUTE);
    assert!(!network.equivocations.is_empty());
    let votes = |both: &Equivocation| matches!(both, Equivocation::Votes(..));
    assert!(network.equivocations.iter().all(votes));
    assert!(network.equivocations.iter().all(|both| both.operator() == OperatorIndex(3)));
    for step in [Step::Prevote, Step::Precommit] {
        let of =
            |both: &Equivocation| matches!(both, Equivocation::Votes(a, _) if a.step() == step);
        assert!(network.equivocations.iter().any(of), "none of a {step:?}");
    }
}

#[test]
fn who_proposes_twice_is_named_and_one_value_is_decided() {
    let mut network = Network::new(4, 7);
    network.nodes[2].conduct = Conduct::ProposesTwice;
    network.run_to(8, 5 * MINUTE);
    assert!(!network.equivocations.is_empty());
    let proposals = |both: &Equivocation| matches!(both, Equivocation::Proposals(..));
    assert!(network.equivocations.iter().all(proposals));
    assert!(network.equivocations.iter().all(|both| both.operator() == OperatorIndex(2)));
}

#[test]
fn bad_precommits_are_told_from_good_ones_in_their_batch() {
    let mut network = Network::new(7, 8);
    network.nodes[4].conduct = Conduct::SignsBadly;
    network.run_to(5, MINUTE);
    let offender = network.nodes[4].keys.peer();
    assert_eq!(network.set.index_of_peer(&offender), Some(OperatorIndex(4)));
    assert_eq!(network.offences.keys().collect::<Vec<_>>(), [&offender]);
    let others = network.nodes.iter().filter(|node| node.keys.peer() != offender);
    for checkpoint in others.flat_map(|node| node.decided.values()) {
        // Its own engine knows its good signature, and may have told another node its checkpoint.
        assert!(checkpoint.certificate.signers.count() >= 5);
    }
}

#[test]
fn a_wrong_value_is_not_decided_and_another_one_is() {
    let mut network = Network::new(4, 9);
    network.nodes[1].conduct = Conduct::ProposesWrong;
    network.run_to(8, 2 * MINUTE);
    let decided = &network.nodes[0].decided;
    assert!(decided.values().all(|checkpoint| checkpoint.header.state != WRONG));
    // It's its turn at heights 1 and 5.
    assert!(decided[&Height(1)].certificate.round > 0);
    assert!(decided[&Height(5)].certificate.round > 0);
}

#[test]
fn an_observer_decides_without_a_word() {
    let mut network = Network::with(&[1, 1, 1, 1], 1, 10);
    network.run_to(5, MINUTE);
    assert_eq!(network.nodes[4].logged, 0);
    assert_eq!(network.nodes[4].decided.len(), 5);
}

#[test]
fn one_operator_decides_alone() {
    let mut network = Network::new(1, 11);
    network.run_to(10, MINUTE);
    assert_eq!(network.nodes[0].decided[&Height(10)].certificate.signers.count(), 1);
}

#[test]
fn stake_counts_and_not_heads() {
    let mut network = Network::with(&[u64::MAX / 2, 1 << 60, 1 << 60, 1], 0, 12);
    network.crash(1);
    network.crash(2);
    network.crash(3);
    network.run_to(3, 5 * MINUTE);
    network.restart(1);
    network.restart(2);
    network.restart(3);
    network.run_to(5, 5 * MINUTE);
    network.crash(0);
    let height = network.height();
    network.run_for(2 * MINUTE);
    assert!(network.height() <= height + 1);
    network.restart(0);
    network.run_to(height + 3, 5 * MINUTE);
}

#[test]
fn garbled_copies_change_nothing() {
    let mut network = Network::new(4, 13);
    network.garbled = 50;
    network.run_to(6, 2 * MINUTE);
    assert!(network.equivocations.is_empty());
    assert!(!network.offences.is_empty());
}

/// An operator may vote in as many rounds as it likes: the others keep ten ahead.
#[test]
fn votes_of_far_rounds_are_dropped_and_a_third_s_certificate_is_not() {
    let set = Arc::new(operator_set(&[1, 1, 1, 1]));
    let mut engine = engine(&Keys::of(1), true, 1, Config::default());
    engine.start(Timestamp(0), Height(1), Arc::clone(&set), Vec::new());
    let vote = |operator: u16, round| {
        let keys = Keys::of(u8::try_from(operator + 1).unwrap());
        let operator = OperatorIndex(operator);
        let signature = VoteSignature::Prevote([0; 64]);
        let mut vote = Vote { height: Height(1), round, header: None, operator, signature };
        keys.sign(&mut vote);
        vote
    };
    let from = PeerKey([1; 32]);
    for operator in [1, 2, 3] {
        let message = ConsensusMessage::Vote(vote(operator, 500));
        engine.handle(Timestamp(1), Input::Message { from, message });
    }
    assert_eq!(engine.round(), 0);
    let votes = [1, 2].map(|operator| {
        let Vote { operator, header, signature, .. } = vote(operator, 500);
        lamina_ledger::finality::RoundVote { operator, header, signature }
    });
    let certificate = |votes: &[lamina_ledger::finality::RoundVote]| {
        let votes = lamina_types::List::new(votes.to_vec()).unwrap();
        let (height, round, skip) = (Height(1), 500, true);
        let certificate = lamina_ledger::finality::RoundCertificate { height, round, skip, votes };
        ConsensusMessage::Rounds(certificate)
    };
    let twice = certificate(&[votes[0].clone(), votes[0].clone()]);
    engine.handle(Timestamp(2), Input::Message { from, message: twice });
    assert_eq!(engine.round(), 0);
    engine.handle(Timestamp(2), Input::Message { from, message: certificate(&votes) });
    assert_eq!(engine.round(), 500);
}

#[test]
fn what_cannot_be_right_is_the_sender_s_offence() {
    let good = || {
        let value = value(Height(1), Timestamp(5), Digest([1; 32]));
        let (height, proposer) = (Height(1), OperatorIndex(1));
        let mut proposal =
            Proposal { height, round: 0, valid_round: None, value, proposer, signature: [0; 64] };
        Keys::of(2).sign_proposal(&mut proposal);
        proposal
    };
    let mut others = Vec::new();
    others.push(Proposal { proposer: OperatorIndex(2), ..good() });
    others.push(Proposal { valid_round: Some(0), ..good() });
    others.push(Proposal { signature: [7; 64], ..good() });
    let mut epoch = good();
    epoch.value.header.epoch.0 += 1;
    others.push(epoch);
    let mut cut = good();
    let book = lamina_types::BookCut {
        book: lamina_types::BookId::Network,
        volume: 0,
        lanes: lamina_types::List::truncated([]),
    };
    cut.value.cut.books = lamina_types::List::truncated([book]);
    others.push(cut);
    let set = Arc::new(operator_set(&[1, 1, 1, 1]));
    let mut engine = engine(&Keys::of(1), true, 1, Config::default());
    engine.start(Timestamp(0), Height(1), set, Vec::new());
    for proposal in others {
        let message = ConsensusMessage::Proposal(Box::new(proposal));
        engine.handle(Timestamp(1), Input::Message { from: PeerKey([1; 32]), message });
        let outputs: Vec<_> = std::iter::from_fn(|| engine.poll()).collect();
        assert!(matches!(outputs[..], [Output::Offence(..)]), "{outputs:?}");
    }
    let message = ConsensusMessage::Proposal(Box::new(good()));
    engine.handle(Timestamp(1), Input::Message { from: PeerKey([1; 32]), message });
    let outputs: Vec<_> = std::iter::from_fn(|| engine.poll()).collect();
    assert!(outputs.iter().any(|output| matches!(output, Output::Judge { .. })), "{outputs:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), kind in 0u8..4) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() { *first = kind; }
        if let Ok(message) = ConsensusMessage::from_bytes(&bytes) {
            prop_assert_eq!(message.to_bytes(), bytes);
            let mut engine = engine(&Keys::of(1), true, 1, Config::default());
            engine.start(Timestamp(0), message.height(), Arc::new(operator_set(&[1])), Vec::new());
            engine.handle(Timestamp(1), Input::Message { from: PeerKey([1; 32]), message });
            engine.handle(Timestamp(10_000_000), Input::Tick);
        }
    }
}

/// Messages of a real run with some bytes changed, out of order and repeated, to an engine of the same height.
#[test]
fn no_changed_message_makes_it_panic() {
    let mut network = Network::new(4, 14);
    network.loss = 20;
    network.run_to(2, 5 * MINUTE);
    let messages: Vec<_> = network.published.iter().map(ConsensusMessage::to_bytes).collect();
    let set = Arc::clone(&network.set);
    let change = (0..messages.len(), 0usize..400, any::<u8>());
    let changes = proptest::collection::vec(change, 1..30);
    let config = ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let result = runner.run(&changes, |changes| {
        let mut engine = engine(&Keys::of(1), true, 1, Config::default());
        engine.start(Timestamp(0), Height(1), Arc::clone(&set), Vec::new());
        for (now, (message, at, byte)) in (1..).zip(changes) {
            let mut bytes = messages[message].clone();
            if let Some(old) = bytes.get_mut(at) {
                *old = byte;
            }
            let Ok(message) = ConsensusMessage::from_bytes(&bytes) else { continue };
            let now = Timestamp(now * 100_000);
            engine.handle(now, Input::Message { from: PeerKey([1; 32]), message });
        }
        Ok(())
    });
    result.unwrap();
}

/// The votes that it published.
fn published(engine: &mut Engine) -> Vec<Vote> {
    let vote = |output| match output {
        Output::Publish(ConsensusMessage::Vote(vote)) => Some(vote),
        _ => None,
    };
    std::iter::from_fn(|| engine.poll())
        .filter_map(vote)
        .filter(|v| v.step() == Step::Prevote)
        .collect()
}
