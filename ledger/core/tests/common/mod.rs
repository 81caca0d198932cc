//! A small network: accounts, checkpoints, and a state machine with modules made for tests.

#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

use std::collections::BTreeMap;
use std::time::Duration;

use lamina_certificate::{Deposit, FeeSchedule, Genesis, LedgerGenesis};
use lamina_ledger::state::accounts::Accounts;
use lamina_ledger::state::bank::{self, Holder};
use lamina_ledger::state::{
    CLAIMS_KEY, CheckpointInput, Env, Executed, Machine, Module, Origin, Receipt, Refusal, Scope,
    Stop, Writes, results,
};
use lamina_ledger::testing::MemoryState;
use lamina_ledger::{StateReader, StorageError};
use lamina_types::{
    AccountKey, Action, Address, Amount, Asset, Digest, EpochNumber, EthereumBlock, HeaderId,
    Height, Operation, OperationId, ServiceId, SignedOperation, TaskId, Timestamp,
};

/// What each account has at the start.
pub(crate) const DEPOSIT: u128 = 1_000_000;
/// The network's fees: an operation here has about 200 bytes.
pub(crate) const FEES: FeeSchedule =
    FeeSchedule { asset: Asset::Ether, base: Amount(100), per_byte: Amount(1) };
/// An end that no test reaches.
pub(crate) const FOREVER: Timestamp = Timestamp(u64::MAX);

/// A network, with its state as of the last checkpoint.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) machine: Machine,
    pub(crate) genesis: Genesis,
    pub(crate) state: MemoryState,
    pub(crate) height: u64,
    pub(crate) time: Timestamp,
}

impl Network {
    pub(crate) fn new() -> Self {
        Self::with(modules(), FEES)
    }

    pub(crate) fn with(modules: Vec<Box<dyn Module>>, fees: FeeSchedule) -> Self {
        let genesis = genesis(fees);
        let fees = genesis.ledger.fees.clone();
        let machine = Machine::new(genesis.signing_context(), fees, modules);
        let state = MemoryState::genesis(&machine, &genesis);
        Self { machine, state, height: 0, time: genesis.ledger.time, genesis }
    }

    pub(crate) fn input(&self, operations: &[SignedOperation]) -> CheckpointInput {
        let context = self.genesis.signing_context();
        let named = |signed: &SignedOperation| (signed.operation.id(&context), signed.clone());
        CheckpointInput {
            height: Height(self.height + 1),
            previous: HeaderId([u8::try_from(self.height % 251).unwrap(); 32]),
            time: self.time + Duration::from_secs(1),
            epoch: EpochNumber(0),
            ethereum: EthereumBlock::default(),
            deposits: Vec::new(),
            operators: None,
            operations: operations.iter().map(named).collect(),
            system: Writes::new(),
        }
    }

    /// Makes a checkpoint a second after the last one.
    pub(crate) fn checkpoint(&mut self, operations: &[SignedOperation]) -> Executed {
        let input = self.input(operations);
        self.execute(&input)
    }

    /// Makes a checkpoint and checks that no value came or went.
    pub(crate) fn execute(&mut self, input: &CheckpointInput) -> Executed {
        let executed = self.machine.execute(&self.state, input).unwrap();
        self.state.commit(&executed);
        (self.height, self.time) = (input.height.0, input.time);
        assert_conserved(&self.state);
        executed
    }

    pub(crate) fn balance(&self, account: u8) -> u128 {
        self.held(&Holder::Account { account: address(account) })
    }

    pub(crate) fn held(&self, holder: &Holder) -> u128 {
        bank::balance(&Scope::new(&self.state), holder, Asset::Ether).unwrap().0
    }

    pub(crate) fn supply(&self) -> u128 {
        bank::supply(&Scope::new(&self.state), Asset::Ether).unwrap().0
    }

    pub(crate) fn next(&self, account: u8) -> u64 {
        let scope = Scope::new(&self.state);
        lamina_ledger::state::accounts::next_sequence(&scope, address(account)).unwrap()
    }

    pub(crate) fn waiting(&self, account: u8) -> Vec<u64> {
        let scope = Scope::new(&self.state);
        let waiting = lamina_ledger::state::accounts::waiting(&scope, address(account)).unwrap();
        waiting.into_iter().map(|(sequence, _)| sequence).collect()
    }

    pub(crate) fn id(&self, signed: &SignedOperation) -> OperationId {
        signed.operation.id(&self.genesis.signing_context())
    }

    /// The operation's fee.
    pub(crate) fn fee(&self, signed: &SignedOperation) -> u128 {
        lamina_ledger::state::accounts::fee(&self.genesis.ledger.fees, &signed.operation).unwrap().0
    }

    pub(crate) fn sign(&self, account: u8, sequence: u64, action: Action) -> SignedOperation {
        self.sign_with(account, |operation| {
            operation.sequence = sequence;
            operation.action = action;
        })
    }

    pub(crate) fn sign_with(
        &self,
        account: u8,
        change: impl FnOnce(&mut Operation),
    ) -> SignedOperation {
        let mut operation = Operation {
            account: address(account),
            sequence: 0,
            valid_until: FOREVER,
            fee_max: Amount(10_000),
            action: give(0, 1),
        };
        change(&mut operation);
        operation.sign(&key(account), &self.genesis.signing_context())
    }
}

pub(crate) fn genesis(fees: FeeSchedule) -> Genesis {
    let deposit = |account| Deposit {
        account: address(account),
        asset: Asset::Ether,
        amount: Amount(DEPOSIT),
    };
    Genesis {
        chain_id: "lamina-test-1".parse().unwrap(),
        ethereum_chain_id: 31_337,
        ethereum: None,
        runtime: lamina_types::testing::runtime(),
        operators: Vec::new(),
        ledger: LedgerGenesis {
            time: Timestamp(1_000_000_000),
            fees,
            deposits: (1..=4).map(deposit).collect(),
            ..LedgerGenesis::default()
        },
    }
}

pub(crate) fn modules() -> Vec<Box<dyn Module>> {
    vec![Box::new(Accounts), Box::new(Alarms), Box::new(Recorder)]
}

pub(crate) fn key(account: u8) -> AccountKey {
    AccountKey::from_bytes(&[account + 1; 32]).unwrap()
}

pub(crate) fn address(account: u8) -> Address {
    key(account).address()
}

pub(crate) fn give(to: u8, amount: u128) -> Action {
    Action::Transfer { to: address(to), asset: Asset::Ether, amount: Amount(amount) }
}

pub(crate) fn alarm(kind: Alarm) -> Action {
    Action::OptIn { service: ServiceId([kind as u8; 32]) }
}

pub(crate) fn take(amount: u128) -> Action {
    Action::Withdraw { recipient: address(9), asset: Asset::Ether, amount: Amount(amount) }
}

/// The reason in an operation's only receipt.
pub(crate) fn refusal(executed: &Executed, id: OperationId) -> Option<Refusal> {
    receipt(executed, id).refusal.clone()
}

pub(crate) fn receipt(executed: &Executed, id: OperationId) -> &Receipt {
    let mut receipts = executed.receipts.iter().filter(|receipt| receipt.operation == id);
    let receipt = receipts.next().expect("it has a receipt");
    assert!(receipts.next().is_none(), "it has one receipt");
    receipt
}

/// What all have of each asset is its supply.
pub(crate) fn assert_conserved(state: &MemoryState) {
    let sums = |prefix: &[u8]| {
        let mut sums: BTreeMap<Vec<u8>, u128> = BTreeMap::new();
        for (key, value) in state.entries().iter().filter(|(key, _)| key.starts_with(prefix)) {
            let asset = key[key.len() - 32..].to_vec();
            *sums.entry(asset).or_default() += borsh::from_slice::<Amount>(value).unwrap().0;
        }
        sums
    };
    assert_eq!(sums(b"bank/balances/"), sums(b"bank/supply/"));
}

/// What an alarm does when it rings, ten seconds after it was set.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Alarm {
    /// Counts.
    Count,
    /// Writes something, then refuses.
    Refuse,
    /// Rings again at once.
    Again,
    /// Takes all counting ones back that are due.
    Silence,
}

/// A module with timers: `OptIn` sets an alarm whose kind is the service's first byte.
#[derive(Debug)]
pub(crate) struct Alarms;

/// Time from an alarm's setting to its ring.
pub(crate) const RING_AFTER: Duration = Duration::from_secs(10);

impl Alarms {
    pub(crate) fn rings(state: &MemoryState, kind: Alarm) -> u64 {
        let value = state.get(&rings_key(kind as u8)).unwrap();
        value.map_or(0, |bytes| borsh::from_slice(&bytes).unwrap())
    }
}

fn rings_key(kind: u8) -> Vec<u8> {
    [b"alarms/".as_slice(), &[kind]].concat()
}

impl Module for Alarms {
    fn name(&self) -> &'static str {
        "alarms"
    }

    fn handles(&self, action: &Action) -> bool {
        matches!(action, Action::OptIn { .. })
    }

    fn apply(
        &self,
        scope: &mut Scope<'_>,
        env: &Env<'_>,
        origin: &Origin,
        action: &Action,
    ) -> Result<(), Stop> {
        let Action::OptIn { service } = action else { panic!("not handled") };
        let key = [&service.0[..1], &origin.operation.0].concat();
        scope.schedule(env.time + RING_AFTER, "alarms", &key);
        Ok(())
    }

    fn timer(&self, scope: &mut Scope<'_>, env: &Env<'_>, key: &[u8]) -> Result<(), Stop> {
        let rings: u64 = scope.read(&rings_key(key[0]))?.unwrap_or_default();
        scope.write(rings_key(key[0]), &(rings + 1));
        match key[0] {
            1 => return Err(Refusal::invalid("it never rings").into()),
            2 => scope.schedule(env.time, "alarms", key),
            3 => {
                for (timer, _) in scope.range(b"timers/", None, usize::MAX)? {
                    let at = u64::from_be_bytes(timer[7..15].try_into().unwrap());
                    if timer[15..].starts_with(b"alarms\0\0") {
                        scope.unschedule(Timestamp(at), "alarms", &timer[22..]);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// A module that takes value out, records outcomes, and can fail half way.
#[derive(Debug)]
pub(crate) struct Recorder;

impl Module for Recorder {
    fn name(&self) -> &'static str {
        "recorder"
    }

    fn handles(&self, action: &Action) -> bool {
        matches!(
            action,
            Action::Withdraw { .. } | Action::OptOut { .. } | Action::FundRewards { .. }
        )
    }

    fn apply(
        &self,
        scope: &mut Scope<'_>,
        env: &Env<'_>,
        origin: &Origin,
        action: &Action,
    ) -> Result<(), Stop> {
        let from = Holder::Account { account: origin.account };
        match action {
            Action::Withdraw { asset, amount, .. } => {
                bank::burn(scope, &from, *asset, *amount)?;
                scope.write(CLAIMS_KEY.to_vec(), &Digest(origin.operation.0));
                Ok(())
            }
            Action::OptOut { service } => {
                let key = results::result_key(env.height, &TaskId(service.0));
                scope.write(key, &Digest(service.0));
                Ok(())
            }
            Action::FundRewards { service, asset, amount, .. } => {
                let pool = Holder::Rewards { service: *service };
                bank::transfer(scope, &from, &pool, *asset, *amount)?;
                scope.schedule(env.time, "alarms", &[0]);
                Err(Refusal::invalid("it fails after all").into())
            }
            _ => panic!("not handled"),
        }
    }

    fn genesis(&self, scope: &mut Scope<'_>, genesis: &Genesis) -> Result<(), Stop> {
        scope.write(b"recorder/deposits".to_vec(), &(genesis.ledger.deposits.len() as u64));
        Ok(())
    }

    fn begin(&self, scope: &mut Scope<'_>, _: &Env<'_>) -> Result<(), StorageError> {
        let count: u64 = scope.read(b"recorder/begun")?.unwrap_or_default();
        scope.write(b"recorder/begun".to_vec(), &(count + 1));
        Ok(())
    }
}
