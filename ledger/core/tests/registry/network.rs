//! The modules over a state in memory, checkpoint by checkpoint.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use ed25519_dalek::SigningKey;
use jmt::storage::{HasPreimage, LeafNode, Node, NodeKey, TreeReader};
use jmt::{KeyHash, OwnedValue, Version};
use lamina_certificate::{
    EpochStart, FeeSchedule, Genesis, LedgerGenesis, OperatorRecord, OperatorSet, SecretKey,
};
use lamina_ledger::state::bank::{self, Holder};
use lamina_ledger::state::claims::Claims;
use lamina_ledger::state::evidence::{Evidence, Slashing};
use lamina_ledger::state::operators::{self, Operators, Sets};
use lamina_ledger::state::services::Services;
use lamina_ledger::state::tasks::{Participation, Tasks};
use lamina_ledger::state::{Env, Module, Origin, Refusal, Scope, Stop, Writes};
use lamina_ledger::{Entries, StateReader, StorageError};
use lamina_types::account::SigningContext;
use lamina_types::operation::PAYLOAD_BYTES_MAX;
use lamina_types::{
    AccountKey, Action, Address, Amount, Asset, Bytes, ChainId, Digest, EpochNumber, EthereumBlock,
    Height, Limits, Manifest, OperationId, PeerKey, Runtime, ServiceId, Text, Timestamp,
};

/// Keys and values of the last checkpoint. These modules read no tree.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) entries: BTreeMap<Vec<u8>, Vec<u8>>,
    height: u64,
}

impl TreeReader for Memory {
    fn get_node_option(&self, _: &NodeKey) -> anyhow::Result<Option<Node>> {
        Ok(None)
    }

    fn get_value_option(&self, _: Version, _: KeyHash) -> anyhow::Result<Option<OwnedValue>> {
        Ok(None)
    }

    fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
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
        self.height
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.entries.get(key).cloned())
    }

    fn get_at(&self, key: &[u8], _: Version) -> Result<Option<Vec<u8>>, StorageError> {
        self.get(key)
    }

    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Entries, StorageError> {
        let bounds = (Bound::Included(start), Bound::Excluded(end));
        let entries = self.entries.range::<[u8], _>(bounds);
        Ok(entries.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

/// Notes who is credited, and refuses while it's told to.
#[derive(Debug, Default)]
pub(crate) struct Credits {
    pub(crate) noted: Mutex<Vec<(ServiceId, Vec<Address>)>>,
    pub(crate) refuses: Mutex<bool>,
}

#[derive(Debug)]
struct Credited(Arc<Credits>);

impl Participation for Credited {
    fn record(
        &self,
        _: &mut Scope<'_>,
        _: &Env<'_>,
        service: ServiceId,
        operators: &[Address],
    ) -> Result<(), Stop> {
        if *self.0.refuses.lock().unwrap() {
            return Err(Refusal::Overflow.into());
        }
        self.0.noted.lock().unwrap().push((service, operators.to_vec()));
        Ok(())
    }
}

#[derive(Debug)]
struct Slashed(Arc<Mutex<Vec<Address>>>);

impl Slashing for Slashed {
    fn slash(&self, _: &mut Scope<'_>, _: &Env<'_>, operator: Address) -> Result<(), Stop> {
        self.0.lock().unwrap().push(operator);
        Ok(())
    }
}

/// A ledger that has only the modules of this test.
pub(crate) struct Network {
    pub(crate) memory: Memory,
    pub(crate) context: SigningContext,
    pub(crate) credits: Arc<Credits>,
    pub(crate) slashed: Arc<Mutex<Vec<Address>>>,
    modules: Vec<Box<dyn Module>>,
    operations: u8,
}

/// What's done within a checkpoint.
type Work<'w, T> =
    Box<dyn FnOnce(&mut Scope<'_>, &Env<'_>, &[Box<dyn Module>]) -> Result<T, Stop> + 'w>;

/// Where epoch 1 begins, with operators 2 to 5. Epoch 0 has 1 to 4. All have one gwei of stake, but 4 has two.
pub(crate) const EPOCH_1: u64 = 20;

pub(crate) fn chain() -> ChainId {
    "lamina-test-1".parse().unwrap()
}

pub(crate) fn account(seed: u8) -> AccountKey {
    AccountKey::from_bytes(&[seed; 32]).unwrap()
}

pub(crate) fn address(seed: u8) -> Address {
    account(seed).address()
}

pub(crate) fn bls(seed: u8) -> SecretKey {
    SecretKey::derive(&[seed; 32])
}

pub(crate) fn peer(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn peer_key(seed: u8) -> PeerKey {
    PeerKey(peer(seed).verifying_key().to_bytes())
}

fn operator(seed: u8) -> OperatorRecord {
    let stake = if seed == 4 { 2 } else { 1 };
    OperatorRecord::new(&chain(), address(seed), peer_key(seed), &bls(seed), stake)
}

pub(crate) fn genesis() -> Genesis {
    let second =
        EpochStart { height: Height(EPOCH_1), operators: [2, 3, 4, 5].map(operator).to_vec() };
    Genesis {
        chain_id: chain(),
        ethereum_chain_id: 31337,
        ethereum: None,
        runtime: Runtime { engine: Text::default(), rules: Digest::default() },
        operators: [1, 2, 3, 4].map(operator).to_vec(),
        ledger: LedgerGenesis { epochs: vec![second], ..LedgerGenesis::default() },
    }
}

impl Network {
    pub(crate) fn new() -> Self {
        Self::of(&genesis())
    }

    pub(crate) fn of(genesis: &Genesis) -> Self {
        let (credits, slashed, sets) = (Arc::default(), Arc::default(), Arc::<Sets>::default());
        let participation = Box::new(Credited(Arc::clone(&credits)));
        let slashing = Box::new(Slashed(Arc::clone(&slashed)));
        let modules: Vec<Box<dyn Module>> = vec![
            Box::new(Claims),
            Box::new(Services),
            Box::new(Operators),
            Box::new(Tasks::new(participation, Arc::clone(&sets))),
            Box::new(Evidence::new(slashing, sets)),
        ];
        let context = genesis.signing_context();
        let memory = Memory::default();
        let mut scope = Scope::new(&memory);
        for module in &modules {
            module.genesis(&mut scope, genesis).unwrap();
        }
        scope.accept();
        let writes = scope.into_writes();
        let mut network = Self { memory, context, credits, slashed, modules, operations: 0 };
        network.commit(writes, 0);
        network
    }

    pub(crate) fn scope(&self) -> Scope<'_> {
        Scope::new(&self.memory)
    }

    /// The height of the last checkpoint.
    pub(crate) fn height(&self) -> Height {
        Height(self.memory.height)
    }

    /// Goes on as if nothing had happened up to this checkpoint.
    pub(crate) fn skip_to(&mut self, height: u64) {
        self.memory.height = height;
    }

    /// Makes a checkpoint of what `work` does.
    pub(crate) fn change<T>(
        &mut self,
        work: impl FnOnce(&mut Scope<'_>, &Env<'_>) -> Result<T, Stop>,
    ) -> Result<T, Refusal> {
        self.checkpoint(vec![Box::new(|scope, env, _| work(scope, env))]).pop().unwrap()
    }

    /// Makes a checkpoint of one operation.
    pub(crate) fn apply(&mut self, account: Address, action: Action) -> Result<(), Refusal> {
        self.apply_all(vec![(account, action)]).pop().unwrap()
    }

    /// Makes a checkpoint of operations.
    pub(crate) fn apply_all(
        &mut self,
        operations: Vec<(Address, Action)>,
    ) -> Vec<Result<(), Refusal>> {
        let mut work: Vec<Work<'_, ()>> = Vec::new();
        for (account, action) in operations {
            self.operations += 1;
            let origin = Origin { operation: OperationId([self.operations; 32]), account };
            work.push(Box::new(move |scope, env, modules| {
                let module = modules.iter().find(|module| module.handles(&action)).unwrap();
                module.apply(scope, env, &origin, &action)
            }));
        }
        self.checkpoint(work)
    }

    /// Makes a checkpoint of evidence in another epoch than the height's.
    pub(crate) fn submit_in(
        &mut self,
        epoch: EpochNumber,
        evidence: Bytes<PAYLOAD_BYTES_MAX>,
    ) -> Result<(), Refusal> {
        let origin = Origin { operation: OperationId([0; 32]), account: address(9) };
        let action = Action::SubmitEvidence { evidence };
        let work: Work<'_, ()> = Box::new(move |scope, env, modules| {
            let env = Env { epoch, ..env.clone() };
            let module = modules.iter().find(|module| module.handles(&action)).unwrap();
            module.apply(scope, &env, &origin, &action)
        });
        self.checkpoint(vec![work]).pop().unwrap()
    }

    fn checkpoint<T>(&mut self, work: Vec<Work<'_, T>>) -> Vec<Result<T, Refusal>> {
        let height = Height(self.memory.height + 1);
        let mut scope = Scope::new(&self.memory);
        let fees = FeeSchedule::default();
        let env = Env {
            height,
            time: Timestamp(height.0 * 1_000_000),
            epoch: operators::epoch_at(&scope, height).unwrap().unwrap(),
            ethereum: EthereumBlock::default(),
            context: &self.context,
            fees: &fees,
        };
        for module in &self.modules {
            module.begin(&mut scope, &env).unwrap();
        }
        scope.accept();
        let mut results = Vec::new();
        for work in work {
            results.push(match work(&mut scope, &env, &self.modules) {
                Ok(done) => {
                    scope.accept();
                    Ok(done)
                }
                Err(Stop::Refused(refusal)) => {
                    scope.discard();
                    Err(refusal)
                }
                Err(Stop::Fault(error)) => panic!("{error}"),
            });
        }
        let writes = scope.into_writes();
        self.commit(writes, height.0);
        results
    }

    fn commit(&mut self, writes: Writes, height: u64) {
        for (key, value) in writes {
            match value {
                Some(value) => self.memory.entries.insert(key, value),
                None => self.memory.entries.remove(&key),
            };
        }
        self.memory.height = height;
    }

    pub(crate) fn fund(&mut self, account: Address, asset: Asset, amount: u128) {
        let holder = Holder::Account { account };
        self.change(|scope, _| bank::mint(scope, &holder, asset, Amount(amount))).unwrap();
    }

    pub(crate) fn balance(&self, account: Address, asset: Asset) -> u128 {
        bank::balance(&self.scope(), &Holder::Account { account }, asset).unwrap().0
    }

    /// Registers the [`manifest`] of `owner`.
    pub(crate) fn register(&mut self, owner: u8) -> ServiceId {
        let manifest = manifest(owner);
        let service = manifest.service_id(&chain());
        self.apply(address(owner), register_service(manifest)).unwrap();
        service
    }

    pub(crate) fn service_set(&self, service: ServiceId, height: Height) -> Arc<OperatorSet> {
        operators::service_set(&self.scope(), service, height).unwrap().unwrap()
    }
}

/// Who the operators of a set are.
pub(crate) fn seeds(set: &OperatorSet) -> Vec<u8> {
    let seed = |wanted| (1..=9).find(|seed| address(*seed) == wanted).unwrap();
    set.iter().map(|(_, operator)| seed(operator.address)).collect()
}

pub(crate) fn manifest(owner: u8) -> Manifest {
    Manifest {
        owner: address(owner),
        name: "moderator".to_owned().try_into().unwrap(),
        description: Text::default(),
        component: Digest::of(b"component"),
        component_bytes: 9,
        limits: Limits {
            fuel: 1,
            memory_bytes: 1,
            input_bytes: 8,
            output_bytes: 1,
            state_bytes: 0,
        },
        parameters: BTreeMap::new(),
        blobs: BTreeMap::new(),
        oracle: None,
    }
}

pub(crate) fn register_service(manifest: Manifest) -> Action {
    Action::RegisterService { manifest: Box::new(manifest) }
}

/// Why it was refused, in words.
pub(crate) fn reason(result: Result<(), Refusal>) -> String {
    result.unwrap_err().to_string()
}

/// No service has this identifier.
pub(crate) const UNKNOWN: ServiceId = ServiceId([0xee; 32]);
