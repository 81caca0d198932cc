use std::sync::Arc;
use std::time::Duration;

use lamina_types::{Failure, Outcome, Reason, Trap};

use crate::Log;
use crate::imports::Forbidden;
use crate::meter::{HostFault, MemoryExceeded};
use crate::state::{ServiceState, StateTooLarge};

/// What came of one task at this operator.
#[derive(Debug, Clone)]
pub struct Run {
    /// What to attest, or why not to.
    pub verdict: Result<Outcome, Abstain>,
    /// What the service keeps now: what it kept before, if the run failed; none if it keeps nothing.
    pub state: Option<Arc<ServiceState>>,
    /// What the component logged.
    pub log: Log,
    /// Most memory that the component had at any moment, tables included, in bytes.
    pub memory_bytes_peak: u64,
    /// How long it took, from a fresh instance to the last byte.
    pub elapsed: Duration,
}

/// Why this operator has nothing to attest. Others may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Abstain {
    /// It took longer than the operator allows.
    #[error("took longer than {max:?}")]
    WallTime {
        /// The operator's limit.
        max: Duration,
    },
    /// As many tasks as the operator allows are running already.
    #[error("{instances_max} tasks are running already")]
    Busy {
        /// The operator's limit.
        instances_max: u32,
    },
    /// The machine had no memory left, or something else that's no fault of the component.
    #[error("host: {reason}")]
    Host {
        /// What went wrong.
        reason: String,
    },
}

/// How a run that didn't return ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Failed(Failure),
    TookTooLong,
    PoolExhausted,
    HostFailed(String),
}

/// Tells the component's faults, which are certified, from the machine's.
///
/// `called` is whether the component had been instantiated: then what wasmtime gives as plain text are breaches of the
/// canonical ABI by the component, before that they are the host's problem.
pub(crate) fn ending(error: &wasmtime::Error, called: bool, output_bytes_max: u32) -> Ending {
    if error.downcast_ref::<MemoryExceeded>().is_some() {
        return Ending::Failed(Failure::OutOfMemory);
    }
    if let Some(Forbidden(call)) = error.downcast_ref::<Forbidden>() {
        return Ending::Failed(Failure::Forbidden { call: Reason::truncated(call) });
    }
    if error.downcast_ref::<StateTooLarge>().is_some() {
        return Ending::Failed(Failure::StateTooLarge);
    }
    if let Some(trap) = error.downcast_ref::<wasmtime::Trap>() {
        return match trap {
            wasmtime::Trap::OutOfFuel => Ending::Failed(Failure::OutOfFuel),
            wasmtime::Trap::Interrupt => Ending::TookTooLong,
            trap => Ending::Failed(Failure::Trapped { trap: trap_kind(*trap) }),
        };
    }
    if error.downcast_ref::<wasmtime::PoolConcurrencyLimitError>().is_some() {
        return Ending::PoolExhausted;
    }
    let host = error.downcast_ref::<HostFault>().is_some()
        || error.downcast_ref::<wasmtime::error::OutOfMemory>().is_some();
    if host || !called {
        return Ending::HostFailed(format!("{error:#}"));
    }
    // wasmtime has no public type for this one; `tests/hostile.rs` tells if the words change.
    if error.root_cause().to_string().contains("fuel allocated for hostcalls has been exhausted") {
        return Ending::Failed(Failure::OutputTooLong { max: output_bytes_max });
    }
    Ending::Failed(Failure::Trapped { trap: Trap::CanonicalAbi })
}

fn trap_kind(trap: wasmtime::Trap) -> Trap {
    use wasmtime::Trap as Wasm;
    match trap {
        Wasm::UnreachableCodeReached => Trap::Unreachable,
        Wasm::MemoryOutOfBounds => Trap::MemoryOutOfBounds,
        Wasm::TableOutOfBounds => Trap::TableOutOfBounds,
        Wasm::IndirectCallToNull | Wasm::BadSignature => Trap::IndirectCall,
        Wasm::IntegerOverflow | Wasm::IntegerDivisionByZero | Wasm::BadConversionToInteger => {
            Trap::Arithmetic
        }
        Wasm::StackOverflow => Trap::StackOverflow,
        Wasm::CannotEnterComponent
        | Wasm::CannotLeaveComponent
        | Wasm::InvalidChar
        | Wasm::InvalidDiscriminant
        | Wasm::ListOutOfBounds
        | Wasm::StringOutOfBounds
        | Wasm::UnalignedPointer => Trap::CanonicalAbi,
        _ => Trap::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_faults_are_not_certified() {
        let fault = wasmtime::Error::from(HostFault("no memory".to_owned()));
        assert_eq!(ending(&fault, true, 1), Ending::HostFailed("no memory".to_owned()));
        let interrupt = wasmtime::Error::from(wasmtime::Trap::Interrupt);
        assert_eq!(ending(&interrupt, true, 1), Ending::TookTooLong);
    }

    #[test]
    fn plain_text_is_the_hosts_problem_until_the_component_runs() {
        let error = wasmtime::Error::msg("list pointer is not aligned");
        assert!(matches!(ending(&error, false, 1), Ending::HostFailed(_)));
        let abi = Failure::Trapped { trap: Trap::CanonicalAbi };
        assert_eq!(ending(&error, true, 1), Ending::Failed(abi));
    }
}
