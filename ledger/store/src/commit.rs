//! One checkpoint, one transaction.

use jmt::storage::{LeafNode, Node, NodeBatch, NodeKey, TreeReader, TreeUpdateBatch};
use jmt::{KeyHash, OwnedValue, Sha256Jmt, Version};
use lamina_ledger::state::{Executed, Receipt, Writes};
use lamina_ledger::{Decision, FinalChange, Finalised};
use lamina_types::{Canonical as _, ChangeId, Cut, Digest, Height, List, VolumeId};
use redb::{ReadableTable as _, Table, WriteTransaction};

use crate::Error;
use crate::store::put_handover;
use crate::tables::{self, Id, KEY_BYTES_MAX, VALUE_BYTES_MAX, Volume};

/// Stale entries that a commit prunes beyond twice as many as it adds: so whatever was left over is caught up with, in steps
/// that no one feels.
const PRUNE_EXTRA: usize = 256;

/// Writes a checkpoint.
pub(crate) fn apply(
    write: &WriteTransaction,
    finalised: &Finalised,
    keep_versions: u64,
) -> Result<(), Error> {
    let Finalised { decision, executed, .. } = finalised;
    let height = decision.header.height;
    check_order(write, height)?;
    check_parts(decision, executed)?;
    open_volumes(write, &finalised.opened)?;
    add_changes(write, height, &finalised.changes)?;
    check_cut(write, height, &decision.cut)?;
    drop_changes(write, &finalised.dropped)?;
    close_volumes(write, &finalised.closed)?;
    add_receipts(write, &executed.receipts)?;
    clear_log(write, height)?;
    archive(write, decision, &finalised.history_nodes)?;
    if let Some(handover) = &finalised.handover {
        put_handover(write, handover)?;
    }
    add_outcomes(write, height, executed)?;
    write_tree(write, &executed.tree.node_batch)?;
    let mut stale = write_state(write, height, &executed.writes)?;
    stale += add_stale_nodes(write, &executed.tree)?;
    let oldest = advance_oldest(write, height, keep_versions)?;
    prune(write, oldest, stale.saturating_mul(2).saturating_add(PRUNE_EXTRA))
}

/// jmt loses the whole tree without a word if a version is left out.
fn check_order(write: &WriteTransaction, height: Height) -> Result<(), Error> {
    let meta = write.open_table(tables::META)?;
    if meta.get(tables::RESTORE)?.is_some() {
        return Err(Error::Restoring);
    }
    let tip = tables::height(&meta, tables::TIP)?;
    let expected = Height(tip.map_or(0, |tip| tip.saturating_add(1)));
    if height == expected { Ok(()) } else { Err(Error::OutOfOrder { expected, found: height }) }
}

fn check_parts(decision: &Decision, executed: &Executed) -> Result<(), Error> {
    let height = decision.header.height;
    let roots = (executed.state, executed.claims, executed.results);
    let mismatch = |reason: &str| Err(Error::Mismatch { height, reason: reason.to_owned() });
    if roots != (decision.header.state, decision.header.claims, decision.header.results) {
        return mismatch("the header has other roots");
    }
    if decision.header.cut != decision.cut.digest() {
        return mismatch("the header names another cut");
    }
    if decision.certificate.is_none() && height != Height(0) {
        return mismatch("nobody signed it");
    }
    if tree_root(&executed.tree.node_batch, height.0)? != Some(executed.state) {
        return mismatch("the tree has another root");
    }
    let values = executed.tree.node_batch.values().keys();
    // Of as many keys, and each among them: the same keys.
    let same = values.len() == executed.writes.len()
        && executed.writes.keys().all(|key| {
            let id = (height.0, KeyHash(tables::key_hash(key)));
            executed.tree.node_batch.values().contains_key(&id)
        });
    if !same {
        return mismatch("the tree has other keys");
    }
    check_sizes(height, &executed.writes)
}

fn check_sizes(height: Height, writes: &Writes) -> Result<(), Error> {
    for (key, value) in writes {
        let value = value.as_ref().map_or(1, Vec::len);
        let fits =
            (1..=KEY_BYTES_MAX).contains(&key.len()) && (1..=VALUE_BYTES_MAX).contains(&value);
        if !fits {
            let (key, length) = (hex::encode(key), key.len());
            let reason = format!("key {key} of {length} bytes with a value of {value}");
            return Err(Error::Mismatch { height, reason });
        }
    }
    Ok(())
}

/// The root that these nodes have, by their own account.
pub(crate) fn tree_root(nodes: &NodeBatch, version: Version) -> Result<Option<Digest>, Error> {
    let root = Sha256Jmt::new(&Batch(nodes)).get_root_hash_option(version).map_err(Error::tree)?;
    Ok(root.map(|root| Digest(root.0)))
}

/// Nodes that aren't written yet. jmt hashes nodes for readers only.
struct Batch<'a>(&'a NodeBatch);

impl TreeReader for Batch<'_> {
    fn get_node_option(&self, key: &NodeKey) -> anyhow::Result<Option<Node>> {
        Ok(self.0.get_node(key).cloned())
    }

    fn get_value_option(&self, _: Version, _: KeyHash) -> anyhow::Result<Option<OwnedValue>> {
        Ok(None)
    }

    fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
        Ok(None)
    }
}

pub(crate) fn open_volumes(write: &WriteTransaction, opened: &[VolumeId]) -> Result<(), Error> {
    let mut volumes = write.open_table(tables::VOLUMES)?;
    for id in opened {
        let key = tables::volume_key(id);
        if volumes.get(&key)?.is_none() {
            volumes.insert(&key, 0)?;
        }
    }
    Ok(())
}

pub(crate) fn add_changes(
    write: &WriteTransaction,
    height: Height,
    changes: &[FinalChange],
) -> Result<(), Error> {
    let mut table = write.open_table(tables::CHANGES)?;
    let mut pending = write.open_table(tables::PENDING)?;
    let mut lanes = write.open_table(tables::LANES)?;
    let mut volumes = write.open_table(tables::VOLUMES)?;
    let mut operations = write.open_table(tables::OPERATIONS)?;
    for final_change in changes {
        let change = &final_change.change;
        let volume = tables::volume_key(&change.volume);
        extend_lane(&mut lanes, height, &volume, final_change)?;
        count_operations(&mut volumes, &volume, final_change)?;
        let place = (&volume, &change.author.0, change.number);
        table.insert(place, change.to_bytes().as_slice())?;
        pending.remove(&final_change.id.0)?;
        for (index, id) in (0..).zip(&final_change.operations) {
            if operations.get(&id.0)?.is_none() {
                operations.insert(&id.0, (place.0, place.1, place.2, index))?;
            }
        }
    }
    Ok(())
}

/// A lane has no gaps, and no branches.
fn extend_lane(
    lanes: &mut Table<'_, (Volume, Id), (u64, Id)>,
    height: Height,
    volume: &[u8; tables::VOLUME_BYTES],
    FinalChange { id, change, operations }: &FinalChange,
) -> Result<(), Error> {
    let lane = (volume, &change.author.0);
    let head = lanes.get(lane)?.map(|head| (head.value().0, ChangeId(*head.value().1)));
    let (number, previous) = head.unwrap_or_default();
    let follows = number.checked_add(1) == Some(change.number) && previous == change.previous;
    if !follows {
        let reason = format!("change {id} doesn't follow its lane's number {number}");
        return Err(Error::Mismatch { height, reason });
    }
    if change.operations.as_slice().len() != operations.len() {
        let reason = format!("change {id} has as many operations as it has no identifiers for");
        return Err(Error::Mismatch { height, reason });
    }
    lanes.insert(lane, (change.number, &id.0))?;
    Ok(())
}

fn count_operations(
    volumes: &mut Table<'_, Volume, u32>,
    volume: &[u8; tables::VOLUME_BYTES],
    change: &FinalChange,
) -> Result<(), Error> {
    let before = volumes.get(volume)?.map(|count| count.value());
    let before = before.ok_or(Error::NotOpen(change.change.volume))?;
    let added = u32::try_from(change.operations.len()).expect("a change has few operations");
    volumes.insert(volume, before.saturating_add(added))?;
    Ok(())
}

/// Every lane ends where the cut says.
pub(crate) fn check_cut(write: &WriteTransaction, height: Height, cut: &Cut) -> Result<(), Error> {
    let (volumes, lanes) = (write.open_table(tables::VOLUMES)?, write.open_table(tables::LANES)?);
    for book in cut.books.as_slice() {
        let id = VolumeId { book: book.book, volume: book.volume };
        let volume = tables::volume_key(&id);
        if volumes.get(&volume)?.is_none() {
            return Err(Error::NotOpen(id));
        }
        for lane in book.lanes.as_slice() {
            let head = lanes.get((&volume, &lane.author.0))?;
            let head = head.map(|head| (head.value().0, ChangeId(*head.value().1)));
            if head != Some((lane.number, lane.change)) {
                let reason = format!("lane {} of volume {id} isn't where the cut is", lane.author);
                return Err(Error::Mismatch { height, reason });
            }
        }
    }
    Ok(())
}

/// The part of a cut that is of open volumes: others ended with it.
pub(crate) fn open_part(write: &WriteTransaction, cut: &Cut) -> Result<Cut, Error> {
    let volumes = write.open_table(tables::VOLUMES)?;
    let mut books = Vec::new();
    for book in cut.books.as_slice() {
        let id = VolumeId { book: book.book, volume: book.volume };
        if volumes.get(&tables::volume_key(&id))?.is_some() {
            books.push(book.clone());
        }
    }
    Ok(Cut { books: List::truncated(books) })
}

fn drop_changes(write: &WriteTransaction, dropped: &[ChangeId]) -> Result<(), Error> {
    let mut pending = write.open_table(tables::PENDING)?;
    for id in dropped {
        pending.remove(&id.0)?;
    }
    Ok(())
}

fn close_volumes(write: &WriteTransaction, closed: &[VolumeId]) -> Result<(), Error> {
    let mut volumes = write.open_table(tables::VOLUMES)?;
    let mut lanes = write.open_table(tables::LANES)?;
    let mut pending = write.open_table(tables::PENDING)?;
    for id in closed {
        let key = tables::volume_key(id);
        if volumes.remove(&key)?.is_none() {
            return Err(Error::NotOpen(*id));
        }
        lanes.retain_in((&key, &[0; 32])..=(&key, &[u8::MAX; 32]), |_, _| false)?;
        // A change begins with its volume.
        let prefix = borsh::to_vec(id).expect("writing to memory doesn't fail");
        pending.retain(|_, change| !change.starts_with(&prefix))?;
    }
    Ok(())
}

/// The first receipt stays: an operation that comes again is nothing new.
fn add_receipts(write: &WriteTransaction, receipts: &[Receipt]) -> Result<(), Error> {
    let mut table = write.open_table(tables::RECEIPTS)?;
    let mut promises = write.open_table(tables::PROMISES)?;
    for receipt in receipts {
        let id = &receipt.operation.0;
        if table.get(id)?.is_none() {
            let bytes = borsh::to_vec(receipt).expect("writing to memory doesn't fail");
            table.insert(id, bytes.as_slice())?;
        }
        promises.remove(id)?;
    }
    Ok(())
}

fn clear_log(write: &WriteTransaction, height: Height) -> Result<(), Error> {
    let mut log = write.open_table(tables::LOG)?;
    log.retain_in(..=(height.0, u64::MAX), |_, _| false)?;
    Ok(())
}

/// Keeps the decision and makes it the last one.
pub(crate) fn archive(
    write: &WriteTransaction,
    decision: &Decision,
    history: &[(u64, Digest)],
) -> Result<(), Error> {
    let height = decision.header.height.0;
    let bytes = decision.to_bytes();
    write.open_table(tables::CHECKPOINTS)?.insert(height, bytes.as_slice())?;
    let mut nodes = write.open_table(tables::HISTORY)?;
    for (position, node) in history {
        nodes.insert(position, &node.0)?;
    }
    write.open_table(tables::META)?.insert(tables::TIP, height.to_be_bytes().as_slice())?;
    Ok(())
}

fn add_outcomes(
    write: &WriteTransaction,
    height: Height,
    executed: &Executed,
) -> Result<(), Error> {
    if !executed.outcomes.is_empty() {
        let bytes = borsh::to_vec(&executed.outcomes).expect("writing to memory doesn't fail");
        write.open_table(tables::OUTCOMES)?.insert(height.0, bytes.as_slice())?;
    }
    Ok(())
}

/// Writes keys and values, and notes which older values aren't needed from this height on. Returns how many these are.
pub(crate) fn write_state(
    write: &WriteTransaction,
    height: Height,
    writes: &Writes,
) -> Result<usize, Error> {
    let mut state = write.open_table(tables::STATE)?;
    let mut preimages = write.open_table(tables::PREIMAGES)?;
    let mut stale = write.open_table(tables::STALE_VALUES)?;
    let mut values = write.open_table(tables::VALUES)?;
    let mut count = 0;
    for (key, value) in writes {
        let hash = tables::key_hash(key);
        // In the tree's values, a long one's stand-in is in its place.
        values.insert((&hash, height.0), value.as_deref())?;
        let before = match value {
            Some(value) => state.insert(key.as_slice(), (height.0, value.as_slice()))?,
            None => state.remove(key.as_slice())?,
        };
        let before = before.map(|entry| entry.value().0);
        if before.is_none() && value.is_some() {
            preimages.insert(&hash, key.as_slice())?;
        }
        // That a key was removed needn't be known once nobody asks for what was before.
        let removed = value.is_none().then_some(height.0);
        for version in before.into_iter().chain(removed) {
            stale.insert((height.0, &hash, version), ())?;
            count += 1;
        }
    }
    Ok(count)
}

pub(crate) fn write_tree(write: &WriteTransaction, batch: &NodeBatch) -> Result<(), Error> {
    let mut nodes = write.open_table(tables::NODES)?;
    for (key, node) in batch.nodes() {
        let bytes = borsh::to_vec(node).expect("writing to memory doesn't fail");
        nodes.insert(tables::node_key(key).as_slice(), bytes.as_slice())?;
    }
    Ok(())
}

fn add_stale_nodes(write: &WriteTransaction, tree: &TreeUpdateBatch) -> Result<usize, Error> {
    let mut stale = write.open_table(tables::STALE_NODES)?;
    for entry in &tree.stale_node_index_batch {
        let since = entry.stale_since_version.to_be_bytes();
        let key = [since.as_slice(), &tables::node_key(&entry.node_key)].concat();
        stale.insert(key.as_slice(), ())?;
    }
    Ok(tree.stale_node_index_batch.len())
}

/// The oldest height that's kept from now on. It never goes back: what's pruned stays so, whatever the configuration says.
fn advance_oldest(write: &WriteTransaction, height: Height, keep: u64) -> Result<Version, Error> {
    let mut meta = write.open_table(tables::META)?;
    let before = tables::height(&meta, tables::OLDEST)?.unwrap_or(0);
    let oldest = before.max(height.0.saturating_sub(keep.max(1) - 1));
    meta.insert(tables::OLDEST, oldest.to_be_bytes().as_slice())?;
    Ok(oldest)
}

/// Removes at most `limit` nodes, and as many values, that no height from `oldest` on needs.
fn prune(write: &WriteTransaction, oldest: Version, limit: usize) -> Result<(), Error> {
    prune_nodes(write, oldest, limit)?;
    prune_values(write, oldest, limit)
}

fn prune_nodes(write: &WriteTransaction, oldest: Version, limit: usize) -> Result<(), Error> {
    let end = oldest.saturating_add(1).to_be_bytes();
    let mut stale = write.open_table(tables::STALE_NODES)?;
    let mut nodes = write.open_table(tables::NODES)?;
    let range = stale.extract_from_if::<&[u8], _>(..end.as_slice(), |_, ()| true)?;
    for entry in range.take(limit) {
        let (key, _) = entry?;
        nodes.remove(&key.value()[8..])?;
    }
    Ok(())
}

fn prune_values(write: &WriteTransaction, oldest: Version, limit: usize) -> Result<(), Error> {
    let mut stale = write.open_table(tables::STALE_VALUES)?;
    let mut values = write.open_table(tables::VALUES)?;
    let mut preimages = write.open_table(tables::PREIMAGES)?;
    let range = stale.extract_from_if(..=(oldest, &[u8::MAX; 32], u64::MAX), |_, ()| true)?;
    for entry in range.take(limit) {
        let (key, _) = entry?;
        let (since, hash, version) = key.value();
        let removed = values.remove((hash, version))?.is_some_and(|value| value.value().is_none());
        // The key itself is needed as long as any value is.
        if removed
            && since == version
            && values.range((hash, 0)..=(hash, u64::MAX))?.next().is_none()
        {
            preimages.remove(hash)?;
        }
    }
    Ok(())
}
