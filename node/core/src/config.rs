use std::time::Duration;

/// Bounds and intervals of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Most tasks without a certificate. Beyond, requests are ignored and counted.
    pub tasks_open_max: usize,
    /// Most open tasks of one requester.
    pub tasks_per_requester_max: usize,
    /// Most bytes of messages of one peer that can't be judged yet: their requests aren't known, or are pinned to
    /// checkpoints to come. Beyond, the peer's oldest are dropped and counted.
    pub early_bytes_per_peer_max: usize,
    /// Most bytes of such messages of all peers. Beyond, those of whoever has the most are dropped, oldest first.
    pub early_bytes_max: usize,
    /// Tasks that are remembered after they ended; older ones are in the store only.
    pub tasks_remembered_max: usize,
    /// Tasks that run at the same time.
    pub executions_max: usize,
    /// Observations that are made at the same time, beside the executions.
    pub observations_max: usize,
    /// Longest validity of a request. Bounds how long an open task stays.
    pub validity_max: Duration,
    /// How often a random peer is asked for what this node lacks.
    pub sync_interval: Duration,
    /// A node publishes its certificate after its rank times this, unless it saw one: so one node does, mostly.
    pub publish_step: Duration,
    /// How long observations of others are waited for once a quorum's are here.
    pub observation_window: Duration,
    /// How much later than the one before it each operator proposes a set of observations, unless it saw one. Long against
    /// the time in which a set and its observations reach everyone.
    pub proposal_step: Duration,
    /// Most bytes of observations and proposals that are kept of one operator, in all open tasks. Beyond, they're ignored
    /// and counted, and asked for again when there's room.
    pub observation_bytes_per_operator_max: usize,
    /// Most bytes of observations that are kept of ended tasks; the oldest are forgotten first.
    pub ended_observation_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tasks_open_max: 8192,
            tasks_per_requester_max: 4096,
            early_bytes_per_peer_max: 2 * 1024 * 1024,
            early_bytes_max: 32 * 1024 * 1024,
            tasks_remembered_max: 10_000,
            executions_max: 2,
            observations_max: 8,
            validity_max: Duration::from_secs(24 * 3600),
            sync_interval: Duration::from_secs(2),
            publish_step: Duration::from_millis(40),
            observation_window: Duration::from_millis(200),
            proposal_step: Duration::from_secs(2),
            observation_bytes_per_operator_max: 4 * 1024 * 1024,
            ended_observation_bytes_max: 64 * 1024 * 1024,
        }
    }
}
