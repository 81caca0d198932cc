use std::io;
use std::path::PathBuf;

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
    /// There's no compiler for WebAssembly, and none could be installed.
    #[error("no Rust compiler for WebAssembly: {tried}\nInstall one with\n    {install}")]
    NoToolchain {
        /// What was tried, and what came of it.
        tried: String,
        /// The commands that help.
        install: &'static str,
    },
}
