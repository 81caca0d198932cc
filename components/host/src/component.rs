use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use lamina_types::{
    Failure, Input, Limits, OUTPUT_BYTES_MAX, Outcome, Output, ParameterName, ParameterValue,
    Reason, Trap,
};
use wasmtime::Store;
use wasmtime::component::{ComponentExportIndex, InstancePre};

use crate::Engine;
use crate::imports::{Log, State};
use crate::meter::MemoryMeter;
use crate::run::{Abstain, Ending, Run, ending};

/// A service's component, compiled and checked. Cheap to clone; any number of threads may run it at once.
#[derive(Clone)]
pub struct Component {
    engine: Engine,
    instance: InstancePre<State>,
    run: ComponentExportIndex,
}

impl Component {
    pub(crate) fn new(
        engine: Engine,
        instance: InstancePre<State>,
        run: ComponentExportIndex,
    ) -> Self {
        Self { engine, instance, run }
    }

    /// Runs the component once on `input`, in an instance of its own.
    ///
    /// The outcome depends on the component and the arguments alone. An overflow of the stack counts as having used all
    /// the fuel, because the depth at which it comes depends on the machine's instruction set.
    #[must_use]
    pub fn run(
        &self,
        limits: &Limits,
        parameters: &BTreeMap<ParameterName, ParameterValue>,
        input: &Input,
    ) -> Run {
        let started = Instant::now();
        let mut store = Store::new(
            self.engine.wasmtime(),
            State {
                memory: MemoryMeter::new(limits.memory_bytes),
                parameters: parameters.clone(),
                log: Log::default(),
                log_bytes_max: self.engine.config().log_bytes_max as usize,
            },
        );
        let verdict = self.verdict(&mut store, limits, input);
        let state = store.into_data();
        Run {
            verdict,
            log: state.log,
            memory_bytes_peak: state.memory.used_bytes(),
            elapsed: started.elapsed(),
        }
    }

    fn verdict(
        &self,
        store: &mut Store<State>,
        limits: &Limits,
        input: &Input,
    ) -> Result<Outcome, Abstain> {
        self.engine.admit_limits(limits)?;
        if input.as_slice().len() > limits.input_bytes as usize {
            let max = limits.input_bytes;
            return Ok(Outcome { fuel_used: 0, result: Err(Failure::InputTooLong { max }) });
        }
        let result = match self.call(store, limits, input) {
            Ok(Ok(output)) => accept(output, limits.output_bytes),
            Ok(Err(reason)) => Err(Failure::Refused { reason: Reason::truncated(&reason) }),
            Err(Ending::Failed(failure)) => Err(failure),
            Err(Ending::TookTooLong) => {
                return Err(Abstain::WallTime { max: self.engine.config().wall_time_max });
            }
            Err(Ending::PoolExhausted) => {
                return Err(Abstain::Busy { instances_max: self.engine.config().instances_max });
            }
            Err(Ending::HostFailed(reason)) => return Err(Abstain::Host { reason }),
        };
        let fuel_used = match &result {
            Err(Failure::OutOfFuel | Failure::Trapped { trap: Trap::StackOverflow }) => limits.fuel,
            _ => limits.fuel - fuel_left(store),
        };
        Ok(Outcome { fuel_used, result })
    }

    fn call(
        &self,
        store: &mut Store<State>,
        limits: &Limits,
        input: &Input,
    ) -> Result<Result<Vec<u8>, String>, Ending> {
        store.limiter(|state| &mut state.memory);
        store.set_fuel(limits.fuel).expect("fuel is on");
        store.set_epoch_deadline(self.engine.wall_time_ticks());
        // Lists and strings are refused above this before the host allocates anything for them.
        store.set_hostcall_fuel(OUTPUT_BYTES_MAX);
        store.set_max_component_handles(HANDLES_MAX);

        let ending_of =
            |error: wasmtime::Error, called| ending(&error, called, limits.output_bytes);
        let instance =
            self.instance.instantiate(&mut *store).map_err(|error| ending_of(error, false))?;
        let run = instance
            .get_typed_func::<(&[u8],), (Result<Vec<u8>, String>,)>(&mut *store, self.run)
            .map_err(|error| ending_of(error, false))?;
        let (result,) =
            run.call(store, (input.as_slice(),)).map_err(|error| ending_of(error, true))?;
        Ok(result)
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component").finish_non_exhaustive()
    }
}

/// Most handles of resources that a component has at once. No interface of ours has any; its parts may among themselves.
const HANDLES_MAX: usize = 10_000;

fn fuel_left(store: &Store<State>) -> u64 {
    store.get_fuel().expect("fuel is on")
}

/// The output, if it's as short as the manifest says.
fn accept(output: Vec<u8>, output_bytes_max: u32) -> Result<Output, Failure> {
    let too_long = Failure::OutputTooLong { max: output_bytes_max };
    if output.len() > output_bytes_max as usize {
        return Err(too_long);
    }
    Output::new(output).map_err(|_| too_long)
}
