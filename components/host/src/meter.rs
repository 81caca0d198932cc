use wasmtime::ResourceLimiter;

use crate::engine::{CORE_INSTANCES_MAX, MEMORIES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX};

/// Counts the memory of one run, all memories and tables together, and ends the run that wants more than its limit.
///
/// Ending it at once, rather than letting the guest see that growth failed, keeps what follows out of the outcome and
/// saves the rest of its fuel.
#[derive(Debug)]
pub(crate) struct MemoryMeter {
    limit_bytes: u64,
    used_bytes: u64,
}

/// The component wanted more memory than its manifest allows.
#[derive(Debug, thiserror::Error)]
#[error("memory limit exceeded")]
pub(crate) struct MemoryExceeded;

/// Growth within the limit that this machine couldn't give.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct HostFault(pub(crate) String);

impl MemoryMeter {
    pub(crate) fn new(limit_bytes: u64) -> Self {
        Self { limit_bytes, used_bytes: 0 }
    }

    /// Memory in use, in bytes. Nothing shrinks, so at the end of a run it's the peak.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    /// Takes growth up to the declared `maximum` (above it, growth fails for the guest as WebAssembly has it).
    fn grow(
        &mut self,
        unit_bytes: u64,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let wanted = (desired.saturating_sub(current) as u64).saturating_mul(unit_bytes);
        let total = self.used_bytes.saturating_add(wanted);
        if total > self.limit_bytes {
            return Err(MemoryExceeded.into());
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.used_bytes = total;
        Ok(true)
    }
}

impl ResourceLimiter for MemoryMeter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(1, current, desired, maximum)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        // Beyond 4 GiB, so beyond every limit: `memory_growing` isn't asked. wasmtime has no type for it;
        // `tests/hostile.rs` tells if the words change.
        if error.root_cause().to_string().contains("memory growth exceeds memory type's limits") {
            return Err(MemoryExceeded.into());
        }
        Err(HostFault(format!("{error:#}")).into())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > TABLE_ELEMENTS_MAX {
            return Err(MemoryExceeded.into());
        }
        self.grow(TABLE_ELEMENT_BYTES, current, desired, maximum)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(HostFault(format!("{error:#}")).into())
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }
}

/// What an element of a table counts as, in bytes: a pointer, on every machine.
const TABLE_ELEMENT_BYTES: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_count_together() {
        let mut meter = MemoryMeter::new(100);
        assert!(meter.memory_growing(0, 60, None).unwrap());
        assert!(meter.table_growing(0, 5, None).unwrap());
        assert_eq!(meter.used_bytes(), 100);
        assert!(meter.memory_growing(60, 61, None).is_err());
    }

    #[test]
    fn growth_above_the_declared_maximum_is_denied_and_not_counted() {
        let mut meter = MemoryMeter::new(100);
        assert!(!meter.memory_growing(0, 60, Some(50)).unwrap());
        assert_eq!(meter.used_bytes(), 0);
    }
}
