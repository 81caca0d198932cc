use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Places of a [`Decimal`].
pub const DECIMALS: u32 = 8;

/// A decimal number with eight places, in hundred-millionths: from 0 to 184 billion.
///
/// Written with all of its places: `1234.50000000`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Decimal(pub u64);

impl Decimal {
    /// How far one is from the other.
    #[must_use]
    pub fn distance(self, other: Self) -> Self {
        Self(self.0.abs_diff(other.0))
    }
}

/// The text isn't a decimal number from 0 to 184 billion.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a decimal number from 0 to 184467440737.09551615")]
pub struct InvalidDecimal;

impl FromStr for Decimal {
    type Err = InvalidDecimal;

    /// Reads a decimal number as JSON has it, but for the sign. Places beyond the eighth are cut off.
    fn from_str(text: &str) -> Result<Self, InvalidDecimal> {
        parse(text).map(Self).ok_or(InvalidDecimal)
    }
}

impl TryFrom<String> for Decimal {
    type Error = InvalidDecimal;

    fn try_from(text: String) -> Result<Self, InvalidDecimal> {
        text.parse()
    }
}

impl From<Decimal> for String {
    fn from(number: Decimal) -> Self {
        number.to_string()
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = 10_u64.pow(DECIMALS);
        let places = DECIMALS as usize;
        write!(f, "{}.{:0places$}", self.0 / unit, self.0 % unit)
    }
}

fn parse(text: &str) -> Option<u64> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, i64::from(exponent.parse::<i32>().ok()?)),
        None => (text, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return None;
    }
    // The digits up to the eighth place, and how many zeros they lack or digits they have too many.
    let digits = format!("{whole}{fraction}");
    let lacking = i64::from(DECIMALS) - i64::try_from(fraction.len()).ok()? + exponent;
    let kept = digits.len().saturating_sub(usize::try_from(-lacking).unwrap_or(0));
    let value = digits[..kept].bytes().try_fold(0_u64, |value, digit| {
        value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })?;
    match u32::try_from(lacking) {
        Ok(zeros) if value > 0 => value.checked_mul(10_u64.checked_pow(zeros)?),
        _ => Some(value),
    }
}

/// Longest number that is read, in bytes. Sources write doubles, or decimals with up to 18 places.
const TEXT_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_read_exactly() {
        for (text, written) in [
            ("0", "0.00000000"),
            ("1234.5", "1234.50000000"),
            ("1234.50000000", "1234.50000000"),
            ("0.1", "0.10000000"),
            ("0.00000001", "0.00000001"),
            ("0.000000019", "0.00000001"),
            ("0.000000001", "0.00000000"),
            ("007", "7.00000000"),
            ("1e3", "1000.00000000"),
            ("1.5E+3", "1500.00000000"),
            ("12345e-4", "1.23450000"),
            ("1.25e-8", "0.00000001"),
            ("1e-2147483647", "0.00000000"),
            ("0e2147483647", "0.00000000"),
            ("3021.123456789012345678", "3021.12345678"),
            ("184467440737.09551615", "184467440737.09551615"),
            ("9007199254740993e-8", "90071992.54740993"),
        ] {
            assert_eq!(text.parse::<Decimal>().unwrap().to_string(), written, "{text}");
        }
    }

    #[test]
    fn what_is_no_number_of_ours_is_refused() {
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1,5",
            "1 ",
            "0x10",
            "NaN",
            "inf",
            "1e",
            "1e1.5",
            "1.2.3",
            "1_000",
            "١",
            "184467440737.09551616",
            "1e12",
            "1e2147483647",
            "1e99999999999",
            "0.00000000000000000000000000000000000000000000000000000000000000001",
        ] {
            assert!(text.parse::<Decimal>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(value: u64) {
            prop_assert_eq!(Decimal(value).to_string().parse(), Ok(Decimal(value)));
        }

        #[test]
        fn no_text_panics(text in "[-+0-9.eE]{0,70}") {
            let _ = text.parse::<Decimal>();
        }
    }
}
