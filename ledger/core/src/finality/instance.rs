//! One height: what peers say is checked, then fed to the core.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use arc_malachitebft_core_consensus as consensus;
use arc_malachitebft_core_types as types;
use consensus::{LocallyProposedValue, MAX_FUTURE_ROUND_LOOKAHEAD, Params, ProposedValue};
use lamina_certificate::{Checkpoint, CheckpointCertificate, OperatorSet, Signature, SignerBitmap};
use lamina_types::{HeaderId, Height, OperatorIndex, PeerKey, Timestamp};
use types::{Round, Validity, ValueOrigin, ValuePayload, VoteExtensionPolicy};

use super::context::{
    Candidate, CoreHeight, CoreInput, Malachite, Seat, State, ballot, core_polka, core_rounds,
    number, offer,
};
use super::desk::{Decision, Desk, Judgement, Office, digest_of, timeout_of};
use super::engine::Output;
use super::equivocation::{Equivocation, SignedProposal};
use super::log::{LogEntry, Wait};
use super::message::{
    ConsensusMessage, PolkaCertificate, Proposal, RoundCertificate, Step, Value, Vote,
};
use super::votes::{Batches, Counted, Verified, verify};

/// The highest round of a certificate. No honest operator gets there: it takes days at the shortest waits.
const ROUND_MAX: u32 = 1 << 20;
/// Proposals kept per round: the one that counts, and another one as evidence. The core keeps as many.
const PROPOSALS: usize = 2;
/// Inputs that the core queues for later heights: none reaches it.
const QUEUE: usize = 1;

/// The core at one height, and what is remembered beside it.
pub(super) struct Instance {
    core: State,
    desk: Desk,
    batches: Batches,
}

impl Instance {
    pub(super) fn start(
        office: &mut Office,
        height: Height,
        set: Arc<OperatorSet>,
        mut log: Vec<LogEntry>,
    ) -> Self {
        log.retain(|entry| entry.is_of(height));
        let desk = Desk::new(office, height, set);
        let params = Params {
            address: desk.me,
            threshold_params: types::ThresholdParams::default(),
            value_payload: ValuePayload::ProposalAndParts,
            enabled: desk.votes_itself(),
        };
        let (members, at) = (desk.members.clone(), CoreHeight(height.0));
        let core = State::new(Malachite, at, members.clone(), params, QUEUE, QUEUE);
        let mut instance = Self { core, desk, batches: Batches::default() };
        instance.remember(&log);
        let begin = CoreInput::StartHeight(at, members, false, None, VoteExtensionPolicy::Disabled);
        instance.feed(office, begin);
        instance.replay(office, log);
        instance
    }

    pub(super) const fn height(&self) -> Height {
        self.desk.height
    }

    pub(super) fn round(&self) -> u32 {
        number(self.core.round())
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        let decision = self.desk.decision.as_ref().filter(|d| !d.told).map(|d| d.due);
        let waits = self.desk.waits.values().copied();
        waits.chain(self.batches.next_due()).chain(decision).min()
    }

    pub(super) fn message(
        &mut self,
        office: &mut Office,
        from: PeerKey,
        message: ConsensusMessage,
    ) {
        match message {
            ConsensusMessage::Vote(vote) => self.vote(office, from, vote),
            ConsensusMessage::Proposal(proposal) => self.proposal(office, from, *proposal),
            ConsensusMessage::Polka(certificate) => self.polka(office, from, &certificate),
            ConsensusMessage::Rounds(certificate) => self.rounds(office, from, &certificate),
        }
    }

    /// The application's value for a round.
    pub(super) fn value(&mut self, office: &mut Office, round: u32, value: Box<Value>) {
        let height = self.desk.height;
        assert_eq!(value.header.height, height, "a value of another height");
        assert_eq!(value.header.epoch, self.desk.set.epoch(), "a value of another epoch");
        assert!(value.is_whole(), "the header names another cut");
        if self.desk.wanted == Some(round) {
            let id = value.header.id(&office.chain);
            self.propose(office, round, Candidate { id, value: Arc::from(value) });
        }
    }

    /// The application's answer. Only the first one counts.
    pub(super) fn judged(&mut self, office: &mut Office, header: HeaderId, valid: bool) {
        let Some(judgement) = self.desk.values.get_mut(&header) else { return };
        if judgement.verdict.is_none() {
            judgement.verdict = Some(valid);
            let candidate = Candidate { id: header, value: Arc::clone(&judgement.value) };
            self.desk.log(office, LogEntry::Judged { header, valid });
            for round in self.rounds_of(header) {
                self.feed_value(office, round, candidate.clone(), valid);
            }
        }
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, office: &mut Office) {
        let due = self.batches.take_due(office.now);
        self.precommits(office, due);
        let now = office.now;
        let due: Vec<_> =
            self.desk.waits.iter().filter(|(_, at)| **at <= now).map(|(key, _)| *key).collect();
        for (wait, round) in due {
            if self.desk.waits.remove(&(wait, round)).is_some() {
                self.waited(office, wait, round);
            }
        }
        self.tell(office);
    }

    fn waited(&mut self, office: &mut Office, wait: Wait, round: u32) {
        if wait == Wait::Rebroadcast {
            self.desk.repeat_proposal(office, round);
        } else if self.desk.decision.is_some() {
            return;
        }
        self.process(office, CoreInput::TimeoutElapsed(timeout_of(wait, round)));
    }

    /// Gives the core an input, as long as there's something to decide.
    fn feed(&mut self, office: &mut Office, input: CoreInput) {
        if self.desk.decision.is_none() {
            self.process(office, input);
        }
    }

    /// An input that the core refuses has changed nothing that was promised, so its errors are dropped.
    fn process(&mut self, office: &mut Office, input: CoreInput) {
        let Self { core, desk, .. } = self;
        let _: Result<(), consensus::Error<Malachite>> = consensus::process!(
            input: input,
            state: core,
            metrics: &(),
            with: effect => Ok::<_, Infallible>(desk.effect(office, effect))
        );
    }
}

/// Votes and certificates.
impl Instance {
    fn vote(&mut self, office: &mut Office, from: PeerKey, vote: Vote) {
        if !self.is_member(vote.operator) {
            office.offence(from, "a vote of no operator of the set");
        } else if self.is_near(vote.round) && !self.desk.votes.is_settled(&vote) {
            match vote.step() {
                Step::Prevote => self.unverified(office, from, vote),
                Step::Precommit => self.precommit(office, from, vote),
            }
        }
    }

    fn unverified(&mut self, office: &mut Office, from: PeerKey, vote: Vote) {
        match verify(&self.desk.set, vec![vote], &mut office.rng).pop().flatten() {
            Some(vote) => self.count(office, vote),
            None => office.offence(from, "a vote with a bad signature"),
        }
    }

    /// Keeps it until a quorum is there, or its batch is due; or until there are so many that some must be forged.
    fn precommit(&mut self, office: &mut Office, from: PeerKey, vote: Vote) {
        let (round, header) = (vote.round, vote.header);
        self.batches.push(office.now, office.config.batch, from, vote);
        let members = &self.desk.members;
        let power = |of: &BTreeSet<_>| of.iter().map(|o| members.power(*o)).sum::<u64>();
        let mut voters: BTreeSet<_> =
            self.desk.votes.precommits(round, header).map(|(operator, _)| operator).collect();
        let before = power(&voters);
        voters.extend(self.batches.voters(round, header));
        if !members.is_quorum(before) && members.is_quorum(power(&voters)) {
            let votes = self.batches.take(round, header);
            self.precommits(office, votes);
        }
        if self.batches.len() > 2 * usize::from(self.desk.set.size()) {
            let votes = self.batches.take_all();
            self.precommits(office, votes);
        }
    }

    fn precommits(&mut self, office: &mut Office, votes: Vec<(PeerKey, Vote)>) {
        let (senders, votes): (Vec<_>, Vec<_>) = votes
            .into_iter()
            .filter(|(_, vote)| self.is_near(vote.round) && !self.desk.votes.is_settled(vote))
            .unzip();
        let verified = verify(&self.desk.set, votes, &mut office.rng);
        for (from, vote) in senders.into_iter().zip(verified) {
            match vote {
                Some(vote) => self.count(office, vote),
                None => office.offence(from, "a vote with a bad signature"),
            }
        }
    }

    /// Remembers a vote; the core gets it if it's the operator's first. (It would ignore another one.)
    fn count(&mut self, office: &mut Office, verified: Verified) {
        let vote = verified.vote().clone();
        if !self.is_near(vote.round) {
            return;
        }
        match self.desk.votes.count(verified) {
            Counted::First => self.feed(office, CoreInput::Vote(ballot(&vote))),
            Counted::Contradiction(both) => {
                office.outputs.push_back(Output::Equivocation(*both));
            }
            Counted::Nothing => {}
        }
    }

    fn polka(&mut self, office: &mut Office, from: PeerKey, certificate: &PolkaCertificate) {
        let known = || {
            let round = Round::new(certificate.round);
            self.core.polka_certificate(round, &certificate.header).is_some()
        };
        if self.desk.decision.is_some() || certificate.round > ROUND_MAX || known() {
            return;
        }
        let votes: Vec<_> = certificate.votes().collect();
        if !self.power_of(&votes).is_some_and(|power| self.desk.members.is_quorum(power)) {
            return office.offence(from, "a certificate of prevotes without a quorum");
        }
        let Some(votes) = self.verify_all(office, votes) else {
            return office.offence(from, "a certificate with a bad signature");
        };
        self.feed(office, CoreInput::PolkaCertificate(core_polka(certificate)));
        // As votes, too: they may be wanted for another threshold.
        votes.into_iter().for_each(|vote| self.count(office, vote));
    }

    fn rounds(&mut self, office: &mut Office, from: PeerKey, certificate: &RoundCertificate) {
        let (skip, round) = (certificate.skip, certificate.round);
        let past = if skip { round <= self.round() } else { round < self.round() };
        if self.desk.decision.is_some() || past || round > ROUND_MAX {
            return;
        }
        let votes: Vec<_> = certificate.votes().collect();
        let members = &self.desk.members;
        let suffices = |power: u64| match skip {
            true => members.is_more_than_a_third(power),
            false => members.is_quorum(power),
        };
        let of_one_step = skip || votes.iter().all(|vote| vote.step() == Step::Precommit);
        if !of_one_step || !self.power_of(&votes).is_some_and(suffices) {
            return office.offence(from, "a certificate of a round without enough votes");
        }
        let Some(votes) = self.verify_all(office, votes) else {
            return office.offence(from, "a certificate with a bad signature");
        };
        self.feed(office, CoreInput::RoundCertificate(core_rounds(certificate)));
        votes.into_iter().for_each(|vote| self.count(office, vote));
    }

    /// The power of the votes' operators, if they're all in the set and each is there once.
    fn power_of(&self, votes: &[Vote]) -> Option<u64> {
        let operators: BTreeSet<_> = votes.iter().map(|vote| vote.operator).collect();
        let sound = operators.len() == votes.len() && operators.iter().all(|o| self.is_member(*o));
        sound.then(|| operators.iter().map(|o| self.desk.members.power(*o)).sum())
    }

    /// The votes, if all hold. Those that were verified before aren't verified again.
    fn verify_all(&self, office: &mut Office, votes: Vec<Vote>) -> Option<Vec<Verified>> {
        let (known, unknown): (Vec<_>, Vec<_>) =
            votes.into_iter().partition(|vote| self.desk.votes.find(vote).is_some());
        let known = known.iter().filter_map(|vote| self.desk.votes.find(vote).cloned());
        let verified = verify(&self.desk.set, unknown, &mut office.rng);
        known.map(Some).chain(verified).collect()
    }

    fn is_member(&self, operator: OperatorIndex) -> bool {
        operator.0 < self.desk.set.size()
    }

    /// Whether the core looks as far ahead.
    fn is_near(&self, round: u32) -> bool {
        round <= self.round().saturating_add(MAX_FUTURE_ROUND_LOOKAHEAD)
    }
}

/// Proposals.
impl Instance {
    fn proposal(&mut self, office: &mut Office, from: PeerKey, proposal: Proposal) {
        if self.desk.decision.is_some() || !self.is_near(proposal.round) {
            return;
        }
        let header = proposal.value.header.id(&office.chain);
        let short = SignedProposal::of(&proposal, header);
        let known = self.desk.proposals.get(&proposal.round).map_or(&[][..], Vec::as_slice);
        let same = |k: &SignedProposal| (k.header, k.valid_round) == (header, short.valid_round);
        if known.len() >= PROPOSALS || known.iter().any(same) {
            return;
        }
        if let Err(what) = self.check(&proposal, &short) {
            return office.offence(from, what);
        }
        if let Some(first) = known.first() {
            let both = Equivocation::Proposals(first.clone(), short.clone());
            office.outputs.push_back(Output::Equivocation(both));
        }
        self.desk.proposals.entry(proposal.round).or_default().push(short);
        self.show(office, &proposal, header);
    }

    fn check(&self, proposal: &Proposal, short: &SignedProposal) -> Result<(), &'static str> {
        let header = &proposal.value.header;
        let (height, epoch) = (self.desk.height, self.desk.set.epoch());
        if proposal.proposer != self.desk.members.proposer(height, proposal.round) {
            return Err("a proposal of an operator whose turn it isn't");
        }
        if proposal.valid_round.is_some_and(|valid| valid >= proposal.round) {
            return Err("a proposal that was prevoted in a later round");
        }
        if (header.height, header.epoch) != (height, epoch) {
            return Err("a proposal for another height or epoch");
        }
        if !short.verify(&self.desk.set) {
            return Err("a proposal with a bad signature");
        }
        // The proposer signs the header only: whoever passes it on may have changed the cut.
        if proposal.value.is_whole() { Ok(()) } else { Err("a proposal with another cut") }
    }

    /// Gives the core a proposal that was checked, and has its value judged if it wasn't.
    fn show(&mut self, office: &mut Office, proposal: &Proposal, id: HeaderId) {
        let known =
            self.desk.values.get(&id).map(|known| (Arc::clone(&known.value), known.verdict));
        let (value, verdict) = known.unwrap_or_else(|| {
            let value = Arc::new(proposal.value.clone());
            let judgement = Judgement { value: Arc::clone(&value), verdict: None };
            self.desk.values.insert(id, judgement);
            self.ask_to_judge(office, &value, proposal.proposer);
            (value, None)
        });
        let candidate = Candidate { id, value };
        self.feed(office, CoreInput::Proposal(offer(proposal, candidate.clone())));
        if let Some(valid) = verdict {
            self.feed_value(office, proposal.round, candidate, valid);
        }
    }

    fn ask_to_judge(&self, office: &mut Office, value: &Arc<Value>, proposer: OperatorIndex) {
        if self.desk.replay.is_none() {
            let value = Box::new(value.as_ref().clone());
            office.outputs.push_back(Output::Judge { value, proposer });
        }
    }

    /// Tells the core what the application says of the value of a round's proposal.
    fn feed_value(&mut self, office: &mut Office, round: u32, candidate: Candidate, valid: bool) {
        let height = CoreHeight(self.desk.height.0);
        let at = Round::new(round);
        if self.core.full_proposal_at_round_and_value(&height, at, &candidate).is_none() {
            let proposed = ProposedValue {
                height,
                round: at,
                valid_round: Round::Nil,
                proposer: Seat(self.desk.members.proposer(self.desk.height, round)),
                value: candidate,
                validity: Validity::from_bool(valid),
            };
            self.feed(office, CoreInput::ProposedValue(proposed, ValueOrigin::Consensus));
        }
    }

    fn rounds_of(&self, header: HeaderId) -> Vec<u32> {
        let of = |proposals: &[SignedProposal]| proposals.iter().any(|p| p.header == header);
        self.desk.proposals.iter().filter(|(_, p)| of(p)).map(|(round, _)| *round).collect()
    }

    fn propose(&mut self, office: &mut Office, round: u32, candidate: Candidate) {
        self.desk.wanted = None;
        let judgement = Judgement { value: Arc::clone(&candidate.value), verdict: Some(true) };
        self.desk.values.entry(candidate.id).or_insert(judgement).verdict = Some(true);
        let (height, round) = (CoreHeight(self.desk.height.0), Round::new(round));
        let value = LocallyProposedValue { height, round, value: candidate };
        self.feed(office, CoreInput::Propose(value));
    }
}

/// After a crash.
impl Instance {
    /// Learns what was signed before anything else happens, so that nothing contradicts it.
    fn remember(&mut self, log: &[LogEntry]) {
        if log.is_empty() {
            return;
        }
        self.core.index_wal_entries([]); // rounds far ahead were let in when they were logged
        self.desk.replay = Some(log.iter().map(digest_of).collect());
        let chain = self.desk.set.chain().clone();
        for entry in log {
            match entry {
                LogEntry::Vote(vote) if vote.operator == self.desk.me.0 => {
                    if let Some(own) = Verified::trusted(vote.clone()) {
                        self.desk.votes.count(own);
                    }
                }
                LogEntry::Proposal(own) if own.proposer == self.desk.me.0 => {
                    let short = SignedProposal::of(own, own.value.header.id(&chain));
                    self.desk.proposals.entry(own.round).or_default().push(short);
                }
                _ => {}
            }
        }
    }

    fn replay(&mut self, office: &mut Office, log: Vec<LogEntry>) {
        if self.desk.replay.is_none() {
            return;
        }
        for entry in log {
            self.replay_entry(office, entry);
        }
        self.core.reset_entries_index();
        self.desk.replay = None;
        self.desk.ask_for_value(office);
        let judge = |judgement: &&Judgement| judgement.verdict.is_none();
        let open: Vec<_> =
            self.desk.values.values().filter(judge).map(|j| Arc::clone(&j.value)).collect();
        for value in open {
            let id = value.header.id(&office.chain);
            let proposer = self.rounds_of(id).first().map_or(self.desk.me.0, |round| {
                self.desk.members.proposer(self.desk.height, *round)
            });
            self.ask_to_judge(office, &value, proposer);
        }
    }

    fn replay_entry(&mut self, office: &mut Office, entry: LogEntry) {
        match entry {
            LogEntry::Vote(vote) => {
                let signed = ballot(&vote);
                if let Some(vote) = Verified::trusted(vote) {
                    self.desk.votes.count(vote);
                    self.feed(office, CoreInput::Vote(signed));
                }
            }
            LogEntry::Proposal(proposal) => self.replay_proposal(office, &proposal),
            LogEntry::Polka(certificate) => {
                self.feed(office, CoreInput::PolkaCertificate(core_polka(&certificate)));
            }
            LogEntry::Judged { header, valid } => self.judged(office, header, valid),
            LogEntry::Waited { round, what } => {
                self.desk.waits.remove(&(what, round));
                self.feed(office, CoreInput::TimeoutElapsed(timeout_of(what, round)));
            }
        }
    }

    /// An own proposal answers the question for a value that the core has asked again; it then proposes, and gets the same
    /// signature.
    fn replay_proposal(&mut self, office: &mut Office, proposal: &Proposal) {
        let id = proposal.value.header.id(&office.chain);
        let own = proposal.proposer == self.desk.me.0;
        if own && self.desk.wanted == Some(proposal.round) {
            let value = Arc::new(proposal.value.clone());
            return self.propose(office, proposal.round, Candidate { id, value });
        }
        if !own {
            let short = SignedProposal::of(proposal, id);
            self.desk.proposals.entry(proposal.round).or_default().push(short);
        }
        self.show(office, proposal, id);
    }
}

/// The decision.
impl Instance {
    /// Tells it when its time has come, or when there's nobody left to wait for.
    fn tell(&mut self, office: &mut Office) {
        let Some(Decision { round, header, due, told: false }) = self.desk.decision else { return };
        let count = self.desk.votes.precommits(round, Some(header)).count();
        if office.now < due && count < usize::from(self.desk.set.size()) {
            return;
        }
        let waiting = self.batches.take(round, Some(header));
        self.precommits(office, waiting);
        let checkpoint = self.checkpoint(round, header);
        let (due, told) = (office.now + office.config.rebroadcast, checkpoint.is_some());
        self.desk.decision = Some(Decision { round, header, due, told });
        if let Some((checkpoint, cut)) = checkpoint {
            let (checkpoint, cut) = (Box::new(checkpoint), Box::new(cut));
            office.outputs.push_back(Output::Decided { checkpoint, cut });
        }
    }

    /// `None` while the signers' stake is no quorum by the set's own count: where stakes had to be scaled, the core's may
    /// differ by a rounding.
    fn checkpoint(&self, round: u32, header: HeaderId) -> Option<(Checkpoint, lamina_types::Cut)> {
        let set = &self.desk.set;
        let mut signers = SignerBitmap::empty(set.size());
        let precommits = self.desk.votes.precommits(round, Some(header));
        let signatures: Vec<_> = precommits
            .map(|(operator, signature)| {
                signers.insert(operator);
                signature
            })
            .collect();
        if !set.is_quorum(set.stake_of(&signers)) {
            return None;
        }
        let signature = Signature::aggregate(signatures).ok()?;
        let value = &self.desk.values.get(&header)?.value;
        let (epoch, height) = (set.epoch(), self.desk.height);
        let certificate =
            CheckpointCertificate { epoch, height, round, header, signers, signature };
        let checkpoint = Checkpoint { header: value.header.clone(), certificate };
        Some((checkpoint, value.cut.clone()))
    }
}
