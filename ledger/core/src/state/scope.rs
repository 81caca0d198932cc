use std::collections::{BTreeMap, btree_map};
use std::ops::Bound;

use borsh::{BorshDeserialize, BorshSerialize};
use lamina_types::Timestamp;

use super::{Refusal, Stop};
use crate::{Entries, StateReader, StorageError};

/// Keys with what they become; `None` removes one.
pub type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The state as a module sees it: what is committed, what this checkpoint changed, and what the operation under way did.
///
/// What an operation did counts only once [`Scope::accept`] is called; [`Scope::discard`] undoes it.
pub struct Scope<'a> {
    reader: &'a dyn StateReader,
    accepted: Writes,
    pending: Writes,
}

impl std::fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scope")
            .field("accepted", &self.accepted.len())
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

impl<'a> Scope<'a> {
    /// The state as it was committed.
    #[must_use]
    pub fn new(reader: &'a dyn StateReader) -> Self {
        Self { reader, accepted: Writes::new(), pending: Writes::new() }
    }

    /// A key's value.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        match self.pending.get(key).or_else(|| self.accepted.get(key)) {
            Some(value) => Ok(value.clone()),
            None => self.reader.get(key),
        }
    }

    /// A key's value, decoded.
    ///
    /// # Errors
    /// [`StorageError`], also if the value isn't a `T`: nobody but this node wrote it.
    pub fn read<T: BorshDeserialize>(&self, key: &[u8]) -> Result<Option<T>, StorageError> {
        let decode = |bytes: Vec<u8>| {
            borsh::from_slice(&bytes)
                .map_err(|e| StorageError(format!("key {}: {e}", hex::encode(key))))
        };
        self.get(key)?.map(decode).transpose()
    }

    /// Sets a key.
    ///
    /// # Panics
    /// If the value encodes to nothing: the tree has no proof of empty values.
    pub fn write<T: BorshSerialize>(&mut self, key: Vec<u8>, value: &T) {
        let bytes = borsh::to_vec(value).expect("writing to memory doesn't fail");
        assert!(!bytes.is_empty(), "empty values can't be proven");
        self.pending.insert(key, Some(bytes));
    }

    /// Sets and removes keys whose values are encoded already. It counts at once.
    pub(super) fn put(&mut self, writes: Writes) {
        self.accepted.extend(writes);
    }

    /// Removes a key.
    pub fn remove(&mut self, key: Vec<u8>) {
        self.pending.insert(key, None);
    }

    /// Keys that begin with `prefix` and come after `after`, ascending, with their values; at most `limit`.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn range(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Entries, StorageError> {
        let start = match after {
            Some(key) => [key, &[0]].concat(),
            None => prefix.to_vec(),
        };
        let end = end_of(prefix);
        let mut changed = Writes::new();
        for layer in [&self.accepted, &self.pending] {
            let bounds = (Bound::Included(start.clone()), Bound::Excluded(end.clone()));
            changed.extend(layer.range::<Vec<u8>, _>(bounds).map(|(k, v)| (k.clone(), v.clone())));
        }
        // Whatever was removed since leaves room for as many more.
        let removed = changed.values().filter(|value| value.is_none()).count();
        let mut found: BTreeMap<_, _> =
            self.reader.range(&start, &end, limit.saturating_add(removed))?.into_iter().collect();
        for (key, value) in changed {
            match (found.entry(key), value) {
                (btree_map::Entry::Occupied(mut entry), Some(value)) => {
                    entry.insert(value);
                }
                (btree_map::Entry::Vacant(entry), Some(value)) => {
                    entry.insert(value);
                }
                (btree_map::Entry::Occupied(entry), None) => {
                    entry.remove();
                }
                (btree_map::Entry::Vacant(_), None) => {}
            }
        }
        Ok(found.into_iter().take(limit).collect())
    }

    /// Has [`super::Module::timer`] of the module with this name called with `key`, in the first checkpoint of this time or
    /// later.
    pub fn schedule(&mut self, at: Timestamp, module: &'static str, key: &[u8]) {
        self.pending.insert(timer_key(at, module, key), Some(vec![1]));
    }

    /// Takes a call back.
    pub fn unschedule(&mut self, at: Timestamp, module: &'static str, key: &[u8]) {
        self.pending.insert(timer_key(at, module, key), None);
    }

    /// What the operation did counts.
    pub fn accept(&mut self) {
        // `BTreeMap::append` would go through all of `accepted`, at each operation.
        self.accepted.extend(std::mem::take(&mut self.pending));
    }

    /// What the operation did is undone.
    pub fn discard(&mut self) {
        self.pending.clear();
    }

    /// All that counts since the last checkpoint. What wasn't accepted is lost.
    #[must_use]
    pub fn into_writes(self) -> Writes {
        self.accepted
    }
}

/// The first key after all that begin with `prefix`.
fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // No key is longer than that, nor has more than so many leading 0xff.
    vec![u8::MAX; 256]
}

/// `timers/`, the time (8 bytes, big-endian), the module's name, a zero, the module's key.
pub(super) fn timer_key(at: Timestamp, module: &str, key: &[u8]) -> Vec<u8> {
    [TIMERS, &at.0.to_be_bytes(), module.as_bytes(), &[0], key].concat()
}

/// What all timers' keys begin with.
pub(super) const TIMERS: &[u8] = b"timers/";

/// Why an operation comes to nothing, or everything does.
impl From<StorageError> for Stop {
    fn from(error: StorageError) -> Self {
        Self::Fault(error)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
