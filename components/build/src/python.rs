use std::fs;
use std::path::{Path, PathBuf};

use crate::command::{clean, installed, output};
use crate::{Error, Tool};

/// The version of `componentize-py` that new projects pin.
pub(crate) const COMPONENTIZE_PY: &str = "0.25.1";

/// Makes a component of `app.py` in `folder`, by the version of componentize-py that its `requirements.txt` pins.
pub(crate) fn build(folder: &Path) -> Result<Vec<u8>, Error> {
    let version = pinned(folder)?;
    let environment = environment(&version)?;
    let scratch = tempfile::tempdir().map_err(Error::scratch)?;
    let component = scratch.path().join("component.wasm");
    let mut componentize = clean(environment.join(COMMAND));
    // Else it would look for modules among those of this machine's Python.
    componentize.env("VIRTUAL_ENV", &environment).env_remove("PYTHONPATH");
    componentize.env("PYTHONDONTWRITEBYTECODE", "1").current_dir(folder);
    componentize.args(["--quiet", "--wit-path", "wit", "--world", "service"]);
    componentize.args(["componentize", "--stub-wasi", "app", "-o"]).arg(&component);
    output(&mut componentize)?;
    Error::read(&component)
}

/// The version after `componentize-py==`, or the one of new projects.
fn pinned(folder: &Path) -> Result<String, Error> {
    let path = folder.join("requirements.txt");
    let text = String::from_utf8_lossy(&Error::read(&path)?).into_owned();
    let mut versions = text.lines().filter_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        line.trim().strip_prefix("componentize-py==").map(|version| version.trim().to_owned())
    });
    let version = versions.next_back().unwrap_or_else(|| COMPONENTIZE_PY.to_owned());
    let is_a_version = |c: char| c.is_ascii_alphanumeric() || c == '.';
    if version.is_empty() || !version.chars().all(is_a_version) || version.contains("..") {
        return Err(Error::Version { path, version });
    }
    Ok(version)
}

/// A virtual environment with componentize-py, which is made if it isn't there. One for all projects.
fn environment(version: &str) -> Result<PathBuf, Error> {
    let tools = tools();
    let environment = tools.join(format!("componentize-py-{version}"));
    let file = |source| Error::File { action: "writing", path: tools.clone(), source };
    fs::create_dir_all(&tools).map_err(file)?;
    // One at a time, whichever process it's in; released with the file.
    let lock =
        fs::File::create(tools.join(format!("componentize-py-{version}.lock"))).map_err(file)?;
    lock.lock().map_err(file)?;
    if environment.join(COMPLETE).is_file() {
        return Ok(environment);
    }
    installed(clean("python3").args(["-c", "import ensurepip, venv"]), Tool::Python)?;
    tracing::info!(version, "installing componentize-py with pip");
    output(clean("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    let mut pip = clean(environment.join("bin/python3"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    output(pip.arg(format!("componentize-py=={version}")))?;
    fs::write(environment.join(COMPLETE), "").map_err(file)?;
    Ok(environment)
}

/// `LAMINA_TOOLS`, or else `~/.cache/lamina/tools`.
fn tools() -> PathBuf {
    let set = std::env::var_os("LAMINA_TOOLS").filter(|set| !set.is_empty()).map(PathBuf::from);
    set.unwrap_or_else(|| {
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_else(std::env::temp_dir);
        home.join(".cache/lamina/tools")
    })
}

/// What the environment has that makes components.
const COMMAND: &str = "bin/componentize-py";
/// A file that is there once all is installed.
const COMPLETE: &str = "complete";

#[cfg(test)]
mod tests {
    use super::*;

    fn pinned_by(requirements: &str) -> Result<String, Error> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("requirements.txt"), requirements).unwrap();
        pinned(folder.path())
    }

    #[test]
    fn project_pins_the_version() {
        assert_eq!(pinned_by("# tools\ncomponentize-py==0.25.0 # old\n").unwrap(), "0.25.0");
        assert_eq!(pinned_by("").unwrap(), COMPONENTIZE_PY);
    }

    #[test]
    fn version_is_no_path() {
        for version in ["../../a", "", "1/2", ".."] {
            let error = pinned_by(&format!("componentize-py=={version}")).unwrap_err();
            assert!(matches!(error, Error::Version { .. }), "{error}");
        }
    }
}
