//! A node's disk and the shell that works on it, in memory: the same rules as the store's, asserted where the store refuses.

use std::collections::BTreeMap;

use lamina_certificate::{Genesis, Handover};
use lamina_ledger::state::{Executed, Machine, Receipt, machine, next_timer};
use lamina_ledger::testing::MemoryState;
use lamina_ledger::{Decision, Finalised, Record, StateReader as _, book};
use lamina_node_core::{
    Commitment, Evaluated, LedgerEvent, LedgerStart, LedgerWork, Registry, Restored,
    SnapshotProgress, genesis_checkpoint,
};
use lamina_p2p::{PAGE_BYTES_MAX, Request, Response};
use lamina_types::{
    Canonical as _, ChainId, Change, ChangeId, Digest, Height, List, OperationId, PeerKey,
    SignedOperation, Timestamp, VolumeId,
};

/// What survives when a node is killed. Each write is whole or not there.
#[derive(Debug)]
pub struct Disk {
    pub state: MemoryState,
    pub decisions: BTreeMap<u64, Decision>,
    /// Final changes.
    pub changes: BTreeMap<(VolumeId, PeerKey, u64), Change>,
    pub pending: BTreeMap<ChangeId, Change>,
    pub promises: BTreeMap<OperationId, SignedOperation>,
    pub log: BTreeMap<u64, Vec<Vec<u8>>>,
    pub evidence: BTreeMap<Digest, Vec<u8>>,
    pub receipts: BTreeMap<OperationId, Receipt>,
    /// By epoch.
    pub handovers: BTreeMap<u64, Handover>,
    pub closed: Vec<VolumeId>,
}

impl Disk {
    /// With genesis on it.
    pub fn new(genesis: &Genesis) -> Self {
        let machine = machine(genesis, Vec::new());
        let mut state = MemoryState::default();
        let executed = machine.genesis(&state, genesis).unwrap();
        state.commit(&executed);
        let finalised = genesis_checkpoint(genesis, executed).unwrap();
        Self {
            state,
            decisions: [(0, finalised.decision)].into(),
            changes: BTreeMap::new(),
            pending: BTreeMap::new(),
            promises: BTreeMap::new(),
            log: BTreeMap::new(),
            evidence: BTreeMap::new(),
            receipts: BTreeMap::new(),
            handovers: BTreeMap::new(),
            closed: Vec::new(),
        }
    }

    pub fn tip(&self) -> &Decision {
        self.decisions.last_key_value().unwrap().1
    }

    pub fn height(&self) -> u64 {
        self.tip().header.height.0
    }

    /// What a node that starts goes on from; the rest is the caller's.
    pub fn start(&self, genesis: &Genesis) -> LedgerStart {
        let context = genesis.signing_context();
        let changes = self.pending.values();
        let changes = changes.map(|c| book::verify(c.clone(), &context).unwrap()).collect();
        let entries = self.log.get(&(self.height() + 1)).into_iter().flatten();
        LedgerStart {
            config: lamina_node_core::LedgerConfig::default(),
            signer: None,
            account: None,
            evidence: self.evidence.values().cloned().collect(),
            tip: self.tip().header.clone(),
            restored: Restored::read(&self.state, &Registry::default()).unwrap(),
            changes,
            promises: self.promises.iter().map(|(id, signed)| (*id, signed.clone())).collect(),
            log: entries
                .map(|e| lamina_ledger::finality::LogEntry::from_bytes(e).unwrap())
                .collect(),
            first: Height(self.decisions.first_key_value().unwrap().0 + 1),
        }
    }

    pub fn write(&mut self, records: Vec<Record>) {
        for record in records {
            match record {
                Record::Change(id, change) => {
                    self.pending.insert(id, *change);
                }
                Record::Log { height, entry } => self.log.entry(height.0).or_default().push(entry),
                Record::Promise(id, signed) if !self.receipts.contains_key(&id) => {
                    self.promises.insert(id, *signed);
                }
                Record::Promise(..) => {}
                Record::Evidence(bytes) => {
                    self.evidence.insert(Digest::of(&bytes), bytes);
                }
                Record::Handover(handover) => {
                    self.handovers.insert(handover.epoch.0, *handover);
                }
            }
        }
    }

    fn commit(&mut self, finalised: Finalised) {
        let Finalised { decision, executed, changes, closed, dropped, handover, .. } = finalised;
        let height = decision.header.height.0;
        assert_eq!(height, self.height() + 1, "checkpoints are committed in order");
        assert_eq!(decision.header.cut, decision.cut.digest());
        assert_eq!(decision.header.state, executed.state);
        for final_change in changes {
            self.extend(final_change.id, final_change.change);
        }
        for id in dropped {
            self.pending.remove(&id);
        }
        self.pending.retain(|_, change| !closed.contains(&change.volume));
        self.closed.extend(closed);
        for receipt in &executed.receipts {
            self.promises.remove(&receipt.operation);
            self.receipts.entry(receipt.operation).or_insert_with(|| receipt.clone());
        }
        self.log.retain(|of, _| *of > height);
        self.state.commit(&executed);
        self.decisions.insert(height, decision);
        self.handovers.extend(handover.map(|handover| (handover.epoch.0, *handover)));
    }

    /// A lane has no gaps, and no branches.
    fn extend(&mut self, id: ChangeId, change: Change) {
        assert!(!self.closed.contains(&change.volume), "the volume is closed");
        if change.number > 1 {
            let before = &self.changes[&(change.volume, change.author, change.number - 1)];
            assert!(before.number + 1 == change.number);
        }
        self.pending.remove(&id);
        let place = (change.volume, change.author, change.number);
        assert!(self.changes.insert(place, change).is_none(), "a second change at one place");
    }

    /// Answers a peer from what's stored, and from what the node adds to it.
    pub fn answer(&self, chain: &ChainId, request: Request, pending: Vec<Change>) -> Response {
        match request {
            Request::Checkpoints { from } => {
                let stored = self.decisions.range(from.0..);
                let with = |d: &Decision| Some((d.checkpoint()?, d.cut.clone()));
                Response::Checkpoints(List::truncated(stored.map_while(|(_, d)| with(d))))
            }
            Request::Lanes(ranges) => {
                let stored = ranges.as_slice().iter().flat_map(|r| {
                    let lane = (r.volume, r.author);
                    let end = (lane.0, lane.1, u64::MAX);
                    self.changes.range((lane.0, lane.1, r.after + 1)..=end).map(|(_, c)| c.clone())
                });
                Response::Changes(bounded(stored.chain(pending).collect()))
            }
            Request::Changes(refs) => {
                let stored = refs.as_slice().iter().filter_map(|r| {
                    let found = self.changes.get(&(r.volume, r.author, r.number));
                    found.filter(|c| c.head().id(chain) == r.change).cloned()
                });
                Response::Changes(bounded(pending.iter().cloned().chain(stored).collect()))
            }
            Request::Snapshot { .. } => Response::Snapshot(None),
            Request::Handovers { after } => {
                let later = self.handovers.range(after.0 + 1..);
                Response::Handovers(List::truncated(later.map(|(_, handover)| handover.clone())))
            }
            _ => Response::Changes(List::default()),
        }
    }
}

fn bounded(changes: Vec<Change>) -> List<Change, { lamina_p2p::CHANGES_MAX }> {
    let mut bytes = 0;
    List::truncated(changes.into_iter().take_while(|change| {
        let first = bytes == 0;
        bytes += change.to_bytes().len();
        first || bytes <= PAGE_BYTES_MAX
    }))
}

/// What the shell keeps of a running node beside its disk.
#[derive(Debug)]
pub struct Shell {
    machine: Machine,
    registry: Registry,
    evaluations: BTreeMap<u64, Executed>,
}

impl Shell {
    pub fn new(genesis: &Genesis) -> Self {
        Self {
            machine: machine(genesis, Vec::new()),
            registry: Registry::default(),
            evaluations: BTreeMap::new(),
        }
    }

    /// Does a piece of work, as the daemon's thread does.
    pub fn carry_out(
        &mut self,
        disk: &mut Disk,
        now: Timestamp,
        work: LedgerWork,
    ) -> Option<LedgerEvent> {
        Some(match work {
            LedgerWork::Store(id, records) => {
                disk.write(records);
                LedgerEvent::Stored(id)
            }
            LedgerWork::Evaluate(id, input) => {
                if disk.height() + 1 != input.height.0 {
                    return None;
                }
                let executed = self.machine.execute(&disk.state, &input).unwrap();
                let (state, claims, results) = (executed.state, executed.claims, executed.results);
                self.evaluations.insert(id, executed);
                LedgerEvent::Evaluated(id, Box::new(Evaluated { state, claims, results }))
            }
            LedgerWork::Forget(id) => {
                self.evaluations.remove(&id);
                return None;
            }
            LedgerWork::Commit(commitment) => self.commit(disk, *commitment),
            LedgerWork::Precheck { id, operation, signed } => LedgerEvent::Prechecked(
                id,
                self.machine.precheck(&disk.state, operation, &signed, now).unwrap(),
            ),
            LedgerWork::Rehearse { account, action } => {
                let rehearsed = self.machine.rehearse(&disk.state, account, *action, now).unwrap();
                LedgerEvent::Rehearsed { next: rehearsed.0, result: rehearsed.1 }
            }
            LedgerWork::Restore { .. } => LedgerEvent::Restored(SnapshotProgress::Wrong),
            LedgerWork::Answer { .. } | LedgerWork::Halt(_) => unreachable!("done elsewhere"),
        })
    }

    fn commit(&mut self, disk: &mut Disk, commitment: Commitment) -> LedgerEvent {
        let executed = self.evaluations.remove(&commitment.evaluation).unwrap();
        self.evaluations.clear();
        let (receipts, writes) = (executed.receipts.clone(), executed.writes.clone());
        disk.commit(commitment.with(executed));
        let view = Box::new(self.registry.changed(&disk.state, &writes).unwrap());
        LedgerEvent::Committed { receipts, next_timer: next_timer(&disk.state).unwrap(), view }
    }
}

impl Disk {
    /// The state's version is the checkpoint's height.
    pub fn assert_whole(&self) {
        assert_eq!(self.state.version(), self.height());
        assert_eq!(self.state.root(), self.tip().header.state);
    }
}
