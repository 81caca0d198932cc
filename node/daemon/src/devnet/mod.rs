//! A whole network on one machine: operators as processes of their own over QUIC on loopback, a service, and messages that
//! it judges.

mod chain;
mod table;

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use futures::future::join_all;
use lamina_certificate::{Deposit, FeeSchedule, Genesis, LedgerGenesis, NO_REGISTRAR};
use lamina_components::ManifestSource;
use lamina_keystore::{Cost, KeyDirectory, KeyKind, Passphrase};
use lamina_types::{AccountKey, Action, Address, Amount, Asset, ChainId, Input, ServiceId};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::time::{Instant, MissedTickBehavior, sleep};

use crate::cli::keys::{self, NewKeys};
use crate::cli::operation::{self, OperationSigner};
use crate::cli::service::upload_blobs;
use crate::cli::task::Submitter;
use crate::client::Client;
use crate::daemon::{Endpoints, now, random};
use chain::{ChainOptions, DevChain};
use table::{Feed, Row};

/// The network's name.
const CHAIN: &str = "lamina-devnet-1";
/// What an operator has at stake, in gwei.
const STAKE_GWEI: u64 = 32_000_000_000;
/// Anvil's chain identifier, which development wallets know.
const ETHEREUM_CHAIN: u64 = 31337;
/// How long a node may take to come up, the compilation of its services included. Slow machines compile for a while.
const START_MAX: Duration = Duration::from_secs(120);
/// How long an operation of the devnet's may take effect.
const OPERATION_VALID: Duration = Duration::from_secs(600);
/// How long a node may take to stop before it's killed.
const STOP_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many operators; a certificate needs more than two thirds of them.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    operators: u16,
    /// The manifest of the service to deploy.
    #[arg(long, value_name = "FILE")]
    service: PathBuf,
    /// Its component.
    #[arg(long, value_name = "FILE")]
    component: PathBuf,
    /// Inputs to run it on, one a line, over and over.
    #[arg(long, value_name = "FILE")]
    messages: Option<PathBuf>,
    /// How often one is submitted, in milliseconds; 0 submits none.
    #[arg(long, default_value_t = 1000)]
    interval_ms: u64,
    #[command(flatten)]
    ethereum: ChainOptions,
    /// Keep the network's data here; by default it's in a temporary folder that's deleted at the end.
    #[arg(long, value_name = "FOLDER")]
    directory: Option<PathBuf>,
    /// Stop after so many seconds; by default at Ctrl-C.
    #[arg(long, value_name = "SECONDS")]
    duration: Option<u64>,
}

/// Brings the network up, shows it, and stops it.
pub(crate) async fn run(options: Options, json: bool) -> anyhow::Result<()> {
    let stop = stop_signal()?;
    tokio::pin!(stop);
    let place = Place::new(options.directory.as_deref())?;
    let mut network = None;
    let result = tokio::select! {
        result = bring_up_and_show(&options, &place.folder, &mut network, json) => result,
        () = &mut stop => Ok(()),
    };
    if let Some(mut network) = network {
        if !json {
            println!("\nstopping {} operators…", network.nodes.len());
        }
        network.stop().await;
    }
    if !json && options.directory.is_none() {
        println!("the network is stopped, its data deleted");
    }
    result
}

async fn bring_up_and_show(
    options: &Options,
    folder: &Path,
    slot: &mut Option<Network>,
    json: bool,
) -> anyhow::Result<()> {
    let say = |text: String| {
        if !json {
            println!("{text}");
        }
    };
    let started = Instant::now();
    let chain = match &options.ethereum.devchain {
        Some(program) => {
            say("starting a development chain with EigenLayer and the contracts".into());
            Some(DevChain::start(program, &CHAIN.parse()?, folder).await?)
        }
        None => None,
    };
    say(format!("making keys and the genesis file of {} operators", options.operators));
    let network = slot.insert(Network::prepare(folder, options.operators, chain)?);
    if network.chain.is_some() {
        say("registering the operators at EigenLayer, each with 32 ether at stake".into());
        network.register().await?;
    }
    say("starting the operators".into());
    network.start().await?;
    network.wait_until_connected().await?;
    if network.chain.is_some() {
        say("waiting until the first deposits are final".into());
        network.wait_until_funded().await?;
    }
    say(format!("deploying {}", options.service.display()));
    let service = network.deploy(&options.service, &options.component).await?;
    let inputs = read_inputs(options.messages.as_deref())?;
    let up = network.describe(service, started.elapsed());
    if json {
        println!("{}", json!({ "event": "up", "network": up }));
    } else {
        println!("{}", table::head(&up));
    }
    show(network, options, service, &inputs, json).await
}

/// Submits inputs and shows what becomes of them until the time is over.
async fn show(
    network: &mut Network,
    options: &Options,
    service: ServiceId,
    inputs: &[Input],
    json: bool,
) -> anyhow::Result<()> {
    let submitter = Submitter {
        client: network.client(0)?,
        service,
        account: network.account.clone(),
        context: network.genesis.signing_context(),
        valid_for: Duration::from_secs(600),
    };
    let ends = options.duration.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let period = Duration::from_millis(options.interval_ms.max(1));
    let submits = options.interval_ms > 0 && !inputs.is_empty();
    let mut submit = tokio::time::interval(period);
    let mut redraw = tokio::time::interval(Duration::from_secs(1));
    submit.set_missed_tick_behavior(MissedTickBehavior::Delay);
    redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut feed = Feed::new(json);
    let mut next = inputs.iter().cycle();
    loop {
        tokio::select! {
            () = at(ends) => break,
            _ = submit.tick(), if submits => {
                if let Some(input) = next.next() {
                    feed.submitted(submitter.submit(input.clone()).await, input);
                }
            }
            _ = redraw.tick() => {
                network.fail_if_ended()?;
                feed.update(&submitter.client, &network.rows().await).await;
            }
        }
    }
    feed.update(&submitter.client, &network.rows().await).await;
    feed.finish();
    Ok(())
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    })
}

fn read_inputs(path: Option<&Path>) -> anyhow::Result<Vec<Input>> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("reading the messages in {}", path.display()))?;
    text.lines().filter(|line| !line.trim().is_empty()).map(|line| Ok(Input::new(line)?)).collect()
}

/// The network's folder: one to keep, or one that's deleted when this is dropped.
struct Place {
    folder: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Place {
    fn new(directory: Option<&Path>) -> anyhow::Result<Self> {
        match directory {
            Some(directory) => {
                anyhow::ensure!(
                    !directory.exists(),
                    "{} exists; name a folder that doesn't",
                    directory.display()
                );
                std::fs::create_dir_all(directory)
                    .with_context(|| format!("creating {}", directory.display()))?;
                Ok(Self { folder: directory.canonicalize()?, _temporary: None })
            }
            None => {
                let temporary = tempfile::Builder::new().prefix("lamina-devnet-").tempdir()?;
                Ok(Self { folder: temporary.path().to_owned(), _temporary: Some(temporary) })
            }
        }
    }
}

/// Operators that run as processes.
struct Network {
    folder: PathBuf,
    genesis: Genesis,
    account: AccountKey,
    /// Those who have something in the ledger from the start.
    accounts: Vec<Address>,
    chain: Option<DevChain>,
    nodes: Vec<Node>,
}

struct Node {
    folder: PathBuf,
    /// Held open: when this process ends, however it does, the node's standard input ends and it stops.
    process: Option<Child>,
    endpoints: Option<Endpoints>,
}

impl Network {
    /// Writes keys, configurations and the genesis file.
    fn prepare(folder: &Path, operators: u16, devchain: Option<DevChain>) -> anyhow::Result<Self> {
        let chain: ChainId = CHAIN.parse()?;
        let ethereum = devchain.as_ref().map(|devchain| devchain.place.lamina.clone());
        let registrar = ethereum.as_ref().map_or(NO_REGISTRAR, |e| e.contracts.registrar);
        let passphrase_file = folder.join("passphrase");
        let passphrase = new_passphrase(&passphrase_file)?;
        let (mut nodes, mut records, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..operators {
            let folder = folder.join(format!("operator-{index}"));
            let directory = KeyDirectory::new(folder.join("keys"));
            let new = NewKeys::generate(&directory, &passphrase, Cost::Light)?;
            let record = new.record(&chain, &registrar, STAKE_GWEI);
            // Beside the operator's account, which people use, one of the node's own.
            let purse = keys::new_account(&folder.join("purse.json"), &passphrase, Cost::Light)?;
            addresses.extend([record.address, purse]);
            records.push(record);
            nodes.push(Node { folder, process: None, endpoints: None });
        }
        // The first operator's account owns the service and asks for the tasks.
        let keys = KeyDirectory::new(folder.join("operator-0/keys"));
        let secret = keys.read(KeyKind::Account)?.decrypt(&passphrase)?;
        let account = AccountKey::from_bytes(secret.expose()).context("an account key")?;
        let genesis = Genesis {
            chain_id: chain,
            ethereum_chain_id: devchain.as_ref().map_or(ETHEREUM_CHAIN, |d| d.place.chain_id),
            // Where there's a vault, all that accounts have comes through it.
            ledger: ledger_genesis(if ethereum.is_some() { &[] } else { &addresses }),
            ethereum,
            runtime: lamina_components::runtime(),
            operators: records,
        };
        let text = serde_json::to_vec_pretty(&genesis)?;
        std::fs::write(folder.join("genesis.json"), text)?;
        let folder = folder.to_owned();
        Ok(Self { folder, genesis, account, accounts: addresses, chain: devchain, nodes })
    }

    /// Registers the operators on the chain in the genesis file's order, and deposits for all accounts.
    async fn register(&mut self) -> anyhow::Result<()> {
        let Some(chain) = &self.chain else { return Ok(()) };
        let passphrase = Passphrase::from_file(&self.folder.join("passphrase"))?;
        for node in &self.nodes {
            let keys = KeyDirectory::new(node.folder.join("keys"));
            chain.register(&self.genesis.chain_id, &keys, &passphrase).await?;
        }
        chain.roll().await?;
        for account in &self.accounts {
            // Of their own accounts, nodes pay for what they submit.
            chain.give(*account).await?;
            chain.deposit(*account).await?;
        }
        Ok(())
    }

    /// Waits until the ledger has credited what was deposited.
    async fn wait_until_funded(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_MAX;
        let last = self.accounts.last().copied().context("there are accounts")?;
        loop {
            self.fail_if_ended()?;
            let shown = self.client(0)?.get(&format!("/v1/accounts/{last}")).await?;
            if shown["balances"].as_array().is_some_and(|balances| !balances.is_empty()) {
                return Ok(());
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "deposits weren't credited within {START_MAX:?}; the operators' logs are {}",
                self.folder.join("operator-*/log").display()
            );
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Starts all nodes; the first one is where the others begin.
    async fn start(&mut self) -> anyhow::Result<()> {
        let (first, others) = self.nodes.split_first_mut().context("at least one operator")?;
        let rpc = self.chain.as_ref().map(|chain| chain.place.rpc.clone());
        first.start(&[], rpc.as_deref())?;
        let bootstrap = first.wait_until_up().await?.p2p.clone();
        for node in others.iter_mut() {
            node.start(&bootstrap, rpc.as_deref())?;
        }
        let up = join_all(others.iter_mut().map(Node::wait_until_up)).await;
        up.into_iter().collect::<anyhow::Result<Vec<_>>>().map(drop)
    }

    async fn wait_until_connected(&mut self) -> anyhow::Result<()> {
        let expected = self.nodes.len() as u64 - 1;
        let deadline = Instant::now() + START_MAX;
        loop {
            self.fail_if_ended()?;
            let rows = self.rows().await;
            if rows.iter().all(|row| row.peers >= expected) {
                return Ok(());
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "the operators didn't find each other within {START_MAX:?}; their logs are {}",
                self.folder.join("operator-*/log").display()
            );
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Registers the service and waits until every operator can run it.
    async fn deploy(&mut self, manifest: &Path, component: &Path) -> anyhow::Result<ServiceId> {
        let bytes = std::fs::read(component)
            .with_context(|| format!("reading the component {}", component.display()))?;
        let source = ManifestSource::read(manifest)?;
        let client = self.client(0)?;
        upload_blobs(&client, &source, manifest, &[], |_| {}).await?;
        let manifest = source.into_manifest(self.account.address(), &bytes)?;
        let id = manifest.service_id(&self.genesis.chain_id);
        client.put_component(bytes).await?;
        let signer = OperationSigner::new(&client, self.account.clone()).await?;
        let action = Action::RegisterService { manifest: Box::new(manifest) };
        let (fee_max, sequence) = (signer.fee_max(&action), signer.next_sequence(&client).await?);
        let signed = signer.sign(sequence, now() + OPERATION_VALID, fee_max, action);
        let operation = client.submit_operation(&signed).await?;
        operation::check(&client.operation(&operation, START_MAX).await?)?;
        let deadline = Instant::now() + START_MAX;
        for index in 0..self.nodes.len() {
            let client = self.client(index)?;
            loop {
                self.fail_if_ended()?;
                let service = client.get(&format!("/v1/services/{id}")).await;
                let status = service.map(|service| service["status"].clone());
                match status {
                    Ok(status) if status == "ready" => break,
                    Ok(status) if status == "refused" => {
                        let service = client.get(&format!("/v1/services/{id}")).await?;
                        anyhow::bail!("operator {index} refuses the service: {}", service["reason"])
                    }
                    _ => {}
                }
                anyhow::ensure!(
                    Instant::now() < deadline,
                    "operator {index} can't run the service after {START_MAX:?}"
                );
                sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(id)
    }

    fn describe(&self, service: ServiceId, took: Duration) -> Value {
        let folder = |path: &str| self.folder.join(path);
        json!({
            "operators": self.nodes.iter().map(Node::api_url).collect::<Vec<_>>(),
            "service": service,
            "genesis": folder("genesis.json"),
            "account": folder("operator-0/keys/account.json"),
            "passphrase_file": folder("passphrase"),
            "logs": folder("operator-*/log"),
            "rpc": self.chain.as_ref().map(|chain| &chain.place.rpc),
            "eigenlayer": self.chain.as_ref().map(|_| folder("eigenlayer.json")),
            "contracts": self.genesis.ethereum.as_ref().map(|ethereum| ethereum.contracts),
            "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        })
    }

    fn client(&self, index: usize) -> anyhow::Result<Client> {
        Client::new(&self.nodes[index].api_url())
    }

    /// How each node is; one that doesn't answer has an empty row.
    async fn rows(&self) -> Vec<Row> {
        join_all((0..self.nodes.len()).map(|index| async move {
            let status = match self.client(index) {
                Ok(client) => client.get("/v1/status").await.unwrap_or(Value::Null),
                Err(_) => Value::Null,
            };
            let number = |name: &str| status[name].as_u64().unwrap_or(0);
            Row {
                index,
                api: self.nodes[index].api_url(),
                peers: number("peers"),
                tasks_open: number("tasks_open"),
                tasks_certified: number("tasks_certified"),
                checkpoint: number("checkpoint"),
                anchored: status["anchored"].as_u64(),
                resident_bytes: number("resident_bytes"),
            }
        }))
        .await
    }

    fn fail_if_ended(&mut self) -> anyhow::Result<()> {
        if let Some(chain) = &mut self.chain {
            chain.fail_if_ended(&self.folder.join("ethereum-log"))?;
        }
        for (index, node) in self.nodes.iter_mut().enumerate() {
            if let Some(status) = node.ended()? {
                anyhow::bail!("operator {index} ended ({status}):\n{}", node.end_of_log());
            }
        }
        Ok(())
    }

    /// Ends all nodes: asks first, kills those that take too long.
    async fn stop(&mut self) {
        for node in &mut self.nodes {
            if let Some(process) = &mut node.process {
                drop(process.stdin.take());
            }
        }
        for node in &mut self.nodes {
            let Some(mut process) = node.process.take() else { continue };
            if tokio::time::timeout(STOP_MAX, process.wait()).await.is_err() {
                let _ = process.kill().await;
            }
        }
        if let Some(chain) = &mut self.chain {
            chain.stop().await;
        }
    }
}

impl Node {
    fn start(&mut self, bootstrap: &[libp2p::Multiaddr], rpc: Option<&str>) -> anyhow::Result<()> {
        let mut config = json!({
            "genesis": "../genesis.json",
            "keys": {
                "directory": "keys",
                "passphrase_file": "../passphrase",
                "account": "purse.json",
            },
            "p2p": {
                "listen": ["/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"],
                "bootstrap": bootstrap,
                "mdns": false,
            },
            "api": { "listen": "127.0.0.1:0" },
            "components": { "instances_max": 8, "http": { "origins": "any" } },
        });
        if let Some(rpc) = rpc {
            // For blocks that come each second.
            config["ethereum"] = json!({
                "rpc": [rpc], "poll": "500ms", "anchor_interval": "15s", "claims_interval": "3s",
                "slot": "5s", "stuck_after": "5s", "fee_per_gas_max_wei": 1_000_000_000_000_u64,
            });
        }
        let path = self.folder.join("lamina.toml");
        std::fs::write(&path, toml::to_string(&config)?)?;
        let log = std::fs::File::create(self.folder.join("log"))?;
        let process = Command::new(std::env::current_exe()?)
            .args(["node", "run", "--stop-with-stdin", "--config"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("starting an operator")?;
        self.process = Some(process);
        Ok(())
    }

    async fn wait_until_up(&mut self) -> anyhow::Result<&Endpoints> {
        let path = self.folder.join("data/endpoints.json");
        let deadline = Instant::now() + START_MAX;
        loop {
            if let Some(status) = self.ended()? {
                anyhow::bail!("an operator ended ({status}):\n{}", self.end_of_log());
            }
            if let Ok(text) = std::fs::read_to_string(&path) {
                let endpoints =
                    serde_json::from_str(&text).with_context(|| path.display().to_string())?;
                return Ok(self.endpoints.insert(endpoints));
            }
            anyhow::ensure!(Instant::now() < deadline, "an operator isn't up after {START_MAX:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        match &mut self.process {
            Some(process) => Ok(process.try_wait()?),
            None => Ok(None),
        }
    }

    fn end_of_log(&self) -> String {
        let text = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(10).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    fn api_url(&self) -> String {
        let address = self.endpoints.as_ref().map(|endpoints| endpoints.api.clone());
        format!("http://{}", address.unwrap_or_default())
    }
}

/// A ledger that begins now, with a thousand ether in each of these accounts.
fn ledger_genesis(accounts: &[Address]) -> LedgerGenesis {
    let ether = |thousandths: u128| Amount(thousandths * 1_000_000_000_000_000);
    let deposit = |account: &Address| Deposit {
        account: *account,
        asset: Asset::Ether,
        amount: ether(1_000_000),
    };
    LedgerGenesis {
        time: now(),
        fees: FeeSchedule {
            asset: Asset::Ether,
            base: Amount(10_000_000_000_000),
            per_byte: Amount(10_000_000_000),
        },
        deposits: accounts.iter().map(deposit).collect(),
        ..LedgerGenesis::default()
    }
}

/// A random passphrase in a file that only its owner may read: it protects keys of a network that lives for a while.
fn new_passphrase(path: &Path) -> anyhow::Result<Passphrase> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let text = hex::encode(random()?);
    let mut file =
        std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(Passphrase::new(&text)?)
}
