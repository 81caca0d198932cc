//! Signs attestations, observations and proposals, never two different ones of a kind for one task.
//!
//! Before a signature leaves this module, what it's for is on disk, synced, in a file of its own (`signing.redb`). A task
//! that was signed before gets the same signature again or, for something else, a refusal: after a crash or a
//! restart, too. Whatever waits is recorded in one transaction.

use std::path::Path;
use std::thread::JoinHandle;

use lamina_certificate::{Attestation, Members, Observation, ObservationSet, SecretKey};
use lamina_node_core::{Event, Signer as Place};
use lamina_types::{ChainId, Digest, EpochNumber, ObservationValue, TaskId};
use redb::{Database, ReadableTable as _, TableDefinition};
use tokio::sync::mpsc;

/// Chain and task.
type Key = (&'static str, [u8; 32]);
/// The epoch and the digest that was signed.
type Signed = (u64, [u8; 32]);

/// Outcomes that were attested.
const ATTESTATIONS: TableDefinition<'_, Key, Signed> = TableDefinition::new("attestations");
/// Values that were observed.
const OBSERVATIONS: TableDefinition<'_, Key, Signed> = TableDefinition::new("observations");
/// Roots of the sets that were proposed.
const PROPOSALS: TableDefinition<'_, Key, Signed> = TableDefinition::new("proposals");

/// What is to be signed for a task.
#[derive(Debug)]
pub(crate) enum ToSign {
    /// Answered by [`Event::Signed`].
    Outcome(TaskId, Digest, Place),
    /// Answered by [`Event::ObservationSigned`].
    Observation(TaskId, ObservationValue, Place),
    /// Answered by [`Event::ProposalSigned`].
    Proposal(TaskId, Box<Members>, Place),
}

/// What the record knows a signature by.
#[derive(Clone, Copy)]
struct Entry {
    table: TableDefinition<'static, Key, Signed>,
    task: TaskId,
    epoch: EpochNumber,
    digest: Digest,
}

/// Signatures that wait for the thread. When it's full the node waits.
pub(crate) const QUEUE_MAX: usize = 1024;
/// Most signatures that are recorded in one transaction.
const BATCH_MAX: usize = 64;

/// An operator's key with its record of what it signed.
#[derive(Debug)]
pub(crate) struct Signer {
    key: SecretKey,
    chain: ChainId,
    store: SigningStore,
}

impl Signer {
    pub(crate) const fn new(key: SecretKey, chain: ChainId, store: SigningStore) -> Self {
        Self { key, chain, store }
    }

    /// Starts the thread that signs; it ends when the sender of `requests` is dropped.
    pub(crate) fn start(
        self,
        mut requests: mpsc::Receiver<ToSign>,
        done: mpsc::UnboundedSender<Event>,
    ) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("signer".into()).spawn(move || {
            let mut batch = Vec::with_capacity(BATCH_MAX);
            while requests.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
                for event in self.sign(std::mem::take(&mut batch)) {
                    let _ = done.send(event);
                }
            }
        })
    }

    fn sign(&self, batch: Vec<ToSign>) -> Vec<Event> {
        let entries: Vec<Entry> = batch.iter().map(entry).collect();
        let permits = match self.store.record(&self.chain, &entries) {
            Ok(permits) => permits,
            // Nothing is recorded, so nothing may be signed.
            Err(error) => {
                tracing::error!(%error, "the signing store failed; free the disk, then restart");
                vec![false; batch.len()]
            }
        };
        batch.into_iter().zip(permits).map(|(item, permit)| self.answer(item, permit)).collect()
    }

    fn answer(&self, item: ToSign, permit: bool) -> Event {
        let key = &self.key;
        let refusal = || {
            let reason = "the signing store doesn't allow it: something else was signed for this \
                          task, or the store can't be written";
            reason.to_owned()
        };
        match item {
            ToSign::Outcome(task, outcome, Place { set, operator }) => {
                let sign = || Box::new(Attestation::sign(&set, operator, key, task, outcome));
                Event::Signed(task, permit.then(sign).ok_or_else(refusal))
            }
            ToSign::Observation(task, value, Place { set, operator }) => {
                let sign = || Box::new(Observation::sign(&set, operator, key, task, value));
                Event::ObservationSigned(task, permit.then(sign).ok_or_else(refusal))
            }
            ToSign::Proposal(task, members, Place { set, operator }) => {
                let sign = || Box::new(ObservationSet::sign(&set, operator, key, task, *members));
                Event::ProposalSigned(task, permit.then(sign).ok_or_else(refusal))
            }
        }
    }
}

fn entry(item: &ToSign) -> Entry {
    let (table, task, place, digest) = match item {
        ToSign::Outcome(task, outcome, place) => (ATTESTATIONS, task, place, *outcome),
        ToSign::Observation(task, value, place) => {
            (OBSERVATIONS, task, place, Digest::of(value.as_slice()))
        }
        ToSign::Proposal(task, members, place) => {
            (PROPOSALS, task, place, ObservationSet::root_of(&place.set, task, members))
        }
    };
    Entry { table, task: *task, epoch: place.set.epoch(), digest }
}

/// What was signed, for each task.
#[derive(Debug)]
pub(crate) struct SigningStore(Database);

impl SigningStore {
    /// Opens or creates the file in `folder`.
    pub(crate) fn open(folder: &Path) -> Result<Self, super::store::Error> {
        let path = folder.join("signing.redb");
        let database = Database::create(&path).map_err(|source| super::store::Error::Open {
            path: path.display().to_string(),
            source,
        })?;
        let write = database.begin_write()?;
        for table in [ATTESTATIONS, OBSERVATIONS, PROPOSALS] {
            write.open_table(table)?;
        }
        write.commit()?;
        Ok(Self(database))
    }

    /// Records what is about to be signed; tells for each whether it may be.
    fn record(&self, chain: &ChainId, batch: &[Entry]) -> Result<Vec<bool>, redb::Error> {
        // A commit syncs the file: redb's default durability.
        let write = self.0.begin_write()?;
        let mut permits = Vec::with_capacity(batch.len());
        for Entry { table, task, epoch, digest } in batch {
            let mut table = write.open_table(*table)?;
            let key = (chain.as_str(), task.0);
            let before = table.get(key)?.map(|entry| entry.value());
            if before.is_none() {
                table.insert(key, (epoch.0, digest.0))?;
            }
            permits.push(before.is_none_or(|signed| signed == (epoch.0, digest.0)));
        }
        write.commit()?;
        Ok(permits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> ChainId {
        "lamina-test-1".parse().unwrap()
    }

    const TASK: TaskId = TaskId([1; 32]);

    fn entry(table: TableDefinition<'static, Key, Signed>, digest: u8) -> Entry {
        Entry { table, task: TASK, epoch: EpochNumber(0), digest: Digest([digest; 32]) }
    }

    #[test]
    fn a_second_outcome_is_refused_and_the_first_allowed_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = SigningStore::open(folder.path()).unwrap();
        let batch = [1, 2, 1].map(|digest| entry(ATTESTATIONS, digest));
        assert_eq!(store.record(&chain(), &batch).unwrap(), [true, false, true]);
    }

    #[test]
    fn each_kind_has_a_record_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let store = SigningStore::open(folder.path()).unwrap();
        let first = [entry(ATTESTATIONS, 1), entry(OBSERVATIONS, 2), entry(PROPOSALS, 3)];
        assert_eq!(store.record(&chain(), &first).unwrap(), [true; 3]);
        let second = [entry(ATTESTATIONS, 4), entry(OBSERVATIONS, 4), entry(PROPOSALS, 4)];
        assert_eq!(store.record(&chain(), &second).unwrap(), [false; 3]);
        assert_eq!(store.record(&chain(), &first).unwrap(), [true; 3]);
    }

    #[test]
    fn the_record_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let batch = [entry(ATTESTATIONS, 1)];
        SigningStore::open(folder.path()).unwrap().record(&chain(), &batch).unwrap();
        let store = SigningStore::open(folder.path()).unwrap();
        let other = [entry(ATTESTATIONS, 2)];
        assert_eq!(store.record(&chain(), &other).unwrap(), [false]);
        assert_eq!(
            store.record(&chain(), &[Entry { epoch: EpochNumber(1), ..batch[0] }]).unwrap(),
            [false]
        );
        let elsewhere = "lamina-test-2".parse().unwrap();
        assert_eq!(store.record(&elsewhere, &other).unwrap(), [true]);
    }
}
