use std::time::Duration;

use lamina_sdk::{Json, http, log};
use serde::{Deserialize, Serialize};

use crate::{Decimal, Error, Pair, Pointer, Request, Settings, Source};

/// What one operator found: `{"pair":"ETH/USD","price":"1234.50000000","sources_used":3}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// Whose price.
    pub pair: Pair,
    /// The median of the sources that agree.
    pub price: Decimal,
    /// How many these are.
    pub sources_used: usize,
}

/// Asks the sources of the pair. Those that don't answer, or too far from the others, are logged and left out.
///
/// # Errors
/// All of [`Error`] but [`Error::TooLittleStake`].
pub fn observe(Json(Request { pair }): Json<Request>) -> Result<Json<Observation>, Error> {
    let Settings { sources, sources_min, deviation_max } = Settings::of(&pair)?;
    let mut found = Vec::new();
    for source in &sources {
        match ask(source) {
            Ok(price) => found.push((source, price)),
            Err(reason) => log::warn(format_args!("{} is left out: {reason}", source.url)),
        }
    }
    let middle = median(found.iter().map(|(_, price)| *price)).unwrap_or_default();
    found.retain(|(source, price)| {
        let near = deviation_max.covers(price.distance(middle), middle);
        if !near {
            log::warn(format_args!("{} is left out: {price} is far from {middle}", source.url));
        }
        near
    });
    let sources_used = found.len();
    match median(found.into_iter().map(|(_, price)| price)) {
        Some(price) if sources_used >= sources_min => {
            Ok(Json(Observation { pair, price, sources_used }))
        }
        _ => Err(Error::TooFewSources { pair, count: sources_used, min: sources_min }),
    }
}

fn ask(source: &Source) -> Result<Decimal, String> {
    let request = http::Request::get(&source.url).timeout(TIMEOUT).body_bytes_max(ANSWER_BYTES_MAX);
    let answer = request.send().and_then(http::Response::ok).map_err(|error| error.to_string())?;
    let answer = answer.text().map_err(|error| error.to_string())?;
    Ok(price_in(answer, &source.price)?)
}

/// How long a source may take to be connected, and again to answer. Three that keep silent take 18 seconds of the
/// minute that operators give by default.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Longest answer, in bytes. A guess: tickers have a few hundred.
const ANSWER_BYTES_MAX: usize = 64 << 10;

fn price_in(answer: &str, pointer: &Pointer) -> Result<Decimal, &'static str> {
    let value = pointer.find(answer).ok_or("there's no price in its answer")?.get();
    let price = match serde_json::from_str::<String>(value) {
        Ok(text) => text.parse(),
        Err(_) => value.parse::<Decimal>(),
    };
    let price = price.ok().filter(|price| *price > Decimal(0));
    price.ok_or("what's in the place of the price isn't one")
}

/// The one in the middle, or halfway between two.
fn median(prices: impl Iterator<Item = Decimal>) -> Option<Decimal> {
    let mut prices: Vec<_> = prices.collect();
    prices.sort_unstable();
    let upper = *prices.get(prices.len() / 2)?;
    let lower = prices[(prices.len() - 1) / 2];
    Some(Decimal(lower.0 + (upper.0 - lower.0) / 2))
}

#[cfg(test)]
mod tests {
    use lamina_sdk::testing;

    use super::*;

    /// What is observed if each source gives its answer; an empty one is none. And what is logged.
    fn observed(answers: &[&str]) -> (Result<String, String>, Vec<String>) {
        let url = |i| format!("https://{i}.example");
        let source = |i| format!("[['ETH/USD']]\nurl = '{}'\nprice = '/price'\n", url(i));
        testing::reset();
        testing::set_parameter("sources", (0..answers.len()).map(source).collect::<String>());
        testing::set_parameter("sources_min", "2");
        testing::set_parameter("deviation_max", "1");
        for (i, answer) in answers.iter().enumerate().filter(|(_, answer)| !answer.is_empty()) {
            testing::set_response(url(i), http::Response::new(200, *answer));
        }
        let observation = testing::run(observe, r#"{"pair": "ETH/USD"}"#);
        let observation = observation.map(|json| String::from_utf8(json).unwrap());
        (observation, testing::log().into_iter().map(|(_, line)| line).collect())
    }

    fn observation(price: &str, sources_used: usize) -> Result<String, String> {
        Ok(format!(r#"{{"pair":"ETH/USD","price":"{price}","sources_used":{sources_used}}}"#))
    }

    #[test]
    fn median_of_the_sources_is_observed() {
        let (found, warnings) = observed(&[
            r#"{"price": "2000.10"}"#,
            r#"{"price": 2000.30}"#,
            r#"{"price": "2000.2"}"#,
        ]);
        assert_eq!(found, observation("2000.20000000", 3));
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn outliers_are_left_out() {
        let (found, warnings) = observed(&[
            r#"{"price": "2000"}"#,
            r#"{"price": "2020"}"#,
            r#"{"price": "20"}"#,
            r#"{"price": "2000.00000001"}"#,
            r#"{"price": "184467440737"}"#,
        ]);
        assert_eq!(found, observation("2000.00000001", 3));
        assert_eq!(
            warnings,
            [
                "https://2.example is left out: 20.00000000 is far from 2000.00000001",
                "https://4.example is left out: 184467440737.00000000 is far from 2000.00000001",
            ]
        );
    }

    #[test]
    fn sources_without_a_price_are_left_out() {
        let (found, warnings) = observed(&[
            "",
            r#"{"price": 0}"#,
            r#"{"price": "-1"}"#,
            r#"{"price": {"amount": 1}}"#,
            r#"{"error": "too many requests"}"#,
            "<html>",
            r#"{"price": 2000}"#,
            r#"{"price": 2e3}"#,
        ]);
        assert_eq!(found, observation("2000.00000000", 2));
        assert_eq!(warnings.len(), 6, "{warnings:?}");
    }

    #[test]
    fn too_few_sources_are_an_error() {
        let too_few = |count| Err(format!("{count} sources agree on ETH/USD, at least 2 must"));
        assert_eq!(observed(&["", ""]).0, too_few(0));
        assert_eq!(observed(&[r#"{"price": 1}"#, ""]).0, too_few(1));
        // Neither of two is nearer to the truth.
        assert_eq!(observed(&[r#"{"price": 1}"#, r#"{"price": 2}"#]).0, too_few(0));
    }
}
