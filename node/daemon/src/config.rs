//! A node's configuration: defaults < file < `LAMINA_*` < flags.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use figment::Figment;
use figment::providers::{Env, Format as _, Serialized, Toml};
use serde::{Deserialize, Serialize};

/// What `lamina.toml` holds. Relative paths are taken from the file's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The network's genesis file.
    pub(crate) genesis: PathBuf,
    /// Where the node keeps what it knows.
    pub(crate) data: PathBuf,
    pub(crate) keys: Keys,
    pub(crate) p2p: lamina_p2p_net::Config,
    pub(crate) tasks: Tasks,
    pub(crate) ledger: Ledger,
    pub(crate) ethereum: Ethereum,
    pub(crate) components: lamina_components::Config,
    pub(crate) api: Api,
    pub(crate) log: Log,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            genesis: "genesis.json".into(),
            data: "data".into(),
            keys: Keys::default(),
            p2p: lamina_p2p_net::Config::default(),
            tasks: Tasks::default(),
            ledger: Ledger::default(),
            ethereum: Ethereum::default(),
            components: lamina_components::Config::default(),
            api: Api::default(),
            log: Log::default(),
        }
    }
}

/// Where the node's keys are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Keys {
    /// The folder that `lamina keys new` made.
    pub(crate) directory: PathBuf,
    /// A file with the passphrase; without it the node asks for it when it starts.
    pub(crate) passphrase_file: Option<PathBuf>,
    /// The keystore of the account by which the node pays for what it does by itself; without it, it does nothing by itself.
    pub(crate) account: Option<PathBuf>,
    /// A file with the passphrase of that keystore, if it's another one.
    pub(crate) account_passphrase_file: Option<PathBuf>,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            directory: "keys".into(),
            passphrase_file: None,
            account: None,
            account_passphrase_file: None,
        }
    }
}

/// How much of tasks the node takes on and keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Tasks {
    /// Tasks that run at the same time, each on a thread of its own.
    pub(crate) workers: usize,
    /// Observations that oracles make at the same time. Together with `workers`, no more than `components.instances_max`.
    pub(crate) observers: usize,
    /// Most tasks without a certificate; further requests are dropped and counted.
    pub(crate) open_max: usize,
    /// Ended tasks that are kept on disk; the oldest are deleted first.
    pub(crate) kept_max: u64,
    /// Most that components and blobs may take on disk, in bytes.
    pub(crate) components_bytes_max: u64,
    /// Most that compiled components may take on disk, in bytes; those that were used longest ago are deleted first.
    pub(crate) compiled_bytes_max: u64,
}

impl Default for Tasks {
    fn default() -> Self {
        Self {
            workers: 2,
            observers: 8,
            open_max: 8192,
            kept_max: 100_000,
            components_bytes_max: 4 << 30,
            compiled_bytes_max: 4 << 30,
        }
    }
}

/// How the node keeps the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Ledger {
    /// Most memory for what is read from the ledger's file, in bytes.
    pub(crate) cache_bytes: usize,
    /// How many checkpoints' states are kept, for proofs and for nodes that begin from a snapshot.
    pub(crate) states_kept: u64,
    /// A node that is so many checkpoints behind begins from a snapshot instead of following.
    pub(crate) snapshot_distance: u64,
    /// Most operations that this node carries before they are final; further ones are refused.
    pub(crate) promises_max: usize,
    /// Most operations that this node makes by itself in a minute, each of which costs its account a fee; further ones wait.
    pub(crate) reports_per_minute_max: usize,
}

impl Default for Ledger {
    fn default() -> Self {
        let node = lamina_node_core::LedgerConfig::default();
        let store = lamina_ledger_store::Config::default();
        Self {
            cache_bytes: store.cache_bytes,
            states_kept: store.keep_versions,
            snapshot_distance: node.snapshot_distance,
            promises_max: node.promises_max,
            reports_per_minute_max: node.reports_per_minute_max,
        }
    }
}

impl Ledger {
    pub(crate) fn node(&self) -> lamina_node_core::LedgerConfig {
        lamina_node_core::LedgerConfig {
            snapshot_distance: self.snapshot_distance,
            promises_max: self.promises_max,
            reports_per_minute_max: self.reports_per_minute_max,
            ..lamina_node_core::LedgerConfig::default()
        }
    }

    pub(crate) fn store(&self) -> lamina_ledger_store::Config {
        lamina_ledger_store::Config {
            cache_bytes: self.cache_bytes,
            keep_versions: self.states_kept,
        }
    }
}

/// How the node follows Ethereum, and what it writes there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Ethereum {
    /// HTTP endpoints of the chain that the genesis file names, in the order of preference.
    pub(crate) rpc: Vec<String>,
    /// How many of them must say the same before it counts.
    pub(crate) agreement: usize,
    /// Time between two looks at the finalised block.
    #[serde(with = "humantime_serde")]
    pub(crate) poll: Duration,
    /// Whether this node submits checkpoints, snapshots of operators and evidence, and pays for it with `keys.account`.
    pub(crate) submit: bool,
    /// Time between two anchored checkpoints while nothing waits to leave.
    #[serde(with = "humantime_serde")]
    pub(crate) anchor_interval: Duration,
    /// The same while value waits to leave.
    #[serde(with = "humantime_serde")]
    pub(crate) claims_interval: Duration,
    /// Time between two snapshots of operators: less than the contracts let one sign for.
    #[serde(with = "humantime_serde")]
    pub(crate) epoch_interval: Duration,
    /// What each operator whose turn is later waits longer: a transaction should be in a block meanwhile.
    #[serde(with = "humantime_serde")]
    pub(crate) slot: Duration,
    /// A transaction that isn't in a block after so long is replaced by one that pays more.
    #[serde(with = "humantime_serde")]
    pub(crate) stuck_after: Duration,
    /// Most that is paid for a unit of gas, in wei.
    pub(crate) fee_per_gas_max_wei: u64,
    /// Least tip for a unit of gas, in wei, where endpoints suggest none.
    pub(crate) tip_per_gas_min_wei: u64,
}

impl Default for Ethereum {
    /// Times are for blocks of twelve seconds: a slot is three of them, a day's snapshot is well within a week's unbonding. At
    /// a hundred gwei an anchor costs about 0.02 ether.
    fn default() -> Self {
        Self {
            rpc: Vec::new(),
            agreement: 1,
            poll: Duration::from_secs(4),
            submit: true,
            anchor_interval: Duration::from_secs(600),
            claims_interval: Duration::from_secs(60),
            epoch_interval: Duration::from_secs(86_400),
            slot: Duration::from_secs(36),
            stuck_after: Duration::from_secs(60),
            fee_per_gas_max_wei: 100_000_000_000,
            tip_per_gas_min_wei: 1_000_000,
        }
    }
}

/// The local HTTP API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Api {
    /// Where it listens. It has no access control yet: keep it on loopback.
    pub(crate) listen: SocketAddr,
}

impl Default for Api {
    fn default() -> Self {
        Self { listen: ([127, 0, 0, 1], 4100).into() }
    }
}

/// What is logged, to standard error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// Levels, as `tracing-subscriber` reads them: `info`, or `info,lamina_p2p_net=debug`.
    pub(crate) filter: String,
    pub(crate) format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            filter: "info,libp2p_kad=error,libp2p_swarm=warn,arc_malachitebft_core_consensus=error"
                .into(),
            format: LogFormat::Text,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// What flags override.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Overrides {
    /// Where to meet peers; may be given several times.
    #[arg(long = "p2p.listen", value_name = "MULTIADDR")]
    pub(crate) p2p_listen: Vec<String>,
    /// Peers to begin with; may be given several times.
    #[arg(long = "p2p.bootstrap", value_name = "MULTIADDR")]
    pub(crate) p2p_bootstrap: Vec<String>,
    /// Where the HTTP API listens.
    #[arg(long = "api.listen", value_name = "ADDRESS")]
    pub(crate) api_listen: Option<SocketAddr>,
    /// Levels of the log.
    #[arg(long = "log.filter", value_name = "FILTER")]
    pub(crate) log_filter: Option<String>,
}

impl Config {
    /// Reads the layers. `path` must exist.
    pub(crate) fn load(path: &Path, overrides: &Overrides) -> anyhow::Result<Self> {
        anyhow::ensure!(
            path.is_file(),
            "there is no configuration at {}; name one with --config, or copy lamina.example.toml",
            path.display()
        );
        let mut figment = Figment::from(Serialized::defaults(Self::default()))
            .merge(Toml::file_exact(path))
            .merge(Env::prefixed("LAMINA_").filter(is_ours).split("__"));
        if !overrides.p2p_listen.is_empty() {
            figment = figment.merge(("p2p.listen", &overrides.p2p_listen));
        }
        if !overrides.p2p_bootstrap.is_empty() {
            figment = figment.merge(("p2p.bootstrap", &overrides.p2p_bootstrap));
        }
        if let Some(listen) = overrides.api_listen {
            figment = figment.merge(("api.listen", listen));
        }
        if let Some(filter) = &overrides.log_filter {
            figment = figment.merge(("log.filter", filter));
        }
        let mut config: Self = figment
            .extract()
            .map_err(anyhow::Error::from)
            .with_context(|| format!("reading the configuration {}", path.display()))?;
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        config.resolve_paths(&folder);
        Ok(config)
    }

    fn resolve_paths(&mut self, folder: &Path) {
        let keys = &mut self.keys;
        let paths = [&mut self.genesis, &mut self.data, &mut keys.directory];
        let files = keys.passphrase_file.iter_mut().chain(&mut keys.account);
        let files = files.chain(&mut keys.account_passphrase_file);
        for path in paths.into_iter().chain(files) {
            *path = folder.join(&*path);
        }
    }
}

/// Only sections of the configuration: other programs' variables may begin like ours.
fn is_ours(key: &figment::value::UncasedStr) -> bool {
    let sections = [
        "genesis",
        "data",
        "keys",
        "p2p",
        "tasks",
        "ledger",
        "ethereum",
        "components",
        "api",
        "log",
    ];
    let first = key.as_str().split("__").next().unwrap_or_default().to_ascii_lowercase();
    sections.contains(&first.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> anyhow::Result<Config> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lamina.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path, &Overrides::default())
    }

    #[test]
    fn example_file_is_the_defaults() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("lamina.example.toml");
        let config: Config = toml::from_str(&std::fs::read_to_string(example).unwrap()).unwrap();
        assert_eq!(config, Config::default());
    }

    #[test]
    fn errors_name_the_field_and_the_file() {
        let error = format!("{:#}", load("[api]\nlisten = 7").unwrap_err());
        assert!(error.contains("api.listen") && error.contains("lamina.toml"), "{error}");
        let error = format!("{:#}", load("[api]\nlitsen = \"127.0.0.1:1\"").unwrap_err());
        assert!(error.contains("litsen"), "{error}");
    }

    #[test]
    fn paths_are_taken_from_the_file() {
        let text =
            "data = \"there\"\n[keys]\npassphrase_file = \"/secret\"\naccount = \"purse.json\"";
        let config = load(text).unwrap();
        assert!(config.data.is_absolute() && config.data.ends_with("there"));
        assert_eq!(config.keys.passphrase_file, Some("/secret".into()));
        let account = config.keys.account.unwrap();
        assert!(account.is_absolute() && account.ends_with("purse.json"));
    }
}
