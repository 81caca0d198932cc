//! Runs services: WebAssembly components in wasmtime, bounded and deterministic.
//!
//! An [`Engine`] compiles a component once ([`Engine::load`], which checks its hash, its world and what it imports; with a
//! [`Cache`], once for all starts). With its manifest and blobs it's a [`Service`], and each task is one [`Service::run`]
//! in a fresh instance. What a run comes to is either an [`Outcome`] (output or failure, and the fuel that was used),
//! which every operator gets alike, or an [`Abstain`]: a reason that lies with this operator, such as its own wall-clock
//! limit, and that nobody certifies. An oracle's task is a [`Service::observe`] at each operator, whose results differ, and
//! a [`Service::reduce`] of them, which doesn't.
//!
//! Deterministic are: fuel (with wasmtime's cost table pinned, bulk operations charged by their length), NaN bits
//! (canonicalised), memory and tables (counted together; what exceeds the manifest ends the run), output and log bounds,
//! the depth of calls, clocks and randomness (`wasi.rs`). Threads, relaxed SIMD, garbage collection and exceptions are
//! off. Fuel follows from wasmtime's translation, so operators must run components by the same rules: [`runtime`] tells
//! which these are, and a network's genesis file which it has agreed on.
//!
//! Compiling isn't bounded in time, only by the component's size; do it where it may take seconds. Runs are
//! synchronous: give them threads of their own, with at least 2 MiB of stack.
//!
//! ```
//! use std::collections::BTreeMap;
//! use lamina_components::{Config, Engine};
//! use lamina_types::Digest;
//!
//! let engine = Engine::new(Config::default())?;
//! let error = engine.load(b"not a component", &Digest::of(b"not a component")).unwrap_err();
//! assert_eq!(error.to_string(), "not a WebAssembly component");
//! # Ok::<(), lamina_components::Error>(())
//! ```
//!
//! [`Outcome`]: lamina_types::Outcome

mod blobs;
mod cache;
mod component;
mod config;
mod engine;
mod error;
mod http;
mod imports;
mod llm;
pub mod local;
pub mod manifest_source;
mod meter;
mod observe;
mod run;
mod runtime;
mod service;
mod state;
mod wasi;

pub use blobs::{Blobs, digest_of_file};
pub use cache::{Cache, CacheKey};
pub use component::Component;
pub use config::Config;
pub use engine::{CORE_INSTANCES_MAX, Engine, MEMORIES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX};
pub use error::Error;
pub use http::{Allowed, HttpConfig};
pub use imports::{BLOB_READ_BYTES_MAX, HOST_CALL_FUEL, Log, LogLevel, LogLine};
pub use llm::LlmConfig;
pub use manifest_source::{BlobSource, ManifestSource};
pub use observe::Observation;
pub use run::{Abstain, Run};
pub use runtime::{WASMTIME_VERSION, runtime};
pub use service::{Observed, Service, Task};
pub use state::{KEY_BYTES_MAX, ServiceState, StateTooLarge, VALUE_BYTES_MAX};
