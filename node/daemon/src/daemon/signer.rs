//! Signs attestations, never two different ones for one task.
//!
//! Before a signature leaves this module, what it's for is on disk, synced, in a file of its own (`signing.redb`). A task
//! that was signed before gets the same signature again or, for another outcome, a refusal: after a crash or a
//! restart, too. Whatever waits is recorded in one transaction.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use lamina_certificate::{Attestation, OperatorSet, SecretKey};
use lamina_node_core::Event;
use lamina_types::{ChainId, Digest, OperatorIndex, TaskId};
use redb::{Database, ReadableTable as _, TableDefinition};
use tokio::sync::mpsc;

/// Chain and task.
type Key = (&'static str, [u8; 32]);
/// The epoch and the outcome digest that was signed.
type Signed = (u64, [u8; 32]);

const ATTESTATIONS: TableDefinition<'_, Key, Signed> = TableDefinition::new("attestations");

/// Signatures that wait for the thread. When it's full the node waits.
pub(crate) const QUEUE_MAX: usize = 1024;
/// Most signatures that are recorded in one transaction.
const BATCH_MAX: usize = 64;

/// An operator's key with its record of what it signed.
#[derive(Debug)]
pub(crate) struct Signer {
    key: SecretKey,
    operator: OperatorIndex,
    set: Arc<OperatorSet>,
    store: SigningStore,
}

impl Signer {
    pub(crate) fn new(
        key: SecretKey,
        operator: OperatorIndex,
        set: Arc<OperatorSet>,
        store: SigningStore,
    ) -> Self {
        Self { key, operator, set, store }
    }

    /// Starts the thread that signs; it ends when the sender of `requests` is dropped.
    pub(crate) fn start(
        self,
        mut requests: mpsc::Receiver<(TaskId, Digest)>,
        done: mpsc::UnboundedSender<Event>,
    ) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("signer".into()).spawn(move || {
            let mut batch = Vec::with_capacity(BATCH_MAX);
            while requests.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
                for (task, result) in self.sign(&std::mem::take(&mut batch)) {
                    let _ = done.send(Event::Signed(task, result));
                }
            }
        })
    }

    fn sign(&self, batch: &[(TaskId, Digest)]) -> Vec<(TaskId, Result<Box<Attestation>, String>)> {
        let permits = match self.store.record(self.set.chain(), self.set.epoch().0, batch) {
            Ok(permits) => permits,
            // Nothing is recorded, so nothing may be signed.
            Err(error) => {
                tracing::error!(%error, "the signing store failed; free the disk, then restart");
                vec![false; batch.len()]
            }
        };
        let sign = |(task, outcome): &(TaskId, Digest), permit: bool| {
            if !permit {
                let reason = "the signing store doesn't allow it: another outcome was signed \
                              for this task, or the store can't be written";
                return Err(reason.to_owned());
            }
            let (set, key) = (&self.set, &self.key);
            Ok(Box::new(Attestation::sign(set, self.operator, key, *task, *outcome)))
        };
        batch.iter().zip(permits).map(|(item, permit)| (item.0, sign(item, permit))).collect()
    }
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
        write.open_table(ATTESTATIONS)?;
        write.commit()?;
        Ok(Self(database))
    }

    /// Records what is about to be signed; tells for each whether it may be.
    fn record(
        &self,
        chain: &ChainId,
        epoch: u64,
        batch: &[(TaskId, Digest)],
    ) -> Result<Vec<bool>, redb::Error> {
        // A commit syncs the file: redb's default durability.
        let write = self.0.begin_write()?;
        let mut permits = Vec::with_capacity(batch.len());
        {
            let mut table = write.open_table(ATTESTATIONS)?;
            for (task, outcome) in batch {
                let key = (chain.as_str(), task.0);
                let before = table.get(key)?.map(|entry| entry.value());
                if before.is_none() {
                    table.insert(key, (epoch, outcome.0))?;
                }
                permits.push(before.is_none_or(|signed| signed == (epoch, outcome.0)));
            }
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

    #[test]
    fn a_second_outcome_is_refused_and_the_first_allowed_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = SigningStore::open(folder.path()).unwrap();
        let (first, second) = (Digest([1; 32]), Digest([2; 32]));
        let batch = [(TASK, first), (TASK, second), (TASK, first)];
        assert_eq!(store.record(&chain(), 0, &batch).unwrap(), [true, false, true]);
    }

    #[test]
    fn the_record_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let batch = [(TASK, Digest([1; 32]))];
        SigningStore::open(folder.path()).unwrap().record(&chain(), 0, &batch).unwrap();
        let store = SigningStore::open(folder.path()).unwrap();
        let other = [(TASK, Digest([2; 32]))];
        assert_eq!(store.record(&chain(), 0, &other).unwrap(), [false]);
        assert_eq!(store.record(&chain(), 1, &batch).unwrap(), [false]);
        let elsewhere = "lamina-test-2".parse().unwrap();
        assert_eq!(store.record(&elsewhere, 0, &other).unwrap(), [true]);
    }
}
