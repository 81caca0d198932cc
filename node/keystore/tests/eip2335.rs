//! The EIP's own test cases: ethereum/ERCs, ERCS/erc-2335.md (CC0-1.0).

use std::fs;

use lamina_keystore::{Error, KeyKind, Keystore, Passphrase};
use lamina_types::testing::vectors;

#[test]
fn keystores_of_the_eip_are_decrypted() {
    let Some(folder) = vectors("keystores_of_the_eip_are_decrypted", "eip2335") else { return };
    for name in ["keystore_scrypt.json", "keystore_pbkdf2.json"] {
        let vector: serde_json::Value =
            serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap();
        let text = |field: &str| vector[field].as_str().unwrap().to_owned();
        let keystore = Keystore::from_json(vector["keystore"].to_string().as_bytes()).unwrap();

        let secret = keystore.decrypt(&Passphrase::new(&text("password")).unwrap()).unwrap();
        assert_eq!(hex::encode(secret.expose()), text("secret_hex"), "{name}");
        assert_eq!(keystore.kind(), KeyKind::Bls);
        let pubkey = vector["keystore"]["pubkey"].as_str().unwrap();
        assert_eq!(keystore.public_key().unwrap(), hex::decode(pubkey).unwrap());

        let wrong = keystore.decrypt(&Passphrase::new("testpassword").unwrap());
        assert!(matches!(wrong, Err(Error::WrongPassphrase { .. })), "{name}");
    }
}
