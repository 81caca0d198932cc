//! Services: their manifests, who may change them, and what they were at each height.
//!
//! A service's identifier is the hash of its first manifest; every later one is a version, stored once, under the height
//! of the checkpoint that brought it. A task is pinned to a height and runs by the manifest of that height
//! ([`manifest_at`]): a version counts for tasks of its own height and later ones.
//!
//! Two can change a service: its owner, by operations, and those who committed for votes, through [`apply_change`]. An
//! owner hands a service over by naming another owner in its manifest, and leaves it to the votes alone, for good, by naming
//! [`NOBODY`]. Votes never change the owner.

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use lamina_types::{
    Action, Address, Canonical as _, Height, Manifest, ParameterName, ParameterValue,
    ServiceChange, ServiceId,
};
use serde::{Deserialize, Serialize};

use super::{Env, Module, Origin, Refusal, Scope, Stop};
use crate::StorageError;

/// The owner of services that only votes change: no key has this account.
pub const NOBODY: Address = Address([0; 20]);

/// The module that registers and updates services.
#[derive(Debug, Clone, Copy, Default)]
pub struct Services;

/// A service, but for its manifest.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct ServiceRecord {
    /// Who may update it; [`NOBODY`]: only votes.
    pub owner: Address,
    /// Whether it takes no tasks for now.
    pub paused: bool,
    /// The checkpoint that brought it.
    pub registered: Height,
    /// The checkpoint that brought its manifest.
    pub updated: Height,
    /// How many manifests it has had.
    pub versions: u64,
}

/// A service as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its identifier.
    pub id: ServiceId,
    /// All but its manifest.
    #[serde(flatten)]
    pub record: ServiceRecord,
    /// Its manifest.
    pub manifest: Manifest,
}

impl Module for Services {
    fn name(&self) -> &'static str {
        "services"
    }

    fn handles(&self, action: &Action) -> bool {
        matches!(action, Action::RegisterService { .. } | Action::UpdateService { .. })
    }

    fn apply(
        &self,
        scope: &mut Scope<'_>,
        env: &Env<'_>,
        origin: &Origin,
        action: &Action,
    ) -> Result<(), Stop> {
        match action {
            Action::RegisterService { manifest } => register(scope, env, origin, manifest),
            Action::UpdateService { service, manifest } => {
                let found = record(scope, *service)?.ok_or_else(unknown)?;
                if found.owner == NOBODY {
                    return Err(Refusal::forbidden("a vote").into());
                }
                if found.owner != origin.account {
                    return Err(Refusal::forbidden("the service's owner").into());
                }
                put_manifest(scope, env, *service, found, manifest)
            }
            _ => Err(Refusal::invalid("not about services").into()),
        }
    }
}

fn register(
    scope: &mut Scope<'_>,
    env: &Env<'_>,
    origin: &Origin,
    manifest: &Manifest,
) -> Result<(), Stop> {
    if manifest.owner != origin.account {
        return Err(Refusal::forbidden("the manifest's owner").into());
    }
    let service = manifest.service_id(&env.context.chain);
    if record(scope, service)?.is_some() {
        return Err(Refusal::exists(SERVICE).into());
    }
    let new = ServiceRecord {
        owner: manifest.owner,
        paused: false,
        registered: env.height,
        updated: env.height,
        versions: 0,
    };
    put_manifest(scope, env, service, new, manifest)
}

/// The service with this identifier.
///
/// # Errors
/// [`StorageError`].
pub fn service(scope: &Scope<'_>, id: ServiceId) -> Result<Option<Service>, StorageError> {
    let Some(record) = record(scope, id)? else { return Ok(None) };
    let manifest = manifest(scope, id, &record)?;
    Ok(Some(Service { id, record, manifest }))
}

/// The service with this identifier, but for its manifest.
///
/// # Errors
/// [`StorageError`].
pub fn record(scope: &Scope<'_>, id: ServiceId) -> Result<Option<ServiceRecord>, StorageError> {
    scope.read(&record_key(id))
}

/// Services whose identifiers come after `after`, ascending; at most `limit`.
///
/// # Errors
/// [`StorageError`].
pub fn services(
    scope: &Scope<'_>,
    after: Option<ServiceId>,
    limit: usize,
) -> Result<Vec<(ServiceId, ServiceRecord)>, StorageError> {
    let after = after.map(record_key);
    let decode = |(key, value): (Vec<u8>, Vec<u8>)| {
        let id = key[RECORDS.len()..].try_into().ok().map(ServiceId);
        let record = borsh::from_slice(&value).ok();
        id.zip(record).ok_or_else(|| StorageError(format!("service {}", hex::encode(&key))))
    };
    scope.range(RECORDS, after.as_deref(), limit)?.into_iter().map(decode).collect()
}

/// The service that a key of the state is about, if it's one of this module's.
#[must_use]
pub fn service_of(key: &[u8]) -> Option<ServiceId> {
    let rest = key.strip_prefix(RECORDS).or_else(|| key.strip_prefix(MANIFESTS))?;
    rest.first_chunk().copied().map(ServiceId)
}

/// The checkpoints that changed a service's manifest, the latest first.
///
/// # Errors
/// [`StorageError`].
pub fn manifest_heights(scope: &Scope<'_>, id: ServiceId) -> Result<Vec<Height>, StorageError> {
    let prefix = [MANIFESTS, &id.0].concat();
    let keys = scope.range(&prefix, None, usize::MAX)?.into_iter().map(|(key, _)| key);
    keys.map(|key| {
        let inverted = key[prefix.len()..].try_into().map(u64::from_be_bytes);
        let height = inverted.map(|inverted| Height(u64::MAX - inverted));
        height.map_err(|_| StorageError(format!("service {}", hex::encode(&key))))
    })
    .collect()
}

/// Who may update the service; `None` if there's no such service, [`NOBODY`] if only votes may.
///
/// # Errors
/// [`StorageError`].
pub fn owner(scope: &Scope<'_>, id: ServiceId) -> Result<Option<Address>, StorageError> {
    Ok(record(scope, id)?.map(|record| record.owner))
}

/// The manifest by which tasks run that are pinned to `height`; `None` if the service wasn't there yet.
///
/// For heights that are yet to come it's the present one, which may change.
///
/// # Errors
/// [`StorageError`].
pub fn manifest_at(
    scope: &Scope<'_>,
    id: ServiceId,
    height: Height,
) -> Result<Option<Manifest>, StorageError> {
    let prefix = [MANIFESTS, &id.0].concat();
    // Later versions come first, so this key is the one after all that are too late.
    let after = height.0.checked_add(1).map(|next| manifest_key(id, Height(next)));
    let found = scope.range(&prefix, after.as_deref(), 1)?;
    found.first().map(|(key, value)| decode_manifest(key, value)).transpose()
}

/// Changes a service as its voters decided.
///
/// # Errors
/// [`Refusal::Unknown`], or [`Refusal::Invalid`] if what it becomes is out of bounds.
pub fn apply_change(
    scope: &mut Scope<'_>,
    env: &Env<'_>,
    id: ServiceId,
    change: &ServiceChange,
) -> Result<(), Stop> {
    match change {
        ServiceChange::Parameters { values } => set_parameters(scope, env, id, values),
        ServiceChange::Manifest { manifest } => set_manifest(scope, env, id, manifest),
        ServiceChange::Pause { paused } => set_paused(scope, id, *paused),
    }
}

/// Sets parameters; those that aren't named stay, `None` removes one.
///
/// # Errors
/// [`Refusal::Unknown`]; [`Refusal::Invalid`] if there are too many then, or the manifest is too long.
pub fn set_parameters(
    scope: &mut Scope<'_>,
    env: &Env<'_>,
    id: ServiceId,
    values: &BTreeMap<ParameterName, Option<ParameterValue>>,
) -> Result<(), Stop> {
    let found = record(scope, id)?.ok_or_else(unknown)?;
    let mut manifest = manifest(scope, id, &found)?;
    for (name, value) in values {
        match value {
            Some(value) => manifest.parameters.insert(name.clone(), value.clone()),
            None => manifest.parameters.remove(name),
        };
    }
    put_manifest(scope, env, id, found, &manifest)
}

/// Replaces the manifest. The owner stays.
///
/// # Errors
/// [`Refusal::Unknown`]; [`Refusal::Invalid`] if the manifest is out of bounds or names another owner.
pub fn set_manifest(
    scope: &mut Scope<'_>,
    env: &Env<'_>,
    id: ServiceId,
    manifest: &Manifest,
) -> Result<(), Stop> {
    let found = record(scope, id)?.ok_or_else(unknown)?;
    if manifest.owner != found.owner {
        return Err(Refusal::invalid("votes don't change a service's owner").into());
    }
    put_manifest(scope, env, id, found, manifest)
}

/// Stops the service from taking tasks, or lets it take them again.
///
/// # Errors
/// [`Refusal::Unknown`].
pub fn set_paused(scope: &mut Scope<'_>, id: ServiceId, paused: bool) -> Result<(), Stop> {
    let found = record(scope, id)?.ok_or_else(unknown)?;
    scope.write(record_key(id), &ServiceRecord { paused, ..found });
    Ok(())
}

/// Stores a version. Of two in one checkpoint the later one counts.
fn put_manifest(
    scope: &mut Scope<'_>,
    env: &Env<'_>,
    id: ServiceId,
    found: ServiceRecord,
    manifest: &Manifest,
) -> Result<(), Stop> {
    manifest.check().map_err(|e| Refusal::invalid(&e.to_string()))?;
    let versions = found.versions.checked_add(1).ok_or(Refusal::Overflow)?;
    let record = ServiceRecord { owner: manifest.owner, updated: env.height, versions, ..found };
    scope.write(record_key(id), &record);
    scope.write(manifest_key(id, env.height), manifest);
    Ok(())
}

fn manifest(
    scope: &Scope<'_>,
    id: ServiceId,
    record: &ServiceRecord,
) -> Result<Manifest, StorageError> {
    let key = manifest_key(id, record.updated);
    let bytes = scope.get(&key)?;
    let bytes = bytes.ok_or_else(|| StorageError(format!("service {id} has no manifest")))?;
    decode_manifest(&key, &bytes)
}

fn decode_manifest(key: &[u8], bytes: &[u8]) -> Result<Manifest, StorageError> {
    Manifest::from_bytes(bytes)
        .map_err(|e| StorageError(format!("manifest {}: {e}", hex::encode(key))))
}

/// There's no such service.
pub(super) fn unknown() -> Refusal {
    Refusal::unknown(SERVICE)
}

const SERVICE: &str = "service";
const RECORDS: &[u8] = b"services/records/";
const MANIFESTS: &[u8] = b"services/manifests/";

fn record_key(id: ServiceId) -> Vec<u8> {
    [RECORDS, &id.0].concat()
}

/// The service, and what is left to the greatest height: so later versions come first, and the one of a height is found
/// by going on from there.
fn manifest_key(id: ServiceId, height: Height) -> Vec<u8> {
    [MANIFESTS, &id.0, &(u64::MAX - height.0).to_be_bytes()].concat()
}
