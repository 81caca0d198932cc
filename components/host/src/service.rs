use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use lamina_types::{
    Bytes, Failure, Height, Input, Limits, OBSERVATION_BYTES_MAX, OUTPUT_BYTES_MAX, Oracle,
    Outcome, Output, Reason, StateTransition, TaskId, Trap,
};
use wasmtime::Store;
use wasmtime::component::{
    ComponentExportIndex, ComponentNamedList, ComponentType, InstancePre, Lower,
};

use crate::Engine;
use crate::component::Entry;
use crate::imports::{Given, Host, Log};
use crate::meter::MemoryMeter;
use crate::observe::Observation;
use crate::run::{Abstain, Ending, Run, ending};
use crate::state::ServiceState;
use crate::wasi::VirtualWasi;

/// A service that's ready to run: its component with what its manifest gives it.
///
/// Cheap to clone; any number of threads may run it at once, each task in an instance of its own.
#[derive(Clone)]
pub struct Service {
    engine: Engine,
    entry: Entry,
    given: Arc<Given>,
    oracle: Option<Arc<Oracle>>,
}

/// One task, as far as its outcome depends on it.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// Its identifier: what the component's clocks and randomness follow from, too.
    pub id: TaskId,
    /// The height of the checkpoint that it's pinned to.
    pub height: Height,
    /// What it runs on.
    pub input: &'a Input,
    /// What the service keeps; of no meaning for one that keeps nothing.
    pub state: &'a Arc<ServiceState>,
}

impl<'a> Task<'a> {
    /// A task that begins without any state.
    #[must_use]
    pub fn new(id: TaskId, height: Height, input: &'a Input) -> Self {
        static EMPTY: LazyLock<Arc<ServiceState>> = LazyLock::new(Arc::default);
        Self { id, height, input, state: &EMPTY }
    }
}

/// What one operator observed, as [`Service::reduce`] is given it; `observation` of `lamina:service/observations`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lower)]
#[component(record)]
pub struct Observed {
    /// The operator's place in the operator set.
    #[component(name = "operator")]
    pub operator: u16,
    /// The operator's stake, in gwei.
    #[component(name = "stake")]
    pub stake: u64,
    /// What `observe` returned there.
    #[component(name = "value")]
    pub value: Vec<u8>,
}

impl Service {
    pub(crate) fn new(
        engine: Engine,
        entry: Entry,
        given: Arc<Given>,
        oracle: Option<Arc<Oracle>>,
    ) -> Self {
        Self { engine, entry, given, oracle }
    }

    /// Whether it observes and reduces, rather than runs.
    #[must_use]
    pub fn is_oracle(&self) -> bool {
        self.oracle.is_some()
    }

    /// Runs a deterministic service's task.
    ///
    /// The outcome depends on service and task alone. An overflow of the stack counts as having used all the fuel,
    /// because the depth at which it comes depends on the machine's instruction set.
    ///
    /// # Panics
    /// If the service is an oracle.
    #[must_use]
    pub fn run(&self, task: &Task<'_>) -> Run {
        let Entry::Deterministic { instance, run } = &self.entry else {
            panic!("an oracle is observed and reduced, not run");
        };
        self.call(task, instance, *run, (task.input.as_slice(),))
    }

    /// Makes one result of the observations of a quorum, in ascending order of their operators.
    ///
    /// # Panics
    /// If the service isn't an oracle.
    #[must_use]
    pub fn reduce(&self, task: &Task<'_>, observations: &[Observed]) -> Run {
        let Entry::Oracle { reducing, reduce, .. } = &self.entry else {
            panic!("a deterministic service is run, not reduced");
        };
        self.call(task, reducing, *reduce, (task.input.as_slice(), observations))
    }

    /// Observes the outside world, in the caller's thread, which isn't one of an asynchronous runtime's.
    ///
    /// # Panics
    /// If the service isn't an oracle.
    #[must_use]
    pub fn observe(&self, task: &Task<'_>) -> Observation {
        let (Entry::Oracle { observing, observe, .. }, Some(oracle)) = (&self.entry, &self.oracle)
        else {
            panic!("a deterministic service is run, it doesn't observe");
        };
        let started = Instant::now();
        let limits = &self.given.limits;
        let mut store = self.store(task);
        store.data_mut().outside = Some(self.engine.network().outside(oracle));
        let max = self.engine.config().wall_time_max;
        let called = self.engine.network().block_on(async {
            let called = call_async(&mut store, limits, observing, *observe, task.input.as_slice());
            match tokio::time::timeout(max, called).await {
                Ok(result) => result,
                Err(_) => Err(Ending::TookTooLong),
            }
        });
        let value = match called {
            Ok(Ok(value)) => Bytes::new(value).map_err(|_| {
                format!("the observation has more than {OBSERVATION_BYTES_MAX} bytes")
            }),
            Ok(Err(reason)) => Err(Reason::truncated(&reason).to_string()),
            Err(Ending::Failed(failure)) => Err(failure.to_string()),
            Err(ending) => Err(self.abstain(ending).to_string()),
        };
        let mut host = store.into_data();
        host.end_lines();
        let outside = host.outside.take();
        Observation {
            value,
            refusals: outside.map(|outside| outside.refusals()).unwrap_or_default(),
            log: host.log,
            memory_bytes_peak: host.memory.used_bytes(),
            elapsed: started.elapsed(),
        }
    }

    fn store(&self, task: &Task<'_>) -> Store<Host> {
        let limits = &self.given.limits;
        let host = Host {
            memory: MemoryMeter::new(limits.memory_bytes),
            given: self.given.clone(),
            task: task.id,
            height: task.height,
            log: Log::default(),
            state: (limits.state_bytes > 0).then(|| task.state.clone()),
            wasi: VirtualWasi::default(),
            outside: None,
        };
        let mut store = Store::new(self.engine.wasmtime(), host);
        store.limiter(|host| &mut host.memory);
        store.set_fuel(limits.fuel).expect("fuel is on");
        store.set_epoch_deadline(self.engine.wall_time_ticks());
        // Lists and strings are refused above this before the host allocates anything for them.
        store.set_hostcall_fuel(OUTPUT_BYTES_MAX);
        store.set_max_component_handles(HANDLES_MAX);
        store
    }

    /// Runs an export in a fresh instance, and makes an outcome of what comes of it.
    fn call<P>(
        &self,
        task: &Task<'_>,
        instance: &InstancePre<Host>,
        export: ComponentExportIndex,
        params: P,
    ) -> Run
    where
        P: ComponentNamedList + Lower,
    {
        let started = Instant::now();
        let limits = &self.given.limits;
        let mut store = self.store(task);
        let before = store.data().state.clone();
        let called = if task.input.as_slice().len() > limits.input_bytes as usize {
            Err(Ending::Failed(Failure::InputTooLong { max: limits.input_bytes }))
        } else {
            call(&mut store, limits, instance, export, params)
        };
        let fuel_left = store.get_fuel().expect("fuel is on");
        let mut host = store.into_data();
        host.end_lines();
        let result = match called {
            Ok(Ok(output)) => Ok(accept(output, limits.output_bytes)),
            Ok(Err(reason)) => Ok(Err(Failure::Refused { reason: Reason::truncated(&reason) })),
            Err(Ending::Failed(failure)) => Ok(Err(failure)),
            Err(ending) => Err(self.abstain(ending)),
        };
        // What a run that failed has written is as if it never was.
        let after = if matches!(result, Ok(Ok(_))) { host.state } else { before.clone() };
        let verdict = result.map(|result| Outcome {
            fuel_used: match &result {
                Err(Failure::OutOfFuel | Failure::Trapped { trap: Trap::StackOverflow }) => {
                    limits.fuel
                }
                _ => limits.fuel - fuel_left,
            },
            result,
            observations: None,
            state: before.zip(after.as_ref()).map(|(before, after)| StateTransition {
                before: before.root(),
                after: after.root(),
            }),
        });
        Run {
            verdict,
            state: after,
            log: host.log,
            memory_bytes_peak: host.memory.used_bytes(),
            elapsed: started.elapsed(),
        }
    }

    fn abstain(&self, ending: Ending) -> Abstain {
        let config = self.engine.config();
        match ending {
            Ending::TookTooLong => Abstain::WallTime { max: config.wall_time_max },
            Ending::PoolExhausted => Abstain::Busy { instances_max: config.instances_max },
            Ending::HostFailed(reason) => Abstain::Host { reason },
            Ending::Failed(failure) => Abstain::Host { reason: failure.to_string() },
        }
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("given", &self.given).finish_non_exhaustive()
    }
}

/// Most handles of resources that a component has at once.
const HANDLES_MAX: usize = 10_000;

type Returned = (Result<Vec<u8>, String>,);

fn call<P>(
    store: &mut Store<Host>,
    limits: &Limits,
    instance: &InstancePre<Host>,
    export: ComponentExportIndex,
    params: P,
) -> Result<Result<Vec<u8>, String>, Ending>
where
    P: ComponentNamedList + Lower,
{
    let ending_of = |error: wasmtime::Error, called| ending(&error, called, limits.output_bytes);
    let instance = instance.instantiate(&mut *store).map_err(|error| ending_of(error, false))?;
    let function = instance
        .get_typed_func::<P, Returned>(&mut *store, export)
        .map_err(|error| ending_of(error, false))?;
    let (result,) = function.call(store, params).map_err(|error| ending_of(error, true))?;
    Ok(result)
}

async fn call_async(
    store: &mut Store<Host>,
    limits: &Limits,
    instance: &InstancePre<Host>,
    export: ComponentExportIndex,
    input: &[u8],
) -> Result<Result<Vec<u8>, String>, Ending> {
    let ending_of = |error: wasmtime::Error, called| ending(&error, called, limits.output_bytes);
    let instance =
        instance.instantiate_async(&mut *store).await.map_err(|error| ending_of(error, false))?;
    let function = instance
        .get_typed_func::<(&[u8],), Returned>(&mut *store, export)
        .map_err(|error| ending_of(error, false))?;
    let called = function.call_async(store, (input,)).await;
    let (result,) = called.map_err(|error| ending_of(error, true))?;
    Ok(result)
}

/// The output, if it's as short as the manifest says.
fn accept(output: Vec<u8>, output_bytes_max: u32) -> Result<Output, Failure> {
    let too_long = Failure::OutputTooLong { max: output_bytes_max };
    if output.len() > output_bytes_max as usize {
        return Err(too_long);
    }
    Output::new(output).map_err(|_| too_long)
}
