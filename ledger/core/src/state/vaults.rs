//! Vaults: purses of one asset that many fill, and that one account, the manager, commits to services.
//!
//! Who puts something in gets shares of all that the vault has: what's at hand, what is committed (after slashes, unbonding
//! included), and what has accrued to its commitments, which is collected first, so that nobody who comes for a
//! moment takes a part of it. Shares are given back for what they're worth, as far as the vault has it at hand. The manager
//! can commit and take back, and nothing else: what's taken back goes to the vault.
//!
//! Shares are rounded down, and so is what's paid for them. [`VIRTUAL_SHARES`] that nobody holds take part: whoever drives up the
//! price of a share, to have the next one's deposit rounded away, gives the most of it to them. (ERC-4626 with a decimal
//! offset, as `OpenZeppelin` has it.)

use borsh::{BorshDeserialize, BorshSerialize};
use lamina_types::{Action, Address, Amount, Asset, CommitmentId, Text, VaultId};
use serde::{Deserialize, Serialize};

use super::bank::{self, Holder};
use super::{Env, Module, Origin, Refusal, Scope, Stop, commitments, rewards};
use crate::StorageError;

/// Most commitments of a vault: each is counted at each deposit and redemption.
pub const COMMITMENTS_MAX: usize = 32;
/// Shares that nobody holds, and that one unit which nobody owns is for. Moving the price costs a million times what
/// the next one loses by it.
pub const VIRTUAL_SHARES: u128 = 1_000_000;

/// A vault, as it's kept.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Vault {
    /// The account that commits and takes back.
    pub manager: Address,
    /// What people call it; not unique.
    pub name: Text<64>,
    /// What it holds.
    pub asset: Asset,
    /// Shares that are held, in all.
    pub shares: Amount,
    /// Its commitments of which something is left.
    pub commitments: Vec<CommitmentId>,
}

/// A vault as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultView {
    /// Its identifier.
    pub id: VaultId,
    /// What's kept of it.
    #[serde(flatten)]
    pub vault: Vault,
    /// What it can pay out.
    pub at_hand: Amount,
    /// What it has committed, unbonding included.
    pub committed: Amount,
}

/// The module.
#[derive(Debug)]
pub struct Vaults;

impl Module for Vaults {
    fn name(&self) -> &'static str {
        "vaults"
    }

    fn handles(&self, action: &Action) -> bool {
        matches!(
            action,
            Action::CreateVault { .. }
                | Action::DepositIntoVault { .. }
                | Action::RedeemFromVault { .. }
        )
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
            Action::CreateVault { name, asset } => {
                create(scope, origin, name.clone(), *asset);
                Ok(())
            }
            Action::DepositIntoVault { vault, amount } => {
                deposit(scope, env, account, (*vault, *amount))
            }
            Action::RedeemFromVault { vault, shares } => {
                redeem(scope, env, account, (*vault, *shares))
            }
            _ => Err(Refusal::invalid("not an action of vaults").into()),
        }
    }
}

fn create(scope: &mut Scope<'_>, origin: &Origin, name: Text<64>, asset: Asset) {
    let id = VaultId(origin.operation.0);
    let manager = origin.account;
    let vault = Vault { manager, name, asset, shares: Amount::ZERO, commitments: Vec::new() };
    scope.write(vault_key(id), &vault);
}

fn deposit(
    scope: &mut Scope<'_>,
    env: &Env<'_>,
    account: Address,
    (id, amount): (VaultId, Amount),
) -> Result<(), Stop> {
    let mut vault = collected(scope, env, id)?;
    let shares = vault.shares_for(amount, value(scope, id, &vault)?)?;
    if shares.is_zero() {
        return Err(Refusal::invalid("the amount is worth less than a share").into());
    }
    bank::transfer(scope, &Holder::Account { account }, &holder(id), vault.asset, amount)?;
    vault.shares = vault.shares.checked_add(shares).ok_or(Refusal::Overflow)?;
    scope.write(vault_key(id), &vault);
    let held = held(scope, id, account)?.checked_add(shares).ok_or(Refusal::Overflow)?;
    write_held(scope, id, account, held);
    Ok(())
}

fn redeem(
    scope: &mut Scope<'_>,
    env: &Env<'_>,
    account: Address,
    (id, shares): (VaultId, Amount),
) -> Result<(), Stop> {
    let mut vault = collected(scope, env, id)?;
    let left = held(scope, id, account)?
        .checked_sub(shares)
        .ok_or_else(|| Refusal::invalid("the account has fewer shares"))?;
    let amount = vault.worth(shares, value(scope, id, &vault)?)?;
    bank::transfer(scope, &holder(id), &Holder::Account { account }, vault.asset, amount)?;
    vault.shares = vault.shares.checked_sub(shares).ok_or(Refusal::Overflow)?;
    scope.write(vault_key(id), &vault);
    write_held(scope, id, account, left);
    Ok(())
}

/// A vault, after all that accrued to its commitments was handed to it.
fn collected(scope: &mut Scope<'_>, env: &Env<'_>, id: VaultId) -> Result<Vault, Stop> {
    let vault = get(scope, id)?.ok_or_else(|| Refusal::unknown("vault"))?;
    for commitment in &vault.commitments {
        rewards::collect(scope, env, *commitment, vault.asset)?;
    }
    Ok(vault)
}

fn value(scope: &Scope<'_>, id: VaultId, vault: &Vault) -> Result<Amount, Stop> {
    let at_hand = bank::balance(scope, &holder(id), vault.asset)?;
    Ok(at_hand.checked_add(committed(scope, vault)?).ok_or(Refusal::Overflow)?)
}

fn committed(scope: &Scope<'_>, vault: &Vault) -> Result<Amount, StorageError> {
    let worth = vault.commitments.iter().map(|id| commitments::worth(scope, *id));
    // All are parts of one asset's supply.
    worth.sum::<Result<u128, _>>().map(Amount)
}

impl Vault {
    /// Shares for an amount that is put in, while the vault has `value`.
    fn shares_for(&self, amount: Amount, value: Amount) -> Result<Amount, Refusal> {
        let (shares, value) = self.with_virtual(value)?;
        amount.mul_div(shares, value).ok_or(Refusal::Overflow)
    }

    /// What shares are worth while the vault has `value`.
    fn worth(&self, shares: Amount, value: Amount) -> Result<Amount, Refusal> {
        let (all, value) = self.with_virtual(value)?;
        shares.mul_div(value, all).ok_or(Refusal::Overflow)
    }

    fn with_virtual(&self, value: Amount) -> Result<(u128, u128), Refusal> {
        let shares = self.shares.0.checked_add(VIRTUAL_SHARES).ok_or(Refusal::Overflow)?;
        Ok((shares, value.0.checked_add(1).ok_or(Refusal::Overflow)?))
    }
}

/// Counts a commitment that something was added to.
pub(super) fn add_commitment(
    scope: &mut Scope<'_>,
    id: VaultId,
    commitment: CommitmentId,
) -> Result<(), Stop> {
    let mut vault = get(scope, id)?.ok_or_else(|| Refusal::unknown("vault"))?;
    if vault.commitments.contains(&commitment) {
        return Ok(());
    }
    if vault.commitments.len() >= COMMITMENTS_MAX {
        return Err(Refusal::invalid("the vault has too many commitments; increase one").into());
    }
    vault.commitments.push(commitment);
    scope.write(vault_key(id), &vault);
    Ok(())
}

/// Stops counting a commitment of which nothing is left.
pub(super) fn remove_commitment(
    scope: &mut Scope<'_>,
    id: VaultId,
    commitment: CommitmentId,
) -> Result<(), StorageError> {
    if let Some(mut vault) = get(scope, id)? {
        vault.commitments.retain(|it| *it != commitment);
        scope.write(vault_key(id), &vault);
    }
    Ok(())
}

/// A vault's shares are of one asset: what accrues in another stays owed.
pub(super) fn check_asset(scope: &Scope<'_>, id: VaultId, asset: Asset) -> Result<(), Stop> {
    let vault = get(scope, id)?.ok_or_else(|| Refusal::unknown("vault"))?;
    if vault.asset != asset {
        return Err(Refusal::invalid("the vault holds another asset").into());
    }
    Ok(())
}

/// A vault as it's kept.
///
/// # Errors
/// [`StorageError`].
pub fn get(scope: &Scope<'_>, id: VaultId) -> Result<Option<Vault>, StorageError> {
    scope.read(&vault_key(id))
}

/// A vault as it is now.
///
/// # Errors
/// [`StorageError`].
pub fn view(scope: &Scope<'_>, id: VaultId) -> Result<Option<VaultView>, StorageError> {
    let Some(vault) = get(scope, id)? else { return Ok(None) };
    let at_hand = bank::balance(scope, &holder(id), vault.asset)?;
    let committed = committed(scope, &vault)?;
    Ok(Some(VaultView { id, vault, at_hand, committed }))
}

/// How many of a vault's shares an account holds.
///
/// # Errors
/// [`StorageError`].
pub fn held(scope: &Scope<'_>, id: VaultId, account: Address) -> Result<Amount, StorageError> {
    Ok(scope.read(&held_key(account, id))?.unwrap_or_default())
}

/// The vaults of which an account holds shares after `after`, in the order of their identifiers; at most `limit`.
///
/// # Errors
/// [`StorageError`].
pub fn by_account(
    scope: &Scope<'_>,
    account: Address,
    after: Option<VaultId>,
    limit: usize,
) -> Result<Vec<VaultId>, StorageError> {
    let prefix = [b"vaults/shares/".as_slice(), &account.0].concat();
    listed(scope, &prefix, after, limit)
}

/// All vaults after `after`, in the order of their identifiers; at most `limit`.
///
/// # Errors
/// [`StorageError`].
pub fn all(
    scope: &Scope<'_>,
    after: Option<VaultId>,
    limit: usize,
) -> Result<Vec<VaultId>, StorageError> {
    listed(scope, VAULTS, after, limit)
}

fn listed(
    scope: &Scope<'_>,
    prefix: &[u8],
    after: Option<VaultId>,
    limit: usize,
) -> Result<Vec<VaultId>, StorageError> {
    let after = after.map(|id| [prefix, &id.0].concat());
    let keys = scope.range(prefix, after.as_deref(), limit)?.into_iter().map(|(key, _)| key);
    keys.map(|key| {
        let id = key[prefix.len()..].try_into();
        id.map(VaultId).map_err(|_| StorageError(format!("key {}", hex::encode(&key))))
    })
    .collect()
}

fn write_held(scope: &mut Scope<'_>, id: VaultId, account: Address, shares: Amount) {
    let key = held_key(account, id);
    if shares.is_zero() { scope.remove(key) } else { scope.write(key, &shares) }
}

const fn holder(vault: VaultId) -> Holder {
    Holder::Vault { vault }
}

const VAULTS: &[u8] = b"vaults/records/";

fn vault_key(id: VaultId) -> Vec<u8> {
    [VAULTS, &id.0].concat()
}

fn held_key(account: Address, id: VaultId) -> Vec<u8> {
    [b"vaults/shares/", &account.0[..], &id.0].concat()
}
