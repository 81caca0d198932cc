use borsh::{BorshDeserialize, BorshSerialize};
use lamina_certificate::OperatorSet;
use lamina_types::{Canonical, HeaderId, Height, OperatorIndex, signing};

use super::message::{Proposal, Vote, ed25519_holds};

/// Two things that an operator signed of which it may sign one. With the height's consensus set it's all that a verifier
/// needs.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Equivocation {
    /// Two votes of one round and step.
    Votes(Vote, Vote),
    /// Two proposals of one round.
    Proposals(SignedProposal, SignedProposal),
}

/// A [`Proposal`] whose value is named by its header's hash, which is what is signed.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SignedProposal {
    /// The checkpoint's number.
    pub height: Height,
    /// The round.
    pub round: u32,
    /// An earlier round in which a quorum prevoted the value.
    pub valid_round: Option<u32>,
    /// What is proposed.
    pub header: HeaderId,
    /// By whom.
    pub proposer: OperatorIndex,
    /// ed25519, on [`signing::checkpoint_proposal`].
    pub signature: [u8; 64],
}

impl SignedProposal {
    pub(super) const fn of(proposal: &Proposal, header: HeaderId) -> Self {
        Self {
            height: proposal.height,
            round: proposal.round,
            valid_round: proposal.valid_round,
            header,
            proposer: proposal.proposer,
            signature: proposal.signature,
        }
    }

    /// Whether the proposer is of `set`, the height's consensus set, and signed.
    #[must_use]
    pub fn verify(&self, set: &OperatorSet) -> bool {
        let Some(operator) = set.get(self.proposer) else { return false };
        let Self { height, round, valid_round, header, .. } = self;
        let digest = signing::checkpoint_proposal(
            set.chain(),
            set.epoch(),
            *height,
            *round,
            *valid_round,
            header,
        );
        ed25519_holds(&operator.peer_key, &digest, &self.signature)
    }

    fn excludes(&self, other: &Self) -> bool {
        (self.height, self.round, self.proposer) == (other.height, other.round, other.proposer)
            && (self.header, self.valid_round) != (other.header, other.valid_round)
    }
}

impl Proposal {
    /// Whether the proposer is of `set`, the height's consensus set, and signed. Whether the cut is the header's isn't looked at.
    #[must_use]
    pub fn verify(&self, set: &OperatorSet) -> bool {
        SignedProposal::of(self, self.value.header.id(set.chain())).verify(set)
    }
}

impl Equivocation {
    /// Who signed both.
    #[must_use]
    pub const fn operator(&self) -> OperatorIndex {
        match self {
            Self::Votes(vote, _) => vote.operator,
            Self::Proposals(proposal, _) => proposal.proposer,
        }
    }

    /// Whether one operator of `set`, the height's consensus set, signed both, and they exclude each other.
    #[must_use]
    pub fn verify(&self, set: &OperatorSet) -> bool {
        match self {
            Self::Votes(a, b) => {
                (a.height, a.round, a.step(), a.operator)
                    == (b.height, b.round, b.step(), b.operator)
                    && a.header != b.header
                    && a.verify(set)
                    && b.verify(set)
            }
            Self::Proposals(a, b) => a.excludes(b) && a.verify(set) && b.verify(set),
        }
    }
}

impl Canonical for Equivocation {
    /// Two votes: 1 + 2 × (8 + 4 + 33 + 2 + 97).
    const BYTES_MAX: usize = 289;
}
