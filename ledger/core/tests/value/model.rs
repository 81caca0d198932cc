//! The same rules, done the plain way: one loop over all commitments for each slash and each moment, in numbers with 128
//! binary digits behind the point. Nobody gets more than they give, and at most some units less.

use alloy_primitives::U512;
use lamina_types::{CommitmentId, Purpose};
use proptest::prelude::*;

use crate::solvency::check;
use crate::world::{TOKEN, WEALTH, World, account};

/// Units by which what is paid may fall short: one for each operation that rounds.
const DUST: u128 = 64;
/// Part of the rewards that dust in the totals may earn: it counts by units where millions are bound.
const DUST_EARNS: u128 = 1 << 20;

fn fixed(value: u128) -> U512 {
    U512::from(value) << 128
}

fn floor(value: U512) -> u128 {
    u128::try_from(value >> 128).expect("it fits")
}

#[derive(Debug)]
struct Pledge {
    id: CommitmentId,
    who: u8,
    operator: usize,
    bound: U512,
    unbonding: Vec<(U512, u64)>,
    released: U512,
    earned: U512,
    /// What the account really got of its rewards.
    claimed: u128,
}

#[derive(Debug, Default)]
struct Model {
    pledges: Vec<Pledge>,
    backers: Flow,
    operators: Flow,
}

/// What's left to flow, and for how long, in seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    left: U512,
    remaining: u64,
}

impl Flow {
    fn wait(&mut self, seconds: u64) -> U512 {
        let passed = seconds.min(self.remaining);
        if passed == 0 {
            return U512::ZERO;
        }
        let due = self.left * U512::from(passed) / U512::from(self.remaining);
        self.left -= due;
        self.remaining -= passed;
        due
    }

    /// What it would be with more, unless it flowed slower by it.
    fn fund(self, amount: u128, seconds: u64) -> Option<Self> {
        let remaining = seconds.max(self.remaining);
        let left = self.left + fixed(amount);
        let slower = left * U512::from(self.remaining) < self.left * U512::from(remaining);
        (!slower).then_some(Self { left, remaining })
    }
}

impl Model {
    fn wait(&mut self, seconds: u64) {
        self.operators.wait(seconds);
        let total = self.pledges.iter().fold(U512::ZERO, |sum, it| sum + it.bound);
        if total.is_zero() {
            return;
        }
        let due = self.backers.wait(seconds);
        for pledge in &mut self.pledges {
            pledge.earned += due * (pledge.bound >> 64) / (total >> 64);
        }
    }

    fn slash(&mut self, operator: usize, ppm: u32) {
        let keep = |amount: &mut U512| {
            *amount = *amount * U512::from(1_000_000 - ppm) / U512::from(1_000_000u32);
        };
        for pledge in self.pledges.iter_mut().filter(|it| it.operator == operator) {
            keep(&mut pledge.bound);
            pledge.unbonding.iter_mut().for_each(|(amount, _)| keep(amount));
        }
    }

    /// Whether it took the funding.
    fn fund(&mut self, amount: u128, seconds: u64) -> bool {
        let operators = self.operators.fund(amount / 5, seconds);
        let backers = self.backers.fund(amount - amount / 5, seconds);
        let (Some(operators), Some(backers)) = (operators, backers) else { return false };
        (self.operators, self.backers) = (operators, backers);
        true
    }
}

#[derive(Debug, Clone)]
enum Step {
    Commit { who: u8, operator: usize, amount: u128 },
    Increase { index: usize, amount: u128 },
    Uncommit { index: usize, millionths: u128 },
    Release { index: usize },
    Claim { index: usize },
    Fund { amount: u128, seconds: u64 },
    Slash { operator: usize, ppm: u32 },
    Wait { seconds: u64 },
}

fn steps() -> impl Strategy<Value = Step> {
    // Large against the units by which totals are rounded, and slashed by no more than nine tenths unless wholly.
    let amounts = || 10u128.pow(15)..10u128.pow(18);
    let fractions =
        || prop_oneof![Just(1u32), Just(50_000), Just(333_333), Just(900_000), Just(1_000_000)];
    prop_oneof![
        (1..5u8, 0..2usize, amounts()).prop_map(|(who, operator, amount)| Step::Commit {
            who,
            operator,
            amount
        }),
        (0..8usize, amounts()).prop_map(|(index, amount)| Step::Increase { index, amount }),
        (0..8usize, 1..=1_000_000u128)
            .prop_map(|(index, millionths)| Step::Uncommit { index, millionths }),
        (0..8usize).prop_map(|index| Step::Release { index }),
        (0..8usize).prop_map(|index| Step::Claim { index }),
        (1_000_000..1_000_000_000u128, 1..300u64)
            .prop_map(|(amount, seconds)| Step::Fund { amount: amount * 5, seconds }),
        (0..2usize, fractions()).prop_map(|(operator, ppm)| Step::Slash { operator, ppm }),
        (1..150u64).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

fn take(world: &mut World, model: &mut Model, step: &Step) {
    let count = model.pledges.len().max(1);
    match *step {
        Step::Commit { who, operator, amount } => {
            let done = world.commit(account(who), operator, (amount, Purpose::Rewards));
            let id = done.expect("there's enough");
            model.pledges.push(Pledge {
                id,
                who,
                operator,
                bound: fixed(amount),
                unbonding: Vec::new(),
                released: U512::ZERO,
                earned: U512::ZERO,
                claimed: 0,
            });
        }
        Step::Increase { index, amount } => {
            let Some(pledge) = model.pledges.get_mut(index % count) else { return };
            let (commitment, amount) = (pledge.id, lamina_types::Amount(amount));
            let action = lamina_types::Action::Increase { commitment, amount };
            if world.act(account(pledge.who), &action).is_ok() {
                pledge.bound += fixed(amount.0);
            }
        }
        Step::Uncommit { index, millionths } => {
            let Some(pledge) = model.pledges.get_mut(index % count) else { return };
            let amount = world.bound(pledge.id) * millionths / 1_000_000;
            if amount > 0 && world.uncommit(account(pledge.who), pledge.id, amount).is_ok() {
                pledge.bound -= fixed(amount);
                pledge.unbonding.push((fixed(amount), world.time.0 + 100_000_000));
                if world.bound(pledge.id) == 0 {
                    // What slashes left below a unit is lost when all is taken back.
                    pledge.bound = U512::ZERO;
                }
            }
        }
        Step::Release { index } => {
            let Some(pledge) = model.pledges.get_mut(index % count) else { return };
            let before = world.of_account(account(pledge.who), lamina_types::Asset::Ether);
            let done = world.release(account(pledge.who), pledge.id).is_ok();
            let now = world.time.0;
            let due = pledge.unbonding.iter().filter(|it| it.1 <= now);
            let due = due.fold(U512::ZERO, |sum, it| sum + it.0);
            let after = world.of_account(account(pledge.who), lamina_types::Asset::Ether);
            assert!(after - before <= floor(due), "nothing leaves before its time");
            assert!(after - before + DUST >= floor(due));
            assert!(done || floor(due) == 0);
            pledge.unbonding.retain(|it| it.1 > now);
            pledge.released += due;
        }
        Step::Claim { index } => {
            let Some(pledge) = model.pledges.get_mut(index % count) else { return };
            let before = world.of_account(account(pledge.who), TOKEN);
            drop(world.claim(account(pledge.who), pledge.id));
            pledge.claimed += world.of_account(account(pledge.who), TOKEN) - before;
        }
        Step::Fund { amount, seconds } => {
            let flowing = world.fund(amount, seconds).is_ok();
            let flowed = model.fund(amount, seconds);
            assert_eq!(flowing, flowed, "the model refuses what is refused");
        }
        Step::Slash { operator, ppm } => {
            world.slash(operator, ppm);
            model.slash(operator, ppm);
        }
        Step::Wait { seconds } => {
            model.wait(seconds);
            world.wait(seconds);
        }
    }
}

fn compare(world: &World, model: &Model) {
    for pledge in &model.pledges {
        let bound = world.bound(pledge.id);
        assert!(bound <= floor(pledge.bound), "{bound} > {}", floor(pledge.bound));
        assert!(bound + DUST >= floor(pledge.bound), "{bound} < {}", floor(pledge.bound));
        let earned = pledge.claimed + world.owed(pledge.id);
        // A backer who leaves takes the dust of its pool's total along, so another's part can be greater by less
        // than a unit; so it can by what was too little to be shared, and flows on.
        assert!(earned <= floor(pledge.earned) + 2, "{earned} > {}", floor(pledge.earned));
        let dust = DUST + earned / DUST_EARNS;
        assert!(earned + dust >= floor(pledge.earned), "{earned} < {}", floor(pledge.earned));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn commitments_and_rewards_are_what_plain_loops_make_of_them(
        steps in proptest::collection::vec(steps(), 1..50),
    ) {
        let mut world = World::new();
        let mut model = Model::default();
        for step in &steps {
            take(&mut world, &mut model, step);
            compare(&world, &model);
            check(&world);
        }
    }

    #[test]
    fn rewards_do_not_depend_on_how_often_anyone_claims(
        waits in proptest::collection::vec((1..40u64, any::<bool>()), 1..30),
    ) {
        let mut worlds = [World::new(), World::new()];
        let mut got = Vec::new();
        for (number, world) in worlds.iter_mut().enumerate() {
            world.fund(3_333_333_333, 500).unwrap();
            let one = world.commit(account(1), 0, (7_000_000_001, Purpose::Rewards)).unwrap();
            let two = world.commit(account(2), 1, (3_000_000_007, Purpose::Rewards)).unwrap();
            for (seconds, claims) in &waits {
                world.wait(*seconds);
                if *claims && number == 0 {
                    drop(world.claim(account(1), one));
                }
            }
            drop(world.claim(account(1), one));
            let own = world.of_account(account(1), TOKEN) - WEALTH;
            got.push((own, world.owed(two)));
        }
        prop_assert!(got[0].0.abs_diff(got[1].0) <= 40, "{got:?}");
        prop_assert!(got[0].1.abs_diff(got[1].1) <= 40, "{got:?}");
    }
}
