//! Real nodes beside a real chain: what is deposited on Ethereum is credited by every node, once.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

mod harness;

use alloy_sol_types::SolCall as _;
use harness::{LedgerPlan, Network, complaint, text, value, wait_for};
use lamina_bridge_testing::{Anvil, AnvilOptions, Chain, Contracts, EigenLayer, Tools};
use lamina_ethereum_core::abi;
use lamina_types::{Address, ChainId};
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
        let runtime = Runtime::new().unwrap();
        let tools = Tools::install().unwrap();
        let anvil = Anvil::start(&tools, &AnvilOptions::default()).unwrap();
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
