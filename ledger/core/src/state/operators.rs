//! Operators: the sets of each epoch, registered keys, who serves which service, and what operators did there, good and
//! bad.
//!
//! The sets of epochs come from the genesis file, or from Ethereum's snapshots by the checkpoints that name their blocks; each
//! stands with the height from which it signs. The *service set* of a
//! service at a height is made of the operators of that height's epoch that had chosen the service by then, in the epoch's
//! order and with its stake ([`service_set`]). A service that none of them chose is served by all of them: so a network
//! works before its operators choose. From the first choice on, those who chose answer for it alone, however little stake
//! they have: who relies on a service looks at its set.
//!
//! A task's certificate is checked later than the task was made, when the choices may be other ones. So the last few changes
//! of each choice are kept: as many as matter within [`SERVICE_SET_HEIGHTS_MAX`] checkpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use borsh::{BorshDeserialize, BorshSerialize};
use lamina_certificate::{
    Genesis, NO_REGISTRAR, OPERATORS_MAX, OffenceKind, Operator, OperatorSet, PublicKey, Signature,
    SignerBitmap, verify_peer_signature,
};
use lamina_types::{
    Action, Address, Bytes, ChainId, Digest, EpochNumber, Height, OperationId, OperatorIndex,
    OperatorKeys, PeerKey, ServiceId, signing,
};
use serde::{Deserialize, Serialize};

use super::{Env, Module, Origin, Refusal, Scope, Stop, services};
use crate::StorageError;

/// How far back service sets are known, in checkpoints: more than a day at one a second.
pub const SERVICE_SET_HEIGHTS_MAX: u64 = 100_000;
/// How often an operator can change its choice of a service within [`SERVICE_SET_HEIGHTS_MAX`] checkpoints; the last time is
/// for leaving, so that nobody has to stay. A guess: what a few upgrades and mistakes take.
pub const SWITCHES_MAX: usize = 16;

/// The module of operators' keys and choices.
#[derive(Debug, Clone, Copy, Default)]
pub struct Operators;

/// An epoch, but for its operators.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Epoch {
    /// The first checkpoint that its operators sign.
    pub first: Height,
    /// How many they are.
    pub size: u16,
    /// Their set's root ([`OperatorSet::root`]).
    pub root: Digest,
}

/// An operator of a set.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Member {
    /// Its account.
    pub address: Address,
    /// Its node's ed25519 key.
    pub peer_key: PeerKey,
    /// Its BLS12-381 key: a compressed point of G1, 48 bytes.
    pub bls_public_key: Bytes<48>,
    /// Its stake, in gwei.
    pub stake_gwei: u64,
}

impl From<&Operator> for Member {
    fn from(operator: &Operator) -> Self {
        Self {
            address: operator.address,
            peer_key: operator.peer_key,
            bls_public_key: bytes(&operator.bls.to_bytes()),
            stake_gwei: operator.stake_gwei,
        }
    }
}

impl Member {
    /// The operator, its BLS key decompressed; `None` if that's no key.
    #[must_use]
    pub fn operator(&self) -> Option<Operator> {
        let bls = self.bls_public_key.as_slice().try_into().ok()?;
        let bls = PublicKey::from_bytes(bls).ok()?;
        let Self { address, peer_key, stake_gwei, .. } = *self;
        Some(Operator { address, peer_key, bls, stake_gwei })
    }
}

/// An account's keys.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct RegisteredKeys {
    /// Its node's ed25519 key.
    pub peer_key: PeerKey,
    /// Its BLS12-381 key: a compressed point of G1, 48 bytes.
    pub bls_public_key: Bytes<48>,
}

/// An operator's changes of mind about a service, ascending by height.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Choice {
    switches: Vec<Switch>,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
struct Switch {
    height: Height,
    serves: bool,
}

/// Something that an operator signed twice.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Offence {
    /// What.
    pub kind: OffenceKind,
    /// In which epoch.
    pub epoch: EpochNumber,
    /// The checkpoint in which it was proven.
    pub height: Height,
    /// Who proved it.
    pub reporter: Address,
    /// The operation that has the evidence.
    pub operation: OperationId,
}

impl Module for Operators {
    fn name(&self) -> &'static str {
        "operators"
    }

    fn handles(&self, action: &Action) -> bool {
        matches!(
            action,
            Action::RegisterOperator { .. } | Action::OptIn { .. } | Action::OptOut { .. }
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
            Action::RegisterOperator { keys } => register(scope, env, origin.account, keys),
            Action::OptIn { service } => choose(scope, env, origin.account, *service, true),
            Action::OptOut { service } => choose(scope, env, origin.account, *service, false),
            _ => Err(Refusal::invalid("not about operators").into()),
        }
    }

    fn genesis(&self, scope: &mut Scope<'_>, genesis: &Genesis) -> Result<(), Stop> {
        let epochs = genesis.epochs().map_err(|e| Refusal::invalid(&e.to_string()))?;
        scope.write(CHAIN.to_vec(), &genesis.chain_id);
        if let Some(ethereum) = &genesis.ethereum {
            scope.write(REGISTRAR.to_vec(), &ethereum.contracts.registrar);
        }
        for (first, set) in &epochs {
            put_set(scope, *first, set);
        }
        Ok(())
    }
}

/// Ethereum's snapshot of a later epoch: its operators sign from checkpoint `first` on.
pub(super) fn begin_epoch(scope: &mut Scope<'_>, first: Height, set: &OperatorSet) {
    put_set(scope, first, set);
}

fn put_set(scope: &mut Scope<'_>, first: Height, set: &OperatorSet) {
    let epoch = set.epoch();
    scope.write(epoch_key(epoch), &Epoch { first, size: set.size(), root: set.root() });
    scope.write(start_key(first), &epoch);
    for (index, operator) in set.iter() {
        let member = Member::from(operator);
        let keys = RegisteredKeys {
            peer_key: member.peer_key,
            bls_public_key: member.bls_public_key.clone(),
        };
        scope.write(set_key(epoch, index), &member);
        scope.write(member_key(epoch, operator.address), &index);
        put_keys(scope, operator.address, &keys);
    }
}

fn put_keys(scope: &mut Scope<'_>, address: Address, keys: &RegisteredKeys) {
    scope.write(keys_key(address), keys);
    scope.write(peer_key(&keys.peer_key), &address);
    scope.write(bls_key(&keys.bls_public_key), &address);
}

fn register(
    scope: &mut Scope<'_>,
    env: &Env<'_>,
    account: Address,
    keys: &OperatorKeys,
) -> Result<(), Stop> {
    let new =
        RegisteredKeys { peer_key: keys.peer_key, bls_public_key: keys.bls_public_key.clone() };
    if let Some(known) = registered(scope, account)? {
        return if known == new { Ok(()) } else { Err(Refusal::exists("operator").into()) };
    }
    for index in [peer_key(&new.peer_key), bls_key(&new.bls_public_key)] {
        if scope.get(&index)?.is_some() {
            return Err(Refusal::exists("key").into());
        }
    }
    let registrar = scope.read(REGISTRAR)?.unwrap_or(NO_REGISTRAR);
    check_possession(&env.context.chain, &account, &registrar, keys)?;
    put_keys(scope, account, &new);
    Ok(())
}

/// Checks both proofs: that whoever has the keys wants them to be this account's.
fn check_possession(
    chain: &ChainId,
    account: &Address,
    registrar: &Address,
    keys: &OperatorKeys,
) -> Result<(), Refusal> {
    let bls: Option<[u8; 48]> = keys.bls_public_key.as_slice().try_into().ok();
    let proof: Option<[u8; 96]> = keys.proof_of_possession.as_slice().try_into().ok();
    let peer: Option<[u8; 64]> = keys.peer_signature.as_slice().try_into().ok();
    let (Some(bls), Some(proof), Some(peer)) = (bls, proof, peer) else {
        return Err(Refusal::invalid("a key or a proof has the wrong size"));
    };
    let message = signing::peer_possession(chain, account, &keys.peer_key);
    if !verify_peer_signature(&keys.peer_key, &message, &peer) {
        return Err(Refusal::invalid("the node key's proof of possession doesn't hold"));
    }
    let message = signing::proof_of_possession(chain, account, registrar, &bls);
    match (PublicKey::from_bytes(&bls), Signature::from_bytes(&proof)) {
        (Ok(key), Ok(proof)) if key.verifies(&message, &proof) => Ok(()),
        _ => Err(Refusal::invalid("the BLS key's proof of possession doesn't hold")),
    }
}

fn choose(
    scope: &mut Scope<'_>,
    env: &Env<'_>,
    operator: Address,
    service: ServiceId,
    serves: bool,
) -> Result<(), Stop> {
    services::record(scope, service)?.ok_or_else(services::unknown)?;
    // Whoever left the set may still take its choices back.
    if serves && index_of(scope, env.epoch, operator)?.is_none() {
        return Err(Refusal::forbidden("an operator of this epoch").into());
    }
    let key = choice_key(service, operator);
    let mut choice: Choice = scope.read(&key)?.unwrap_or_default();
    if choice.now() == serves {
        let reason = if serves { "it serves the service" } else { "it doesn't serve the service" };
        return Err(Refusal::invalid(reason).into());
    }
    choice.switch(env.height, serves)?;
    if choice.switches.is_empty() {
        scope.remove(key);
    } else {
        scope.write(key, &choice);
    }
    Ok(())
}

impl Choice {
    /// Whether the operator serves the service.
    #[must_use]
    pub fn now(&self) -> bool {
        self.switches.last().is_some_and(|last| last.serves)
    }

    /// Whether it did at `height`.
    #[must_use]
    pub fn at(&self, height: Height) -> bool {
        let last = self.switches.iter().rev().find(|switch| switch.height <= height);
        last.is_some_and(|switch| switch.serves)
    }

    /// The checkpoints in which it changed its mind, as far as that's remembered.
    pub fn heights(&self) -> impl Iterator<Item = Height> {
        self.switches.iter().map(|switch| switch.height)
    }

    /// Of two switches in one checkpoint only the later one counts. What happened before the oldest height that matters is
    /// forgotten, but for what it came to.
    fn switch(&mut self, height: Height, serves: bool) -> Result<(), Refusal> {
        let oldest = height.0.saturating_sub(SERVICE_SET_HEIGHTS_MAX);
        let settled = self.switches.iter().filter(|switch| switch.height.0 <= oldest).count();
        self.switches.drain(..settled.saturating_sub(1));
        self.switches.retain(|switch| switch.height != height);
        if self.now() != serves {
            self.switches.push(Switch { height, serves });
        }
        if serves && self.switches.len() >= SWITCHES_MAX {
            return Err(Refusal::invalid("it changed its choice too often; try again tomorrow"));
        }
        Ok(())
    }
}

/// The service that a key of the state is about, if it says who serves one.
#[must_use]
pub fn service_of(key: &[u8]) -> Option<ServiceId> {
    key.strip_prefix(CHOICES)?.first_chunk().copied().map(ServiceId)
}

/// The first checkpoints of all epochs that are known.
///
/// # Errors
/// [`StorageError`].
pub fn epoch_starts(scope: &Scope<'_>) -> Result<Vec<Height>, StorageError> {
    let keys = scope.range(STARTS, None, usize::MAX)?.into_iter().map(|(key, _)| key);
    keys.map(|key| {
        let inverted = key[STARTS.len()..].try_into().map(u64::from_be_bytes);
        let height = inverted.map(|inverted| Height(u64::MAX - inverted));
        height.map_err(|_| StorageError(format!("key {}", hex::encode(&key))))
    })
    .collect()
}

/// The keys that an account registered, or that it has in the newest set of the genesis file.
///
/// # Errors
/// [`StorageError`].
pub fn registered(
    scope: &Scope<'_>,
    address: Address,
) -> Result<Option<RegisteredKeys>, StorageError> {
    scope.read(&keys_key(address))
}

/// The epoch with this number.
///
/// # Errors
/// [`StorageError`].
pub fn epoch(scope: &Scope<'_>, epoch: EpochNumber) -> Result<Option<Epoch>, StorageError> {
    scope.read(&epoch_key(epoch))
}

/// The epoch whose operators sign the checkpoint of this height; `None` before genesis.
///
/// # Errors
/// [`StorageError`].
pub fn epoch_at(scope: &Scope<'_>, height: Height) -> Result<Option<EpochNumber>, StorageError> {
    // Later epochs come first, so this key is the one after all that are too late.
    let after = height.0.checked_add(1).map(|next| start_key(Height(next)));
    let found = scope.range(STARTS, after.as_deref(), 1)?;
    found.first().map(|(key, value)| decode(key, value)).transpose()
}

/// The operators of an epoch from `from` on, in their order; at most `limit`.
///
/// # Errors
/// [`StorageError`].
pub fn members(
    scope: &Scope<'_>,
    epoch: EpochNumber,
    from: OperatorIndex,
    limit: usize,
) -> Result<Vec<Member>, StorageError> {
    let prefix = [SETS, &epoch.0.to_be_bytes()].concat();
    let after = from.0.checked_sub(1).map(|index| set_key(epoch, OperatorIndex(index)));
    let found = scope.range(&prefix, after.as_deref(), limit)?;
    found.iter().map(|(key, value)| decode(key, value)).collect()
}

/// An operator's place in its epoch's set.
///
/// # Errors
/// [`StorageError`].
pub fn index_of(
    scope: &Scope<'_>,
    epoch: EpochNumber,
    operator: Address,
) -> Result<Option<OperatorIndex>, StorageError> {
    scope.read(&member_key(epoch, operator))
}

/// Who chose a service, with how it came to it, ascending by account. Not all of them need be in a set.
///
/// # Errors
/// [`StorageError`].
pub fn choices(
    scope: &Scope<'_>,
    service: ServiceId,
) -> Result<BTreeMap<Address, Choice>, StorageError> {
    let prefix = [CHOICES, &service.0].concat();
    let found = scope.range(&prefix, None, usize::MAX)?;
    let entry = |(key, value): &(Vec<u8>, Vec<u8>)| {
        let address = key[prefix.len()..].try_into().map(Address);
        let address = address.map_err(|_| StorageError(format!("key {}", hex::encode(key))))?;
        Ok((address, decode(key, value)?))
    };
    found.iter().map(entry).collect()
}

/// Whether the operator is in the epoch's set and serves the service now: because it chose to, or because none of the set
/// did. False if there's no such service.
///
/// # Errors
/// [`StorageError`].
pub fn serves(
    scope: &Scope<'_>,
    epoch: EpochNumber,
    service: ServiceId,
    operator: Address,
) -> Result<bool, StorageError> {
    if services::record(scope, service)?.is_none() || index_of(scope, epoch, operator)?.is_none() {
        return Ok(false);
    }
    if scope.read(&choice_key(service, operator))?.is_some_and(|choice: Choice| choice.now()) {
        return Ok(true);
    }
    for (other, choice) in choices(scope, service)? {
        if choice.now() && index_of(scope, epoch, other)?.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The service set at `height`; `None` if no epoch holds that height. See [`Sets::service_set`].
///
/// # Errors
/// [`StorageError`].
pub fn service_set(
    scope: &Scope<'_>,
    service: ServiceId,
    height: Height,
) -> Result<Option<Arc<OperatorSet>>, StorageError> {
    Sets::default().service_set(scope, service, height)
}

/// Operator sets made from the state, kept for the next time: making one takes about 0.1 ms an operator.
///
/// What is kept is known by the hash of its contents, so it's right for any state.
#[derive(Debug, Default)]
pub struct Sets(Mutex<BTreeMap<Part, Arc<OperatorSet>>>);

/// Some operators of the set with this root.
type Part = (Digest, SignerBitmap);

/// Most operators that all kept sets have together, some 20 MB; beyond, all sets are dropped. A thousand sets of a hundred,
/// or ten of the largest.
const OPERATORS_KEPT_MAX: usize = 10 * OPERATORS_MAX;

impl Sets {
    /// All operators of an epoch; `None` if no such epoch is known.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn of_epoch(
        &self,
        scope: &Scope<'_>,
        number: EpochNumber,
    ) -> Result<Option<Arc<OperatorSet>>, StorageError> {
        let found = epoch(scope, number)?;
        found.map(|epoch| self.all(scope, number, &epoch)).transpose()
    }

    fn all(
        &self,
        scope: &Scope<'_>,
        number: EpochNumber,
        epoch: &Epoch,
    ) -> Result<Arc<OperatorSet>, StorageError> {
        let mut all = SignerBitmap::empty(epoch.size);
        for index in 0..epoch.size {
            all.insert(OperatorIndex(index));
        }
        self.find_or((epoch.root, all), || read_set(scope, number))
    }

    /// The operators of `height`'s epoch that served the service at that height, in the epoch's order; all of them if none
    /// of them had chosen it. `None` if no epoch holds that height.
    ///
    /// Whether there is such a service isn't asked. Heights more than [`SERVICE_SET_HEIGHTS_MAX`] ago may be answered by
    /// what became of them.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn service_set(
        &self,
        scope: &Scope<'_>,
        service: ServiceId,
        height: Height,
    ) -> Result<Option<Arc<OperatorSet>>, StorageError> {
        let Some(number) = epoch_at(scope, height)? else { return Ok(None) };
        let Some(epoch) = epoch(scope, number)? else { return Ok(None) };
        let all = self.all(scope, number, &epoch)?;
        let chose: BTreeSet<_> = choices(scope, service)?
            .into_iter()
            .filter_map(|(address, choice)| choice.at(height).then_some(address))
            .collect();
        let mut part = SignerBitmap::empty(all.size());
        for (index, operator) in all.iter() {
            if chose.contains(&operator.address) {
                part.insert(index);
            }
        }
        if part.count() == 0 || part.count() == usize::from(all.size()) {
            return Ok(Some(all));
        }
        let members = part.iter().filter_map(|i| all.get(i)).cloned().collect();
        self.find_or((epoch.root, part), || make_set(all.chain().clone(), number, members))
            .map(Some)
    }

    fn find_or(
        &self,
        part: Part,
        make: impl FnOnce() -> Result<OperatorSet, StorageError>,
    ) -> Result<Arc<OperatorSet>, StorageError> {
        if let Some(set) = self.kept().get(&part) {
            return Ok(set.clone());
        }
        let set = Arc::new(make()?);
        let mut kept = self.kept();
        let operators: usize = kept.values().map(|set| usize::from(set.size())).sum();
        if operators + usize::from(set.size()) > OPERATORS_KEPT_MAX {
            kept.clear();
        }
        kept.insert(part, set.clone());
        Ok(set)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, BTreeMap<Part, Arc<OperatorSet>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_set(scope: &Scope<'_>, epoch: EpochNumber) -> Result<OperatorSet, StorageError> {
    let chain = scope.read(CHAIN)?.ok_or_else(|| StorageError("no chain id".to_owned()))?;
    let operator = |member: Member| {
        let operator = member.operator();
        operator.ok_or_else(|| StorageError(format!("key of operator {}", member.address)))
    };
    let members = members(scope, epoch, OperatorIndex(0), usize::MAX)?;
    make_set(chain, epoch, members.into_iter().map(operator).collect::<Result<_, _>>()?)
}

fn make_set(
    chain: ChainId,
    epoch: EpochNumber,
    operators: Vec<Operator>,
) -> Result<OperatorSet, StorageError> {
    OperatorSet::of_operators(chain, epoch, operators)
        .map_err(|e| StorageError(format!("operator set of epoch {epoch}: {e}")))
}

/// In how many recorded tasks of a service an operator took part.
///
/// # Errors
/// [`StorageError`].
pub fn participation(
    scope: &Scope<'_>,
    service: ServiceId,
    operator: Address,
) -> Result<u64, StorageError> {
    Ok(scope.read(&participation_key(service, operator))?.unwrap_or(0))
}

/// Counts one more.
pub(super) fn count_participation(
    scope: &mut Scope<'_>,
    service: ServiceId,
    operator: Address,
) -> Result<(), Stop> {
    let count = participation(scope, service, operator)?.checked_add(1).ok_or(Refusal::Overflow)?;
    scope.write(participation_key(service, operator), &count);
    Ok(())
}

/// What an operator signed twice, by place, ascending by its hash.
///
/// # Errors
/// [`StorageError`].
pub fn offences(
    scope: &Scope<'_>,
    operator: Address,
) -> Result<BTreeMap<Digest, Offence>, StorageError> {
    let prefix = [OFFENCES, &operator.0].concat();
    let entry = |(key, value): &(Vec<u8>, Vec<u8>)| {
        let place = key[prefix.len()..].try_into().map(Digest);
        let place = place.map_err(|_| StorageError(format!("key {}", hex::encode(key))))?;
        Ok((place, decode(key, value)?))
    };
    scope.range(&prefix, None, usize::MAX)?.iter().map(entry).collect()
}

/// Notes an offence.
///
/// # Errors
/// [`Refusal::Exists`] if the operator's offence at this place is known.
pub(super) fn put_offence(
    scope: &mut Scope<'_>,
    operator: Address,
    place: &Digest,
    offence: &Offence,
) -> Result<(), Stop> {
    let key = [OFFENCES, &operator.0, &place.0].concat();
    if scope.get(&key)?.is_some() {
        return Err(Refusal::exists("evidence").into());
    }
    scope.write(key, offence);
    Ok(())
}

fn decode<T: BorshDeserialize>(key: &[u8], value: &[u8]) -> Result<T, StorageError> {
    borsh::from_slice(value).map_err(|e| StorageError(format!("key {}: {e}", hex::encode(key))))
}

fn bytes(key: &[u8; 48]) -> Bytes<48> {
    Bytes::new(*key).expect("48 bytes")
}

const CHAIN: &[u8] = b"operators/chain";
/// The contract that proofs of possession are bound to; absent without one.
const REGISTRAR: &[u8] = b"operators/registrar";
const SETS: &[u8] = b"operators/sets/";
const STARTS: &[u8] = b"operators/starts/";
const CHOICES: &[u8] = b"operators/serving/";
const OFFENCES: &[u8] = b"operators/offences/";

fn epoch_key(epoch: EpochNumber) -> Vec<u8> {
    [b"operators/epochs/".as_slice(), &epoch.0.to_be_bytes()].concat()
}

/// What is left to the greatest height: so later epochs come first, and the one of a height is found by going on from there.
fn start_key(first: Height) -> Vec<u8> {
    [STARTS, &(u64::MAX - first.0).to_be_bytes()].concat()
}

fn set_key(epoch: EpochNumber, index: OperatorIndex) -> Vec<u8> {
    [SETS, &epoch.0.to_be_bytes(), &index.0.to_be_bytes()].concat()
}

fn member_key(epoch: EpochNumber, operator: Address) -> Vec<u8> {
    [b"operators/members/".as_slice(), &epoch.0.to_be_bytes(), &operator.0].concat()
}

fn keys_key(address: Address) -> Vec<u8> {
    [b"operators/keys/".as_slice(), &address.0].concat()
}

fn peer_key(key: &PeerKey) -> Vec<u8> {
    [b"operators/by-peer/".as_slice(), &key.0].concat()
}

fn bls_key(key: &Bytes<48>) -> Vec<u8> {
    [b"operators/by-bls/".as_slice(), key.as_slice()].concat()
}

fn choice_key(service: ServiceId, operator: Address) -> Vec<u8> {
    [CHOICES, &service.0, &operator.0].concat()
}

fn participation_key(service: ServiceId, operator: Address) -> Vec<u8> {
    [b"operators/participation/".as_slice(), &service.0, &operator.0].concat()
}
