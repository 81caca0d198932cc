//! What authors of Lamina services and oracles write against.
//!
//! A *service* is a function of its input, run by every operator on the same bytes: [`service!`] exports it. An *oracle*
//! is a pair of functions, one that observes the outside world at each operator and one that reduces the observations to
//! one result: `oracle!` exports both. What they take and return is anything that implements [`FromInput`] and
//! [`IntoOutput`]: bytes, text, or [`Json`]. Their errors are part of the result, so their texts must be the same at every
//! operator, too.
//!
//! What the host offers is in the modules: [`parameters`], [`log`], [`blobs`], [`state`] and [`task`]. The feature `oracle`
//! adds `oracle!`, `llm` and, in `oracle`, what makes one value of many; the feature `http` adds `http` to these.
//!
//! Compiled for any target but WebAssembly, the crate talks to a stand-in for the host, which `testing` sets up: so a
//! service's logic is tested with plain `cargo test`.
//!
//! ```
//! use lamina_sdk::{Json, parameters};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Offer {
//!     price: u64,
//! }
//!
//! #[derive(Serialize)]
//! struct Answer {
//!     accepted: bool,
//! }
//!
//! fn judge(Json(offer): Json<Offer>) -> Result<Json<Answer>, parameters::Error> {
//!     let price_max: u64 = parameters::parse("price_max")?;
//!     Ok(Json(Answer { accepted: offer.price <= price_max }))
//! }
//!
//! lamina_sdk::service!(judge);
//!
//! # #[cfg(not(target_family = "wasm"))] {
//! use lamina_sdk::testing;
//!
//! testing::set_parameter("price_max", "100");
//! assert_eq!(testing::run(judge, br#"{"price":70}"#).unwrap(), br#"{"accepted":true}"#);
//!
//! let error = testing::run(judge, b"70").unwrap_err();
//! assert!(error.starts_with("the input isn't JSON of the expected form: "));
//! # }
//! ```

#![cfg_attr(not(target_family = "wasm"), forbid(unsafe_code))]

pub mod blobs;
mod export;
#[cfg(feature = "oracle")]
mod export_oracle;
#[cfg(target_family = "wasm")]
#[path = "host/wasm.rs"]
mod host;
#[cfg(not(target_family = "wasm"))]
#[path = "host/native.rs"]
mod host;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "oracle")]
pub mod llm;
pub mod log;
#[cfg(feature = "oracle")]
pub mod oracle;
pub mod parameters;
pub mod state;
pub mod task;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
mod value;

pub use value::{DecodeError, EncodeError, FromInput, IntoOutput, Json};

#[doc(hidden)]
pub mod __private {
    pub use crate::export::run;
    #[cfg(feature = "oracle")]
    pub use crate::export_oracle::{observe, reduce};
    #[cfg(all(target_family = "wasm", feature = "oracle"))]
    pub use crate::host::oracle;
    #[cfg(target_family = "wasm")]
    pub use crate::host::service;
}
