//! A service that judges chat messages by a community's rules.
//!
//! The input is a [`Message`] in JSON, the rules are the parameter `rules` in TOML, and the output is a [`Judgement`] in
//! JSON. Rules are tried in the order in which they're written, and the first one that matches decides: so an early
//! `allow` makes exceptions from later ones. If none matches, the rules' `default` does.
//!
//! A pattern is matched against the message in lower case without invisible characters, and, where that differs,
//! against the message with common disguises undone (`fr33`, `f.r.e.e`, a Cyrillic `е` in a Latin word).
//!
//! It knows words, not meanings: insults without bad words pass, and quoting one doesn't.

#[cfg(target_family = "wasm")]
mod guest;
mod judge;
mod message;
mod rules;
mod text;

pub use judge::{Error, Judgement, judge, run};
pub use message::{MESSAGE_BYTES_MAX, Message};
pub use rules::{PATTERN_BYTES_MAX, RULES_MAX, Rule, Rules, Verdict};
