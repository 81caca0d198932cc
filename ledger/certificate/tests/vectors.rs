//! Public test vectors of BLS signatures and of hashing to the curve; ../shared/vectors/README.md tells their origin.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

use std::path::Path;

use blst::BLST_ERROR;
use blst::min_pk;
use lamina_certificate::bls::{CIPHERSUITE, PublicKey, SecretKey, Signature};
use lamina_types::Digest;
use lamina_types::testing::vectors;
use serde_json::Value;

/// Calls `check` with name, input and expected output of each case of a set, and makes sure that there are any.
fn for_each_case(test: &str, set: &str, mut check: impl FnMut(&str, &Value, &Value)) {
    let Some(folder) = vectors(test, &format!("bls12-381/{set}")) else { return };
    let mut count = 0;
    for entry in folder.read_dir().expect("the folder is readable") {
        let path = entry.expect("the entry is readable").path();
        let case = read_json(&path);
        check(&path.file_name().unwrap().to_string_lossy(), &case["input"], &case["output"]);
        count += 1;
    }
    assert!(count > 0, "{} has no cases", folder.display());
}

fn read_json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("a hexadecimal string");
    hex::decode(text.strip_prefix("0x").unwrap_or(text)).expect("hexadecimal")
}

fn array<const N: usize>(value: &Value) -> Option<[u8; N]> {
    bytes(value).try_into().ok()
}

fn public_key(value: &Value) -> Option<PublicKey> {
    PublicKey::from_bytes(&array(value)?).ok()
}

fn signature(value: &Value) -> Option<Signature> {
    Signature::from_bytes(&array(value)?).ok()
}

fn digest(value: &Value) -> Digest {
    Digest(array(value).expect("a message of 32 bytes"))
}

#[test]
fn signing() {
    for_each_case("signing vectors", "sign", |name, input, output| {
        let key = SecretKey::from_bytes(&array(&input["privkey"]).unwrap());
        match key {
            Ok(key) => {
                let signature = key.sign(&digest(&input["message"]));
                assert_eq!(signature.to_bytes().as_slice(), bytes(output), "{name}");
            }
            Err(_) => assert!(output.is_null(), "{name}"),
        }
    });
}

#[test]
fn verifying() {
    for_each_case("verifying vectors", "verify", |name, input, output| {
        let (key, signature) = (public_key(&input["pubkey"]), signature(&input["signature"]));
        let holds = key
            .zip(signature)
            .is_some_and(|(key, signature)| key.verifies(&digest(&input["message"]), &signature));
        assert_eq!(Some(holds), output.as_bool(), "{name}");
    });
}

#[test]
fn aggregating() {
    for_each_case("aggregating vectors", "aggregate", |name, input, output| {
        let parts = input.as_array().unwrap().iter().map(signature);
        let sum = parts
            .collect::<Option<Vec<_>>>()
            .and_then(|parts| Signature::aggregate(&parts).ok())
            .map(|sum| sum.to_bytes().to_vec());
        assert_eq!(sum, output.as_str().map(|_| bytes(output)), "{name}");
    });
}

#[test]
fn decompressing_keys() {
    for_each_case("G1 vectors", "deserialization_G1", |name, input, output| {
        let is_identity = name.contains("infinity_with_true");
        // The identity decodes as a point, but is no key (draft-irtf-cfrg-bls-signature-05, §2.5).
        let expected = output.as_bool() == Some(true) && !is_identity;
        assert_eq!(public_key(&input["pubkey"]).is_some(), expected, "{name}");
    });
}

#[test]
fn decompressing_signatures() {
    for_each_case("G2 vectors", "deserialization_G2", |name, input, output| {
        let is_identity = name.contains("infinity_with_true");
        let expected = output.as_bool() == Some(true) && !is_identity;
        assert_eq!(signature(&input["signature"]).is_some(), expected, "{name}");
    });
}

/// A certificate is this: one signature, many keys, one message.
#[test]
fn verifying_an_aggregate_of_one_message() {
    for_each_case("aggregate verify vectors", "fast_aggregate_verify", |name, input, output| {
        let keys: Option<Vec<_>> =
            input["pubkeys"].as_array().unwrap().iter().map(public_key).collect();
        let holds = (|| {
            let keys: Vec<_> = keys?.iter().map(|k| min_pk(&k.to_bytes())).collect();
            let sum =
                min_pk::AggregatePublicKey::aggregate(&keys.iter().collect::<Vec<_>>(), false);
            let sum = PublicKey::from_bytes(&sum.ok()?.to_public_key().to_bytes()).ok()?;
            Some(sum.verifies(&digest(&input["message"]), &signature(&input["signature"])?))
        })();
        assert_eq!(holds.unwrap_or(false), output.as_bool().unwrap(), "{name}");
    });
}

fn min_pk(bytes: &[u8; 48]) -> min_pk::PublicKey {
    min_pk::PublicKey::from_bytes(bytes).expect("a checked key")
}

/// Each signature of these sets is on its own message, so they go through the single check here.
#[test]
fn verifying_several_messages() {
    for_each_case("batch vectors", "batch_verify", |name, input, output| {
        let list = |field: &str| input[field].as_array().unwrap().clone();
        let (keys, messages, signatures) = (list("pubkeys"), list("messages"), list("signatures"));
        let holds = keys.iter().zip(&messages).zip(&signatures).all(|((key, message), sig)| {
            public_key(key)
                .zip(signature(sig))
                .is_some_and(|(key, sig)| key.verifies(&digest(message), &sig))
        });
        assert_eq!(Some(holds), output.as_bool(), "{name}");
    });
}

/// `hash(m)`, as the signature that the key 1 makes: affine x and y.
fn hash_to_g2(message: &[u8], tag: &[u8]) -> min_pk::Signature {
    let mut one = [0; 32];
    one[31] = 1;
    min_pk::SecretKey::from_bytes(&one).unwrap().sign(message, tag, &[])
}

#[test]
fn hashing_to_the_curve() {
    const TAG: &[u8] = b"QUUX-V01-CS02-with-BLS12381G2_XMD:SHA-256_SSWU_RO_";
    for_each_case("hash to G2 vectors", "hash_to_G2", |name, input, output| {
        let message = input["msg"].as_str().unwrap().as_bytes();
        let point = hash_to_g2(message, TAG).serialize();
        assert_eq!(hex_fp2(&point[..96]), output["x"].as_str().unwrap(), "{name}");
        assert_eq!(hex_fp2(&point[96..]), output["y"].as_str().unwrap(), "{name}");
    });
    let Some(folder) = vectors("RFC 9380 vectors", "rfc9380") else { return };
    let suite = read_json(&folder.join("BLS12381G2_XMD_SHA-256_SSWU_RO_.json"));
    let cases = suite["vectors"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let message = case["msg"].as_str().unwrap().as_bytes();
        let point = hash_to_g2(message, suite["dst"].as_str().unwrap().as_bytes()).serialize();
        assert_eq!(hex_fp2(&point[..96]), case["P"]["x"].as_str().unwrap());
        assert_eq!(hex_fp2(&point[96..]), case["P"]["y"].as_str().unwrap());
    }
}

/// The vectors write `c0,c1`; the serialised point has `c1` first.
fn hex_fp2(bytes: &[u8]) -> String {
    format!("0x{},0x{}", hex::encode(&bytes[48..]), hex::encode(&bytes[..48]))
}

/// The tag in use is the ciphersuite's, not the vectors'.
#[test]
fn signatures_are_made_under_the_ciphersuite() {
    let message = Digest([3; 32]);
    let key = SecretKey::derive(&[1; 32]);
    let public = min_pk(&key.public_key().to_bytes());
    let signature = min_pk::Signature::from_bytes(&key.sign(&message).to_bytes()).unwrap();
    let verify = |tag| signature.verify(true, &message.0, tag, &[], &public, true);
    assert_eq!(verify(CIPHERSUITE), BLST_ERROR::BLST_SUCCESS);
    assert_eq!(CIPHERSUITE, b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_");
}
