use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::command::{clean, installed, output};
use crate::{Error, Tool};

/// The version of `@bytecodealliance/componentize-js` that new projects pin.
pub(crate) const COMPONENTIZE_JS: &str = "0.23.0";

/// Makes a component of `service.js` in `folder`, by the version of componentize-js that its `package.json` pins.
pub(crate) fn build(folder: &Path) -> Result<Vec<u8>, Error> {
    installed(clean("node").arg("--version"), Tool::Node)?;
    install(folder)?;
    let scratch = tempfile::tempdir().map_err(Error::scratch)?;
    let (link, component) = (scratch.path().join("project"), scratch.path().join("component.wasm"));
    std::os::unix::fs::symlink(folder, &link).map_err(Error::scratch)?;
    let mut node = clean("node");
    node.current_dir(folder).args(["--input-type=module", "-e", include_str!("componentize.mjs")]);
    // What it's named by in errors is the program alone: the script is long, and the same each time.
    output(node.arg("--").args([&link, &component]))
        .map_err(|error| error.of("componentize-js"))?;
    Error::read(&component)
}

/// Has npm install what `package.json` pins, unless it's there.
fn install(folder: &Path) -> Result<(), Error> {
    let pinned = |package: &Value| {
        let of = |group: &str| package[group][PACKAGE].as_str().map(str::to_owned);
        of("devDependencies").or_else(|| of("dependencies"))
    };
    let pinned = read_json(&folder.join("package.json"))?.as_ref().and_then(pinned);
    let manifest = folder.join("node_modules").join(PACKAGE).join("package.json");
    let present = read_json(&manifest)?.and_then(|p| p["version"].as_str().map(str::to_owned));
    if present.is_some() && present == pinned {
        return Ok(());
    }
    installed(clean("npm").arg("--version"), Tool::Npm)?;
    tracing::info!(version = pinned, "installing componentize-js with npm");
    let mut npm = clean("npm");
    npm.current_dir(folder).args(["install", "--no-audit", "--no-fund", "--loglevel=error"]);
    output(&mut npm).map(drop)
}

const PACKAGE: &str = "@bytecodealliance/componentize-js";

/// None if there's no such file, or no JSON in it: npm says what's wrong with it.
fn read_json(path: &Path) -> Result<Option<Value>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File { action: "reading", path: path.to_owned(), source }),
    }
}
