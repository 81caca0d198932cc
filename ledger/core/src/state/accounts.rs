//! Accounts: the order of their operations, and what they give each other.
//!
//! An account's operations take effect in the order of their sequence numbers, without gaps. One that comes before its
//! predecessor waits in the state and takes effect right after it, in the same checkpoint. What waits has paid nothing, so
//! it's bounded: by how far ahead it is, by what its account could pay, by its size in all, and by time.
//!
//! Signatures are no part of the state: an account can sign one operation in many ways, and nodes that carry different
//! signatures must still agree.

use std::time::Duration;

use borsh::{BorshDeserialize, BorshSerialize};
use lamina_certificate::FeeSchedule;
use lamina_types::{Action, Address, Amount, Operation, OperationId, Timestamp};

use super::bank::{self, Holder};
use super::{Env, Module, Origin, Refusal, Scope, Stop};
use crate::StorageError;

/// Gives assets from account to account.
#[derive(Debug, Clone, Copy, Default)]
pub struct Accounts;

/// Furthest that an operation can be ahead of its account's next one, and with it the most that wait for one account.
pub const AHEAD_MAX: u64 = 64;
/// Longest that an operation waits for its predecessor. A guess: a wallet that sends two has long sent both.
pub const WAITING_MAX: Duration = Duration::from_hours(1);
/// Most that waits in all, in bytes. Of the shortest operations that's as many as expire in about a hundred checkpoints.
pub const WAITING_BYTES_MAX: u64 = 16 * 1024 * 1024;

impl Module for Accounts {
    fn name(&self) -> &'static str {
        NAME
    }

    fn handles(&self, action: &Action) -> bool {
        matches!(action, Action::Transfer { .. })
    }

    fn apply(
        &self,
        scope: &mut Scope<'_>,
        _: &Env<'_>,
        origin: &Origin,
        action: &Action,
    ) -> Result<(), Stop> {
        let Action::Transfer { to, asset, amount } = action else {
            return Err(Refusal::invalid("not a transfer").into());
        };
        let (from, to) = (holder(origin.account), holder(*to));
        bank::transfer(scope, &from, &to, *asset, *amount)
    }
}

/// The sequence number of the account's next operation.
///
/// # Errors
/// [`StorageError`].
pub fn next_sequence(scope: &Scope<'_>, account: Address) -> Result<u64, StorageError> {
    Ok(read(scope, account)?.next)
}

/// The account's operations that wait for the ones before them: their numbers and identifiers, ascending.
///
/// # Errors
/// [`StorageError`].
pub fn waiting(
    scope: &Scope<'_>,
    account: Address,
) -> Result<Vec<(u64, OperationId)>, StorageError> {
    let prefix = [WAITING, account.as_ref()].concat();
    let entries = scope.range(&prefix, None, usize::MAX)?;
    entries
        .into_iter()
        .map(|(_, bytes)| Waiting::decode(&bytes))
        .map(|waiting| waiting.map(|it| (it.submitted.operation.sequence, it.submitted.id)))
        .collect()
}

/// What an operation costs: a base, and its size with its signature. `None` if that's more than there can be.
#[must_use]
pub fn fee(fees: &FeeSchedule, operation: &Operation) -> Option<Amount> {
    let bytes = u128::from(size(operation)) + SIGNATURE_BYTES;
    let per_byte = fees.per_byte.0.checked_mul(bytes).map(Amount)?;
    fees.base.checked_add(per_byte)
}

/// An operation, without its signature.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) struct Submitted {
    pub(super) id: OperationId,
    pub(super) operation: Operation,
}

/// The sequence number is used: the account's next operation has the next one.
pub(super) fn advance(scope: &mut Scope<'_>, account: Address) -> Result<(), Stop> {
    let mut state = read(scope, account)?;
    state.next = state.next.checked_add(1).ok_or(Refusal::Overflow)?;
    put(scope, account, &state);
    Ok(())
}

/// Lets an operation wait that is ahead of its account's next one. The same one twice waits once; of two with one number the
/// one with the smaller identifier stays. Returns the one whose place it takes.
pub(super) fn wait(
    scope: &mut Scope<'_>,
    env: &Env<'_>,
    submitted: Submitted,
    fee: Amount,
) -> Result<Option<Submitted>, Stop> {
    let Operation { account, sequence, .. } = submitted.operation;
    let before = at(scope, account, sequence)?;
    let displaced = match before {
        Some(before) if before.submitted.id == submitted.id => return Ok(None),
        Some(before) if before.submitted.id < submitted.id => {
            return Err(Refusal::exists("operation of this sequence").into());
        }
        Some(_) => take(scope, account, sequence)?,
        None => None,
    };
    reserve(scope, env, account, sequence, fee)?;
    occupy(scope, &submitted.operation)?;
    let until = submitted.operation.valid_until.min(env.time + WAITING_MAX);
    scope.schedule(after(until), NAME, &timer(account, sequence));
    scope.write(waiting_key(account, sequence), &Waiting { submitted, fee, until });
    Ok(displaced)
}

/// Takes out the operation that waits with this number.
pub(super) fn take(
    scope: &mut Scope<'_>,
    account: Address,
    sequence: u64,
) -> Result<Option<Submitted>, StorageError> {
    let Some(waiting) = at(scope, account, sequence)? else { return Ok(None) };
    let mut state = read(scope, account)?;
    let reserved = state.reserved.checked_sub(waiting.fee);
    state.reserved = reserved.expect("it was added when the operation began to wait");
    put(scope, account, &state);
    let bytes = waiting_bytes(scope)?.checked_sub(size(&waiting.submitted.operation));
    let bytes = bytes.expect("they were added when the operation began to wait");
    scope.write(WAITING_BYTES.to_vec(), &bytes);
    scope.unschedule(after(waiting.until), NAME, &timer(account, sequence));
    scope.remove(waiting_key(account, sequence));
    Ok(Some(waiting.submitted))
}

/// Takes out the operation that a timer is about: it has waited long enough.
pub(super) fn expire(scope: &mut Scope<'_>, key: &[u8]) -> Result<Option<Submitted>, StorageError> {
    let (account, sequence) = key
        .split_at_checked(20)
        .and_then(|(account, rest)| Some((account.try_into().ok()?, rest.try_into().ok()?)))
        .ok_or_else(|| StorageError("a timer of accounts has another form".to_owned()))?;
    take(scope, Address(account), u64::from_be_bytes(sequence))
}

/// Checks that the account isn't too far ahead, and could pay for all of it that waits.
fn reserve(
    scope: &mut Scope<'_>,
    env: &Env<'_>,
    account: Address,
    sequence: u64,
    fee: Amount,
) -> Result<(), Stop> {
    let mut state = read(scope, account)?;
    if sequence.saturating_sub(state.next) > AHEAD_MAX {
        return Err(Refusal::SequenceAhead { sequence, next: state.next }.into());
    }
    let (asset, needed) = (env.fees.asset, state.reserved.checked_add(fee));
    let needed = needed.ok_or(Refusal::Overflow)?;
    let available = bank::balance(scope, &holder(account), asset)?;
    if needed > available {
        return Err(Refusal::Insufficient { asset, available, needed }.into());
    }
    state.reserved = needed;
    put(scope, account, &state);
    Ok(())
}

/// Counts what waits in all.
fn occupy(scope: &mut Scope<'_>, operation: &Operation) -> Result<(), Stop> {
    let bytes = waiting_bytes(scope)?.saturating_add(size(operation));
    if bytes > WAITING_BYTES_MAX {
        return Err(Refusal::invalid("too much waits already for operations before it").into());
    }
    scope.write(WAITING_BYTES.to_vec(), &bytes);
    Ok(())
}

/// What is kept of an account beside what it has.
#[derive(Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct Account {
    /// The sequence number of its next operation.
    next: u64,
    /// The fees of its operations that wait.
    reserved: Amount,
}

/// An operation that came before its predecessor.
#[derive(Debug, BorshSerialize, BorshDeserialize)]
struct Waiting {
    submitted: Submitted,
    fee: Amount,
    /// The last moment in which it may take effect.
    until: Timestamp,
}

impl Waiting {
    fn decode(bytes: &[u8]) -> Result<Self, StorageError> {
        borsh::from_slice(bytes).map_err(|e| StorageError(format!("a waiting operation: {e}")))
    }
}

fn read(scope: &Scope<'_>, account: Address) -> Result<Account, StorageError> {
    Ok(scope.read(&account_key(account))?.unwrap_or_default())
}

/// An account that has done nothing isn't kept: it hasn't paid for its place.
fn put(scope: &mut Scope<'_>, account: Address, state: &Account) {
    let key = account_key(account);
    if *state == Account::default() { scope.remove(key) } else { scope.write(key, state) }
}

fn at(scope: &Scope<'_>, account: Address, sequence: u64) -> Result<Option<Waiting>, StorageError> {
    scope.read(&waiting_key(account, sequence))
}

fn waiting_bytes(scope: &Scope<'_>) -> Result<u64, StorageError> {
    Ok(scope.read(WAITING_BYTES)?.unwrap_or_default())
}

/// An account as a holder.
pub(super) const fn holder(account: Address) -> Holder {
    Holder::Account { account }
}

fn size(operation: &Operation) -> u64 {
    borsh::object_length(operation).expect("counting doesn't fail") as u64
}

/// The first moment after this one.
fn after(moment: Timestamp) -> Timestamp {
    moment + Duration::from_micros(1)
}

/// `accounts/state/` and the address; the value is the next sequence number (8 bytes, little-endian) and the fees of what
/// waits (16 bytes, little-endian). There's none before the first operation.
#[must_use]
pub fn account_key(account: Address) -> Vec<u8> {
    [b"accounts/state/".as_slice(), account.as_ref()].concat()
}

fn waiting_key(account: Address, sequence: u64) -> Vec<u8> {
    [WAITING, account.as_ref(), &sequence.to_be_bytes()].concat()
}

fn timer(account: Address, sequence: u64) -> Vec<u8> {
    [account.as_ref(), &sequence.to_be_bytes()].concat()
}

/// What keys and timers of this module begin with. Its timers are the state machine's own.
pub(super) const NAME: &str = "accounts";
/// What keys of waiting operations begin with; address and number (8 bytes, big-endian) follow.
const WAITING: &[u8] = b"accounts/waiting/";
/// How much waits in all, in bytes.
const WAITING_BYTES: &[u8] = b"accounts/waiting-bytes";
/// An account's signature in a signed operation.
const SIGNATURE_BYTES: u128 = 65;

#[cfg(test)]
mod tests {
    use lamina_types::account::SigningContext;
    use lamina_types::{Asset, EpochNumber, EthereumBlock, Height};

    use super::*;
    use crate::testing::MemoryState;

    fn operation(sequence: u64) -> Submitted {
        let action =
            Action::Transfer { to: Address([2; 20]), asset: Asset::Ether, amount: Amount(1) };
        let operation = Operation {
            account: Address([1; 20]),
            sequence,
            valid_until: Timestamp(100),
            fee_max: Amount::ZERO,
            action,
        };
        Submitted { id: OperationId([7; 32]), operation }
    }

    /// Calls `wait` where so many bytes wait already.
    fn wait_after(bytes: u64) -> (Result<Option<Submitted>, Stop>, u64) {
        let state = MemoryState::default();
        let mut scope = Scope::new(&state);
        let context = SigningContext { chain: "lamina-test-1".parse().unwrap(), ethereum_chain: 1 };
        let env = Env {
            height: Height(1),
            time: Timestamp(1),
            epoch: EpochNumber(0),
            ethereum: EthereumBlock::default(),
            context: &context,
            fees: &FeeSchedule::default(),
        };
        scope.write(WAITING_BYTES.to_vec(), &bytes);
        let done = wait(&mut scope, &env, operation(3), Amount::ZERO);
        (done, waiting_bytes(&scope).unwrap())
    }

    #[test]
    fn what_waits_in_all_is_bounded() {
        let size = size(&operation(3).operation);
        let room = WAITING_BYTES_MAX - size;
        assert_eq!(wait_after(room), (Ok(None), WAITING_BYTES_MAX));
        assert!(matches!(wait_after(room + 1), (Err(Stop::Refused(_)), _)));
    }

    #[test]
    fn a_timer_of_what_no_longer_waits_does_nothing() {
        let state = MemoryState::default();
        let mut scope = Scope::new(&state);
        assert_eq!(expire(&mut scope, &timer(Address([1; 20]), 3)), Ok(None));
        assert!(expire(&mut scope, b"too short").is_err());
    }

    /// The 65 bytes of a signature are in the fee: it's that of the signed operation's canonical bytes.
    #[test]
    fn fee_is_of_the_signed_operation() {
        use lamina_types::{AccountKey, Canonical};
        let key = AccountKey::from_bytes(&[1; 32]).unwrap();
        let context = SigningContext { chain: "lamina-test-1".parse().unwrap(), ethereum_chain: 1 };
        let signed = operation(0).operation.sign(&key, &context);
        let fees = FeeSchedule { base: Amount(3), per_byte: Amount(2), ..FeeSchedule::default() };
        let expected = Amount(3 + 2 * signed.to_bytes().len() as u128);
        assert_eq!(fee(&fees, &signed.operation), Some(expected));
    }
}
