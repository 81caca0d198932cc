//! What the state tree costs, beside the same bytes in a plain table or file.
//!
//! `LAMINA_BENCH_KEYS=1000000` adds a larger state. Sizes of proofs are printed once.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark may, as tests do")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::io::Read as _;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lamina_ledger::state::Writes;
use lamina_ledger_store::Store;
use lamina_types::{Canonical as _, Digest, Height};
use redb::{Database, TableDefinition};
use support::{AUTHOR, advance, chain, change, next, volume};
use tempfile::TempDir;

/// Keys of one checkpoint.
const BATCH: u64 = 1_000;
const PLAIN: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("plain");

fn key(i: u64) -> Vec<u8> {
    format!("commitments/{:02}/{i:016}", i % 7).into_bytes()
}

fn batch(first: u64) -> Writes {
    (first..first + BATCH).map(|i| (key(i), Some(Digest::of(&i.to_be_bytes()).0.into()))).collect()
}

fn open(folder: &TempDir) -> Store {
    Store::open(&folder.path().join("ledger.redb"), &chain(), Default::default()).unwrap()
}

fn filled(keys: u64) -> (TempDir, Store, Digest) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let mut root = Digest::default();
    for first in (0..keys).step_by(usize::try_from(BATCH).unwrap()) {
        root = advance(&store, batch(first));
    }
    (folder, store, root)
}

/// States to measure at.
fn sizes() -> Vec<u64> {
    let large = std::env::var("LAMINA_BENCH_KEYS").ok().and_then(|keys| keys.parse().ok());
    [10_000, 100_000].into_iter().chain(large).collect()
}

fn puts(c: &mut Criterion) {
    let mut group = c.benchmark_group("puts");
    group.throughput(Throughput::Elements(BATCH)).sample_size(10);
    for keys in sizes() {
        let (_folder, store, _) = filled(keys);
        let mut first = keys;
        group.bench_function(format!("store/keys={keys}"), |b| {
            b.iter(|| {
                advance(&store, batch(first));
                first += BATCH;
            });
        });
        let folder = tempfile::tempdir().unwrap();
        let database = Database::create(folder.path().join("plain.redb")).unwrap();
        (0..keys).step_by(1_000).for_each(|first| put_plain(&database, first));
        let mut first = keys;
        group.bench_function(format!("plain/keys={keys}"), |b| {
            b.iter(|| {
                put_plain(&database, first);
                first += BATCH;
            });
        });
    }
    group.finish();
}

fn put_plain(database: &Database, first: u64) {
    let write = database.begin_write().unwrap();
    {
        let mut table = write.open_table(PLAIN).unwrap();
        for (key, value) in batch(first) {
            table.insert(key.as_slice(), value.unwrap().as_slice()).unwrap();
        }
    }
    write.commit().unwrap();
}

fn proofs(c: &mut Criterion) {
    let mut group = c.benchmark_group("proof");
    for keys in sizes() {
        let (_folder, store, root) = filled(keys);
        let reader = store.reader().unwrap();
        let height = reader.height().unwrap();
        let prove = |i: u64| reader.prove(&key(i), height).unwrap();
        let (present, absent) = (prove(keys / 2), prove(keys));
        let (value, present) = present;
        let (value, absent) = (value.unwrap(), absent.1);
        let sizes = (present.as_slice().len(), absent.as_slice().len());
        println!("{keys} keys: proofs of {} and {} bytes", sizes.0, sizes.1);
        let mut i = 0;
        group.bench_function(format!("prove/keys={keys}"), |b| {
            b.iter(|| {
                i = (i + 7_919) % keys;
                prove(i)
            });
        });
        group.bench_function(format!("verify/keys={keys}"), |b| {
            b.iter(|| {
                assert!(black_box(&present).verify(&root, &key(keys / 2), Some(&value)));
            });
        });
        group.bench_function(format!("verify_absence/keys={keys}"), |b| {
            b.iter(|| {
                assert!(black_box(&absent).verify(&root, &key(keys), None));
            });
        });
    }
    group.finish();
}

/// Operations of a lane, as a node reads them for another one that catches up, against a file with the same bytes.
fn sync(c: &mut Criterion) {
    let operations = 100_000;
    let (folder, store, bytes) = with_changes(operations);
    let file = folder.path().join("operations");
    std::fs::write(&file, vec![7; bytes]).unwrap();
    let mut group = c.benchmark_group(format!("sync/operations={operations}"));
    group.throughput(Throughput::Bytes(bytes as u64)).sample_size(10);
    group.bench_function("store", |b| b.iter(|| assert_eq!(read_changes(&store), bytes)));
    group.bench_function("file", |b| {
        b.iter_batched(
            || std::fs::File::open(&file).unwrap(),
            |mut file| {
                let mut found = Vec::with_capacity(bytes);
                file.read_to_end(&mut found).unwrap();
                found
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// Changes of 100 operations each, and their length.
fn with_changes(operations: u64) -> (TempDir, Store, usize) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let mut genesis = next(&store, batch(0));
    genesis.opened = vec![volume(0)];
    store.commit(&genesis).unwrap();
    let (template, mut last, mut bytes) = (change(volume(0), None, 0), None, 0);
    for _ in 0..operations / 1_000 {
        let mut finalised = next(&store, Writes::new());
        for _ in 0..10 {
            let mut next = change(volume(0), last.as_ref(), 0);
            let operation = template.change.operations.as_slice()[0].clone();
            next.change.operations = lamina_types::List::new(vec![operation; 100]).unwrap();
            next.operations = vec![template.operations[0]; 100];
            bytes += next.change.to_bytes().len();
            finalised.changes.push(next.clone());
            last = Some(next);
        }
        store.commit(&finalised).unwrap();
    }
    (folder, store, bytes)
}

fn read_changes(store: &Store) -> usize {
    let (mut after, mut bytes) = (0, 0);
    loop {
        let found = store.changes(&volume(0), &AUTHOR, after, 512 * 1024).unwrap();
        if found.is_empty() {
            return bytes;
        }
        after += found.len() as u64;
        bytes += found.iter().map(Vec::len).sum::<usize>();
    }
}

/// Handing a state out, and taking it in.
fn snapshot(c: &mut Criterion) {
    let (_folder, store, root) = filled(10_000);
    let height = Height(9);
    let mut group = c.benchmark_group("snapshot/keys=10000");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    group.bench_function("chunk", |b| {
        b.iter(|| store.snapshot_chunk(height, None, usize::MAX).unwrap());
    });
    let chunks: Vec<_> = [store.snapshot_chunk(height, None, usize::MAX).unwrap()].into();
    group.bench_function("restore", |b| {
        b.iter_batched(
            || tempfile::tempdir().unwrap(),
            |folder| {
                let store = open(&folder);
                let mut restore =
                    lamina_ledger_store::Restore::begin(&store, height, root).unwrap();
                chunks.iter().for_each(|chunk| restore.add(chunk).unwrap());
                folder
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, puts, proofs, sync, snapshot);
criterion_main!(benches);
