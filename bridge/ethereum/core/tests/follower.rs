//! The follower against endpoints that fail, lag, limit and lie, in simulated time: what it tells is the truth, in order
//! and without gaps, or nothing.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

use std::time::Duration;

use alloy_sol_types::SolEvent as _;
use lamina_ethereum_core::{
    Action, Answer, Config, Contracts, Cursor, Event, Fact, Failure, Follower, Log, Notice, Output,
    Query, abi,
};
use lamina_types::{Address, Canonical as _, Digest, EthereumBlock, Timestamp};
use proptest::prelude::*;

const ETHEREUM_CHAIN: u64 = 1;
const VAULT: Address = Address([3; 20]);
const STRIDE: u64 = 4;

/// A chain: which blocks have how many deposits.
#[derive(Debug, Clone)]
struct Chain {
    deposits: Vec<u8>,
    fork: u8,
}

impl Chain {
    fn block(&self, number: u64) -> EthereumBlock {
        let mut preimage = number.to_be_bytes().to_vec();
        preimage.push(self.fork);
        EthereumBlock { number, hash: Digest::of(&preimage) }
    }

    fn logs(&self, from: u64, to: u64) -> Vec<Log> {
        let mut deposit = 0;
        let mut logs = Vec::new();
        for (number, count) in (0..).zip(&self.deposits) {
            for index in 0..u64::from(*count) {
                if (from..=to).contains(&number) {
                    logs.push(self.log(number, index, deposit));
                }
                deposit += 1;
            }
        }
        logs
    }

    fn log(&self, number: u64, index: u64, deposit: u64) -> Log {
        let event = abi::Vault::Deposited {
            index: deposit,
            account: [self.fork; 20].into(),
            asset: [0; 32].into(),
            amount: 5,
            from: [2; 20].into(),
        };
        let data = event.encode_log_data();
        Log {
            contract: VAULT,
            topics: data.topics().iter().map(|topic| topic.0).collect(),
            data: data.data.to_vec(),
            block: self.block(number),
            index,
            transaction: Digest::default(),
        }
    }

    fn len(&self) -> u64 {
        self.deposits.len() as u64
    }
}

/// How an endpoint behaves.
#[derive(Debug, Clone)]
enum Manner {
    Honest,
    /// Fails every so many questions.
    Flaky(u64),
    Dead,
    Silent,
    OtherChain,
    /// Is so many blocks behind.
    Lagging(u64),
    /// Answers so many blocks' events at a time, or so many events.
    Limited {
        blocks: u64,
        logs: usize,
    },
    /// Leaves out every so many-th event.
    Omitting(usize),
    /// Tells of a chain that isn't, further than the true one.
    Forked,
    /// Answers another question.
    Confused,
}

struct World {
    chain: Chain,
    manners: Vec<Manner>,
    asked: u64,
    follower: Follower,
    now: Timestamp,
    told: Vec<(EthereumBlock, Vec<u64>)>,
    notices: Vec<Notice>,
}

fn config(agreement: usize) -> Config {
    Config {
        chain: "lamina-test-1".parse().unwrap(),
        ethereum_chain: ETHEREUM_CHAIN,
        contracts: Contracts {
            registrar: Address([1; 20]),
            checkpoints: Address([2; 20]),
            vault: VAULT,
            tasks: Address([4; 20]),
            slasher: Address([5; 20]),
        },
        start: 1,
        first_epoch: 1,
        stride: STRIDE,
        agreement,
        poll: Duration::from_secs(12),
    }
}

impl World {
    fn new(chain: Chain, manners: Vec<Manner>, agreement: usize) -> Self {
        let follower = Follower::new(config(agreement), manners.len(), Cursor::start());
        let now = Timestamp(1_000_000);
        Self { chain, manners, asked: 0, follower, now, told: vec![], notices: vec![] }
    }

    fn answer(&self, endpoint: usize, query: Query) -> Option<Result<Answer, Failure>> {
        let manner = &self.manners[endpoint];
        let fork = Chain { deposits: vec![1; self.chain.deposits.len() + 40], fork: 9 };
        let chain = if matches!(manner, Manner::Forked) { &fork } else { &self.chain };
        let unavailable = || Some(Err(Failure::Unavailable("down".to_owned())));
        match manner {
            Manner::Dead => return unavailable(),
            Manner::Flaky(every) if self.asked.is_multiple_of(*every) => return unavailable(),
            Manner::Silent => return None,
            Manner::Confused => return Some(Ok(Answer::Members(vec![(1, 1)]))),
            _ => {}
        }
        Some(match query {
            Query::Status => {
                let behind = if let Manner::Lagging(blocks) = manner { *blocks } else { 0 };
                let other = matches!(manner, Manner::OtherChain);
                Ok(Answer::Status {
                    ethereum_chain: if other { 5 } else { ETHEREUM_CHAIN },
                    finalized: chain.block((chain.len() - 1).saturating_sub(behind)),
                })
            }
            Query::Blocks { numbers } => {
                Ok(Answer::Blocks(numbers.into_iter().map(|n| chain.block(n)).collect()))
            }
            Query::Logs { from, to, .. } => {
                let mut logs = chain.logs(from, to);
                match manner {
                    Manner::Limited { blocks, logs: most }
                        if to - from + 1 > *blocks || (logs.len() > *most && from != to) =>
                    {
                        return Some(Err(Failure::TooMany("too wide".to_owned())));
                    }
                    Manner::Omitting(every) => {
                        let mut i = 0;
                        logs.retain(|_| {
                            i += 1;
                            i % every != 0
                        });
                    }
                    _ => {}
                }
                Ok(Answer::Logs(logs))
            }
            Query::Members { .. } => Err(Failure::Refused("no epochs".to_owned())),
        })
    }

    /// Lets so many questions be asked.
    fn run(&mut self, questions: usize) {
        let mut open = 0;
        while open < questions {
            self.follower.handle(self.now, Event::Tick);
            while let Some(action) = self.follower.poll() {
                match action {
                    Action::Ask { request, endpoint, query } => {
                        open += 1;
                        self.asked += 1;
                        if let Some(answer) = self.answer(endpoint, query) {
                            let event = Event::Answered { request, answer };
                            self.now = self.now + Duration::from_millis(20);
                            self.follower.handle(self.now, event);
                        }
                    }
                    Action::Output(Output::Followed { blocks, cursor }) => {
                        assert_eq!(cursor.last, blocks.last().map(|block| block.block));
                        for block in blocks {
                            let facts = block.facts.iter().map(|fact| match fact {
                                Fact::Deposited(deposit) => deposit.index,
                                other => panic!("{other:?}"),
                            });
                            self.told.push((block.block, facts.collect()));
                        }
                    }
                    Action::Output(Output::Notice(notice)) => self.notices.push(notice),
                }
            }
            let deadline = self.follower.next_deadline().unwrap();
            self.now = self.now.max(deadline) + Duration::from_micros(1);
        }
    }

    /// What is told is true and has no gap; says how far it goes.
    fn check(&self) -> u64 {
        let mut deposit = 0;
        let mut last = 0;
        for (block, deposits) in &self.told {
            assert_eq!(*block, self.chain.block(block.number), "a block that isn't");
            assert!(block.number > last || last == 0 && block.number > 0, "out of order");
            last = block.number;
            for told in deposits {
                assert_eq!(*told, deposit, "a gap");
                deposit += 1;
            }
        }
        let until = |end: u64| {
            let counted = self.chain.deposits.iter().take(usize::try_from(end).unwrap() + 1);
            counted.map(|count| u64::from(*count)).sum::<u64>()
        };
        assert_eq!(deposit, until(last), "what happened until the last block is told");
        for number in (1..=last).filter(|number| number.is_multiple_of(STRIDE)) {
            assert!(self.told.iter().any(|(block, _)| block.number == number), "{number}");
        }
        last
    }

    fn end(&self) -> u64 {
        (self.chain.len() - 1) / STRIDE * STRIDE
    }
}

fn chain() -> Chain {
    // The block before the first one that is read has nothing.
    let deposits = (0..400u16).map(|i| if i % 7 == 3 { 2 } else { 0 }).collect();
    Chain { deposits, fork: 1 }
}

fn failing() -> impl Strategy<Value = Manner> {
    prop_oneof![
        Just(Manner::Dead),
        Just(Manner::Silent),
        Just(Manner::OtherChain),
        Just(Manner::Confused),
        (2u64..9).prop_map(Manner::Flaky),
        (1u64..100).prop_map(Manner::Lagging),
        (1u64..50, 1usize..9).prop_map(|(blocks, logs)| Manner::Limited { blocks, logs }),
        (1usize..5).prop_map(Manner::Omitting),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Endpoints that invent nothing can't hold up one that is honest. (That an omission at the very end goes unseen, and
    /// is told as a gap by the next step, is what `agreement` is for.)
    #[test]
    fn one_honest_endpoint_is_enough(
        mut manners in prop::collection::vec(
            failing().prop_filter("no omissions", |m| !matches!(m, Manner::Omitting(_))), 0..4),
        place in any::<prop::sample::Index>(),
        deposits in prop::collection::vec(0u8..3, 60..300),
    ) {
        manners.insert(place.index(manners.len() + 1), Manner::Honest);
        let mut deposits = deposits;
        deposits[0] = 0;
        let mut world = World::new(Chain { deposits, fork: 1 }, manners, 1);
        world.run(1_500);
        prop_assert_eq!(world.check(), world.end());
    }

    /// Two honest ones outvote any liar.
    #[test]
    fn two_honest_endpoints_outvote_a_liar(
        liar in prop_oneof![failing(), Just(Manner::Forked)],
        place in 0usize..3,
    ) {
        let mut manners = vec![Manner::Honest, Manner::Honest];
        manners.insert(place, liar);
        let mut world = World::new(chain(), manners, 2);
        world.run(1_500);
        prop_assert_eq!(world.check(), world.end());
    }
}

#[test]
fn an_omission_in_between_is_a_lie() {
    let mut world = World::new(chain(), vec![Manner::Omitting(2), Manner::Honest], 1);
    world.run(100);
    assert_eq!(world.check(), world.end());
    assert!(world.notices.iter().any(|n| matches!(n, Notice::Lying { endpoint: 0, .. })));
}

#[test]
fn a_cursor_goes_through_bytes() {
    let mut world = World::new(chain(), vec![Manner::Honest], 1);
    world.run(20);
    let bytes = world.follower.cursor().to_bytes();
    let cursor = Cursor::from_bytes(&bytes).unwrap();
    assert_eq!(&cursor, world.follower.cursor());
    assert_eq!(cursor.last.map(|last| last.number), Some(world.end()));
}

#[test]
fn an_endpoint_that_contradicts_what_was_told_is_refused() {
    let mut world = World::new(chain(), vec![Manner::Honest], 1);
    world.run(20);
    world.manners = vec![Manner::Forked];
    world.run(20);
    assert_eq!(world.check(), world.end());
    assert!(matches!(world.notices[..], [Notice::Contradiction { endpoint: 0, .. }, ..]));
}
