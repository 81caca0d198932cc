//! The ledger at four operators on loopback: commitments from a submission to finality, and to a node that comes later.
//!
//! The operators are real processes with a second between checkpoints. The floor of throughput is what each of the four can't
//! do without, by as many threads in this process at once: recover the signatures, apply the changes to Automerge documents
//! in a batch for each checkpoint, put the same keys into a state tree on disk, and commit once a checkpoint. Rows go to the
//! folder that `LAMINA_BENCH_ROWS` names, or to standard output. `LAMINA_BENCH_OPERATIONS` changes how many there are.

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use ed25519_dalek::{Signer as _, SigningKey};
use futures::StreamExt as _;
use harness::{LedgerPlan, Network, echo, value};
use jmt::storage::{LeafNode, Node, NodeKey, TreeReader};
use jmt::{KeyHash, OwnedValue, Sha256Jmt, Version};
use lamina_certificate::Genesis;
use lamina_ledger::book::{Document, Draft, verify_with};
use lamina_ledger::state::{Scope, services, tree};
use lamina_ledger_store::testing::Solo;
use lamina_ledger_store::{Config, Store};
use lamina_types::account::SigningContext;
use lamina_types::{
    AccountKey, Action, Amount, Asset, BookId, Canonical as _, ChangeId, Digest, List, Manifest,
    Operation, OperationId, PeerKey, Purpose, ServiceId, SignedOperation, Timestamp, VolumeId,
};
use redb::{Database, ReadTransaction, ReadableDatabase as _, TableDefinition};
use serde_json::{Value, json};

/// Commitments that are made as fast as they are taken.
const OPERATIONS: usize = 100_000;
/// Of each account: as many as may come before the first one is final.
const PER_ACCOUNT: usize = 50;
/// Commitments that are made one by one, to measure how long each takes.
const TIMED: usize = 100;
/// Time between two of those.
const PAUSE: Duration = Duration::from_millis(130);
/// Requests under way at each node.
const AT_ONCE: usize = 32;
/// Operations of one change and of one document in the floor, as nodes have them.
const PER_CHANGE: usize = 50;
const PER_VOLUME: usize = 4_000;
/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(900);

fn main() {
    let operations = std::env::var("LAMINA_BENCH_OPERATIONS").ok();
    let operations = operations.map_or(OPERATIONS, |count| count.parse().expect("a number"));
    let accounts: Vec<AccountKey> = (0..operations.div_ceil(PER_ACCOUNT)).map(account).collect();
    let singles: Vec<AccountKey> = (0..TIMED).map(|index| account(usize::MAX - index)).collect();
    let plan = LedgerPlan {
        interval_ms: 1_000,
        accounts: accounts.iter().chain(&singles).map(AccountKey::address).collect(),
        ..LedgerPlan::default()
    };
    let mut network = Network::prepare_ledger(4, 2, &plan);
    (0..4).for_each(|index| network.start(index));
    network.wait_until_connected();
    let genesis = std::fs::read_to_string(network.genesis()).expect("it was made");
    let genesis: Genesis = serde_json::from_str(&genesis).expect("it was made");
    let service = network.deploy_text("echo", &echo()).parse().expect("an identifier");
    let pledges = Pledges { genesis: &genesis, service };
    let signed: Vec<SignedOperation> = (0..PER_ACCOUNT as u64)
        .flat_map(|sequence| accounts.iter().map(move |account| (account, sequence)))
        .take(operations)
        .map(|(account, sequence)| pledges.sign(account, sequence))
        .collect();

    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let timed = runtime.block_on(timed(&network, &pledges, &singles));
    let begun = height(&network, 0);
    let before: Vec<u64> = (0..4).map(|index| operations_final(&network, index)).collect();
    let start = Instant::now();
    runtime.block_on(submit_all(&network, &signed));
    eprintln!("{operations} operations taken after {:.1?}", start.elapsed());
    for (index, before) in before.into_iter().enumerate() {
        let waiting = |what| network.metric(index, &format!("lamina_ledger_operations_{what} "));
        wait_until(|| {
            // Some are carried twice, and have two receipts.
            let count = operations_final(&network, index) - before;
            count >= operations as u64 && waiting("pending") + waiting("promised") == 0
        });
    }
    let rate = operations as f64 / start.elapsed().as_secs_f64();
    let end = height(&network, 0);
    let checkpoints = usize::try_from(end - begun).expect("few");
    eprintln!("final after {:.1?}, in {checkpoints} checkpoints", start.elapsed());

    let followed = join(&mut network, 4, u32::MAX, end);
    let restored = join(&mut network, 5, 2, end);
    let read = read_from_disk(&network, &signed);
    let path = network.nodes[0].folder.join("data/ledger.redb");
    (0..6).for_each(|index| network.kill(index));

    let manifest = manifest(&path, &genesis, service);
    let floor = Floor::prepare(&genesis, manifest, &signed, checkpoints);
    let floor = operations as f64 / floor.run(4).as_secs_f64();

    let seconds = |time: Duration| time.as_secs_f64();
    let rows = json!([
        {
            "name": "ledger: operations final per second, four operators", "value": rate, "unit": "/s", "floor": floor,
            "ratio": rate / floor, "target": "ratio >= 0.5", "holds": rate / floor >= 0.5,
        },
        {
            "name": "ledger: submission to finality, median", "value": timed, "unit": "ms",
            "target": "value <= 2000", "holds": timed <= 2_000.0,
        },
        {
            "name": format!("ledger: sync of {operations} operations, by checkpoints"), "value": seconds(followed),
            "unit": "s", "floor": seconds(read), "ratio": seconds(followed) / seconds(read),
        },
        {
            "name": format!("ledger: sync of {operations} operations, by snapshot"), "value": seconds(restored),
            "unit": "s", "floor": seconds(read), "ratio": seconds(restored) / seconds(read),
        },
    ]);
    match std::env::var_os("LAMINA_BENCH_ROWS") {
        Some(folder) => std::fs::write(Path::new(&folder).join("ledger.json"), rows.to_string())
            .expect("the folder can be written"),
        None => println!("{rows:#}"),
    }
}

fn account(index: usize) -> AccountKey {
    AccountKey::from_bytes(&Digest::of(&index.to_be_bytes()).0).expect("below the order")
}

/// Commitments to one service, each to the next operator.
struct Pledges<'a> {
    genesis: &'a Genesis,
    service: ServiceId,
}

impl Pledges<'_> {
    fn sign(&self, account: &AccountKey, sequence: u64) -> SignedOperation {
        let operators = &self.genesis.operators;
        let place = usize::try_from(sequence).expect("few") % operators.len();
        let action = Action::Commit {
            vault: None,
            service: self.service,
            operator: operators[place].address,
            asset: Asset::Ether,
            amount: Amount(1_000_000),
            unbonding_s: 3_600,
            purpose: Purpose::Rewards,
        };
        let valid_until = Timestamp(now().0 + 24 * 3_600 * 1_000_000);
        let fee_max = Amount(10_u128.pow(18));
        Operation { account: account.address(), sequence, valid_until, fee_max, action }
            .sign(account, &self.genesis.signing_context())
    }
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let micros = since.expect("after 1970").as_micros();
    Timestamp(u64::try_from(micros).expect("before the year 500,000"))
}

/// The median of how long a commitment takes from its submission to its receipt, in milliseconds, while others come, too.
async fn timed(network: &Network, pledges: &Pledges<'_>, accounts: &[AccountKey]) -> f64 {
    let client = reqwest::Client::new();
    let mut under_way = futures::stream::FuturesUnordered::new();
    for (index, account) in accounts.iter().enumerate() {
        let signed = pledges.sign(account, 0);
        let (client, api) = (client.clone(), network.api(index % 4).to_owned());
        under_way.push(tokio::spawn(async move {
            let start = Instant::now();
            let id = submit(&client, &api, &signed).await;
            let url = format!("{api}/v1/operations/{id}?wait_ms=60000");
            let answer: Value =
                client.get(url).send().await.expect("an answer").json().await.expect("JSON");
            assert_eq!(answer["status"], "final", "{answer}");
            start.elapsed().as_secs_f64() * 1e3
        }));
        tokio::time::sleep(PAUSE).await;
    }
    let mut times = Vec::new();
    while let Some(time) = under_way.next().await {
        times.push(time.expect("it ends"));
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

async fn submit(client: &reqwest::Client, api: &str, signed: &SignedOperation) -> OperationId {
    let request = client.post(format!("{api}/v1/operations")).body(signed.to_bytes());
    let answer = request.send().await.expect("the node runs");
    let answer: Value = answer.json().await.expect("JSON");
    serde_json::from_value(answer["id"].clone()).unwrap_or_else(|_| panic!("{answer}"))
}

/// Hands all operations in, an account's always at the same node.
async fn submit_all(network: &Network, signed: &[SignedOperation]) {
    let client = reqwest::Client::new();
    let at_node = |index: usize| {
        let client = &client;
        let mine = signed.iter().enumerate().filter(move |(i, _)| i % 4 == index);
        futures::stream::iter(mine).for_each_concurrent(AT_ONCE, move |(_, signed)| async move {
            submit(client, network.api(index), signed).await;
        })
    };
    futures::future::join_all((0..4).map(at_node)).await;
}

fn height(network: &Network, index: usize) -> u64 {
    value(&["ledger", "status", "--api", network.api(index)])["height"].as_u64().expect("a height")
}

fn operations_final(network: &Network, index: usize) -> u64 {
    network.metric(index, "lamina_ledger_operations_final_total")
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "not after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How long a node takes from its start, with nothing on its disk, to the checkpoint `end`: in steps, or from a snapshot if
/// it's `distance` checkpoints behind.
fn join(network: &mut Network, index: usize, distance: u32, end: u64) -> Duration {
    let start = Instant::now();
    network.start_with(index, &json!({ "ledger": { "snapshot_distance": distance } }));
    wait_until(|| height(network, index) >= end);
    start.elapsed()
}

/// How long it takes to read the operations' bytes from a file, which the system may have in its cache.
fn read_from_disk(network: &Network, signed: &[SignedOperation]) -> Duration {
    let path = network.folder.path().join("operations");
    let bytes: Vec<u8> = signed.iter().flat_map(|signed| signed.to_bytes()).collect();
    std::fs::write(&path, &bytes).expect("the folder can be written");
    let start = Instant::now();
    assert_eq!(std::fs::read(&path).expect("it was written").len(), bytes.len());
    start.elapsed()
}

/// What an operator can't do without, ready to be done.
struct Floor {
    context: SigningContext,
    book: BookId,
    checkpoints: Vec<Batch>,
}

/// One checkpoint's part of it.
struct Batch {
    operations: Vec<SignedOperation>,
    /// By document: one may end within a checkpoint.
    changes: Vec<Part>,
    writes: Vec<(KeyHash, Option<OwnedValue>)>,
}

/// The service's manifest, from an operator's ledger.
fn manifest(ledger: &Path, genesis: &Genesis, service: ServiceId) -> Manifest {
    let store = Store::open(ledger, &genesis.chain_id, Config::default()).expect("a ledger");
    let reader = store.reader().expect("a state");
    let found = services::service(&Scope::new(&reader), service).expect("a state");
    found.expect("it was registered").manifest
}

impl Floor {
    /// Carries the operations out once, to know what they write.
    fn prepare(
        genesis: &Genesis,
        manifest: Manifest,
        signed: &[SignedOperation],
        checkpoints: usize,
    ) -> Self {
        let context = genesis.signing_context();
        let book = BookId::Service(manifest.service_id(&context.chain));
        let folder = tempfile::tempdir().expect("a folder");
        let solo = Solo::open(&folder.path().join("ledger.redb"), genesis, Config::default());
        let register = Operation {
            account: manifest.owner,
            sequence: 0,
            valid_until: Timestamp(u64::MAX),
            fee_max: Amount(u128::MAX),
            action: Action::RegisterService { manifest: Box::new(manifest) },
        };
        solo.advance(now(), &[register.sign(&account(0), &context)]);
        let mut volumes = Volumes { book, number: 0, operations: 0, document: None };
        let batch = |operations: &[SignedOperation]| {
            let (writes, receipts) = solo.advance(now(), operations);
            let refused = receipts.iter().find(|receipt| receipt.refusal.is_some());
            assert!(refused.is_none(), "{refused:?}");
            let hashed = |(key, value): (Vec<u8>, Option<Vec<u8>>)| {
                (tree::key_hash(&key), value.as_deref().map(tree::in_tree))
            };
            Batch {
                operations: operations.to_vec(),
                changes: volumes.add(&context, operations),
                writes: writes.into_iter().map(hashed).collect(),
            }
        };
        let size = signed.len().div_ceil(checkpoints);
        let checkpoints = signed.chunks(size).map(batch).collect();
        Self { context, book, checkpoints }
    }

    /// How long so many threads take, each for all of it, on disks of their own.
    fn run(&self, threads: usize) -> Duration {
        let barrier = Barrier::new(threads + 1);
        std::thread::scope(|scope| {
            let runs: Vec<_> = (0..threads).map(|_| scope.spawn(|| self.work(&barrier))).collect();
            barrier.wait();
            let start = Instant::now();
            runs.into_iter().for_each(|run| run.join().expect("it ends"));
            start.elapsed()
        })
    }

    fn work(&self, barrier: &Barrier) {
        let folder = tempfile::tempdir().expect("a folder");
        let database = Database::create(folder.path().join("floor.redb")).expect("a new file");
        // The tree begins with something: jmt has no root of nothing.
        put(&database, 0, vec![(KeyHash([0; 32]), Some(vec![1]))]);
        let empty =
            |volume| Document::new(&VolumeId { book: self.book, volume }).automerge().clone();
        let mut document = empty(0);
        barrier.wait();
        for (version, batch) in (1..).zip(&self.checkpoints) {
            for signed in &batch.operations {
                signed.verify(&self.context).expect("it was signed");
            }
            for part in &batch.changes {
                if part.begins {
                    document = empty(part.volume);
                }
                document.apply_changes(part.changes.clone()).expect("they were applied before");
            }
            put(&database, version, batch.writes.clone());
        }
    }
}

/// Documents that end with as many operations as a volume's.
struct Volumes {
    book: BookId,
    number: u32,
    operations: usize,
    document: Option<(Document, u64, ChangeId)>,
}

/// Changes that are applied to a document at once.
struct Part {
    volume: u32,
    /// Whether they are its first ones.
    begins: bool,
    changes: Vec<automerge::Change>,
}

impl Volumes {
    fn add(&mut self, context: &SigningContext, operations: &[SignedOperation]) -> Vec<Part> {
        let author = SigningKey::from_bytes(&[1; 32]);
        let author_key = PeerKey(author.verifying_key().to_bytes());
        let mut parts = Vec::new();
        let mut rest = operations;
        while !rest.is_empty() {
            let begins = self.document.is_none();
            let volume = VolumeId { book: self.book, volume: self.number };
            let (document, number, previous) = self
                .document
                .get_or_insert_with(|| (Document::new(&volume), 0, ChangeId::default()));
            let (now, later) = rest.split_at(rest.len().min(PER_VOLUME - self.operations));
            let mut lane = Vec::new();
            for operations in now.chunks(PER_CHANGE) {
                *number += 1;
                let operations = List::truncated(operations.to_vec());
                let draft = Draft {
                    volume,
                    author: author_key,
                    number: *number,
                    previous: *previous,
                    operations,
                };
                let change = draft.sign(context, &|digest| author.sign(&digest.0).to_bytes());
                let change = verify_with(change, context, &|_, _| true).expect("it's ours");
                *previous = change.id();
                lane.push(change);
            }
            let heads = document.automerge().get_heads();
            document.extend(&lane).expect("one lane");
            let changes = document.automerge().get_changes(&heads);
            parts.push(Part { volume: self.number, begins, changes });
            self.operations += now.len();
            rest = later;
            if self.operations == PER_VOLUME {
                (self.number, self.operations, self.document) = (self.number + 1, 0, None);
            }
        }
        parts
    }
}

const NODES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("nodes");
const VALUES: TableDefinition<'_, (&[u8; 32], u64), Option<&[u8]>> = TableDefinition::new("values");

/// Puts keys into the tree, in one commit.
fn put(database: &Database, version: Version, writes: Vec<(KeyHash, Option<OwnedValue>)>) {
    let read = database.begin_read().expect("a disk");
    let (_, batch) =
        Sha256Jmt::new(&Tree(read)).put_value_set(writes, version).expect("a tree before it");
    let write = database.begin_write().expect("a disk");
    {
        let mut nodes = write.open_table(NODES).expect("a table");
        for (key, node) in batch.node_batch.nodes() {
            let (key, node) = (borsh(key), borsh(node));
            nodes.insert(key.as_slice(), node.as_slice()).expect("a disk");
        }
        let mut values = write.open_table(VALUES).expect("a table");
        for ((version, key), value) in batch.node_batch.values() {
            values.insert((&key.0, *version), value.as_deref()).expect("a disk");
        }
    }
    write.commit().expect("a disk");
}

fn borsh(value: &impl borsh::BorshSerialize) -> Vec<u8> {
    borsh::to_vec(value).expect("memory")
}

struct Tree(ReadTransaction);

impl TreeReader for Tree {
    fn get_node_option(&self, key: &NodeKey) -> anyhow::Result<Option<Node>> {
        let Ok(table) = self.0.open_table(NODES) else { return Ok(None) };
        let found = table.get(borsh(key).as_slice())?;
        Ok(found.map(|node| borsh::from_slice(node.value())).transpose()?)
    }

    fn get_value_option(&self, _: Version, _: KeyHash) -> anyhow::Result<Option<OwnedValue>> {
        Ok(None)
    }

    fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
        Ok(None)
    }
}
