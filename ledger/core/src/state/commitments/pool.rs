//! What is committed to one operator for one service in one asset, so that slashing all of it is one write.
//!
//! Nobody's amount is touched by a slash. A pool has a factor, `kept`, that each slash shrinks; an amount is stated together
//! with the factor of that moment, and is now worth `amount × kept now ÷ kept then`, rounded down. When the factor gets
//! too small to be exact a new *generation* begins with a whole one, and amounts are carried over the end of each generation
//! in between. Since a generation leaves less than 2⁻⁶³ of what was there at its beginning, nothing outlives four of them.
//!
//! There is no price of a share here, thus none that a first or last holder could move: what is put in is worth just that
//! until it's slashed. (The idea is that of Liquity's stability pool.) Factors are rounded down and totals up, so
//! a total is never less than what it's the total of; what is too much in it is dust, which nobody owns.

use borsh::{BorshDeserialize, BorshSerialize};
use lamina_types::{Address, Amount, Asset, Purpose, ServiceId};
use serde::{Deserialize, Serialize};

use crate::StorageError;
use crate::state::{Scope, bank::Holder};

/// A whole, as parts per million.
pub const PPM: u32 = 1_000_000;
/// The factor with which a generation begins, a power of two. A slash rounds what was there then by its 2⁻¹²⁷.
pub const KEPT_WHOLE: u128 = 1 << 127;
/// Below it, a new generation begins: what is committed now would be rounded by more than its 2⁻⁶⁴.
const KEPT_MIN: u128 = 1 << 64;
/// Most generations in which an amount can be worth something: the first, and three that each leave less than 2⁻⁶³ of 2¹²⁸.
const GENERATIONS_MAX: usize = 4;

/// Which pool.
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
pub struct Place {
    /// The service.
    pub service: ServiceId,
    /// The operator.
    pub operator: Address,
    /// The asset.
    pub asset: Asset,
}

/// The state of a pool's slashes at which an amount is stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Moment {
    /// The generation, from 0.
    pub generation: u32,
    /// What is left of a whole since the generation began, in 2⁻¹²⁷; never 0.
    pub kept: u128,
}

impl Default for Moment {
    fn default() -> Self {
        Self { generation: 0, kept: KEPT_WHOLE }
    }
}

/// The total of several commitments: at least their sum, and more by dust.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(in crate::state) struct Tally {
    pub(in crate::state) amount: Amount,
    /// How many commitments. Once there's none, the dust is forgotten, or it would earn and count forever.
    pub(in crate::state) count: u64,
}

impl Tally {
    fn join(&mut self, amount: Amount) {
        self.amount = Amount(self.amount.0.saturating_add(amount.0));
        self.count += 1;
    }

    fn leave(&mut self, amount: Amount) {
        debug_assert!(self.count > 0 && self.amount >= amount, "a total is at least its parts");
        self.count = self.count.saturating_sub(1);
        let left = if self.count == 0 { 0 } else { self.amount.0.saturating_sub(amount.0) };
        self.amount = Amount(left);
    }

    fn shrink(&mut self, ppm: u32) {
        let taken = part(self.amount, ppm);
        self.amount = Amount(self.amount.0.saturating_sub(taken.0));
    }
}

/// `ppm` millionths of `amount`, rounded down.
pub(in crate::state) fn part(amount: Amount, ppm: u32) -> Amount {
    let ppm = ppm.min(PPM);
    amount.mul_div(ppm.into(), PPM.into()).expect("a part isn't more than the whole")
}

/// What `ppm` millionths leave of a factor, rounded down.
fn keep(kept: u128, ppm: u32) -> u128 {
    part(Amount(kept), PPM - ppm.min(PPM)).0
}

/// What is committed, without what is unbonding: in all, for rewards, and for votes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(in crate::state) struct Pool {
    pub(in crate::state) now: Moment,
    pub(in crate::state) bound: Tally,
    pub(in crate::state) backing: Tally,
    pub(in crate::state) voting: Tally,
}

impl Pool {
    pub(in crate::state) fn read(scope: &Scope<'_>, place: &Place) -> Result<Self, StorageError> {
        Ok(scope.read(&pool_key(place))?.unwrap_or_default())
    }

    pub(in crate::state) fn write(&self, scope: &mut Scope<'_>, place: &Place) {
        scope.write(pool_key(place), self);
    }

    /// A commitment is bound with so much.
    pub(super) fn join(&mut self, purpose: Purpose, amount: Amount) {
        self.bound.join(amount);
        if let Some(tally) = self.tally(purpose) {
            tally.join(amount);
        }
    }

    /// A commitment that was bound, and is worth so much now, isn't bound any more.
    pub(super) fn leave(&mut self, purpose: Purpose, amount: Amount) {
        self.bound.leave(amount);
        if let Some(tally) = self.tally(purpose) {
            tally.leave(amount);
        }
    }

    fn tally(&mut self, purpose: Purpose) -> Option<&mut Tally> {
        match purpose {
            Purpose::Rewards => Some(&mut self.backing),
            Purpose::Votes => Some(&mut self.voting),
            Purpose::Credit => None,
        }
    }

    /// Shrinks all that's in it. Whether a new generation began.
    pub(super) fn slash(&mut self, scope: &mut Scope<'_>, place: &Place, ppm: u32) -> bool {
        for tally in [&mut self.bound, &mut self.backing, &mut self.voting] {
            tally.shrink(ppm);
        }
        self.now.kept = keep(self.now.kept, ppm);
        let ends = self.now.kept < KEPT_MIN;
        if ends {
            scope.write(end_key(place, self.now.generation), &self.now.kept);
            self.now = Moment { generation: self.now.generation + 1, kept: KEPT_WHOLE };
        }
        ends
    }
}

/// What a generation did to an amount: of `from`, `to` was left.
#[derive(Debug, Clone, Copy)]
pub(in crate::state) struct Hop {
    pub(in crate::state) generation: u32,
    pub(in crate::state) from: u128,
    pub(in crate::state) to: u128,
}

impl Hop {
    /// What an amount is worth after it.
    pub(in crate::state) fn carry(self, amount: Amount) -> Amount {
        amount.mul_div(self.to, self.from).expect("what is left isn't more than there was")
    }
}

/// What slashes did to an amount since it was stated.
#[derive(Debug, Clone)]
pub(in crate::state) struct Path {
    pub(in crate::state) hops: Vec<Hop>,
    /// More generations ended than anything outlives.
    gone: bool,
}

impl Path {
    pub(in crate::state) fn new(
        scope: &Scope<'_>,
        place: &Place,
        pool: &Pool,
        since: Moment,
    ) -> Result<Self, StorageError> {
        let mut path = Self { hops: Vec::new(), gone: false };
        let mut from = since.kept;
        for generation in since.generation..=pool.now.generation {
            if path.hops.len() == GENERATIONS_MAX {
                path.gone = true;
                break;
            }
            let to = if generation == pool.now.generation {
                pool.now.kept
            } else {
                scope.read(&end_key(place, generation))?.unwrap_or_default()
            };
            path.hops.push(Hop { generation, from, to });
            from = KEPT_WHOLE;
        }
        Ok(path)
    }

    /// What it's worth now, rounded down.
    pub(in crate::state) fn carry(&self, amount: Amount) -> Amount {
        if self.gone {
            return Amount::ZERO;
        }
        self.hops.iter().fold(amount, |amount, hop| hop.carry(amount))
    }
}

impl Place {
    /// Who holds what is in the pool, unbonding included.
    #[must_use]
    pub const fn holder(&self) -> Holder {
        Holder::Commitments { service: self.service, operator: self.operator }
    }

    pub(in crate::state) fn bytes(&self) -> Vec<u8> {
        let asset = borsh::to_vec(&self.asset).expect("writing to memory doesn't fail");
        [&self.service.0[..], &self.operator.0, &asset].concat()
    }
}

pub(super) fn pools_prefix(service: ServiceId, operator: Address) -> Vec<u8> {
    [b"commitments/pools/", &service.0[..], &operator.0].concat()
}

/// The asset is read back from the key, so it stands there in its canonical form.
fn pool_key(place: &Place) -> Vec<u8> {
    [&b"commitments/pools/"[..], &place.bytes()].concat()
}

/// The asset's size differs, and follows from its first byte.
fn end_key(place: &Place, generation: u32) -> Vec<u8> {
    [&b"commitments/ends/"[..], &place.bytes(), &generation.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_stays_at_least_the_sum_of_its_parts_through_any_slashes() {
        let parts = [Amount(7), Amount(1_000_003), Amount(10u128.pow(27))];
        let mut tally = Tally::default();
        parts.iter().for_each(|part| tally.join(*part));
        let mut kept = KEPT_WHOLE;
        for ppm in [1, 333_333, 999_999, 500_000, 1, 77_777] {
            tally.shrink(ppm);
            kept = keep(kept, ppm);
            let hop = Hop { generation: 0, from: KEPT_WHOLE, to: kept };
            let sum: u128 = parts.iter().map(|part| hop.carry(*part).0).sum();
            assert!(tally.amount.0 >= sum, "{} < {sum}", tally.amount);
        }
    }

    #[test]
    fn a_total_of_nothing_forgets_its_dust() {
        let mut tally = Tally::default();
        tally.join(Amount(3));
        tally.join(Amount(3));
        tally.shrink(500_000);
        tally.leave(Amount(1));
        tally.leave(Amount(1));
        assert_eq!(tally, Tally::default());
    }

    #[test]
    fn so_many_generations_leave_nothing_of_the_largest_amount() {
        let hop = Hop { generation: 0, from: KEPT_WHOLE, to: KEPT_MIN - 1 };
        let left = (1..GENERATIONS_MAX).fold(Amount(u128::MAX), |amount, _| hop.carry(amount));
        assert_eq!(left, Amount::ZERO);
    }
}
