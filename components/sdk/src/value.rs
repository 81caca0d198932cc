use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a service can take as its input, and an oracle as its observations.
pub trait FromInput: Sized {
    /// The value that `bytes` stand for.
    ///
    /// # Errors
    /// [`DecodeError`] if they stand for none.
    fn from_input(bytes: Vec<u8>) -> Result<Self, DecodeError>;
}

/// What a service can return.
pub trait IntoOutput {
    /// The bytes that stand for the value. Equal values must give equal bytes: so no maps without an order.
    ///
    /// # Errors
    /// [`EncodeError`] if none do.
    fn into_output(self) -> Result<Vec<u8>, EncodeError>;
}

/// A value that is JSON outside: `Json(message): Json<Message>` as an argument takes it out again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Json<T>(pub T);

/// Bytes that aren't what was expected. Reads on after "the input".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not text.
    #[error("isn't text in UTF-8")]
    NotText,
    /// Not JSON, or other JSON than the type's.
    #[error("isn't JSON of the expected form: {reason}")]
    NotJson {
        /// What's wrong, and where.
        reason: String,
    },
    /// For implementations of [`FromInput`] elsewhere.
    #[error("{reason}")]
    Other {
        /// What's wrong, as in "is empty".
        reason: String,
    },
}

/// A value that can't be written as bytes: a map, say, whose keys aren't text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("can't be written as JSON: {reason}")]
pub struct EncodeError {
    /// What's wrong.
    pub reason: String,
}

impl FromInput for Vec<u8> {
    fn from_input(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        Ok(bytes)
    }
}

impl FromInput for String {
    fn from_input(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        Self::from_utf8(bytes).map_err(|_| DecodeError::NotText)
    }
}

impl<T: DeserializeOwned> FromInput for Json<T> {
    fn from_input(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        from_json(&bytes).map(Self)
    }
}

impl IntoOutput for Vec<u8> {
    fn into_output(self) -> Result<Vec<u8>, EncodeError> {
        Ok(self)
    }
}

impl IntoOutput for String {
    fn into_output(self) -> Result<Vec<u8>, EncodeError> {
        Ok(self.into_bytes())
    }
}

impl IntoOutput for &'static str {
    fn into_output(self) -> Result<Vec<u8>, EncodeError> {
        Ok(self.as_bytes().to_vec())
    }
}

impl<T: Serialize> IntoOutput for Json<T> {
    fn into_output(self) -> Result<Vec<u8>, EncodeError> {
        to_json(&self.0)
    }
}

pub(crate) fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    serde_json::from_slice(bytes).map_err(|e| DecodeError::NotJson { reason: e.to_string() })
}

pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>, EncodeError> {
    serde_json::to_vec(value).map_err(|e| EncodeError { reason: e.to_string() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_goes_out_comes_in_again() {
        let value = Json(vec![Some(1_u8), None]);
        assert_eq!(Json::from_input(value.clone().into_output().unwrap()), Ok(value));
        assert_eq!(String::from_input("é".into_output().unwrap()).unwrap(), "é");
        assert_eq!(Vec::from_input(vec![255]).unwrap().into_output().unwrap(), [255]);
    }

    #[test]
    fn error_says_what_was_expected_and_where() {
        let error = <Json<u8>>::from_input(b"256".to_vec()).unwrap_err().to_string();
        assert!(error.starts_with("isn't JSON of the expected form: invalid value"), "{error}");
        assert!(error.ends_with("line 1 column 3"), "{error}");
        assert_eq!(String::from_input(vec![255]), Err(DecodeError::NotText));
    }

    #[test]
    fn map_whose_keys_are_no_text_has_no_json() {
        let error = Json(BTreeMap::from([((1, 2), 3)])).into_output().unwrap_err().to_string();
        assert!(error.starts_with("can't be written as JSON: key must be a string"), "{error}");
    }
}
