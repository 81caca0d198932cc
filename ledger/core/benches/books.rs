//! What a volume's document costs: from verified changes, beside Automerge alone applying the same changes, ready-made.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ed25519_dalek::{Signer as _, SigningKey};
use lamina_ledger::book::{Document, Draft, VerifiedChange, verify_with};
use lamina_types::account::SigningContext;
use lamina_types::{
    AccountKey, Action, Address, Amount, Asset, BookId, ChangeId, List, Operation, PeerKey,
    Timestamp, VolumeId,
};

/// Operations of the document: the most that a volume should ever hold.
const OPERATIONS: u64 = 4000;
/// Operations of one change.
const PER_CHANGE: u64 = 50;
/// Changes that come at once, with a checkpoint.
const BATCH: usize = 20;
const VOLUME: VolumeId = VolumeId { book: BookId::Network, volume: 0 };

fn lane() -> Vec<VerifiedChange> {
    let context =
        SigningContext { chain: "bench-1".parse().expect("a chain id"), ethereum_chain: 1 };
    let account = AccountKey::from_bytes(&[7; 32]).expect("below the order");
    let author = SigningKey::from_bytes(&[1; 32]);
    let mut previous = ChangeId::default();
    let change = |number: u64| {
        let operations = (0..PER_CHANGE).map(|index| {
            let action =
                Action::Transfer { to: Address([1; 20]), asset: Asset::Ether, amount: Amount(1) };
            let sequence = number * PER_CHANGE + index;
            let (valid_until, fee_max) = (Timestamp(1), Amount(1));
            Operation { account: account.address(), sequence, valid_until, fee_max, action }
                .sign(&account, &context)
        });
        let operations = List::truncated(operations);
        let author_key = PeerKey(author.verifying_key().to_bytes());
        let draft = Draft { volume: VOLUME, author: author_key, number, previous, operations };
        let signed = draft.sign(&context, &|digest| author.sign(&digest.0).to_bytes());
        let verified = verify_with(signed, &context, &|_, _| true).expect("it's ours");
        previous = verified.id();
        verified
    };
    (1..=OPERATIONS / PER_CHANGE).map(change).collect()
}

fn document(c: &mut Criterion) {
    let lane = lane();
    let mut whole = Document::new(&VOLUME);
    whole.extend(&lane).expect("one lane");
    let genesis = Document::new(&VOLUME).automerge().clone();
    let ready = whole.automerge().get_changes(&genesis.get_heads());
    let mut group = c.benchmark_group("document");
    group.throughput(Throughput::Elements(OPERATIONS)).sample_size(10);
    for (name, batch) in [("batches", BATCH), ("one batch", lane.len())] {
        group.bench_function(format!("ours/{name}"), |b| {
            b.iter(|| {
                let mut document = Document::new(&VOLUME);
                for changes in lane.chunks(batch) {
                    document.extend(changes).expect("one lane");
                }
                black_box(document.heads())
            });
        });
        group.bench_function(format!("automerge/{name}"), |b| {
            b.iter_batched(
                || (genesis.clone(), ready.clone()),
                |(mut document, ready)| {
                    for changes in ready.chunks(batch) {
                        document.apply_changes(changes.to_vec()).expect("they were applied before");
                    }
                    black_box(document.get_heads())
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, document);
criterion_main!(benches);
