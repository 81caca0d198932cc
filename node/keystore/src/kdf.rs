use pbkdf2::pbkdf2_hmac;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::Passphrase;
use crate::format::Error;

/// How much work it is to try one passphrase, for the owner and for a thief alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// scrypt with n = 2¹⁸: 256 MiB and about a second. EIP-2335, "Test Cases".
    Standard,
    /// scrypt with n = 2¹²: 4 MiB and about ten milliseconds. For development networks and tests only: a stolen file is
    /// soon opened.
    Light,
}

/// Turns a passphrase into a key. EIP-2335, "Modules: KDF".
#[derive(Serialize, Deserialize)]
#[serde(tag = "function", content = "params", rename_all = "lowercase")]
pub(crate) enum Kdf {
    Scrypt {
        dklen: u32,
        n: u64,
        p: u32,
        r: u32,
        #[serde(with = "hex")]
        salt: Vec<u8>,
    },
    Pbkdf2 {
        dklen: u32,
        c: u32,
        prf: Prf,
        #[serde(with = "hex")]
        salt: Vec<u8>,
    },
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Prf {
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
}

/// Key material: 16 bytes that encrypt, 16 that go into the checksum.
pub(crate) type DerivedKey = Zeroizing<[u8; KEY_BYTES as usize]>;

impl Kdf {
    pub(crate) fn scrypt(cost: Cost, salt: [u8; 32]) -> Self {
        let n = match cost {
            Cost::Standard => 1 << 18,
            Cost::Light => 1 << 12,
        };
        Self::Scrypt { dklen: KEY_BYTES, n, p: 1, r: 8, salt: salt.to_vec() }
    }

    /// Refuses what isn't defined and what would cost too much, before any work is done.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match *self {
            Self::Scrypt { dklen, n, p, r, .. } => {
                check_length(dklen)?;
                if !n.is_power_of_two() || n == 1 || p == 0 || r == 0 {
                    return Err(Error::Scrypt { n, r, p });
                }
                let memory_bytes = n
                    .checked_add(p.into())
                    .and_then(|blocks| blocks.checked_mul(128 * u64::from(r)))
                    .unwrap_or(u64::MAX);
                bound("scrypt memory in bytes", memory_bytes, SCRYPT_MEMORY_BYTES_MAX)?;
                // Can't overflow: n·r is bounded by the memory.
                bound("scrypt work (n·r·p)", n * u64::from(r) * u64::from(p), SCRYPT_WORK_MAX)
            }
            Self::Pbkdf2 { dklen, c, .. } => {
                check_length(dklen)?;
                if c == 0 {
                    return Err(Error::Pbkdf2);
                }
                bound("PBKDF2 rounds", c.into(), PBKDF2_ROUNDS_MAX)
            }
        }
    }

    /// The key for `passphrase`; [`Self::check`] has passed.
    pub(crate) fn derive(&self, passphrase: &Passphrase) -> DerivedKey {
        let mut key = Zeroizing::new([0; KEY_BYTES as usize]);
        match self {
            Self::Scrypt { n, p, r, salt, .. } => {
                let log_n = u8::try_from(n.ilog2()).expect("at most 63");
                let params = scrypt::Params::new(log_n, *r, *p).expect("checked when it was read");
                scrypt::scrypt(passphrase.as_bytes(), salt, &params, &mut *key)
                    .expect("32 bytes can be derived");
            }
            Self::Pbkdf2 { c, salt, .. } => {
                pbkdf2_hmac::<Sha256>(passphrase.as_bytes(), salt, *c, &mut *key);
            }
        }
        key
    }
}

fn check_length(dklen: u32) -> Result<(), Error> {
    if dklen == KEY_BYTES { Ok(()) } else { Err(Error::KeyLength { dklen }) }
}

fn bound(what: &'static str, value: u64, max: u64) -> Result<(), Error> {
    if value <= max { Ok(()) } else { Err(Error::TooCostly { what, value, max }) }
}

/// The EIP allows more, which nothing would use: AES-128 takes 16 bytes and the checksum 16.
const KEY_BYTES: u32 = 32;
/// Twice what [`Cost::Standard`] and the tools that we know of need.
const SCRYPT_MEMORY_BYTES_MAX: u64 = 512 << 20;
/// Four times what [`Cost::Standard`] needs: some seconds.
const SCRYPT_WORK_MAX: u64 = 1 << 23;
/// 32 times the 2¹⁸ of the EIP: some seconds.
const PBKDF2_ROUNDS_MAX: u64 = 1 << 23;

#[cfg(test)]
mod tests {
    use super::*;

    fn scrypt(n: u64, r: u32, p: u32) -> Kdf {
        Kdf::Scrypt { dklen: 32, n, p, r, salt: vec![0; 32] }
    }

    #[test]
    fn own_costs_are_within_the_bounds() {
        for cost in [Cost::Standard, Cost::Light] {
            assert!(Kdf::scrypt(cost, [0; 32]).check().is_ok());
        }
    }

    #[test]
    fn work_that_takes_too_long_or_too_much_memory_is_refused() {
        for kdf in [
            scrypt(1 << 22, 8, 1),
            scrypt(1 << 63, u32::MAX, u32::MAX),
            scrypt(1 << 18, 8, 5),
            scrypt(2, 1, u32::MAX),
            Kdf::Pbkdf2 { dklen: 32, c: u32::MAX, prf: Prf::HmacSha256, salt: Vec::new() },
        ] {
            assert!(matches!(kdf.check(), Err(Error::TooCostly { .. })));
        }
    }

    #[test]
    fn undefined_parameters_are_refused() {
        for kdf in
            [scrypt(0, 8, 1), scrypt(1, 8, 1), scrypt(3, 8, 1), scrypt(4, 0, 1), scrypt(4, 8, 0)]
        {
            assert!(matches!(kdf.check(), Err(Error::Scrypt { .. })));
        }
        let short = Kdf::Pbkdf2 { dklen: 16, c: 1, prf: Prf::HmacSha256, salt: Vec::new() };
        assert!(matches!(short.check(), Err(Error::KeyLength { dklen: 16 })));
    }
}
