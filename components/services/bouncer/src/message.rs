use serde::Deserialize;

use crate::Error;

/// Longest text of a message, in bytes; chat systems allow 2,000 to 4,000 characters.
pub const MESSAGE_BYTES_MAX: usize = 4096;

/// What is to be judged: `{"message": "…"}`, other fields ignored: it's the text that counts, not who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Message {
    /// The text.
    pub message: String,
}

impl Message {
    /// Reads the input of a task.
    ///
    /// # Errors
    /// [`Error::Input`] if it isn't such JSON; [`Error::MessageTooLong`].
    pub fn parse(input: &[u8]) -> Result<Self, Error> {
        let message: Self =
            serde_json::from_slice(input).map_err(|e| Error::Input { reason: e.to_string() })?;
        let bytes = message.message.len();
        if bytes > MESSAGE_BYTES_MAX { Err(Error::MessageTooLong { bytes }) } else { Ok(message) }
    }
}
