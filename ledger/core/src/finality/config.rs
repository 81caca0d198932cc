use std::time::Duration;

/// How long an engine waits for what. The first three grow linearly with the round, so that at some round they are longer
/// than the network's delay, whatever it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// For the round's proposal.
    pub propose: Duration,
    /// For more prevotes, once a quorum prevoted different things.
    pub prevote: Duration,
    /// For more precommits, once a quorum precommitted different things.
    pub precommit: Duration,
    /// What each of the three gains per round.
    pub growth: Duration,
    /// Between repetitions of the own votes and proposal of a round.
    pub rebroadcast: Duration,
    /// The longest of all waits.
    pub longest: Duration,
    /// From the first unverified precommit for something until what has come is verified in one batch, if no quorum
    /// comes before.
    pub batch: Duration,
    /// From the decision until it's told, to gather the precommits that are still under way: a certificate with more
    /// signers, and participation that is counted for those who are far. Zero tells it at once.
    pub gather: Duration,
}

impl Default for Config {
    /// For operators on several continents, checkpoints every second or so. Guesses; the simulator is where they show.
    fn default() -> Self {
        Self {
            propose: Duration::from_millis(1500),
            prevote: Duration::from_millis(500),
            precommit: Duration::from_millis(500),
            growth: Duration::from_millis(300),
            rebroadcast: Duration::from_millis(1000),
            longest: Duration::from_secs(30),
            batch: Duration::from_millis(30),
            gather: Duration::from_millis(50),
        }
    }
}
