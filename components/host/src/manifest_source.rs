//! A manifest as its author writes it: `service.toml`.
//!
//! It lacks what only the moment of registration knows (owner, component), and a parameter's value may stand in a file
//! beside it:
//!
//! ```
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("service.toml");
//! let text = r#"
//!     name = "moderator"
//!     description = "Judges chat messages by a community's rules."
//!
//!     [limits]
//!     fuel = 50_000_000
//!     memory_bytes = 16_777_216
//!     input_bytes = 8192
//!     output_bytes = 1024
//!
//!     [parameters]
//!     language = "en"
//!     rules = { file = "rules.toml" }
//!
//!     ## Large data, known by its hash; where it lies is for whoever deploys the service to say.
//!     [blobs]
//!     model = { file = "model.bin", sha256 = "0x2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", bytes = 5 }
//!
//!     ## For an oracle only.
//!     [oracle]
//!     origins = ["https://api.example.org"]
//! "#;
//! # std::fs::write(&path, text)?;
//! # std::fs::write(folder.path().join("rules.toml"), "default = \"allow\"")?;
//! let source = lamina_components::ManifestSource::read(&path)?;
//! assert_eq!(source.name.as_str(), "moderator");
//! assert_eq!(source.parameters.len(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use lamina_types::{
    Address, Blob, BlobName, COMPONENT_BYTES_MAX, Digest, Limits, MANIFEST_BYTES_MAX, Manifest,
    Oracle, ParameterName, ParameterValue, ServiceName, Text,
};
use serde::Deserialize;

/// A manifest without its owner and its component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestSource {
    /// What people call the service.
    pub name: ServiceName,
    /// A few sentences for those who choose a service.
    pub description: Text<1024>,
    /// What bounds each task.
    pub limits: Limits,
    /// What the component reads, with the contents of the files that were named.
    pub parameters: BTreeMap<ParameterName, ParameterValue>,
    /// What blobs the component reads.
    pub blobs: BTreeMap<BlobName, BlobSource>,
    /// What an oracle wants; absent for a deterministic service.
    pub oracle: Option<Oracle>,
}

/// A blob, and what its file is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobSource {
    /// What is registered.
    pub blob: Blob,
    /// The file's name, without a folder.
    pub file: String,
}

impl ManifestSource {
    /// Reads the file at `path` and those that it names.
    ///
    /// Files are looked for beside `path` and can't be elsewhere, so that a service from a stranger doesn't publish
    /// something of yours in its manifest.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::TooLong`], [`Error::Syntax`], [`Error::Outside`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = read_bounded(path)?;
        let syntax = |source| Error::Syntax { path: path.to_owned(), source: Box::new(source) };
        let written: Written = toml::from_str(&text).map_err(syntax)?;
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        let inline = |(name, value)| Ok((name, inlined(value, folder)?));
        Ok(Self {
            name: written.name,
            description: written.description,
            limits: written.limits,
            parameters: written.parameters.into_iter().map(inline).collect::<Result<_, Error>>()?,
            blobs: written.blobs.into_iter().map(|(name, blob)| (name, blob.source())).collect(),
            oracle: written.oracle,
        })
    }

    /// The manifest that `owner` can register for `component`.
    ///
    /// # Errors
    /// [`Error::Bound`] names the first field that the network doesn't allow.
    pub fn into_manifest(self, owner: Address, component: &[u8]) -> Result<Manifest, Error> {
        let manifest = Manifest {
            owner,
            name: self.name,
            description: self.description,
            component: Digest::of(component),
            // Out of bounds stays out of bounds: `check` refuses it.
            component_bytes: u32::try_from(component.len()).unwrap_or(COMPONENT_BYTES_MAX + 1),
            limits: self.limits,
            parameters: self.parameters,
            blobs: self.blobs.into_iter().map(|(name, source)| (name, source.blob)).collect(),
            oracle: self.oracle,
        };
        manifest.check().map_err(|error| Error::Bound { reason: error.to_string() })?;
        Ok(manifest)
    }
}

/// The file's own form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: ServiceName,
    #[serde(default)]
    description: Text<1024>,
    limits: Limits,
    #[serde(default)]
    parameters: BTreeMap<ParameterName, WrittenValue>,
    #[serde(default)]
    blobs: BTreeMap<BlobName, WrittenBlob>,
    oracle: Option<Oracle>,
}

/// `{ file = "name", sha256 = "0x…", bytes = n }`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenBlob {
    file: String,
    sha256: Digest,
    bytes: u32,
}

impl WrittenBlob {
    fn source(self) -> BlobSource {
        BlobSource { blob: Blob { digest: self.sha256, bytes: self.bytes }, file: self.file }
    }
}

/// `"value"` or `{ file = "path" }`.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text or { file = \"…\" }")]
enum WrittenValue {
    Inline(ParameterValue),
    File(WrittenFile),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFile {
    file: PathBuf,
}

fn inlined(value: WrittenValue, folder: &Path) -> Result<ParameterValue, Error> {
    let file = match value {
        WrittenValue::Inline(value) => return Ok(value),
        WrittenValue::File(WrittenFile { file }) => file,
    };
    let path = folder.join(&file);
    let read = |source| Error::Read { path: path.clone(), source };
    let base = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let inside = path.canonicalize().map_err(read)?.starts_with(base.canonicalize().map_err(read)?);
    if !inside {
        return Err(Error::Outside { file });
    }
    ParameterValue::new(read_bounded(&path)?).map_err(|_| Error::TooLong { path })
}

/// Reads text of at most [`MANIFEST_BYTES_MAX`] bytes: nothing longer fits into a manifest.
fn read_bounded(path: &Path) -> Result<String, Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(read)?;
    file.take(MANIFEST_BYTES_MAX as u64 + 1).read_to_string(&mut text).map_err(read)?;
    if text.len() > MANIFEST_BYTES_MAX {
        return Err(Error::TooLong { path: path.to_owned() });
    }
    Ok(text)
}

/// Why there's no manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file can't be read, or isn't text.
    #[error("reading {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is longer than a manifest can be.
    #[error("{} has more than {MANIFEST_BYTES_MAX} bytes", path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
    },
    /// Not TOML, or not a manifest's fields.
    #[error("parsing {}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where, and what's expected there.
        source: Box<toml::de::Error>,
    },
    /// A parameter's file lies elsewhere.
    #[error("{} isn't in the folder of the manifest; copy it there", file.display())]
    Outside {
        /// As it's written.
        file: PathBuf,
    },
    /// A field is larger than the network allows.
    #[error("{reason}")]
    Bound {
        /// Which one, and both figures.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str =
        "[limits]\nfuel = 1\nmemory_bytes = 1\ninput_bytes = 1\noutput_bytes = 1\n[parameters]\n";

    fn read(text: &str) -> Result<ManifestSource, Error> {
        let parent = tempfile::tempdir().unwrap();
        std::fs::write(parent.path().join("secret"), "key").unwrap();
        let folder = parent.path().join("service");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("rules.toml"), "rule").unwrap();
        let path = folder.join("service.toml");
        std::fs::write(&path, format!("name = \"a\"\n{LIMITS}{text}")).unwrap();
        ManifestSource::read(&path)
    }

    #[test]
    fn files_are_read_beside_the_manifest() {
        let source = read("rules = { file = \"rules.toml\" }\nword = \"b\"").unwrap();
        let values: Vec<_> = source.parameters.values().map(Text::as_str).collect();
        assert_eq!(values, ["rule", "b"]);
        let manifest = source.into_manifest(Address([1; 20]), b"component").unwrap();
        assert_eq!(manifest.component, Digest::of(b"component"));
    }

    #[test]
    fn files_elsewhere_are_not_published() {
        let error = read("a = { file = \"../secret\" }").unwrap_err();
        assert!(matches!(error, Error::Outside { .. }), "{error}");
    }

    #[test]
    fn absent_file_is_named() {
        let error = read("a = { file = \"b.toml\" }").unwrap_err();
        assert!(error.to_string().ends_with("service/b.toml"), "{error}");
    }

    #[test]
    fn unknown_field_is_refused_with_its_place() {
        let Error::Syntax { source, .. } = read("a = { path = \"rules.toml\" }").unwrap_err()
        else {
            panic!("no syntax error");
        };
        assert!(source.to_string().contains("expected a text or { file"), "{source}");
    }

    #[test]
    fn bounds_of_the_network_hold() {
        let mut source = read("").unwrap();
        source.limits.output_bytes = u32::MAX;
        let error = source.into_manifest(Address([1; 20]), b"component").unwrap_err();
        assert!(error.to_string().starts_with("limits.output_bytes is 4294967295"), "{error}");
    }
}
