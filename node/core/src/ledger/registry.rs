//! What the state says of services, as tasks need it: manifests and service sets, by height.

use std::collections::BTreeSet;

use lamina_ledger::state::operators::{self, Sets};
use lamina_ledger::state::{CURRENT_KEY, Current, Scope, Writes, services};
use lamina_ledger::{StateReader, StorageError};
use lamina_types::{Height, ServiceId};

use crate::{CheckpointView, HEIGHTS_KEPT, ServiceVersion};

/// Services that are read at once.
const PAGE: usize = 256;

/// Reads services from states; keeps the operator sets that it makes of them.
#[derive(Debug, Default)]
pub struct Registry(Sets);

impl Registry {
    /// All services, with their versions of the last [`HEIGHTS_KEPT`] checkpoints: what a node begins with.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn all(&self, reader: &dyn StateReader) -> Result<CheckpointView, StorageError> {
        let scope = Scope::new(reader);
        let (mut ids, mut after) = (Vec::new(), None);
        loop {
            let page = services::services(&scope, after, PAGE)?;
            ids.extend(page.iter().map(|(id, _)| *id));
            match page.last() {
                Some((id, _)) if page.len() == PAGE => after = Some(*id),
                _ => break,
            }
        }
        self.view(&scope, ids, |registry, id, tip| registry.versions(&scope, id, tip))
    }

    /// The services that a checkpoint changed, which wrote `writes`; all of them with a new epoch.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn changed(
        &self,
        reader: &dyn StateReader,
        writes: &Writes,
    ) -> Result<CheckpointView, StorageError> {
        let scope = Scope::new(reader);
        let current = current(&scope)?;
        let before = Height(current.height.0.saturating_sub(1));
        if operators::epoch_at(&scope, before)? != Some(current.epoch) {
            return self.all(reader);
        }
        let touched = writes
            .keys()
            .filter_map(|key| services::service_of(key).or_else(|| operators::service_of(key)));
        let ids: BTreeSet<ServiceId> = touched.collect();
        self.view(&scope, ids, |registry, id, tip| {
            Ok(registry.version(&scope, id, tip)?.into_iter().collect())
        })
    }

    fn view(
        &self,
        scope: &Scope<'_>,
        ids: impl IntoIterator<Item = ServiceId>,
        versions: impl Fn(&Self, ServiceId, Height) -> Result<Vec<ServiceVersion>, StorageError>,
    ) -> Result<CheckpointView, StorageError> {
        let Current { height, time, epoch, .. } = current(scope)?;
        let missing = || StorageError(format!("the operators of epoch {epoch} are missing"));
        let operators = self.0.of_epoch(scope, epoch)?.ok_or_else(missing)?;
        let mut list = Vec::new();
        for id in ids {
            list.extend(versions(self, id, height)?);
        }
        Ok(CheckpointView { height, time, operators, services: list })
    }

    /// A service's versions that tasks can still be pinned to, ascending.
    fn versions(
        &self,
        scope: &Scope<'_>,
        id: ServiceId,
        tip: Height,
    ) -> Result<Vec<ServiceVersion>, StorageError> {
        let oldest = Height(tip.0.saturating_sub(HEIGHTS_KEPT));
        let mut heights = BTreeSet::from([oldest]);
        heights.extend(services::manifest_heights(scope, id)?);
        heights.extend(operators::epoch_starts(scope)?);
        for (_, choice) in operators::choices(scope, id)? {
            heights.extend(choice.heights());
        }
        let mut versions = Vec::new();
        for height in heights.range(oldest..=tip) {
            versions.extend(self.version(scope, id, *height)?);
        }
        Ok(versions)
    }

    /// What holds of a service from this height on; nothing if it wasn't there yet.
    fn version(
        &self,
        scope: &Scope<'_>,
        id: ServiceId,
        since: Height,
    ) -> Result<Option<ServiceVersion>, StorageError> {
        let Some(record) = services::record(scope, id)? else { return Ok(None) };
        let Some(manifest) = services::manifest_at(scope, id, since)? else { return Ok(None) };
        let set = self.0.service_set(scope, id, since)?;
        let (manifest, paused) = (Box::new(manifest), record.paused);
        Ok(Some(ServiceVersion { id, since, manifest, paused, set }))
    }
}

fn current(scope: &Scope<'_>) -> Result<Current, StorageError> {
    let missing = || StorageError("the state has no checkpoint".to_owned());
    scope.read(CURRENT_KEY)?.ok_or_else(missing)
}
