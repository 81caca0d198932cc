use std::time::Duration;

use lamina_types::CHANGE_OPERATIONS_MAX;

/// Least operations of a cut, however long they take: any change fits.
const OPERATIONS_MIN: usize = CHANGE_OPERATIONS_MAX;

/// How many operations this node can evaluate in a given time, as the last evaluations show it.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    target: Duration,
    limit: usize,
    operations_max: usize,
}

impl Pace {
    /// Begins with the least. `limit` is the most.
    pub(super) fn new(target: Duration, limit: usize) -> Self {
        Self { target, limit, operations_max: OPERATIONS_MIN.min(limit) }
    }

    pub(super) const fn operations_max(&self) -> usize {
        self.operations_max
    }

    /// An evaluation took so long, what it waited for included. It comes half way to what that one shows, at most doubles,
    /// and few operations show nothing.
    pub(super) fn measure(&mut self, operations: usize, took: Duration) {
        if operations < OPERATIONS_MIN / 4 {
            return;
        }
        let in_time = operations as u128 * self.target.as_micros() / took.as_micros().max(1);
        let shown = usize::try_from(in_time).unwrap_or(usize::MAX).min(2 * self.operations_max);
        let least = OPERATIONS_MIN.min(self.limit);
        self.operations_max = ((self.operations_max + shown) / 2).clamp(least, self.limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Pace {
        Pace::new(Duration::from_millis(500), 4_096)
    }

    #[test]
    fn it_grows_with_quick_evaluations_up_to_the_limit() {
        let mut pace = pace();
        for _ in 0..20 {
            pace.measure(pace.operations_max(), Duration::from_millis(10));
        }
        assert_eq!(pace.operations_max(), 4_096);
    }

    #[test]
    fn it_comes_down_to_what_fits_the_target() {
        let mut pace = Pace { operations_max: 4_096, ..pace() };
        for _ in 0..20 {
            let took = Duration::from_millis(pace.operations_max() as u64);
            pace.measure(pace.operations_max(), took);
        }
        assert!((450..=550).contains(&pace.operations_max()), "{}", pace.operations_max());
        pace.measure(1_000, Duration::from_secs(3_600));
        assert_eq!(pace.operations_max(), OPERATIONS_MIN);
    }

    #[test]
    fn few_operations_show_nothing() {
        let mut pace = pace();
        pace.measure(3, Duration::from_secs(5));
        pace.measure(0, Duration::ZERO);
        assert_eq!(pace.operations_max(), OPERATIONS_MIN);
    }
}
