//! Nodes joined by a network of one thread, with disks, signing stores and a service that runs at once. A pretended ledger
//! tells them of services: its checkpoints come when a test says so.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lamina_certificate::{
    Attestation, Backing, Genesis, Member, Members, Observation, ObservationSet, Operator,
    OperatorRecord, OperatorSet, SecretKey,
};
use lamina_node_core::{
    Action, CheckpointView, Command, CommandError, Config, Event, Execution, Node, Notice, Record,
    Reply, ServiceVersion, Signer, TaskStatus, TaskView,
};
use lamina_p2p::{Response, Topic, Verdict};
use lamina_types::{
    AccountKey, Address, Canonical, Digest, Height, Input, Limits, Manifest, ObservationValue,
    OperatorIndex, Oracle, Outcome, Output, PeerKey, ServiceId, SignedTaskRequest, TaskId,
    TaskRequest, Text, Timestamp,
};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

pub const COMPONENT: &[u8] = b"stands for a component: the harness runs services itself";

/// What an operator does with an input.
pub type Behaviour = fn(&Input) -> Result<Outcome, String>;

pub fn honest(input: &Input) -> Result<Outcome, String> {
    Ok(Outcome::new(7, Ok(Output::new(input.as_slice()).unwrap())))
}

pub fn lying(_: &Input) -> Result<Outcome, String> {
    Ok(Outcome::new(7, Ok(Output::new(*b"a lie").unwrap())))
}

pub fn slow(_: &Input) -> Result<Outcome, String> {
    Err("took longer than 10s".to_owned())
}

/// What an operator sees of the world.
pub type Sight = fn(operator: usize) -> Result<ObservationValue, String>;

/// Every operator sees something else.
pub fn thermometer(operator: usize) -> Result<ObservationValue, String> {
    Ok(value(&format!("{} degrees", 20 + operator)))
}

pub fn blind(_: usize) -> Result<ObservationValue, String> {
    Err("the endpoint doesn't answer".to_owned())
}

pub fn value(text: &str) -> ObservationValue {
    ObservationValue::new(text).unwrap()
}

/// Names all that it was given.
pub fn reduce(execution: &Execution) -> Result<Outcome, String> {
    let observations = execution.observations.as_ref().expect("an oracle's task");
    let text: Vec<String> = observations
        .iter()
        .map(|o| format!("{}: {}", o.operator, String::from_utf8_lossy(o.value.as_slice())))
        .collect();
    assert!(observations.is_sorted_by_key(|o| o.operator));
    assert!(observations.iter().all(|o| o.stake_gwei == 32));
    Ok(Outcome::new(7, Ok(Output::new(text.join(", ")).unwrap())))
}

pub struct Network {
    pub genesis: Genesis,
    pub set: Arc<OperatorSet>,
    /// All that the pretended ledger said, by height.
    pub checkpoints: Vec<CheckpointView>,
    pub config: Config,
    pub now: Timestamp,
    pub hosts: Vec<Host>,
    /// Of a hundred gossip messages, how many are lost.
    pub loss_percent: u64,
    /// Whether messages that wait are delivered in any order.
    pub reorder: bool,
    keys: Vec<SecretKey>,
    rng: ChaCha20Rng,
    wire: VecDeque<(usize, Event)>,
    questions: BTreeMap<u64, (usize, u64, usize)>,
    next_id: u64,
}

/// A machine: what survives when its node doesn't run.
pub struct Host {
    pub node: Option<Node>,
    pub behaviour: Behaviour,
    pub records: Vec<Record>,
    /// How many checkpoints its ledger has.
    pub checkpoints: usize,
    /// Whether its ledger gets none at the moment.
    pub lags: bool,
    /// What's ready to run.
    pub prepared: BTreeMap<(ServiceId, Digest), Manifest>,
    /// What was run, with the manifest that it ran with.
    pub executed: Vec<(TaskId, Digest)>,
    pub sight: Sight,
    /// Whether what it looks at never answers.
    pub stares: bool,
    /// How often it looked.
    pub observed: u32,
    pub signed: BTreeMap<TaskId, Digest>,
    pub signed_observations: BTreeMap<TaskId, Digest>,
    pub signed_proposals: BTreeMap<TaskId, Digest>,
    pub blobs: BTreeSet<Digest>,
    pub banned: BTreeSet<PeerKey>,
    /// What the swarm was told of peers.
    pub scores: BTreeMap<PeerKey, f64>,
    pub notices: Vec<Notice>,
    /// By delivery.
    pub verdicts: BTreeMap<u64, Verdict>,
    pub replies: Vec<Result<Reply, CommandError>>,
    /// What its node asked of others.
    pub asked: Vec<lamina_p2p::Request>,
}

pub fn peer(index: usize) -> PeerKey {
    PeerKey([u8::try_from(index).unwrap() + 1; 32])
}

pub fn account() -> AccountKey {
    AccountKey::from_bytes(&[9; 32]).unwrap()
}

pub fn operator_index(index: usize) -> OperatorIndex {
    OperatorIndex(u16::try_from(index).unwrap())
}

/// The outcome of a service that appends its parameters to what it says.
fn with_parameters(outcome: Outcome, manifest: &Manifest) -> Outcome {
    let Ok(output) = &outcome.result else { return outcome };
    let mut bytes = output.as_slice().to_vec();
    for value in manifest.parameters.values() {
        bytes.extend_from_slice(value.to_string().as_bytes());
    }
    Outcome { result: Ok(Output::new(bytes).unwrap()), ..outcome }
}

impl Network {
    /// Operators that are all up and connected.
    pub fn new(operators: usize) -> Self {
        let mut network = Self::down(operators);
        (0..operators).for_each(|index| network.start(index));
        network.run();
        network
    }

    /// Operators whose nodes aren't running.
    pub fn down(operators: usize) -> Self {
        Self::down_with(operators, 0)
    }

    /// Operators and machines that aren't, none of which runs.
    pub fn down_with(operators: usize, followers: usize) -> Self {
        let keys: Vec<_> =
            (0..operators).map(|i| SecretKey::derive(&[u8::try_from(i).unwrap(); 32])).collect();
        let chain_id: lamina_types::ChainId = "lamina-test-1".parse().unwrap();
        let records = keys
            .iter()
            .enumerate()
            .map(|(i, key)| {
                let address = Address([u8::try_from(i).unwrap(); 20]);
                OperatorRecord::new(&chain_id, address, peer(i), key, 32)
            })
            .collect();
        let genesis = Genesis {
            chain_id,
            ethereum_chain_id: 31337,
            ethereum: None,
            runtime: lamina_types::testing::runtime(),
            operators: records,
            ledger: lamina_certificate::LedgerGenesis::default(),
        };
        let host = || Host {
            node: None,
            behaviour: honest,
            records: Vec::new(),
            checkpoints: 0,
            lags: false,
            prepared: BTreeMap::new(),
            executed: Vec::new(),
            sight: thermometer,
            stares: false,
            observed: 0,
            signed: BTreeMap::new(),
            signed_observations: BTreeMap::new(),
            signed_proposals: BTreeMap::new(),
            blobs: BTreeSet::new(),
            banned: BTreeSet::new(),
            scores: BTreeMap::new(),
            notices: Vec::new(),
            verdicts: BTreeMap::new(),
            replies: Vec::new(),
            asked: Vec::new(),
        };
        let set = Arc::new(genesis.operator_set().unwrap());
        let now = Timestamp(1_700_000_000_000_000);
        let (operators_of_epoch, services) = (set.clone(), Vec::new());
        let first = CheckpointView {
            height: Height(0),
            time: now,
            operators: operators_of_epoch,
            services,
        };
        Self {
            set,
            checkpoints: vec![first],
            genesis,
            config: Config::default(),
            now,
            hosts: (0..operators + followers).map(|_| host()).collect(),
            loss_percent: 0,
            reorder: false,
            keys,
            rng: ChaCha20Rng::seed_from_u64(1),
            wire: VecDeque::new(),
            questions: BTreeMap::new(),
            next_id: 0,
        }
    }

    /// Starts a node with what its disk holds, and connects it to the others.
    pub fn start(&mut self, index: usize) {
        let node = Node::new(
            self.config.clone(),
            self.set.clone(),
            self.genesis.signing_context(),
            peer(index),
            ChaCha20Rng::seed_from_u64(index as u64),
            self.now,
            self.hosts[index].records.clone(),
        );
        let host = &mut self.hosts[index];
        host.node = Some(node);
        host.prepared.clear();
        if !host.lags {
            host.checkpoints = self.checkpoints.len();
        }
        let view = self.first_view(self.hosts[index].checkpoints.max(1));
        self.deliver(index, Event::Checkpoint(Box::new(view)));
        for other in 0..self.hosts.len() {
            if other != index && self.hosts[other].node.is_some() {
                self.wire.push_back((other, Event::PeerConnected(peer(index))));
                self.wire.push_back((index, Event::PeerConnected(peer(other))));
            }
        }
    }

    /// Stops a node at once: only what's on its disk is left.
    pub fn kill(&mut self, index: usize) {
        self.hosts[index].node = None;
        self.wire.retain(|(host, _)| *host != index);
        for other in 0..self.hosts.len() {
            if self.hosts[other].node.is_some() {
                self.wire.push_back((other, Event::PeerDisconnected(peer(index))));
            }
        }
    }

    pub fn node(&self, index: usize) -> &Node {
        self.hosts[index].node.as_ref().expect("the node runs")
    }

    pub fn task(&self, index: usize, id: &TaskId) -> TaskView {
        self.node(index).task(id).expect("the task is known")
    }

    pub fn manifest(&self) -> Manifest {
        Manifest {
            owner: account().address(),
            name: "echo".to_owned().try_into().unwrap(),
            description: Text::default(),
            component: Digest::of(COMPONENT),
            component_bytes: u32::try_from(COMPONENT.len()).unwrap(),
            limits: Limits {
                fuel: 1,
                memory_bytes: 1,
                input_bytes: 1,
                output_bytes: 1,
                state_bytes: 0,
            },
            parameters: BTreeMap::new(),
            blobs: BTreeMap::new(),
            oracle: None,
        }
    }

    /// Registers the service, whose component this host has; all operators serve it.
    pub fn deploy(&mut self, index: usize) -> ServiceId {
        self.register(index, self.manifest())
    }

    /// Registers an oracle, whose component is the service's.
    pub fn deploy_oracle(&mut self, index: usize) -> ServiceId {
        let oracle = Some(Oracle { origins: lamina_types::List::default(), llm: None });
        self.register(index, Manifest { oracle, ..self.manifest() })
    }

    pub fn register(&mut self, index: usize, manifest: Manifest) -> ServiceId {
        let id = manifest.service_id(&self.genesis.chain_id);
        self.hosts[index].blobs.insert(Digest::of(COMPONENT));
        let since = self.next_height();
        let (manifest, set) = (Box::new(manifest), Some(self.set.clone()));
        self.commit(vec![ServiceVersion { id, since, manifest, paused: false, set }]);
        id
    }

    /// Changes what holds of a service from the next checkpoint on.
    pub fn change(&mut self, id: ServiceId, change: impl FnOnce(&mut ServiceVersion)) {
        let mut version = self.version_at(id, self.tip()).expect("it's deployed").clone();
        version.since = self.next_height();
        change(&mut version);
        self.commit(vec![version]);
    }

    /// A part of the operators, with stakes.
    pub fn part(&self, operators: &[(usize, u64)]) -> Arc<OperatorSet> {
        let member = |(index, stake_gwei): &(usize, u64)| Operator {
            stake_gwei: *stake_gwei,
            ..self.set.get(operator_index(*index)).unwrap().clone()
        };
        let members = operators.iter().map(member).collect();
        let (chain, epoch) = (self.genesis.chain_id.clone(), self.set.epoch());
        Arc::new(OperatorSet::of_operators(chain, epoch, members).unwrap())
    }

    /// The ledger commits a checkpoint.
    pub fn commit(&mut self, services: Vec<ServiceVersion>) {
        let (height, time, operators) = (self.next_height(), self.now, self.set.clone());
        self.checkpoints.push(CheckpointView { height, time, operators, services });
        for index in 0..self.hosts.len() {
            if !self.hosts[index].lags {
                self.catch_up(index);
            }
        }
        self.run();
    }

    /// Tells a node of the checkpoints that it lacks.
    pub fn catch_up(&mut self, index: usize) {
        while self.hosts[index].node.is_some()
            && let Some(view) = self.checkpoints.get(self.hosts[index].checkpoints).cloned()
        {
            self.hosts[index].checkpoints += 1;
            self.deliver(index, Event::Checkpoint(Box::new(view)));
        }
    }

    pub fn tip(&self) -> Height {
        Height(self.checkpoints.len() as u64 - 1)
    }

    fn next_height(&self) -> Height {
        Height(self.checkpoints.len() as u64)
    }

    /// What a ledger with so many checkpoints tells a node that starts: all versions.
    fn first_view(&self, count: usize) -> CheckpointView {
        let known = &self.checkpoints[..count];
        let services = known.iter().flat_map(|view| view.services.clone()).collect();
        CheckpointView { services, ..known.last().unwrap().clone() }
    }

    fn version_at(&self, id: ServiceId, height: Height) -> Option<&ServiceVersion> {
        let known = self.checkpoints[..=usize::try_from(height.0).unwrap()].iter();
        known.flat_map(|view| &view.services).rfind(|version| version.id == id)
    }

    pub fn request(&self, service: ServiceId, nonce: u64) -> SignedTaskRequest {
        TaskRequest {
            service,
            input: Input::new(*b"hello").unwrap(),
            requester: account().address(),
            nonce,
            height: self.tip(),
            valid_until: self.now + Duration::from_secs(3600),
        }
        .sign(&account(), &self.genesis.signing_context())
    }

    pub fn submit(&mut self, index: usize, service: ServiceId, nonce: u64) -> TaskId {
        let request = self.request(service, nonce);
        let id = request.request.task_id(&self.genesis.chain_id);
        self.command(index, Command::SubmitTask(Box::new(request)));
        id
    }

    pub fn command(&mut self, index: usize, command: Command) {
        self.wire.push_back((index, Event::Command { id: 1, command }));
        self.run();
    }

    pub fn attest(&self, operator: usize, task: TaskId, outcome: Digest) -> Attestation {
        let index = OperatorIndex(u16::try_from(operator).unwrap());
        Attestation::sign(&self.set, index, &self.keys[operator], task, outcome)
    }

    pub fn observe(&self, operator: usize, task: TaskId, text: &str) -> Observation {
        let index = OperatorIndex(u16::try_from(operator).unwrap());
        Observation::sign(&self.set, index, &self.keys[operator], task, value(text))
    }

    /// A set of these operators' observations.
    pub fn propose(&self, proposer: usize, task: TaskId, of: &[Observation]) -> ObservationSet {
        let index = OperatorIndex(u16::try_from(proposer).unwrap());
        let members = of.iter().map(|o| Member { operator: o.operator, value: o.digest() });
        let members = Members::truncated(members);
        ObservationSet::sign(&self.set, index, &self.keys[proposer], task, members)
    }

    /// The operators in the order in which they propose sets for this task.
    pub fn ranks(&self, task: &TaskId) -> Vec<usize> {
        let mut operators: Vec<usize> = (0..self.hosts.len()).collect();
        operators.sort_by_key(|i| {
            let index = u16::try_from(*i).unwrap().to_be_bytes();
            Digest::of(&[&task.0[..], &index].concat())
        });
        operators
    }

    /// A message from one host to another, as if gossiped; returns the verdict, if need be after a while.
    pub fn gossip(&mut self, to: usize, from: usize, topic: Topic, bytes: Vec<u8>) -> Verdict {
        let delivery = self.send(to, from, topic, bytes);
        if !self.hosts[to].verdicts.contains_key(&delivery) {
            // The swarm waits no longer.
            self.pass(Duration::from_millis(7_700));
        }
        self.hosts[to].verdicts[&delivery]
    }

    /// A message from one host to another, as if gossiped; returns the delivery.
    pub fn send(&mut self, to: usize, from: usize, topic: Topic, bytes: Vec<u8>) -> u64 {
        self.next_id += 1;
        let delivery = self.next_id;
        self.wire.push_back((to, Event::Gossip { delivery, from: peer(from), topic, bytes }));
        self.run();
        delivery
    }

    /// Lets time pass, with all that's due.
    pub fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            let deadlines =
                self.hosts.iter().filter_map(|host| host.node.as_ref()?.next_deadline());
            self.now =
                deadlines.min().unwrap_or(end).clamp(self.now + Duration::from_micros(1), end);
            for index in 0..self.hosts.len() {
                self.wire.push_back((index, Event::Tick));
            }
            self.run();
        }
    }

    /// Delivers what's on the wire until nothing is.
    pub fn run(&mut self) {
        let mut steps = 0;
        while let Some((index, event)) = self.next_event() {
            self.deliver(index, event);
            steps += 1;
            assert!(steps < 1_000_000, "the nodes never come to rest");
        }
    }

    /// From here on messages that wait are delivered in an order that this seed gives.
    pub fn shuffle(&mut self, seed: u64) {
        self.rng = ChaCha20Rng::seed_from_u64(seed);
        self.reorder = true;
    }

    fn deliver(&mut self, index: usize, event: Event) {
        let Some(node) = &mut self.hosts[index].node else { return };
        node.handle(self.now, event);
        while let Some(action) = self.hosts[index].node.as_mut().and_then(Node::poll) {
            self.act(index, action);
        }
    }

    fn next_event(&mut self) -> Option<(usize, Event)> {
        if self.reorder && self.wire.len() > 1 {
            let pick = self.rng.next_u64() % self.wire.len() as u64;
            return self.wire.swap_remove_back(usize::try_from(pick).unwrap());
        }
        self.wire.pop_front()
    }

    fn act(&mut self, index: usize, action: Action) {
        let host = &mut self.hosts[index];
        match action {
            Action::Judge(delivery, verdict) => {
                assert_eq!(host.verdicts.insert(delivery, verdict), None, "judged twice");
            }
            Action::Publish(message) => {
                let (topic, bytes) = message.encode();
                for other in (0..self.hosts.len()).filter(|other| *other != index) {
                    if self.rng.next_u64() % 100 < self.loss_percent {
                        continue;
                    }
                    self.next_id += 1;
                    let (delivery, from) = (self.next_id, peer(index));
                    let event = Event::Gossip { delivery, from, topic, bytes: bytes.clone() };
                    self.wire.push_back((other, event));
                }
            }
            Action::Ask { peer: to, id, request } => {
                host.asked.push(request.clone());
                let other = (0..self.hosts.len()).find(|other| peer(*other) == to).unwrap();
                // What crosses the network has a byte form.
                let request = lamina_p2p::Request::from_bytes(&request.to_bytes()).unwrap();
                if self.hosts[other].node.is_none() {
                    self.wire.push_back((index, Event::Response { from: to, id, response: None }));
                    return;
                }
                self.next_id += 1;
                self.questions.insert(self.next_id, (index, id, other));
                let event = Event::Request { from: peer(index), id: self.next_id, request };
                self.wire.push_back((other, event));
            }
            Action::Answer(id, response) => self.answer(id, response),
            Action::AnswerBlob { id, digest, offset } => {
                let part = host
                    .blobs
                    .contains(&digest)
                    .then(|| lamina_types::Bytes::new(&COMPONENT[offset as usize..]).unwrap());
                self.answer(id, Response::Blob(part));
            }
            Action::SetScore(peer, score) => {
                host.scores.insert(peer, score);
            }
            Action::Ban(peer) => {
                host.banned.insert(peer);
            }
            Action::Store(id, records) => {
                host.records.extend(records);
                self.wire.push_back((index, Event::Stored(id)));
            }
            Action::Prepare(service, manifest) => {
                let event = if host.blobs.contains(&manifest.component) {
                    let digest = manifest.digest();
                    host.prepared.insert((service, digest), *manifest);
                    Event::Prepared(service, digest, Ok(()))
                } else {
                    Event::BlobMissing(service, manifest.component)
                };
                self.wire.push_back((index, event));
            }
            Action::Forget(service, manifest) => {
                host.prepared.remove(&(service, manifest));
            }
            Action::StoreBlob { service, digest, offset, part, complete } => {
                assert_eq!((Digest::of(part.as_slice()), offset, complete), (digest, 0, true));
                host.blobs.insert(digest);
                self.wire.push_back((index, Event::BlobStored(service, Ok(()))));
            }
            Action::Execute(execution) => {
                host.executed.push((execution.task, execution.manifest));
                let manifest = &host.prepared[&(execution.service, execution.manifest)];
                let result = match &execution.observations {
                    Some(_) => reduce(&execution),
                    None => {
                        (host.behaviour)(&execution.input).map(|o| with_parameters(o, manifest))
                    }
                };
                self.wire.push_back((index, Event::Executed(execution.task, result)));
            }
            Action::Sign(task, outcome, Signer { set, operator }) => {
                assert_eq!(set.get(operator).unwrap().peer_key, peer(index));
                let signed = *host.signed.entry(task).or_insert(outcome);
                let key = &self.keys[index];
                let result = if signed == outcome {
                    Ok(Box::new(Attestation::sign(&set, operator, key, task, outcome)))
                } else {
                    Err("another outcome was signed".to_owned())
                };
                self.wire.push_back((index, Event::Signed(task, result)));
            }
            Action::Observe(execution) => {
                assert_eq!(execution.observations, None);
                host.observed += 1;
                if host.stares {
                    return;
                }
                let result = (host.sight)(index);
                self.wire.push_back((index, Event::Observed(execution.task, result)));
            }
            Action::SignObservation(task, value, Signer { set, operator }) => {
                let digest = Digest::of(value.as_slice());
                let signed = *host.signed_observations.entry(task).or_insert(digest);
                let key = &self.keys[index];
                let result = if signed == digest {
                    Ok(Box::new(Observation::sign(&set, operator, key, task, value)))
                } else {
                    Err("another observation was signed".to_owned())
                };
                self.wire.push_back((index, Event::ObservationSigned(task, result)));
            }
            Action::SignProposal(task, members, Signer { set, operator }) => {
                let root = ObservationSet::root_of(&set, &task, &members);
                let signed = *host.signed_proposals.entry(task).or_insert(root);
                let key = &self.keys[index];
                let result = if signed == root {
                    Ok(Box::new(ObservationSet::sign(&set, operator, key, task, *members)))
                } else {
                    Err("another set was signed".to_owned())
                };
                self.wire.push_back((index, Event::ProposalSigned(task, result)));
            }
            Action::Reply(_, result) => host.replies.push(result),
            Action::Notify(notice) => host.notices.push(notice),
            Action::Ledger(work) => unreachable!("these nodes keep no ledger: {work:?}"),
        }
    }

    fn answer(&mut self, id: u64, response: Response) {
        let (asker, question, answerer) = self.questions.remove(&id).expect("asked before");
        let response = Some(Response::from_bytes(&response.to_bytes()).unwrap());
        let event = Event::Response { from: peer(answerer), id: question, response };
        self.wire.push_back((asker, event));
    }

    /// Everyone who runs has a certificate of this task, all of one outcome, and the outcome itself.
    pub fn assert_certified(&self, id: &TaskId) {
        let mut outcomes = BTreeSet::new();
        for host in self.hosts.iter().filter_map(|host| host.node.as_ref()) {
            let certified = host.certified_task(id).expect("a certificate, a request, an outcome");
            let context = self.genesis.signing_context();
            let request = &certified.request.request;
            let version = self.version_at(request.service, request.height).unwrap();
            let Backing::Certificate(certificate) = &certified.backing else {
                panic!("a node without a ledger has no checkpoint to show")
            };
            let epochs = [(Height(0), (**version.set.as_ref().unwrap()).clone())];
            assert_eq!(certified.verify(&context, &epochs).map(|verified| verified.task), Ok(*id));
            outcomes.insert(certificate.outcome);
            assert_eq!(host.task(id).unwrap().status, TaskStatus::Certified);
        }
        assert_eq!(outcomes.len(), 1);
    }
}
