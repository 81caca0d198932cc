use std::collections::BTreeMap;

use lamina_types::{ParameterName, ParameterValue};
use wasmtime::component::{ComponentType, Lift, Linker};
use wasmtime::{StoreContextMut, Trap};

use crate::meter::MemoryMeter;

/// Fuel of one call of the host, to which each byte that it carries adds one. About what such a call takes, measured in
/// instructions; without it, a loop of calls would take far more time than its fuel says.
pub const HOST_CALL_FUEL: u64 = 500;

/// The names of what services are given.
pub(crate) const GRANTED: [&str; 2] =
    ["lamina:service/parameters@0.1.0", "lamina:service/log@0.1.0"];

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
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) memory: MemoryMeter,
    pub(crate) parameters: BTreeMap<ParameterName, ParameterValue>,
    pub(crate) log: Log,
    pub(crate) log_bytes_max: usize,
}

/// Defines all that [`GRANTED`] names.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let [parameters, log] = GRANTED;
    linker.instance(parameters)?.func_wrap("get", get_parameter)?;
    linker.instance(log)?.func_wrap("log", write_log)
}

fn get_parameter(
    mut store: StoreContextMut<'_, State>,
    (name,): (String,),
) -> wasmtime::Result<(Option<String>,)> {
    let bytes = name.len();
    let key = ParameterName::try_from(name).ok();
    let value = key.and_then(|key| store.data().parameters.get(&key));
    let value = value.map(|value| value.as_str().to_owned());
    charge(&mut store, bytes + value.as_ref().map_or(0, String::len))?;
    Ok((value,))
}

fn write_log(
    mut store: StoreContextMut<'_, State>,
    (level, message): (LogLevel, String),
) -> wasmtime::Result<()> {
    charge(&mut store, message.len())?;
    let state = store.data_mut();
    state.log.push(level, &message, state.log_bytes_max);
    Ok(())
}

/// Takes the fuel of one call of the host that carries `bytes`.
fn charge(store: &mut StoreContextMut<'_, State>, bytes: usize) -> wasmtime::Result<()> {
    let rest = store.get_fuel()?.checked_sub(HOST_CALL_FUEL + bytes as u64);
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
