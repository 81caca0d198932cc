//! The host: calls of what the contract imports.

use crate::log::Level;

#[cfg(feature = "oracle")]
#[path = "wasm_oracle.rs"]
pub mod oracle;
#[cfg(feature = "http")]
#[path = "wasi_http.rs"]
mod wasi_http;

use service::lamina::service as imports;

pub(crate) fn parameter(name: &str) -> Option<String> {
    imports::parameters::get(name)
}

pub(crate) fn log(level: Level, message: &str) {
    let level = match level {
        Level::Debug => imports::log::Level::Debug,
        Level::Info => imports::log::Level::Info,
        Level::Warn => imports::log::Level::Warn,
        Level::Error => imports::log::Level::Error,
    };
    imports::log::log(level, message);
}

pub(crate) fn blob_size(name: &str) -> Option<u64> {
    imports::blobs::size(name)
}

pub(crate) fn blob_read(name: &str, offset: u64, length: u32) -> Option<Vec<u8>> {
    imports::blobs::read(name, offset, length)
}

pub(crate) fn state_get(key: &[u8]) -> Option<Vec<u8>> {
    imports::state::get(key)
}

pub(crate) fn state_set(key: &[u8], value: &[u8]) {
    imports::state::set(key, value);
}

pub(crate) fn state_delete(key: &[u8]) {
    imports::state::delete(key);
}

pub(crate) fn state_keys(prefix: &[u8], after: Option<&[u8]>, limit: u32) -> Vec<Vec<u8>> {
    imports::state::keys(prefix, after, limit)
}

pub(crate) fn task_id() -> Vec<u8> {
    imports::task::id()
}

pub(crate) fn task_height() -> u64 {
    imports::task::height()
}

#[cfg(feature = "oracle")]
pub(crate) use oracle::complete;
#[cfg(feature = "http")]
pub(crate) use wasi_http::send;

/// The world `service`, as generated from the contract.
#[allow(missing_docs, missing_debug_implementations, reason = "the contract has the documentation")]
#[allow(clippy::all, unused_qualifications, unreachable_pub, reason = "generated")]
pub mod service {
    wit_bindgen::generate!({
        world: "service",
        path: "wit",
        pub_export_macro: true,
        export_macro_name: "export_service",
        default_bindings_module: "lamina_sdk::__private::service",
        runtime_path: "wit_bindgen::rt",
    });
}
