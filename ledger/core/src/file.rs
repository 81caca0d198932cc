//! A checkpoint as a file, with what it proves of the state: all that's needed to check it is the genesis file.
//!
//! `"LAMINACP" 01`, then Borsh: the network's name, the checkpoint (header and certificate), and up to [`ENTRIES_MAX`] keys,
//! each with its value or nothing, and an ICS-23 proof from the header's state root. `lamina checkpoint verify` reads it.

use borsh::{BorshDeserialize, BorshSerialize};
use lamina_certificate::{CertificateError, Checkpoint, OperatorSet};
use lamina_types::{
    Bytes, Canonical, ChainId, CheckpointHeader, EpochNumber, Height, List, canonical,
};

use crate::state::tree::StateProof;

/// Most keys that one file proves.
pub const ENTRIES_MAX: usize = 16;
/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 512;
/// Longest value, in bytes: a manifest's.
const VALUE_BYTES_MAX: usize = 128 * 1024;
const MAGIC: &[u8] = b"LAMINACP\x01";

/// A checkpoint with keys and values of its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointFile(Content);

#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct Content {
    chain: ChainId,
    checkpoint: Checkpoint,
    entries: List<Entry, ENTRIES_MAX>,
}

/// What the state has under a key.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct Entry {
    key: Bytes<KEY_BYTES_MAX>,
    value: Option<Bytes<VALUE_BYTES_MAX>>,
    proof: StateProof,
}

impl Canonical for Content {
    const BYTES_MAX: usize = 64
        + Checkpoint::BYTES_MAX
        + ENTRIES_MAX * (KEY_BYTES_MAX + VALUE_BYTES_MAX + StateProof::BYTES_MAX + 16);
}

impl CheckpointFile {
    /// A checkpoint that proves nothing but itself.
    #[must_use]
    pub fn new(chain: ChainId, checkpoint: Checkpoint) -> Self {
        Self(Content { chain, checkpoint, entries: List::default() })
    }

    /// Adds what the state has under a key.
    ///
    /// # Errors
    /// [`Error::Malformed`]: the key, the value or their number is out of bounds.
    pub fn with_entry(
        self,
        key: &[u8],
        value: Option<&[u8]>,
        proof: StateProof,
    ) -> Result<Self, Error> {
        let Content { chain, checkpoint, entries } = self.0;
        let entry =
            Entry { key: Bytes::new(key)?, value: value.map(Bytes::new).transpose()?, proof };
        let mut entries = entries.into_vec();
        entries.push(entry);
        Ok(Self(Content { chain, checkpoint, entries: List::new(entries)? }))
    }

    /// Reads a file; whether it holds is for [`Self::verify`] to tell.
    ///
    /// # Errors
    /// [`Error::OtherKind`], [`Error::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let content = bytes.strip_prefix(MAGIC).ok_or(Error::OtherKind)?;
        Ok(Self(Content::from_bytes(content)?))
    }

    /// The file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [MAGIC, &self.0.to_bytes()].concat()
    }

    /// Checks the certificate against the operator sets of a network, each with the first checkpoint that it signs, and
    /// all values against the header. Returns the checkpoint's height.
    ///
    /// # Errors
    /// [`Error`] names what doesn't hold.
    pub fn verify(
        &self,
        chain: &ChainId,
        epochs: &[(Height, OperatorSet)],
    ) -> Result<Height, Error> {
        let Content { chain: of, checkpoint, entries } = &self.0;
        if of != chain {
            return Err(Error::OtherChain { file: of.clone(), genesis: chain.clone() });
        }
        let height = checkpoint.header.height;
        if epochs.iter().all(|(_, set)| set.epoch() < checkpoint.header.epoch) {
            return Err(Error::UnknownEpoch { epoch: checkpoint.header.epoch });
        }
        let mut sets = epochs.iter().rev();
        let (_, set) = sets.find(|(from, _)| *from <= height).ok_or(Error::NoEpoch { height })?;
        checkpoint.verify(&set.consensus_set())?;
        for entry in entries.as_slice() {
            let value = entry.value.as_ref().map(Bytes::as_slice);
            if !entry.proof.verify(&checkpoint.header.state, entry.key.as_slice(), value) {
                return Err(Error::Proof { key: hex::encode(entry.key.as_slice()) });
            }
        }
        Ok(height)
    }

    /// The checkpoint's header.
    #[must_use]
    pub const fn header(&self) -> &CheckpointHeader {
        &self.0.checkpoint.header
    }

    /// How many operators signed.
    #[must_use]
    pub fn signers(&self) -> usize {
        self.0.checkpoint.certificate.signers.count()
    }

    /// Keys with their values, or nothing.
    pub fn entries(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let entries = self.0.entries.as_slice().iter();
        entries.map(|e| (e.key.as_slice(), e.value.as_ref().map(Bytes::as_slice)))
    }
}

/// Why a file doesn't count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not such a file, or of another version.
    #[error("not a checkpoint's file of version 1")]
    OtherKind,
    /// Doesn't decode, or is out of bounds.
    #[error("malformed: {0}")]
    Malformed(#[from] canonical::Error),
    /// Of another network.
    #[error("the file is of network {file}, the genesis file of {genesis}")]
    OtherChain {
        /// The file's.
        file: ChainId,
        /// The one that was expected.
        genesis: ChainId,
    },
    /// No operator set is known that could have signed it.
    #[error("no operator set is known for height {height}")]
    NoEpoch {
        /// The checkpoint's.
        height: Height,
    },
    /// Of an epoch after those that are known.
    #[error("the operators of epoch {epoch} aren't known; `lamina checkpoint handovers` gets them")]
    UnknownEpoch {
        /// The checkpoint's.
        epoch: EpochNumber,
    },
    /// The certificate doesn't hold.
    #[error("the certificate doesn't hold: {0}")]
    Certificate(#[from] CertificateError),
    /// A value isn't in the state.
    #[error("the proof of key {key} doesn't hold")]
    Proof {
        /// Which one, in hexadecimal.
        key: String,
    },
}
