//! What certificates cost, beside the pairing check that bounds them from below.

use criterion::{Criterion, criterion_group, criterion_main};
use lamina_certificate::{
    Attestation, OperatorRecord, OperatorSet, SecretKey, VerifiedTaskCertificate,
    verify_attestations,
};
use lamina_types::{Address, Digest, EpochNumber, OperatorIndex, PeerKey, TaskId};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

const TASK: TaskId = TaskId([7; 32]);
const OUTCOME: Digest = Digest([8; 32]);

fn bench(c: &mut Criterion) {
    for count in [4u8, 100] {
        let (set, attestations) = network(count);
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let verified: Vec<_> =
            verify_attestations(&set, &attestations, &mut rng).into_iter().flatten().collect();
        let certificate = VerifiedTaskCertificate::aggregate(&set, &verified).expect("a quorum");
        c.bench_function(&format!("verify_one/signers={count}"), |b| {
            b.iter(|| attestations[0].verify(&set));
        });
        c.bench_function(&format!("verify_batch/signers={count}"), |b| {
            b.iter(|| verify_attestations(&set, &attestations, &mut rng));
        });
        c.bench_function(&format!("verify_certificate/signers={count}"), |b| {
            b.iter(|| certificate.get().clone().verify(&set));
        });
    }
}

fn network(count: u8) -> (OperatorSet, Vec<Attestation>) {
    let chain: lamina_types::ChainId = "lamina-bench-1".parse().expect("a chain id");
    let keys: Vec<_> = (1..=count).map(|i| SecretKey::derive(&[i; 32])).collect();
    let records: Vec<_> = (1..=count)
        .zip(&keys)
        .map(|(i, key)| OperatorRecord::new(&chain, Address([i; 20]), PeerKey([i; 32]), key, 32))
        .collect();
    let set = OperatorSet::new(chain, EpochNumber(0), &records).expect("records hold");
    let attestations = (0..)
        .zip(&keys)
        .map(|(i, key)| Attestation::sign(&set, OperatorIndex(i), key, TASK, OUTCOME))
        .collect();
    (set, attestations)
}

criterion_group!(benches, bench);
criterion_main!(benches);
