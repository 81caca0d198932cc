use std::path::{Path, PathBuf};

use clap::Subcommand;
use lamina_certificate::{NO_REGISTRAR, OperatorRecord, SecretKey};
use lamina_keystore::{Cost, KeyDirectory, KeyKind, Keystore, Passphrase, Secret};
use lamina_types::{AccountKey, Address, ChainId, PeerKey};
use serde_json::json;
use zeroize::Zeroizing;

use super::PassphraseOptions;
use super::output::{fields, print};
use crate::daemon::random;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make an operator's three keys: peer (ed25519), BLS12-381 and account (secp256k1), each in an encrypted file.
    New {
        /// The folder for the files; keys that are there are never overwritten.
        #[arg(long, default_value = "keys")]
        directory: PathBuf,
        #[command(flatten)]
        passphrase: PassphraseOptions,
        /// Also write what the network must know of this operator, for `lamina genesis new`.
        #[arg(long, value_name = "FILE", requires = "chain_id")]
        record: Option<PathBuf>,
        /// The network that the record is for.
        #[arg(long)]
        chain_id: Option<ChainId>,
        /// The contract on Ethereum that registers the network's operators, if it has one: the record holds for it alone.
        #[arg(long, value_name = "ADDRESS", requires = "record")]
        registrar: Option<Address>,
        /// The operator's stake in the record, in gwei.
        #[arg(long, default_value_t = 32_000_000_000)]
        stake_gwei: u64,
        /// Encrypt quickly but weakly: for development networks only.
        #[arg(long)]
        insecure_light: bool,
    },
    /// Make one more account key, in a file of its own: by it a node pays for what it does by itself (`keys.account`).
    Account {
        /// The file; one that's there is never overwritten.
        #[arg(long, default_value = "purse.json")]
        output: PathBuf,
        #[command(flatten)]
        passphrase: PassphraseOptions,
        /// Encrypt quickly but weakly: for development networks only.
        #[arg(long)]
        insecure_light: bool,
    },
    /// Show the public parts of the keys in a folder; needs no passphrase.
    Show {
        /// The folder with the files.
        #[arg(long, default_value = "keys")]
        directory: PathBuf,
    },
}

impl Verb {
    pub(crate) fn run(self, json: bool) -> anyhow::Result<()> {
        match self {
            Self::New {
                directory,
                passphrase,
                record,
                chain_id,
                registrar,
                stake_gwei,
                insecure_light,
            } => {
                let passphrase = passphrase.new_one(&directory)?;
                let cost = if insecure_light { Cost::Light } else { Cost::Standard };
                let directory = KeyDirectory::new(directory);
                let keys = NewKeys::generate(&directory, &passphrase, cost)?;
                if let (Some(path), Some(chain)) = (record, chain_id) {
                    let registrar = registrar.unwrap_or(NO_REGISTRAR);
                    let record = keys.record(&chain, &registrar, stake_gwei);
                    std::fs::write(&path, serde_json::to_vec_pretty(&record)?)?;
                }
                show(json, &directory)
            }
            Self::Account { output, passphrase, insecure_light } => {
                let passphrase = passphrase.new_one(&output)?;
                let cost = if insecure_light { Cost::Light } else { Cost::Standard };
                let address = new_account(&output, &passphrase, cost)?;
                let value = json!({ "keystore": output, "account": address });
                print(json, &value, || {
                    fields(&[
                        ("keystore", output.display().to_string()),
                        ("account", address.to_string()),
                    ])
                });
                Ok(())
            }
            Self::Show { directory } => show(json, &KeyDirectory::new(directory)),
        }
    }
}

/// Keys that were just made and written.
pub(crate) struct NewKeys {
    pub(crate) bls: SecretKey,
    pub(crate) peer_key: PeerKey,
    pub(crate) address: Address,
}

impl NewKeys {
    /// Makes keys from the system's randomness and writes them, encrypted.
    pub(crate) fn generate(
        directory: &KeyDirectory,
        passphrase: &Passphrase,
        cost: Cost,
    ) -> anyhow::Result<Self> {
        for kind in KeyKind::ALL {
            let path = directory.path_of(kind);
            anyhow::ensure!(
                !path.exists(),
                "there is a key at {} already; choose another folder with --directory",
                path.display()
            );
        }
        let peer = Zeroizing::new(random()?);
        let peer_key = lamina_p2p_net::peer_key(&peer);
        let bls = SecretKey::derive(&Zeroizing::new(random()?));
        let account = random_account()?;
        let write = |secret: Zeroizing<[u8; 32]>, kind, public: &[u8]| {
            let secret = Secret::from(secret);
            let keystore = Keystore::encrypt(&secret, kind, public, passphrase, cost)?;
            directory.write_new(&keystore)
        };
        write(peer, KeyKind::Peer, &peer_key.0)?;
        write(bls.to_bytes(), KeyKind::Bls, &bls.public_key().to_bytes())?;
        write(account.0, KeyKind::Account, &account.1.0)?;
        Ok(Self { bls, peer_key, address: account.1 })
    }

    /// What the network must know of the operator that holds these keys.
    pub(crate) fn record(
        &self,
        chain: &ChainId,
        registrar: &Address,
        stake_gwei: u64,
    ) -> OperatorRecord {
        let (address, peer_key) = (self.address, self.peer_key);
        OperatorRecord::for_registrar(chain, registrar, address, peer_key, &self.bls, stake_gwei)
    }
}

/// Makes an account key and writes it, encrypted, to a new file.
pub(crate) fn new_account(
    path: &Path,
    passphrase: &Passphrase,
    cost: Cost,
) -> anyhow::Result<Address> {
    let (secret, address) = random_account()?;
    let secret = Secret::from(secret);
    let keystore = Keystore::encrypt(&secret, KeyKind::Account, &address.0, passphrase, cost)?;
    keystore.write_new(path)?;
    Ok(address)
}

fn random_account() -> anyhow::Result<(Zeroizing<[u8; 32]>, Address)> {
    loop {
        // All but one in 2¹²⁸ random numbers are keys.
        let bytes = Zeroizing::new(random()?);
        if let Some(key) = AccountKey::from_bytes(&bytes) {
            return Ok((bytes, key.address()));
        }
    }
}

fn show(json: bool, directory: &KeyDirectory) -> anyhow::Result<()> {
    let public = |kind| -> anyhow::Result<Vec<u8>> {
        Ok(directory.read(kind)?.public_key().unwrap_or_default().to_vec())
    };
    let peer = public(KeyKind::Peer)?;
    let peer_id = <[u8; 32]>::try_from(peer.as_slice())
        .ok()
        .and_then(|key| lamina_p2p_net::peer_id(&PeerKey(key)))
        .map(|id| id.to_string())
        .unwrap_or_default();
    let text = |bytes: &[u8]| format!("0x{}", hex::encode(bytes));
    let (peer, bls) = (text(&peer), text(&public(KeyKind::Bls)?));
    let account = text(&public(KeyKind::Account)?);
    let value = json!({
        "directory": directory.path(),
        "account": account,
        "peer_id": peer_id,
        "peer_key": peer,
        "bls_public_key": bls,
    });
    print(json, &value, || {
        fields(&[
            ("keys", directory.path().display().to_string()),
            ("account", account.clone()),
            ("peer id", peer_id.clone()),
            ("BLS key", bls.clone()),
        ])
    });
    Ok(())
}
