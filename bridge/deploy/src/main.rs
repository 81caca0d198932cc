//! `lamina-deploy`: puts Lamina's contracts onto the chain that a file describes. `docs/deployment.md` goes through it.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use lamina_deploy::{Artifacts, Config, Contracts, Deployment, Progress, Sender, deploy};
use lamina_ethereum::{Endpoints, PrivateKeySigner, Sent, Wallet};
use lamina_ethereum_core::abi;
use lamina_keystore::{KeyKind, Keystore, Passphrase};
use lamina_types::Address;
use serde_json::json;

/// Most gas that all of it takes; what's said beforehand. Measured on a development chain, with one administrator and one
/// guardian: 23.9 million, 15 million of it for `Checkpoints`' ring of anchors and code. Each further account takes 60,000.
const GAS_MAX: u128 = 26_000_000;

/// Puts Lamina's contracts onto an Ethereum chain that has EigenLayer.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to deploy: see docs/deployment.md.
    #[arg(long, value_name = "FILE", default_value = "deploy.toml")]
    config: PathBuf,
    /// HTTP endpoints of the chain, the preferred one first.
    #[arg(
        long = "rpc",
        value_name = "URL",
        env = "LAMINA_ETHEREUM_RPC",
        value_delimiter = ',',
        required = true
    )]
    rpc: Vec<String>,
    /// The keystore of the account that deploys and pays.
    #[arg(long, value_name = "FILE", env = "LAMINA_ACCOUNT")]
    account: PathBuf,
    /// A file with its passphrase; without it, it's asked for.
    #[arg(long, value_name = "FILE", env = "LAMINA_PASSPHRASE_FILE")]
    passphrase_file: Option<PathBuf>,
    /// What is done so far; a deployment that was interrupted goes on from it.
    #[arg(long, value_name = "FILE", default_value = "deployment.json")]
    state: PathBuf,
    /// What `lamina genesis new --ethereum` takes.
    #[arg(long, value_name = "FILE", default_value = "ethereum.json")]
    output: PathBuf,
    /// Most that is paid for a unit of gas, in gwei.
    #[arg(long, default_value_t = 50)]
    fee_max_gwei: u64,
    /// Check everything that can be checked, say what it would cost at most, and send nothing.
    #[arg(long)]
    dry_run: bool,
    /// The folder `bridge/contracts`.
    #[arg(long, value_name = "FOLDER", default_value = "bridge/contracts")]
    contracts: PathBuf,
    /// Where to build them.
    #[arg(long, value_name = "FOLDER", default_value = "target/contracts")]
    build: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting a runtime")
        .and_then(|runtime| runtime.block_on(run(&arguments)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    let shown = arguments.config.display();
    let text =
        std::fs::read_to_string(&arguments.config).with_context(|| format!("reading {shown}"))?;
    let config: Config =
        toml::from_str(&text).with_context(|| format!("{shown} describes no deployment"))?;
    config.check().with_context(|| format!("{shown} doesn't make sense"))?;
    let endpoints = Endpoints::new(&arguments.rpc)?;
    let wallet = wallet(arguments, &config, endpoints.clone())?;
    let mut progress = Progress::default();
    let mut start = endpoints.block_number().await?;
    if arguments.state.exists() {
        let state: State = read(&arguments.state)?;
        ensure!(
            state.config == config && state.deployer == wallet.address(),
            "{} is of another deployment, or of another account; name another --state",
            arguments.state.display()
        );
        (progress, start) = (state.progress, state.start);
    }
    check(&endpoints, &config, &wallet, arguments.fee_max_gwei, progress.0.is_empty()).await?;
    let artifacts = Artifacts::build(
        &arguments.contracts.canonicalize().context("finding the contracts")?,
        &std::path::absolute(&arguments.build)?,
    )?;
    if arguments.dry_run {
        let cost = GAS_MAX * u128::from(arguments.fee_max_gwei);
        let view = json!({
            "dry_run": true, "deployer": wallet.address(), "steps_done": progress.0.len(),
            "gas_max": GAS_MAX.to_string(), "cost_max_gwei": cost.to_string(),
        });
        let text = format!(
            "all that can be checked is right; {} steps are done\nit takes at most {GAS_MAX} gas, {} ether at {} gwei",
            progress.0.len(),
            cost as f64 / 1e9,
            arguments.fee_max_gwei
        );
        println!("{}", if arguments.json { view.to_string() } else { text });
        return Ok(());
    }
    let deployment = Deployment { config: &config, first_epoch: 0, deployer: wallet.address() };
    let sender = Paying { wallet: &wallet, last: Cell::new(None), gas: Cell::new(0) };
    let mut keep = |step: &str, progress: &Progress| {
        let (config, deployer) = (config.clone(), wallet.address());
        let state = State { config, deployer, start, progress: progress.clone() };
        write(&arguments.state, &state)?;
        if let Some(sent) = sender.last.take().filter(|_| !arguments.json) {
            println!("{step}: {} ({} gas)", sent.transaction, sent.gas_used);
        }
        Ok(())
    };
    let contracts = deploy(&deployment, &artifacts, &sender, &mut progress, &mut keep).await?;
    verify(&endpoints, &config, &contracts).await?;
    let Contracts { registrar, checkpoints, vault, tasks, slasher, authority } = contracts;
    let section = json!({
        "contracts": {
            "registrar": registrar, "checkpoints": checkpoints, "vault": vault, "tasks": tasks, "slasher": slasher,
        },
        "start": start, "stride": config.stride, "first_epoch": 0,
    });
    write(&arguments.output, &section)?;
    let view = json!({
        "authority": authority, "contracts": contracts, "gas_used": sender.gas.get(), "genesis": arguments.output,
    });
    let text = format!(
        "authority    {authority}\nregistrar    {registrar}\ncheckpoints  {checkpoints}\nvault        {vault}\n\
         tasks        {tasks}\nslasher      {slasher}\n\n{} gas; {} is for `lamina genesis new --ethereum`",
        sender.gas.get(),
        arguments.output.display()
    );
    println!("{}", if arguments.json { view.to_string() } else { text });
    Ok(())
}

fn wallet(arguments: &Arguments, config: &Config, endpoints: Endpoints) -> Result<Wallet> {
    let keystore = Keystore::read(&arguments.account)?;
    let shown = arguments.account.display();
    ensure!(
        keystore.kind() == KeyKind::Account,
        "{shown} holds a {} key, not an account's",
        keystore.kind()
    );
    let passphrase = match &arguments.passphrase_file {
        Some(file) => Passphrase::from_file(file)?,
        None => Passphrase::prompt(&format!("Passphrase of {shown}: "))?,
    };
    let key = PrivateKeySigner::from_slice(keystore.decrypt(&passphrase)?.expose())?;
    let fee_max = u128::from(arguments.fee_max_gwei) * 1_000_000_000;
    Ok(Wallet::new(endpoints, key, config.ethereum_chain_id, fee_max))
}

/// What would make it fail half way.
async fn check(
    endpoints: &Endpoints,
    config: &Config,
    wallet: &Wallet,
    fee_max_gwei: u64,
    is_new: bool,
) -> Result<()> {
    let found = endpoints.chain_id().await?;
    let expected = config.ethereum_chain_id;
    ensure!(
        found == expected,
        "the endpoint is of Ethereum chain {found}, the file says {expected}"
    );
    let eigenlayer = &config.eigenlayer;
    let expected = [
        ("eigenlayer.allocation_manager", eigenlayer.allocation_manager),
        ("eigenlayer.permission_controller", eigenlayer.permission_controller),
        ("eigenlayer.delegation_manager", eigenlayer.delegation_manager),
        ("eigenlayer.strategy_manager", eigenlayer.strategy_manager),
    ];
    let strategies = config.strategies.iter().map(|s| ("strategies", s.strategy));
    for (name, address) in expected.into_iter().chain(strategies) {
        ensure!(
            endpoints.has_code(address).await?,
            "`{name}`: there's no contract at {address} on this chain"
        );
    }
    let balance = endpoints.balance_wei(wallet.address()).await?;
    let needed = GAS_MAX * u128::from(fee_max_gwei) * 1_000_000_000;
    ensure!(
        !is_new || balance >= needed,
        "account {} has {balance} wei; at {fee_max_gwei} gwei it may take {needed}: send ether to it, or lower --fee-max-gwei",
        wallet.address()
    );
    Ok(())
}

/// Reads back what was set.
async fn verify(endpoints: &Endpoints, config: &Config, contracts: &Contracts) -> Result<()> {
    let chain = endpoints.call(contracts.checkpoints, &abi::Checkpoints::chainCall {}).await?;
    ensure!(chain.0 == config.network.to_bytes32(), "the contracts are of another network");
    let avs = endpoints.call(contracts.registrar, &abi::Registrar::avsCall {}).await?;
    ensure!(avs.0 == contracts.authority.0, "the registrar is of another service");
    let next = endpoints.call(contracts.checkpoints, &abi::Checkpoints::nextEpochCall {}).await?;
    ensure!(next == 0, "the contracts have taken {next} snapshots already");
    Ok(())
}

/// What is kept between runs.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct State {
    config: Config,
    deployer: Address,
    /// The block before the first contract.
    start: u64,
    progress: Progress,
}

/// A wallet that counts what it pays.
struct Paying<'a> {
    wallet: &'a Wallet,
    last: Cell<Option<Sent>>,
    gas: Cell<u64>,
}

impl Paying<'_> {
    fn note(&self, sent: Sent) {
        self.gas.set(self.gas.get() + sent.gas_used);
        self.last.set(Some(sent));
    }
}

impl Sender for Paying<'_> {
    async fn create(&self, code: Vec<u8>) -> Result<Address> {
        let (address, sent) = self.wallet.create(code).await?;
        self.note(sent);
        Ok(address)
    }

    async fn send(&self, to: Address, input: Vec<u8>) -> Result<()> {
        self.note(self.wallet.send(to, input, 0).await?);
        Ok(())
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {shown}"))?;
    serde_json::from_str(&text).with_context(|| format!("{shown} isn't what a deployment keeps"))
}

/// Writes a file as a whole or not at all.
fn write(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let draft = path.with_extension("draft");
    std::fs::write(&draft, serde_json::to_vec_pretty(value)?)
        .and_then(|()| std::fs::rename(&draft, path))
        .with_context(|| format!("writing {}", path.display()))
}
