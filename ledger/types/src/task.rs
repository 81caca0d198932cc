use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::account::{self, AccountKey, AccountSignature, RequestTask, SigningContext};
use crate::signing::{Domain, Preimage};
use crate::{Address, Bytes, Canonical, ChainId, Digest, Height, ServiceId, TaskId, Text};

/// Longest input of a task, in bytes: with its envelope it fits into one gossip message of 64 KiB.
pub const INPUT_BYTES_MAX: usize = 32 * 1024;
/// Longest output of a task, in bytes.
pub const OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// Longest observation of one operator, in bytes: with its envelope it's a small gossip message, and those of a quorum
/// are an input that a component can take.
pub const OBSERVATION_BYTES_MAX: usize = 4 * 1024;

/// What a task is run on.
pub type Input = Bytes<INPUT_BYTES_MAX>;
/// What a task returns.
pub type Output = Bytes<OUTPUT_BYTES_MAX>;
/// What one operator observed for an oracle's task.
pub type ObservationValue = Bytes<OBSERVATION_BYTES_MAX>;
/// What a guest gives as its reason to refuse an input; longer text is cut.
pub type Reason = Text<1024>;

/// An account's wish to have a service run once.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct TaskRequest {
    /// The service to run.
    pub service: ServiceId,
    /// What to run it on.
    pub input: Input,
    /// Who asks.
    pub requester: Address,
    /// Chosen by the requester, so that the same input can be run again.
    pub nonce: u64,
    /// The checkpoint as of which the service, its parameters and its operators are taken.
    pub height: Height,
    /// No operator takes the request up after this moment, or works on it much longer.
    pub valid_until: Timestamp,
}

impl TaskRequest {
    /// The task's identifier.
    #[must_use]
    pub fn task_id(&self, chain: &ChainId) -> TaskId {
        self.fields().task_id(chain)
    }

    /// The request with its requester's consent.
    #[must_use]
    pub fn sign(self, key: &AccountKey, context: &SigningContext) -> SignedTaskRequest {
        let signature = key.sign(&self.fields().signing_digest(context));
        SignedTaskRequest { request: self, signature }
    }

    fn fields(&self) -> RequestFields {
        RequestFields {
            service: self.service,
            input: Digest::of(self.input.as_slice()),
            requester: self.requester,
            nonce: self.nonce,
            height: self.height,
            valid_until: self.valid_until,
        }
    }
}

/// A request by its input's digest: what is signed, and what the ledger records.
pub(crate) struct RequestFields {
    pub(crate) service: ServiceId,
    pub(crate) input: Digest,
    pub(crate) requester: Address,
    pub(crate) nonce: u64,
    pub(crate) height: Height,
    pub(crate) valid_until: Timestamp,
}

impl RequestFields {
    pub(crate) fn task_id(&self, chain: &ChainId) -> TaskId {
        let digest = Preimage::new(Domain::Task, chain)
            .fixed(&self.service.0)
            .fixed(&[TRIGGER_REQUEST])
            .fixed(&self.input.0)
            .fixed(&self.requester.0)
            .number(self.nonce)
            .number(self.height.0)
            .number(self.valid_until.0)
            .digest();
        TaskId(digest.0)
    }

    fn signing_digest(&self, context: &SigningContext) -> Digest {
        context.digest(&RequestTask {
            service: self.service.0.into(),
            inputDigest: self.input.0.into(),
            requester: self.requester.0.into(),
            nonce: self.nonce,
            height: self.height.0,
            validUntil: self.valid_until.0,
        })
    }

    /// Checks the requester's signature.
    pub(crate) fn verify(
        &self,
        signature: &AccountSignature,
        context: &SigningContext,
    ) -> Result<TaskId, account::Error> {
        signature.verify(&self.signing_digest(context), self.requester)?;
        Ok(self.task_id(&context.chain))
    }
}

/// The trigger of a task that an account asked for.
const TRIGGER_REQUEST: u8 = 0;

/// A request, signed by its requester.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SignedTaskRequest {
    /// What is asked for.
    pub request: TaskRequest,
    /// The requester's signature (EIP-712, `RequestTask`).
    pub signature: AccountSignature,
}

impl SignedTaskRequest {
    /// Checks the requester's signature.
    ///
    /// # Errors
    /// [`account::Error`].
    pub fn verify(&self, context: &SigningContext) -> Result<TaskId, account::Error> {
        self.request.fields().verify(&self.signature, context)
    }
}

impl Canonical for SignedTaskRequest {
    const BYTES_MAX: usize = INPUT_BYTES_MAX + 256;
}

/// What running a task came to, as far as all honest operators see it alike.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct Outcome {
    /// Fuel that was used; what the task's price follows from.
    pub fuel_used: u64,
    /// What the component returned, or why it didn't.
    pub result: Result<Output, Failure>,
    /// The root of the observations that the result was reduced from, of an oracle's task.
    pub observations: Option<Digest>,
    /// What became of the service's state, if it keeps any.
    pub state: Option<StateTransition>,
}

/// The roots of a service's state before and after a task.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct StateTransition {
    /// What the task began with.
    pub before: Digest,
    /// What it left; the same as before if it failed.
    pub after: Digest,
}

impl Outcome {
    /// The outcome of a deterministic service without state.
    #[must_use]
    pub const fn new(fuel_used: u64, result: Result<Output, Failure>) -> Self {
        Self { fuel_used, result, observations: None, state: None }
    }

    /// What operators attest: bound to the task, so that equal outputs of two tasks have different digests.
    #[must_use]
    pub fn digest(&self, chain: &ChainId, task: &TaskId) -> Digest {
        Preimage::new(Domain::Outcome, chain).fixed(&task.0).variable(&self.to_bytes()).digest()
    }
}

impl Canonical for Outcome {
    const BYTES_MAX: usize = OUTPUT_BYTES_MAX + 192;
}

/// Why a run has no output. Only reasons that every operator meets alike: a slow machine isn't among them.
#[derive(
    Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, thiserror::Error,
)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Failure {
    /// The component returned an error.
    #[error("the component refused the input: {reason}")]
    Refused {
        /// In the component's words.
        reason: Reason,
    },
    /// The input is longer than the manifest allows.
    #[error("the input has more than {max} bytes")]
    InputTooLong {
        /// The manifest's limit, in bytes.
        max: u32,
    },
    /// The fuel was used up.
    #[error("out of fuel")]
    OutOfFuel,
    /// The component wanted more memory or tables than the manifest allows.
    #[error("out of memory")]
    OutOfMemory,
    /// The output is longer than the manifest allows.
    #[error("the output has more than {max} bytes")]
    OutputTooLong {
        /// The manifest's limit, in bytes.
        max: u32,
    },
    /// The component stopped on an error.
    #[error("trap: {trap}")]
    Trapped {
        /// Which one.
        trap: Trap,
    },
    /// The component called something that it isn't given: a file, a socket, the network outside of an observation.
    #[error("the component called {call}, which it isn't given")]
    Forbidden {
        /// The interface and the function.
        call: Reason,
    },
    /// The component wanted to keep more than its manifest allows, or a key or value that's too long.
    #[error("the state's keys and values exceed their bounds")]
    StateTooLarge,
}

/// The errors on which WebAssembly stops. WebAssembly core specification, "Execution".
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[borsh(use_discriminant = false)]
pub enum Trap {
    /// `unreachable`: in most languages a panic or an abort.
    Unreachable,
    /// An access outside the memory.
    MemoryOutOfBounds,
    /// An access outside a table.
    TableOutOfBounds,
    /// An indirect call of nothing, or of a function of another type.
    IndirectCall,
    /// Integer division by zero, or overflow, or a float that doesn't fit.
    Arithmetic,
    /// Too many calls within calls.
    StackOverflow,
    /// The component broke the rules of the component model (a pointer out of bounds, text that isn't UTF-8).
    CanonicalAbi,
    /// Anything else.
    Other,
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "unreachable",
            Self::MemoryOutOfBounds => "memory access out of bounds",
            Self::TableOutOfBounds => "table access out of bounds",
            Self::IndirectCall => "indirect call of another type",
            Self::Arithmetic => "arithmetic error",
            Self::StackOverflow => "stack overflow",
            Self::CanonicalAbi => "canonical ABI broken",
            Self::Other => "other",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn context() -> SigningContext {
        SigningContext { chain: "lamina-test-1".parse().unwrap(), ethereum_chain: 31337 }
    }

    fn request(key: &AccountKey) -> TaskRequest {
        TaskRequest {
            service: ServiceId([1; 32]),
            input: Input::new(*b"hello").unwrap(),
            requester: key.address(),
            nonce: 7,
            height: Height(0),
            valid_until: Timestamp(1_000),
        }
    }

    #[test]
    fn every_field_is_signed() {
        let key = AccountKey::from_bytes(&[1; 32]).unwrap();
        let signed = request(&key).sign(&key, &context());
        assert!(signed.verify(&context()).is_ok());
        let changes: [fn(&mut TaskRequest); 5] = [
            |r| r.service = ServiceId([2; 32]),
            |r| r.input = Input::new(*b"hallo").unwrap(),
            |r| r.nonce += 1,
            |r| r.height = Height(1),
            |r| r.valid_until = Timestamp(2_000),
        ];
        for change in changes {
            let mut other = signed.clone();
            change(&mut other.request);
            assert!(other.verify(&context()).is_err());
            let chain = &context().chain;
            assert_ne!(other.request.task_id(chain), signed.request.task_id(chain));
        }
    }

    #[test]
    fn signature_of_another_network_is_refused() {
        let key = AccountKey::from_bytes(&[1; 32]).unwrap();
        let signed = request(&key).sign(&key, &context());
        let other = SigningContext { chain: "lamina-test-2".parse().unwrap(), ..context() };
        assert!(signed.verify(&other).is_err());
    }

    #[test]
    fn equal_outcomes_of_two_tasks_have_different_digests() {
        let outcome = Outcome::new(1, Ok(Output::default()));
        let chain = context().chain;
        assert_ne!(
            outcome.digest(&chain, &TaskId([1; 32])),
            outcome.digest(&chain, &TaskId([2; 32]))
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic_or_lie(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            if let Ok(request) = SignedTaskRequest::from_bytes(&bytes) {
                prop_assert_eq!(request.to_bytes(), bytes.clone());
            }
            if let Ok(outcome) = Outcome::from_bytes(&bytes) {
                prop_assert_eq!(outcome.to_bytes(), bytes);
            }
        }

        #[test]
        fn one_changed_bit_never_verifies(bit in 0usize..1336) {
            let key = AccountKey::from_bytes(&[1; 32]).unwrap();
            let signed = request(&key).sign(&key, &context());
            let mut bytes = signed.to_bytes();
            let bit = bit % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let verified = SignedTaskRequest::from_bytes(&bytes).is_ok_and(|s| s.verify(&context()).is_ok());
            prop_assert!(!verified);
        }
    }
}
