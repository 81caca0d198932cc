//! What checkpoints come to: order, sequence numbers, fees, timers, and value that neither comes nor goes.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{
    Alarm, Alarms, FEES, FOREVER, Network, RING_AFTER, alarm, give, modules, receipt, refusal, take,
};
use lamina_certificate::FeeSchedule;
use lamina_ledger::StateReader;
use lamina_ledger::state::bank::Holder;
use lamina_ledger::state::claims::Credit;
use lamina_ledger::state::{
    CURRENT_KEY, CheckpointInput, Current, Machine, Refusal, TIMERS_MAX, next_timer,
};
use lamina_ledger::testing::MemoryState;
use lamina_types::{
    Action, Address, Amount, Asset, Canonical, Digest, EpochNumber, Height, OPERATION_BYTES_MAX,
    Operation, OperationId, ServiceId, SignedOperation, TaskId, Timestamp,
};
use proptest::prelude::*;

#[test]
fn genesis_gives_deposits_and_begins_modules() {
    let network = Network::new();
    assert_eq!((network.balance(1), network.balance(0)), (common::DEPOSIT, 0));
    assert_eq!(network.supply(), 4 * common::DEPOSIT);
    assert_eq!(network.state.version(), 0);
    assert_eq!(
        network.state.get(b"recorder/deposits").unwrap(),
        Some(vec![4, 0, 0, 0, 0, 0, 0, 0])
    );
    assert_eq!(network.state.get(b"recorder/begun").unwrap(), Some(vec![1, 0, 0, 0, 0, 0, 0, 0]));
    common::assert_conserved(&network.state);
}

#[test]
fn genesis_that_gives_more_than_there_can_be_is_an_error() {
    let mut genesis = common::genesis(FEES);
    genesis.ledger.deposits[0].amount = Amount(u128::MAX);
    let machine = Machine::new(genesis.signing_context(), FEES, modules());
    assert!(machine.genesis(&MemoryState::default(), &genesis).is_err());
}

#[test]
fn deposits_are_credited_once_and_can_be_spent_in_their_checkpoint() {
    let mut network = Network::new();
    let account = common::address(0);
    let deposit = |id: u8, amount: u128| {
        (Digest([id; 32]), Credit { account, asset: Asset::Ether, amount: Amount(amount) })
    };
    let spend = network.sign(0, 0, give(2, 500));
    let fee = network.fee(&spend);
    let mut input = network.input(std::slice::from_ref(&spend));
    // One more than there can be of an asset is left out, and keeps nobody from theirs.
    input.deposits = vec![deposit(1, fee), deposit(2, u128::MAX), deposit(3, 700), deposit(1, 9)];
    let executed = network.execute(&input);
    assert_eq!(receipt(&executed, network.id(&spend)).refusal, None);
    assert_eq!(network.balance(0), 200);
    let mut again = network.input(&[]);
    again.deposits = vec![deposit(3, 700)];
    network.execute(&again);
    assert_eq!(network.balance(0), 200);
}

#[test]
fn transfers_move_value_and_cost_fees() {
    let mut network = Network::new();
    let signed = network.sign(1, 0, give(2, 500));
    let fee = 100 + signed.to_bytes().len() as u128;
    assert_eq!(network.fee(&signed), fee);
    let executed = network.checkpoint(std::slice::from_ref(&signed));
    let receipt = receipt(&executed, network.id(&signed));
    assert_eq!((receipt.fee, &receipt.refusal), (Amount(fee), &None));
    assert_eq!((receipt.height, receipt.sequence), (Height(1), 0));
    assert_eq!(network.balance(1), common::DEPOSIT - 500 - fee);
    assert_eq!(network.balance(2), common::DEPOSIT + 500);
    assert_eq!(network.held(&Holder::Fees), fee);
}

#[test]
fn refused_actions_keep_the_fee_and_use_the_number() {
    let mut network = Network::new();
    let overdrawn = network.sign(1, 0, give(2, common::DEPOSIT));
    let unknown = network.sign(
        2,
        0,
        Action::Vote { proposal: lamina_types::ProposalId([1; 32]), approve: true },
    );
    let executed = network.checkpoint(&[overdrawn.clone(), unknown.clone()]);
    let fee = network.fee(&overdrawn);
    let expected = Refusal::Insufficient {
        asset: Asset::Ether,
        available: Amount(common::DEPOSIT - fee),
        needed: Amount(common::DEPOSIT),
    };
    assert_eq!(refusal(&executed, network.id(&overdrawn)), Some(expected));
    let expected = Refusal::invalid("this network doesn't know vote");
    assert_eq!(refusal(&executed, network.id(&unknown)), Some(expected));
    assert_eq!((network.next(1), network.next(2)), (1, 1));
    assert_eq!(network.balance(1), common::DEPOSIT - fee);
}

#[test]
fn what_an_action_did_before_it_was_refused_is_undone() {
    let mut network = Network::new();
    let service = ServiceId([5; 32]);
    let fund =
        Action::FundRewards { service, asset: Asset::Ether, amount: Amount(77), duration_s: 1 };
    let signed = network.sign(1, 0, fund);
    let executed = network.checkpoint(std::slice::from_ref(&signed));
    assert!(refusal(&executed, network.id(&signed)).is_some());
    assert_eq!(network.held(&Holder::Rewards { service }), 0);
    assert_eq!(network.balance(1), common::DEPOSIT - network.fee(&signed));
    assert_eq!(next_timer(&network.state), Ok(None));
}

#[test]
fn who_cannot_or_will_not_pay_the_fee_keeps_number_and_value() {
    let mut network = Network::new();
    let poor = network.sign(5, 0, give(1, 1));
    let stingy = network.sign_with(1, |operation| operation.fee_max = Amount(3));
    let executed = network.checkpoint(&[poor.clone(), stingy.clone()]);
    let fee = Amount(network.fee(&stingy));
    let expected = Refusal::FeeTooHigh { fee, fee_max: Amount(3) };
    assert_eq!(refusal(&executed, network.id(&stingy)), Some(expected));
    assert!(matches!(
        refusal(&executed, network.id(&poor)),
        Some(Refusal::Insufficient { available: Amount(0), .. })
    ));
    assert_eq!((network.next(1), network.next(5)), (0, 0));
    assert_eq!((network.balance(1), network.held(&Holder::Fees)), (common::DEPOSIT, 0));
    assert!(executed.receipts.iter().all(|receipt| receipt.fee.is_zero()));
}

#[test]
fn a_fee_beyond_all_numbers_is_refused() {
    let fees = FeeSchedule { per_byte: Amount(u128::MAX), ..FEES };
    let mut network = Network::with(modules(), fees);
    let signed = network.sign(1, 0, give(2, 1));
    let executed = network.checkpoint(std::slice::from_ref(&signed));
    assert_eq!(refusal(&executed, network.id(&signed)), Some(Refusal::Overflow));
}

#[test]
fn an_operation_counts_once_however_often_it_comes() {
    let mut network = Network::new();
    let signed = network.sign(1, 0, give(2, 500));
    let executed = network.checkpoint(&vec![signed.clone(); 3]);
    assert_eq!(executed.receipts.len(), 1);
    let again = network.checkpoint(std::slice::from_ref(&signed));
    let expected = Refusal::SequenceUsed { sequence: 0, next: 1 };
    assert_eq!(refusal(&again, network.id(&signed)), Some(expected));
    assert_eq!(network.balance(2), common::DEPOSIT + 500);
}

#[test]
fn an_account_runs_in_order_wherever_its_operations_stand() {
    let mut network = Network::new();
    // More than may wait: taken as they come, some would be too far ahead.
    let operations: Vec<_> = (0..100).map(|i| network.sign(1, i, give(2, 8_000))).collect();
    let executed = network.checkpoint(&operations);
    let sequences: Vec<_> = executed.receipts.iter().map(|receipt| receipt.sequence).collect();
    assert_eq!(sequences, (0..100).collect::<Vec<_>>());
    assert!(executed.receipts.iter().all(|receipt| receipt.refusal.is_none()));
}

#[test]
fn nobody_chooses_a_place_among_accounts() {
    let network = Network::new();
    let operations: Vec<_> = (1..=4).map(|account| network.sign(account, 0, give(0, 1))).collect();
    let orders = (0..32).map(|previous| {
        let mut input = network.input(&operations);
        input.previous.0 = [previous; 32];
        let executed = network.machine.execute(&network.state, &input).unwrap();
        executed.receipts.iter().map(|receipt| receipt.account).collect::<Vec<Address>>()
    });
    let orders: BTreeSet<_> = orders.collect();
    assert!(orders.len() > 8, "the previous header shuffles: {}", orders.len());
}

#[test]
fn what_comes_early_waits_and_runs_right_after_its_predecessor() {
    let mut network = Network::new();
    let [zero, one, two] = [0, 1, 2].map(|i| network.sign(1, i, give(2, 10)));
    let executed = network.checkpoint(&[two.clone(), one.clone()]);
    assert!(executed.receipts.is_empty());
    assert_eq!(network.waiting(1), [1, 2]);
    assert_eq!((network.balance(1), network.next(1)), (common::DEPOSIT, 0));
    let executed = network.checkpoint(std::slice::from_ref(&zero));
    let ids: Vec<_> = executed.receipts.iter().map(|receipt| receipt.operation).collect();
    assert_eq!(ids, [&zero, &one, &two].map(|signed| network.id(signed)));
    assert!(executed.receipts.iter().all(|receipt| receipt.refusal.is_none()));
    assert_eq!((network.waiting(1), network.next(1)), (vec![], 3));
    assert_eq!(network.balance(2), common::DEPOSIT + 30);
    assert_eq!(next_timer(&network.state), Ok(None));
}

#[test]
fn a_precheck_is_of_the_operation_and_not_of_what_waits_for_it() {
    let mut network = Network::new();
    let [zero, one] = [(0, 10), (1, 2 * common::DEPOSIT)]
        .map(|(sequence, amount)| network.sign(1, sequence, give(2, amount)));
    network.checkpoint(std::slice::from_ref(&one));
    let checked =
        network.machine.precheck(&network.state, network.id(&zero), &zero, network.time).unwrap();
    assert_eq!(checked, Ok(()));
}

#[test]
fn a_rehearsal_tells_the_next_number_and_what_would_happen() {
    let mut network = Network::new();
    let rehearse = |network: &Network, account, amount| {
        let action = give(2, amount);
        let machine = &network.machine;
        machine.rehearse(&network.state, account, action, network.time).unwrap()
    };
    let account = network.sign(1, 0, give(2, 1)).operation.account;
    assert_eq!(rehearse(&network, account, 500), (0, Ok(())));
    let (next, refused) = rehearse(&network, account, common::DEPOSIT);
    assert_eq!(next, 0, "not with the fee beside it");
    assert!(matches!(refused, Err(Refusal::Insufficient { .. })));
    network.checkpoint(&[network.sign(1, 0, give(2, 1))]);
    let before = network.state.root();
    assert_eq!(rehearse(&network, account, 500), (1, Ok(())));
    assert_eq!(network.state.root(), before, "nothing is done");
}

#[test]
fn what_waits_and_comes_again_still_waits() {
    let mut network = Network::new();
    let one = network.sign(1, 1, give(2, 10));
    for _ in 0..3 {
        let executed = network.checkpoint(std::slice::from_ref(&one));
        assert!(executed.receipts.is_empty());
        assert_eq!(network.waiting(1), [1]);
    }
}

#[test]
fn what_waited_and_comes_again_with_its_predecessor_has_one_receipt() {
    let mut network = Network::new();
    let [zero, one] = [0, 1].map(|i| network.sign(1, i, give(2, 10)));
    network.checkpoint(std::slice::from_ref(&one));
    let executed = network.checkpoint(&[one.clone(), zero]);
    assert_eq!(refusal(&executed, network.id(&one)), None);
    assert_eq!(executed.receipts.len(), 2);
}

#[test]
fn of_two_that_wait_with_one_number_the_smaller_identifier_stays() {
    for first in [0, 1] {
        let mut network = Network::new();
        let mut both = [10, 11].map(|amount| network.sign(1, 1, give(2, amount)));
        both.sort_by_key(|signed| network.id(signed));
        let (loser, winner) = (network.id(&both[1]), network.id(&both[0]));
        network.checkpoint(&[both[first].clone()]);
        let executed = network.checkpoint(&[both[1 - first].clone()]);
        let expected = Refusal::exists("operation of this sequence");
        assert_eq!(refusal(&executed, loser), Some(expected));
        let executed = network.checkpoint(&[network.sign(1, 0, give(2, 1))]);
        assert_eq!(refusal(&executed, winner), None);
        assert_eq!(executed.receipts.len(), 2);
        assert_eq!(next_timer(&network.state), Ok(None));
    }
}

#[test]
fn nobody_waits_too_far_ahead() {
    let mut network = Network::new();
    let [last, beyond] = [64, 65].map(|sequence| network.sign(1, sequence, give(2, 1)));
    let executed = network.checkpoint(&[last.clone(), beyond.clone()]);
    let expected = Refusal::SequenceAhead { sequence: 65, next: 0 };
    assert_eq!(refusal(&executed, network.id(&beyond)), Some(expected));
    assert_eq!(executed.receipts.len(), 1);
    assert_eq!(network.waiting(1), [64]);
}

#[test]
fn who_could_not_pay_for_all_that_waits_does_not_wait() {
    let mut network = Network::new();
    let poor = network.sign(5, 1, give(1, 1));
    let executed = network.checkpoint(std::slice::from_ref(&poor));
    assert!(matches!(refusal(&executed, network.id(&poor)), Some(Refusal::Insufficient { .. })));
    // Enough for one, but not for two.
    let fee = network.fee(&poor);
    network.checkpoint(&[network.sign(1, 0, give(5, 2 * fee - 1))]);
    let second = network.sign(5, 2, give(1, 1));
    let executed = network.checkpoint(&[poor, second.clone()]);
    assert_eq!(network.waiting(5), [1]);
    assert!(matches!(refusal(&executed, network.id(&second)), Some(Refusal::Insufficient { .. })));
}

#[test]
fn what_ran_no_longer_counts_against_the_balance() {
    let mut network = Network::new();
    let [zero, one, three] = [0, 1, 3].map(|i| network.sign(5, i, give(1, 1)));
    let fee = network.fee(&zero);
    network.checkpoint(&[network.sign(1, 0, give(5, 4 * fee))]);
    network.checkpoint(std::slice::from_ref(&one));
    network.checkpoint(std::slice::from_ref(&zero));
    assert_eq!((network.next(5), network.balance(5)), (2, 2 * fee - 2));
    let executed = network.checkpoint(std::slice::from_ref(&three));
    assert!(executed.receipts.is_empty());
    assert_eq!(network.waiting(5), [3]);
}

#[test]
fn what_waited_and_cannot_pay_in_the_end_leaves_the_rest_waiting() {
    let mut network = Network::new();
    let [one, two] = [1, 2].map(|i| network.sign(1, i, give(2, 1)));
    network.checkpoint(&[one.clone(), two]);
    let all = common::DEPOSIT - network.fee(&one);
    let executed = network.checkpoint(&[network.sign(1, 0, give(3, all))]);
    assert!(matches!(
        refusal(&executed, network.id(&one)),
        Some(Refusal::Insufficient { available: Amount(0), .. })
    ));
    assert_eq!((network.next(1), network.waiting(1)), (1, vec![2]));
}

#[test]
fn what_waits_expires_with_a_receipt() {
    let mut network = Network::new();
    let end = Timestamp(network.time.0 + 5_000_000);
    let waits = network.sign_with(1, |operation| {
        operation.sequence = 1;
        operation.valid_until = end;
    });
    network.checkpoint(std::slice::from_ref(&waits));
    assert_eq!(next_timer(&network.state), Ok(Some(Timestamp(end.0 + 1))));
    let mut input = network.input(&[]);
    input.time = end;
    assert!(network.execute(&input).receipts.is_empty(), "it holds until its end");
    let executed = network.checkpoint(&[]);
    let time_us = network.time.0;
    let expected = Refusal::Expired { valid_until_us: end.0, time_us };
    assert_eq!(refusal(&executed, network.id(&waits)), Some(expected));
    assert_eq!((network.waiting(1), network.balance(1)), (vec![], common::DEPOSIT));
    assert_eq!(next_timer(&network.state), Ok(None));
    let key = lamina_ledger::state::accounts::account_key(common::address(1));
    assert_eq!(network.state.get(&key), Ok(None), "nothing is kept of who did nothing");
}

#[test]
fn nothing_waits_forever() {
    let mut network = Network::new();
    let waits = network.sign(1, 1, give(2, 1));
    assert_eq!(waits.operation.valid_until, FOREVER);
    network.checkpoint(std::slice::from_ref(&waits));
    let mut input = network.input(&[]);
    input.time = network.time + lamina_ledger::state::accounts::WAITING_MAX * 2;
    let executed = network.execute(&input);
    let expected = Refusal::SequenceAhead { sequence: 1, next: 0 };
    assert_eq!(refusal(&executed, network.id(&waits)), Some(expected));
}

#[test]
fn expired_operations_change_nothing() {
    let mut network = Network::new();
    let late = network.sign_with(1, |operation| operation.valid_until = Timestamp(5));
    let early = network.sign_with(2, |operation| {
        operation.sequence = 3;
        operation.valid_until = Timestamp(5);
    });
    let executed = network.checkpoint(&[late.clone(), early.clone()]);
    for signed in [late, early] {
        let refusal = refusal(&executed, network.id(&signed));
        assert!(matches!(refusal, Some(Refusal::Expired { valid_until_us: 5, .. })));
    }
    assert_eq!((network.next(1), network.balance(1)), (0, common::DEPOSIT));
    assert_eq!(network.waiting(2), Vec::<u64>::new());
}

#[test]
fn forged_and_oversized_operations_do_not_reach_the_machine() {
    let network = Network::new();
    let context = network.genesis.signing_context();
    let signed = network.sign(1, 0, give(2, 1));
    assert_eq!(signed.verify(&context), Ok(network.id(&signed)));
    let mut forged = signed.clone();
    forged.operation.action = give(2, 1_000);
    assert!(forged.verify(&context).is_err());
    let mut long = signed.to_bytes();
    long.resize(OPERATION_BYTES_MAX + 1, 0);
    assert!(SignedOperation::from_bytes(&long).is_err());
}

#[test]
fn timers_ring_once_when_due() {
    let mut network = Network::new();
    network.checkpoint(&[network.sign(1, 0, alarm(Alarm::Count))]);
    let due = network.time + RING_AFTER;
    assert_eq!(next_timer(&network.state), Ok(Some(due)));
    let mut input = network.input(&[]);
    input.time = Timestamp(due.0 - 1);
    network.execute(&input);
    assert_eq!(Alarms::rings(&network.state, Alarm::Count), 0);
    network.checkpoint(&[]);
    network.checkpoint(&[]);
    assert_eq!(Alarms::rings(&network.state, Alarm::Count), 1);
    assert_eq!(next_timer(&network.state), Ok(None));
}

#[test]
fn a_timer_that_is_refused_is_undone_and_gone() {
    let mut network = Network::new();
    network.checkpoint(&[network.sign(1, 0, alarm(Alarm::Refuse))]);
    let mut input = network.input(&[]);
    input.time = network.time + RING_AFTER;
    network.execute(&input);
    assert_eq!(Alarms::rings(&network.state, Alarm::Refuse), 0);
    assert_eq!(next_timer(&network.state), Ok(None));
}

#[test]
fn a_timer_that_rings_again_at_once_rings_in_the_next_checkpoint() {
    let mut network = Network::new();
    network.checkpoint(&[network.sign(1, 0, alarm(Alarm::Again))]);
    let mut input = network.input(&[]);
    input.time = network.time + RING_AFTER;
    network.execute(&input);
    assert_eq!(next_timer(&network.state), Ok(Some(network.time)));
    for rings in 1..5 {
        assert_eq!(Alarms::rings(&network.state, Alarm::Again), rings);
        network.checkpoint(&[]);
    }
}

#[test]
fn a_timer_that_another_takes_back_does_not_ring() {
    let mut network = Network::new();
    network.checkpoint(&[network.sign(1, 0, alarm(Alarm::Silence))]);
    network.checkpoint(&[network.sign(2, 0, alarm(Alarm::Count))]);
    let mut input = network.input(&[]);
    input.time = network.time + RING_AFTER;
    network.execute(&input);
    assert_eq!(Alarms::rings(&network.state, Alarm::Silence), 1);
    assert_eq!(Alarms::rings(&network.state, Alarm::Count), 0);
    assert_eq!(next_timer(&network.state), Ok(None));
}

#[test]
fn one_checkpoint_runs_so_many_timers_and_the_next_one_the_rest() {
    let mut network = Network::with(modules(), FeeSchedule::default());
    let count = TIMERS_MAX as u64 + 10;
    let operations: Vec<_> = (0..count).map(|i| network.sign(1, i, alarm(Alarm::Count))).collect();
    network.checkpoint(&operations);
    let mut input = network.input(&[]);
    input.time = network.time + RING_AFTER;
    network.execute(&input);
    assert_eq!(Alarms::rings(&network.state, Alarm::Count), TIMERS_MAX as u64);
    network.checkpoint(&[]);
    assert_eq!(Alarms::rings(&network.state, Alarm::Count), count);
}

#[test]
fn roots_of_claims_and_results_come_from_modules() {
    let mut network = Network::new();
    let executed = network.checkpoint(&[]);
    assert_eq!((executed.claims, executed.results), (Digest([0; 32]), Digest([0; 32])));
    let withdraw = network.sign(1, 0, take(700));
    let record = |byte| Action::OptOut { service: ServiceId([byte; 32]) };
    let [first, second] = [3, 2].map(|byte| network.sign(byte, 0, record(byte)));
    let supply = network.supply();
    let executed = network.checkpoint(&[withdraw.clone(), first, second]);
    assert_eq!(network.supply(), supply - 700);
    assert_eq!(executed.claims, Digest(network.id(&withdraw).0));
    let outcome = |byte| (TaskId([byte; 32]), Digest([byte; 32]));
    assert_eq!(executed.outcomes, [outcome(2), outcome(3)]);
    let results = lamina_certificate::results::root(&executed.outcomes);
    assert_eq!(executed.results, results);
    // Claims stay, results are of one checkpoint.
    let executed = network.checkpoint(&[]);
    assert_eq!(executed.claims, Digest(network.id(&withdraw).0));
    assert_eq!((executed.results, executed.outcomes), (Digest([0; 32]), vec![]));
}

#[test]
fn the_state_says_which_checkpoint_it_is_of() {
    let mut network = Network::new();
    let before = network.state.root();
    network.checkpoint(&[]);
    assert_ne!(network.state.root(), before);
    let bytes = network.state.get(CURRENT_KEY).unwrap().unwrap();
    let current: Current = borsh::from_slice(&bytes).unwrap();
    assert_eq!((current.height, current.epoch), (Height(1), EpochNumber(0)));
    assert_eq!(current.time, network.time);
}

#[test]
#[should_panic(expected = "checkpoints follow each other")]
fn a_gap_between_checkpoints_is_our_own_mistake() {
    let mut network = Network::new();
    let mut input = network.input(&[]);
    input.height = Height(2);
    network.execute(&input);
}

#[test]
fn a_tree_that_is_missing_is_an_error() {
    let network = Network::new();
    let input = network.input(&[]);
    assert!(network.machine.execute(&MemoryState::default(), &input).is_err());
}

#[test]
fn of_operations_that_share_an_identifier_all_nodes_take_the_same() {
    let network = Network::new();
    let mut input =
        network.input(&[network.sign(1, 0, give(2, 1)), network.sign(1, 0, give(2, 9))]);
    input.operations[1].0 = input.operations[0].0;
    let root = network.machine.execute(&network.state, &input).unwrap().state;
    input.operations.reverse();
    assert_eq!(network.machine.execute(&network.state, &input).unwrap().state, root);
}

/// What an account may come up with.
#[derive(Debug, Clone)]
struct Draft {
    account: u8,
    sequence: u64,
    action: Action,
    fee_max: u128,
    /// In seconds after genesis.
    valid_s: u64,
}

fn drafts() -> impl Strategy<Value = Draft> {
    let service = (0u8..4).prop_map(|kind| ServiceId([kind; 32]));
    let action = prop_oneof![
        4 => (0u8..6, 1u128..700_000).prop_map(|(to, amount)| give(to, amount)),
        1 => (1u128..700_000).prop_map(take),
        1 => service.clone().prop_map(|service| Action::OptIn { service }),
        1 => service.clone().prop_map(|service| Action::OptOut { service }),
        1 => service.prop_map(|service| Action::FundRewards {
            service,
            asset: Asset::Ether,
            amount: Amount(5),
            duration_s: 1,
        }),
    ];
    let fee_max = prop_oneof![1 => Just(100), 9 => Just(10_000)];
    let valid_s = prop_oneof![1 => 0u64..12, 3 => Just(10_000)];
    (0u8..6, 0u64..8, action, fee_max, valid_s).prop_map(
        |(account, sequence, action, fee_max, valid_s)| Draft {
            account,
            sequence,
            action,
            fee_max,
            valid_s,
        },
    )
}

fn signed(network: &Network, draft: &Draft) -> SignedOperation {
    network.sign_with(draft.account, |operation| {
        operation.sequence = draft.sequence;
        operation.action = draft.action.clone();
        operation.fee_max = Amount(draft.fee_max);
        operation.valid_until = Timestamp(1_000_000_000 + draft.valid_s * 1_000_000);
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Value is conserved after each checkpoint ([`Network::execute`] checks it), every operation ends in one receipt or
    /// waits, and a node that got them in another order and repeatedly has the same root.
    #[test]
    fn any_order_and_repetition_comes_to_the_same(
        checkpoints in prop::collection::vec(prop::collection::vec(drafts(), 0..16), 1..8),
        shuffle in prop::collection::vec(any::<prop::sample::Index>(), 24),
    ) {
        let (mut one, mut other) = (Network::new(), Network::new());
        let mut used = BTreeSet::new();
        for drafts in &checkpoints {
            let operations: Vec<_> = drafts.iter().map(|draft| signed(&one, draft)).collect();
            let mut shuffled = operations.clone();
            for index in shuffle.iter().filter(|_| !operations.is_empty()) {
                let signed = shuffled.remove(index.index(shuffled.len()));
                shuffled.insert(index.index(shuffled.len() + 1), signed.clone());
                shuffled.push(signed);
            }
            let executed = one.checkpoint(&operations);
            let repeated = other.checkpoint(&shuffled);
            prop_assert_eq!(executed.state, repeated.state);
            prop_assert_eq!(executed.results, repeated.results);
            prop_assert_eq!(executed.claims, repeated.claims);
            prop_assert_eq!(&executed.receipts, &repeated.receipts);
            prop_assert_eq!(one.state.entries(), other.state.entries());
            let ids: BTreeSet<_> = executed.receipts.iter().map(|it| it.operation).collect();
            prop_assert_eq!(ids.len(), executed.receipts.len());
            for receipt in executed.receipts.iter().filter(|receipt| receipt.refusal.is_none()) {
                prop_assert!(used.insert((receipt.account, receipt.sequence)), "a number counts once");
            }
        }
        for account in 0..6 {
            prop_assert!(one.waiting(account).iter().all(|sequence| *sequence > one.next(account)));
        }
    }
}

/// The rules in plain maps, for transfers: what accounts have, their next numbers, and what waits.
#[derive(Debug, Default)]
struct Model {
    balances: BTreeMap<Address, u128>,
    next: BTreeMap<Address, u64>,
    waiting: BTreeMap<(Address, u64), (OperationId, SignedOperation)>,
    fees: u128,
}

impl Model {
    fn checkpoint(&mut self, network: &Network, input: &CheckpointInput) {
        self.waiting.retain(|_, (_, signed)| signed.operation.valid_until >= input.time);
        let mut places = BTreeMap::new();
        let mut lanes = BTreeMap::new();
        for (id, signed) in &input.operations {
            let Operation { account, sequence, .. } = signed.operation;
            let place = Digest::of(&[input.previous.0, id.0].concat());
            places.insert(place, account);
            lanes.insert((account, sequence, *id), signed);
        }
        for account in places.into_values() {
            let first = lanes.keys().find(|(owner, ..)| *owner == account).copied();
            let first = first.expect("an account has as many operations as places");
            let signed: &SignedOperation = lanes.remove(&first).expect("it was found");
            self.submit(network, input, (first.2, signed.clone()));
        }
    }

    fn submit(
        &mut self,
        network: &Network,
        input: &CheckpointInput,
        (id, signed): (OperationId, SignedOperation),
    ) {
        let Operation { account, sequence, valid_until, fee_max, .. } = signed.operation;
        let next = self.next.get(&account).copied().unwrap_or(0);
        let affordable = network.fee(&signed) <= fee_max.0;
        if sequence < next || valid_until < input.time || !affordable {
            return;
        }
        if sequence > next {
            self.wait(network, (id, signed));
        } else if self.run(network, &signed)
            && let Some(waiting) = self.waiting.remove(&(account, next + 1))
        {
            self.submit(network, input, waiting);
        }
    }

    fn wait(&mut self, network: &Network, (id, signed): (OperationId, SignedOperation)) {
        let place = (signed.operation.account, signed.operation.sequence);
        if self.waiting.get(&place).is_some_and(|(other, _)| *other <= id) {
            return;
        }
        let others = self
            .waiting
            .iter()
            .filter(|((account, sequence), _)| *account == place.0 && *sequence != place.1);
        let reserved: u128 = others.map(|(_, (_, other))| network.fee(other)).sum();
        if reserved + network.fee(&signed) <= self.balance(place.0) {
            self.waiting.insert(place, (id, signed));
        }
    }

    fn run(&mut self, network: &Network, signed: &SignedOperation) -> bool {
        let Operation { account, ref action, .. } = signed.operation;
        let fee = network.fee(signed);
        let Some(left) = self.balance(account).checked_sub(fee) else { return false };
        self.balances.insert(account, left);
        self.fees += fee;
        *self.next.entry(account).or_default() += 1;
        let Action::Transfer { to, amount, .. } = action else { panic!("the model transfers") };
        if let Some(left) = left.checked_sub(amount.0) {
            self.balances.insert(account, left);
            *self.balances.entry(*to).or_default() += amount.0;
        }
        true
    }

    fn balance(&self, account: Address) -> u128 {
        self.balances.get(&account).copied().unwrap_or(0)
    }
}

fn transfers() -> impl Strategy<Value = Draft> {
    (drafts(), 0u8..6, prop_oneof![Just(1u128), 1u128..1_000_000])
        .prop_map(|(draft, to, amount)| Draft { action: give(to, amount), ..draft })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_model_in_plain_maps_agrees(
        checkpoints in prop::collection::vec(prop::collection::vec(transfers(), 0..20), 1..8),
    ) {
        let mut network = Network::new();
        let mut model = Model::default();
        for account in 1..=4 {
            model.balances.insert(common::address(account), common::DEPOSIT);
        }
        for drafts in &checkpoints {
            let operations: Vec<_> = drafts.iter().map(|draft| signed(&network, draft)).collect();
            let input = network.input(&operations);
            network.execute(&input);
            model.checkpoint(&network, &input);
            for account in 0..6 {
                let address = common::address(account);
                prop_assert_eq!(network.balance(account), model.balance(address));
                prop_assert_eq!(network.next(account), model.next.get(&address).copied().unwrap_or(0));
                let waiting = model.waiting.keys().filter(|(owner, _)| *owner == address);
                let waiting: Vec<_> = waiting.map(|(_, sequence)| *sequence).collect();
                prop_assert_eq!(network.waiting(account), waiting);
            }
            prop_assert_eq!(network.held(&Holder::Fees), model.fees);
        }
    }
}
