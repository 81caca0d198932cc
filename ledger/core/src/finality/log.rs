use borsh::{BorshDeserialize, BorshSerialize};
use lamina_types::{Canonical, HeaderId, Height};

use super::message::{ConsensusMessage, PolkaCertificate, Proposal, Vote};

/// Something that changed what an engine will do at its height, the own votes above all: replayed in order, the entries
/// bring a new engine to where the old one was, and tell it what it may not contradict.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum LogEntry {
    /// A vote that counted: its height, round, step and header, with the signature. The own ones are those of the own
    /// index.
    Vote(Vote),
    /// A proposal, with its value; the own ones, too.
    Proposal(Box<Proposal>),
    /// A quorum's prevotes that came as one.
    Polka(PolkaCertificate),
    /// What the application said of a value that was proposed.
    Judged {
        /// Which.
        header: HeaderId,
        /// Whether it's right.
        valid: bool,
    },
    /// A wait that ended.
    Waited {
        /// In which round.
        round: u32,
        /// For what.
        what: Wait,
    },
}

impl LogEntry {
    /// Whether it could have been logged at `height`: the entries that name a height tell.
    pub(super) fn is_of(&self, height: Height) -> bool {
        match self {
            Self::Vote(vote) => vote.height == height,
            Self::Proposal(proposal) => proposal.height == height,
            Self::Polka(certificate) => certificate.height == height,
            Self::Judged { .. } | Self::Waited { .. } => true,
        }
    }
}

/// What an engine waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum Wait {
    /// The proposal.
    Propose,
    /// Prevotes.
    Prevote,
    /// Precommits.
    Precommit,
    /// The time to say everything again. Never logged.
    Rebroadcast,
}

impl Canonical for LogEntry {
    const BYTES_MAX: usize = ConsensusMessage::BYTES_MAX;
}
