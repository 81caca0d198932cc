//! A stand-in for the host, for tests of services on the author's own machine. Not there in WebAssembly.
//!
//! Each thread has its own, and `cargo test` gives each test a thread: so tests don't see each other, and needn't clean up.
//!
//! ```
//! use lamina_sdk::{log, parameters, testing};
//!
//! testing::set_parameter("greeting", "Ahoy");
//! log::info(parameters::get("greeting").unwrap());
//! assert_eq!(testing::log(), [(log::Level::Info, "Ahoy".to_owned())]);
//! ```

use std::collections::BTreeMap;
use std::fmt::Display;

use crate::host::{HOST, Host};
use crate::log::Level;
use crate::{FromInput, IntoOutput, export};

/// Runs a service's function, or an oracle's `observe`, as the host would: from bytes to bytes.
///
/// # Errors
/// The text that would be certified.
pub fn run<I, O, E>(
    function: impl FnOnce(I) -> Result<O, E>,
    input: impl AsRef<[u8]>,
) -> Result<Vec<u8>, String>
where
    I: FromInput,
    O: IntoOutput,
    E: Display,
{
    export::run(function, input.as_ref().to_vec())
}

/// Runs an oracle's `reduce` as the host would. Observations are operator, stake and value.
///
/// # Errors
/// The text that would be certified.
#[cfg(feature = "oracle")]
pub fn reduce<I, T, O, E>(
    function: impl FnOnce(I, Vec<crate::oracle::Observation<T>>) -> Result<O, E>,
    input: impl AsRef<[u8]>,
    observations: impl IntoIterator<Item = (u16, u64, Vec<u8>)>,
) -> Result<Vec<u8>, String>
where
    I: FromInput,
    T: FromInput,
    O: IntoOutput,
    E: Display,
{
    crate::export_oracle::reduce(function, input.as_ref().to_vec(), observations)
}

/// Gives the parameter `name` a value.
pub fn set_parameter(name: impl Into<String>, value: impl Into<String>) {
    with(|host| host.parameters.insert(name.into(), value.into()));
}

/// Gives the blob `name` its bytes.
pub fn set_blob(name: impl Into<String>, bytes: impl Into<Vec<u8>>) {
    with(|host| host.blobs.insert(name.into(), bytes.into()));
}

/// Sets identifier and height of the task. By default, all bytes and the height are 0.
pub fn set_task(id: [u8; 32], height: u64) {
    with(|host| host.task = (id, height));
}

/// What the language model answers, given the conversation and the most tokens.
#[cfg(feature = "oracle")]
pub fn set_llm(
    answer: impl Fn(&[crate::llm::Message], u32) -> Result<String, crate::llm::Error> + 'static,
) {
    with(|host| host.llm = Some(std::rc::Rc::new(answer)));
}

/// Answers requests for `url` with `response`. Anything else can't be reached.
#[cfg(feature = "http")]
pub fn set_response(url: impl Into<String>, response: crate::http::Response) {
    with(|host| host.responses.insert(url.into(), response));
}

/// What was requested, first to last.
#[cfg(feature = "http")]
#[must_use]
pub fn requests() -> Vec<crate::http::Request> {
    with(|host| host.requests.clone())
}

/// All keys and values that the service keeps. [`crate::state::set`] prepares them.
#[must_use]
pub fn state() -> BTreeMap<Vec<u8>, Vec<u8>> {
    with(|host| host.state.clone())
}

/// What was logged, first to last.
#[must_use]
pub fn log() -> Vec<(Level, String)> {
    with(|host| host.log.clone())
}

/// Forgets all that was set, kept and logged on this thread.
pub fn reset() {
    with(|host| *host = Host::default());
}

fn with<T>(change: impl FnOnce(&mut Host) -> T) -> T {
    HOST.with_borrow_mut(change)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_the_texts_that_are_certified() {
        let refuse = |input: String| Err::<String, _>(format!("{input} isn't expected"));
        assert_eq!(run(refuse, "this").unwrap_err(), "this isn't expected");
        assert_eq!(run(refuse, [255]).unwrap_err(), "the input isn't text in UTF-8");
    }

    #[test]
    fn reset_forgets() {
        set_parameter("a", "b");
        set_task([1; 32], 7);
        assert_eq!((crate::task::id(), crate::task::height()), ([1; 32], 7));
        reset();
        assert_eq!(crate::parameters::get("a"), None);
        assert_eq!(crate::task::height(), 0);
    }
}
