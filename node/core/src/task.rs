//! Tasks: from a request to a certificate.

use std::collections::BTreeMap;
use std::time::Duration;

use lamina_certificate::{
    Attestation, CertifiedTask, SignerBitmap, TaskCertificate, VerifiedTaskCertificate,
    verify_attestations,
};
use lamina_p2p::{Collector, Gossip, Inserted, Offence, TaskEvidence, Topic, Verdict};
use lamina_types::{
    ChainId, Digest, Height, List, ObservationValue, OperatorIndex, Outcome, PeerKey, Price,
    SignedTaskRequest, TaskId, Timestamp,
};

use crate::node::{CommandResult, Timer};
use crate::oracle::Round;
use crate::{
    Abstention, Action, CommandError, Execution, Node, Notice, Record, Reply, ServiceStatus,
    TaskStatus, TaskView, Timeline,
};

/// How long an attested task is kept whose request doesn't come.
const ORPHAN_LIFE: Duration = Duration::from_secs(600);
/// How much later than this node's clock allows a request may end: clocks differ.
const CLOCK_DRIFT: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(crate) struct Task {
    /// Absent while only attestations or a certificate are known.
    pub(crate) request: Option<SignedTaskRequest>,
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
    /// Whose attestation made this node know of the task before its request.
    orphan_of: Option<OperatorIndex>,
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
    fn new(request: Option<SignedTaskRequest>, now: Timestamp) -> Self {
        Self {
            request,
            stage: Stage::Idle,
            own: None,
            round: Round::default(),
            collector: Collector::default(),
            certificate: None,
            fetched: None,
            spread: false,
            expired: false,
            orphan_of: None,
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
            self.request.clone()?,
            self.certified_outcome()?.clone(),
            self.certificate.as_ref()?.get().clone(),
        ))
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

    fn signers(&self, size: u16) -> SignerBitmap {
        let mut signers = self.collector.signers(size);
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
        let signers = self.signers(node.set.size());
        let own = self.own.as_ref();
        let outcome = match &self.certificate {
            Some(_) => self.certified_outcome(),
            None => own.map(|(outcome, _)| outcome),
        };
        let request = self.request.as_ref().map(|signed| &signed.request);
        let service = request.and_then(|request| node.services.get(&request.service));
        let priced = request.zip(outcome).zip(service);
        TaskView {
            id,
            status: self.status(),
            request: request.cloned(),
            outcome: outcome.cloned(),
            price: priced.map(|((request, outcome), service)| {
                let limits = &service.registration.manifest.limits;
                Price::of(limits, request.input.as_slice().len(), outcome)
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
            missing: node
                .operators()
                .filter(|operator| !signers.contains(operator.index))
                .collect(),
            signers,
            outcomes: self.collector.outcomes(&node.set).collect(),
            observations: Vec::new(),
            quorum_gwei: node.set.stake_gwei() / 3 * 2 + node.set.stake_gwei() % 3 * 2 / 3,
            timeline: self.timeline,
        }
    }
}

/// Requests.
impl Node {
    pub(crate) fn submit_task(&mut self, request: SignedTaskRequest) -> CommandResult {
        let id = request.verify(&self.context)?;
        self.check_request(&request)?;
        if !self.services.contains_key(&request.request.service) {
            return Err(CommandError::UnknownService(request.request.service));
        }
        if self.tasks.get(&id).is_some_and(|task| task.request.is_some()) {
            return Ok((Reply::Task(id), Vec::new()));
        }
        if let Some(error) = self.has_no_room_for_task(&request) {
            return Err(error);
        }
        self.act(Action::Publish(Box::new(Gossip::Task(Box::new(request.clone())))));
        Ok((Reply::Task(id), self.accept_request(id, request)))
    }

    pub(crate) fn judge_request(
        &mut self,
        from: PeerKey,
        request: SignedTaskRequest,
    ) -> Result<Verdict, Offence> {
        let id = request.request.task_id(&self.context.chain);
        if self.tasks.get(&id).is_some_and(|task| task.request.is_some()) {
            return Ok(Verdict::Ignore);
        }
        // A task that's certified is wanted for the record, however old its request is.
        let certified = self.tasks.get(&id).is_some_and(|task| task.certificate.is_some());
        match self.check_request(&request) {
            Err(CommandError::Stale { .. }) if certified => {}
            // Its relay may just be slow, and its signature costs more to check than it's worth.
            Err(CommandError::Stale { .. }) => return Ok(Verdict::Ignore),
            Err(_) => return Err(Offence::OutOfBounds),
            Ok(()) => {}
        }
        request.verify(&self.context).map_err(|_| Offence::WrongSignature)?;
        if !certified && self.has_no_room_for_task(&request).is_some() {
            return Ok(Verdict::Ignore);
        }
        let service = request.request.service;
        let records = self.accept_request(id, request);
        self.store(records, None);
        if !self.services.contains_key(&service) {
            self.ask_for_service(from, service);
        }
        Ok(Verdict::Accept)
    }

    fn check_request(&self, request: &SignedTaskRequest) -> Result<(), CommandError> {
        let request = &request.request;
        let seconds = |at: Timestamp| at.0 / 1_000_000;
        if request.valid_until <= self.now {
            let (valid_until_s, now_s) = (seconds(request.valid_until), seconds(self.now));
            return Err(CommandError::Stale { valid_until_s, now_s });
        }
        if request.valid_until > self.now + self.config.validity_max + CLOCK_DRIFT {
            return Err(CommandError::ValidTooLong { max_s: self.config.validity_max.as_secs() });
        }
        // Genesis is the only checkpoint until there is a ledger.
        if request.height != Height(0) {
            return Err(CommandError::UnknownHeight(request.height.0));
        }
        Ok(())
    }

    fn has_no_room_for_task(&mut self, request: &SignedTaskRequest) -> Option<CommandError> {
        let requester = request.request.requester;
        let is_of_requester = |id: &TaskId| {
            let task = self.tasks.get(id).and_then(|task| task.request.as_ref());
            task.is_some_and(|known| known.request.requester == requester)
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

    /// Takes up a request that was checked. What came before it is kept with it: the store forgets by request.
    fn accept_request(&mut self, id: TaskId, request: SignedTaskRequest) -> Vec<Record> {
        let mut records = vec![Record::Request(id, Box::new(request.clone()), self.now)];
        if let Some(task) = self.tasks.get(&id) {
            let outcome = task.certified_outcome().cloned();
            records.extend(outcome.map(|outcome| Record::Outcome(id, Box::new(outcome))));
            let at = task.timeline.certified.unwrap_or(self.now);
            let certificate = task.certificate.clone();
            records.extend(certificate.map(|c| Record::Certificate(Box::new(c), at)));
        }
        self.metrics.tasks_accepted += 1;
        self.restore_request(id, request, self.now);
        self.settle_task(id);
        self.advance_round(id);
        self.act(Action::Notify(Notice::TaskAccepted(id)));
        records
    }

    pub(crate) fn restore_request(
        &mut self,
        id: TaskId,
        request: SignedTaskRequest,
        at: Timestamp,
    ) {
        let valid_until = request.request.valid_until;
        let task = self.tasks.entry(id).or_insert_with(|| Task::new(None, at));
        // An attestation may have come before: from here on the task is the request's.
        self.open.remove(&(task.timeline.accepted, id));
        task.timeline.accepted = at;
        task.request = Some(request);
        task.orphan_of = None;
        if task.certificate.is_none() {
            self.open.insert((at, id));
            self.set_timer(valid_until, Timer::Expire(id));
        }
    }

    pub(crate) fn expire(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id).filter(|t| t.status() == TaskStatus::Open) else {
            return;
        };
        let due = match &task.request {
            Some(request) => request.request.valid_until <= self.now,
            None => task.timeline.accepted + ORPHAN_LIFE <= self.now,
        };
        if !due {
            return;
        }
        if task.request.is_none() {
            self.open.remove(&(task.timeline.accepted, id));
            self.rounds.release(&task.round);
            self.tasks.remove(&id);
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
            match self.tasks.get(&id).and_then(|task| task.own.as_ref()) {
                // The signing store answers a repeated question with the same signature.
                Some((_, digest)) if self.me.is_some() => self.act(Action::Sign(id, *digest)),
                Some(_) => {}
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

    /// A service's status changed: its tasks can be run, or never will be here.
    pub(crate) fn settle_tasks_of(&mut self, service: lamina_types::ServiceId) {
        let waiting: Vec<TaskId> = self
            .open
            .iter()
            .map(|(_, id)| *id)
            .filter(|id| {
                self.tasks.get(id).is_some_and(|task| {
                    task.stage == Stage::WaitsForService
                        && task.request.as_ref().is_some_and(|r| r.request.service == service)
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
        let (Some(task), Some(_)) = (self.tasks.get_mut(&id), self.me) else { return };
        if task.status() != TaskStatus::Open || task.own.is_some() {
            return;
        }
        let Some(request) = &task.request else { return };
        let service = self.services.get(&request.request.service);
        let is_oracle = service.is_some_and(|s| s.registration.manifest.oracle.is_some());
        match service.map(|service| &service.status) {
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
        let (Stage::Queued, Some(request)) = (&task.stage, &task.request) else { return None };
        let execution = Execution {
            task: id,
            service: request.request.service,
            input: request.request.input.clone(),
            height: request.request.height,
            observations: task.round.input(&self.set),
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
                    self.act(Action::Sign(id, digest));
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
        let operator = attestation.operator;
        if attestation.epoch != self.set.epoch() || self.set.get(operator).is_none() {
            return Err(Err(Offence::OutOfBounds));
        }
        match self.tasks.get(&attestation.task) {
            // Enough is known: a late signature isn't worth its check.
            Some(task) if task.status() != TaskStatus::Open => Err(Ok(Verdict::Ignore)),
            Some(task) if task.collector.contains(operator, &attestation.outcome) => {
                Err(Ok(Verdict::Ignore))
            }
            None if self.has_no_room_for_orphan_of(operator) => Err(Ok(Verdict::Ignore)),
            Some(_) | None => Ok(()),
        }
    }

    /// Checks what waits, those on one outcome together.
    pub(crate) fn verify_pending(&mut self) {
        let mut groups: BTreeMap<(TaskId, Digest), Vec<PendingAttestation>> = BTreeMap::new();
        for pending in std::mem::take(&mut self.pending) {
            let (task, outcome) = (pending.attestation.task, pending.attestation.outcome);
            groups.entry((task, outcome)).or_default().push(pending);
        }
        for ((task, _), group) in groups {
            let attestations: Vec<_> = group.iter().map(|p| p.attestation.clone()).collect();
            let set = self.set.clone();
            let verified = verify_attestations(&set, &attestations, &mut self.rng);
            self.metrics.attestation_batches += 1;
            for (pending, verified) in group.into_iter().zip(verified) {
                let Some(verified) = verified else {
                    self.refuse_attestation(&pending);
                    continue;
                };
                self.metrics.attestations_verified += 1;
                let operator = pending.attestation.operator;
                let verdict = self.insert_attestation(pending.from, operator, task, verified);
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

    fn insert_attestation(
        &mut self,
        from: PeerKey,
        operator: OperatorIndex,
        id: TaskId,
        attestation: lamina_certificate::VerifiedAttestation,
    ) -> Verdict {
        if !self.tasks.contains_key(&id) {
            if self.has_no_room_for_orphan_of(operator) {
                self.metrics.dropped_full += 1;
                return Verdict::Ignore;
            }
            self.add_orphan(id, Some(operator));
            self.ask_for_task(from, id);
        }
        let task = self.tasks.get_mut(&id).expect("inserted above");
        match task.collector.insert(attestation) {
            Inserted::New => Verdict::Accept,
            Inserted::Equivocation => {
                self.metrics.equivocations += 1;
                self.act(Action::Notify(Notice::Equivocation(id, operator)));
                Verdict::Accept
            }
            Inserted::Known | Inserted::Dropped => Verdict::Ignore,
        }
    }

    /// Makes a certificate as soon as a quorum attests one outcome.
    fn certify(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get(&id).filter(|task| task.certificate.is_none()) else {
            return;
        };
        let Some(certificate) = task.collector.certify(&self.set) else { return };
        let signers: Vec<_> = certificate.get().signers.iter().collect();
        self.complete(id, certificate);
        // The first signer after a point that the task's identifier gives publishes at once, the others in turn.
        if let Some(me) = self.me {
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
        let (lacks_request, lacks_outcome) = (task.request.is_none(), task.lacks_outcome());
        if lacks_request {
            self.ask_for_task(from, id);
        }
        if lacks_outcome {
            self.ask_for_outcome(from, id);
        }
        Ok(Verdict::Accept)
    }

    /// Takes a certificate if it holds, of a task that's known or not.
    pub(crate) fn accept_certificate(
        &mut self,
        certificate: TaskCertificate,
    ) -> Result<(), Offence> {
        let id = certificate.task;
        if certificate.epoch != self.set.epoch() {
            return Err(Offence::OutOfBounds);
        }
        let verified = certificate.verify(&self.set).map_err(|_| Offence::WrongSignature)?;
        if !self.tasks.contains_key(&id) {
            self.add_orphan(id, None);
        }
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
        let (dissents, has_request) = (task.dissents(), task.request.is_some());
        self.metrics.tasks_certified += 1;
        self.end(id);
        if has_request {
            let record = Record::Certificate(Box::new(certificate.clone()), self.now);
            self.store(vec![record], None);
        }
        self.act(Action::Notify(Notice::TaskCertified(id, Box::new(certificate))));
        if dissents {
            self.notice_dissent(id);
        }
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
        if task.request.is_some() {
            self.store(vec![Record::Outcome(id, Box::new(outcome))], None);
        }
        true
    }

    /// A task of which only attestations or a certificate are known.
    pub(crate) fn add_orphan(&mut self, id: TaskId, of: Option<OperatorIndex>) {
        let mut task = Task::new(None, self.now);
        task.orphan_of = of;
        self.tasks.insert(id, task);
        self.open.insert((self.now, id));
        self.set_timer(self.now + ORPHAN_LIFE, Timer::Expire(id));
    }

    pub(crate) fn has_no_room_for_orphan_of(&self, operator: OperatorIndex) -> bool {
        let of_operator = |(_, id): &&(Timestamp, TaskId)| {
            self.tasks.get(id).is_some_and(|task| task.orphan_of == Some(operator))
        };
        // Orphans are rare: the count is only taken where there may be too many.
        self.open.len() >= self.config.orphans_per_operator_max
            && self.open.iter().filter(of_operator).count() >= self.config.orphans_per_operator_max
    }
}
