//! The ledger in real node processes: pending everywhere, then final; nothing lost by kills; new nodes from a snapshot.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

mod harness;

use harness::{LedgerPlan, Network, complaint, echo, lines, text, value, wait_for, with};
use serde_json::Value;

const ETHER: &str = "1000000000000000000";

fn address(network: &Network, index: usize) -> String {
    let record = std::fs::read_to_string(network.nodes[index].folder.join("record.json")).unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    record["address"].as_str().unwrap().to_owned()
}

fn balance(network: &Network, index: usize, of: &str) -> u128 {
    let account = value(&["account", "show", of, "--api", network.api(index)]);
    let balances = account["balances"].as_array().unwrap();
    balances.iter().map(|b| b["amount"].as_str().unwrap().parse::<u128>().unwrap()).sum()
}

fn height(network: &Network, index: usize) -> u64 {
    value(&["ledger", "status", "--api", network.api(index)])["height"].as_u64().unwrap()
}

/// Submits a transfer of one unit without waiting for its end; returns its identifier.
fn transfer(network: &Network, index: usize, to: &str, amount: &str) -> Option<String> {
    let arguments = ["account", "transfer", to, amount, "--no-wait", "--json"];
    let output = harness::lamina(&with(&arguments, &network.signing(index)));
    output.status.success().then(|| {
        let line: Value = serde_json::from_slice(&output.stdout).unwrap();
        line["id"].as_str().unwrap().to_owned()
    })
}

fn operation(network: &Network, index: usize, id: &str) -> Value {
    value(&["operation", "show", id, "--wait", "60", "--api", network.api(index)])
}

#[test]
fn a_transfer_is_final_at_every_node_and_can_be_proven() {
    let network = Network::new(4);
    let to = "0x00000000000000000000000000000000000000aa";
    let id = transfer(&network, 0, to, ETHER).unwrap();
    for index in 0..4 {
        let operation = wait_for("the operation is known", || {
            let api = network.api(index);
            let output = harness::lamina(&[
                "operation",
                "show",
                &id,
                "--wait",
                "60",
                "--json",
                "--api",
                api,
            ]);
            let view: Value = serde_json::from_slice(&output.stdout).ok()?;
            (view["status"] == "final").then_some(view)
        });
        assert_eq!(operation["reason"], Value::Null, "{operation}");
        assert_eq!(balance(&network, index, to).to_string(), ETHER);
    }
    let file = network.folder.path().join("checkpoint.lamina");
    let saved = value(&["checkpoint", "show", "--output", &text(&file), "--api", network.api(2)]);
    assert!(saved["header"]["height"].as_u64().unwrap() >= 1);
    let genesis = network.genesis();
    let verified = value(&["checkpoint", "verify", &text(&file), "--genesis", &genesis]);
    assert_eq!(verified["holds"], true);
    let list = lines(&["checkpoint", "list", "--api", network.api(3)]).remove(0);
    assert!(list.as_array().unwrap().len() >= 2, "{list}");
    // One changed byte, and it holds no longer.
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let error = complaint(&["checkpoint", "verify", &text(&file), "--genesis", &genesis]);
    assert!(error.contains("checkpoint.lamina"), "{error}");
}

#[test]
fn what_cannot_be_done_is_refused_with_a_reason() {
    let network = Network::new(1);
    let to = "0x00000000000000000000000000000000000000aa";
    let signing = network.signing(0);
    let much = "1000000000000000000000000";
    let error = complaint(&with(&["account", "transfer", to, much], &signing));
    assert!(error.contains("needed") && error.contains("available"), "{error}");
    let error = complaint(&with(&["account", "transfer", to, "0"], &signing));
    assert!(error.contains("the amount is zero"), "{error}");
    let action = r#"{"kind": "release", "commitment": "0x0000000000000000000000000000000000000000000000000000000000000001"}"#;
    let error = complaint(&with(&["operation", "submit", action], &signing));
    assert!(error.contains("no such commitment"), "{error}");
}

/// Where a checkpoint comes every ten seconds there's time to look.
#[test]
fn a_commitment_is_pending_at_all_nodes_before_it_is_final() {
    let plan = LedgerPlan { interval_ms: 10_000, ..LedgerPlan::default() };
    let mut network = Network::prepare_ledger(4, 0, &plan);
    (0..4).for_each(|index| network.start(index));
    network.wait_until_connected();
    let service = network.deploy_text("echo", &echo());
    let commit = |more: &[&str]| {
        let arguments = [&["commit", "add", service.as_str(), "1000"], more].concat();
        value(&with(&arguments, &network.signing(0)))["id"].as_str().unwrap().to_owned()
    };
    let status = |index: usize, id: &str| {
        let list = lines(&["commit", "list", "--api", network.api(index)]).remove(0);
        let found = list.as_array().unwrap().iter().find(|commitment| commitment["id"] == id);
        found.map(|commitment| commitment["status"].as_str().unwrap().to_owned())
    };
    // Once this one is final, the next checkpoint is ten seconds away.
    let first = commit(&[]);
    assert_eq!(status(0, &first).as_deref(), Some("final"));
    let second = commit(&["--no-wait"]);
    for index in 0..4 {
        let seen = wait_for("the commitment is seen", || status(index, &second));
        assert_eq!(seen, "pending", "at node {index}");
    }
    for index in 0..4 {
        wait_for("the commitment is final", || {
            (status(index, &second).as_deref() == Some("final")).then_some(())
        });
    }
}

#[test]
fn half_of_the_nodes_are_killed_ten_times_and_nothing_acknowledged_is_lost() {
    let mut network = Network::new(4);
    let to = "0x00000000000000000000000000000000000000bb";
    let mut acknowledged = Vec::new();
    for round in 0..10 {
        for index in 0..4 {
            acknowledged.extend(transfer(&network, index, to, "1"));
        }
        // Two of four, another pair each time, while the others and they have work.
        let victims = [round % 4, (round + 1) % 4];
        for victim in victims {
            network.kill(victim);
        }
        for index in (0..4).filter(|index| !victims.contains(index)) {
            acknowledged.extend(transfer(&network, index, to, "1"));
        }
        for victim in victims {
            network.start(victim);
        }
    }
    assert!(acknowledged.len() >= 40, "only {} were acknowledged", acknowledged.len());
    for id in &acknowledged {
        let operation = operation(&network, 0, id);
        assert_eq!(operation["status"], "final", "{operation}");
        assert_eq!(operation["reason"], Value::Null, "{operation}");
    }
    let expected = acknowledged.len() as u128;
    for index in 0..4 {
        wait_for("all nodes have the same state", || {
            (balance(&network, index, to) == expected).then_some(())
        });
    }
    // One history: the same header at the same height everywhere.
    let common = (0..4).map(|index| height(&network, index)).min().unwrap().to_string();
    let headers: std::collections::BTreeSet<String> = (0..4)
        .map(|index| {
            let view = value(&["checkpoint", "show", &common, "--api", network.api(index)]);
            view["id"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(headers.len(), 1, "{headers:?}");
}

#[test]
fn a_new_node_begins_from_a_snapshot_and_serves_proofs() {
    let mut network = Network::prepare_with(4, 1);
    for index in 0..4 {
        network.start(index);
    }
    network.wait_until_connected();
    let to = "0x00000000000000000000000000000000000000cc";
    let mut last = String::new();
    for _ in 0..6 {
        last = transfer(&network, 0, to, "1").unwrap();
        operation(&network, 0, &last);
    }
    let before = height(&network, 0);
    assert!(before >= 5, "{before}");
    network.start_with(4, &serde_json::json!({ "ledger": { "snapshot_distance": 2 } }));
    wait_for("the new node has the state", || (balance(&network, 4, to) == 6).then_some(()));
    // It began late: checkpoint 1 isn't there.
    let error = complaint(&["checkpoint", "show", "1", "--api", network.api(4)]);
    assert!(error.contains("isn't here"), "{error}");
    let key = hex::encode(lamina_ledger::state::accounts::account_key(
        address(&network, 0).parse().unwrap(),
    ));
    let file = text(&network.folder.path().join("proof.lamina"));
    value(&["ledger", "prove", "--key", &key, "--output", &file, "--api", network.api(4)]);
    let verified = value(&["checkpoint", "verify", &file, "--genesis", &network.genesis()]);
    assert_eq!(verified["proven"].as_array().unwrap().len(), 1, "{verified}");
    // It follows, and carries operations though it's no operator.
    let id = transfer(&network, 4, to, "1").unwrap();
    assert_eq!(operation(&network, 0, &id)["status"], "final");
    let _ = last;
}
