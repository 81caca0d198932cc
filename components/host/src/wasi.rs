//! WASI 0.2 as services see it: the same at every operator.
//!
//! Clocks begin at zero, go on by a microsecond with each reading, and jump to wherever the service waits for; so waiting
//! takes no time. Random bytes are a stream that begins with the task's identifier. Standard output and error go to the
//! log, standard input is empty, there are no arguments, no variables and no preopened folders. Whatever else these packages
//! have (files, sockets) is there to be linked, and ends the run that calls it.
//!
//! Written by hand rather than with `wasmtime-wasi`, whose clocks, waits and streams are the machine's.

use lamina_types::TaskId;
use sha2::{Digest as _, Sha256};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{
    Component, ComponentType, Lift, Linker, Lower, Resource, ResourceTable, ResourceType,
};
use wasmtime::{Engine, StoreContextMut, Trap};

use crate::imports::{Forbidden, Host, LogLevel, charge};
use crate::meter::HostFault;

/// Most bytes that a stream takes at once, as `check-write` says.
const WRITE_BYTES_MAX: u64 = 4096;
/// Most random bytes of one call.
const RANDOM_BYTES_MAX: u64 = 64 * 1024;
/// Time between two readings of a clock, in nanoseconds.
const READING_NS: u64 = 1_000;
/// Longest line that's put together of several writes, in bytes.
const LINE_BYTES_MAX: usize = 4096;

/// What the host holds of WASI for one run.
#[derive(Debug, Default)]
pub(crate) struct VirtualWasi {
    /// Time since the run began, in nanoseconds.
    now_ns: u64,
    /// Random bytes that were given out.
    random: Option<RandomStream>,
    pollables: ResourceTable,
    /// What was written since the last end of a line: standard output, standard error.
    lines: [Vec<u8>; 2],
}

impl VirtualWasi {
    fn read_clock(&mut self) -> u64 {
        self.now_ns = self.now_ns.saturating_add(READING_NS);
        self.now_ns
    }
}

impl Host {
    fn random(&mut self, length: usize) -> Vec<u8> {
        let task = self.task;
        self.wasi.random.get_or_insert_with(|| RandomStream::new(&task)).take(length)
    }

    fn random_u64(&mut self) -> u64 {
        let bytes = self.random(8);
        u64::from_le_bytes(*bytes.first_chunk().expect("eight bytes were asked for"))
    }

    /// Logs the lines of what a stream was given, and what's left of them at the run's end.
    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let mut line = std::mem::take(&mut self.wasi.lines[stream.index()]);
        for byte in bytes {
            if *byte == b'\n' || line.len() >= LINE_BYTES_MAX {
                self.log(stream.level(), &String::from_utf8_lossy(&line));
                line.clear();
            }
            if *byte != b'\n' {
                line.push(*byte);
            }
        }
        self.wasi.lines[stream.index()] = line;
    }

    /// Logs the lines that the run didn't end.
    pub(crate) fn end_lines(&mut self) {
        for stream in [Stream::Output, Stream::Error] {
            let line = std::mem::take(&mut self.wasi.lines[stream.index()]);
            if !line.is_empty() {
                self.log(stream.level(), &String::from_utf8_lossy(&line));
            }
        }
    }
}

/// SHA-256 of seed and counter, one block after the other.
#[derive(Debug)]
struct RandomStream {
    seed: [u8; 32],
    counter: u64,
    rest: Vec<u8>,
}

impl RandomStream {
    fn new(task: &TaskId) -> Self {
        let seed = Sha256::new_with_prefix(b"lamina/randomness/v1").chain_update(task.0).finalize();
        Self { seed: seed.into(), counter: 0, rest: Vec::new() }
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.rest);
        while bytes.len() < length {
            let block = Sha256::new_with_prefix(self.seed).chain_update(self.counter.to_be_bytes());
            bytes.extend(block.finalize());
            self.counter += 1;
        }
        self.rest = bytes.split_off(length);
        bytes
    }
}

/// The packages of which services may import any interface.
const PACKAGES: [&str; 6] =
    ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"];
/// The version that's defined; components that name another 0.2 are linked to it.
const VERSION: &str = "0.2.0";

/// Whether services may import `interface`, whose version is left out.
pub(crate) fn is_granted(interface: &str) -> bool {
    PACKAGES.iter().any(|package| interface.starts_with(package))
}

type Store<'a> = StoreContextMut<'a, Host>;

/// Defines what does something.
pub(crate) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    add_cli(linker)?;
    add_clocks(linker)?;
    add_random(linker)?;
    add_io(linker)?;
    let name = name("wasi:filesystem/preopens");
    linker.instance(&name)?.func_wrap("get-directories", |mut store: Store<'_>, ()| {
        charge(&mut store, 0)?;
        Ok((Vec::<(Resource<Refused>, String)>::new(),))
    })
}

/// Defines whatever else `compiled` imports: it ends the run when it's called.
pub(crate) fn refuse_rest(
    linker: &mut Linker<Host>,
    engine: &Engine,
    compiled: &Component,
) -> wasmtime::Result<()> {
    let ty = compiled.component_type();
    // Interfaces that use another one's resource export it, too; it's defined where it comes first.
    let mut resources = Vec::new();
    for (interface, import) in ty.imports(engine) {
        let ComponentItem::ComponentInstance(instance) = import.ty else { continue };
        let defined = canonical_name(interface);
        let mut linker = linker.instance(&defined)?;
        for (name, export) in instance.exports(engine) {
            // An error says that it's defined already.
            let _ = match export.ty {
                ComponentItem::ComponentFunc(_) => {
                    let call = format!("{interface}#{name}");
                    linker.func_new(name, move |_, _, _, _| Err(Forbidden(call.clone()).into()))
                }
                ComponentItem::Resource(resource) if !resources.contains(&resource) => {
                    resources.push(resource);
                    linker.resource(name, ResourceType::host::<Refused>(), |_, _| Ok(()))
                }
                _ => Ok(()),
            };
        }
    }
    Ok(())
}

fn name(interface: &str) -> String {
    format!("{interface}@{VERSION}")
}

/// The name under which an import is defined here: of `wasi:io/poll@0.2.6`, `wasi:io/poll@0.2.0`.
fn canonical_name(import: &str) -> String {
    match import.split_once('@') {
        Some((interface, _)) if is_granted(interface) => name(interface),
        _ => import.to_owned(),
    }
}

/// A resource of which no service ever gets one.
#[derive(Debug)]
struct Refused;

fn add_cli(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let environment = name("wasi:cli/environment");
    let mut environment = linker.instance(&environment)?;
    environment.func_wrap("get-environment", |mut store: Store<'_>, ()| {
        charge(&mut store, 0)?;
        Ok((Vec::<(String, String)>::new(),))
    })?;
    environment.func_wrap("get-arguments", |mut store: Store<'_>, ()| {
        charge(&mut store, 0)?;
        Ok((Vec::<String>::new(),))
    })?;
    environment.func_wrap("initial-cwd", |mut store: Store<'_>, ()| {
        charge(&mut store, 0)?;
        Ok((None::<String>,))
    })?;
    // A program's way to stop, with or without success: it has no output then, like one that aborts.
    let exit = |_: Store<'_>, _: (Result<(), ()>,)| -> wasmtime::Result<()> {
        Err(Trap::UnreachableCodeReached.into())
    };
    linker.instance(&name("wasi:cli/exit"))?.func_wrap("exit", exit)?;
    linker.instance(&name("wasi:cli/stdin"))?.func_wrap("get-stdin", |_: Store<'_>, ()| {
        Ok((Resource::<InputStream>::new_own(Stream::Input.rep()),))
    })?;
    linker.instance(&name("wasi:cli/stdout"))?.func_wrap("get-stdout", |_: Store<'_>, ()| {
        Ok((Resource::<OutputStream>::new_own(Stream::Output.rep()),))
    })?;
    linker.instance(&name("wasi:cli/stderr"))?.func_wrap("get-stderr", |_: Store<'_>, ()| {
        Ok((Resource::<OutputStream>::new_own(Stream::Error.rep()),))
    })?;
    for resource in ["terminal-input", "terminal-output"] {
        let interface = name(&format!("wasi:cli/{resource}"));
        let ty = ResourceType::host::<Refused>();
        linker.instance(&interface)?.resource(resource, ty, |_, _| Ok(()))?;
    }
    for stream in ["stdin", "stdout", "stderr"] {
        let interface = name(&format!("wasi:cli/terminal-{stream}"));
        linker.instance(&interface)?.func_wrap(
            &format!("get-terminal-{stream}"),
            |mut store: Store<'_>, ()| {
                charge(&mut store, 0)?;
                Ok((None::<Resource<Refused>>,))
            },
        )?;
    }
    Ok(())
}

/// `datetime` of `wasi:clocks/wall-clock`.
#[derive(Debug, Clone, Copy, ComponentType, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

impl Datetime {
    fn of(ns: u64) -> Self {
        let nanoseconds = u32::try_from(ns % NS_PER_S).expect("below a billion");
        Self { seconds: ns / NS_PER_S, nanoseconds }
    }
}

const NS_PER_S: u64 = 1_000_000_000;

/// Something to wait for: a moment, in nanoseconds since the run began. Streams are always ready.
#[derive(Debug, Clone, Copy)]
struct Pollable {
    at_ns: u64,
}

fn add_clocks(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let wall = name("wasi:clocks/wall-clock");
    let mut wall = linker.instance(&wall)?;
    wall.func_wrap("now", |mut store: Store<'_>, ()| {
        charge(&mut store, 0)?;
        Ok((Datetime::of(store.data_mut().wasi.read_clock()),))
    })?;
    wall.func_wrap("resolution", |mut store: Store<'_>, ()| {
        charge(&mut store, 0)?;
        Ok((Datetime::of(READING_NS),))
    })?;
    let monotonic = name("wasi:clocks/monotonic-clock");
    let mut monotonic = linker.instance(&monotonic)?;
    monotonic.func_wrap("now", |mut store: Store<'_>, ()| {
        charge(&mut store, 0)?;
        Ok((store.data_mut().wasi.read_clock(),))
    })?;
    monotonic.func_wrap("resolution", |mut store: Store<'_>, ()| {
        charge(&mut store, 0)?;
        Ok((READING_NS,))
    })?;
    monotonic.func_wrap("subscribe-instant", |store: Store<'_>, (at_ns,): (u64,)| {
        subscribe(store, at_ns)
    })?;
    monotonic.func_wrap("subscribe-duration", |store: Store<'_>, (ns,): (u64,)| {
        let at_ns = store.data().wasi.now_ns.saturating_add(ns);
        subscribe(store, at_ns)
    })
}

fn subscribe(mut store: Store<'_>, at_ns: u64) -> wasmtime::Result<(Resource<Pollable>,)> {
    charge(&mut store, 0)?;
    Ok((store.data_mut().wasi.pollables.push(Pollable { at_ns })?,))
}

fn add_random(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    for kind in ["", "insecure-"] {
        let interface = match kind {
            "" => name("wasi:random/random"),
            _ => name("wasi:random/insecure"),
        };
        let mut random = linker.instance(&interface)?;
        random.func_wrap(
            &format!("get-{kind}random-bytes"),
            |mut store: Store<'_>, (length,): (u64,)| {
                let length =
                    usize::try_from(length.min(RANDOM_BYTES_MAX + 1)).unwrap_or(usize::MAX);
                charge(&mut store, length)?;
                if length as u64 > RANDOM_BYTES_MAX {
                    return Err(Forbidden(format!(
                        "more than {RANDOM_BYTES_MAX} random bytes at once"
                    ))
                    .into());
                }
                Ok((store.data_mut().random(length),))
            },
        )?;
        random.func_wrap(&format!("get-{kind}random-u64"), |mut store: Store<'_>, ()| {
            charge(&mut store, 8)?;
            Ok((store.data_mut().random_u64(),))
        })?;
    }
    let seed = name("wasi:random/insecure-seed");
    linker.instance(&seed)?.func_wrap("insecure-seed", |mut store: Store<'_>, ()| {
        charge(&mut store, 16)?;
        let host = store.data_mut();
        Ok(((host.random_u64(), host.random_u64()),))
    })
}

/// The standard streams; a stream's handle says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Input,
    Output,
    Error,
}

impl Stream {
    const fn rep(self) -> u32 {
        self as u32
    }

    const fn of(rep: u32) -> Self {
        if rep == Self::Error.rep() { Self::Error } else { Self::Output }
    }

    /// The place of its unfinished line.
    const fn index(self) -> usize {
        matches!(self, Self::Error) as usize
    }

    const fn level(self) -> LogLevel {
        if matches!(self, Self::Error) { LogLevel::Warn } else { LogLevel::Info }
    }
}

#[derive(Debug)]
struct InputStream;

#[derive(Debug)]
struct OutputStream;

/// `error` of `wasi:io/error`: no stream of ours ever makes one.
#[derive(Debug)]
struct IoError;

/// `stream-error` of `wasi:io/streams`.
#[derive(Debug, ComponentType, Lift, Lower)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    LastOperationFailed(Resource<IoError>),
    #[component(name = "closed")]
    Closed,
}

type Written = wasmtime::Result<(Result<(), StreamError>,)>;

fn add_io(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.instance(&name("wasi:io/error"))?.resource(
        "error",
        ResourceType::host::<IoError>(),
        |_, _| Ok(()),
    )?;
    let poll = name("wasi:io/poll");
    let mut poll = linker.instance(&poll)?;
    poll.resource("pollable", ResourceType::host::<Pollable>(), |mut store, rep| {
        let pollables = &mut store.data_mut().wasi.pollables;
        pollables.delete(Resource::<Pollable>::new_own(rep)).map(drop).map_err(Into::into)
    })?;
    poll.func_wrap(
        "[method]pollable.ready",
        |mut store: Store<'_>, (it,): (Resource<Pollable>,)| {
            charge(&mut store, 0)?;
            let wasi = &store.data().wasi;
            Ok((wasi.pollables.get(&it)?.at_ns <= wasi.now_ns,))
        },
    )?;
    poll.func_wrap(
        "[method]pollable.block",
        |mut store: Store<'_>, (it,): (Resource<Pollable>,)| {
            charge(&mut store, 0)?;
            let wasi = &mut store.data_mut().wasi;
            wasi.now_ns = wasi.now_ns.max(wasi.pollables.get(&it)?.at_ns);
            Ok(())
        },
    )?;
    poll.func_wrap("poll", poll_all)?;
    add_streams(linker)
}

/// The places in `list` of those that are ready, once the time of the first of them has come.
fn poll_all(
    mut store: Store<'_>,
    (list,): (Vec<Resource<Pollable>>,),
) -> wasmtime::Result<(Vec<u32>,)> {
    charge(&mut store, list.len() * 4)?;
    let wasi = &mut store.data_mut().wasi;
    let mut moments = Vec::with_capacity(list.len());
    for it in &list {
        moments.push(wasi.pollables.get(it)?.at_ns);
    }
    let Some(first) = moments.iter().min() else {
        return Err(Forbidden("wasi:io/poll#poll with nothing to wait for".to_owned()).into());
    };
    wasi.now_ns = wasi.now_ns.max(*first);
    let ready = (0u32..).zip(&moments).filter(|(_, at_ns)| **at_ns <= wasi.now_ns);
    Ok((ready.map(|(place, _)| place).collect(),))
}

fn add_streams(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let streams = name("wasi:io/streams");
    let mut streams = linker.instance(&streams)?;
    streams.resource("input-stream", ResourceType::host::<InputStream>(), |_, _| Ok(()))?;
    streams.resource("output-stream", ResourceType::host::<OutputStream>(), |_, _| Ok(()))?;
    for method in ["read", "blocking-read"] {
        streams.func_wrap(
            &format!("[method]input-stream.{method}"),
            |mut store: Store<'_>, _: (Resource<InputStream>, u64)| {
                charge(&mut store, 0)?;
                Ok((Err::<Vec<u8>, _>(StreamError::Closed),))
            },
        )?;
    }
    for method in ["skip", "blocking-skip"] {
        streams.func_wrap(
            &format!("[method]input-stream.{method}"),
            |mut store: Store<'_>, _: (Resource<InputStream>, u64)| {
                charge(&mut store, 0)?;
                Ok((Err::<u64, _>(StreamError::Closed),))
            },
        )?;
    }
    streams.func_wrap(
        "[method]input-stream.subscribe",
        |store: Store<'_>, _: (Resource<InputStream>,)| subscribe(store, 0),
    )?;
    streams.func_wrap(
        "[method]output-stream.subscribe",
        |store: Store<'_>, _: (Resource<OutputStream>,)| subscribe(store, 0),
    )?;
    streams.func_wrap(
        "[method]output-stream.check-write",
        |mut store: Store<'_>, _: (Resource<OutputStream>,)| {
            charge(&mut store, 0)?;
            Ok((Ok::<_, StreamError>(WRITE_BYTES_MAX),))
        },
    )?;
    for method in ["write", "blocking-write-and-flush"] {
        streams.func_wrap(
            &format!("[method]output-stream.{method}"),
            |mut store: Store<'_>, (it, bytes): (Resource<OutputStream>, Vec<u8>)| -> Written {
                charge(&mut store, bytes.len())?;
                if bytes.len() as u64 > WRITE_BYTES_MAX {
                    let call = "wasi:io/streams#write with more than check-write allows";
                    return Err(Forbidden(call.to_owned()).into());
                }
                store.data_mut().write(Stream::of(it.rep()), &bytes);
                Ok((Ok(()),))
            },
        )?;
    }
    for method in ["flush", "blocking-flush"] {
        streams.func_wrap(
            &format!("[method]output-stream.{method}"),
            |mut store: Store<'_>, _: (Resource<OutputStream>,)| -> Written {
                charge(&mut store, 0)?;
                Ok((Ok(()),))
            },
        )?;
    }
    Ok(())
}

/// Keeps errors of the tables apart from what services do: an unknown handle can't come from one.
impl From<wasmtime::component::ResourceTableError> for HostFault {
    fn from(error: wasmtime::component::ResourceTableError) -> Self {
        Self(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_follow_from_the_task_alone() {
        let mut whole = RandomStream::new(&TaskId([1; 32]));
        let mut parts = RandomStream::new(&TaskId([1; 32]));
        let together = [parts.take(5), parts.take(40), parts.take(0), parts.take(3)].concat();
        assert_eq!(whole.take(48), together);
        assert_ne!(RandomStream::new(&TaskId([2; 32])).take(48), together);
    }

    #[test]
    fn any_version_of_wasi_is_linked_to_ours() {
        assert_eq!(canonical_name("wasi:io/poll@0.2.6"), "wasi:io/poll@0.2.0");
        assert_eq!(canonical_name("wasi:http/types@0.2.6"), "wasi:http/types@0.2.6");
    }
}
