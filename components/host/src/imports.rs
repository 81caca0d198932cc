use std::collections::BTreeMap;
use std::sync::Arc;

use lamina_types::{BlobName, Height, Limits, ParameterName, ParameterValue, TaskId};
use wasmtime::component::{ComponentType, Lift, Linker};
use wasmtime::{StoreContextMut, Trap};

use crate::blobs::Blobs;
use crate::meter::{HostFault, MemoryMeter};
use crate::observe::Outside;
use crate::state::{PAIR_BYTES, ServiceState};
use crate::wasi::VirtualWasi;

/// Fuel of one call of the host, to which each byte that it carries adds one. About what such a call takes, measured in
/// instructions; without it, a loop of calls would take far more time than its fuel says.
pub const HOST_CALL_FUEL: u64 = 500;

/// Most bytes of a blob that one call reads.
pub const BLOB_READ_BYTES_MAX: u32 = 1 << 20;
/// Bytes of a blob for one unit of fuel: they're copied, which is quicker than instructions are.
pub(crate) const BLOB_BYTES_PER_FUEL: u64 = 8;

/// How much a line matters; `level` of `lamina:service/log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
pub enum LogLevel {
    /// Of use to the service's author only.
    #[component(name = "debug")]
    Debug,
    /// Something that's good to know.
    #[component(name = "info")]
    Info,
    /// Something odd that was handled.
    #[component(name = "warn")]
    Warn,
    /// Something that the service's owner must see to.
    #[component(name = "error")]
    Error,
}

/// One line that a component logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters.
    pub level: LogLevel,
    /// The line; control characters, which could deceive a terminal, are replaced by spaces.
    pub message: String,
}

/// What a component logged in one run, as far as the operator keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    /// The lines, first to last.
    pub lines: Vec<LogLine>,
    /// How many more there were.
    pub dropped: u64,
    bytes: usize,
}

impl Log {
    /// Keeps the line if it fits into `bytes_max` with those before it. Once one is dropped, all that follow are.
    fn push(&mut self, level: LogLevel, message: &str, bytes_max: usize) {
        let bytes = self.bytes + message.len() + LOG_LINE_BYTES;
        if self.dropped > 0 || bytes > bytes_max {
            self.dropped += 1;
            return;
        }
        self.bytes = bytes;
        let message = message.replace(char::is_control, " ");
        self.lines.push(LogLine { level, message });
    }
}

/// What a line counts as beside its text, so that empty ones are bounded, too.
const LOG_LINE_BYTES: usize = 32;

/// What the host holds for one run.
pub(crate) struct Host {
    pub(crate) memory: MemoryMeter,
    pub(crate) given: Arc<Given>,
    pub(crate) task: TaskId,
    pub(crate) height: Height,
    pub(crate) log: Log,
    /// What the service keeps, as the run has it by now; none if it keeps nothing.
    pub(crate) state: Option<Arc<ServiceState>>,
    pub(crate) wasi: VirtualWasi,
    /// What an observation may reach besides; none in a run that must be the same everywhere.
    pub(crate) outside: Option<Box<Outside>>,
}

/// What all runs of a service are given.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) limits: Limits,
    pub(crate) parameters: BTreeMap<ParameterName, ParameterValue>,
    pub(crate) blobs: Blobs,
    pub(crate) log_bytes_max: usize,
}

impl Host {
    /// Keeps a line as far as the operator wants it.
    pub(crate) fn log(&mut self, level: LogLevel, message: &str) {
        self.log.push(level, message, self.given.log_bytes_max);
    }
}

/// The component called something that it isn't given.
#[derive(Debug, thiserror::Error)]
#[error("{0} isn't granted")]
pub(crate) struct Forbidden(pub(crate) String);

/// Defines what every service is given.
pub(crate) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.instance(&interface("parameters"))?.func_wrap("get", get_parameter)?;
    linker.instance(&interface("log"))?.func_wrap("log", write_log)?;

    let blobs = interface("blobs");
    let mut blobs = linker.instance(&blobs)?;
    blobs.func_wrap("size", blob_size)?;
    blobs.func_wrap("read", read_blob)?;

    let task = interface("task");
    let mut task = linker.instance(&task)?;
    task.func_wrap("id", |mut store: StoreContextMut<'_, Host>, ()| {
        charge(&mut store, 0)?;
        Ok((store.data().task.0.to_vec(),))
    })?;
    task.func_wrap("height", |mut store: StoreContextMut<'_, Host>, ()| {
        charge(&mut store, 0)?;
        Ok((store.data().height.0,))
    })?;

    let state = interface("state");
    let mut state = linker.instance(&state)?;
    state.func_wrap("get", get_state)?;
    state.func_wrap("set", set_state)?;
    state.func_wrap("delete", delete_state)?;
    state.func_wrap("keys", list_state)
}

/// The name of an interface of ours.
pub(crate) fn interface(name: &str) -> String {
    format!("lamina:service/{name}@0.2.0")
}

fn get_parameter(
    mut store: StoreContextMut<'_, Host>,
    (name,): (String,),
) -> wasmtime::Result<(Option<String>,)> {
    let bytes = name.len();
    let key = ParameterName::try_from(name).ok();
    let value = key.and_then(|key| store.data().given.parameters.get(&key));
    let value = value.map(|value| value.as_str().to_owned());
    charge(&mut store, bytes + value.as_ref().map_or(0, String::len))?;
    Ok((value,))
}

fn write_log(
    mut store: StoreContextMut<'_, Host>,
    (level, message): (LogLevel, String),
) -> wasmtime::Result<()> {
    charge(&mut store, message.len())?;
    store.data_mut().log(level, &message);
    Ok(())
}

fn blob_size(
    mut store: StoreContextMut<'_, Host>,
    (name,): (String,),
) -> wasmtime::Result<(Option<u64>,)> {
    charge(&mut store, name.len())?;
    let name = BlobName::try_from(name).ok();
    Ok((name.and_then(|name| store.data().given.blobs.size(&name)),))
}

fn read_blob(
    mut store: StoreContextMut<'_, Host>,
    (name, offset, length): (String, u64, u32),
) -> wasmtime::Result<(Option<Vec<u8>>,)> {
    charge(&mut store, name.len())?;
    let Ok(name) = BlobName::try_from(name) else { return Ok((None,)) };
    let given = store.data().given.clone();
    let length = length.min(BLOB_READ_BYTES_MAX) as usize;
    let read = given.blobs.read(&name, offset, length);
    let bytes = read.map_err(|error| HostFault(format!("reading the blob {name}: {error}")))?;
    let read = bytes.as_ref().map_or(0, Vec::len) as u64;
    take_fuel(&mut store, read.div_ceil(BLOB_BYTES_PER_FUEL))?;
    Ok((bytes,))
}

fn get_state(
    mut store: StoreContextMut<'_, Host>,
    (key,): (Vec<u8>,),
) -> wasmtime::Result<(Option<Vec<u8>>,)> {
    let value = state_of(&mut store, "get")?.get(&key).map(<[u8]>::to_vec);
    charge(&mut store, key.len() + value.as_ref().map_or(0, Vec::len))?;
    Ok((value,))
}

fn set_state(
    mut store: StoreContextMut<'_, Host>,
    (key, value): (Vec<u8>, Vec<u8>),
) -> wasmtime::Result<()> {
    charge(&mut store, key.len() + value.len())?;
    let bytes_max = store.data().given.limits.state_bytes as usize;
    Ok(state_of(&mut store, "set")?.set(key, value, bytes_max)?)
}

fn delete_state(mut store: StoreContextMut<'_, Host>, (key,): (Vec<u8>,)) -> wasmtime::Result<()> {
    charge(&mut store, key.len())?;
    state_of(&mut store, "delete")?.delete(&key);
    Ok(())
}

type Keys = (Vec<u8>, Option<Vec<u8>>, u32);

fn list_state(
    mut store: StoreContextMut<'_, Host>,
    (prefix, after, limit): Keys,
) -> wasmtime::Result<(Vec<Vec<u8>>,)> {
    let asked = prefix.len() + after.as_ref().map_or(0, Vec::len);
    let keys = state_of(&mut store, "keys")?.keys(&prefix, after.as_deref(), limit as usize);
    let listed: usize = keys.iter().map(|key| key.len() + PAIR_BYTES).sum();
    charge(&mut store, asked + listed)?;
    Ok((keys,))
}

/// What the service keeps, in a copy of its own from the first change on.
fn state_of<'a>(
    store: &'a mut StoreContextMut<'_, Host>,
    function: &str,
) -> wasmtime::Result<&'a mut ServiceState> {
    let state = store.data_mut().state.as_mut();
    let state = state.ok_or_else(|| Forbidden(format!("{}#{function}", interface("state"))))?;
    Ok(Arc::make_mut(state))
}

/// Takes the fuel of one call of the host that carries `bytes`.
pub(crate) fn charge(store: &mut StoreContextMut<'_, Host>, bytes: usize) -> wasmtime::Result<()> {
    take_fuel(store, HOST_CALL_FUEL + bytes as u64)
}

fn take_fuel(store: &mut StoreContextMut<'_, Host>, units: u64) -> wasmtime::Result<()> {
    let rest = store.get_fuel()?.checked_sub(units);
    store.set_fuel(rest.ok_or(Trap::OutOfFuel)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_bound_are_counted() {
        let mut log = Log::default();
        for _ in 0..5 {
            log.push(LogLevel::Info, "12345678", 100);
        }
        assert_eq!((log.lines.len(), log.dropped), (2, 3));
    }

    #[test]
    fn control_characters_do_not_reach_the_operators_terminal() {
        let mut log = Log::default();
        log.push(LogLevel::Info, "a\u{1b}[2Jb\nc", 100);
        assert_eq!(log.lines[0].message, "a [2Jb c");
    }
}
