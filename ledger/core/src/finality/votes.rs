//! The votes of a height that were verified, and the precommits that wait to be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lamina_certificate::{OperatorSet, Signature, bls};
use lamina_types::{HeaderId, OperatorIndex, PeerKey, Timestamp};
use rand_core::CryptoRng;

use super::equivocation::Equivocation;
use super::message::{Step, Vote, VoteSignature};

/// Votes kept per operator, round and step: the one that counts, and another one as evidence. More are dropped unverified.
const KEPT: usize = 2;

/// A vote whose signature holds. Only [`verify`] and [`Verified::trusted`] make one.
#[derive(Debug, Clone)]
pub(super) struct Verified {
    vote: Vote,
    precommit: Option<Signature>,
}

impl Verified {
    /// Takes an own vote, or one from the own log, at its word. `None` if it's no signature at all.
    pub(super) fn trusted(vote: Vote) -> Option<Self> {
        let precommit = match &vote.signature {
            VoteSignature::Prevote(_) => None,
            VoteSignature::Precommit(bytes) => Some(Signature::from_bytes(bytes).ok()?),
        };
        Some(Self { vote, precommit })
    }

    pub(super) const fn vote(&self) -> &Vote {
        &self.vote
    }
}

/// Tells for each vote whether it holds; those that do come back. Precommits for the same thing are verified as one.
pub(super) fn verify(
    set: &OperatorSet,
    votes: Vec<Vote>,
    rng: &mut impl CryptoRng,
) -> Vec<Option<Verified>> {
    let mut verified: Vec<_> = votes.iter().map(|_| None).collect();
    let mut same = BTreeMap::<_, Vec<_>>::new();
    for (i, vote) in votes.into_iter().enumerate() {
        match vote.step() {
            Step::Prevote if vote.verify(set) => {
                verified[i] = Some(Verified { vote, precommit: None });
            }
            Step::Prevote => {}
            Step::Precommit => {
                same.entry((vote.height, vote.round, vote.header)).or_default().push((i, vote));
            }
        }
    }
    for votes in same.into_values() {
        for (i, vote) in verify_precommits(set, votes, rng) {
            verified[i] = Some(vote);
        }
    }
    verified
}

/// Those of `votes`, precommits for one thing, that hold.
fn verify_precommits(
    set: &OperatorSet,
    votes: Vec<(usize, Vote)>,
    rng: &mut impl CryptoRng,
) -> Vec<(usize, Verified)> {
    let Some(message) = votes.first().map(|(_, vote)| vote.digest(set.chain(), set.epoch())) else {
        return Vec::new();
    };
    let (pairs, votes): (Vec<_>, Vec<_>) = votes
        .into_iter()
        .filter_map(|(i, vote)| {
            let key = set.get(vote.operator)?.bls;
            let verified = Verified::trusted(vote)?;
            Some(((key, verified.precommit?), (i, verified)))
        })
        .unzip();
    let holds = bls::verify_batch(&message, &pairs, rng);
    votes.into_iter().zip(holds).filter_map(|(vote, holds)| holds.then_some(vote)).collect()
}

/// The verified votes of a height, [`KEPT`] for each operator, round and step: as many as there are rounds, and the rounds
/// are bounded by whoever admits them.
#[derive(Debug, Default)]
pub(super) struct Votes(BTreeMap<(u32, Step, OperatorIndex), Vec<Verified>>);

/// What became of a vote.
#[derive(Debug)]
pub(super) enum Counted {
    /// It's the operator's first in this round and step.
    First,
    /// It contradicts the first.
    Contradiction(Box<Equivocation>),
    /// It was there, or there are enough.
    Nothing,
}

impl Votes {
    pub(super) fn count(&mut self, verified: Verified) -> Counted {
        let vote = verified.vote();
        let kept = self.0.entry((vote.round, vote.step(), vote.operator)).or_default();
        if kept.len() >= KEPT || kept.iter().any(|kept| kept.vote.header == vote.header) {
            return Counted::Nothing;
        }
        let contradiction =
            kept.first().map(|first| Equivocation::Votes(first.vote.clone(), vote.clone()));
        kept.push(verified);
        contradiction.map_or(Counted::First, |both| Counted::Contradiction(Box::new(both)))
    }

    /// Whether there's nothing to learn from `vote`.
    pub(super) fn is_settled(&self, vote: &Vote) -> bool {
        let kept = self.of(vote.round, vote.step(), vote.operator);
        kept.len() >= KEPT || kept.iter().any(|kept| kept.vote.header == vote.header)
    }

    /// The very same vote, signature included.
    pub(super) fn find(&self, vote: &Vote) -> Option<&Verified> {
        let kept = self.of(vote.round, vote.step(), vote.operator);
        kept.iter().find(|kept| kept.vote == *vote)
    }

    /// What an operator voted in a round and step.
    pub(super) fn of(&self, round: u32, step: Step, operator: OperatorIndex) -> &[Verified] {
        self.0.get(&(round, step, operator)).map_or(&[], Vec::as_slice)
    }

    /// Who precommitted `header` in `round`, ascending.
    pub(super) fn precommits(
        &self,
        round: u32,
        header: Option<HeaderId>,
    ) -> impl Iterator<Item = (OperatorIndex, &Signature)> {
        let from = (round, Step::Precommit, OperatorIndex(0));
        let to = (round, Step::Precommit, OperatorIndex(u16::MAX));
        self.0.range(from..=to).filter_map(move |((_, _, operator), kept)| {
            let kept = kept.iter().find(|kept| kept.vote.header == header)?;
            kept.precommit.as_ref().map(|signature| (*operator, signature))
        })
    }
}

/// Precommits that aren't verified yet, grouped by what they're for.
#[derive(Debug, Default)]
pub(super) struct Batches(BTreeMap<(u32, Option<HeaderId>), Batch>);

#[derive(Debug)]
struct Batch {
    due: Timestamp,
    votes: Vec<(PeerKey, Vote)>,
}

impl Batches {
    /// Keeps a vote until its batch is taken, at `wait` after the first of it at the latest. Of two with the same signature
    /// one is kept; of several with different ones, all: any of them may be the right one.
    pub(super) fn push(&mut self, now: Timestamp, wait: Duration, from: PeerKey, vote: Vote) {
        let batch = self
            .0
            .entry((vote.round, vote.header))
            .or_insert_with(|| Batch { due: now + wait, votes: Vec::new() });
        if !batch.votes.iter().any(|(_, known)| *known == vote) {
            batch.votes.push((from, vote));
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.0.values().map(|batch| batch.votes.len()).sum()
    }

    /// Whose precommits for `header` in `round` wait.
    pub(super) fn voters(&self, round: u32, header: Option<HeaderId>) -> BTreeSet<OperatorIndex> {
        let votes = self.0.get(&(round, header)).map_or(&[][..], |batch| &batch.votes);
        votes.iter().map(|(_, vote)| vote.operator).collect()
    }

    pub(super) fn take(&mut self, round: u32, header: Option<HeaderId>) -> Vec<(PeerKey, Vote)> {
        self.0.remove(&(round, header)).map_or_else(Vec::new, |batch| batch.votes)
    }

    pub(super) fn take_due(&mut self, now: Timestamp) -> Vec<(PeerKey, Vote)> {
        self.take_where(|batch| batch.due <= now)
    }

    pub(super) fn take_all(&mut self) -> Vec<(PeerKey, Vote)> {
        self.take_where(|_| true)
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.0.values().map(|batch| batch.due).min()
    }

    fn take_where(&mut self, wanted: impl Fn(&Batch) -> bool) -> Vec<(PeerKey, Vote)> {
        let taken = self.0.extract_if(.., |_, batch| wanted(batch));
        taken.flat_map(|(_, batch)| batch.votes).collect()
    }
}
