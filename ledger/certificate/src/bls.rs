//! Keys and signatures on BLS12-381, "minimal public key size" (draft-irtf-cfrg-bls-signature-05, §2.1, §4.2.3).

use std::fmt;
use std::io;

use blst::BLST_ERROR;
use blst::min_pk;
use borsh::{BorshDeserialize, BorshSerialize};
use lamina_types::Digest;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

/// The ciphersuite's tag for hashing to the curve: Ethereum's consensus layer's.
pub const CIPHERSUITE: &[u8] = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";

/// A secret key. Erased from memory when dropped; never printed.
#[derive(Clone)]
pub struct SecretKey(min_pk::SecretKey);

impl SecretKey {
    /// Derives a key from 32 random bytes (draft-irtf-cfrg-bls-signature-05, §2.3, `KeyGen`).
    ///
    /// # Panics
    /// Never: the derivation takes any 32 bytes.
    #[must_use]
    pub fn derive(random: &[u8; 32]) -> Self {
        Self(min_pk::SecretKey::key_gen(random, &[]).expect("32 bytes are enough"))
    }

    /// The key with this scalar, big-endian.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] if it's zero or not below the group's order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, Error> {
        min_pk::SecretKey::from_bytes(bytes).map(Self).map_err(|_| Error::InvalidKey)
    }

    /// The scalar, big-endian.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.sk_to_pk())
    }

    /// Signs a digest. What it stands for is in the digest: see [`lamina_types::signing`].
    #[must_use]
    pub fn sign(&self, message: &Digest) -> Signature {
        Signature(self.0.sign(&message.0, CIPHERSUITE, &[]))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// A public key: a point of G1 other than the identity. Its bytes are the compressed point.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(min_pk::PublicKey);

impl PublicKey {
    /// Decompresses and checks a key (§2.5, `KeyValidate`).
    ///
    /// # Errors
    /// [`Error::InvalidKey`].
    pub fn from_bytes(bytes: &[u8; 48]) -> Result<Self, Error> {
        min_pk::PublicKey::key_validate(bytes).map(Self).map_err(|_| Error::InvalidKey)
    }

    /// The compressed point.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 48] {
        self.0.to_bytes()
    }

    /// Whether this key made `signature` on `message`. Takes about 0.9 ms.
    #[must_use]
    pub fn verifies(&self, message: &Digest, signature: &Signature) -> bool {
        let result = signature.0.verify(false, &message.0, CIPHERSUITE, &[], &self.0, false);
        result == BLST_ERROR::BLST_SUCCESS
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", hex::encode(&self.to_bytes()[..4]))
    }
}

/// A signature: a point of G2 other than the identity. Its bytes are the compressed point.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(min_pk::Signature);

impl Signature {
    /// Decompresses and checks a signature, membership in the group included. Takes about 70 µs.
    ///
    /// # Errors
    /// [`Error::InvalidSignature`].
    pub fn from_bytes(bytes: &[u8; 96]) -> Result<Self, Error> {
        min_pk::Signature::sig_validate(bytes, true).map(Self).map_err(|_| Error::InvalidSignature)
    }

    /// The compressed point.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 96] {
        self.0.to_bytes()
    }

    /// The sum of `signatures` (§2.8, `Aggregate`).
    ///
    /// # Errors
    /// [`Error::NothingToAggregate`] for an empty list; [`Error::InvalidSignature`] if the sum is the identity.
    pub fn aggregate<'a>(signatures: impl IntoIterator<Item = &'a Self>) -> Result<Self, Error> {
        let mut signatures = signatures.into_iter();
        let first = signatures.next().ok_or(Error::NothingToAggregate)?;
        let mut sum = min_pk::AggregateSignature::from_signature(&first.0);
        for signature in signatures {
            sum.add_signature(&signature.0, false).map_err(|_| Error::InvalidSignature)?;
        }
        // The members are in the group, so the sum is: only the identity is left to refuse.
        Self::from_bytes(&sum.to_signature().to_bytes())
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", hex::encode(&self.to_bytes()[..4]))
    }
}

impl BorshSerialize for Signature {
    fn serialize<W: io::Write>(&self, writer: &mut W) -> io::Result<()> {
        writer.write_all(&self.to_bytes())
    }
}

impl BorshDeserialize for Signature {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        Self::from_bytes(&<[u8; 96]>::deserialize_reader(reader)?).map_err(io::Error::other)
    }
}

/// A sum of public keys, from which members can be taken away again.
#[derive(Clone, Copy, Default)]
pub(crate) struct KeySum(Option<min_pk::AggregatePublicKey>);

impl KeySum {
    pub(crate) fn add(&mut self, key: &PublicKey) {
        match &mut self.0 {
            Some(sum) => sum.add_public_key(&key.0, false).expect("unchecked addition"),
            None => self.0 = Some(min_pk::AggregatePublicKey::from_public_key(&key.0)),
        }
    }

    pub(crate) fn subtract(&mut self, key: &PublicKey) {
        let key = min_pk::AggregatePublicKey::from_public_key(&key.0);
        self.0.as_mut().expect("only members are subtracted").sub_aggregate(&key);
    }

    /// The sum as a key; `None` for the identity.
    pub(crate) fn key(&self) -> Option<PublicKey> {
        let key = self.0.as_ref()?.to_public_key();
        key.validate().ok().map(|()| PublicKey(key))
    }
}

impl fmt::Debug for KeySum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySum({:?})", self.key())
    }
}

/// Tells for each pair whether it's a signature of that key on `message`.
///
/// All are checked as one, each weighted with a random number of 64 bits, and halved on failure: `n` good signatures take
/// one pairing check, each bad one about `log2(n)` more. A plain sum wouldn't do to tell them apart: `s₁ + x` and
/// `s₂ − x` pass it. (Bellare, Garay, Rabin: Fast Batch Verification for Modular Exponentiation and Digital Signatures,
/// 1998.) The weights must be unknown to those who sign.
#[must_use]
pub fn verify_batch(
    message: &Digest,
    pairs: &[(PublicKey, Signature)],
    rng: &mut impl CryptoRng,
) -> Vec<bool> {
    let mut holds = vec![true; pairs.len()];
    verify_halves(message, pairs, &mut holds, rng);
    holds
}

fn verify_halves(
    message: &Digest,
    pairs: &[(PublicKey, Signature)],
    holds: &mut [bool],
    rng: &mut impl CryptoRng,
) {
    match pairs {
        [] => {}
        [(key, signature)] => holds[0] = key.verifies(message, signature),
        _ if weighted_sum_verifies(message, pairs, rng) => {}
        _ => {
            let half = pairs.len() / 2;
            let (left, right) = holds.split_at_mut(half);
            verify_halves(message, &pairs[..half], left, rng);
            verify_halves(message, &pairs[half..], right, rng);
        }
    }
}

fn weighted_sum_verifies(
    message: &Digest,
    pairs: &[(PublicKey, Signature)],
    rng: &mut impl CryptoRng,
) -> bool {
    const WEIGHT_BYTES: usize = 8;
    let mut weights = vec![0; pairs.len() * WEIGHT_BYTES];
    rng.fill_bytes(&mut weights);
    for weight in weights.chunks_exact_mut(WEIGHT_BYTES) {
        weight[0] |= 1; // a weight of zero would leave its signature unchecked
    }
    let keys: Vec<_> = pairs.iter().map(|(key, _)| key.0).collect();
    let signatures: Vec<_> = pairs.iter().map(|(_, signature)| signature.0).collect();
    let bits = WEIGHT_BYTES * 8;
    let key = min_pk::AggregatePublicKey::aggregate_with_randomness(&keys, &weights, bits, false);
    let signature =
        min_pk::AggregateSignature::aggregate_with_randomness(&signatures, &weights, bits, false);
    let (Ok(key), Ok(signature)) = (key, signature) else { return false };
    let result = signature.to_signature().verify(
        false,
        &message.0,
        CIPHERSUITE,
        &[],
        &key.to_public_key(),
        true,
    );
    result == BLST_ERROR::BLST_SUCCESS
}

/// Why bytes aren't a key or a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not a key: not a point, not in the group, or the identity.
    #[error("not a BLS12-381 key")]
    InvalidKey,
    /// Not a signature: not a point, not in the group, or the identity.
    #[error("not a BLS12-381 signature")]
    InvalidSignature,
    /// An aggregate of nothing.
    #[error("nothing to aggregate")]
    NothingToAggregate,
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    const MESSAGE: Digest = Digest([5; 32]);

    fn pairs(count: u8) -> Vec<(PublicKey, Signature)> {
        (0..count)
            .map(|i| {
                let key = SecretKey::derive(&[i; 32]);
                (key.public_key(), key.sign(&MESSAGE))
            })
            .collect()
    }

    #[test]
    fn batch_names_exactly_the_bad_ones() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut pairs = pairs(9);
        pairs[2].1 = SecretKey::derive(&[2; 32]).sign(&Digest([6; 32]));
        pairs[7].0 = pairs[6].0;
        let holds = verify_batch(&MESSAGE, &pairs, &mut rng);
        let bad: Vec<_> = (0..9).filter(|i| !holds[*i]).collect();
        assert_eq!(bad, [2, 7]);
    }

    /// Two operators shift their signatures by opposite amounts: the sum is right, neither signature is.
    #[test]
    fn signatures_that_only_add_up_are_told_apart() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut pairs = pairs(4);
        let shift = SecretKey::derive(&[99; 32]).sign(&MESSAGE);
        let negated = {
            let mut bytes = shift.to_bytes();
            bytes[0] ^= 0x20; // the sign of y
            Signature::from_bytes(&bytes).unwrap()
        };
        let sum = Signature::aggregate(pairs.iter().map(|(_, s)| s)).unwrap();
        pairs[0].1 = Signature::aggregate([&pairs[0].1, &shift]).unwrap();
        pairs[1].1 = Signature::aggregate([&pairs[1].1, &negated]).unwrap();
        assert_eq!(Signature::aggregate(pairs.iter().map(|(_, s)| s)).unwrap(), sum);
        assert_eq!(verify_batch(&MESSAGE, &pairs, &mut rng), [false, false, true, true]);
    }

    #[test]
    fn sum_of_opposite_signatures_is_refused() {
        let signature = SecretKey::derive(&[1; 32]).sign(&MESSAGE);
        let mut bytes = signature.to_bytes();
        bytes[0] ^= 0x20;
        let opposite = Signature::from_bytes(&bytes).unwrap();
        assert_eq!(Signature::aggregate([&signature, &opposite]), Err(Error::InvalidSignature));
    }

    #[test]
    fn secret_keys_are_not_printed() {
        let key = SecretKey::derive(&[1; 32]);
        assert_eq!(format!("{key:?}"), "SecretKey(…)");
    }
}
