//! Messages that come before what they're judged by: requests that are pinned to checkpoints to come, and what was signed for
//! tasks whose requests aren't here, of which it isn't known who may sign.
//!
//! They are kept as they came, unchecked, and judged when what they wait for is here. A gossiped one's verdict waits with it
//! for [`JUDGED_WITHIN`]: then it's ignored, so that the swarm needn't keep it. After [`LIFE`] it's forgotten; if it mattered,
//! it's asked for again once its task is known. What one peer can have kept is bounded in bytes, and so is what all can.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use lamina_certificate::OperatorSet;
use lamina_p2p::{BAN_THRESHOLD, Gossip, Offence, Topic, Verdict};
use lamina_types::{Height, OperatorIndex, PeerKey, TaskId, Timestamp};

use crate::node::Timer;
use crate::service::HEIGHTS_KEPT;
use crate::{CommandError, Config, Node};

/// How long a gossiped message's verdict may wait. The swarm forgets a message that isn't judged within 7.7 s.
const JUDGED_WITHIN: Duration = Duration::from_secs(5);
/// How long a message is kept: several checkpoints, several answers' time.
const LIFE: Duration = Duration::from_secs(10);
/// How often it's looked what waited for too long. Short against what's left of the swarm's time.
const SWEEP: Duration = Duration::from_millis(250);
/// What a message takes in memory beside its bytes. Roughly.
const OVERHEAD_BYTES: usize = 256;
/// What one peer can have kept that one operator signed for one task: as much as is kept once the task is known.
const PER_SIGNER_MAX: usize = 2;
/// Tasks that can't be taken up any more and are remembered as such, so that they aren't asked for with each inventory: those
/// that a few peers' inventories name.
const GIVEN_UP_MAX: usize = 4096;
/// All senders.
const ANYONE: RangeInclusive<PeerKey> = PeerKey([0; 32])..=PeerKey([u8::MAX; 32]);

/// A message that waits.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) from: PeerKey,
    /// The gossip message that it came in, while its verdict isn't given.
    pub(crate) delivery: Option<u64>,
    pub(crate) message: Gossip,
    task: TaskId,
    at: Timestamp,
    bytes: usize,
}

/// The messages that wait.
#[derive(Debug, Default)]
pub(crate) struct Early {
    /// In the order of their coming.
    held: BTreeMap<u64, Held>,
    by_task: BTreeSet<(Subject, u64)>,
    /// Requests, by the checkpoint that they're pinned to.
    requests: BTreeSet<(Height, u64)>,
    by_peer: BTreeMap<PeerKey, OfPeer>,
    bytes: usize,
    next: u64,
    /// Whether the next sweep's time is set.
    is_swept: bool,
    /// Tasks whose requests came since: what waits for them is to be judged.
    ready: VecDeque<TaskId>,
    given_up: BTreeSet<TaskId>,
    given_up_order: VecDeque<TaskId>,
}

/// What a message is about: the task, who sent it, where, and who signed it (0 for what operators don't sign alone).
type Subject = (TaskId, PeerKey, Topic, OperatorIndex);

#[derive(Debug, Default)]
struct OfPeer {
    held: BTreeSet<u64>,
    bytes: usize,
}

impl Held {
    fn subject(&self) -> Subject {
        (self.task, self.from, topic(&self.message), signer(&self.message))
    }

    /// What it's pinned to, if it's a request.
    fn height(&self) -> Option<Height> {
        match &self.message {
            Gossip::Task(request) => Some(request.request.height),
            _ => None,
        }
    }
}

impl Early {
    /// Keeps a message; returns those that had to go for it.
    fn insert(&mut self, config: &Config, held: Held) -> Vec<Held> {
        let from = held.from;
        self.put_back(self.next, held);
        self.next += 1;
        let mut dropped = Vec::new();
        while self.bytes_of(&from) > config.early_bytes_per_peer_max {
            dropped.extend(self.remove_oldest_of(&from));
        }
        while self.bytes > config.early_bytes_max {
            let most = self.by_peer.iter().max_by_key(|(_, of_peer)| of_peer.bytes);
            let most = *most.expect("bytes are of a peer").0;
            dropped.extend(self.remove_oldest_of(&most));
        }
        dropped
    }

    fn put_back(&mut self, place: u64, held: Held) {
        self.by_task.insert((held.subject(), place));
        self.requests.extend(held.height().map(|height| (height, place)));
        let of_peer = self.by_peer.entry(held.from).or_default();
        of_peer.held.insert(place);
        of_peer.bytes += held.bytes;
        self.bytes += held.bytes;
        self.held.insert(place, held);
    }

    fn bytes_of(&self, peer: &PeerKey) -> usize {
        self.by_peer.get(peer).map_or(0, |of_peer| of_peer.bytes)
    }

    fn remove_oldest_of(&mut self, peer: &PeerKey) -> Option<Held> {
        let place = *self.by_peer.get(peer)?.held.first()?;
        self.remove(place)
    }

    fn remove(&mut self, place: u64) -> Option<Held> {
        let held = self.held.remove(&place)?;
        self.bytes -= held.bytes;
        self.by_task.remove(&(held.subject(), place));
        if let Some(height) = held.height() {
            self.requests.remove(&(height, place));
        }
        if let Some(of_peer) = self.by_peer.get_mut(&held.from) {
            of_peer.held.remove(&place);
            of_peer.bytes -= held.bytes;
            if of_peer.held.is_empty() {
                self.by_peer.remove(&held.from);
            }
        }
        Some(held)
    }

    /// The places of what waits for a task, or is its request, of these senders.
    fn places(
        &self,
        task: TaskId,
        from: RangeInclusive<PeerKey>,
    ) -> impl Iterator<Item = (Topic, u64)> + '_ {
        let first = ((task, *from.start(), Topic::Tasks, OperatorIndex(0)), 0);
        let last = ((task, *from.end(), Topic::ObservationSets, OperatorIndex(u16::MAX)), u64::MAX);
        self.by_task.range(first..=last).map(|((_, _, topic, _), place)| (*topic, *place))
    }

    /// Whether something of this sender waits for a task.
    pub(crate) fn waits(&self, task: TaskId, from: PeerKey) -> bool {
        self.places(task, from..=from).next().is_some()
    }

    /// How much of a subject waits.
    fn count(&self, subject: Subject) -> usize {
        self.by_task.range((subject, 0)..=(subject, u64::MAX)).count()
    }

    /// Takes out what waits for a task: certificates first, which make the rest unnecessary.
    fn take(&mut self, task: &TaskId) -> Vec<Held> {
        let mut places: Vec<(Topic, u64)> = self.places(*task, ANYONE).collect();
        places.sort_by_key(|(topic, place)| (*topic != Topic::Certificates, *place));
        places.into_iter().filter_map(|(_, place)| self.remove(place)).collect()
    }

    /// Takes out the requests that are pinned to `tip` or before.
    fn take_requests(&mut self, tip: Height) -> Vec<Held> {
        let mut taken = Vec::new();
        while self.requests.first().is_some_and(|(height, _)| *height <= tip)
            && let Some((_, place)) = self.requests.pop_first()
        {
            taken.extend(self.remove(place));
        }
        taken
    }

    /// Takes out what's older than [`LIFE`].
    fn take_old(&mut self, now: Timestamp) -> Vec<Held> {
        let mut old = Vec::new();
        while let Some((place, _)) =
            self.held.first_key_value().filter(|(_, held)| held.at + LIFE <= now)
        {
            let place = *place;
            old.extend(self.remove(place));
        }
        old
    }

    /// The deliveries whose verdicts can't wait any longer, with their topics.
    fn overdue(&mut self, now: Timestamp) -> Vec<(u64, Topic)> {
        let old = self.held.values_mut().take_while(|held| held.at + JUDGED_WITHIN <= now);
        old.filter_map(|held| Some((held.delivery.take()?, topic(&held.message)))).collect()
    }

    /// A task's request is here.
    pub(crate) fn set_ready(&mut self, task: TaskId) {
        if self.places(task, ANYONE).next().is_some() {
            self.ready.push_back(task);
        }
    }

    /// A task can't be taken up any more: nothing tells what it's judged by.
    pub(crate) fn give_up(&mut self, task: TaskId) {
        if self.given_up.insert(task) {
            self.given_up_order.push_back(task);
        }
        while self.given_up_order.len() > GIVEN_UP_MAX {
            if let Some(oldest) = self.given_up_order.pop_front() {
                self.given_up.remove(&oldest);
            }
        }
    }

    /// Whether it's of no use to ask for this task.
    pub(crate) fn is_given_up(&self, task: &TaskId) -> bool {
        self.given_up.contains(task)
    }
}

/// The topic that a message belongs to.
pub(crate) const fn topic(message: &Gossip) -> Topic {
    match message {
        Gossip::Task(_) => Topic::Tasks,
        Gossip::Attestation(_) => Topic::Attestations,
        Gossip::Certificate(_) => Topic::Certificates,
        Gossip::Observation(_) => Topic::Observations,
        Gossip::ObservationSet(_) => Topic::ObservationSets,
        Gossip::Operation(..) => Topic::Operations,
        Gossip::Change(_) => Topic::Changes,
        Gossip::Consensus(..) => Topic::Consensus,
    }
}

/// Which operator signed a message; 0 for what isn't one operator's.
const fn signer(message: &Gossip) -> OperatorIndex {
    match message {
        Gossip::Attestation(attestation) => attestation.operator,
        Gossip::Observation(observation) => observation.operator,
        Gossip::ObservationSet(set) => set.proposer,
        Gossip::Task(_)
        | Gossip::Certificate(_)
        | Gossip::Operation(..)
        | Gossip::Change(_)
        | Gossip::Consensus(..) => OperatorIndex(0),
    }
}

impl Node {
    /// The task for which a message has to wait, if it can't be judged yet.
    pub(crate) fn waits_for(&self, message: &Gossip) -> Option<TaskId> {
        let task = match message {
            Gossip::Operation(..) | Gossip::Change(_) | Gossip::Consensus(..) => return None,
            Gossip::Task(request) => {
                let id = request.request.task_id(&self.context.chain);
                let near =
                    request.request.height.0 <= self.tip_height().0.saturating_add(HEIGHTS_KEPT);
                let early = || {
                    let checked = self.check_request(request);
                    matches!(checked, Err(CommandError::Behind { .. }))
                };
                return (near && !self.tasks.contains_key(&id) && early()).then_some(id);
            }
            Gossip::Attestation(attestation) => attestation.task,
            Gossip::Certificate(certificate) => certificate.task,
            Gossip::Observation(observation) => observation.task,
            Gossip::ObservationSet(set) => set.task,
        };
        (!self.tasks.contains_key(&task)).then_some(task)
    }

    /// Keeps a message until it can be judged, and asks its sender for the request that it waits for.
    pub(crate) fn hold(
        &mut self,
        from: PeerKey,
        delivery: Option<u64>,
        task: TaskId,
        message: Gossip,
    ) {
        let topic = topic(&message);
        // One certificate is enough, and a task has one request.
        let once = matches!(topic, Topic::Tasks | Topic::Certificates);
        let most = if once { 1 } else { PER_SIGNER_MAX };
        let count = self.early.count((task, from, topic, signer(&message)));
        if self.early.is_given_up(&task) || count >= most {
            return self.ignore(delivery, topic);
        }
        let is_first = !self.early.waits(task, from);
        let bytes = message.encode().1.len() + OVERHEAD_BYTES;
        let held = Held { from, delivery, message, task, at: self.now, bytes };
        if !std::mem::replace(&mut self.early.is_swept, true) {
            self.set_timer(self.now + SWEEP, Timer::Early);
        }
        for dropped in self.early.insert(&self.config, held) {
            self.metrics.dropped_full += 1;
            self.ignore_held(&dropped);
        }
        // What was asked for is followed up by whoever asked.
        if is_first && topic != Topic::Tasks && delivery.is_some() {
            self.ask_for_task(from, task);
        }
    }

    /// Whether a certificate waits that holds for a task of this set; those that don't are refused.
    pub(crate) fn has_early_certificate(&mut self, task: &TaskId, set: &OperatorSet) -> bool {
        let places = self.early.places(*task, ANYONE);
        let places: Vec<_> = places.filter(|(topic, _)| *topic == Topic::Certificates).collect();
        for (_, place) in places {
            let Some(held) = self.early.remove(place) else { continue };
            if let Gossip::Certificate(certificate) = &held.message
                && certificate.clone().verify(set).is_ok()
            {
                self.early.put_back(place, held);
                return true;
            }
            if let Some(delivery) = held.delivery {
                self.judge(delivery, Topic::Certificates, Verdict::Reject);
            }
            self.charge(held.from, Offence::WrongSignature);
        }
        false
    }

    fn ignore_held(&mut self, held: &Held) {
        self.ignore(held.delivery, topic(&held.message));
    }

    fn ignore(&mut self, delivery: Option<u64>, topic: Topic) {
        if let Some(delivery) = delivery {
            self.judge(delivery, topic, Verdict::Ignore);
        }
    }

    /// Gives the verdicts that can't wait, and forgets what waited in vain.
    pub(crate) fn sweep_early(&mut self) {
        for (delivery, topic) in self.early.overdue(self.now) {
            self.judge(delivery, topic, Verdict::Ignore);
        }
        for old in self.early.take_old(self.now) {
            self.ignore_held(&old);
        }
        self.early.is_swept = !self.early.held.is_empty();
        if self.early.is_swept {
            self.set_timer(self.now + SWEEP, Timer::Early);
        }
    }

    /// A checkpoint came: requests that are pinned to it, or to one before, can be judged.
    pub(crate) fn judge_requests_up_to(&mut self, tip: Height) {
        for held in self.early.take_requests(tip) {
            self.judge_held(held);
        }
    }

    /// Judges what waited for requests that came.
    pub(crate) fn judge_ready(&mut self) {
        while let Some(task) = self.early.ready.pop_front() {
            for held in self.early.take(&task) {
                self.judge_held(held);
            }
        }
    }

    /// Judges a message that waited. A peer that's banned meanwhile costs no more signature checks.
    fn judge_held(&mut self, held: Held) {
        if self.score(&held.from) <= BAN_THRESHOLD {
            return self.ignore_held(&held);
        }
        self.judge_message(held.from, held.delivery, held.message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lamina_certificate::Attestation;
    use lamina_types::{Digest, EpochNumber};
    use proptest::prelude::*;

    const BYTES: usize = 100;

    fn config() -> Config {
        Config {
            early_bytes_per_peer_max: 4 * BYTES,
            early_bytes_max: 10 * BYTES,
            ..Config::default()
        }
    }

    fn held(peer: u8, task: u8, at: u64) -> Held {
        let task = TaskId([task; 32]);
        // One signature for all: nobody checks it here.
        let attestation = Attestation {
            task,
            outcome: Digest([0; 32]),
            epoch: EpochNumber(0),
            operator: OperatorIndex(0),
            signature: lamina_certificate::SecretKey::derive(&[1; 32]).sign(&Digest([0; 32])),
        };
        let message = Gossip::Attestation(attestation);
        let (from, at) = (PeerKey([peer; 32]), Timestamp(at));
        Held { from, delivery: Some(at.0), message, task, at, bytes: BYTES }
    }

    fn assert_consistent(early: &Early) {
        let count = early.held.len();
        let of_peers = || early.by_peer.values();
        assert_eq!(early.bytes, count * BYTES);
        assert_eq!(early.bytes, of_peers().map(|of_peer| of_peer.bytes).sum::<usize>());
        assert_eq!(count, of_peers().map(|of_peer| of_peer.held.len()).sum::<usize>());
        assert_eq!(count, early.by_task.len());
        assert!(of_peers().all(|of_peer| !of_peer.held.is_empty()));
        assert!(early.requests.is_empty());
    }

    #[test]
    fn whoever_sends_most_loses_its_oldest_first() {
        let (mut early, config) = (Early::default(), config());
        for at in 0..4 {
            assert!(early.insert(&config, held(1, 1, at)).is_empty());
        }
        let dropped = early.insert(&config, held(1, 1, 4));
        assert_eq!(dropped.iter().map(|held| held.at.0).collect::<Vec<_>>(), [0]);
        for (peer, at) in [(2, 5), (2, 6), (3, 7), (3, 8), (3, 9), (4, 10)] {
            assert!(early.insert(&config, held(peer, 2, at)).is_empty());
        }
        let dropped = early.insert(&config, held(5, 2, 11));
        assert_eq!(dropped.iter().map(|held| held.at.0).collect::<Vec<_>>(), [1]);
        assert_consistent(&early);
    }

    #[test]
    fn verdicts_are_due_before_messages_are_forgotten() {
        let (mut early, config) = (Early::default(), config());
        early.insert(&config, held(1, 1, 0));
        early.insert(&config, held(2, 2, 1_000_000));
        let at = |seconds: u64| Timestamp(seconds * 1_000_000);
        assert!(early.overdue(Timestamp(4_999_999)).is_empty());
        assert_eq!(early.overdue(at(5)), [(0, Topic::Attestations)]);
        assert_eq!(early.overdue(at(6)), [(1_000_000, Topic::Attestations)]);
        assert!(early.overdue(at(6)).is_empty());
        assert_eq!(early.take_old(at(10)).len(), 1);
        assert_eq!(early.take(&TaskId([2; 32])).len(), 1);
        assert_consistent(&early);
    }

    #[test]
    fn tasks_that_were_given_up_are_remembered_up_to_a_bound() {
        let mut early = Early::default();
        let id = |i: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&(i as u64).to_be_bytes());
            TaskId(bytes)
        };
        (0..=GIVEN_UP_MAX).for_each(|i| early.give_up(id(i)));
        early.give_up(id(GIVEN_UP_MAX));
        assert!(!early.is_given_up(&id(0)) && early.is_given_up(&id(1)));
        assert_eq!(early.given_up.len(), GIVEN_UP_MAX);
        assert_eq!(early.given_up_order.len(), GIVEN_UP_MAX);
    }

    proptest! {
        #[test]
        fn books_agree_whatever_comes(
            steps in prop::collection::vec((0u8..6, 0u8..6, 0u64..3_000_000, 0u8..4), 0..80),
        ) {
            let (mut early, config) = (Early::default(), config());
            let mut now = 0;
            let (mut came, mut gone) = (0, 0);
            for (peer, task, pause, what) in steps {
                now += pause;
                gone += match what {
                    0 => early.take(&TaskId([task; 32])).len(),
                    1 => early.take_old(Timestamp(now)).len(),
                    _ => {
                        came += 1;
                        early.insert(&config, held(peer, task, now)).len()
                    }
                };
                assert_consistent(&early);
                prop_assert!(early.bytes <= config.early_bytes_max);
                prop_assert!(early.by_peer.values().all(|p| p.bytes <= config.early_bytes_per_peer_max));
                prop_assert_eq!(came, gone + early.held.len());
            }
        }
    }
}
