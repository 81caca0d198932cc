//! A service that judges chat messages by example, with language models that run in WebAssembly.
//!
//! The input is a [`Message`] in JSON, the output a [`Judgement`] in JSON. A sentence encoder ([`model::MiniLm`]) turns a
//! text into a point of the unit sphere; the community's [`Exemplars`] of bad and of fine messages give a [`Direction`]
//! there, the mean of the bad ones minus that of the fine ones; and a text's score is how far it lies in that direction.
//! A message is read as a whole and sentence by sentence, each also with disguises undone, and the highest score counts:
//! below one threshold it's allowed, from another on it's blocked, and what's between them is for people to review.
//!
//! If the community wants it, a language model ([`model::SmolLm2`]) gives its [`opinion()`] beside the verdict.
//!
//! It knows tones, not intentions: hostility in friendly words passes, and quoting an insult is blocked.

mod error;
mod exemplars;
#[cfg(target_family = "wasm")]
mod guest;
mod host;
mod judge;
mod message;
pub mod model;
#[cfg(not(target_family = "wasm"))]
mod native;
mod opinion;
mod parameters;
mod text;

pub use error::Error;
pub use exemplars::{Direction, EXEMPLARS_MAX, Exemplars};
pub use host::Host;
pub use judge::{Bouncer, Judgement, Verdict, run};
pub use message::{MESSAGE_BYTES_MAX, Message};
#[cfg(not(target_family = "wasm"))]
pub use native::{Native, models};
pub use opinion::{OPINION_TOKENS_MAX, Prompt, opinion};
pub use parameters::{Opinion, Parameters};
pub use text::{Extent, Reading, SENTENCES_MAX, readings};
