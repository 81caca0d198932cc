//! What is hashed and signed: `sha256(domain tag ‖ chain id ‖ fields)`.
//!
//! All domain tags of the project stand in [`Domain::tag`]. Tags and chain ids fill 32 bytes, integers are big-endian, and
//! anything of variable length comes after its length: no two lists of fields share a preimage, and Solidity builds the
//! same bytes with `abi.encodePacked`.

use sha2::{Digest as _, Sha256};

use crate::{
    Address, ChainId, Digest, EpochNumber, HeaderId, Height, OperatorIndex, PeerKey, TaskId,
};

/// What a digest is for. A signature made for one purpose never verifies for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Domain {
    /// A service's identifier.
    Service,
    /// A task's identifier.
    Task,
    /// The digest of a task's outcome.
    Outcome,
    /// An operator's BLS signature on a task's outcome.
    Attestation,
    /// An operator's BLS signature on what it observed for an oracle's task.
    Observation,
    /// The root of the observations that an oracle's result is reduced from.
    ObservationSet,
    /// An operator's BLS signature on the observations that it proposes to reduce.
    Proposal,
    /// An operator's BLS signature that shows that it holds the key which it registers.
    ProofOfPossession,
    /// The same of its node's ed25519 key.
    PeerPossession,
    /// A change of a book: its identifier, which its author signs with ed25519.
    Change,
    /// A checkpoint's header.
    Checkpoint,
    /// An operator's BLS vote that finalises a checkpoint, or none of its round.
    Precommit,
    /// An operator's ed25519 vote that comes before it.
    Prevote,
    /// An operator's ed25519 signature on a checkpoint that it proposes.
    CheckpointProposal,
    /// The root of an operator set.
    OperatorSet,
    /// What an operator signed twice: the identifier of an offence.
    Offence,
}

impl Domain {
    /// The tag, padded with zeros.
    #[must_use]
    pub const fn tag(self) -> [u8; 32] {
        match self {
            Self::Service => pad(b"lamina/service/v1"),
            Self::Task => pad(b"lamina/task/v1"),
            Self::Outcome => pad(b"lamina/outcome/v1"),
            Self::Attestation => pad(b"lamina/attestation/v1"),
            Self::Observation => pad(b"lamina/observation/v1"),
            Self::ObservationSet => pad(b"lamina/observation-set/v1"),
            Self::Proposal => pad(b"lamina/proposal/v1"),
            Self::ProofOfPossession => pad(b"lamina/proof-of-possession/v1"),
            Self::PeerPossession => pad(b"lamina/peer-possession/v1"),
            Self::Change => pad(b"lamina/change/v1"),
            Self::Checkpoint => pad(b"lamina/checkpoint/v1"),
            Self::Precommit => pad(b"lamina/precommit/v1"),
            Self::Prevote => pad(b"lamina/prevote/v1"),
            Self::CheckpointProposal => pad(b"lamina/checkpoint-proposal/v1"),
            Self::OperatorSet => pad(b"lamina/operator-set/v1"),
            Self::Offence => pad(b"lamina/offence/v1"),
        }
    }
}

const fn pad(text: &[u8]) -> [u8; 32] {
    let mut tag = [0; 32];
    let mut i = 0;
    while i < text.len() {
        tag[i] = text[i];
        i += 1;
    }
    tag
}

/// Bytes to be hashed, field by field.
#[derive(Debug, Clone)]
pub struct Preimage(Sha256);

impl Preimage {
    /// Begins with the purpose and the network.
    #[must_use]
    pub fn new(domain: Domain, chain: &ChainId) -> Self {
        Self(Sha256::new_with_prefix(domain.tag()).chain_update(chain.to_bytes32()))
    }

    /// Appends bytes whose length the purpose fixes.
    #[must_use]
    pub fn fixed<const N: usize>(self, bytes: &[u8; N]) -> Self {
        Self(self.0.chain_update(bytes))
    }

    /// Appends an integer: 8 bytes, big-endian.
    #[must_use]
    pub fn number(self, value: u64) -> Self {
        self.fixed(&value.to_be_bytes())
    }

    /// Appends bytes of any length, after their length as an integer.
    #[must_use]
    pub fn variable(self, bytes: &[u8]) -> Self {
        let next = self.number(bytes.len() as u64);
        Self(next.0.chain_update(bytes))
    }

    /// The digest of all fields.
    #[must_use]
    pub fn digest(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// What an operator signs to attest that `task` has the outcome with this digest.
#[must_use]
pub fn attestation(chain: &ChainId, epoch: EpochNumber, task: &TaskId, outcome: &Digest) -> Digest {
    Preimage::new(Domain::Attestation, chain)
        .number(epoch.0)
        .fixed(&task.0)
        .fixed(&outcome.0)
        .digest()
}

/// What an operator signs to say that it observed the value with this digest for `task`.
#[must_use]
pub fn observation(chain: &ChainId, epoch: EpochNumber, task: &TaskId, value: &Digest) -> Digest {
    Preimage::new(Domain::Observation, chain)
        .number(epoch.0)
        .fixed(&task.0)
        .fixed(&value.0)
        .digest()
}

/// The root of a set of observations: of its members in ascending order, each with the digest of what it observed.
///
/// Whoever fixes the set isn't part of it, so a set has one root however it came about.
#[must_use]
pub fn observation_set(
    chain: &ChainId,
    epoch: EpochNumber,
    task: &TaskId,
    members: &[(OperatorIndex, Digest)],
) -> Digest {
    let head = Preimage::new(Domain::ObservationSet, chain)
        .number(epoch.0)
        .fixed(&task.0)
        .number(members.len() as u64);
    let member = |preimage: Preimage, (operator, value): &(OperatorIndex, Digest)| {
        preimage.fixed(&operator.0.to_be_bytes()).fixed(&value.0)
    };
    members.iter().fold(head, member).digest()
}

/// What an operator signs to propose the set with this root as what the result of `task` is reduced from.
#[must_use]
pub fn proposal(chain: &ChainId, epoch: EpochNumber, task: &TaskId, root: &Digest) -> Digest {
    Preimage::new(Domain::Proposal, chain).number(epoch.0).fixed(&task.0).fixed(&root.0).digest()
}

/// What an operator signs to show that it holds the BLS key that it registers.
///
/// Bound to the operator's account, the network and the registrar `contract` (zero where operators come from a genesis
/// file), so that nobody can register it as theirs.
#[must_use]
pub fn proof_of_possession(
    chain: &ChainId,
    operator: &Address,
    contract: &Address,
    bls_public_key: &[u8; 48],
) -> Digest {
    Preimage::new(Domain::ProofOfPossession, chain)
        .fixed(&operator.0)
        .fixed(&contract.0)
        .fixed(bls_public_key)
        .digest()
}

/// What an operator signs with its node's key to show that it holds it.
#[must_use]
pub fn peer_possession(chain: &ChainId, operator: &Address, key: &PeerKey) -> Digest {
    Preimage::new(Domain::PeerPossession, chain).fixed(&operator.0).fixed(&key.0).digest()
}

/// The second vote on a checkpoint, BLS: it names no operator, so the votes of a quorum add up to one signature.
/// `header` is `None` for a vote on none of the round's proposals.
#[must_use]
pub fn precommit(
    chain: &ChainId,
    epoch: EpochNumber,
    height: Height,
    round: u32,
    header: Option<&HeaderId>,
) -> Digest {
    vote(Domain::Precommit, chain, epoch, height, round, header)
}

/// The first vote on a checkpoint, ed25519.
#[must_use]
pub fn prevote(
    chain: &ChainId,
    epoch: EpochNumber,
    height: Height,
    round: u32,
    header: Option<&HeaderId>,
) -> Digest {
    vote(Domain::Prevote, chain, epoch, height, round, header)
}

fn vote(
    domain: Domain,
    chain: &ChainId,
    epoch: EpochNumber,
    height: Height,
    round: u32,
    header: Option<&HeaderId>,
) -> Digest {
    Preimage::new(domain, chain)
        .number(epoch.0)
        .number(height.0)
        .number(round.into())
        .fixed(&[u8::from(header.is_some())])
        .fixed(&header.map_or([0; 32], |id| id.0))
        .digest()
}

/// What the proposer of a round signs, ed25519. `valid_round` is the round in which the header had a quorum's prevotes.
#[must_use]
pub fn checkpoint_proposal(
    chain: &ChainId,
    epoch: EpochNumber,
    height: Height,
    round: u32,
    valid_round: Option<u32>,
    header: &HeaderId,
) -> Digest {
    Preimage::new(Domain::CheckpointProposal, chain)
        .number(epoch.0)
        .number(height.0)
        .number(round.into())
        .fixed(&[u8::from(valid_round.is_some())])
        .number(valid_round.unwrap_or(0).into())
        .fixed(&header.0)
        .digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> ChainId {
        "lamina-test-1".parse().unwrap()
    }

    #[test]
    fn tags_are_distinct() {
        let tags = [
            Domain::Service,
            Domain::Task,
            Domain::Outcome,
            Domain::Attestation,
            Domain::Observation,
            Domain::ObservationSet,
            Domain::Proposal,
            Domain::ProofOfPossession,
            Domain::PeerPossession,
            Domain::Change,
            Domain::Checkpoint,
            Domain::Precommit,
            Domain::Prevote,
            Domain::CheckpointProposal,
            Domain::OperatorSet,
            Domain::Offence,
        ]
        .map(Domain::tag);
        let distinct: std::collections::BTreeSet<_> = tags.iter().collect();
        assert_eq!(distinct.len(), tags.len());
    }

    #[test]
    fn networks_do_not_share_digests() {
        let of = |chain| attestation(chain, EpochNumber(0), &TaskId([1; 32]), &Digest([2; 32]));
        assert_ne!(of(&chain()), of(&"lamina-test-2".parse().unwrap()));
    }

    #[test]
    fn fields_cannot_be_moved_into_each_other() {
        let of = |a: &[u8], b: &[u8]| {
            Preimage::new(Domain::Outcome, &chain()).variable(a).variable(b).digest()
        };
        assert_ne!(of(b"ab", b"c"), of(b"a", b"bc"));
    }

    /// The layout that the head of this module draws, byte by byte.
    #[test]
    fn attestation_bytes_are_laid_out_as_documented() {
        let digest = attestation(&chain(), EpochNumber(3), &TaskId([1; 32]), &Digest([2; 32]));
        let mut preimage = Vec::new();
        preimage.extend(b"lamina/attestation/v1\0\0\0\0\0\0\0\0\0\0\0");
        preimage.extend(b"lamina-test-1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        preimage.extend([0, 0, 0, 0, 0, 0, 0, 3]);
        preimage.extend([1; 32]);
        preimage.extend([2; 32]);
        assert_eq!(digest, Digest::of(&preimage));
    }

    /// An attestation, an observation and a proposal have the same fields, and yet no digest in common.
    #[test]
    fn purposes_do_not_share_digests() {
        let (task, digest) = (TaskId([1; 32]), Digest([2; 32]));
        let digests = [attestation, observation, proposal]
            .map(|of| of(&chain(), EpochNumber(0), &task, &digest));
        let distinct: std::collections::BTreeSet<_> = digests.iter().collect();
        assert_eq!(distinct.len(), digests.len());
    }

    #[test]
    fn root_is_of_members_order_and_values() {
        let of = |members: &[(u16, u8)]| {
            let member =
                |(operator, value): &(u16, u8)| (OperatorIndex(*operator), Digest([*value; 32]));
            let members: Vec<_> = members.iter().map(member).collect();
            observation_set(&chain(), EpochNumber(0), &TaskId([1; 32]), &members)
        };
        let roots = [
            of(&[]),
            of(&[(0, 1)]),
            of(&[(0, 2)]),
            of(&[(1, 1)]),
            of(&[(0, 1), (1, 1)]),
            of(&[(1, 1), (0, 1)]),
        ];
        let distinct: std::collections::BTreeSet<_> = roots.iter().collect();
        assert_eq!(distinct.len(), roots.len());
    }

    #[test]
    fn root_bytes_are_laid_out_as_documented() {
        let members = [(OperatorIndex(0x0102), Digest([2; 32]))];
        let root = observation_set(&chain(), EpochNumber(3), &TaskId([1; 32]), &members);
        let mut preimage = Vec::new();
        preimage.extend(b"lamina/observation-set/v1\0\0\0\0\0\0\0");
        preimage.extend(b"lamina-test-1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        preimage.extend([0, 0, 0, 0, 0, 0, 0, 3]);
        preimage.extend([1; 32]);
        preimage.extend([0, 0, 0, 0, 0, 0, 0, 1]);
        preimage.extend([1, 2]);
        preimage.extend([2; 32]);
        assert_eq!(root, Digest::of(&preimage));
    }
}
