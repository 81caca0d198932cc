//! Claims: what left the ledger for Ethereum, and what came from there.
//!
//! A withdrawal burns and appends a claim to a Merkle tree that only grows, of Keccak-256 and depth 32 as in Ethereum's
//! deposit contract. A checkpoint's header has the tree's root, the vault contract pays a claim once against a proof.
//! In Solidity:
//!
//! ```solidity
//! leaf  = keccak256(abi.encodePacked(bytes1(0x00), abi.encode(index, recipient, asset, amount)));
//! //      uint256 index, address recipient, bytes32 asset (Asset::to_word), uint256 amount: 129 bytes
//! node  = keccak256(abi.encodePacked(bytes1(0x01), left, right));    // 65 bytes
//! empty = bytes32(0) in place of a leaf; empty subtrees are nodes of empty ones
//! ```
//!
//! Siblings go from the leaf upwards; bit `i` of the index tells whether the `i`-th sibling is on the left. Leaves and
//! inner nodes differ in their first byte, so that neither passes for the other.
//!
//! Every complete subtree's node is kept (two a claim, on average), so a proof takes 32 reads and hashes whatever the
//! tree's size. A recipient's claim is never taken out again: the contract remembers what it paid.

use alloy_primitives::{U256, keccak256};
use borsh::{BorshDeserialize, BorshSerialize};
use lamina_certificate::Genesis;
use lamina_types::{Action, Address, Amount, Asset, Digest, Height, OperationId};
use serde::{Deserialize, Serialize};

use super::bank::{self, Holder};
use super::{Env, Module, Origin, Refusal, Scope, Stop};
use crate::StorageError;

/// Levels of the tree above its leaves.
pub const DEPTH: usize = 32;
/// Most claims that the tree holds.
pub const CLAIMS_MAX: u64 = 1 << DEPTH;

/// The module that carries out withdrawals.
#[derive(Debug, Clone, Copy, Default)]
pub struct Claims;

/// What the vault contract owes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Claim {
    /// Its place in the tree, from 0; below [`CLAIMS_MAX`].
    pub index: u64,
    /// Who is paid on Ethereum.
    pub recipient: Address,
    /// In what.
    pub asset: Asset,
    /// How much.
    pub amount: Amount,
}

/// A claim with where it comes from.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct ClaimRecord {
    /// What is owed.
    pub claim: Claim,
    /// The withdrawal.
    pub operation: OperationId,
    /// The first checkpoint whose tree has it.
    pub height: Height,
}

/// Value that came in from Ethereum.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Credit {
    /// Who got it.
    pub account: Address,
    /// Of what.
    pub asset: Asset,
    /// How much.
    pub amount: Amount,
}

impl Module for Claims {
    fn name(&self) -> &'static str {
        "claims"
    }

    fn handles(&self, action: &Action) -> bool {
        matches!(action, Action::Withdraw { .. })
    }

    fn apply(
        &self,
        scope: &mut Scope<'_>,
        env: &Env<'_>,
        origin: &Origin,
        action: &Action,
    ) -> Result<(), Stop> {
        let Action::Withdraw { recipient, asset, amount } = *action else {
            return Err(Refusal::invalid("not a withdrawal").into());
        };
        check_asset(asset)?;
        let holder = Holder::Account { account: origin.account };
        bank::burn(scope, &holder, asset, amount)?;
        let index = count(scope)?;
        let claim = Claim { index, recipient, asset, amount };
        append(scope, &claim)?;
        let record = ClaimRecord { claim, operation: origin.operation, height: env.height };
        scope.write(record_key(index), &record);
        Ok(())
    }

    fn genesis(&self, scope: &mut Scope<'_>, _genesis: &Genesis) -> Result<(), Stop> {
        scope.write(ROOT.to_vec(), &empty_subtrees()[DEPTH]);
        Ok(())
    }
}

/// Vouchers of IBC go back to where they come from; the vault on Ethereum holds none.
fn check_asset(asset: Asset) -> Result<(), Refusal> {
    match asset {
        Asset::Ether | Asset::Erc20(_) => Ok(()),
        Asset::Ibc(_) => Err(Refusal::invalid("Ethereum holds none of this asset")),
    }
}

/// Gives an account what it deposited on Ethereum. Tells whether the deposit is new: one with a known `deposit`
/// identifier changes nothing, whatever else it says.
///
/// # Errors
/// [`Refusal::Invalid`] for an asset that isn't Ethereum's, [`Refusal::Overflow`].
pub fn credit_deposit(
    scope: &mut Scope<'_>,
    account: Address,
    asset: Asset,
    amount: Amount,
    deposit: &Digest,
) -> Result<bool, Stop> {
    check_asset(asset)?;
    let key = deposit_key(deposit);
    if scope.get(&key)?.is_some() {
        return Ok(false);
    }
    bank::mint(scope, &Holder::Account { account }, asset, amount)?;
    scope.write(key, &Credit { account, asset, amount });
    Ok(true)
}

/// What a deposit came to, if it was credited.
///
/// # Errors
/// [`StorageError`].
pub fn credit(scope: &Scope<'_>, deposit: &Digest) -> Result<Option<Credit>, StorageError> {
    scope.read(&deposit_key(deposit))
}

/// How many claims there are.
///
/// # Errors
/// [`StorageError`].
pub fn count(scope: &Scope<'_>) -> Result<u64, StorageError> {
    Ok(scope.read(COUNT)?.unwrap_or(0))
}

/// The tree's root.
///
/// # Errors
/// [`StorageError`].
pub fn root(scope: &Scope<'_>) -> Result<Digest, StorageError> {
    Ok(scope.read(ROOT)?.unwrap_or_else(|| empty_subtrees()[DEPTH]))
}

/// The claim at `index`.
///
/// # Errors
/// [`StorageError`].
pub fn claim(scope: &Scope<'_>, index: u64) -> Result<Option<ClaimRecord>, StorageError> {
    scope.read(&record_key(index))
}

/// Claims from `from` on, ascending; at most `limit`.
///
/// # Errors
/// [`StorageError`].
pub fn claims(
    scope: &Scope<'_>,
    from: u64,
    limit: usize,
) -> Result<Vec<ClaimRecord>, StorageError> {
    let after = from.checked_sub(1).map(record_key);
    scope
        .range(RECORDS, after.as_deref(), limit)?
        .iter()
        .map(|(key, value)| {
            borsh::from_slice(value)
                .map_err(|e| StorageError(format!("claim {}: {e}", hex::encode(key))))
        })
        .collect()
}

/// What proves the claim at `index` against [`root`]: its siblings, from the leaf upwards. `None` if there's no such claim.
///
/// # Errors
/// [`StorageError`].
pub fn claim_proof(scope: &Scope<'_>, index: u64) -> Result<Option<[Digest; DEPTH]>, StorageError> {
    prove(scope, index, count(scope)?)
}

/// The same against the root that an earlier checkpoint's header has: the tree only grows. `None` if that one hasn't it.
///
/// # Errors
/// [`StorageError`].
pub fn claim_proof_at(
    scope: &Scope<'_>,
    index: u64,
    height: Height,
) -> Result<Option<[Digest; DEPTH]>, StorageError> {
    // Claims ascend by the checkpoint that they came with: those up to this one are the first so many.
    let (mut low, mut high) = (0, count(scope)?);
    while low < high {
        let middle = low + (high - low) / 2;
        let missing = || StorageError(format!("claim {middle} is missing"));
        let record = claim(scope, middle)?.ok_or_else(missing)?;
        if record.height <= height {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    prove(scope, index, low)
}

/// Against the root of the tree of the first `count` claims.
fn prove(
    scope: &Scope<'_>,
    index: u64,
    count: u64,
) -> Result<Option<[Digest; DEPTH]>, StorageError> {
    if index >= count {
        return Ok(None);
    }
    let edge = edge(scope, count)?;
    let empty = empty_subtrees();
    let mut siblings = [Digest::default(); DEPTH];
    for (level, sibling) in siblings.iter_mut().enumerate() {
        let position = (index >> level) ^ 1;
        *sibling = match position.cmp(&(count >> level)) {
            std::cmp::Ordering::Less => node(scope, level, position)?,
            std::cmp::Ordering::Equal => edge[level],
            std::cmp::Ordering::Greater => empty[level],
        };
    }
    Ok(Some(siblings))
}

impl Claim {
    /// The claim's leaf: see the head of this module.
    #[must_use]
    pub fn leaf(&self) -> Digest {
        let mut bytes = [0; 129];
        let mut words = bytes[1..].chunks_exact_mut(32);
        let fields = [
            U256::from(self.index).to_be_bytes::<32>(),
            word(self.recipient),
            self.asset.to_word(),
            U256::from(self.amount.0).to_be_bytes::<32>(),
        ];
        for field in fields {
            words.next().expect("129 bytes are one and four words").copy_from_slice(&field);
        }
        keccak(&bytes)
    }

    /// Whether `siblings` show that the tree with this `root` has the claim.
    #[must_use]
    pub fn is_proven(&self, siblings: &[Digest; DEPTH], root: &Digest) -> bool {
        let step = |below: Digest, (level, sibling): (usize, &Digest)| {
            if self.index >> level & 1 == 0 { join(&below, sibling) } else { join(sibling, &below) }
        };
        self.index < CLAIMS_MAX && siblings.iter().enumerate().fold(self.leaf(), step) == *root
    }
}

/// An address as a word of Solidity.
fn word(address: Address) -> [u8; 32] {
    let mut word = [0; 32];
    word[12..].copy_from_slice(&address.0);
    word
}

/// Adds the claim as the last one, whose index is the count.
fn append(scope: &mut Scope<'_>, claim: &Claim) -> Result<(), Stop> {
    let index = claim.index;
    if index >= CLAIMS_MAX {
        return Err(Refusal::invalid("there is no room for more claims").into());
    }
    let mut complete = claim.leaf();
    scope.write(node_key(0, index), &complete);
    // Each trailing one of the index is a left neighbour that the new node completes a subtree with.
    for level in 0..index.trailing_ones() as usize {
        complete = join(&node(scope, level, (index >> level) - 1)?, &complete);
        scope.write(node_key(level + 1, index >> (level + 1)), &complete);
    }
    let count = index + 1;
    scope.write(COUNT.to_vec(), &count);
    let root = if count == CLAIMS_MAX { complete } else { edge(scope, count)?[DEPTH] };
    scope.write(ROOT.to_vec(), &root);
    Ok(())
}

/// Of each level from the leaves to the root the node over the first free leaf: what's there on its left, and nothing on
/// its right.
fn edge(scope: &Scope<'_>, count: u64) -> Result<[Digest; DEPTH + 1], StorageError> {
    let empty = empty_subtrees();
    let mut nodes = empty;
    for level in 0..DEPTH {
        let position = count >> level;
        nodes[level + 1] = if position & 1 == 1 {
            join(&node(scope, level, position - 1)?, &nodes[level])
        } else {
            join(&nodes[level], &empty[level])
        };
    }
    Ok(nodes)
}

/// A complete subtree's root.
fn node(scope: &Scope<'_>, level: usize, position: u64) -> Result<Digest, StorageError> {
    scope
        .read(&node_key(level, position))?
        .ok_or_else(|| StorageError(format!("claims: node {position} of level {level} is missing")))
}

/// Roots of empty trees of depth 0 to 32.
fn empty_subtrees() -> [Digest; DEPTH + 1] {
    let mut roots = [Digest::default(); DEPTH + 1];
    for level in 0..DEPTH {
        roots[level + 1] = join(&roots[level], &roots[level]);
    }
    roots
}

fn join(left: &Digest, right: &Digest) -> Digest {
    let mut bytes = [0; 65];
    bytes[0] = 1;
    bytes[1..33].copy_from_slice(&left.0);
    bytes[33..].copy_from_slice(&right.0);
    keccak(&bytes)
}

fn keccak(bytes: &[u8]) -> Digest {
    Digest(keccak256(bytes).0)
}

fn node_key(level: usize, position: u64) -> Vec<u8> {
    let level = u8::try_from(level).expect("at most 32");
    [b"claims/nodes/".as_slice(), &[level], &position.to_be_bytes()].concat()
}

fn record_key(index: u64) -> Vec<u8> {
    [RECORDS, &index.to_be_bytes()].concat()
}

fn deposit_key(deposit: &Digest) -> Vec<u8> {
    [b"claims/deposits/".as_slice(), &deposit.0].concat()
}

/// The root's key; its value is 32 bytes.
pub const ROOT: &[u8] = b"claims/root";
const COUNT: &[u8] = b"claims/count";
const RECORDS: &[u8] = b"claims/records/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaf_bytes_are_laid_out_as_documented() {
        let claim = Claim {
            index: 0x0102,
            recipient: Address([3; 20]),
            asset: Asset::Erc20(Address([4; 20])),
            amount: Amount(0x05_06),
        };
        let mut bytes = vec![0];
        bytes.extend([0; 30]);
        bytes.extend([1, 2]);
        bytes.extend([0; 12]);
        bytes.extend([3; 20]);
        bytes.extend([0; 11]);
        bytes.push(1);
        bytes.extend([4; 20]);
        bytes.extend([0; 30]);
        bytes.extend([5, 6]);
        assert_eq!(claim.leaf(), keccak(&bytes));
    }
}
