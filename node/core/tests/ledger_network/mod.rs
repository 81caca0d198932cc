//! A network of nodes with ledgers, in virtual time and one thread: links that delay, lose and repeat, disks that survive kills,
//! users who insist, and operators who lie.
//!
//! What must always hold is asserted as it goes: one header and one state at each height, no honest operator's signature
//! on two things at one place, no vote for changes that aren't on the voter's disk, no honest node that bans another, no node
//! that spins or halts.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

mod disk;
mod lies;
mod witness;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::{Signer as _, SigningKey};
use lamina_certificate::{
    Attestation, Deposit, EpochStart, EthereumContracts, EthereumGenesis, FeeSchedule, Genesis,
    LedgerGenesis, OperatorRecord, OperatorSet, SecretKey, Signature,
};
use lamina_ledger::finality::Signer;
use lamina_ledger::state::claims::Credit;
use lamina_node_core::{
    AccountSigner, Action as NodeAction, Command, CommandError, Config, EthereumStride, Event,
    LedgerConfig, LedgerEvent, LedgerWork, Node, Notice, Reply,
};
use lamina_p2p::{Gossip, Request, Response, Topic, Verdict, message_id};
use lamina_types::account::SigningContext;
use lamina_types::{
    AccountKey, Action, Address, Amount, Asset, Canonical as _, ChainId, Change, Digest,
    EpochNumber, EthereumBlock, Height, Input, List, Operation, OperationId, Outcome, Output,
    PeerKey, ServiceId, SignedOperation, SignedTaskRequest, TaskId, TaskRequest, Timestamp,
};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

pub use disk::Disk;
use disk::Shell;
pub use lies::{Conduct, Flaw, consensus};
use witness::Witness;

/// What each account has from the start.
pub const DEPOSIT: u128 = 1_000_000_000;
/// How many accounts there are.
pub const ACCOUNTS: u8 = 8;
/// How far apart the blocks of Ethereum are that checkpoints name.
pub const STRIDE: u64 = 8;
/// How soon a user tries again, at another node, what nobody has acknowledged.
const INSIST: Duration = Duration::from_secs(3);
/// How soon a question is given up that was lost.
const TIMEOUT: Duration = Duration::from_secs(4);

/// The fuel that every run takes.
pub const FUEL_USED: u64 = 7;
/// The number of all commands whose answers aren't waited for.
const UNANSWERED: u64 = u64::MAX;

/// An operator's keys, or an observer's.
#[derive(Clone)]
pub struct Keys {
    bls: SecretKey,
    node: SigningKey,
}

impl Keys {
    pub fn of(host: usize) -> Self {
        let seed = [u8::try_from(host).unwrap() + 1; 32];
        Self { bls: SecretKey::derive(&seed), node: SigningKey::from_bytes(&seed) }
    }

    pub fn peer(&self) -> PeerKey {
        PeerKey(self.node.verifying_key().to_bytes())
    }
}

impl Signer for Keys {
    fn bls_public_key(&self) -> lamina_certificate::PublicKey {
        self.bls.public_key()
    }

    fn bls(&self, message: &Digest) -> Signature {
        self.bls.sign(message)
    }

    fn ed25519(&self, message: &Digest) -> [u8; 64] {
        self.node.sign(&message.0).to_bytes()
    }
}

/// The account of a host's node.
struct Purse(AccountKey, SigningContext);

impl AccountSigner for Purse {
    fn address(&self) -> Address {
        self.0.address()
    }

    fn sign(&self, operation: Operation) -> SignedOperation {
        operation.sign(&self.0, &self.1)
    }
}

fn purse_key(host: usize) -> AccountKey {
    AccountKey::from_bytes(&[u8::try_from(host).unwrap() + 100; 32]).unwrap()
}

/// Whose the operations are that a host's node makes by itself.
pub fn purse(host: usize) -> Address {
    purse_key(host).address()
}

/// What a network begins with.
pub struct Plan {
    pub seed: u64,
    /// Operators of epoch 0 among the hosts.
    pub operators: Vec<usize>,
    /// Operators of later epochs, by first height.
    pub epochs: Vec<(u64, Vec<usize>)>,
    /// Hosts in all.
    pub hosts: usize,
    pub idle_interval: Duration,
    /// Hosts whose nodes have an account, without anything in it.
    pub purses: Vec<usize>,
    pub fees: FeeSchedule,
    pub config: LedgerConfig,
    /// Whether the network has contracts on Ethereum.
    pub ethereum: bool,
}

impl Plan {
    pub fn of(operators: usize) -> Self {
        Self {
            seed: 1,
            operators: (0..operators).collect(),
            epochs: Vec::new(),
            hosts: operators,
            idle_interval: Duration::from_secs(20),
            purses: Vec::new(),
            fees: FeeSchedule::default(),
            config: LedgerConfig::default(),
            ethereum: false,
        }
    }
}

/// A machine.
pub struct Host {
    pub keys: Keys,
    pub peer: PeerKey,
    pub disk: Disk,
    pub node: Option<Node>,
    pub conduct: Conduct,
    /// Whether nothing passes to and from it, though its connections stand.
    pub deaf: bool,
    /// Whether its disk doesn't answer.
    pub stalled: bool,
    /// Whether its node has an account.
    pub has_purse: bool,
    /// Whether its operator abstains from tasks.
    pub abstains: bool,
    /// What its node keeps of tasks.
    pub records: Vec<lamina_node_core::Record>,
    /// How long after the others it hears of Ethereum's blocks.
    pub ethereum_lag: Duration,
    /// How many strides of Ethereum's chain its node was told of.
    followed: usize,
    /// Which of its starts this is.
    life: u32,
    shell: Shell,
    /// Work that the shell hasn't begun. It's lost with the node.
    work: VecDeque<LedgerWork>,
    /// What its swarm has passed on or dropped.
    seen: BTreeSet<[u8; 20]>,
    pub banned: BTreeSet<PeerKey>,
    pub notices: Vec<Notice>,
    /// How often it was asked for checkpoints.
    pub asked_for_checkpoints: usize,
}

/// Something that a user wants, and won't give up.
pub struct Wish {
    pub id: OperationId,
    pub signed: SignedOperation,
    /// Where it's handed in first.
    pub at: usize,
    pub acknowledged: bool,
    pub errors: Vec<CommandError>,
    tried: Timestamp,
}

enum What {
    Gossip {
        from: usize,
        topic: Topic,
        bytes: Vec<u8>,
    },
    Request {
        from: usize,
        question: u64,
        bytes: Vec<u8>,
    },
    Response {
        from: usize,
        id: u64,
        bytes: Option<Vec<u8>>,
    },
    Up(usize),
    Gone(usize),
    Command(u64, Box<SignedOperation>),
    Shell,
    Done(LedgerEvent),
    /// What happens to a node beside its ledger.
    Event(Box<Event>),
    /// Ethereum's chain is final up to so many strides.
    Ethereum(usize),
}

/// A question that's open: who asks in which life, under which number, and whom.
struct Question {
    asker: usize,
    life: u32,
    id: u64,
    answerer: usize,
}

pub struct Network {
    pub genesis: Genesis,
    pub config: LedgerConfig,
    pub now: Timestamp,
    pub hosts: Vec<Host>,
    /// Of a hundred messages, how many are lost.
    pub loss: u64,
    /// Of a hundred messages, how many come twice.
    pub duplicate: u64,
    /// How long a disk takes to evaluate one operation of a checkpoint.
    pub evaluation: Duration,
    /// Ethereum's finalised chain.
    pub ethereum: Vec<EthereumStride>,
    /// Messages pass within a group only.
    groups: Vec<u8>,
    pub wishes: Vec<Wish>,
    sequences: BTreeMap<u8, u64>,
    pub witness: Witness,
    pub rng: ChaCha20Rng,
    queue: BTreeMap<(Timestamp, u64), (usize, u32, What)>,
    questions: BTreeMap<u64, Question>,
    deliveries: BTreeMap<u64, (usize, Topic, Vec<u8>)>,
    next_id: u64,
}

pub fn account(index: u8) -> AccountKey {
    AccountKey::from_bytes(&[index + 1; 32]).unwrap()
}

pub fn address(index: u8) -> Address {
    account(index).address()
}

pub fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// The contracts of a network that has some: nobody calls them here.
fn ethereum() -> EthereumGenesis {
    let zero = Address::default();
    let (registrar, checkpoints, vault, tasks, slasher) = (zero, zero, zero, zero, zero);
    EthereumGenesis {
        contracts: EthereumContracts { registrar, checkpoints, vault, tasks, slasher },
        start: 1,
        stride: STRIDE.try_into().unwrap(),
        first_epoch: EpochNumber(1),
    }
}

/// Whose account an operator is.
fn record(chain: &ChainId, host: usize) -> OperatorRecord {
    let keys = Keys::of(host);
    let address = Address([u8::try_from(host).unwrap() + 1; 20]);
    OperatorRecord::new(chain, address, keys.peer(), &keys.bls, 32)
}

fn genesis(plan: &Plan) -> Genesis {
    let chain_id: ChainId = "lamina-test-1".parse().unwrap();
    let record = |host: &usize| record(&chain_id, *host);
    let deposit =
        |index| Deposit { account: address(index), asset: Asset::Ether, amount: Amount(DEPOSIT) };
    let epoch = |(height, operators): &(u64, Vec<usize>)| EpochStart {
        height: Height(*height),
        operators: operators.iter().map(record).collect(),
    };
    Genesis {
        ethereum_chain_id: 1,
        ethereum: plan.ethereum.then(ethereum),
        runtime: lamina_types::testing::runtime(),
        operators: plan.operators.iter().map(record).collect(),
        ledger: LedgerGenesis {
            time: Timestamp(1_700_000_000_000_000),
            idle_interval_ms: u64::try_from(plan.idle_interval.as_millis()).unwrap(),
            deposits: (0..ACCOUNTS).map(deposit).collect(),
            epochs: plan.epochs.iter().map(epoch).collect(),
            fees: plan.fees.clone(),
            ..LedgerGenesis::default()
        },
        chain_id,
    }
}

impl Network {
    /// All hosts run and are connected.
    pub fn new(plan: &Plan) -> Self {
        let genesis = genesis(plan);
        let host = |index| Host {
            peer: Keys::of(index).peer(),
            keys: Keys::of(index),
            disk: Disk::new(&genesis),
            node: None,
            conduct: Conduct::Honest,
            deaf: false,
            stalled: false,
            has_purse: plan.purses.contains(&index),
            abstains: false,
            records: Vec::new(),
            ethereum_lag: Duration::ZERO,
            followed: 0,
            life: 0,
            shell: Shell::new(&genesis),
            work: VecDeque::new(),
            seen: BTreeSet::new(),
            banned: BTreeSet::new(),
            notices: Vec::new(),
            asked_for_checkpoints: 0,
        };
        let hosts: Vec<_> = (0..plan.hosts).map(host).collect();
        let mut network = Self {
            now: genesis.ledger.time,
            groups: vec![0; plan.hosts],
            hosts,
            loss: 0,
            duplicate: 0,
            evaluation: Duration::ZERO,
            ethereum: Vec::new(),
            wishes: Vec::new(),
            sequences: BTreeMap::new(),
            witness: Witness::default(),
            rng: ChaCha20Rng::seed_from_u64(plan.seed),
            queue: BTreeMap::new(),
            questions: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            next_id: 0,
            config: plan.config.clone(),
            genesis,
        };
        (0..plan.hosts).for_each(|index| network.start(index));
        network
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.rng.next_u64() % end as u64).unwrap()
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.rng.next_u64() % 100 < chance
    }

    fn delay(&mut self) -> Duration {
        Duration::from_micros(10_000 + self.rng.next_u64() % 50_000)
    }

    pub fn index_of(&self, peer: &PeerKey) -> usize {
        self.hosts.iter().position(|host| host.peer == *peer).unwrap()
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn push(&mut self, after: Duration, to: usize, what: What) {
        let (at, id) = (self.now + after, self.fresh_id());
        self.queue.insert((at, id), (to, self.hosts[to].life, what));
    }
}

/// Who runs, and who is connected to whom.
impl Network {
    /// Starts a node with what its disk holds, and connects it to the others.
    pub fn start(&mut self, index: usize) {
        let host = &self.hosts[index];
        assert!(host.node.is_none(), "it runs already");
        let mut start = host.disk.start(&self.genesis);
        start.signer = Some(Arc::new(host.keys.clone()));
        start.config = self.config.clone();
        if host.has_purse {
            let purse = Purse(purse_key(index), self.genesis.signing_context());
            start.account = Some(Arc::new(purse));
        }
        let records = host.records.clone();
        let seed = self.rng.next_u64();
        let node = Node::new(
            Config::default(),
            Arc::new(self.genesis.operator_set().unwrap()),
            self.genesis.signing_context(),
            host.peer,
            ChaCha20Rng::seed_from_u64(seed),
            self.now,
            records,
        );
        let node = node.with_ledger(&self.genesis, start);
        let host = &mut self.hosts[index];
        host.shell = Shell::new(&self.genesis);
        host.node = Some(node);
        // What the tip has credited is kept nowhere.
        let last = host.disk.tip().header.ethereum.number;
        host.followed = self.ethereum.iter().take_while(|s| s.block.number <= last).count();
        host.seen.clear();
        self.push_ethereum(index);
        self.join(index);
        self.drive(index);
    }

    fn join(&mut self, index: usize) {
        for other in 0..self.hosts.len() {
            if self.is_connected(index, other) {
                self.push(millis(5), other, What::Up(index));
                self.push(millis(5), index, What::Up(other));
            }
        }
    }

    /// Stops a node at once: only what's on its disk is left.
    pub fn kill(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        assert!(host.node.take().is_some(), "it doesn't run");
        host.life += 1;
        host.work.clear();
        host.banned.clear();
        for other in 0..self.hosts.len() {
            self.push(millis(20), other, What::Gone(index));
        }
    }

    pub fn restart(&mut self, index: usize) {
        self.kill(index);
        self.start(index);
    }

    /// Lets messages pass only between hosts with the same number.
    pub fn partition(&mut self, groups: &[u8]) {
        self.groups = groups.to_vec();
        for a in 0..self.hosts.len() {
            for b in 0..self.hosts.len() {
                if self.groups[a] != self.groups[b] {
                    self.push(millis(500), a, What::Gone(b));
                }
            }
        }
    }

    /// Everyone reaches everyone, and nothing is lost any more.
    pub fn heal(&mut self) {
        (self.loss, self.duplicate) = (0, 0);
        self.groups.fill(0);
        self.hosts.iter_mut().for_each(|host| (host.deaf, host.stalled) = (false, false));
        (0..self.hosts.len()).for_each(|index| self.join(index));
    }

    fn is_connected(&self, a: usize, b: usize) -> bool {
        let (x, y) = (&self.hosts[a], &self.hosts[b]);
        a != b
            && (x.node.is_some() && y.node.is_some())
            && self.groups[a] == self.groups[b]
            && !(x.banned.contains(&y.peer) || y.banned.contains(&x.peer))
    }

    pub fn node(&self, index: usize) -> &Node {
        self.hosts[index].node.as_ref().expect("the node runs")
    }

    pub fn running(&self) -> Vec<usize> {
        (0..self.hosts.len()).filter(|index| self.hosts[*index].node.is_some()).collect()
    }

    pub fn honest(&self) -> Vec<usize> {
        let honest = |index: &usize| self.hosts[*index].conduct == Conduct::Honest;
        (0..self.hosts.len()).filter(honest).collect()
    }

    pub fn height(&self, index: usize) -> u64 {
        self.hosts[index].disk.height()
    }
}

/// What users do.
impl Network {
    /// An operation of this account, the next one in its order.
    pub fn sign(&mut self, by: u8, action: Action) -> SignedOperation {
        let sequence = self.sequences.entry(by).or_default();
        let operation = Operation {
            account: address(by),
            sequence: *sequence,
            valid_until: self.now + seconds(3600),
            fee_max: Amount(u128::MAX),
            action,
        };
        *sequence += 1;
        operation.sign(&account(by), &self.genesis.signing_context())
    }

    pub fn give(&mut self, from: u8, to: u8, amount: u128) -> SignedOperation {
        let (asset, amount) = (Asset::Ether, Amount(amount));
        self.sign(from, Action::Transfer { to: address(to), asset, amount })
    }

    /// Hands an operation in at a host, and again wherever it may be until it's acknowledged.
    pub fn submit(&mut self, at: usize, signed: SignedOperation) -> OperationId {
        let id = signed.operation.id(&self.genesis.signing_context());
        let (acknowledged, errors, tried) = (false, Vec::new(), self.now);
        self.wishes.push(Wish { id, signed: signed.clone(), at, acknowledged, errors, tried });
        let command = self.wishes.len() as u64 - 1;
        self.push(millis(1), at, What::Command(command, Box::new(signed)));
        id
    }

    /// A request that's pinned to the last checkpoint of a host.
    pub fn request(&self, at: usize, service: ServiceId, nonce: u64) -> SignedTaskRequest {
        let request = TaskRequest {
            service,
            input: Input::new(*b"hello").unwrap(),
            requester: address(0),
            nonce,
            height: Height(self.height(at)),
            valid_until: self.now + seconds(3600),
        };
        request.sign(&account(0), &self.genesis.signing_context())
    }

    /// Hands a request in at a host.
    pub fn submit_task(&mut self, at: usize, service: ServiceId, nonce: u64) -> TaskId {
        let request = self.request(at, service, nonce);
        let id = request.request.task_id(&self.genesis.chain_id);
        self.command(at, Command::SubmitTask(Box::new(request)));
        id
    }

    /// Has a host's node do something, whether or not it agrees.
    pub fn command(&mut self, at: usize, command: Command) {
        self.happens(at, Event::Command { id: UNANSWERED, command });
    }

    /// Puts an operation on the disk of a node that's down, as if it had acknowledged it before.
    pub fn promise(&mut self, at: usize, signed: SignedOperation) {
        let id = signed.operation.id(&self.genesis.signing_context());
        self.hosts[at].disk.promises.insert(id, signed.clone());
        let (acknowledged, errors, tried) = (true, Vec::new(), self.now);
        self.wishes.push(Wish { id, signed, at, acknowledged, errors, tried });
    }

    /// Hosts that users can turn to: those that run and are honest.
    fn doors(&self) -> Vec<usize> {
        let honest = |index: &usize| self.hosts[*index].conduct == Conduct::Honest;
        self.running().into_iter().filter(honest).collect()
    }

    /// Some transfers between accounts, at any hosts that run.
    pub fn load(&mut self, count: usize) {
        for _ in 0..count {
            let by = u8::try_from(self.below(usize::from(ACCOUNTS))).unwrap();
            let signed = self.give(by, (by + 1) % ACCOUNTS, 1);
            let doors = self.doors();
            let at = if doors.is_empty() { 0 } else { doors[self.below(doors.len())] };
            self.submit(at, signed);
        }
    }

    /// What nobody acknowledged is tried again, somewhere.
    fn insist(&mut self) {
        let doors = self.doors();
        let due = |wish: &Wish| !wish.acknowledged && wish.tried + INSIST <= self.now;
        let due: Vec<_> = (0..self.wishes.len()).filter(|i| due(&self.wishes[*i])).collect();
        for index in due {
            if self.hosts.iter().any(|h| h.disk.receipts.contains_key(&self.wishes[index].id)) {
                self.wishes[index].acknowledged = true;
            } else if !doors.is_empty() {
                let at = doors[self.below(doors.len())];
                self.wishes[index].tried = self.now;
                let signed = Box::new(self.wishes[index].signed.clone());
                self.push(millis(1), at, What::Command(index as u64, signed));
            }
        }
    }

    fn reply(&mut self, command: u64, result: Result<Reply, CommandError>) {
        if command == UNANSWERED {
            return;
        }
        let wish = &mut self.wishes[usize::try_from(command).unwrap()];
        match result {
            Ok(Reply::Operation(id)) => {
                assert_eq!(id, wish.id);
                wish.acknowledged = true;
            }
            Ok(reply) => panic!("another reply: {reply:?}"),
            Err(error) => wish.errors.push(error),
        }
    }
}

/// What happens on Ethereum.
impl Network {
    /// Another stride is final, with these deposits for accounts.
    pub fn mine(&mut self, deposits: &[(u8, u128)]) {
        self.finalise(deposits, None);
    }

    /// Another stride is final, with a snapshot of these hosts as the operators of the next epoch.
    pub fn roll(&mut self, operators: &[usize]) {
        let epochs = self.ethereum.iter().filter(|stride| stride.operators.is_some()).count();
        let epoch = EpochNumber(epochs as u64 + 1);
        let set = OperatorSet::for_registrar(
            self.genesis.chain_id.clone(),
            &self.genesis.registrar(),
            epoch,
            &operators.iter().map(|host| record(&self.genesis.chain_id, *host)).collect::<Vec<_>>(),
        );
        self.finalise(&[], Some(Arc::new(set.unwrap())));
    }

    fn finalise(&mut self, deposits: &[(u8, u128)], operators: Option<Arc<OperatorSet>>) {
        let number = (self.ethereum.len() as u64 + 1) * STRIDE;
        let hash = Digest::of(&number.to_be_bytes());
        let first = self.ethereum.iter().map(|stride| stride.deposits.len()).sum::<usize>() as u64;
        let deposit = |(index, (account, amount)): (u64, &(u8, u128))| {
            let (account, amount) = (address(*account), Amount(*amount));
            (Digest::of(&index.to_be_bytes()), Credit { account, asset: Asset::Ether, amount })
        };
        let deposits = (first..).zip(deposits).map(deposit).collect();
        let block = EthereumBlock { number, hash };
        self.ethereum.push(EthereumStride { block, deposits, operators });
        (0..self.hosts.len()).for_each(|index| self.push_ethereum(index));
    }

    fn push_ethereum(&mut self, index: usize) {
        let (lag, jitter) = (self.hosts[index].ethereum_lag, self.delay());
        self.push(lag + jitter, index, What::Ethereum(self.ethereum.len()));
    }

    /// A node is told what it hasn't been told yet, as far as it takes it.
    fn follow(&mut self, index: usize, to: usize) {
        let host = &mut self.hosts[index];
        if host.followed >= to {
            return;
        }
        if !host.node.as_ref().is_some_and(Node::takes_ethereum) {
            return self.push(millis(100), index, What::Ethereum(to));
        }
        // As many as a follower tells at once.
        let end = to.min(host.followed + 32);
        let strides = self.ethereum[host.followed..end].to_vec();
        host.followed = end;
        self.handle(index, Event::Ledger(LedgerEvent::Ethereum(strides)));
        self.follow(index, to);
    }

    /// What Ethereum's deposits up to a block add up to.
    fn deposited_to(&self, block: &EthereumBlock) -> u128 {
        let strides = self.ethereum.iter().filter(|stride| stride.block.number <= block.number);
        strides.flat_map(|stride| &stride.deposits).map(|(_, credit)| credit.amount.0).sum()
    }
}

/// How time passes.
impl Network {
    pub fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            let slice = (self.now + millis(250)).min(end);
            while self.step(slice) {}
            self.insist();
        }
    }

    /// Lets time pass until something holds; panics if it never does.
    pub fn until(&mut self, most: Duration, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let end = self.now + most;
        while !holds(self) {
            assert!(self.now < end, "never happened: {what}\n{}", self.describe());
            self.pass(millis(100));
        }
    }

    /// Does the next thing that's due until then.
    fn step(&mut self, end: Timestamp) -> bool {
        let deadline = |(i, host): (usize, &Host)| Some((host.node.as_ref()?.next_deadline()?, i));
        let tick = self.hosts.iter().enumerate().filter_map(deadline).min();
        let message = self.queue.first_key_value().map(|(key, _)| *key);
        let next = [tick.map(|(at, _)| at), message.map(|(at, _)| at)].into_iter().flatten().min();
        let Some(at) = next.filter(|at| *at <= end) else {
            self.now = end;
            return false;
        };
        self.now = self.now.max(at);
        match (tick, message) {
            (Some((tick, index)), _) if message.is_none_or(|(at, _)| tick <= at) => {
                self.handle(index, Event::Tick);
                let deadline = self.hosts[index].node.as_ref().and_then(Node::next_deadline);
                assert!(deadline.is_none_or(|at| at > self.now), "node {index} spins");
            }
            _ => {
                let (_, (to, life, what)) = self.queue.pop_first().unwrap();
                self.deliver(to, life, what);
            }
        }
        true
    }

    fn deliver(&mut self, to: usize, life: u32, what: What) {
        let host = &mut self.hosts[to];
        if let What::Request { from, question, .. } = &what
            && (host.node.is_none() || host.life != life)
        {
            let (from, question) = (*from, *question);
            return self.respond(from, question, None);
        }
        if host.node.is_none() || host.life != life {
            return;
        }
        match what {
            What::Gossip { from, topic, bytes } => self.hear(to, from, topic, bytes),
            What::Request { from, question, bytes } => {
                let request = Request::from_bytes(&bytes).unwrap();
                let from = self.hosts[from].peer;
                self.handle(to, Event::Request { from, id: question, request });
            }
            What::Response { from, id, bytes } => {
                let response = bytes.map(|bytes| Response::from_bytes(&bytes).unwrap());
                let from = self.hosts[from].peer;
                self.handle(to, Event::Response { from, id, response });
            }
            What::Up(other) if self.is_connected(to, other) => {
                self.handle(to, Event::PeerConnected(self.hosts[other].peer));
            }
            What::Gone(other) if !self.is_connected(to, other) => {
                self.handle(to, Event::PeerDisconnected(self.hosts[other].peer));
            }
            What::Up(_) | What::Gone(_) => {}
            What::Command(id, signed) => {
                let command = Command::SubmitOperation(signed);
                self.handle(to, Event::Command { id, command });
            }
            What::Shell => self.work(to),
            What::Done(event) => self.handle(to, Event::Ledger(event)),
            What::Event(event) => self.handle(to, *event),
            What::Ethereum(strides) => self.follow(to, strides),
        }
    }

    /// The swarm drops what it had before, now and then only after it went to the node again.
    fn hear(&mut self, to: usize, from: usize, topic: Topic, bytes: Vec<u8>) {
        let is_new = self.hosts[to].seen.insert(message_id(topic.name(), &bytes));
        if !(is_new || (self.duplicate > 0 && self.percent(2))) {
            return;
        }
        let delivery = self.fresh_id();
        self.deliveries.insert(delivery, (from, topic, bytes.clone()));
        let from = self.hosts[from].peer;
        self.handle(to, Event::Gossip { delivery, from, topic, bytes });
    }

    fn handle(&mut self, index: usize, event: Event) {
        if let Some(node) = &mut self.hosts[index].node {
            node.handle(self.now, event);
        }
        self.drive(index);
    }

    fn drive(&mut self, index: usize) {
        while let Some(action) = self.hosts[index].node.as_mut().and_then(Node::poll) {
            self.act(index, action);
        }
    }

    /// The shell takes some of the work that waits: what it takes is done, and the rest is lost if the node is killed.
    fn work(&mut self, index: usize) {
        if self.hosts[index].stalled {
            return self.push(millis(50), index, What::Shell);
        }
        let slow = self.evaluation > Duration::ZERO;
        let count = if slow { 1 } else { 1 + self.below(self.hosts[index].work.len()) };
        for _ in 0..count {
            let host = &mut self.hosts[index];
            let work = host.work.pop_front().expect("so many wait");
            let before = host.disk.height();
            let event = host.shell.carry_out(&mut host.disk, self.now, work);
            if host.disk.height() > before {
                self.witness.committed(index, &self.genesis.chain_id, host.disk.tip());
            }
            if let Some(event) = event {
                // On disk, and the node doesn't know yet.
                self.push(millis(1), index, What::Done(event));
            }
        }
        if !self.hosts[index].work.is_empty() {
            self.push_shell(index);
        }
    }

    fn push_shell(&mut self, index: usize) {
        let mut takes = Duration::from_micros(500 + self.rng.next_u64() % 6_000);
        if let Some(LedgerWork::Evaluate(_, input)) = self.hosts[index].work.front() {
            takes += self.evaluation * u32::try_from(input.operations.len()).expect("few");
        }
        self.push(takes, index, What::Shell);
    }
}

/// What nodes want done.
impl Network {
    fn act(&mut self, index: usize, action: NodeAction) {
        match action {
            NodeAction::Judge(delivery, verdict) => self.judged(index, delivery, verdict),
            NodeAction::Publish(message) => self.publish(index, *message),
            NodeAction::Ask { peer, id, request } => self.ask(index, &peer, id, &request),
            NodeAction::Answer(id, response) => self.answer(index, id, response),
            NodeAction::SetScore(..) | NodeAction::Forget(..) => {}
            // Nobody needs a component to say its input again.
            NodeAction::Prepare(service, manifest) => {
                self.happens(index, Event::Prepared(service, manifest.digest(), Ok(())));
            }
            NodeAction::Ban(peer) => self.ban(index, peer),
            NodeAction::Store(id, records) => {
                self.hosts[index].records.extend(records);
                self.happens(index, Event::Stored(id));
            }
            NodeAction::Execute(execution) => {
                let output = Output::new(execution.input.into_vec()).unwrap();
                let outcome = Outcome::new(FUEL_USED, Ok(output));
                let abstains = self.hosts[index].abstains;
                let result = if abstains { Err("it's busy".to_owned()) } else { Ok(outcome) };
                self.happens(index, Event::Executed(execution.task, result));
            }
            NodeAction::Sign(task, outcome, lamina_node_core::Signer { set, operator }) => {
                let key = &self.hosts[index].keys.bls;
                let attestation = Attestation::sign(&set, operator, key, task, outcome);
                self.happens(index, Event::Signed(task, Ok(Box::new(attestation))));
            }
            NodeAction::Ledger(LedgerWork::Answer { id, request, pending }) => {
                let disk = &self.hosts[index].disk;
                let response = disk.answer(&self.genesis.chain_id, request, pending);
                self.answer(index, id, response);
            }
            NodeAction::Ledger(LedgerWork::Halt(reason)) => {
                assert!(self.hosts[index].conduct != Conduct::Honest, "node {index}: {reason}");
                self.kill(index);
            }
            NodeAction::Ledger(work) => {
                self.hosts[index].work.push_back(work);
                if self.hosts[index].work.len() == 1 {
                    self.push_shell(index);
                }
            }
            NodeAction::Reply(command, result) => self.reply(command, result),
            NodeAction::Notify(notice) => self.hosts[index].notices.push(notice),
            other => panic!("nothing to run here: {other:?}"),
        }
    }

    fn happens(&mut self, index: usize, event: Event) {
        self.push(millis(1), index, What::Event(Box::new(event)));
    }

    fn publish(&mut self, index: usize, message: Gossip) {
        if self.hosts[index].conduct == Conduct::Honest {
            let (disk, chain) = (&self.hosts[index].disk, &self.genesis.chain_id);
            self.witness.published(index, disk, chain, &message);
        }
        for (to, message) in self.lies(index, message) {
            let (topic, bytes) = message.encode();
            self.hosts[index].seen.insert(message_id(topic.name(), &bytes));
            self.send(index, to, topic, &bytes);
        }
    }

    /// A message from one host to others, as if it had said it.
    pub fn say(&mut self, from: usize, to: &[usize], message: &Gossip) {
        let (topic, bytes) = message.encode();
        for to in to {
            self.send(from, *to, topic, &bytes);
        }
    }

    fn send(&mut self, from: usize, to: usize, topic: Topic, bytes: &[u8]) {
        let deaf = self.hosts[from].deaf || self.hosts[to].deaf;
        if deaf || !self.is_connected(from, to) || self.percent(self.loss) {
            return;
        }
        let copies = 1 + usize::from(self.percent(self.duplicate));
        for _ in 0..copies {
            let delay = self.delay();
            self.push(delay, to, What::Gossip { from, topic, bytes: bytes.to_vec() });
        }
    }

    fn judged(&mut self, index: usize, delivery: u64, verdict: Verdict) {
        let (from, topic, bytes) = self.deliveries.remove(&delivery).unwrap();
        if verdict == Verdict::Accept {
            for to in (0..self.hosts.len()).filter(|to| *to != from) {
                self.send(index, to, topic, &bytes);
            }
        }
    }

    fn ask(&mut self, asker: usize, peer: &PeerKey, id: u64, request: &Request) {
        let (answerer, question) = (self.index_of(peer), self.fresh_id());
        let life = self.hosts[asker].life;
        if matches!(request, Request::Checkpoints { .. }) {
            self.hosts[answerer].asked_for_checkpoints += 1;
        }
        self.questions.insert(question, Question { asker, life, id, answerer });
        let deaf = self.hosts[asker].deaf || self.hosts[answerer].deaf;
        if deaf || !self.is_connected(asker, answerer) || self.percent(self.loss) {
            return self.respond(asker, question, None);
        }
        let (delay, bytes) = (self.delay(), request.to_bytes());
        self.push(delay, answerer, What::Request { from: asker, question, bytes });
    }

    fn answer(&mut self, index: usize, question: u64, response: Response) {
        let Some(open) = self.questions.get(&question) else { return };
        assert_eq!(open.answerer, index);
        let asker = open.asker;
        if self.hosts[index].conduct == Conduct::Boasts {
            let boast = lies::boast(response);
            return self.respond(asker, question, Some(boast));
        }
        if self.hosts[index].conduct == Conduct::Withholds
            && matches!(response, Response::Changes(_))
        {
            return self.respond(asker, question, Some(Response::Changes(List::default())));
        }
        if let Response::Changes(changes) = &response {
            self.saw(changes.as_slice());
        }
        let lost = !self.is_connected(index, asker) || self.percent(self.loss);
        self.respond(asker, question, (!lost).then_some(response));
    }

    fn saw(&mut self, changes: &[Change]) {
        for change in changes {
            let author = self.index_of(&change.author);
            if self.hosts[author].conduct == Conduct::Honest {
                self.witness.change(&self.genesis.chain_id, change);
            }
        }
    }

    fn respond(&mut self, asker: usize, question: u64, response: Option<Response>) {
        let Some(Question { life, id, answerer, .. }) = self.questions.remove(&question) else {
            return;
        };
        if self.hosts[asker].life == life {
            let delay = if response.is_some() { self.delay() } else { TIMEOUT };
            let bytes = response.map(|response| response.to_bytes());
            self.push(delay, asker, What::Response { from: answerer, id, bytes });
        }
    }

    fn ban(&mut self, index: usize, peer: PeerKey) {
        let other = self.index_of(&peer);
        let honest = |host: &Host| host.conduct == Conduct::Honest;
        assert!(
            !honest(&self.hosts[index]) || !honest(&self.hosts[other]),
            "{index} bans {other}, and both are honest"
        );
        self.hosts[index].banned.insert(peer);
        self.push(millis(1), index, What::Gone(other));
        self.push(millis(20), other, What::Gone(index));
    }
}

/// What must hold in the end.
impl Network {
    /// Ends all faults, starts who is down, and waits until all that was acknowledged has its receipt everywhere.
    pub fn settle(&mut self) {
        self.heal();
        for index in 0..self.hosts.len() {
            if self.hosts[index].node.is_none() && self.hosts[index].conduct == Conduct::Honest {
                self.start(index);
            }
        }
        self.until(seconds(180), "everything is final everywhere", Self::is_settled);
        self.assert_equal();
    }

    fn is_settled(&self) -> bool {
        let honest = self.honest();
        let tip = self.hosts[honest[0]].disk.tip();
        honest.iter().all(|index| {
            let (disk, node) = (&self.hosts[*index].disk, self.node(*index));
            let has = |wish: &Wish| wish.acknowledged && disk.receipts.contains_key(&wish.id);
            let view = node.ledger_view().unwrap();
            let is_done = view.pending == 0 && disk.promises.is_empty();
            disk.tip() == tip && is_done && self.wishes.iter().all(has)
        })
    }

    fn assert_equal(&self) {
        let honest = self.honest();
        let first = &self.hosts[honest[0]].disk;
        for index in honest {
            let disk = &self.hosts[index].disk;
            disk.assert_whole();
            assert_eq!(disk.changes, first.changes, "books of {index}");
            assert_eq!(disk.receipts, first.receipts, "receipts of {index}");
            assert_eq!(disk.state.entries(), first.state.entries(), "state of {index}");
            assert_eq!(disk.promises, BTreeMap::new(), "promises of {index}");
            let headers = |disk: &Disk| -> Vec<_> {
                disk.decisions.values().map(|d| d.header.clone()).collect()
            };
            assert_eq!(headers(disk), headers(first));
        }
        let came_in = self.deposited_to(&first.tip().header.ethereum);
        witness::assert_conserved(&first.state, came_in);
    }

    /// All wishes took effect.
    pub fn assert_applied(&self) {
        let disk = &self.hosts[self.honest()[0]].disk;
        for wish in &self.wishes {
            let receipt = &disk.receipts[&wish.id];
            assert_eq!(receipt.refusal, None, "{:?}", wish.signed.operation);
        }
    }

    /// For whoever looks for the reason of a failure.
    pub fn describe(&self) -> String {
        let line = |(index, host): (usize, &Host)| {
            let Some(node) = &host.node else { return format!("{index}: down\n") };
            let lacks = self.wishes.iter().filter(|w| !host.disk.receipts.contains_key(&w.id));
            let (view, metrics) = (node.ledger_view(), node.ledger_metrics());
            format!("{index}: lacks {} receipts, {view:?}\n   {metrics:?}\n", lacks.count())
        };
        let wishes = self.wishes.iter().filter(|wish| !wish.acknowledged);
        let errors: Vec<_> = wishes.map(|wish| (wish.id, &wish.errors)).take(3).collect();
        let lines: String = self.hosts.iter().enumerate().map(line).collect();
        format!("at {}\n{lines}not acknowledged: {errors:?}", self.now)
    }

    /// The evidence on a host's disk that names this operator, by kind.
    pub fn evidence_of(
        &self,
        index: usize,
        offender: usize,
    ) -> Vec<lamina_certificate::OffenceKind> {
        let epochs = self.genesis.epochs().unwrap();
        let set = |number| {
            let of = |(_, set): &(_, OperatorSet)| set.epoch() == number;
            epochs.iter().find(|epoch| of(epoch)).map(|(_, set)| Arc::new(set.clone()))
        };
        let address = Address([u8::try_from(offender).unwrap() + 1; 20]);
        let evidence = self.hosts[index].disk.evidence.values().map(|bytes| {
            let evidence = lamina_certificate::Evidence::from_bytes(bytes).unwrap();
            assert_eq!(evidence.verify(set), Ok(address));
            evidence.kind()
        });
        evidence.collect()
    }
}
