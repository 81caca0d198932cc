use std::io;

use borsh::{BorshDeserialize, BorshSerialize};
use lamina_types::OperatorIndex;
use serde::{Serialize, Serializer};

use crate::OPERATORS_MAX;

/// Some operators of a set: bit `i % 8` of byte `i / 8` stands for operator `i`.
///
/// Bytes: the set's size (2 bytes, little-endian), then `⌈size / 8⌉` bytes whose unused bits are zero. In JSON: the list
/// of indices.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignerBitmap {
    size: u16,
    bits: Vec<u8>,
}

impl SignerBitmap {
    /// Nobody, of a set of `size` operators.
    #[must_use]
    pub fn empty(size: u16) -> Self {
        Self { size, bits: vec![0; usize::from(size).div_ceil(8)] }
    }

    /// Adds an operator; false if it was there already.
    ///
    /// # Panics
    /// If `index` isn't below the set's size.
    pub fn insert(&mut self, index: OperatorIndex) -> bool {
        assert!(index.0 < self.size, "operator {index} of {}", self.size);
        let (byte, bit) = (usize::from(index.0 / 8), 1 << (index.0 % 8));
        let absent = self.bits[byte] & bit == 0;
        self.bits[byte] |= bit;
        absent
    }

    /// Whether the operator is among them.
    #[must_use]
    pub fn contains(&self, index: OperatorIndex) -> bool {
        let byte = self.bits.get(usize::from(index.0 / 8)).copied().unwrap_or(0);
        byte & (1 << (index.0 % 8)) != 0
    }

    /// Their indices, ascending.
    pub fn iter(&self) -> impl Iterator<Item = OperatorIndex> + '_ {
        (0..self.size).map(OperatorIndex).filter(|i| self.contains(*i))
    }

    /// How many they are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.bits.iter().map(|byte| byte.count_ones() as usize).sum()
    }

    /// Size of the set that they belong to.
    #[must_use]
    pub const fn set_size(&self) -> u16 {
        self.size
    }
}

impl BorshSerialize for SignerBitmap {
    fn serialize<W: io::Write>(&self, writer: &mut W) -> io::Result<()> {
        writer.write_all(&self.size.to_le_bytes())?;
        writer.write_all(&self.bits)
    }
}

impl BorshDeserialize for SignerBitmap {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        let size = u16::deserialize_reader(reader)?;
        if usize::from(size) > OPERATORS_MAX {
            return Err(io::Error::other("bitmap of too many operators"));
        }
        let mut bitmap = Self::empty(size);
        reader.read_exact(&mut bitmap.bits)?;
        let used = size % 8;
        let unused_bits_are_zero =
            used == 0 || bitmap.bits.last().is_none_or(|byte| byte >> used == 0);
        if unused_bits_are_zero {
            Ok(bitmap)
        } else {
            Err(io::Error::other("bitmap with bits outside the set"))
        }
    }
}

impl Serialize for SignerBitmap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bits_outside_the_set_are_refused() {
        assert!(borsh::from_slice::<SignerBitmap>(&[4, 0, 0b0000_1111]).is_ok());
        assert!(borsh::from_slice::<SignerBitmap>(&[4, 0, 0b0001_0000]).is_err());
    }

    proptest! {
        #[test]
        fn members_are_what_was_inserted(size in 1u16..400, picks in prop::collection::btree_set(0u16..400, 0..50)) {
            let mut bitmap = SignerBitmap::empty(size);
            let picks: Vec<_> = picks.into_iter().filter(|i| *i < size).map(OperatorIndex).collect();
            for pick in &picks {
                prop_assert!(bitmap.insert(*pick));
                prop_assert!(!bitmap.insert(*pick));
            }
            prop_assert_eq!(bitmap.iter().collect::<Vec<_>>(), picks.clone());
            prop_assert_eq!(bitmap.count(), picks.len());
            let bytes = borsh::to_vec(&bitmap).unwrap();
            prop_assert_eq!(borsh::from_slice::<SignerBitmap>(&bytes).unwrap(), bitmap);
        }
    }
}
