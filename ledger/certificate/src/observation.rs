//! What operators observe for an oracle's task, and the set of observations that its result is reduced from.
//!
//! An operator signs its [`Observation`]. Which of them count is fixed by an [`ObservationSet`]: members with the digests of
//! what they observed, more than two thirds of the stake together. The set's root is part of the outcome that is certified;
//! who proposed it isn't, so a set keeps its root when the ledger's cuts come to fix it in a proposer's place.

use borsh::{BorshDeserialize, BorshSerialize};
use lamina_types::{
    Canonical, ChainId, Digest, EpochNumber, List, OBSERVATION_BYTES_MAX, ObservationValue,
    OperatorIndex, TaskId, signing,
};

use crate::OperatorSet;
use crate::bls::{SecretKey, Signature};

/// Most members of a set: a set of so many fits into one gossip message of 64 KiB.
pub const MEMBERS_MAX: usize = 1900;

/// What one operator observed.
///
/// Bytes: epoch (8), task (32), operator (2), value (count, 4, and bytes), signature (96); integers little-endian.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Observation {
    /// The operator set that the operator belongs to.
    pub epoch: EpochNumber,
    /// The task.
    pub task: TaskId,
    /// Who observed.
    pub operator: OperatorIndex,
    /// What the component's `observe` returned there.
    pub value: ObservationValue,
    /// On [`signing::observation`].
    pub signature: Signature,
}

impl Observation {
    /// Signs what was observed.
    #[must_use]
    pub fn sign(
        set: &OperatorSet,
        operator: OperatorIndex,
        key: &SecretKey,
        task: TaskId,
        value: ObservationValue,
    ) -> Self {
        let digest = Digest::of(value.as_slice());
        let signature = key.sign(&signing::observation(set.chain(), set.epoch(), &task, &digest));
        Self { epoch: set.epoch(), task, operator, value, signature }
    }

    /// Digest of the value: what the operator signs, and what sets name.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.value.as_slice())
    }

    /// Checks that the operator belongs to `set` and signed. Takes about 0.9 ms.
    #[must_use]
    pub fn verify(self, set: &OperatorSet) -> Option<VerifiedObservation> {
        let operator = set.get(self.operator).filter(|_| self.epoch == set.epoch())?;
        let digest = self.digest();
        let message = signing::observation(set.chain(), set.epoch(), &self.task, &digest);
        let holds = operator.bls.verifies(&message, &self.signature);
        holds.then_some(VerifiedObservation { observation: self, digest })
    }
}

impl Canonical for Observation {
    const BYTES_MAX: usize = 8 + 32 + 2 + 4 + OBSERVATION_BYTES_MAX + 96;
}

/// An observation whose signature holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedObservation {
    observation: Observation,
    digest: Digest,
}

impl VerifiedObservation {
    /// What was observed.
    #[must_use]
    pub const fn get(&self) -> &Observation {
        &self.observation
    }

    /// Digest of the value.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }
}

/// An operator whose observation counts.
///
/// Bytes: operator (2), value digest (32).
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Member {
    /// Who observed.
    pub operator: OperatorIndex,
    /// Digest of what it observed.
    pub value: Digest,
}

/// The members of a set, ascending by operator.
pub type Members = List<Member, MEMBERS_MAX>;

/// The observations that one operator proposes to reduce.
///
/// Bytes: epoch (8), task (32), proposer (2), members (count, 4, and 34 each), signature (96); integers little-endian.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ObservationSet {
    /// The operator set that proposer and members belong to.
    pub epoch: EpochNumber,
    /// The task.
    pub task: TaskId,
    /// Who proposes.
    pub proposer: OperatorIndex,
    /// Whose observations count.
    pub members: Members,
    /// The proposer's, on [`signing::proposal`] of the root.
    pub signature: Signature,
}

impl ObservationSet {
    /// Signs a proposal.
    #[must_use]
    pub fn sign(
        set: &OperatorSet,
        proposer: OperatorIndex,
        key: &SecretKey,
        task: TaskId,
        members: Members,
    ) -> Self {
        let root = Self::root_of(set, &task, &members);
        let signature = key.sign(&signing::proposal(set.chain(), set.epoch(), &task, &root));
        Self { epoch: set.epoch(), task, proposer, members, signature }
    }

    /// The root of the members: what the outcome names.
    #[must_use]
    pub fn root(&self, chain: &ChainId) -> Digest {
        root(chain, self.epoch, &self.task, &self.members)
    }

    /// The root of members that nobody has proposed yet.
    #[must_use]
    pub fn root_of(set: &OperatorSet, task: &TaskId, members: &Members) -> Digest {
        root(set.chain(), set.epoch(), task, members)
    }

    /// Checks the members against `set`, and the proposer's signature. Takes about 0.9 ms.
    ///
    /// # Errors
    /// [`Error`] names what doesn't hold.
    pub fn verify(self, set: &OperatorSet) -> Result<VerifiedObservationSet, Error> {
        if self.epoch != set.epoch() {
            return Err(Error::WrongEpoch { proposal: self.epoch, set: set.epoch() });
        }
        let proposer =
            set.get(self.proposer).ok_or(Error::UnknownOperator { operator: self.proposer })?;
        check_members(self.members.as_slice(), set)?;
        let root = self.root(set.chain());
        let message = signing::proposal(set.chain(), set.epoch(), &self.task, &root);
        if !proposer.bls.verifies(&message, &self.signature) {
            return Err(Error::Signature);
        }
        Ok(VerifiedObservationSet { set: self, root })
    }
}

impl Canonical for ObservationSet {
    const BYTES_MAX: usize = 8 + 32 + 2 + 4 + MEMBERS_MAX * 34 + 96;
}

fn root(chain: &ChainId, epoch: EpochNumber, task: &TaskId, members: &Members) -> Digest {
    let members: Vec<_> = members.as_slice().iter().map(|m| (m.operator, m.value)).collect();
    signing::observation_set(chain, epoch, task, &members)
}

/// A quorum of operators of `set`, each once, in ascending order.
fn check_members(members: &[Member], set: &OperatorSet) -> Result<(), Error> {
    let mut stake_gwei = 0;
    let mut before = None;
    for Member { operator, .. } in members {
        if before >= Some(*operator) {
            return Err(Error::NotAscending { operator: *operator });
        }
        before = Some(*operator);
        let known = set.get(*operator).ok_or(Error::UnknownOperator { operator: *operator })?;
        stake_gwei += known.stake_gwei;
    }
    if !set.is_quorum(stake_gwei) {
        return Err(Error::NoQuorum { stake_gwei, of_gwei: set.stake_gwei() });
    }
    Ok(())
}

/// A set whose members are a quorum, as its proposer signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedObservationSet {
    set: ObservationSet,
    root: Digest,
}

impl VerifiedObservationSet {
    /// What was proposed.
    #[must_use]
    pub const fn get(&self) -> &ObservationSet {
        &self.set
    }

    /// The root of its members.
    #[must_use]
    pub const fn root(&self) -> Digest {
        self.root
    }

    /// What this operator must have observed to be the set's member; `None` if it isn't one.
    #[must_use]
    pub fn value_of(&self, operator: OperatorIndex) -> Option<Digest> {
        let members = self.set.members.as_slice();
        let place = members.binary_search_by_key(&operator, |member| member.operator).ok()?;
        Some(members[place].value)
    }
}

/// Why a set doesn't hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Of another epoch than the operator set.
    #[error("observations of epoch {proposal}, operator set of epoch {set}")]
    WrongEpoch {
        /// The proposal's.
        proposal: EpochNumber,
        /// The operator set's.
        set: EpochNumber,
    },
    /// The proposer or a member isn't in the operator set.
    #[error("operator {operator} isn't in the operator set")]
    UnknownOperator {
        /// Who.
        operator: OperatorIndex,
    },
    /// A member that's there twice, or in the wrong place.
    #[error("operator {operator} comes after one that isn't below it")]
    NotAscending {
        /// Who.
        operator: OperatorIndex,
    },
    /// The members have too little stake.
    #[error("observed by {stake_gwei} gwei of stake, more than two thirds of {of_gwei} are needed")]
    NoQuorum {
        /// What the members have.
        stake_gwei: u64,
        /// What the operator set has.
        of_gwei: u64,
    },
    /// Not signed by the proposer.
    #[error("the proposer's signature doesn't hold")]
    Signature,
}
