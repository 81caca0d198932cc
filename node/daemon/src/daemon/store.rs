//! What a node keeps of tasks over a restart: requests, observations, outcomes, certificates and peers' addresses, in one redb file.
//!
//! A thread of its own writes; whatever waits is written in one transaction, so that a burst costs one sync. Values are the
//! canonical bytes of their types. `node/DESIGN.md` draws them.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use borsh::BorshDeserialize as _;
use lamina_certificate::{Backing, CertifiedTask, OperatorSet, TaskCertificate};
use lamina_node_core::{Event, Record};
use lamina_types::{
    Canonical, ChainId, Height, ObservationValue, Outcome, ServiceId, SignedTaskRequest, TaskId,
    Timestamp,
};
use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _,
    TableDefinition,
};
use tokio::sync::mpsc;

type Id = [u8; 32];

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// By identifier: when the request was taken up (microseconds), and the request.
const REQUESTS: TableDefinition<'_, Id, (u64, &[u8])> = TableDefinition::new("requests");
/// Requests in the order of their coming: `accepted ‖ id`.
const REQUEST_ORDER: TableDefinition<'_, (u64, Id), ()> = TableDefinition::new("request_order");
/// By task: what this node observed.
const OBSERVATIONS: TableDefinition<'_, Id, &[u8]> = TableDefinition::new("observations");
const OUTCOMES: TableDefinition<'_, Id, &[u8]> = TableDefinition::new("outcomes");
/// By task: when the certificate was complete (microseconds), and the certificate.
const CERTIFICATES: TableDefinition<'_, Id, (u64, &[u8])> = TableDefinition::new("certificates");
/// One list under the key 0: what the node dials when it starts.
const ADDRESSES: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("addresses");

/// The version of what the tables hold. Another one is refused: there is no migration yet.
const VERSION: &[u8] = b"3";
/// Writes that wait for the thread. When it's full the node waits, and stops taking messages: nothing is lost.
pub(crate) const QUEUE_MAX: usize = 1024;
/// Most writes in one transaction.
const BATCH_MAX: usize = 256;

/// The open file.
#[derive(Debug)]
pub(crate) struct Store {
    database: Database,
    kept_max: u64,
}

/// A write.
#[derive(Debug)]
pub(crate) enum Write {
    /// Answered by [`Event::Stored`].
    Records(u64, Vec<Record>),
    /// Addresses of peers.
    Addresses(Vec<String>),
}

impl Store {
    /// Opens or creates the file in `folder`.
    pub(crate) fn open(folder: &Path, chain: &ChainId, kept_max: u64) -> Result<Self, Error> {
        let path = folder.join("node.redb");
        let database = Database::create(&path).map_err(|source| match source {
            redb::DatabaseError::DatabaseAlreadyOpen => {
                Error::InUse { folder: folder.display().to_string() }
            }
            source => Error::Open { path: path.display().to_string(), source },
        })?;
        let store = Self { database, kept_max };
        store.check(chain)?;
        Ok(store)
    }

    /// What was kept: requests by age, observations, outcomes, certificates; of ended tasks only the last `ended_max`.
    /// `set_of` tells which operators served a service as of a checkpoint.
    pub(crate) fn load(
        &self,
        set_of: &dyn Fn(ServiceId, Height) -> Option<Arc<OperatorSet>>,
        ended_max: usize,
        now: Timestamp,
    ) -> Result<Vec<Record>, Error> {
        let read = self.database.begin_read()?;
        let mut records = Vec::new();
        let requests = read.open_table(REQUESTS)?;
        let observations = read.open_table(OBSERVATIONS)?;
        let outcomes = read.open_table(OUTCOMES)?;
        let certificates = read.open_table(CERTIFICATES)?;
        let (mut ended, mut ended_count) = (Vec::new(), 0);
        for entry in read.open_table(REQUEST_ORDER)?.iter()?.rev() {
            let (accepted, id) = entry?.0.value();
            let certificate = certificates.get(id)?;
            if certificate.is_some() && ended_count >= ended_max {
                continue;
            }
            let Some(request) = requests.get(id)? else { continue };
            let request = decode::<SignedTaskRequest>("requests", request.value().1)?;
            if certificate.is_some() || request.request.valid_until <= now {
                if ended_count >= ended_max {
                    continue;
                }
                ended_count += 1;
            }
            let (service, height) = (request.request.service, request.request.height);
            records.push(Record::Request(TaskId(id), Box::new(request), Timestamp(accepted)));
            // Of an ended task, nobody asks for it.
            if let (Some(bytes), None) = (observations.get(id)?, &certificate) {
                let value = ObservationValue::new(bytes.value())
                    .map_err(|e| Error::Corrupt { table: "observations", reason: e.to_string() })?;
                records.push(Record::Observation(TaskId(id), Box::new(value)));
            }
            if let Some(bytes) = outcomes.get(id)? {
                let outcome = decode::<Outcome>("outcomes", bytes.value())?;
                records.push(Record::Outcome(TaskId(id), Box::new(outcome)));
            }
            if let Some(value) = certificate {
                let (at, bytes) = value.value();
                let certificate = decode::<TaskCertificate>("certificates", bytes)?;
                // An old one's set may be forgotten: then it's asked of the disk only.
                let Some(set) = set_of(service, height) else { continue };
                // Checked again: what a disk returns isn't beyond doubt.
                let certificate = certificate
                    .verify(&set)
                    .map_err(|e| Error::Corrupt { table: "certificates", reason: e.to_string() })?;
                ended.push(Record::Certificate(Box::new(certificate), Timestamp(at)));
            }
        }
        // The node remembers ended tasks in the order of their ending.
        ended.sort_by_key(|record| match record {
            Record::Certificate(_, at) => *at,
            _ => Timestamp::default(),
        });
        records.extend(ended);
        Ok(records)
    }

    /// A task that's certified, from disk: the node itself remembers only the latest.
    pub(crate) fn certified_task(
        &self,
        chain: &ChainId,
        id: &TaskId,
    ) -> Result<Option<CertifiedTask>, Error> {
        let read = self.database.begin_read()?;
        let request = read.open_table(REQUESTS)?.get(id.0)?;
        let outcome = read.open_table(OUTCOMES)?.get(id.0)?;
        let certificate = read.open_table(CERTIFICATES)?.get(id.0)?;
        let (Some(request), Some(outcome), Some(certificate)) = (request, outcome, certificate)
        else {
            return Ok(None);
        };
        Ok(Some(CertifiedTask::new(
            chain.clone(),
            decode("requests", request.value().1)?,
            decode("outcomes", outcome.value())?,
            Backing::Certificate(Box::new(decode("certificates", certificate.value().1)?)),
        )))
    }

    /// Where peers were last seen.
    pub(crate) fn addresses(&self) -> Result<Vec<String>, Error> {
        let read = self.database.begin_read()?;
        let value = read.open_table(ADDRESSES)?.get(0)?;
        let Some(value) = value else { return Ok(Vec::new()) };
        Vec::<String>::try_from_slice(value.value())
            .map_err(|e| Error::Corrupt { table: "addresses", reason: e.to_string() })
    }

    /// Starts the thread that writes. It ends when the sender of `writes` is dropped, and stops the node by dropping
    /// `done` when a write fails: a node that can't keep what it promises must not go on.
    pub(crate) fn start(
        self: Arc<Self>,
        mut writes: mpsc::Receiver<Write>,
        done: mpsc::UnboundedSender<Event>,
    ) -> std::io::Result<JoinHandle<Result<(), Error>>> {
        std::thread::Builder::new().name("store".into()).spawn(move || {
            let mut batch = Vec::with_capacity(BATCH_MAX);
            while writes.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
                let ids = self.write(std::mem::take(&mut batch)).inspect_err(|error| {
                    tracing::error!(%error, "the node's data can't be written; it stops");
                })?;
                for id in ids {
                    let _ = done.send(Event::Stored(id));
                }
            }
            Ok(())
        })
    }

    fn check(&self, chain: &ChainId) -> Result<(), Error> {
        let write = self.database.begin_write()?;
        {
            let mut meta = write.open_table(META)?;
            for (key, value) in [("version", VERSION), ("chain", chain.as_str().as_bytes())] {
                let found = meta.get(key)?.map(|found| found.value().to_vec());
                match found {
                    None => {
                        meta.insert(key, value)?;
                    }
                    Some(found) if found == value => {}
                    Some(found) => {
                        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                        let (found, expected) = (text(&found), text(value));
                        return Err(Error::Foreign { key, found, expected });
                    }
                }
            }
            write.open_table(REQUESTS)?;
            write.open_table(REQUEST_ORDER)?;
            write.open_table(OBSERVATIONS)?;
            write.open_table(OUTCOMES)?;
            write.open_table(CERTIFICATES)?;
            write.open_table(ADDRESSES)?;
        }
        write.commit()?;
        Ok(())
    }

    /// Writes all or nothing; the result names the writes that are to be answered.
    fn write(&self, batch: Vec<Write>) -> Result<Vec<u64>, Error> {
        let write = self.database.begin_write()?;
        let mut ids = Vec::with_capacity(batch.len());
        {
            let mut requests = write.open_table(REQUESTS)?;
            let mut order = write.open_table(REQUEST_ORDER)?;
            let mut observations = write.open_table(OBSERVATIONS)?;
            let mut outcomes = write.open_table(OUTCOMES)?;
            let mut certificates = write.open_table(CERTIFICATES)?;
            let mut addresses = write.open_table(ADDRESSES)?;
            for item in batch {
                let (id, records) = match item {
                    Write::Records(id, records) => (id, records),
                    Write::Addresses(list) => {
                        let bytes = borsh::to_vec(&list).expect("writing to memory doesn't fail");
                        addresses.insert(0, bytes.as_slice())?;
                        continue;
                    }
                };
                ids.push(id);
                for record in records {
                    match record {
                        Record::Request(id, request, at) => {
                            let bytes = request.to_bytes();
                            let before = requests.insert(id.0, (at.0, bytes.as_slice()))?;
                            if let Some(before) = before {
                                order.remove((before.value().0, id.0))?;
                            }
                            order.insert((at.0, id.0), ())?;
                        }
                        Record::Observation(id, value) => {
                            observations.insert(id.0, value.as_slice())?;
                        }
                        Record::Outcome(id, outcome) => {
                            outcomes.insert(id.0, outcome.to_bytes().as_slice())?;
                        }
                        Record::Certificate(certificate, at) => {
                            let certificate = certificate.get();
                            let bytes = certificate.to_bytes();
                            certificates.insert(certificate.task.0, (at.0, bytes.as_slice()))?;
                        }
                    }
                }
            }
            let surplus = order.len()?.saturating_sub(self.kept_max);
            for (at, id) in oldest_ended(&order, &requests, &certificates, surplus)? {
                order.remove((at, id))?;
                requests.remove(id)?;
                observations.remove(id)?;
                outcomes.remove(id)?;
                certificates.remove(id)?;
            }
        }
        write.commit()?;
        Ok(ids)
    }
}

/// The oldest tasks that are certified or expired: an open one is a promise, and stays.
fn oldest_ended(
    order: &redb::Table<'_, (u64, Id), ()>,
    requests: &redb::Table<'_, Id, (u64, &'static [u8])>,
    certificates: &redb::Table<'_, Id, (u64, &'static [u8])>,
    count: u64,
) -> Result<Vec<(u64, Id)>, Error> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let now = super::now();
    let mut oldest = Vec::new();
    for entry in order.iter()? {
        if oldest.len() >= count {
            break;
        }
        let (at, id) = entry?.0.value();
        let Some(request) = requests.get(id)? else { continue };
        let ended = certificates.get(id)?.is_some() || {
            let request = decode::<SignedTaskRequest>("requests", request.value().1)?;
            request.request.valid_until <= now
        };
        if ended {
            oldest.push((at, id));
        }
    }
    Ok(oldest)
}

fn decode<T: Canonical>(table: &'static str, bytes: &[u8]) -> Result<T, Error> {
    T::from_bytes(bytes).map_err(|e| Error::Corrupt { table, reason: e.to_string() })
}

/// Why what a node keeps can't be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "another process uses the data folder {folder}; stop it, or choose another with `data`"
    )]
    InUse { folder: String },
    #[error("opening {path}")]
    Open { path: String, source: redb::DatabaseError },
    #[error(
        "the data folder's {key} is {found}, this node's is {expected}; choose another with `data`"
    )]
    Foreign { key: &'static str, found: String, expected: String },
    #[error("table {table} is corrupt: {reason}; move the data folder away and start anew")]
    Corrupt { table: &'static str, reason: String },
    #[error("the database failed")]
    Database(#[source] Box<redb::Error>),
}

impl<E: Into<redb::Error>> From<E> for Error {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use lamina_certificate::{
        Attestation, Genesis, OperatorRecord, SecretKey, VerifiedTaskCertificate,
    };
    use lamina_types::{AccountKey, Address, Digest, Input, OperatorIndex, PeerKey, TaskRequest};

    fn genesis() -> (Genesis, SecretKey) {
        let chain_id: ChainId = "lamina-test-1".parse().unwrap();
        let key = SecretKey::derive(&[1; 32]);
        let (address, peer) = (Address([1; 20]), PeerKey([1; 32]));
        let operators = vec![OperatorRecord::new(&chain_id, address, peer, &key, 1)];
        (
            Genesis {
                chain_id,
                ethereum_chain_id: 1,
                ethereum: None,
                runtime: lamina_components::runtime(),
                operators,
                ledger: lamina_certificate::LedgerGenesis::default(),
            },
            key,
        )
    }

    fn request(nonce: u64, valid_until: Timestamp) -> (TaskId, Record) {
        let account = AccountKey::from_bytes(&[9; 32]).unwrap();
        let request = TaskRequest {
            service: ServiceId([1; 32]),
            input: Input::default(),
            requester: account.address(),
            nonce,
            height: Height(0),
            valid_until,
        };
        let genesis = genesis().0;
        let id = request.task_id(&genesis.chain_id);
        let signed = Box::new(request.sign(&account, &genesis.signing_context()));
        (id, Record::Request(id, signed, Timestamp(nonce)))
    }

    fn certificate(set: &OperatorSet, key: &SecretKey, task: TaskId) -> Record {
        let attestation = Attestation::sign(set, OperatorIndex(0), key, task, Digest([2; 32]));
        let verified = attestation.verify(set).unwrap();
        let certificate = VerifiedTaskCertificate::aggregate(set, &[verified]).unwrap();
        Record::Certificate(Box::new(certificate), Timestamp(5))
    }

    fn ids(records: &[Record]) -> Vec<TaskId> {
        let id = |record: &Record| match record {
            Record::Request(id, ..) => Some(*id),
            _ => None,
        };
        records.iter().filter_map(id).collect()
    }

    #[test]
    fn the_oldest_ended_tasks_go_first_and_open_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (genesis, key) = genesis();
        let set = Arc::new(genesis.operator_set().unwrap());
        let set_of = |_, _| Some(Arc::clone(&set));
        let later = super::super::now() + Duration::from_secs(3600);
        let (open, open_record) = request(1, later);
        let (expired, expired_record) = request(2, Timestamp(1));
        let (certified, certified_record) = request(3, later);
        let (last, last_record) = request(4, later);
        let store = Store::open(folder.path(), &genesis.chain_id, 3).unwrap();
        let certificate = certificate(&set, &key, certified);
        let records = vec![open_record, expired_record, certified_record, certificate];
        assert_eq!(store.write(vec![Write::Records(7, records)]).unwrap(), [7]);
        assert_eq!(store.write(vec![Write::Records(8, vec![last_record])]).unwrap(), [8]);
        drop(store);

        let store = Store::open(folder.path(), &genesis.chain_id, 3).unwrap();
        let now = super::super::now();
        let kept = ids(&store.load(&set_of, 10, now).unwrap());
        assert_eq!(kept, [last, certified, open]);
        assert!(!kept.contains(&expired));
        let open_only = ids(&store.load(&set_of, 0, now).unwrap());
        assert_eq!(open_only, [last, open]);
    }

    #[test]
    fn another_networks_data_and_a_second_process_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let chain = genesis().0.chain_id;
        let store = Store::open(folder.path(), &chain, 3).unwrap();
        let error = Store::open(folder.path(), &chain, 3).unwrap_err();
        assert!(matches!(error, Error::InUse { .. }), "{error}");
        drop(store);
        let other = "lamina-test-2".parse().unwrap();
        let error = Store::open(folder.path(), &other, 3).unwrap_err();
        assert!(error.to_string().contains("chain is lamina-test-1"), "{error}");
    }
}
