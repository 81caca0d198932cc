//! What must hold in every state, and a storm of operations, tiny amounts among them, after each of which it's checked.

use lamina_ledger::state::bank::{self, Holder};
use lamina_ledger::state::{commitments, rewards, vaults};
use lamina_types::{Action, Amount, Asset, CommitmentId, Purpose, RewardSource, Text, VaultId};
use proptest::prelude::*;

use crate::world::{OPERATORS, OWNER, SERVICE, TOKEN, World, account};

/// Value is conserved, and every holder has what it owes.
pub(crate) fn check(world: &World) {
    for asset in [Asset::Ether, TOKEN] {
        assert_eq!(world.held_by_all(asset), world.read(|s| bank::supply(s, asset)).0);
        check_rewards(world, asset);
    }
    let all = world.commitments();
    for operator in OPERATORS {
        let to_it = || all.iter().filter(|view| view.place.operator == operator);
        let unbonding = to_it().flat_map(|view| &view.unbonding).map(|it| it.amount.0);
        let bound: u128 = to_it().map(|view| view.bound.0).sum();
        let holder = Holder::Commitments { service: SERVICE, operator };
        assert!(bound + unbonding.sum::<u128>() <= world.balance(&holder, Asset::Ether));
        let weights = world.read(|s| commitments::weight(s, SERVICE, operator));
        assert!(bound <= weights.iter().map(|weight| weight.bound.0).sum());
    }
    let of = |purpose| all.iter().filter(move |view| view.purpose == purpose);
    let backing: u128 = of(Purpose::Rewards).map(|view| view.bound.0).sum();
    assert!(backing <= world.read(|s| commitments::backing(s, SERVICE)).0);
}

fn check_rewards(world: &World, asset: Asset) {
    let of_asset = |list: Vec<rewards::Reward>| -> u128 {
        list.iter().filter(|it| it.asset == asset).map(|it| it.amount.0).sum()
    };
    let owed: u128 = world.commitments().into_iter().map(|view| of_asset(view.rewards)).sum();
    let operators = OPERATORS.map(|it| world.read(|s| rewards::of_operator(s, SERVICE, it)));
    let to_operators: u128 = operators.into_iter().map(of_asset).sum();
    let streams = world.read(|s| rewards::streams(s, SERVICE, world.time));
    let flowing = streams.iter().filter(|stream| stream.asset == asset);
    let flowing = flowing.map(|it| it.backers.left.0 + it.operators.left.0 + it.pot.0);
    let has = world.balance(&Holder::Rewards { service: SERVICE }, asset);
    assert!(owed + to_operators + flowing.sum::<u128>() <= has, "owes more than {has} of {asset}");
}

#[derive(Debug, Clone)]
enum Step {
    Commit { who: u8, operator: usize, amount: u128, purpose: Purpose },
    Increase { index: usize, amount: u128 },
    Uncommit { index: usize, millionths: u128 },
    Release { index: usize },
    Claim { index: usize, asset: Asset },
    ClaimParticipation { operator: usize },
    Fund { who: u8, asset: Asset, amount: u128, duration_s: u64 },
    Participation { count: usize },
    Slash { operator: usize, ppm: u32 },
    Deposit { who: u8, amount: u128 },
    Redeem { who: u8, millionths: u128 },
    CommitFromVault { operator: usize, amount: u128 },
    Wait { seconds: u64 },
}

fn amounts() -> impl Strategy<Value = u128> {
    prop_oneof![1..10u128, 1..1_000_000u128, 1..1_000_000_000_000u128]
}

fn fractions() -> impl Strategy<Value = u32> {
    prop_oneof![Just(1u32), Just(50_000), Just(333_333), Just(999_999), Just(1_000_000)]
}

fn steps() -> impl Strategy<Value = Step> {
    let purposes = prop_oneof![Just(Purpose::Rewards), Just(Purpose::Votes), Just(Purpose::Credit)];
    let assets = || prop_oneof![Just(Asset::Ether), Just(TOKEN)];
    let index = || 0..8usize;
    prop_oneof![
        3 => (1..5u8, 0..2usize, amounts(), purposes).prop_map(|(who, operator, amount, purpose)| {
            Step::Commit { who, operator, amount, purpose }
        }),
        2 => (index(), amounts()).prop_map(|(index, amount)| Step::Increase { index, amount }),
        3 => (index(), prop_oneof![Just(1_000_000u128), 1..1_000_000u128])
            .prop_map(|(index, millionths)| Step::Uncommit { index, millionths }),
        3 => index().prop_map(|index| Step::Release { index }),
        3 => (index(), assets()).prop_map(|(index, asset)| Step::Claim { index, asset }),
        1 => (0..2usize).prop_map(|operator| Step::ClaimParticipation { operator }),
        2 => (prop_oneof![Just(99u8), 1..5u8], assets(), amounts(), 1..300u64).prop_map(
            |(who, asset, amount, duration_s)| Step::Fund { who, asset, amount, duration_s }
        ),
        1 => (0..3usize).prop_map(|count| Step::Participation { count }),
        1 => (0..2usize, fractions()).prop_map(|(operator, ppm)| Step::Slash { operator, ppm }),
        2 => (1..5u8, amounts()).prop_map(|(who, amount)| Step::Deposit { who, amount }),
        2 => (1..5u8, 1..=1_000_000u128)
            .prop_map(|(who, millionths)| Step::Redeem { who, millionths }),
        1 => (0..2usize, amounts())
            .prop_map(|(operator, amount)| Step::CommitFromVault { operator, amount }),
        4 => (1..200u64).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

/// Who may: the vault's manager is account 1.
fn controller(world: &World, ids: &[CommitmentId], index: usize) -> Option<(u8, CommitmentId)> {
    let id = *ids.get(index % ids.len().max(1))?;
    world.view(id).map(|view| (view.owner.controller().0[0], id))
}

/// Refusals are as good as any answer here; that a valid step is carried out is for the other tests.
fn take(world: &mut World, vault: VaultId, ids: &mut Vec<CommitmentId>, step: &Step) {
    let mut act = |who: u8, action: Action| drop(world.act(account(who), &action));
    match *step {
        Step::Commit { who, operator, amount, purpose } => {
            ids.extend(world.commit(account(who), operator, (amount, purpose)));
        }
        Step::CommitFromVault { operator, amount } => {
            let what = (amount, Purpose::Rewards);
            ids.extend(world.commit_from(Some(vault), account(1), operator, what));
        }
        Step::Increase { index, amount } => {
            let Some((who, commitment)) = controller(world, ids, index) else { return };
            let action = Action::Increase { commitment, amount: Amount(amount) };
            drop(world.act(account(who), &action));
        }
        Step::Uncommit { index, millionths } => {
            let Some((who, id)) = controller(world, ids, index) else { return };
            let amount = world.bound(id) * millionths / 1_000_000;
            if amount > 0 {
                drop(world.uncommit(account(who), id, amount));
            }
        }
        Step::Release { index } => {
            let Some((who, id)) = controller(world, ids, index) else { return };
            drop(world.release(account(who), id));
        }
        Step::Claim { index, asset } => {
            let Some((who, commitment)) = controller(world, ids, index) else { return };
            let source = RewardSource::Commitment { commitment };
            drop(world.act(account(who), &Action::ClaimRewards { source, asset }));
        }
        Step::ClaimParticipation { operator } => {
            let source = RewardSource::Participation { service: SERVICE };
            let action = Action::ClaimRewards { source, asset: TOKEN };
            drop(world.act(OPERATORS[operator], &action));
        }
        Step::Fund { who, asset, amount, duration_s } => {
            drop(world.fund_by(account(who), asset, (amount, duration_s)));
        }
        Step::Participation { count } => {
            let operators = &OPERATORS[..count];
            world
                .write(|scope, env| rewards::participation(scope, env, SERVICE, operators))
                .expect("participation isn't refused");
        }
        Step::Slash { operator, ppm } => drop(world.slash(operator, ppm)),
        Step::Deposit { who, amount } => {
            act(who, Action::DepositIntoVault { vault, amount: Amount(amount) });
        }
        Step::Redeem { who, millionths } => {
            let held = world.read(|s| vaults::held(s, vault, account(who)));
            let shares = Amount(held.0 * millionths / 1_000_000);
            drop(world.act(account(who), &Action::RedeemFromVault { vault, shares }));
        }
        Step::Wait { seconds } => world.wait(seconds),
    }
}

/// Everyone leaves: all is taken back, released, claimed and redeemed.
fn leave(world: &mut World, vault: VaultId, ids: &mut Vec<CommitmentId>) {
    for index in 0..ids.len() {
        for asset in [Asset::Ether, TOKEN] {
            take(world, vault, ids, &Step::Claim { index, asset });
        }
        take(world, vault, ids, &Step::Uncommit { index, millionths: 1_000_000 });
    }
    world.wait(101);
    for index in 0..ids.len() {
        take(world, vault, ids, &Step::Release { index });
    }
    for who in 1..5 {
        take(world, vault, ids, &Step::Redeem { who, millionths: 1_000_000 });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn value_is_conserved_and_all_is_owed_that_is_held(
        steps in proptest::collection::vec(steps(), 1..60),
    ) {
        let mut world = World::new();
        let name = Text::truncated("purse");
        let created = world.act(account(1), &Action::CreateVault { name, asset: Asset::Ether });
        let vault = VaultId(created.unwrap());
        world.fund_by(OWNER, Asset::Ether, (1_000, 10)).unwrap();
        world.fund(1_000_000, 100).unwrap();
        let mut ids = Vec::new();
        for step in &steps {
            take(&mut world, vault, &mut ids, step);
            check(&world);
        }
        // Sixteen parts may unbond at a time: those who have as many can leave in the second go.
        for _ in 0..2 {
            world.wait(101);
            leave(&mut world, vault, &mut ids);
            check(&world);
        }
        let bound: u128 = world.commitments().iter().map(|view| view.bound.0).sum();
        prop_assert_eq!(bound, 0, "nothing keeps anybody from leaving");
        prop_assert_eq!(world.read(|s| commitments::backing(s, SERVICE)), Amount::ZERO);
    }
}
