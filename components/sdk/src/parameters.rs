//! What the people behind the service have set, in the manifest or by vote.

use std::fmt::Display;
use std::str::FromStr;

use crate::host;

/// The value of the parameter `name` as of the task's checkpoint, if there is one.
#[must_use]
pub fn get(name: &str) -> Option<String> {
    host::parameter(name)
}

/// The parameter `name` as a `T`: a number, a text, whatever can be parsed.
///
/// # Errors
/// [`Error::Missing`], [`Error::Invalid`]: the owner's mistakes, and so worth a line of [`crate::log::error`].
pub fn parse<T>(name: &str) -> Result<T, Error>
where
    T: FromStr<Err: Display>,
{
    let value = get(name).ok_or_else(|| Error::Missing { name: name.to_owned() })?;
    let invalid = |e: T::Err| Error::Invalid { name: name.to_owned(), reason: e.to_string() };
    value.parse().map_err(invalid)
}

/// A parameter that a service can't work with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It isn't set.
    #[error("the parameter `{name}` isn't set")]
    Missing {
        /// Which one.
        name: String,
    },
    /// It can't be parsed.
    #[error("the parameter `{name}` isn't valid: {reason}")]
    Invalid {
        /// Which one.
        name: String,
        /// What's wrong with its value.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn parameters_are_parsed() {
        testing::set_parameter("rounds", "7");
        assert_eq!(parse("rounds"), Ok(7_u8));
        assert_eq!(get("rounds").as_deref(), Some("7"));
        assert_eq!(get("other"), None);
    }

    #[test]
    fn error_names_the_parameter() {
        testing::set_parameter("rounds", "many");
        let error = parse::<u8>("rounds").unwrap_err().to_string();
        assert_eq!(error, "the parameter `rounds` isn't valid: invalid digit found in string");
        let error = parse::<u8>("other").unwrap_err().to_string();
        assert_eq!(error, "the parameter `other` isn't set");
    }
}
