//! BLS12-381 keys, aggregation, operator sets and quorum certificates.
//!
//! The ciphersuite is the one of Ethereum's consensus layer, `BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_`, over messages of
//! exactly 32 bytes: public keys in G1 (48 bytes), signatures in G2 (96 bytes). A certificate is a bitmap of an
//! [`OperatorSet`] and the aggregate of its signers' signatures on one message, above two thirds of the set's stake;
//! verifying it takes one pairing check, however many signed.
//!
//! Types tell what was checked: a [`PublicKey`] is in its group, an [`OperatorSet`]'s keys have proofs of possession, and
//! only [`Attestation::verify`] and its batched form make a [`VerifiedAttestation`], only
//! [`TaskCertificate::verify`] and [`VerifiedTaskCertificate::aggregate`] a [`VerifiedTaskCertificate`]. So it is with what an
//! oracle's operators observe: [`Observation`] and [`ObservationSet`] are verified into types of their own.
//! A [`CertifiedTask`] is what people keep of a task: a file that holds, or doesn't, by the genesis file alone.
//! [`Evidence`] shows, from signatures alone, that an operator signed two things where it may sign one.
//!
//! Sources: draft-irtf-cfrg-bls-signature-05; RFC 9380 (hash to curve).

mod attestation;
mod bitmap;
pub mod bls;
mod certificate;
mod certified_task;
mod checkpoint;
mod evidence;
mod genesis;
mod handover;
mod observation;
mod operator_set;
mod peer;
pub mod results;

pub use attestation::{Attestation, VerifiedAttestation, verify_attestations};
pub use bitmap::SignerBitmap;
pub use bls::{PublicKey, SecretKey, Signature};
pub use certificate::{Error as CertificateError, TaskCertificate, VerifiedTaskCertificate};
pub use certified_task::{
    Backing, CERTIFIED_TASK_BYTES_MAX, CertifiedTask, Error as CertifiedTaskError, RecordProof,
    VerifiedTask,
};
pub use checkpoint::{Checkpoint, CheckpointCertificate};
pub use evidence::{Error as EvidenceError, Evidence, OffenceKind, ProposedHeader, SignedTwice};
pub use genesis::{
    Deposit, EpochStart, Error as GenesisError, EthereumContracts, EthereumGenesis, FeeSchedule,
    GENESIS_BYTES_MAX, Genesis, LedgerGenesis,
};
pub use handover::{
    HANDOVER_FILE_BYTES_MAX, HANDOVER_OPERATORS_MAX, Handover, HandoverError, HandoverFile,
};
pub use observation::{
    Error as ObservationSetError, MEMBERS_MAX, Member, Members, Observation, ObservationSet,
    VerifiedObservation, VerifiedObservationSet,
};
pub use operator_set::{
    CONSENSUS_OPERATORS_MAX, Error as OperatorSetError, NO_REGISTRAR, OPERATORS_MAX, Operator,
    OperatorRecord, OperatorSet,
};
pub use peer::verify_peer_signature;
