//! The JSON text of a keystore: EIP-2335, version 4, with the one field `kind` of our own.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::KeyKind;
use crate::kdf::Kdf;

/// Longest keystore, in bytes; usual ones have about 1,000.
pub const KEYSTORE_BYTES_MAX: usize = 16 * 1024;

#[derive(Serialize, Deserialize)]
pub(crate) struct Document {
    pub(crate) crypto: Crypto,
    #[serde(default)]
    pub(crate) description: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pubkey: Option<PublicKey>,
    pub(crate) path: String,
    pub(crate) uuid: Uuid,
    pub(crate) version: u32,
    #[serde(default = "kind_in_the_eip")]
    pub(crate) kind: KeyKind,
}

impl Document {
    /// The document in `json`, if it's well-formed, and cheap enough to decrypt.
    pub(crate) fn from_json(json: &[u8]) -> Result<Self, Error> {
        if json.len() > KEYSTORE_BYTES_MAX {
            return Err(Error::TooLong { bytes: json.len() });
        }
        // Serde's messages quote what they meet; a bare secret must not get into a log.
        if json.trim_ascii_start().first() != Some(&b'{') {
            return Err(Error::NotAnObject);
        }
        // First, because files of other versions lack other fields, and the version says it better.
        let Versioned { version } = serde_json::from_slice(json).map_err(Error::json)?;
        if version != VERSION {
            return Err(Error::Version { version });
        }
        let document: Self = serde_json::from_slice(json).map_err(Error::json)?;
        document.crypto.kdf.function.check()?;
        if let Some(PublicKey(bytes)) = &document.pubkey {
            check_public_key(document.kind, bytes)?;
        }
        Ok(document)
    }

    pub(crate) fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("has no maps that could fail");
        json.push('\n');
        json
    }
}

pub(crate) fn check_public_key(kind: KeyKind, bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() == kind.public_key_bytes() {
        Ok(())
    } else {
        Err(Error::PublicKey { kind, bytes: bytes.len() })
    }
}

const fn kind_in_the_eip() -> KeyKind {
    KeyKind::Bls
}

/// EIP-2335, "JSON schema".
pub(crate) const VERSION: u32 = 4;

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// A public key's bytes, in hexadecimal without a prefix.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct PublicKey(#[serde(with = "hex")] pub(crate) Vec<u8>);

#[derive(Serialize, Deserialize)]
pub(crate) struct Crypto {
    pub(crate) kdf: KdfModule,
    pub(crate) checksum: ChecksumModule,
    pub(crate) cipher: CipherModule,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct KdfModule {
    #[serde(flatten)]
    pub(crate) function: Kdf,
    /// Empty: the EIP has the field in all modules.
    pub(crate) message: String,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct ChecksumModule {
    pub(crate) function: ChecksumFunction,
    pub(crate) params: NoParams,
    #[serde(with = "hex")]
    pub(crate) message: [u8; 32],
}

#[derive(Serialize, Deserialize)]
pub(crate) struct NoParams {}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ChecksumFunction {
    Sha256,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct CipherModule {
    pub(crate) function: CipherFunction,
    pub(crate) params: CipherParams,
    /// The encrypted secret.
    #[serde(with = "hex")]
    pub(crate) message: [u8; 32],
}

#[derive(Serialize, Deserialize)]
pub(crate) enum CipherFunction {
    #[serde(rename = "aes-128-ctr")]
    Aes128Ctr,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct CipherParams {
    #[serde(with = "hex")]
    pub(crate) iv: [u8; 16],
}

/// Why a text isn't a keystore that we use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Longer than any keystore.
    #[error("{bytes} bytes are no keystore, which has at most {KEYSTORE_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Another kind of file.
    #[error("not a JSON object, as an EIP-2335 keystore is")]
    NotAnObject,
    /// A field is missing, cut off, of another form, or names an algorithm that EIP-2335 lacks.
    #[error("not a whole EIP-2335 keystore; restore the file from a backup")]
    Json {
        /// Which field, and where.
        #[source]
        source: serde_json::Error,
    },
    /// Another version, such as Ethereum's older account files (3).
    #[error("keystore of version {version}; only version 4 (EIP-2335) is supported, so convert it")]
    Version {
        /// The file's version.
        version: u32,
    },
    /// Parameters for which scrypt isn't defined.
    #[error("scrypt isn't defined for n = {n}, r = {r}, p = {p}")]
    Scrypt {
        /// Cost; a power of two above 1.
        n: u64,
        /// Block size; above 0.
        r: u32,
        /// Parallelism; above 0.
        p: u32,
    },
    /// No rounds at all.
    #[error("PBKDF2 isn't defined for 0 rounds")]
    Pbkdf2,
    /// Another length than 32.
    #[error("derived keys of {dklen} bytes aren't supported, only of 32")]
    KeyLength {
        /// The length, in bytes.
        dklen: u32,
    },
    /// To decrypt it would take unreasonable memory or time.
    #[error("decrypting it is too costly: {what} would be {value}, at most {max} is accepted")]
    TooCostly {
        /// What is costly.
        what: &'static str,
        /// How much it would be.
        value: u64,
        /// The most that is accepted.
        max: u64,
    },
    /// The public key isn't one of this kind.
    #[error("a public key of {bytes} bytes isn't one of {kind} keys, which have {}", kind.public_key_bytes())]
    PublicKey {
        /// The key's kind.
        kind: KeyKind,
        /// The length that was found.
        bytes: usize,
    },
}

impl Error {
    const fn json(source: serde_json::Error) -> Self {
        Self::Json { source }
    }
}
