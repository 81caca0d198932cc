use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Digest, Text};

/// The rules by which components are run: operators with other ones would get other outcomes of the same task.
///
/// A network agrees on one in its genesis file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// The engine and its version, for people.
    pub engine: Text<64>,
    /// SHA-256 of all that outcomes follow from: the engine's version and settings, what is charged, and the bounds that
    /// are the same for all.
    pub rules: Digest,
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with rules {}", self.engine, self.rules.short())
    }
}
