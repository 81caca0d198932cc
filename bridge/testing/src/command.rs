use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// A folder for what is fetched and made here: `bridge` in the target folder, which is `CARGO_TARGET_DIR` or else
/// `~/.cache/lamina/target`.
pub(crate) fn cache() -> Result<PathBuf> {
    let set = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = match set {
        Some(set) => set,
        None => {
            let home = std::env::var_os("HOME");
            let home = home.context("neither CARGO_TARGET_DIR nor HOME is set")?;
            PathBuf::from(home).join(".cache/lamina/target")
        }
    };
    let folder = target.join("bridge");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

/// Holds the lock of this name until the file is dropped, against other tests that make the same thing.
pub(crate) fn lock(name: &str) -> Result<File> {
    let path = cache()?.join(format!("{name}.lock"));
    let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
    file.lock().with_context(|| format!("locking {}", path.display()))?;
    Ok(file)
}

/// Writes a file as a whole or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_extension(format!("part-{}", std::process::id()));
    fs::write(&part, bytes).with_context(|| format!("writing {}", part.display()))?;
    fs::rename(&part, path).with_context(|| format!("renaming to {}", path.display()))
}

/// Runs `command` and returns what it wrote to standard output.
pub(crate) fn output(command: &mut Command, remedy: &str) -> Result<Vec<u8>> {
    let output =
        command.output().with_context(|| format!("{command:?} can't be started; {remedy}"))?;
    if !output.status.success() {
        let written = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
        bail!("{command:?} failed; {remedy}:\n{}", String::from_utf8_lossy(written));
    }
    Ok(output.stdout)
}
