//! Runs services: WebAssembly components in wasmtime, bounded and deterministic.
//!
//! An [`Engine`] compiles a component once ([`Engine::load`], which checks its hash, its world and what it imports), and
//! each task is one [`Component::run`] in a fresh instance. What a run comes to is either an [`Outcome`] (output or
//! failure, and the fuel that was used), which every operator gets alike, or an [`Abstain`]: a reason that lies with
//! this operator, such as its own wall-clock limit, and that nobody certifies.
//!
//! Deterministic are: fuel (with wasmtime's cost table pinned, bulk operations charged by their length), NaN bits
//! (canonicalised), memory and tables (counted together; what exceeds the manifest ends the run), output and log bounds,
//! the depth of calls. Threads, relaxed SIMD, garbage collection and exceptions are off. Operators must run one version
//! of this crate, because fuel follows from wasmtime's translation: `Cargo.lock` pins it.
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

mod component;
mod config;
mod engine;
mod error;
mod imports;
pub mod manifest_source;
mod meter;
mod run;

pub use component::Component;
pub use config::Config;
pub use engine::{CORE_INSTANCES_MAX, Engine, MEMORIES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX};
pub use error::Error;
pub use imports::{HOST_CALL_FUEL, Log, LogLevel, LogLine};
pub use manifest_source::ManifestSource;
pub use run::{Abstain, Run};
