use borsh::{BorshDeserialize, BorshSerialize};
use lamina_types::account::{self, SigningContext};
use lamina_types::{
    Canonical, ChainId, Digest, INPUT_BYTES_MAX, OUTPUT_BYTES_MAX, Outcome, SignedTaskRequest,
    TaskId,
};

use crate::{CertificateError, OPERATORS_MAX, OperatorSet, TaskCertificate};

/// Longest [`CertifiedTask`], in bytes.
pub const CERTIFIED_TASK_BYTES_MAX: usize =
    INPUT_BYTES_MAX + OUTPUT_BYTES_MAX + OPERATORS_MAX / 8 + 1024;

/// All that is needed to check a task's result, but for the operator set: what `lamina task verify` reads.
///
/// Bytes: `LAMINATC`, version (2), then the fields in [Borsh](https://borsh.io). Every bit counts: the identifiers are
/// recomputed from the contents, and no value has a second byte form.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct CertifiedTask {
    magic: Magic,
    /// The network.
    pub chain: ChainId,
    /// What was asked for.
    pub request: SignedTaskRequest,
    /// What came of it.
    pub outcome: Outcome,
    /// The operators' certificate.
    pub certificate: TaskCertificate,
}

impl CertifiedTask {
    /// Puts the parts together; whether they hold is for [`Self::verify`] to tell.
    #[must_use]
    pub const fn new(
        chain: ChainId,
        request: SignedTaskRequest,
        outcome: Outcome,
        certificate: TaskCertificate,
    ) -> Self {
        Self { magic: Magic, chain, request, outcome, certificate }
    }

    /// Checks all: the requester's signature, that the certificate is of this request and outcome, and the quorum.
    ///
    /// # Errors
    /// [`Error`] names the first thing that doesn't hold.
    pub fn verify(&self, context: &SigningContext, set: &OperatorSet) -> Result<TaskId, Error> {
        if self.chain != context.chain {
            return Err(Error::WrongChain {
                file: self.chain.clone(),
                genesis: context.chain.clone(),
            });
        }
        let task = self.request.verify(context)?;
        if task != self.certificate.task {
            return Err(Error::OtherTask { request: task, certificate: self.certificate.task });
        }
        let outcome = self.outcome.digest(&context.chain, &task);
        if outcome != self.certificate.outcome {
            return Err(Error::OtherOutcome { outcome, certificate: self.certificate.outcome });
        }
        self.certificate.clone().verify(set)?;
        Ok(task)
    }
}

impl Canonical for CertifiedTask {
    const BYTES_MAX: usize = CERTIFIED_TASK_BYTES_MAX;
}

/// `LAMINATC` and the version, 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Magic;

const MAGIC: [u8; 9] = *b"LAMINATC\x02";

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
            Err(std::io::Error::other("not a certified task of version 1"))
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
}
