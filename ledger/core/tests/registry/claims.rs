use lamina_ledger::state::Refusal;
use lamina_ledger::state::bank;
use lamina_ledger::state::claims::{self, Claim, DEPTH};
use lamina_types::{Action, Address, Amount, Asset, Digest};
use proptest::prelude::*;

use crate::network::{Network, address};

const TOKEN: Asset = Asset::Erc20(Address([0x33; 20]));

fn withdraw(recipient: u8, asset: Asset, amount: u128) -> Action {
    Action::Withdraw { recipient: Address([recipient; 20]), asset, amount: Amount(amount) }
}

/// One checkpoint with so many withdrawals.
fn withdraw_often(network: &mut Network, count: u8) {
    let withdrawals = (1..=count).map(|i| (address(1), withdraw(7, Asset::Ether, i.into())));
    let results = network.apply_all(withdrawals.collect());
    assert!(results.iter().all(Result::is_ok));
}

fn with_claims(count: u8) -> Network {
    let mut network = Network::new();
    network.fund(address(1), Asset::Ether, 1_000);
    withdraw_often(&mut network, count);
    network
}

/// The root by the definition.
fn naive_root(leaves: &[Digest], depth: usize) -> Digest {
    let join = |l: Digest, r: Digest| {
        let bytes = [&[1], l.0.as_slice(), r.0.as_slice()].concat();
        Digest(alloy_primitives::keccak256(bytes).0)
    };
    if depth == 0 {
        return leaves.first().copied().unwrap_or_default();
    }
    if leaves.is_empty() {
        let below = naive_root(&[], depth - 1);
        return join(below, below);
    }
    let (left, right) = leaves.split_at(leaves.len().min(1 << (depth - 1)));
    join(naive_root(left, depth - 1), naive_root(right, depth - 1))
}

#[test]
fn withdrawal_burns_and_becomes_a_claim() {
    let mut network = Network::new();
    network.fund(address(1), TOKEN, 100);
    network.apply(address(1), withdraw(9, TOKEN, 60)).unwrap();
    assert_eq!(network.balance(address(1), TOKEN), 40);
    let scope = network.scope();
    assert_eq!(bank::supply(&scope, TOKEN).unwrap(), Amount(40));
    let record = claims::claim(&scope, 0).unwrap().unwrap();
    let claim = Claim { index: 0, recipient: Address([9; 20]), asset: TOKEN, amount: Amount(60) };
    assert_eq!((record.claim, record.height), (claim, network.height()));
    assert_eq!(claims::claims(&scope, 0, 9).unwrap(), [record]);
    assert_eq!(claims::claims(&scope, 1, 9).unwrap(), []);
}

#[test]
fn refused_withdrawal_leaves_the_tree_alone() {
    let mut network = Network::new();
    let voucher = Asset::Ibc(lamina_types::Voucher::new([1; 32]));
    network.fund(address(1), voucher, 100);
    network.fund(address(1), Asset::Ether, 5);
    let root = claims::root(&network.scope()).unwrap();
    let foreign = network.apply(address(1), withdraw(9, voucher, 1));
    assert!(matches!(foreign, Err(Refusal::Invalid { .. })));
    let lacking = network.apply(address(1), withdraw(9, Asset::Ether, 6));
    assert!(matches!(lacking, Err(Refusal::Insufficient { .. })));
    assert_eq!(claims::root(&network.scope()).unwrap(), root);
    assert_eq!(claims::count(&network.scope()).unwrap(), 0);
    assert_eq!(network.balance(address(1), voucher), 100);
}

/// Computed in Python with a Keccak of its own.
#[test]
fn roots_are_frozen() {
    let mut network = Network::new();
    let root = |network: &Network| hex::encode(&network.memory.entries[b"claims/root".as_slice()]);
    let empty = "7c1d0e8a93ea9c09cc13b91ead8f72de66a33cb695c30934dc2d75bffac1248e";
    assert_eq!(root(&network), empty);
    let ether = 10u128.pow(18);
    network.fund(address(1), Asset::Ether, ether);
    network.fund(address(1), TOKEN, 5);
    network.apply(address(1), withdraw(0x11, Asset::Ether, ether)).unwrap();
    network.fund(address(1), Asset::Ether, u128::MAX);
    network.apply(address(1), withdraw(0x22, TOKEN, 5)).unwrap();
    network.apply(address(1), withdraw(0x11, Asset::Ether, u128::MAX)).unwrap();
    let three = "b20ae376bc2ba395673f92475673a5609d022208d4da05f3cf71cd9e35c89efc";
    assert_eq!(root(&network), three);
}

#[test]
fn every_claim_is_proven_and_nothing_else() {
    for count in [1, 2, 3, 4, 7, 8, 13] {
        let network = with_claims(count);
        let scope = network.scope();
        let root = claims::root(&scope).unwrap();
        for index in 0..u64::from(count) {
            let proof = claims::claim_proof(&scope, index).unwrap().unwrap();
            let claim = claims::claim(&scope, index).unwrap().unwrap().claim;
            assert!(claim.is_proven(&proof, &root), "{index} of {count}");
            let others = [
                Claim { index: (index + 1) % 16, ..claim },
                Claim { index: index + (1 << DEPTH), ..claim },
                Claim { recipient: Address([8; 20]), ..claim },
                Claim { asset: TOKEN, ..claim },
                Claim { amount: Amount(claim.amount.0 + 1), ..claim },
            ];
            assert!(others.iter().all(|other| !other.is_proven(&proof, &root)));
            for level in 0..DEPTH {
                let mut siblings = proof;
                siblings[level].0[5] ^= 1;
                assert!(!claim.is_proven(&siblings, &root));
            }
        }
    }
}

#[test]
fn claims_that_are_not_there_have_no_proof() {
    let network = with_claims(3);
    for index in [3, 4, 1 << DEPTH, u64::MAX] {
        assert_eq!(claims::claim_proof(&network.scope(), index).unwrap(), None);
    }
}

#[test]
fn proof_is_of_the_root_that_it_was_made_for() {
    let mut network = with_claims(3);
    let claim = claims::claim(&network.scope(), 1).unwrap().unwrap().claim;
    let old = claims::claim_proof(&network.scope(), 1).unwrap().unwrap();
    withdraw_often(&mut network, 1);
    let root = claims::root(&network.scope()).unwrap();
    let new = claims::claim_proof(&network.scope(), 1).unwrap().unwrap();
    assert!(!claim.is_proven(&old, &root));
    assert!(claim.is_proven(&new, &root));
}

#[test]
fn deposit_is_credited_once() {
    let mut network = Network::new();
    let deposit = |network: &mut Network, id: u8, amount| {
        let (id, amount) = (Digest([id; 32]), Amount(amount));
        network.change(|scope, _| claims::credit_deposit(scope, address(1), TOKEN, amount, &id))
    };
    assert_eq!(deposit(&mut network, 1, 10), Ok(true));
    assert_eq!(deposit(&mut network, 1, 10), Ok(false));
    assert_eq!(deposit(&mut network, 1, 99), Ok(false));
    assert_eq!(deposit(&mut network, 2, 5), Ok(true));
    assert_eq!(deposit(&mut network, 3, u128::MAX), Err(Refusal::Overflow));
    assert_eq!(network.balance(address(1), TOKEN), 15);
    let credit = claims::credit(&network.scope(), &Digest([1; 32])).unwrap().unwrap();
    assert_eq!(credit.amount, Amount(10));
    assert_eq!(claims::credit(&network.scope(), &Digest([3; 32])).unwrap(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn incremental_root_is_the_naive_one(batches in prop::collection::vec(0u8..9, 1..5)) {
        let mut network = Network::new();
        network.fund(address(1), Asset::Ether, 1_000);
        for batch in batches {
            withdraw_often(&mut network, batch);
            let scope = network.scope();
            let claims = claims::claims(&scope, 0, usize::MAX).unwrap();
            let leaves: Vec<_> = claims.iter().map(|record| record.claim.leaf()).collect();
            prop_assert_eq!(claims::root(&scope).unwrap(), naive_root(&leaves, DEPTH));
        }
    }
}
