use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::Error;
use crate::command::{clean, output};

/// What compiles guests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Toolchain {
    /// Cargo's own compiler, which has the target's standard library.
    Rustup,
    /// Debian's compiler, which brings the standard library as source.
    Debian {
        /// The linker for WebAssembly: rustup's `rust-lld`, or `wasm-ld` of Debian's `lld`.
        linker: PathBuf,
    },
}

impl Toolchain {
    /// The first that works on this machine, or the one that `LAMINA_GUEST_TOOLCHAIN` names. May install it.
    ///
    /// # Errors
    /// [`Error::NoToolchain`] says what to install; [`Error::UnknownToolchain`].
    pub fn find() -> Result<Self, Error> {
        match std::env::var("LAMINA_GUEST_TOOLCHAIN").as_deref() {
            Ok("rustup") => Self::rustup(),
            Ok("debian") => Self::debian(),
            Ok(value) if !value.is_empty() => {
                Err(Error::UnknownToolchain { value: value.to_owned() })
            }
            _ => Self::rustup().or_else(|first| {
                Self::debian().map_err(|second| no_toolchain(&format!("{first}; {second}")))
            }),
        }
    }

    /// Cargo's own compiler. Adds the target through rustup if it's missing.
    ///
    /// # Errors
    /// [`Error::NoToolchain`].
    pub fn rustup() -> Result<Self, Error> {
        let _installing = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
        let has_target = || sysroot().is_ok_and(|root| root.join(RUSTLIB).join(TARGET).is_dir());
        if has_target() {
            return Ok(Self::Rustup);
        }
        tracing::info!(target = TARGET, "adding a target with rustup");
        match output(clean("rustup").args(["target", "add", TARGET])) {
            Ok(_) if has_target() => Ok(Self::Rustup),
            Ok(_) => Err(no_toolchain("rustup added the target to another compiler than cargo's")),
            Err(error) => Err(no_toolchain(&format!("cargo's compiler lacks {TARGET}; {error}"))),
        }
    }

    /// Debian's compiler. Installs it if this is root on a machine with `apt-get`.
    ///
    /// # Errors
    /// [`Error::NoToolchain`].
    pub fn debian() -> Result<Self, Error> {
        let _installing = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(toolchain) = Self::installed_debian() {
            return Ok(toolchain);
        }
        let mut packages = vec!["rustc-web", "rust-web-src"];
        if linker().is_none() {
            packages.push("lld");
        }
        tracing::info!(?packages, "installing with apt-get");
        apt_get_install(&packages).map_err(|e| no_toolchain(&format!("apt-get: {e}")))?;
        Self::installed_debian().ok_or_else(|| no_toolchain("Debian's packages lack something"))
    }

    fn installed_debian() -> Option<Self> {
        let source = Path::new(DEBIAN_SYSROOT).join("lib/rustlib/src/rust/library/std/Cargo.toml");
        let installed = Path::new(DEBIAN_RUSTC).is_file() && source.is_file();
        linker().filter(|_| installed).map(|linker| Self::Debian { linker })
    }

    /// One word, for folders and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rustup => "rustup",
            Self::Debian { .. } => "debian",
        }
    }

    /// `cargo build` for WebAssembly, without the crate's own arguments.
    pub(crate) fn cargo_build(&self) -> Command {
        let mut cargo = clean("cargo");
        cargo.args(["build", "--target", TARGET]);
        if let Self::Debian { linker } = self {
            // Its standard library is built from source, which stable cargo does under this variable only.
            cargo.arg("-Zbuild-std=std,panic_abort");
            cargo.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
            cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
        cargo
    }

    /// Where the compiler's own files lie.
    pub(crate) fn sysroot(&self) -> Result<PathBuf, Error> {
        match self {
            Self::Rustup => sysroot(),
            Self::Debian { .. } => Ok(PathBuf::from(DEBIAN_SYSROOT)),
        }
    }
}

/// Held while something is looked for and installed: neither rustup nor apt-get likes company.
static INSTALLING: Mutex<()> = Mutex::new(());

/// The target that guests are compiled for.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";
const RUSTLIB: &str = "lib/rustlib";
/// Where Debian's `rustc-web` puts the compiler, and its `rust-web-src` the source.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_SYSROOT: &str = "/usr";

/// Where cargo's compiler keeps its libraries.
fn sysroot() -> Result<PathBuf, Error> {
    output(clean("rustc").args(["--print", "sysroot"])).map(|path| PathBuf::from(path.trim()))
}

/// A linker for WebAssembly: the one in a toolchain of rustup's, or one of Debian's `lld`.
fn linker() -> Option<PathBuf> {
    let rust_lld = sysroot().ok().and_then(|root| {
        let hosts = root.join(RUSTLIB).read_dir().ok()?;
        let lld = hosts.flatten().map(|host| host.path().join("bin/rust-lld"));
        lld.into_iter().find(|path| path.is_file())
    });
    let wasm_ld = || {
        let folders = std::env::var_os("PATH")?;
        std::env::split_paths(&folders).map(|f| f.join("wasm-ld")).find(|path| path.is_file())
    };
    rust_lld.or_else(wasm_ld)
}

fn apt_get_install(packages: &[&str]) -> Result<(), Error> {
    // Asks nothing: a build must not wait for an answer.
    let apt_get = || {
        let mut command = clean("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("-y");
        command
    };
    let install = || output(apt_get().args(["install", "--no-install-recommends"]).args(packages));
    // The lists may be absent or old.
    install().or_else(|_| output(apt_get().arg("update")).and_then(|_| install())).map(drop)
}

fn no_toolchain(tried: &str) -> Error {
    Error::NoToolchain {
        tried: tried.to_owned(),
        install: "rustup target add wasm32-unknown-unknown\nor, on Debian, with\n    \
                  apt-get install rustc-web rust-web-src lld",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_says_what_to_install() {
        let error = no_toolchain("nothing found").to_string();
        assert!(error.contains("rustup target add wasm32-unknown-unknown"), "{error}");
        assert!(error.contains("apt-get install rustc-web rust-web-src lld"), "{error}");
    }
}
