use std::fmt;
use std::sync::Arc;

use lamina_types::{Digest, Manifest};
use wasmtime::component::{ComponentExportIndex, InstancePre};

use crate::blobs::Blobs;
use crate::imports::{Given, Host};
use crate::{Engine, Error, Service};

/// A component, compiled and checked. Cheap to clone; any number of threads may run it at once.
#[derive(Clone)]
pub struct Component {
    engine: Engine,
    digest: Digest,
    entry: Entry,
}

/// What a component exports, linked to what it's given.
#[derive(Clone)]
pub(crate) enum Entry {
    /// `run`.
    Deterministic { instance: InstancePre<Host>, run: ComponentExportIndex },
    /// `observe` and `reduce`, which are given different things.
    Oracle {
        observing: InstancePre<Host>,
        observe: ComponentExportIndex,
        reducing: InstancePre<Host>,
        reduce: ComponentExportIndex,
    },
}

impl Component {
    pub(crate) fn new(engine: Engine, digest: Digest, entry: Entry) -> Self {
        Self { engine, digest, entry }
    }

    /// SHA-256 of the component's bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether it observes and reduces, rather than runs.
    #[must_use]
    pub fn is_oracle(&self) -> bool {
        matches!(self.entry, Entry::Oracle { .. })
    }

    /// The service that `manifest` makes of this component, with the blobs that it names.
    ///
    /// # Errors
    /// What [`Engine::admit`] says; [`Error::WrongDigest`] if the manifest names another component;
    /// [`Error::WrongKind`] if it isn't of the kind that the manifest says; [`Error::WrongBlob`].
    pub fn serve(self, manifest: &Manifest, blobs: Blobs) -> Result<Service, Error> {
        self.engine.admit(manifest)?;
        if manifest.component != self.digest {
            return Err(Error::WrongDigest { expected: manifest.component, found: self.digest });
        }
        if manifest.oracle.is_some() != self.is_oracle() {
            return Err(Error::WrongKind { manifest_says_oracle: manifest.oracle.is_some() });
        }
        for (name, blob) in &manifest.blobs {
            if blobs.size(name) != Some(blob.bytes.into()) {
                return Err(Error::WrongBlob { name: name.clone(), bytes: blob.bytes });
            }
        }
        let given = Given {
            limits: manifest.limits,
            parameters: manifest.parameters.clone(),
            blobs,
            log_bytes_max: self.engine.config().log_bytes_max as usize,
        };
        let oracle = manifest.oracle.clone().map(Arc::new);
        Ok(Service::new(self.engine, self.entry, Arc::new(given), oracle))
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component").field("digest", &self.digest).finish_non_exhaustive()
    }
}
