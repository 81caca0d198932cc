//! What makes one value of many observations, although some of their operators lie.
//!
//! The operators who lie have less than half of the stake behind the observations of a task (the contract says why), and
//! may have observed whatever they like. So take no mean, no maximum and no first value: one liar moves those anywhere.
//! [`median_by_stake`] stays within what honest operators observed, and [`spread_by_stake`] says how far they agree.

use std::cmp::Ordering;

use crate::DecodeError;

/// What one operator observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation<T> {
    /// The operator's place in the operator set.
    pub operator: u16,
    /// The operator's stake, in gwei.
    pub stake: u64,
    /// What its `observe` returned, or why that isn't a `T`. An honest operator's always is one, as long as `observe`
    /// returns what `reduce` takes; a lying one may have sent anything. See [`decoded`].
    pub value: Result<T, DecodeError>,
}

/// Stake and value of those observations that are a `T`.
///
/// The others are dropped. That's safe for a median, since it's only liars who lose weight; but a threshold ("two thirds
/// agree") must then be one of the stake of all observations, so sum that up before.
pub fn decoded<T>(observations: Vec<Observation<T>>) -> impl Iterator<Item = (u64, T)> {
    observations.into_iter().filter_map(|o| Some((o.stake, o.value.ok()?)))
}

/// The median of values with their stakes: the least value that, with those below it, has at least half of the stake.
/// None if there is no stake at all.
///
/// **If less than half of the stake lies, the result lies between two honest values.** Were it below all of them, then
/// the values up to it, which have half of the stake, would all be lies. Were it above all of them, then the honest ones
/// would be among the values below it, which have less than half of the stake; so lies would have more than half.
///
/// ```
/// use lamina_sdk::oracle::median_by_stake;
///
/// let honest = [(30, 101), (30, 99)];
/// let lying = [(40, 1_000_000)];
/// assert_eq!(median_by_stake(&[honest.as_slice(), &lying].concat()), Some(101));
/// ```
#[must_use]
pub fn median_by_stake<T: Copy + Ord>(values: &[(u64, T)]) -> Option<T> {
    median_by(values, T::cmp)
}

/// [`median_by_stake`] of floating-point numbers, in the order of [`f64::total_cmp`]: what isn't a number is at the ends.
#[must_use]
pub fn median_by_stake_f64(values: &[(u64, f64)]) -> Option<f64> {
    median_by(values, f64::total_cmp)
}

/// Where values lie and how far they are apart, by stake. None if there is no stake at all.
///
/// Both figures are medians, so liars can't move them beyond what honest operators observed: at least half of the stake
/// is within `deviation` of `median`.
#[must_use]
pub fn spread_by_stake(values: &[(u64, f64)]) -> Option<Spread> {
    let median = median_by_stake_f64(values)?;
    let distances: Vec<_> = values.iter().map(|&(stake, v)| (stake, (v - median).abs())).collect();
    Some(Spread { median, deviation: median_by_stake_f64(&distances)? })
}

/// What [`spread_by_stake`] returns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The values' median.
    pub median: f64,
    /// The median of the values' distances from it.
    pub deviation: f64,
}

impl Spread {
    /// Whether `value` is further from the median than `factor` deviations. Of values with a normal distribution, a factor
    /// of 5 finds one in a thousand.
    #[must_use]
    pub fn is_outlier(&self, value: f64, factor: f64) -> bool {
        // What isn't a number isn't near, either.
        let is_near = (value - self.median).abs() <= factor * self.deviation;
        !is_near
    }
}

fn median_by<T: Copy>(values: &[(u64, T)], order: impl Fn(&T, &T) -> Ordering) -> Option<T> {
    let mut sorted: Vec<_> = values.iter().filter(|(stake, _)| *stake > 0).collect();
    sorted.sort_by(|(_, a), (_, b)| order(a, b));
    let total: u128 = sorted.iter().map(|(stake, _)| u128::from(*stake)).sum();
    let mut below = 0_u128;
    let middle = sorted.into_iter().find(|(stake, _)| {
        below += u128::from(*stake);
        2 * below >= total
    });
    middle.map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_counts_stake_and_not_operators() {
        assert_eq!(median_by_stake(&[(1, 1), (1, 2), (1, 3), (4, 9)]), Some(9));
        assert_eq!(median_by_stake(&[(1, 1), (1, 2), (1, 3)]), Some(2));
        assert_eq!(median_by_stake(&[(1, 1), (1, 2)]), Some(1));
        assert_eq!(median_by_stake(&[(u64::MAX, 5), (u64::MAX, 5), (0, 9)]), Some(5));
    }

    #[test]
    fn nothing_has_no_median() {
        assert_eq!(median_by_stake::<u8>(&[]), None);
        assert_eq!(median_by_stake(&[(0, 1)]), None);
        assert_eq!(spread_by_stake(&[]), None);
    }

    /// All ways in which up to five operators of some stakes may be honest or lie.
    #[test]
    fn less_than_half_of_the_stake_can_not_leave_the_honest_range() {
        let stakes = [5_u64, 1, 3, 3, 2];
        let total: u64 = stakes.iter().sum();
        for liars in 0_u32..32 {
            let lies = |i: usize| liars >> i & 1 == 1;
            let lying: u64 = (0..5).filter(|&i| lies(i)).map(|i| stakes[i]).sum();
            if 2 * lying >= total {
                continue;
            }
            for lie in [f64::NEG_INFINITY, -f64::NAN, 0.0, 15.0, 1e300, f64::INFINITY, f64::NAN] {
                let value = |i: usize| if lies(i) { lie } else { 10.0 + i as f64 };
                let values: Vec<_> = (0..5).map(|i| (stakes[i], value(i))).collect();
                let median = median_by_stake_f64(&values).unwrap();
                assert!((10.0..=14.0).contains(&median), "{median} of {values:?}");
            }
        }
    }

    #[test]
    fn outliers_are_what_most_of_the_stake_is_far_from() {
        let spread = spread_by_stake(&[(1, 9.0), (1, 10.0), (1, 11.0), (1, 1e9)]).unwrap();
        assert_eq!(spread, Spread { median: 10.0, deviation: 1.0 });
        assert!(!spread.is_outlier(11.0, 5.0));
        assert!(spread.is_outlier(1e9, 5.0));
        assert!(spread.is_outlier(f64::NAN, 5.0));
    }
}
