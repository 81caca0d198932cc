//! How a ledger begins: from genesis, from what a restart finds, or from a snapshot's state.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lamina_certificate::{Evidence, Genesis, GenesisError, OperatorSet, PublicKey, Signature};
use lamina_ledger::book::{Books, Limits, VerifiedChange};
use lamina_ledger::finality::{Engine, LogEntry, Signer};
use lamina_ledger::history::Mmr;
use lamina_ledger::state::operators::{self, Sets};
use lamina_ledger::state::{Executed, Scope, next_timer};
use lamina_ledger::system::{self, FinalVolume};
use lamina_ledger::{Decision, Finalised, StateReader, StorageError};
use lamina_types::{
    BookId, Canonical as _, CheckpointHeader, Cut, Digest, EpochNumber, EthereumBlock, HeaderId,
    Height, OperationId, PeerKey, SignedOperation, Timestamp, VolumeId,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use super::apply::history_nodes;
use super::epochs::{Epochs, PAST_EPOCHS_KEPT};
use super::ethereum::Ethereum;
use super::outbox::Outbox;
use super::pace::Pace;
use super::reports::Reports;
use super::{AccountSigner, Ledger, LedgerAction, LedgerConfig, LedgerMetrics, Registry, Tip};
use crate::CheckpointView;

/// What a ledger begins with.
pub struct LedgerStart {
    /// Bounds and intervals.
    pub config: LedgerConfig,
    /// What this node signs with; `None` if it's no operator.
    pub signer: Option<Arc<dyn Signer + Sync>>,
    /// What it pays with for what it does by itself; `None` if it does nothing by itself.
    pub account: Option<Arc<dyn AccountSigner + Sync>>,
    /// The last checkpoint that's committed; at least genesis.
    pub tip: CheckpointHeader,
    /// What the state says of history and books.
    pub restored: Restored,
    /// Changes that aren't final, in the order in which they were stored.
    pub changes: Vec<VerifiedChange>,
    /// Operations that this node promised.
    pub promises: Vec<(OperationId, SignedOperation)>,
    /// Canonical bytes of the evidence that it kept.
    pub evidence: Vec<Vec<u8>>,
    /// What the consensus logged for the height after the tip.
    pub log: Vec<LogEntry>,
    /// The first checkpoint that the store can send with all its changes.
    pub first: Height,
}

impl std::fmt::Debug for LedgerStart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LedgerStart").field("tip", &self.tip).finish_non_exhaustive()
    }
}

/// What the state itself says of history and books, as of its checkpoint.
#[derive(Debug, Clone)]
pub struct Restored {
    /// All headers before the checkpoint's own.
    pub history: Mmr,
    /// The open volumes.
    pub volumes: Vec<(BookId, FinalVolume)>,
    /// The operator sets of the last epochs, and of those to come as far as they're known, ascending, each with the first
    /// checkpoint that it signs.
    pub epochs: Vec<(Height, Arc<OperatorSet>)>,
    /// The first moment at which the state has something to do by itself.
    pub next_timer: Option<Timestamp>,
    /// What tasks need of it ([`Registry::all`]).
    pub view: CheckpointView,
}

impl Restored {
    /// Reads it.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn read(reader: &impl StateReader, registry: &Registry) -> Result<Self, StorageError> {
        Ok(Self {
            history: system::history(reader)?,
            volumes: system::books(reader)?,
            epochs: epochs(reader)?,
            next_timer: next_timer(reader)?,
            view: registry.all(reader)?,
        })
    }
}

/// The last epochs of a state, ascending.
fn epochs(reader: &impl StateReader) -> Result<Vec<(Height, Arc<OperatorSet>)>, StorageError> {
    let (scope, sets) = (Scope::new(reader), Sets::default());
    let mut epochs = Vec::new();
    // The latest come first.
    let mut past = 0;
    for first in operators::epoch_starts(&scope)? {
        past += usize::from(first.0 <= reader.version());
        if past > PAST_EPOCHS_KEPT {
            break;
        }
        let number = operators::epoch_at(&scope, first)?;
        let set = number.map(|number| sets.of_epoch(&scope, number)).transpose()?.flatten();
        let set = set.ok_or_else(|| StorageError(format!("the epoch of height {first}")))?;
        epochs.push((first, set));
    }
    epochs.reverse();
    Ok(epochs)
}

/// Checkpoint 0, as it's written.
///
/// # Errors
/// [`GenesisError`]: the operators don't hold.
pub fn genesis_checkpoint(
    genesis: &Genesis,
    executed: Executed,
) -> Result<Finalised, GenesisError> {
    let epochs = genesis.epochs()?.into_iter();
    let epochs = Epochs::new(epochs.map(|(from, set)| (from, Arc::new(set))));
    let cut = Cut::default();
    let header = CheckpointHeader {
        epoch: EpochNumber(0),
        height: Height(0),
        previous: HeaderId::default(),
        history: Mmr::default().root(),
        cut: cut.digest(),
        state: executed.state,
        claims: executed.claims,
        results: executed.results,
        ethereum: EthereumBlock::default(),
        time: genesis.ledger.time,
        operators: epochs.root(Height(0)),
        next_operators: epochs.root(Height(1)),
    };
    let history_nodes = history_nodes(Mmr::default(), &header.id(&genesis.chain_id));
    Ok(Finalised {
        decision: Decision { header, certificate: None, cut },
        executed,
        opened: Vec::new(),
        changes: Vec::new(),
        closed: Vec::new(),
        dropped: Vec::new(),
        history_nodes,
        handover: None,
    })
}

impl Ledger {
    /// A ledger as it was left.
    pub(crate) fn new(
        genesis: &Genesis,
        key: PeerKey,
        start: LedgerStart,
        mut rng: ChaCha20Rng,
        now: Timestamp,
    ) -> Self {
        let context = genesis.signing_context();
        let epochs = Epochs::new(start.restored.epochs.iter().cloned());
        let engine_rng = ChaCha20Rng::from_rng(&mut rng);
        let signer = start.signer.clone();
        let tip = Tip { id: start.tip.id(&context.chain), header: start.tip };
        let writer = signer.is_some().then_some(key);
        let config = start.config;
        let pace = Pace::new(config.evaluation_target, config.operations_per_checkpoint_max);
        let mut ledger = Self {
            engine: Engine::new(
                lamina_ledger::finality::Config::default(),
                context.chain.clone(),
                key,
                signer.clone().map(|signer| Box::new(Shared(signer)) as Box<dyn Signer>),
                engine_rng,
            ),
            books: Books::new(Limits::default(), writer, BTreeSet::new()),
            interval: Duration::from_millis(genesis.ledger.interval_ms),
            idle_interval: Duration::from_millis(genesis.ledger.idle_interval_ms),
            ethereum: Ethereum::new(
                genesis.ethereum.as_ref().map(|ethereum| ethereum.stride),
                config.ethereum_settling,
            ),
            config,
            context,
            key,
            signer,
            epochs,
            rng,
            history: Mmr::default(),
            tip: tip.clone(),
            first: start.first,
            next_timer: None,
            log: start.log,
            started: false,
            called: false,
            committed_at: Timestamp(0),
            outbox: Outbox::default(),
            promises: BTreeMap::new(),
            to_compose: VecDeque::new(),
            compose_at: None,
            to_carry: BTreeMap::new(),
            sequences: BTreeMap::new(),
            submissions: BTreeMap::new(),
            promised: BTreeMap::new(),
            reports: Reports::new(start.account, genesis.ledger.fees.clone(), now),
            evaluations: BTreeMap::new(),
            judgements: BTreeMap::new(),
            wanted: None,
            pace,
            unsaved: BTreeSet::new(),
            wary: false,
            decision: None,
            ahead: VecDeque::new(),
            peers: BTreeMap::new(),
            snapshot: None,
            asked: BTreeSet::new(),
            next_id: 0,
            actions: VecDeque::new(),
            metrics: LedgerMetrics::default(),
            now,
        };
        ledger.resume_from(tip, start.restored);
        ledger.resume_changes(start.changes);
        ledger.resume_promises(start.promises);
        for evidence in start.evidence.iter().filter_map(|bytes| Evidence::from_bytes(bytes).ok()) {
            ledger.report_evidence(&evidence);
        }
        ledger
    }

    /// Goes on from a state.
    pub(super) fn resume_from(&mut self, tip: Tip, restored: Restored) {
        let mut history = restored.history;
        history.append(&tip.id);
        self.history = history;
        self.next_timer = restored.next_timer;
        self.epochs = Epochs::new(restored.epochs);
        self.tip = tip;
        self.ethereum.forget_to(&self.tip.header.ethereum);
        self.set_authors();
        for (book, FinalVolume { volume, lanes }) in restored.volumes {
            self.books.restore(VolumeId { book, volume }, lanes, Vec::new());
        }
        self.evaluations.clear();
        self.judgements.clear();
        self.wanted = None;
        self.decision = None;
        self.started = false;
        self.act(LedgerAction::View(Box::new(restored.view)));
    }

    fn resume_changes(&mut self, mut changes: Vec<VerifiedChange>) {
        changes.sort_by_key(|change| change.change().number);
        for change in changes {
            for (id, signed) in change.operations() {
                self.remember_sequence(id, signed);
            }
            // What's closed or final meanwhile is refused, and so it should be.
            let _ = self.books.insert(change);
        }
    }

    fn resume_promises(&mut self, promises: Vec<(OperationId, SignedOperation)>) {
        for (id, signed) in promises {
            self.remember_sequence(id, &signed);
            self.promises.insert(id, signed);
            if !self.books.contains(&id) {
                self.take_up(id);
            }
        }
    }
}

/// The engine's share of this node's keys.
struct Shared(Arc<dyn Signer + Sync>);

impl Signer for Shared {
    fn bls_public_key(&self) -> PublicKey {
        self.0.bls_public_key()
    }

    fn bls(&self, message: &Digest) -> Signature {
        self.0.bls(message)
    }

    fn ed25519(&self, message: &Digest) -> [u8; 64] {
        self.0.ed25519(message)
    }
}
