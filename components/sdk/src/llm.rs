//! A large language model behind an endpoint of each operator's choice. For `observe` only: it ends a `reduce`.
//!
//! Model and seed are the manifest's. Operators don't agree on what a model says to the bit: so ask for something of
//! which `reduce` can make one answer, a number or one of a few words.

use crate::host;

/// What the model said next, in at most `tokens_max` tokens.
///
/// # Errors
/// [`Error`] says why there is no answer.
pub fn complete(messages: &[Message], tokens_max: u32) -> Result<String, Error> {
    host::complete(messages, tokens_max).map_err(|reason| Error { reason })
}

/// A message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// Who says a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The instructions.
    System,
    /// The one who asks.
    User,
    /// The model.
    Assistant,
}

/// The operator has no endpoint, or it didn't answer in time or form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the language model gave no answer: {reason}")]
pub struct Error {
    /// Which of them, in a sentence.
    pub reason: String,
}

impl Message {
    /// Instructions.
    pub fn system(content: impl Into<String>) -> Self {
        Self { role: Role::System, content: content.into() }
    }

    /// A question.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: Role::User, content: content.into() }
    }

    /// An answer that the model gave, or might have given.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: Role::Assistant, content: content.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn model_is_asked_with_the_whole_conversation() {
        testing::set_llm(|messages, _| Ok(format!("{} messages", messages.len())));
        let messages = [Message::system("Be brief."), Message::user("How many?")];
        assert_eq!(complete(&messages, 8).unwrap(), "2 messages");
    }

    #[test]
    fn without_an_endpoint_there_is_no_answer() {
        let error = complete(&[Message::user("Hello?")], 8).unwrap_err().to_string();
        assert!(error.starts_with("the language model gave no answer: "), "{error}");
    }
}
