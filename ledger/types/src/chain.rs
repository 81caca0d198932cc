use std::fmt;
use std::io;
use std::str::FromStr;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// Which Lamina network something belongs to, `lamina-1` say: 1 to 32 of `a`–`z`, `0`–`9` and `-`.
///
/// Part of everything that is signed, so that no signature holds on two networks. In signed bytes it is padded with zeros
/// to 32 (a `bytes32` in Solidity).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChainId(String);

impl ChainId {
    /// The identifier, padded with zeros.
    #[must_use]
    pub fn to_bytes32(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..self.0.len()].copy_from_slice(self.0.as_bytes());
        bytes
    }

    /// The identifier.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text isn't a chain identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("chain id {0:?} must be 1 to 32 characters of a-z, 0-9 and -")]
pub struct InvalidChainId(String);

impl FromStr for ChainId {
    type Err = InvalidChainId;

    fn from_str(text: &str) -> Result<Self, InvalidChainId> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if text.is_empty() || text.len() > 32 || !text.bytes().all(allowed) {
            return Err(InvalidChainId(text.chars().take(40).collect()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for ChainId {
    type Error = InvalidChainId;

    fn try_from(text: String) -> Result<Self, InvalidChainId> {
        text.parse()
    }
}

impl From<ChainId> for String {
    fn from(id: ChainId) -> Self {
        id.0
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl BorshSerialize for ChainId {
    fn serialize<W: io::Write>(&self, writer: &mut W) -> io::Result<()> {
        BorshSerialize::serialize(&self.0, writer)
    }
}

impl BorshDeserialize for ChainId {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        crate::Text::<32>::deserialize_reader(reader)?.as_str().parse().map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_plain_names_are_chain_ids() {
        assert!("lamina-devnet-1".parse::<ChainId>().is_ok());
        for bad in ["", "Lamina", "a b", "é", &"a".repeat(33)] {
            assert!(bad.parse::<ChainId>().is_err(), "{bad:?}");
        }
    }
}
