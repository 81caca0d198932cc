use std::fmt;
use std::io;
use std::str::FromStr;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Address;

/// So much of an asset, in its smallest unit. Arithmetic is checked: nothing wraps and nothing is rounded unseen.
///
/// In JSON and text: decimal digits, in quotes, since JavaScript's numbers end at 2⁵³.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    BorshSerialize,
    BorshDeserialize,
)]
pub struct Amount(pub u128);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The sum, unless it overflows.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, unless it's negative.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// `self × numerator ÷ denominator`, rounded down, with nothing lost in between. `None` if the denominator is zero or
    /// the result doesn't fit.
    #[must_use]
    pub fn mul_div(self, numerator: u128, denominator: u128) -> Option<Self> {
        use alloy_primitives::U256;
        let product = U256::from(self.0) * U256::from(numerator);
        let quotient = product.checked_div(U256::from(denominator))?;
        u128::try_from(quotient).ok().map(Self)
    }

    /// Whether it's nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Amount {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <String as Deserialize>::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// What is owned: ether, a token of Ethereum, or a voucher for a token of another chain.
///
/// In JSON and text: `ether`, `erc20:0x…`, `ibc:0x…`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
)]
pub enum Asset {
    /// Ethereum's own, in wei.
    Ether,
    /// The ERC-20 token of this contract.
    Erc20(Address),
    /// A voucher for a token of another chain.
    Ibc(Voucher),
}

/// SHA-256 of a token's path and base denomination (ADR-001 of ibc-go), with its first bit set: so a voucher is one word
/// that no address is, and has one form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize)]
pub struct Voucher([u8; 32]);

impl Voucher {
    /// The voucher of the token with this hash.
    #[must_use]
    pub const fn new(mut hash: [u8; 32]) -> Self {
        hash[0] |= 0x80;
        Self(hash)
    }
}

impl BorshDeserialize for Voucher {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        let hash = <[u8; 32]>::deserialize_reader(reader)?;
        if hash[0] & 0x80 == 0 {
            return Err(io::Error::other("a voucher's first bit is set"));
        }
        Ok(Self(hash))
    }
}

impl Asset {
    /// The asset as the one word that Solidity and EIP-712 know: zero for ether, the contract's address after a one, or
    /// the voucher's hash.
    #[must_use]
    pub fn to_word(self) -> [u8; 32] {
        let mut word = [0; 32];
        match self {
            Self::Ether => {}
            Self::Erc20(address) => {
                word[11] = 1;
                word[12..].copy_from_slice(&address.0);
            }
            Self::Ibc(voucher) => word = voucher.0,
        }
        word
    }

    /// The asset with this word; `None` if none has it.
    #[must_use]
    pub fn from_word(word: [u8; 32]) -> Option<Self> {
        let mut address = [0; 20];
        address.copy_from_slice(&word[12..]);
        let asset = match (word[0] & 0x80, word[11]) {
            (0x80, _) => Self::Ibc(Voucher(word)),
            (_, 0) => Self::Ether,
            _ => Self::Erc20(Address(address)),
        };
        (asset.to_word() == word).then_some(asset)
    }
}

impl fmt::Display for Asset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ether => f.write_str("ether"),
            Self::Erc20(address) => write!(f, "erc20:{address}"),
            Self::Ibc(voucher) => write!(f, "ibc:0x{}", hex::encode(voucher.0)),
        }
    }
}

/// Text that names no asset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "an asset is `ether`, `erc20:` and an address, or `ibc:` and a hash of 32 bytes, its first bit set"
)]
pub struct InvalidAsset;

impl FromStr for Asset {
    type Err = InvalidAsset;

    fn from_str(text: &str) -> Result<Self, InvalidAsset> {
        match text.split_once(':') {
            None if text == "ether" => Ok(Self::Ether),
            Some(("erc20", address)) => address.parse().map(Self::Erc20).map_err(|_| InvalidAsset),
            Some(("ibc", hash)) => {
                let hash: crate::Digest = hash.parse().map_err(|_| InvalidAsset)?;
                // Another way to write it would be another way to sign it.
                if hash.0[0] & 0x80 == 0 {
                    return Err(InvalidAsset);
                }
                Ok(Self::Ibc(Voucher(hash.0)))
            }
            _ => Err(InvalidAsset),
        }
    }
}

impl Serialize for Asset {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Asset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <String as Deserialize>::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assets_are_read_back() {
        let hash = [9; 32];
        for asset in [Asset::Ether, Asset::Erc20(Address([7; 20])), Asset::Ibc(Voucher::new(hash))]
        {
            assert_eq!(asset.to_string().parse(), Ok(asset));
        }
        let unmarked = format!("ibc:0x{}", "09".repeat(32));
        assert_eq!(unmarked.parse::<Asset>(), Err(InvalidAsset));
        assert!(borsh::from_slice::<Asset>(&[&[2][..], &[9; 32]].concat()).is_err());
        assert_eq!("erc21:0x".parse::<Asset>(), Err(InvalidAsset));
    }

    #[test]
    fn assets_do_not_share_words() {
        let words = [
            Asset::Ether,
            Asset::Erc20(Address([0; 20])),
            Asset::Erc20(Address([1; 20])),
            Asset::Ibc(Voucher::new([0; 32])),
        ]
        .map(Asset::to_word);
        for word in words {
            assert_eq!(Asset::from_word(word).map(Asset::to_word), Some(word));
        }
        assert_eq!(Asset::from_word([1; 32]), None);
        let distinct: std::collections::BTreeSet<_> = words.iter().collect();
        assert_eq!(distinct.len(), words.len());
    }

    #[test]
    fn shares_are_rounded_down_without_overflow() {
        assert_eq!(Amount(10).mul_div(1, 3), Some(Amount(3)));
        assert_eq!(Amount(u128::MAX).mul_div(u128::MAX, u128::MAX), Some(Amount(u128::MAX)));
        assert_eq!(Amount(u128::MAX).mul_div(2, 1), None);
        assert_eq!(Amount(1).mul_div(1, 0), None);
    }

    #[test]
    fn json_keeps_every_digit() {
        let amount = Amount(u128::MAX);
        let text = serde_json::to_string(&amount).unwrap();
        assert_eq!(text, "\"340282366920938463463374607431768211455\"");
        assert_eq!(serde_json::from_str::<Amount>(&text).unwrap(), amount);
    }
}
