//! The command line: `lamina <noun> <verb>`.

mod account;
mod author;
mod checkpoint;
mod claim;
mod commit;
mod deposit;
pub(crate) mod ethereum;
mod genesis;
pub(crate) mod keys;
mod ledger;
mod node;
pub(crate) mod operation;
pub(crate) mod operator;
pub(crate) mod output;
mod reward;
pub(crate) mod service;
pub(crate) mod task;
mod withdraw;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use lamina_certificate::{Genesis, HANDOVER_FILE_BYTES_MAX, HandoverFile, OperatorSet};
use lamina_keystore::{KeyKind, Keystore, Passphrase, Secret};
use lamina_types::{AccountKey, Address, Height};

use crate::client::Client;
use crate::daemon::read_genesis;
use crate::devnet;

/// Lamina: verifiable services, run by operators that agree on each result.
#[derive(Debug, Parser)]
#[command(name = "lamina", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Arguments {
    /// Print JSON, for programs.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    noun: Noun,
}

#[derive(Debug, Subcommand)]
enum Noun {
    /// Keys of operators and accounts.
    #[command(subcommand)]
    Keys(keys::Verb),
    /// What a network begins with.
    #[command(subcommand)]
    Genesis(genesis::Verb),
    /// The node of an operator.
    #[command(subcommand)]
    Node(node::Verb),
    /// Services that the network runs.
    #[command(subcommand)]
    Service(service::Verb),
    /// Runs of services, and their certificates.
    #[command(subcommand)]
    Task(task::Verb),
    /// Accounts: what they have.
    #[command(subcommand)]
    Account(account::Verb),
    /// Commitments to services and operators.
    #[command(subcommand)]
    Commit(commit::Verb),
    /// Pay into the vault on Ethereum: the ledger credits it.
    Deposit(deposit::Deposit),
    /// Take value out to Ethereum, by proof against an anchored checkpoint.
    Withdraw(withdraw::Withdraw),
    /// Claims on Ethereum: what withdrawals come to.
    #[command(subcommand)]
    Claim(claim::Verb),
    /// Rewards: what has accrued to commitments and operators.
    #[command(subcommand)]
    Reward(reward::Verb),
    /// The operator on Ethereum: its stake and its registration.
    #[command(subcommand)]
    Operator(operator::Verb),
    /// Operations: what accounts do in the ledger.
    #[command(subcommand)]
    Operation(operation::Verb),
    /// Checkpoints: what the operators have finalised.
    #[command(subcommand)]
    Checkpoint(checkpoint::Verb),
    /// The ledger of a node: its books and its state.
    #[command(subcommand)]
    Ledger(ledger::Verb),
    /// Bring up a whole network on this machine, and stop it with Ctrl-C.
    Devnet(devnet::Options),
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let json = self.json;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let result = runtime.block_on(async {
            match self.noun {
                Noun::Keys(verb) => verb.run(json),
                Noun::Genesis(verb) => verb.run(json).await,
                Noun::Node(verb) => verb.run(json).await,
                Noun::Service(verb) => verb.run(json).await,
                Noun::Task(verb) => verb.run(json).await,
                Noun::Account(verb) => verb.run(json).await,
                Noun::Commit(verb) => verb.run(json).await,
                Noun::Deposit(deposit) => deposit.run(json).await,
                Noun::Withdraw(withdraw) => withdraw.run(json).await,
                Noun::Claim(verb) => verb.run(json).await,
                Noun::Reward(verb) => verb.run(json).await,
                Noun::Operator(verb) => verb.run(json).await,
                Noun::Operation(verb) => verb.run(json).await,
                Noun::Checkpoint(verb) => verb.run(json).await,
                Noun::Ledger(verb) => verb.run(json).await,
                Noun::Devnet(options) => devnet::run(options, json).await,
            }
        });
        // A prompt or a compilation that nobody waits for any more mustn't keep the process.
        runtime.shutdown_timeout(std::time::Duration::from_secs(1));
        result
    }
}

/// Which node to talk to.
#[derive(Debug, Args)]
pub(crate) struct ApiOptions {
    /// The node's HTTP API.
    #[arg(long = "api", env = "LAMINA_API_URL", default_value = "http://127.0.0.1:4100")]
    url: String,
}

impl ApiOptions {
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        Client::new(&self.url)
    }
}

/// What certificates are verified by.
#[derive(Debug, Args)]
pub(crate) struct TrustOptions {
    /// The genesis file, from a source that you trust.
    #[arg(long, default_value = "genesis.json")]
    genesis: PathBuf,
    /// The operators of later epochs, as `lamina checkpoint handovers` saves them. They are verified, too.
    #[arg(long, value_name = "FILE")]
    handovers: Option<PathBuf>,
}

impl TrustOptions {
    /// The genesis file, and the operator sets of all epochs that are known.
    pub(crate) fn load(&self) -> anyhow::Result<(Genesis, Vec<(Height, OperatorSet)>)> {
        let genesis = read_genesis(&self.genesis)?;
        let epochs = match &self.handovers {
            None => genesis.epochs()?,
            Some(path) => {
                let shown = path.display();
                let bytes = read_bounded(path, HANDOVER_FILE_BYTES_MAX as u64)?;
                let file = HandoverFile::from_bytes(&bytes)
                    .with_context(|| format!("{shown} has no handovers"))?;
                file.epochs(&genesis).with_context(|| format!("{shown} doesn't hold"))?
            }
        };
        Ok((genesis, epochs))
    }
}

/// A file's bytes, unless there are too many.
fn read_bounded(path: &Path, bytes_max: u64) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let size = std::fs::metadata(path).with_context(|| format!("reading {shown}"))?.len();
    anyhow::ensure!(size <= bytes_max, "{shown} is too long: {size} bytes");
    std::fs::read(path).with_context(|| format!("reading {shown}"))
}

/// Which account signs.
#[derive(Debug, Args)]
pub(crate) struct AccountOptions {
    /// The account's keystore.
    #[arg(long, value_name = "FILE", env = "LAMINA_ACCOUNT", default_value = "keys/account.json")]
    pub(crate) account: PathBuf,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseOptions,
}

impl AccountOptions {
    pub(crate) fn unlock(&self) -> anyhow::Result<AccountKey> {
        self.key_of(&self.secret(&self.passphrase()?)?)
    }

    /// The keystore's passphrase. Whoever needs it twice keeps it: people are asked once, and a pipe is read once.
    pub(crate) fn passphrase(&self) -> anyhow::Result<Passphrase> {
        self.passphrase.existing(&self.account)
    }

    /// The account's secret, for more than one use.
    pub(crate) fn secret(&self, passphrase: &Passphrase) -> anyhow::Result<Secret> {
        Ok(self.keystore()?.decrypt(passphrase)?)
    }

    pub(crate) fn key_of(&self, secret: &Secret) -> anyhow::Result<AccountKey> {
        AccountKey::from_bytes(secret.expose())
            .ok_or_else(|| anyhow::anyhow!("{} holds no account key", self.account.display()))
    }

    /// Whose it is. The keystore says so without its passphrase, but for foreign ones.
    pub(crate) fn address(&self) -> anyhow::Result<Address> {
        let keystore = self.keystore()?;
        let public = keystore.public_key().and_then(|key| <[u8; 20]>::try_from(key).ok());
        match public {
            Some(address) => Ok(Address(address)),
            None => Ok(self.unlock()?.address()),
        }
    }

    fn keystore(&self) -> anyhow::Result<Keystore> {
        let keystore = Keystore::read(&self.account)?;
        anyhow::ensure!(
            keystore.kind() == KeyKind::Account,
            "{} holds a {} key, not an account's",
            self.account.display(),
            keystore.kind()
        );
        Ok(keystore)
    }
}

/// Where the passphrase comes from; never from the arguments themselves, which other users of the machine can read.
#[derive(Debug, Args)]
pub(crate) struct PassphraseOptions {
    /// Read the passphrase from this file, which only its owner may read. Without it, it's asked for.
    #[arg(long, value_name = "FILE", env = "LAMINA_PASSPHRASE_FILE")]
    passphrase_file: Option<PathBuf>,
    /// Read the passphrase from this open file descriptor.
    #[arg(long, value_name = "NUMBER", conflicts_with = "passphrase_file")]
    passphrase_fd: Option<u32>,
}

impl PassphraseOptions {
    pub(crate) fn existing(&self, keys: &Path) -> anyhow::Result<Passphrase> {
        match self.given()? {
            Some(passphrase) => Ok(passphrase),
            None => Ok(Passphrase::prompt(&format!("Passphrase of {}: ", keys.display()))?),
        }
    }

    fn new_one(&self, keys: &Path) -> anyhow::Result<Passphrase> {
        match self.given()? {
            Some(passphrase) => Ok(passphrase),
            None => {
                Ok(Passphrase::prompt_new(&format!("New passphrase for {}: ", keys.display()))?)
            }
        }
    }

    fn given(&self) -> anyhow::Result<Option<Passphrase>> {
        Ok(match (&self.passphrase_file, self.passphrase_fd) {
            (Some(path), _) => Some(Passphrase::from_file(path)?),
            (None, Some(descriptor)) => Some(Passphrase::from_descriptor(descriptor)?),
            (None, None) => None,
        })
    }
}
