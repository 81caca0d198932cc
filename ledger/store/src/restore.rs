use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use borsh::{BorshDeserialize, BorshSerialize};
use jmt::proof::SparseMerkleRangeProof;
use jmt::restore::{JellyfishMerkleRestore, StateSnapshotReceiver as _};
use jmt::storage::{LeafNode, Node, NodeBatch, NodeKey, TreeReader, TreeWriter};
use jmt::{KeyHash, OwnedValue, RootHash, SimpleHasher, Version};
use lamina_ledger::state::tree;
use lamina_ledger::{Decision, FinalChange};
use lamina_types::{Digest, Hasher, Height, VolumeId};
use redb::{ReadOnlyTable, ReadableTable as _, WriteTransaction};

use crate::snapshot::{Chunk, Entry};
use crate::tables::{self, Bytes};
use crate::{Error, Reader, Store, commit, store};

/// Takes a state in, piece by piece, into a store that has none.
///
/// Pieces may come from anyone: each is checked against the state root before it's written, and a wrong one changes nothing.
/// Whatever was written stays over a restart: [`Restore::begin`] with the same height and root goes on from there. Then come
/// the open volumes' final changes, whose order is checked but not their signatures; at last [`Restore::finish`] makes the
/// checkpoint the store's last one, from which [`Store::commit`] goes on.
///
/// The root must come from a checkpoint whose certificate was verified. A state without a key can't be restored; there is none.
pub struct Restore<'a> {
    store: &'a Store,
    progress: Saved,
    /// What jmt has in memory; `None` if it's to begin from what is on disk.
    tree: Option<(Tree, Arc<Staging>)>,
}

/// How far a state is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Progress {
    /// The checkpoint's height.
    pub height: Height,
    /// Its state root.
    pub root: Digest,
    /// Pieces so far.
    pub chunks: u64,
    /// Whether all of the state is there.
    pub complete: bool,
}

/// The same on disk.
#[derive(Debug, Clone, BorshSerialize, BorshDeserialize)]
struct Saved {
    progress: Progress,
    /// The rightmost leaf among the nodes on disk.
    leaf: Option<(NodeKey, LeafNode)>,
    /// The hash of the last key. Its leaf isn't on disk before the next key's, because the node's place depends on that.
    last: Option<[u8; 32]>,
}

impl fmt::Debug for Restore<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restore").field("progress", &self.progress).finish_non_exhaustive()
    }
}

impl<'a> Restore<'a> {
    /// Begins, or goes on with what was begun. What was begun for another height or root is given up.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] if there's a checkpoint already; [`Error::Database`].
    pub fn begin(store: &'a Store, height: Height, root: Digest) -> Result<Self, Error> {
        let write = store.database.begin_write()?;
        let (tip, found) = {
            let meta = write.open_table(tables::META)?;
            let saved = meta.get(tables::RESTORE)?;
            let saved = saved.map(|bytes| store::decode::<Saved>("meta", bytes.value()));
            (tables::height(&meta, tables::TIP)?, saved.transpose()?)
        };
        if tip.is_some() {
            return Err(Error::NotEmpty);
        }
        let same = |saved: &Saved| (saved.progress.height, saved.progress.root) == (height, root);
        if let Some(progress) = found.filter(same) {
            return Ok(Self { store, progress, tree: None });
        }
        let progress = Progress { height, root, chunks: 0, complete: false };
        let progress = Saved { progress, leaf: None, last: None };
        tables::clear_state(&write)?;
        clear_volumes(&write)?;
        progress.write(&write)?;
        write.commit()?;
        Ok(Self { store, progress, tree: None })
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.progress
    }

    /// What the next piece comes after: the hash to ask for.
    #[must_use]
    pub fn after(&self) -> Option<Digest> {
        match self.tree {
            Some(_) => self.progress.last.map(Digest),
            None => self.progress.leaf.as_ref().map(|(_, leaf)| Digest(leaf.key_hash().0)),
        }
    }

    /// Takes the piece that comes after [`Restore::after`]. It's on disk when this returns.
    ///
    /// # Errors
    /// [`Error::Chunk`] if it isn't that piece of the state: nothing was written, and [`Restore::after`] may have stepped back by
    /// one key. [`Error::Database`].
    pub fn add(&mut self, chunk: &Chunk) -> Result<(), Error> {
        if self.progress.progress.complete {
            return Err(Error::chunk("the state is complete"));
        }
        // Nothing at all is no state; and nothing without an end would go on for ever.
        if chunk.entries.as_slice().is_empty() && !(chunk.last && self.progress.last.is_some()) {
            return Err(Error::chunk("it's empty"));
        }
        let (mut tree, staging) = self.tree(chunk)?;
        let mut next = self.progress.clone();
        if !chunk.entries.as_slice().is_empty() {
            let proof = decode_proof(chunk.proof.as_slice())?;
            let entries = chunk.entries.as_slice().iter().map(hash_entry).collect();
            tree.add_chunk(entries, proof).map_err(Error::chunk)?;
            next.last = chunk.entries.as_slice().last().map(|entry| entry.hash().0);
        }
        next.progress.complete = chunk.last;
        let tree = if chunk.last {
            tree.finish().map_err(Error::chunk)?;
            None
        } else {
            Some((tree, Arc::clone(&staging)))
        };
        self.keep(&mut next, chunk, &staging.take())?;
        (self.progress, self.tree) = (next, tree);
        Ok(())
    }

    /// The state that was restored, before it's the store's.
    ///
    /// # Errors
    /// [`Error::Restoring`] while it isn't complete; [`Error::Database`].
    pub fn reader(&self) -> Result<Reader, Error> {
        let Progress { height, complete, .. } = self.progress();
        if !complete {
            return Err(Error::Restoring);
        }
        Reader::at(&self.store.read()?, Some(height.0), height.0)
    }

    /// Takes final changes of the checkpoint's open volumes; those that are there are skipped.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if a lane has a gap; [`Error::NotOpen`] if a volume wasn't named; [`Error::Database`].
    pub fn add_changes(&self, opened: &[VolumeId], changes: Vec<FinalChange>) -> Result<(), Error> {
        let write = self.store.database.begin_write()?;
        commit::open_volumes(&write, opened)?;
        let mut missing = Vec::new();
        {
            let lanes = write.open_table(tables::LANES)?;
            for change in changes {
                let volume = tables::volume_key(&change.change.volume);
                let head = lanes.get((&volume, &change.change.author.0))?;
                if head.is_none_or(|head| head.value().0 < change.change.number) {
                    missing.push(change);
                }
            }
        }
        commit::add_changes(&write, self.progress.progress.height, &missing)?;
        write.commit()?;
        Ok(())
    }

    /// Makes the checkpoint the store's last one. `history` are the nodes of the accumulator of headers that the next ones need.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if it isn't the checkpoint that was begun with, the state isn't complete, or a lane isn't where the cut
    /// says; [`Error::Database`].
    pub fn finish(self, decision: &Decision, history: &[(u64, Digest)]) -> Result<(), Error> {
        let Progress { height, root, complete, .. } = self.progress.progress;
        let header = &decision.header;
        let mismatch = |reason: &str| Err(Error::Mismatch { height, reason: reason.to_owned() });
        if (header.height, header.state) != (height, root) {
            return mismatch("another checkpoint's state was restored");
        }
        if header.cut != decision.cut.digest() {
            return mismatch("the header names another cut");
        }
        if !complete {
            return mismatch("the state isn't complete");
        }
        let write = self.store.database.begin_write()?;
        commit::check_cut(&write, height, &commit::open_part(&write, &decision.cut)?)?;
        commit::archive(&write, decision, history)?;
        {
            let mut meta = write.open_table(tables::META)?;
            meta.insert(tables::OLDEST, height.0.to_be_bytes().as_slice())?;
            meta.remove(tables::RESTORE)?;
        }
        write.commit()?;
        Ok(())
    }

    /// What jmt has in memory. On an error it stays away: a piece that's wrong has changed it.
    fn tree(&mut self, chunk: &Chunk) -> Result<(Tree, Arc<Staging>), Error> {
        if let Some(tree) = self.tree.take() {
            return Ok(tree);
        }
        // The last key's leaf isn't on disk, so the node above it has a gap. Whatever else came first would be put beside that
        // gap, where jmt wouldn't only refuse it: it would panic.
        let first = chunk.entries.as_slice().first().map(|entry| entry.hash().0);
        if self.progress.last.is_some_and(|last| first != Some(last)) {
            return Err(Error::chunk("it doesn't begin with the last key again"));
        }
        let nodes = self.store.read()?.open_table(tables::NODES)?;
        let staging = Arc::new(Staging {
            leaf: self.progress.leaf.clone(),
            nodes: Mutex::new(Some(nodes)),
            batch: Mutex::default(),
        });
        let Progress { height, root, .. } = self.progress.progress;
        let tree = Tree::new(Arc::clone(&staging), height.0, RootHash(root.0));
        lock(&staging.nodes).take();
        Ok((tree.map_err(Error::tree)?, staging))
    }

    /// Writes a piece that was checked, and the nodes that it completes.
    fn keep(&self, next: &mut Saved, chunk: &Chunk, batch: &NodeBatch) -> Result<(), Error> {
        let Progress { height, root, .. } = next.progress;
        if chunk.last && commit::tree_root(batch, height.0)? != Some(root) {
            return Err(Error::chunk("it isn't the last one"));
        }
        next.progress.chunks = next.progress.chunks.saturating_add(1);
        next.leaf = rightmost_leaf(batch).or_else(|| next.leaf.take());
        let write = self.store.database.begin_write()?;
        commit::write_tree(&write, batch)?;
        write_entries(&write, height, chunk.entries.as_slice())?;
        next.write(&write)?;
        write.commit()?;
        Ok(())
    }
}

impl Saved {
    fn write(&self, write: &WriteTransaction) -> Result<(), Error> {
        let bytes = borsh::to_vec(self).expect("writing to memory doesn't fail");
        write.open_table(tables::META)?.insert(tables::RESTORE, bytes.as_slice())?;
        Ok(())
    }
}

impl Entry {
    fn hash(&self) -> KeyHash {
        KeyHash(tables::key_hash(self.key.as_slice()))
    }
}

fn hash_entry(entry: &Entry) -> (KeyHash, OwnedValue) {
    (entry.hash(), tree::in_tree(entry.value.as_slice()))
}

fn decode_proof(bytes: &[u8]) -> Result<SparseMerkleRangeProof<Sha256>, Error> {
    let proof = SparseMerkleRangeProof::try_from_slice(bytes).map_err(Error::chunk)?;
    Ok(proof)
}

fn rightmost_leaf(batch: &NodeBatch) -> Option<(NodeKey, LeafNode)> {
    let leaves = batch.nodes().iter().filter_map(|(key, node)| match node {
        Node::Leaf(leaf) => Some((key.clone(), leaf.clone())),
        _ => None,
    });
    leaves.max_by_key(|(_, leaf)| leaf.key_hash())
}

/// Nothing is stale: what's written twice is the same.
fn write_entries(write: &WriteTransaction, height: Height, entries: &[Entry]) -> Result<(), Error> {
    let mut state = write.open_table(tables::STATE)?;
    let mut preimages = write.open_table(tables::PREIMAGES)?;
    let mut values = write.open_table(tables::VALUES)?;
    for entry in entries {
        let (key, value) = (entry.key.as_slice(), entry.value.as_slice());
        state.insert(key, (height.0, value))?;
        preimages.insert(&tables::key_hash(key), key)?;
        values.insert((&tables::key_hash(key), height.0), Some(value))?;
    }
    Ok(())
}

fn clear_volumes(write: &WriteTransaction) -> Result<(), Error> {
    write.delete_table(tables::VOLUMES)?;
    write.delete_table(tables::LANES)?;
    write.open_table(tables::VOLUMES)?;
    write.open_table(tables::LANES)?;
    Ok(())
}

type Tree = JellyfishMerkleRestore<Sha256>;

/// SHA-256 for jmt.
struct Sha256(Hasher);

impl SimpleHasher for Sha256 {
    fn new() -> Self {
        Self(Hasher::default())
    }

    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finalize(self) -> [u8; 32] {
        self.0.digest().0
    }
}

/// Where jmt puts the nodes that are complete, until they are written with what they came in.
struct Staging {
    leaf: Option<(NodeKey, LeafNode)>,
    /// While jmt finds where it was.
    nodes: Mutex<Option<ReadOnlyTable<Bytes, Bytes>>>,
    batch: Mutex<NodeBatch>,
}

impl Staging {
    fn take(&self) -> NodeBatch {
        std::mem::take(&mut *lock(&self.batch))
    }
}

impl TreeWriter for Staging {
    fn write_node_batch(&self, batch: &NodeBatch) -> anyhow::Result<()> {
        lock(&self.batch).merge(batch.clone());
        Ok(())
    }
}

impl TreeReader for Staging {
    fn get_node_option(&self, key: &NodeKey) -> anyhow::Result<Option<Node>> {
        let nodes = lock(&self.nodes);
        let Some(nodes) = nodes.as_ref() else { return Ok(None) };
        let bytes = nodes.get(tables::node_key(key).as_slice())?;
        Ok(bytes.map(|bytes| Node::try_from_slice(bytes.value())).transpose()?)
    }

    fn get_value_option(&self, _: Version, _: KeyHash) -> anyhow::Result<Option<OwnedValue>> {
        Ok(None)
    }

    fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
        Ok(self.leaf.clone())
    }
}

/// Nothing panics while it holds the lock.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
