use crate::{Limits, Outcome};

/// What a task costs, by what it was given and what it used; every operator comes to the same figure.
///
/// In units of service credit: one is about what a microsecond of one core costs. The ledger says what a unit is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price;

impl Price {
    /// Units for a task whatever it does: signatures, gossip, records.
    pub const TASK: u64 = 5_000;
    /// Fuel for one unit: a thousand instructions take about a microsecond.
    pub const FUEL_PER_UNIT: u64 = 1_000;
    /// Bytes of declared memory for one unit: what the kernel clears of it in a microsecond.
    pub const MEMORY_BYTES_PER_UNIT: u64 = 16 * 1024;
    /// Units for each byte that's gossiped and kept: input and output.
    pub const PER_BYTE: u64 = 1;

    /// The price of a task with an input of `input_bytes`, run under `limits`, with this outcome.
    #[must_use]
    pub fn of(limits: &Limits, input_bytes: usize, outcome: &Outcome) -> u64 {
        let output_bytes = outcome.result.as_ref().map_or(0, |output| output.as_slice().len());
        Self::TASK
            .saturating_add(outcome.fuel_used.div_ceil(Self::FUEL_PER_UNIT))
            .saturating_add(limits.memory_bytes.div_ceil(Self::MEMORY_BYTES_PER_UNIT))
            .saturating_add((input_bytes + output_bytes) as u64 * Self::PER_BYTE)
    }

    /// The most that a task under `limits` can cost: what's reserved for it.
    #[must_use]
    pub fn most(limits: &Limits) -> u64 {
        Self::TASK
            .saturating_add(limits.fuel.div_ceil(Self::FUEL_PER_UNIT))
            .saturating_add(limits.memory_bytes.div_ceil(Self::MEMORY_BYTES_PER_UNIT))
            .saturating_add(u64::from(limits.input_bytes) + u64::from(limits.output_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Failure, Output};

    const LIMITS: Limits = Limits {
        fuel: 10_000,
        memory_bytes: 1 << 20,
        input_bytes: 100,
        output_bytes: 100,
        state_bytes: 0,
    };

    #[test]
    fn no_task_costs_more_than_the_most() {
        let output = Output::new([0; 100]).unwrap();
        let dearest = Price::of(&LIMITS, 100, &Outcome::new(LIMITS.fuel, Ok(output)));
        assert_eq!(dearest, Price::most(&LIMITS));
        assert_eq!(Price::most(&LIMITS), 5_000 + 10 + 64 + 200);
        let failed = Outcome::new(LIMITS.fuel, Err(Failure::OutOfFuel));
        assert!(Price::of(&LIMITS, 100, &failed) < dearest);
    }

    #[test]
    fn absurd_limits_do_not_overflow() {
        let limits = Limits { fuel: u64::MAX, memory_bytes: u64::MAX, ..LIMITS };
        assert!(Price::most(&limits) > 1 << 50);
    }
}
