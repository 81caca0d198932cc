//! Operator sets: taken only if their root is the one that the contract has.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

use std::time::Duration;

use alloy_sol_types::SolEvent;
use lamina_certificate::{Operator, OperatorSet, SecretKey};
use lamina_ethereum_core::{
    Action, Answer, Config, Contracts, Cursor, Event, Fact, Follower, Lie, Log, Notice, Output,
    Query, Snapshot, abi, points,
};
use lamina_types::{Address, ChainId, Digest, EpochNumber, EthereumBlock, PeerKey, Timestamp};

const REGISTRAR: Address = Address([1; 20]);
const CHECKPOINTS: Address = Address([2; 20]);

fn chain() -> ChainId {
    "lamina-test-1".parse().unwrap()
}

fn set() -> OperatorSet {
    let operator = |i: u8| Operator {
        address: Address([i; 20]),
        peer_key: PeerKey([i; 32]),
        bls: SecretKey::derive(&[i; 32]).public_key(),
        stake_gwei: u64::from(i) + 1,
    };
    OperatorSet::of_operators(chain(), EpochNumber(1), (0..5).map(operator).collect()).unwrap()
}

fn log(contract: Address, index: u64, event: &impl SolEvent) -> Log {
    let data = event.encode_log_data();
    Log {
        contract,
        topics: data.topics().iter().map(|topic| topic.0).collect(),
        data: data.data.to_vec(),
        block: block(7),
        index,
        transaction: Digest::default(),
    }
}

fn block(number: u64) -> EthereumBlock {
    EthereumBlock { number, hash: Digest::of(&number.to_be_bytes()) }
}

fn logs(set: &OperatorSet) -> Vec<Log> {
    let mut logs: Vec<_> = (0..)
        .zip(set.iter())
        .map(|(i, (_, operator))| {
            let words = points::key_words(&operator.bls);
            let coordinates = words.chunks_exact(2);
            let key = coordinates.flat_map(|pair| [&pair[0][16..], &pair[1][..]].concat());
            let event = abi::Registrar::OperatorRegistered {
                operator: operator.address.0.into(),
                index: alloy_primitives::U256::from(i),
                peerKey: operator.peer_key.0.into(),
                blsKey: key.collect::<Vec<_>>().into(),
                peerProof: [[0; 32].into(); 2],
            };
            log(REGISTRAR, i, &event)
        })
        .collect();
    let started = abi::Checkpoints::EpochStarted {
        epoch: 1,
        root: set.root().0.into(),
        consensusRoot: set.consensus_set().root().0.into(),
        size: 5,
        consensusSize: 5,
        stakeGwei: 15,
    };
    logs.push(log(CHECKPOINTS, 99, &started));
    logs
}

/// What a follower tells of an endpoint that answers so.
fn told(logs: &[Log], members: &[(u64, u64)]) -> Vec<Output> {
    let config = Config {
        chain: chain(),
        ethereum_chain: 1,
        contracts: Contracts {
            registrar: REGISTRAR,
            checkpoints: CHECKPOINTS,
            vault: Address([3; 20]),
            tasks: Address([4; 20]),
            slasher: Address([5; 20]),
        },
        start: 1,
        first_epoch: 1,
        stride: 1,
        agreement: 1,
        poll: Duration::from_secs(1),
    };
    let mut follower = Follower::new(config, 1, Cursor::start());
    follower.handle(Timestamp(1), Event::Tick);
    let mut outputs = Vec::new();
    while let Some(action) = follower.poll() {
        match action {
            Action::Output(output) => outputs.push(output),
            Action::Ask { request, query, .. } => {
                let answer = Ok(match query {
                    Query::Status => Answer::Status { ethereum_chain: 1, finalized: block(9) },
                    Query::Blocks { numbers } => {
                        Answer::Blocks(numbers.into_iter().map(block).collect())
                    }
                    Query::Logs { .. } => Answer::Logs(logs.to_vec()),
                    Query::Members { .. } => Answer::Members(members.to_vec()),
                });
                follower.handle(Timestamp(1), Event::Answered { request, answer });
            }
        }
    }
    outputs
}

fn members(set: &OperatorSet) -> Vec<(u64, u64)> {
    (0..).zip(set.iter().map(|(_, operator)| operator.stake_gwei)).collect()
}

#[test]
fn the_set_is_the_one_whose_root_is_on_chain() {
    let set = set();
    let outputs = told(&logs(&set), &members(&set));
    let [Output::Followed { blocks, .. }] = &outputs[..] else { panic!("{outputs:?}") };
    let facts = blocks.iter().flat_map(|block| &block.facts);
    let snapshots: Vec<_> = facts.filter(|fact| matches!(fact, Fact::EpochStarted(_))).collect();
    let expected = Fact::EpochStarted(Snapshot {
        epoch: EpochNumber(1),
        operators: set.iter().map(|(_, operator)| operator.clone()).collect(),
        root: set.root(),
        consensus_root: set.consensus_set().root(),
    });
    assert_eq!(snapshots, [&expected]);
}

#[test]
fn other_members_or_stakes_are_a_lie() {
    let set = set();
    let right = members(&set);
    let mut forged = vec![vec![], right[1..].to_vec(), [&right[..], &right[..1]].concat()];
    forged.push(right.iter().map(|(index, stake)| (*index, stake + 1)).collect());
    forged.push(right.iter().rev().copied().collect());
    forged.push(vec![(u64::MAX, u64::MAX)]);
    for members in forged {
        let lie = Lie::WrongMembers { epoch: EpochNumber(1) };
        let expected = Output::Notice(Notice::Lying { endpoint: 0, lie });
        assert_eq!(told(&logs(&set), &members), [expected], "{members:?}");
    }
}

#[test]
fn events_that_no_contract_made_are_lies() {
    let set = set();
    let members = members(&set);
    let edits: [fn(&mut Vec<Log>); 8] = [
        |logs| drop(logs.remove(0)),
        |logs| logs.swap(0, 1),
        |logs| logs[0].data.truncate(40),
        |logs| logs[0].topics.truncate(1),
        |logs| logs[0].contract = Address([77; 20]),
        |logs| logs[0].block = block(20),
        |logs| logs[1].block.hash = Digest([1; 32]),
        |logs| logs[1] = logs[0].clone(),
    ];
    for (i, edit) in edits.into_iter().enumerate() {
        let mut logs = logs(&set);
        edit(&mut logs);
        let outputs = told(&logs, &members);
        let is_lie = matches!(outputs[..], [Output::Notice(Notice::Lying { .. })]);
        assert!(is_lie, "{i}: {outputs:?}");
    }
}
