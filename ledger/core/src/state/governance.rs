//! Governance: those who committed for votes to a service decide what changes in it.
//!
//! Whoever has enough weight proposes a change. Until the voting ends each account votes for or against, with what it had
//! committed for votes before the proposal's checkpoint and left there (`commitments.rs`); a later vote replaces its earlier one.
//! At the end the proposal is accepted if enough of the weight voted, and more for than against. It is carried out
//! after a delay, in which those who disagree can see what comes. All of it stays in the state: who proposed what
//! and why, each ballot, the tally, and what became of it.
//!
//! A ballot counts with the weight of the moment when it was cast. That can be taken back or slashed later; it
//! can't be cast again, as what is committed anew is younger than the proposal.

use alloy_primitives::U256;
use borsh::{BorshDeserialize, BorshSerialize};
use lamina_types::{
    Action, Address, Amount, Height, ProposalId, ServiceChange, ServiceId, Text, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::commitments::{self, PPM};
use super::{Directory, Env, Module, Origin, Refusal, Scope, Stop};
use crate::StorageError;

/// Most proposals of a service that are being voted on.
pub const OPEN_MAX: usize = 16;

/// How services are governed, the same for all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// How long is voted, in seconds.
    pub period_s: u64,
    /// Time from the end of the voting to the change, in seconds.
    pub delay_s: u64,
    /// How much of the weight must vote, in millionths.
    pub quorum_ppm: u32,
    /// How much of the weight an account needs to propose, in millionths: or anyone fills the few places.
    pub proposer_ppm: u32,
}

/// Three days over which a weekend doesn't decide, a fifth, a day, and one in a hundred. Guesses.
impl Default for Rules {
    fn default() -> Self {
        Self {
            period_s: 3 * 24 * 3600,
            delay_s: 24 * 3600,
            quorum_ppm: 200_000,
            proposer_ppm: 10_000,
        }
    }
}

/// What is proposed. It's kept apart from the [`Proposal`], which each vote writes anew: a manifest is long.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Motion {
    /// What is to be done.
    pub change: ServiceChange,
    /// Why, in the proposer's words.
    pub reason: Text<4096>,
}

/// A proposal, but for its [`Motion`].
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Proposal {
    /// The service that it's about.
    pub service: ServiceId,
    /// Who made it.
    pub proposer: Address,
    /// The checkpoint in which it was made: what was committed before counts.
    pub height: Height,
    /// When it was made.
    pub opened: Timestamp,
    /// When the voting ends.
    pub ends: Timestamp,
    /// What was committed for votes when it was made.
    pub total: Amount,
    /// The weight of those who are for it.
    pub approve: Amount,
    /// The weight of those who are against it.
    pub reject: Amount,
    /// What became of it.
    pub status: Status,
}

/// What became of a proposal.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Status {
    /// It's being voted on.
    Open,
    /// Too few voted.
    NoQuorum,
    /// No more were for it than against.
    Rejected,
    /// It was accepted, and will be carried out.
    Accepted {
        /// When.
        executes: Timestamp,
    },
    /// It was carried out.
    Executed {
        /// In which checkpoint.
        height: Height,
    },
    /// It was accepted, and couldn't be carried out.
    Failed {
        /// In which checkpoint.
        height: Height,
        /// Why.
        refusal: Refusal,
    },
}

/// How an account voted.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Ballot {
    /// For it, or against.
    pub approve: bool,
    /// With how much.
    pub weight: Amount,
    /// In which checkpoint.
    pub height: Height,
}

/// The module.
#[derive(Debug)]
pub struct Governance {
    directory: Box<dyn Directory>,
    rules: Rules,
}

impl Governance {
    /// Governance of the services that `directory` knows, and which it changes.
    #[must_use]
    pub fn new(directory: Box<dyn Directory>, rules: Rules) -> Self {
        Self { directory, rules }
    }

    fn propose(
        &self,
        scope: &mut Scope<'_>,
        env: &Env<'_>,
        origin: &Origin,
        (service, motion): (ServiceId, &Motion),
    ) -> Result<(), Stop> {
        if self.directory.service_owner(scope, service)?.is_none() {
            return Err(Refusal::unknown("service").into());
        }
        let total = self.check_proposer(scope, env, service, origin.account)?;
        let mut open: Vec<Address> = scope.read(&open_key(service))?.unwrap_or_default();
        if open.contains(&origin.account) {
            return Err(Refusal::invalid("one proposal of an account at a time").into());
        }
        if open.len() >= OPEN_MAX {
            return Err(Refusal::invalid("too many proposals of the service are open").into());
        }
        open.push(origin.account);
        scope.write(open_key(service), &open);
        let proposal = Proposal {
            service,
            proposer: origin.account,
            height: env.height,
            opened: env.time,
            ends: env.time + Duration::from_secs(self.rules.period_s),
            total,
            approve: Amount::ZERO,
            reject: Amount::ZERO,
            status: Status::Open,
        };
        let id = ProposalId(origin.operation.0);
        scope.schedule(proposal.ends, NAME, &id.0);
        scope.write(proposal_key(id), &proposal);
        scope.write(motion_key(id), motion);
        scope.write(service_key(service, env.height, id), &1u8);
        Ok(())
    }

    /// What can vote in all, if the account has enough of it.
    fn check_proposer(
        &self,
        scope: &Scope<'_>,
        env: &Env<'_>,
        service: ServiceId,
        account: Address,
    ) -> Result<Amount, Stop> {
        let total = commitments::voting(scope, service, env.height)?;
        let weight = commitments::voting_weight(scope, service, account, env.height)?;
        if weight.is_zero() || !reaches(weight, total, self.rules.proposer_ppm) {
            let who = "those with enough committed for votes before";
            return Err(Refusal::forbidden(who).into());
        }
        Ok(total)
    }

    fn tally(&self, scope: &mut Scope<'_>, id: ProposalId, proposal: &mut Proposal) -> Stopped {
        let Proposal { approve, reject, total, service, proposer, .. } = *proposal;
        let cast = approve.checked_add(reject).unwrap_or(Amount(u128::MAX));
        proposal.status = if !reaches(cast, total, self.rules.quorum_ppm) {
            Status::NoQuorum
        } else if approve <= reject {
            Status::Rejected
        } else {
            let executes = proposal.ends + Duration::from_secs(self.rules.delay_s);
            scope.schedule(executes, NAME, &id.0);
            Status::Accepted { executes }
        };
        let mut open: Vec<Address> = scope.read(&open_key(service))?.unwrap_or_default();
        open.retain(|account| *account != proposer);
        if open.is_empty() {
            scope.remove(open_key(service));
        } else {
            scope.write(open_key(service), &open);
        }
        Ok(())
    }

    fn execute(
        &self,
        scope: &mut Scope<'_>,
        env: &Env<'_>,
        (id, executes): (ProposalId, Timestamp),
        proposal: &mut Proposal,
    ) -> Stopped {
        let height = env.height;
        let Motion { change, .. } = motion(scope, id)?
            .ok_or_else(|| StorageError(format!("proposal {id} has no motion")))?;
        match self.directory.apply_change(scope, env, proposal.service, &change) {
            Ok(()) => proposal.status = Status::Executed { height },
            Err(Stop::Refused(refusal)) => {
                // Half of the change may be written. With it goes, maybe, that this timer was taken off.
                scope.discard();
                scope.unschedule(executes, NAME, &id.0);
                proposal.status = Status::Failed { height, refusal };
            }
            Err(Stop::Fault(error)) => return Err(error),
        }
        Ok(())
    }
}

type Stopped = Result<(), StorageError>;

impl Module for Governance {
    fn name(&self) -> &'static str {
        NAME
    }

    fn handles(&self, action: &Action) -> bool {
        matches!(action, Action::Propose { .. } | Action::Vote { .. })
    }

    fn apply(
        &self,
        scope: &mut Scope<'_>,
        env: &Env<'_>,
        origin: &Origin,
        action: &Action,
    ) -> Result<(), Stop> {
        match action {
            Action::Propose { service, change, reason } => {
                let motion = Motion { change: *change.clone(), reason: reason.clone() };
                self.propose(scope, env, origin, (*service, &motion))
            }
            Action::Vote { proposal, approve } => {
                vote(scope, env, origin.account, (*proposal, *approve))
            }
            _ => Err(Refusal::invalid("not an action of governance").into()),
        }
    }

    /// The voting on a proposal ends, or it's carried out.
    fn timer(&self, scope: &mut Scope<'_>, env: &Env<'_>, key: &[u8]) -> Result<(), Stop> {
        let id = key.try_into().map(ProposalId);
        let id = id.map_err(|_| StorageError(format!("timer {}", hex::encode(key))))?;
        let mut proposal = get(scope, id)?.ok_or_else(|| Refusal::unknown("proposal"))?;
        match proposal.status {
            Status::Open => self.tally(scope, id, &mut proposal)?,
            Status::Accepted { executes } => {
                self.execute(scope, env, (id, executes), &mut proposal)?;
            }
            _ => return Ok(()),
        }
        scope.write(proposal_key(id), &proposal);
        Ok(())
    }
}

fn vote(
    scope: &mut Scope<'_>,
    env: &Env<'_>,
    account: Address,
    (id, approve): (ProposalId, bool),
) -> Result<(), Stop> {
    let mut proposal = get(scope, id)?.ok_or_else(|| Refusal::unknown("proposal"))?;
    if proposal.status != Status::Open || env.time >= proposal.ends {
        return Err(Refusal::invalid("the voting is over").into());
    }
    let Proposal { service, height, .. } = proposal;
    let weight = commitments::voting_weight(scope, service, account, height)?;
    if weight.is_zero() {
        return Err(Refusal::forbidden("those who committed for votes before").into());
    }
    if let Some(earlier) = ballot(scope, id, account)? {
        let side = proposal.side(earlier.approve);
        *side = side.checked_sub(earlier.weight).ok_or(Refusal::Overflow)?;
    }
    let side = proposal.side(approve);
    *side = side.checked_add(weight).ok_or(Refusal::Overflow)?;
    scope.write(ballot_key(id, account), &Ballot { approve, weight, height: env.height });
    scope.write(proposal_key(id), &proposal);
    Ok(())
}

impl Proposal {
    const fn side(&mut self, approve: bool) -> &mut Amount {
        if approve { &mut self.approve } else { &mut self.reject }
    }
}

/// Whether `part` is at least so many millionths of `whole`.
fn reaches(part: Amount, whole: Amount, ppm: u32) -> bool {
    U256::from(part.0) * U256::from(PPM) >= U256::from(whole.0) * U256::from(ppm)
}

/// A proposal.
///
/// # Errors
/// [`StorageError`].
pub fn get(scope: &Scope<'_>, id: ProposalId) -> Result<Option<Proposal>, StorageError> {
    scope.read(&proposal_key(id))
}

/// What is proposed, and why.
///
/// # Errors
/// [`StorageError`].
pub fn motion(scope: &Scope<'_>, id: ProposalId) -> Result<Option<Motion>, StorageError> {
    scope.read(&motion_key(id))
}

/// How an account voted on a proposal.
///
/// # Errors
/// [`StorageError`].
pub fn ballot(
    scope: &Scope<'_>,
    id: ProposalId,
    account: Address,
) -> Result<Option<Ballot>, StorageError> {
    scope.read(&ballot_key(id, account))
}

/// The ballots on a proposal of accounts after `after`, ascending; at most `limit`.
///
/// # Errors
/// [`StorageError`].
pub fn ballots(
    scope: &Scope<'_>,
    id: ProposalId,
    after: Option<Address>,
    limit: usize,
) -> Result<Vec<(Address, Ballot)>, StorageError> {
    let prefix = [BALLOTS, &id.0].concat();
    let after = after.map(|account| ballot_key(id, account));
    let found = scope.range(&prefix, after.as_deref(), limit)?;
    let read = |(key, value): (Vec<u8>, Vec<u8>)| {
        let account = key[prefix.len()..].try_into().ok().map(Address);
        let ballot = borsh::from_slice(&value).ok();
        let both = account.zip(ballot);
        both.ok_or_else(|| StorageError(format!("key {}", hex::encode(&key))))
    };
    found.into_iter().map(read).collect()
}

/// A service's proposals after the one at `after`, oldest first; at most `limit`.
///
/// # Errors
/// [`StorageError`].
pub fn by_service(
    scope: &Scope<'_>,
    service: ServiceId,
    after: Option<(Height, ProposalId)>,
    limit: usize,
) -> Result<Vec<(Height, ProposalId)>, StorageError> {
    let prefix = [BY_SERVICE, &service.0].concat();
    let after = after.map(|(height, id)| service_key(service, height, id));
    let keys = scope.range(&prefix, after.as_deref(), limit)?.into_iter().map(|(key, _)| key);
    let read = |key: Vec<u8>| {
        let (height, id) = key[prefix.len()..].split_first_chunk::<8>()?;
        Some((Height(u64::from_be_bytes(*height)), ProposalId(id.try_into().ok()?)))
    };
    keys.map(|key| {
        let shown = hex::encode(&key);
        read(key).ok_or_else(|| StorageError(format!("key {shown}")))
    })
    .collect()
}

const NAME: &str = "governance";
const BALLOTS: &[u8] = b"governance/ballots/";
const BY_SERVICE: &[u8] = b"governance/by-service/";

fn proposal_key(id: ProposalId) -> Vec<u8> {
    [b"governance/proposals/".as_slice(), &id.0].concat()
}

fn motion_key(id: ProposalId) -> Vec<u8> {
    [b"governance/motions/".as_slice(), &id.0].concat()
}

fn ballot_key(id: ProposalId, account: Address) -> Vec<u8> {
    [BALLOTS, &id.0, &account.0].concat()
}

/// Ascending with the height.
fn service_key(service: ServiceId, height: Height, id: ProposalId) -> Vec<u8> {
    [BY_SERVICE, &service.0, &height.0.to_be_bytes(), &id.0].concat()
}

fn open_key(service: ServiceId) -> Vec<u8> {
    [b"governance/open/".as_slice(), &service.0].concat()
}
