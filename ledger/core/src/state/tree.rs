//! The state tree: a Jellyfish Merkle tree (`jmt`) over SHA-256 of all keys, whose root stands in each checkpoint's header,
//! and ICS-23 proofs from it.
//!
//! A version is a checkpoint's height, without gaps. Short values stand in the tree as they are; of one that is longer than
//! [`VALUE_BYTES_MAX`] there's only the hash, since a proof of absence carries the values of both neighbours, and who
//! writes a long one next to others' keys mustn't make these unprovable.
//!
//! No value is empty (ICS-23 can't prove one), and a tree never is: genesis writes the network's name.

use borsh::{BorshDeserialize, BorshSerialize};
use ics23::commitment_proof::Proof;
use ics23::{CommitmentProof, HostFunctionsManager, ProofSpec};
use jmt::storage::TreeUpdateBatch;
use jmt::{KeyHash, Sha256Jmt, Version};
use lamina_types::{Bytes, Canonical, Digest, Height};
use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::Writes;
use crate::{StateReader, StorageError};

/// Longest proof, in bytes: a proof of absence from a tree of 2⁶⁴ keys with two of the longest values.
pub const PROOF_BYTES_MAX: usize = 16 * 1024;
/// Longest value that stands in the tree itself, in bytes. Whatever IBC proves is shorter.
pub const VALUE_BYTES_MAX: usize = 1024;

/// Proof that a key has a value as of a checkpoint, or none: an ICS-23 `CommitmentProof`, as protobuf.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct StateProof(Bytes<PROOF_BYTES_MAX>);

impl StateProof {
    /// Takes protobuf bytes, which aren't looked at before [`Self::verify`].
    ///
    /// # Errors
    /// [`lamina_types::canonical::Error::TooLong`].
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, lamina_types::canonical::Error> {
        Bytes::new(bytes).map(Self)
    }

    /// The protobuf bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// Whether the state with this root has `value` under `key`, or nothing if it's `None`.
    #[must_use]
    pub fn verify(&self, root: &Digest, key: &[u8], value: Option<&[u8]>) -> bool {
        let value = value.map(in_tree);
        let holds = |proof| holds(&proof, &jmt::ics23_spec(), root, key, value.as_deref());
        self.decode().filter(|proof| names(proof, key)).is_some_and(holds)
    }

    /// The same for a tree of another kind, whose values stand in it as they are.
    #[must_use]
    pub fn verify_with(
        &self,
        spec: &ProofSpec,
        root: &Digest,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> bool {
        self.decode().is_some_and(|proof| holds(&proof, spec, root, key, value))
    }

    /// The proof, if it has the one byte form and is of one key. (Compressed ones could grow out of bounds.)
    fn decode(&self) -> Option<CommitmentProof> {
        let proof = CommitmentProof::decode(self.as_slice()).ok()?;
        let single = matches!(proof.proof, Some(Proof::Exist(_) | Proof::Nonexist(_)));
        (single && proof.encode_to_vec() == self.as_slice()).then_some(proof)
    }
}

/// Whether the proof says that it's of this key. `ics23` doesn't look at what a proof of absence says.
fn names(proof: &CommitmentProof, key: &[u8]) -> bool {
    match &proof.proof {
        Some(Proof::Exist(there)) => there.key == key,
        Some(Proof::Nonexist(absent)) => absent.key == key,
        _ => false,
    }
}

fn holds(
    proof: &CommitmentProof,
    spec: &ProofSpec,
    root: &Digest,
    key: &[u8],
    value: Option<&[u8]>,
) -> bool {
    let root = root.0.to_vec();
    match value {
        Some(value) => {
            ics23::verify_membership::<HostFunctionsManager>(proof, spec, &root, key, value)
        }
        None => ics23::verify_non_membership::<HostFunctionsManager>(proof, spec, &root, key),
    }
}

impl Canonical for StateProof {
    const BYTES_MAX: usize = 4 + PROOF_BYTES_MAX;
}

/// A key's value as of a checkpoint, and proof of it.
///
/// # Errors
/// [`Error::NotKept`], [`Error::EmptyKey`], [`Error::TooLong`]; [`Error::Storage`] if the tree couldn't be read.
pub fn prove<R: StateReader>(
    reader: &R,
    key: &[u8],
    height: Height,
) -> Result<(Option<Vec<u8>>, StateProof), Error> {
    if key.is_empty() {
        return Err(Error::EmptyKey);
    }
    let tree = Sha256Jmt::new(reader);
    if tree.get_root_hash_option(height.0).map_err(|e| fault(&e))?.is_none() {
        return Err(Error::NotKept { height });
    }
    let (value, proof) =
        tree.get_with_ics23_proof(key.to_vec(), height.0).map_err(|e| fault(&e))?;
    let bytes = proof.encode_to_vec();
    let length = bytes.len();
    let proof = StateProof::new(bytes).map_err(|_| Error::TooLong { length })?;
    let value = value.map(|value| original(reader, key, height, value)).transpose()?;
    Ok((value, proof))
}

/// The root as of a checkpoint; `None` if that's not kept.
///
/// # Errors
/// [`StorageError`].
pub fn root<R: StateReader>(reader: &R, height: Height) -> Result<Option<Digest>, StorageError> {
    let root = Sha256Jmt::new(reader).get_root_hash_option(height.0).map_err(|e| fault(&e))?;
    Ok(root.map(|root| Digest(root.0)))
}

/// What stands in the tree for a value: the value, or for a long one a tag and its hash. A short value that begins with the
/// tag counts as long, so no two values share one.
#[must_use]
pub fn in_tree(value: &[u8]) -> Vec<u8> {
    if value.len() <= VALUE_BYTES_MAX && !value.starts_with(LONG) {
        return value.to_vec();
    }
    [LONG, &Digest::of(value).0].concat()
}

/// Where a key stands in the tree: its SHA-256.
#[must_use]
pub fn key_hash(key: &[u8]) -> KeyHash {
    KeyHash(Digest::of(key).0)
}

/// Adds the next version to the tree. Removals of what isn't there are dropped from `writes`.
///
/// # Errors
/// [`StorageError`], also if the version before isn't there.
///
/// # Panics
/// If nothing is written: the version would have no root.
pub(super) fn put<R: StateReader>(
    reader: &R,
    version: Version,
    writes: &mut Writes,
) -> Result<(Digest, TreeUpdateBatch), StorageError> {
    drop_idle(reader, writes)?;
    assert!(writes.values().any(Option::is_some), "each version writes something");
    let values = writes.iter().map(|(key, value)| (key_hash(key), value.as_deref().map(in_tree)));
    let (root, batch) =
        Sha256Jmt::new(reader).put_value_set(values, version).map_err(|e| fault(&e))?;
    Ok((Digest(root.0), batch))
}

/// Drops removals of keys that aren't there, such as those of timers that were set and taken back at once.
fn drop_idle<R: StateReader>(reader: &R, writes: &mut Writes) -> Result<(), StorageError> {
    let mut idle = Vec::new();
    for (key, _) in writes.iter().filter(|(_, value)| value.is_none()) {
        if reader.get(key)?.is_none() {
            idle.push(key.clone());
        }
    }
    for key in idle {
        writes.remove(&key);
    }
    Ok(())
}

/// The value that something in the tree stands for.
fn original<R: StateReader>(
    reader: &R,
    key: &[u8],
    height: Height,
    stands_for: Vec<u8>,
) -> Result<Vec<u8>, Error> {
    if !stands_for.starts_with(LONG) {
        return Ok(stands_for);
    }
    let value = reader.get_at(key, height.0)?.filter(|value| in_tree(value) == stands_for);
    value.ok_or(Error::NotKept { height })
}

fn fault(error: &impl std::fmt::Display) -> StorageError {
    StorageError(format!("the state tree: {error:#}"))
}

/// What stands for a long value begins with it; the value's SHA-256 follows.
const LONG: &[u8] = b"lamina/long-value/v1";

/// Why there's no proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The state of that checkpoint isn't kept, or the checkpoint isn't there yet.
    #[error("the state as of height {height} isn't kept")]
    NotKept {
        /// Which checkpoint.
        height: Height,
    },
    /// ICS-23 knows no empty keys.
    #[error("the key is empty")]
    EmptyKey,
    /// The key is very long, or shares very much of its hash with others.
    #[error("the proof has {length} bytes, at most {PROOF_BYTES_MAX} are allowed")]
    TooLong {
        /// The proof's length.
        length: usize,
    },
    /// The tree couldn't be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

#[cfg(test)]
mod tests {
    use lamina_types::testing::vectors;

    use super::*;
    use crate::testing::MemoryState;

    /// Of `penumbra-zone/jmt`. Its first case is an empty tree, which there's none of here.
    #[test]
    fn published_roots_come_out() {
        let Some(folder) = vectors("JMT vectors", "jmt") else { return };
        let text = std::fs::read_to_string(folder.join("sha2_256_vectors.json")).unwrap();
        let file: serde_json::Value = serde_json::from_str(&text).unwrap();
        let bytes = |value: &serde_json::Value| hex::decode(value.as_str().unwrap()).unwrap();
        let cases = file["vectors"].as_array().unwrap();
        let filled = cases.iter().filter(|case| !case["data"].as_array().unwrap().is_empty());
        let mut count = 0;
        for case in filled {
            let data = case["data"].as_array().unwrap().iter();
            let mut writes: Writes =
                data.map(|pair| (bytes(&pair["key"]), Some(bytes(&pair["value"])))).collect();
            let (root, _) = put(&MemoryState::default(), 0, &mut writes).unwrap();
            assert_eq!(root.0.as_slice(), bytes(&case["expected_root"]));
            count += 1;
        }
        assert_eq!(count, 2);
    }

    #[test]
    fn removals_of_what_is_not_there_are_dropped() {
        let mut writes = Writes::from([(vec![1], None), (vec![2], Some(vec![2]))]);
        let (root, _) = put(&MemoryState::default(), 0, &mut writes).unwrap();
        assert_eq!(writes, Writes::from([(vec![2], Some(vec![2]))]));
        let (same, _) = put(&MemoryState::default(), 0, &mut writes).unwrap();
        assert_eq!(root, same);
    }

    #[test]
    #[should_panic(expected = "each version writes something")]
    fn a_version_without_a_root_is_our_own_mistake() {
        let _ = put(&MemoryState::default(), 0, &mut Writes::from([(vec![1], None)]));
    }
}
