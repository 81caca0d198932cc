use std::fmt;

use serde::{Deserialize, Serialize};

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// The node's identity among its peers: ed25519.
    Peer,
    /// Attestations and certificates: BLS12-381.
    Bls,
    /// The operator's Ethereum account: secp256k1.
    Account,
}

impl KeyKind {
    /// All kinds, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Peer, Self::Bls, Self::Account];

    /// Name of the key's file in a [`crate::KeyDirectory`].
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Peer => "peer.json",
            Self::Bls => "bls.json",
            Self::Account => "account.json",
        }
    }

    /// Length of the public part that is shown, in bytes: an ed25519 key, a compressed G1 point, an Ethereum address.
    #[must_use]
    pub const fn public_key_bytes(self) -> usize {
        match self {
            Self::Peer => 32,
            Self::Bls => 48,
            Self::Account => 20,
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Peer => "peer",
            Self::Bls => "BLS",
            Self::Account => "account",
        })
    }
}
