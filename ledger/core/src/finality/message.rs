//! What operators tell each other, as it goes over the wire. The signatures are raw bytes until they're verified, so that
//! a message that comes a second time costs nothing.

use borsh::{BorshDeserialize, BorshSerialize};
use lamina_certificate::{CONSENSUS_OPERATORS_MAX, OperatorSet, Signature};
use lamina_types::{
    CUT_BYTES_MAX, Canonical, ChainId, CheckpointHeader, Cut, Digest, EpochNumber, HeaderId,
    Height, List, OperatorIndex, PeerKey, signing,
};

/// What a height decides on.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Value {
    /// The header.
    pub header: CheckpointHeader,
    /// The cut that it names.
    pub cut: Cut,
}

impl Value {
    /// Whether the cut is the one that the header names. Encodes and hashes it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.cut.digest() == self.header.cut
    }
}

/// The two votes of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum Step {
    /// The first.
    Prevote,
    /// The second.
    Precommit,
}

/// A signature whose scheme is its vote's step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum VoteSignature {
    /// ed25519, by the operator's node.
    Prevote([u8; 64]),
    /// BLS12-381, compressed.
    Precommit([u8; 96]),
}

/// An operator's vote on a round's value, or on none.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Vote {
    /// The checkpoint's number.
    pub height: Height,
    /// The round.
    pub round: u32,
    /// What for; `None` is a vote for no value.
    pub header: Option<HeaderId>,
    /// Whose: an index of the height's consensus set.
    pub operator: OperatorIndex,
    /// On [`signing::prevote`] or [`signing::precommit`].
    pub signature: VoteSignature,
}

impl Vote {
    /// Which of the two it is.
    #[must_use]
    pub const fn step(&self) -> Step {
        match self.signature {
            VoteSignature::Prevote(_) => Step::Prevote,
            VoteSignature::Precommit(_) => Step::Precommit,
        }
    }

    /// What is signed.
    #[must_use]
    pub fn digest(&self, chain: &ChainId, epoch: EpochNumber) -> Digest {
        vote_digest(self.step(), chain, epoch, self.height, self.round, self.header.as_ref())
    }

    /// Whether the operator is of `set`, the height's consensus set, and signed. Takes 0.1 ms for a prevote, 1 ms for a
    /// precommit.
    #[must_use]
    pub fn verify(&self, set: &OperatorSet) -> bool {
        let Some(operator) = set.get(self.operator) else { return false };
        let digest = self.digest(set.chain(), set.epoch());
        match &self.signature {
            VoteSignature::Prevote(bytes) => ed25519_holds(&operator.peer_key, &digest, bytes),
            VoteSignature::Precommit(bytes) => Signature::from_bytes(bytes)
                .is_ok_and(|signature| operator.bls.verifies(&digest, &signature)),
        }
    }
}

pub(super) fn vote_digest(
    step: Step,
    chain: &ChainId,
    epoch: EpochNumber,
    height: Height,
    round: u32,
    header: Option<&HeaderId>,
) -> Digest {
    match step {
        Step::Prevote => signing::prevote(chain, epoch, height, round, header),
        Step::Precommit => signing::precommit(chain, epoch, height, round, header),
    }
}

/// A key that isn't a point of the curve verifies nothing.
pub(super) fn ed25519_holds(key: &PeerKey, digest: &Digest, signature: &[u8; 64]) -> bool {
    let signature = ed25519_dalek::Signature::from_bytes(signature);
    ed25519_dalek::VerifyingKey::from_bytes(&key.0)
        .is_ok_and(|key| key.verify_strict(&digest.0, &signature).is_ok())
}

/// A round's value, from its proposer.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Proposal {
    /// The checkpoint's number.
    pub height: Height,
    /// The round.
    pub round: u32,
    /// An earlier round in which a quorum prevoted the value.
    pub valid_round: Option<u32>,
    /// What is proposed.
    pub value: Value,
    /// By whom: an index of the height's consensus set.
    pub proposer: OperatorIndex,
    /// ed25519, on [`signing::checkpoint_proposal`]. The cut is signed through the header.
    pub signature: [u8; 64],
}

/// A quorum's prevotes for one value.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct PolkaCertificate {
    /// The checkpoint's number.
    pub height: Height,
    /// The round.
    pub round: u32,
    /// What they're for.
    pub header: HeaderId,
    /// The voters, each once, and their ed25519 signatures.
    pub prevotes: List<(OperatorIndex, [u8; 64]), CONSENSUS_OPERATORS_MAX>,
}

impl PolkaCertificate {
    /// The votes that it's made of.
    pub fn votes(&self) -> impl Iterator<Item = Vote> + '_ {
        self.prevotes.as_slice().iter().map(|(operator, signature)| Vote {
            height: self.height,
            round: self.round,
            header: Some(self.header),
            operator: *operator,
            signature: VoteSignature::Prevote(*signature),
        })
    }
}

/// Votes that let an operator enter a round: a quorum's precommits of the round before, or any votes of more than a third
/// in the round itself.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct RoundCertificate {
    /// The checkpoint's number.
    pub height: Height,
    /// The votes' round.
    pub round: u32,
    /// Whether the votes are of the round that is entered.
    pub skip: bool,
    /// The voters, each once.
    pub votes: List<RoundVote, CONSENSUS_OPERATORS_MAX>,
}

/// A vote of a [`RoundCertificate`].
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct RoundVote {
    /// Whose.
    pub operator: OperatorIndex,
    /// What for.
    pub header: Option<HeaderId>,
    /// As in [`Vote`].
    pub signature: VoteSignature,
}

impl RoundCertificate {
    /// The votes that it's made of.
    pub fn votes(&self) -> impl Iterator<Item = Vote> + '_ {
        self.votes.as_slice().iter().map(|vote| Vote {
            height: self.height,
            round: self.round,
            header: vote.header,
            operator: vote.operator,
            signature: vote.signature,
        })
    }
}

/// A message between operators.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum ConsensusMessage {
    /// A round's value.
    Proposal(Box<Proposal>),
    /// A vote.
    Vote(Vote),
    /// For those who missed prevotes.
    Polka(PolkaCertificate),
    /// For those who are rounds behind.
    Rounds(RoundCertificate),
}

impl ConsensusMessage {
    /// The height that it's of.
    #[must_use]
    pub const fn height(&self) -> Height {
        match self {
            Self::Proposal(proposal) => proposal.height,
            Self::Vote(vote) => vote.height,
            Self::Polka(certificate) => certificate.height,
            Self::Rounds(certificate) => certificate.height,
        }
    }
}

/// A proposal without its value: height, round, valid round, proposer, signature.
const PROPOSAL_BYTES: usize = 8 + 4 + 5 + 2 + 64;

impl Canonical for ConsensusMessage {
    /// A proposal's: certificates take at most 14 kB.
    const BYTES_MAX: usize = 1 + PROPOSAL_BYTES + CheckpointHeader::BYTES_MAX + CUT_BYTES_MAX;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn largest_rounds() -> RoundCertificate {
        let vote = |i| RoundVote {
            operator: OperatorIndex(i),
            header: Some(HeaderId([1; 32])),
            signature: VoteSignature::Precommit([2; 96]),
        };
        let votes = List::truncated((0..u16::MAX).map(vote));
        RoundCertificate { height: Height(1), round: 2, skip: true, votes }
    }

    #[test]
    fn certificates_of_the_largest_set_are_read_back() {
        let rounds = ConsensusMessage::Rounds(largest_rounds());
        let bytes = rounds.to_bytes();
        assert!(bytes.len() < 14_000, "{}", bytes.len());
        assert_eq!(ConsensusMessage::from_bytes(&bytes), Ok(rounds));
        let prevotes = List::truncated((0..u16::MAX).map(|i| (OperatorIndex(i), [3; 64])));
        let (height, header) = (Height(1), HeaderId([1; 32]));
        let polka = PolkaCertificate { height, round: 2, header, prevotes };
        let polka = ConsensusMessage::Polka(polka);
        assert_eq!(ConsensusMessage::from_bytes(&polka.to_bytes()), Ok(polka));
    }

    #[test]
    fn a_certificate_of_more_than_the_largest_set_is_refused() {
        let mut bytes = ConsensusMessage::Rounds(largest_rounds()).to_bytes();
        let count = 1 + 8 + 4 + 1;
        assert_eq!(bytes[count], 100);
        bytes[count] += 1;
        bytes.extend([0; 2 + 33 + 97]);
        assert!(ConsensusMessage::from_bytes(&bytes).is_err());
    }
}
