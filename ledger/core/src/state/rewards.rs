//! Rewards: what a service pays, evenly over time, to those who back it and to the operators that take part in its tasks.
//!
//! A funding is divided: [`OPERATORS_PPM`] of it go to operators, the rest to commitments for rewards. Each part flows on its
//! own. When more is funded, what's left flows together with it over the longer of both times; a funding by which either flow
//! became slower is refused, so nobody can stretch what others are paid. While nobody backs the service its flow to backers
//! stands still, and goes on with the next commitment.
//!
//! *Backers* share by what they have bound at each instant. That takes one number for each asset paid, the sum of all that
//! flowed for one unit bound, and one more for each pool of commitments, in which this sum is weighted with the pool's
//! factor, so that a slash needs no more (`commitments/pool.rs`). A commitment's sums are settled before its amount changes.
//!
//! *Operators* share in equal parts what has flowed since the task that was recorded before, among those who took part in the
//! task. What can't be divided waits for the next one.
//!
//! All is rounded down, and what is cut off stays with the service: flowing still, or as dust.

use alloy_primitives::{U256, U512};
use borsh::{BorshDeserialize, BorshSerialize};
use lamina_types::{
    Action, Address, Amount, Asset, Bytes, CommitmentId, Purpose, RewardSource, ServiceId,
    Timestamp,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

use super::bank::{self, Holder};
use super::commitments::{self, Commitment, Moment, Owner, Path, Place, Pool};
use super::{Directory, Env, Module, Origin, Refusal, Scope, Stop, vaults};
use crate::StorageError;

/// Operators' part of what a service pays, in millionths: a fifth. A guess at what keeps both sides; a service may one day
/// set its own.
pub const OPERATORS_PPM: u32 = 200_000;
/// Most assets in which a service pays rewards. Each is settled whenever a commitment changes.
pub const STREAMS_MAX: usize = 8;
/// Sums per unit bound are in units of 2⁻⁹⁶: a token of six decimals flows each second to backers with a million ether.
const UNIT_BITS: usize = 96;
/// Highest sum per unit bound, in bits. Times a pool's factor (127) and an amount (128) it fits into 512; only a token that
/// pays 2¹²⁸ to one unit gets there, and then flows no more.
const SUM_BITS: usize = 224;

/// What flows from a service in one asset.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Stream {
    /// In what.
    pub asset: Asset,
    /// To commitments for rewards.
    pub backers: Flow,
    /// To operators.
    pub operators: Flow,
    /// What has flowed to operators since the last task, and is shared among those who take part in the next one.
    pub pot: Amount,
    /// What has flowed for each unit bound.
    #[serde(skip)]
    per_unit: Sum,
}

/// What's paid evenly until an end.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct Flow {
    /// What's left to flow.
    pub left: Amount,
    /// When this was so.
    pub updated: Timestamp,
    /// When all of it will have flowed.
    pub ends: Timestamp,
}

impl Flow {
    /// What flows up to `now`.
    fn advance(&mut self, now: Timestamp) -> Amount {
        let remaining = self.remaining();
        let passed = now.0.saturating_sub(self.updated.0).min(remaining);
        self.updated = self.updated.max(now);
        // Without time there's nothing to divide by; what's left then is dust, until more is funded.
        let due = self.left.mul_div(passed.into(), remaining.into()).unwrap_or_default();
        self.left = Amount(self.left.0 - due.0);
        due
    }

    /// Stands still up to `now`.
    fn pause(&mut self, now: Timestamp) {
        let remaining = self.remaining();
        self.updated = self.updated.max(now);
        self.ends = self.updated + Duration::from_micros(remaining);
    }

    /// More is to flow. It was advanced to now.
    fn fund(&mut self, amount: Amount, duration_s: u64) -> Result<(), Refusal> {
        let remaining = self.remaining();
        let longer = Duration::from_secs(duration_s).max(Duration::from_micros(remaining));
        let sum = self.left.checked_add(amount).ok_or(Refusal::Overflow)?;
        let new = U256::from(sum.0) * U256::from(remaining);
        let old = U256::from(self.left.0) * U256::from(longer.as_micros());
        if remaining > 0 && new < old {
            let reason = "rewards would flow slower than now; fund more, or over a shorter time";
            return Err(Refusal::invalid(reason));
        }
        self.left = sum;
        self.ends = self.updated + longer;
        Ok(())
    }

    /// In microseconds.
    const fn remaining(&self) -> u64 {
        self.ends.0.saturating_sub(self.updated.0)
    }
}

/// An unsigned number of 256 bits, big-endian.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct Sum([u8; 32]);

impl Sum {
    const fn get(self) -> U256 {
        U256::from_be_bytes(self.0)
    }

    const fn of(value: U256) -> Self {
        Self(value.to_be_bytes())
    }
}

/// A [`Sum`], each step of it times a pool's factor of then: 512 bits, big-endian, without the zeros in front.
#[derive(Debug, Clone, Default, BorshSerialize, BorshDeserialize)]
struct Weighted(Bytes<64>);

impl Weighted {
    fn get(&self) -> U512 {
        U512::try_from_be_slice(self.0.as_slice()).expect("64 bytes fit")
    }

    fn of(value: U512) -> Self {
        Self(Bytes::new(value.to_be_bytes_trimmed_vec()).expect("it has 64 bytes at most"))
    }
}

/// What a service pays, by asset, in the order in which they were opened. None is ever removed: others name them by place.
#[derive(Debug, Clone, Default, BorshSerialize, BorshDeserialize)]
struct Book {
    streams: Vec<Stream>,
}

impl Book {
    fn read(scope: &Scope<'_>, service: ServiceId) -> Result<Self, StorageError> {
        Ok(scope.read(&book_key(service))?.unwrap_or_default())
    }

    /// Lets everything flow up to `now`, to `backing` units bound.
    fn advance(&mut self, now: Timestamp, backing: Amount) {
        for stream in &mut self.streams {
            stream.advance(now, backing);
        }
    }

    fn index(&self, asset: Asset) -> Option<usize> {
        self.streams.iter().position(|stream| stream.asset == asset)
    }
}

impl Stream {
    fn advance(&mut self, now: Timestamp, backing: Amount) {
        let due = self.operators.advance(now);
        self.pot = Amount(self.pot.0.saturating_add(due.0));
        let mut flow = self.backers;
        let due = flow.advance(now);
        let Some((per_unit, used)) = self.share(due, backing) else {
            return self.backers.pause(now);
        };
        self.per_unit = Sum::of(per_unit);
        self.backers = Flow { left: Amount(flow.left.0 + (due.0 - used)), ..flow };
    }

    /// The sum after `due` flowed, and how much of it that takes: what is too little to be shared flows on.
    fn share(&self, due: Amount, backing: Amount) -> Option<(U256, u128)> {
        let units = U256::from(backing.0);
        let each = (U256::from(due.0) << UNIT_BITS).checked_div(units)?;
        let sum = self.per_unit.get().checked_add(each).filter(|sum| sum.bit_len() <= SUM_BITS)?;
        let used = (each * units).div_ceil(U256::from(1) << UNIT_BITS);
        Some((sum, u128::try_from(used).expect("no more is used than is due")))
    }
}

/// What has flowed to a pool of commitments in one of its generations, for each stream of the service.
#[derive(Debug, Clone, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct Sums(Vec<PoolSum>);

#[derive(Debug, Clone, Default, BorshSerialize, BorshDeserialize)]
struct PoolSum {
    /// The service's sum up to which this is settled.
    settled: Sum,
    weighted: Weighted,
}

impl Sums {
    fn read(scope: &Scope<'_>, place: &Place, generation: u32) -> Result<Self, StorageError> {
        Ok(scope.read(&sums_key(place, generation))?.unwrap_or_default())
    }

    /// Up to the book's sums, at the pool's present factor. A stream that's new begins with zero in both.
    fn settle(&mut self, book: &Book, kept: u128) {
        self.0.resize(book.streams.len(), PoolSum::default());
        for (sum, stream) in self.0.iter_mut().zip(&book.streams) {
            let step = stream.per_unit.get() - sum.settled.get();
            let weighted = sum.weighted.get() + U512::from(step) * U512::from(kept);
            *sum = PoolSum { settled: stream.per_unit, weighted: Weighted::of(weighted) };
        }
    }

    fn weighted(&self, index: usize) -> U512 {
        self.0.get(index).map(|sum| sum.weighted.get()).unwrap_or_default()
    }
}

/// What accrued to a commitment, for each stream of its service.
#[derive(Debug, Clone, Default, BorshSerialize, BorshDeserialize)]
struct Accrued(Vec<AccruedOne>);

#[derive(Debug, Clone, Default, BorshSerialize, BorshDeserialize)]
struct AccruedOne {
    /// The pool's weighted sum up to which it's settled, in the generation of the commitment's moment.
    weighted: Weighted,
    /// What wasn't claimed.
    owed: Amount,
}

impl Accrued {
    fn read(scope: &Scope<'_>, id: CommitmentId) -> Result<Self, StorageError> {
        Ok(scope.read(&accrued_key(id))?.unwrap_or_default())
    }

    /// Adds what flowed in each generation to an amount that shrank from one to the next.
    fn settle(&mut self, mut amount: Amount, generations: &[(commitments::Hop, Sums)]) {
        for (number, (hop, sums)) in generations.iter().enumerate() {
            if self.0.len() < sums.0.len() {
                self.0.resize(sums.0.len(), AccruedOne::default());
            }
            for (index, one) in self.0.iter_mut().enumerate() {
                let from = if number == 0 { one.weighted.get() } else { U512::ZERO };
                let step = sums.weighted(index) - from;
                one.owed = Amount(one.owed.0.saturating_add(earned(amount, step, hop.from)));
            }
            amount = hop.carry(amount);
        }
    }
}

/// What `amount`, stated at the factor `from`, earned while the weighted sum grew by `step`.
fn earned(amount: Amount, step: U512, from: u128) -> u128 {
    let product = U512::from(amount.0) * step;
    let earned = product / (U512::from(from) << UNIT_BITS);
    // It was funded once, so it fits.
    u128::try_from(earned).unwrap_or(u128::MAX)
}

/// What accrued in one asset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reward {
    /// Of what.
    pub asset: Asset,
    /// How much.
    pub amount: Amount,
}

/// The module.
#[derive(Debug)]
pub struct Rewards {
    directory: Box<dyn Directory>,
}

impl Rewards {
    /// Rewards of the services that `directory` knows.
    #[must_use]
    pub fn new(directory: Box<dyn Directory>) -> Self {
        Self { directory }
    }

    fn fund(
        &self,
        scope: &mut Scope<'_>,
        env: &Env<'_>,
        account: Address,
        (service, asset, amount, duration_s): (ServiceId, Asset, Amount, u64),
    ) -> Result<(), Stop> {
        let owner = self
            .directory
            .service_owner(scope, service)?
            .ok_or_else(|| Refusal::unknown("service"))?;
        let mut book = advanced(scope, service, env.time)?;
        let index = open_stream(&mut book, asset, account == owner, env.time)?;
        let operators = commitments::part(amount, OPERATORS_PPM);
        let stream = &mut book.streams[index];
        stream.operators.fund(operators, duration_s)?;
        stream.backers.fund(Amount(amount.0 - operators.0), duration_s)?;
        scope.write(book_key(service), &book);
        let (from, to) = (Holder::Account { account }, Holder::Rewards { service });
        bank::transfer(scope, &from, &to, asset, amount)
    }
}

/// The asset's stream. Only the service's owner begins one, so that nobody fills the few places with worthless tokens.
fn open_stream(
    book: &mut Book,
    asset: Asset,
    may_open: bool,
    now: Timestamp,
) -> Result<usize, Refusal> {
    if let Some(index) = book.index(asset) {
        return Ok(index);
    }
    if !may_open {
        return Err(Refusal::forbidden("the service's owner, for an asset that's new in it"));
    }
    if book.streams.len() >= STREAMS_MAX {
        return Err(Refusal::invalid("the service pays in too many assets already"));
    }
    let flow = Flow { left: Amount::ZERO, updated: now, ends: now };
    let per_unit = Sum::default();
    let stream = Stream { asset, backers: flow, operators: flow, pot: Amount::ZERO, per_unit };
    book.streams.push(stream);
    Ok(book.streams.len() - 1)
}

impl Module for Rewards {
    fn name(&self) -> &'static str {
        "rewards"
    }

    fn handles(&self, action: &Action) -> bool {
        matches!(action, Action::FundRewards { .. } | Action::ClaimRewards { .. })
    }

    fn apply(
        &self,
        scope: &mut Scope<'_>,
        env: &Env<'_>,
        origin: &Origin,
        action: &Action,
    ) -> Result<(), Stop> {
        let account = origin.account;
        match action {
            Action::FundRewards { service, asset, amount, duration_s } => {
                self.fund(scope, env, account, (*service, *asset, *amount, *duration_s))
            }
            Action::ClaimRewards { source: RewardSource::Commitment { commitment }, asset } => {
                claim(scope, env, account, (*commitment, *asset))
            }
            Action::ClaimRewards { source: RewardSource::Participation { service }, asset } => {
                claim_participation(scope, account, (*service, *asset))
            }
            _ => Err(Refusal::invalid("not an action of rewards").into()),
        }
    }
}

fn claim(
    scope: &mut Scope<'_>,
    env: &Env<'_>,
    account: Address,
    (id, asset): (CommitmentId, Asset),
) -> Result<(), Stop> {
    let commitment = commitments::get(scope, id)?.ok_or_else(|| Refusal::unknown("commitment"))?;
    match commitment.owner {
        Owner::Account { account: owner } if owner != account => {
            return Err(Refusal::forbidden("the commitment's owner").into());
        }
        Owner::Vault { vault, .. } => vaults::check_asset(scope, vault, asset)?,
        Owner::Account { .. } => {}
    }
    if collect(scope, env, id, asset)?.is_zero() {
        return Err(Refusal::invalid("nothing has accrued").into());
    }
    commitments::close_if_empty(scope, id)?;
    Ok(())
}

/// Pays what has accrued to a commitment in one asset to its owner.
pub(super) fn collect(
    scope: &mut Scope<'_>,
    env: &Env<'_>,
    id: CommitmentId,
    asset: Asset,
) -> Result<Amount, Stop> {
    commitments::touch(scope, env, id)?;
    let commitment = commitments::get(scope, id)?.ok_or_else(|| Refusal::unknown("commitment"))?;
    let service = commitment.place.service;
    let Some(index) = Book::read(scope, service)?.index(asset) else { return Ok(Amount::ZERO) };
    let mut accrued = Accrued::read(scope, id)?;
    let Some(one) = accrued.0.get_mut(index) else { return Ok(Amount::ZERO) };
    let amount = std::mem::take(&mut one.owed);
    scope.write(accrued_key(id), &accrued);
    let (from, to) = (Holder::Rewards { service }, commitment.owner.holder());
    bank::transfer(scope, &from, &to, asset, amount)?;
    Ok(amount)
}

fn claim_participation(
    scope: &mut Scope<'_>,
    operator: Address,
    (service, asset): (ServiceId, Asset),
) -> Result<(), Stop> {
    let key = operator_key(service, operator);
    let mut owed: Vec<Amount> = scope.read(&key)?.unwrap_or_default();
    let index = Book::read(scope, service)?.index(asset);
    let amount = index.and_then(|index| owed.get_mut(index)).map(std::mem::take);
    let Some(amount) = amount.filter(|amount| !amount.is_zero()) else {
        return Err(Refusal::invalid("nothing has accrued").into());
    };
    if owed.iter().all(|amount| amount.is_zero()) {
        scope.remove(key);
    } else {
        scope.write(key, &owed);
    }
    let (from, to) = (Holder::Rewards { service }, Holder::Account { account: operator });
    bank::transfer(scope, &from, &to, asset, amount)
}

/// A task of the service was recorded, in which these operators took part: what has flowed to operators since the last one
/// is theirs, in equal parts. Naming one twice doesn't count.
///
/// # Errors
/// [`Stop::Fault`]; no refusal.
pub fn participation(
    scope: &mut Scope<'_>,
    env: &Env<'_>,
    service: ServiceId,
    operators: &[Address],
) -> Result<(), Stop> {
    let operators: BTreeSet<_> = operators.iter().copied().collect();
    let mut book = advanced(scope, service, env.time)?;
    let count = operators.len() as u128;
    let share = |stream: &Stream| Amount(stream.pot.0.checked_div(count).unwrap_or_default());
    let shares: Vec<_> = book.streams.iter().map(share).collect();
    if shares.iter().all(|share| share.is_zero()) {
        return Ok(());
    }
    for (stream, share) in book.streams.iter_mut().zip(&shares) {
        stream.pot = Amount(stream.pot.0 - share.0 * count);
    }
    scope.write(book_key(service), &book);
    for operator in operators {
        let key = operator_key(service, operator);
        let mut owed: Vec<Amount> = scope.read(&key)?.unwrap_or_default();
        owed.resize(shares.len(), Amount::ZERO);
        for (owed, share) in owed.iter_mut().zip(&shares) {
            // Both are part of what the service holds.
            *owed = Amount(owed.0.saturating_add(share.0));
        }
        scope.write(key, &owed);
    }
    Ok(())
}

/// The book of a service, flowed up to `now`.
fn advanced(scope: &Scope<'_>, service: ServiceId, now: Timestamp) -> Result<Book, StorageError> {
    let mut book = Book::read(scope, service)?;
    book.advance(now, commitments::backing(scope, service)?);
    Ok(book)
}

/// The sums of a pool's present generation, up to the book's.
fn settled(
    scope: &Scope<'_>,
    place: &Place,
    pool: &Pool,
    book: &Book,
) -> Result<Sums, StorageError> {
    let Moment { generation, kept } = pool.now;
    let mut sums = Sums::read(scope, place, generation)?;
    sums.settle(book, kept);
    Ok(sums)
}

/// What accrued to a commitment up to now, and the weighted sums that it's settled to.
fn accrued(
    scope: &Scope<'_>,
    id: CommitmentId,
    commitment: &Commitment,
    (pool, sums): (&Pool, &Sums),
) -> Result<Accrued, StorageError> {
    let place = &commitment.place;
    let path = Path::new(scope, place, pool, commitment.moment)?;
    let mut generations = Vec::with_capacity(path.hops.len());
    for hop in path.hops {
        let present = hop.generation == pool.now.generation;
        let sums = if present { sums.clone() } else { Sums::read(scope, place, hop.generation)? };
        generations.push((hop, sums));
    }
    let mut accrued = Accrued::read(scope, id)?;
    accrued.settle(commitment.stated(), &generations);
    Ok(accrued)
}

/// Settles a commitment before it's stated anew, as of now.
pub(super) fn settle(
    scope: &mut Scope<'_>,
    env: &Env<'_>,
    id: CommitmentId,
    commitment: &Commitment,
    pool: &Pool,
) -> Result<(), StorageError> {
    let place = &commitment.place;
    if commitment.purpose != Purpose::Rewards {
        return Ok(());
    }
    let book = advanced(scope, place.service, env.time)?;
    let sums = settled(scope, place, pool, &book)?;
    let mut accrued = accrued(scope, id, commitment, (pool, &sums))?;
    accrued.0.resize(sums.0.len(), AccruedOne::default());
    for (index, one) in accrued.0.iter_mut().enumerate() {
        one.weighted = Weighted::of(sums.weighted(index));
    }
    scope.write(book_key(place.service), &book);
    scope.write(sums_key(place, pool.now.generation), &sums);
    scope.write(accrued_key(id), &accrued);
    Ok(())
}

/// Settles a pool before its factor shrinks. `None` if nobody in it earns.
pub(super) fn before_slash(
    scope: &mut Scope<'_>,
    env: &Env<'_>,
    place: &Place,
    pool: &Pool,
) -> Result<Option<Sums>, StorageError> {
    if pool.backing.count == 0 {
        return Ok(None);
    }
    let book = advanced(scope, place.service, env.time)?;
    let sums = settled(scope, place, pool, &book)?;
    scope.write(book_key(place.service), &book);
    scope.write(sums_key(place, pool.now.generation), &sums);
    Ok(Some(sums))
}

/// A generation of a pool begins, with nothing flowed in it.
pub(super) fn next_generation(
    scope: &mut Scope<'_>,
    place: &Place,
    pool: &Pool,
    sums: Option<Sums>,
) {
    let Some(mut sums) = sums else { return };
    for sum in &mut sums.0 {
        sum.weighted = Weighted::default();
    }
    scope.write(sums_key(place, pool.now.generation), &sums);
}

/// Forgets a commitment's rewards if nothing is owed. Whether it did.
pub(super) fn forget(scope: &mut Scope<'_>, id: CommitmentId) -> Result<bool, StorageError> {
    let owes = Accrued::read(scope, id)?.0.iter().any(|one| !one.owed.is_zero());
    if !owes {
        scope.remove(accrued_key(id));
    }
    Ok(!owes)
}

/// What a service pays, as it is at `now`, which isn't before the state's own time.
///
/// # Errors
/// [`StorageError`].
pub fn streams(
    scope: &Scope<'_>,
    service: ServiceId,
    now: Timestamp,
) -> Result<Vec<Stream>, StorageError> {
    Ok(advanced(scope, service, now)?.streams)
}

/// What has accrued to an operator for its part in a service's tasks, by asset.
///
/// # Errors
/// [`StorageError`].
pub fn of_operator(
    scope: &Scope<'_>,
    service: ServiceId,
    operator: Address,
) -> Result<Vec<Reward>, StorageError> {
    let owed: Vec<Amount> = scope.read(&operator_key(service, operator))?.unwrap_or_default();
    let book = Book::read(scope, service)?;
    Ok(named(&book, owed))
}

/// What has accrued to a commitment, and wasn't claimed, up to `now`.
pub(super) fn of_commitment(
    scope: &Scope<'_>,
    id: CommitmentId,
    commitment: &Commitment,
    now: Timestamp,
) -> Result<Vec<Reward>, StorageError> {
    if commitment.purpose != Purpose::Rewards {
        return Ok(Vec::new());
    }
    let place = &commitment.place;
    let book = advanced(scope, place.service, now)?;
    let pool = Pool::read(scope, place)?;
    let sums = settled(scope, place, &pool, &book)?;
    let accrued = accrued(scope, id, commitment, (&pool, &sums))?;
    Ok(named(&book, accrued.0.into_iter().map(|one| one.owed)))
}

fn named(book: &Book, amounts: impl IntoIterator<Item = Amount>) -> Vec<Reward> {
    let assets = book.streams.iter().map(|stream| stream.asset);
    let rewards = assets.zip(amounts).map(|(asset, amount)| Reward { asset, amount });
    rewards.filter(|reward| !reward.amount.is_zero()).collect()
}

fn book_key(service: ServiceId) -> Vec<u8> {
    [b"rewards/services/".as_slice(), &service.0].concat()
}

fn sums_key(place: &Place, generation: u32) -> Vec<u8> {
    [&b"rewards/pools/"[..], &place.bytes(), &generation.to_be_bytes()].concat()
}

fn accrued_key(id: CommitmentId) -> Vec<u8> {
    [b"rewards/commitments/".as_slice(), &id.0].concat()
}

fn operator_key(service: ServiceId, operator: Address) -> Vec<u8> {
    [b"rewards/operators/", &service.0[..], &operator.0].concat()
}
