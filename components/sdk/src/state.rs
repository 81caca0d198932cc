//! What a service keeps from task to task. For services only: an oracle has no state.
//!
//! Counts against the manifest's `limits.state_bytes`; a service that has 0 there ends its run with any of these calls.
//! A key has at most 256 bytes and a value at most 64 KiB, and a call that exceeds that ends the run as well. If the run
//! fails or returns an error, the state stays as it was.
//!
//! ```
//! use lamina_sdk::{DecodeError, state};
//!
//! fn vote(choice: &str) -> Result<u64, DecodeError> {
//!     let count = state::get_json(choice)?.unwrap_or(0_u64) + 1;
//!     state::set_json(choice, &count);
//!     Ok(count)
//! }
//!
//! assert_eq!(vote("tea"), Ok(1));
//! assert_eq!(vote("tea"), Ok(2));
//! ```

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::value::{from_json, to_json};
use crate::{DecodeError, host};

/// The most bytes of a key.
pub const KEY_BYTES_MAX: usize = 256;
/// The most bytes of a value: 64 KiB.
pub const VALUE_BYTES_MAX: usize = 64 << 10;

/// The value of `key`, if it has one.
#[must_use]
pub fn get(key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    host::state_get(key.as_ref())
}

/// Gives `key` a value.
pub fn set(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
    host::state_set(key.as_ref(), value.as_ref());
}

/// Takes `key` and its value away, if they are there.
pub fn delete(key: impl AsRef<[u8]>) {
    host::state_delete(key.as_ref());
}

/// The keys that begin with `prefix`, in ascending order of their bytes.
///
/// Asks the host for some at a time, and goes on after the last one: keys may be set and deleted meanwhile.
#[must_use]
pub fn keys(prefix: impl Into<Vec<u8>>) -> Keys {
    Keys { prefix: prefix.into(), page: Vec::new().into_iter(), last: None }
}

/// The value of `key` as JSON, if it has one.
///
/// # Errors
/// [`DecodeError::NotJson`] if it's something else: of an earlier version of the service, say.
pub fn get_json<T: DeserializeOwned>(key: impl AsRef<[u8]>) -> Result<Option<T>, DecodeError> {
    get(key).map(|value| from_json(&value)).transpose()
}

/// Gives `key` a value as JSON.
///
/// # Panics
/// If the value has no form in JSON: a map whose keys aren't text, say.
pub fn set_json<T: Serialize>(key: impl AsRef<[u8]>, value: &T) {
    let value = to_json(value).unwrap_or_else(|error| panic!("a value of the state {error}"));
    set(key, value);
}

/// What [`keys`] returns.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: Vec<u8>,
    page: std::vec::IntoIter<Vec<u8>>,
    last: Option<Vec<u8>>,
}

impl Iterator for Keys {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.page.as_slice().is_empty() {
            let page = host::state_keys(&self.prefix, self.last.as_deref(), PAGE_KEYS);
            self.last = page.last().cloned().or_else(|| self.last.take());
            self.page = page.into_iter();
        }
        self.page.next()
    }
}

/// Keys that are asked for at once. Of the longest ones, 64 KiB hold as many.
const PAGE_KEYS: u32 = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn values_are_kept_and_deleted() {
        set("a", "1");
        set("a", [2]);
        assert_eq!(get("a").unwrap(), [2]);
        assert_eq!(testing::state().len(), 1);
        delete("a");
        delete("b");
        assert_eq!(get("a"), None);
    }

    #[test]
    fn all_keys_of_a_prefix_come_in_order() {
        for i in 0..1000 {
            set(format!("vote/{i:04}"), "");
        }
        set("other", "");
        let found: Vec<_> = keys("vote/").collect();
        assert_eq!(found.len(), 1000);
        assert!(found.is_sorted());
        assert_eq!(keys("").count(), 1001);
        assert_eq!(keys("x").next(), None);
    }

    #[test]
    fn keys_may_be_deleted_while_they_are_listed() {
        for i in 0..600 {
            set(format!("{i:04}"), "");
        }
        keys("").for_each(delete);
        assert!(testing::state().is_empty());
    }

    #[test]
    fn value_of_another_form_is_an_error() {
        set("a", "no json");
        assert!(matches!(get_json::<u8>("a"), Err(DecodeError::NotJson { .. })));
    }

    #[test]
    #[should_panic(expected = "a key of the state has 257 bytes; 256 are allowed")]
    fn key_that_the_host_would_refuse_is_refused_in_tests() {
        set([0; 257], "");
    }
}
