use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::command::{clean, installed};
use crate::guest::{component_of_crate, write_if_changed};
use crate::javascript::{self, COMPONENTIZE_JS};
use crate::python::{self, COMPONENTIZE_PY};
use crate::template::{self, CONTRACT_VERSION};
use crate::{Error, Tool, Toolchain};

/// What a project is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Language {
    /// A crate with the SDK beside it.
    Rust,
    /// An ES module, made a component by componentize-js.
    JavaScript,
    /// A module, made a component by componentize-py.
    Python,
}

/// What a project makes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A deterministic service: the world `service`.
    #[default]
    Service,
    /// An oracle: the world `oracle`. In Rust only.
    Oracle,
}

/// A project's component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Where it lies: `<project>/build/<name>.component.wasm`, by the name in `service.toml`.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it's written in.
    pub language: Language,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Rust, Self::JavaScript, Self::Python];

    /// What the project in `folder` is written in, by its `Cargo.toml`, `package.json` or `requirements.txt`.
    ///
    /// # Errors
    /// [`Error::NoProject`].
    pub fn of(folder: &Path) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|language| folder.join(language.file()).is_file());
        found.ok_or_else(|| Error::NoProject { path: folder.to_owned() })
    }

    /// One word, for command lines: `rust`, `javascript` or `python`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::JavaScript => "javascript",
            Self::Python => "python",
        }
    }

    /// The file by which a project is recognised.
    fn file(self) -> &'static str {
        match self {
            Self::Rust => "Cargo.toml",
            Self::JavaScript => "package.json",
            Self::Python => "requirements.txt",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Writes a project that [`build_project`] builds at once: an example to start from. `folder` is made if it isn't there.
///
/// # Errors
/// [`Error::Name`], [`Error::NotEmpty`], [`Error::NoTemplate`]; [`Error::File`] if it can't be written.
pub fn new_project(folder: &Path, name: &str, language: Language, kind: Kind) -> Result<(), Error> {
    check_name(name)?;
    let files = template::files(language, kind).ok_or(Error::NoTemplate { language })?;
    check_empty(folder)?;
    for (path, text) in files {
        let path = folder.join(path);
        let failed = |source| Error::File { action: "writing", path: path.clone(), source };
        fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(failed)?;
        let text = text
            .replace("{{name}}", name)
            .replace("{{contract}}", CONTRACT_VERSION)
            .replace("{{componentize-js}}", COMPONENTIZE_JS)
            .replace("{{componentize-py}}", COMPONENTIZE_PY);
        fs::write(&path, text).map_err(failed)?;
    }
    Ok(())
}

/// Builds the project in `folder`, and writes the component to [`Built::path`].
///
/// A Rust project is compiled into its own folder `target`, by the first [`Toolchain`] that works. Tools of the other
/// languages are installed if they're missing: componentize-js into the project's `node_modules`, componentize-py
/// into `LAMINA_TOOLS` or `~/.cache/lamina/tools`.
///
/// # Errors
/// All of [`Error`] but those of [`new_project`].
pub fn build_project(folder: &Path) -> Result<Built, Error> {
    let found = |source| Error::File { action: "finding", path: folder.to_owned(), source };
    let folder = fs::canonicalize(folder).map_err(found)?;
    let language = Language::of(&folder)?;
    let name = manifest_name(&folder.join("service.toml"))?;
    let bytes = match language {
        Language::Rust => build_rust(&folder)?,
        Language::JavaScript => javascript::build(&folder)?,
        Language::Python => python::build(&folder)?,
    };
    let path = folder.join("build").join(format!("{name}.component.wasm"));
    write_if_changed(&path, &bytes)?;
    Ok(Built { path, bytes, language })
}

fn build_rust(folder: &Path) -> Result<Vec<u8>, Error> {
    installed(clean("cargo").arg("--version"), Tool::Cargo)?;
    let toolchain = Toolchain::find()?;
    let target = folder.join("target/guests").join(toolchain.name());
    component_of_crate(&toolchain, folder, &target).map(|(_, bytes)| bytes)
}

fn manifest_name(path: &Path) -> Result<String, Error> {
    /// The part of a manifest that a build needs; the host reads it all.
    #[derive(Deserialize)]
    struct Manifest {
        name: String,
    }
    let text = Error::read(path)?;
    let invalid = |reason: String| Error::Manifest { path: path.to_owned(), reason };
    let text = str::from_utf8(&text).map_err(|error| invalid(error.to_string()))?;
    let Manifest { name } = toml::from_str(text).map_err(|error| invalid(error.to_string()))?;
    check_name(&name).map(|()| name)
}

fn check_name(name: &str) -> Result<(), Error> {
    let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let begins_well = name.starts_with(|c: char| c.is_ascii_lowercase());
    // The SDK is in the same workspace as a project in Rust.
    let is_taken = name == "lamina-sdk";
    if !begins_well || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_allowed) || is_taken {
        return Err(Error::Name { name: name.to_owned() });
    }
    Ok(())
}

/// The longest name of a service.
const NAME_BYTES_MAX: usize = 64;

/// Nothing that somebody wrote may be overwritten.
fn check_empty(folder: &Path) -> Result<(), Error> {
    match fs::read_dir(folder).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::NotEmpty { path: folder.to_owned() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(Error::File { action: "reading", path: folder.to_owned(), source }),
    }
}
