use lamina_sdk::Json;
use lamina_sdk::oracle::{Observation as Observed, decoded, median_by_stake};
use serde::Serialize;

use crate::{Decimal, Error, Observation, Pair, Request};

/// What the quorum found: `{"pair":"ETH/USD","price":"1234.50000000","observations":7,"spread":"0.12000000"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reduction {
    /// Whose price.
    pub pair: Pair,
    /// The median of the observations by stake.
    pub price: Decimal,
    /// How many observations it is the median of.
    pub observations: usize,
    /// How far observations are from `price`: the median of these distances by stake. Half of the stake found a price
    /// that near, and liars can't make it larger than the range of what honest operators found.
    pub spread: Decimal,
}

/// Makes one result of the observations.
///
/// Those that aren't [`Observation`]s of the pair with a price count as absent. Let H be the honest stake behind all
/// observations and L the rest; the contract promises L < H. Honest observations are all well-formed, so what's left
/// out is part of L, and of what remains honest stake is still more than half: a median by stake holds. If what remains
/// is at most half of the whole, the promise was broken, and there's no result rather than one that liars made.
///
/// # Errors
/// [`Error::TooLittleStake`].
pub fn reduce(
    Json(Request { pair }): Json<Request>,
    observations: Vec<Observed<Json<Observation>>>,
) -> Result<Json<Reduction>, Error> {
    let total = observations.iter().map(|observed| u128::from(observed.stake)).sum();
    let of_the_pair = |seen: &Observation| seen.pair == pair && seen.price > Decimal(0);
    let prices: Vec<_> = decoded(observations)
        .filter(|(_, Json(seen))| of_the_pair(seen))
        .map(|(stake, Json(seen))| (stake, seen.price))
        .collect();
    let valid = prices.iter().map(|(stake, _)| u128::from(*stake)).sum::<u128>();
    match median_by_stake(&prices) {
        Some(price) if valid > total / 2 => {
            let distances: Vec<_> =
                prices.iter().map(|(stake, other)| (*stake, other.distance(price))).collect();
            let spread = median_by_stake(&distances).unwrap_or_default();
            Ok(Json(Reduction { pair, price, observations: prices.len(), spread }))
        }
        _ => Err(Error::TooLittleStake { pair, valid, total }),
    }
}

#[cfg(test)]
mod tests {
    use lamina_sdk::testing;

    use super::*;

    fn observation(price: &str) -> String {
        format!(r#"{{"pair":"ETH/USD","price":"{price}","sources_used":3}}"#)
    }

    fn result(price: &str, observations: usize, spread: &str) -> Result<String, String> {
        Ok(format!(
            r#"{{"pair":"ETH/USD","price":"{price}","observations":{observations},"spread":"{spread}"}}"#
        ))
    }

    /// The result of observations with their stakes.
    fn reduced(observations: &[(u64, &str)]) -> Result<String, String> {
        let observed =
            observations.iter().map(|(stake, value)| (0, *stake, value.as_bytes().to_vec()));
        let output = testing::reduce(reduce, r#"{"pair": "ETH/USD"}"#, observed)?;
        Ok(String::from_utf8(output).unwrap())
    }

    #[test]
    fn median_and_spread_are_the_result() {
        let [low, middle, high] = ["1234.4", "1234.5", "1234.62"].map(observation);
        let reduction = reduced(&[(5, &low), (5, &middle), (5, &high)]);
        assert_eq!(reduction, result("1234.50000000", 3, "0.10000000"));
    }

    #[test]
    fn heavier_operators_count_more() {
        let (low, high) = (observation("1000"), observation("2000"));
        let reduction = reduced(&[(1, &low), (1, &low), (3, &high)]);
        assert_eq!(reduction, result("2000.00000000", 3, "0.00000000"));
    }

    #[test]
    fn garbage_counts_as_absent() {
        let good = observation("1000");
        for garbage in [
            "",
            "null",
            "1000",
            r#"{"pair":"ETH/USD","price":"1000"}"#,
            r#"{"pair":"BTC/USD","price":"1000","sources_used":3}"#,
            r#"{"pair":"ETH/USD","price":1000,"sources_used":3}"#,
            r#"{"pair":"ETH/USD","price":"0","sources_used":3}"#,
            r#"{"pair":"ETH/USD","price":"-1","sources_used":3}"#,
            r#"{"pair":"ETH/USD","price":"999999999999999","sources_used":3}"#,
            r#"{"pair":"ETH/USD","price":"1","price":"2","sources_used":3}"#,
            &"[".repeat(4096),
        ] {
            let reduction = reduced(&[(9, garbage), (10, &good)]);
            assert_eq!(reduction, result("1000.00000000", 1, "0.00000000"), "{garbage}");
        }
    }

    #[test]
    fn half_of_the_stake_is_too_little() {
        let good = observation("1000");
        let error = reduced(&[(10, "garbage"), (10, &good)]).unwrap_err();
        assert_eq!(
            error,
            "prices of ETH/USD have 10 of 20 gwei behind them, more than half is needed"
        );
        assert!(reduced(&[(11, &good), (10, "garbage")]).is_ok());
        assert!(reduced(&[(10, &good), (11, "garbage")]).is_err());
        assert!(reduced(&[]).is_err());
        assert!(reduced(&[(0, &good)]).is_err());
    }

    #[test]
    fn largest_stakes_do_not_overflow() {
        let largest = observation("184467440737.09551615");
        let reduction = reduced(&vec![(u64::MAX, largest.as_str()); 1000]);
        assert_eq!(reduction, result("184467440737.09551615", 1000, "0.00000000"));
    }
}
