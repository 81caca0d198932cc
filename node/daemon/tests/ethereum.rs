//! Real nodes beside a real chain: what is deposited on Ethereum is credited by every node, once.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

mod harness;

use alloy_sol_types::SolCall as _;
use ed25519_dalek::{Signer as _, SigningKey};
use harness::{LedgerPlan, Network, complaint, text, value, wait_for};
use lamina_bridge_testing::{Anvil, AnvilOptions, Chain, Contracts, EigenLayer, Tools};
use lamina_certificate::SecretKey;
use lamina_ethereum_core::{abi, calls};
use lamina_keystore::{KeyDirectory, KeyKind, Passphrase};
use lamina_types::{Address, ChainId, PeerKey, signing};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// A development chain with EigenLayer and Lamina's contracts.
struct Ethereum {
    runtime: Runtime,
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
        Self { runtime, anvil, chain, eigenlayer, contracts }
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
        let secret = |kind| {
            let passphrase = Passphrase::from_file(&network.folder.path().join("passphrase"));
            let keys = KeyDirectory::new(network.nodes[index].folder.join("keys"));
            keys.read(kind).unwrap().decrypt(&passphrase.unwrap()).unwrap()
        };
        let bls = SecretKey::from_bytes(secret(KeyKind::Bls).expose()).unwrap();
        let peer = SigningKey::from_bytes(secret(KeyKind::Peer).expose());
        let peer_key = PeerKey(peer.verifying_key().to_bytes());
        let record = std::fs::read(network.nodes[index].folder.join("record.json")).unwrap();
        let record: Value = serde_json::from_slice(&record).unwrap();
        let account = record["address"].as_str().unwrap().parse::<Address>().unwrap();
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

    /// Snapshots the operators of the next epoch.
    fn roll(&self) {
        let (owner, checkpoints) = (self.eigenlayer.owner, self.contracts.checkpoints);
        let roll = self.chain.pay(owner, checkpoints, calls::roll(None), Default::default());
        self.runtime.block_on(roll).unwrap();
    }

    /// The header of the last anchor, as the chain has it.
    fn anchored(&self) -> String {
        let call = abi::Checkpoints::latestCall {};
        let call = self.chain.call(self.contracts.checkpoints, &call);
        self.runtime.block_on(call).unwrap().header.to_string()
    }
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
    let mut network = Network::prepare_ledger(4, 1, &plan);
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
}
