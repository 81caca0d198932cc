//! Malachite's view of us: the types that its core is generic over, and the way between them and ours.
//!
//! An address is the operator's index in the height's consensus set. Keys are empty: the core never verifies anything
//! itself, and what it gets has been verified.

use std::fmt;
use std::sync::Arc;

use arc_malachitebft_core_consensus as consensus;
use arc_malachitebft_core_types as types;
use lamina_certificate::OperatorSet;
use lamina_types::{HeaderId, Height, List, OperatorIndex};
use types::{NilOrVal, Round, SignedExtension, SignedMessage, VoteType};

use super::message::{
    PolkaCertificate, Proposal, RoundCertificate, RoundVote, Step, Value, Vote, VoteSignature,
};

/// The type of all types.
#[derive(Debug, Clone)]
pub(super) struct Malachite;

pub(super) type State = consensus::State<Malachite>;
pub(super) type CoreInput = consensus::Input<Malachite>;
pub(super) type SignedBallot = SignedMessage<Malachite, Ballot>;
pub(super) type SignedOffer = SignedMessage<Malachite, Offer>;

/// An operator's index. [`Seat::NONE`] is for a node that is in no set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seat(pub(super) OperatorIndex);

impl Seat {
    /// No set is as large.
    pub(super) const NONE: Self = Self(OperatorIndex(u16::MAX));
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.0)
    }
}

impl types::Address for Seat {}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct CoreHeight(pub(super) u64);

impl fmt::Display for CoreHeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl types::Height for CoreHeight {
    const ZERO: Self = Self(0);
    const INITIAL: Self = Self(1);

    fn increment_by(&self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }

    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Self)
    }

    fn as_u64(&self) -> u64 {
        self.0
    }
}

/// A value with its header's hash, which is what it's compared by: the value's cut is the one that its header names.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) id: HeaderId,
    pub(super) value: Arc<Value>,
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.id.cmp(&other.id)
    }
}

impl types::Value for Candidate {
    type Id = HeaderId;

    fn id(&self) -> HeaderId {
        self.id
    }
}

/// A signature, verified or our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Seal {
    /// None: the own message that it's on must not be signed, and goes nowhere.
    Withheld,
    Ed25519([u8; 64]),
    Bls([u8; 96]),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scheme;

impl types::SigningScheme for Scheme {
    type DecodingError = &'static str;
    type Signature = Seal;
    type PublicKey = ();
    type PrivateKey = ();

    fn decode_signature(bytes: &[u8]) -> Result<Seal, &'static str> {
        let ed25519 = bytes.try_into().map(Seal::Ed25519);
        ed25519.or_else(|_| bytes.try_into().map(Seal::Bls)).map_err(|_| "neither 64 nor 96 bytes")
    }

    fn encode_signature(signature: &Seal) -> Vec<u8> {
        match signature {
            Seal::Withheld => Vec::new(),
            Seal::Ed25519(bytes) => bytes.to_vec(),
            Seal::Bls(bytes) => bytes.to_vec(),
        }
    }

    fn decode_public_key(_: &[u8]) -> Result<(), &'static str> {
        Ok(())
    }

    fn encode_public_key((): &()) -> Vec<u8> {
        Vec::new()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    seat: Seat,
    power: u64,
}

impl types::Validator<Malachite> for Member {
    fn address(&self) -> &Seat {
        &self.seat
    }

    fn public_key(&self) -> &() {
        &()
    }

    fn voting_power(&self) -> u64 {
        self.power
    }
}

/// The consensus set, in the operator set's order. Shared: the core clones it often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Members {
    all: Arc<[Member]>,
    total: u64,
}

impl Members {
    /// A member's power is its stake in gwei. The core triples sums of it in 64 bits, so where the total is above a
    /// quarter of that (fifty times all ether there is) every stake is divided by the same power of two; none gets less
    /// than 1.
    pub(super) fn of(set: &OperatorSet) -> Self {
        const TOTAL_MAX: u64 = u64::MAX / 4;
        let shift = (0..).find(|shift| set.stake_gwei() >> shift < TOTAL_MAX).unwrap_or(0);
        let member = |(index, operator): (OperatorIndex, &lamina_certificate::Operator)| Member {
            seat: Seat(index),
            power: (operator.stake_gwei >> shift).max(1),
        };
        let all: Arc<[Member]> = set.iter().map(member).collect();
        let total = all.iter().map(|member| member.power).sum();
        Self { all, total }
    }

    pub(super) fn power(&self, operator: OperatorIndex) -> u64 {
        self.all.get(usize::from(operator.0)).map_or(0, |member| member.power)
    }

    pub(super) fn is_quorum(&self, power: u64) -> bool {
        types::ThresholdParam::TWO_F_PLUS_ONE.is_met(power, self.total)
    }

    pub(super) fn is_more_than_a_third(&self, power: u64) -> bool {
        types::ThresholdParam::F_PLUS_ONE.is_met(power, self.total)
    }

    /// Who proposes: everyone in turn, whatever its stake, beginning with another one at each height. That bounds how many
    /// rounds in a row those who are down can cost, which a draw by stake wouldn't.
    pub(super) fn proposer(&self, height: Height, round: u32) -> OperatorIndex {
        let count = self.all.len() as u64;
        let turn = (height.0 % count + u64::from(round)) % count;
        OperatorIndex(u16::try_from(turn).expect("a set's size fits into 16 bits"))
    }
}

impl types::ValidatorSet<Malachite> for Members {
    fn count(&self) -> usize {
        self.all.len()
    }

    fn total_voting_power(&self) -> u64 {
        self.total
    }

    fn get_by_address(&self, seat: &Seat) -> Option<&Member> {
        self.all.get(usize::from(seat.0.0))
    }

    fn get_by_index(&self, index: usize) -> Option<&Member> {
        self.all.get(index)
    }
}

/// A vote without its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ballot {
    pub(super) step: Step,
    pub(super) height: CoreHeight,
    pub(super) round: u32,
    pub(super) header: NilOrVal<HeaderId>,
    pub(super) seat: Seat,
}

impl Ballot {
    pub(super) fn id(&self) -> Option<HeaderId> {
        header_of(&self.header)
    }
}

impl types::Vote<Malachite> for Ballot {
    fn height(&self) -> CoreHeight {
        self.height
    }

    fn round(&self) -> Round {
        Round::new(self.round)
    }

    fn value(&self) -> &NilOrVal<HeaderId> {
        &self.header
    }

    fn take_value(self) -> NilOrVal<HeaderId> {
        self.header
    }

    fn vote_type(&self) -> VoteType {
        match self.step {
            Step::Prevote => VoteType::Prevote,
            Step::Precommit => VoteType::Precommit,
        }
    }

    fn validator_address(&self) -> &Seat {
        &self.seat
    }

    fn extension(&self) -> Option<&SignedExtension<Malachite>> {
        None
    }

    fn take_extension(&mut self) -> Option<SignedExtension<Malachite>> {
        None
    }

    fn extend(self, _: SignedExtension<Malachite>) -> Self {
        self
    }
}

/// A proposal without its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) height: CoreHeight,
    pub(super) round: u32,
    pub(super) candidate: Candidate,
    pub(super) valid_round: Option<u32>,
    pub(super) seat: Seat,
}

impl types::Proposal<Malachite> for Offer {
    fn height(&self) -> CoreHeight {
        self.height
    }

    fn round(&self) -> Round {
        Round::new(self.round)
    }

    fn value(&self) -> &Candidate {
        &self.candidate
    }

    fn take_value(self) -> Candidate {
        self.candidate
    }

    fn pol_round(&self) -> Round {
        Round::from(self.valid_round)
    }

    fn validator_address(&self) -> &Seat {
        &self.seat
    }
}

/// There are no parts: a proposal carries its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part;

impl types::ProposalPart<Malachite> for Part {
    fn is_first(&self) -> bool {
        true
    }

    fn is_last(&self) -> bool {
        true
    }
}

impl types::Context for Malachite {
    type Address = Seat;
    type Height = CoreHeight;
    type ProposalPart = Part;
    type Proposal = Offer;
    type Validator = Member;
    type ValidatorSet = Members;
    type Timeouts = types::LinearTimeouts;
    type Value = Candidate;
    type Vote = Ballot;
    type Extension = ();
    type SigningScheme = Scheme;

    fn select_proposer<'a>(
        &self,
        members: &'a Members,
        height: CoreHeight,
        round: Round,
    ) -> &'a Member {
        let proposer = members.proposer(Height(height.0), number(round));
        &members.all[usize::from(proposer.0)]
    }

    fn new_proposal(
        &self,
        height: CoreHeight,
        round: Round,
        candidate: Candidate,
        valid_round: Round,
        seat: Seat,
    ) -> Offer {
        let valid_round = valid_round.as_u32();
        Offer { height, round: number(round), candidate, valid_round, seat }
    }

    fn new_prevote(
        &self,
        height: CoreHeight,
        round: Round,
        header: NilOrVal<HeaderId>,
        seat: Seat,
    ) -> Ballot {
        Ballot { step: Step::Prevote, height, round: number(round), header, seat }
    }

    fn new_precommit(
        &self,
        height: CoreHeight,
        round: Round,
        header: NilOrVal<HeaderId>,
        seat: Seat,
    ) -> Ballot {
        Ballot { step: Step::Precommit, height, round: number(round), header, seat }
    }
}

/// The number of a round in which something happens.
pub(super) fn number(round: Round) -> u32 {
    round.as_u32().unwrap_or(0)
}

fn header_of(header: &NilOrVal<HeaderId>) -> Option<HeaderId> {
    match header {
        NilOrVal::Nil => None,
        NilOrVal::Val(id) => Some(*id),
    }
}

fn nil_or(header: Option<HeaderId>) -> NilOrVal<HeaderId> {
    header.map_or(NilOrVal::Nil, NilOrVal::Val)
}

const fn seal_of(signature: &VoteSignature) -> Seal {
    match signature {
        VoteSignature::Prevote(bytes) => Seal::Ed25519(*bytes),
        VoteSignature::Precommit(bytes) => Seal::Bls(*bytes),
    }
}

const fn signature_of(seal: &Seal) -> Option<VoteSignature> {
    match seal {
        Seal::Withheld => None,
        Seal::Ed25519(bytes) => Some(VoteSignature::Prevote(*bytes)),
        Seal::Bls(bytes) => Some(VoteSignature::Precommit(*bytes)),
    }
}

const fn vote_type(signature: &VoteSignature) -> VoteType {
    match signature {
        VoteSignature::Prevote(_) => VoteType::Prevote,
        VoteSignature::Precommit(_) => VoteType::Precommit,
    }
}

pub(super) fn ballot(vote: &Vote) -> SignedBallot {
    let ballot = Ballot {
        step: vote.step(),
        height: CoreHeight(vote.height.0),
        round: vote.round,
        header: nil_or(vote.header),
        seat: Seat(vote.operator),
    };
    SignedMessage::new(ballot, seal_of(&vote.signature))
}

/// `None` if the signature was withheld.
pub(super) fn vote(signed: &SignedBallot) -> Option<Vote> {
    let Ballot { height, round, seat, .. } = &signed.message;
    Some(Vote {
        height: Height(height.0),
        round: *round,
        header: signed.message.id(),
        operator: seat.0,
        signature: signature_of(&signed.signature)?,
    })
}

pub(super) fn offer(proposal: &Proposal, candidate: Candidate) -> SignedOffer {
    let offer = Offer {
        height: CoreHeight(proposal.height.0),
        round: proposal.round,
        candidate,
        valid_round: proposal.valid_round,
        seat: Seat(proposal.proposer),
    };
    SignedMessage::new(offer, Seal::Ed25519(proposal.signature))
}

/// `None` if the signature was withheld.
pub(super) fn proposal(signed: &SignedOffer) -> Option<Proposal> {
    let Offer { height, round, candidate, valid_round, seat } = &signed.message;
    let Seal::Ed25519(signature) = signed.signature else { return None };
    Some(Proposal {
        height: Height(height.0),
        round: *round,
        valid_round: *valid_round,
        value: candidate.value.as_ref().clone(),
        proposer: seat.0,
        signature,
    })
}

pub(super) fn core_polka(certificate: &PolkaCertificate) -> types::PolkaCertificate<Malachite> {
    let signature = |(operator, bytes): &(OperatorIndex, [u8; 64])| {
        types::PolkaSignature::new(Seat(*operator), Seal::Ed25519(*bytes))
    };
    types::PolkaCertificate {
        height: CoreHeight(certificate.height.0),
        round: Round::new(certificate.round),
        value_id: certificate.header,
        polka_signatures: certificate.prevotes.as_slice().iter().map(signature).collect(),
    }
}

pub(super) fn polka(certificate: &types::PolkaCertificate<Malachite>) -> PolkaCertificate {
    let prevote = |s: &types::PolkaSignature<Malachite>| match s.signature {
        Seal::Ed25519(bytes) => Some((s.address.0, bytes)),
        Seal::Withheld | Seal::Bls(_) => None,
    };
    PolkaCertificate {
        height: Height(certificate.height.0),
        round: number(certificate.round),
        header: certificate.value_id,
        prevotes: List::truncated(certificate.polka_signatures.iter().filter_map(prevote)),
    }
}

pub(super) fn core_rounds(certificate: &RoundCertificate) -> types::RoundCertificate<Malachite> {
    use types::RoundCertificateType::{Precommit, Skip};
    let signature = |vote: &RoundVote| {
        types::RoundSignature::new(
            vote_type(&vote.signature),
            nil_or(vote.header),
            Seat(vote.operator),
            seal_of(&vote.signature),
        )
    };
    types::RoundCertificate {
        height: CoreHeight(certificate.height.0),
        round: Round::new(certificate.round),
        cert_type: if certificate.skip { Skip } else { Precommit },
        round_signatures: certificate.votes.as_slice().iter().map(signature).collect(),
    }
}

pub(super) fn rounds(certificate: &types::RoundCertificate<Malachite>) -> RoundCertificate {
    let vote = |s: &types::RoundSignature<Malachite>| {
        let signature = signature_of(&s.signature)?;
        Some(RoundVote { operator: s.address.0, header: header_of(&s.value_id), signature })
    };
    RoundCertificate {
        height: Height(certificate.height.0),
        round: number(certificate.round),
        skip: certificate.cert_type == types::RoundCertificateType::Skip,
        votes: List::truncated(certificate.round_signatures.iter().filter_map(vote)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lamina_certificate::{Operator, SecretKey};
    use lamina_types::{Address, EpochNumber, PeerKey};
    use types::ValidatorSet as _;

    fn members(stakes: &[u64]) -> Members {
        let operator = |(seed, stake): (u8, &u64)| Operator {
            address: Address([seed; 20]),
            peer_key: PeerKey([seed; 32]),
            bls: SecretKey::derive(&[seed; 32]).public_key(),
            stake_gwei: *stake,
        };
        let operators = (0..).zip(stakes).map(operator).collect();
        let chain = "lamina-test-1".parse().unwrap();
        Members::of(&OperatorSet::of_operators(chain, EpochNumber(0), operators).unwrap())
    }

    #[test]
    fn stake_is_power_where_it_can_be_tripled() {
        let members = members(&[1_000_000_000, 3]);
        assert_eq!(members.total_voting_power(), 1_000_000_003);
        assert_eq!(members.power(OperatorIndex(1)), 3);
        assert_eq!(members.power(OperatorIndex(2)), 0);
    }

    #[test]
    fn the_largest_stakes_are_scaled_and_the_smallest_still_count() {
        let members = members(&[u64::MAX / 2, u64::MAX / 2, 1]);
        assert!(members.total_voting_power().checked_mul(3).is_some());
        assert_eq!(members.power(OperatorIndex(2)), 1);
        assert!(!members.is_quorum(members.power(OperatorIndex(0))));
        assert!(members.is_more_than_a_third(members.power(OperatorIndex(0))));
    }

    #[test]
    fn everyone_proposes_in_turn() {
        let members = members(&[1, 90, 1]);
        let turns = |height, round| members.proposer(Height(height), round).0;
        assert_eq!([turns(4, 0), turns(4, 1), turns(4, 2), turns(5, 0)], [1, 2, 0, 2]);
        assert!(turns(u64::MAX, u32::MAX) < 3);
    }
}
