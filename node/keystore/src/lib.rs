//! An operator's keys on disk, encrypted as EIP-2335 keystores.
//!
//! A node has three keys: ed25519 between peers, BLS12-381 for certificates, secp256k1 for its account. Each is 32 secret
//! bytes in a file of its own ([`KeyDirectory`]), encrypted under a [`Passphrase`] in the form that Ethereum's validators
//! use (EIP-2335, version 4), so that existing tools read and write the BLS one. A field `kind`, which other tools ignore,
//! keeps one key from being used for another; without it a file holds a BLS key, as in the EIP.
//!
//! Files are taken as hostile: their size and what they make the key derivation cost are bounded, and checked before any
//! work is done. They are written whole or not at all, never over another, and are refused if others may read them.
//!
//! Assumes Unix permissions. Doesn't make or derive keys, and doesn't know that a public key belongs to a secret: neither
//! it nor the kind is covered by the file's checksum, so derive the public key from the secret and compare. Key derivation
//! takes about a second at [`Cost::Standard`] and blocks its thread. The scratch memory of scrypt isn't erased.
//!
//! ```
//! use lamina_keystore::{Cost, KeyDirectory, KeyKind, Keystore, Passphrase, Secret};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let keys = KeyDirectory::new(folder.path().join("keys"));
//! let passphrase = Passphrase::new("correct horse battery staple")?;
//! let secret = Secret::from([7; 32]);
//! let public_key = [8; 32]; // derived from the secret by whoever made it
//! let keystore =
//!     Keystore::encrypt(&secret, KeyKind::Peer, &public_key, &passphrase, Cost::Light)?;
//! keys.write_new(&keystore)?;
//!
//! let read = keys.read(KeyKind::Peer)?;
//! assert_eq!(read.public_key(), Some(&public_key[..]));
//! assert_eq!(read.decrypt(&passphrase)?.expose(), secret.expose());
//! # Ok(())
//! # }
//! ```
//!
//! [EIP-2335](https://eips.ethereum.org/EIPS/eip-2335).

mod directory;
pub mod file;
pub mod format;
mod kdf;
mod keystore;
mod kind;
pub mod passphrase;
mod secret;

pub use directory::KeyDirectory;
pub use kdf::Cost;
pub use keystore::{Error, Keystore};
pub use kind::KeyKind;
pub use passphrase::Passphrase;
pub use secret::Secret;
