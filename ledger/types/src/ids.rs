use std::fmt;
use std::str::FromStr;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Text that isn't the hexadecimal form of so many bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} bytes as {} hexadecimal digits after 0x", expected * 2)]
pub struct InvalidHex {
    /// How many bytes the type has.
    pub expected: usize,
}

/// A newtype over fixed bytes: ordered, hashed, written as `0x…` in text and JSON.
macro_rules! fixed_bytes {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
        )]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// The first four bytes in hexadecimal: enough for logs and tables.
            #[must_use]
            pub fn short(&self) -> String {
                hex::encode(&self.0[..4])
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "0x{}", hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl FromStr for $name {
            type Err = InvalidHex;

            fn from_str(text: &str) -> Result<Self, InvalidHex> {
                let mut bytes = [0; $bytes];
                hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), &mut bytes)
                    .map_err(|_| InvalidHex { expected: $bytes })?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <String as Deserialize>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

fixed_bytes! {
    /// A SHA-256 digest.
    Digest, 32
}
fixed_bytes! {
    /// A service: the hash of its first manifest.
    ServiceId, 32
}
fixed_bytes! {
    /// A task: the hash of what is to be run, on what, for whom, as of which height.
    TaskId, 32
}
fixed_bytes! {
    /// An operation: the EIP-712 digest that its account signs.
    OperationId, 32
}
fixed_bytes! {
    /// A commitment: the identifier of the operation that made it.
    CommitmentId, 32
}
fixed_bytes! {
    /// A proposal: the identifier of the operation that made it.
    ProposalId, 32
}
fixed_bytes! {
    /// A vault: the identifier of the operation that made it.
    VaultId, 32
}
fixed_bytes! {
    /// A change of a book: the digest that its author signs.
    ChangeId, 32
}
fixed_bytes! {
    /// A checkpoint: the hash of its header.
    HeaderId, 32
}
fixed_bytes! {
    /// An account: an Ethereum address.
    Address, 20
}
fixed_bytes! {
    /// A node's ed25519 public key, from which its libp2p peer id follows.
    PeerKey, 32
}

impl Digest {
    /// SHA-256 of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }
}

/// The [`Digest`] of bytes that come in parts.
#[derive(Debug, Clone, Default)]
pub struct Hasher(sha2::Sha256);

impl Hasher {
    /// Appends bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        sha2::Digest::update(&mut self.0, bytes);
    }

    /// SHA-256 of all of them.
    #[must_use]
    pub fn digest(self) -> Digest {
        Digest(sha2::Digest::finalize(self.0).into())
    }
}

/// A newtype over an integer, written as the plain number.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
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
            Serialize,
            Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// An operator's place in its operator set, from 0.
    OperatorIndex, u16
}
number! {
    /// An operator set's number, from 0 (the one of the genesis file).
    EpochNumber, u64
}
number! {
    /// A checkpoint's number. Genesis is checkpoint 0.
    Height, u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_read_back() {
        let id = TaskId([7; 32]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(serde_json::from_str::<TaskId>(&format!("\"{id}\"")).unwrap(), id);
    }

    #[test]
    fn text_of_another_length_is_refused() {
        assert_eq!("0x00".parse::<Address>(), Err(InvalidHex { expected: 20 }));
        assert!("zz".repeat(20).parse::<Address>().is_err());
    }
}
