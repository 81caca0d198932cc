//! Reports: what a node writes into the ledger by itself, if it has an account to pay with.
//!
//! A task is reported once its certificate and outcome are here, so that who took part earns from it; evidence as soon as it's
//! here. Nodes take turns: operators in the order of a hash of the report and their places, a step apart, then all others. When
//! its turn comes, a node has the state rehearse the operation. Mostly somebody else was first, and that's all. If it would
//! take effect, and nobody's is pending, the node signs it and carries it like one that a user handed in.
//!
//! What that costs is bounded: only what the state would take is signed, one operation at a time for each report, few
//! times over, and so many in a minute, whatever peers do. What is reported isn't kept over a restart: it follows from tasks
//! and evidence, which are, and the state knows what was reported.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lamina_certificate::{Evidence, FeeSchedule, Signature, SignedTwice};
use lamina_ledger::Record;
use lamina_ledger::state::accounts::{self, AHEAD_MAX};
use lamina_ledger::state::evidence::EVIDENCE_EPOCHS_MAX;
use lamina_ledger::state::operators::SERVICE_SET_HEIGHTS_MAX;
use lamina_ledger::state::{Receipt, Refusal};
use lamina_types::{
    Action, Address, Amount, Bytes, Canonical as _, Digest, EpochNumber, Height, Operation,
    OperationId, SignedOperation, TaskId, TaskRecord, Timestamp,
};

use super::submit::Submitter;
use super::{Ledger, LedgerAction, LedgerWork};
use crate::{CommandError, Notice};

/// Signs what a node does by itself: holds the key of its account.
pub trait AccountSigner: Send {
    /// The account.
    fn address(&self) -> Address;
    /// Signs an operation of the account.
    fn sign(&self, operation: Operation) -> SignedOperation;
}

/// Most reports that wait, of a few hundred bytes each. Beyond, new ones are dropped and counted: other nodes make them, and
/// this one after a restart. More than the evidence that a node keeps and the ended tasks that it remembers.
const REPORTS_MAX: usize = 24_576;
/// How long an operation of the node's own may take effect.
const VALIDITY: Duration = Duration::from_secs(300);
/// How often a report is signed anew if it didn't take effect, before it's left to others.
const ATTEMPTS_MAX: u8 = 3;
/// For how many checkpoints a report makes way for another account's pending one, which may never take effect.
const DELAYS_MAX: u8 = 5;
/// How long after its start a node reports nothing: mostly it's behind, and what it has was reported by others. A guess.
const START_WAIT: Duration = Duration::from_secs(10);
/// How much later than due an idle network's checkpoint may be before a node takes itself for being behind.
const IDLE_SLACK: Duration = Duration::from_secs(10);
/// The span in which operations are counted, and after which an account that couldn't pay is tried again.
const MINUTE: Duration = Duration::from_secs(60);

/// What a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ReportId {
    /// A task.
    Task(TaskId),
    /// The place of what an operator signed twice ([`Evidence::place`]).
    Evidence(Digest),
}

impl ReportId {
    const fn bytes(&self) -> &[u8; 32] {
        match self {
            Self::Task(TaskId(bytes)) | Self::Evidence(Digest(bytes)) => bytes,
        }
    }
}

#[derive(Debug)]
struct Report {
    action: Box<Action>,
    /// How long this node leaves it to others.
    turn: Duration,
    /// When it's looked at next, unless it's under way.
    at: Timestamp,
    /// The last operation that was signed for it.
    operation: Option<OperationId>,
    attempts: u8,
    /// The tip when it last made way for another account's operation, and how often it did.
    delayed_at: Height,
    delays: u8,
}

/// The reports that wait for this node's turn, or for what becomes of its operations.
pub(super) struct Reports {
    account: Option<Arc<dyn AccountSigner + Sync>>,
    fees: FeeSchedule,
    waiting: BTreeMap<ReportId, Report>,
    due: BTreeSet<(Timestamp, ReportId)>,
    operations: BTreeMap<OperationId, ReportId>,
    /// The one that the state is asked about: one at a time, so that each operation has a number of its own.
    under_way: Option<ReportId>,
    /// When operations were signed in the last minute.
    signed: VecDeque<Timestamp>,
    /// Nothing is signed before this.
    not_before: Timestamp,
}

impl Reports {
    pub(super) fn new(
        account: Option<Arc<dyn AccountSigner + Sync>>,
        fees: FeeSchedule,
        now: Timestamp,
    ) -> Self {
        Self {
            account,
            fees,
            waiting: BTreeMap::new(),
            due: BTreeSet::new(),
            operations: BTreeMap::new(),
            under_way: None,
            signed: VecDeque::new(),
            not_before: now + START_WAIT,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        let (at, _) = self.due.first().filter(|_| self.under_way.is_none())?;
        Some((*at).max(self.not_before))
    }

    /// Takes out the next report whose turn has come. One whose turn came while nothing was signed has another one: else
    /// all nodes that waited would sign at once.
    fn pop_due(&mut self, now: Timestamp) -> Option<(ReportId, Box<Action>)> {
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            let (at, id) = self.due.pop_first()?;
            let report = self.waiting.get(&id)?;
            if at >= self.not_before {
                return Some((id, report.action.clone()));
            }
            self.later(id, now + report.turn);
        }
        None
    }

    /// Looks at a report again then.
    fn later(&mut self, id: ReportId, at: Timestamp) {
        let Some(report) = self.waiting.get_mut(&id) else { return };
        self.due.remove(&(report.at, id));
        report.at = at;
        self.due.insert((at, id));
    }

    fn forget(&mut self, id: &ReportId) {
        let Some(report) = self.waiting.remove(id) else { return };
        self.due.remove(&(report.at, *id));
        if let Some(operation) = report.operation {
            self.operations.remove(&operation);
        }
    }

    /// How long until another operation may be signed, if not now.
    fn wait(&mut self, now: Timestamp, per_minute_max: usize) -> Option<Timestamp> {
        while self.signed.front().is_some_and(|at| *at + MINUTE <= now) {
            self.signed.pop_front();
        }
        let is_full = self.signed.len() >= per_minute_max;
        is_full.then(|| self.signed.front().map_or(now, |first| *first) + MINUTE)
    }
}

/// What's reported.
impl Ledger {
    /// Whether this node reports: whether it has an account.
    pub(crate) const fn reports(&self) -> bool {
        self.reports.account.is_some()
    }

    /// A task has a certificate that holds, and its outcome is here.
    pub(crate) fn report_task(&mut self, now: Timestamp, task: TaskId, record: TaskRecord) {
        self.now = now;
        // After a restart there may be older ones.
        let tip = self.tip.header.height.0;
        if record.height.0.saturating_add(SERVICE_SET_HEIGHTS_MAX) >= tip {
            self.report(ReportId::Task(task), Action::RecordTask { record: Box::new(record) });
        }
    }

    /// An operator attested two outcomes of a task.
    pub(crate) fn attested_twice(
        &mut self,
        now: Timestamp,
        epoch: EpochNumber,
        task: TaskId,
        operator: Address,
        outcomes: SignedTwice<Digest, Signature>,
    ) {
        self.now = now;
        // Evidence has places in the epoch's whole set, attestations in the service's.
        let Some(set) = self.epochs.of(epoch) else { return };
        let found = set.iter().find(|(_, member)| member.address == operator);
        if let Some((operator, _)) = found {
            self.keep_evidence(&Evidence::Attestations { epoch, task, operator, outcomes });
        }
    }

    /// Keeps what proves an operator's fault, and reports it.
    pub(super) fn keep_evidence(&mut self, evidence: &Evidence) {
        self.store(vec![Record::Evidence(evidence.to_bytes())]);
        self.report_evidence(evidence);
    }

    pub(super) fn report_evidence(&mut self, evidence: &Evidence) {
        let now = self.epochs.number(self.tip.header.height);
        let counts = now.0.saturating_sub(evidence.epoch().0) <= EVIDENCE_EPOCHS_MAX;
        if !(self.reports() && counts) {
            return;
        }
        let bytes = Bytes::new(evidence.to_bytes()).expect("evidence is short");
        let action = Action::SubmitEvidence { evidence: bytes };
        if let Some(id) = self.place(evidence) {
            self.report(id, action);
        }
    }

    fn report(&mut self, id: ReportId, action: Action) {
        if !self.reports() || self.reports.waiting.contains_key(&id) {
            return;
        }
        if self.reports.waiting.len() >= REPORTS_MAX {
            self.metrics.reports_dropped += 1;
            return;
        }
        let turn = self.config.report_step * self.rank(id.bytes());
        let report = Report {
            action: Box::new(action),
            turn,
            at: self.now + turn,
            operation: None,
            attempts: 0,
            delayed_at: Height(0),
            delays: 0,
        };
        let at = report.at;
        self.reports.waiting.insert(id, report);
        self.reports.due.insert((at, id));
    }

    /// Where the operator that the evidence accuses signed twice.
    fn place(&self, evidence: &Evidence) -> Option<ReportId> {
        let accused = evidence.accused(|epoch| self.epochs.of(epoch).cloned()).ok()?;
        Some(ReportId::Evidence(evidence.place(&self.context.chain, &accused)))
    }
}

/// A report's way.
impl Ledger {
    /// Has the state rehearse the next report whose turn has come.
    pub(super) fn report_due(&mut self) {
        let Some(account) = self.reports.account.as_ref().map(|account| account.address()) else {
            return;
        };
        if self.reports.next_deadline().is_none_or(|at| at > self.now) {
            return;
        }
        if !self.is_current() {
            self.reports.not_before = self.now + self.config.report_step;
            return;
        }
        let Some((id, action)) = self.reports.pop_due(self.now) else { return };
        self.reports.under_way = Some(id);
        self.work(LedgerWork::Rehearse { account, action });
    }

    /// Whether the state here is that of the network, as far as can be told: a node that's behind would pay for what others
    /// have reported already.
    fn is_current(&self) -> bool {
        let is_fetching = self.snapshot.is_some() || !self.ahead.is_empty();
        !is_fetching && self.now <= self.tip.header.time + self.idle_interval + IDLE_SLACK
    }

    /// The state's word on the report that's under way: the account's next number, and whether it would take effect.
    pub(super) fn rehearsed(&mut self, next: u64, result: Result<(), Refusal>) {
        let Some(id) = self.reports.under_way.take() else { return };
        let step = self.now + self.config.report_step;
        match result {
            // Somebody was first.
            Err(Refusal::Exists { .. }) => self.reports.forget(&id),
            Err(refusal @ Refusal::Insufficient { .. }) => self.came_to_nothing(id, &refusal),
            Err(_) => self.give_up(&id),
            Ok(()) if self.gives_way(&id) => self.reports.later(id, step),
            Ok(()) => {
                if let Some(at) = self.reports.wait(self.now, self.config.reports_per_minute_max) {
                    self.reports.not_before = at;
                    self.reports.later(id, at);
                } else {
                    self.make_report(id, next);
                }
            }
        }
    }

    /// Whether an operation with the same report is pending. Another account's is waited for some steps only.
    fn gives_way(&mut self, id: &ReportId) -> bool {
        let accounts = self.pending_reports(id);
        let Some(report) = self.reports.waiting.get_mut(id) else { return false };
        let account = self.reports.account.as_ref().map(|account| account.address());
        if accounts.iter().any(|of| account == Some(*of)) {
            return true;
        }
        let gives_way = !accounts.is_empty() && report.delays < DELAYS_MAX;
        // It had its chance only if there was a checkpoint since.
        let tip = self.tip.header.height;
        if gives_way && report.delayed_at < tip {
            (report.delayed_at, report.delays) = (tip, report.delays + 1);
        }
        gives_way
    }

    /// Whose operations with this report are pending.
    fn pending_reports(&self, id: &ReportId) -> Vec<Address> {
        let carried = self.to_carry.values().map(|(_, signed)| signed);
        let pending = self.books.pending().map(|(_, signed)| signed);
        pending
            .chain(self.promises.values())
            .chain(carried)
            .map(|signed| &signed.operation)
            .filter(|operation| operation.valid_until > self.now)
            .filter(|operation| self.report_of(&operation.action) == Some(*id))
            .map(|operation| operation.account)
            .collect()
    }

    /// What an operation reports, if anything.
    fn report_of(&self, action: &Action) -> Option<ReportId> {
        match action {
            Action::RecordTask { record } => {
                Some(ReportId::Task(record.task_id(&self.context.chain)))
            }
            Action::SubmitEvidence { evidence } => {
                self.place(&Evidence::from_bytes(evidence.as_slice()).ok()?)
            }
            _ => None,
        }
    }

    /// Signs a report's operation, and hands it in.
    fn make_report(&mut self, id: ReportId, next: u64) {
        let Some(report) = self.reports.waiting.get(&id) else { return };
        let Some(account) = self.reports.account.clone() else { return };
        if report.attempts >= ATTEMPTS_MAX {
            return self.give_up(&id);
        }
        let sequence = self.next_sequence(account.address(), next);
        if sequence >= next + AHEAD_MAX {
            return self.try_again(id);
        }
        let mut operation = Operation {
            account: account.address(),
            sequence,
            valid_until: self.now + VALIDITY,
            fee_max: Amount::ZERO,
            action: (*report.action).clone(),
        };
        let Some(fee) = accounts::fee(&self.reports.fees, &operation) else {
            return self.give_up(&id);
        };
        operation.fee_max = fee;
        let signed = account.sign(operation);
        match self.check_submission(&signed) {
            Ok(operation) => {
                self.reports.under_way = Some(id);
                self.precheck(Submitter::Report(id), operation, signed);
            }
            Err(CommandError::Full { .. }) => self.try_again(id),
            Err(_) => self.give_up(&id),
        }
    }

    /// The state's word on a report's operation: if it's taken, this is the minute that it counts in.
    pub(super) fn report_prechecked(
        &mut self,
        id: ReportId,
        operation: OperationId,
        signed: SignedOperation,
        result: Result<(), Refusal>,
    ) {
        self.reports.under_way = None;
        if let Err(refusal) = result {
            return self.came_to_nothing(id, &refusal);
        }
        if self.check_sequence(&operation, &signed).is_err() {
            return self.try_again(id);
        }
        let until = signed.operation.valid_until;
        if let Some(report) = self.reports.waiting.get_mut(&id) {
            report.attempts += 1;
            if let Some(before) = report.operation.replace(operation) {
                self.reports.operations.remove(&before);
            }
        }
        self.reports.operations.insert(operation, id);
        self.reports.signed.push_back(self.now);
        self.reports.later(id, until + self.config.report_step);
        self.metrics.reports_made += 1;
        self.promise(Submitter::Report(id), operation, signed);
    }

    /// Operations have their receipts: some may be of this node's own.
    pub(super) fn reports_final(&mut self, receipts: &[Receipt]) {
        for receipt in receipts {
            let Some(id) = self.reports.operations.remove(&receipt.operation) else { continue };
            match &receipt.refusal {
                None => self.reports.forget(&id),
                Some(refusal) => self.came_to_nothing(id, refusal),
            }
        }
    }

    /// An operation didn't take effect, for a reason that may be about its number or its time: the next rehearsal tells.
    fn came_to_nothing(&mut self, id: ReportId, refusal: &Refusal) {
        if !matches!(refusal, Refusal::Insufficient { .. }) {
            return self.try_again(id);
        }
        self.reports.not_before = self.now + MINUTE;
        self.reports.later(id, self.reports.not_before);
        self.act(LedgerAction::Notify(Notice::CannotPay(refusal.to_string())));
    }

    fn try_again(&mut self, id: ReportId) {
        self.reports.later(id, self.now + self.config.report_step);
    }

    fn give_up(&mut self, id: &ReportId) {
        self.metrics.reports_refused += 1;
        self.reports.forget(id);
    }
}
