use std::time::Duration;

/// Bounds and intervals of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Most services that are known. Beyond, registrations are ignored and counted.
    pub services_max: usize,
    /// Most services of one owner: a flood is the flooder's own.
    pub services_per_owner_max: usize,
    /// Most tasks without a certificate. Beyond, requests are ignored and counted.
    pub tasks_open_max: usize,
    /// Most open tasks of one requester.
    pub tasks_per_requester_max: usize,
    /// Most tasks that one operator may attest before their requests are known.
    pub orphans_per_operator_max: usize,
    /// Tasks that are remembered after they ended; older ones are in the store only.
    pub tasks_remembered_max: usize,
    /// Tasks that run at the same time.
    pub executions_max: usize,
    /// Longest validity of a request. Bounds how long an open task stays.
    pub validity_max: Duration,
    /// How often a random peer is asked for what this node lacks.
    pub sync_interval: Duration,
    /// A node publishes its certificate after its rank times this, unless it saw one: so one node does, mostly.
    pub publish_step: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            services_max: 1024,
            services_per_owner_max: 64,
            tasks_open_max: 8192,
            tasks_per_requester_max: 4096,
            orphans_per_operator_max: 256,
            tasks_remembered_max: 10_000,
            executions_max: 2,
            validity_max: Duration::from_secs(24 * 3600),
            sync_interval: Duration::from_secs(2),
            publish_step: Duration::from_millis(40),
        }
    }
}
