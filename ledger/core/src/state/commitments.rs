//! Commitments: assets that accounts and vaults pledge to a service and an operator, for rewards, votes or credit.
//!
//! What is committed to one operator for one service in one asset stands together in a pool (`pool.rs` tells how), so that
//! slashing takes pro rata of all of it, with one write. A commitment is bound until its holder takes it back; then it unbonds
//! for the time that was agreed at the beginning, can be slashed all along, and no longer earns or votes.
//!
//! Rewards and votes are in proportion to what is committed, and amounts of two assets can't be compared: so these are for
//! one asset only, [`Rules::asset`]. Other assets can be committed for credit.
//!
//! A vote counts what was committed before the proposal and stayed since. A commitment for votes therefore
//! remembers when its parts were added, and the newest part is taken back first. What moves to another account begins anew there,
//! so nothing votes twice.
//!
//! Assumes that operations were checked ([`lamina_types::Operation::check`]): amounts aren't zero, times are in their bounds.

mod pool;

use borsh::{BorshDeserialize, BorshSerialize};
use lamina_types::{
    Action, Address, Amount, Asset, CommitmentId, Height, Purpose, ServiceId, Timestamp, VaultId,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

pub(super) use pool::{Hop, Path, Pool, part};
pub use pool::{KEPT_WHOLE, Moment, PPM, Place};

use super::bank::{self, Holder};
use super::{Directory, Env, Module, Origin, Refusal, Scope, Stop, rewards, vaults};
use crate::StorageError;

/// Most parts of a commitment that unbond at a time.
pub const UNBONDING_MAX: usize = 16;
/// Most parts of a commitment for votes that are told apart by when they were added.
pub const PARTS_MAX: usize = 8;
/// Most commitments for votes that one account has in a service: they are added up when it votes.
pub const VOTING_COMMITMENTS_MAX: usize = 16;
/// Most assets that are committed to one operator for one service: a slash takes from each. [`Rules::asset`] always fits.
pub const ASSETS_MAX: usize = 16;

/// What holds for all commitments of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// The asset that earns rewards and votes.
    pub asset: Asset,
}

impl Default for Rules {
    fn default() -> Self {
        Self { asset: Asset::Ether }
    }
}

/// Who gets a commitment back.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Owner {
    /// An account.
    Account {
        /// Which one.
        account: Address,
    },
    /// A vault, whose manager acts for it.
    Vault {
        /// Which one.
        vault: VaultId,
        /// Its manager.
        manager: Address,
    },
}

impl Owner {
    /// Whose balance it is.
    #[must_use]
    pub const fn holder(&self) -> Holder {
        match self {
            Self::Account { account } => Holder::Account { account: *account },
            Self::Vault { vault, .. } => Holder::Vault { vault: *vault },
        }
    }

    /// The account that decides: takes back, and votes.
    #[must_use]
    pub const fn controller(&self) -> Address {
        match self {
            Self::Account { account: it } | Self::Vault { manager: it, .. } => *it,
        }
    }

    /// What is due to a vault anybody may hand to it: those who filled it don't depend on its manager for that.
    fn may_collect(&self, account: Address) -> bool {
        matches!(self, Self::Vault { .. }) || self.controller() == account
    }
}

/// A pledge, as it's kept. Its amounts are as of a moment before later slashes: [`view`] tells what they are now.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Commitment {
    /// Who gets it back.
    pub owner: Owner,
    /// To which service and operator, and of what.
    pub place: Place,
    /// What for.
    pub purpose: Purpose,
    /// How long it stays bound after it's taken back, in seconds.
    pub unbonding_s: u64,
    /// When it was made.
    pub since: Timestamp,
    /// The slashes that [`Self::parts`] have seen.
    pub moment: Moment,
    /// What is bound, oldest first.
    pub parts: Vec<Part>,
    /// What was taken back and isn't paid out, oldest first.
    pub unbonding: Vec<Unbonding>,
}

impl Commitment {
    /// What is bound, before slashes since [`Self::moment`].
    pub(super) fn stated(&self) -> Amount {
        Amount(self.parts.iter().map(|part| part.amount.0).sum())
    }
}

/// What was added to a commitment at once.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Part {
    /// How much.
    pub amount: Amount,
    /// In which checkpoint.
    pub height: Height,
}

/// What was taken back at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Unbonding {
    /// How much, before slashes since [`Self::moment`].
    pub amount: Amount,
    /// The slashes that it has seen.
    pub moment: Moment,
    /// When it can be paid out.
    pub ends: Timestamp,
}

/// A commitment as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitmentView {
    /// Its identifier.
    pub id: CommitmentId,
    /// Who gets it back.
    pub owner: Owner,
    /// To which service and operator, and of what.
    #[serde(flatten)]
    pub place: Place,
    /// What for.
    pub purpose: Purpose,
    /// When it was made.
    pub since: Timestamp,
    /// How long it stays bound after it's taken back, in seconds.
    pub unbonding_s: u64,
    /// What is bound.
    pub bound: Amount,
    /// What unbonds, oldest first.
    pub unbonding: Vec<UnbondingView>,
    /// What has accrued to it and wasn't claimed.
    pub rewards: Vec<rewards::Reward>,
}

/// What unbonds, as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnbondingView {
    /// How much.
    pub amount: Amount,
    /// When it can be paid out.
    pub ends: Timestamp,
}

/// What is committed to an operator for a service in one asset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weight {
    /// Of what.
    pub asset: Asset,
    /// What is bound; at least the sum of the commitments, and more by dust.
    pub bound: Amount,
    /// What can be slashed: what is bound, and what unbonds.
    pub slashable: Amount,
}

/// The module.
#[derive(Debug)]
pub struct Commitments {
    directory: Box<dyn Directory>,
    rules: Rules,
}

impl Commitments {
    /// Commitments to the services that `directory` knows.
    #[must_use]
    pub fn new(directory: Box<dyn Directory>, rules: Rules) -> Self {
        Self { directory, rules }
    }

    fn commit(
        &self,
        scope: &mut Scope<'_>,
        env: &Env<'_>,
        origin: &Origin,
        (commitment, amount): (Commitment, Amount),
    ) -> Result<(), Stop> {
        let id = CommitmentId(origin.operation.0);
        if get(scope, id)?.is_some() {
            return Err(Refusal::exists("commitment").into());
        }
        self.check_service(scope, &commitment.place)?;
        self.check_room(scope, &commitment)?;
        index(scope, id, &commitment, true);
        let mut change = Change::open(scope, env, id, commitment)?;
        change.add(scope, env, amount)?;
        change.close(scope, env)
    }

    fn check_service(&self, scope: &Scope<'_>, place: &Place) -> Result<(), Stop> {
        if self.directory.service_owner(scope, place.service)?.is_none() {
            return Err(Refusal::unknown("service").into());
        }
        if !self.directory.serves(scope, place.service, place.operator)? {
            return Err(Refusal::invalid("the operator doesn't serve the service").into());
        }
        Ok(())
    }

    fn check_room(&self, scope: &Scope<'_>, commitment: &Commitment) -> Result<(), Stop> {
        let place = &commitment.place;
        if commitment.purpose != Purpose::Credit && place.asset != self.rules.asset {
            let reason = format!("rewards and votes are for commitments of {}", self.rules.asset);
            return Err(Refusal::invalid(&reason).into());
        }
        let assets = assets(scope, place.service, place.operator)?;
        let others = assets.iter().filter(|asset| **asset != self.rules.asset).count();
        let new = place.asset != self.rules.asset && !assets.contains(&place.asset);
        if new && others >= ASSETS_MAX - 1 {
            return Err(Refusal::invalid("too many assets are committed to the operator").into());
        }
        let controller = commitment.owner.controller();
        if commitment.purpose == Purpose::Votes
            && voting_ids(scope, place.service, controller)?.len() >= VOTING_COMMITMENTS_MAX
        {
            return Err(Refusal::invalid("too many commitments for votes; increase one").into());
        }
        Ok(())
    }

    fn increase(
        &self,
        scope: &mut Scope<'_>,
        env: &Env<'_>,
        origin: &Origin,
        (id, amount): (CommitmentId, Amount),
    ) -> Result<(), Stop> {
        let commitment = controlled(scope, origin, id)?;
        self.check_service(scope, &commitment.place)?;
        let mut change = Change::open(scope, env, id, commitment)?;
        change.add(scope, env, amount)?;
        change.close(scope, env)
    }
}

impl Module for Commitments {
    fn name(&self) -> &'static str {
        "commitments"
    }

    fn handles(&self, action: &Action) -> bool {
        matches!(
            action,
            Action::Commit { .. }
                | Action::Increase { .. }
                | Action::Uncommit { .. }
                | Action::Release { .. }
        )
    }

    fn apply(
        &self,
        scope: &mut Scope<'_>,
        env: &Env<'_>,
        origin: &Origin,
        action: &Action,
    ) -> Result<(), Stop> {
        match action {
            Action::Commit { vault, service, operator, asset, amount, unbonding_s, purpose } => {
                let place = Place { service: *service, operator: *operator, asset: *asset };
                let commitment = Commitment {
                    owner: owner(scope, origin.account, *vault, *asset)?,
                    place,
                    purpose: *purpose,
                    unbonding_s: *unbonding_s,
                    since: env.time,
                    moment: Pool::read(scope, &place)?.now,
                    parts: Vec::new(),
                    unbonding: Vec::new(),
                };
                self.commit(scope, env, origin, (commitment, *amount))
            }
            Action::Increase { commitment, amount } => {
                self.increase(scope, env, origin, (*commitment, *amount))
            }
            Action::Uncommit { commitment, amount } => {
                uncommit(scope, env, origin, (*commitment, *amount))
            }
            Action::Release { commitment } => release(scope, env, origin, *commitment),
            _ => Err(Refusal::invalid("not an action of commitments").into()),
        }
    }
}

fn owner(
    scope: &Scope<'_>,
    account: Address,
    vault: Option<VaultId>,
    asset: Asset,
) -> Result<Owner, Stop> {
    let Some(id) = vault else { return Ok(Owner::Account { account }) };
    let vault = vaults::get(scope, id)?.ok_or_else(|| Refusal::unknown("vault"))?;
    if vault.manager != account {
        return Err(Refusal::forbidden("the vault's manager").into());
    }
    if vault.asset != asset {
        return Err(Refusal::invalid("the vault holds another asset").into());
    }
    Ok(Owner::Vault { vault: id, manager: account })
}

fn uncommit(
    scope: &mut Scope<'_>,
    env: &Env<'_>,
    origin: &Origin,
    (id, amount): (CommitmentId, Amount),
) -> Result<(), Stop> {
    let commitment = controlled(scope, origin, id)?;
    if commitment.unbonding.len() >= UNBONDING_MAX {
        return Err(Refusal::invalid("too much unbonds already; release it first").into());
    }
    let mut change = Change::open(scope, env, id, commitment)?;
    change.take_back(env, amount)?;
    change.close(scope, env)
}

fn release(
    scope: &mut Scope<'_>,
    env: &Env<'_>,
    origin: &Origin,
    id: CommitmentId,
) -> Result<(), Stop> {
    let mut commitment = get(scope, id)?.ok_or_else(|| Refusal::unknown("commitment"))?;
    if !commitment.owner.may_collect(origin.account) {
        return Err(Refusal::forbidden("the commitment's owner").into());
    }
    let pool = Pool::read(scope, &commitment.place)?;
    let mut due = Amount::ZERO;
    let (ended, left): (Vec<_>, Vec<_>) = commitment
        .unbonding
        .iter()
        .copied()
        .partition(|unbonding: &Unbonding| unbonding.ends <= env.time);
    for unbonding in &ended {
        let path = Path::new(scope, &commitment.place, &pool, unbonding.moment)?;
        due = due.checked_add(path.carry(unbonding.amount)).ok_or(Refusal::Overflow)?;
    }
    commitment.unbonding = left;
    let place = commitment.place;
    bank::transfer(scope, &place.holder(), &commitment.owner.holder(), place.asset, due)?;
    scope.write(record_key(id), &commitment);
    if matches!(commitment.owner, Owner::Vault { .. }) {
        // The vault may count it for the last time.
        rewards::collect(scope, env, id, place.asset)?;
    } else {
        touch(scope, env, id)?;
    }
    let closed = close_if_empty(scope, id)?;
    if ended.is_empty() && !closed {
        return Err(Refusal::invalid("nothing has unbonded yet").into());
    }
    Ok(())
}

fn controlled(scope: &Scope<'_>, origin: &Origin, id: CommitmentId) -> Result<Commitment, Stop> {
    let commitment = get(scope, id)?.ok_or_else(|| Refusal::unknown("commitment"))?;
    if commitment.owner.controller() != origin.account {
        return Err(Refusal::forbidden("the commitment's owner").into());
    }
    Ok(commitment)
}

/// A commitment whose bound amount changes: out of its pool's totals, with its rewards settled up to now.
struct Change {
    id: CommitmentId,
    commitment: Commitment,
    pool: Pool,
    before: Pool,
}

impl Change {
    fn open(
        scope: &mut Scope<'_>,
        env: &Env<'_>,
        id: CommitmentId,
        mut commitment: Commitment,
    ) -> Result<Self, Stop> {
        let before = Pool::read(scope, &commitment.place)?;
        let path = Path::new(scope, &commitment.place, &before, commitment.moment)?;
        rewards::settle(scope, env, id, &commitment, &before)?;
        let counted = !commitment.parts.is_empty();
        for part in &mut commitment.parts {
            part.amount = path.carry(part.amount);
        }
        commitment.parts.retain(|part| !part.amount.is_zero());
        commitment.moment = before.now;
        let mut pool = before;
        if counted {
            pool.leave(commitment.purpose, commitment.stated());
        }
        Ok(Self { id, commitment, pool, before })
    }

    fn add(&mut self, scope: &mut Scope<'_>, env: &Env<'_>, amount: Amount) -> Result<(), Stop> {
        let Commitment { owner, place, purpose, .. } = self.commitment;
        bank::transfer(scope, &owner.holder(), &place.holder(), place.asset, amount)?;
        if let Owner::Vault { vault, .. } = owner {
            vaults::add_commitment(scope, vault, self.id)?;
        }
        let parts = &mut self.commitment.parts;
        parts.push(Part { amount, height: env.height });
        let parts_max = if purpose == Purpose::Votes { PARTS_MAX } else { 1 };
        while parts.len() > parts_max {
            // Both count as of the later one: that never favours the voter.
            let oldest = parts.remove(0);
            let sum = parts[0].amount.checked_add(oldest.amount).ok_or(Refusal::Overflow)?;
            parts[0].amount = sum;
        }
        Ok(())
    }

    fn take_back(&mut self, env: &Env<'_>, amount: Amount) -> Result<(), Stop> {
        let available = self.commitment.stated();
        let asset = self.commitment.place.asset;
        let left = available.checked_sub(amount).ok_or(Refusal::Insufficient {
            asset,
            available,
            needed: amount,
        })?;
        let mut rest = left;
        // Newest first: what stays is kept from the front.
        for part in &mut self.commitment.parts {
            part.amount = part.amount.min(rest);
            rest = Amount(rest.0 - part.amount.0);
        }
        self.commitment.parts.retain(|part| !part.amount.is_zero());
        let ends = env.time + Duration::from_secs(self.commitment.unbonding_s);
        self.commitment.unbonding.push(Unbonding { amount, moment: self.pool.now, ends });
        Ok(())
    }

    fn close(mut self, scope: &mut Scope<'_>, env: &Env<'_>) -> Result<(), Stop> {
        let Commitment { place, purpose, .. } = self.commitment;
        if !self.commitment.parts.is_empty() {
            self.pool.join(purpose, self.commitment.stated());
        }
        self.pool.write(scope, &place);
        update_totals(scope, env, place.service, (&self.before, &self.pool))?;
        scope.write(record_key(self.id), &self.commitment);
        Ok(())
    }
}

/// States a commitment anew, as of now, and settles its rewards.
pub(super) fn touch(scope: &mut Scope<'_>, env: &Env<'_>, id: CommitmentId) -> Result<(), Stop> {
    let commitment = get(scope, id)?.ok_or_else(|| Refusal::unknown("commitment"))?;
    Change::open(scope, env, id, commitment)?.close(scope, env)
}

/// Forgets a commitment of which nothing is left, and to which nothing is owed. Whether it did. A vault doesn't count it any
/// more, even if something is owed in another asset.
pub(super) fn close_if_empty(scope: &mut Scope<'_>, id: CommitmentId) -> Result<bool, Stop> {
    let Some(commitment) = get(scope, id)? else { return Ok(false) };
    if !commitment.parts.is_empty() || !commitment.unbonding.is_empty() {
        return Ok(false);
    }
    if let Owner::Vault { vault, .. } = commitment.owner {
        vaults::remove_commitment(scope, vault, id)?;
    }
    if !rewards::forget(scope, id)? {
        return Ok(false);
    }
    index(scope, id, &commitment, false);
    scope.remove(record_key(id));
    Ok(true)
}

/// Takes `ppm` millionths of all that is committed to an operator for a service, unbonding included, for those whom the
/// service harmed. Gives what was taken of each asset, rounded down.
///
/// # Errors
/// [`Stop::Fault`]; no refusal.
pub fn slash(
    scope: &mut Scope<'_>,
    env: &Env<'_>,
    service: ServiceId,
    operator: Address,
    ppm: u32,
) -> Result<Vec<(Asset, Amount)>, Stop> {
    let mut taken = Vec::new();
    for asset in assets(scope, service, operator)? {
        let place = Place { service, operator, asset };
        let before = Pool::read(scope, &place)?;
        let sums = rewards::before_slash(scope, env, &place, &before)?;
        let mut pool = before;
        if pool.slash(scope, &place, ppm) {
            rewards::next_generation(scope, &place, &pool, sums);
        }
        pool.write(scope, &place);
        update_totals(scope, env, service, (&before, &pool))?;
        let amount = part(bank::balance(scope, &place.holder(), asset)?, ppm);
        bank::transfer(scope, &place.holder(), &Holder::Harmed { service }, asset, amount)?;
        taken.push((asset, amount));
    }
    Ok(taken)
}

/// What is committed in all to a service for rewards and for votes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct Totals {
    backing: Amount,
    voting: Amount,
    /// [`Self::voting`] before the checkpoint that changed it last.
    voting_before: Amount,
    /// That checkpoint.
    changed: Height,
}

fn update_totals(
    scope: &mut Scope<'_>,
    env: &Env<'_>,
    service: ServiceId,
    (before, after): (&Pool, &Pool),
) -> Result<(), StorageError> {
    let mut totals: Totals = scope.read(&totals_key(service))?.unwrap_or_default();
    if totals.changed != env.height {
        totals.changed = env.height;
        totals.voting_before = totals.voting;
    }
    // Totals are sums of pools' totals, so none of these saturates.
    let replace = |total: Amount, before: Amount, after: Amount| {
        Amount(total.0.saturating_sub(before.0).saturating_add(after.0))
    };
    totals.backing = replace(totals.backing, before.backing.amount, after.backing.amount);
    totals.voting = replace(totals.voting, before.voting.amount, after.voting.amount);
    scope.write(totals_key(service), &totals);
    Ok(())
}

/// What is committed to a service for rewards, over all operators.
///
/// # Errors
/// [`StorageError`].
pub fn backing(scope: &Scope<'_>, service: ServiceId) -> Result<Amount, StorageError> {
    Ok(scope.read::<Totals>(&totals_key(service))?.unwrap_or_default().backing)
}

/// What is committed to a service for votes, and was before the checkpoint of `height`, which is the present one.
///
/// # Errors
/// [`StorageError`].
pub fn voting(
    scope: &Scope<'_>,
    service: ServiceId,
    height: Height,
) -> Result<Amount, StorageError> {
    let totals: Totals = scope.read(&totals_key(service))?.unwrap_or_default();
    let changed_now = totals.changed == height;
    Ok(if changed_now { totals.voting.min(totals.voting_before) } else { totals.voting })
}

/// What an account has committed to a service for votes before the checkpoint of `height`, and has left there since. What
/// the vaults have that it manages counts as well.
///
/// # Errors
/// [`StorageError`].
pub fn voting_weight(
    scope: &Scope<'_>,
    service: ServiceId,
    account: Address,
    height: Height,
) -> Result<Amount, StorageError> {
    let mut weight = 0u128;
    for id in voting_ids(scope, service, account)? {
        let Some(commitment) = get(scope, id)? else { continue };
        let pool = Pool::read(scope, &commitment.place)?;
        let path = Path::new(scope, &commitment.place, &pool, commitment.moment)?;
        let before = commitment.parts.iter().filter(|part| part.height < height);
        // All are parts of one asset's supply.
        weight = before.fold(weight, |sum, part| sum.saturating_add(path.carry(part.amount).0));
    }
    Ok(Amount(weight))
}

/// What is committed to an operator for a service, by asset.
///
/// # Errors
/// [`StorageError`].
pub fn weight(
    scope: &Scope<'_>,
    service: ServiceId,
    operator: Address,
) -> Result<Vec<Weight>, StorageError> {
    let weight = |asset| {
        let place = Place { service, operator, asset };
        let bound = Pool::read(scope, &place)?.bound.amount;
        Ok(Weight { asset, bound, slashable: bank::balance(scope, &place.holder(), asset)? })
    };
    assets(scope, service, operator)?.into_iter().map(weight).collect()
}

/// The assets that are, or were, committed to an operator for a service; at most [`ASSETS_MAX`].
fn assets(
    scope: &Scope<'_>,
    service: ServiceId,
    operator: Address,
) -> Result<Vec<Asset>, StorageError> {
    let prefix = pool::pools_prefix(service, operator);
    let keys = scope.range(&prefix, None, ASSETS_MAX)?.into_iter().map(|(key, _)| key);
    keys.map(|key| {
        borsh::from_slice(&key[prefix.len()..])
            .map_err(|e| StorageError(format!("key {}: {e}", hex::encode(&key))))
    })
    .collect()
}

/// A commitment as it's kept.
///
/// # Errors
/// [`StorageError`].
pub fn get(scope: &Scope<'_>, id: CommitmentId) -> Result<Option<Commitment>, StorageError> {
    scope.read(&record_key(id))
}

/// A commitment as it is at `now`, which isn't before the state's own time.
///
/// # Errors
/// [`StorageError`].
pub fn view(
    scope: &Scope<'_>,
    id: CommitmentId,
    now: Timestamp,
) -> Result<Option<CommitmentView>, StorageError> {
    let Some(commitment) = get(scope, id)? else { return Ok(None) };
    let pool = Pool::read(scope, &commitment.place)?;
    let path = Path::new(scope, &commitment.place, &pool, commitment.moment)?;
    let unbonding = |it: &Unbonding| {
        let path = Path::new(scope, &commitment.place, &pool, it.moment)?;
        Ok(UnbondingView { amount: path.carry(it.amount), ends: it.ends })
    };
    Ok(Some(CommitmentView {
        id,
        owner: commitment.owner,
        place: commitment.place,
        purpose: commitment.purpose,
        since: commitment.since,
        unbonding_s: commitment.unbonding_s,
        bound: Amount(commitment.parts.iter().map(|part| path.carry(part.amount).0).sum()),
        unbonding: commitment
            .unbonding
            .iter()
            .map(unbonding)
            .collect::<Result<_, StorageError>>()?,
        rewards: rewards::of_commitment(scope, id, &commitment, now)?,
    }))
}

/// What is left of a commitment, bound and unbonding.
pub(super) fn worth(scope: &Scope<'_>, id: CommitmentId) -> Result<u128, StorageError> {
    let Some(commitment) = get(scope, id)? else { return Ok(0) };
    let pool = Pool::read(scope, &commitment.place)?;
    let path = Path::new(scope, &commitment.place, &pool, commitment.moment)?;
    let mut worth: u128 = commitment.parts.iter().map(|part| path.carry(part.amount).0).sum();
    for unbonding in &commitment.unbonding {
        let path = Path::new(scope, &commitment.place, &pool, unbonding.moment)?;
        worth += path.carry(unbonding.amount).0;
    }
    Ok(worth)
}

/// A service's commitments after `after`, in the order of their identifiers; at most `limit`.
///
/// # Errors
/// [`StorageError`].
pub fn by_service(
    scope: &Scope<'_>,
    service: ServiceId,
    after: Option<CommitmentId>,
    limit: usize,
) -> Result<Vec<CommitmentId>, StorageError> {
    listed(scope, &[BY_SERVICE, &service.0].concat(), after, limit)
}

/// Commitments by account, or to a service, or just some, as they are at `now`; at most `limit`.
///
/// # Errors
/// [`StorageError`].
pub fn list(
    scope: &Scope<'_>,
    account: Option<Address>,
    service: Option<ServiceId>,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<CommitmentView>, StorageError> {
    let ids = match (account, service) {
        (Some(account), _) => by_account(scope, account, None, usize::MAX)?,
        (None, Some(service)) => by_service(scope, service, None, limit)?,
        (None, None) => listed(scope, RECORDS, None, limit)?,
    };
    let mut found = Vec::new();
    for id in ids {
        let Some(view) = view(scope, id, now)? else { continue };
        if service.is_none_or(|service| service == view.place.service) {
            found.push(view);
        }
        if found.len() == limit {
            break;
        }
    }
    Ok(found)
}

/// The commitments to an operator after `after`, in the order of their identifiers; at most `limit`.
///
/// # Errors
/// [`StorageError`].
pub fn by_operator(
    scope: &Scope<'_>,
    operator: Address,
    after: Option<CommitmentId>,
    limit: usize,
) -> Result<Vec<CommitmentId>, StorageError> {
    listed(scope, &[BY_OPERATOR, &operator.0].concat(), after, limit)
}

/// The commitments that an account controls, those of vaults that it manages among them, after `after`, in the order of
/// their identifiers; at most `limit`.
///
/// # Errors
/// [`StorageError`].
pub fn by_account(
    scope: &Scope<'_>,
    account: Address,
    after: Option<CommitmentId>,
    limit: usize,
) -> Result<Vec<CommitmentId>, StorageError> {
    listed(scope, &[BY_ACCOUNT, &account.0].concat(), after, limit)
}

fn voting_ids(
    scope: &Scope<'_>,
    service: ServiceId,
    account: Address,
) -> Result<Vec<CommitmentId>, StorageError> {
    let prefix = [BY_VOTER, &service.0, &account.0].concat();
    listed(scope, &prefix, None, VOTING_COMMITMENTS_MAX)
}

fn listed(
    scope: &Scope<'_>,
    prefix: &[u8],
    after: Option<CommitmentId>,
    limit: usize,
) -> Result<Vec<CommitmentId>, StorageError> {
    let after = after.map(|id| [prefix, &id.0].concat());
    let keys = scope.range(prefix, after.as_deref(), limit)?.into_iter().map(|(key, _)| key);
    keys.map(|key| {
        let id = key[prefix.len()..].try_into();
        id.map(CommitmentId).map_err(|_| StorageError(format!("key {}", hex::encode(&key))))
    })
    .collect()
}

/// The services to which something is, or was, committed to this operator; as many as it serves at most.
///
/// # Errors
/// [`StorageError`].
pub fn services_of(scope: &Scope<'_>, operator: Address) -> Result<Vec<ServiceId>, StorageError> {
    let prefix = [SERVICES, &operator.0].concat();
    let keys = scope.range(&prefix, None, usize::MAX)?.into_iter().map(|(key, _)| key);
    keys.map(|key| {
        let id = key[prefix.len()..].try_into();
        id.map(ServiceId).map_err(|_| StorageError(format!("key {}", hex::encode(&key))))
    })
    .collect()
}

/// Puts a commitment into the lists that it belongs to, or takes it out.
fn index(scope: &mut Scope<'_>, id: CommitmentId, commitment: &Commitment, there: bool) {
    let Place { service, operator, .. } = commitment.place;
    if there {
        scope.write([SERVICES, &operator.0, &service.0].concat(), &1u8);
    }
    let account = commitment.owner.controller();
    let mut keys = vec![
        [BY_SERVICE, &service.0, &id.0].concat(),
        [BY_OPERATOR, &operator.0, &id.0].concat(),
        [BY_ACCOUNT, &account.0, &id.0].concat(),
    ];
    if commitment.purpose == Purpose::Votes {
        keys.push([BY_VOTER, &service.0, &account.0, &id.0].concat());
    }
    for key in keys {
        if there { scope.write(key, &1u8) } else { scope.remove(key) }
    }
}

const BY_SERVICE: &[u8] = b"commitments/by-service/";
/// Services to which something is, or was, committed to an operator: bounded by how many it serves.
const SERVICES: &[u8] = b"commitments/services/";
const BY_OPERATOR: &[u8] = b"commitments/by-operator/";
const BY_ACCOUNT: &[u8] = b"commitments/by-account/";
const BY_VOTER: &[u8] = b"commitments/by-voter/";

/// The key of a commitment's record, a [`Commitment`].
#[must_use]
pub fn record_key(id: CommitmentId) -> Vec<u8> {
    [RECORDS, &id.0].concat()
}

const RECORDS: &[u8] = b"commitments/records/";

fn totals_key(service: ServiceId) -> Vec<u8> {
    [b"commitments/totals/".as_slice(), &service.0].concat()
}
