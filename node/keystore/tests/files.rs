//! Keys as an operator has them: files in a folder, and a passphrase from a file.

use std::fs::{self, Permissions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use lamina_keystore::{
    Cost, Error, KeyDirectory, KeyKind, Keystore, Passphrase, Secret, file, format, passphrase,
};

struct Operator {
    folder: tempfile::TempDir,
    keys: KeyDirectory,
    passphrase: Passphrase,
}

impl Operator {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = KeyDirectory::new(folder.path().join("node/keys"));
        let passphrase = Passphrase::new("open sesame").expect("not empty");
        Self { folder, keys, passphrase }
    }

    fn keystore(&self, kind: KeyKind, secret: u8) -> Keystore {
        let public_key = vec![secret; kind.public_key_bytes()];
        let secret = Secret::from([secret; 32]);
        Keystore::encrypt(&secret, kind, &public_key, &self.passphrase, Cost::Light)
            .expect("fits together")
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("exists").permissions().mode() & 0o777
}

#[test]
fn all_keys_come_back_as_they_were_written() {
    let operator = Operator::new();
    for (kind, secret) in KeyKind::ALL.into_iter().zip(1..) {
        let path = operator.keys.write_new(&operator.keystore(kind, secret)).unwrap();
        assert_eq!(mode(&path), 0o600);
    }
    assert_eq!(mode(operator.keys.path()), 0o700);
    for (kind, secret) in KeyKind::ALL.into_iter().zip(1..) {
        let keystore = operator.keys.read(kind).unwrap();
        assert_eq!(keystore.public_key().unwrap(), vec![secret; kind.public_key_bytes()]);
        assert_eq!(keystore.decrypt(&operator.passphrase).unwrap().expose(), &[secret; 32]);
    }
    // Nothing but the three keys: no drafts.
    assert_eq!(fs::read_dir(operator.keys.path()).unwrap().count(), 3);
}

#[test]
fn existing_key_is_never_overwritten() {
    let operator = Operator::new();
    let path = operator.keys.write_new(&operator.keystore(KeyKind::Peer, 1)).unwrap();
    let before = fs::read(&path).unwrap();
    let second = operator.keys.write_new(&operator.keystore(KeyKind::Peer, 2));
    assert!(matches!(second, Err(Error::File(file::Error::Exists { .. }))));
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(fs::read_dir(operator.keys.path()).unwrap().count(), 1);
}

#[test]
fn key_of_another_kind_is_refused() {
    let operator = Operator::new();
    let path = operator.keys.write_new(&operator.keystore(KeyKind::Peer, 1)).unwrap();
    fs::rename(path, operator.keys.path_of(KeyKind::Account)).unwrap();
    assert!(matches!(
        operator.keys.read(KeyKind::Account),
        Err(Error::WrongKind { found: KeyKind::Peer, wanted: KeyKind::Account, .. })
    ));
}

#[test]
fn key_that_others_may_read_is_refused_with_the_remedy() {
    let operator = Operator::new();
    let path = operator.keys.write_new(&operator.keystore(KeyKind::Bls, 1)).unwrap();
    for open in [0o640, 0o604, 0o660] {
        fs::set_permissions(&path, Permissions::from_mode(open)).unwrap();
        let error = operator.keys.read(KeyKind::Bls).unwrap_err();
        assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())), "{error}");
    }
}

#[test]
fn absent_cut_and_oversized_files_are_told_apart() {
    let operator = Operator::new();
    assert!(matches!(
        operator.keys.read(KeyKind::Peer),
        Err(Error::File(file::Error::NotFound { .. }))
    ));
    let path = operator.keys.write_new(&operator.keystore(KeyKind::Peer, 1)).unwrap();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(
        operator.keys.read(KeyKind::Peer),
        Err(Error::Unusable { source: format::Error::Json { .. }, .. })
    ));
    fs::write(&path, vec![b' '; format::KEYSTORE_BYTES_MAX + 1]).unwrap();
    assert!(matches!(
        operator.keys.read(KeyKind::Peer),
        Err(Error::File(file::Error::TooLong { .. }))
    ));
}

#[test]
fn debug_output_tells_no_secret() {
    let operator = Operator::new();
    let keystore = operator.keystore(KeyKind::Peer, 0x5a);
    let secret = keystore.decrypt(&operator.passphrase).unwrap();
    assert_eq!(format!("{secret:?}"), "Secret(…)");
    let shown = format!("{keystore:?}");
    assert!(shown.starts_with("Keystore { kind: Peer, uuid: "), "{shown}");
    assert!(shown.len() < 80, "{shown}");
}

#[test]
fn passphrase_comes_from_a_private_file() {
    let operator = Operator::new();
    let path = operator.folder.path().join("passphrase");
    fs::write(&path, "open sesame\n").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(
        Passphrase::from_file(&path),
        Err(passphrase::Error::File(file::Error::OpenToOthers { .. }))
    ));
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let passphrase = Passphrase::from_file(&path).unwrap();
    assert!(operator.keystore(KeyKind::Peer, 1).decrypt(&passphrase).is_ok());
}

#[test]
fn passphrase_comes_from_a_descriptor() {
    let operator = Operator::new();
    let path = operator.folder.path().join("passphrase");
    fs::write(&path, "open sesame\n").unwrap();
    let file = fs::File::open(&path).unwrap();
    let descriptor = u32::try_from(file.as_raw_fd()).unwrap();
    let passphrase = Passphrase::from_descriptor(descriptor).unwrap();
    assert!(operator.keystore(KeyKind::Peer, 1).decrypt(&passphrase).is_ok());
}
