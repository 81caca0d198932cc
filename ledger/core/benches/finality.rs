//! What a height costs one operator, of those who don't propose: a proposal, everyone's prevotes and precommits, and the
//! certificate. Judging the value isn't in it.

use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use ed25519_dalek::{Signer as _, SigningKey};
use lamina_certificate::{OperatorRecord, OperatorSet, SecretKey, Signature};
use lamina_ledger::finality::{
    Config, ConsensusMessage, Engine, Input, Output, Proposal, Signer, Value, Vote, VoteSignature,
};
use lamina_types::{
    Address, ChainId, CheckpointHeader, Cut, Digest, EpochNumber, EthereumBlock, HeaderId, Height,
    OperatorIndex, PeerKey, Timestamp, signing,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

const EPOCH: EpochNumber = EpochNumber(0);
/// The second operator proposes; the first one is measured.
const HEIGHT: Height = Height(1);

fn bench(c: &mut Criterion) {
    for count in [4, 32, 100] {
        let network = Network::new(count);
        c.bench_function(&format!("decide/operators={count}"), |b| {
            b.iter_batched(|| network.engine(), |e| network.decide(e), BatchSize::SmallInput);
        });
    }
}

#[derive(Clone)]
struct Keys {
    bls: SecretKey,
    node: SigningKey,
}

impl Signer for Keys {
    fn bls_public_key(&self) -> lamina_certificate::PublicKey {
        self.bls.public_key()
    }

    fn bls(&self, message: &Digest) -> Signature {
        self.bls.sign(message)
    }

    fn ed25519(&self, message: &Digest) -> [u8; 64] {
        self.node.sign(&message.0).to_bytes()
    }
}

struct Network {
    set: Arc<OperatorSet>,
    keys: Vec<Keys>,
    header: HeaderId,
    messages: Vec<ConsensusMessage>,
}

impl Network {
    fn new(count: u8) -> Self {
        let chain: ChainId = "lamina-bench-1".parse().expect("a chain id");
        let keys: Vec<_> = (1..=count)
            .map(|i| Keys {
                bls: SecretKey::derive(&[i; 32]),
                node: SigningKey::from_bytes(&[i; 32]),
            })
            .collect();
        let record = |(i, keys): (u8, &Keys)| {
            OperatorRecord::new(&chain, Address([i; 20]), peer(keys), &keys.bls, 32)
        };
        let records: Vec<_> = (1..).zip(&keys).map(record).collect();
        let set = OperatorSet::new(chain.clone(), EPOCH, &records).expect("records hold");
        let value = value();
        let header = value.header.id(&chain);
        let digest = signing::checkpoint_proposal(&chain, EPOCH, HEIGHT, 0, None, &header);
        let (proposer, signature) = (OperatorIndex(1), keys[1].ed25519(&digest));
        let proposal =
            Proposal { height: HEIGHT, round: 0, valid_round: None, value, proposer, signature };
        let vote = |operator, signature| {
            let (height, header) = (HEIGHT, Some(header));
            let operator = OperatorIndex(operator);
            ConsensusMessage::Vote(Vote { height, round: 0, header, operator, signature })
        };
        let prevote = signing::prevote(&chain, EPOCH, HEIGHT, 0, Some(&header));
        let precommit = signing::precommit(&chain, EPOCH, HEIGHT, 0, Some(&header));
        let others = || (0..).zip(&keys).skip(1);
        let mut messages = vec![ConsensusMessage::Proposal(Box::new(proposal))];
        messages.extend(
            others().map(|(i, keys)| vote(i, VoteSignature::Prevote(keys.ed25519(&prevote)))),
        );
        messages.extend(
            others().map(|(i, keys)| {
                vote(i, VoteSignature::Precommit(keys.bls(&precommit).to_bytes()))
            }),
        );
        Self { set: Arc::new(set), keys, header, messages }
    }

    fn engine(&self) -> Engine {
        let config = Config { gather: Duration::ZERO, ..Config::default() };
        let signer: Box<dyn Signer> = Box::new(self.keys[0].clone());
        let rng = ChaCha20Rng::seed_from_u64(1);
        let key = peer(&self.keys[0]);
        let mut engine = Engine::new(config, self.set.chain().clone(), key, Some(signer), rng);
        engine.start(Timestamp(0), HEIGHT, Arc::clone(&self.set), Vec::new());
        engine
    }

    fn decide(&self, mut engine: Engine) {
        let from = PeerKey([0; 32]);
        for message in self.messages.iter().cloned() {
            let is_proposal = matches!(message, ConsensusMessage::Proposal(_));
            engine.handle(Timestamp(1), Input::Message { from, message });
            if is_proposal {
                let judged = Input::Judged { header: self.header, valid: true };
                engine.handle(Timestamp(1), judged);
            }
        }
        let decided = |output| matches!(output, Output::Decided { .. });
        assert!(std::iter::from_fn(|| engine.poll()).any(decided), "nothing was decided");
    }
}

fn peer(keys: &Keys) -> PeerKey {
    PeerKey(keys.node.verifying_key().to_bytes())
}

fn value() -> Value {
    let (cut, zero) = (Cut::default(), Digest([0; 32]));
    let header = CheckpointHeader {
        epoch: EPOCH,
        height: HEIGHT,
        previous: HeaderId([0; 32]),
        history: zero,
        cut: cut.digest(),
        state: zero,
        claims: zero,
        results: zero,
        ethereum: EthereumBlock::default(),
        time: Timestamp(1),
        operators: zero,
        next_operators: zero,
    };
    Value { header, cut }
}

criterion_group!(benches, bench);
criterion_main!(benches);
