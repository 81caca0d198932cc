//! A service without a network: what its author runs it with, under the rules that operators run it by.
//!
//! ```
//! use lamina_components::{Config, Engine, local::Local};
//! use lamina_types::Input;
//! # let folder = tempfile::tempdir()?;
//! # let manifest = folder.path().join("service.toml");
//! # std::fs::write(&manifest, "name = \"echo\"\n[limits]\nfuel = 1000\nmemory_bytes = 65536\ninput_bytes = 10\noutput_bytes = 10\n")?;
//! # let component = wat::parse_str(r#"(component (core module $m (memory (export "memory") 1)
//! #     (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
//! #     (func (export "run") (param i32 i32) (result i32)
//! #         (i32.store (i32.const 4) (local.get 0)) (i32.store (i32.const 8) (local.get 1)) (i32.const 0)))
//! #   (core instance $i (instantiate $m))
//! #   (func (export "run") (param "input" (list u8)) (result (result (list u8) (error string)))
//! #     (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))"#)?;
//!
//! let engine = Engine::new(Config::default())?;
//! let mut service = Local::open(&engine, &manifest, &component, &[])?;
//! let report = service.run(&Input::new(*b"hello")?);
//! assert_eq!(report.outcome.unwrap().result.unwrap().as_slice(), b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lamina_types::{
    Address, Digest, Height, Input, Manifest, Outcome, ParameterName, ParameterValue, Price, TaskId,
};
use serde::Deserialize;

use crate::blobs::{Blobs, digest_of_file};
use crate::imports::Log;
use crate::manifest_source::{self, BlobSource, ManifestSource};
use crate::service::{Observed, Service, Task};
use crate::state::ServiceState;
use crate::{Component, Engine};

/// A service on this machine alone, with what it keeps.
#[derive(Debug)]
pub struct Local {
    component: Component,
    manifest: Manifest,
    files: Vec<(lamina_types::BlobName, PathBuf)>,
    service: Service,
    state: Arc<ServiceState>,
}

/// What one run came to.
#[derive(Debug)]
pub struct Report {
    /// What operators would attest, or in a sentence why this one wouldn't.
    pub outcome: Result<Outcome, String>,
    /// What an oracle observed.
    pub observed: Option<Vec<u8>>,
    /// What the run wanted of the outside world and didn't get, in a sentence each.
    pub refusals: Vec<String>,
    /// What the component logged, first while it observed.
    pub logs: Vec<Log>,
    /// What it would cost, in units of [`Price`].
    pub price: u64,
    /// Most memory that it had at any moment, in bytes.
    pub memory_bytes_peak: u64,
    /// How long it took, observing included.
    pub elapsed: Duration,
}

impl Local {
    /// Reads the manifest at `manifest` and makes the component ready. Blobs are looked for by their files' names in the
    /// manifest's folder, then in `blob_folders`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(
        engine: &Engine,
        manifest: &Path,
        component: &[u8],
        blob_folders: &[PathBuf],
    ) -> Result<Self, Error> {
        let source = ManifestSource::read(manifest)?;
        let here = manifest.parent().unwrap_or_else(|| Path::new("")).to_owned();
        let folders: Vec<_> = std::iter::once(here).chain(blob_folders.iter().cloned()).collect();
        let files = source
            .blobs
            .iter()
            .map(|(name, blob)| Ok((name.clone(), find_blob(blob, &folders)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        let manifest = source.into_manifest(Address([0; 20]), component)?;
        let component = engine.load(component, &manifest.component)?;
        let service = component.clone().serve(&manifest, open_all(&files)?)?;
        Ok(Self { component, manifest, files, service, state: Arc::default() })
    }

    /// What the service asks for.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Gives a parameter another value than the manifest does.
    ///
    /// # Errors
    /// [`Error`].
    pub fn set_parameter(
        &mut self,
        name: ParameterName,
        value: ParameterValue,
    ) -> Result<(), Error> {
        let mut manifest = self.manifest.clone();
        manifest.parameters.insert(name, value);
        manifest.check().map_err(|error| Error::Bound { reason: error.to_string() })?;
        self.service = self.component.clone().serve(&manifest, open_all(&self.files)?)?;
        self.manifest = manifest;
        Ok(())
    }

    /// Runs the service once. An oracle observes and then reduces what it alone observed. What the service keeps goes from
    /// one call to the next. Equal inputs make equal tasks, so their clocks and randomness are equal, too.
    pub fn run(&mut self, input: &Input) -> Report {
        let id = TaskId(Digest::of(input.as_slice()).0);
        let task = Task { id, height: Height(0), input, state: &self.state };
        if !self.service.is_oracle() {
            let run = self.service.run(&task);
            return self.report(input, run, None);
        }
        let observation = self.service.observe(&task);
        let value = match &observation.value {
            Ok(value) => value.as_slice().to_vec(),
            Err(reason) => {
                return Report {
                    outcome: Err(format!("nothing was observed: {reason}")),
                    observed: None,
                    refusals: observation.refusals,
                    logs: vec![observation.log],
                    price: 0,
                    memory_bytes_peak: observation.memory_bytes_peak,
                    elapsed: observation.elapsed,
                };
            }
        };
        let run = self.service.reduce(&task, &[Observed { operator: 0, stake: 1, value }]);
        self.report(input, run, Some(observation))
    }

    fn report(
        &mut self,
        input: &Input,
        run: crate::Run,
        observation: Option<crate::Observation>,
    ) -> Report {
        self.state = run.state.unwrap_or_default();
        let price = run
            .verdict
            .as_ref()
            .map_or(0, |outcome| Price::of(&self.manifest.limits, input.as_slice().len(), outcome));
        let outcome = run.verdict.map_err(|abstain| abstain.to_string());
        let Some(observation) = observation else {
            return Report {
                outcome,
                observed: None,
                refusals: Vec::new(),
                logs: vec![run.log],
                price,
                memory_bytes_peak: run.memory_bytes_peak,
                elapsed: run.elapsed,
            };
        };
        Report {
            outcome,
            observed: observation.value.ok().map(lamina_types::Bytes::into_vec),
            refusals: observation.refusals,
            logs: vec![observation.log, run.log],
            price,
            memory_bytes_peak: observation.memory_bytes_peak.max(run.memory_bytes_peak),
            elapsed: observation.elapsed + run.elapsed,
        }
    }
}

/// The file of a blob, whose hash is right, in the first folder that has one of its name.
///
/// # Errors
/// [`Error::BlobMissing`], [`Error::BlobDiffers`], [`Error::Blob`].
pub fn find_blob(blob: &BlobSource, folders: &[PathBuf]) -> Result<PathBuf, Error> {
    let file = Path::new(&blob.file).file_name().unwrap_or_default();
    let candidates = folders.iter().map(|folder| folder.join(file));
    let Some(path) = candidates.into_iter().find(|path| path.is_file()) else {
        return Err(Error::BlobMissing { file: blob.file.clone(), folders: folders.to_vec() });
    };
    let read = |source| Error::Blob { path: path.clone(), source };
    let (digest, bytes) = digest_of_file(&path).map_err(read)?;
    if (digest, bytes) != (blob.blob.digest, blob.blob.bytes.into()) {
        return Err(Error::BlobDiffers { path, found: digest, expected: blob.blob.digest });
    }
    Ok(path)
}

fn open_all(files: &[(lamina_types::BlobName, PathBuf)]) -> Result<Blobs, Error> {
    let mut blobs = Blobs::default();
    for (name, path) in files {
        let opened = File::open(path).and_then(|file| blobs.insert(name.clone(), file));
        opened.map_err(|source| Error::Blob { path: path.clone(), source })?;
    }
    Ok(blobs)
}

/// Inputs and what a service should answer to them: `cases.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cases {
    /// The cases, in their order.
    #[serde(rename = "case")]
    pub cases: Vec<Case>,
}

/// One of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows, as a sentence.
    pub name: String,
    /// What the service is run on.
    pub input: String,
    /// What it should return.
    pub output: Option<String>,
    /// What it should say if it should return an error.
    pub error: Option<String>,
    /// Values in place of the manifest's.
    #[serde(default)]
    pub parameters: std::collections::BTreeMap<ParameterName, ParameterValue>,
}

impl Case {
    /// In words, how `report` differs from what's expected; none if it doesn't.
    #[must_use]
    pub fn differs(&self, report: &Report) -> Option<String> {
        let found = match &report.outcome {
            Ok(Outcome { result: Ok(output), .. }) => {
                Ok(String::from_utf8_lossy(output.as_slice()).into_owned())
            }
            Ok(Outcome { result: Err(lamina_types::Failure::Refused { reason }), .. }) => {
                Err(reason.to_string())
            }
            Ok(Outcome { result: Err(failure), .. }) => return Some(format!("failed: {failure}")),
            Err(reason) => return Some(reason.clone()),
        };
        let expected = match (&self.output, &self.error) {
            (Some(output), None) => Ok(output.clone()),
            (None, Some(error)) => Err(error.clone()),
            _ => return Some("the case needs one of `output` and `error`".to_owned()),
        };
        let say = |result: &Result<String, String>| match result {
            Ok(output) => format!("output {output}"),
            Err(error) => format!("error {error:?}"),
        };
        let differs = found != expected;
        differs.then(|| format!("expected {}, found {}", say(&expected), say(&found)))
    }
}

/// Why a service can't be run here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Its manifest can't be used.
    #[error("the manifest can't be used")]
    Manifest(#[from] manifest_source::Error),
    /// Its component can't be used.
    #[error(transparent)]
    Component(#[from] crate::Error),
    /// A field of the manifest is larger than the network allows.
    #[error("{reason}")]
    Bound {
        /// Which one, and both figures.
        reason: String,
    },
    /// A blob isn't where it was looked for.
    #[error(
        "the blob {file} is in none of {}; put it there, or name its folder with --blobs",
        folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    BlobMissing {
        /// The file's name.
        file: String,
        /// Where it was looked for.
        folders: Vec<PathBuf>,
    },
    /// The file isn't the blob that the manifest names.
    #[error("{} has the SHA-256 {found}, the manifest names {expected}", path.display())]
    BlobDiffers {
        /// The file.
        path: PathBuf,
        /// Its hash.
        found: Digest,
        /// The manifest's.
        expected: Digest,
    },
    /// A blob can't be read.
    #[error("reading {}", path.display())]
    Blob {
        /// Its file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}
