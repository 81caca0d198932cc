//! What is hashed and signed: `sha256(domain tag ‖ chain id ‖ fields)`.
//!
//! All domain tags of the project stand in [`Domain::tag`]. Tags and chain ids fill 32 bytes, integers are big-endian, and
//! anything of variable length comes after its length: no two lists of fields share a preimage, and Solidity builds the
//! same bytes with `abi.encodePacked`.

use sha2::{Digest as _, Sha256};

use crate::{Address, ChainId, Digest, EpochNumber, TaskId};

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
    /// An operator's BLS signature that shows that it holds the key which it registers.
    ProofOfPossession,
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
            Self::ProofOfPossession => pad(b"lamina/proof-of-possession/v1"),
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
            Domain::ProofOfPossession,
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
}
