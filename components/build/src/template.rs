use crate::{Kind, Language};

/// A file's path in the project, and its text.
type File = (&'static str, &'static str);

/// The version of the contract that projects are written for.
pub(crate) const CONTRACT_VERSION: &str = "0.2.0";

/// The files of a new project. None if there's no such template.
pub(crate) fn files(language: Language, kind: Kind) -> Option<Vec<File>> {
    let files = match (language, kind) {
        (Language::Rust, Kind::Service) => [RUST.as_slice(), &SDK].concat(),
        (Language::Rust, Kind::Oracle) => [RUST_ORACLE.as_slice(), &SDK].concat(),
        (Language::JavaScript, Kind::Service) => JAVASCRIPT.to_vec(),
        (Language::Python, Kind::Service) => PYTHON.to_vec(),
        (Language::JavaScript | Language::Python, Kind::Oracle) => return None,
    };
    Some(files)
}

const CONTRACT: &str = include_str!("../../wit/world.wit");

const RUST: [File; 6] = [
    (".gitignore", include_str!("../templates/rust/gitignore")),
    ("Cargo.toml", include_str!("../templates/rust/Cargo.toml")),
    ("README.md", include_str!("../templates/rust/README.md")),
    ("cases.toml", include_str!("../templates/cases.toml")),
    ("service.toml", include_str!("../templates/rust/service.toml")),
    ("src/lib.rs", include_str!("../templates/rust/src/lib.rs")),
];

const RUST_ORACLE: [File; 5] = [
    (".gitignore", include_str!("../templates/rust/gitignore")),
    ("Cargo.toml", include_str!("../templates/rust-oracle/Cargo.toml")),
    ("README.md", include_str!("../templates/rust-oracle/README.md")),
    ("service.toml", include_str!("../templates/rust-oracle/service.toml")),
    ("src/lib.rs", include_str!("../templates/rust-oracle/src/lib.rs")),
];

const JAVASCRIPT: [File; 7] = [
    (".gitignore", include_str!("../templates/javascript/gitignore")),
    ("README.md", include_str!("../templates/javascript/README.md")),
    ("cases.toml", include_str!("../templates/cases.toml")),
    ("package.json", include_str!("../templates/javascript/package.json")),
    ("service.js", include_str!("../templates/javascript/service.js")),
    ("service.toml", include_str!("../templates/javascript/service.toml")),
    ("wit/world.wit", CONTRACT),
];

const PYTHON: [File; 7] = [
    (".gitignore", include_str!("../templates/python/gitignore")),
    ("README.md", include_str!("../templates/python/README.md")),
    ("app.py", include_str!("../templates/python/app.py")),
    ("cases.toml", include_str!("../templates/cases.toml")),
    ("requirements.txt", include_str!("../templates/python/requirements.txt")),
    ("service.toml", include_str!("../templates/python/service.toml")),
    ("wit/world.wit", CONTRACT),
];

/// The SDK, so that a project needs nothing of this repository.
const SDK: [File; 21] = [
    ("lamina-sdk/Cargo.toml", include_str!("../../sdk/Cargo.toml")),
    ("lamina-sdk/README.md", include_str!("../../sdk/README.md")),
    ("lamina-sdk/src/blobs.rs", include_str!("../../sdk/src/blobs.rs")),
    ("lamina-sdk/src/export.rs", include_str!("../../sdk/src/export.rs")),
    ("lamina-sdk/src/export_oracle.rs", include_str!("../../sdk/src/export_oracle.rs")),
    ("lamina-sdk/src/host/native.rs", include_str!("../../sdk/src/host/native.rs")),
    ("lamina-sdk/src/host/wasi_http.rs", include_str!("../../sdk/src/host/wasi_http.rs")),
    ("lamina-sdk/src/host/wasm.rs", include_str!("../../sdk/src/host/wasm.rs")),
    ("lamina-sdk/src/host/wasm_oracle.rs", include_str!("../../sdk/src/host/wasm_oracle.rs")),
    ("lamina-sdk/src/http.rs", include_str!("../../sdk/src/http.rs")),
    ("lamina-sdk/src/http/url.rs", include_str!("../../sdk/src/http/url.rs")),
    ("lamina-sdk/src/lib.rs", include_str!("../../sdk/src/lib.rs")),
    ("lamina-sdk/src/llm.rs", include_str!("../../sdk/src/llm.rs")),
    ("lamina-sdk/src/log.rs", include_str!("../../sdk/src/log.rs")),
    ("lamina-sdk/src/oracle.rs", include_str!("../../sdk/src/oracle.rs")),
    ("lamina-sdk/src/parameters.rs", include_str!("../../sdk/src/parameters.rs")),
    ("lamina-sdk/src/state.rs", include_str!("../../sdk/src/state.rs")),
    ("lamina-sdk/src/task.rs", include_str!("../../sdk/src/task.rs")),
    ("lamina-sdk/src/testing.rs", include_str!("../../sdk/src/testing.rs")),
    ("lamina-sdk/src/value.rs", include_str!("../../sdk/src/value.rs")),
    ("lamina-sdk/wit/world.wit", CONTRACT),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    #[test]
    fn templates_are_of_the_contracts_version() {
        let package = format!("package lamina:service@{CONTRACT_VERSION};");
        assert!(CONTRACT.contains(&package), "{package} isn't in world.wit");
    }

    #[test]
    fn every_source_of_the_sdk_is_written() {
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk");
        let present: BTreeSet<_> = sources(&sdk.join("src"))
            .into_iter()
            .map(|path| Path::new("lamina-sdk").join(path.strip_prefix(&sdk).unwrap()))
            .collect();
        let written = SDK.iter().map(|(path, _)| PathBuf::from(path));
        let written = written.filter(|path| path.extension().is_some_and(|e| e == "rs"));
        assert_eq!(written.collect::<BTreeSet<_>>(), present);
    }

    fn sources(folder: &Path) -> Vec<PathBuf> {
        let entries = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
    }
}
