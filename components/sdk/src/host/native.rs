//! What stands in for the host off WebAssembly: one for each thread, set up by `testing`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use crate::blobs::READ_BYTES_MAX;
#[cfg(feature = "oracle")]
use crate::llm::{self, Message};
use crate::log::Level;
use crate::state::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

thread_local! {
    pub(crate) static HOST: RefCell<Host> = RefCell::default();
}

#[derive(Default)]
pub(crate) struct Host {
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) log: Vec<(Level, String)>,
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    pub(crate) state: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) task: ([u8; 32], u64),
    #[cfg(feature = "oracle")]
    pub(crate) llm: Option<std::rc::Rc<Llm>>,
    #[cfg(feature = "http")]
    pub(crate) responses: BTreeMap<String, crate::http::Response>,
    #[cfg(feature = "http")]
    pub(crate) requests: Vec<crate::http::Request>,
}

#[cfg(feature = "oracle")]
pub(crate) type Llm = dyn Fn(&[Message], u32) -> Result<String, llm::Error>;

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("parameters", &self.parameters).finish_non_exhaustive()
    }
}

pub(crate) fn parameter(name: &str) -> Option<String> {
    HOST.with_borrow(|host| host.parameters.get(name).cloned())
}

pub(crate) fn log(level: Level, message: &str) {
    HOST.with_borrow_mut(|host| host.log.push((level, message.to_owned())));
}

pub(crate) fn blob_size(name: &str) -> Option<u64> {
    HOST.with_borrow(|host| host.blobs.get(name).map(|blob| blob.len() as u64))
}

pub(crate) fn blob_read(name: &str, offset: u64, length: u32) -> Option<Vec<u8>> {
    HOST.with_borrow(|host| {
        let blob = host.blobs.get(name)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(blob.len());
        let length = length.min(READ_BYTES_MAX) as usize;
        Some(blob[start..].iter().take(length).copied().collect())
    })
}

pub(crate) fn state_get(key: &[u8]) -> Option<Vec<u8>> {
    check("a key", key, KEY_BYTES_MAX);
    HOST.with_borrow(|host| host.state.get(key).cloned())
}

pub(crate) fn state_set(key: &[u8], value: &[u8]) {
    check("a key", key, KEY_BYTES_MAX);
    check("a value", value, VALUE_BYTES_MAX);
    HOST.with_borrow_mut(|host| host.state.insert(key.to_vec(), value.to_vec()));
}

pub(crate) fn state_delete(key: &[u8]) {
    check("a key", key, KEY_BYTES_MAX);
    HOST.with_borrow_mut(|host| host.state.remove(key));
}

pub(crate) fn state_keys(prefix: &[u8], after: Option<&[u8]>, limit: u32) -> Vec<Vec<u8>> {
    let start = after.map_or(Bound::Included(prefix), |after| {
        if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) }
    });
    HOST.with_borrow(|host| {
        let keys = host.state.range::<[u8], _>((start, Bound::Unbounded)).map(|(key, _)| key);
        keys.take_while(|key| key.starts_with(prefix)).take(limit as usize).cloned().collect()
    })
}

pub(crate) fn task_id() -> Vec<u8> {
    HOST.with_borrow(|host| host.task.0.to_vec())
}

pub(crate) fn task_height() -> u64 {
    HOST.with_borrow(|host| host.task.1)
}

#[cfg(feature = "oracle")]
pub(crate) fn complete(messages: &[Message], tokens_max: u32) -> Result<String, String> {
    let llm = HOST.with_borrow(|host| host.llm.clone());
    let llm = llm.ok_or("the operator has no endpoint; lamina_sdk::testing::set_llm sets one")?;
    llm(messages, tokens_max).map_err(|error| error.reason)
}

#[cfg(feature = "http")]
pub(crate) fn send(
    request: &crate::http::Request,
) -> Result<crate::http::Response, crate::http::Error> {
    HOST.with_borrow_mut(|host| {
        host.requests.push(request.clone());
        let response = host.responses.get(&request.url).cloned();
        let response = response.ok_or_else(|| crate::http::Error::Failed {
            url: request.url.clone(),
            reason: "lamina_sdk::testing::set_response sets no answer".to_owned(),
        })?;
        response.bounded(request)
    })
}

/// The host ends such a run.
fn check(what: &str, bytes: &[u8], bytes_max: usize) {
    let count = bytes.len();
    assert!(count <= bytes_max, "{what} of the state has {count} bytes; {bytes_max} are allowed");
}
