//! Commitments: what binds, what is slashed, and who may.

use lamina_ledger::state::Refusal;
use lamina_ledger::state::bank::{self, Holder};
use lamina_types::{Action, Amount, Asset, CommitmentId, Purpose};

use crate::world::{OPERATORS, SERVICE, TOKEN, WEALTH, World, account};

#[test]
fn what_is_taken_back_is_paid_when_it_has_unbonded_and_not_before() {
    let mut world = World::new();
    let id = world.commit(account(1), 0, (1_000, Purpose::Credit)).unwrap();
    world.uncommit(account(1), id, 1_000).unwrap();
    world.wait(99);
    assert!(matches!(world.release(account(1), id), Err(Refusal::Invalid { .. })));
    world.wait(1);
    world.release(account(1), id).unwrap();
    assert_eq!(world.of_account(account(1), Asset::Ether), WEALTH);
    assert!(world.release(account(1), id).is_err(), "twice");
    assert_eq!(world.keys(b"commitments/records/") + world.keys(b"commitments/by-"), 0);
}

#[test]
fn only_the_owner_takes_back_adds_and_releases() {
    let mut world = World::new();
    let id = world.commit(account(1), 0, (1_000, Purpose::Credit)).unwrap();
    let add = Action::Increase { commitment: id, amount: Amount(1) };
    assert!(matches!(world.act(account(2), &add), Err(Refusal::Forbidden { .. })));
    assert!(matches!(world.uncommit(account(2), id, 1), Err(Refusal::Forbidden { .. })));
    assert!(matches!(world.release(account(2), id), Err(Refusal::Forbidden { .. })));
    let none = CommitmentId([9; 32]);
    assert!(matches!(world.release(account(2), none), Err(Refusal::Unknown { .. })));
}

#[test]
fn no_more_is_taken_back_than_is_bound_nor_committed_than_is_there() {
    let mut world = World::new();
    let id = world.commit(account(1), 0, (1_000, Purpose::Credit)).unwrap();
    world.uncommit(account(1), id, 600).unwrap();
    assert!(matches!(world.uncommit(account(1), id, 401), Err(Refusal::Insufficient { .. })));
    let refused = world.commit(account(1), 0, (WEALTH, Purpose::Credit));
    assert!(matches!(refused, Err(Refusal::Insufficient { .. })));
    assert_eq!(world.commitments().len(), 1, "a refused one leaves nothing behind");
}

#[test]
fn a_slash_takes_pro_rata_of_what_is_bound_and_what_unbonds() {
    let mut world = World::new();
    let one = world.commit(account(1), 0, (1_000, Purpose::Rewards)).unwrap();
    let two = world.commit(account(2), 0, (3_000, Purpose::Votes)).unwrap();
    let other = world.commit(account(3), 1, (5_000, Purpose::Rewards)).unwrap();
    world.uncommit(account(1), one, 400).unwrap();
    assert_eq!(world.slash(0, 250_000), [(Asset::Ether, Amount(1_000))]);
    assert_eq!((world.bound(one), world.bound(two), world.bound(other)), (450, 2_250, 5_000));
    assert_eq!(world.view(one).unwrap().unbonding[0].amount, Amount(300));
    assert_eq!(world.balance(&Holder::Harmed { service: SERVICE }, Asset::Ether), 1_000);
    world.wait(100);
    world.release(account(1), one).unwrap();
    assert_eq!(world.of_account(account(1), Asset::Ether), WEALTH - 1_000 + 300);
}

#[test]
fn who_commits_after_a_slash_of_everything_has_all_of_its_own_and_no_one_else_any_of_it() {
    let mut world = World::new();
    let old = world.commit(account(1), 0, (1_000, Purpose::Rewards)).unwrap();
    world.uncommit(account(1), old, 500).unwrap();
    world.slash(0, 1_000_000);
    let new = world.commit(account(2), 0, (1_000, Purpose::Rewards)).unwrap();
    assert_eq!((world.bound(old), world.bound(new)), (0, 1_000));
    world.fund(1_000_000, 10).unwrap();
    world.wait(100);
    assert_eq!(world.owed(old), 0);
    assert!(world.owed(new) >= 799_999);
    world.release(account(1), old).unwrap();
    assert_eq!(world.of_account(account(1), Asset::Ether), WEALTH - 1_000);
    assert!(world.view(old).is_none(), "of it nothing is left");
    world.uncommit(account(2), new, 1_000).unwrap();
    world.wait(100);
    world.release(account(2), new).unwrap();
    assert_eq!(world.of_account(account(2), Asset::Ether), WEALTH);
}

#[test]
fn nobody_before_can_make_a_deposit_worth_less_than_it_is() {
    let mut world = World::new();
    // Whatever a first one does with tiny amounts, slashes and what is taken back: a later one has what it gave.
    for round in 0..40 {
        let id = world.commit(account(1), 0, (1 + round % 3, Purpose::Credit)).unwrap();
        world.slash(0, [900_000, 1, 999_999, 333_333][usize::try_from(round % 4).unwrap()]);
        drop(world.uncommit(account(1), id, 1));
    }
    let id = world.commit(account(2), 0, (12_345, Purpose::Credit)).unwrap();
    assert_eq!(world.bound(id), 12_345);
    world.uncommit(account(2), id, 12_345).unwrap();
    world.wait(100);
    world.release(account(2), id).unwrap();
    assert_eq!(world.of_account(account(2), Asset::Ether), WEALTH);
}

#[test]
fn what_unbonds_at_a_time_is_bounded() {
    let mut world = World::new();
    let id = world.commit(account(1), 0, (1_000, Purpose::Credit)).unwrap();
    for _ in 0..16 {
        world.uncommit(account(1), id, 1).unwrap();
    }
    assert!(world.uncommit(account(1), id, 1).is_err());
    world.wait(100);
    world.release(account(1), id).unwrap();
    world.uncommit(account(1), id, 1).unwrap();
}

#[test]
fn only_services_and_their_operators_and_the_one_asset_are_taken() {
    let mut world = World::new();
    let mut commit = |service: u8, operator, asset, purpose| {
        let action = Action::Commit {
            vault: None,
            service: lamina_types::ServiceId([service; 32]),
            operator,
            asset,
            amount: Amount(1),
            unbonding_s: 1,
            purpose,
        };
        world.act(account(1), &action)
    };
    let operator = OPERATORS[0];
    assert!(commit(2, operator, Asset::Ether, Purpose::Credit).is_err());
    assert!(commit(1, account(1), Asset::Ether, Purpose::Credit).is_err());
    assert!(commit(1, operator, TOKEN, Purpose::Rewards).is_err());
    assert!(commit(1, operator, TOKEN, Purpose::Votes).is_err());
    commit(1, operator, TOKEN, Purpose::Credit).unwrap();
    commit(1, operator, Asset::Ether, Purpose::Rewards).unwrap();
}

#[test]
fn what_little_is_left_after_heavy_slashes_is_exact_and_earns() {
    let mut world = World::new();
    let one = world.commit(account(1), 0, (10u128.pow(24), Purpose::Rewards)).unwrap();
    world.fund(10_000_000, 100).unwrap();
    world.wait(10);
    // A millionth of a millionth stays: the pool's factor begins anew in between.
    world.slash(0, 999_999);
    world.slash(0, 999_999);
    let left = world.bound(one);
    assert!((10u128.pow(12) - 2..=10u128.pow(12)).contains(&left), "{left}");
    let two = world.commit(account(2), 1, (left, Purpose::Rewards)).unwrap();
    world.wait(90);
    assert!(world.owed(one).abs_diff(800_000 + 3_600_000) <= 2, "{}", world.owed(one));
    assert!(world.owed(two).abs_diff(3_600_000) <= 2, "{}", world.owed(two));
    world.uncommit(account(1), one, left).unwrap();
    world.wait(100);
    world.release(account(1), one).unwrap();
    assert_eq!(world.of_account(account(1), Asset::Ether), WEALTH - 10u128.pow(24) + left);
}

#[test]
fn what_a_commitment_is_worth_and_earned_goes_on_over_the_end_of_a_generation() {
    let mut world = World::new();
    let much = 10u128.pow(36);
    let holder = Holder::Account { account: account(1) };
    world.write(|scope, _| bank::mint(scope, &holder, Asset::Ether, Amount(much))).unwrap();
    // The commitment begins in the middle of the pool's first generation, in which something has flowed.
    let before = world.commit(account(3), 0, (8, Purpose::Rewards)).unwrap();
    world.fund(1_000, 1).unwrap();
    world.wait(1);
    world.slash(0, 500_000);
    world.uncommit(account(3), before, 4).unwrap();
    let one = world.commit(account(1), 0, (much, Purpose::Rewards)).unwrap();
    world.fund(10u128.pow(23), 100).unwrap();
    world.wait(10);
    (0..3).for_each(|_| drop(world.slash(0, 999_999)));
    let left = world.bound(one);
    assert!(left.abs_diff(10u128.pow(18)) <= 3, "{left}");
    let two = world.commit(account(2), 1, (left, Purpose::Rewards)).unwrap();
    world.wait(30);
    // With the fourth one the factor is too small, and a new generation begins, in which little is kept.
    world.slash(0, 999_999);
    world.uncommit(account(2), two, left - 10u128.pow(12)).unwrap();
    let left = world.bound(one);
    assert!(left.abs_diff(10u128.pow(12)) <= 3, "{left}");
    world.wait(60);
    let expected = 8 * 10u128.pow(21) + 12 * 10u128.pow(21) + 24 * 10u128.pow(21);
    let owed = world.owed(one);
    assert!(owed <= expected + 10u128.pow(13) && owed >= expected - 10u128.pow(13), "{owed}");
    let owed = world.owed(two);
    let expected = 36 * 10u128.pow(21);
    assert!(owed.abs_diff(expected) <= 10u128.pow(13), "{owed}");
    crate::solvency::check(&world);
    // Restating it changes nothing.
    world.claim(account(1), one).unwrap();
    assert_eq!((world.bound(one), world.owed(one)), (left, 0));
    // A million millions less: gone for good.
    (0..8).for_each(|_| drop(world.slash(0, 999_999)));
    assert_eq!(world.bound(one), 0);
    world.act(account(1), &Action::Increase { commitment: one, amount: Amount(77) }).unwrap();
    assert_eq!(world.bound(one), 77);
    crate::solvency::check(&world);
}
