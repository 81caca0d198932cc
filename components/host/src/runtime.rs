use lamina_types::{Digest, Runtime, Text};

use crate::engine::{
    CORE_INSTANCES_MAX, MEMORIES_MAX, MEMORY_PAGE_FUEL, TABLE_ELEMENTS_MAX, TABLES_MAX,
    WASM_STACK_BYTES,
};
use crate::imports::{BLOB_BYTES_PER_FUEL, BLOB_READ_BYTES_MAX, HOST_CALL_FUEL};
use crate::state::{KEY_BYTES_MAX, KEYS_BYTES_MAX, PAIR_BYTES, VALUE_BYTES_MAX};

/// The version of wasmtime that's linked. A test compares it with `Cargo.lock`.
pub const WASMTIME_VERSION: &str = "48.0.8";

/// What this crate does that no setting tells: count it up with every change of an outcome.
const REVISION: u32 = 2;

/// The rules by which this build runs components.
///
/// What operators choose for themselves (pooling, caches, their own caps) isn't among them: outcomes don't follow from it.
#[must_use]
pub fn runtime() -> Runtime {
    Runtime {
        engine: Text::truncated(&format!("wasmtime {WASMTIME_VERSION}")),
        rules: Digest::of(rules().as_bytes()),
    }
}

/// All that outcomes follow from, one line each.
fn rules() -> String {
    let lines = [
        ("revision", u64::from(REVISION)),
        ("fuel of a call of the host", HOST_CALL_FUEL),
        ("fuel of a page of memory", u64::from(MEMORY_PAGE_FUEL)),
        ("blob bytes for a unit of fuel", BLOB_BYTES_PER_FUEL),
        ("blob bytes of a call", u64::from(BLOB_READ_BYTES_MAX)),
        ("stack bytes", WASM_STACK_BYTES as u64),
        ("core instances", u64::from(CORE_INSTANCES_MAX)),
        ("memories", u64::from(MEMORIES_MAX)),
        ("tables", u64::from(TABLES_MAX)),
        ("table elements", TABLE_ELEMENTS_MAX as u64),
        ("state key bytes", KEY_BYTES_MAX as u64),
        ("state value bytes", VALUE_BYTES_MAX as u64),
        ("state keys bytes of a call", KEYS_BYTES_MAX as u64),
        ("state bytes of a pair", PAIR_BYTES as u64),
    ];
    let lines: String = lines.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    format!("wasmtime={WASMTIME_VERSION}\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_the_one_that_is_locked() {
        let lock = include_str!("../../../Cargo.lock");
        let entry = format!("name = \"wasmtime\"\nversion = \"{WASMTIME_VERSION}\"\n");
        assert!(lock.contains(&entry), "set WASMTIME_VERSION to what Cargo.lock has");
    }

    /// Whoever changes what outcomes follow from changes this figure, knowingly.
    #[test]
    fn rules_are_frozen() {
        assert_eq!(
            runtime().rules.to_string(),
            "0x6601a4fdc549a9efcc271391817f2a2baac10dd0105be60e33f1237478669877"
        );
    }
}
