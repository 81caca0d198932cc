use borsh::{BorshDeserialize, BorshSerialize};
use lamina_types::{Canonical, Digest, EpochNumber, OperatorIndex, TaskId};
use rand_core::CryptoRng;

use crate::OperatorSet;
use crate::bls::{SecretKey, Signature, verify_batch};

/// One operator's signature on a task's outcome.
///
/// Bytes: task (32), outcome digest (32), epoch (8), operator (2), signature (96); integers little-endian.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Attestation {
    /// The task.
    pub task: TaskId,
    /// Digest of the outcome that the operator came to ([`lamina_types::Outcome::digest`]).
    pub outcome: Digest,
    /// The operator set that the operator belongs to.
    pub epoch: EpochNumber,
    /// Who signs.
    pub operator: OperatorIndex,
    /// On [`lamina_types::signing::attestation`].
    pub signature: Signature,
}

impl Attestation {
    /// Signs an outcome.
    #[must_use]
    pub fn sign(
        set: &OperatorSet,
        operator: OperatorIndex,
        key: &SecretKey,
        task: TaskId,
        outcome: Digest,
    ) -> Self {
        let signature = key.sign(&set.attestation_message(&task, &outcome));
        Self { task, outcome, epoch: set.epoch(), operator, signature }
    }

    /// Checks that the operator belongs to `set` and signed. Takes about 0.9 ms.
    #[must_use]
    pub fn verify(&self, set: &OperatorSet) -> Option<VerifiedAttestation> {
        let operator = set.get(self.operator).filter(|_| self.epoch == set.epoch())?;
        let message = set.attestation_message(&self.task, &self.outcome);
        operator.bls.verifies(&message, &self.signature).then(|| VerifiedAttestation(self.clone()))
    }
}

impl Canonical for Attestation {
    const BYTES_MAX: usize = 32 + 32 + 8 + 2 + 96;
}

/// An attestation whose signature holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedAttestation(Attestation);

impl VerifiedAttestation {
    /// What was attested.
    #[must_use]
    pub const fn get(&self) -> &Attestation {
        &self.0
    }
}

/// Checks attestations of one outcome together, which costs little more than checking one.
///
/// The answer has an entry for each attestation. Those of another task or outcome than the first one's are refused, as
/// those of operators outside `set`.
#[must_use]
pub fn verify_attestations(
    set: &OperatorSet,
    attestations: &[Attestation],
    rng: &mut impl CryptoRng,
) -> Vec<Option<VerifiedAttestation>> {
    let Some(first) = attestations.first() else { return Vec::new() };
    let message = set.attestation_message(&first.task, &first.outcome);
    let belongs = |a: &Attestation| {
        (a.task, a.outcome, a.epoch) == (first.task, first.outcome, set.epoch())
            && set.get(a.operator).is_some()
    };
    let pairs: Vec<_> = attestations
        .iter()
        .filter(|a| belongs(a))
        .filter_map(|a| Some((set.get(a.operator)?.bls, a.signature)))
        .collect();
    let mut holds = verify_batch(&message, &pairs, rng).into_iter();
    attestations
        .iter()
        .map(|a| (belongs(a) && holds.next()?).then(|| VerifiedAttestation(a.clone())))
        .collect()
}
