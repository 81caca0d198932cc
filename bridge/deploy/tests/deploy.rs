//! The program that deploys, on a development chain with EigenLayer's own contracts, by a key that nobody else has.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use lamina_bridge_testing::{Anvil, AnvilOptions, Chain, EigenLayer, Tools};
use lamina_keystore::{Cost, KeyKind, Keystore, Passphrase, Secret};
use lamina_types::AccountKey;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use zeroize::Zeroizing;

struct World {
    runtime: Runtime,
    anvil: Anvil,
    chain: Chain,
    eigenlayer: EigenLayer,
    deployer: String,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let tools = Tools::install().unwrap();
        let anvil = Anvil::start(&tools, &AnvilOptions::default()).unwrap();
        let chain = anvil.chain().unwrap();
        let eigenlayer = runtime.block_on(EigenLayer::install(&chain, &tools)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let passphrase = Passphrase::new("of the tests").unwrap();
        let deployer = AccountKey::from_bytes(&[7; 32]).unwrap().address();
        let secret = Secret::from(Zeroizing::new([7; 32]));
        let keystore =
            Keystore::encrypt(&secret, KeyKind::Account, &deployer.0, &passphrase, Cost::Light);
        let path = folder.path().join("account.json");
        keystore.unwrap().write_new(&path).unwrap();
        let file = std::fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(folder.path().join("passphrase"));
        std::io::Write::write_all(&mut file.unwrap(), b"of the tests").unwrap();
        Self { runtime, anvil, chain, eigenlayer, deployer: deployer.to_string(), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn fund(&self, ether: u64) {
        let wei = format!("0x{:x}", u128::from(ether) * 1_000_000_000_000_000_000);
        let set = self.chain.request::<Value>("anvil_setBalance", json!([self.deployer, wei]));
        self.runtime.block_on(set).unwrap();
    }

    /// Writes the deployment's file.
    fn describe(&self, chain_id: u64, allocation_manager: &str) {
        let EigenLayer {
            permission_controller,
            delegation_manager,
            strategy_manager,
            strategy,
            ..
        } = &self.eigenlayer;
        let text = format!(
            "network = \"lamina-test-1\"\nethereum_chain_id = {chain_id}\nmetadata = \"https://lamina.invalid/avs.json\"\n\
             stake_blocks = 20\nanchor_age_max_s = 604800\nexit_delay_s = 604800\nslashed_ppm = 500000\n\
             administrators = [\"0x0000000000000000000000000000000000000a11\"]\nadministrator_delay_s = 172800\n\
             guardians = [\"0x0000000000000000000000000000000000000b0b\"]\n\
             [eigenlayer]\nallocation_manager = \"{allocation_manager}\"\npermission_controller = \"{permission_controller}\"\n\
             delegation_manager = \"{delegation_manager}\"\nstrategy_manager = \"{strategy_manager}\"\n\
             [[strategies]]\nstrategy = \"{strategy}\"\nwei_per_share_e18 = 1000000000000000000\n"
        );
        std::fs::write(self.path("deploy.toml"), text).unwrap();
    }

    fn command(&self, more: &[&str]) -> Command {
        let contracts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts");
        let mut command = Command::new(env!("CARGO_BIN_EXE_lamina-deploy"));
        command
            .args(["--json", "--rpc", &self.anvil.url()])
            .arg("--config")
            .arg(self.path("deploy.toml"))
            .arg("--account")
            .arg(self.path("account.json"))
            .arg("--passphrase-file")
            .arg(self.path("passphrase"))
            .arg("--contracts")
            .arg(contracts)
            .arg("--build")
            .arg(self.path("build"))
            .arg("--state")
            .arg(self.path("deployment.json"))
            .arg("--output")
            .arg(self.path("ethereum.json"))
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command
    }

    fn run(&self, more: &[&str]) -> Output {
        self.command(more).output().unwrap()
    }

    fn done(&self, more: &[&str]) -> Value {
        let output = self.run(more);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn complaint(&self) -> String {
        let output = self.run(&[]);
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn nonce(&self) -> String {
        let asked = self.chain.request("eth_getTransactionCount", json!([self.deployer, "latest"]));
        self.runtime.block_on(asked).unwrap()
    }
}

#[test]
fn a_deployment_is_checked_goes_on_after_an_interruption_and_is_handed_over() {
    let world = World::new();
    let manager = world.eigenlayer.allocation_manager.to_string();
    world.describe(1, &manager);
    assert!(world.complaint().contains("chain 31337"));
    world.describe(31_337, "0x0000000000000000000000000000000000000001");
    let said = world.complaint();
    assert!(said.contains("eigenlayer.allocation_manager"), "{said}");
    world.describe(31_337, &manager);
    assert!(world.complaint().contains("send ether to it"));
    world.fund(10);
    let checked = world.done(&["--dry-run"]);
    assert_eq!(checked["steps_done"], 0, "{checked}");
    assert_eq!(world.nonce(), "0x0", "a dry run sends nothing");

    // Killed in the middle, it goes on over the contracts that are there.
    let state = world.path("deployment.json");
    let kept = || -> Value {
        serde_json::from_slice(&std::fs::read(&state).unwrap_or_default()).unwrap_or_default()
    };
    let mut interrupted = world.command(&[]).spawn().unwrap();
    while kept()["progress"]["Registrar"].is_null() {
        assert!(interrupted.try_wait().unwrap().is_none(), "it's slower than to end at once");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    interrupted.kill().unwrap();
    interrupted.wait().unwrap();
    let before = kept()["progress"].clone();
    assert!(before["renounce the deployer's role"].is_null() && !before["Registrar"].is_null());

    let made = world.done(&[]);
    for (step, contract) in [("Authority", "authority"), ("Registrar", "registrar")] {
        assert_eq!(before[step], made["contracts"][contract], "{step}");
    }
    let gas = made["gas_used"].as_u64().unwrap();
    assert!(gas < 26_000_000, "{gas} gas: say more in `GAS_MAX`, and in docs/deployment.md");
    let section: Value =
        serde_json::from_slice(&std::fs::read(world.path("ethereum.json")).unwrap()).unwrap();
    assert_eq!(section["first_epoch"], 0);
    assert_eq!(section["contracts"]["vault"], made["contracts"]["vault"]);

    // Again: nothing is done twice.
    let nonce = world.nonce();
    assert_eq!(world.done(&[])["contracts"], made["contracts"]);
    assert_eq!(world.nonce(), nonce);

    // The deployer has no say any more; who shall administer, does, after a delay.
    let authority = made["authority"].as_str().unwrap();
    let has_role = |account: &str| -> String {
        let call = format!("0xd1f856ee{:064x}{:0>64}", 0, account.trim_start_matches("0x"));
        let asked = self::call(&world, authority, &call);
        asked.trim_start_matches("0x").to_owned()
    };
    let administrator = has_role("0x0000000000000000000000000000000000000a11");
    assert_eq!(administrator, format!("{:064x}{:064x}", 1, 172_800));
    assert_eq!(has_role(&world.deployer), format!("{:064x}{:064x}", 0, 0));
}

/// What a call returns, in hexadecimal.
fn call(world: &World, to: &str, input: &str) -> String {
    let asked = world.chain.request("eth_call", json!([{ "to": to, "data": input }, "latest"]));
    world.runtime.block_on(asked).unwrap()
}
