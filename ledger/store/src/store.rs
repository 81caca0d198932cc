use std::fs::File;
use std::io::ErrorKind;
use std::ops::RangeBounds;
use std::path::Path;

use borsh::BorshDeserialize;
use lamina_certificate::Handover;
use lamina_ledger::state::Receipt;
use lamina_ledger::{Decision, FinalOperation, Finalised, OpenVolume, Record};
use lamina_types::{
    Canonical, ChainId, Change, ChangeId, Digest, EpochNumber, Height, LaneHead, OperationId,
    PeerKey, SignedOperation, TaskId, VolumeId,
};
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase as _, ReadableTable as _,
    ReadableTableMetadata as _, StorageBackend, Table, WriteTransaction,
};

use crate::tables::{self, Bytes};
use crate::{Error, Reader, commit};

/// Most pieces of evidence that are kept. More than a network of operators at fault should ever make.
const EVIDENCE_MAX: u64 = 10_000;

/// How much the store keeps, and how much memory it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Pages that are kept in memory, in bytes.
    pub cache_bytes: usize,
    /// Checkpoints whose state can be proven, the last one among them; at least 1.
    pub keep_versions: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { cache_bytes: 64 * 1024 * 1024, keep_versions: 1_000 }
    }
}

/// From which end a list begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// With the lowest height.
    OldestFirst,
    /// With the highest.
    NewestFirst,
}

/// The open file.
#[derive(Debug)]
pub struct Store {
    pub(crate) database: Database,
    config: Config,
}

impl Store {
    /// Opens or creates the file of a network. After a crash, redb first walks the whole file.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::Foreign`], [`Error::Database`]; [`Error::Create`] if the file can't be made.
    pub fn open(path: &Path, chain: &ChainId, config: Config) -> Result<Self, Error> {
        if !path.exists() {
            create(path, chain, &config)?;
        }
        Self::open_file(path, chain, config)
    }

    fn open_file(path: &Path, chain: &ChainId, config: Config) -> Result<Self, Error> {
        let database = Database::builder()
            .set_cache_size(config.cache_bytes)
            .create(path)
            .map_err(|error| match error {
                DatabaseError::DatabaseAlreadyOpen => {
                    Error::InUse { path: path.display().to_string() }
                }
                error => error.into(),
            })?;
        Self::new(database, chain, config)
    }

    /// The same on anything that keeps bytes.
    ///
    /// # Errors
    /// [`Error::Foreign`], [`Error::Database`].
    pub fn open_backend(
        backend: impl StorageBackend,
        chain: &ChainId,
        config: Config,
    ) -> Result<Self, Error> {
        let mut builder = Database::builder();
        let database = builder.set_cache_size(config.cache_bytes).create_with_backend(backend)?;
        Self::new(database, chain, config)
    }

    fn new(database: Database, chain: &ChainId, config: Config) -> Result<Self, Error> {
        let write = database.begin_write()?;
        check_meta(&write, chain)?;
        tables::create(&write)?;
        write.commit()?;
        Ok(Self { database, config })
    }

    /// Keeps what isn't final yet: all of it, or nothing if it fails. On disk when it returns. What's there already is left.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn write(&self, records: Vec<Record>) -> Result<(), Error> {
        let write = self.database.begin_write()?;
        for record in records {
            put_record(&write, record)?;
        }
        write.commit()?;
        Ok(())
    }

    /// Keeps a decided checkpoint with all that it changes: all of it, or nothing if it fails. On disk when it returns.
    ///
    /// # Errors
    /// [`Error::OutOfOrder`] unless it's the one after the last; [`Error::Mismatch`] and [`Error::NotOpen`] if its parts don't
    /// belong together; [`Error::Restoring`]; [`Error::Database`].
    pub fn commit(&self, finalised: &Finalised) -> Result<(), Error> {
        let write = self.database.begin_write()?;
        commit::apply(&write, finalised, self.config.keep_versions)?;
        write.commit()?;
        Ok(())
    }

    /// The state as of now.
    ///
    /// # Errors
    /// [`Error::Restoring`], [`Error::Database`].
    pub fn reader(&self) -> Result<Reader, Error> {
        Reader::new(&self.read()?)
    }

    /// The last checkpoint; `None` before genesis.
    ///
    /// # Errors
    /// [`Error::Database`]; [`Error::Corrupt`] if the file holds what this program wouldn't write.
    pub fn tip(&self) -> Result<Option<Decision>, Error> {
        let read = self.read()?;
        let tip = tables::height(&read.open_table(tables::META)?, tables::TIP)?;
        tip.map_or(Ok(None), |height| self.checkpoint(Height(height)))
    }

    /// A checkpoint.
    ///
    /// # Errors
    /// As [`Store::tip`].
    pub fn checkpoint(&self, height: Height) -> Result<Option<Decision>, Error> {
        let bytes = self.read()?.open_table(tables::CHECKPOINTS)?.get(height.0)?;
        bytes.map(|bytes| canonical("checkpoints", bytes.value())).transpose()
    }

    /// Checkpoints of these heights, at most `limit`.
    ///
    /// # Errors
    /// As [`Store::tip`].
    pub fn checkpoints(
        &self,
        heights: impl RangeBounds<u64>,
        limit: usize,
        order: Order,
    ) -> Result<Vec<Decision>, Error> {
        let table = self.read()?.open_table(tables::CHECKPOINTS)?;
        let mut range = table.range::<u64>(heights)?;
        let mut found = Vec::new();
        while found.len() < limit {
            let entry = match order {
                Order::OldestFirst => range.next(),
                Order::NewestFirst => range.next_back(),
            };
            let Some(entry) = entry else { break };
            found.push(canonical("checkpoints", entry?.1.value())?);
        }
        Ok(found)
    }

    /// A node of the accumulator of headers.
    ///
    /// # Errors
    /// As [`Store::tip`].
    pub fn history_node(&self, position: u64) -> Result<Option<Digest>, Error> {
        let node = self.read()?.open_table(tables::HISTORY)?.get(position)?;
        Ok(node.map(|node| Digest(*node.value())))
    }

    /// The tasks that a checkpoint recorded, ascending, with their outcomes' digests.
    ///
    /// # Errors
    /// As [`Store::tip`].
    pub fn outcomes(&self, height: Height) -> Result<Vec<(TaskId, Digest)>, Error> {
        let bytes = self.read()?.open_table(tables::OUTCOMES)?.get(height.0)?;
        bytes.map_or(Ok(Vec::new()), |bytes| decode("outcomes", bytes.value()))
    }

    /// What became of an operation.
    ///
    /// # Errors
    /// As [`Store::tip`].
    pub fn receipt(&self, id: &OperationId) -> Result<Option<Receipt>, Error> {
        let bytes = self.read()?.open_table(tables::RECEIPTS)?.get(&id.0)?;
        bytes.map(|bytes| decode("receipts", bytes.value())).transpose()
    }

    /// A final operation. One that several changes hold is found in the first that became final.
    ///
    /// # Errors
    /// As [`Store::tip`].
    pub fn operation(&self, id: &OperationId) -> Result<Option<FinalOperation>, Error> {
        let read = self.read()?;
        let Some(place) = read.open_table(tables::OPERATIONS)?.get(&id.0)? else { return Ok(None) };
        let (volume, author, number, index) = place.value();
        let missing = || Error::corrupt("changes", format!("{id} isn't where it should be"));
        let bytes = read.open_table(tables::CHANGES)?.get((volume, author, number))?;
        let change: Change = canonical("changes", bytes.ok_or_else(missing)?.value())?;
        let operation = change.operations.as_slice().get(usize::from(index)).ok_or_else(missing)?;
        Ok(Some(FinalOperation {
            operation: operation.clone(),
            volume: tables::volume_id(volume),
            author: PeerKey(*author),
            number,
        }))
    }

    /// Final changes of a lane that come after number `after`, in their order, as their canonical bytes: as many as fit into
    /// `bytes_max`, but at least one if there is one.
    ///
    /// # Errors
    /// As [`Store::tip`].
    pub fn changes(
        &self,
        volume: &VolumeId,
        author: &PeerKey,
        after: u64,
        bytes_max: usize,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let table = self.read()?.open_table(tables::CHANGES)?;
        let key = tables::volume_key(volume);
        let Some(first) = after.checked_add(1) else { return Ok(Vec::new()) };
        let (mut found, mut size) = (Vec::new(), 0_usize);
        for entry in table.range((&key, &author.0, first)..=(&key, &author.0, u64::MAX))? {
            let (_, bytes) = entry?;
            size = size.saturating_add(bytes.value().len());
            if size > bytes_max && !found.is_empty() {
                break;
            }
            found.push(bytes.value().to_vec());
        }
        Ok(found)
    }

    /// Who has final changes in a volume, ascending.
    #[expect(clippy::missing_errors_doc, reason = "as `tip`")]
    pub fn authors(&self, volume: &VolumeId) -> Result<Vec<PeerKey>, Error> {
        let table = self.read()?.open_table(tables::CHANGES)?;
        let key = tables::volume_key(volume);
        let mut authors = Vec::new();
        let mut after = [0; 32];
        // From one author's last possible change to the next author's first.
        loop {
            let mut rest = table.range((&key, &after, 0)..=(&key, &[u8::MAX; 32], u64::MAX))?;
            let Some(entry) = rest.next() else { return Ok(authors) };
            let author = *entry?.0.value().1;
            authors.push(PeerKey(author));
            let Some(next) = crate::snapshot::successor(author) else { return Ok(authors) };
            after = next;
        }
    }

    /// The volumes that take changes, and how far they are final.
    ///
    /// # Errors
    /// As [`Store::tip`].
    pub fn open_volumes(&self) -> Result<Vec<OpenVolume>, Error> {
        let read = self.read()?;
        let lanes = read.open_table(tables::LANES)?;
        let mut volumes = Vec::new();
        for entry in read.open_table(tables::VOLUMES)?.iter()? {
            let (key, operations) = entry?;
            let mut volume = OpenVolume {
                volume: tables::volume_id(key.value()),
                lanes: Vec::new(),
                operations: operations.value(),
            };
            for lane in lanes.range((key.value(), &[0; 32])..=(key.value(), &[u8::MAX; 32]))? {
                let (lane, head) = lane?;
                let (author, (number, change)) = (PeerKey(*lane.value().1), head.value());
                volume.lanes.push(LaneHead { author, number, change: ChangeId(*change) });
            }
            volumes.push(volume);
        }
        Ok(volumes)
    }

    /// The changes that aren't final. Authors' quotas are what bounds them.
    ///
    /// # Errors
    /// As [`Store::tip`].
    pub fn pending_changes(&self) -> Result<Vec<(ChangeId, Change)>, Error> {
        let table = self.read()?.open_table(tables::PENDING)?;
        let changes = table.iter()?.map(|entry| {
            let (id, bytes) = entry?;
            Ok((ChangeId(*id.value()), canonical("pending", bytes.value())?))
        });
        changes.collect()
    }

    /// The operations that were accepted from users and have no receipt.
    ///
    /// # Errors
    /// As [`Store::tip`].
    pub fn promises(&self) -> Result<Vec<(OperationId, SignedOperation)>, Error> {
        let table = self.read()?.open_table(tables::PROMISES)?;
        let promises = table.iter()?.map(|entry| {
            let (id, bytes) = entry?;
            Ok((OperationId(*id.value()), canonical("promises", bytes.value())?))
        });
        promises.collect()
    }

    /// Evidence, at most `limit` pieces.
    ///
    /// # Errors
    /// As [`Store::tip`].
    pub fn evidence(&self, limit: usize) -> Result<Vec<Vec<u8>>, Error> {
        let table = self.read()?.open_table(tables::EVIDENCE)?;
        table.iter()?.take(limit).map(|entry| Ok(entry?.1.value().to_vec())).collect()
    }

    /// How operators handed over to those of epochs after `after`, ascending: as many as together have at most `bytes_max`, and
    /// one at least if there is one.
    ///
    /// # Errors
    /// As [`Store::tip`].
    pub fn handovers(&self, after: EpochNumber, bytes_max: usize) -> Result<Vec<Handover>, Error> {
        let Some(first) = after.0.checked_add(1) else { return Ok(Vec::new()) };
        let table = self.read()?.open_table(tables::HANDOVERS)?;
        let (mut handovers, mut bytes) = (Vec::new(), 0_usize);
        for entry in table.range(first..)? {
            let (_, handover) = entry?;
            bytes = bytes.saturating_add(handover.value().len());
            if bytes > bytes_max && !handovers.is_empty() {
                break;
            }
            handovers.push(canonical("handovers", handover.value())?);
        }
        Ok(handovers)
    }

    /// The consensus log of a checkpoint that isn't committed, in the order of its coming.
    ///
    /// # Errors
    /// As [`Store::tip`].
    pub fn log(&self, height: Height) -> Result<Vec<Vec<u8>>, Error> {
        let table = self.read()?.open_table(tables::LOG)?;
        let entries = table.range((height.0, 0)..=(height.0, u64::MAX))?;
        entries.map(|entry| Ok(entry?.1.value().to_vec())).collect()
    }

    pub(crate) fn read(&self) -> Result<ReadTransaction, Error> {
        Ok(self.database.begin_read()?)
    }
}

/// Makes an empty file under another name, and gives it its own once it's whole: redb doesn't open one that it was making when
/// the power went.
fn create(path: &Path, chain: &ChainId, config: &Config) -> Result<(), Error> {
    let failed = |source| Error::Create { path: path.display().to_string(), source };
    let unfinished = path.with_added_extension("new");
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    drop(Store::open_file(&unfinished, chain, config.clone())?);
    std::fs::rename(&unfinished, path).map_err(failed)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = File::open(folder.unwrap_or_else(|| Path::new("."))).map_err(failed)?;
    folder.sync_all().map_err(failed)
}

/// Writes what the file is, or checks it.
fn check_meta(write: &WriteTransaction, chain: &ChainId) -> Result<(), Error> {
    let mut meta = write.open_table(tables::META)?;
    for (key, value) in [("version", tables::VERSION), ("chain", chain.as_str().as_bytes())] {
        let found = meta.get(key)?.map(|found| found.value().to_vec());
        match found {
            None => {
                meta.insert(key, value)?;
            }
            Some(found) if found == value => {}
            Some(found) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                return Err(Error::Foreign { key, found: text(&found), expected: text(value) });
            }
        }
    }
    Ok(())
}

fn put_record(write: &WriteTransaction, record: Record) -> Result<(), Error> {
    match record {
        Record::Change(id, change) => {
            write.open_table(tables::PENDING)?.insert(&id.0, change.to_bytes().as_slice())?;
        }
        Record::Log { height, entry } => {
            append_log(&mut write.open_table(tables::LOG)?, height, &entry)?;
        }
        Record::Promise(id, operation) => {
            // It may have become final by another's change while it was on its way here.
            if write.open_table(tables::RECEIPTS)?.get(&id.0)?.is_none() {
                let mut promises = write.open_table(tables::PROMISES)?;
                promises.insert(&id.0, operation.to_bytes().as_slice())?;
            }
        }
        Record::Handover(handover) => put_handover(write, &handover)?,
        Record::Evidence(bytes) => {
            let mut evidence = write.open_table(tables::EVIDENCE)?;
            if evidence.len()? < EVIDENCE_MAX {
                evidence.insert(&Digest::of(&bytes).0, bytes.as_slice())?;
            }
        }
    }
    Ok(())
}

pub(crate) fn put_handover(write: &WriteTransaction, handover: &Handover) -> Result<(), Error> {
    let mut handovers = write.open_table(tables::HANDOVERS)?;
    handovers.insert(handover.epoch.0, handover.to_bytes().as_slice())?;
    Ok(())
}

fn append_log(
    log: &mut Table<'_, (u64, u64), Bytes>,
    height: Height,
    entry: &[u8],
) -> Result<(), Error> {
    let last = { log.range((height.0, 0)..=(height.0, u64::MAX))? }.next_back().transpose()?;
    let place = last.map_or(0, |(key, _)| key.value().1 + 1);
    log.insert((height.0, place), entry)?;
    Ok(())
}

fn canonical<T: Canonical>(table: &'static str, bytes: &[u8]) -> Result<T, Error> {
    T::from_bytes(bytes).map_err(|error| Error::corrupt(table, error))
}

pub(crate) fn decode<T: BorshDeserialize>(table: &'static str, bytes: &[u8]) -> Result<T, Error> {
    T::try_from_slice(bytes).map_err(|error| Error::corrupt(table, error))
}
