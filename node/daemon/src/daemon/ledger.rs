//! The ledger's thread: evaluates and commits checkpoints, keeps changes and promises, one after the other in the node's order.
//!
//! What an evaluation came to is kept here until the checkpoint is committed or forgotten. Records that wait together are
//! written in one transaction. Peers' questions for what's stored are answered beside it, from consistent reads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use anyhow::Context as _;
use lamina_certificate::{
    Checkpoint, Genesis, OperatorSet, PublicKey, RecordProof, SecretKey, Signature, results,
};
use lamina_ledger::book::{self, VerifiedChange};
use lamina_ledger::finality::{LogEntry, Signer};
use lamina_ledger::state::operators::Sets;
use lamina_ledger::state::{Executed, Machine, Scope, next_timer, tasks};
use lamina_ledger::{Decision, Record, StateReader as _};
use lamina_ledger_store::{Config, Error, Order, Store};
use lamina_node_core::{
    AccountSigner, Commitment, Evaluated, Event, LedgerConfig, LedgerEvent, LedgerStart,
    LedgerWork, Registry, Restored, SnapshotPart, SnapshotProgress, genesis_checkpoint,
};
use lamina_p2p::{PAGE_BYTES_MAX, Request, Response};
use lamina_p2p_net::{Handle, InboundId};
use lamina_types::account::SigningContext;
use lamina_types::{
    AccountKey, Address, Bytes, Canonical, ChainId, Change, Cut, Digest, EpochNumber, Height, List,
    Operation, ServiceId, SignedOperation, TaskId,
};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::snapshot::{Snapshot, Step};

/// Work that waits for the thread. When it's full the node waits, and stops taking messages: nothing is lost.
pub(crate) const QUEUE_MAX: usize = 1024;

/// What's stored, for those who only read.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    /// Another one takes its place with a snapshot.
    store: Arc<RwLock<Arc<Store>>>,
    chain: ChainId,
}

/// The thread's own.
pub(crate) struct Ledger {
    archive: Archive,
    path: PathBuf,
    config: Config,
    store: Arc<Store>,
    snapshot: Option<Snapshot>,
    machine: Machine,
    evaluations: BTreeMap<u64, Executed>,
    registry: Registry,
}

/// Opens the ledger of `genesis` in `folder`, beginning it if it's new, and tells what the node goes on from, but for who
/// signs.
pub(crate) fn open(
    folder: &Path,
    genesis: &Genesis,
    config: LedgerConfig,
    store_config: Config,
) -> anyhow::Result<(Ledger, Archive, LedgerStart)> {
    let path = folder.join("ledger.redb");
    let store = Arc::new(
        Store::open(&path, &genesis.chain_id, store_config.clone())
            .with_context(|| format!("opening {}", path.display()))?,
    );
    let machine = lamina_ledger::state::machine(genesis, Vec::new());
    if store.tip()?.is_none() {
        let executed = machine.genesis(&store.reader()?, genesis)?;
        store.commit(&genesis_checkpoint(genesis, executed)?)?;
    }
    let tip = store.tip()?.context("the ledger has no checkpoint, not even genesis")?.header;
    let registry = Registry::default();
    let reader = store.reader()?;
    let context = genesis.signing_context();
    let changes = store.pending_changes()?.into_iter();
    // What was written here was verified before; a disk that returns something else is found out all the same.
    let changes: Vec<VerifiedChange> = changes
        .map(|(_, change)| book::verify(change, &context).context("a change on disk doesn't hold"))
        .collect::<anyhow::Result<_>>()?;
    let next = Height(tip.height.0 + 1);
    let log = store.log(next)?;
    let start = LedgerStart {
        config,
        signer: None,
        account: None,
        restored: Restored::read(&reader, &registry)?,
        tip,
        changes,
        promises: store.promises()?,
        evidence: store.evidence(usize::MAX)?,
        log: log
            .iter()
            .map(|bytes| LogEntry::from_bytes(bytes))
            .collect::<Result<_, _>>()
            .context("the consensus's log on disk")?,
        first: first(&store)?,
    };
    let archive =
        Archive { store: Arc::new(RwLock::new(store.clone())), chain: genesis.chain_id.clone() };
    let ledger = Ledger {
        archive: archive.clone(),
        path,
        config: store_config,
        store,
        snapshot: None,
        machine,
        evaluations: BTreeMap::new(),
        registry,
    };
    Ok((ledger, archive, start))
}

/// The first checkpoint that is here with all its changes: those of the oldest may be missing.
fn first(store: &Store) -> Result<Height, Error> {
    let oldest = store.checkpoints(.., 1, Order::OldestFirst)?;
    Ok(oldest.first().map_or(Height(0), |decision| Height(decision.header.height.0 + 1)))
}

impl Ledger {
    /// Starts the thread. It ends when the sender of `work` is dropped, and stops the node by dropping `done` when the disk
    /// fails: a node that can't keep what it promises must not go on.
    pub(crate) fn start(
        mut self,
        mut work: mpsc::Receiver<LedgerWork>,
        done: mpsc::UnboundedSender<Event>,
    ) -> std::io::Result<JoinHandle<Result<(), Error>>> {
        std::thread::Builder::new().name("ledger".into()).spawn(move || {
            let mut batch = Vec::new();
            while work.blocking_recv_many(&mut batch, QUEUE_MAX) > 0 {
                let events = self.carry_out(std::mem::take(&mut batch)).inspect_err(|error| {
                    tracing::error!(%error, "the ledger can't be kept; the node stops");
                })?;
                for event in events {
                    let _ = done.send(Event::Ledger(event));
                }
            }
            Ok(())
        })
    }

    fn carry_out(&mut self, batch: Vec<LedgerWork>) -> Result<Vec<LedgerEvent>, Error> {
        let mut events = Vec::with_capacity(batch.len());
        let (mut ids, mut records) = (Vec::new(), Vec::new());
        for work in batch {
            if let LedgerWork::Store(id, more) = work {
                ids.push(id);
                records.extend(more);
                continue;
            }
            // What comes later may build on what was stored before.
            self.write(&mut ids, &mut records, &mut events)?;
            events.extend(self.one(work)?);
        }
        self.write(&mut ids, &mut records, &mut events)?;
        Ok(events)
    }

    fn write(
        &self,
        ids: &mut Vec<u64>,
        records: &mut Vec<Record>,
        events: &mut Vec<LedgerEvent>,
    ) -> Result<(), Error> {
        if !ids.is_empty() {
            self.store.write(std::mem::take(records))?;
            events.extend(ids.drain(..).map(LedgerEvent::Stored));
        }
        Ok(())
    }

    fn one(&mut self, work: LedgerWork) -> Result<Option<LedgerEvent>, Error> {
        Ok(match work {
            LedgerWork::Evaluate(id, input) => {
                let reader = self.store.reader()?;
                // Of a checkpoint that was decided otherwise meanwhile: nobody waits for it.
                if reader.version() + 1 != input.height.0 {
                    return Ok(None);
                }
                let executed = self.machine.execute(&reader, &input)?;
                let evaluated = Evaluated {
                    state: executed.state,
                    claims: executed.claims,
                    results: executed.results,
                };
                self.evaluations.insert(id, executed);
                Some(LedgerEvent::Evaluated(id, Box::new(evaluated)))
            }
            LedgerWork::Forget(id) => {
                self.evaluations.remove(&id);
                None
            }
            LedgerWork::Commit(commitment) => Some(self.commit(*commitment)?),
            LedgerWork::Precheck { id, operation, signed } => {
                let reader = self.store.reader()?;
                Some(LedgerEvent::Prechecked(
                    id,
                    self.machine.precheck(&reader, operation, &signed, super::now())?,
                ))
            }
            LedgerWork::Rehearse { account, action } => {
                let reader = self.store.reader()?;
                let (next, result) =
                    self.machine.rehearse(&reader, account, *action, super::now())?;
                Some(LedgerEvent::Rehearsed { next, result })
            }
            LedgerWork::Restore { checkpoint, part } => {
                Some(LedgerEvent::Restored(self.restore(*checkpoint, part)?))
            }
            LedgerWork::Store(..) | LedgerWork::Answer { .. } | LedgerWork::Halt(_) => None,
        })
    }

    fn commit(&mut self, commitment: Commitment) -> Result<LedgerEvent, Error> {
        let executed =
            self.evaluations.remove(&commitment.evaluation).expect("evaluated before, and kept");
        self.evaluations.clear();
        let finalised = commitment.with(executed);
        self.store.commit(&finalised)?;
        let reader = self.store.reader()?;
        let view = Box::new(self.registry.changed(&reader, &finalised.executed.writes)?);
        let next_timer = next_timer(&reader)?;
        let receipts = finalised.executed.receipts;
        Ok(LedgerEvent::Committed { receipts, next_timer, view })
    }

    fn restore(
        &mut self,
        (checkpoint, cut): (Checkpoint, Cut),
        part: SnapshotPart,
    ) -> Result<SnapshotProgress, Error> {
        let Checkpoint { header, certificate } = checkpoint;
        let decision = Decision { header, certificate: Some(certificate), cut };
        let of_another = |snapshot: &Snapshot| *snapshot.decision() != decision;
        if self.snapshot.as_ref().is_none_or(of_another) {
            self.snapshot = None;
            let (chain, config) = (&self.archive.chain, self.config.clone());
            self.snapshot = Some(Snapshot::begin(&self.path, chain, config, decision)?);
        }
        let Some(snapshot) = &self.snapshot else { return Ok(SnapshotProgress::Wrong) };
        match snapshot.add(part)? {
            Step::Progress(progress) => Ok(progress),
            Step::Ready => self.take_over(),
        }
    }

    /// The snapshot is the ledger now. What the node has promised stays promised.
    fn take_over(&mut self) -> Result<SnapshotProgress, Error> {
        let Some(snapshot) = self.snapshot.take() else { return Ok(SnapshotProgress::Wrong) };
        let promises = self.store.promises()?.into_iter();
        let mut kept: Vec<Record> =
            promises.map(|(id, signed)| Record::Promise(id, Box::new(signed))).collect();
        kept.extend(self.store.evidence(usize::MAX)?.into_iter().map(Record::Evidence));
        let handovers = self.store.handovers(EpochNumber(0), usize::MAX)?.into_iter();
        kept.extend(handovers.map(|handover| Record::Handover(Box::new(handover))));
        self.store = Arc::new(snapshot.finish(kept, &self.path)?);
        *self.archive.store.write().unwrap_or_else(PoisonError::into_inner) = self.store.clone();
        self.evaluations.clear();
        let restored = Restored::read(&self.store.reader()?, &self.registry)?;
        Ok(SnapshotProgress::Complete(Box::new(restored)))
    }
}

impl Archive {
    /// What's stored.
    pub(crate) fn store(&self) -> Arc<Store> {
        self.store.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Which operators served a service as of a checkpoint, as far as that's remembered.
    pub(crate) fn service_sets(
        &self,
    ) -> Result<impl Fn(ServiceId, Height) -> Option<Arc<OperatorSet>> + use<>, Error> {
        let (reader, sets) = (self.store().reader()?, Sets::default());
        Ok(move |service, height| {
            sets.service_set(&Scope::new(&reader), service, height).ok().flatten()
        })
    }

    /// The checkpoint that recorded a task, if one did.
    pub(crate) fn recorded(&self, task: &TaskId) -> Result<Option<Height>, Error> {
        let reader = self.store().reader()?;
        Ok(tasks::recorded(&Scope::new(&reader), task)?.map(|recorded| recorded.height))
    }

    /// Proof that a task was recorded; `None` if it wasn't, or in a checkpoint before the one that this node began from.
    pub(crate) fn record_proof(&self, task: &TaskId) -> Result<Option<RecordProof>, Error> {
        let Some(height) = self.recorded(task)? else { return Ok(None) };
        // Both are written with the checkpoint, and stay.
        let store = self.store();
        let result = results::prove(&store.outcomes(height)?, task);
        let checkpoint = store.checkpoint(height)?.and_then(|decision| decision.checkpoint());
        Ok(checkpoint.zip(result).map(|(checkpoint, result)| RecordProof { checkpoint, result }))
    }

    /// Answers a peer, away from the threads that serve.
    pub(crate) fn answer(
        &self,
        network: Handle,
        id: InboundId,
        request: Request,
        pending: Vec<Change>,
    ) {
        let (store, chain) = (self.store(), self.chain.clone());
        tokio::task::spawn_blocking(move || match respond(&store, &chain, request, pending) {
            // Too late is as good as no answer.
            Ok(response) => drop(network.answer(id, response)),
            Err(error) => tracing::error!(%error, "the ledger can't be read"),
        });
    }
}

fn change(bytes: &[u8]) -> Result<Change, Error> {
    Change::from_bytes(bytes).map_err(|error| Error::corrupt("changes", error))
}

/// As many as fit into an answer.
fn bounded(changes: Vec<Change>) -> List<Change, { lamina_p2p::CHANGES_MAX }> {
    let mut bytes = 0;
    List::truncated(changes.into_iter().take_while(|change| {
        let first = bytes == 0;
        bytes += change.to_bytes().len();
        first || bytes <= PAGE_BYTES_MAX
    }))
}

fn respond(
    store: &Store,
    chain: &ChainId,
    request: Request,
    pending: Vec<Change>,
) -> Result<Response, Error> {
    Ok(match request {
        Request::Checkpoints { from } => {
            let (mut list, mut bytes) = (Vec::new(), 0);
            let stored =
                store.checkpoints(from.0.., lamina_p2p::CHECKPOINTS_MAX, Order::OldestFirst)?;
            for decision in stored {
                let Some(checkpoint) = decision.checkpoint() else { break };
                bytes += checkpoint.to_bytes().len() + decision.cut.to_bytes().len();
                list.push((checkpoint, decision.cut));
                if bytes > PAGE_BYTES_MAX {
                    list.truncate(list.len().saturating_sub(1).max(1));
                    break;
                }
            }
            Response::Checkpoints(List::truncated(list))
        }
        Request::Lanes(ranges) => {
            let (mut list, mut left) = (Vec::new(), PAGE_BYTES_MAX);
            for range in ranges.as_slice() {
                let changes = store.changes(&range.volume, &range.author, range.after, left)?;
                for bytes in changes {
                    left = left.saturating_sub(bytes.len());
                    list.push(change(&bytes)?);
                }
                if left == 0 {
                    break;
                }
            }
            list.extend(pending);
            Response::Changes(bounded(list))
        }
        Request::Changes(refs) => {
            let mut list = pending;
            for wanted in refs.as_slice() {
                let after = wanted.number.saturating_sub(1);
                let found = store.changes(&wanted.volume, &wanted.author, after, 1)?;
                let found = found.first().map(|bytes| change(bytes)).transpose()?;
                let is_it = |c: &Change| c.head().id(chain) == wanted.change;
                list.extend(found.filter(is_it));
            }
            Response::Changes(bounded(list))
        }
        Request::Snapshot { height, after } => {
            let chunk = match store.snapshot_chunk(height, after, PAGE_BYTES_MAX) {
                Ok(chunk) => Some(chunk),
                Err(Error::Pruned { .. } | Error::Future { .. }) => None,
                Err(error) => return Err(error),
            };
            Response::Snapshot(chunk.and_then(|chunk| Bytes::new(chunk.to_bytes()).ok()))
        }
        Request::Handovers { after } => {
            let mut handovers = store.handovers(after, PAGE_BYTES_MAX)?;
            handovers.truncate(lamina_p2p::HANDOVERS_MAX);
            Response::Handovers(List::truncated(handovers))
        }
        _ => Response::Changes(List::default()),
    })
}

/// An operator's keys, for the consensus and for its lane in books. What is signed is on disk before it leaves: the ledger
/// keeps the consensus's log and the lane, and compares.
pub(crate) struct LedgerSigner {
    bls: SecretKey,
    ed25519: ed25519_dalek::SigningKey,
}

impl LedgerSigner {
    pub(crate) fn new(bls: SecretKey, peer_secret: &Zeroizing<[u8; 32]>) -> Self {
        Self { bls, ed25519: ed25519_dalek::SigningKey::from_bytes(peer_secret) }
    }
}

impl std::fmt::Debug for LedgerSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LedgerSigner(…)")
    }
}

impl Signer for LedgerSigner {
    fn bls_public_key(&self) -> PublicKey {
        self.bls.public_key()
    }

    fn bls(&self, message: &Digest) -> Signature {
        self.bls.sign(message)
    }

    fn ed25519(&self, message: &Digest) -> [u8; 64] {
        use ed25519_dalek::Signer as _;
        self.ed25519.sign(&message.0).to_bytes()
    }
}

/// The account by which the node pays for what it does by itself.
pub(crate) struct NodeAccount {
    key: AccountKey,
    context: SigningContext,
}

impl NodeAccount {
    pub(crate) const fn new(key: AccountKey, context: SigningContext) -> Self {
        Self { key, context }
    }
}

impl std::fmt::Debug for NodeAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeAccount({})", self.key.address())
    }
}

impl AccountSigner for NodeAccount {
    fn address(&self) -> Address {
        self.key.address()
    }

    fn sign(&self, operation: Operation) -> SignedOperation {
        operation.sign(&self.key, &self.context)
    }
}
