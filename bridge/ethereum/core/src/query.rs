use lamina_types::{Address, Digest, EpochNumber, EthereumBlock};

/// An endpoint's place in the configuration, from 0.
pub type EndpointIndex = usize;

/// Numbers questions, so that an answer finds its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Most events that an answer may have. One that would have more is [`Failure::TooMany`].
pub const LOGS_MAX: usize = 10_000;

/// What the follower wants to know of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// Which chain it is, and its `finalized` block.
    Status,
    /// The blocks with these numbers.
    Blocks {
        /// Ascending.
        numbers: Vec<u64>,
    },
    /// All events of these contracts in these blocks.
    Logs {
        /// The contracts.
        contracts: Vec<Address>,
        /// The first block.
        from: u64,
        /// The last one.
        to: u64,
    },
    /// The members of an epoch's whole set, as of the `finalized` block.
    Members {
        /// The contract.
        checkpoints: Address,
        /// Which epoch.
        epoch: EpochNumber,
    },
}

/// What an endpoint says. Bounded by the shell, and otherwise not yet believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`Query::Status`].
    Status {
        /// The chain's id (EIP-155).
        ethereum_chain: u64,
        /// The last finalised block.
        finalized: EthereumBlock,
    },
    /// To [`Query::Blocks`], in the order of the question.
    Blocks(Vec<EthereumBlock>),
    /// To [`Query::Logs`].
    Logs(Vec<Log>),
    /// To [`Query::Members`]: registration indices and stakes in gwei.
    Members(Vec<(u64, u64)>),
}

/// An event of a contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The contract.
    pub contract: Address,
    /// What it's found by; the first is the kind's hash.
    pub topics: Vec<[u8; 32]>,
    /// The rest.
    pub data: Vec<u8>,
    /// The block that has it.
    pub block: EthereumBlock,
    /// Its place among the block's events.
    pub index: u64,
    /// The hash of the transaction that made it.
    pub transaction: Digest,
}

/// Why there's no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The endpoint can't be reached, or took too long.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The answer would be too long: by the endpoint's limit, or by ours.
    #[error("too many results: {0}")]
    TooMany(String),
    /// It answered that it won't.
    #[error("refused: {0}")]
    Refused(String),
    /// What it answered isn't an answer.
    #[error("malformed: {0}")]
    Malformed(String),
}
