//! Who holds what. All value moves here, so that none is made or lost.
//!
//! [`transfer`] moves; only [`mint`] and [`burn`] change what there is in all, as value comes in from another chain or
//! leaves for one. The sum over all holders of an asset is its supply, always.

use borsh::{BorshDeserialize, BorshSerialize};
use lamina_types::{Address, Amount, Asset, ServiceId, VaultId};
use serde::{Deserialize, Serialize};

use super::{Refusal, Scope, Stop};
use crate::StorageError;

/// Who can hold value.
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
pub enum Holder {
    /// An account.
    Account {
        /// Which one.
        account: Address,
    },
    /// What is committed to an operator for a service, unbonding included.
    Commitments {
        /// The service.
        service: ServiceId,
        /// The operator.
        operator: Address,
    },
    /// What a service has yet to pay out, and what has accrued and wasn't claimed.
    Rewards {
        /// The service.
        service: ServiceId,
    },
    /// What was slashed, for those whom a service harmed.
    Harmed {
        /// The service.
        service: ServiceId,
    },
    /// A vault.
    Vault {
        /// Which one.
        vault: VaultId,
    },
    /// Fees that were paid.
    Fees,
    /// What was sent over an IBC channel and may come back.
    Escrow {
        /// SHA-256 of the port's and the channel's names (ICS-20).
        channel: [u8; 32],
    },
}

/// What `holder` has of `asset`.
///
/// # Errors
/// [`StorageError`].
pub fn balance(scope: &Scope<'_>, holder: &Holder, asset: Asset) -> Result<Amount, StorageError> {
    Ok(scope.read(&balance_key(holder, asset))?.unwrap_or_default())
}

/// All that `holder` has, by asset.
///
/// # Errors
/// [`StorageError`].
pub fn balances(scope: &Scope<'_>, holder: &Holder) -> Result<Vec<(Asset, Amount)>, StorageError> {
    let prefix = holder_prefix(holder);
    let entries = scope.range(&prefix, None, ASSETS_MAX)?;
    let corrupt = |key: &[u8]| StorageError(format!("key {}", hex::encode(key)));
    entries
        .iter()
        .map(|(key, value)| {
            let word = key[prefix.len()..].try_into().ok();
            let asset = word.and_then(Asset::from_word).ok_or_else(|| corrupt(key))?;
            Ok((asset, borsh::from_slice(value).map_err(|_| corrupt(key))?))
        })
        .collect()
}

/// Most assets of one holder that are listed.
const ASSETS_MAX: usize = 1_000;

/// How much of `asset` there is in all.
///
/// # Errors
/// [`StorageError`].
pub fn supply(scope: &Scope<'_>, asset: Asset) -> Result<Amount, StorageError> {
    Ok(scope.read(&supply_key(asset))?.unwrap_or_default())
}

/// Moves value from one holder to another.
///
/// # Errors
/// [`Refusal::Insufficient`], [`Refusal::Overflow`].
pub fn transfer(
    scope: &mut Scope<'_>,
    from: &Holder,
    to: &Holder,
    asset: Asset,
    amount: Amount,
) -> Result<(), Stop> {
    take(scope, from, asset, amount)?;
    give(scope, to, asset, amount)
}

/// Value comes in from another chain.
///
/// # Errors
/// [`Refusal::Overflow`].
pub fn mint(scope: &mut Scope<'_>, to: &Holder, asset: Asset, amount: Amount) -> Result<(), Stop> {
    let supply = supply(scope, asset)?.checked_add(amount).ok_or(Refusal::Overflow)?;
    put(scope, supply_key(asset), supply);
    give(scope, to, asset, amount)
}

/// Value leaves for another chain.
///
/// # Errors
/// [`Refusal::Insufficient`].
pub fn burn(
    scope: &mut Scope<'_>,
    from: &Holder,
    asset: Asset,
    amount: Amount,
) -> Result<(), Stop> {
    take(scope, from, asset, amount)?;
    let supply = supply(scope, asset)?.checked_sub(amount).ok_or(Refusal::Overflow)?;
    put(scope, supply_key(asset), supply);
    Ok(())
}

fn take(scope: &mut Scope<'_>, from: &Holder, asset: Asset, amount: Amount) -> Result<(), Stop> {
    let available = balance(scope, from, asset)?;
    let left = available.checked_sub(amount).ok_or(Refusal::Insufficient {
        asset,
        available,
        needed: amount,
    })?;
    put(scope, balance_key(from, asset), left);
    Ok(())
}

fn give(scope: &mut Scope<'_>, to: &Holder, asset: Asset, amount: Amount) -> Result<(), Stop> {
    let sum = balance(scope, to, asset)?.checked_add(amount).ok_or(Refusal::Overflow)?;
    put(scope, balance_key(to, asset), sum);
    Ok(())
}

/// Nothing isn't kept: keys of who has nothing would stay forever.
fn put(scope: &mut Scope<'_>, key: Vec<u8>, amount: Amount) {
    if amount.is_zero() { scope.remove(key) } else { scope.write(key, &amount) }
}

/// The key of what `holder` has of `asset`; its value is an [`Amount`], and there is none for nothing.
#[must_use]
pub fn balance_key(holder: &Holder, asset: Asset) -> Vec<u8> {
    [holder_prefix(holder).as_slice(), &asset.to_word()].concat()
}

fn holder_prefix(holder: &Holder) -> Vec<u8> {
    let holder = borsh::to_vec(holder).expect("writing to memory doesn't fail");
    [b"bank/balances/".as_slice(), &holder].concat()
}

/// The key of how much of `asset` there is in all.
#[must_use]
pub fn supply_key(asset: Asset) -> Vec<u8> {
    [b"bank/supply/".as_slice(), &asset.to_word()].concat()
}
