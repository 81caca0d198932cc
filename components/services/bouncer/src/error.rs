use crate::{EXEMPLARS_MAX, MESSAGE_BYTES_MAX, model};

/// Why there's no verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input isn't a message.
    #[error("input: {reason}")]
    Input {
        /// What's wrong, and where.
        reason: String,
    },
    /// The message is too long to be judged.
    #[error("the message has {bytes} bytes, at most {MESSAGE_BYTES_MAX} are allowed")]
    MessageTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The manifest lacks a parameter.
    #[error("the manifest has no parameter `{name}`")]
    NoParameter {
        /// Its name.
        name: &'static str,
    },
    /// A parameter isn't of its form.
    #[error("{name}: {reason}")]
    Parameter {
        /// Its name.
        name: &'static str,
        /// What's wrong with it.
        reason: String,
    },
    /// A side has no exemplars, or more than fuel should be spent on.
    #[error("{count} exemplars of {side} messages, 1 to {EXEMPLARS_MAX} are allowed")]
    ExemplarCount {
        /// Of which side.
        side: &'static str,
        /// How many there are.
        count: usize,
    },
    /// The manifest lacks a model's file.
    #[error("the manifest has no blob `{name}`")]
    NoBlob {
        /// Its name.
        name: &'static str,
    },
    /// A model's file is of no use.
    #[error("blob {name}: {source}")]
    Model {
        /// The blob.
        name: &'static str,
        /// What's wrong with it.
        source: model::Error,
    },
}

impl Error {
    /// Whether the service's owner has to mend it, rather than whoever sent the message.
    #[must_use]
    pub fn is_the_owners(&self) -> bool {
        !matches!(self, Self::Input { .. } | Self::MessageTooLong { .. })
    }
}
