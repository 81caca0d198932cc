use lamina_types::PeerKey;
use libp2p::PeerId;
use libp2p::identity::{Keypair, PublicKey, ed25519};
use zeroize::Zeroizing;

/// The public key of an ed25519 seed.
#[must_use]
pub fn peer_key(secret: &Zeroizing<[u8; 32]>) -> PeerKey {
    let pair = keypair(secret).try_into_ed25519().expect("made from an ed25519 seed");
    PeerKey(pair.public().to_bytes())
}

/// The libp2p peer id of a key: the key itself, as an identity multihash. `None` if the bytes aren't a point of the curve.
///
/// libp2p specifications, `peer-ids/peer-ids.md`.
#[must_use]
pub fn peer_id(key: &PeerKey) -> Option<PeerId> {
    let public = ed25519::PublicKey::try_from_bytes(&key.0).ok()?;
    Some(PublicKey::from(public).to_peer_id())
}

/// The key that a libp2p peer id holds; `None` if it's the hash of a key, or of a key that isn't ed25519.
#[must_use]
pub fn peer_key_of(peer: &PeerId) -> Option<PeerKey> {
    let multihash = peer.as_ref();
    if multihash.code() != IDENTITY {
        return None;
    }
    let public = PublicKey::try_decode_protobuf(multihash.digest()).ok()?;
    Some(PeerKey(public.try_into_ed25519().ok()?.to_bytes()))
}

pub(crate) fn keypair(secret: &Zeroizing<[u8; 32]>) -> Keypair {
    let mut seed = secret.clone();
    Keypair::ed25519_from_bytes(seed.as_mut()).expect("every 32 bytes are a seed")
}

/// The multihash that is its own preimage. <https://github.com/multiformats/multicodec>.
const IDENTITY: u64 = 0x00;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_ids_lead_back_to_their_keys() {
        let key = peer_key(&Zeroizing::new([7; 32]));
        let id = peer_id(&key).unwrap();
        assert!(id.to_string().starts_with("12D3KooW"), "{id}");
        assert_eq!(peer_key_of(&id), Some(key));
    }

    /// RFC 8032, §7.1, test 1.
    #[test]
    fn key_is_the_one_of_the_seed() {
        let seed = "0x9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
            .parse::<PeerKey>()
            .unwrap();
        assert_eq!(
            peer_key(&Zeroizing::new(seed.0)).to_string(),
            "0xd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
    }

    #[test]
    fn other_identities_have_no_key() {
        assert_eq!(peer_key_of(&PeerId::random()), None);
    }
}
