use lamina_certificate::{Attestation, Observation, ObservationSet, TaskCertificate};
use lamina_types::{
    Bytes, Canonical, ChainId, Change, Digest, SignedOperation, SignedTaskRequest, Timestamp,
    canonical,
};

/// Longest message of any topic, in bytes.
pub const GOSSIP_BYTES_MAX: usize = 64 * 1024;
/// Longest message of the consensus on checkpoints, in bytes: a proposal with its cut, or a hundred votes.
pub const CONSENSUS_BYTES_MAX: usize = 56 * 1024;

/// What messages are about. Their number is fixed: it doesn't grow with services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Requests for tasks.
    Tasks,
    /// Operators' attestations.
    Attestations,
    /// Certificates.
    Certificates,
    /// What operators observed for oracles' tasks.
    Observations,
    /// The observations that operators propose to reduce.
    ObservationSets,
    /// Accounts' operations, from nodes that write to no book.
    Operations,
    /// What operators add to books.
    Changes,
    /// The consensus on checkpoints.
    Consensus,
}

impl Topic {
    /// All topics.
    pub const ALL: [Self; 8] = [
        Self::Tasks,
        Self::Attestations,
        Self::Certificates,
        Self::Observations,
        Self::ObservationSets,
        Self::Operations,
        Self::Changes,
        Self::Consensus,
    ];

    /// The topic's short name, as in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tasks => "tasks",
            Self::Attestations => "attestations",
            Self::Certificates => "certificates",
            Self::Observations => "observations",
            Self::ObservationSets => "observation-sets",
            Self::Operations => "operations",
            Self::Changes => "changes",
            Self::Consensus => "consensus",
        }
    }

    /// The topic's name on the wire: networks don't mix, and a new version is a new topic.
    #[must_use]
    pub fn wire_name(self, chain: &ChainId) -> String {
        format!("/lamina/{chain}/{}/3", self.name())
    }

    /// Longest message of this topic, in bytes.
    #[must_use]
    pub const fn bytes_max(self) -> usize {
        match self {
            Self::Tasks => SignedTaskRequest::BYTES_MAX,
            Self::Attestations => Attestation::BYTES_MAX,
            Self::Certificates => TaskCertificate::BYTES_MAX,
            Self::Observations => Observation::BYTES_MAX,
            Self::ObservationSets => ObservationSet::BYTES_MAX,
            Self::Operations => 8 + SignedOperation::BYTES_MAX,
            Self::Changes => Change::BYTES_MAX,
            Self::Consensus => 8 + CONSENSUS_BYTES_MAX,
        }
    }
}

const _: () = {
    let mut i = 0;
    while i < Topic::ALL.len() {
        assert!(Topic::ALL[i].bytes_max() <= GOSSIP_BYTES_MAX, "gossip carries small things only");
        i += 1;
    }
};

/// When a message was said, in seconds since 1970. Gossip carries each message once; what has to be said again, since somebody
/// may have been away, is another message in another second. Whoever takes it checks that the second is about now, so repeats
/// cost at most one message a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Second(pub u64);

impl Second {
    /// How far from a node's clock it may be.
    pub const DRIFT_S: u64 = 60;

    /// The second of a moment.
    #[must_use]
    pub const fn of(now: Timestamp) -> Self {
        Self(now.0 / 1_000_000)
    }

    /// Whether it's about now.
    #[must_use]
    pub const fn is_about(self, now: Timestamp) -> bool {
        self.0.abs_diff(Self::of(now).0) <= Self::DRIFT_S
    }

    fn split(bytes: &[u8]) -> Result<(Self, &[u8]), Error> {
        let short = || Error(canonical::Error::Malformed("shorter than its second".to_owned()));
        let (second, rest) = bytes.split_first_chunk().ok_or_else(short)?;
        Ok((Self(u64::from_le_bytes(*second)), rest))
    }

    fn join(self, rest: &[u8]) -> Vec<u8> {
        [&self.0.to_le_bytes(), rest].concat()
    }
}

/// A message, decoded. Signatures are not yet checked, except that they are points of their group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gossip {
    /// Someone asks for a run.
    Task(Box<SignedTaskRequest>),
    /// An operator attests an outcome.
    Attestation(Attestation),
    /// A quorum did.
    Certificate(TaskCertificate),
    /// An operator observed something.
    Observation(Box<Observation>),
    /// An operator proposes what to reduce.
    ObservationSet(Box<ObservationSet>),
    /// An account wants something done, said in this second.
    Operation(Second, Box<SignedOperation>),
    /// An operator adds to a book.
    Change(Box<Change>),
    /// An operator takes part in the consensus, in this second; what it says is the ledger's to read.
    Consensus(Second, Bytes<CONSENSUS_BYTES_MAX>),
}

impl Gossip {
    /// Reads a message of `topic`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn decode(topic: Topic, bytes: &[u8]) -> Result<Self, Error> {
        let message = match topic {
            Topic::Tasks => {
                Self::Task(Box::new(SignedTaskRequest::from_bytes(bytes).map_err(Error)?))
            }
            Topic::Attestations => {
                Self::Attestation(Attestation::from_bytes(bytes).map_err(Error)?)
            }
            Topic::Certificates => {
                Self::Certificate(TaskCertificate::from_bytes(bytes).map_err(Error)?)
            }
            Topic::Observations => {
                Self::Observation(Box::new(Observation::from_bytes(bytes).map_err(Error)?))
            }
            Topic::ObservationSets => {
                Self::ObservationSet(Box::new(ObservationSet::from_bytes(bytes).map_err(Error)?))
            }
            Topic::Operations => {
                let (second, bytes) = Second::split(bytes)?;
                let operation = SignedOperation::from_bytes(bytes).map_err(Error)?;
                Self::Operation(second, Box::new(operation))
            }
            Topic::Changes => Self::Change(Box::new(Change::from_bytes(bytes).map_err(Error)?)),
            Topic::Consensus => {
                let (second, bytes) = Second::split(bytes)?;
                Self::Consensus(second, Bytes::new(bytes).map_err(Error)?)
            }
        };
        Ok(message)
    }

    /// The message's topic and bytes.
    #[must_use]
    pub fn encode(&self) -> (Topic, Vec<u8>) {
        match self {
            Self::Task(request) => (Topic::Tasks, request.to_bytes()),
            Self::Attestation(attestation) => (Topic::Attestations, attestation.to_bytes()),
            Self::Certificate(certificate) => (Topic::Certificates, certificate.to_bytes()),
            Self::Observation(observation) => (Topic::Observations, observation.to_bytes()),
            Self::ObservationSet(set) => (Topic::ObservationSets, set.to_bytes()),
            Self::Operation(second, operation) => {
                (Topic::Operations, second.join(&operation.to_bytes()))
            }
            Self::Change(change) => (Topic::Changes, change.to_bytes()),
            Self::Consensus(second, bytes) => (Topic::Consensus, second.join(bytes.as_slice())),
        }
    }
}

/// Why bytes aren't a message of their topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a message of this topic: {0}")]
pub struct Error(#[source] pub canonical::Error);

/// Identifies a message by its content, so that one message has one identifier whoever sends it.
pub type MessageId = [u8; 20];

/// The first 20 bytes of the SHA-256 of topic and content.
#[must_use]
pub fn message_id(topic: &str, bytes: &[u8]) -> MessageId {
    let mut preimage = Vec::with_capacity(8 + topic.len() + bytes.len());
    preimage.extend((topic.len() as u64).to_be_bytes());
    preimage.extend(topic.as_bytes());
    preimage.extend(bytes);
    *Digest::of(&preimage).0.first_chunk().expect("a digest has 32 bytes")
}

/// What becomes of a message. Nothing is forwarded before it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Right: forwarded.
    Accept,
    /// Of no use here, but nobody's fault: dropped.
    Ignore,
    /// Wrong: dropped, and held against those who sent it.
    Reject,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn identifiers_depend_on_topic_and_content() {
        assert_eq!(message_id("a", b"bc"), message_id("a", b"bc"));
        assert_ne!(message_id("a", b"bc"), message_id("ab", b"c"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            for topic in Topic::ALL {
                if let Ok(message) = Gossip::decode(topic, &bytes) {
                    prop_assert_eq!(message.encode(), (topic, bytes.clone()));
                }
            }
        }
    }
}
