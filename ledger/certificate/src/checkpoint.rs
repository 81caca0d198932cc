use borsh::{BorshDeserialize, BorshSerialize};
use lamina_types::{Canonical, ChainId, CheckpointHeader, EpochNumber, HeaderId, Height, signing};

use crate::bls::Signature;
use crate::certificate::{Error, check_signers};
use crate::{OPERATORS_MAX, OperatorSet, SignerBitmap};

/// A quorum's signature on a checkpoint: the precommits of one round, added up.
///
/// Bytes: epoch (8), height (8), round (4), header (32), signers ([`SignerBitmap`]), aggregate signature (96); integers
/// little-endian.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct CheckpointCertificate {
    /// The operator set whose consensus set the bitmap is of.
    pub epoch: EpochNumber,
    /// The checkpoint's number.
    pub height: Height,
    /// The round that decided.
    pub round: u32,
    /// The checkpoint's header.
    pub header: HeaderId,
    /// Who signed.
    pub signers: SignerBitmap,
    /// The sum of the signers' signatures on [`signing::precommit`].
    pub signature: Signature,
}

impl CheckpointCertificate {
    /// Checks that more than two thirds of the stake of `set`, a consensus set, signed. Takes about 1 ms.
    ///
    /// # Errors
    /// [`Error`] names what doesn't hold.
    pub fn verify(&self, set: &OperatorSet) -> Result<(), Error> {
        check_signers(set, self.epoch, &self.signers)?;
        let chain = set.chain();
        let message =
            signing::precommit(chain, self.epoch, self.height, self.round, Some(&self.header));
        let key = set.aggregate_key(&self.signers).ok_or(Error::Signature)?;
        if key.verifies(&message, &self.signature) { Ok(()) } else { Err(Error::Signature) }
    }
}

impl Canonical for CheckpointCertificate {
    const BYTES_MAX: usize = 8 + 8 + 4 + 32 + 2 + OPERATORS_MAX.div_ceil(8) + 96;
}

/// A checkpoint that a quorum signed: what anyone needs who has the operator set, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Checkpoint {
    /// What was agreed on.
    pub header: CheckpointHeader,
    /// By whom.
    pub certificate: CheckpointCertificate,
}

impl Checkpoint {
    /// Checks that the certificate is of this header and holds for `set`, the consensus set of its epoch.
    ///
    /// # Errors
    /// [`Error`] names what doesn't hold.
    pub fn verify(&self, set: &OperatorSet) -> Result<(), Error> {
        self.check_header(set.chain())?;
        self.certificate.verify(set)
    }

    fn check_header(&self, chain: &ChainId) -> Result<(), Error> {
        let (header, certificate) = (&self.header, &self.certificate);
        let same = (header.epoch, header.height, header.id(chain))
            == (certificate.epoch, certificate.height, certificate.header);
        if same { Ok(()) } else { Err(Error::OtherHeader) }
    }
}

impl Canonical for Checkpoint {
    const BYTES_MAX: usize = CheckpointHeader::BYTES_MAX + CheckpointCertificate::BYTES_MAX;
}
