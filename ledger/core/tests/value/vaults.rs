//! Vaults: shares, what is at hand, and those who would take from others.

use lamina_ledger::state::{Refusal, vaults};
use lamina_types::{Action, Amount, Asset, Purpose, Text, VaultId};

use crate::world::{OWNER, WEALTH, World, account};

fn vault(world: &mut World) -> VaultId {
    let name = Text::truncated("purse");
    VaultId(
        world
            .act(account(1), &Action::CreateVault { name, asset: Asset::Ether })
            .expect("anybody can"),
    )
}

fn deposit(world: &mut World, vault: VaultId, who: u8, amount: u128) -> Result<u128, Refusal> {
    let before = world.read(|s| vaults::held(s, vault, account(who))).0;
    let amount = Amount(amount);
    world.act(account(who), &Action::DepositIntoVault { vault, amount })?;
    Ok(world.read(|s| vaults::held(s, vault, account(who))).0 - before)
}

fn redeem(world: &mut World, vault: VaultId, who: u8, shares: u128) -> Result<u128, Refusal> {
    let before = world.of_account(account(who), Asset::Ether);
    let shares = Amount(shares);
    world.act(account(who), &Action::RedeemFromVault { vault, shares })?;
    Ok(world.of_account(account(who), Asset::Ether) - before)
}

#[test]
fn a_share_is_worth_its_part_of_what_is_at_hand_and_committed() {
    let mut world = World::new();
    let id = vault(&mut world);
    let shares = deposit(&mut world, id, 2, 1_000_000).unwrap();
    let what = (800_000, Purpose::Credit);
    let commitment = world.commit_from(Some(id), account(1), 0, what).unwrap();
    world.uncommit(account(1), commitment, 400_000).unwrap();
    world.slash(0, 500_000);
    // 200,000 at hand, 400,000 committed.
    assert!(matches!(redeem(&mut world, id, 2, shares), Err(Refusal::Insufficient { .. })));
    assert!(redeem(&mut world, id, 3, 1).is_err(), "who has no shares");
    assert!(redeem(&mut world, id, 2, shares / 4).unwrap().abs_diff(150_000) <= 1);
    world.wait(100);
    world.release(account(5), commitment).unwrap();
    assert!(redeem(&mut world, id, 2, shares / 4).unwrap().abs_diff(150_000) <= 1);
}

#[test]
fn only_the_manager_commits_and_only_the_vaults_asset() {
    let mut world = World::new();
    let id = vault(&mut world);
    deposit(&mut world, id, 2, 1_000).unwrap();
    let refused = world.commit_from(Some(id), account(2), 0, (1, Purpose::Credit));
    assert!(matches!(refused, Err(Refusal::Forbidden { .. })));
    let more = world.commit_from(Some(id), account(1), 0, (1_001, Purpose::Credit));
    assert!(matches!(more, Err(Refusal::Insufficient { .. })));
}

#[test]
fn a_vaults_commitments_are_bounded() {
    let mut world = World::new();
    let id = vault(&mut world);
    deposit(&mut world, id, 2, 1_000).unwrap();
    for _ in 0..vaults::COMMITMENTS_MAX {
        world.commit_from(Some(id), account(1), 0, (1, Purpose::Credit)).unwrap();
    }
    assert!(world.commit_from(Some(id), account(1), 0, (1, Purpose::Credit)).is_err());
}

#[test]
fn the_first_one_cannot_make_the_next_deposit_vanish() {
    let mut world = World::new();
    let id = vault(&mut world);
    // The manager is the first depositor, and has the vault's only unit earn a large reward.
    let first = deposit(&mut world, id, 1, 1).unwrap();
    let what = (1, Purpose::Rewards);
    let commitment = world.commit_from(Some(id), account(1), 0, what).unwrap();
    let spent = 100_000_000_000;
    world.fund_by(OWNER, Asset::Ether, (spent, 1)).unwrap();
    world.wait(10);
    let gave = 1_000_000;
    let Ok(shares) = deposit(&mut world, id, 2, gave) else { panic!("a deposit is refused") };
    let back = redeem(&mut world, id, 2, shares).unwrap();
    assert!(gave - back <= spent / 1_000_000, "lost {}", gave - back);
    let robbed = redeem(&mut world, id, 1, first).unwrap();
    assert!(robbed < spent * 4 / 5 * 6 / 10, "the attack pays nothing: {robbed} of {spent}");
    assert!(world.view(commitment).is_some());
}

#[test]
fn who_comes_for_a_moment_takes_no_rewards_along() {
    let mut world = World::new();
    let id = vault(&mut world);
    deposit(&mut world, id, 2, 1_000_000).unwrap();
    let what = (500_000, Purpose::Rewards);
    let commitment = world.commit_from(Some(id), account(1), 0, what).unwrap();
    world.fund_by(OWNER, Asset::Ether, (1_000_000, 100)).unwrap();
    world.wait(100);
    let shares = deposit(&mut world, id, 3, 10_000_000).unwrap();
    let source = lamina_types::RewardSource::Commitment { commitment };
    drop(world.act(account(3), &Action::ClaimRewards { source, asset: Asset::Ether }));
    redeem(&mut world, id, 3, shares).unwrap();
    assert!(world.of_account(account(3), Asset::Ether) <= WEALTH);
    let view = world.read(|s| vaults::view(s, id)).unwrap();
    assert!(view.at_hand.0 + view.committed.0 >= 1_799_999, "{view:?}");
}

#[test]
fn rounding_never_favours_whoever_goes_in_and_out() {
    let mut world = World::new();
    let id = vault(&mut world);
    deposit(&mut world, id, 2, 999_983).unwrap();
    let what = (500_000, Purpose::Credit);
    world.commit_from(Some(id), account(1), 0, what).unwrap();
    world.slash(0, 333_333);
    for amount in [1, 2, 3, 7, 1_000, 123_457] {
        let Ok(shares) = deposit(&mut world, id, 3, amount) else { continue };
        assert!(redeem(&mut world, id, 3, shares).unwrap() <= amount);
    }
    assert!(world.of_account(account(3), Asset::Ether) <= WEALTH);
}

#[test]
fn what_is_owed_in_another_asset_does_not_use_up_a_vaults_commitments() {
    let mut world = World::new();
    let id = vault(&mut world);
    deposit(&mut world, id, 2, 1_000_000).unwrap();
    let what = (500_000, Purpose::Rewards);
    let commitment = world.commit_from(Some(id), account(1), 0, what).unwrap();
    world.fund(1_000_000, 100).unwrap();
    world.fund_by(OWNER, Asset::Ether, (1_000_000, 100)).unwrap();
    world.wait(100);
    world.uncommit(account(1), commitment, 500_000).unwrap();
    world.wait(100);
    world.release(account(9), commitment).unwrap();
    let view = world.read(|s| vaults::view(s, id)).unwrap();
    assert_eq!(view.vault.commitments, []);
    assert!(view.at_hand.0 >= 1_799_999, "its own rewards came along: {view:?}");
    assert!(world.owed(commitment) >= 799_999);
    assert!(world.claim(account(1), commitment).is_err(), "not into this vault");
    let add = Action::Increase { commitment, amount: Amount(1_000) };
    world.act(account(1), &add).unwrap();
    let again = world.read(|s| vaults::view(s, id)).unwrap();
    assert_eq!((again.vault.commitments, again.committed), (vec![commitment], Amount(1_000)));
}
