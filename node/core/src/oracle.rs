//! Oracles' tasks: from what operators observe to the one set of observations that is reduced.
//!
//! Each operator observes for itself, signs and gossips. Once the observations that are here are a quorum's, operators take
//! turns, ranked by a hash, in proposing a set of them: the first after [`crate::Config::observation_window`], each other one
//! [`crate::Config::proposal_step`] after the one before it. A node takes the first set whose turn has come and whose
//! observations are all here, and reduces it: from there on the task is like any other.
//!
//! Proposers aren't trusted: a set is a quorum's signed observations or nothing, and a node attests one outcome of a task
//! however many sets it sees. What a proposer that signs two sets, or sends one so late that it meets the next, can do is split
//! the operators, so that none of the outcomes gets its quorum before the task expires. When the ledger's cuts fix the sets, they replace `Node::accept_set` and the
//! proposals; observations, roots and outcomes stay as they are.
//!
//! Who observes, proposes and counts are the task's own operators, as of its height; ranks and indices are theirs.
//! What one operator can have kept here is bounded, by number in a task and by bytes in all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use lamina_certificate::{
    MEMBERS_MAX, Member, Members, Observation, ObservationSet, ObservationSetError, Operator,
    OperatorSet, VerifiedObservation, VerifiedObservationSet,
};
use lamina_p2p::{Gossip, OBSERVATIONS_MAX, Offence, Request, Response, Verdict};
use lamina_types::{Digest, List, ObservationValue, OperatorIndex, PeerKey, TaskId, Timestamp};
use rand_core::Rng as _;

use crate::node::{Then, Timer};
use crate::questions::Question;
use crate::service::Pin;
use crate::task::{Stage, Task};
use crate::{Action, Node, Notice, ObservationView, Observed, Record, TaskStatus};

/// Observations of one operator that are kept of one task: its first, and a second one as evidence. One that a set names is
/// kept beyond: another node may have seen them in another order.
const OBSERVATIONS_PER_OPERATOR: usize = 2;
/// Sets of one proposer that are kept of one task: its first, and a second one as evidence.
const SETS_PER_PROPOSER: usize = 2;
/// How far ahead of its turn a set may come, in turns: nodes' turns begin at different times. What's dropped is asked for
/// again. So twice the turns that have passed bounds the sets of a task.
const TURNS_AHEAD: u32 = 8;
/// Tasks whose observations are asked of one peer at once. Less than half of what may be asked of it until the next round.
const ROUNDS_ASKED_MAX: usize = 12;
/// Peers that are asked for a set that's late. A guess: with three of four up, one has it.
const SEEK_PEERS: usize = 4;
/// What an observation or a set takes in memory beside its value or members, in bytes. Roughly.
const OVERHEAD_BYTES: usize = 256;

/// What a node knows of one task's observations. Empty for a deterministic service's task.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// What this node observed: it's on disk, or about to be.
    own: Option<ObservationValue>,
    /// Why this node has no observation.
    failure: Option<String>,
    observations: BTreeMap<OperatorIndex, Vec<VerifiedObservation>>,
    /// Proposals, the first ranks first.
    sets: Vec<Proposal>,
    /// Since when the observations that are here are a quorum's; turns count from it.
    quorum_at: Option<Timestamp>,
    /// This node's rank among the proposers, once turns count.
    rank: Option<u32>,
    proposed: bool,
    /// Root of the set that this node reduces.
    accepted: Option<Digest>,
}

/// A set whose signature holds.
#[derive(Debug)]
struct Proposal {
    rank: u32,
    set: VerifiedObservationSet,
}

/// What all tasks' observations take.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// Bytes of what each operator signed, in open tasks: by its node's key, since its index differs from task to task.
    bytes: BTreeMap<PeerKey, usize>,
    /// Ended tasks whose observations are still there, with their bytes.
    ended: VecDeque<(TaskId, usize)>,
    ended_bytes: usize,
}

impl Round {
    /// After a restart: what this node observed before.
    pub(crate) fn restore(&mut self, value: ObservationValue) {
        self.own = Some(value);
    }

    /// Adds a set that there's room for; true if it's the second one of its proposer.
    fn insert_set(&mut self, proposal: Proposal) -> bool {
        let place = self.sets.partition_point(|known| known.rank <= proposal.rank);
        let equivocates = self.sets_of(proposal.set.get().proposer).next().is_some();
        self.sets.insert(place, proposal);
        equivocates
    }

    /// Drops all but what was reduced.
    fn close(&mut self) {
        let kept = self.reduced(self.accepted).cloned();
        self.own = None;
        self.observations.retain(|operator, list| {
            let value = kept.as_ref().and_then(|set| set.value_of(*operator));
            list.retain(|observation| Some(observation.digest()) == value);
            !list.is_empty()
        });
        self.sets.retain(|p| kept.as_ref().is_some_and(|set| p.set.root() == set.root()));
    }

    /// Drops what was reduced, too; that it was, and under which root, stays.
    fn forget(&mut self) {
        self.observations.clear();
        self.sets.clear();
    }

    /// Whether this node has observed, or tried to.
    pub(crate) const fn is_observed(&self) -> bool {
        self.own.is_some() || self.failure.is_some()
    }

    /// Why this node has no observation.
    pub(crate) const fn failure(&self) -> Option<&String> {
        self.failure.as_ref()
    }

    /// The root of the set that this node reduces.
    pub(crate) const fn accepted(&self) -> Option<Digest> {
        self.accepted
    }

    /// What this node reduces, once that's fixed.
    pub(crate) fn input(&self, operators: &OperatorSet) -> Option<Vec<Observed>> {
        let set = self.set_of(self.accepted?)?;
        let observed = |member: &Member| {
            let observation = self.observation(member.operator, &member.value)?;
            Some(Observed {
                operator: member.operator,
                stake_gwei: operators.get(member.operator)?.stake_gwei,
                value: observation.get().value.clone(),
            })
        };
        set.get().members.as_slice().iter().map(observed).collect()
    }

    /// All that was observed; `root` is that of the set that was certified, if one was.
    pub(crate) fn views(&self, root: Option<Digest>) -> Vec<ObservationView> {
        let set = self.reduced(root.or(self.accepted));
        let view = |observation: &VerifiedObservation| ObservationView {
            operator: observation.get().operator,
            value: observation.get().value.clone(),
            in_set: set.and_then(|set| set.value_of(observation.get().operator))
                == Some(observation.digest()),
        };
        self.observations.values().flatten().map(view).collect()
    }

    fn set_of(&self, root: Digest) -> Option<&VerifiedObservationSet> {
        self.sets.iter().map(|proposal| &proposal.set).find(|set| set.root() == root)
    }

    /// The set with this root; without one, the first that's complete.
    fn reduced(&self, root: Option<Digest>) -> Option<&VerifiedObservationSet> {
        match root {
            Some(root) => self.set_of(root),
            None => self.sets.iter().map(|p| &p.set).find(|set| self.lacks(set).next().is_none()),
        }
    }

    fn observation(&self, operator: OperatorIndex, value: &Digest) -> Option<&VerifiedObservation> {
        let list = self.observations.get(&operator)?;
        list.iter().find(|observation| observation.digest() == *value)
    }

    /// Whether an observation is new and there's room for it.
    fn wants(&self, operator: OperatorIndex, value: &Digest) -> bool {
        let count = self.observations.get(&operator).map_or(0, Vec::len);
        let is_named = || self.sets.iter().any(|p| p.set.value_of(operator) == Some(*value));
        self.observation(operator, value).is_none()
            && (count < OBSERVATIONS_PER_OPERATOR || is_named())
    }

    /// Whether a set is new and there's room for it; `turn` is the rank whose turn it is.
    fn wants_set(&self, proposer: OperatorIndex, rank: u32, root: &Digest, turn: u32) -> bool {
        rank <= turn.saturating_add(TURNS_AHEAD)
            && self.sets_of(proposer).count() < SETS_PER_PROPOSER
            && self.sets_of(proposer).all(|set| set.root() != *root)
    }

    fn sets_of(&self, proposer: OperatorIndex) -> impl Iterator<Item = &VerifiedObservationSet> {
        self.sets.iter().map(|p| &p.set).filter(move |set| set.get().proposer == proposer)
    }

    /// Members of a set whose observations aren't here.
    fn lacks<'a>(
        &'a self,
        set: &'a VerifiedObservationSet,
    ) -> impl Iterator<Item = OperatorIndex> + 'a {
        let lacking = |m: &&Member| self.observation(m.operator, &m.value).is_none();
        set.get().members.as_slice().iter().filter(lacking).map(|member| member.operator)
    }

    fn is_quorum(&self, operators: &OperatorSet) -> bool {
        let known = self.observations.keys().filter_map(|index| operators.get(*index));
        operators.is_quorum(known.map(|operator| operator.stake_gwei).sum())
    }

    /// What this node would propose: everyone's first observation, or of those with the most stake, as many as a set holds.
    fn members(&self, operators: &OperatorSet) -> Members {
        let first = |(operator, list): (&OperatorIndex, &Vec<VerifiedObservation>)| {
            Some(Member { operator: *operator, value: list.first()?.digest() })
        };
        let mut members: Vec<Member> = self.observations.iter().filter_map(first).collect();
        if members.len() > MEMBERS_MAX {
            let stake = |member: &Member| operators.get(member.operator).map(|o| o.stake_gwei);
            members.sort_by_key(|member| std::cmp::Reverse(stake(member)));
            members.truncate(MEMBERS_MAX);
            members.sort_by_key(|member| member.operator);
        }
        List::truncated(members)
    }

    /// What each operator's part takes, in bytes.
    fn bytes(&self) -> impl Iterator<Item = (OperatorIndex, usize)> {
        let observations = self.observations.values().flatten().map(|o| {
            let observation = o.get();
            (observation.operator, observation_bytes(observation))
        });
        observations.chain(self.sets.iter().map(|p| (p.set.get().proposer, set_bytes(p.set.get()))))
    }
}

fn observation_bytes(observation: &Observation) -> usize {
    observation.value.as_slice().len() + OVERHEAD_BYTES
}

fn set_bytes(set: &ObservationSet) -> usize {
    size_of_val(set.members.as_slice()) + OVERHEAD_BYTES
}

impl Rounds {
    fn add(&mut self, operator: PeerKey, bytes: usize) {
        *self.bytes.entry(operator).or_default() += bytes;
    }

    fn subtract(&mut self, operator: PeerKey, bytes: usize) {
        if let Some(sum) = self.bytes.get_mut(&operator) {
            *sum = sum.saturating_sub(bytes);
            if *sum == 0 {
                self.bytes.remove(&operator);
            }
        }
    }

    /// A task isn't open any more: what it holds is nobody's quota.
    fn release(&mut self, set: &OperatorSet, round: &Round) {
        for (operator, bytes) in round.bytes() {
            if let Some(operator) = set.get(operator) {
                self.subtract(operator.peer_key, bytes);
            }
        }
    }
}

/// What this node observes.
impl Node {
    pub(crate) fn handle_observed(&mut self, id: TaskId, result: Result<ObservationValue, String>) {
        self.observing = self.observing.saturating_sub(1);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if task.status() != TaskStatus::Open {
            task.stage = Stage::Idle;
            return;
        }
        task.stage = Stage::Gathering;
        match result {
            // Too late to count.
            Ok(_) if task.round.accepted.is_some() => {}
            // On disk before it's signed: a restarted node signs the same again, and doesn't look twice.
            Ok(value) => {
                task.round.own = Some(value.clone());
                let record = Record::Observation(id, Box::new(value));
                self.store(vec![record], Some(Then::SignObservation(id)));
            }
            Err(reason) => {
                task.round.failure = Some(reason);
                self.metrics.observations_failed += 1;
            }
        }
        self.advance_round(id);
    }

    /// Signs what this node observed, if that still counts.
    pub(crate) fn sign_observation(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get(&id).filter(|t| t.status() == TaskStatus::Open) else {
            return;
        };
        let signer = task.pin.as_ref().and_then(Pin::signer);
        if let (Some(signer), Some(value)) = (signer, &task.round.own) {
            let value = value.clone();
            self.act(Action::SignObservation(id, value, signer));
        }
    }

    pub(crate) fn handle_observation_signed(
        &mut self,
        id: TaskId,
        result: Result<Box<Observation>, String>,
    ) {
        let Some(task) = self.tasks.get_mut(&id).filter(|t| t.status() == TaskStatus::Open) else {
            return;
        };
        let Some(set) = task.set() else { return };
        match result {
            Ok(observation) => {
                self.act(Action::Publish(Box::new(Gossip::Observation(observation.clone()))));
                let verified = observation.verify(&set);
                self.insert_observation(verified.expect("this node's own signature"));
                self.advance_round(id);
            }
            Err(reason) => {
                task.round.failure = Some(reason);
                self.metrics.observations_failed += 1;
            }
        }
    }
}

/// What others observe.
impl Node {
    /// An observation that was gossiped or asked for.
    pub(crate) fn judge_observation(
        &mut self,
        observation: Observation,
    ) -> Result<Verdict, Offence> {
        let (id, operator) = (observation.task, observation.operator);
        let Some(set) = self.tasks.get(&id).and_then(Task::set) else { return Ok(Verdict::Ignore) };
        if observation.epoch != set.epoch() || set.get(operator).is_none() {
            return Err(Offence::OutOfBounds);
        }
        let value = observation.digest();
        let wanted = |task: &Task| task.round.wants(operator, &value);
        if !self.has_use_for(id, operator, observation_bytes(&observation), wanted) {
            return Ok(Verdict::Ignore);
        }
        let verified = observation.verify(&set).ok_or(Offence::WrongSignature)?;
        self.metrics.observations_verified += 1;
        self.insert_observation(verified);
        self.advance_round(id);
        Ok(Verdict::Accept)
    }

    /// A proposal that was gossiped: what it names and isn't here is asked of its sender.
    pub(crate) fn judge_observation_set(
        &mut self,
        from: PeerKey,
        set: ObservationSet,
    ) -> Result<Verdict, Offence> {
        let id = set.task;
        let verdict = self.take_observation_set(set)?;
        if verdict == Verdict::Accept {
            self.ask_for_members(from, id);
        }
        Ok(verdict)
    }

    fn take_observation_set(&mut self, set: ObservationSet) -> Result<Verdict, Offence> {
        let (id, proposer) = (set.task, set.proposer);
        let Some(operators) = self.tasks.get(&id).and_then(Task::set) else {
            return Ok(Verdict::Ignore);
        };
        if set.epoch != operators.epoch() || operators.get(proposer).is_none() {
            return Err(Offence::OutOfBounds);
        }
        let (rank, root) = (rank(&operators, &id, proposer), set.root(operators.chain()));
        let turn = self.turn(&id);
        let wanted = |task: &Task| task.round.wants_set(proposer, rank, &root, turn);
        if !self.has_use_for(id, proposer, set_bytes(&set), wanted) {
            return Ok(Verdict::Ignore);
        }
        let set = set.verify(&operators).map_err(|error| match error {
            ObservationSetError::Signature => Offence::WrongSignature,
            // Not even a liar's signature makes a set of it: no honest node forwards that.
            _ => Offence::OutOfBounds,
        })?;
        self.insert_set(id, rank, set);
        self.advance_round(id);
        Ok(Verdict::Accept)
    }

    /// Whether something that `operator` signed for this task is worth the check of its signature.
    fn has_use_for(
        &mut self,
        id: TaskId,
        operator: OperatorIndex,
        bytes: usize,
        wanted: impl FnOnce(&Task) -> bool,
    ) -> bool {
        let Some(task) = self.tasks.get(&id) else { return false };
        if task.status() != TaskStatus::Open || !task.is_oracle() || !wanted(task) {
            return false;
        }
        let operator = task.pin.as_ref().and_then(|pin| pin.set.get(operator));
        let has_room = operator.is_some_and(|operator| self.has_room_for(operator, bytes));
        if !has_room {
            self.metrics.dropped_full += 1;
        }
        has_room
    }

    /// Whether an operator's quota allows it so many bytes more. This node's own are few: it runs few tasks at once.
    fn has_room_for(&self, operator: &Operator, bytes: usize) -> bool {
        let operator = operator.peer_key;
        let kept = self.rounds.bytes.get(&operator).copied().unwrap_or(0);
        operator == self.key || kept + bytes <= self.config.observation_bytes_per_operator_max
    }

    fn insert_observation(&mut self, observation: VerifiedObservation) {
        let (id, operator) = (observation.get().task, observation.get().operator);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if !task.round.wants(operator, &observation.digest()) {
            return;
        }
        let key = task.pin.as_ref().and_then(|pin| Some(pin.set.get(operator)?.peer_key));
        let Some(key) = key else { return };
        self.rounds.add(key, observation_bytes(observation.get()));
        let list = task.round.observations.entry(operator).or_default();
        list.push(observation);
        if list.len() == 2 {
            self.metrics.observation_equivocations += 1;
            self.act(Action::Notify(Notice::ObservationEquivocation(id, operator)));
        }
    }

    fn insert_set(&mut self, id: TaskId, rank: u32, set: VerifiedObservationSet) {
        let turn = self.turn(&id);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let proposer = set.get().proposer;
        if !task.round.wants_set(proposer, rank, &set.root(), turn) {
            return;
        }
        let key = task.pin.as_ref().and_then(|pin| Some(pin.set.get(proposer)?.peer_key));
        let Some(key) = key else { return };
        self.rounds.add(key, set_bytes(set.get()));
        if task.round.insert_set(Proposal { rank, set }) {
            self.metrics.proposal_equivocations += 1;
            self.act(Action::Notify(Notice::ProposalEquivocation(id, proposer)));
        }
    }
}

/// Which observations count.
impl Node {
    /// Goes on with a task as far as what's here and the time allow.
    pub(crate) fn advance_round(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else { return };
        if task.status() != TaskStatus::Open || !task.is_oracle() {
            return;
        }
        self.begin_turns(id);
        self.accept_set(id);
        self.propose(id);
        self.reduce(id);
    }

    /// Turns begin when the observations that are here are a quorum's.
    fn begin_turns(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Some(pin) = &task.pin else { return };
        if task.round.quorum_at.is_some() || !task.round.is_quorum(&pin.set) {
            return;
        }
        task.round.rank = pin.me.map(|me| rank(&pin.set, &id, me));
        task.round.quorum_at = Some(self.now);
        self.set_timer(self.now + self.config.proposal_step / 2, Timer::Seek(id));
    }

    /// Fixes the set that this node reduces: the first by rank whose turn has come and whose observations are all here.
    fn accept_set(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else { return };
        let round = &task.round;
        let (Some(quorum_at), None) = (round.quorum_at, round.accepted) else { return };
        // After a restart, the one that this node's outcome was reduced from.
        let bound = task.own_observations();
        let usable = |proposal: &&Proposal| {
            bound.is_none_or(|root| root == proposal.set.root())
                && round.lacks(&proposal.set).next().is_none()
        };
        // Turns follow ranks: if the first one's hasn't come, no other's has.
        let Some(Proposal { rank, set }) = round.sets.iter().find(usable) else { return };
        let (turn, root) = (quorum_at + self.config.proposal_step * *rank, set.root());
        if self.now < turn {
            return self.set_timer(turn, Timer::Round(id));
        }
        if let Some(task) = self.tasks.get_mut(&id) {
            task.round.accepted = Some(root);
            self.metrics.observation_sets_accepted += 1;
        }
    }

    /// Proposes what's here when it's this node's turn.
    fn propose(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else { return };
        let round = &task.round;
        let (Some(quorum_at), Some(rank)) = (round.quorum_at, round.rank) else { return };
        if round.proposed || round.accepted.is_some() || task.own_observations().is_some() {
            return;
        }
        let Some(signer) = task.pin.as_ref().and_then(Pin::signer) else { return };
        let set = &signer.set;
        let all_observed = round.observations.len() == usize::from(set.size());
        let window = if all_observed { Duration::ZERO } else { self.config.observation_window };
        let turn = quorum_at + window.max(self.config.proposal_step * rank);
        if self.now < turn {
            return self.set_timer(turn, Timer::Round(id));
        }
        let members = Box::new(round.members(set));
        let stake = |m: &Member| set.get(m.operator).map(|operator| operator.stake_gwei);
        if !set.is_quorum(members.as_slice().iter().filter_map(stake).sum()) {
            // So many operators that a set of those with the most stake is no quorum.
            return;
        }
        if let Some(task) = self.tasks.get_mut(&id) {
            task.round.proposed = true;
            self.act(Action::SignProposal(id, members, signer));
        }
    }

    pub(crate) fn handle_proposal_signed(
        &mut self,
        id: TaskId,
        result: Result<Box<ObservationSet>, String>,
    ) {
        // A refusal isn't an error: before a restart this node proposed another set. Whoever is next in turn goes on.
        let Ok(set) = result else { return };
        let task = self.tasks.get(&id).filter(|task| task.status() == TaskStatus::Open);
        let Some(operators) = task.and_then(Task::set) else { return };
        let verified = set.clone().verify(&operators).expect("a quorum, and this node's signature");
        self.metrics.proposals_made += 1;
        self.act(Action::Publish(Box::new(Gossip::ObservationSet(set))));
        let rank = rank(&operators, &id, verified.get().proposer);
        self.insert_set(id, rank, verified);
        self.advance_round(id);
    }

    /// Has the accepted set reduced.
    fn reduce(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if task.round.accepted.is_some() && task.stage == Stage::Gathering {
            task.stage = Stage::Queued;
            // Others wait for this node's attestation: what was begun ends first.
            self.queue.push_front(id);
        }
    }

    /// The rank whose turn it is to propose: the latest that has come.
    fn turn(&self, id: &TaskId) -> u32 {
        let begin = self.tasks.get(id).and_then(|task| task.round.quorum_at).unwrap_or(self.now);
        let step = self.config.proposal_step.as_micros().max(1);
        u32::try_from(self.now.since(begin).as_micros() / step).unwrap_or(u32::MAX)
    }

    /// A task ended: what was reduced is shown for as long as there's room.
    pub(crate) fn close_round(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if let Some(pin) = &task.pin {
            self.rounds.release(&pin.set, &task.round);
        }
        task.round.close();
        let bytes: usize = task.round.bytes().map(|(_, bytes)| bytes).sum();
        if bytes == 0 {
            return;
        }
        self.rounds.ended.push_back((id, bytes));
        self.rounds.ended_bytes += bytes;
        while self.rounds.ended_bytes > self.config.ended_observation_bytes_max
            && let Some((oldest, bytes)) = self.rounds.ended.pop_front()
        {
            self.rounds.ended_bytes -= bytes;
            if let Some(task) = self.tasks.get_mut(&oldest) {
                task.round.forget();
            }
        }
    }
}

/// What's asked of peers: gossip may have passed this node by.
impl Node {
    /// Asks what was observed for open tasks, as many as are asked at once.
    pub(crate) fn ask_for_observations(&mut self, peer: PeerKey) {
        let waits = |id: &TaskId| {
            self.tasks.get(id).is_some_and(|task| task.round.accepted.is_none() && task.is_oracle())
        };
        let mut waiting: Vec<TaskId> =
            self.open.iter().map(|(_, id)| *id).filter(|id| waits(id)).collect();
        if waiting.len() > ROUNDS_ASKED_MAX {
            // Some of them are stuck, maybe: others have their turn, too.
            let start = self.random_below(waiting.len());
            waiting.rotate_left(start);
        }
        for id in waiting.into_iter().take(ROUNDS_ASKED_MAX) {
            self.ask_for_round(peer, id);
        }
    }

    /// A set is late: asks a few peers for it between two proposers' turns.
    pub(crate) fn seek_set(&mut self, id: TaskId) {
        let waits =
            |task: &Task| task.status() == TaskStatus::Open && task.round.accepted.is_none();
        let Some(task) = self.tasks.get(&id).filter(|task| waits(task)) else { return };
        let Some(set) = task.set().filter(|_| !self.peers.is_empty()) else { return };
        if self.turn(&id) < u32::from(set.size()) {
            self.set_timer(self.now + self.config.proposal_step, Timer::Seek(id));
        }
        let mut peers: Vec<PeerKey> = self.peers.iter().copied().collect();
        let start = self.random_below(peers.len());
        peers.rotate_left(start);
        for peer in peers.into_iter().take(SEEK_PEERS) {
            self.ask_for_round(peer, id);
        }
    }

    /// Asks for a task's set, and for observations that aren't here: those that sets name, then any.
    fn ask_for_round(&mut self, peer: PeerKey, id: TaskId) {
        let Some(set) = self.tasks.get(&id).and_then(Task::set) else { return };
        let size = set.size();
        let start = self.random_below(usize::from(size));
        let start = u16::try_from(start).expect("below the set's size");
        let Some(task) = self.tasks.get(&id) else { return };
        let round = &task.round;
        let named = round.sets.iter().flat_map(|proposal| round.lacks(&proposal.set));
        let silent = (0..size)
            .map(|i| OperatorIndex((start + i) % size))
            .filter(|index| !round.observations.contains_key(index));
        let mut operators = BTreeSet::new();
        for index in named.chain(silent) {
            if operators.len() == OBSERVATIONS_MAX {
                break;
            }
            operators.insert(index);
        }
        self.ask_for_observations_of(peer, id, operators);
    }

    /// Asks for all observations that sets name and that aren't here.
    fn ask_for_members(&mut self, peer: PeerKey, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else { return };
        let round = &task.round;
        let named = round.sets.iter().flat_map(|proposal| round.lacks(&proposal.set));
        let named: Vec<OperatorIndex> = named.collect::<BTreeSet<_>>().into_iter().collect();
        for part in named.chunks(OBSERVATIONS_MAX) {
            self.ask_for_observations_of(peer, id, part.iter().copied().collect());
        }
    }

    fn ask_for_observations_of(
        &mut self,
        peer: PeerKey,
        task: TaskId,
        operators: BTreeSet<OperatorIndex>,
    ) {
        let list = List::truncated(operators.iter().copied());
        let request = Request::Observations { task, operators: list };
        self.ask(peer, Question::Observations(task, operators), request);
    }

    /// The answer to [`Request::Observations`].
    pub(crate) fn observations_of(&self, task: &TaskId, operators: &[OperatorIndex]) -> Response {
        let Some(task) = self.tasks.get(task) else {
            return Response::Observations { set: None, observations: List::default() };
        };
        let round = &task.round;
        let accepted = round.accepted.and_then(|root| round.set_of(root));
        let set = accepted.or_else(|| round.sets.first().map(|proposal| &proposal.set));
        let is_member = |o: &&VerifiedObservation| {
            set.and_then(|set| set.value_of(o.get().operator)) == Some(o.digest())
        };
        let asked: BTreeSet<_> = operators.iter().collect();
        let known = || asked.iter().filter_map(|index| round.observations.get(index)).flatten();
        let members = known().filter(is_member);
        let others = known().filter(|observation| !is_member(observation));
        Response::Observations {
            set: set.map(|set| Box::new(set.get().clone())),
            observations: List::truncated(members.chain(others).map(|o| o.get().clone())),
        }
    }

    /// Takes an answer; the first thing in it that no honest peer sends ends it.
    pub(crate) fn handle_observations(
        &mut self,
        from: PeerKey,
        id: TaskId,
        asked: &BTreeSet<OperatorIndex>,
        set: Option<ObservationSet>,
        observations: Vec<Observation>,
    ) {
        let result = self.take_answer(id, asked, set, observations);
        match result {
            Ok(true) => self.ask_for_members(from, id),
            Ok(false) => {}
            Err(offence) => self.charge(from, offence),
        }
    }

    /// Whether the answer had a set that's new here.
    fn take_answer(
        &mut self,
        id: TaskId,
        asked: &BTreeSet<OperatorIndex>,
        set: Option<ObservationSet>,
        observations: Vec<Observation>,
    ) -> Result<bool, Offence> {
        let mut is_new = false;
        if let Some(set) = set {
            if set.task != id {
                return Err(Offence::WrongAnswer);
            }
            is_new = self.take_observation_set(set)? == Verdict::Accept;
        }
        for observation in observations {
            if observation.task != id || !asked.contains(&observation.operator) {
                return Err(Offence::WrongAnswer);
            }
            self.judge_observation(observation)?;
        }
        Ok(is_new)
    }

    fn random_below(&mut self, count: usize) -> usize {
        let pick = self.rng.next_u64() % count as u64;
        usize::try_from(pick).expect("below a length")
    }
}

/// An operator's place in the order in which sets of this task are proposed.
fn rank(operators: &OperatorSet, task: &TaskId, operator: OperatorIndex) -> u32 {
    let place = |index: OperatorIndex| {
        let mut bytes = [0; 34];
        bytes[..32].copy_from_slice(&task.0);
        bytes[32..].copy_from_slice(&index.0.to_be_bytes());
        (Digest::of(&bytes), index)
    };
    let own = place(operator);
    let before = operators.iter().filter(|(index, _)| place(*index) < own).count();
    u32::try_from(before).expect("below the set's size")
}
