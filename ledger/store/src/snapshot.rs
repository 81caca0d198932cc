use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};
use jmt::storage::HasPreimage as _;
use jmt::{JellyfishMerkleIterator, KeyHash, Sha256Jmt};
use lamina_types::{Bytes, Canonical, Digest, Height, List};

use crate::{Error, KEY_BYTES_MAX, Reader, Store, VALUE_BYTES_MAX};

/// Longest piece of a snapshot, in bytes: with what's around it, it fits into an answer of 1 MiB.
pub const CHUNK_BYTES_MAX: usize = 896 * 1024;
/// Most keys of a piece. Few pieces come so far: keys are about 50 bytes, values 100.
const ENTRIES_MAX: usize = 16 * 1024;
/// Longest proof, in bytes: a count and a sibling for each bit of a hash, of 65 bytes each.
const PROOF_BYTES_MAX: usize = 4 + 256 * 65;
/// What a piece has beside its entries: their count, the proof, and whether it's the last.
const OVERHEAD_BYTES: usize = 4 + 4 + PROOF_BYTES_MAX + 1;
// A value that couldn't be handed out would lock new nodes out.
const _: () = assert!(
    OVERHEAD_BYTES + 4 + KEY_BYTES_MAX + 4 + VALUE_BYTES_MAX <= CHUNK_BYTES_MAX,
    "the largest entry fits into a piece"
);

/// A piece of a state: entries in the order of their keys' hashes, with the proof that there are no others between them.
///
/// Bytes: number of entries (4), each with the length of its key (4), the key, the length of its value (4), the value; length
/// of the proof (4), the proof; whether it's the last piece (1). Integers are little-endian. The proof is jmt's: the number of
/// the last entry's siblings on the right (4), each as 0, or 1 with its children's hashes (64), or 2 with a leaf's hash of key and
/// hash of value (64).
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Chunk {
    /// Keys and values.
    pub entries: List<Entry, ENTRIES_MAX>,
    /// Of the last entry; empty if there is none.
    pub proof: Bytes<PROOF_BYTES_MAX>,
    /// Whether nothing comes after it.
    pub last: bool,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Entry {
    /// The key.
    pub key: Bytes<KEY_BYTES_MAX>,
    /// The value.
    pub value: Bytes<VALUE_BYTES_MAX>,
}

impl Canonical for Chunk {
    const BYTES_MAX: usize = CHUNK_BYTES_MAX;
}

impl Entry {
    fn size(&self) -> usize {
        4 + self.key.as_slice().len() + 4 + self.value.as_slice().len()
    }
}

impl Store {
    /// As [`Reader::snapshot_chunk`], of what's kept now.
    ///
    /// # Errors
    /// As there, and [`Error::Restoring`].
    pub fn snapshot_chunk(
        &self,
        height: Height,
        after: Option<Digest>,
        bytes_max: usize,
    ) -> Result<Chunk, Error> {
        self.reader()?.snapshot_chunk(height, after, bytes_max)
    }
}

impl Reader {
    /// A piece of the state at a height: keys whose hashes come after `after`. It has about `bytes_max` bytes, never more than
    /// [`CHUNK_BYTES_MAX`], and at least one entry if there is one.
    ///
    /// # Errors
    /// [`Error::Pruned`] and [`Error::Future`] if that height isn't kept; [`Error::Tree`].
    pub fn snapshot_chunk(
        &self,
        height: Height,
        after: Option<Digest>,
        bytes_max: usize,
    ) -> Result<Chunk, Error> {
        self.check_kept(height)?;
        let room = bytes_max.min(CHUNK_BYTES_MAX).saturating_sub(OVERHEAD_BYTES);
        let Some(start) = after.map_or(Some([0; 32]), |after| successor(after.0)) else {
            return Ok(Chunk::new(Vec::new(), Bytes::default(), true));
        };
        let leaves = JellyfishMerkleIterator::new(Arc::new(self.clone()), height.0, KeyHash(start));
        let (mut entries, mut size, mut last) = (Vec::new(), 0, None);
        for leaf in leaves.map_err(Error::tree)? {
            let (hash, _) = leaf.map_err(Error::tree)?;
            let entry = self.entry(hash, height)?;
            size += entry.size();
            if entries.len() == ENTRIES_MAX || (size > room && !entries.is_empty()) {
                return Ok(Chunk::new(entries, self.range_proof(last, height)?, false));
            }
            entries.push(entry);
            last = Some(hash);
        }
        Ok(Chunk::new(entries, self.range_proof(last, height)?, true))
    }

    fn entry(&self, hash: KeyHash, height: Height) -> Result<Entry, Error> {
        let corrupt = |reason: &str| Error::corrupt("preimages", format!("{hash:?}: {reason}"));
        let key = self.preimage(hash).map_err(Error::tree)?.ok_or_else(|| corrupt("no key"))?;
        let value = self.written(&hash.0, height.0)?.ok_or_else(|| corrupt("no value"))?;
        Ok(Entry {
            key: Bytes::new(key).map_err(|_| corrupt("a long key"))?,
            value: Bytes::new(value).map_err(|_| corrupt("a long value"))?,
        })
    }

    fn range_proof(
        &self,
        last: Option<KeyHash>,
        height: Height,
    ) -> Result<Bytes<PROOF_BYTES_MAX>, Error> {
        let Some(last) = last else { return Ok(Bytes::default()) };
        let proof = Sha256Jmt::new(self).get_range_proof(last, height.0).map_err(Error::tree)?;
        let bytes = borsh::to_vec(&proof).expect("writing to memory doesn't fail");
        Ok(Bytes::new(bytes).expect("a hash has 256 bits, and so many siblings at most"))
    }
}

impl Chunk {
    fn new(entries: Vec<Entry>, proof: Bytes<PROOF_BYTES_MAX>, last: bool) -> Self {
        Self { entries: List::truncated(entries), proof, last }
    }
}

/// The next hash; `None` after the last one.
pub(crate) fn successor(mut hash: [u8; 32]) -> Option<[u8; 32]> {
    for byte in hash.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(hash);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_counted() {
        let mut hash = [0; 32];
        hash[31] = u8::MAX;
        let mut next = [0; 32];
        next[30] = 1;
        assert_eq!(successor(hash), Some(next));
        assert_eq!(successor([u8::MAX; 32]), None);
    }
}
