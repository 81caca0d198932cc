//! Keys and signatures as EIP-2537 has them: each coordinate of 48 bytes big-endian, after 16 zeros, of two-part coordinates
//! the constant one first.

use alloy_primitives::B256;
use blst::min_pk;
use lamina_certificate::{PublicKey, Signature};

/// A key: x, y.
///
/// # Panics
/// Never: a key is a point.
#[must_use]
pub fn key_words(key: &PublicKey) -> [B256; 4] {
    let point = min_pk::PublicKey::from_bytes(&key.to_bytes()).expect("a key is a point");
    words(&point.serialize(), [0, 1])
}

/// A signature: x.c0, x.c1, y.c0, y.c1. (The usual uncompressed form has c1 first.)
///
/// # Panics
/// Never: a signature is a point.
#[must_use]
pub fn signature_words(signature: &Signature) -> [B256; 8] {
    let point = min_pk::Signature::from_bytes(&signature.to_bytes()).expect("is a point");
    words(&point.serialize(), [1, 0, 3, 2])
}

/// The compressed form of a key that is given by x and y, each of 48 bytes. Whether it's a point is not checked.
#[must_use]
pub fn compress_key(xy: &[u8; 96]) -> [u8; 48] {
    let mut compressed = [0; 48];
    compressed.copy_from_slice(&xy[..48]);
    let is_larger = xy[48..] > HALF[..];
    compressed[0] |= 0x80 | if is_larger { 0x20 } else { 0 };
    compressed
}

fn words<const PARTS: usize, const WORDS: usize>(
    uncompressed: &[u8],
    order: [usize; PARTS],
) -> [B256; WORDS] {
    let mut words = [B256::ZERO; WORDS];
    for (pair, part) in words.chunks_exact_mut(2).zip(order) {
        let coordinate = &uncompressed[part * 48..][..48];
        pair[0].0[16..].copy_from_slice(&coordinate[..16]);
        pair[1].0.copy_from_slice(&coordinate[16..]);
    }
    words
}

/// (p − 1) / 2, p being the field's modulus: of y and −y the larger one is above it.
const HALF: [u8; 48] = [
    0x0d, 0x00, 0x88, 0xf5, 0x1c, 0xbf, 0xf3, 0x4d, 0x25, 0x8d, 0xd3, 0xdb, 0x21, 0xa5, 0xd6, 0x6b,
    0xb2, 0x3b, 0xa5, 0xc2, 0x79, 0xc2, 0x89, 0x5f, 0xb3, 0x98, 0x69, 0x50, 0x7b, 0x58, 0x7b, 0x12,
    0x0f, 0x55, 0xff, 0xff, 0x58, 0xa9, 0xff, 0xff, 0xdc, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xd5, 0x55,
];

#[cfg(test)]
mod tests {
    use lamina_certificate::SecretKey;
    use lamina_types::Digest;

    use super::*;

    #[test]
    fn keys_are_compressed_as_blst_does_it() {
        let mut signs = std::collections::BTreeSet::new();
        for seed in 0..16 {
            let key = SecretKey::derive(&[seed; 32]).public_key();
            let words = key_words(&key);
            assert!(words.iter().step_by(2).all(|word| word[..16] == [0; 16]));
            let mut xy = [0; 96];
            for (half, pair) in xy.chunks_exact_mut(48).zip(words.chunks_exact(2)) {
                half[..16].copy_from_slice(&pair[0][16..]);
                half[16..].copy_from_slice(&pair[1][..]);
            }
            assert_eq!(compress_key(&xy), key.to_bytes());
            signs.insert(key.to_bytes()[0] & 0x20);
        }
        assert_eq!(signs.len(), 2, "both signs occur");
    }

    #[test]
    fn signatures_have_the_constant_part_first() {
        let signature = SecretKey::derive(&[1; 32]).sign(&Digest([2; 32]));
        let words = signature_words(&signature);
        // The compressed form is x, c1 first, with three flags in the first byte.
        let bytes = signature.to_bytes();
        assert_eq!(words[0][16..], bytes[48..64]);
        assert_eq!(words[1][..], bytes[64..]);
        assert_eq!(words[3][..], bytes[16..48]);
    }
}
