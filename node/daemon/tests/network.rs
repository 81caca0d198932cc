//! Operators as processes: they find each other, certify real tasks, and go on when some of them are killed.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

mod harness;

use std::fs;
use std::path::Path;

use harness::{Network, echo, guest, lamina, output, returning, text, value, with};
use lamina_types::testing::vectors;
use serde_json::{Value, json};

/// The main job: messages in, certificates out, which anyone verifies and nobody alters.
#[test]
fn two_hundred_messages_are_certified_and_verify_offline() {
    let test = "two_hundred_messages_are_certified_and_verify_offline";
    let Some(folder) = vectors(test, "moderation") else { return };
    let network = Network::new(4);
    let moderator =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../components/services/moderator");
    let built = lamina_component_build::build_guest(&moderator, None).unwrap();
    let service = network.deploy(0, &moderator.join("service.toml"), &built.path);

    let mut messages = csv::Reader::from_path(folder.join("messages.csv")).unwrap();
    let inputs: Vec<String> = messages
        .records()
        .take(200)
        .map(|record| json!({ "message": &record.unwrap()[1] }).to_string())
        .collect();
    assert_eq!(inputs.len(), 200);
    let lines = network.folder.path().join("inputs.jsonl");
    fs::write(&lines, inputs.join("\n")).unwrap();
    let certificates = network.folder.path().join("certificates");
    let tasks = harness::lines(&with(
        &[
            "task",
            "submit",
            &service,
            "--input-lines",
            &text(&lines),
            "--certificates",
            &text(&certificates),
        ],
        &network.signing(1),
    ));
    assert_eq!(tasks.len(), 200);
    for (task, input) in tasks.iter().zip(&inputs) {
        assert_eq!(task["status"], "certified");
        assert_eq!(task["request"]["input"], format!("0x{}", hex::encode(input)));
        let verdict = output(task);
        assert!(
            ["allow", "flag", "block"].contains(&verdict["verdict"].as_str().unwrap()),
            "{verdict}"
        );
    }

    // Nothing but the files and the genesis file is needed from here on.
    let genesis = network.genesis();
    let keep = network.folder.path().join("kept-genesis.json");
    fs::copy(&genesis, &keep).unwrap();
    let files: Vec<String> =
        tasks.iter().map(|task| task["certificate_file"].as_str().unwrap().to_owned()).collect();
    let verified = harness::lines(&with(&["task", "verify", "--genesis", &text(&keep)], &files));
    assert_eq!(verified.len(), 200);
    for (task, verified) in tasks.iter().zip(&verified) {
        assert_eq!(verified["holds"], true);
        assert_eq!(verified["task"], task["id"]);
        assert!(verified["signers"].as_array().unwrap().len() >= 3);
    }

    // Every bit of one file, and one bit of each of the others.
    let folder = network.folder.path().join("flipped");
    fs::create_dir(&folder).unwrap();
    let mut flipped = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let bytes = fs::read(file).unwrap();
        let bits = bytes.len() * 8;
        let chosen = if number == 0 { 0..bits } else { number * 37 % bits..number * 37 % bits + 1 };
        for bit in chosen {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let path = folder.join(format!("{number}-{bit}"));
            fs::write(&path, bytes).unwrap();
            flipped.push(text(&path));
        }
    }
    for files in flipped.chunks(1000) {
        let result = lamina(&with(&["task", "verify", "--json", "--genesis", &text(&keep)], files));
        assert!(!result.status.success());
        let lines = String::from_utf8_lossy(&result.stdout).into_owned();
        assert_eq!(lines.lines().count(), files.len());
        for line in lines.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["holds"], false, "{line}");
        }
    }
}

#[test]
fn tasks_are_certified_without_one_of_four_and_wait_without_two() {
    let mut network = Network::new(4);
    let service = network.deploy_text("echo", &echo());
    network.kill(3);
    let task = network.submit(0, &service, "one is away");
    for index in 0..3 {
        network.certified(index, &task);
    }

    network.kill(2);
    let task = network.submit(0, &service, "two are away");
    let shown = harness::wait_for("both that are left attested", || {
        let shown = network.task(0, &task);
        (shown["signers"] == json!([0, 1])).then_some(shown)
    });
    assert_eq!(shown["status"], "open");
    let missing: Vec<_> =
        shown["missing"].as_array().unwrap().iter().map(|o| o["index"].clone()).collect();
    assert_eq!(missing, [2, 3]);
    harness::wait_for("the dead connection is noticed, and told", || {
        let told = lamina(&["task", "show", &task, "--api", network.api(0)]);
        String::from_utf8_lossy(&told.stdout).contains("operator 2 (not connected)").then_some(())
    });

    network.start(2);
    network.start(3);
    for index in 0..4 {
        let shown = network.certified(index, &task);
        assert!(shown["signers"].as_array().unwrap().len() >= 3);
    }
}

#[test]
fn a_killed_node_has_what_it_promised() {
    let mut network = Network::new(4);
    let service = network.deploy_text("echo", &echo());
    let certified = network.submit(0, &service, "certified before");
    network.certified(0, &certified);
    network.kill(2);
    network.kill(3);
    let open = network.submit(0, &service, "open before");
    network.kill(0);
    network.kill(1);
    // Nobody but the disk of operator 0 and perhaps 1 knows of the open task.
    (0..4).for_each(|index| network.start(index));
    for index in 0..4 {
        network.certified(index, &open);
    }
    assert_eq!(network.task(0, &certified)["status"], "certified");
    let listed = value(&["service", "list", "--api", network.api(3)]);
    assert_eq!(listed[0]["id"], service);
}

#[test]
fn components_that_misbehave_fail_their_tasks_alike_and_the_nodes_go_on() {
    let network = Network::new(4);
    let cases = [
        ("loops", guest("(loop $l (br $l)) unreachable"), "out_of_fuel"),
        (
            "allocates",
            guest("(loop $l (drop (memory.grow (i32.const 16))) (br $l)) unreachable"),
            "out_of_memory",
        ),
        ("traps", guest("unreachable"), "trapped"),
        (
            "returns-too-much",
            guest(&returning("(i32.const 0)", "(i32.const 1073741824)")),
            "output_too_long",
        ),
    ];
    let tasks: Vec<_> = cases
        .iter()
        .map(|(name, component, kind)| {
            let service = network.deploy_text(name, component);
            (network.submit(1, &service, "go"), *kind)
        })
        .collect();
    for (task, kind) in &tasks {
        let views: Vec<_> = (0..4).map(|index| network.certified(index, task)).collect();
        for view in &views {
            assert_eq!(view["outcome"], views[0]["outcome"]);
            assert_eq!(view["dissent"], false);
            let found = &view["outcome"]["result"]["Err"]["kind"];
            // What's claimed beyond the memory is a broken ABI or too long, the same everywhere.
            let abi = view["outcome"]["result"]["Err"]["trap"] == "canonical_abi";
            assert!(found == kind || (*kind == "output_too_long" && abi), "{view}");
        }
    }
    let service = network.deploy_text("echo", &echo());
    let task = network.submit(0, &service, "still here");
    network.certified(3, &task);
}

#[test]
fn a_component_that_is_none_is_refused_before_it_spreads() {
    let network = Network::new(1);
    let folder = network.folder.path();
    fs::write(folder.join("none.wasm"), b"not a component").unwrap();
    fs::write(
        folder.join("service.toml"),
        "name = \"x\"\n[limits]\nfuel = 1\nmemory_bytes = 65536\ninput_bytes = 1\noutput_bytes = 1\n",
    )
    .unwrap();
    let (manifest, component) =
        (text(&folder.join("service.toml")), text(&folder.join("none.wasm")));
    let arguments = ["service", "create", "--manifest", &manifest, "--component", &component];
    let complaint = harness::complaint(&with(&arguments, &network.signing(0)));
    assert!(complaint.contains("not a WebAssembly component"), "{complaint}");
}
