use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use lamina_types::{COMPONENT_BYTES_MAX, Digest, Limits, Manifest};
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Component as Compiled, Linker, Type};
use wasmtime::{OperatorCost, PoolingAllocationConfig};

use crate::cache::Cache;
use crate::component::Entry;
use crate::imports::{self, Host, interface};
use crate::observe::{self, Network};
use crate::{Component, Config, Error, wasi};

/// Most core instances in a component; those made from JavaScript have a few, from Python about forty. The same at every
/// operator.
pub const CORE_INSTANCES_MAX: u32 = 128;
/// Most linear memories in a component. The same at every operator.
pub const MEMORIES_MAX: u32 = 4;
/// Most tables in a component. The same at every operator.
pub const TABLES_MAX: u32 = 16;
/// Most elements in one table; JavaScript's engine has about 10,000. The same at every operator.
pub const TABLE_ELEMENTS_MAX: usize = 65_536;

/// Compiles components and runs them. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

struct Shared {
    config: Config,
    engine: wasmtime::Engine,
    cache: Option<Cache>,
    /// What `run` and `reduce` are given.
    linker: Linker<Host>,
    /// What `observe` is given.
    observing: Linker<Host>,
    network: Network,
    _ticker: Ticker,
}

impl Engine {
    /// An engine for this operator.
    ///
    /// # Errors
    /// [`Error::Config`]; [`Error::Engine`] where the address space can't be reserved.
    pub fn new(config: Config) -> Result<Self, Error> {
        config.check()?;
        let failed = |error: wasmtime::Error| Error::Engine { reason: format!("{error:#}") };
        let engine = wasmtime::Engine::new(&wasmtime_config(&config)).map_err(failed)?;
        let mut linker = Linker::new(&engine);
        imports::add_to_linker(&mut linker).map_err(failed)?;
        let mut observing = linker.clone();
        wasi::add_to_linker(&mut linker).map_err(failed)?;
        observe::add_to_linker(&mut observing).map_err(failed)?;
        let network = Network::new(&config)?;
        let ticker =
            Ticker::start(engine.clone()).map_err(|e| Error::Engine { reason: e.to_string() })?;
        let _ticker = ticker;
        let shared = Shared { config, engine, cache: None, linker, observing, network, _ticker };
        Ok(Self(Arc::new(shared)))
    }

    /// The engine with a cache of compiled components; before it's cloned.
    ///
    /// # Panics
    /// If it was cloned.
    #[must_use]
    pub fn with_cache(mut self, cache: Cache) -> Self {
        Arc::get_mut(&mut self.0).expect("an engine is given its cache before it's cloned").cache =
            Some(cache);
        self
    }

    /// Checks and compiles a component, in the caller's thread: a second or more for each megabyte. One that's in the
    /// cache takes milliseconds.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::WrongDigest`], [`Error::NotAComponent`], [`Error::Invalid`],
    /// [`Error::ImportNotGranted`], [`Error::WrongWorld`], [`Error::TooManyParts`], checked in this order.
    pub fn load(&self, bytes: &[u8], expected: &Digest) -> Result<Component, Error> {
        let max = COMPONENT_BYTES_MAX as usize;
        if bytes.len() > max {
            return Err(Error::TooLarge { bytes: bytes.len(), max });
        }
        let found = Digest::of(bytes);
        if found != *expected {
            return Err(Error::WrongDigest { expected: *expected, found });
        }
        if !bytes.starts_with(COMPONENT_HEADER) {
            return Err(Error::NotAComponent);
        }
        let compiled = self.compile(bytes, expected)?;
        self.check_imports(&compiled)?;
        check_parts(&compiled)?;
        let entry = self.entry(&compiled)?;
        Ok(Component::new(self.clone(), *expected, entry))
    }

    fn compile(&self, bytes: &[u8], digest: &Digest) -> Result<Compiled, Error> {
        let cache = self.0.cache.as_ref();
        if let Some(compiled) = cache.and_then(|cache| cache.load(self.wasmtime(), digest)) {
            return Ok(compiled);
        }
        let compiled = Compiled::new(self.wasmtime(), bytes)
            .map_err(|error| Error::Invalid { reason: format!("{error:#}") })?;
        if let Some(cache) = cache {
            cache.store(digest, &compiled);
        }
        Ok(compiled)
    }

    /// Checks that this operator gives what the manifest asks for.
    ///
    /// # Errors
    /// [`Error::FuelNotAdmitted`], [`Error::MemoryNotAdmitted`], [`Error::OriginNotAdmitted`], [`Error::LlmNotAdmitted`].
    pub fn admit(&self, manifest: &Manifest) -> Result<(), Error> {
        self.admit_limits(&manifest.limits)?;
        manifest.oracle.as_ref().map_or(Ok(()), |oracle| self.0.network.admit(oracle))
    }

    fn admit_limits(&self, limits: &Limits) -> Result<(), Error> {
        let Config { fuel_max, memory_bytes_max, .. } = self.0.config;
        if limits.fuel > fuel_max {
            return Err(Error::FuelNotAdmitted { asked: limits.fuel, max: fuel_max });
        }
        if limits.memory_bytes > memory_bytes_max {
            let asked = limits.memory_bytes;
            return Err(Error::MemoryNotAdmitted { asked, max: memory_bytes_max });
        }
        Ok(())
    }

    /// What the engine was made with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Ticks of the epoch after which a run has had its time.
    pub(crate) fn wall_time_ticks(&self) -> u64 {
        let ticks = self.0.config.wall_time_max.as_millis().div_ceil(TICK.as_millis());
        // One more, since a run begins somewhere between two ticks.
        u64::try_from(ticks).unwrap_or(u64::MAX - 1) + 1
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.0.engine
    }

    pub(crate) fn network(&self) -> &Network {
        &self.0.network
    }

    /// Checks that all imports are granted to one of the two kinds.
    fn check_imports(&self, compiled: &Compiled) -> Result<(), Error> {
        let ty = compiled.component_type();
        let is_oracle = ty.get_export(self.wasmtime(), "observe").is_some();
        match ty.imports(self.wasmtime()).find(|(name, _)| !is_granted(name, is_oracle)) {
            Some((name, _)) => Err(Error::ImportNotGranted { name: name.to_owned() }),
            None => Ok(()),
        }
    }

    /// Finds out which of the two kinds the component is of, and links it.
    fn entry(&self, compiled: &Compiled) -> Result<Entry, Error> {
        let wrong_world = |reason: String| Error::WrongWorld { reason };
        let link = |mut linker: Linker<Host>| {
            wasi::refuse_rest(&mut linker, self.wasmtime(), compiled)
                .and_then(|()| linker.instantiate_pre(compiled))
                .map_err(|error| wrong_world(format!("{error:#}")))
        };
        let ty = compiled.component_type();
        let export = |name, is_right: fn(&ComponentFunc) -> bool, signature| match ty
            .get_export(self.wasmtime(), name)
            .map(|export| export.ty)
        {
            Some(ComponentItem::ComponentFunc(func)) if is_right(&func) => {
                Ok(compiled.get_export_index(None, name))
            }
            Some(_) => Err(wrong_world(format!("{name} isn't {signature}"))),
            None => Ok(None),
        };
        let run = export("run", is_run, RUN)?;
        let observe = export("observe", is_run, RUN)?;
        let reduce = export("reduce", is_reduce, REDUCE)?;
        match (run, observe, reduce) {
            (Some(run), None, None) => {
                Ok(Entry::Deterministic { instance: link(self.0.linker.clone())?, run })
            }
            (None, Some(observe), Some(reduce)) => Ok(Entry::Oracle {
                observing: link(self.0.observing.clone())?,
                observe,
                reducing: link(self.0.linker.clone())?,
                reduce,
            }),
            (None, None, None) => Err(wrong_world("it doesn't export run".to_owned())),
            (None, _, _) => {
                Err(wrong_world("an oracle exports both observe and reduce".to_owned()))
            }
            (Some(_), _, _) => {
                Err(wrong_world("it exports run, and observe or reduce, too".to_owned()))
            }
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("config", &self.0.config).finish_non_exhaustive()
    }
}

/// How a component begins: magic, version 13 (of the binary format's drafts), layer 1. Component model, "Binary Format".
const COMPONENT_HEADER: &[u8] = b"\0asm\x0d\0\x01\0";

const RUN: &str = "func(input: list<u8>) -> result<list<u8>, string>";
const REDUCE: &str =
    "func(input: list<u8>, observations: list<observation>) -> result<list<u8>, string>";

/// Whether a component may import `name`.
fn is_granted(name: &str, is_oracle: bool) -> bool {
    const SERVICES: [&str; 5] = ["parameters", "log", "blobs", "state", "task"];
    const ORACLES: [&str; 2] = ["llm", "observations"];
    let ours = |granted: &[&str]| granted.iter().any(|granted| interface(granted) == name);
    let Some((unversioned, version)) = name.split_once('@') else { return false };
    let is_http = ["wasi:http/types", "wasi:http/outgoing-handler"].contains(&unversioned);
    ours(&SERVICES)
        || (is_oracle && ours(&ORACLES))
        || (version.starts_with("0.2.") && (wasi::is_granted(unversioned) || is_oracle && is_http))
}

fn is_run(func: &ComponentFunc) -> bool {
    func.params().len() == 1 && returns_bytes(func) && takes_bytes(func)
}

fn is_reduce(func: &ComponentFunc) -> bool {
    let is_observation = |ty: &Type| match ty {
        Type::Record(record) => {
            let fields: Vec<_> = record.fields().map(|field| (field.name, field.ty)).collect();
            matches!(fields.as_slice(), [
                ("operator", Type::U16),
                ("stake", Type::U64),
                ("value", value),
            ] if is_bytes(value))
        }
        _ => false,
    };
    let are_observations = |ty: Type| matches!(ty, Type::List(list) if is_observation(&list.ty()));
    func.params().len() == 2
        && returns_bytes(func)
        && takes_bytes(func)
        && func.params().nth(1).is_some_and(|(_, ty)| are_observations(ty))
}

fn is_bytes(ty: &Type) -> bool {
    matches!(ty, Type::List(list) if list.ty() == Type::U8)
}

/// Whether the first parameter is bytes.
fn takes_bytes(func: &ComponentFunc) -> bool {
    func.params().next().is_some_and(|(_, ty)| is_bytes(&ty))
}

/// Whether the result is bytes or an error's text, and comes at once.
fn returns_bytes(func: &ComponentFunc) -> bool {
    let is_result = |ty: &Type| match ty {
        Type::Result(result) => {
            result.ok().is_some_and(|ok| is_bytes(&ok)) && result.err() == Some(Type::String)
        }
        _ => false,
    };
    !func.async_()
        && func.results().len() == 1
        && func.results().next().is_some_and(|ty| is_result(&ty))
}

fn check_parts(compiled: &Compiled) -> Result<(), Error> {
    // None if core modules are imported, which is never granted.
    let Some(parts) = compiled.resources_required() else { return Ok(()) };
    let within = |what, count: u64, max: u64| {
        if count <= max { Ok(()) } else { Err(Error::TooManyParts { what, count, max }) }
    };
    within("memories", parts.num_memories.into(), MEMORIES_MAX.into())?;
    within("tables", parts.num_tables.into(), TABLES_MAX.into())?;
    let elements = parts.max_initial_table_size.unwrap_or(0);
    within("elements in a table", elements, TABLE_ELEMENTS_MAX as u64)
}

fn wasmtime_config(config: &Config) -> wasmtime::Config {
    let mut wasmtime = wasmtime::Config::new();
    // Part of the outcome, so fixed for the network rather than the operator's choice. What the crate's features leave
    // out (threads, garbage collection, exceptions, async components) is off anyway.
    wasmtime
        .consume_fuel(true)
        .operator_cost(operator_cost())
        .cranelift_nan_canonicalization(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .wasm_custom_page_sizes(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_relaxed_simd(false)
        .wasm_tail_call(false)
        .wasm_wide_arithmetic(false);
    // The operator's own.
    wasmtime.epoch_interruption(true).memory_init_cow(true).wasm_backtrace_max_frames(None);
    if config.pooled {
        wasmtime.allocation_strategy(pool(config));
    }
    wasmtime
}

/// Stack for a component's calls, in bytes; wasmtime's default. How deep that is depends on the compiler's frames.
pub(crate) const WASM_STACK_BYTES: usize = 512 << 10;

/// One unit for each instruction, for each byte or element of a bulk operation, and [`MEMORY_PAGE_FUEL`] for each new page,
/// since the kernel has to clear it.
fn operator_cost() -> OperatorCost {
    let mut cost = OperatorCost::new();
    cost.variable.memory_grow_per_page = MEMORY_PAGE_FUEL;
    cost
}

/// Fuel of a new page of memory: the most that can be said.
pub(crate) const MEMORY_PAGE_FUEL: u8 = u8::MAX;

/// Room for `instances_max` components that are as large as the network allows.
fn pool(config: &Config) -> PoolingAllocationConfig {
    let instances = config.instances_max;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances * CORE_INSTANCES_MAX)
        .total_memories(instances * MEMORIES_MAX)
        .total_tables(instances * TABLES_MAX)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_memory_size(usize::try_from(config.memory_bytes_max).unwrap_or(usize::MAX))
        .linear_memory_keep_resident(RESIDENT_BYTES)
        .table_keep_resident(RESIDENT_BYTES);
    pool
}

/// Memory of a slot that is cleared by writing rather than handed back to the kernel, in bytes. A guess that
/// `benches/host.rs` confirms.
const RESIDENT_BYTES: usize = 128 << 10;

/// Time between two checks of the wall clock.
const TICK: Duration = Duration::from_millis(10);

/// Advances the engine's epoch until it's dropped.
struct Ticker {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn start(engine: wasmtime::Engine) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::sync_channel::<()>(0);
        let tick = move || {
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                engine.increment_epoch();
            }
        };
        let thread = std::thread::Builder::new().name("wasm-epoch".to_owned()).spawn(tick)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It only sleeps and counts, so there's no panic to pass on.
            let _ = thread.join();
        }
    }
}
