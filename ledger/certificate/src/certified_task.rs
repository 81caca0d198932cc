use borsh::{BorshDeserialize, BorshSerialize};
use lamina_types::account::{self, SigningContext};
use lamina_types::{
    Canonical, ChainId, Digest, EpochNumber, Height, INPUT_BYTES_MAX, OUTPUT_BYTES_MAX, Outcome,
    SignedTaskRequest, TaskId,
};

use crate::results::ResultProof;
use crate::{CertificateError, Checkpoint, OperatorSet, SignerBitmap, TaskCertificate};

/// Longest [`CertifiedTask`], in bytes.
pub const CERTIFIED_TASK_BYTES_MAX: usize =
    INPUT_BYTES_MAX + OUTPUT_BYTES_MAX + RecordProof::BYTES_MAX + 1024;

/// All that is needed to check a task's result, but for the operator sets: what `lamina task verify` reads.
///
/// Bytes: `LAMINATC`, version (3), then the fields in [Borsh](https://borsh.io). Every bit counts: the identifiers are
/// recomputed from the contents, no value has a second byte form, and nothing is in it that can't be checked.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct CertifiedTask {
    magic: Magic,
    /// The network.
    pub chain: ChainId,
    /// What was asked for.
    pub request: SignedTaskRequest,
    /// What came of it.
    pub outcome: Outcome,
    /// Who stands behind it.
    pub backing: Backing,
}

/// What shows that operators stand behind an outcome.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Backing {
    /// The certificate of those who serve the service. Who has nothing but the genesis file can check it if they are all
    /// operators of the epoch.
    Certificate(Box<TaskCertificate>),
    /// The checkpoint in which the task was recorded: the epoch's consensus set has checked the certificate.
    Record(Box<RecordProof>),
}

/// Proof that a checkpoint recorded a task's outcome.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct RecordProof {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// The way to the root of its results.
    pub result: ResultProof,
}

impl Canonical for RecordProof {
    const BYTES_MAX: usize = Checkpoint::BYTES_MAX + ResultProof::BYTES_MAX;
}

/// Who stands behind a result that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedTask {
    /// The task.
    pub task: TaskId,
    /// The checkpoint in which it was recorded, if that's what it was verified by.
    pub checkpoint: Option<Height>,
    /// Who signed: of the epoch's operators, or of its consensus set if it was verified by a checkpoint.
    pub signers: SignerBitmap,
    /// Their stake, in gwei.
    pub stake_gwei: u64,
    /// The stake of all who could have signed.
    pub of_gwei: u64,
}

impl CertifiedTask {
    /// Puts the parts together; whether they hold is for [`Self::verify`] to tell.
    #[must_use]
    pub const fn new(
        chain: ChainId,
        request: SignedTaskRequest,
        outcome: Outcome,
        backing: Backing,
    ) -> Self {
        Self { magic: Magic, chain, request, outcome, backing }
    }

    /// Checks all: the requester's signature, that the backing is of this request and outcome, and the quorum. `epochs` are
    /// the network's operator sets, each with the first checkpoint that it signs, ascending ([`crate::Genesis::epochs`]).
    ///
    /// # Errors
    /// [`Error`] names the first thing that doesn't hold.
    pub fn verify(
        &self,
        context: &SigningContext,
        epochs: &[(Height, OperatorSet)],
    ) -> Result<VerifiedTask, Error> {
        if self.chain != context.chain {
            return Err(Error::WrongChain {
                file: self.chain.clone(),
                genesis: context.chain.clone(),
            });
        }
        let task = self.request.verify(context)?;
        let outcome = self.outcome.digest(&context.chain, &task);
        match &self.backing {
            Backing::Certificate(certificate) => certified(certificate, task, outcome, epochs),
            Backing::Record(proof) => proof.verify(task, outcome, epochs),
        }
    }
}

fn certified(
    certificate: &TaskCertificate,
    task: TaskId,
    outcome: Digest,
    epochs: &[(Height, OperatorSet)],
) -> Result<VerifiedTask, Error> {
    let TaskCertificate { task: of, outcome: certified, epoch, signers, .. } = certificate;
    if task != *of {
        return Err(Error::OtherTask { request: task, certificate: *of });
    }
    if outcome != *certified {
        return Err(Error::OtherOutcome { outcome, certificate: *certified });
    }
    let set = epochs.iter().map(|(_, set)| set).find(|set| set.epoch() == *epoch);
    let set = set.ok_or(Error::UnknownEpoch { epoch: *epoch })?;
    if signers.set_size() < set.size() {
        return Err(Error::Part { part: signers.set_size(), of: set.size() });
    }
    certificate.clone().verify(set)?;
    Ok(VerifiedTask::new(task, None, signers, set))
}

impl RecordProof {
    fn verify(
        &self,
        task: TaskId,
        outcome: Digest,
        epochs: &[(Height, OperatorSet)],
    ) -> Result<VerifiedTask, Error> {
        let Self { checkpoint, result } = self;
        let height = checkpoint.header.height;
        let epoch = epochs.iter().rev().find(|(from, _)| *from <= height);
        let (_, set) = epoch.ok_or(Error::UnknownHeight { height })?;
        let set = set.consensus_set();
        checkpoint.verify(&set).map_err(Error::Checkpoint)?;
        if !result.verify(&checkpoint.header.results, &task, &outcome) {
            return Err(Error::NotRecorded { task, height });
        }
        Ok(VerifiedTask::new(task, Some(height), &checkpoint.certificate.signers, &set))
    }
}

impl VerifiedTask {
    fn new(
        task: TaskId,
        checkpoint: Option<Height>,
        signers: &SignerBitmap,
        set: &OperatorSet,
    ) -> Self {
        let (stake_gwei, of_gwei) = (set.stake_of(signers), set.stake_gwei());
        Self { task, checkpoint, signers: signers.clone(), stake_gwei, of_gwei }
    }
}

impl Canonical for CertifiedTask {
    const BYTES_MAX: usize = CERTIFIED_TASK_BYTES_MAX;
}

/// `LAMINATC` and the version, 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Magic;

const MAGIC: [u8; 9] = *b"LAMINATC\x03";

impl BorshSerialize for Magic {
    fn serialize<W: std::io::Write>(&self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(&MAGIC)
    }
}

impl BorshDeserialize for Magic {
    fn deserialize_reader<R: std::io::Read>(reader: &mut R) -> std::io::Result<Self> {
        let magic = <[u8; MAGIC.len()]>::deserialize_reader(reader)?;
        if magic == MAGIC {
            Ok(Self)
        } else {
            Err(std::io::Error::other("not a certified task of version 3"))
        }
    }
}

/// Why a certified task doesn't hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Of another network.
    #[error("certified on chain {file}, the genesis file is of {genesis}")]
    WrongChain {
        /// The file's.
        file: ChainId,
        /// The one that was expected.
        genesis: ChainId,
    },
    /// The requester didn't sign the request.
    #[error("the requester's signature doesn't hold")]
    Request(#[from] account::Error),
    /// The certificate is of another task.
    #[error("certificate of task {certificate}, request of task {request}")]
    OtherTask {
        /// The request's identifier.
        request: TaskId,
        /// The certificate's.
        certificate: TaskId,
    },
    /// The certificate is of another outcome.
    #[error("certificate of outcome {certificate}, the outcome is {outcome}")]
    OtherOutcome {
        /// The outcome's digest.
        outcome: Digest,
        /// The certificate's.
        certificate: Digest,
    },
    /// The certificate doesn't hold.
    #[error("the certificate doesn't hold")]
    Certificate(#[from] CertificateError),
    /// The operators of the certificate's epoch aren't known.
    #[error("the genesis file has no epoch {epoch}")]
    UnknownEpoch {
        /// The certificate's.
        epoch: EpochNumber,
    },
    /// The certificate is of those who serve the service, and the genesis file doesn't say who they are.
    #[error(
        "certified by the {part} operators who serve the service, of {of}, and who they are the genesis file doesn't say: \
         wait until the task is recorded in the ledger, and fetch the file again"
    )]
    Part {
        /// How many operators serve the service.
        part: u16,
        /// How many the epoch has.
        of: u16,
    },
    /// No operator set is known that could have signed the checkpoint.
    #[error("no operator set is known for height {height}")]
    UnknownHeight {
        /// The checkpoint's.
        height: Height,
    },
    /// The certificate of the checkpoint doesn't hold.
    #[error("the checkpoint doesn't hold")]
    Checkpoint(#[source] CertificateError),
    /// The checkpoint has no such outcome of this task.
    #[error("checkpoint {height} doesn't have this outcome of task {task}")]
    NotRecorded {
        /// Which task.
        task: TaskId,
        /// The checkpoint's number.
        height: Height,
    },
}
