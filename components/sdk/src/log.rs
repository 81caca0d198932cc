//! Lines for the operator's log: no part of the result.
//!
//! ```
//! use lamina_sdk::log;
//!
//! let count = 3;
//! log::info(format_args!("{count} words are banned"));
//! ```

use std::fmt::Display;

use crate::host;

/// How much a line matters to the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Of use to the service's author only.
    Debug,
    /// Something that's good to know.
    Info,
    /// Something odd that was handled.
    Warn,
    /// Something that the service's owner must see to.
    Error,
}

/// Writes one line. What exceeds the operator's bound is dropped; more than 256 KiB at once end the run.
pub fn write(level: Level, message: impl Display) {
    host::log(level, &message.to_string());
}

/// Writes one line of [`Level::Debug`].
pub fn debug(message: impl Display) {
    write(Level::Debug, message);
}

/// Writes one line of [`Level::Info`].
pub fn info(message: impl Display) {
    write(Level::Info, message);
}

/// Writes one line of [`Level::Warn`].
pub fn warn(message: impl Display) {
    write(Level::Warn, message);
}

/// Writes one line of [`Level::Error`].
pub fn error(message: impl Display) {
    write(Level::Error, message);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn lines_are_kept_in_order() {
        info("one");
        error(format_args!("t{}o", 'w'));
        let expected = [(Level::Info, "one".to_owned()), (Level::Error, "two".to_owned())];
        assert_eq!(testing::log(), expected);
    }
}
