//! What a node's ledger takes of memory and disk with 10,000, 100,000 and 1,000,000 commitments in its state, and how long
//! proofs from it are.
//!
//! Each state is made by one process and used by another one, which opens it as a node does, carries out more checkpoints,
//! proves, and tells how much memory it has then. Beside it stands what the smallest state takes.
//! `LAMINA_BENCH_COMMITMENTS` is a list of other sizes. Rows go to the folder that `LAMINA_BENCH_ROWS` names, or to standard
//! output.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark may, as tests do")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use lamina_certificate::{Deposit, Genesis, LedgerGenesis, OperatorRecord, SecretKey};
use lamina_ledger::StateReader as _;
use lamina_ledger::state::commitments;
use lamina_ledger_store::Config;
use lamina_ledger_store::testing::Solo;
use lamina_types::{
    AccountKey, AccountSignature, Action, Address, Amount, Asset, ChainId, CommitmentId, Digest,
    Height, Limits, Manifest, Operation, PeerKey, Purpose, Runtime, ServiceId, SignedOperation,
    Text, Timestamp,
};
use serde_json::{Value, json};

/// Commitments of one account.
const PER_ACCOUNT: u64 = 10;
/// Commitments of one checkpoint.
const BATCH: u64 = 2_000;
/// Checkpoints that are carried out before the memory is looked at.
const MORE: u64 = 10;
/// Proofs that are made.
const PROOFS: u64 = 1_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [what, folder, count] if what == "fill" => fill(Path::new(folder), count.parse().unwrap()),
        [what, folder, count] if what == "use" => {
            println!("{}", use_state(Path::new(folder), count.parse().unwrap()));
        }
        _ => measure(),
    }
}

fn measure() {
    let sizes = std::env::var("LAMINA_BENCH_COMMITMENTS").ok();
    let sizes: Vec<u64> = sizes
        .as_deref()
        .unwrap_or("10000,100000,1000000")
        .split(',')
        .map(|s| s.parse().unwrap())
        .collect();
    let (mut rows, mut smallest) = (Vec::new(), None);
    for count in sizes {
        let folder = tempfile::tempdir().unwrap();
        run("fill", folder.path(), count);
        let found: Value = serde_json::from_str(&run("use", folder.path(), count)).unwrap();
        let number = |name: &str| found[name].as_f64().unwrap();
        let memory = number("memory_mib");
        let least = *smallest.get_or_insert(memory);
        rows.push(json!({
            "name": format!("ledger: memory with {count} commitments"), "value": memory, "unit": "MiB",
            "floor": least, "ratio": memory / least, "target": "ratio <= 1.5", "holds": memory / least <= 1.5,
        }));
        let report = |name: &str, value: f64, unit: &str| json!({ "name": format!("ledger: {name}, {count} commitments"), "value": value, "unit": unit });
        rows.push(report("disk", number("disk_mib"), "MiB"));
        rows.push(report("proof of a commitment, median", number("proof_bytes"), "bytes"));
        rows.push(report("time to make it", number("prove_us"), "µs"));
        rows.push(report("time to verify it", number("verify_us"), "µs"));
    }
    match std::env::var_os("LAMINA_BENCH_ROWS") {
        Some(folder) => {
            std::fs::write(Path::new(&folder).join("memory.json"), Value::from(rows).to_string())
                .unwrap();
        }
        None => println!("{:#}", Value::from(rows)),
    }
}

/// A process of its own, so that nothing is in its memory but what belongs there.
fn run(what: &str, folder: &Path, count: u64) -> String {
    let start = Instant::now();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([what, folder.to_str().unwrap(), &count.to_string()])
        .stderr(std::process::Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{what} {count}");
    eprintln!("{what} {count}: {:.1?}", start.elapsed());
    String::from_utf8(output.stdout).unwrap()
}

fn fill(folder: &Path, count: u64) {
    let plan = Plan::new(count + MORE * BATCH);
    let ledger = plan.open(folder);
    advance(&ledger, 1, &[plan.register()]);
    let firsts = (0..count).step_by(usize::try_from(BATCH).unwrap());
    for (height, first) in (2..).zip(firsts) {
        advance(&ledger, height, &plan.commitments(first, count.min(first + BATCH)));
    }
}

fn advance(ledger: &Solo, height: u64, operations: &[SignedOperation]) {
    let (_, receipts) = ledger.advance(Timestamp(height * 1_000_000), operations);
    assert_eq!(receipts.len(), operations.len());
    let refused = receipts.iter().find(|receipt| receipt.refusal.is_some());
    assert!(refused.is_none(), "{refused:?}");
}

fn use_state(folder: &Path, count: u64) -> Value {
    let plan = Plan::new(count + MORE * BATCH);
    let ledger = plan.open(folder);
    let mut height = ledger.store().reader().unwrap().version();
    for step in 0..MORE {
        height += 1;
        let first = count + step * BATCH;
        advance(&ledger, height, &plan.commitments(first, first + BATCH));
    }
    let reader = ledger.store().reader().unwrap();
    let root = ledger.store().tip().unwrap().unwrap().header.state;
    let (mut bytes, mut proving, mut verifying) = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..PROOFS {
        let key = commitments::record_key(plan.commitment(i * 7_919 % count));
        let start = Instant::now();
        let (value, proof) = reader.prove(&key, Height(height)).unwrap();
        proving.push(start.elapsed().as_secs_f64() * 1e6);
        let value = value.unwrap();
        let start = Instant::now();
        assert!(proof.verify(&root, &key, Some(&value)));
        verifying.push(start.elapsed().as_secs_f64() * 1e6);
        bytes.push(proof.as_slice().len() as f64);
    }
    let disk = std::fs::metadata(folder.join("ledger.redb")).unwrap().len();
    json!({
        "memory_mib": resident_mib(), "disk_mib": disk as f64 / f64::from(1 << 20),
        "proof_bytes": median(bytes), "prove_us": median(proving), "verify_us": median(verifying),
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}

/// Accounts, one service and its one operator.
struct Plan {
    genesis: Genesis,
    operator: Address,
    /// Any: who carries operations out doesn't look at it.
    signature: AccountSignature,
}

impl Plan {
    /// Of a network in which so many commitments can be made.
    fn new(commitments: u64) -> Self {
        let chain_id: ChainId = "lamina-bench-1".parse().unwrap();
        let operator = Address([1; 20]);
        let key = SecretKey::derive(&[1; 32]);
        let record = OperatorRecord::new(&chain_id, operator, PeerKey([1; 32]), &key, 32);
        let deposit =
            |i| Deposit { account: account(i), asset: Asset::Ether, amount: Amount(1_000_000) };
        let deposits = (0..commitments.div_ceil(PER_ACCOUNT)).map(deposit).collect();
        let genesis = Genesis {
            chain_id,
            ethereum_chain_id: 31337,
            ethereum: None,
            runtime: Runtime { engine: Text::default(), rules: Digest::default() },
            operators: vec![record],
            ledger: LedgerGenesis { deposits, ..LedgerGenesis::default() },
        };
        let key = AccountKey::from_bytes(&[1; 32]).unwrap();
        let signature = operation(operator, 0, Action::OptIn { service: ServiceId([1; 32]) })
            .sign(&key, &genesis.signing_context())
            .signature;
        Self { genesis, operator, signature }
    }

    fn open(&self, folder: &Path) -> Solo {
        Solo::open(&folder.join("ledger.redb"), &self.genesis, Config::default())
    }
}

impl Plan {
    fn manifest(&self) -> Manifest {
        Manifest {
            owner: self.operator,
            name: "bench".to_owned().try_into().unwrap(),
            description: Text::default(),
            component: Digest([1; 32]),
            component_bytes: 1,
            limits: Limits {
                fuel: 1,
                memory_bytes: 1,
                input_bytes: 1,
                output_bytes: 1,
                state_bytes: 0,
            },
            parameters: BTreeMap::new(),
            blobs: BTreeMap::new(),
            oracle: None,
        }
    }

    fn sign(&self, operation: Operation) -> SignedOperation {
        SignedOperation { operation, signature: self.signature }
    }

    fn register(&self) -> SignedOperation {
        let manifest = Box::new(self.manifest());
        self.sign(operation(self.operator, 0, Action::RegisterService { manifest }))
    }

    /// The commitments from `first` up to `end` (exclusive); an account's come one after the other.
    fn commitments(&self, first: u64, end: u64) -> Vec<SignedOperation> {
        (first..end).map(|i| self.sign(self.commit(i))).collect()
    }

    fn commit(&self, i: u64) -> Operation {
        let action = Action::Commit {
            vault: None,
            service: self.manifest().service_id(&self.genesis.chain_id),
            operator: self.operator,
            asset: Asset::Ether,
            amount: Amount(1_000),
            unbonding_s: 3_600,
            purpose: Purpose::Rewards,
        };
        operation(account(i / PER_ACCOUNT), i % PER_ACCOUNT, action)
    }

    fn commitment(&self, i: u64) -> CommitmentId {
        CommitmentId(self.commit(i).id(&self.genesis.signing_context()).0)
    }
}

fn operation(account: Address, sequence: u64, action: Action) -> Operation {
    let (valid_until, fee_max) = (Timestamp(u64::MAX), Amount::ZERO);
    Operation { account, sequence, valid_until, fee_max, action }
}

fn account(i: u64) -> Address {
    let mut address = [7; 20];
    address[..8].copy_from_slice(&i.to_be_bytes());
    Address(address)
}
