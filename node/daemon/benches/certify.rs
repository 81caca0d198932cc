//! From a request to its certificate at four operators on loopback, stage by stage, beside the bare work of one process.
//!
//! The operators are real processes. Stages are told apart by the moments that the asked node notes down. The floor of each
//! stage is the same work done once, in a row, in this process: run the component, sign, check three attestations
//! together and add them up; for gossip it's two datagrams on loopback, there and back. Rows go to the folder that
//! `LAMINA_BENCH_ROWS` names, or to standard output.

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use harness::{Network, text, value, with};
use lamina_certificate::{
    Attestation, Genesis, OperatorSet, SecretKey, VerifiedTaskCertificate, verify_attestations,
};
use lamina_components::{Blobs, Config, Engine, ManifestSource, Task};
use lamina_types::{Address, Digest, Height, Input, OperatorIndex, PeerKey, TaskId};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use serde_json::{Value, json};

/// Tasks that are submitted one after the other, each when the one before is certified.
const SINGLE_TASKS: usize = 100;
/// Tasks that are submitted at once, sixteen under way at a time.
const BATCH_TASKS: usize = 400;
/// Runs of each bare step.
const BARE_RUNS: usize = 200;
/// How long the operators are left alone before their memory is read.
const IDLE: Duration = Duration::from_secs(5);

fn main() {
    let moderator =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../components/services/moderator");
    let built = lamina_component_build::build_guest(&moderator, None).expect("the guest builds");
    let messages = std::fs::read_to_string(moderator.join("messages.jsonl")).expect("the messages");
    let messages: Vec<&str> = messages.lines().collect();

    let network = Network::new(4);
    std::thread::sleep(IDLE);
    let idle = resident_mib(&network);
    let service = network.deploy(0, &moderator.join("service.toml"), &built.path);
    std::thread::sleep(IDLE);
    let ready = resident_mib(&network);

    let mut stages = Stages::default();
    for message in messages.iter().cycle().take(SINGLE_TASKS) {
        let arguments = ["task", "submit", &service, "--input", message];
        stages.add(&value(&with(&arguments, &network.signing(0))));
    }
    let rate = certified_per_second(&network, &service, &messages);
    let bare = Bare::measure(&moderator, &built.bytes, &messages);

    let row = |name: &str, value: f64, floor: f64| {
        json!({ "name": format!("node: {name}"), "value": value, "unit": "ms", "floor": floor,
                "ratio": value / floor })
    };
    let report = |name: &str, value: f64, unit: &str| json!({ "name": format!("node: {name}"), "value": value, "unit": unit });
    let sum = bare.execution + bare.signing + bare.aggregation + bare.gossip;
    let rows = json!([
        row("request to certificate, median", median(&mut stages.total), sum),
        row("of it: execution, waiting included", median(&mut stages.execution), bare.execution),
        row("of it: signing, store synced", median(&mut stages.signing), bare.signing),
        row(
            "of it: gossip and aggregation",
            median(&mut stages.gossip),
            bare.gossip + bare.aggregation
        ),
        report("aggregation alone, bare", bare.aggregation, "ms"),
        report("request to certificate, 99th percentile", percentile(&mut stages.total, 99), "ms"),
        report("certificates, 16 under way", rate, "/s"),
        report("resident memory of an idle operator", idle, "MiB"),
        report("resident memory with the moderator ready", ready, "MiB"),
    ]);
    match std::env::var_os("LAMINA_BENCH_ROWS") {
        Some(folder) => std::fs::write(Path::new(&folder).join("certify.json"), rows.to_string())
            .expect("the folder can be written"),
        None => println!("{rows:#}"),
    }
}

/// Milliseconds of each task, by stage, as the asked node saw them.
#[derive(Default)]
struct Stages {
    total: Vec<f64>,
    execution: Vec<f64>,
    signing: Vec<f64>,
    gossip: Vec<f64>,
}

impl Stages {
    fn add(&mut self, task: &Value) {
        let at = |name: &str| task["timeline"][name].as_f64().map(|micros| micros / 1e3);
        let accepted = at("accepted").expect("a request");
        let certified = at("certified").expect("a certificate");
        self.total.push(certified - accepted);
        // Where the others were quicker, this node's own part has no end before the certificate.
        if let (Some(executed), Some(attested)) = (at("executed"), at("attested")) {
            self.execution.push(executed - accepted);
            self.signing.push(attested - executed);
            self.gossip.push((certified - attested).max(0.0));
        }
    }
}

fn certified_per_second(network: &Network, service: &str, messages: &[&str]) -> f64 {
    let lines: Vec<&str> = messages.iter().cycle().take(BATCH_TASKS).copied().collect();
    let path = network.folder.path().join("batch.jsonl");
    std::fs::write(&path, lines.join("\n")).expect("the folder can be written");
    let arguments = ["task", "submit", service, "--input-lines", &text(&path)];
    let tasks = harness::lines(&with(&arguments, &network.signing(0)));
    let at = |task: &Value, name: &str| task["timeline"][name].as_f64().expect("a moment") / 1e6;
    let first = tasks.iter().map(|task| at(task, "accepted")).fold(f64::INFINITY, f64::min);
    let last = tasks.iter().map(|task| at(task, "certified")).fold(0.0, f64::max);
    tasks.len() as f64 / (last - first)
}

fn resident_mib(network: &Network) -> f64 {
    let mut all: Vec<f64> = (0..network.nodes.len())
        .map(|index| {
            let status = value(&["node", "status", "--api", network.api(index)]);
            status["resident_bytes"].as_f64().expect("a number") / f64::from(1 << 20)
        })
        .collect();
    median(&mut all)
}

/// Milliseconds of each step without a network, a disk or other operators.
struct Bare {
    execution: f64,
    signing: f64,
    aggregation: f64,
    gossip: f64,
}

impl Bare {
    fn measure(moderator: &Path, component: &[u8], messages: &[&str]) -> Self {
        let engine =
            Engine::new(Config { instances_max: 2, ..Config::default() }).expect("an engine");
        let manifest = ManifestSource::read(&moderator.join("service.toml"))
            .and_then(|source| source.into_manifest(Address([1; 20]), component))
            .expect("a manifest");
        let component = engine.load(component, &manifest.component).expect("a component");
        let service = component.serve(&manifest, Blobs::default()).expect("it's admitted");
        let inputs: Vec<Input> =
            messages.iter().map(|m| Input::new(*m).expect("a short message")).collect();
        let mut next = inputs.iter().cycle();
        let execution = timed(|| {
            let input = next.next().expect("messages");
            let task = Task::new(TaskId([1; 32]), Height(0), input);
            service.run(&task).verdict.expect("a verdict")
        });

        let (set, keys) = operators();
        let (task, outcome) = (TaskId([1; 32]), Digest([2; 32]));
        let attest = |i: u16| {
            Attestation::sign(&set, OperatorIndex(i), &keys[usize::from(i)], task, outcome)
        };
        let signing = timed(|| attest(0));
        let attestations: Vec<_> = (0..3).map(attest).collect();
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let aggregation = timed(|| {
            let verified = verify_attestations(&set, &attestations, &mut rng);
            let verified: Vec<_> = verified.into_iter().flatten().collect();
            VerifiedTaskCertificate::aggregate(&set, &verified).expect("a quorum")
        });
        Self { execution, signing, aggregation, gossip: two_datagrams() }
    }
}

fn operators() -> (OperatorSet, Vec<SecretKey>) {
    let chain_id: lamina_types::ChainId = "lamina-bench-1".parse().expect("a chain id");
    let keys: Vec<_> = (1..=4).map(|i| SecretKey::derive(&[i; 32])).collect();
    let operators = (1..=4)
        .zip(&keys)
        .map(|(i, key)| {
            let (address, peer_key) = (Address([i; 20]), PeerKey([i; 32]));
            lamina_certificate::OperatorRecord::new(&chain_id, address, peer_key, key, 32)
        })
        .collect();
    let genesis = Genesis {
        chain_id,
        ethereum_chain_id: 31337,
        ethereum: None,
        runtime: lamina_components::runtime(),
        operators,
        ledger: lamina_certificate::LedgerGenesis::default(),
    };
    (genesis.operator_set().expect("records that hold"), keys)
}

/// A request there, an attestation back: 300 and 170 bytes over loopback.
fn two_datagrams() -> f64 {
    let socket = || UdpSocket::bind("127.0.0.1:0").expect("a port");
    let (near, far) = (socket(), socket());
    let connect = |socket: &UdpSocket, to: &UdpSocket| {
        socket.connect(to.local_addr().expect("an address")).expect("loopback");
    };
    connect(&near, &far);
    connect(&far, &near);
    let answering = std::thread::spawn(move || {
        let mut buffer = [0; 512];
        for _ in 0..BARE_RUNS {
            far.recv(&mut buffer).expect("a datagram");
            far.send(&[0; 170]).expect("loopback");
        }
    });
    let mut buffer = [0; 512];
    let time = timed(|| {
        near.send(&[0; 300]).expect("loopback");
        near.recv(&mut buffer).expect("a datagram")
    });
    answering.join().expect("it ends");
    time
}

/// Median time of a step, in milliseconds.
fn timed<T>(mut step: impl FnMut() -> T) -> f64 {
    let mut times: Vec<f64> = (0..BARE_RUNS)
        .map(|_| {
            let start = Instant::now();
            std::hint::black_box(step());
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    median(&mut times)
}

fn median(values: &mut [f64]) -> f64 {
    percentile(values, 50)
}

fn percentile(values: &mut [f64], p: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) * p / 100]
}
