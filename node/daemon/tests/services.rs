//! Services of every kind on networks of real processes: from an empty folder to a certificate in three languages, an oracle
//! whose operators see different prices, and the bouncer with its model.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

mod harness;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use harness::price_feed::{PAIR, PriceFeed, cents, services};
use harness::{Network, lamina, output, text, value, wait_for, with};
use lamina_component_build::build_guest;
use lamina_types::testing::skip;
use serde_json::json;

/// Builds a project made by `lamina service new`, runs its cases on this machine, deploys it and has it certify a task.
fn from_nothing_to_a_certificate(language: &str, operators: usize) {
    let network = Network::new(operators);
    let parent = text(network.folder.path());
    let name = format!("first-{language}");
    value(&["service", "new", &name, "--lang", language, "--directory", &parent]);
    let project = network.folder.path().join(&name);
    let built = value(&["service", "build", &text(&project)]);
    let component = PathBuf::from(built["component"].as_str().unwrap());
    assert!(component.starts_with(&project), "{built}");

    let manifest = project.join("service.toml");
    let cases = harness::lines(&["service", "test", "--manifest", &text(&manifest)]);
    assert!(cases.len() >= 4 && cases.iter().all(|case| case["holds"] == true), "{cases:?}");
    let message = r#"{"message":"Spam, SPAM: it is a scam!"}"#;
    let run = value(&["service", "run", "--manifest", &text(&manifest), "--input", message]);

    let service = network.deploy(0, &manifest, &component);
    let task = network.submit(0, &service, message);
    let certified = network.certified(0, &task);
    assert_eq!(output(&certified), json!({ "verdict": "block", "count": 3 }));
    // What runs on the author's machine is what operators certify, to the last unit of fuel.
    assert_eq!(run["outcome"], certified["outcome"]);
}

#[test]
fn rust_project_goes_from_nothing_to_a_certificate() {
    from_nothing_to_a_certificate("rust", 4);
}

/// One operator only, since each compiles twelve megabytes.
#[test]
fn javascript_project_goes_from_nothing_to_a_certificate() {
    if lacks("node", &["--version"]) || lacks("npm", &["--version"]) {
        let test = "javascript_project_goes_from_nothing_to_a_certificate";
        return skip(test, "Node.js with npm isn't installed (`apt-get install nodejs npm`)");
    }
    from_nothing_to_a_certificate("js", 1);
}

/// One operator only, since each compiles eighteen megabytes.
#[test]
fn python_project_goes_from_nothing_to_a_certificate() {
    if lacks("python3", &["-c", "import venv, ensurepip"]) {
        let test = "python_project_goes_from_nothing_to_a_certificate";
        return skip(test, "Python with venv isn't installed (`apt-get install python3-venv`)");
    }
    from_nothing_to_a_certificate("python", 1);
}

fn lacks(program: &str, arguments: &[&str]) -> bool {
    let mut command = std::process::Command::new(program);
    !command.args(arguments).output().is_ok_and(|output| output.status.success())
}

#[test]
fn operators_that_see_different_prices_certify_one_median() {
    let mut network = Network::prepare(4);
    let feed = PriceFeed::new(network.folder.path());
    (0..4).for_each(|index| network.start_with(index, &feed.allowed()));
    network.wait_until_connected();
    let service = network.deploy(0, &feed.manifest, &feed.component);
    for _ in 0..3 {
        let task = network.submit(1, &service, PAIR);
        let certified = network.certified(2, &task);
        let result = output(&certified);
        let (lowest, highest) = feed.range();
        let price = cents(result["price"].as_str().unwrap());
        assert!((lowest..=highest).contains(&price), "{result} of {lowest} to {highest}");
        let observations = certified["observations"].as_array().unwrap();
        let distinct: BTreeSet<_> = observations.iter().map(|o| o["value"].to_string()).collect();
        assert!(
            observations.len() >= 3 && distinct.len() > 1,
            "they all saw the same: {certified}"
        );
        assert!(certified["outcome"]["observations"].is_string(), "{certified}");
    }
}

#[test]
fn operator_that_does_not_allow_an_origin_refuses_the_oracle_and_says_why() {
    let network = Network::new(1);
    let feed = PriceFeed::new(network.folder.path());
    let (manifest, component) = (text(&feed.manifest), text(&feed.component));
    let arguments = ["service", "create", "--manifest", &manifest, "--component", &component];
    let complaint = harness::complaint(&with(&arguments, &network.signing(0)));
    assert!(complaint.contains("which this operator doesn't allow"), "{complaint}");
    assert!(complaint.contains(&feed.sources[0].origin), "{complaint}");
}

/// On the author's machine, too, only what the manifest names and the operator allows is reached.
#[test]
fn private_addresses_are_refused_to_a_local_run_unless_named() {
    let folder = tempfile::tempdir().unwrap();
    let feed = PriceFeed::new(folder.path());
    let (manifest, component) = (text(&feed.manifest), text(&feed.component));
    let run = ["service", "run", &component, "--manifest", &manifest, "--input", PAIR];
    let output = lamina(&run);
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("leads to a private address"), "{told}");

    let named: Vec<String> = feed
        .sources
        .iter()
        .flat_map(|source| ["--private-origin".to_owned(), source.origin.clone()])
        .collect();
    let report = value(&with(&run, &named));
    assert_eq!(report["refusals"], json!([]));
    assert!(report["observed"].is_string(), "{report}");
}

/// Its models have 190 MB, so it's skipped where they weren't fetched (`cargo xtask models`).
#[test]
fn bouncer_certifies_verdicts_on_real_messages() {
    let test = "bouncer_certifies_verdicts_on_real_messages";
    if !models().join("model.safetensors").is_file() {
        return skip(test, "the models weren't fetched: run `cargo xtask models`");
    }
    let network = Network::new(4);
    let bouncer = services().join("bouncer");
    let built = build_guest(&bouncer, None).unwrap();
    let service = network.deploy(0, &bouncer.join("service.toml"), &built.path);
    let mut verdicts = Vec::new();
    for (message, expected) in [
        ("Thanks for the warm welcome, see you all at the meeting tonight!", "allow"),
        ("You are a worthless idiot and everybody here hates you.", "block"),
    ] {
        let task = network.submit(2, &service, &json!({ "message": message }).to_string());
        let certified = network.certified(1, &task);
        let result = output(&certified);
        assert_eq!(result["verdict"], expected, "{message}: {result}");
        verdicts.push(certified);
    }
    // The weights came to the others over the network, part by part.
    for index in 0..4 {
        let blobs = network.nodes[index].folder.join("data/blobs");
        assert!(fs::read_dir(blobs).unwrap().count() >= 4, "operator {index}");
    }
    wait_for("all operators have certified the tasks", || {
        let all = (0..4).all(|index| {
            verdicts.iter().all(|task| {
                let shown = network.task(index, task["id"].as_str().unwrap());
                shown["status"] == "certified" && shown["dissent"] == false
            })
        });
        all.then_some(())
    });
}

fn models() -> PathBuf {
    let set = std::env::var_os("LAMINA_MODELS").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    set.unwrap_or_else(|| home().join(".cache/lamina/models"))
}
