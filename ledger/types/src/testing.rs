//! For tests of all crates: what a test needs from outside, and a record of what was skipped for lack of it.

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The folder `set` of the public test vectors, which lie beside the checkout in `../shared/vectors`.
///
/// `None` where it's absent: then `test` is recorded as skipped, and the caller returns.
///
/// # Panics
/// If the folder is absent and `LAMINA_REQUIRE_ALL=1`.
#[must_use]
pub fn vectors(test: &str, set: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors").join(set);
    if !root.is_dir() {
        skip(test, &format!("the test vectors ../shared/vectors/{set} are absent"));
        return None;
    }
    Some(root)
}

/// Records that `test` didn't run. `cargo xtask test` lists the records at its end.
///
/// # Panics
/// If `LAMINA_REQUIRE_ALL=1`: then nothing may be skipped.
pub fn skip(test: &str, reason: &str) {
    assert!(
        std::env::var("LAMINA_REQUIRE_ALL").as_deref() != Ok("1"),
        "{test} can't be skipped (LAMINA_REQUIRE_ALL=1): {reason}"
    );
    eprintln!("skipped {test}: {reason}");
    let Ok(path) = std::env::var("LAMINA_SKIPPED") else { return };
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .unwrap_or_else(|e| panic!("opening {path}: {e}"));
    writeln!(file, "{test}: {reason}").unwrap_or_else(|e| panic!("writing {path}: {e}"));
}

/// Rules of a network that runs no components.
#[must_use]
pub fn runtime() -> crate::Runtime {
    crate::Runtime { engine: crate::Text::default(), rules: crate::Digest([0; 32]) }
}
