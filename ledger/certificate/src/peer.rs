use ed25519_dalek::{Signature, VerifyingKey};
use lamina_types::{Digest, PeerKey};

/// Whether the holder of `key` made `signature`, an ed25519 one, on `message`. Takes about 50 µs.
///
/// Keys and signatures with a part in the small subgroup are refused (RFC 8032 leaves it open). Everyone has to use this one
/// rule: a vote that counts must also count as evidence.
#[must_use]
pub fn verify_peer_signature(key: &PeerKey, message: &Digest, signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(&key.0)
        .and_then(|key| key.verify_strict(&message.0, &Signature::from_bytes(signature)))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer as _, SigningKey};

    #[test]
    fn only_the_holder_s_signature_on_the_message_counts() {
        let holder = SigningKey::from_bytes(&[1; 32]);
        let key = PeerKey(holder.verifying_key().to_bytes());
        let signature = holder.sign(&[5; 32]).to_bytes();
        assert!(verify_peer_signature(&key, &Digest([5; 32]), &signature));
        assert!(!verify_peer_signature(&key, &Digest([6; 32]), &signature));
        let other = PeerKey(SigningKey::from_bytes(&[2; 32]).verifying_key().to_bytes());
        assert!(!verify_peer_signature(&other, &Digest([5; 32]), &signature));
    }

    /// With the identity as key, `R = identity, s = 0` satisfies the cofactored equation for every message.
    #[test]
    fn key_that_signs_everything_is_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert!(!verify_peer_signature(&PeerKey(identity), &Digest([5; 32]), &signature));
    }
}
