use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::str::FromStr;

use lamina_sdk::parameters;
use serde::Deserialize;

use crate::{DECIMALS, Decimal, Error, Pair, Pointer};

/// Most sources of one pair: as many requests as operators allow to one observation by default.
pub const SOURCES_MAX: usize = 16;

/// What the owner has set for one pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where the pair's price is found; from the parameter `sources`.
    pub sources: Vec<Source>,
    /// How many of them have to agree; the parameter `sources_min`.
    pub sources_min: usize,
    /// How far a source may be from the median of all; the parameter `deviation_max`.
    pub deviation_max: Percentage,
}

impl Settings {
    /// Reads the parameters.
    ///
    /// # Errors
    /// [`Error::Parameter`], [`Error::UnknownPair`], [`Error::SourceCount`].
    pub fn of(pair: &Pair) -> Result<Self, Error> {
        let sources_min = parameters::parse::<NonZeroUsize>("sources_min")?.get();
        let deviation_max = parameters::parse("deviation_max")?;
        let Sources(mut sources) = parameters::parse("sources")?;
        let sources =
            sources.remove(pair).ok_or_else(|| Error::UnknownPair { pair: pair.clone() })?;
        if !(sources_min..=SOURCES_MAX).contains(&sources.len()) {
            let (pair, count) = (pair.clone(), sources.len());
            return Err(Error::SourceCount { pair, count, min: sources_min });
        }
        Ok(Self { sources, sources_min, deviation_max })
    }
}

/// One place where a price is found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// What to get. Its origin must be among the manifest's.
    pub url: String,
    /// Where in the answer the price stands, as a number or as a string.
    pub price: Pointer,
}

/// Where the price of each pair is found: `sources.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Sources(pub BTreeMap<Pair, Vec<Source>>);

impl FromStr for Sources {
    type Err = toml::de::Error;

    fn from_str(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}

/// From 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percentage(Decimal);

impl Percentage {
    /// Whether `distance` is at most that much of `whole`.
    #[must_use]
    pub fn covers(self, distance: Decimal, whole: Decimal) -> bool {
        let [part, distance, whole] = [self.0, distance, whole].map(|d| u128::from(d.0));
        distance * u128::from(HUNDRED.0) <= part * whole
    }
}

/// The text isn't a number from 0 to 100.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it must be a number from 0 to 100, in per cent")]
pub struct InvalidPercentage;

impl FromStr for Percentage {
    type Err = InvalidPercentage;

    fn from_str(text: &str) -> Result<Self, InvalidPercentage> {
        let number = text.parse().ok().filter(|number| *number <= HUNDRED);
        number.map(Self).ok_or(InvalidPercentage)
    }
}

const HUNDRED: Decimal = Decimal(100 * 10_u64.pow(DECIMALS));

#[cfg(test)]
mod tests {
    use lamina_sdk::testing;

    use super::*;

    const ONE: &str = "[['ETH/USD']]\nurl = 'https://a.example'\nprice = '/price'\n";

    fn settings(sources: &str, min: &str, deviation: &str) -> Result<Settings, String> {
        testing::set_parameter("sources", sources);
        testing::set_parameter("sources_min", min);
        testing::set_parameter("deviation_max", deviation);
        let pair = "ETH/USD".to_owned().try_into().unwrap();
        Settings::of(&pair).map_err(|error| error.to_string())
    }

    #[test]
    fn parameters_are_read() {
        let settings = settings(&ONE.repeat(2), "2", "1.5").unwrap();
        assert_eq!((settings.sources.len(), settings.sources_min), (2, 2));
        assert_eq!(settings.deviation_max, Percentage(Decimal(150_000_000)));
    }

    #[test]
    fn mistakes_are_named() {
        let percentage = "`deviation_max` isn't valid: it must be a number from 0 to 100";
        for (sources, min, deviation, told) in [
            (ONE, "0", "1", "`sources_min` isn't valid: "),
            (ONE, "two", "1", "`sources_min` isn't valid: "),
            (ONE, "1", "-1", percentage),
            (ONE, "1", "100.1", percentage),
            ("x", "1", "1", "`sources` isn't valid: "),
            (&ONE.replace("/price", "price"), "1", "1", "JSON pointer"),
            (&ONE.replace("ETH", "BTC"), "1", "1", "there are no sources of ETH/USD"),
            (ONE, "2", "1", "ETH/USD has 1 sources, it must have 2 to 16"),
            (&ONE.repeat(17), "1", "1", "ETH/USD has 17 sources, it must have 1 to 16"),
        ] {
            let error = settings(sources, min, deviation).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn percentages_are_exact() {
        let covers = |percentage: &str, distance, whole| {
            percentage.parse::<Percentage>().unwrap().covers(Decimal(distance), Decimal(whole))
        };
        assert!(covers("2", 2, 100) && !covers("2", 3, 100));
        assert!(covers("0", 0, 100) && !covers("0", 1, u64::MAX));
        assert!(covers("100", u64::MAX, u64::MAX));
        assert!(covers("0.00000001", 1, 10_000_000_000));
        assert!(!covers("0.00000001", 1, 9_999_999_999));
    }
}
