use std::fmt;

use serde::{Deserialize, Serialize};

/// What is asked: `{"pair": "ETH/USD"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Whose price.
    pub pair: Pair,
}

/// What is priced, and in what: `ETH/USD`. Two names of 1 to 16 capital letters and digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pair(String);

/// The text isn't a pair.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a pair must be like ETH/USD: two names of 1 to 16 capital letters and digits")]
pub struct InvalidPair;

impl TryFrom<String> for Pair {
    type Error = InvalidPair;

    fn try_from(text: String) -> Result<Self, InvalidPair> {
        let is_plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
        let is_name = |name: &str| (1..=16).contains(&name.len()) && name.bytes().all(is_plain);
        match text.split_once('/') {
            Some((base, quote)) if is_name(base) && is_name(quote) => Ok(Self(text)),
            _ => Err(InvalidPair),
        }
    }
}

impl From<Pair> for String {
    fn from(pair: Pair) -> Self {
        pair.0
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_names_one_pair() {
        let request: Request = serde_json::from_str(r#"{"pair": "ETH/USD"}"#).unwrap();
        assert_eq!(request.pair.to_string(), "ETH/USD");
        for input in [
            "",
            "ETH/USD",
            "{}",
            r#"{"pair": "eth/usd"}"#,
            r#"{"pair": "ETHUSD"}"#,
            r#"{"pair": "/USD"}"#,
            r#"{"pair": "ETH/USD/EUR"}"#,
            r#"{"pair": "AAAAAAAAAAAAAAAAA/USD"}"#,
            r#"{"pair": "ETH/USD", "at": "noon"}"#,
        ] {
            assert!(serde_json::from_str::<Request>(input).is_err(), "{input}");
        }
    }
}
