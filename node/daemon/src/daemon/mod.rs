//! The running node: wires the cores to the network, the disk, the Wasm engine and the HTTP API.

mod anchors;
mod api;
mod blobs;
mod driver;
mod ethereum;
mod executor;
mod ledger;
mod metrics;
mod signer;
mod snapshot;
mod store;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use lamina_certificate::{GENESIS_BYTES_MAX, Genesis, OperatorSet, SecretKey};
use lamina_components::{Cache, CacheKey, Engine};
use lamina_ethereum::PrivateKeySigner;
use lamina_keystore::{KeyDirectory, KeyKind, Keystore, Passphrase};
use lamina_node_core::{AccountSigner, Node};
use lamina_types::{AccountKey, OperatorIndex, PeerKey, Timestamp};
use libp2p::Multiaddr;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::config::{Config, LogFormat};
use blobs::Blobs;
use driver::{Driver, Mailbox};
use executor::Executor;
use ledger::{LedgerSigner, NodeAccount};
use signer::{Signer, SigningStore};
use store::Store;

/// Where a running node can be reached; it stands in `endpoints.json` in its data folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Endpoints {
    /// The HTTP API.
    pub(crate) api: String,
    /// What other nodes take as a bootstrap address.
    pub(crate) p2p: Vec<Multiaddr>,
}

const ENDPOINTS: &str = "endpoints.json";

/// Runs a node until `stop` completes.
pub(crate) async fn run(
    config: Config,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    start_log(&config)?;
    let genesis = read_genesis(&config.genesis)?;
    let set = Arc::new(genesis.operator_set()?);
    std::fs::create_dir_all(&config.data)
        .with_context(|| format!("creating the data folder {}", config.data.display()))?;
    let store = Store::open(&config.data, &genesis.chain_id, config.tasks.kept_max)?;
    let signing_store = SigningStore::open(&config.data)?;
    let keys = Keys::unlock(&config)?;
    let index = set.index_of_peer(&keys.peer_key);
    let bls = keys.bls_key_of(&genesis)?;
    let signer = bls.as_ref().map(|bls| {
        let signer = LedgerSigner::new(bls.clone(), &keys.peer_secret);
        Arc::new(signer) as Arc<dyn lamina_ledger::finality::Signer + Sync>
    });
    let account_secret = keys.account(&config.keys)?;
    let account = account_secret.as_ref().map(|secret| {
        let key = AccountKey::from_bytes(secret).context("keys.account holds no account key")?;
        let account = NodeAccount::new(key, genesis.signing_context());
        anyhow::Ok(Arc::new(account) as Arc<dyn AccountSigner + Sync>)
    });
    let account = account.transpose()?;
    let account_address = account.as_ref().map(|account| account.address());
    let (ledger, archive, mut ledger_start) =
        ledger::open(&config.data, &genesis, config.ledger.node(), config.ledger.store())?;
    (ledger_start.signer, ledger_start.account) = (signer, account);
    let ethereum = ethereum::start(&config.ethereum, &genesis, &config.data, archive.clone())?;
    let (ethereum, followed) = ethereum.unzip();
    let blobs = Blobs::open(&config.data, config.tasks.components_bytes_max)
        .with_context(|| format!("opening the components in {}", config.data.display()))?;
    check_runtime(&genesis, index)?;
    let compiled = config.data.join("compiled");
    let cache_key = CacheKey::derive(&*keys.peer_secret);
    let cache = Cache::open(&compiled, cache_key, config.tasks.compiled_bytes_max)
        .with_context(|| format!("creating {}", compiled.display()))?;
    let engine = Engine::new(config.components.clone())?.with_cache(cache);
    let executor = Arc::new(Executor::new(engine, blobs));

    let (done, results) = mpsc::unbounded_channel();
    let store = Arc::new(store);
    let (writes, queue) = mpsc::channel(store::QUEUE_MAX);
    let store_thread = store.clone().start(queue, done.clone())?;
    let (signatures, queue) = mpsc::channel(signer::QUEUE_MAX);
    let signer_thread = match bls {
        Some(bls) => {
            let signer = Signer::new(bls, genesis.chain_id.clone(), signing_store);
            Some(signer.start(queue, done.clone())?)
        }
        None => None,
    };
    let (ledger_work, queue) = mpsc::channel(ledger::QUEUE_MAX);
    let ledger_thread = ledger.start(queue, done.clone())?;
    let (executions, queue) = mpsc::channel(config.tasks.workers.max(1));
    let workers = executor.start(config.tasks.workers.max(1), queue, &done)?;

    let mut p2p = config.p2p.clone();
    let known = store.addresses()?;
    p2p.bootstrap.extend(known.iter().filter_map(|text| text.parse::<Multiaddr>().ok()));
    let (network, network_events, network_task) =
        lamina_p2p_net::start(&p2p, &keys.peer_secret, &genesis.chain_id)?;

    let instances_max = usize::try_from(config.components.instances_max).unwrap_or(usize::MAX);
    let executions_max = config.tasks.workers.max(1);
    let node_config = lamina_node_core::Config {
        tasks_open_max: config.tasks.open_max,
        executions_max,
        observations_max: config
            .tasks
            .observers
            .min(instances_max.saturating_sub(executions_max))
            .max(1),
        ..lamina_node_core::Config::default()
    };
    let set_of = archive.service_sets()?;
    let records = store.load(&set_of, node_config.tasks_remembered_max, now())?;
    let node = Node::new(
        node_config,
        set.clone(),
        genesis.signing_context(),
        keys.peer_key,
        ChaCha20Rng::from_seed(random()?),
        now(),
        records,
    )
    .with_ledger(&genesis, ledger_start);
    let (mailbox, messages) = Mailbox::new();
    let anchoring = match (&followed, account_secret) {
        (Some(followed), Some(secret)) if config.ethereum.submit => {
            let account = PrivateKeySigner::from_slice(&*secret)?;
            let (archive, notices) = (archive.clone(), mailbox.notices());
            let (key, followed) = (keys.peer_key, followed.clone());
            let config = &config.ethereum;
            Some(anchors::start(config, &genesis, key, account, archive, followed, notices)?)
        }
        _ => None,
    };
    let driver = Driver {
        node,
        network: network.clone(),
        network_events,
        mailbox: mailbox.clone(),
        messages,
        results,
        done,
        writes,
        signatures,
        executions,
        executor: executor.clone(),
        ledger: archive.clone(),
        ledger_work,
        ethereum,
        waiting: driver::Waiting::default(),
        bulk: driver::Bulk::default(),
    };

    let listener = tokio::net::TcpListener::bind(config.api.listen).await.with_context(|| {
        format!(
            "the API's address {} is taken; choose another with --api.listen",
            config.api.listen
        )
    })?;
    let api_address = listener.local_addr()?;
    let shared = api::Shared {
        genesis,
        index,
        peer_key: keys.peer_key,
        mailbox,
        network: network.clone(),
        store,
        executor,
        ledger: archive,
        ethereum: followed,
        anchoring,
        endpoints: match &config.ethereum.rpc[..] {
            [] => None,
            rpc => Some(lamina_ethereum::Endpoints::new(rpc)?),
        },
    };
    write_endpoints(&config, api_address.to_string(), &network).await?;
    tracing::info!(
        api = %api_address,
        operator = index.map(|index| index.0),
        account = account_address.map(|address| address.to_string()),
        peer = %lamina_p2p_net::peer_id(&keys.peer_key).map(|id| id.to_string()).unwrap_or_default(),
        chain = %set.chain(),
        "the node is up"
    );

    let (stopping, stopped) = tokio::sync::watch::channel(false);
    let mut server = tokio::spawn(api::serve(listener, shared, stopped.clone()));
    let mut driver = tokio::task::spawn(driver.run(stopped));
    tokio::select! {
        () = stop => tracing::info!("the node stops"),
        _ = &mut driver => tracing::error!("the node can't go on; it stops"),
    }
    stopping.send_replace(true);
    // Nobody finds the node there any more.
    let _ = std::fs::remove_file(config.data.join(ENDPOINTS));
    // From the outside in: nobody asks any more, then the node ends, then what it gave to the disk is written.
    let _ = tokio::time::timeout(SHUTDOWN_MAX, &mut server).await;
    if !driver.is_finished() {
        let _ = tokio::time::timeout(SHUTDOWN_MAX, &mut driver).await;
    }
    network.shutdown();
    let _ = tokio::time::timeout(SHUTDOWN_MAX, network_task).await;
    let stored = tokio::task::spawn_blocking(move || {
        let stored = store_thread.join();
        let kept = ledger_thread.join();
        for thread in workers.into_iter().chain(signer_thread) {
            let _ = thread.join();
        }
        (stored, kept)
    })
    .await?;
    match stored {
        (Ok(stored), Ok(kept)) => {
            stored?;
            Ok(kept?)
        }
        _ => anyhow::bail!("the thread that writes panicked; the log tells why"),
    }
}

/// Checks that this build runs components by the rules that the network has agreed on: otherwise its outcomes would differ,
/// and be outvoted. A node that isn't an operator runs none.
fn check_runtime(genesis: &Genesis, index: Option<OperatorIndex>) -> anyhow::Result<()> {
    let (ours, agreed) = (lamina_components::runtime(), &genesis.runtime);
    if index.is_none() || ours == *agreed {
        return Ok(());
    }
    anyhow::bail!(
        "this build runs components by {ours}, the network has agreed on {agreed}: its outcomes would differ from \
         the other operators'. Run the build that the network's genesis file was made for"
    )
}

/// How long each part may take to end.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);

/// Reads and parses a genesis file; whether its operators hold is for [`Genesis::operator_set`] to tell.
pub(crate) fn read_genesis(path: &Path) -> anyhow::Result<Genesis> {
    let shown = path.display();
    let size =
        std::fs::metadata(path).with_context(|| format!("reading the genesis file {shown}"))?.len();
    anyhow::ensure!(
        size <= GENESIS_BYTES_MAX,
        "the genesis file {shown} has {size} bytes, at most {GENESIS_BYTES_MAX} are allowed"
    );
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("reading the genesis file {shown}"))?;
    serde_json::from_str(&text).with_context(|| format!("the genesis file {shown} isn't one"))
}

/// The time, as the cores take it.
pub(crate) fn now() -> Timestamp {
    let elapsed = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    Timestamp(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
}

/// 32 bytes from the operating system.
pub(crate) fn random() -> anyhow::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| anyhow::anyhow!("the system gives no randomness: {error}"))?;
    Ok(bytes)
}

/// The secrets that a running node holds.
struct Keys {
    directory: KeyDirectory,
    passphrase: Passphrase,
    peer_secret: Zeroizing<[u8; 32]>,
    peer_key: PeerKey,
}

impl Keys {
    fn unlock(config: &Config) -> anyhow::Result<Self> {
        let directory = KeyDirectory::new(&config.keys.directory);
        let passphrase = match &config.keys.passphrase_file {
            Some(path) => Passphrase::from_file(path)?,
            None => Passphrase::prompt(&format!(
                "Passphrase of the keys in {}: ",
                config.keys.directory.display()
            ))?,
        };
        let secret = directory.read(KeyKind::Peer)?.decrypt(&passphrase)?;
        let peer_secret = Zeroizing::new(*secret.expose());
        let peer_key = lamina_p2p_net::peer_key(&peer_secret);
        Ok(Self { directory, passphrase, peer_secret, peer_key })
    }

    /// The BLS key, which must be the one that the operator set knows.
    fn bls_key(&self, set: &OperatorSet, index: OperatorIndex) -> anyhow::Result<SecretKey> {
        let secret = self.directory.read(KeyKind::Bls)?.decrypt(&self.passphrase)?;
        let key = SecretKey::from_bytes(secret.expose())?;
        let registered = set.get(index).map(|operator| operator.bls);
        anyhow::ensure!(
            registered == Some(key.public_key()),
            "the BLS key in {} isn't the one that the genesis file has for operator {index}; \
             use the keys that the operator was registered with",
            self.directory.path().display()
        );
        Ok(key)
    }
}

impl Keys {
    /// The BLS key, if this node is an operator of any epoch in the genesis file; if operators come from Ethereum, whoever has
    /// a key may become one.
    fn bls_key_of(&self, genesis: &Genesis) -> anyhow::Result<Option<SecretKey>> {
        let epochs = genesis.epochs()?;
        let mut places =
            epochs.iter().filter_map(|(_, set)| Some((set, set.index_of_peer(&self.peer_key)?)));
        if let Some((set, index)) = places.next() {
            return self.bls_key(set, index).map(Some);
        }
        if genesis.ethereum.is_none() || !self.directory.path_of(KeyKind::Bls).exists() {
            return Ok(None);
        }
        let secret = self.directory.read(KeyKind::Bls)?.decrypt(&self.passphrase)?;
        Ok(Some(SecretKey::from_bytes(secret.expose())?))
    }

    /// The account by which the node pays for what it does by itself, if it has one.
    fn account(&self, config: &crate::config::Keys) -> anyhow::Result<Option<Zeroizing<[u8; 32]>>> {
        let Some(path) = &config.account else { return Ok(None) };
        let keystore = Keystore::read(path)?;
        anyhow::ensure!(
            keystore.kind() == KeyKind::Account,
            "{} (keys.account) holds a {} key, not an account's",
            path.display(),
            keystore.kind()
        );
        let secret = match &config.account_passphrase_file {
            Some(file) => keystore.decrypt(&Passphrase::from_file(file)?)?,
            None => keystore.decrypt(&self.passphrase)?,
        };
        Ok(Some(Zeroizing::new(*secret.expose())))
    }
}

fn start_log(config: &Config) -> anyhow::Result<()> {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_new(&config.log.filter)
        .with_context(|| format!("log.filter {:?} isn't one", config.log.filter))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let result = match config.log.format {
        LogFormat::Text => log.with_ansi(false).try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    result.map_err(|error| anyhow::anyhow!("starting the log: {error}"))
}

async fn write_endpoints(
    config: &Config,
    api: String,
    network: &lamina_p2p_net::Handle,
) -> anyhow::Result<()> {
    let p2p = listening(config, network).await?;
    let endpoints = serde_json::to_vec_pretty(&Endpoints { api, p2p })?;
    let path = config.data.join(ENDPOINTS);
    let mut file = tempfile::NamedTempFile::new_in(&config.data)?;
    std::io::Write::write_all(&mut file, &endpoints)?;
    file.persist(&path).with_context(|| format!("writing {}", path.display()))?;
    Ok(())
}

/// Where the network listens, once it does: others take it from here.
async fn listening(
    config: &Config,
    network: &lamina_p2p_net::Handle,
) -> anyhow::Result<Vec<Multiaddr>> {
    let deadline = tokio::time::Instant::now() + LISTENING_MAX;
    loop {
        let listening = network.status().await?.listening;
        let complete = listening.len() >= config.p2p.listen.len();
        if complete || tokio::time::Instant::now() >= deadline {
            return Ok(listening);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// How long the sockets may take to come up; they are bound already.
const LISTENING_MAX: Duration = Duration::from_secs(5);
