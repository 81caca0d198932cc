//! Tasks: from a request to a certificate.
//!
//! A task begins with its request, which names a checkpoint; what the ledger says of the service as of that height is the
//! task's [`Pin`]: manifest, operators, weights. Whatever changes later, all nodes run it with that, and count by that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lamina_certificate::{
    Attestation, Backing, CertifiedTask, OperatorSet, SignedTwice, SignerBitmap, TaskCertificate,
    VerifiedAttestation, VerifiedTaskCertificate, verify_attestations,
};
use lamina_p2p::{
    BAN_THRESHOLD, Collector, Gossip, Inserted, Offence, TaskEvidence, Topic, Verdict,
};
use lamina_types::{
    Bytes, Canonical as _, ChainId, Digest, List, ObservationValue, OperatorIndex, Outcome,
    PeerKey, Price, ServiceId, SignedTaskRequest, TaskId, TaskRecord, Timestamp,
};

use crate::node::{CommandResult, Timer};
use crate::oracle::Round;
use crate::service::{HEIGHTS_KEPT, Pin};
use crate::{
    Abstention, Action, CommandError, Execution, Node, Notice, Record, Reply, ServiceStatus,
    TaskStatus, TaskView, Timeline,
};

/// How much later than this node's clock allows a request may end: clocks differ.
const CLOCK_DRIFT: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) request: SignedTaskRequest,
    /// What its height fixes. Absent after a restart, if that isn't known any more: then the task is certified.
    pub(crate) pin: Option<Pin>,
    pub(crate) stage: Stage,
    /// What this node came to.
    own: Option<(Outcome, Digest)>,
    /// What was observed for it, if its service is an oracle.
    pub(crate) round: Round,
    collector: Collector,
    certificate: Option<VerifiedTaskCertificate>,
    /// The certified outcome, where it isn't this node's own.
    fetched: Option<Outcome>,
    /// Whether a certificate was forwarded or published from here.
    spread: bool,
    expired: bool,
    timeline: Timeline,
}

/// How far this node's own run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Not to be run here, or not any more.
    Idle,
    /// Its service isn't ready.
    WaitsForService,
    Queued,
    /// This node observes.
    Observing,
    /// This node has observed, or failed to; which observations count isn't fixed yet.
    Gathering,
    Running,
    Executed,
    Attested,
    Abstained(String),
}

/// An attestation that waits to be verified with others.
#[derive(Debug)]
pub(crate) struct PendingAttestation {
    /// The gossip message that it came in, if it did.
    pub(crate) delivery: Option<u64>,
    pub(crate) from: PeerKey,
    pub(crate) attestation: Attestation,
}

impl Task {
    fn new(request: SignedTaskRequest, pin: Option<Pin>, now: Timestamp) -> Self {
        Self {
            request,
            pin,
            stage: Stage::Idle,
            own: None,
            round: Round::default(),
            collector: Collector::default(),
            certificate: None,
            fetched: None,
            spread: false,
            expired: false,
            timeline: Timeline { accepted: now, ..Timeline::default() },
        }
    }

    pub(crate) fn status(&self) -> TaskStatus {
        match (&self.certificate, self.expired) {
            (Some(_), _) => TaskStatus::Certified,
            (None, true) => TaskStatus::Expired,
            (None, false) => TaskStatus::Open,
        }
    }

    /// The outcome that the certificate is of, if it's here.
    pub(crate) fn certified_outcome(&self) -> Option<&Outcome> {
        let certified = self.certificate.as_ref()?.get().outcome;
        match &self.own {
            Some((outcome, digest)) if *digest == certified => Some(outcome),
            _ => self.fetched.as_ref(),
        }
    }

    pub(crate) fn lacks_outcome(&self) -> bool {
        self.certificate.is_some() && self.certified_outcome().is_none()
    }

    pub(crate) fn evidence(&self) -> TaskEvidence {
        match &self.certificate {
            Some(certificate) => TaskEvidence::Certificate(Box::new(certificate.get().clone())),
            None => TaskEvidence::Attestations(List::truncated(
                self.collector.iter().map(|attestation| attestation.get().clone()),
            )),
        }
    }

    pub(crate) fn certified(&self, chain: &ChainId) -> Option<CertifiedTask> {
        Some(CertifiedTask::new(
            chain.clone(),
            self.request.clone(),
            self.certified_outcome()?.clone(),
            Backing::Certificate(Box::new(self.certificate.as_ref()?.get().clone())),
        ))
    }

    /// Its operators, whose indices are those of all that's signed for it.
    pub(crate) fn set(&self) -> Option<Arc<OperatorSet>> {
        self.pin.as_ref().map(|pin| pin.set.clone())
    }

    /// This node's place among its operators.
    pub(crate) fn me(&self) -> Option<OperatorIndex> {
        self.pin.as_ref().and_then(|pin| pin.me)
    }

    pub(crate) fn is_oracle(&self) -> bool {
        self.pin.as_ref().is_some_and(|pin| pin.is_oracle)
    }

    const fn service(&self) -> ServiceId {
        self.request.request.service
    }

    /// The root of the observations that this node's outcome was reduced from.
    pub(crate) fn own_observations(&self) -> Option<Digest> {
        self.own.as_ref()?.0.observations
    }

    fn dissents(&self) -> bool {
        match (&self.certificate, &self.own) {
            (Some(certificate), Some((_, digest))) => certificate.get().outcome != *digest,
            _ => false,
        }
    }

    fn signers(&self) -> SignerBitmap {
        let certified = self.certificate.as_ref().map(|c| c.get().signers.set_size());
        let size = self.pin.as_ref().map(|pin| pin.set.size()).or(certified);
        let mut signers = self.collector.signers(size.unwrap_or(0));
        if let Some(certificate) = &self.certificate {
            certificate.get().signers.iter().for_each(|index| {
                signers.insert(index);
            });
        }
        signers
    }

    pub(crate) fn view(&self, id: TaskId, node: &Node) -> TaskView {
        let root = self.certified_outcome().and_then(|outcome| outcome.observations);
        TaskView { observations: self.round.views(root), ..self.summary(id, node) }
    }

    /// The view without what was observed, which may be long.
    pub(crate) fn summary(&self, id: TaskId, node: &Node) -> TaskView {
        let signers = self.signers();
        let own = self.own.as_ref();
        let outcome = match &self.certificate {
            Some(_) => self.certified_outcome(),
            None => own.map(|(outcome, _)| outcome),
        };
        let request = &self.request.request;
        let priced = outcome.zip(self.pin.as_ref());
        let stake_gwei = self.pin.as_ref().map_or(0, |pin| pin.set.stake_gwei());
        TaskView {
            id,
            status: self.status(),
            request: Some(request.clone()),
            outcome: outcome.cloned(),
            price: priced.map(|(outcome, pin)| {
                Price::of(&pin.limits, request.input.as_slice().len(), outcome)
            }),
            outcome_digest: match &self.certificate {
                Some(certificate) => Some(certificate.get().outcome),
                None => own.map(|(_, digest)| *digest),
            },
            abstention: match (&self.stage, self.round.failure()) {
                (Stage::Abstained(reason), _) | (Stage::Gathering, Some(reason)) => {
                    Some(Abstention { reason: reason.clone() })
                }
                _ => None,
            },
            dissent: self.dissents(),
            missing: self.pin.as_ref().map_or_else(Vec::new, |pin| {
                let missing = pin.set.iter().filter(|(index, _)| !signers.contains(*index));
                missing.map(|(index, operator)| node.operator_view(index, operator)).collect()
            }),
            signers,
            outcomes: self
                .pin
                .as_ref()
                .map_or_else(Vec::new, |pin| self.collector.outcomes(&pin.set).collect()),
            observations: Vec::new(),
            quorum_gwei: stake_gwei / 3 * 2 + stake_gwei % 3 * 2 / 3,
            timeline: self.timeline,
        }
    }
}

/// Requests.
impl Node {
    pub(crate) fn submit_task(&mut self, request: SignedTaskRequest) -> CommandResult {
        let id = request.verify(&self.context)?;
        if self.tasks.contains_key(&id) {
            return Ok((Reply::Task(id), Vec::new()));
        }
        let pin = self.check_request(&request)?;
        if let Some(error) = self.has_no_room_for_task(&request) {
            return Err(error);
        }
        self.act(Action::Publish(Box::new(Gossip::Task(Box::new(request.clone())))));
        Ok((Reply::Task(id), self.accept_request(id, request, pin)))
    }

    /// A request whose height has come, gossiped or asked for.
    pub(crate) fn judge_request(
        &mut self,
        request: SignedTaskRequest,
        gossiped: bool,
    ) -> Result<Verdict, Offence> {
        let id = request.request.task_id(&self.context.chain);
        if self.tasks.contains_key(&id) {
            return Ok(Verdict::Ignore);
        }
        let mut certified = false;
        let pin = match self.check_request(&request) {
            Ok(pin) => pin,
            // A task that's certified is wanted for the record, however long ago its request was valid.
            Err(CommandError::Stale { .. }) => match self.certified_pin(id, &request) {
                Some(pin) => {
                    certified = true;
                    pin
                }
                // Its relay may just be slow, and its signature costs more to check than it's worth.
                None => return Ok(Verdict::Ignore),
            },
            Err(error) => return self.refuse_request(id, &request, &error, gossiped),
        };
        request.verify(&self.context).map_err(|_| Offence::WrongSignature)?;
        if !certified && self.has_no_room_for_task(&request).is_some() {
            return Ok(Verdict::Ignore);
        }
        let records = self.accept_request(id, request, pin);
        self.store(records, None);
        self.judge_ready();
        Ok(Verdict::Accept)
    }

    /// What's thought of who sent a request that isn't taken up.
    fn refuse_request(
        &mut self,
        id: TaskId,
        request: &SignedTaskRequest,
        error: &CommandError,
        gossiped: bool,
    ) -> Result<Verdict, Offence> {
        let height = request.request.height;
        match error {
            // Honest nodes differ by a few checkpoints; and who is asked for an old task answers with it.
            CommandError::StaleHeight { oldest, .. } => {
                if !gossiped {
                    self.early.give_up(id);
                }
                let is_far = height.0.saturating_add(HEIGHTS_KEPT) < oldest.0;
                if gossiped && is_far { Err(Offence::OutOfBounds) } else { Ok(Verdict::Ignore) }
            }
            // So far ahead that this node has more to catch up with than fits into a message's time.
            CommandError::Behind { .. } => Ok(Verdict::Ignore),
            CommandError::UnknownService(_) if height < self.first_height => {
                if !gossiped {
                    self.early.give_up(id);
                }
                Ok(Verdict::Ignore)
            }
            // All honest nodes that have that checkpoint know that it's refused.
            _ => Err(Offence::OutOfBounds),
        }
    }

    /// What a request whose time is over is pinned to, if a certificate of its task is here and holds.
    fn certified_pin(&mut self, id: TaskId, request: &SignedTaskRequest) -> Option<Pin> {
        let request = &request.request;
        let is_kept = (self.oldest_height()..=self.tip_height()).contains(&request.height);
        let pin = self.pin(request.service, request.height).ok().filter(|_| is_kept)?;
        self.has_early_certificate(&id, &pin.set).then_some(pin)
    }

    /// What a request is pinned to, if it can be taken up now.
    pub(crate) fn check_request(&self, request: &SignedTaskRequest) -> Result<Pin, CommandError> {
        let request = &request.request;
        let seconds = |at: Timestamp| at.0 / 1_000_000;
        if request.valid_until <= self.now {
            let (valid_until_s, now_s) = (seconds(request.valid_until), seconds(self.now));
            return Err(CommandError::Stale { valid_until_s, now_s });
        }
        if request.valid_until > self.now + self.config.validity_max + CLOCK_DRIFT {
            return Err(CommandError::ValidTooLong { max_s: self.config.validity_max.as_secs() });
        }
        let (height, tip, oldest) = (request.height, self.tip_height(), self.oldest_height());
        if height > tip {
            return Err(CommandError::Behind { height, tip });
        }
        if height < oldest {
            return Err(CommandError::StaleHeight { height, oldest });
        }
        self.pin(request.service, height)
    }

    fn has_no_room_for_task(&mut self, request: &SignedTaskRequest) -> Option<CommandError> {
        let requester = request.request.requester;
        let is_of_requester = |id: &TaskId| {
            self.tasks.get(id).is_some_and(|task| task.request.request.requester == requester)
        };
        let error = if self.open.len() >= self.config.tasks_open_max {
            CommandError::Full { what: "open tasks", max: self.config.tasks_open_max }
        } else if self.open.len() >= self.config.tasks_per_requester_max
            && self.open.iter().filter(|(_, id)| is_of_requester(id)).count()
                >= self.config.tasks_per_requester_max
        {
            let max = self.config.tasks_per_requester_max;
            CommandError::Full { what: "open tasks of one requester", max }
        } else {
            return None;
        };
        self.metrics.dropped_full += 1;
        Some(error)
    }

    /// Takes up a request that was checked, of a task that's new. What came before it is judged next.
    fn accept_request(&mut self, id: TaskId, request: SignedTaskRequest, pin: Pin) -> Vec<Record> {
        let record = Record::Request(id, Box::new(request.clone()), self.now);
        self.metrics.tasks_accepted += 1;
        self.hold_component(request.request.service, request.request.height, &pin);
        self.open_task(id, request, Some(pin), self.now);
        self.settle_task(id);
        self.early.set_ready(id);
        self.act(Action::Notify(Notice::TaskAccepted(id)));
        vec![record]
    }

    pub(crate) fn restore_request(
        &mut self,
        id: TaskId,
        request: SignedTaskRequest,
        at: Timestamp,
    ) {
        let (service, height) = (request.request.service, request.request.height);
        let pin = if height <= self.tip_height() { self.pin(service, height).ok() } else { None };
        if !self.tasks.contains_key(&id) {
            self.open_task(id, request, pin, at);
        }
    }

    fn open_task(
        &mut self,
        id: TaskId,
        request: SignedTaskRequest,
        pin: Option<Pin>,
        at: Timestamp,
    ) {
        self.set_timer(request.request.valid_until, Timer::Expire(id));
        self.open.insert((at, id));
        self.tasks.insert(id, Task::new(request, pin, at));
    }

    /// Forgets the open tasks of which it isn't known any more what they're pinned to: nobody's signature on them can be
    /// checked here.
    pub(crate) fn drop_unpinned(&mut self) {
        let is_pinned = |id: &TaskId| self.tasks.get(id).is_some_and(|task| task.pin.is_some());
        let unpinned: Vec<_> = self.open.iter().filter(|(_, id)| !is_pinned(id)).copied().collect();
        for (at, id) in unpinned {
            self.open.remove(&(at, id));
            self.tasks.remove(&id);
            self.early.give_up(id);
        }
    }

    pub(crate) fn expire(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id).filter(|t| t.status() == TaskStatus::Open) else {
            return;
        };
        if task.request.request.valid_until > self.now {
            return;
        }
        task.expired = true;
        self.metrics.tasks_expired += 1;
        self.end(id);
        self.act(Action::Notify(Notice::TaskExpired(id)));
    }

    /// Moves a task from the open to the ended ones, of which only the latest are remembered.
    fn end(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else { return };
        if self.open.remove(&(task.timeline.accepted, id)) {
            if let Some(pin) = task.pin.clone() {
                self.release_component(task.service(), &pin);
            }
            self.ended.push_back(id);
            self.close_round(id);
        }
        while self.ended.len() > self.config.tasks_remembered_max {
            if let Some(oldest) = self.ended.pop_front() {
                self.tasks.remove(&oldest);
            }
        }
    }
}

/// Running and signing.
impl Node {
    /// After a restart: tasks go on where they were.
    pub(crate) fn resume_tasks(&mut self) {
        let open: Vec<TaskId> = self.open.iter().map(|(_, id)| *id).collect();
        for id in open {
            let Some(task) = self.tasks.get(&id) else { continue };
            if let Some(pin) = task.pin.clone() {
                self.hold_component(task.service(), task.request.request.height, &pin);
            }
            match self.tasks.get(&id).and_then(|task| task.own.as_ref()).map(|(_, digest)| *digest)
            {
                // The signing store answers a repeated question with the same signature.
                Some(digest) => self.sign(id, digest),
                None => {
                    self.settle_task(id);
                    self.sign_observation(id);
                }
            }
        }
    }

    pub(crate) fn restore_outcome(&mut self, id: TaskId, outcome: Outcome) {
        let digest = outcome.digest(&self.context.chain, &id);
        if let Some(task) = self.tasks.get_mut(&id) {
            task.own = Some((outcome, digest));
            task.stage = Stage::Executed;
        }
    }

    pub(crate) fn restore_observation(&mut self, id: TaskId, value: ObservationValue) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.round.restore(value);
        }
    }

    /// Has an outcome signed, if this node is one of the task's operators.
    fn sign(&mut self, id: TaskId, outcome: Digest) {
        let pin = self.tasks.get(&id).and_then(|task| task.pin.as_ref());
        if let Some(signer) = pin.and_then(Pin::signer) {
            self.act(Action::Sign(id, outcome, signer));
        }
    }

    /// A component's status changed: the tasks that are pinned to its manifest can be run, or never will be here.
    pub(crate) fn settle_tasks_of(&mut self, service: ServiceId, manifest: Digest) {
        let waiting: Vec<TaskId> = self
            .open
            .iter()
            .map(|(_, id)| *id)
            .filter(|id| {
                self.tasks.get(id).is_some_and(|task| {
                    task.stage == Stage::WaitsForService
                        && task.service() == service
                        && task.pin.as_ref().is_some_and(|pin| pin.manifest == manifest)
                })
            })
            .collect();
        for id in waiting {
            self.settle_task(id);
            self.advance_round(id);
        }
    }

    /// Decides what becomes of a task that isn't run yet.
    fn settle_task(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Some(pin) = task.pin.as_ref().filter(|pin| pin.me.is_some()) else { return };
        if task.status() != TaskStatus::Open || task.own.is_some() {
            return;
        }
        let is_oracle = pin.is_oracle;
        let service = self.services.get(&task.service());
        match service.and_then(|service| service.status(&pin.manifest)) {
            Some(ServiceStatus::Ready) if task.round.is_observed() => {
                task.stage = Stage::Gathering;
            }
            Some(ServiceStatus::Ready) => {
                task.stage = Stage::Queued;
                if is_oracle { &mut self.to_observe } else { &mut self.queue }.push_back(id);
            }
            Some(ServiceStatus::Refused(reason)) => {
                let reason = format!("the component is refused: {reason}");
                task.stage = Stage::Abstained(reason);
                self.metrics.tasks_abstained += 1;
            }
            Some(ServiceStatus::Preparing | ServiceStatus::Fetching) | None => {
                task.stage = Stage::WaitsForService;
            }
        }
    }

    pub(crate) fn start_executions(&mut self) {
        while self.observing < self.config.observations_max {
            let Some(id) = self.to_observe.pop_front() else { break };
            if let Some(execution) = self.start(id, Stage::Observing) {
                self.observing += 1;
                self.act(Action::Observe(execution));
            }
        }
        while self.running < self.config.executions_max {
            let Some(id) = self.queue.pop_front() else { return };
            if let Some(execution) = self.start(id, Stage::Running) {
                self.running += 1;
                self.act(Action::Execute(execution));
            }
        }
    }

    /// Takes a task out of its queue; `None` if it isn't to be run any more.
    fn start(&mut self, id: TaskId, stage: Stage) -> Option<Execution> {
        let open = |task: &&mut Task| task.status() == TaskStatus::Open;
        let task = self.tasks.get_mut(&id).filter(open)?;
        let (Stage::Queued, Some(pin)) = (&task.stage, &task.pin) else { return None };
        let request = &task.request.request;
        let execution = Execution {
            task: id,
            service: request.service,
            manifest: pin.manifest,
            input: request.input.clone(),
            height: request.height,
            observations: task.round.input(&pin.set),
        };
        task.stage = stage;
        task.timeline.started.get_or_insert(self.now);
        Some(execution)
    }

    pub(crate) fn handle_executed(&mut self, id: TaskId, result: Result<Outcome, String>) {
        self.running = self.running.saturating_sub(1);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.timeline.executed = Some(self.now);
        match result {
            Ok(outcome) => {
                let outcome = Outcome { observations: task.round.accepted(), ..outcome };
                let digest = outcome.digest(&self.context.chain, &id);
                task.own = Some((outcome.clone(), digest));
                task.stage = Stage::Executed;
                let dissents = task.dissents();
                let open = task.status() == TaskStatus::Open;
                self.store(vec![Record::Outcome(id, Box::new(outcome))], None);
                if dissents {
                    self.notice_dissent(id);
                } else if open {
                    self.sign(id, digest);
                }
            }
            Err(reason) => {
                task.stage = Stage::Abstained(reason);
                self.metrics.tasks_abstained += 1;
            }
        }
    }

    pub(crate) fn handle_signed(&mut self, id: TaskId, result: Result<Box<Attestation>, String>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        match result {
            Ok(attestation) => {
                task.stage = Stage::Attested;
                task.timeline.attested = Some(self.now);
                if task.certificate.is_none() {
                    self.act(Action::Publish(Box::new(Gossip::Attestation(
                        (*attestation).clone(),
                    ))));
                    let (delivery, from) = (None, self.key);
                    let attestation = *attestation;
                    self.pending.push(PendingAttestation { delivery, from, attestation });
                }
            }
            Err(reason) => {
                task.stage = Stage::Abstained(reason);
                self.metrics.tasks_abstained += 1;
            }
        }
    }

    fn notice_dissent(&mut self, id: TaskId) {
        self.metrics.tasks_dissented += 1;
        self.act(Action::Notify(Notice::Dissent(id)));
    }
}

/// Attestations and certificates.
impl Node {
    /// What can be told without checking the signature. The error is the verdict.
    pub(crate) fn precheck_attestation(
        &self,
        attestation: &Attestation,
    ) -> Result<(), Result<Verdict, Offence>> {
        let Some(task) = self.tasks.get(&attestation.task) else { return Err(Ok(Verdict::Ignore)) };
        let Some(pin) = &task.pin else { return Err(Ok(Verdict::Ignore)) };
        let operator = attestation.operator;
        if attestation.epoch != pin.set.epoch() || pin.set.get(operator).is_none() {
            return Err(Err(Offence::OutOfBounds));
        }
        // Enough is known: a late signature isn't worth its check.
        let is_open = task.status() == TaskStatus::Open;
        if !is_open || task.collector.contains(operator, &attestation.outcome) {
            return Err(Ok(Verdict::Ignore));
        }
        Ok(())
    }

    /// Checks what waits, those on one outcome together.
    pub(crate) fn verify_pending(&mut self) {
        let mut groups: BTreeMap<(TaskId, Digest), Vec<PendingAttestation>> = BTreeMap::new();
        for pending in std::mem::take(&mut self.pending) {
            let (task, outcome) = (pending.attestation.task, pending.attestation.outcome);
            groups.entry((task, outcome)).or_default().push(pending);
        }
        for ((task, _), mut group) in groups {
            // A peer that's banned meanwhile costs no more signature checks.
            group.retain(|pending| {
                let is_heard = self.score(&pending.from) > BAN_THRESHOLD;
                if !is_heard && let Some(delivery) = pending.delivery {
                    self.judge(delivery, Topic::Attestations, Verdict::Ignore);
                }
                is_heard
            });
            if group.is_empty() {
                continue;
            }
            let attestations: Vec<_> = group.iter().map(|p| p.attestation.clone()).collect();
            let Some(set) = self.tasks.get(&task).and_then(Task::set) else {
                // It was open, and is forgotten already.
                group.iter().filter_map(|p| p.delivery).for_each(|delivery| {
                    self.judge(delivery, Topic::Attestations, Verdict::Ignore);
                });
                continue;
            };
            let verified = verify_attestations(&set, &attestations, &mut self.rng);
            self.metrics.attestation_batches += 1;
            for (pending, verified) in group.into_iter().zip(verified) {
                let Some(verified) = verified else {
                    self.refuse_attestation(&pending);
                    continue;
                };
                self.metrics.attestations_verified += 1;
                let verdict = self.insert_attestation(task, verified);
                if let Some(delivery) = pending.delivery {
                    self.judge(delivery, Topic::Attestations, verdict);
                }
            }
            self.certify(task);
        }
    }

    fn refuse_attestation(&mut self, pending: &PendingAttestation) {
        if let Some(delivery) = pending.delivery {
            self.judge(delivery, Topic::Attestations, Verdict::Reject);
        }
        if pending.from != self.key {
            self.charge(pending.from, Offence::WrongSignature);
        }
    }

    fn insert_attestation(&mut self, id: TaskId, attestation: VerifiedAttestation) -> Verdict {
        let Some(task) = self.tasks.get_mut(&id) else { return Verdict::Ignore };
        let operator = attestation.get().operator;
        match task.collector.insert(attestation) {
            Inserted::New => Verdict::Accept,
            Inserted::Equivocation => {
                self.metrics.equivocations += 1;
                self.report_attestations(id, operator);
                self.act(Action::Notify(Notice::Equivocation(id, operator)));
                Verdict::Accept
            }
            Inserted::Known | Inserted::Dropped => Verdict::Ignore,
        }
    }

    /// An operator attested two outcomes: the ledger is to know.
    fn report_attestations(&mut self, id: TaskId, operator: OperatorIndex) {
        let (Some(task), Some(ledger)) = (self.tasks.get(&id), &mut self.ledger) else { return };
        let mut its = task.collector.iter().map(VerifiedAttestation::get);
        let mut next = || its.find(|attestation| attestation.operator == operator);
        let (Some(first), Some(second), Some(pin)) = (next(), next(), &task.pin) else { return };
        let Some(member) = pin.set.get(operator) else { return };
        let outcomes = SignedTwice {
            first: first.outcome,
            first_signature: first.signature,
            second: second.outcome,
            second_signature: second.signature,
        };
        ledger.attested_twice(self.now, pin.set.epoch(), id, member.address, outcomes);
    }

    /// Has a certified task recorded in the ledger, once its outcome is here.
    fn report_task(&mut self, id: TaskId) {
        let Some(ledger) = self.ledger.as_mut().filter(|ledger| ledger.reports()) else { return };
        let Some(task) = self.tasks.get(&id) else { return };
        let certificate = task.certificate.as_ref().map(|c| Bytes::new(c.get().to_bytes()));
        if let (Some(outcome), Some(Ok(certificate))) = (task.certified_outcome(), certificate) {
            let record = TaskRecord::new(&task.request, outcome.fuel_used, certificate);
            ledger.report_task(self.now, id, record);
        }
    }

    /// Makes a certificate as soon as a quorum attests one outcome.
    fn certify(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get(&id).filter(|task| task.certificate.is_none()) else {
            return;
        };
        let me = task.me();
        let certificate = task.set().and_then(|set| task.collector.certify(&set));
        let Some(certificate) = certificate else { return };
        let signers: Vec<_> = certificate.get().signers.iter().collect();
        self.complete(id, certificate);
        // The first signer after a point that the task's identifier gives publishes at once, the others in turn.
        if let Some(me) = me {
            let start = usize::from(id.0[0]) % signers.len();
            let place = signers.iter().position(|i| *i == me).unwrap_or(signers.len());
            let rank = (place + signers.len() - start) % signers.len().max(1);
            let rank = u32::try_from(rank).expect("below the set's size");
            self.set_timer(self.now + self.config.publish_step * rank, Timer::Publish(id));
        }
    }

    pub(crate) fn publish_certificate(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if let (Some(certificate), false) = (&task.certificate, task.spread) {
            task.spread = true;
            let certificate = certificate.get().clone();
            self.act(Action::Publish(Box::new(Gossip::Certificate(certificate))));
        }
    }

    /// A certificate that was gossiped: what else belongs to it is asked of its sender at once.
    pub(crate) fn judge_certificate(
        &mut self,
        from: PeerKey,
        certificate: TaskCertificate,
    ) -> Result<Verdict, Offence> {
        let id = certificate.task;
        // One certificate is enough, and another that was forwarded does for those behind this node.
        if self.tasks.get(&id).is_some_and(|task| task.spread) {
            return Ok(Verdict::Ignore);
        }
        self.accept_certificate(certificate)?;
        let Some(task) = self.tasks.get_mut(&id) else { return Ok(Verdict::Ignore) };
        task.spread = true;
        if task.lacks_outcome() {
            self.ask_for_outcome(from, id);
        }
        Ok(Verdict::Accept)
    }

    /// Takes a certificate if it holds.
    pub(crate) fn accept_certificate(
        &mut self,
        certificate: TaskCertificate,
    ) -> Result<(), Offence> {
        let id = certificate.task;
        let Some(set) = self.tasks.get(&id).and_then(Task::set) else { return Ok(()) };
        if certificate.epoch != set.epoch() {
            return Err(Offence::OutOfBounds);
        }
        let verified = certificate.verify(&set).map_err(|_| Offence::WrongSignature)?;
        if self.tasks.get(&id).is_some_and(|task| task.certificate.is_none()) {
            self.complete(id, verified);
        }
        Ok(())
    }

    /// Takes a certificate that holds for a task that has none.
    fn complete(&mut self, id: TaskId, certificate: VerifiedTaskCertificate) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.certificate = Some(certificate.clone());
        task.timeline.certified = Some(self.now);
        if matches!(task.stage, Stage::Queued | Stage::Gathering | Stage::WaitsForService) {
            // Its outcome is asked for instead: others have run it.
            task.stage = Stage::Idle;
        }
        let dissents = task.dissents();
        self.metrics.tasks_certified += 1;
        self.end(id);
        self.store(vec![Record::Certificate(Box::new(certificate.clone()), self.now)], None);
        self.act(Action::Notify(Notice::TaskCertified(id, Box::new(certificate))));
        if dissents {
            self.notice_dissent(id);
        }
        self.report_task(id);
    }

    pub(crate) fn restore_certificate(
        &mut self,
        certificate: VerifiedTaskCertificate,
        at: Timestamp,
    ) {
        let id = certificate.get().task;
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.certificate = Some(certificate);
        task.timeline.certified = Some(at);
        task.stage = Stage::Idle;
        task.spread = true;
        self.end(id);
        self.report_task(id);
    }

    /// Takes the outcome that a certificate is of; false if it's another one.
    pub(crate) fn accept_outcome(&mut self, id: TaskId, outcome: Outcome) -> bool {
        let digest = outcome.digest(&self.context.chain, &id);
        let Some(task) = self.tasks.get_mut(&id).filter(|task| task.lacks_outcome()) else {
            return true;
        };
        if task.certificate.as_ref().is_none_or(|c| c.get().outcome != digest) {
            return false;
        }
        task.fetched = Some(outcome.clone());
        self.store(vec![Record::Outcome(id, Box::new(outcome))], None);
        self.report_task(id);
        true
    }
}
