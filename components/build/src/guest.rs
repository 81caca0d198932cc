use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use cargo_metadata::{Message, MetadataCommand};
use wit_component::ComponentEncoder;

use crate::command::{clean, output};
use crate::{Error, Toolchain};

/// A component that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// Where it lies: `<out>/<crate's name>.component.wasm`.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What compiled it.
    pub toolchain: Toolchain,
}

/// Builds the guest crate in `crate_dir` with the first toolchain that works, and writes the component to the folder `out`.
///
/// `out` is by default `guests/components` in the target folder: `CARGO_TARGET_DIR`, or else
/// `~/.cache/lamina/target`. A file that wouldn't change isn't written.
///
/// # Errors
/// All of [`Error`].
pub fn build_guest(crate_dir: &Path, out: Option<&Path>) -> Result<Guest, Error> {
    build_guest_with(Toolchain::find()?, crate_dir, out)
}

/// [`build_guest`] with a given toolchain.
///
/// # Errors
/// All of [`Error`].
pub fn build_guest_with(
    toolchain: Toolchain,
    crate_dir: &Path,
    out: Option<&Path>,
) -> Result<Guest, Error> {
    let read = |source| Error::File { action: "finding", path: crate_dir.to_owned(), source };
    let crate_dir = fs::canonicalize(crate_dir).map_err(read)?;
    let guests = target_dir().join("guests");
    let target = guests.join(toolchain.name());
    let (module_path, bytes) = component_of_crate(&toolchain, &crate_dir, &target)?;

    let out = out.map_or_else(|| guests.join("components"), Path::to_owned);
    let name = module_path.file_stem().unwrap_or_default().to_string_lossy().replace('_', "-");
    let path = out.join(format!("{name}.component.wasm"));
    write_if_changed(&path, &bytes)?;
    Ok(Guest { path, bytes, toolchain })
}

/// Compiles the crate in the absolute folder `crate_dir` into `target_dir`, and returns its module's path and the component.
pub(crate) fn component_of_crate(
    toolchain: &Toolchain,
    crate_dir: &Path,
    target_dir: &Path,
) -> Result<(PathBuf, Vec<u8>), Error> {
    let module_path = compile(toolchain, crate_dir, target_dir)?;
    let bytes = component_of(&module_path)?;
    Ok((module_path, bytes))
}

/// The folder for what's built, shared by all checkouts.
fn target_dir() -> PathBuf {
    let set = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    set.unwrap_or_else(|| {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        home.map_or_else(|| PathBuf::from("target"), |home| home.join(".cache/lamina/target"))
    })
}

/// Compiles the crate and returns the path of its module.
fn compile(toolchain: &Toolchain, crate_dir: &Path, target_dir: &Path) -> Result<PathBuf, Error> {
    let mut cargo = toolchain.cargo_build();
    cargo.current_dir(crate_dir);
    cargo.args(["--profile", "guest", "--lib", "--message-format", "json-render-diagnostics"]);
    cargo.arg("--target-dir").arg(target_dir);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", rustflags(toolchain, crate_dir)?);
    let messages = output(&mut cargo)?;

    let manifest = crate_dir.join("Cargo.toml");
    let modules = Message::parse_stream(messages.as_bytes()).filter_map(|message| match message {
        Ok(Message::CompilerArtifact(artifact)) if artifact.manifest_path == manifest => {
            artifact.filenames.into_iter().find(|file| file.extension() == Some("wasm"))
        }
        _ => None,
    });
    let no_module = || Error::NoModule { path: crate_dir.to_owned() };
    modules.last().map(Into::into).ok_or_else(no_module)
}

/// Maps away all paths of this machine, which panics' messages would carry. Separated as cargo has it, by 0x1f.
fn rustflags(toolchain: &Toolchain, crate_dir: &Path) -> Result<OsString, Error> {
    let text = output(
        clean("cargo")
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .current_dir(crate_dir),
    )?;
    let metadata = MetadataCommand::parse(text).map_err(|e| Error::Failed {
        command: "cargo metadata".to_owned(),
        output: e.to_string(),
    })?;
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let mut mapped = vec![
        (metadata.workspace_root.into_std_path_buf(), "/workspace"),
        (toolchain.sysroot()?, "/rust"),
    ];
    mapped.extend(cargo_home.map(|path| (path, "/cargo")));
    let mut flags = OsString::new();
    for (from, to) in mapped {
        if !flags.is_empty() {
            flags.push("\u{1f}");
        }
        flags.push("--remap-path-prefix=");
        flags.push(from);
        flags.push("=");
        flags.push(to);
    }
    Ok(flags)
}

/// The module as a component of the world whose description it carries.
fn component_of(module_path: &Path) -> Result<Vec<u8>, Error> {
    let read = |source| Error::File { action: "reading", path: module_path.to_owned(), source };
    let module = fs::read(module_path).map_err(read)?;
    let encoded = ComponentEncoder::default()
        .module(&module)
        .and_then(|encoder| encoder.validate(true).encode());
    encoded.map_err(|error| Error::Component {
        path: module_path.to_owned(),
        reason: format!("{error:#}"),
    })
}

/// Puts `bytes` at `path` in one step, so that nobody reads half a component.
pub(crate) fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    if fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    let failed = |source| Error::File { action: "writing", path: path.to_owned(), source };
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder).map_err(failed)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unchanged_file_is_not_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.wasm");
        write_if_changed(&path, b"1").unwrap();
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        write_if_changed(&path, b"1").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);
        write_if_changed(&path, b"2").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2");
    }

    #[test]
    fn module_without_a_world_is_no_component() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wasm");
        fs::write(&path, b"\0asm\x0d\0\0\0").unwrap();
        assert!(matches!(component_of(&path), Err(Error::Component { .. })));
    }
}
