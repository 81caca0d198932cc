use lamina_p2p::{Offence, Topic, Verdict};

/// Counters of a node since its start.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Messages that were judged, by topic and verdict (accept, ignore, reject).
    pub messages_judged: [[u64; 3]; Topic::ALL.len()],
    /// What peers did wrong, by [`Offence`].
    pub offences: [u64; Offence::ALL.len()],
    /// Peers that were banned.
    pub bans: u64,
    /// Requests for tasks that were taken up.
    pub tasks_accepted: u64,
    /// Tasks that got their certificate.
    pub tasks_certified: u64,
    /// Tasks that expired without one.
    pub tasks_expired: u64,
    /// Tasks on which this node abstained.
    pub tasks_abstained: u64,
    /// Tasks on which this node's outcome wasn't the certified one.
    pub tasks_dissented: u64,
    /// Attestations whose signature held.
    pub attestations_verified: u64,
    /// Checks that these took: fewer, since those on one outcome are checked together.
    pub attestation_batches: u64,
    /// Operators' second outcomes for one task.
    pub equivocations: u64,
    /// Observations of others whose signature held.
    pub observations_verified: u64,
    /// Observations that this node failed to make.
    pub observations_failed: u64,
    /// Operators' second observations for one task.
    pub observation_equivocations: u64,
    /// Sets of observations that this node proposed.
    pub proposals_made: u64,
    /// Proposers' second sets for one task.
    pub proposal_equivocations: u64,
    /// Sets of observations that this node took as what's to be reduced.
    pub observation_sets_accepted: u64,
    /// Requests, observations and messages ahead of their requests that were dropped because a bound was reached.
    pub dropped_full: u64,
}

impl Metrics {
    pub(crate) fn judged(&mut self, topic: Topic, verdict: Verdict) {
        self.messages_judged[topic as usize][verdict as usize] += 1;
    }

    pub(crate) fn offended(&mut self, offence: Offence) {
        self.offences[offence as usize] += 1;
    }
}
