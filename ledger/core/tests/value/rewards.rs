//! Rewards: who shares, over what time, and who can disturb it.

use lamina_ledger::state::bank::{self, Holder};
use lamina_ledger::state::{Refusal, rewards};
use lamina_types::{Action, Address, Amount, Asset, Purpose, RewardSource};

use crate::world::{OPERATORS, OWNER, SERVICE, TOKEN, WEALTH, World, account};

fn record(world: &mut World, operators: &[Address]) {
    world
        .write(|scope, env| rewards::participation(scope, env, SERVICE, operators))
        .expect("it isn't refused");
}

#[test]
fn backers_share_by_what_they_have_bound_while_it_is_bound() {
    let mut world = World::new();
    world.fund(10_000_000, 100).unwrap();
    let one = world.commit(account(1), 0, (1_000_000, Purpose::Rewards)).unwrap();
    world.wait(50);
    let two = world.commit(account(2), 1, (3_000_000, Purpose::Rewards)).unwrap();
    let votes = world.commit(account(3), 1, (3_000_000, Purpose::Votes)).unwrap();
    world.wait(50);
    // Eight million to backers, forty thousand at a time: 4,000,000 alone, then a quarter.
    assert!(world.owed(one).abs_diff(5_000_000) <= 2, "{}", world.owed(one));
    assert!(world.owed(two).abs_diff(3_000_000) <= 2, "{}", world.owed(two));
    assert_eq!(world.owed(votes), 0);
    world.claim(account(1), one).unwrap();
    assert!(world.claim(account(1), one).is_err(), "twice");
    assert!(matches!(world.claim(account(1), two), Err(Refusal::Forbidden { .. })));
}

#[test]
fn a_slashed_pool_earns_less_from_then_on_and_keeps_what_it_earned() {
    let mut world = World::new();
    world.fund(10_000_000, 100).unwrap();
    let one = world.commit(account(1), 0, (1_000_000, Purpose::Rewards)).unwrap();
    let two = world.commit(account(2), 1, (1_000_000, Purpose::Rewards)).unwrap();
    world.wait(50);
    world.slash(0, 1_000_000);
    world.wait(50);
    assert!(world.owed(one).abs_diff(2_000_000) <= 2, "{}", world.owed(one));
    assert!(world.owed(two).abs_diff(6_000_000) <= 2, "{}", world.owed(two));
}

#[test]
fn what_flows_while_nobody_backs_waits_for_the_next_one() {
    let mut world = World::new();
    world.fund(10_000_000, 100).unwrap();
    world.wait(1_000);
    let one = world.commit(account(1), 0, (1, Purpose::Rewards)).unwrap();
    assert_eq!(world.owed(one), 0, "nothing at once");
    world.wait(50);
    assert!(world.owed(one).abs_diff(4_000_000) <= 2);
    world.wait(50);
    assert!(world.owed(one).abs_diff(8_000_000) <= 2);
}

#[test]
fn nobody_stretches_what_others_are_paid_nor_opens_assets_in_another_ones_service() {
    let mut world = World::new();
    world.fund(10_000_000, 100).unwrap();
    let dust = world.fund_by(account(1), TOKEN, (5, 1_000_000));
    assert!(matches!(dust, Err(Refusal::Invalid { .. })));
    world.fund_by(account(1), TOKEN, (10_000_000, 200)).unwrap();
    let other = world.fund_by(account(1), Asset::Ether, (1_000, 100));
    assert!(matches!(other, Err(Refusal::Forbidden { .. })));
}

#[test]
fn operators_share_what_flowed_since_the_task_before() {
    let mut world = World::new();
    world.fund(10_000_000, 100).unwrap();
    world.wait(50);
    record(&mut world, &[OPERATORS[0], OPERATORS[1], OPERATORS[0]]);
    record(&mut world, &[OPERATORS[0]]);
    world.wait(50);
    record(&mut world, &[]);
    record(&mut world, &[OPERATORS[1]]);
    let source = RewardSource::Participation { service: SERVICE };
    let claim = Action::ClaimRewards { source, asset: TOKEN };
    for (operator, share) in OPERATORS.into_iter().zip([500_000, 1_500_000]) {
        world.act(operator, &claim).unwrap();
        assert_eq!(world.of_account(operator, TOKEN), share);
        assert!(world.act(operator, &claim).is_err(), "twice");
    }
    assert!(world.act(account(1), &claim).is_err());
}

#[test]
fn a_commitment_that_ended_is_kept_until_its_rewards_are_claimed() {
    let mut world = World::new();
    world.fund(10_000_000, 100).unwrap();
    let id = world.commit(account(1), 0, (1_000_000, Purpose::Rewards)).unwrap();
    world.wait(100);
    world.uncommit(account(1), id, 1_000_000).unwrap();
    world.wait(100);
    world.release(account(1), id).unwrap();
    world.claim(account(1), id).unwrap();
    assert!(world.of_account(account(1), TOKEN).abs_diff(WEALTH + 8_000_000) <= 2);
    assert!(world.view(id).is_none());
    assert_eq!(world.keys(b"rewards/commitments/"), 0);
}

#[test]
fn a_token_in_amounts_beyond_reason_does_not_keep_backers_from_leaving() {
    let mut world = World::new();
    let id = world.commit(account(1), 0, (1, Purpose::Rewards)).unwrap();
    let huge = Asset::Erc20(Address([8; 20]));
    let owner = Holder::Account { account: OWNER };
    let holders = [owner, Holder::Rewards { service: SERVICE }];
    for round in 0..3 {
        let all = Amount(u128::MAX);
        world.write(|scope, _| bank::mint(scope, &owner, huge, all)).unwrap();
        let funded = world.fund_by(OWNER, huge, (all.0, 1));
        assert_eq!(funded.is_ok(), round < 2, "what can't flow any more stays, and is too much");
        world.wait(1_000);
        world.slash(0, 1);
        world.act(account(1), &Action::Increase { commitment: id, amount: Amount(1) }).unwrap();
        // It leaves the network, and comes again.
        for holder in holders {
            let all = Amount(world.balance(&holder, huge));
            world.write(|scope, _| bank::burn(scope, &holder, huge, all)).unwrap();
        }
    }
    let bound = world.bound(id);
    assert!(bound > 0);
    world.uncommit(account(1), id, bound).unwrap();
    world.wait(100);
    world.release(account(1), id).unwrap();
}
