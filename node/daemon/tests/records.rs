//! Tasks in the ledger, by real node processes: recorded by whoever's turn it is, credited, and verified by a checkpoint where
//! the genesis file doesn't know who serves the service.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

mod harness;

use harness::{Network, complaint, echo, text, value, wait_for, with};
use serde_json::{Value, json};

/// What lets a node pay for what it does by itself.
fn with_purse() -> Value {
    json!({ "keys": { "account": "purse.json" } })
}

/// The checkpoint that recorded a task, as a node tells.
fn recorded(network: &Network, index: usize, task: &str) -> u64 {
    wait_for("the task is recorded", || network.task(index, task)["recorded"].as_u64())
}

/// The state's value under a key, proven to whoever has the genesis file.
fn proven(network: &Network, index: usize, key: &[u8]) -> Option<Vec<u8>> {
    let file = text(&network.folder.path().join("proof.lamina"));
    let (key, api) = (hex::encode(key), network.api(index));
    value(&["ledger", "prove", "--key", &key, "--output", &file, "--api", api]);
    let verified = value(&["checkpoint", "verify", &file, "--genesis", &network.genesis()]);
    verified["proven"][0]["value"].as_str().map(|value| hex::decode(value).unwrap())
}

fn bytes(id: &str) -> Vec<u8> {
    hex::decode(id.trim_start_matches("0x")).unwrap()
}

fn operator(network: &Network, index: usize) -> Vec<u8> {
    let record = std::fs::read_to_string(network.nodes[index].folder.join("record.json")).unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    bytes(record["address"].as_str().unwrap())
}

#[test]
fn certified_tasks_are_recorded_and_who_took_part_is_credited() {
    let mut network = Network::prepare(4);
    (0..4).for_each(|index| network.start_with(index, &with_purse()));
    network.wait_until_connected();
    let service = network.deploy_text("echo", &echo());
    let tasks: Vec<_> =
        (0..4).map(|index| network.submit(index, &service, &format!("number {index}"))).collect();
    for (index, task) in tasks.iter().enumerate() {
        recorded(&network, (index + 1) % 4, task);
    }
    let record = proven(&network, 0, &[b"tasks/records/".as_slice(), &bytes(&tasks[0])].concat());
    assert!(record.is_some(), "the state has the record");
    let participations: u64 = (0..4)
        .filter_map(|index| {
            let operator = operator(&network, index);
            let key = [b"operators/participation/".as_slice(), &bytes(&service), &operator];
            let count = proven(&network, 1, &key.concat())?;
            Some(u64::from_le_bytes(count.try_into().unwrap()))
        })
        .sum();
    assert!((12..=16).contains(&participations), "three or four of four signed: {participations}");
    // One operation for each task, whoever made it: with nothing in vain, the numbers add up.
    let made: u64 = (0..4).map(|i| network.metric(i, "lamina_ledger_reports_made_total")).sum();
    assert_eq!(made, 4);
    let used: u64 = (0..4)
        .map(|index| {
            let purse = &network.nodes[index].purse;
            let account = value(&["account", "show", purse, "--api", network.api(0)]);
            account["next_sequence"].as_u64().unwrap()
        })
        .sum();
    assert_eq!(used, 4);
}

#[test]
fn a_certificate_of_a_part_of_the_operators_is_verified_once_it_is_recorded() {
    let mut network = Network::new(4);
    let service = network.deploy_text("echo", &echo());
    for index in 0..3 {
        let action = json!({ "kind": "opt_in", "service": service }).to_string();
        value(&with(&["operation", "submit", &action], &network.signing(index)));
    }
    let task = network.submit(3, &service, "for three of four");
    network.certified(3, &task);
    let genesis = network.genesis();
    let file = text(&network.folder.path().join("task.lamina"));
    let save = |network: &Network, index| {
        let api = network.api(index);
        value(&["task", "show", &task, "--certificate", &file, "--api", api])
    };
    // Nobody has an account, so nobody records it.
    let shown = save(&network, 3);
    assert_eq!(shown["recorded"], Value::Null);
    assert!(shown["not_verified"].as_str().unwrap().contains("fetch the file again"), "{shown}");
    let refused = harness::lamina(&["task", "verify", &file, "--genesis", &genesis]);
    let refused = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(refused.contains("the 3 operators who serve the service, of 4"), "{refused}");
    // One gets an account, and records what it has from before.
    network.kill(0);
    network.start_with(0, &with_purse());
    network.wait_until_connected();
    let height = recorded(&network, 3, &task);
    assert_eq!(save(&network, 3)["verified_by"], "checkpoint");
    let verified = value(&["task", "verify", &file, "--genesis", &genesis]);
    assert_eq!(
        (&verified["by"], verified["checkpoint"].as_u64()),
        (&json!("checkpoint"), Some(height))
    );
    assert_eq!(verified["task"], json!(task));
    // Long after, and after a restart, it's still there.
    network.kill(2);
    network.start(2);
    network.wait_until_connected();
    assert_eq!(recorded(&network, 2, &task), height);
    assert_eq!(save(&network, 2)["verified_by"], "checkpoint");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let error = complaint(&["task", "verify", &file, "--genesis", &genesis]);
    assert!(error.contains("1 of 1 certificates don't hold"), "{error}");
}

#[test]
fn an_account_that_is_another_key_is_refused() {
    let network = Network::prepare(1);
    let config = network.nodes[0].folder.join("lamina.toml");
    let lines = "genesis = \"../genesis.json\"\n[keys]\npassphrase_file = \"../passphrase\"\naccount = \"keys/bls.json\"\n";
    std::fs::write(&config, lines).unwrap();
    let error = complaint(&["node", "run", "--config", &text(&config)]);
    assert!(error.contains("holds a BLS key, not an account's"), "{error}");
}
