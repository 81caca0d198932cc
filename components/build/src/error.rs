use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use crate::Language;

/// Why there's no component.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder can't be read or written.
    #[error("{action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With which one.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A program can't be started.
    #[error("starting {program}")]
    Start {
        /// Which one.
        program: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A program ended with an error.
    #[error("{command} failed:\n{output}")]
    Failed {
        /// The command line.
        command: String,
        /// What it wrote.
        output: String,
    },
    /// The crate isn't a guest.
    #[error("{} builds no .wasm file; its Cargo.toml needs crate-type = [\"cdylib\"]", path.display())]
    NoModule {
        /// The crate's folder.
        path: PathBuf,
    },
    /// The module doesn't make a component.
    #[error("making a component of {}: {reason}", path.display())]
    Component {
        /// The module.
        path: PathBuf,
        /// What's wrong with it.
        reason: String,
    },
    /// `LAMINA_GUEST_TOOLCHAIN` names none.
    #[error("LAMINA_GUEST_TOOLCHAIN is {value:?}; set it to rustup or debian, or unset it")]
    UnknownToolchain {
        /// What it names.
        value: String,
    },
    /// A tool that a project's language needs doesn't work.
    #[error("{tool} is missing: {cause}\nInstall it; on Debian, with\n    {}", tool.install())]
    NoTool {
        /// Which one.
        tool: Tool,
        /// What came of trying.
        #[source]
        cause: Box<Self>,
    },
    /// Not a name for a service.
    #[error(
        "{name:?} can't be a service's name: 1 to 64 of a-z, 0-9, - and _, the first of them a letter (lamina-sdk is taken)"
    )]
    Name {
        /// What it is.
        name: String,
    },
    /// A new project would be mixed up with something else.
    #[error("{} isn't an empty folder; choose another one", path.display())]
    NotEmpty {
        /// Which one.
        path: PathBuf,
    },
    /// There's no example of an oracle in this language.
    #[error("there's no oracle in {language} yet; choose rust")]
    NoTemplate {
        /// Which one.
        language: Language,
    },
    /// The folder holds no project.
    #[error("{} has none of Cargo.toml, package.json and requirements.txt; make a project with `lamina service new`", path.display())]
    NoProject {
        /// Which folder.
        path: PathBuf,
    },
    /// The project's `service.toml` has no name.
    #[error("{}: {reason}", path.display())]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// What's wrong with it.
        reason: String,
    },
    /// The project pins something that is no version.
    #[error("{} pins componentize-py=={version}, which is no version", path.display())]
    Version {
        /// Which file.
        path: PathBuf,
        /// What it pins.
        version: String,
    },
    /// There's no compiler for WebAssembly, and none could be installed.
    #[error("no Rust compiler for WebAssembly: {tried}\nInstall one with\n    {install}")]
    NoToolchain {
        /// What was tried, and what came of it.
        tried: String,
        /// The commands that help.
        install: &'static str,
    },
}

impl Error {
    /// Reads a file that should be there.
    pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Self> {
        let failed = |source| Self::File { action: "reading", path: path.to_owned(), source };
        fs::read(path).map_err(failed)
    }

    /// There's no room for what is only needed for a moment.
    pub(crate) fn scratch(source: io::Error) -> Self {
        Self::File { action: "making a folder in", path: std::env::temp_dir(), source }
    }

    /// The same failure, by a shorter name of the command.
    pub(crate) fn of(self, command: &str) -> Self {
        match self {
            Self::Failed { output, .. } => Self::Failed { command: command.to_owned(), output },
            other => other,
        }
    }
}

/// A program that must be installed for a language's projects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tool {
    /// Rust's.
    Cargo,
    /// What runs JavaScript.
    Node,
    /// What installs packages of JavaScript.
    Npm,
    /// Python 3 with its module `venv`.
    Python,
}

impl Tool {
    /// The command that installs it on Debian.
    #[must_use]
    pub fn install(self) -> &'static str {
        match self {
            Self::Cargo => "apt-get install cargo",
            Self::Node => "apt-get install nodejs",
            Self::Npm => "apt-get install npm",
            Self::Python => "apt-get install python3 python3-venv",
        }
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cargo => "cargo",
            Self::Node => "node",
            Self::Npm => "npm",
            Self::Python => "python3 with venv",
        })
    }
}
