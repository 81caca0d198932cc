//! A ledger in small: keys and values, executed as the state machine does it, and committed.

#![allow(dead_code, reason = "no test uses all of it")]

use jmt::Sha256Jmt;
use lamina_certificate::{CheckpointCertificate, SecretKey, SignerBitmap};
use lamina_ledger::state::{Executed, Receipt, Writes, tree};
use lamina_ledger::{Decision, FinalChange, Finalised};
use lamina_ledger_store::{Config, Store};
use lamina_types::account::SigningContext;
use lamina_types::{
    AccountKey, Action, Address, Amount, Asset, BookCut, BookId, ChainId, Change, CheckpointHeader,
    Cut, Digest, EpochNumber, HeaderId, Height, LaneHead, List, Operation, OperationId, PeerKey,
    SignedOperation, Timestamp, VolumeId,
};

pub(crate) fn chain() -> ChainId {
    "lamina-test-1".parse().unwrap()
}

/// Small enough that pages come and go.
pub(crate) fn config(keep_versions: u64) -> Config {
    Config { cache_bytes: 1024 * 1024, keep_versions }
}

pub(crate) fn memory(keep_versions: u64) -> Store {
    let backend = redb::backends::InMemoryBackend::new();
    Store::open_backend(backend, &chain(), config(keep_versions)).unwrap()
}

/// What the state machine would do, with `writes` for operations.
pub(crate) fn execute(store: &Store, writes: Writes) -> Executed {
    let reader = store.reader().unwrap();
    let version = reader.height().map_or(0, |height| height.0 + 1);
    let hashed = |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| {
        (tree::key_hash(key), value.as_deref().map(tree::in_tree))
    };
    let hashed = writes.iter().map(hashed);
    let (root, tree) = Sha256Jmt::new(&reader).put_value_set(hashed, version).unwrap();
    Executed {
        state: Digest(root.0),
        claims: Digest([1; 32]),
        results: Digest([2; 32]),
        writes,
        tree,
        receipts: Vec::new(),
        outcomes: Vec::new(),
    }
}

pub(crate) fn finalised(height: u64, executed: Executed) -> Finalised {
    let cut = Cut::default();
    let header = CheckpointHeader {
        epoch: EpochNumber(0),
        height: Height(height),
        previous: HeaderId::default(),
        history: Digest::default(),
        cut: cut.digest(),
        state: executed.state,
        claims: executed.claims,
        results: executed.results,
        ethereum: Default::default(),
        time: Timestamp(height),
        operators: Digest::default(),
        next_operators: Digest::default(),
    };
    let certificate = (height > 0).then(|| certificate(&header));
    Finalised {
        decision: Decision { header, certificate, cut },
        executed,
        opened: Vec::new(),
        changes: Vec::new(),
        closed: Vec::new(),
        dropped: Vec::new(),
        history_nodes: Vec::new(),
        handover: None,
    }
}

/// The store doesn't check signatures.
fn certificate(header: &CheckpointHeader) -> CheckpointCertificate {
    let key = SecretKey::derive(&[7; 32]);
    CheckpointCertificate {
        epoch: header.epoch,
        height: header.height,
        round: 0,
        header: header.id(&chain()),
        signers: SignerBitmap::empty(4),
        signature: key.sign(&Digest([1; 32])),
    }
}

/// Executes and commits the next checkpoint; returns its state root.
pub(crate) fn advance(store: &Store, writes: Writes) -> Digest {
    let next = next(store, writes);
    store.commit(&next).unwrap();
    next.executed.state
}

/// The next checkpoint.
pub(crate) fn next(store: &Store, writes: Writes) -> Finalised {
    let height = store.reader().unwrap().height().map_or(0, |height| height.0 + 1);
    finalised(height, execute(store, writes))
}

/// Sets or (with an empty value) removes keys.
pub(crate) fn writes<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Writes {
    let write = |(key, value): (&str, &str)| {
        (key.into(), (!value.is_empty()).then(|| value.as_bytes().to_vec()))
    };
    entries.into_iter().map(write).collect()
}

/// So many keys, of which each checkpoint has its own values.
pub(crate) fn many(count: u64, salt: u64) -> Writes {
    let write = |i: u64| {
        let key = format!("commitments/{i:08}").into_bytes();
        let digest = Digest::of(&[i.to_be_bytes(), salt.to_be_bytes()].concat()).0;
        (key, Some([digest, digest].concat()))
    };
    (0..count).map(write).collect()
}

pub(crate) fn context() -> SigningContext {
    SigningContext { chain: chain(), ethereum_chain: 1 }
}

pub(crate) fn operation(sequence: u64) -> (OperationId, SignedOperation) {
    let key = AccountKey::from_bytes(&[7; 32]).unwrap();
    let action = Action::Transfer { to: Address([1; 20]), asset: Asset::Ether, amount: Amount(1) };
    let operation = Operation {
        account: key.address(),
        sequence,
        valid_until: Timestamp(1),
        fee_max: Amount(0),
        action,
    };
    (operation.id(&context()), operation.sign(&key, &context()))
}

pub(crate) fn receipt(operation: OperationId, height: u64) -> Receipt {
    Receipt {
        operation,
        height: Height(height),
        account: Address([1; 20]),
        sequence: 0,
        fee: Amount(0),
        refusal: None,
    }
}

pub(crate) fn volume(number: u32) -> VolumeId {
    VolumeId { book: BookId::Network, volume: number }
}

pub(crate) const AUTHOR: PeerKey = PeerKey([5; 32]);

/// The lane's next change, with one operation.
pub(crate) fn change(
    volume: VolumeId,
    previous: Option<&FinalChange>,
    sequence: u64,
) -> FinalChange {
    let (id, operation) = operation(sequence);
    let change = Change {
        volume,
        author: AUTHOR,
        number: previous.map_or(1, |change| change.change.number + 1),
        previous: previous.map(|change| change.id).unwrap_or_default(),
        operations: List::new(vec![operation]).unwrap(),
        signature: [0; 64],
    };
    FinalChange { id: change.head().id(&chain()), change, operations: vec![id] }
}

/// Gives the checkpoint a cut that ends at this change.
pub(crate) fn cut_at(finalised: &mut Finalised, change: &FinalChange) {
    let head = LaneHead { author: AUTHOR, number: change.change.number, change: change.id };
    let VolumeId { book, volume } = change.change.volume;
    let book = BookCut { book, volume, lanes: List::new(vec![head]).unwrap() };
    let cut = Cut { books: List::new(vec![book]).unwrap() };
    finalised.decision.header.cut = cut.digest();
    finalised.decision.cut = cut;
}
