//! What's decided: evaluated, compared with its header, committed; then comes the next.

use std::sync::Arc;

use lamina_certificate::{Checkpoint, Handover, OperatorSet};
use lamina_ledger::book::{CutError, Fallen, FinalisedCut, VerifiedChange};
use lamina_ledger::finality::Value;
use lamina_ledger::history::Mmr;
use lamina_ledger::state::{CheckpointInput, Executed, Receipt};
use lamina_ledger::system::{self, FinalVolume};
use lamina_ledger::{FinalChange, Finalised};
use lamina_types::{
    CheckpointHeader, Cut, Digest, EthereumBlock, HeaderId, Height, OperationId, SignedOperation,
    Timestamp, VolumeId,
};

use super::consensus::wire;
use super::ethereum::Named;
use super::{Ledger, LedgerAction, LedgerWork, Tip};
use crate::Notice;

/// What evaluating a checkpoint came to. The shell keeps the rest under the evaluation's number until it's committed or
/// forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluated {
    /// Root of the state tree.
    pub state: Digest,
    /// Root of the claims on Ethereum.
    pub claims: Digest,
    /// Root of the tasks' outcomes.
    pub results: Digest,
}

/// A checkpoint to be committed: all of it in one transaction.
#[derive(Debug)]
pub struct Commitment {
    /// The evaluation whose writes it is.
    pub evaluation: u64,
    checkpoint: Checkpoint,
    cut: Cut,
    finalised: FinalisedCut,
    opened: Vec<VolumeId>,
    history_nodes: Vec<(u64, Digest)>,
    handover: Option<Box<Handover>>,
}

impl Commitment {
    /// All that is written, once what the evaluation came to is joined to it.
    #[must_use]
    pub fn with(self, executed: Executed) -> Finalised {
        let Checkpoint { header, certificate } = self.checkpoint;
        Finalised {
            decision: lamina_ledger::Decision {
                header,
                certificate: Some(certificate),
                cut: self.cut,
            },
            executed,
            opened: self.opened,
            changes: self.finalised.changes.into_iter().map(final_change).collect(),
            closed: self.finalised.closed,
            dropped: self.finalised.dropped,
            history_nodes: self.history_nodes,
            handover: self.handover,
        }
    }
}

/// The nodes of the accumulator that a header completes, as they are stored.
pub(super) fn history_nodes(mut history: Mmr, header: &HeaderId) -> Vec<(u64, Digest)> {
    let nodes = history.append(header).into_iter();
    nodes.map(|(position, node)| (position.number(), node)).collect()
}

pub(super) fn final_change(change: VerifiedChange) -> FinalChange {
    let operations = change.operation_ids().to_vec();
    FinalChange { id: change.id(), change: change.into_change(), operations }
}

/// A checkpoint that's decided and not yet committed.
#[derive(Debug)]
pub(crate) struct Decision {
    checkpoint: Checkpoint,
    cut: Cut,
    /// Operations that fell out of books with it; known once it's being committed.
    fallen: Vec<Fallen>,
    /// Operations in the changes that are final with it; known then, too.
    held: Vec<OperationId>,
    /// Who signs from the next checkpoint on, if it's others; known then, too.
    operators: Option<Arc<OperatorSet>>,
    /// Whether peers sent it, rather than this node's own consensus.
    fetched: bool,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Changes are missing.
    Waiting,
    /// Its evaluation is under way.
    Evaluating,
    /// Its commit is.
    Committing,
}

impl Decision {
    pub(super) const fn new(checkpoint: Checkpoint, cut: Cut, fetched: bool) -> Self {
        Self {
            checkpoint,
            cut,
            fallen: Vec::new(),
            held: Vec::new(),
            operators: None,
            fetched,
            stage: Stage::Waiting,
        }
    }

    pub(super) const fn cut(&self) -> &Cut {
        &self.cut
    }

    pub(super) const fn header(&self) -> &CheckpointHeader {
        &self.checkpoint.header
    }
}

/// What an evaluation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// This node's own proposal.
    Propose,
    /// Another's.
    Judge,
    /// A decision whose proposal this node didn't judge.
    Apply,
}

/// An evaluation that's under way, or done and kept for the decision.
#[derive(Debug)]
pub(crate) struct Evaluation {
    header: CheckpointHeader,
    cut: Cut,
    purpose: Purpose,
    operations: usize,
    begun: Timestamp,
    done: Option<Evaluated>,
}

impl Evaluation {
    /// The header with what its operations came to.
    fn complete(&self, evaluated: &Evaluated) -> CheckpointHeader {
        CheckpointHeader {
            state: evaluated.state,
            claims: evaluated.claims,
            results: evaluated.results,
            ..self.header.clone()
        }
    }
}

impl Ledger {
    /// Has the operations of a cut evaluated, as those of a checkpoint with this header.
    pub(super) fn evaluate(&mut self, header: CheckpointHeader, cut: Cut, purpose: Purpose) {
        let (Ok(operations), Ok(volumes)) = (self.books.check(&cut), self.books.after(&cut)) else {
            return;
        };
        let volumes = volumes
            .into_iter()
            .map(|(id, lanes)| (id.book, FinalVolume { volume: id.volume, lanes }));
        self.save_changes();
        let system = system::writes(&self.history, &volumes.collect::<Vec<_>>());
        let input = CheckpointInput {
            height: header.height,
            previous: header.previous,
            time: header.time,
            epoch: header.epoch,
            ethereum: header.ethereum,
            deposits: self.ethereum.deposits_to(&header.ethereum),
            operators: self.ethereum.operators_to(&header.ethereum).cloned(),
            operations,
            system,
        };
        let id = self.fresh_id();
        let (operations, begun) = (input.operations.len(), self.now);
        let evaluation = Evaluation { header, cut, purpose, operations, begun, done: None };
        self.evaluations.insert(id, evaluation);
        self.work(LedgerWork::Evaluate(id, Box::new(input)));
    }

    /// An evaluation is done.
    pub(super) fn evaluated(&mut self, id: u64, evaluated: Evaluated) {
        let Some(evaluation) = self.evaluations.get_mut(&id) else {
            // Of a checkpoint that was decided otherwise meanwhile.
            return self.work(LedgerWork::Forget(id));
        };
        let header = evaluation.complete(&evaluated);
        let claimed = evaluation.header.id(&self.context.chain);
        evaluation.done = Some(evaluated);
        self.pace.measure(evaluation.operations, self.now.since(evaluation.begun));
        match evaluation.purpose {
            Purpose::Propose => evaluation.header = header,
            Purpose::Judge => self.judged(claimed, claimed == header.id(&self.context.chain)),
            Purpose::Apply => {}
        }
        self.propose_wanted();
        self.advance();
    }

    /// A value for the next height that was evaluated here and holds: one that others proposed, if there is any.
    pub(super) fn evaluated_value(&self) -> Option<Value> {
        let chain = &self.context.chain;
        let holds = |e: &&Evaluation| {
            let done = e.done.as_ref();
            done.is_some_and(|done| e.complete(done).id(chain) == e.header.id(chain))
        };
        let best = self.evaluations.values().filter(holds).max_by_key(|e| {
            // Of several, the same one at all nodes.
            (e.purpose == Purpose::Judge, e.header.time, e.header.id(chain))
        })?;
        Some(Value { header: best.header.clone(), cut: best.cut.clone() })
    }

    /// Whether something is being evaluated.
    pub(super) fn is_evaluating(&self) -> bool {
        self.evaluations.values().any(|evaluation| evaluation.done.is_none())
    }

    /// Goes on with what's decided.
    pub(super) fn advance(&mut self) {
        self.take_next();
        let Some(decision) = &self.decision else { return };
        if decision.stage == Stage::Committing {
            return;
        }
        let wanted = decision.checkpoint.header.id(&self.context.chain);
        let same = |e: &Evaluation| e.header.id(&self.context.chain) == wanted;
        if let Some((id, evaluation)) = self.evaluations.iter().find(|(_, e)| same(e)) {
            if evaluation.done.is_some() {
                let id = *id;
                self.commit(id);
            }
            return;
        }
        if decision.stage == Stage::Evaluating {
            return;
        }
        let (header, cut) = (decision.checkpoint.header.clone(), decision.cut.clone());
        match self.ethereum.judge(&self.tip.header.ethereum, &header.ethereum) {
            Named::Right => {}
            Named::Missing => return,
            Named::Wrong => return self.halt_at_block(&header.ethereum),
        }
        if self.next_operators(header.height, &header.ethereum) != header.next_operators {
            return self.halt_at_block(&header.ethereum);
        }
        match self.books.check(&cut) {
            Ok(_) => {
                if let Some(decision) = &mut self.decision {
                    decision.stage = Stage::Evaluating;
                }
                self.evaluate(header, cut, Purpose::Apply);
            }
            Err(CutError::Missing(missing)) => {
                let missing: Vec<_> = missing.iter().map(wire).collect();
                self.ask_for_changes(None, &missing);
            }
            Err(reason) => self.halt(&format!(
                "checkpoint {} was decided with a cut that doesn't hold here: {reason}",
                header.height
            )),
        }
    }

    /// Has a decision committed whose evaluation is done.
    fn commit(&mut self, evaluation: u64) {
        let Some(decision) = &mut self.decision else { return };
        let header = &decision.checkpoint.header;
        let Some(done) = self.evaluations.get(&evaluation).and_then(|e| e.done.as_ref()) else {
            return;
        };
        let came_to = (done.state, done.claims, done.results);
        if came_to != (header.state, header.claims, header.results) {
            let height = header.height;
            return self.halt(&format!(
                "a quorum decided on another state at height {height} than this node comes to: \
                 compare its version with others', then restart it with an empty ledger"
            ));
        }
        decision.stage = Stage::Committing;
        decision.operators = self.ethereum.operators_to(&header.ethereum).cloned();
        let handover = decision.operators.as_ref().and_then(|set| {
            let handover = Handover::new(decision.checkpoint.clone(), set);
            Some(Box::new(handover.ok()?))
        });
        let (checkpoint, cut) = (decision.checkpoint.clone(), decision.cut.clone());
        match self.books.finalise(&cut) {
            Ok(mut finalised) => {
                let changes = finalised.changes.iter();
                let held = changes.flat_map(VerifiedChange::operation_ids).copied().collect();
                if let Some(decision) = &mut self.decision {
                    decision.fallen = std::mem::take(&mut finalised.fallen);
                    decision.held = held;
                }
                let header = checkpoint.certificate.header;
                let history_nodes = history_nodes(self.history.clone(), &header);
                let books = cut.books.as_slice().iter();
                let opened = books.map(|b| VolumeId { book: b.book, volume: b.volume }).collect();
                let commitment = Commitment {
                    evaluation,
                    checkpoint,
                    cut,
                    finalised,
                    opened,
                    history_nodes,
                    handover,
                };
                self.work(LedgerWork::Commit(Box::new(commitment)));
            }
            Err(error) => self.halt(&format!("a decided cut can't be finalised: {error}")),
        }
    }

    /// A checkpoint is on disk.
    pub(super) fn committed(&mut self, receipts: &[Receipt], next_timer: Option<Timestamp>) {
        let Some(decision) = self.decision.take() else { return };
        let header = decision.checkpoint.header;
        self.metrics.checkpoints += 1;
        self.metrics.checkpoints_fetched += u64::from(decision.fetched);
        self.metrics.operations_final += receipts.len() as u64;
        self.next_timer = next_timer;
        let id = header.id(&self.context.chain);
        self.history.append(&id);
        let height = header.height;
        if let Some(set) = decision.operators {
            self.act(LedgerAction::Notify(Notice::EpochBegins(set.epoch(), set.size())));
            let me = set.index_of_peer(&self.key).and_then(|index| set.get(index));
            let key = self.signer.as_ref().map(|signer| signer.bls_public_key());
            if me.is_some_and(|operator| Some(operator.bls) != key) {
                self.act(LedgerAction::Notify(Notice::ForeignKey(set.epoch())));
            }
            self.epochs.begin(Height(height.0 + 1), set);
        }
        self.epochs.forget_before(height);
        self.tip = Tip { header, id };
        self.ethereum.forget_to(&self.tip.header.ethereum);
        self.forget_final(receipts, &decision.held);
        self.reports_final(receipts);
        for evaluation in std::mem::take(&mut self.evaluations).into_keys() {
            self.work(LedgerWork::Forget(evaluation));
        }
        self.judgements.clear();
        self.wanted = None;
        self.wary = false;
        self.started = false;
        self.committed_at = self.now;
        for fallen in decision.fallen {
            self.carry_again(fallen.id, fallen.operation);
        }
        self.set_authors();
        // There may be room in this node's lane again.
        if !self.to_compose.is_empty() {
            self.compose_at.get_or_insert(self.now);
        }
        self.act(LedgerAction::Notify(Notice::Checkpoint(height, receipts.len())));
        self.catch_up();
    }

    /// Lets those write who may at the next height. What others wrote last falls out of books.
    pub(super) fn set_authors(&mut self) {
        let authors = self.epochs.authors(Height(self.tip.header.height.0 + 1));
        for fallen in self.books.set_authors(authors) {
            self.carry_again(fallen.id, fallen.operation);
        }
    }

    /// What fell out of a book: at once if this node promised it, in its turn otherwise.
    fn carry_again(&mut self, id: OperationId, signed: SignedOperation) {
        if self.promises.contains_key(&id) {
            self.to_compose.push_back(id);
            self.compose_at.get_or_insert(self.now);
        } else if self.writes() {
            self.carry_later(id, signed);
        }
    }

    /// What's in a final change is the state's to carry out, now or when its turn comes; what has its receipt is done.
    fn forget_final(&mut self, receipts: &[Receipt], held: &[OperationId]) {
        for id in held {
            self.promises.remove(id);
            self.to_carry.remove(id);
        }
        for receipt in receipts {
            self.promises.remove(&receipt.operation);
            self.to_carry.remove(&receipt.operation);
            self.sequences.remove(&(receipt.account, receipt.sequence));
        }
    }

    /// Takes the next checkpoint that a peer sent.
    fn take_next(&mut self) {
        while self.decision.is_none() {
            let Some((checkpoint, cut)) = self.ahead.pop_front() else { return };
            if checkpoint.header.height.0 == self.tip.header.height.0 + 1 {
                self.started = false;
                self.decision = Some(Decision::new(checkpoint, cut, true));
            }
        }
    }

    /// What this node was told of Ethereum isn't what a quorum was told.
    pub(super) fn halt_at_block(&mut self, block: &EthereumBlock) {
        self.halt(&format!(
            "the network's checkpoints and this node's endpoints don't agree on block {} of Ethereum: configure other \
             endpoints under `ethereum`, then delete ethereum.redb and restart",
            block.number
        ));
    }

    /// Ethereum's snapshot has other operators than the network began with, or handed over to.
    pub(super) fn halt_at_operators(&mut self, block: &EthereumBlock) {
        self.halt(&format!(
            "block {} of Ethereum has a snapshot of operators that aren't those of the same epoch in the genesis file, or in \
             checkpoints: compare the genesis file with others', and the endpoints under `ethereum`; if both are right, the \
             checkpoints were signed by operators who had left",
            block.number
        ));
    }

    pub(super) fn halt(&mut self, reason: &str) {
        self.work(LedgerWork::Halt(reason.to_owned()));
    }
}
