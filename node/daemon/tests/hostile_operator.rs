//! Three operators as processes, and a fourth, played by the test with that operator's own keys, which lies to them.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

mod harness;

use std::path::Path;
use std::time::Duration;

use harness::price_feed::{PAIR, PriceFeed, cents};
use harness::{Network, echo, output, wait_for};
use lamina_certificate::{Attestation, Genesis, Observation, OperatorSet, SecretKey};
use lamina_keystore::{KeyDirectory, KeyKind, Passphrase};
use lamina_p2p::{Gossip, Topic, Verdict};
use lamina_p2p_net::{Config, Event, Handle};
use lamina_types::{Canonical, Digest, ObservationValue, OperatorIndex, TaskId};
use serde_json::json;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

const LIAR: OperatorIndex = OperatorIndex(3);

/// The fourth operator: connected, with the right keys, and no manners.
struct Liar {
    bls: SecretKey,
    set: OperatorSet,
    network: Handle,
    events: mpsc::Receiver<Event>,
}

impl Liar {
    fn join(network: &Network) -> Self {
        let passphrase = Passphrase::from_file(&network.folder.path().join("passphrase")).unwrap();
        let keys = KeyDirectory::new(network.nodes[3].folder.join("keys"));
        let secret = |kind| keys.read(kind).unwrap().decrypt(&passphrase).unwrap();
        let genesis: Genesis =
            serde_json::from_slice(&std::fs::read(Path::new(&network.genesis())).unwrap()).unwrap();
        let bootstrap = network.nodes[0].endpoints()["p2p"][0].as_str().unwrap().parse().unwrap();
        let config = Config {
            listen: vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()],
            bootstrap: vec![bootstrap],
            mdns: false,
            seen: Duration::from_secs(10),
            ..Config::default()
        };
        let peer = Zeroizing::new(*secret(KeyKind::Peer).expose());
        let (handle, events, _) = lamina_p2p_net::start(&config, &peer, &genesis.chain_id).unwrap();
        Self {
            bls: SecretKey::from_bytes(secret(KeyKind::Bls).expose()).unwrap(),
            set: genesis.operator_set().unwrap(),
            network: handle,
            events,
        }
    }

    fn attest(&self, task: TaskId, outcome: Digest) -> Attestation {
        Attestation::sign(&self.set, LIAR, &self.bls, task, outcome)
    }

    fn observe(&self, task: TaskId, value: &str) -> Observation {
        let value = ObservationValue::new(value).unwrap();
        Observation::sign(&self.set, LIAR, &self.bls, task, value)
    }

    fn publish(&self, message: &Gossip) {
        let (topic, bytes) = message.encode();
        self.network.publish(topic, bytes).unwrap();
    }

    /// Lets the swarm work until `check` holds, accepting what comes.
    async fn until(&mut self, what: &str, mut check: impl FnMut(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + harness::PATIENCE;
        while !check(self) {
            assert!(tokio::time::Instant::now() < deadline, "{what}");
            let wait = Duration::from_millis(100);
            if let Ok(Some(event)) = tokio::time::timeout(wait, self.events.recv()).await {
                self.handle(event);
            }
        }
    }

    fn handle(&self, event: Event) {
        if let Event::Gossip { delivery, .. } = event {
            self.network.judge(delivery, Verdict::Accept).unwrap();
        }
    }

    /// Waits for the next request for a task.
    async fn next_task(&mut self) -> TaskId {
        let chain = self.set.chain().clone();
        loop {
            let event = tokio::time::timeout(harness::PATIENCE, self.events.recv()).await;
            let event = event.expect("in time").expect("the swarm runs");
            if let Event::Gossip { topic: Topic::Tasks, bytes, .. } = &event {
                let request = lamina_types::SignedTaskRequest::from_bytes(bytes).unwrap();
                self.handle(event);
                return request.request.task_id(&chain);
            }
            self.handle(event);
        }
    }
}

fn three_operators() -> Network {
    let mut network = Network::prepare(4);
    for index in 0..3 {
        network.start_with(index, &json!({ "p2p": { "seen": "10s" } }));
    }
    network.wait_until_connected();
    network
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_answer_does_not_stop_the_right_certificate() {
    let network = three_operators();
    let mut liar = Liar::join(&network);
    liar.until("all are connected", |liar| liar.network.metrics().peers_connected == 3).await;
    let service = network.deploy_text("echo", &echo());
    // Operator 2 is away at first, so that the lie is there before a quorum of the truth.
    let mut network = network;
    network.kill(2);
    let task = network.submit(0, &service, "the truth");
    let id = liar.next_task().await;
    assert_eq!(id.to_string(), task);
    let lie = Digest([6; 32]);
    liar.publish(&Gossip::Attestation(liar.attest(id, lie)));
    wait_for("the lie arrived", || {
        (network.task(0, &task)["outcomes"].as_array()?.len() == 2).then_some(())
    });
    assert_eq!(network.task(0, &task)["status"], "open");

    network.start_with(2, &json!({ "p2p": { "seen": "10s" } }));
    let certified = network.certified(0, &task);
    assert_ne!(certified["outcome_digest"], lie.to_string());
    let output = certified["outcome"]["result"]["Ok"].as_str().unwrap();
    assert_eq!(hex::decode(&output[2..]).unwrap(), b"the truth");
    liar.network.shutdown();
}

/// Whatever one of four says it saw, the certified price is one that an honest operator could have seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lie_does_not_move_the_price_out_of_the_honest_range() {
    let mut network = Network::prepare(4);
    let feed = PriceFeed::new(network.folder.path());
    let mut sections = feed.allowed();
    sections["p2p"] = json!({ "seen": "10s" });
    (0..3).for_each(|index| network.start_with(index, &sections));
    network.wait_until_connected();
    let mut liar = Liar::join(&network);
    liar.until("all are connected", |liar| liar.network.metrics().peers_connected == 3).await;
    let service = network.deploy(0, &feed.manifest, &feed.component);
    let lies = [
        r#"{"pair":"ETH/USD","price":"99999999.00000000","sources_used":3}"#,
        r#"{"pair":"ETH/USD","price":"0.00000001","sources_used":3}"#,
        r#"{"pair":"BTC/USD","price":"2000.00000000","sources_used":3}"#,
        "not even JSON",
    ];
    let mut heard = 0;
    for lie in lies {
        let task = network.submit(0, &service, PAIR);
        let id = liar.next_task().await;
        assert_eq!(id.to_string(), task);
        let observation = liar.observe(id, lie);
        liar.publish(&Gossip::Observation(Box::new(observation)));
        let certified = network.certified(1, &task);
        let result = output(&certified);
        let (lowest, highest) = feed.range();
        let price = cents(result["price"].as_str().unwrap());
        assert!((lowest..=highest).contains(&price), "{lie}: {result} of {lowest} to {highest}");
        let observations = certified["observations"].as_array().unwrap();
        heard += observations.iter().filter(|o| o["operator"] == 3 && o["in_set"] == true).count();
    }
    assert!(heard > 0, "no lie was among what was reduced");
    liar.network.shutdown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_dropped_counted_and_gets_its_sender_banned() {
    let mut network = three_operators();
    let mut liar = Liar::join(&network);
    liar.until("all are connected", |liar| liar.network.metrics().peers_connected == 3).await;
    let service = network.deploy_text("echo", &echo());
    // Without operator 2 there's no quorum, so the task stays open.
    network.kill(2);
    let task = network.submit(0, &service, "a task that waits");
    let id = liar.next_task().await;
    assert_eq!(id.to_string(), task);
    let offences =
        |name: &str| network.metric(0, &format!("lamina_p2p_offences_total{{offence=\"{name}\"}}"));

    let accepted = "lamina_p2p_messages_total{topic=\"attestations\",outcome=\"accepted\"}";
    let before = network.metric(0, accepted);
    let right = Gossip::Attestation(liar.attest(id, Digest([1; 32])));
    liar.publish(&right);
    liar.until("what's rightly signed is taken", |_| network.metric(0, accepted) > before).await;
    let mut forged = liar.attest(id, Digest([2; 32]));
    forged.operator = OperatorIndex(0);
    liar.publish(&Gossip::Attestation(forged));
    liar.until("the forgery is counted", |_| offences("wrong_signature") == 1).await;

    liar.network.publish(Topic::Tasks, vec![7; 100]).unwrap();
    liar.until("nonsense is counted", |_| offences("malformed") == 1).await;

    // The swarm sends nothing that's too long, as it takes nothing: `lamina-p2p-net` tests that with a raw one.
    assert_eq!(offences("repeated"), 0);
    tokio::time::sleep(Duration::from_secs(12)).await;
    // Gossipsub forgets old messages when a new one comes.
    liar.publish(&Gossip::Attestation(liar.attest(id, Digest([3; 32]))));
    tokio::time::sleep(Duration::from_secs(1)).await;
    liar.publish(&right);
    liar.until("the repeat is counted", |_| offences("repeated") == 1).await;

    let banned = || network.metric(0, "lamina_p2p_bans_total");
    assert_eq!(banned(), 0);
    for i in 0..4 {
        liar.network.publish(Topic::Tasks, vec![i; 101]).unwrap();
    }
    liar.until("the liar is banned", |_| banned() == 1).await;
    liar.until("the liar is disconnected", |liar| liar.network.metrics().peers_connected < 3).await;

    // The three go on without it.
    network.start_with(2, &json!({ "p2p": { "seen": "10s" } }));
    network.certified(0, &task);
    let task = network.submit(0, &service, "without the liar");
    network.certified(1, &task);
    liar.network.shutdown();
}
