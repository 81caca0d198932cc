use borsh::{BorshDeserialize, BorshSerialize};
use lamina_types::{Amount, Asset, Text};
use serde::{Deserialize, Serialize};

/// Why a finalised operation changed nothing. Part of its receipt.
#[derive(
    Debug,
    Clone,
    PartialEq,
    Eq,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
    thiserror::Error,
)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[non_exhaustive]
pub enum Refusal {
    /// The account's operation with this number took effect before.
    #[error("sequence {sequence} was used; the account's next one is {next}")]
    SequenceUsed {
        /// The operation's.
        sequence: u64,
        /// The account's next.
        next: u64,
    },
    /// Too many operations of the account wait for the ones before them.
    #[error("sequence {sequence} is too far ahead of {next}, the account's next one")]
    SequenceAhead {
        /// The operation's.
        sequence: u64,
        /// The account's next.
        next: u64,
    },
    /// The operation's time is over.
    #[error("the operation was valid until {valid_until_us}, the checkpoint is of {time_us}")]
    Expired {
        /// The operation's, in microseconds since 1970.
        valid_until_us: u64,
        /// The checkpoint's.
        time_us: u64,
    },
    /// The fee is higher than the account wants to pay.
    #[error("the fee is {fee}, the operation pays {fee_max} at most")]
    FeeTooHigh {
        /// What it costs.
        fee: Amount,
        /// What it pays.
        fee_max: Amount,
    },
    /// The account can't pay.
    #[error("{needed} of {asset} needed, {available} available")]
    Insufficient {
        /// Of what.
        asset: Asset,
        /// What there is.
        available: Amount,
        /// What's needed.
        needed: Amount,
    },
    /// A sum that doesn't fit.
    #[error("the amount is too large")]
    Overflow,
    /// Nothing has this identifier.
    #[error("no such {what}")]
    Unknown {
        /// What it should be: `service`, `commitment` and so on.
        what: Text<32>,
    },
    /// Something has this identifier already.
    #[error("the {what} exists")]
    Exists {
        /// What.
        what: Text<32>,
    },
    /// The account isn't the one who may.
    #[error("only {who} may do this")]
    Forbidden {
        /// Who may.
        who: Text<64>,
    },
    /// Not now, or not like this.
    #[error("{reason}")]
    Invalid {
        /// Why.
        reason: Text<256>,
    },
}

impl Refusal {
    /// Nothing has this identifier.
    #[must_use]
    pub fn unknown(what: &str) -> Self {
        Self::Unknown { what: Text::truncated(what) }
    }

    /// Something has this identifier already.
    #[must_use]
    pub fn exists(what: &str) -> Self {
        Self::Exists { what: Text::truncated(what) }
    }

    /// The account isn't the one who may.
    #[must_use]
    pub fn forbidden(who: &str) -> Self {
        Self::Forbidden { who: Text::truncated(who) }
    }

    /// Not now, or not like this.
    #[must_use]
    pub fn invalid(reason: &str) -> Self {
        Self::Invalid { reason: Text::truncated(reason) }
    }
}
