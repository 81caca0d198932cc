//! A state in memory, the four modules on it, and a directory of two services with two operators.

use std::collections::BTreeMap;
use std::ops::Bound;

use jmt::storage::{HasPreimage, LeafNode, Node, NodeKey, TreeReader};
use jmt::{KeyHash, OwnedValue, Version};
use lamina_certificate::FeeSchedule;
use lamina_ledger::state::bank::{self, Holder};
use lamina_ledger::state::commitments::{self, CommitmentView, Commitments};
use lamina_ledger::state::governance::{self, Governance};
use lamina_ledger::state::rewards::Rewards;
use lamina_ledger::state::vaults::Vaults;
use lamina_ledger::state::{Directory, Env, Module, Origin, Refusal, Scope, Stop, Writes};
use lamina_ledger::{Entries, StateReader, StorageError};
use lamina_types::account::SigningContext;
use lamina_types::{
    Action, Address, Amount, Asset, ChainId, CommitmentId, Digest, EpochNumber, EthereumBlock,
    Height, OperationId, Purpose, RewardSource, ServiceChange, ServiceId, Timestamp, VaultId,
};

pub(crate) const SERVICE: ServiceId = ServiceId([1; 32]);
pub(crate) const OWNER: Address = Address([99; 20]);
pub(crate) const OPERATORS: [Address; 2] = [Address([201; 20]), Address([202; 20])];
pub(crate) const TOKEN: Asset = Asset::Erc20(Address([7; 20]));
/// What every account has at first, of ether and of the token.
pub(crate) const WEALTH: u128 = 10u128.pow(24);
pub(crate) const SECOND: u64 = 1_000_000;

pub(crate) fn account(number: u8) -> Address {
    Address([number; 20])
}

#[derive(Debug, Default)]
struct Memory(BTreeMap<Vec<u8>, Vec<u8>>);

/// The modules only use keys and values.
impl TreeReader for Memory {
    fn get_node_option(&self, _: &NodeKey) -> anyhow::Result<Option<Node>> {
        Ok(None)
    }

    fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
        Ok(None)
    }

    fn get_value_option(&self, _: Version, _: KeyHash) -> anyhow::Result<Option<OwnedValue>> {
        Ok(None)
    }
}

impl HasPreimage for Memory {
    fn preimage(&self, _: KeyHash) -> anyhow::Result<Option<Vec<u8>>> {
        Ok(None)
    }
}

impl StateReader for Memory {
    fn version(&self) -> Version {
        0
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.0.get(key).cloned())
    }

    fn get_at(&self, key: &[u8], _: Version) -> Result<Option<Vec<u8>>, StorageError> {
        self.get(key)
    }

    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Entries, StorageError> {
        let bounds = (Bound::Included(start.to_vec()), Bound::Excluded(end.to_vec()));
        let found = self.0.range::<Vec<u8>, _>(bounds).take(limit);
        Ok(found.map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

/// One service, two operators. A change to `paused: false` fails after it wrote something.
#[derive(Debug, Clone)]
struct TestDirectory;

impl Directory for TestDirectory {
    fn service_owner(
        &self,
        _: &Scope<'_>,
        service: ServiceId,
    ) -> Result<Option<Address>, StorageError> {
        Ok((service == SERVICE).then_some(OWNER))
    }

    fn serves(
        &self,
        _: &Scope<'_>,
        service: ServiceId,
        operator: Address,
    ) -> Result<bool, StorageError> {
        Ok(service == SERVICE && OPERATORS.contains(&operator))
    }

    fn apply_change(
        &self,
        scope: &mut Scope<'_>,
        _: &Env<'_>,
        service: ServiceId,
        change: &ServiceChange,
    ) -> Result<(), Stop> {
        let paused = matches!(change, ServiceChange::Pause { paused: true });
        scope.write([b"services/paused/", &service.0[..]].concat(), &paused);
        if paused { Ok(()) } else { Err(Refusal::invalid("it isn't paused").into()) }
    }
}

#[derive(Debug)]
pub(crate) struct World {
    memory: Memory,
    modules: Vec<Box<dyn Module>>,
    context: SigningContext,
    fees: FeeSchedule,
    pub(crate) height: u64,
    pub(crate) time: Timestamp,
    operations: u64,
}

impl World {
    /// Accounts 1 to 9 and the service's owner are rich.
    pub(crate) fn new() -> Self {
        let modules: Vec<Box<dyn Module>> = vec![
            Box::new(Commitments::new(Box::new(TestDirectory), commitments::Rules::default())),
            Box::new(Rewards::new(Box::new(TestDirectory))),
            Box::new(Vaults),
            Box::new(Governance::new(Box::new(TestDirectory), governance::Rules::default())),
        ];
        let mut world = Self {
            memory: Memory::default(),
            modules,
            context: SigningContext {
                chain: ChainId::try_from("test".to_owned()).expect("a name"),
                ethereum_chain: 1,
            },
            fees: FeeSchedule::default(),
            height: 1,
            time: Timestamp(1_000 * SECOND),
            operations: 0,
        };
        for account in (1..10).map(account).chain([OWNER]) {
            for asset in [Asset::Ether, TOKEN] {
                let holder = Holder::Account { account };
                world
                    .write(|scope, _| bank::mint(scope, &holder, asset, Amount(WEALTH)))
                    .expect("minting");
            }
        }
        world
    }

    /// Carries something out as one operation: on a refusal, nothing that it did counts.
    pub(crate) fn write<T>(
        &mut self,
        act: impl FnOnce(&mut Scope<'_>, &Env<'_>) -> Result<T, Stop>,
    ) -> Result<T, Refusal> {
        let env = Env {
            height: Height(self.height),
            time: self.time,
            epoch: EpochNumber(0),
            ethereum: EthereumBlock { number: 0, hash: Digest([0; 32]) },
            context: &self.context,
            fees: &self.fees,
        };
        let mut scope = Scope::new(&self.memory);
        let result = act(&mut scope, &env);
        if result.is_ok() {
            scope.accept();
        } else {
            scope.discard();
        }
        let writes: Writes = scope.into_writes();
        for (key, value) in writes {
            match value {
                Some(value) => self.memory.0.insert(key, value),
                None => self.memory.0.remove(&key),
            };
        }
        result.map_err(|stop| match stop {
            Stop::Refused(refusal) => refusal,
            Stop::Fault(error) => panic!("{error}"),
        })
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&Scope<'_>) -> Result<T, StorageError>) -> T {
        read(&Scope::new(&self.memory)).expect("memory can be read")
    }

    /// An account's operation, whose identifier is given back.
    pub(crate) fn act(&mut self, account: Address, action: &Action) -> Result<[u8; 32], Refusal> {
        self.operations += 1;
        let mut id = [0; 32];
        id[24..].copy_from_slice(&self.operations.to_be_bytes());
        let origin = Origin { operation: OperationId(id), account };
        let modules = std::mem::take(&mut self.modules);
        let module = modules.iter().find(|module| module.handles(action)).expect("a module");
        let done = self.write(|scope, env| module.apply(scope, env, &origin, action));
        self.modules = modules;
        done.map(|()| id)
    }

    /// The next checkpoint, so many seconds later; what was scheduled until then takes place.
    pub(crate) fn wait(&mut self, seconds: u64) {
        self.height += 1;
        self.time = Timestamp(self.time.0 + seconds * SECOND);
        let now = self.time.0.to_be_bytes();
        let due = |key: &[u8]| key[7..15] <= now[..];
        let prefix = b"timers/".to_vec();
        let timers: Vec<_> = self.memory.0.range(prefix..).map(|(key, _)| key.clone()).collect();
        for key in timers.into_iter().filter(|key| key.starts_with(b"timers/") && due(key)) {
            let zero = 15 + key[15..].iter().position(|byte| *byte == 0).expect("a zero");
            let modules = std::mem::take(&mut self.modules);
            let name = &key[15..zero];
            let module = modules.iter().find(|it| it.name().as_bytes() == name).expect("a module");
            let _ = self.write(|scope, env| {
                scope.remove(key.clone());
                module.timer(scope, env, &key[zero + 1..])
            });
            self.modules = modules;
        }
    }

    pub(crate) fn commit(
        &mut self,
        account: Address,
        operator: usize,
        (amount, purpose): (u128, Purpose),
    ) -> Result<CommitmentId, Refusal> {
        self.commit_from(None, account, operator, (amount, purpose))
    }

    pub(crate) fn commit_from(
        &mut self,
        vault: Option<VaultId>,
        account: Address,
        operator: usize,
        (amount, purpose): (u128, Purpose),
    ) -> Result<CommitmentId, Refusal> {
        let action = Action::Commit {
            vault,
            service: SERVICE,
            operator: OPERATORS[operator],
            asset: Asset::Ether,
            amount: Amount(amount),
            unbonding_s: 100,
            purpose,
        };
        self.act(account, &action).map(CommitmentId)
    }

    pub(crate) fn uncommit(
        &mut self,
        account: Address,
        commitment: CommitmentId,
        amount: u128,
    ) -> Result<(), Refusal> {
        let action = Action::Uncommit { commitment, amount: Amount(amount) };
        self.act(account, &action).map(drop)
    }

    pub(crate) fn release(&mut self, who: Address, id: CommitmentId) -> Result<(), Refusal> {
        self.act(who, &Action::Release { commitment: id }).map(drop)
    }

    pub(crate) fn fund(&mut self, amount: u128, duration_s: u64) -> Result<(), Refusal> {
        self.fund_by(OWNER, TOKEN, (amount, duration_s))
    }

    pub(crate) fn fund_by(
        &mut self,
        account: Address,
        asset: Asset,
        (amount, duration_s): (u128, u64),
    ) -> Result<(), Refusal> {
        let amount = Amount(amount);
        let action = Action::FundRewards { service: SERVICE, asset, amount, duration_s };
        self.act(account, &action).map(drop)
    }

    pub(crate) fn claim(&mut self, who: Address, id: CommitmentId) -> Result<(), Refusal> {
        let source = RewardSource::Commitment { commitment: id };
        self.act(who, &Action::ClaimRewards { source, asset: TOKEN }).map(drop)
    }

    pub(crate) fn slash(&mut self, operator: usize, ppm: u32) -> Vec<(Asset, Amount)> {
        self.write(|scope, env| commitments::slash(scope, env, SERVICE, OPERATORS[operator], ppm))
            .expect("slashing isn't refused")
    }

    pub(crate) fn view(&self, id: CommitmentId) -> Option<CommitmentView> {
        self.read(|scope| commitments::view(scope, id, self.time))
    }

    pub(crate) fn bound(&self, id: CommitmentId) -> u128 {
        self.view(id).map_or(0, |view| view.bound.0)
    }

    /// What has accrued to a commitment in the token.
    pub(crate) fn owed(&self, id: CommitmentId) -> u128 {
        let rewards = self.view(id).map(|view| view.rewards).unwrap_or_default();
        rewards.iter().filter(|reward| reward.asset == TOKEN).map(|reward| reward.amount.0).sum()
    }

    pub(crate) fn balance(&self, holder: &Holder, asset: Asset) -> u128 {
        self.read(|scope| bank::balance(scope, holder, asset)).0
    }

    pub(crate) fn of_account(&self, account: Address, asset: Asset) -> u128 {
        self.balance(&Holder::Account { account }, asset)
    }

    /// The sum of what all holders have of an asset.
    pub(crate) fn held_by_all(&self, asset: Asset) -> u128 {
        let prefix = b"bank/balances/".to_vec();
        let balances =
            self.memory.0.range(prefix.clone()..).take_while(|(k, _)| k.starts_with(&prefix));
        let of_asset = balances.filter(|(key, _)| key.ends_with(&asset.to_word()));
        of_asset.map(|(_, value)| borsh::from_slice::<Amount>(value).expect("an amount").0).sum()
    }

    /// All commitments that there are.
    pub(crate) fn commitments(&self) -> Vec<CommitmentView> {
        let ids = self.read(|scope| commitments::by_service(scope, SERVICE, None, usize::MAX));
        ids.into_iter().filter_map(|id| self.view(id)).collect()
    }

    pub(crate) fn keys(&self, prefix: &[u8]) -> usize {
        self.memory.0.keys().filter(|key| key.starts_with(prefix)).count()
    }
}
