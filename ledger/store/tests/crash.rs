//! The power goes at every operation on the disk: what the store finds then is what was before a transaction, or what was after
//! it, and never less than what it had said was kept.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

mod support;

use std::io;
use std::sync::{Arc, Mutex};

use lamina_ledger::state::Receipt;
use lamina_ledger::{Decision, Entries, OpenVolume, Record, StateReader as _};
use lamina_ledger_store::{Error, Restore, Store};
use lamina_types::{ChangeId, Height, OperationId};
use redb::StorageBackend;
use support::{
    advance, chain, change, config, cut_at, many, memory, next, operation, receipt, volume,
};

/// A disk that keeps for certain only what was synced.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    synced: Vec<u8>,
    current: Vec<u8>,
    /// Since the last sync.
    unsynced: Vec<Change>,
    operations: usize,
    /// The power goes at this operation.
    cut_at: Option<usize>,
}

#[derive(Debug, Clone)]
enum Change {
    Length(usize),
    Bytes(usize, Vec<u8>),
}

/// What became of the writes since the last sync.
#[derive(Debug, Clone, Copy)]
enum Loss {
    All,
    None,
    /// Some are lost, some are torn, by this number.
    Some(u64),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Length(length) => bytes.resize(*length, 0),
            Self::Bytes(offset, data) => {
                let end = offset + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(data);
            }
        }
    }

    /// Only its beginning.
    fn tear(&self, at: usize) -> Self {
        match self {
            Self::Length(length) => Self::Length(*length),
            Self::Bytes(offset, data) => {
                Self::Bytes(*offset, data[..at % (data.len() + 1)].to_vec())
            }
        }
    }
}

impl Disk {
    /// A disk with an empty store: a file that was being made is no store yet, and `Store::open` begins it anew.
    fn with_store() -> Self {
        let disk = Self::default();
        drop(open(&disk).unwrap());
        disk.after(Loss::None)
    }

    fn cutting_at(operation: usize) -> Self {
        let disk = Self::with_store();
        disk.0.lock().unwrap().cut_at = Some(operation);
        disk
    }

    /// The disk as it's found afterwards.
    fn after(&self, loss: Loss) -> Self {
        let state = self.0.lock().unwrap();
        let mut bytes = state.synced.clone();
        let mut random = match loss {
            Loss::All => return Self::holding(bytes),
            Loss::None => 0,
            Loss::Some(seed) => seed,
        };
        for change in &state.unsynced {
            random =
                random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(u64::from(random != 0));
            match (random >> 33) % 3 {
                0 => change.apply(&mut bytes),
                1 => change.tear(usize::try_from(random >> 40).unwrap()).apply(&mut bytes),
                _ => {}
            }
        }
        Self::holding(bytes)
    }

    fn holding(bytes: Vec<u8>) -> Self {
        let state = State { synced: bytes.clone(), current: bytes, ..State::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    fn operations(&self) -> usize {
        self.0.lock().unwrap().operations
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        // What it's doing as the power goes may be done, or not, or in part.
        if state.cut_at.is_none_or(|at| state.operations <= at) {
            state.unsynced.push(change.clone());
        }
        state.step()?;
        change.apply(&mut state.current);
        Ok(())
    }
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        self.operations += 1;
        let cut = self.cut_at.is_some_and(|at| self.operations > at);
        if cut { Err(io::Error::other("the power is gone")) } else { Ok(()) }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        let start = usize::try_from(offset).unwrap();
        let bytes = state.current.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or_else(|| io::Error::other("beyond the end"))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Length(usize::try_from(len).unwrap()))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.step()?;
        for change in std::mem::take(&mut state.unsynced) {
            change.apply(&mut state.synced);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Change::Bytes(usize::try_from(offset).unwrap(), data.to_vec()))
    }
}

/// All that a node finds when it starts.
#[derive(Debug, PartialEq)]
struct Found {
    tip: Option<Decision>,
    entries: Entries,
    pending: Vec<ChangeId>,
    promises: Vec<OperationId>,
    receipts: Vec<Option<Receipt>>,
    volumes: Vec<OpenVolume>,
    log: Vec<Vec<u8>>,
}

fn find(store: &Store) -> Found {
    let reader = store.reader().unwrap();
    let tip = store.tip().unwrap();
    Found {
        entries: reader.range(&[0], &[u8::MAX], usize::MAX).unwrap(),
        pending: store.pending_changes().unwrap().iter().map(|(id, _)| *id).collect(),
        promises: store.promises().unwrap().iter().map(|(id, _)| *id).collect(),
        receipts: (0..2).map(|i| store.receipt(&operation(i).0).unwrap()).collect(),
        volumes: store.open_volumes().unwrap(),
        log: (0..4).flat_map(|height| store.log(Height(height)).unwrap()).collect(),
        tip,
    }
}

/// What is read equals what the tree proves.
fn check_tree(store: &Store) {
    let Some(tip) = store.tip().unwrap() else { return };
    let reader = store.reader().unwrap();
    let (height, root) = (tip.header.height, tip.header.state);
    assert_eq!(reader.root(height).unwrap(), root);
    for (key, value) in reader.range(&[0], &[u8::MAX], usize::MAX).unwrap() {
        let (_, proof) = reader.prove(&key, height).unwrap();
        assert!(proof.verify(&root, &key, Some(&value)));
    }
}

type Step = fn(&Store) -> Result<(), Error>;

/// A little of everything, with pruning from the third checkpoint on.
const STEPS: [Step; 7] = [
    |store| {
        let mut genesis = next(store, many(12, 0));
        genesis.opened = vec![volume(0)];
        store.commit(&genesis)
    },
    |store| {
        let (first, (id, operation)) = (change(volume(0), None, 0), operation(0));
        let log = Record::Log { height: Height(1), entry: b"vote".to_vec() };
        let change = Record::Change(first.id, Box::new(first.change));
        store.write(vec![change, Record::Promise(id, Box::new(operation)), log])
    },
    |store| {
        let first = change(volume(0), None, 0);
        let mut finalised = next(store, many(6, 1));
        cut_at(&mut finalised, &first);
        finalised.executed.receipts = vec![receipt(operation(0).0, 1)];
        finalised.changes = vec![first];
        store.commit(&finalised)
    },
    |store| store.commit(&next(store, support::writes([("commitments/00000003", "")]))),
    |store| {
        let log = Record::Log { height: Height(3), entry: b"vote".to_vec() };
        store.write(vec![log])
    },
    |store| {
        let mut finalised = next(store, many(8, 2));
        (finalised.closed, finalised.opened) = (vec![volume(0)], vec![volume(1)]);
        store.commit(&finalised)
    },
    |store| store.commit(&next(store, many(20, 3))),
];

fn open(disk: &Disk) -> Result<Store, Error> {
    Store::open_backend(disk.clone(), &chain(), config(2))
}

/// Runs the steps until the power goes; how many were done.
fn run(disk: &Disk) -> usize {
    let Ok(store) = open(disk) else { return 0 };
    STEPS.iter().take_while(|step| step(&store).is_ok()).count()
}

#[test]
fn power_cut_at_any_operation_leaves_the_state_before_or_after() {
    let store = memory(2);
    let mut expected = vec![find(&store)];
    for step in STEPS {
        step(&store).unwrap();
        expected.push(find(&store));
    }
    let whole = Disk::with_store();
    assert_eq!(run(&whole), STEPS.len());
    let (mut before, mut after) = (0, 0);
    for at in 0..whole.operations() {
        let disk = Disk::cutting_at(at);
        let done = run(&disk);
        for loss in
            [Loss::All, Loss::None, Loss::Some(at as u64 + 1), Loss::Some(at as u64 + 1_000_003)]
        {
            let store = open(&disk.after(loss)).unwrap();
            let found = find(&store);
            let steps = if found == expected[done] { done } else { done + 1 };
            assert_eq!(found, expected[steps], "power cut at {at}, {loss:?}");
            if steps == done {
                before += 1;
            } else {
                after += 1;
            }
            check_tree(&store);
            for step in &STEPS[steps..] {
                step(&store).unwrap();
            }
            assert_eq!(find(&store), expected[STEPS.len()], "power cut at {at}, {loss:?}");
        }
    }
    assert!(before > 20 && after > 0, "{before} before, {after} after");
}

#[test]
fn power_cut_while_a_snapshot_is_restored_costs_a_piece() {
    let source = memory(10);
    let root = advance(&source, many(40, 0));
    let decision = source.tip().unwrap().unwrap();
    let restore = |store: &Store| -> Result<u64, Error> {
        let mut restore = Restore::begin(store, Height(0), root)?;
        while !restore.progress().complete {
            let chunk = source.snapshot_chunk(Height(0), restore.after(), 17_500).unwrap();
            restore.add(&chunk)?;
        }
        let chunks = restore.progress().chunks;
        restore.finish(&decision, &[])?;
        Ok(chunks)
    };
    let whole = Disk::with_store();
    let chunks = restore(&open(&whole).unwrap()).unwrap();
    assert!(chunks > 4, "{chunks} pieces");
    for at in 0..whole.operations() {
        let disk = Disk::cutting_at(at);
        let _ = open(&disk).and_then(|store| restore(&store));
        let store = open(&disk.after(Loss::Some(at as u64 + 1))).unwrap();
        match restore(&store) {
            Ok(again) => assert!(again <= chunks * 2, "{again} pieces"),
            Err(error) => assert!(matches!(error, Error::NotEmpty), "{error}"),
        }
        assert_eq!(store.tip().unwrap().as_ref(), Some(&decision));
        check_tree(&store);
    }
}
