use std::fmt;
use std::sync::Arc;

use borsh::BorshDeserialize as _;
use jmt::storage::{HasPreimage, LeafNode, Node, NodeKey, TreeReader};
use jmt::{KeyHash, OwnedValue, Sha256Jmt, Version};
use lamina_ledger::state::tree::{self, StateProof};
use lamina_ledger::{Entries, StateReader, StorageError};
use lamina_types::{Digest, Height};
use redb::{ReadOnlyTable, ReadTransaction, TableDefinition};

use crate::Error;
use crate::tables::{self, Bytes, Id};

/// The state as of the last checkpoint when it was asked for. It stays what it is while others write.
///
/// While there is one, redb can't use again what commits free: don't keep it for long. Cheap to clone.
#[derive(Clone)]
pub struct Reader(Arc<Tables>);

struct Tables {
    /// `None` before genesis.
    tip: Option<Version>,
    oldest: Version,
    state: ReadOnlyTable<Bytes, (u64, Bytes)>,
    nodes: ReadOnlyTable<Bytes, Bytes>,
    values: ReadOnlyTable<(Id, u64), Option<Bytes>>,
    preimages: ReadOnlyTable<Id, Bytes>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("tip", &self.0.tip).finish_non_exhaustive()
    }
}

impl Reader {
    pub(crate) fn new(read: &ReadTransaction) -> Result<Self, Error> {
        let meta = read.open_table(tables::META)?;
        if meta.get(tables::RESTORE)?.is_some() {
            return Err(Error::Restoring);
        }
        let tip = tables::height(&meta, tables::TIP)?;
        let oldest = tables::height(&meta, tables::OLDEST)?.unwrap_or(0);
        Self::at(read, tip, oldest)
    }

    /// The state as of `tip`, which is the one that stands in the tables.
    pub(crate) fn at(
        read: &ReadTransaction,
        tip: Option<Version>,
        oldest: Version,
    ) -> Result<Self, Error> {
        Ok(Self(Arc::new(Tables {
            tip,
            oldest,
            state: open(read, tables::STATE)?,
            nodes: open(read, tables::NODES)?,
            values: open(read, tables::VALUES)?,
            preimages: open(read, tables::PREIMAGES)?,
        })))
    }

    /// The last checkpoint's height; `None` before genesis.
    #[must_use]
    pub fn height(&self) -> Option<Height> {
        self.0.tip.map(Height)
    }

    /// The oldest height that [`Reader::prove`] knows.
    #[must_use]
    pub fn oldest(&self) -> Height {
        Height(self.0.oldest)
    }

    /// The state root at a height.
    ///
    /// # Errors
    /// [`Error::Pruned`] and [`Error::Future`] if that height isn't kept.
    pub fn root(&self, height: Height) -> Result<Digest, Error> {
        self.check_kept(height)?;
        let root = Sha256Jmt::new(self).get_root_hash(height.0).map_err(Error::tree)?;
        Ok(Digest(root.0))
    }

    /// A key's value at a height, or its absence, with proof.
    ///
    /// # Errors
    /// [`Error::Pruned`] and [`Error::Future`] if that height isn't kept; [`Error::Tree`] if the key is empty, or the whole
    /// state: the absence of a key is proven by its neighbours.
    pub fn prove(
        &self,
        key: &[u8],
        height: Height,
    ) -> Result<(Option<Vec<u8>>, StateProof), Error> {
        self.check_kept(height)?;
        tree::prove(self, key, height).map_err(Error::tree)
    }

    /// A value as it was written. The tree has something else in a long one's place.
    pub(crate) fn written(
        &self,
        hash: &[u8; 32],
        version: Version,
    ) -> Result<Option<Vec<u8>>, Error> {
        let versions = self.0.values.range((hash, 0)..=(hash, version))?;
        let Some(newest) = { versions }.next_back() else { return Ok(None) };
        Ok(newest?.1.value().map(<[u8]>::to_vec))
    }

    pub(crate) fn check_kept(&self, height: Height) -> Result<(), Error> {
        if self.0.tip.is_none_or(|tip| height.0 > tip) {
            return Err(Error::Future(height));
        }
        if height.0 < self.0.oldest {
            return Err(Error::Pruned { height, oldest: self.oldest() });
        }
        Ok(())
    }

    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.0.state.get(key)?.map(|entry| entry.value().1.to_vec()))
    }

    fn read_range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Entries, Error> {
        if start >= end {
            return Ok(Entries::new());
        }
        let entries = self.0.state.range(start..end)?.take(limit);
        entries
            .map(|entry| Ok(entry.map(|(k, v)| (k.value().into(), v.value().1.into()))?))
            .collect()
    }
}

impl StateReader for Reader {
    /// The last checkpoint's; 0 before genesis, too ([`Reader::height`] tells them apart).
    fn version(&self) -> Version {
        self.0.tip.unwrap_or(0)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.read(key)?)
    }

    fn get_at(&self, key: &[u8], version: Version) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.written(&tables::key_hash(key), version)?)
    }

    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Entries, StorageError> {
        Ok(self.read_range(start, end, limit)?)
    }
}

impl TreeReader for Reader {
    fn get_node_option(&self, key: &NodeKey) -> anyhow::Result<Option<Node>> {
        let Some(bytes) = self.0.nodes.get(tables::node_key(key).as_slice())? else {
            return Ok(None);
        };
        Ok(Some(Node::try_from_slice(bytes.value())?))
    }

    fn get_value_option(
        &self,
        max_version: Version,
        key: KeyHash,
    ) -> anyhow::Result<Option<OwnedValue>> {
        Ok(self.written(&key.0, max_version)?.map(|value| tree::in_tree(&value)))
    }

    /// None: only [`crate::Restore`] needs one, and has its own.
    fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
        Ok(None)
    }
}

impl HasPreimage for Reader {
    fn preimage(&self, key: KeyHash) -> anyhow::Result<Option<Vec<u8>>> {
        let key = self.0.preimages.get(&key.0)?;
        Ok(key.map(|key| key.value().to_vec()))
    }
}

fn open<K: redb::Key + 'static, V: redb::Value + 'static>(
    read: &ReadTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<ReadOnlyTable<K, V>, Error> {
    Ok(read.open_table(table)?)
}
