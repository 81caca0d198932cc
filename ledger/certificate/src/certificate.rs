use borsh::{BorshDeserialize, BorshSerialize};
use lamina_types::{Canonical, Digest, EpochNumber, TaskId};

use crate::bls::Signature;
use crate::{OPERATORS_MAX, OperatorSet, SignerBitmap, VerifiedAttestation};

/// A quorum's signature on a task's outcome.
///
/// Bytes: task (32), outcome digest (32), epoch (8), signers ([`SignerBitmap`]), aggregate signature (96); integers
/// little-endian.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct TaskCertificate {
    /// The task.
    pub task: TaskId,
    /// Digest of the outcome ([`lamina_types::Outcome::digest`]).
    pub outcome: Digest,
    /// The operator set that the bitmap is of.
    pub epoch: EpochNumber,
    /// Who signed.
    pub signers: SignerBitmap,
    /// The sum of the signers' signatures on [`lamina_types::signing::attestation`].
    pub signature: Signature,
}

impl TaskCertificate {
    /// Checks that more than two thirds of the stake of `set` signed. Takes about 1 ms.
    ///
    /// # Errors
    /// [`Error`] names what doesn't hold.
    pub fn verify(self, set: &OperatorSet) -> Result<VerifiedTaskCertificate, Error> {
        check_signers(set, self.epoch, &self.signers)?;
        let message = set.attestation_message(&self.task, &self.outcome);
        let key = set.aggregate_key(&self.signers).ok_or(Error::Signature)?;
        if !key.verifies(&message, &self.signature) {
            return Err(Error::Signature);
        }
        Ok(VerifiedTaskCertificate(self))
    }
}

/// Checks that `signers` are of `set` and have more than two thirds of its stake.
pub(crate) fn check_signers(
    set: &OperatorSet,
    epoch: EpochNumber,
    signers: &SignerBitmap,
) -> Result<(), Error> {
    if epoch != set.epoch() {
        return Err(Error::WrongEpoch { certificate: epoch, set: set.epoch() });
    }
    if signers.set_size() != set.size() {
        return Err(Error::WrongSize { bitmap: signers.set_size(), set: set.size() });
    }
    let stake_gwei = set.stake_of(signers);
    if set.is_quorum(stake_gwei) {
        Ok(())
    } else {
        Err(Error::NoQuorum { stake_gwei, of_gwei: set.stake_gwei() })
    }
}

impl Canonical for TaskCertificate {
    const BYTES_MAX: usize = 32 + 32 + 8 + 2 + OPERATORS_MAX.div_ceil(8) + 96;
}

/// A certificate that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedTaskCertificate(TaskCertificate);

impl VerifiedTaskCertificate {
    /// Adds up attestations of one outcome; `None` if they aren't a quorum's, or not all of one outcome.
    #[must_use]
    pub fn aggregate(set: &OperatorSet, attestations: &[VerifiedAttestation]) -> Option<Self> {
        let first = attestations.first()?.get();
        let mut signers = SignerBitmap::empty(set.size());
        for attestation in attestations.iter().map(VerifiedAttestation::get) {
            let same = (attestation.task, attestation.outcome, attestation.epoch)
                == (first.task, first.outcome, set.epoch());
            if !same || !signers.insert(attestation.operator) {
                return None;
            }
        }
        if !set.is_quorum(set.stake_of(&signers)) {
            return None;
        }
        let signature =
            Signature::aggregate(attestations.iter().map(|a| &a.get().signature)).ok()?;
        Some(Self(TaskCertificate {
            task: first.task,
            outcome: first.outcome,
            epoch: set.epoch(),
            signers,
            signature,
        }))
    }

    /// The certificate.
    #[must_use]
    pub const fn get(&self) -> &TaskCertificate {
        &self.0
    }
}

/// Why a certificate doesn't hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Of another epoch than the set.
    #[error("certificate of epoch {certificate}, operator set of epoch {set}")]
    WrongEpoch {
        /// The certificate's.
        certificate: EpochNumber,
        /// The set's.
        set: EpochNumber,
    },
    /// The bitmap is of a set of another size.
    #[error("bitmap of {bitmap} operators, operator set of {set}")]
    WrongSize {
        /// The bitmap's.
        bitmap: u16,
        /// The set's.
        set: u16,
    },
    /// The signers have too little stake.
    #[error("signed by {stake_gwei} gwei of stake, more than two thirds of {of_gwei} are needed")]
    NoQuorum {
        /// What the signers have.
        stake_gwei: u64,
        /// What the set has.
        of_gwei: u64,
    },
    /// The certificate is of another checkpoint.
    #[error("the certificate is of another header")]
    OtherHeader,
    /// The aggregate isn't the signers' signature on this.
    #[error("the aggregate signature doesn't hold")]
    Signature,
}
