use std::sync::Arc;

use ed25519_dalek::Signer as _;
use lamina_certificate::{EthereumContracts, EthereumGenesis, NO_REGISTRAR, OperatorRecord};
use lamina_ledger::state::operators::{
    self, Operators, SERVICE_SET_HEIGHTS_MAX, SWITCHES_MAX, Sets,
};
use lamina_ledger::state::{Module as _, Refusal, Scope, Stop};
use lamina_types::{
    Action, Address, Bytes, EpochNumber, Height, OperatorIndex, OperatorKeys, ServiceId, signing,
};

use crate::network::{
    EPOCH_1, Memory, Network, UNKNOWN, address, bls, chain, genesis, peer, peer_key, reason, seeds,
};

/// Keys of `seed` with proofs that they are the account's.
fn keys(seed: u8, account: Address) -> OperatorKeys {
    keys_for(&NO_REGISTRAR, seed, account)
}

fn keys_for(registrar: &Address, seed: u8, account: Address) -> OperatorKeys {
    let bls_key = bls(seed).public_key().to_bytes();
    let proof =
        bls(seed).sign(&signing::proof_of_possession(&chain(), &account, registrar, &bls_key));
    let peer_key = peer_key(seed);
    let peer_signature =
        peer(seed).sign(&signing::peer_possession(&chain(), &account, &peer_key).0);
    OperatorKeys {
        peer_key,
        bls_public_key: Bytes::new(bls_key).unwrap(),
        proof_of_possession: Bytes::new(proof.to_bytes()).unwrap(),
        peer_signature: Bytes::new(peer_signature.to_bytes()).unwrap(),
    }
}

fn register(network: &mut Network, account: Address, keys: OperatorKeys) -> Result<(), Refusal> {
    network.apply(account, Action::RegisterOperator { keys: Box::new(keys) })
}

fn opt_in(network: &mut Network, operator: u8, service: ServiceId) -> Result<(), Refusal> {
    network.apply(address(operator), Action::OptIn { service })
}

fn opt_out(network: &mut Network, operator: u8, service: ServiceId) -> Result<(), Refusal> {
    network.apply(address(operator), Action::OptOut { service })
}

fn serving_at(network: &Network, service: ServiceId, height: u64) -> Vec<u8> {
    seeds(&network.service_set(service, Height(height)))
}

#[test]
fn sets_of_all_epochs_are_those_of_the_genesis_file() {
    let network = Network::new();
    let sets = Sets::default();
    for (first, set) in genesis().epochs().unwrap() {
        let scope = network.scope();
        let found = sets.of_epoch(&scope, set.epoch()).unwrap().unwrap();
        assert_eq!((found.root(), found.epoch()), (set.root(), set.epoch()));
        let epoch = operators::epoch(&scope, set.epoch()).unwrap().unwrap();
        assert_eq!((epoch.first, epoch.root), (first, set.root()));
        assert!(found.iter().all(|(index, operator)| {
            let known = operators::index_of(&scope, set.epoch(), operator.address).unwrap();
            known == Some(index)
        }));
    }
    assert!(sets.of_epoch(&network.scope(), EpochNumber(2)).unwrap().is_none());
}

#[test]
fn genesis_file_that_does_not_hold_is_refused() {
    let mut genesis = genesis();
    genesis.operators[0].proof_of_possession = genesis.operators[1].proof_of_possession;
    let memory = Memory::default();
    let refused = Operators.genesis(&mut Scope::new(&memory), &genesis);
    assert!(matches!(refused, Err(Stop::Refused(Refusal::Invalid { .. }))));
}

#[test]
fn epoch_follows_from_the_height() {
    let network = Network::new();
    let at = |height| operators::epoch_at(&network.scope(), Height(height)).unwrap();
    let (first, second) = (Some(EpochNumber(0)), Some(EpochNumber(1)));
    let heights = [0, 1, EPOCH_1 - 1, EPOCH_1, EPOCH_1 + 1, u64::MAX];
    assert_eq!(heights.map(at), [first, first, first, second, second, second]);
}

#[test]
fn members_are_read_in_pages() {
    let network = Network::new();
    let page = |from, limit| -> Vec<_> {
        let scope = network.scope();
        let found = operators::members(&scope, EpochNumber(1), OperatorIndex(from), limit).unwrap();
        found.into_iter().map(|member| member.address).collect()
    };
    assert_eq!(page(0, 3), [2, 3, 4].map(address));
    assert_eq!(page(3, 3), [5].map(address));
    assert_eq!(page(4, 3), []);
}

#[test]
fn keys_are_registered_once() {
    let mut network = Network::new();
    let own = keys(6, address(6));
    assert_eq!(register(&mut network, address(6), own.clone()), Ok(()));
    let known = operators::registered(&network.scope(), address(6)).unwrap().unwrap();
    assert_eq!((known.peer_key, &known.bls_public_key), (own.peer_key, &own.bls_public_key));
    assert_eq!(register(&mut network, address(6), own), Ok(()));
    let other = register(&mut network, address(6), keys(7, address(6)));
    assert_eq!(other, Err(Refusal::exists("operator")));
}

#[test]
fn keys_of_somebody_else_are_refused() {
    let mut network = Network::new();
    register(&mut network, address(6), keys(6, address(6))).unwrap();
    for taken in [6, 1] {
        let known = register(&mut network, address(7), keys(taken, address(7)));
        assert_eq!(known, Err(Refusal::exists("key")));
    }
    let mut half = keys(8, address(7));
    half.peer_key = peer_key(6);
    assert_eq!(register(&mut network, address(7), half), Err(Refusal::exists("key")));
}

#[test]
fn keys_without_possession_are_refused() {
    let mut network = Network::new();
    let copied = register(&mut network, address(7), keys(8, address(8)));
    assert_eq!(reason(copied), "the node key's proof of possession doesn't hold");
    let mut keys_ = keys(8, address(7));
    keys_.proof_of_possession = keys(8, address(8)).proof_of_possession;
    let copied = register(&mut network, address(7), keys_.clone());
    assert_eq!(reason(copied), "the BLS key's proof of possession doesn't hold");
    keys_.proof_of_possession = Bytes::new([0xff; 96]).unwrap();
    assert!(register(&mut network, address(7), keys_.clone()).is_err());
    keys_.proof_of_possession = Bytes::default();
    assert!(register(&mut network, address(7), keys_).is_err());
    assert_eq!(operators::registered(&network.scope(), address(7)).unwrap(), None);
}

#[test]
fn keys_are_registered_for_the_registrar_on_ethereum_if_there_is_one() {
    let registrar = Address([9; 20]);
    let mut genesis = genesis();
    genesis.ledger.epochs.clear();
    genesis.operators = vec![OperatorRecord::for_registrar(
        &chain(),
        &registrar,
        address(1),
        peer_key(1),
        &bls(1),
        1,
    )];
    let zero = Address([0; 20]);
    let (checkpoints, vault, tasks, slasher) = (zero, zero, zero, zero);
    genesis.ethereum = Some(EthereumGenesis {
        contracts: EthereumContracts { registrar, checkpoints, vault, tasks, slasher },
        start: 1,
        stride: 32.try_into().unwrap(),
        first_epoch: EpochNumber(1),
    });
    let mut network = Network::of(&genesis);
    let elsewhere = register(&mut network, address(7), keys(7, address(7)));
    assert_eq!(reason(elsewhere), "the BLS key's proof of possession doesn't hold");
    let keys = keys_for(&registrar, 7, address(7));
    assert_eq!(register(&mut network, address(7), keys), Ok(()));
}

#[test]
fn operators_of_the_epoch_choose_services() {
    let mut network = Network::new();
    let service = network.register(9);
    assert_eq!(opt_in(&mut network, 1, UNKNOWN), Err(Refusal::unknown("service")));
    let outsider = opt_in(&mut network, 5, service);
    assert_eq!(reason(outsider), "only an operator of this epoch may do this");
    assert_eq!(reason(opt_out(&mut network, 1, service)), "it doesn't serve the service");
    assert_eq!(opt_in(&mut network, 1, service), Ok(()));
    assert_eq!(reason(opt_in(&mut network, 1, service)), "it serves the service");
    network.skip_to(EPOCH_1);
    assert!(opt_in(&mut network, 1, service).is_err());
    assert_eq!(opt_in(&mut network, 5, service), Ok(()));
    assert_eq!(opt_out(&mut network, 1, service), Ok(()));
}

#[test]
fn service_set_is_everyone_until_somebody_chooses() {
    let mut network = Network::new();
    let service = network.register(9);
    let none = network.height().0;
    opt_in(&mut network, 4, service).unwrap();
    opt_in(&mut network, 2, service).unwrap();
    opt_out(&mut network, 4, service).unwrap();
    opt_out(&mut network, 2, service).unwrap();
    let sets: Vec<_> = (none..none + 5).map(|h| serving_at(&network, service, h)).collect();
    let all = vec![1, 2, 3, 4];
    assert_eq!(sets, [all.clone(), vec![4], vec![2, 4], vec![2], all]);
}

#[test]
fn service_set_keeps_stakes_and_epoch() {
    let mut network = Network::new();
    let service = network.register(9);
    for seed in [1, 3, 4] {
        opt_in(&mut network, seed, service).unwrap();
    }
    let set = network.service_set(service, network.height());
    assert_eq!((set.size(), set.stake_gwei(), set.epoch()), (3, 4, EpochNumber(0)));
    assert_eq!(set.get(OperatorIndex(2)).unwrap().bls, bls(4).public_key());
}

#[test]
fn sets_are_made_once_and_never_mistaken() {
    let mut network = Network::new();
    let service = network.register(9);
    let sets = Sets::default();
    let at = |network: &Network, height| {
        sets.service_set(&network.scope(), service, Height(height)).unwrap().unwrap()
    };
    let first = at(&network, 1);
    assert!(Arc::ptr_eq(&first, &at(&network, 1)));
    opt_in(&mut network, 1, service).unwrap();
    opt_in(&mut network, 2, service).unwrap();
    opt_out(&mut network, 1, service).unwrap();
    assert!(Arc::ptr_eq(&first, &at(&network, 1)));
    let found = [1, 2, 3, 4, EPOCH_1, 2, 3, 4].map(|height| seeds(&at(&network, height)));
    let expected = [&[1, 2, 3, 4][..], &[1], &[1, 2], &[2], &[2], &[1], &[1, 2], &[2]];
    assert_eq!(found.each_ref().map(Vec::as_slice), expected);
    assert_eq!(at(&network, EPOCH_1).epoch(), EpochNumber(1));
}

#[test]
fn choices_of_those_who_left_do_not_count() {
    let mut network = Network::new();
    let service = network.register(9);
    opt_in(&mut network, 1, service).unwrap();
    assert_eq!(serving_at(&network, service, EPOCH_1 - 1), [1]);
    assert_eq!(serving_at(&network, service, EPOCH_1), [2, 3, 4, 5]);
    opt_in(&mut network, 3, service).unwrap();
    assert_eq!(serving_at(&network, service, EPOCH_1 - 1), [1, 3]);
    assert_eq!(serving_at(&network, service, EPOCH_1), [3]);
}

#[test]
fn serving_needs_the_set_and_the_choice_if_there_is_one() {
    let mut network = Network::new();
    let service = network.register(9);
    let serves = |network: &Network, epoch, seed| {
        operators::serves(&network.scope(), EpochNumber(epoch), service, address(seed)).unwrap()
    };
    assert!(serves(&network, 0, 1) && serves(&network, 1, 5));
    assert!(!serves(&network, 0, 5) && !serves(&network, 2, 1));
    assert!(!operators::serves(&network.scope(), EpochNumber(0), UNKNOWN, address(1)).unwrap());
    opt_in(&mut network, 1, service).unwrap();
    assert!(serves(&network, 0, 1) && !serves(&network, 0, 2));
    assert!(serves(&network, 1, 2), "operator 1 isn't in epoch 1, where nobody chose");
    opt_out(&mut network, 1, service).unwrap();
    assert!(serves(&network, 0, 2));
}

#[test]
fn choice_taken_back_in_its_checkpoint_leaves_nothing() {
    let mut network = Network::new();
    let service = network.register(9);
    let before = network.memory.entries.clone();
    let both = [Action::OptIn { service }, Action::OptOut { service }];
    let results = network.apply_all(both.map(|action| (address(1), action)).to_vec());
    assert_eq!(results, [Ok(()), Ok(())]);
    assert_eq!(network.memory.entries, before);
}

#[test]
fn choices_are_not_changed_all_the_time() {
    let mut network = Network::new();
    network.skip_to(EPOCH_1);
    let service = network.register(9);
    for _ in 0..SWITCHES_MAX / 2 {
        opt_in(&mut network, 2, service).unwrap();
        opt_out(&mut network, 2, service).unwrap();
    }
    assert!(reason(opt_in(&mut network, 2, service)).contains("too often"));
    let refused = network.height().0;
    network.skip_to(refused + SERVICE_SET_HEIGHTS_MAX);
    assert_eq!(opt_in(&mut network, 2, service), Ok(()));
    assert_eq!(opt_out(&mut network, 2, service), Ok(()));
    let now = network.height().0;
    assert_eq!(serving_at(&network, service, now - 1), [2]);
    assert_eq!(serving_at(&network, service, now - 2), [2, 3, 4, 5]);
    assert_eq!(serving_at(&network, service, now), [2, 3, 4, 5]);
}

/// Also if what is left of its choices begins with having left.
#[test]
fn whoever_serves_can_leave() {
    let mut network = Network::new();
    let service = network.register(9);
    opt_in(&mut network, 2, service).unwrap();
    opt_out(&mut network, 2, service).unwrap();
    network.skip_to(SERVICE_SET_HEIGHTS_MAX + 100);
    while opt_in(&mut network, 2, service).is_ok() {
        assert_eq!(opt_out(&mut network, 2, service), Ok(()));
    }
    let choices = operators::choices(&network.scope(), service).unwrap();
    assert!(!choices[&address(2)].now());
}
