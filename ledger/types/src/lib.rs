//! Identifiers, what is signed, and the canonical bytes that all of Lamina agrees on.
//!
//! Everything that crosses a node's edge is parsed once into a type of this crate, whose bounds hold from then on. A value
//! has exactly one byte form ([`Canonical`]): what decodes re-encodes to the same bytes, or it is refused. Whatever is
//! signed or used as an identifier is `sha256(domain tag ‖ chain id ‖ fields)`, built in [`signing`]; what people sign
//! with a wallet is EIP-712 typed data, built in [`account`].
//!
//! No I/O, no clock, no randomness: this crate is used by every core and by the light clients of other chains.

pub mod account;
pub mod canonical;
mod chain;
mod change;
mod checkpoint;
mod ids;
pub mod operation;
mod origin;
mod price;
mod runtime;
mod service;
pub mod signing;
mod task;
#[cfg(feature = "test-utils")]
pub mod testing;
mod time;
mod value;

pub use account::{AccountKey, AccountSignature};
pub use canonical::{Bytes, Canonical, List, Text};
pub use chain::ChainId;
pub use change::{BookId, CHANGE_BYTES_MAX, CHANGE_OPERATIONS_MAX, Change, ChangeHead, VolumeId};
pub use checkpoint::{
    BookCut, CUT_BOOKS_MAX, CUT_BYTES_MAX, CUT_LANES_MAX, CheckpointHeader, Cut, EthereumBlock,
    LaneHead,
};
pub use ids::{
    Address, ChangeId, CommitmentId, Digest, EpochNumber, Hasher, HeaderId, Height, OperationId,
    OperatorIndex, PeerKey, ProposalId, ServiceId, TaskId, VaultId,
};
pub use operation::{
    Action, OPERATION_BYTES_MAX, Operation, OperatorKeys, Purpose, RewardSource, ServiceChange,
    SignedOperation, TaskRecord,
};
pub use origin::{InvalidOrigin, Origin};
pub use price::Price;
pub use runtime::Runtime;
pub use service::{
    BLOB_BYTES_MAX, BLOBS_MAX, Blob, BlobName, COMPONENT_BYTES_MAX, Error as ServiceError, Limits,
    Llm, MANIFEST_BYTES_MAX, Manifest, ORIGINS_MAX, Oracle, PARAMETERS_MAX, ParameterName,
    ParameterValue, STATE_BYTES_MAX, ServiceName,
};
pub use task::{
    Failure, INPUT_BYTES_MAX, Input, OBSERVATION_BYTES_MAX, OUTPUT_BYTES_MAX, ObservationValue,
    Outcome, Output, Reason, SignedTaskRequest, StateTransition, TaskRequest, Trap,
};
pub use time::Timestamp;
pub use value::{Amount, Asset, InvalidAsset, Voucher};
