//! Networks of real node processes on loopback, driven through the command line as people would.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "tests may; a benchmark uses it, too")]

pub mod price_feed;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use lamina_types::Address;
use serde_json::{Value, json};

/// How long anything may take before a test gives up; slow machines are slow.
pub const PATIENCE: Duration = Duration::from_secs(120);

const CHAIN: &str = "lamina-test-1";

/// Runs `lamina` and returns what came of it.
pub fn lamina(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lamina"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the program runs")
}

/// Runs `lamina … --json`, which must succeed, and returns what it prints: a value for each line.
pub fn lines(arguments: &[&str]) -> Vec<Value> {
    let output = lamina(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "lamina {}: {}", arguments.join(" "), stderr(&output));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}")))
        .collect()
}

/// [`lines`] of which there is one.
pub fn value(arguments: &[&str]) -> Value {
    let mut lines = lines(arguments);
    assert_eq!(lines.len(), 1, "lamina {}", arguments.join(" "));
    lines.remove(0)
}

/// Runs `lamina`, which must fail, and returns what it complains of.
pub fn complaint(arguments: &[&str]) -> String {
    let output = lamina(arguments);
    assert!(!output.status.success(), "lamina {} succeeds", arguments.join(" "));
    stderr(&output)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Tries until `check` gives something.
pub fn wait_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Operators with folders of their own; nodes are stopped and files deleted when this is dropped.
pub struct Network {
    pub folder: tempfile::TempDir,
    pub nodes: Vec<Node>,
}

pub struct Node {
    pub folder: PathBuf,
    /// The account in `purse.json`, which the node has if its configuration says so.
    pub purse: String,
    process: Option<Child>,
    api: String,
    /// Where it listens: the system's choice at its first start, and the same ever after, as operators have it.
    listen: Vec<String>,
}

/// What the ledger begins with.
pub struct LedgerPlan {
    /// Time between two checkpoints, in milliseconds.
    pub interval_ms: u64,
    /// Who has a thousand ether, beside the operators' accounts and the nodes' purses.
    pub accounts: Vec<Address>,
    /// Its contracts on Ethereum, as the genesis file has them.
    pub ethereum: Option<Value>,
}

impl Default for LedgerPlan {
    fn default() -> Self {
        Self { interval_ms: 500, accounts: Vec::new(), ethereum: None }
    }
}

impl LedgerPlan {
    fn section(&self, nodes: &[Node]) -> Value {
        let of_node = |node: &Node| {
            let record = fs::read_to_string(node.folder.join("record.json")).unwrap();
            let record: Value = serde_json::from_str(&record).unwrap();
            [record["address"].clone(), json!(node.purse)]
        };
        let deposit = |account: Value| json!({ "account": account, "asset": "ether", "amount": "1000000000000000000000" });
        let others = self.accounts.iter().map(|account| json!(account));
        let deposits: Vec<Value> =
            nodes.iter().flat_map(of_node).chain(others).map(deposit).collect();
        let fees = json!({ "asset": "ether", "base": "1000000000", "per_byte": "1000000" });
        json!({
            "interval_ms": self.interval_ms,
            "idle_interval_ms": 30_000,
            "fees": fees,
            "deposits": deposits,
        })
    }
}

impl Network {
    /// Operators that are up and connected to each other.
    pub fn new(operators: usize) -> Self {
        let mut network = Self::prepare(operators);
        (0..operators).for_each(|index| network.start(index));
        network.wait_until_connected();
        network
    }

    /// Keys, configurations and a genesis file; no node runs.
    pub fn prepare(operators: usize) -> Self {
        Self::prepare_with(operators, 0)
    }

    /// The same with nodes that are no operators, after those that are.
    pub fn prepare_with(operators: usize, observers: usize) -> Self {
        Self::prepare_ledger(operators, observers, &LedgerPlan::default())
    }

    /// The same with a ledger that begins otherwise.
    pub fn prepare_ledger(operators: usize, observers: usize, plan: &LedgerPlan) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let passphrase = folder.path().join("passphrase");
        let mut file = fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&passphrase)
            .unwrap();
        file.write_all(b"of the tests").unwrap();
        let genesis = folder.path().join("genesis.json");
        let mut arguments: Vec<String> =
            ["genesis", "new", "--chain-id", CHAIN, "--ethereum-chain-id", "31337", "--output"]
                .map(String::from)
                .into();
        arguments.push(text(&genesis));
        let mut nodes = Vec::new();
        for index in 0..operators + observers {
            let node = folder.path().join(format!("operator-{index}"));
            fs::create_dir(&node).unwrap();
            let (keys, record) = (text(&node.join("keys")), text(&node.join("record.json")));
            let passphrase = text(&passphrase);
            let mut new = vec![
                "keys",
                "new",
                "--insecure-light",
                "--directory",
                &keys,
                "--passphrase-file",
                &passphrase,
                "--chain-id",
                CHAIN,
                "--record",
                &record,
            ];
            let registrar = plan.ethereum.as_ref().map(|e| e["contracts"]["registrar"].clone());
            let registrar = registrar.map(|address| address.as_str().unwrap().to_owned());
            if let Some(registrar) = &registrar {
                new.extend(["--registrar", registrar]);
            }
            value(&new);
            let purse = text(&node.join("purse.json"));
            let purse = value(&[
                "keys",
                "account",
                "--insecure-light",
                "--output",
                &purse,
                "--passphrase-file",
                &passphrase,
            ]);
            let purse = purse["account"].as_str().unwrap().to_owned();
            if index < operators {
                arguments.extend(["--operator".to_owned(), record]);
            }
            let listen = ["/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"];
            let listen = listen.map(str::to_owned).into();
            nodes.push(Node { folder: node, purse, process: None, api: String::new(), listen });
        }
        let ledger = folder.path().join("ledger.json");
        fs::write(&ledger, plan.section(&nodes).to_string()).unwrap();
        arguments.extend(["--ledger".to_owned(), text(&ledger)]);
        if let Some(section) = &plan.ethereum {
            let ethereum = folder.path().join("ethereum.json");
            fs::write(&ethereum, section.to_string()).unwrap();
            arguments.extend(["--ethereum".to_owned(), text(&ethereum)]);
        }
        value(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        Self { folder, nodes }
    }

    /// Starts a node, which finds the others through those that run already.
    pub fn start(&mut self, index: usize) {
        self.start_with(index, &json!({}));
    }

    /// Starts a node with sections of its configuration replaced.
    pub fn start_with(&mut self, index: usize, sections: &Value) {
        let bootstrap: Vec<Value> = self
            .nodes
            .iter()
            .filter(|node| node.process.is_some())
            .filter_map(|node| node.endpoints()["p2p"].as_array()?.first().cloned())
            .take(1)
            .collect();
        self.nodes[index].start(&json!(bootstrap), sections);
    }

    /// Kills a node: it has no chance to write anything more.
    pub fn kill(&mut self, index: usize) {
        let mut process = self.nodes[index].process.take().expect("the node runs");
        process.kill().unwrap();
        process.wait().unwrap();
        fs::remove_file(self.nodes[index].folder.join("data/endpoints.json")).unwrap();
    }

    pub fn wait_until_connected(&self) {
        let running = self.nodes.iter().filter(|node| node.process.is_some()).count() as u64;
        for node in self.nodes.iter().filter(|node| node.process.is_some()) {
            wait_for("all nodes are connected", || {
                let status = value(&["node", "status", "--api", &node.api]);
                (status["peers"].as_u64() >= Some(running - 1)).then_some(())
            });
        }
    }

    pub fn api(&self, index: usize) -> &str {
        &self.nodes[index].api
    }

    /// Registers a component, and waits until all running nodes can run it.
    pub fn deploy(&self, index: usize, manifest: &Path, component: &Path) -> String {
        let (manifest, component) = (text(manifest), text(component));
        let created = value(&with(
            &["service", "create", "--manifest", &manifest, "--component", &component],
            &self.signing(index),
        ));
        let id = created["id"].as_str().unwrap().to_owned();
        for node in self.nodes.iter().filter(|node| node.process.is_some()) {
            wait_for("the service is ready", || {
                let shown = lamina(&["service", "show", &id, "--api", &node.api, "--json"]);
                let shown: Value = serde_json::from_slice(&shown.stdout).ok()?;
                (shown["status"] == "ready").then_some(())
            });
        }
        id
    }

    /// Registers a component that's written as text, with small limits.
    pub fn deploy_text(&self, name: &str, component: &str) -> String {
        let folder = self.folder.path().join(name);
        fs::create_dir(&folder).unwrap();
        let manifest = folder.join("service.toml");
        fs::write(
            &manifest,
            format!(
                "name = \"{name}\"\n[limits]\nfuel = 20_000_000\nmemory_bytes = 1_048_576\n\
                 input_bytes = 1024\noutput_bytes = 1024\n"
            ),
        )
        .unwrap();
        let path = folder.join("component.wasm");
        fs::write(&path, wat::parse_str(component).unwrap()).unwrap();
        self.deploy(0, &manifest, &path)
    }

    /// Submits a task without waiting.
    pub fn submit(&self, index: usize, service: &str, input: &str) -> String {
        let arguments = ["task", "submit", service, "--input", input, "--no-wait"];
        let submitted = value(&with(&arguments, &self.signing(index)));
        submitted["id"].as_str().unwrap().to_owned()
    }

    pub fn task(&self, index: usize, id: &str) -> Value {
        value(&["task", "show", id, "--api", self.api(index)])
    }

    /// The task, once it's certified at this node and its outcome there.
    pub fn certified(&self, index: usize, id: &str) -> Value {
        wait_for("the task is certified", || {
            let shown =
                lamina(&["task", "show", id, "--wait", "5", "--json", "--api", self.api(index)]);
            let task: Value = serde_json::from_slice(&shown.stdout).ok()?;
            (task["status"] == "certified" && !task["outcome"].is_null()).then_some(task)
        })
    }

    /// Flags that name a node and sign with its account.
    pub fn signing(&self, index: usize) -> Vec<String> {
        let account = self.nodes[index].folder.join("keys/account.json");
        let passphrase = self.folder.path().join("passphrase");
        [
            "--api",
            self.api(index),
            "--account",
            &text(&account),
            "--passphrase-file",
            &text(&passphrase),
        ]
        .map(String::from)
        .into()
    }

    pub fn genesis(&self) -> String {
        text(&self.folder.path().join("genesis.json"))
    }

    /// A counter of a node: the line of its metrics that begins with `name`.
    pub fn metric(&self, index: usize, name: &str) -> u64 {
        let text = self.get(index, "/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} in {text}")).trim().parse().unwrap()
    }

    /// What a node's API answers: head and body.
    pub fn get(&self, index: usize, path: &str) -> String {
        let mut stream =
            std::net::TcpStream::connect(self.api(index).trim_start_matches("http://")).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        std::io::read_to_string(stream).unwrap()
    }
}

impl Node {
    fn start(&mut self, bootstrap: &Value, sections: &Value) {
        assert!(self.process.is_none(), "the node runs already");
        let mut config = json!({
            "genesis": "../genesis.json",
            "keys": { "directory": "keys", "passphrase_file": "../passphrase" },
            "p2p": {
                "listen": self.listen,
                "bootstrap": bootstrap,
                "mdns": false,
            },
            "api": { "listen": "127.0.0.1:0" },
            "components": { "instances_max": 6 },
            "log": { "filter": "info,lamina=debug,lamina_p2p_net=info" },
        });
        for (name, section) in sections.as_object().into_iter().flatten() {
            for (field, value) in section.as_object().into_iter().flatten() {
                config[name][field] = value.clone();
            }
        }
        let path = self.folder.join("lamina.toml");
        fs::write(&path, toml::to_string(&config).unwrap()).unwrap();
        let log =
            fs::File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_lamina"))
            .args(["node", "run", "--stop-with-stdin", "--config"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        let log = self.folder.join("log");
        self.api = wait_for("the node is up", || {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{}", fs::read_to_string(&log).unwrap());
            Some(format!("http://{}", self.endpoints()["api"].as_str()?))
        });
        let endpoints = self.endpoints();
        let addresses = endpoints["p2p"].as_array().into_iter().flatten();
        self.listen = addresses
            .filter_map(|address| Some(address.as_str()?.split("/p2p/").next()?.to_owned()))
            .collect();
    }

    /// Where a running node can be reached.
    pub fn endpoints(&self) -> Value {
        let text = fs::read_to_string(self.folder.join("data/endpoints.json")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut process) = node.process.take() {
                let _ = process.kill();
                let _ = process.wait();
            }
            if std::thread::panicking() {
                let log = fs::read_to_string(node.folder.join("log")).unwrap_or_default();
                eprintln!("--- {}\n{log}", node.folder.display());
            }
        }
    }
}

/// What a certified task returned, which is JSON.
pub fn output(task: &Value) -> Value {
    let bytes = task["outcome"]["result"]["Ok"].as_str().unwrap_or_else(|| panic!("{task}"));
    serde_json::from_slice(&hex::decode(&bytes[2..]).unwrap()).unwrap()
}

/// `arguments` and then `more`.
pub fn with<'a>(arguments: &[&'a str], more: &'a [String]) -> Vec<&'a str> {
    arguments.iter().copied().chain(more.iter().map(String::as_str)).collect()
}

pub fn text(path: &Path) -> String {
    path.to_str().expect("temporary folders have plain names").to_owned()
}

/// A component whose `run` is `body`, with the input at `$ptr`, `$len`; it returns where its result lies.
pub fn guest(body: &str) -> String {
    format!(
        r#"(component
            (core module $module
                (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
                (func (export "run") (param $ptr i32) (param $len i32) (result i32) {body}))
            (core instance $instance (instantiate $module))
            (func (export "run") (param "input" (list u8)) (result (result (list u8) (error string)))
                (canon lift (core func $instance "run")
                    (memory (core memory $instance "memory")) (realloc (core func $instance "realloc")))))"#
    )
}

/// A component that returns its input.
pub fn echo() -> String {
    guest(&returning("(local.get $ptr)", "(local.get $len)"))
}

/// The end of a `run` that returns `len` bytes at `ptr`.
pub fn returning(ptr: &str, len: &str) -> String {
    format!(
        "(i32.store8 (i32.const 0) (i32.const 0)) (i32.store (i32.const 4) {ptr})
         (i32.store (i32.const 8) {len}) (i32.const 0)"
    )
}
