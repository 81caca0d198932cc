//! The tables, and the bytes of their keys. `DESIGN.md` draws them.

use jmt::storage::NodeKey;
use lamina_types::{BookId, Digest, ServiceId, VolumeId};
use redb::{TableDefinition, WriteTransaction};

use crate::Error;

/// An identifier, a digest or an account.
pub(crate) type Id = &'static [u8; 32];
/// A volume: see [`volume_key`].
pub(crate) type Volume = &'static [u8; VOLUME_BYTES];
/// Borsh, but where it's said otherwise.
pub(crate) type Bytes = &'static [u8];
/// A change's volume, author and number.
pub(crate) type Place = (Volume, Id, u64);
type Table<K, V> = TableDefinition<'static, K, V>;

pub(crate) const META: Table<&str, Bytes> = Table::new("meta");
/// By height: the decision.
pub(crate) const CHECKPOINTS: Table<u64, Bytes> = Table::new("checkpoints");
/// By position: nodes of the accumulator of headers.
pub(crate) const HISTORY: Table<u64, Id> = Table::new("history");
/// By height: tasks with their outcomes' digests.
pub(crate) const OUTCOMES: Table<u64, Bytes> = Table::new("outcomes");
/// By operation.
pub(crate) const RECEIPTS: Table<Id, Bytes> = Table::new("receipts");
/// By operation: its change's place, and its own place therein.
pub(crate) const OPERATIONS: Table<Id, (Volume, Id, u64, u16)> = Table::new("operations");
/// Final changes.
pub(crate) const CHANGES: Table<Place, Bytes> = Table::new("changes");
/// Open volumes, and how many final operations they have.
pub(crate) const VOLUMES: Table<Volume, u32> = Table::new("volumes");
/// By open volume and author: the number and identifier of the last final change.
pub(crate) const LANES: Table<(Volume, Id), (u64, Id)> = Table::new("lanes");
/// By change: those that aren't final.
pub(crate) const PENDING: Table<Id, Bytes> = Table::new("pending");
/// By operation.
pub(crate) const PROMISES: Table<Id, Bytes> = Table::new("promises");
/// By SHA-256: evidence as it came.
pub(crate) const EVIDENCE: Table<Id, Bytes> = Table::new("evidence");
/// By epoch: how its operators were handed over to.
pub(crate) const HANDOVERS: Table<u64, Bytes> = Table::new("handovers");
/// By height and place: entries as they came.
pub(crate) const LOG: Table<(u64, u64), Bytes> = Table::new("log");
/// By key: the height at which it was written, and the value as it is.
pub(crate) const STATE: Table<Bytes, (u64, Bytes)> = Table::new("state");
/// By [`node_key`].
pub(crate) const NODES: Table<Bytes, Bytes> = Table::new("nodes");
/// By hash of the key and height: the value as it is; none if the key was removed.
pub(crate) const VALUES: Table<(Id, u64), Option<Bytes>> = Table::new("values");
/// By hash: the key.
pub(crate) const PREIMAGES: Table<Id, Bytes> = Table::new("preimages");
/// The height since which a node isn't needed (8 bytes, big-endian), and its key.
pub(crate) const STALE_NODES: Table<Bytes, ()> = Table::new("stale_nodes");
/// The height since which a value isn't needed, and the value's hash and height.
pub(crate) const STALE_VALUES: Table<(u64, Id, u64), ()> = Table::new("stale_values");

/// The version of what the tables hold. Another one is refused: there is no migration yet.
pub(crate) const VERSION: &[u8] = b"1";
/// In [`META`]: the height of the last checkpoint.
pub(crate) const TIP: &str = "tip";
/// In [`META`]: the oldest height of which there are proofs.
pub(crate) const OLDEST: &str = "oldest";
/// In [`META`]: how far a snapshot is restored.
pub(crate) const RESTORE: &str = "restore";

/// Longest key of the state, in bytes.
pub const KEY_BYTES_MAX: usize = 256;
/// Longest value of the state, in bytes: any key and value fit into one piece of a snapshot.
pub const VALUE_BYTES_MAX: usize = 512 * 1024;

/// A volume's bytes: kind of book (1), service (32, zero for the network's book), number (4, big-endian).
pub(crate) const VOLUME_BYTES: usize = 1 + 32 + 4;

/// Makes all tables, so that readers find them.
pub(crate) fn create(write: &WriteTransaction) -> Result<(), Error> {
    write.open_table(META)?;
    write.open_table(CHECKPOINTS)?;
    write.open_table(HISTORY)?;
    write.open_table(OUTCOMES)?;
    write.open_table(RECEIPTS)?;
    write.open_table(OPERATIONS)?;
    write.open_table(CHANGES)?;
    write.open_table(VOLUMES)?;
    write.open_table(LANES)?;
    write.open_table(PENDING)?;
    write.open_table(PROMISES)?;
    write.open_table(EVIDENCE)?;
    write.open_table(HANDOVERS)?;
    write.open_table(LOG)?;
    create_state(write)
}

/// Makes the tables of the state and its tree.
pub(crate) fn create_state(write: &WriteTransaction) -> Result<(), Error> {
    write.open_table(STATE)?;
    write.open_table(NODES)?;
    write.open_table(VALUES)?;
    write.open_table(PREIMAGES)?;
    write.open_table(STALE_NODES)?;
    write.open_table(STALE_VALUES)?;
    Ok(())
}

/// Empties the tables of the state and its tree.
pub(crate) fn clear_state(write: &WriteTransaction) -> Result<(), Error> {
    write.delete_table(STATE)?;
    write.delete_table(NODES)?;
    write.delete_table(VALUES)?;
    write.delete_table(PREIMAGES)?;
    write.delete_table(STALE_NODES)?;
    write.delete_table(STALE_VALUES)?;
    create_state(write)
}

/// A height in [`META`].
pub(crate) fn height(
    meta: &impl redb::ReadableTable<&'static str, &'static [u8]>,
    key: &'static str,
) -> Result<Option<u64>, Error> {
    let Some(bytes) = meta.get(key)? else { return Ok(None) };
    let bytes = bytes.value().try_into().map_err(|_| Error::corrupt("meta", key))?;
    Ok(Some(u64::from_be_bytes(bytes)))
}

pub(crate) fn volume_key(id: &VolumeId) -> [u8; VOLUME_BYTES] {
    let mut key = [0; VOLUME_BYTES];
    if let BookId::Service(service) = id.book {
        key[0] = 1;
        key[1..33].copy_from_slice(&service.0);
    }
    key[33..].copy_from_slice(&id.volume.to_be_bytes());
    key
}

pub(crate) fn volume_id(key: &[u8; VOLUME_BYTES]) -> VolumeId {
    let (mut service, mut volume) = ([0; 32], [0; 4]);
    service.copy_from_slice(&key[1..33]);
    volume.copy_from_slice(&key[33..]);
    let book = if key[0] == 0 { BookId::Network } else { BookId::Service(ServiceId(service)) };
    VolumeId { book, volume: u32::from_be_bytes(volume) }
}

/// A node's version (8 bytes, big-endian), number of nibbles (1), and nibbles, two to a byte: so a checkpoint's nodes stand
/// side by side.
pub(crate) fn node_key(key: &NodeKey) -> Vec<u8> {
    // jmt has no other way to its nibbles. Borsh: their number (8 bytes), the number of bytes (4), and these.
    let path = borsh::to_vec(key.nibble_path()).expect("writing to memory doesn't fail");
    [&key.version().to_be_bytes(), &path[..1], &path[12..]].concat()
}

/// The hash under which the tree has a key.
pub(crate) fn key_hash(key: &[u8]) -> [u8; 32] {
    Digest::of(key).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_read_back_and_sorted() {
        let service = BookId::Service(ServiceId([7; 32]));
        let ids = [(BookId::Network, 0), (BookId::Network, 256), (service, 1), (service, 255)]
            .map(|(book, volume)| VolumeId { book, volume });
        let keys = ids.map(|id| volume_key(&id));
        assert_eq!(keys.map(|key| volume_id(&key)), ids);
        assert!(keys.is_sorted());
    }

    #[test]
    fn node_keys_are_distinct() {
        let path = |nibbles: &[u8]| nibbles.iter().copied().map(Into::into).collect();
        let paths: [&[u8]; 6] = [&[], &[0], &[0, 0], &[0, 0, 0], &[1], &[0, 1]];
        let mut keys: Vec<_> =
            paths.iter().map(|nibbles| node_key(&NodeKey::new(1, path(nibbles)))).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), paths.len());
        assert_eq!(
            node_key(&NodeKey::new(1, path(&[2, 3, 4]))),
            [0, 0, 0, 0, 0, 0, 0, 1, 3, 0x23, 0x40]
        );
    }
}
