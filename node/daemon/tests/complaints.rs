//! What an operator is told when something is wrong: the cause and the remedy.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

mod harness;

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;

use harness::{Network, complaint, text};

/// Tries to run operator 0's node with a configuration, and returns what it complains of.
fn complaint_of(network: &Network, config: &str) -> String {
    let path = network.nodes[0].folder.join("lamina.toml");
    fs::write(&path, format!("{BASE}{config}")).unwrap();
    complaint(&["node", "run", "--config", &text(&path)])
}

const BASE: &str = "genesis = \"../genesis.json\"\n";
const KEYS: &str = "[keys]\npassphrase_file = \"../passphrase\"\n";
const P2P: &str = "[p2p]\nmdns = false\nlisten = [\"/ip4/127.0.0.1/udp/0/quic-v1\"]\n";

#[test]
fn a_taken_api_port() {
    let network = Network::prepare(1);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let told = complaint_of(&network, &format!("{KEYS}{P2P}[api]\nlisten = \"{address}\"\n"));
    assert!(told.contains(&format!("{address} is taken")), "{told}");
    assert!(told.contains("--api.listen"), "{told}");
}

#[test]
fn a_taken_p2p_port() {
    let network = Network::prepare(1);
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let p2p = format!("[p2p]\nmdns = false\nlisten = [\"/ip4/127.0.0.1/udp/{port}/quic-v1\"]\n");
    let told = complaint_of(&network, &format!("{KEYS}{p2p}[api]\nlisten = \"127.0.0.1:0\"\n"));
    assert!(told.contains(&port.to_string()) && told.contains("--p2p.listen"), "{told}");
}

#[test]
fn keys_that_others_may_read() {
    let network = Network::prepare(1);
    let key = network.nodes[0].folder.join("keys/bls.json");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let told = complaint_of(&network, &format!("{KEYS}{P2P}"));
    assert!(told.contains("bls.json") && told.contains("chmod 600"), "{told}");
}

#[test]
fn keys_that_are_damaged_or_missing_and_passphrases_that_are_wrong() {
    let network = Network::prepare(1);
    let key = network.nodes[0].folder.join("keys/peer.json");
    let content = fs::read(&key).unwrap();
    fs::write(&key, b"{").unwrap();
    let told = complaint_of(&network, &format!("{KEYS}{P2P}"));
    assert!(told.contains("peer.json"), "{told}");
    fs::remove_file(&key).unwrap();
    let told = complaint_of(&network, &format!("{KEYS}{P2P}"));
    assert!(told.contains("peer.json"), "{told}");
    fs::write(&key, content).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(network.folder.path().join("passphrase"), b"another").unwrap();
    let told = complaint_of(&network, &format!("{KEYS}{P2P}"));
    assert!(told.contains("passphrase"), "{told}");
}

#[test]
fn a_bad_configuration() {
    let network = Network::prepare(1);
    let told = complaint_of(&network, "[p2p]\nlissen = []\n");
    assert!(told.contains("lissen") && told.contains("lamina.toml"), "{told}");
    let told = complaint(&["node", "run", "--config", "nowhere.toml"]);
    assert!(told.contains("nowhere.toml") && told.contains("lamina.example.toml"), "{told}");
}

#[test]
fn a_genesis_file_that_does_not_hold() {
    let network = Network::prepare(2);
    let genesis = network.genesis();
    let content = fs::read_to_string(&genesis).unwrap();
    fs::write(&genesis, content.replace("lamina-test-1", "lamina-test-2")).unwrap();
    let told = complaint_of(&network, &format!("{KEYS}{P2P}"));
    assert!(told.contains("operator 0's proof of possession"), "{told}");
}

/// An operator whose outcomes would be others than everyone else's is told so before it has any.
#[test]
fn a_build_that_runs_components_by_other_rules() {
    let network = Network::prepare(1);
    let path = network.folder.path().join("genesis.json");
    let mut genesis: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    genesis["runtime"]["engine"] = "wasmtime 47.0.0".into();
    genesis["runtime"]["rules"] = format!("0x{}", "ab".repeat(32)).into();
    fs::write(&path, genesis.to_string()).unwrap();
    let told = complaint_of(&network, &format!("{KEYS}{P2P}"));
    assert!(told.contains("wasmtime 47.0.0 with rules abababab"), "{told}");
    assert!(told.contains("Run the build that the network's genesis file was made for"), "{told}");
}

#[test]
fn a_data_folder_in_use() {
    let mut network = Network::prepare(1);
    network.start(0);
    let told = complaint_of(&network, &format!("{KEYS}{P2P}"));
    assert!(told.contains("another process uses the data folder"), "{told}");
}

#[test]
fn no_node_to_talk_to() {
    let told = complaint(&["task", "list", "--api", "http://127.0.0.1:1"]);
    assert!(told.contains("no node answers") && told.contains("--api"), "{told}");
}

#[test]
fn keys_are_never_overwritten() {
    let network = Network::prepare(1);
    let keys = text(&network.nodes[0].folder.join("keys"));
    let passphrase = text(&network.folder.path().join("passphrase"));
    let told = complaint(&["keys", "new", "--directory", &keys, "--passphrase-file", &passphrase]);
    assert!(told.contains("there is a key at"), "{told}");
}
