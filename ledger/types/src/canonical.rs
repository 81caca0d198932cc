//! One byte form for each value: [Borsh](https://borsh.io), bounded, and checked by encoding again.
//!
//! Borsh writes integers as little-endian, sequences with a 32-bit count, options and variants with one byte. Its decoder
//! still takes a few second forms (an unsorted map, say); [`Canonical::from_bytes`] refuses these, so that bytes can
//! be hashed, compared and signed in place of values.

use std::fmt;
use std::io;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value with exactly one, bounded byte form.
pub trait Canonical: BorshSerialize + BorshDeserialize {
    /// Longest encoding that is decoded, in bytes.
    const BYTES_MAX: usize;

    /// The value's only byte form.
    fn to_bytes(&self) -> Vec<u8> {
        borsh::to_vec(self).expect("writing to memory doesn't fail")
    }

    /// The value that `bytes` is the encoding of.
    ///
    /// # Errors
    /// [`Error::TooLong`] above [`Self::BYTES_MAX`]; [`Error::Malformed`] if the bytes don't decode, or only in part;
    /// [`Error::NotCanonical`] if the value has another encoding.
    fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > Self::BYTES_MAX {
            return Err(Error::TooLong { length: bytes.len(), max: Self::BYTES_MAX });
        }
        let value: Self = borsh::from_slice(bytes).map_err(|e| Error::Malformed(e.to_string()))?;
        if value.to_bytes() != bytes {
            return Err(Error::NotCanonical);
        }
        Ok(value)
    }
}

/// Why bytes aren't a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Longer than the type's bound.
    #[error("length {length}, at most {max} is allowed")]
    TooLong {
        /// Length that was found: bytes, or values of a list.
        length: usize,
        /// The bound.
        max: usize,
    },
    /// Not an encoding of the type.
    #[error("malformed: {0}")]
    Malformed(String),
    /// Decodes, but the value's encoding is another one.
    #[error("not the canonical encoding")]
    NotCanonical,
}

/// At most `MAX` bytes. In JSON: hexadecimal with `0x`.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize)]
pub struct Bytes<const MAX: usize>(Vec<u8>);

impl<const MAX: usize> Bytes<MAX> {
    /// Takes `bytes` if there are at most `MAX`.
    ///
    /// # Errors
    /// [`Error::TooLong`].
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, Error> {
        let bytes = bytes.into();
        if bytes.len() > MAX {
            return Err(Error::TooLong { length: bytes.len(), max: MAX });
        }
        Ok(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, by value.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

impl<const MAX: usize> fmt::Debug for Bytes<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl<const MAX: usize> BorshDeserialize for Bytes<MAX> {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        Self::new(read_bounded(reader, MAX)?).map_err(io::Error::other)
    }
}

impl<const MAX: usize> Serialize for Bytes<MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("0x{}", hex::encode(&self.0)))
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Bytes<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as Deserialize>::deserialize(deserializer)?;
        let digits = text.strip_prefix("0x").unwrap_or(&text);
        let bytes = hex::decode(digits).map_err(serde::de::Error::custom)?;
        Self::new(bytes).map_err(serde::de::Error::custom)
    }
}

/// At most `MAX` bytes of UTF-8.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, Serialize,
)]
pub struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    /// Takes `text` if it has at most `MAX` bytes.
    ///
    /// # Errors
    /// [`Error::TooLong`].
    pub fn new(text: impl Into<String>) -> Result<Self, Error> {
        let text = text.into();
        if text.len() > MAX {
            return Err(Error::TooLong { length: text.len(), max: MAX });
        }
        Ok(Self(text))
    }

    /// As much of `text` as fits, cut between two characters.
    #[must_use]
    pub fn truncated(text: &str) -> Self {
        Self(text[..text.floor_char_boundary(MAX)].to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const MAX: usize> BorshDeserialize for Text<MAX> {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        let text = String::from_utf8(read_bounded(reader, MAX)?).map_err(io::Error::other)?;
        Self::new(text).map_err(io::Error::other)
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Text<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(<String as Deserialize>::deserialize(deserializer)?)
            .map_err(serde::de::Error::custom)
    }
}

/// At most `MAX` values.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, Serialize)]
pub struct List<T, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> List<T, MAX> {
    /// Takes `values` if there are at most `MAX`.
    ///
    /// # Errors
    /// [`Error::TooLong`].
    pub fn new(values: Vec<T>) -> Result<Self, Error> {
        if values.len() > MAX {
            return Err(Error::TooLong { length: values.len(), max: MAX });
        }
        Ok(Self(values))
    }

    /// Takes as many of `values` as fit.
    pub fn truncated(values: impl IntoIterator<Item = T>) -> Self {
        Self(values.into_iter().take(MAX).collect())
    }

    /// The values.
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        &self.0
    }

    /// The values, by value.
    #[must_use]
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(<Vec<T> as Deserialize>::deserialize(deserializer)?)
            .map_err(serde::de::Error::custom)
    }
}

impl<T: BorshDeserialize, const MAX: usize> BorshDeserialize for List<T, MAX> {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        let count = u32::deserialize_reader(reader)? as usize;
        if count > MAX {
            return Err(io::Error::other(Error::TooLong { length: count, max: MAX }));
        }
        (0..count).map(|_| T::deserialize_reader(reader)).collect::<io::Result<_>>().map(Self)
    }
}

/// Reads a count and as many bytes; refuses the count before anything is allocated for it.
fn read_bounded<R: io::Read>(reader: &mut R, max: usize) -> io::Result<Vec<u8>> {
    let count = u32::deserialize_reader(reader)? as usize;
    if count > max {
        return Err(io::Error::other(Error::TooLong { length: count, max }));
    }
    let mut bytes = vec![0; count];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, BorshSerialize, BorshDeserialize)]
    struct Sample {
        map: std::collections::BTreeMap<u8, u8>,
        bytes: Bytes<4>,
        text: Text<4>,
    }

    impl Canonical for Sample {
        const BYTES_MAX: usize = 64;
    }

    fn sample() -> Sample {
        Sample {
            map: [(1, 2), (3, 4)].into(),
            bytes: Bytes::new([1, 2]).unwrap(),
            text: Text::new("ab").unwrap(),
        }
    }

    #[test]
    fn decoding_undoes_encoding() {
        assert_eq!(Sample::from_bytes(&sample().to_bytes()), Ok(sample()));
    }

    #[test]
    fn second_byte_forms_are_refused() {
        let mut unsorted = sample().to_bytes();
        unsorted[4..8].copy_from_slice(&[3, 4, 1, 2]);
        assert!(Sample::from_bytes(&unsorted).is_err());
    }

    #[test]
    fn bytes_left_over_are_refused() {
        let mut long = sample().to_bytes();
        long.push(0);
        assert!(matches!(Sample::from_bytes(&long), Err(Error::Malformed(_))));
    }

    #[test]
    fn counts_above_the_bound_are_refused_before_allocation() {
        let mut reader: &[u8] = &u32::MAX.to_le_bytes();
        assert!(Bytes::<4>::deserialize_reader(&mut reader).is_err());
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(Text::<4>::truncated("abcé").as_str(), "abc");
        assert_eq!(Text::<5>::truncated("abcé").as_str(), "abcé");
    }
}
