//! A network of engines in virtual time: links with latency and loss, disks, crashes, partitions, and operators who lie.
//! What must always hold is asserted as it goes: one checkpoint per height, its certificate good, no honest operator's
//! two votes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::{Signer as _, SigningKey};
use lamina_certificate::{Checkpoint, OperatorRecord, OperatorSet, SecretKey, Signature};
use lamina_ledger::finality::{
    Config, ConsensusMessage, Engine, Equivocation, Input, LogEntry, Output, Proposal, Signer,
    Step, Value, Vote, VoteSignature,
};
use lamina_types::{
    Address, Canonical as _, ChainId, CheckpointHeader, Cut, Digest, EpochNumber, EthereumBlock,
    HeaderId, Height, OperatorIndex, PeerKey, Timestamp, signing,
};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

pub(crate) const EPOCH: EpochNumber = EpochNumber(3);
/// The state root of values that nobody takes for right.
pub(crate) const WRONG: Digest = Digest([0xbb; 32]);

pub(crate) fn chain() -> ChainId {
    "lamina-test-1".parse().expect("a chain id")
}

#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) bls: SecretKey,
    pub(crate) node: SigningKey,
}

impl Keys {
    pub(crate) fn of(seed: u8) -> Self {
        let bls = SecretKey::derive(&[seed; 32]);
        Self { bls, node: SigningKey::from_bytes(&[seed; 32]) }
    }

    pub(crate) fn peer(&self) -> PeerKey {
        PeerKey(self.node.verifying_key().to_bytes())
    }

    /// Signs the vote again, as it is now.
    pub(crate) fn sign(&self, vote: &mut Vote) {
        let digest = vote.digest(&chain(), EPOCH);
        vote.signature = match vote.step() {
            Step::Prevote => VoteSignature::Prevote(self.ed25519(&digest)),
            Step::Precommit => VoteSignature::Precommit(self.bls(&digest).to_bytes()),
        };
    }

    pub(crate) fn sign_proposal(&self, proposal: &mut Proposal) {
        let Proposal { height, round, valid_round, value, .. } = &*proposal;
        let header = value.header.id(&chain());
        let digest =
            signing::checkpoint_proposal(&chain(), EPOCH, *height, *round, *valid_round, &header);
        proposal.signature = self.ed25519(&digest);
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

pub(crate) fn operator_set(stakes: &[u64]) -> OperatorSet {
    let record = |(i, stake): (u8, &u64)| {
        let keys = Keys::of(i);
        OperatorRecord::new(&chain(), Address([i; 20]), keys.peer(), &keys.bls, *stake)
    };
    let records: Vec<_> = (1..).zip(stakes).map(record).collect();
    OperatorSet::new(chain(), EPOCH, &records).expect("records hold")
}

pub(crate) fn value(height: Height, time: Timestamp, state: Digest) -> Value {
    let cut = Cut::default();
    let zero = Digest([0; 32]);
    let header = CheckpointHeader {
        epoch: EPOCH,
        height,
        previous: HeaderId([0; 32]),
        history: zero,
        cut: cut.digest(),
        state,
        claims: zero,
        results: zero,
        ethereum: EthereumBlock::default(),
        time,
        operators: zero,
        next_operators: zero,
    };
    Value { header, cut }
}

/// How a node lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conduct {
    Honest,
    /// Signs a second, other vote with each.
    VotesTwice,
    /// Signs a second, other proposal with each.
    ProposesTwice,
    /// Its precommits' signatures are of something else.
    SignsBadly,
    /// Its values' state root is wrong.
    ProposesWrong,
}

pub(crate) struct Node {
    pub(crate) engine: Engine,
    pub(crate) keys: Keys,
    pub(crate) signs: bool,
    pub(crate) alive: bool,
    pub(crate) conduct: Conduct,
    /// What was synced of the current height.
    pub(crate) disk: Vec<LogEntry>,
    pub(crate) decided: BTreeMap<Height, Checkpoint>,
    /// Dies when so many entries were synced, before anything that follows.
    pub(crate) dies_after: Option<usize>,
    pub(crate) logged: usize,
}

#[derive(Debug, Clone)]
enum Event {
    Start(usize, Height),
    Deliver { from: usize, to: usize, message: ConsensusMessage },
    Value { to: usize, height: Height, round: u32 },
    Judged { to: usize, height: Height, header: HeaderId, valid: bool },
    Sync { to: usize, checkpoint: Box<Checkpoint> },
    Restart(usize),
}

pub(crate) struct Network {
    pub(crate) set: Arc<OperatorSet>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) now: Timestamp,
    /// Chance of a message to be lost, in percent.
    pub(crate) loss: u64,
    /// Chance of a message to come a second time with a bit flipped, in percent.
    pub(crate) garbled: u64,
    /// Messages pass within a group only.
    pub(crate) groups: Vec<u8>,
    pub(crate) equivocations: Vec<Equivocation>,
    pub(crate) offences: BTreeMap<PeerKey, BTreeSet<&'static str>>,
    pub(crate) judged: BTreeMap<(usize, HeaderId), u32>,
    /// A hash of all that happened.
    pub(crate) trace: Digest,
    pub(crate) published: Vec<ConsensusMessage>,
    config: Config,
    votes: BTreeMap<(Height, u32, Step, OperatorIndex), Option<HeaderId>>,
    agreed: BTreeMap<Height, HeaderId>,
    events: BTreeMap<(Timestamp, u64), Event>,
    count: u64,
    rng: ChaCha20Rng,
}

const START: Timestamp = Timestamp(1_000_000_000);

impl Network {
    pub(crate) fn new(count: usize, seed: u64) -> Self {
        Self::with(&vec![100; count], 0, seed)
    }

    /// Operators with these stakes, and observers.
    pub(crate) fn with(stakes: &[u64], observers: usize, seed: u64) -> Self {
        let count = stakes.len() + observers;
        let mut network = Self {
            set: Arc::new(operator_set(stakes)),
            nodes: Vec::new(),
            now: START,
            loss: 0,
            garbled: 0,
            groups: vec![0; count],
            equivocations: Vec::new(),
            offences: BTreeMap::new(),
            judged: BTreeMap::new(),
            trace: Digest([0; 32]),
            published: Vec::new(),
            config: Config::default(),
            votes: BTreeMap::new(),
            agreed: BTreeMap::new(),
            events: BTreeMap::new(),
            count: 0,
            rng: ChaCha20Rng::seed_from_u64(seed),
        };
        for i in 0..count {
            let keys = Keys::of(u8::try_from(i + 1).expect("few nodes"));
            let signs = i < stakes.len();
            let engine = engine(&keys, signs, i as u64, network.config.clone());
            network.nodes.push(Node {
                engine,
                keys,
                signs,
                alive: true,
                conduct: Conduct::Honest,
                disk: Vec::new(),
                decided: BTreeMap::new(),
                dies_after: None,
                logged: 0,
            });
            network.at(0, Event::Start(i, Height(1)));
        }
        network
    }

    pub(crate) fn crash(&mut self, node: usize) {
        self.nodes[node].alive = false;
    }

    pub(crate) fn restart(&mut self, node: usize) {
        let n = &mut self.nodes[node];
        n.alive = true;
        n.engine = engine(&n.keys, n.signs, 1000 + node as u64, self.config.clone());
        let height = n.next_height();
        let log = n.disk.clone();
        n.engine.start(self.now, height, Arc::clone(&self.set), log);
        self.drain(node);
    }

    /// Height of the last checkpoint that all who are alive have.
    pub(crate) fn height(&self) -> u64 {
        let alive = self.nodes.iter().filter(|node| node.alive);
        alive.map(|node| node.next_height().0 - 1).min().unwrap_or(0)
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until everyone alive has this checkpoint.
    pub(crate) fn run_to(&mut self, height: u64, limit: Duration) {
        let end = self.now + limit;
        while self.height() < height {
            assert!(self.step(end), "at {} of {height} after {limit:?}", self.height());
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now.since(START)
    }

    /// The next event before `end`, if there's one.
    fn step(&mut self, end: Timestamp) -> bool {
        let event = self.events.keys().next().map(|(at, _)| *at);
        let alive = self.nodes.iter().enumerate().filter(|(_, node)| node.alive);
        let deadline = alive.filter_map(|(i, node)| Some((node.engine.next_deadline()?, i))).min();
        match (event, deadline) {
            (Some(at), deadline) if at <= end && deadline.is_none_or(|(due, _)| at <= due) => {
                let ((at, _), event) = self.events.pop_first().expect("it was there");
                self.now = self.now.max(at);
                self.happen(event);
            }
            (_, Some((due, node))) if due <= end => {
                self.now = self.now.max(due);
                self.handle(node, Input::Tick);
            }
            _ => return false,
        }
        true
    }

    fn happen(&mut self, event: Event) {
        let text = format!("{:?}{:?}{event:?}", self.trace, self.now);
        self.trace = Digest::of(text.as_bytes());
        match event {
            Event::Restart(node) => self.restart(node),
            Event::Start(node, height) => self.start(node, height),
            Event::Deliver { from, to, message } => self.deliver(from, to, message),
            Event::Value { to, height, round } => {
                let wrong = self.nodes[to].conduct == Conduct::ProposesWrong;
                let salt = format!("{to} {height:?} {round}");
                let state = if wrong { WRONG } else { Digest::of(salt.as_bytes()) };
                let value = Box::new(value(height, self.now, state));
                self.handle(to, Input::Value { height, round, value });
            }
            Event::Judged { to, height, header, valid } => {
                if self.nodes[to].engine.height() == height {
                    self.handle(to, Input::Judged { header, valid });
                }
            }
            Event::Sync { to, checkpoint } => self.sync(to, *checkpoint),
        }
    }

    fn start(&mut self, node: usize, height: Height) {
        let n = &mut self.nodes[node];
        if n.alive && n.engine.height() < height && n.next_height() == height {
            n.disk.clear();
            n.engine.start(self.now, height, Arc::clone(&self.set), Vec::new());
            self.drain(node);
        }
    }

    /// Delivers; whoever of the two is behind gets the other's checkpoint.
    fn deliver(&mut self, from: usize, to: usize, message: ConsensusMessage) {
        if !self.nodes[to].alive {
            return;
        }
        let (theirs, ours) = (message.height(), self.nodes[to].next_height());
        let late = if theirs < ours { Some((from, to, theirs)) } else { None };
        let late = late.or_else(|| (theirs > ours).then_some((to, from, ours)));
        if let Some((late, other, height)) = late
            && let Some(checkpoint) = self.nodes[other].decided.get(&height)
        {
            let checkpoint = Box::new(checkpoint.clone());
            if self.link(other, late) {
                self.at(300, Event::Sync { to: late, checkpoint });
            }
        }
        let from = self.nodes[from].keys.peer();
        self.handle(to, Input::Message { from, message });
    }

    fn sync(&mut self, node: usize, checkpoint: Checkpoint) {
        let n = &self.nodes[node];
        if n.alive && n.next_height() == checkpoint.header.height {
            self.decide(node, checkpoint);
        }
    }

    fn decide(&mut self, node: usize, checkpoint: Checkpoint) {
        checkpoint.verify(&self.set).expect("a decided checkpoint holds");
        let (height, id) = (checkpoint.header.height, checkpoint.certificate.header);
        assert_eq!(*self.agreed.entry(height).or_insert(id), id, "two checkpoints at {height:?}");
        self.nodes[node].decided.insert(height, checkpoint);
        self.nodes[node].disk.clear();
        self.at(20, Event::Start(node, Height(height.0 + 1)));
    }

    fn handle(&mut self, node: usize, input: Input) {
        if self.nodes[node].alive {
            self.nodes[node].engine.handle(self.now, input);
            self.drain(node);
        }
    }

    fn drain(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].engine.poll() {
            self.carry_out(node, output);
            if !self.nodes[node].alive {
                return; // what it had queued is lost
            }
        }
    }

    fn carry_out(&mut self, node: usize, output: Output) {
        let height = self.nodes[node].engine.height();
        match output {
            Output::Propose { height, round } => {
                self.at(5, Event::Value { to: node, height, round });
            }
            Output::Judge { value, .. } => {
                let header = value.header.id(&chain());
                *self.judged.entry((node, header)).or_default() += 1;
                let valid = value.header.state != WRONG;
                self.at(5, Event::Judged { to: node, height, header, valid });
            }
            Output::Log(entry) => self.log(node, entry),
            Output::Publish(message) => self.publish(node, message),
            Output::Offence(peer, what) => {
                self.offences.entry(peer).or_default().insert(what);
            }
            Output::Equivocation(both) => {
                assert!(both.verify(&self.set));
                self.equivocations.push(both);
            }
            Output::Decided { checkpoint, cut } => {
                assert_eq!(cut.digest(), checkpoint.header.cut);
                self.decide(node, *checkpoint);
            }
        }
    }

    fn log(&mut self, node: usize, entry: LogEntry) {
        assert_eq!(LogEntry::from_bytes(&entry.to_bytes()).as_ref(), Ok(&entry));
        let n = &mut self.nodes[node];
        n.disk.push(entry);
        n.logged += 1;
        if n.dies_after == Some(n.logged) {
            n.alive = false;
            self.at(300, Event::Restart(node));
        }
    }

    fn publish(&mut self, node: usize, message: ConsensusMessage) {
        let own = self.set.index_of_peer(&self.nodes[node].keys.peer());
        if let ConsensusMessage::Vote(vote) = &message
            && self.nodes[node].conduct == Conduct::Honest
        {
            assert_eq!(Some(vote.operator), own);
            let key = (vote.height, vote.round, vote.step(), vote.operator);
            assert_eq!(*self.votes.entry(key).or_insert(vote.header), vote.header, "{key:?}");
        }
        assert_eq!(ConsensusMessage::from_bytes(&message.to_bytes()).as_ref(), Ok(&message));
        for message in self.twist(node, message) {
            self.published.push(message.clone());
            for to in (0..self.nodes.len()).filter(|to| *to != node) {
                self.send(node, to, message.clone());
            }
        }
    }

    /// What a liar makes of its message.
    fn twist(&self, node: usize, message: ConsensusMessage) -> Vec<ConsensusMessage> {
        let Node { conduct, keys, .. } = &self.nodes[node];
        let mut other = message.clone();
        match (&mut other, conduct) {
            (ConsensusMessage::Vote(vote), Conduct::VotesTwice) => {
                let something = HeaderId([0xaa; 32]);
                vote.header = if vote.header.is_none() { Some(something) } else { None };
                keys.sign(vote);
                vec![message, other]
            }
            (ConsensusMessage::Proposal(proposal), Conduct::ProposesTwice) => {
                proposal.value.header.state = Digest([0xaa; 32]);
                keys.sign_proposal(proposal);
                vec![message, other]
            }
            (ConsensusMessage::Vote(vote), Conduct::SignsBadly) => {
                if let VoteSignature::Precommit(bytes) = &mut vote.signature {
                    *bytes = keys.bls(&Digest([1; 32])).to_bytes();
                }
                vec![other]
            }
            _ => vec![message],
        }
    }

    fn send(&mut self, from: usize, to: usize, message: ConsensusMessage) {
        if !self.link(from, to) {
            return;
        }
        if self.chance(self.garbled)
            && let Some(message) = self.garble(&message)
        {
            let delay = self.latency();
            self.at(delay, Event::Deliver { from, to, message });
        }
        let delay = self.latency();
        self.at(delay, Event::Deliver { from, to, message });
    }

    fn garble(&mut self, message: &ConsensusMessage) -> Option<ConsensusMessage> {
        let mut bytes = message.to_bytes();
        let at = self.below(bytes.len() as u64);
        bytes[usize::try_from(at).expect("an index")] ^= 1 << self.below(8);
        ConsensusMessage::from_bytes(&bytes).ok()
    }

    fn link(&mut self, from: usize, to: usize) -> bool {
        self.groups[from] == self.groups[to] && !self.chance(self.loss)
    }

    /// Milliseconds.
    fn latency(&mut self) -> u64 {
        10 + self.below(50)
    }

    fn chance(&mut self, percent: u64) -> bool {
        percent > 0 && self.below(100) < percent
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    fn at(&mut self, millis: u64, event: Event) {
        self.count += 1;
        self.events.insert((self.now + Duration::from_millis(millis), self.count), event);
    }
}

impl Node {
    pub(crate) fn next_height(&self) -> Height {
        Height(self.decided.keys().next_back().map_or(1, |height| height.0 + 1))
    }
}

pub(crate) fn engine(keys: &Keys, signs: bool, seed: u64, config: Config) -> Engine {
    let signer = signs.then(|| Box::new(keys.clone()) as Box<dyn Signer>);
    Engine::new(config, chain(), keys.peer(), signer, ChaCha20Rng::seed_from_u64(seed))
}
