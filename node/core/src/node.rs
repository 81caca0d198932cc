use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use lamina_certificate::{Genesis, Operator, OperatorSet};
use lamina_p2p::{
    BAN_THRESHOLD, Gossip, Offence, Request, Scores, Seen, Topic, Verdict, message_id,
};
use lamina_types::account::SigningContext;
use lamina_types::{Height, OperatorIndex, PeerKey, ServiceId, TaskId, Timestamp};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use crate::early::{Early, topic};
use crate::ledger::{Ledger, LedgerAction, LedgerStart};
use crate::oracle::Rounds;
use crate::questions::{Question, Questions};
use crate::service::Service;
use crate::task::{PendingAttestation, Task};
use crate::{
    Action, Command, CommandError, Config, Event, Metrics, OperatorView, Record, Reply,
    ServiceView, TaskView,
};

/// A node's state. See the crate's head for how it's driven.
#[derive(Debug)]
pub struct Node {
    pub(crate) config: Config,
    pub(crate) context: SigningContext,
    /// The operators of this epoch. Those of a task are its own.
    pub(crate) set: Arc<OperatorSet>,
    /// This node's place in the operator set; a node without one follows but doesn't attest.
    pub(crate) me: Option<OperatorIndex>,
    /// The last checkpoint that the ledger told of, and its time.
    pub(crate) tip: Option<(Height, Timestamp)>,
    /// From here on this node knows all that the ledger said of services; of what was before, maybe a part.
    pub(crate) first_height: Height,
    /// What was kept over a restart, until the first checkpoint tells what it's judged by.
    kept: Vec<Record>,
    pub(crate) key: PeerKey,
    pub(crate) rng: ChaCha20Rng,
    pub(crate) peers: BTreeSet<PeerKey>,
    scores: Scores,
    seen: Seen,
    pub(crate) services: BTreeMap<ServiceId, Service>,
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    /// Open tasks, in the order of their coming.
    pub(crate) open: BTreeSet<(Timestamp, TaskId)>,
    /// Ended tasks that are remembered, in the order of their ending.
    pub(crate) ended: VecDeque<TaskId>,
    pub(crate) queue: VecDeque<TaskId>,
    pub(crate) running: usize,
    /// Oracles' tasks that wait to be observed for. They wait for the world rather than for a core, so slow ones have places
    /// of their own.
    pub(crate) to_observe: VecDeque<TaskId>,
    pub(crate) observing: usize,
    /// Attestations that wait to be verified together.
    pub(crate) pending: Vec<PendingAttestation>,
    pub(crate) early: Early,
    pub(crate) rounds: Rounds,
    pub(crate) questions: Questions,
    next_id: u64,
    storing: BTreeMap<u64, Option<Then>>,
    timers: BTreeSet<(Timestamp, Timer)>,
    actions: VecDeque<Action>,
    pub(crate) metrics: Metrics,
    /// Absent in a node that only runs tasks.
    pub(crate) ledger: Option<Box<Ledger>>,
    /// The time of the event that's being handled.
    pub(crate) now: Timestamp,
}

/// What's due at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Ask a random peer for what this node lacks.
    Sync,
    /// Publish the certificate of this task, unless another node's was seen.
    Publish(TaskId),
    /// Ask this peer what waits for it.
    Ask(PeerKey),
    /// Give this task up.
    Expire(TaskId),
    /// Propose or take a set of this task's observations.
    Round(TaskId),
    /// Ask peers for the set of this task's observations.
    Seek(TaskId),
    /// Look which messages waited for too long.
    Early,
}

/// What follows when records are on disk.
#[derive(Debug)]
pub(crate) enum Then {
    /// Answer this command.
    Reply(u64, Reply),
    /// Sign what was observed for this task.
    SignObservation(TaskId),
}

impl Node {
    /// A node with what it kept: `records` in the order in which they were stored. `set` is that of the epoch. What services
    /// there are, and so what becomes of the records, the first [`Event::Checkpoint`] tells.
    #[must_use]
    pub fn new(
        config: Config,
        set: Arc<OperatorSet>,
        context: SigningContext,
        key: PeerKey,
        rng: ChaCha20Rng,
        now: Timestamp,
        records: Vec<Record>,
    ) -> Self {
        Self {
            me: set.index_of_peer(&key),
            timers: [(now + config.sync_interval, Timer::Sync)].into(),
            config,
            context,
            set,
            tip: None,
            first_height: Height(0),
            kept: records,
            key,
            rng,
            peers: BTreeSet::new(),
            scores: Scores::default(),
            seen: Seen::default(),
            services: BTreeMap::new(),
            tasks: BTreeMap::new(),
            open: BTreeSet::new(),
            ended: VecDeque::new(),
            queue: VecDeque::new(),
            running: 0,
            to_observe: VecDeque::new(),
            observing: 0,
            pending: Vec::new(),
            early: Early::default(),
            rounds: Rounds::default(),
            questions: Questions::default(),
            next_id: 0,
            storing: BTreeMap::new(),
            actions: VecDeque::new(),
            metrics: Metrics::default(),
            ledger: None,
            now,
        }
    }

    /// The node with a ledger, as it was left.
    #[must_use]
    pub fn with_ledger(mut self, genesis: &Genesis, start: LedgerStart) -> Self {
        let rng = ChaCha20Rng::from_rng(&mut self.rng);
        let ledger = Ledger::new(genesis, self.key, start, rng, self.now);
        self.ledger = Some(Box::new(ledger));
        // What services there are, before anything else.
        self.drive_ledger();
        self
    }

    /// Tells the node what happened.
    pub fn handle(&mut self, now: Timestamp, event: Event) {
        self.now = now;
        match event {
            Event::PeerConnected(peer) => self.handle_connected(peer),
            Event::PeerDisconnected(peer) => {
                self.peers.remove(&peer);
                self.questions.forget(&peer);
                if let Some(ledger) = &mut self.ledger {
                    ledger.disconnected(now, &peer);
                }
            }
            Event::Gossip { delivery, from, topic, bytes } => {
                self.handle_gossip(delivery, from, topic, &bytes);
            }
            Event::Request { from, id, request } => self.handle_request(from, id, request),
            Event::Response { from, id, response } => self.handle_response(from, id, response),
            Event::NotAsked(id) => self.handle_not_asked(id),
            Event::Offence(peer, offence) => self.charge(peer, offence),
            Event::Checkpoint(view) => self.handle_checkpoint(*view),
            Event::Command { id, command } => self.handle_command(id, command),
            Event::Stored(id) => self.handle_stored(id),
            Event::Prepared(service, manifest, result) => {
                self.handle_prepared(service, manifest, result);
            }
            Event::BlobMissing(service, blob) => self.fetch_blob(service, &blob),
            Event::BlobStored(service, result) => self.handle_blob_stored(service, result),
            Event::Executed(task, result) => self.handle_executed(task, result),
            Event::Signed(task, result) => self.handle_signed(task, result),
            Event::Observed(task, result) => self.handle_observed(task, result),
            Event::ObservationSigned(task, result) => self.handle_observation_signed(task, result),
            Event::ProposalSigned(task, result) => self.handle_proposal_signed(task, result),
            Event::Ledger(event) => {
                if let Some(ledger) = &mut self.ledger {
                    ledger.handle(now, event);
                }
            }
            Event::Tick => {}
        }
        self.judge_ready();
        self.run_timers();
        if let Some(ledger) = &mut self.ledger {
            ledger.tick(now);
        }
    }

    /// What the shell must do next; `None` until something happens.
    ///
    /// Handle all events that are there before polling: attestations among them are verified in batches.
    pub fn poll(&mut self) -> Option<Action> {
        if self.actions.is_empty() {
            self.verify_pending();
            self.start_executions();
            self.drive_ledger();
        }
        self.actions.pop_front()
    }

    /// When to handle an [`Event::Tick`], if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let ledger = self.ledger.as_ref().and_then(|ledger| ledger.next_deadline());
        let timer = self.timers.first().map(|(at, _)| *at);
        [timer, ledger].into_iter().flatten().min()
    }

    /// The services, by identifier.
    pub fn services(&self) -> impl Iterator<Item = ServiceView> {
        self.services.iter().map(|(id, service)| service.view(*id))
    }

    /// A service.
    #[must_use]
    pub fn service(&self, id: &ServiceId) -> Option<ServiceView> {
        self.services.get(id).map(|service| service.view(*id))
    }

    /// The tasks that are in memory, latest first.
    pub fn tasks(&self) -> impl Iterator<Item = TaskView> {
        let open = self.open.iter().rev().map(|(_, id)| id);
        open.chain(self.ended.iter().rev())
            .filter_map(|id| self.tasks.get(id).map(|task| task.summary(*id, self)))
    }

    /// A task that's in memory.
    #[must_use]
    pub fn task(&self, id: &TaskId) -> Option<TaskView> {
        self.tasks.get(id).map(|task| task.view(*id, self))
    }

    /// What makes a task's result verifiable by anyone: its request, outcome and certificate, once all are there.
    #[must_use]
    pub fn certified_task(&self, id: &TaskId) -> Option<lamina_certificate::CertifiedTask> {
        self.tasks.get(id)?.certified(&self.context.chain)
    }

    /// The operators of this epoch.
    pub fn operators(&self) -> impl Iterator<Item = OperatorView> {
        self.set.iter().map(|(index, operator)| self.operator_view(index, operator))
    }

    /// How many tasks are open, and how many of those wait for a worker.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        (self.open.len(), self.queue.len() + self.to_observe.len())
    }

    /// This node's place in the operator set.
    #[must_use]
    pub const fn index(&self) -> Option<OperatorIndex> {
        self.me
    }

    /// The last checkpoint that the ledger told of, and its time.
    #[must_use]
    pub const fn tip(&self) -> Option<(Height, Timestamp)> {
        self.tip
    }

    /// Counters since the start.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn handle_gossip(&mut self, delivery: u64, from: PeerKey, topic: Topic, bytes: &[u8]) {
        if !self.seen.insert(message_id(topic.name(), bytes)) {
            self.judge(delivery, topic, Verdict::Ignore);
            self.charge(from, Offence::Repeated);
            return;
        }
        match Gossip::decode(topic, bytes) {
            Ok(message) => self.judge_message(from, Some(delivery), message),
            Err(_) => {
                self.judge(delivery, topic, Verdict::Reject);
                self.charge(from, Offence::Malformed);
            }
        }
    }

    /// Judges a message that was gossiped, or asked for: then it has no delivery. It may have to wait for its request, or to
    /// be verified with others.
    pub(crate) fn judge_message(&mut self, from: PeerKey, delivery: Option<u64>, message: Gossip) {
        if let Some(task) = self.waits_for(&message) {
            return self.hold(from, delivery, task, message);
        }
        let topic = topic(&message);
        let verdict = match message {
            Gossip::Task(request) => self.judge_request(*request, delivery.is_some()),
            Gossip::Certificate(certificate) if delivery.is_some() => {
                self.judge_certificate(from, certificate)
            }
            Gossip::Certificate(certificate) => {
                self.accept_certificate(certificate).map(|()| Verdict::Accept)
            }
            Gossip::Attestation(attestation) => match self.precheck_attestation(&attestation) {
                Ok(()) => {
                    self.pending.push(PendingAttestation { delivery, from, attestation });
                    return;
                }
                Err(verdict) => verdict,
            },
            Gossip::Observation(observation) => self.judge_observation(*observation),
            Gossip::ObservationSet(set) => self.judge_observation_set(from, *set),
            Gossip::Operation(second, _) | Gossip::Consensus(second, _)
                if !second.is_about(self.now) =>
            {
                Ok(Verdict::Ignore)
            }
            Gossip::Operation(_, operation) => {
                self.of_ledger(|l, now| l.judge_operation(now, *operation))
            }
            Gossip::Change(change) => self.of_ledger(|l, now| l.judge_change(now, from, *change)),
            Gossip::Consensus(_, bytes) => {
                self.of_ledger(|l, now| l.judge_consensus(now, from, bytes.as_slice()))
            }
        };
        if let Some(delivery) = delivery {
            self.judge(delivery, topic, verdict.unwrap_or(Verdict::Reject));
        }
        if let Err(offence) = verdict {
            self.charge(from, offence);
        }
    }

    fn handle_command(&mut self, id: u64, command: Command) {
        let result = match command {
            Command::SubmitTask(request) => self.submit_task(*request),
            Command::SubmitOperation(operation) => match &mut self.ledger {
                Some(ledger) => return ledger.submit(self.now, id, *operation),
                None => Err(CommandError::NoLedger),
            },
        };
        match result {
            // The answer waits until what it promises is on disk.
            Ok((reply, records)) if !records.is_empty() => {
                self.store(records, Some(Then::Reply(id, reply)));
            }
            Ok((reply, _)) => self.act(Action::Reply(id, Ok(reply))),
            Err(error) => self.act(Action::Reply(id, Err(error))),
        }
    }

    fn handle_stored(&mut self, id: u64) {
        match self.storing.remove(&id).flatten() {
            Some(Then::Reply(command, reply)) => self.act(Action::Reply(command, Ok(reply))),
            Some(Then::SignObservation(task)) => self.sign_observation(task),
            None => {}
        }
    }

    /// Has the ledger judge a message.
    fn of_ledger(
        &mut self,
        judge: impl FnOnce(&mut Ledger, Timestamp) -> Result<Verdict, Offence>,
    ) -> Result<Verdict, Offence> {
        self.ledger.as_mut().map_or(Ok(Verdict::Ignore), |ledger| judge(ledger, self.now))
    }

    /// Does what the ledger wants.
    fn drive_ledger(&mut self) {
        while let Some(action) = self.ledger.as_mut().and_then(|ledger| ledger.poll()) {
            match action {
                LedgerAction::Publish(message) => self.act(Action::Publish(message)),
                LedgerAction::Ask(peer, question, request) => {
                    self.ask(peer, Question::Ledger(question), request);
                }
                LedgerAction::Answer(id, response) => self.act(Action::Answer(id, response)),
                LedgerAction::Charge(peer, offence) => self.charge(peer, offence),
                LedgerAction::Reply(id, result) => self.act(Action::Reply(id, result)),
                LedgerAction::Notify(notice) => self.act(Action::Notify(notice)),
                LedgerAction::View(view) => self.handle_checkpoint(*view),
                LedgerAction::Work(work) => self.act(Action::Ledger(work)),
            }
        }
    }

    fn run_timers(&mut self) {
        while let Some((at, timer)) = self.timers.first().copied().filter(|(at, _)| *at <= self.now)
        {
            self.timers.remove(&(at, timer));
            match timer {
                Timer::Sync => {
                    self.timers.insert((self.now + self.config.sync_interval, Timer::Sync));
                    self.sync_with_someone();
                }
                Timer::Ask(peer) => self.ask_waiting(peer),
                Timer::Publish(task) => self.publish_certificate(task),
                Timer::Expire(task) => self.expire(task),
                Timer::Round(task) => self.advance_round(task),
                Timer::Seek(task) => self.seek_set(task),
                Timer::Early => self.sweep_early(),
            }
        }
    }

    /// Goes on with what was kept, now that it's known what services are.
    pub(crate) fn restore_all(&mut self) {
        for record in std::mem::take(&mut self.kept) {
            self.restore(record);
        }
        self.drop_unpinned();
        self.resume_tasks();
    }

    fn restore(&mut self, record: Record) {
        match record {
            Record::Request(id, request, at) => self.restore_request(id, *request, at),
            Record::Outcome(id, outcome) => self.restore_outcome(id, *outcome),
            Record::Observation(id, value) => self.restore_observation(id, *value),
            Record::Certificate(certificate, at) => self.restore_certificate(*certificate, at),
        }
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(crate) fn set_timer(&mut self, at: Timestamp, timer: Timer) {
        self.timers.insert((at, timer));
    }

    pub(crate) fn store(&mut self, records: Vec<Record>, then: Option<Then>) {
        let id = self.fresh_id();
        self.storing.insert(id, then);
        self.act(Action::Store(id, records));
    }

    pub(crate) fn ask(&mut self, peer: PeerKey, question: Question, request: Request) {
        // One that's gone can't answer; whoever is there is asked in the next round.
        if !self.peers.contains(&peer) {
            return;
        }
        self.questions.push(self.now, peer, question, request);
        self.ask_waiting(peer);
    }

    /// Asks what may be asked now, and comes back for the rest.
    pub(crate) fn ask_waiting(&mut self, peer: PeerKey) {
        while let Some((id, request)) = self.questions.next(self.now, &peer) {
            self.act(Action::Ask { peer, id, request });
        }
        if let Some(due) = self.questions.due(self.now, &peer) {
            self.set_timer(due, Timer::Ask(peer));
        }
    }

    pub(crate) fn judge(&mut self, delivery: u64, topic: Topic, verdict: Verdict) {
        self.metrics.judged(topic, verdict);
        self.act(Action::Judge(delivery, verdict));
    }

    /// Holds an offence against a peer, and bans it when it's one too many.
    pub(crate) fn charge(&mut self, peer: PeerKey, offence: Offence) {
        self.metrics.offended(offence);
        let before = self.scores.get(self.now, &peer);
        let score = self.scores.charge(self.now, peer, offence);
        self.act(Action::SetScore(peer, score));
        if score <= BAN_THRESHOLD && before > BAN_THRESHOLD {
            self.metrics.bans += 1;
            self.act(Action::Ban(peer));
        }
    }

    /// A peer that comes back is worth what it was: the swarm forgets, this node doesn't.
    pub(crate) fn remember_score(&mut self, peer: PeerKey) {
        let score = self.scores.get(self.now, &peer);
        if score < 0.0 {
            self.act(Action::SetScore(peer, score));
        }
    }

    /// What a peer is worth: 0 and below.
    pub(crate) fn score(&self, peer: &PeerKey) -> f64 {
        self.scores.get(self.now, peer)
    }

    pub(crate) fn operator_view(&self, index: OperatorIndex, operator: &Operator) -> OperatorView {
        OperatorView {
            index,
            address: operator.address,
            peer_key: operator.peer_key,
            stake_gwei: operator.stake_gwei,
            connected: operator.peer_key == self.key || self.peers.contains(&operator.peer_key),
        }
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

/// What a command comes to: the answer, and what must be on disk before it's given.
pub(crate) type CommandResult = Result<(Reply, Vec<Record>), CommandError>;
