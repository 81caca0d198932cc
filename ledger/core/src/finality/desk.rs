//! What the core asks for at one height, and what is remembered of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arc_malachitebft_core_consensus as consensus;
use arc_malachitebft_core_types as types;
use consensus::{Effect, LivenessMsg, Resumable as _, Resume, SignedConsensusMsg};
use lamina_certificate::{CONSENSUS_OPERATORS_MAX, OperatorSet};
use lamina_types::{
    Canonical as _, ChainId, Digest, HeaderId, Height, PeerKey, Timestamp, signing,
};
use rand_chacha::ChaCha20Rng;
use types::{SignedMessage, Timeout, TimeoutKind};

use super::config::Config;
use super::context::{
    Ballot, CoreInput, Malachite, Members, Offer, Seal, Seat, SignedBallot, SignedOffer, number,
    polka, proposal, rounds, vote,
};
use super::engine::{Output, Signer};
use super::equivocation::SignedProposal;
use super::log::{LogEntry, Wait};
use super::message::{ConsensusMessage, Proposal, Step, Value, VoteSignature, vote_digest};
use super::votes::{Verified, Votes};

/// What outlives a height.
pub(super) struct Office {
    pub(super) config: Config,
    pub(super) chain: ChainId,
    pub(super) key: PeerKey,
    pub(super) signer: Option<Box<dyn Signer>>,
    pub(super) rng: ChaCha20Rng,
    pub(super) now: Timestamp,
    pub(super) outputs: VecDeque<Output>,
}

impl Office {
    pub(super) fn offence(&mut self, from: PeerKey, what: &'static str) {
        self.outputs.push_back(Output::Offence(from, what));
    }

    fn publish(&mut self, message: ConsensusMessage) {
        self.outputs.push_back(Output::Publish(message));
    }
}

/// A value that was proposed, and what the application says of it.
#[derive(Debug)]
pub(super) struct Judgement {
    pub(super) value: Arc<Value>,
    pub(super) verdict: Option<bool>,
}

/// What a quorum precommitted.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) round: u32,
    pub(super) header: HeaderId,
    /// When it's told.
    pub(super) due: Timestamp,
    pub(super) told: bool,
}

/// What is remembered of a height beside the core's state.
pub(super) struct Desk {
    pub(super) height: Height,
    pub(super) set: Arc<OperatorSet>,
    pub(super) members: Members,
    pub(super) me: Seat,
    pub(super) votes: Votes,
    /// Values by their headers; as many as there are proposals.
    pub(super) values: BTreeMap<HeaderId, Judgement>,
    /// Proposals by their rounds: the first, and another one as evidence.
    pub(super) proposals: BTreeMap<u32, Vec<SignedProposal>>,
    pub(super) waits: BTreeMap<(Wait, u32), Timestamp>,
    /// The round that the application is to make a value for.
    pub(super) wanted: Option<u32>,
    /// While the log is replayed: the digests of its entries, which aren't logged again.
    pub(super) replay: Option<BTreeSet<Digest>>,
    pub(super) decision: Option<Decision>,
    /// What is said again from time to time.
    own_proposal: Option<Proposal>,
    votes_itself: bool,
}

impl Desk {
    pub(super) fn new(office: &Office, height: Height, set: Arc<OperatorSet>) -> Self {
        assert_eq!(set.chain(), &office.chain, "a set of another network");
        assert!(usize::from(set.size()) <= CONSENSUS_OPERATORS_MAX, "not a consensus set");
        let me = set.index_of_peer(&office.key).map_or(Seat::NONE, Seat);
        // Who is registered with another BLS key can't sign: its votes would be forged ones.
        let key = office.signer.as_ref().map(|signer| signer.bls_public_key());
        let registered = set.get(me.0).map(|operator| operator.bls);
        Self {
            height,
            members: Members::of(&set),
            set,
            me,
            votes: Votes::default(),
            values: BTreeMap::new(),
            proposals: BTreeMap::new(),
            waits: BTreeMap::new(),
            wanted: None,
            replay: None,
            decision: None,
            own_proposal: None,
            votes_itself: me != Seat::NONE && key.is_some() && key == registered,
        }
    }

    /// Whether it's an operator's, with its keys.
    pub(super) const fn votes_itself(&self) -> bool {
        self.votes_itself
    }

    /// Logs what must be known after a crash: for those who sign.
    pub(super) fn log(&self, office: &mut Office, entry: LogEntry) {
        let known = |logged: &BTreeSet<Digest>| logged.contains(&digest_of(&entry));
        if self.votes_itself && !self.replay.as_ref().is_some_and(known) {
            office.outputs.push_back(Output::Log(entry));
        }
    }

    /// Asks the application for what it owes, once there's no log left that may hold it.
    pub(super) fn ask_for_value(&self, office: &mut Office) {
        if let (Some(round), None) = (self.wanted, &self.replay) {
            office.outputs.push_back(Output::Propose { height: self.height, round });
        }
    }

    /// Says the round's own proposal again: the core repeats votes only.
    pub(super) fn repeat_proposal(&self, office: &mut Office, round: u32) {
        if let Some(own) = self.own_proposal.as_ref().filter(|own| own.round == round) {
            office.publish(ConsensusMessage::Proposal(Box::new(own.clone())));
        }
    }

    pub(super) fn effect(
        &mut self,
        office: &mut Office,
        effect: Effect<Malachite>,
    ) -> Resume<Malachite> {
        match effect {
            Effect::CancelAllTimeouts(r) => {
                self.waits.clear();
                r.resume_with(())
            }
            Effect::CancelTimeout(timeout, r) => {
                if let Some(wait) = wait_of(timeout.kind) {
                    self.waits.remove(&(wait, number(timeout.round)));
                }
                r.resume_with(())
            }
            Effect::ScheduleTimeout(timeout, r) => {
                self.wait(office, timeout);
                r.resume_with(())
            }
            Effect::StartRound(_, _, _, _, r) => {
                self.wanted = None;
                r.resume_with(())
            }
            Effect::GetValue(_, round, _, r) => {
                self.wanted = Some(number(round));
                self.ask_for_value(office);
                r.resume_with(())
            }
            Effect::Decide(certificate, _, r) => {
                let (round, header) = (number(certificate.round), certificate.value_id);
                let due = office.now + office.config.gather;
                self.decision = Some(Decision { round, header, due, told: false });
                r.resume_with(())
            }
            Effect::SignVote(ballot, r) => r.resume_with(self.sign_vote(office, ballot)),
            Effect::SignProposal(offer, r) => r.resume_with(self.sign_proposal(office, offer)),
            Effect::WalAppend(_, input, r) => {
                if let Some(entry) = entry_of(&input) {
                    self.log(office, entry);
                }
                r.resume_with(())
            }
            other => self.publish_or_verify(office, other),
        }
    }

    fn publish_or_verify(
        &mut self,
        office: &mut Office,
        effect: Effect<Malachite>,
    ) -> Resume<Malachite> {
        match effect {
            Effect::PublishConsensusMsg(SignedConsensusMsg::Vote(ballot), r)
            | Effect::PublishLivenessMsg(LivenessMsg::Vote(ballot), r)
            | Effect::RepublishVote(ballot, r) => {
                if let Some(vote) = vote(&ballot) {
                    office.publish(ConsensusMessage::Vote(vote));
                }
                r.resume_with(())
            }
            Effect::PublishConsensusMsg(SignedConsensusMsg::Proposal(offer), r) => {
                self.publish_proposal(office, &offer);
                r.resume_with(())
            }
            Effect::PublishLivenessMsg(LivenessMsg::PolkaCertificate(certificate), r) => {
                office.publish(ConsensusMessage::Polka(polka(&certificate)));
                r.resume_with(())
            }
            Effect::PublishLivenessMsg(LivenessMsg::SkipRoundCertificate(certificate), r)
            | Effect::RepublishRoundCertificate(certificate, r) => {
                office.publish(ConsensusMessage::Rounds(rounds(&certificate)));
                r.resume_with(())
            }
            // All that the core gets was verified before, but for an own message whose signature was withheld.
            Effect::VerifySignature(signed, (), r) => {
                r.resume_with(signed.signature != Seal::Withheld)
            }
            Effect::VerifyCommitCertificate(_, _, _, r)
            | Effect::VerifyPolkaCertificate(_, _, _, r)
            | Effect::VerifyRoundCertificate(_, _, _, r)
            | Effect::VerifyExtendedCommitCertificate(_, _, _, _, r) => r.resume_with(Ok(())),
            // A vote has no extension.
            Effect::ExtendVote(_, _, _, _, r) => r.resume_with(None),
            Effect::VerifyVoteExtension(_, _, _, _, _, _, r) => r.resume_with(Ok(())),
            // A proposal carries its value, and late nodes are given whole checkpoints.
            _ => Resume::Continue,
        }
    }

    fn publish_proposal(&mut self, office: &mut Office, offer: &SignedOffer) {
        let Some(proposal) = proposal(offer) else { return };
        if proposal.proposer == self.me.0 {
            self.own_proposal = Some(proposal.clone());
        }
        office.publish(ConsensusMessage::Proposal(Box::new(proposal)));
    }

    fn wait(&mut self, office: &Office, timeout: Timeout) {
        let Some(wait) = wait_of(timeout.kind) else { return };
        let round = number(timeout.round);
        let config = &office.config;
        let (first, growth) = match wait {
            Wait::Propose => (config.propose, config.growth),
            Wait::Prevote => (config.prevote, config.growth),
            Wait::Precommit => (config.precommit, config.growth),
            Wait::Rebroadcast => (config.rebroadcast, Duration::ZERO),
        };
        let longest = config.longest.max(first);
        let duration = first.saturating_add(growth.saturating_mul(round)).min(longest);
        self.waits.insert((wait, round), office.now + duration);
    }

    /// Signs, unless something was signed for this round and step: then the same signature again, or none if it's for
    /// something else. What was signed is known from the log; after a restore without one, from peers who repeat it.
    fn sign_vote(&mut self, office: &Office, ballot: Ballot) -> SignedBallot {
        let earlier = self.votes.of(ballot.round, ballot.step, self.me.0);
        if let Some(same) = earlier.iter().find(|e| e.vote().header == ballot.id()) {
            return super::context::ballot(same.vote());
        }
        let signer = office.signer.as_ref().filter(|_| earlier.is_empty());
        let Some(signer) = signer else { return SignedMessage::new(ballot, Seal::Withheld) };
        let (height, round) = (self.height, ballot.round);
        let (chain, epoch) = (&office.chain, self.set.epoch());
        let digest = vote_digest(ballot.step, chain, epoch, height, round, ballot.id().as_ref());
        let signature = match ballot.step {
            Step::Prevote => VoteSignature::Prevote(signer.ed25519(&digest)),
            Step::Precommit => VoteSignature::Precommit(signer.bls(&digest).to_bytes()),
        };
        let operator = self.me.0;
        let vote = super::message::Vote { height, round, header: ballot.id(), operator, signature };
        let signed = super::context::ballot(&vote);
        if let Some(vote) = Verified::trusted(vote) {
            self.votes.count(vote);
        }
        signed
    }

    /// As with votes.
    fn sign_proposal(&mut self, office: &Office, offer: Offer) -> SignedOffer {
        let header = offer.candidate.id;
        let earlier = self.proposals.entry(offer.round).or_default();
        let same = |e: &&SignedProposal| (e.header, e.valid_round) == (header, offer.valid_round);
        if let Some(same) = earlier.iter().find(same) {
            let seal = Seal::Ed25519(same.signature);
            return SignedMessage::new(offer, seal);
        }
        let signer = office.signer.as_ref().filter(|_| earlier.is_empty());
        let Some(signer) = signer else { return SignedMessage::new(offer, Seal::Withheld) };
        let (height, round, valid_round) = (self.height, offer.round, offer.valid_round);
        let epoch = self.set.epoch();
        let chain = &office.chain;
        let digest =
            signing::checkpoint_proposal(chain, epoch, height, round, valid_round, &header);
        let signature = signer.ed25519(&digest);
        let proposer = self.me.0;
        earlier.push(SignedProposal { height, round, valid_round, header, proposer, signature });
        SignedMessage::new(offer, Seal::Ed25519(signature))
    }
}

/// What an entry is told apart by.
pub(super) fn digest_of(entry: &LogEntry) -> Digest {
    Digest::of(&entry.to_bytes())
}

/// What is logged of what the core asks to log. Values aren't: they come with their proposals, and what the application
/// said of them is logged where it's heard.
fn entry_of(input: &CoreInput) -> Option<LogEntry> {
    match input {
        CoreInput::Vote(ballot) => vote(ballot).map(LogEntry::Vote),
        CoreInput::Proposal(offer) => proposal(offer).map(Box::new).map(LogEntry::Proposal),
        CoreInput::PolkaCertificate(certificate) => Some(LogEntry::Polka(polka(certificate))),
        CoreInput::TimeoutElapsed(timeout) => {
            let what = wait_of(timeout.kind)?;
            Some(LogEntry::Waited { round: number(timeout.round), what })
        }
        _ => None,
    }
}

const fn wait_of(kind: TimeoutKind) -> Option<Wait> {
    match kind {
        TimeoutKind::Propose => Some(Wait::Propose),
        TimeoutKind::Prevote => Some(Wait::Prevote),
        TimeoutKind::Precommit => Some(Wait::Precommit),
        TimeoutKind::Rebroadcast => Some(Wait::Rebroadcast),
        TimeoutKind::FinalizeHeight(_) => None,
    }
}

pub(super) const fn timeout_of(wait: Wait, round: u32) -> Timeout {
    let round = types::Round::new(round);
    match wait {
        Wait::Propose => Timeout::propose(round),
        Wait::Prevote => Timeout::prevote(round),
        Wait::Precommit => Timeout::precommit(round),
        Wait::Rebroadcast => Timeout::rebroadcast(round),
    }
}
