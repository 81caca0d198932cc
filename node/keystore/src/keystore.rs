use std::fmt;
use std::path::{Path, PathBuf};

use aes::Aes128;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit as _, StreamCipher as _};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::format::{
    self, ChecksumFunction, ChecksumModule, CipherFunction, CipherModule, CipherParams, Crypto,
    Document, KdfModule, NoParams, PublicKey,
};
use crate::kdf::{DerivedKey, Kdf};
use crate::{Cost, KeyKind, Passphrase, Secret, file};

/// One encrypted secret: what a keystore file holds.
pub struct Keystore(Document);

impl Keystore {
    /// Encrypts `secret`, whose public part is `public_key` ([`KeyKind::public_key_bytes`] long).
    ///
    /// # Errors
    /// [`Error::Format`] if the public key has another length; [`Error::Randomness`].
    pub fn encrypt(
        secret: &Secret,
        kind: KeyKind,
        public_key: &[u8],
        passphrase: &Passphrase,
        cost: Cost,
    ) -> Result<Self, Error> {
        format::check_public_key(kind, public_key)?;
        let kdf = Kdf::scrypt(cost, random()?);
        let iv = random()?;
        let uuid = uuid::Builder::from_random_bytes(random()?).into_uuid();
        let key = kdf.derive(passphrase);
        let mut message = *secret.expose();
        apply_cipher(&key, &iv, &mut message);
        Ok(Self(Document {
            crypto: Crypto {
                checksum: ChecksumModule {
                    function: ChecksumFunction::Sha256,
                    params: NoParams {},
                    message: checksum(&key, &message),
                },
                cipher: CipherModule {
                    function: CipherFunction::Aes128Ctr,
                    params: CipherParams { iv },
                    message,
                },
                kdf: KdfModule { function: kdf, message: String::new() },
            },
            description: format!("Lamina operator's {kind} key"),
            pubkey: Some(PublicKey(public_key.to_vec())),
            path: String::new(),
            uuid,
            version: format::VERSION,
            kind,
        }))
    }

    /// Parses a keystore's text.
    ///
    /// # Errors
    /// [`format::Error`], before any costly work is done.
    pub fn from_json(json: &[u8]) -> Result<Self, format::Error> {
        Document::from_json(json).map(Self)
    }

    /// Reads a keystore that only its owner may access.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Unusable`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let json = file::read_private(path, format::KEYSTORE_BYTES_MAX)?;
        Self::from_json(&json).map_err(|source| Error::Unusable { path: path.into(), source })
    }

    /// Writes a new file, whole or not at all, that only its owner may access.
    ///
    /// # Errors
    /// [`Error::File`]; an existing file is left as it is.
    pub fn write_new(&self, path: &Path) -> Result<(), Error> {
        Ok(file::write_new(path, self.to_json().as_bytes())?)
    }

    /// The secret. Takes as long as the keystore's cost says.
    ///
    /// # Errors
    /// [`Error::WrongPassphrase`].
    pub fn decrypt(&self, passphrase: &Passphrase) -> Result<Secret, Error> {
        let Crypto { kdf, checksum: expected, cipher } = &self.0.crypto;
        let key = kdf.function.derive(passphrase);
        if checksum(&key, &cipher.message) != expected.message {
            return Err(Error::WrongPassphrase { kind: self.0.kind });
        }
        let mut secret = Zeroizing::new(cipher.message);
        apply_cipher(&key, &cipher.params.iv, &mut secret);
        Ok(Secret::from(secret))
    }

    /// What the key is for, as the file says.
    #[must_use]
    pub const fn kind(&self) -> KeyKind {
        self.0.kind
    }

    /// The key's public part, as the file says; foreign files may lack it.
    #[must_use]
    pub fn public_key(&self) -> Option<&[u8]> {
        self.0.pubkey.as_ref().map(|key| key.0.as_slice())
    }

    /// The keystore as text, to be stored where only its owner can read it.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.0.to_json()
    }
}

/// Without the ciphertext: a log is no place for it.
impl fmt::Debug for Keystore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uuid: &Uuid = &self.0.uuid;
        f.debug_struct("Keystore").field("kind", &self.0.kind).field("uuid", uuid).finish()
    }
}

/// EIP-2335, "Password verification".
fn checksum(key: &DerivedKey, message: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update(&key[16..]).chain_update(message).finalize().into()
}

/// EIP-2335, "Secret decryption"; encryption is the same.
fn apply_cipher(key: &DerivedKey, iv: &[u8; 16], message: &mut [u8; 32]) {
    Ctr128BE::<Aes128>::new_from_slices(&key[..16], iv)
        .expect("AES-128 takes 16 bytes of each")
        .apply_keystream(message);
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|source| Error::Randomness { source })?;
    Ok(bytes)
}

/// Why a key couldn't be stored or loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file couldn't be read or written, or others may read it.
    #[error(transparent)]
    File(#[from] file::Error),
    /// The file isn't a keystore that we use.
    #[error("{} can't be used as a keystore", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: format::Error,
    },
    /// What was to be stored doesn't fit together.
    #[error(transparent)]
    Format(#[from] format::Error),
    /// The file's checksum doesn't fit; nothing tells a wrong passphrase from changed bytes.
    #[error(
        "wrong passphrase for the {kind} key, or its keystore was damaged; if the passphrase is right, restore the file from a backup"
    )]
    WrongPassphrase {
        /// The key's kind.
        kind: KeyKind,
    },
    /// A key for one purpose in another's place.
    #[error("{} holds a {found} key where a {wanted} key belongs; was it copied to the wrong name?", path.display())]
    WrongKind {
        /// The file.
        path: PathBuf,
        /// The kind that it holds.
        found: KeyKind,
        /// The kind that was asked for.
        wanted: KeyKind,
    },
    /// The system gave no randomness.
    #[error("no randomness from the operating system")]
    Randomness {
        /// Why.
        #[source]
        source: getrandom::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keystore() -> Keystore {
        let passphrase = Passphrase::new("open sesame").unwrap();
        let secret = Secret::from([0x5a; 32]);
        Keystore::encrypt(&secret, KeyKind::Account, &[1; 20], &passphrase, Cost::Light).unwrap()
    }

    #[test]
    fn text_does_not_hold_the_secret() {
        let json = keystore().to_json();
        assert!(!json.contains(&hex::encode([0x5a; 32])));
        assert!(!json.contains("sesame"));
    }

    #[test]
    fn two_keystores_of_one_secret_share_nothing() {
        let (a, b) = (keystore().0, keystore().0);
        assert_ne!(a.crypto.cipher.message, b.crypto.cipher.message);
        assert_ne!(a.crypto.cipher.params.iv, b.crypto.cipher.params.iv);
        assert_ne!(a.uuid, b.uuid);
    }

    #[test]
    fn public_key_of_another_kind_is_refused() {
        let passphrase = Passphrase::new("open sesame").unwrap();
        let encrypted = Keystore::encrypt(
            &Secret::from([1; 32]),
            KeyKind::Bls,
            &[1; 32],
            &passphrase,
            Cost::Light,
        );
        assert!(matches!(encrypted, Err(Error::Format(format::Error::PublicKey { .. }))));
    }

    #[test]
    fn changed_ciphertext_is_noticed() {
        let mut keystore = keystore();
        keystore.0.crypto.cipher.message[31] ^= 1;
        let decrypted = keystore.decrypt(&Passphrase::new("open sesame").unwrap());
        assert!(matches!(decrypted, Err(Error::WrongPassphrase { kind: KeyKind::Account })));
    }

    #[test]
    fn older_account_files_are_named_as_such() {
        let found = Keystore::from_json(br#"{"version": 3, "id": "x", "crypto": {}}"#);
        assert!(matches!(found, Err(format::Error::Version { version: 3 })));
    }

    #[test]
    fn bare_secret_is_not_quoted_in_the_error() {
        let error = Keystore::from_json(b"\"ac0974bec39a17e3\"").unwrap_err();
        assert!(matches!(error, format::Error::NotAnObject));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = Keystore::from_json(&bytes);
        }

        #[test]
        fn no_change_of_a_good_file_makes_it_panic_or_costly(
            at in any::<prop::sample::Index>(),
            removed in 0usize..40,
            inserted in "[0-9a-f\"{}:,. -]{0,12}",
        ) {
            let mut json = keystore().to_json();
            let from = at.index(json.len());
            json.replace_range(from..(from + removed).min(json.len()), &inserted);
            if let Ok(keystore) = Keystore::from_json(json.as_bytes()) {
                prop_assert!(keystore.0.crypto.kdf.function.check().is_ok());
            }
        }
    }
}
