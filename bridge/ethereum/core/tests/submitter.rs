//! The submitter in simulated time, against a pool and a chain that do what they want.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

use std::time::Duration;

use lamina_ethereum_core::{
    Failure, Fees, Job, JobId, Probe, SubmitAction, SubmitAnswer, SubmitConfig, SubmitEvent,
    SubmitNotice, SubmitOutput, SubmitQuery, Submitter, Survey, rank,
};
use lamina_types::{Address, EpochNumber, Height, Timestamp};
use proptest::prelude::*;

const CAP: u128 = 1_000;

/// A chain with one account and a contract that counts what was called.
#[derive(Debug, Default)]
struct Chain {
    nonce: u64,
    count: u64,
    finalized: u64,
    pool: Option<(u64, Fees)>,
    balance_wei: u128,
    base_fee: u128,
}

struct World {
    chain: Chain,
    submitter: Submitter,
    now: Timestamp,
    outputs: Vec<SubmitOutput>,
}

impl World {
    fn new() -> Self {
        let config = SubmitConfig {
            ethereum_chain: 1,
            account: Address([1; 20]),
            slot: Duration::from_secs(60),
            stuck_after: Duration::from_secs(36),
            poll: Duration::from_secs(6),
            fee_per_gas_max: CAP,
            tip_per_gas_min: 1,
        };
        let chain = Chain { balance_wei: u128::MAX, base_fee: 10, ..Chain::default() };
        let submitter = Submitter::new(config, 2);
        Self { chain, submitter, now: Timestamp(0), outputs: Vec::new() }
    }

    fn submit(&mut self, id: u64, rank: u32) {
        let contract = Address([2; 20]);
        let done = Probe { contract, input: vec![], word: 0, at_least: id };
        let job = Job { id: JobId(id), contract, input: vec![1], value_wei: 0, done, rank };
        self.submitter.handle(self.now, SubmitEvent::Submit(job));
    }

    fn answer(&mut self, query: &SubmitQuery) -> SubmitAnswer {
        let chain = &mut self.chain;
        match query {
            SubmitQuery::Survey { .. } => SubmitAnswer::Survey(Survey {
                ethereum_chain: 1,
                nonce: chain.nonce,
                balance_wei: chain.balance_wei,
                base_fee: chain.base_fee,
                tip: 1,
                latest: chain.count,
                finalized: chain.finalized,
            }),
            SubmitQuery::Estimate { .. } => SubmitAnswer::Gas(100),
            SubmitQuery::Send { nonce, fees, .. } => {
                assert!(fees.max <= CAP, "never above the cap");
                assert!(fees.tip <= fees.max);
                match chain.pool {
                    _ if *nonce < chain.nonce => SubmitAnswer::NonceTooLow,
                    Some((pending, _)) if pending != *nonce => panic!("a gap in the numbers"),
                    Some((_, before)) if before == *fees => SubmitAnswer::Sent,
                    Some((_, before))
                        if fees.max * 10 < before.max * 11 || fees.tip * 10 < before.tip * 11 =>
                    {
                        SubmitAnswer::Underpriced
                    }
                    _ => {
                        chain.pool = Some((*nonce, *fees));
                        SubmitAnswer::Sent
                    }
                }
            }
        }
    }

    /// Handles what is due now; some questions aren't answered.
    fn turn(&mut self, fails: bool) {
        self.submitter.handle(self.now, SubmitEvent::Tick);
        while let Some(action) = self.submitter.poll() {
            match action {
                SubmitAction::Ask { request, query, .. } => {
                    let answer = if fails {
                        Err(Failure::Unavailable("down".to_owned()))
                    } else {
                        Ok(self.answer(&query))
                    };
                    self.submitter.handle(self.now, SubmitEvent::Answered { request, answer });
                }
                SubmitAction::Output(output) => self.outputs.push(output),
            }
        }
    }

    fn run(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        self.turn(false);
        while self.submitter.next_deadline().is_some_and(|deadline| deadline <= end) {
            self.now = self.now.max(self.submitter.next_deadline().unwrap());
            self.turn(false);
        }
        self.now = end;
    }

    fn mine(&mut self) {
        if let Some((nonce, fees)) = self.chain.pool
            && fees.max >= self.chain.base_fee
        {
            assert_eq!(nonce, self.chain.nonce);
            self.chain.pool = None;
            self.chain.nonce += 1;
            self.chain.count += 1;
        }
    }

    fn is_done(&self, id: u64) -> bool {
        let is = |output: &SubmitOutput| matches!(output, SubmitOutput::Done { job: JobId(job), .. } if *job == id);
        self.outputs.iter().any(is)
    }

    fn notices(&self) -> Vec<&SubmitNotice> {
        let outputs = self.outputs.iter();
        outputs
            .filter_map(|output| match output {
                SubmitOutput::Notice(notice) => Some(notice),
                _ => None,
            })
            .collect()
    }
}

#[test]
fn done_is_what_is_final() {
    let mut world = World::new();
    world.submit(1, 0);
    world.run(1);
    world.mine();
    world.run(60);
    assert_eq!(world.outputs, [SubmitOutput::InBlock { job: JobId(1) }]);
    world.chain.finalized = 1;
    world.run(60);
    assert_eq!(world.outputs[1..], [SubmitOutput::Done { job: JobId(1), sent: true }]);
    assert_eq!(world.submitter.next_deadline(), None);
}

#[test]
fn a_later_rank_waits_and_finds_it_done() {
    let mut world = World::new();
    world.submit(1, 2);
    world.run(119);
    assert_eq!(world.chain.pool, None);
    (world.chain.count, world.chain.finalized) = (1, 1);
    world.run(10);
    assert_eq!(world.outputs, [SubmitOutput::Done { job: JobId(1), sent: false }]);
}

#[test]
fn fees_rise_to_the_cap_and_no_further() {
    let mut world = World::new();
    world.submit(1, 0);
    world.chain.base_fee = 400;
    world.run(1);
    world.chain.base_fee = 5_000;
    world.run(3_600);
    let told = world.notices().iter().filter(|n| matches!(n, SubmitNotice::FeeCap { .. })).count();
    assert_eq!(told, 1, "told once");
    world.chain.base_fee = 10;
    world.mine();
    world.chain.finalized = 1;
    world.run(60);
    assert!(world.is_done(1));
}

#[test]
fn an_empty_account_is_told_once_and_filled_later() {
    let mut world = World::new();
    world.chain.balance_wei = 5;
    world.submit(1, 0);
    world.run(600);
    assert!(matches!(world.notices()[..], [SubmitNotice::OutOfFunds { balance_wei: 5, .. }]));
    world.chain.balance_wei = u128::MAX;
    world.run(10);
    assert!(world.chain.pool.is_some());
}

#[test]
fn what_another_process_left_in_the_pool_is_outbid() {
    let mut world = World::new();
    world.chain.pool = Some((0, Fees { max: 100, tip: 50 }));
    world.submit(1, 0);
    world.run(600);
    assert!(world.chain.pool.is_some_and(|(_, fees)| fees.tip >= 55 && fees.max >= 110));
}

#[test]
fn every_operator_has_a_turn_of_its_own() {
    let operators: Vec<_> = (0..20).map(|i| Address([i; 20])).collect();
    let of = |height, own| rank(EpochNumber(1), Height(height), &operators, own);
    let mut firsts = std::collections::BTreeSet::new();
    for height in 0..200 {
        let mut ranks: Vec<_> = operators.iter().map(|own| of(height, own)).collect();
        firsts.insert(ranks.iter().position(|rank| *rank == 0));
        ranks.sort_unstable();
        assert!(ranks.into_iter().eq(0..20));
    }
    assert!(firsts.len() > 15, "most were first once");
    assert_eq!(of(1, &Address([99; 20])), 20);
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Fail(u64),
    Mine,
    Reorganise,
    Finalise,
    BaseFee(u128),
    Forget,
    Submit,
    Cancel,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1u64..100).prop_map(Step::Wait),
        (1u64..30).prop_map(Step::Fail),
        Just(Step::Mine),
        Just(Step::Reorganise),
        Just(Step::Finalise),
        (1u128..600).prop_map(Step::BaseFee),
        Just(Step::Forget),
        Just(Step::Submit),
        Just(Step::Cancel),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever happens in between, once the chain goes on all that was asked for gets there, and nothing is called
    /// done that isn't final.
    #[test]
    fn all_jobs_are_done_in_the_end(steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::new();
        let mut jobs = 0;
        let mut cancelled = std::collections::BTreeSet::new();
        for step in steps {
            match step {
                Step::Wait(seconds) => world.run(seconds),
                Step::Fail(seconds) => {
                    world.now = world.now + Duration::from_secs(seconds);
                    world.turn(true);
                }
                Step::Mine => world.mine(),
                // The block goes, with its transaction, which nobody remembers.
                Step::Reorganise if world.chain.count > world.chain.finalized => {
                    world.chain.count -= 1;
                    world.chain.nonce -= 1;
                    world.chain.pool = None;
                }
                Step::Finalise => world.chain.finalized = world.chain.count,
                Step::BaseFee(fee) => world.chain.base_fee = fee,
                Step::Forget => world.chain.pool = None,
                Step::Submit if jobs < 8 => {
                    jobs += 1;
                    world.submit(jobs, 0);
                }
                Step::Reorganise | Step::Submit => {}
                Step::Cancel => {
                    cancelled.insert(jobs);
                    world.submitter.handle(world.now, SubmitEvent::Cancel(JobId(jobs)));
                }
            }
            for id in 1..=jobs {
                prop_assert!(!world.is_done(id) || world.chain.finalized >= id);
            }
        }
        world.chain.base_fee = 10;
        for _ in 0..2_000 {
            world.run(12);
            world.mine();
            world.chain.finalized = world.chain.count;
        }
        world.run(120);
        for id in 1..=jobs {
            prop_assert!(world.is_done(id) || cancelled.contains(&id), "job {} of {}", id, jobs);
        }
    }
}
