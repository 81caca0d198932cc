use std::collections::BTreeMap;
use std::ops::Bound;

use lamina_types::Digest;

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 256;
/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;
/// Most that a list of keys has, in bytes of all its keys together.
pub(crate) const KEYS_BYTES_MAX: usize = 64 * 1024;
/// What a pair counts as beside its bytes, so that empty ones are bounded, too.
pub(crate) const PAIR_BYTES: usize = 16;

/// What a service keeps from task to task: keys with values, in the order of the keys' bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceState {
    pairs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Of all pairs, [`PAIR_BYTES`] for each among them.
    bytes: usize,
}

/// A key or value is too long, or all of them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the state's keys and values exceed their bounds")]
pub struct StateTooLarge;

impl ServiceState {
    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.pairs.get(key).map(Vec::as_slice)
    }

    /// Gives `key` a value, if all pairs together have at most `bytes_max` then.
    ///
    /// # Errors
    /// [`StateTooLarge`]; nothing is changed then.
    pub fn set(
        &mut self,
        key: Vec<u8>,
        value: Vec<u8>,
        bytes_max: usize,
    ) -> Result<(), StateTooLarge> {
        let before = self.pairs.get(&key).map_or(0, |value| pair_bytes(&key, value));
        let bytes = self.bytes - before + pair_bytes(&key, &value);
        if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX || bytes > bytes_max {
            return Err(StateTooLarge);
        }
        self.pairs.insert(key, value);
        self.bytes = bytes;
        Ok(())
    }

    /// Takes `key` and its value away.
    pub fn delete(&mut self, key: &[u8]) {
        if let Some(value) = self.pairs.remove(key) {
            self.bytes -= pair_bytes(key, &value);
        }
    }

    /// The first keys with `prefix` after `after`: at most `limit`, and of at most 64 KiB together.
    #[must_use]
    pub fn keys(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<Vec<u8>> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut bytes = 0;
        self.pairs
            .range::<[u8], _>((start, Bound::Unbounded))
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(prefix))
            .take(limit)
            .take_while(|key| {
                bytes += key.len();
                bytes <= KEYS_BYTES_MAX
            })
            .cloned()
            .collect()
    }

    /// The pairs, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.pairs.iter().map(|(key, value)| (key.as_slice(), value.as_slice()))
    }

    /// SHA-256 of all pairs in their order, each part after its length as eight bytes, big-endian.
    #[must_use]
    pub fn root(&self) -> Digest {
        let mut bytes = Vec::with_capacity(self.bytes);
        for part in self.iter().flat_map(|(key, value)| [key, value]) {
            bytes.extend((part.len() as u64).to_be_bytes());
            bytes.extend(part);
        }
        Digest::of(&bytes)
    }
}

fn pair_bytes(key: &[u8], value: &[u8]) -> usize {
    key.len() + value.len() + PAIR_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn state(pairs: &[(&str, &str)]) -> ServiceState {
        let mut state = ServiceState::default();
        for (key, value) in pairs {
            state.set(key.as_bytes().to_vec(), value.as_bytes().to_vec(), 10_000).unwrap();
        }
        state
    }

    #[test]
    fn keys_come_in_order_from_where_one_left_off() {
        let state = state(&[("b/2", ""), ("b/1", ""), ("a", ""), ("b/3", ""), ("c", "")]);
        assert_eq!(state.keys(b"b/", None, 2), [b"b/1", b"b/2"]);
        assert_eq!(state.keys(b"b/", Some(b"b/2"), 2), [b"b/3"]);
        assert_eq!(state.keys(b"b/", Some(b"a"), 1), [b"b/1"]);
        assert_eq!(state.keys(b"b/", Some(b"c"), 1), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn bounds_hold_and_leave_the_state_as_it_was() {
        let mut state = state(&[("a", "1")]);
        let before = state.clone();
        assert_eq!(state.set(vec![0; KEY_BYTES_MAX + 1], vec![], 10_000), Err(StateTooLarge));
        assert_eq!(state.set(vec![1], vec![0; VALUE_BYTES_MAX + 1], 1 << 20), Err(StateTooLarge));
        assert_eq!(state.set(b"b".to_vec(), b"2".to_vec(), 35), Err(StateTooLarge));
        assert_eq!(state, before);
        assert_eq!(state.set(b"b".to_vec(), b"2".to_vec(), 36), Ok(()));
        assert_eq!(state.set(b"b".to_vec(), b"3".to_vec(), 36), Ok(()));
    }

    #[test]
    fn lists_of_keys_are_bounded_in_bytes() {
        let mut state = ServiceState::default();
        for i in 0..600_u32 {
            let mut key = vec![7; 200];
            key[..4].copy_from_slice(&i.to_be_bytes());
            state.set(key, vec![], 1 << 20).unwrap();
        }
        let keys = state.keys(b"", None, usize::MAX);
        assert_eq!(keys.len(), KEYS_BYTES_MAX / 200);
    }

    proptest! {
        #[test]
        fn root_depends_on_the_pairs_alone(
            writes in prop::collection::vec((0u8..8, prop::option::of(0u8..4)), 0..40),
        ) {
            let (mut state, mut model) = (ServiceState::default(), BTreeMap::new());
            for (key, value) in writes {
                match value {
                    Some(value) => {
                        state.set(vec![key], vec![value], 1000).unwrap();
                        model.insert(vec![key], vec![value]);
                    }
                    None => {
                        state.delete(&[key]);
                        model.remove(&vec![key]);
                    }
                }
            }
            let mut fresh = ServiceState::default();
            for (key, value) in model {
                fresh.set(key, value, 1000).unwrap();
            }
            prop_assert_eq!(state.root(), fresh.root());
            prop_assert_eq!(state, fresh);
        }
    }
}
