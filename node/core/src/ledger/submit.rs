//! Operations: from a user's hand to a place in a book.
//!
//! A submission is checked against the state as it is, kept on disk, answered, and put into this node's lane; a node that
//! isn't an operator gossips it, and the operators carry it, one after the other in the order of their ranks, unless they
//! see it in a book. The same goes for what falls out of a book before it's final.

use lamina_certificate::{Evidence, SignedTwice};
use lamina_ledger::Record;
use lamina_ledger::book::{Inserted, VerifiedChange, verify_with};
use lamina_ledger::state::Refusal;
use lamina_ledger::state::accounts::AHEAD_MAX;
use lamina_p2p::{ChangeRef, Gossip, Offence, Second, Verdict};
use lamina_types::{
    Address, Change, ChangeId, Cut, Digest, OperationId, OperatorIndex, PeerKey, SignedOperation,
    Timestamp,
};

use super::apply::Decision;
use super::consensus::Judgement;
use super::reports::ReportId;
use super::{Ledger, LedgerAction, LedgerWork};
use crate::{CommandError, Notice, Reply};

/// Longest validity of an operation that's taken: what can wait must be remembered.
const VALIDITY_MAX: std::time::Duration = std::time::Duration::from_secs(30 * 24 * 3600);
/// Operations of others that nobody carries yet. Beyond, they're ignored; their node sends them again.
const CARRY_MAX: usize = 16_384;
/// Changes that are noted as not being on disk before those are looked for that aren't in memory either.
const UNSAVED_MAX: usize = 4_096;

/// Who hands an operation in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Submitter {
    /// A user, by the command with this number, which waits for an answer.
    Command(u64),
    /// This node.
    Report(ReportId),
}

impl Ledger {
    /// Someone hands an operation in.
    pub(crate) fn submit(&mut self, now: Timestamp, command: u64, signed: SignedOperation) {
        self.now = now;
        match self.check_submission(&signed) {
            Ok(id) if self.promises.contains_key(&id) || self.books.contains(&id) => {
                self.act(LedgerAction::Reply(command, Ok(Reply::Operation(id))));
            }
            Ok(id) => self.precheck(Submitter::Command(command), id, signed),
            Err(error) => self.refuse(command, error),
        }
    }

    /// Asks for the state's word on a submission that was checked.
    pub(super) fn precheck(&mut self, by: Submitter, id: OperationId, signed: SignedOperation) {
        let check = self.fresh_id();
        let boxed = Box::new(signed.clone());
        self.work(LedgerWork::Precheck { id: check, operation: id, signed: boxed });
        self.submissions.insert(check, (by, id, signed));
    }

    /// The state's word on a submission.
    pub(super) fn prechecked(&mut self, check: u64, result: Result<(), Refusal>) {
        let Some((by, id, signed)) = self.submissions.remove(&check) else { return };
        let command = match by {
            Submitter::Command(command) => command,
            Submitter::Report(report) => return self.report_prechecked(report, id, signed, result),
        };
        if let Err(refusal) = result {
            return self.refuse(command, CommandError::Operation(refusal.to_string()));
        }
        // Meanwhile, another one may have taken the number.
        if let Err(error) = self.check_sequence(&id, &signed) {
            return self.refuse(command, error);
        }
        self.metrics.operations_accepted += 1;
        self.promise(by, id, signed);
    }

    /// Promises to carry an operation: once that's on disk, its submitter hears of it, and it's taken up.
    pub(super) fn promise(&mut self, by: Submitter, id: OperationId, signed: SignedOperation) {
        self.remember_sequence(id, &signed);
        self.promises.insert(id, signed.clone());
        let write = self.store(vec![Record::Promise(id, Box::new(signed))]);
        self.promised.insert(write, (by, id));
    }

    /// An operation that's promised is on disk: it's carried now.
    pub(super) fn take_up(&mut self, id: OperationId) {
        let Some(signed) = self.promises.get(&id) else { return };
        if self.writes() {
            self.to_compose.push_back(id);
            self.compose_at.get_or_insert(self.now + self.config.compose_window);
        } else {
            let message = Gossip::Operation(Second::of(self.now), Box::new(signed.clone()));
            self.act(LedgerAction::Publish(Box::new(message)));
        }
    }

    /// Another node's operation, which nobody may carry yet.
    pub(crate) fn judge_operation(
        &mut self,
        now: Timestamp,
        signed: SignedOperation,
    ) -> Result<Verdict, Offence> {
        self.now = now;
        let id = signed.verify(&self.context).map_err(|_| Offence::WrongSignature)?;
        let known = self.books.contains(&id) || self.to_carry.contains_key(&id);
        if known || signed.operation.valid_until <= now || self.to_carry.len() >= CARRY_MAX {
            return Ok(Verdict::Ignore);
        }
        if self.writes() {
            self.carry_later(id, signed);
        }
        Ok(Verdict::Accept)
    }

    /// Carries an operation when this operator's turn comes, unless it's in a book by then.
    pub(super) fn carry_later(&mut self, id: OperationId, signed: SignedOperation) {
        let at = self.now + self.config.carry_step * self.rank(&id.0);
        self.to_carry.entry(id).or_insert((at, signed));
    }

    /// How many operators come before this node in carrying or reporting something.
    pub(super) fn rank(&self, id: &[u8; 32]) -> u32 {
        let set = self.epochs.set(self.tip.header.height);
        let place =
            |index: OperatorIndex| Digest::of(&[id.as_slice(), &index.0.to_be_bytes()].concat());
        let Some(me) = set.index_of_peer(&self.key) else { return u32::from(set.size()) };
        let before = set.iter().filter(|(index, _)| place(*index) < place(me)).count();
        u32::try_from(before).unwrap_or(u32::MAX)
    }

    /// Puts what this node's turn has come for into its lane.
    pub(super) fn carry_due(&mut self) {
        let due: Vec<OperationId> = self
            .to_carry
            .iter()
            .filter(|(_, (at, _))| *at <= self.now)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let Some((_, signed)) = self.to_carry.remove(&id) else { continue };
            if !self.books.contains(&id) && signed.operation.valid_until > self.now {
                self.promises.entry(id).or_insert(signed);
                self.to_compose.push_back(id);
                self.compose_at.get_or_insert(self.now);
            }
        }
    }

    /// Makes changes of what waits, once the window is over.
    pub(super) fn compose_due(&mut self) {
        if self.compose_at.is_none_or(|at| at > self.now) {
            return;
        }
        self.compose_at = None;
        if !self.writes() {
            // It may write no more: what it promised is said to those who may.
            return self.to_compose.clear();
        }
        let Some(signer) = self.signer.clone() else { return };
        let waiting = std::mem::take(&mut self.to_compose);
        let operations: Vec<_> = waiting
            .into_iter()
            .filter_map(|id| Some((id, self.promises.get(&id)?.clone())))
            .collect();
        let known = |_: &OperationId, _: &SignedOperation| true;
        let mut changes = Vec::new();
        for draft in self.books.compose(&operations) {
            let change = draft.sign(&self.context, &|digest| signer.ed25519(digest));
            let verified =
                verify_with(change, &self.context, &known).expect("made of verified operations");
            changes.push((verified.id(), verified.change().clone()));
            self.books.insert(verified);
        }
        // What found no room in the lane now gets a place once some of it is final.
        for (id, _) in operations {
            if !self.books.contains(&id) && self.promises.contains_key(&id) {
                self.to_compose.push_back(id);
            }
        }
        if changes.is_empty() {
            return;
        }
        if !self.to_compose.is_empty() {
            self.compose_at = Some(self.now + self.config.compose_window);
        }
        self.metrics.changes_made += changes.len() as u64;
        let record =
            |(id, change): &(ChangeId, Change)| Record::Change(*id, Box::new(change.clone()));
        let write = self.store(changes.iter().map(record).collect());
        self.outbox.write(write);
        for (_, change) in changes {
            self.send(Gossip::Change(Box::new(change)));
        }
    }

    /// A change of another operator.
    pub(crate) fn judge_change(
        &mut self,
        now: Timestamp,
        from: PeerKey,
        change: Change,
    ) -> Result<Verdict, Offence> {
        self.now = now;
        // Whoever asked for it may get it twice.
        let end = self.books.lane_tip(&change.volume, &change.author);
        let is_in_lane = end.is_some_and(|end| end >= change.number);
        if is_in_lane && self.books.change(&change.head().id(&self.context.chain)).is_some() {
            return Ok(Verdict::Ignore);
        }
        // What fell out of a book comes again in a change, and was verified before.
        let known = |id: &OperationId, signed: &SignedOperation| {
            let carried = self.to_carry.get(id).map(|(_, carried)| carried);
            self.promises.get(id).or(carried).is_some_and(|verified| verified == signed)
        };
        let change =
            verify_with(change, &self.context, &known).map_err(|_| Offence::WrongSignature)?;
        let (id, stored) = (change.id(), change.change().clone());
        let operations: Vec<_> = change.operations().map(|(id, s)| (id, s.clone())).collect();
        match self.insert(change) {
            Inserted::New => {
                self.metrics.changes_taken += 1;
                for (id, signed) in &operations {
                    self.remember_sequence(*id, signed);
                    self.to_carry.remove(id);
                }
                self.store(vec![Record::Change(id, Box::new(stored))]);
                self.go_on();
                Ok(Verdict::Accept)
            }
            Inserted::Known => Ok(Verdict::Ignore),
            Inserted::Lacks { author, number, change } => {
                let lacks = ChangeRef { volume: stored.volume, author, number, change };
                self.keep_in_memory(id);
                self.ask_for_changes(Some(from), &[lacks]);
                Ok(Verdict::Accept)
            }
            Inserted::Equivocation(pair) => {
                self.metrics.changes_equivocal += 1;
                let (first, first_signature, second, second_signature) = *pair;
                let epoch = self.epochs.number(self.tip.header.height);
                let changes = SignedTwice { first, first_signature, second, second_signature };
                let evidence = Evidence::Changes { epoch, changes };
                self.keep_evidence(&evidence);
                self.keep_in_memory(id);
                self.act(LedgerAction::Notify(Notice::ChangeEquivocation(stored.author)));
                self.go_on();
                Ok(Verdict::Accept)
            }
            Inserted::Refused(_) => {
                self.metrics.changes_refused += 1;
                Ok(Verdict::Ignore)
            }
        }
    }

    /// Puts a change into its lane; one that a cut needs even if others have to give way.
    fn insert(&mut self, change: VerifiedChange) -> Inserted {
        let (volume, author) = (change.change().volume, change.change().author);
        let names = |cut: &&Cut| {
            let books = cut.books.as_slice().iter().filter(|book| book.book == volume.book);
            books.flat_map(|book| book.lanes.as_slice()).any(|lane| lane.author == author)
        };
        let cuts = self.decision.iter().map(Decision::cut);
        let cut = cuts.chain(self.judgements.values().map(Judgement::cut)).find(names).cloned();
        match cut {
            Some(cut) => self.books.insert_for(&cut, change),
            None => self.books.insert(change),
        }
    }

    /// A change that may never be needed isn't put on disk: its author could fill it with such. Nor does it keep others from
    /// carrying what's in it.
    fn keep_in_memory(&mut self, id: ChangeId) {
        self.unsaved.insert(id);
        if self.unsaved.len() > UNSAVED_MAX {
            self.unsaved.retain(|id| self.books.change(id).is_some());
        }
    }

    /// Puts those changes on disk that were kept in memory alone and are still there: a vote may rely on them.
    pub(super) fn save_changes(&mut self) {
        let unsaved = std::mem::take(&mut self.unsaved);
        let kept = unsaved.into_iter().filter_map(|id| Some((id, self.books.change(&id)?.clone())));
        let records: Vec<_> =
            kept.map(|(id, change)| Record::Change(id, Box::new(change))).collect();
        if !records.is_empty() {
            self.store(records);
        }
    }

    pub(super) fn check_submission(
        &self,
        signed: &SignedOperation,
    ) -> Result<OperationId, CommandError> {
        let id = signed
            .verify(&self.context)
            .map_err(|error| CommandError::Operation(error.to_string()))?;
        let seconds = |at: Timestamp| at.0 / 1_000_000;
        let valid_until = signed.operation.valid_until;
        if valid_until <= self.now {
            let (valid_until_s, now_s) = (seconds(valid_until), seconds(self.now));
            return Err(CommandError::Stale { valid_until_s, now_s });
        }
        if valid_until > self.now + VALIDITY_MAX {
            return Err(CommandError::ValidTooLong { max_s: VALIDITY_MAX.as_secs() });
        }
        if self.promises.len() + self.submissions.len() >= self.config.promises_max {
            let max = self.config.promises_max;
            return Err(CommandError::Full { what: "operations that aren't final", max });
        }
        self.check_sequence(&id, signed)?;
        Ok(id)
    }

    /// Two pending operations with one number: only one of them can take effect.
    pub(super) fn check_sequence(
        &self,
        id: &OperationId,
        signed: &SignedOperation,
    ) -> Result<(), CommandError> {
        let key = (signed.operation.account, signed.operation.sequence);
        match self.sequences.get(&key) {
            Some(other) if other != id => Err(CommandError::Operation(format!(
                "another operation of the account with sequence {} is pending: {other}",
                key.1
            ))),
            _ => Ok(()),
        }
    }

    pub(super) fn remember_sequence(&mut self, id: OperationId, signed: &SignedOperation) {
        let key = (signed.operation.account, signed.operation.sequence);
        self.sequences.entry(key).or_insert(id);
    }

    /// The number after all of an account's pending operations, if `next` is what the state expects.
    pub(crate) fn next_sequence(&self, account: Address, next: u64) -> u64 {
        (next..next + AHEAD_MAX)
            .find(|sequence| !self.sequences.contains_key(&(account, *sequence)))
            .unwrap_or(next + AHEAD_MAX)
    }

    fn refuse(&mut self, command: u64, error: CommandError) {
        self.metrics.operations_refused += 1;
        self.act(LedgerAction::Reply(command, Err(error)));
    }

    /// Publishes a message, after all that was to be stored before it.
    pub(super) fn send(&mut self, message: Gossip) {
        self.leave(LedgerAction::Publish(Box::new(message)));
    }

    /// Does what shows others what this node holds, after all that was to be stored before it.
    pub(super) fn leave(&mut self, action: LedgerAction) {
        if let Some(action) = self.outbox.send(action) {
            self.act(action);
        }
    }
}
