use std::collections::BTreeSet;
use std::time::Duration;

use lamina_types::Timestamp;

use crate::EndpointIndex;

/// First wait after a failure; doubled with each further one.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// Longest wait after a failure.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Wait after an endpoint said what can't be. A guess: long enough to do no harm, short enough for one that was repaired.
const DISTRUST: Duration = Duration::from_secs(600);

/// Which endpoints can be asked. Those that fail are asked again after a while, those that lie after a long while.
#[derive(Debug, Clone)]
pub(crate) struct Endpoints(Vec<Endpoint>);

#[derive(Debug, Clone, Default)]
struct Endpoint {
    failures: u32,
    usable_from: Timestamp,
}

impl Endpoints {
    /// # Panics
    /// If there are none.
    pub(crate) fn new(count: usize) -> Self {
        assert!(count > 0, "there's an endpoint at least");
        Self(vec![Endpoint::default(); count])
    }

    /// Of those that can be asked now, besides `asked`, the one that failed least in a row; of equal ones the first in the
    /// configuration. (By the configuration alone two that are slow to fail would take turns, and the third never come.)
    pub(crate) fn choose(
        &self,
        now: Timestamp,
        asked: &BTreeSet<EndpointIndex>,
    ) -> Option<EndpointIndex> {
        let usable =
            |(i, endpoint): &(usize, &Endpoint)| !asked.contains(i) && endpoint.usable_from <= now;
        let usable = self.0.iter().enumerate().filter(usable);
        usable.min_by_key(|(i, endpoint)| (endpoint.failures, *i)).map(|(i, _)| i)
    }

    /// When one besides `asked` can be asked.
    pub(crate) fn next_usable(&self, asked: &BTreeSet<EndpointIndex>) -> Option<Timestamp> {
        let others = self.0.iter().enumerate().filter(|(i, _)| !asked.contains(i));
        others.map(|(_, endpoint)| endpoint.usable_from).min()
    }

    pub(crate) fn succeeded(&mut self, index: EndpointIndex) {
        self.0[index] = Endpoint::default();
    }

    /// Tells how often in a row it has failed now.
    pub(crate) fn failed(&mut self, index: EndpointIndex, now: Timestamp) -> u32 {
        let endpoint = &mut self.0[index];
        let wait = BACKOFF_MIN.saturating_mul(1 << endpoint.failures.min(16)).min(BACKOFF_MAX);
        endpoint.failures = endpoint.failures.saturating_add(1);
        endpoint.usable_from = now + wait;
        endpoint.failures
    }

    pub(crate) fn distrust(&mut self, index: EndpointIndex, now: Timestamp) {
        self.0[index].usable_from = now + DISTRUST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: BTreeSet<EndpointIndex> = BTreeSet::new();

    #[test]
    fn the_next_one_is_asked_while_the_first_fails() {
        let mut endpoints = Endpoints::new(2);
        let now = Timestamp(0);
        assert_eq!(endpoints.choose(now, &NONE), Some(0));
        endpoints.failed(0, now);
        assert_eq!(endpoints.choose(now, &NONE), Some(1));
        endpoints.failed(1, now);
        assert_eq!(endpoints.choose(now, &NONE), None);
        assert_eq!(endpoints.choose(now + BACKOFF_MIN, &NONE), Some(0));
    }

    #[test]
    fn who_failed_less_is_asked_first() {
        let mut endpoints = Endpoints::new(2);
        endpoints.failed(0, Timestamp(0));
        assert_eq!(endpoints.choose(Timestamp(0) + BACKOFF_MAX, &NONE), Some(1));
    }

    #[test]
    fn waits_double_up_to_a_minute() {
        let mut endpoints = Endpoints::new(1);
        let waits: Vec<_> = (0..8)
            .map(|_| {
                endpoints.failed(0, Timestamp(0));
                endpoints.next_usable(&NONE).unwrap().since(Timestamp(0)).as_secs()
            })
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        endpoints.succeeded(0);
        assert_eq!(endpoints.choose(Timestamp(0), &NONE), Some(0));
    }
}
