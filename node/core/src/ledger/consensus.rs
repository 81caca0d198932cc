//! Checkpoints: when the consensus on the next one begins, what this node proposes, and what it thinks of others' proposals.

use lamina_certificate::{Evidence, OperatorSet, ProposedHeader, Signature, SignedTwice};
use lamina_ledger::Record;
use lamina_ledger::finality::{
    ConsensusMessage, Equivocation, Input, Output, SignedProposal, Step, Value, VoteSignature,
};
use lamina_p2p::{ChangeRef, Gossip, Offence, Second, Verdict};
use lamina_types::{
    Bytes, Canonical, CheckpointHeader, Cut, Digest, EpochNumber, EthereumBlock, HeaderId, Height,
    OperatorIndex, PeerKey, Timestamp,
};

use super::apply::{Decision, Purpose};
use super::ethereum::Named;
use super::{Ledger, LedgerAction};
use crate::Notice;

/// Proposals of one height that are judged at the same time: one a round, and some rounds.
const JUDGEMENTS_MAX: usize = 32;

/// Whether a message is cheap to verify: 0.1 ms.
const fn is_cheap(message: &ConsensusMessage) -> bool {
    match message {
        ConsensusMessage::Proposal(_) => true,
        ConsensusMessage::Vote(vote) => matches!(vote.step(), Step::Prevote),
        ConsensusMessage::Polka(_) | ConsensusMessage::Rounds(_) => false,
    }
}

/// Whether an operator of this consensus set signed the message, as far as one signature shows it.
fn is_signed(message: &ConsensusMessage, set: &OperatorSet) -> bool {
    match message {
        ConsensusMessage::Proposal(proposal) => proposal.verify(set),
        ConsensusMessage::Vote(vote) => vote.verify(set),
        ConsensusMessage::Polka(certificate) => certificate.votes().any(|vote| vote.verify(set)),
        ConsensusMessage::Rounds(certificate) => certificate.votes().any(|vote| vote.verify(set)),
    }
}

/// What's kept and shown of two votes or proposals in one step.
fn evidence(epoch: EpochNumber, equivocation: Equivocation) -> Option<Evidence> {
    Some(match equivocation {
        Equivocation::Votes(a, b) => {
            let (height, round, operator) = (a.height, a.round, a.operator);
            match (a.signature, b.signature) {
                (
                    VoteSignature::Prevote(first_signature),
                    VoteSignature::Prevote(second_signature),
                ) => {
                    let (first, second) = (a.header, b.header);
                    let votes = SignedTwice { first, first_signature, second, second_signature };
                    Evidence::Prevotes { epoch, height, round, operator, votes }
                }
                (VoteSignature::Precommit(first), VoteSignature::Precommit(second)) => {
                    let votes = SignedTwice {
                        first: a.header,
                        first_signature: Signature::from_bytes(&first).ok()?,
                        second: b.header,
                        second_signature: Signature::from_bytes(&second).ok()?,
                    };
                    Evidence::Precommits { epoch, height, round, operator, votes }
                }
                _ => return None,
            }
        }
        Equivocation::Proposals(a, b) => {
            let (height, round, operator) = (a.height, a.round, a.proposer);
            let proposed = |p: &SignedProposal| ProposedHeader {
                valid_round: p.valid_round,
                header: p.header,
            };
            let proposals = SignedTwice {
                first: proposed(&a),
                first_signature: a.signature,
                second: proposed(&b),
                second_signature: b.signature,
            };
            Evidence::Proposals { epoch, height, round, operator, proposals }
        }
    })
}

/// A change's name as peers know it.
pub(super) const fn wire(name: &lamina_ledger::book::ChangeRef) -> ChangeRef {
    ChangeRef { volume: name.volume, author: name.author, number: name.number, change: name.change }
}

/// A proposal whose changes, or whose block of Ethereum, aren't all here.
#[derive(Debug)]
pub(crate) struct Judgement {
    value: Value,
    proposer: Option<PeerKey>,
}

impl Judgement {
    pub(super) const fn cut(&self) -> &Cut {
        &self.value.cut
    }
}

impl Ledger {
    /// A message of the consensus.
    pub(crate) fn judge_consensus(
        &mut self,
        now: Timestamp,
        from: PeerKey,
        bytes: &[u8],
    ) -> Result<Verdict, Offence> {
        self.now = now;
        let message = ConsensusMessage::from_bytes(bytes).map_err(|_| Offence::Malformed)?;
        let next = self.next_height();
        let height = message.height();
        if height < next {
            return Ok(Verdict::Ignore);
        }
        if height.0 > next.0 + 1 {
            // Others are far ahead: this node asks one of them instead of listening.
            self.ask_how_far(from);
            return Ok(Verdict::Ignore);
        }
        let calls = height == next && !self.started;
        if calls || self.wary || is_cheap(&message) {
            if !self.is_signed(&message) {
                let unknown = !self.is_known_who_signs(height);
                return if unknown { Ok(Verdict::Ignore) } else { self.forged(&message) };
            }
            self.called |= calls;
        }
        self.engine.handle(now, Input::Message { from, message });
        Ok(Verdict::Accept)
    }

    /// Whether an operator signed a message who may sign at its height, as far as that's known.
    fn is_signed(&self, message: &ConsensusMessage) -> bool {
        let height = message.height();
        let known = self.is_known_who_signs(height);
        let coming = self.ethereum.operators().filter(|_| !known);
        is_signed(message, self.epochs.consensus(height))
            || coming.into_iter().any(|(_, consensus)| is_signed(message, consensus))
    }

    /// Whether it's certain who signs at this height: a checkpoint before it that isn't committed here may have changed that.
    fn is_known_who_signs(&self, height: Height) -> bool {
        height.0 <= self.tip.header.height.0 + 1 || !self.ethereum.is_followed()
    }

    /// A message whose signature doesn't hold. Whoever passes on what everyone verifies first is at fault; a precommit or
    /// certificate may have been passed on by somebody who verifies them together, and later.
    fn forged(&mut self, message: &ConsensusMessage) -> Result<Verdict, Offence> {
        self.metrics.votes_refused += 1;
        if is_cheap(message) { Err(Offence::WrongSignature) } else { Ok(Verdict::Ignore) }
    }

    /// The height that comes after what is decided.
    pub(super) fn next_height(&self) -> Height {
        let decided = self.decision.is_some() || !self.ahead.is_empty();
        Height(self.tip.header.height.0 + 1 + u64::from(decided && self.decision.is_some()))
    }

    /// When the consensus on the next checkpoint is to begin, if something calls for it.
    pub(super) fn next_start(&self) -> Option<Timestamp> {
        if self.started || !self.may_start() {
            return None;
        }
        let last = self.tip.header.time;
        let soon = last + self.interval;
        let idle = last + self.idle_interval.max(self.interval);
        let due = [self.next_timer, self.ethereum.due()].into_iter().flatten().min();
        if self.called || self.books.has_pending() || !self.log.is_empty() {
            return Some(soon);
        }
        Some(due.map_or(idle, |due| due.max(soon).min(idle)))
    }

    pub(super) fn start_if_due(&mut self) {
        if self.next_start().is_none_or(|at| at > self.now) {
            return;
        }
        let height = Height(self.tip.header.height.0 + 1);
        self.started = true;
        self.called = false;
        let log = std::mem::take(&mut self.log);
        self.engine.start(self.now, height, self.epochs.consensus(height).clone(), log);
    }

    fn may_start(&self) -> bool {
        self.decision.is_none() && self.ahead.is_empty() && self.snapshot.is_none()
    }

    /// Carries out what the consensus wants.
    pub(super) fn drive_engine(&mut self) {
        while let Some(output) = self.engine.poll() {
            match output {
                Output::Propose { height, round } => self.propose(height, round),
                Output::Judge { value, proposer } => self.judge(*value, proposer),
                Output::Log(entry) => {
                    let height = self.engine.height();
                    let write = self.store(vec![Record::Log { height, entry: entry.to_bytes() }]);
                    self.outbox.write(write);
                }
                Output::Publish(message) => {
                    let bytes = Bytes::new(message.to_bytes()).expect("bounded by its type");
                    self.send(Gossip::Consensus(Second::of(self.now), bytes));
                }
                // The peer may have passed it on before it was verified, as this node did.
                Output::Offence(..) => {
                    self.metrics.votes_refused += 1;
                    self.wary = true;
                }
                Output::Equivocation(equivocation) => {
                    self.metrics.votes_equivocal += 1;
                    let operator = equivocation.operator();
                    let epoch = self.epochs.number(self.engine.height());
                    if let Some(evidence) = evidence(epoch, equivocation) {
                        self.keep_evidence(&evidence);
                    }
                    self.act(LedgerAction::Notify(Notice::VoteEquivocation(operator)));
                }
                Output::Decided { checkpoint, cut } => self.decide(*checkpoint, *cut),
            }
        }
    }

    /// This node is the proposer: it says how far books go, and evaluates what follows.
    ///
    /// A value that it has evaluated already is proposed again, one that was proposed before rather than its own: others have
    /// it, too, or are about to. So whatever an evaluation takes, there comes a round in which all have the same one.
    fn propose(&mut self, height: Height, round: u32) {
        if height.0 == self.tip.header.height.0 + 1 {
            self.wanted = Some(round);
            self.propose_wanted();
        }
    }

    /// Proposes for the round that waits for it, or has something evaluated to be proposed: one thing at a time. While
    /// nothing is worth a checkpoint as far as this node knows, the round waits: others would refuse it, and it would be
    /// proposed again and again.
    pub(super) fn propose_wanted(&mut self) {
        let Some(round) = self.wanted else { return };
        if let Some(value) = self.evaluated_value() {
            self.wanted = None;
            let height = value.header.height;
            self.engine.handle(self.now, Input::Value { height, round, value: Box::new(value) });
        } else if !self.is_evaluating() {
            let cut = self.books.propose(self.pace.operations_max());
            let time = self.now.max(self.tip.header.time + self.interval);
            let ethereum = self.ethereum.latest(self.now, &self.tip.header.ethereum);
            let value = Value { header: self.draft(&cut, time, ethereum), cut };
            if self.has_reason(&value) {
                self.evaluate(value.header, value.cut, Purpose::Propose);
            }
        }
    }

    /// The header of the checkpoint after the tip, but for what its operations come to.
    fn draft(&self, cut: &Cut, time: Timestamp, ethereum: EthereumBlock) -> CheckpointHeader {
        let height = Height(self.tip.header.height.0 + 1);
        CheckpointHeader {
            epoch: self.epochs.number(height),
            height,
            previous: self.tip.id,
            history: self.history.root(),
            cut: cut.digest(),
            state: self.tip.header.state,
            claims: self.tip.header.claims,
            results: self.tip.header.results,
            ethereum,
            time,
            operators: self.epochs.root(height),
            next_operators: self.next_operators(height, &ethereum),
        }
    }

    /// The root of the operators that sign after a checkpoint that names this block, as this node knows the chain.
    pub(super) fn next_operators(&self, height: Height, ethereum: &EthereumBlock) -> Digest {
        match self.ethereum.operators_to(ethereum) {
            Some(set) => set.root(),
            None => self.epochs.root(Height(height.0 + 1)),
        }
    }

    /// Someone else proposes.
    fn judge(&mut self, value: Value, proposer: OperatorIndex) {
        let id = value.header.id(&self.context.chain);
        if !self.is_plausible(&value) {
            return self.judged(id, false);
        }
        if self.judgements.len() >= JUDGEMENTS_MAX {
            return;
        }
        let height = value.header.height;
        let proposer = self.epochs.consensus(height).get(proposer).map(|o| o.peer_key);
        self.judgements.insert(id, Judgement { value, proposer });
        self.judge_again(id);
    }

    /// What can be told of a proposal without its changes and its block of Ethereum.
    fn is_plausible(&self, value: &Value) -> bool {
        let Value { header, cut } = value;
        let time = header.time;
        let mut expected = self.draft(cut, time, header.ethereum);
        expected.state = header.state;
        expected.claims = header.claims;
        expected.results = header.results;
        expected.next_operators = header.next_operators;
        let last = self.tip.header.time;
        let in_time = time >= last + self.interval && time <= self.now + self.config.drift_max;
        *header == expected && in_time
    }

    /// Whether it names the operators that follow, and there's a reason for it; its block of Ethereum is known.
    fn is_right_of_ethereum(&self, value: &Value) -> bool {
        let Value { header, .. } = value;
        let next = self.next_operators(header.height, &header.ethereum);
        header.next_operators == next && self.has_reason(value)
    }

    /// Whether there's a reason for this checkpoint; its block of Ethereum is known.
    fn has_reason(&self, value: &Value) -> bool {
        let Value { header, cut } = value;
        let idle = header.time >= self.tip.header.time + self.idle_interval;
        let timer = self.next_timer.is_some_and(|at| at <= header.time);
        let came_in = self.ethereum.is_reason(&header.ethereum);
        !cut.books.as_slice().is_empty() || idle || timer || came_in
    }

    /// Evaluates a proposal if its block of Ethereum and all its changes are here; asks for changes that aren't.
    pub(super) fn judge_again(&mut self, id: HeaderId) {
        let Some(Judgement { value, proposer }) = self.judgements.get(&id) else { return };
        let (value, proposer) = (value.clone(), *proposer);
        match self.ethereum.judge(&self.tip.header.ethereum, &value.header.ethereum) {
            Named::Right if self.is_right_of_ethereum(&value) => {}
            Named::Missing => return,
            Named::Right | Named::Wrong => {
                self.judgements.remove(&id);
                return self.judged(id, false);
            }
        }
        match self.books.check(&value.cut) {
            Ok(_) => {
                self.judgements.remove(&id);
                self.evaluate(value.header, value.cut, Purpose::Judge);
            }
            Err(lamina_ledger::book::CutError::Missing(missing)) => {
                let missing: Vec<_> = missing.iter().map(wire).collect();
                self.ask_for_changes(proposer, &missing);
            }
            Err(_) => {
                self.judgements.remove(&id);
                self.judged(id, false);
            }
        }
    }

    /// Tells the consensus what this node thinks of a proposal.
    pub(super) fn judged(&mut self, header: HeaderId, valid: bool) {
        if !valid {
            self.metrics.proposals_refused += 1;
        }
        self.engine.handle(self.now, Input::Judged { header, valid });
    }

    /// The consensus has decided.
    fn decide(&mut self, checkpoint: lamina_certificate::Checkpoint, cut: Cut) {
        if checkpoint.header.height.0 == self.tip.header.height.0 + 1 && self.decision.is_none() {
            self.decision = Some(Decision::new(checkpoint, cut, false));
            self.advance();
        }
    }

    /// Changes or blocks of Ethereum came: what waits for them goes on.
    pub(super) fn go_on(&mut self) {
        let waiting: Vec<HeaderId> = self.judgements.keys().copied().collect();
        for id in waiting {
            self.judge_again(id);
        }
        self.advance();
    }
}
