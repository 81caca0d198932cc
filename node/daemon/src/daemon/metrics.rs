//! What a node counts, as Prometheus reads it (the text format of `OpenMetrics`).

use lamina_node_core::{LedgerMetrics, LedgerView, Metrics};
use lamina_p2p::{Offence, Topic};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// All metrics of this moment.
pub(crate) fn encode(
    node: &Metrics,
    load: (usize, usize),
    ledger: Option<(LedgerMetrics, LedgerView)>,
    bridge: Option<BridgeMetrics>,
    network: &lamina_p2p_net::Metrics,
) -> String {
    let mut registry = Registry::with_prefix("lamina");
    registry.register_collector(Box::new(Snapshot {
        node: node.clone(),
        load,
        ledger,
        bridge,
        network: network.clone(),
        resident_bytes: resident_bytes(),
    }));
    let mut text = String::new();
    text::encode(&mut text, &registry).expect("writing to memory doesn't fail");
    text
}

/// This process's memory in RAM, in bytes; 0 where the system doesn't tell (it does on Linux).
pub(crate) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[derive(Debug)]
struct Snapshot {
    node: Metrics,
    load: (usize, usize),
    ledger: Option<(LedgerMetrics, LedgerView)>,
    bridge: Option<BridgeMetrics>,
    network: lamina_p2p_net::Metrics,
    resident_bytes: u64,
}

/// What became of what this node submits to Ethereum.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BridgeMetrics {
    /// Jobs that were taken on, done by whomever, done with a transaction from here, and given up.
    pub(crate) jobs: [u64; 4],
    /// Headers on Ethereum that aren't the ledger's.
    pub(crate) conflicts: u64,
    /// Whether the account lacks ether, or the fee cap is too low.
    pub(crate) is_stuck: bool,
    /// The height of the last anchor that's final.
    pub(crate) anchored: u64,
}

fn encode_bridge(
    encoder: &mut DescriptorEncoder<'_>,
    bridge: &BridgeMetrics,
) -> Result<(), std::fmt::Error> {
    let sample = ConstCounter::new(0u64);
    let help = "Anchors, snapshots of operators and evidence by what became of them";
    let mut metric = encoder.encode_descriptor("bridge_jobs", help, None, sample.metric_type())?;
    for (outcome, value) in ["taken", "done", "sent", "given_up"].into_iter().zip(bridge.jobs) {
        ConstCounter::new(value).encode(metric.encode_family(&[("outcome", outcome)])?)?;
    }
    encode_gauges(
        encoder,
        &[
            ("bridge_conflicts", "Headers on Ethereum that aren't the ledger's", bridge.conflicts),
            ("bridge_stuck", "1 while the account can't pay", bridge.is_stuck.into()),
            ("bridge_anchored_height", "The last checkpoint on Ethereum", bridge.anchored),
        ],
    )
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (node, network) = (&self.node, &self.network);
        let counters = [
            ("tasks_accepted", "Requests for tasks that were taken up", node.tasks_accepted),
            ("tasks_certified", "Tasks that got their certificate", node.tasks_certified),
            ("tasks_expired", "Tasks that expired without a certificate", node.tasks_expired),
            ("tasks_abstained", "Tasks on which this node abstained", node.tasks_abstained),
            ("tasks_dissented", "Tasks whose certified outcome isn't ours", node.tasks_dissented),
            ("attestations_verified", "Attestations that held", node.attestations_verified),
            ("attestation_batches", "Checks that these took", node.attestation_batches),
            ("equivocations", "Operators' second outcomes for one task", node.equivocations),
            ("observations_verified", "Others' observations that held", node.observations_verified),
            (
                "observations_failed",
                "Observations this node failed to make",
                node.observations_failed,
            ),
            (
                "observation_equivocations",
                "Operators' second observations for one task",
                node.observation_equivocations,
            ),
            (
                "observation_sets_proposed",
                "Sets of observations this node proposed",
                node.proposals_made,
            ),
            (
                "observation_sets_accepted",
                "Sets of observations taken to be reduced",
                node.observation_sets_accepted,
            ),
            (
                "proposal_equivocations",
                "Proposers' second sets for one task",
                node.proposal_equivocations,
            ),
            ("dropped_full", "Messages dropped because a bound was reached", node.dropped_full),
            ("p2p_bans", "Peers that were banned", node.bans),
            ("p2p_requests_in", "Requests that peers made", network.requests_in),
            ("p2p_requests_in_refused", "Requests refused", network.requests_in_refused),
            ("p2p_requests_out", "Questions asked of peers", network.requests_out),
            ("p2p_requests_out_failed", "Questions without answer", network.requests_out_failed),
            ("p2p_events_dropped", "Events dropped by a full queue", network.events_dropped),
            ("p2p_commands_refused", "Commands refused by a full queue", network.commands_refused),
        ];
        encode_counters(&mut encoder, &counters)?;
        self.encode_messages(&mut encoder)?;
        self.encode_offences(&mut encoder)?;
        let gauges = [
            ("tasks_open", "Tasks without a certificate", self.load.0 as u64),
            ("tasks_queued", "Tasks that wait for a worker", self.load.1 as u64),
            ("p2p_peers_connected", "Peers that are connected", network.peers_connected),
            ("process_resident_bytes", "Memory in RAM", self.resident_bytes),
        ];
        encode_gauges(&mut encoder, &gauges)?;
        self.bridge.iter().try_for_each(|bridge| encode_bridge(&mut encoder, bridge))?;
        self.ledger.iter().try_for_each(|(counts, view)| encode_ledger(&mut encoder, counts, view))
    }
}

fn encode_ledger(
    encoder: &mut DescriptorEncoder<'_>,
    counts: &LedgerMetrics,
    view: &LedgerView,
) -> Result<(), std::fmt::Error> {
    let counters = [
        ("ledger_operations_accepted", "Operations taken from users", counts.operations_accepted),
        ("ledger_operations_refused", "Operations refused to users", counts.operations_refused),
        ("ledger_operations_final", "Operations that became final", counts.operations_final),
        ("ledger_changes_made", "Changes that this node wrote into books", counts.changes_made),
        ("ledger_changes_taken", "Others' changes that were taken", counts.changes_taken),
        ("ledger_changes_refused", "Others' changes without a place", counts.changes_refused),
        ("ledger_changes_equivocal", "Authors' second changes", counts.changes_equivocal),
        ("ledger_checkpoints", "Checkpoints that were committed", counts.checkpoints),
        ("ledger_checkpoints_fetched", "Those that peers sent", counts.checkpoints_fetched),
        ("ledger_proposals_refused", "Proposals that didn't hold", counts.proposals_refused),
        ("ledger_votes_equivocal", "Operators' second votes of a step", counts.votes_equivocal),
        ("ledger_votes_refused", "Votes found wrong after passing on", counts.votes_refused),
        ("ledger_reports_made", "Operations the node signed by itself", counts.reports_made),
        ("ledger_reports_refused", "Reports that it gave up", counts.reports_refused),
        ("ledger_reports_dropped", "Reports it had no room for", counts.reports_dropped),
    ];
    let gauges = [
        ("ledger_height", "The last checkpoint", view.height.0),
        ("ledger_height_highest", "The last checkpoint that a peer has", view.highest.0),
        ("ledger_operations_pending", "Operations in books, not final", view.pending as u64),
        ("ledger_operations_promised", "Operations to be carried", view.promised as u64),
    ];
    encode_counters(encoder, &counters)?;
    encode_gauges(encoder, &gauges)
}

fn encode_counters(
    encoder: &mut DescriptorEncoder<'_>,
    counters: &[(&str, &str, u64)],
) -> Result<(), std::fmt::Error> {
    for (name, help, value) in counters {
        let counter = ConstCounter::new(*value);
        let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
        counter.encode(metric)?;
    }
    Ok(())
}

fn encode_gauges(
    encoder: &mut DescriptorEncoder<'_>,
    gauges: &[(&str, &str, u64)],
) -> Result<(), std::fmt::Error> {
    for (name, help, value) in gauges {
        let gauge = ConstGauge::new(i64::try_from(*value).unwrap_or(i64::MAX));
        let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
        gauge.encode(metric)?;
    }
    Ok(())
}

impl Snapshot {
    /// Messages by topic and what became of them.
    fn encode_messages(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let sample = ConstCounter::new(0u64);
        let help = "Gossiped messages by what became of them";
        let mut metric =
            encoder.encode_descriptor("p2p_messages", help, None, sample.metric_type())?;
        for topic in Topic::ALL {
            let swarm = self.network.topic(topic);
            let [accepted, ignored, rejected] = self.node.messages_judged[topic as usize];
            let outcomes = [
                ("accepted", accepted),
                ("ignored", ignored),
                ("rejected", rejected),
                ("repeated", swarm.duplicates()),
                ("dropped", swarm.dropped),
                ("published", swarm.published),
                ("publish_failed", swarm.publish_failed),
            ];
            for (outcome, value) in outcomes {
                let labels = [("topic", topic.name()), ("outcome", outcome)];
                ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn encode_offences(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let sample = ConstCounter::new(0u64);
        let help = "What peers did wrong";
        let mut metric =
            encoder.encode_descriptor("p2p_offences", help, None, sample.metric_type())?;
        for offence in Offence::ALL {
            let value = self.node.offences[offence as usize];
            let labels = [("offence", offence.name())];
            ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
