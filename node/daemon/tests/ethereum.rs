//! Real nodes beside a real chain: what is deposited on Ethereum is credited by every node, once.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

mod harness;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use alloy_sol_types::SolCall as _;
use ed25519_dalek::{Signer as _, SigningKey};
use harness::{LedgerPlan, Network, complaint, echo, lines, text, value, wait_for, with};
use lamina_bridge_testing::{Anvil, AnvilOptions, Chain, Contracts, EigenLayer, Tools};
use lamina_certificate::{Evidence, SecretKey, SignedTwice};
use lamina_ethereum_core::{abi, calls};
use lamina_keystore::{KeyDirectory, KeyKind, Passphrase};
use lamina_types::{
    Address, Canonical as _, ChainId, EpochNumber, HeaderId, Height, OperatorIndex, PeerKey,
    signing,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// A development chain with EigenLayer and Lamina's contracts.
struct Ethereum {
    runtime: Runtime,
    tools: Tools,
    anvil: Anvil,
    chain: Chain,
    eigenlayer: EigenLayer,
    contracts: Contracts,
}

impl Ethereum {
    fn new(network: &str) -> Self {
        Self::with(network, &AnvilOptions::default())
    }

    fn with(network: &str, options: &AnvilOptions) -> Self {
        let runtime = Runtime::new().unwrap();
        let tools = Tools::install().unwrap();
        let anvil = Anvil::start(&tools, options).unwrap();
        let chain = anvil.chain().unwrap();
        let name = network.parse::<ChainId>().unwrap().to_bytes32();
        let (eigenlayer, contracts) = runtime.block_on(async {
            let eigenlayer = EigenLayer::install(&chain, &tools).await.unwrap();
            let contracts = Contracts::deploy(&chain, &tools, &eigenlayer, name).await.unwrap();
            (eigenlayer, contracts)
        });
        Self { runtime, tools, anvil, chain, eigenlayer, contracts }
    }

    fn section(&self) -> Value {
        let Contracts { registrar, checkpoints, vault, tasks, slasher, start, .. } = self.contracts;
        json!({
            "contracts": {
                "registrar": registrar,
                "checkpoints": checkpoints,
                "vault": vault,
                "tasks": tasks,
                "slasher": slasher,
            },
            "start": start,
            "stride": 4,
            "first_epoch": Contracts::FIRST_EPOCH,
        })
    }

    /// How a node follows it.
    fn settings(&self) -> Value {
        json!({ "ethereum": { "rpc": [self.anvil.url()], "poll": "200ms" } })
    }

    /// Deposits ether, and makes blocks until that's final.
    fn deposit(&self, account: Address, wei: &str) {
        let input = abi::Vault::depositEtherCall { account: account.0.into() }.abi_encode();
        let (owner, vault) = (self.eigenlayer.owner, self.contracts.vault);
        self.runtime.block_on(async {
            self.chain.pay(owner, vault, input, wei.parse().unwrap()).await.unwrap();
            self.chain.mine(8).await.unwrap();
        });
    }
}

impl Ethereum {
    /// Gives an account ether on the chain.
    fn endow(&self, account: &str) {
        let wei = "100000000000000000000".parse().unwrap();
        self.runtime.block_on(self.chain.endow(account.parse().unwrap(), wei)).unwrap();
    }

    /// Makes a node's account an operator with 32 ether at stake, and registers the node's keys.
    fn register(&self, network: &Network, index: usize) {
        let bls = SecretKey::from_bytes(&secret(network, index, KeyKind::Bls)).unwrap();
        let peer = SigningKey::from_bytes(&secret(network, index, KeyKind::Peer));
        let peer_key = PeerKey(peer.verifying_key().to_bytes());
        let account = operator(network, index);
        let registrar = Address(self.contracts.registrar.into());
        let chain: ChainId = "lamina-test-1".parse().unwrap();
        let proof = peer.sign(&signing::peer_possession(&chain, &account, &peer_key).0).to_bytes();
        let data = calls::registration(&chain, &account, &registrar, &bls, &peer_key, &proof);
        self.endow(&account.to_string());
        let (chain, avs, account) = (&self.chain, self.contracts.authority, account.0.into());
        self.runtime.block_on(async {
            let eigenlayer = &self.eigenlayer;
            eigenlayer.add_operator(chain, account, 32_000_000_000_000_000_000).await.unwrap();
            chain.mine(2).await.unwrap();
            eigenlayer.register(chain, account, avs, data).await.unwrap();
            eigenlayer.allocate(chain, account, avs, 1_000_000_000_000_000_000).await.unwrap();
            chain.mine(2).await.unwrap();
        });
    }

    /// EigenLayer's addresses in a file, as operators have them.
    fn eigenlayer_file(&self, folder: &Path) -> String {
        let file = json!({
            "allocation_manager": self.eigenlayer.allocation_manager,
            "delegation_manager": self.eigenlayer.delegation_manager,
            "strategy_manager": self.eigenlayer.strategy_manager,
            "strategy": self.eigenlayer.strategy,
        });
        let path = folder.join("eigenlayer.json");
        std::fs::write(&path, file.to_string()).unwrap();
        text(&path)
    }

    /// `lamina operator …` with a node's keys and all flags that it takes.
    fn operator_command(&self, network: &Network, index: usize, verb: &[&str]) -> Vec<String> {
        let (folder, node) = (network.folder.path(), &network.nodes[index].folder);
        let flags = [
            ("--genesis", network.genesis()),
            ("--eigenlayer", self.eigenlayer_file(folder)),
            ("--rpc", self.anvil.url()),
            ("--directory", text(&node.join("keys"))),
            ("--account", text(&node.join("keys/account.json"))),
            ("--passphrase-file", text(&folder.join("passphrase"))),
        ];
        let flags = flags.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
        ["operator"].iter().chain(verb).map(|word| (*word).to_owned()).chain(flags).collect()
    }

    /// What it prints last.
    fn operator(&self, network: &Network, index: usize, verb: &[&str]) -> Value {
        lines(&words(&self.operator_command(network, index, verb))).pop().unwrap()
    }

    /// Snapshots the operators of the next epoch.
    fn roll(&self) {
        let (owner, checkpoints) = (self.eigenlayer.owner, self.contracts.checkpoints);
        let roll = self.chain.pay(owner, checkpoints, calls::roll(None), Default::default());
        self.runtime.block_on(roll).unwrap();
    }

    /// Gives an account tokens to stake.
    fn mint(&self, account: Address, amount: &str) {
        let call = abi::Erc20::mintCall { to: account.0.into(), value: amount.parse().unwrap() };
        let sent = self.chain.send(self.eigenlayer.owner, self.eigenlayer.token, &call);
        self.runtime.block_on(sent).unwrap();
    }

    /// What an account has on the chain, in wei.
    fn balance(&self, account: &str) -> String {
        let asked = self.chain.request::<String>("eth_getBalance", json!([account, "latest"]));
        let hexadecimal = self.runtime.block_on(asked).unwrap();
        u128::from_str_radix(hexadecimal.trim_start_matches("0x"), 16).unwrap().to_string()
    }

    /// What an account has of EigenLayer's token.
    fn tokens(&self, account: &str) -> u64 {
        let call = abi::Erc20::balanceOfCall { account: account.parse().unwrap() };
        let asked = self.chain.call(self.eigenlayer.token, &call);
        self.runtime.block_on(asked).unwrap().try_into().unwrap()
    }

    /// The header of the last anchor, as `cast` reads it from the chain.
    fn anchored(&self) -> String {
        let output = Command::new(self.tools.cast())
            .args(["call", "--rpc-url", &self.anvil.url()])
            .arg(self.contracts.checkpoints.to_string())
            .arg("latest()(bytes32,uint64,uint64,uint40)")
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned()
    }
}

fn words(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
}

/// A key of a node's.
fn secret(network: &Network, index: usize, kind: KeyKind) -> [u8; 32] {
    let passphrase = Passphrase::from_file(&network.folder.path().join("passphrase"));
    let keys = KeyDirectory::new(network.nodes[index].folder.join("keys"));
    *keys.read(kind).unwrap().decrypt(&passphrase.unwrap()).unwrap().expose()
}

/// A node's operator account.
fn operator(network: &Network, index: usize) -> Address {
    let record = std::fs::read(network.nodes[index].folder.join("record.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    record["address"].as_str().unwrap().parse().unwrap()
}

fn balance(network: &Network, index: usize, account: Address) -> Value {
    let shown = value(&["account", "show", &account.to_string(), "--api", network.api(index)]);
    shown["balances"][0]["amount"].clone()
}

#[test]
fn deposits_on_ethereum_are_credited_once_at_every_node() {
    let ethereum = Ethereum::new("lamina-test-1");
    let plan = LedgerPlan { ethereum: Some(ethereum.section()), ..LedgerPlan::default() };
    let mut network = Network::prepare_ledger(4, 0, &plan);
    (0..4).for_each(|index| network.start_with(index, &ethereum.settings()));
    network.wait_until_connected();
    let account = Address([7; 20]);
    let everywhere = |network: &Network, nodes: std::ops::Range<usize>, wei: &str| {
        for index in nodes {
            wait_for("the deposit is credited", || {
                (balance(network, index, account) == wei).then_some(())
            });
        }
    };
    ethereum.deposit(account, "5000000000000000000");
    everywhere(&network, 0..4, "5000000000000000000");

    // One that's away credits the next, too, and none twice.
    network.kill(3);
    ethereum.deposit(account, "2000000000000000000");
    ethereum.deposit(account, "1");
    everywhere(&network, 0..3, "7000000000000000001");
    network.start_with(3, &ethereum.settings());
    everywhere(&network, 3..4, "7000000000000000001");

    // Without an endpoint, a node says what it lacks.
    network.kill(3);
    let path = network.nodes[3].folder.join("lamina.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let mut config: toml::Table = toml::from_str(&config).unwrap();
    config.remove("ethereum").unwrap();
    std::fs::write(&path, config.to_string()).unwrap();
    let said = complaint(&["node", "run", "--config", &text(&path)]);
    assert!(said.contains("ethereum.rpc"), "{said}");
}

/// The whole of a network on Ethereum: its operators' snapshots are its epochs, its checkpoints are anchored there by whose
/// turn it is, and everything can be verified from the genesis file on.
#[test]
fn checkpoints_are_anchored_and_operators_change_by_snapshots() {
    let options = AnvilOptions { block_time_s: Some(1), ..AnvilOptions::default() };
    let ethereum = Ethereum::with("lamina-test-1", &options);
    let plan = LedgerPlan { ethereum: Some(ethereum.section()), ..LedgerPlan::default() };
    let mut network = Network::prepare_ledger(4, 2, &plan);
    (0..4).for_each(|index| ethereum.register(&network, index));
    ethereum.roll();
    let mut settings = ethereum.settings();
    settings["keys"] = json!({ "account": "purse.json" });
    for (name, value) in [
        ("anchor_interval", "4s"),
        ("claims_interval", "1s"),
        ("slot", "4s"),
        ("stuck_after", "4s"),
    ] {
        settings["ethereum"][name] = json!(value);
    }
    for index in 0..5 {
        ethereum.endow(&network.nodes[index].purse.clone());
        network.start_with(index, &settings);
    }
    network.wait_until_connected();
    let show = |network: &Network, index: usize, height: &str| {
        let which = if height == "latest" { &[][..] } else { &[height] };
        value(&[&["checkpoint", "show", "--api", network.api(index)], which].concat())
    };
    let account = Address([7; 20]);
    ethereum.deposit(account, "5000000000000000000");
    let last_anchored = |network: &Network, index: usize| {
        let status = value(&["node", "status", "--api", network.api(index)]);
        Some(show(network, index, &status["anchored"].as_u64()?.to_string()))
    };
    let first = wait_for("a checkpoint is anchored", || last_anchored(&network, 0));
    let anchor = &first["anchor"];
    assert!(anchor["gas_used"].as_u64() > Some(100_000), "{anchor}");
    assert!(anchor["transaction"].as_str().unwrap().starts_with("0x"), "{anchor}");
    let height = anchor["height"].to_string();
    assert_eq!(show(&network, 1, &height)["id"], anchor["header"], "it's the ledger's own");
    let status = value(&["node", "status", "--api", network.api(0)]);
    assert_eq!(status["submitting"], true);

    // The fifth node becomes an operator by the next snapshot, and is needed once the first is gone.
    ethereum.register(&network, 4);
    ethereum.roll();
    wait_for("the new operators sign", || {
        ethereum.deposit(account, "1");
        let shown: Vec<Value> = (0..5).map(|index| show(&network, index, "latest")).collect();
        shown.iter().all(|shown| shown["header"]["epoch"] == 1).then_some(())
    });
    network.kill(0);
    ethereum.deposit(account, "1000000000000000000");
    let credited = wait_for("deposits are credited without the first node", || {
        let shown = balance(&network, 4, account);
        let wei: u128 = shown.as_str()?.parse().ok()?;
        (wei >= 6_000_000_000_000_000_000).then(|| show(&network, 4, "latest"))
    });
    let signers = credited["certificate"]["signers"].as_array().unwrap();
    assert!(signers.contains(&json!(4)) && !signers.contains(&json!(0)), "{signers:?}");
    let later = wait_for("a checkpoint of the new operators is anchored", || {
        last_anchored(&network, 4).filter(|shown| shown["header"]["epoch"] == 1)
    });
    // What is anchored by now isn't older, and is one of the ledger's.
    let anchored = ethereum.anchored();
    let latest = show(&network, 4, "latest")["header"]["height"].as_u64().unwrap();
    let mut heights = later["header"]["height"].as_u64().unwrap()..=latest;
    assert!(heights.any(|h| show(&network, 4, &h.to_string())["id"] == json!(anchored)));

    // From the genesis file on: without what leads to the new operators it can't be told whether they're the right ones.
    let file = |name: &str| text(&network.folder.path().join(name));
    let (checkpoint, handovers, genesis) =
        (file("checkpoint.lamina"), file("handovers.lamina"), file("genesis.json"));
    let height = later["header"]["height"].to_string();
    let api = network.api(4).to_owned();
    value(&["checkpoint", "show", &height, "--output", &checkpoint, "--api", &api]);
    let saved = value(&["checkpoint", "handovers", "--output", &handovers, "--api", &api]);
    assert_eq!(saved["epochs"].as_array().unwrap().len(), 2, "{saved}");
    let verify = ["checkpoint", "verify", &checkpoint, "--genesis", &genesis];
    let said = complaint(&verify);
    assert!(said.contains("lamina checkpoint handovers"), "{said}");
    let verified = value(&[&verify[..], &["--handovers", &handovers]].concat());
    assert_eq!(verified["holds"], true);

    // A node that's new begins from a snapshot of the new operators' state, and is told how it came to them.
    settings["ledger"] = json!({ "snapshot_distance": 2 });
    network.start_with(5, &settings);
    let height = later["header"]["height"].as_u64().unwrap();
    wait_for("the new node follows", || {
        let status = value(&["node", "status", "--api", network.api(5)]);
        (status["checkpoint"].as_u64()? >= height).then_some(())
    });
    let log = std::fs::read_to_string(network.nodes[5].folder.join("log")).unwrap();
    assert!(log.contains("the ledger begins from a snapshot"), "it took all checkpoints instead");
    let api = network.api(5).to_owned();
    let told = value(&["checkpoint", "handovers", "--output", &handovers, "--api", &api]);
    assert_eq!(told["epochs"], saved["epochs"]);
}

/// Registering is looked at step by step, so that whoever runs it again pays for what lacks alone.
#[test]
fn registering_goes_on_where_it_stopped() {
    let ethereum = Ethereum::new("lamina-test-1");
    let plan = LedgerPlan { ethereum: Some(ethereum.section()), ..LedgerPlan::default() };
    let network = Network::prepare_ledger(2, 0, &plan);
    let account = operator(&network, 0);
    let register = |stake: &str| {
        let command =
            ethereum.operator_command(&network, 0, &["register", "--stake", stake, "--wait", "60"]);
        lines(&words(&command))
    };
    let steps = |lines: &[Value]| -> Vec<String> {
        let steps = lines.iter().filter_map(|line| line["step"].as_str());
        steps.map(str::to_owned).collect()
    };
    let (less, more) = ("32000000000000000000", "40000000000000000000");

    // What lacks is named.
    let command = ethereum.operator_command(&network, 0, &["register", "--stake", less]);
    let said = complaint(&words(&command));
    assert!(said.contains("has 0 wei") && said.contains("send ether"), "{said}");
    ethereum.endow(&account.to_string());
    let said = complaint(&words(&command));
    assert!(said.contains("has 0 of token"), "{said}");

    ethereum.mint(account, more);
    let first = register(less);
    let done = ["stake approved", "stake deposited", "registered with the node's keys"];
    assert_eq!(steps(&first), [&done[..], &["stake allocated"]].concat(), "{first:?}");
    let again = register(less);
    assert_eq!(steps(&again), [] as [&str; 0], "{again:?}");
    assert_eq!(again[0]["shares"], less, "{again:?}");
    let increased = register(more);
    assert_eq!(steps(&increased), done[..2], "{increased:?}");
    assert_eq!(increased[2]["shares"], more, "{increased:?}");

    // What there is, is told: whose keys, and what the snapshots have.
    let status = ethereum.operator(&network, 0, &["status"]);
    assert_eq!(status["keys_match"], true, "{status}");
    assert_eq!(status["in_epoch"], false, "{status}");
    ethereum.runtime.block_on(ethereum.chain.mine(4)).unwrap();
    ethereum.roll();
    let status = ethereum.operator(&network, 0, &["status"]);
    assert_eq!((&status["epoch"], &status["next_epoch"]), (&json!(0), &json!(1)), "{status}");
    assert_eq!((&status["index"], &status["slashed_ppm"]), (&json!(0), &json!(0)), "{status}");
    assert_eq!(status["stake_gwei"], 40_000_000_000_u64, "{status}");

    // The same account with another node's keys.
    let other = text(&network.nodes[1].folder.join("keys"));
    let mut command = ethereum.operator_command(&network, 0, &["status"]);
    let directory = command.iter().position(|word| word == "--directory").unwrap() + 1;
    command[directory] = other;
    assert_eq!(value(&words(&command))["keys_match"], false);
    command[1] = "register".to_owned();
    let said = complaint(&words(&command));
    assert!(said.contains("registered with other keys"), "{said}");

    // Whoever left can't come back while the stake can be slashed; the keys are never taken again.
    ethereum.operator(&network, 0, &["deregister"]);
    let status = ethereum.operator(&network, 0, &["status"]);
    assert_eq!((&status["registered"], &status["keys_match"]), (&json!(false), &Value::Null));
    let said = complaint(&words(&ethereum.operator_command(&network, 0, &["register"])));
    assert!(said.contains("can still be slashed"), "{said}");
    ethereum.runtime.block_on(ethereum.chain.mine(60)).unwrap();
    let said = complaint(&words(&ethereum.operator_command(&network, 0, &["register"])));
    assert!(said.contains("BlsKeyTaken") && said.contains("lamina keys new"), "{said}");
    let back = lines(&words(&command));
    assert_eq!(back[back.len() - 1]["keys_match"], true, "{back:?}");
}

/// A passphrase that comes through a pipe can be read once.
#[test]
fn the_passphrase_is_read_once() {
    let options = AnvilOptions { block_time_s: Some(1), ..AnvilOptions::default() };
    let ethereum = Ethereum::with("lamina-test-1", &options);
    let plan = LedgerPlan { ethereum: Some(ethereum.section()), ..LedgerPlan::default() };
    let network = Network::prepare_ledger(1, 0, &plan);
    ethereum.endow(&operator(&network, 0).to_string());
    let mut command =
        ethereum.operator_command(&network, 0, &["register", "--wait", "60", "--json"]);
    let at = command.iter().position(|word| word == "--passphrase-file").unwrap();
    command[at] = "--passphrase-fd".to_owned();
    command[at + 1] = "0".to_owned();
    let mut child = Command::new(env!("CARGO_BIN_EXE_lamina"))
        .args(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"of the tests\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let last = String::from_utf8_lossy(&output.stdout);
    let status: Value = serde_json::from_str(last.lines().last().unwrap()).unwrap();
    assert_eq!(status["registered"], true, "{status}");
}

/// From nothing to paid and slashed, by the commands that people have.
#[test]
fn value_and_stake_take_the_whole_way_by_commands() {
    let options = AnvilOptions { block_time_s: Some(1), ..AnvilOptions::default() };
    let ethereum = Ethereum::with("lamina-test-1", &options);
    let plan = LedgerPlan { ethereum: Some(ethereum.section()), ..LedgerPlan::default() };
    let mut network = Network::prepare_ledger(4, 0, &plan);
    let rpc = ethereum.anvil.url();
    let on_chain =
        |network: &Network, index: usize, verb: &[&str]| ethereum.operator(network, index, verb);

    // Operators come from nothing, and a second run changes nothing.
    let stake = "32000000000000000000";
    for index in 0..4 {
        let account = operator(&network, index);
        ethereum.endow(&account.to_string());
        ethereum.mint(account, stake);
        let status = on_chain(&network, index, &["register", "--stake", stake, "--wait", "60"]);
        assert_eq!(status["registered"], true, "{status}");
        assert_eq!(status["shares"], stake, "{status}");
        assert_eq!(status["in_epoch"], false, "{status}");
    }
    ethereum.runtime.block_on(ethereum.chain.mine(4)).unwrap();
    let again = on_chain(&network, 0, &["register"]);
    assert_eq!(again["shares"], stake, "{again}");
    ethereum.roll();
    let status = on_chain(&network, 3, &["status"]);
    assert_eq!(status["stake_gwei"], 32_000_000_000_u64, "{status}");

    let mut settings = ethereum.settings();
    settings["keys"] = json!({ "account": "purse.json" });
    for (name, value) in [
        ("anchor_interval", "4s"),
        ("claims_interval", "1s"),
        ("slot", "4s"),
        ("stuck_after", "4s"),
    ] {
        settings["ethereum"][name] = json!(value);
    }
    for index in 0..4 {
        ethereum.endow(&network.nodes[index].purse.clone());
        network.start_with(index, &settings);
    }
    network.wait_until_connected();

    // Value comes in: each deposit is known by its number, whatever else the account does.
    let signing = network.signing(0);
    let paying =
        |arguments: &[&str]| value(&[&with(arguments, &signing)[..], &["--rpc", &rpc]].concat());
    let refused = |arguments: &[&str]| {
        complaint(&[&with(arguments, &signing)[..], &["--rpc", &rpc]].concat())
    };
    let account = operator(&network, 0);
    let hasty = paying(&["deposit", "5000000000000000000", "--no-wait"]);
    assert_eq!(hasty["credited"], Value::Null, "{hasty}");
    let deposited = paying(&["deposit", "3000000000000000000", "--wait", "100"]);
    assert_eq!(deposited["deposit"], 1, "{deposited}");
    assert_eq!(deposited["credited"], "3000000000000000000", "{deposited}");
    let token = format!("erc20:{}", ethereum.eigenlayer.token).to_lowercase();
    ethereum.mint(account, "700");
    let said = refused(&["deposit", "701", "--asset", &token]);
    assert!(said.contains("has 700 of token"), "{said}");
    let (nowhere, voucher) = (Address([0xEE; 20]), format!("ibc:0x{}", "ff".repeat(32)));
    let said = refused(&["deposit", "1", "--asset", &format!("erc20:{nowhere}")]);
    assert!(said.contains("isn't the contract that it should be"), "{said}");
    let said = refused(&["deposit", "1", "--asset", &voucher]);
    assert!(said.contains("aren't on Ethereum"), "{said}");
    let held = paying(&["deposit", "600", "--asset", &token, "--wait", "100"]);
    assert_eq!((&held["deposit"], &held["credited"]), (&json!(2), &json!("600")), "{held}");

    // It backs a service, and earns.
    let service = network.deploy_text("echo", &echo());
    let task = network.submit(0, &service, "hello");
    network.certified(1, &task);
    let committed = value(&with(&["commit", "add", &service, "1000000000000000000"], &signing));
    let commitment = committed["id"].as_str().unwrap().to_owned();
    let fund = json!({
        "kind": "fund_rewards", "service": service, "asset": "ether", "amount": "1000000000000000000", "duration_s": 1,
    });
    let accrue = || {
        value(&with(&["operation", "submit", &fund.to_string()], &signing));
        wait_for("rewards have accrued", || {
            let list = value(&["reward", "list", &account.to_string(), "--api", network.api(0)]);
            let amount = list["commitments"][0]["rewards"][0]["amount"].as_str()?.parse::<u128>();
            (amount.ok()? >= 700_000_000_000_000_000).then_some(())
        });
    };
    accrue();
    let before: u128 = balance(&network, 0, account).as_str().unwrap().parse().unwrap();
    value(&with(&["reward", "claim", "--commitment", &commitment], &signing));
    let after: u128 = balance(&network, 0, account).as_str().unwrap().parse().unwrap();
    assert!(after > before + 700_000_000_000_000_000, "{before} {after}");

    // It leaves by proof, once.
    let recipient = Address([9; 20]).to_string();
    let too_much = ["withdraw", "99000000000000000000000", "--no-pay", "--to", &recipient];
    let said = complaint(&with(&too_much, &signing));
    assert!(said.contains("available"), "{said}");
    let said = complaint(&with(&["withdraw", "1"], &signing));
    assert!(said.contains("--rpc URL"), "{said}");
    let said = refused(&["withdraw", "1", "--asset", &voucher]);
    assert!(said.contains("aren't on Ethereum"), "{said}");
    let out = ["withdraw", "2000000000000000000", "--to", &recipient, "--wait-anchor", "100"];
    let paid = paying(&out);
    assert!(paid["transaction"].is_string(), "{paid}");
    assert_eq!(ethereum.balance(&recipient), "2000000000000000000");
    let api = network.api(0).to_owned();
    let claims =
        || value(&["claim", "list", "--recipient", &recipient, "--rpc", &rpc, "--api", &api]);
    assert_eq!(claims()[0]["status"], "paid", "who waited for the payment waited until it's final");
    let again = paying(&["claim", "pay", "0"]);
    assert_eq!(again["transaction"], Value::Null, "{again}");
    assert_eq!(ethereum.balance(&recipient), "2000000000000000000");

    // In two steps, and of two assets at once.
    let signed = value(&with(&["withdraw", "5", "--no-pay", "--to", &recipient], &signing));
    assert_eq!(
        (&signed["paid"], &signed["claim"]["index"]),
        (&json!(false), &json!(1)),
        "{signed}"
    );
    let tokens = ["withdraw", "600", "--asset", &token, "--no-pay", "--to", &recipient];
    value(&with(&tokens, &signing));
    wait_for("the claims are payable", || {
        let claims = claims();
        (claims[1]["status"] == "payable" && claims[2]["status"] == "payable").then_some(())
    });
    let said = refused(&["claim", "pay", "7"]);
    assert!(said.contains("there's no claim 7"), "{said}");
    let paid = paying(&["claim", "pay", "1", "2", "1"]);
    assert_eq!(paid["paid"].as_array().unwrap().len(), 2, "{paid}");
    assert_eq!(ethereum.balance(&recipient), "2000000000000000005");
    assert_eq!(ethereum.tokens(&recipient), 600);

    // Lists come in pages.
    let page = |query: &str| -> Value {
        let answer = network.get(1, &format!("/v1/claims?{query}"));
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    let first = page("limit=2");
    assert_eq!((first["claims"].as_array().unwrap().len(), &first["next"]), (2, &json!(2)));
    let rest = page("limit=2&from=2");
    assert_eq!((&rest["claims"][0]["claim"]["index"], &rest["next"]), (&json!(2), &Value::Null));
    let nobodys = page(&format!("recipient={}", Address([1; 20])));
    assert_eq!(nobodys, json!({ "claims": [], "next": null }));

    // Rewards go the whole way by one command.
    accrue();
    let saver = Address([10; 20]).to_string();
    let said = complaint(&with(
        &["reward", "claim", "--commitment", &commitment, "--to", &saver],
        &signing,
    ));
    assert!(said.contains("--to-ethereum"), "{said}");
    let claim = ["reward", "claim", "--commitment", &commitment, "--to-ethereum", "--to", &saver];
    let paid = paying(&[&claim[..], &["--wait-anchor", "100"]].concat());
    assert_eq!(paid["paid"][0]["recipient"], saver, "{paid}");
    assert_eq!(json!(ethereum.balance(&saver)), paid["paid"][0]["amount"]);
    assert!(ethereum.balance(&saver).parse::<u128>().unwrap() >= 700_000_000_000_000_000);

    // The fourth operator signs two headers in one round; the ledger has the proof, and nodes take it to Ethereum.
    let bls = SecretKey::from_bytes(&secret(&network, 3, KeyKind::Bls)).unwrap();
    let chain: ChainId = "lamina-test-1".parse().unwrap();
    let (epoch, height, round) = (EpochNumber(0), Height(1), 7);
    let vote = |header: u8| {
        let header = Some(HeaderId([header; 32]));
        (header, bls.sign(&signing::precommit(&chain, epoch, height, round, header.as_ref())))
    };
    let ((first, first_signature), (second, second_signature)) = (vote(1), vote(2));
    let votes = SignedTwice { first, first_signature, second, second_signature };
    let evidence = Evidence::Precommits { epoch, height, round, operator: OperatorIndex(3), votes };
    let evidence = json!({
        "kind": "submit_evidence", "evidence": format!("0x{}", hex::encode(evidence.to_bytes())),
    });
    value(&with(&["operation", "submit", &evidence.to_string()], &signing));
    let whole = status["magnitude"].as_u64().unwrap();
    wait_for("half of the offender's stake is slashed", || {
        let status = on_chain(&network, 3, &["status"]);
        (status["magnitude"].as_u64()? <= whole / 2).then_some(())
    });
}
