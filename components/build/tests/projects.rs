//! New projects in all languages build at once, to components that import nothing but the contract.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs;
use std::path::Path;
use std::process::Command;

use lamina_component_build::{Built, Error, Kind, Language, build_project, new_project};
use tempfile::TempDir;

const NAME: &str = "word-judge";

/// What a service may import, and nothing else.
const SERVICE: [&str; 5] = [
    "lamina:service/parameters@0.2.0",
    "lamina:service/log@0.2.0",
    "lamina:service/blobs@0.2.0",
    "lamina:service/state@0.2.0",
    "lamina:service/task@0.2.0",
];

fn project(language: Language, kind: Kind) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    new_project(folder.path(), NAME, language, kind).unwrap();
    folder
}

/// Builds it, or records that `test` is skipped because a tool isn't there.
fn build(test: &str, folder: &Path) -> Option<Built> {
    match build_project(folder) {
        Ok(built) => {
            assert!(built.path.ends_with("build/word-judge.component.wasm"), "{built:?}");
            assert_eq!(fs::read(&built.path).unwrap(), built.bytes);
            println!("{} bytes import {:#?}", built.bytes.len(), imports(&built.bytes));
            assert_no_paths(&built, folder);
            Some(built)
        }
        Err(error @ (Error::NoTool { .. } | Error::NoToolchain { .. })) => {
            lamina_types::testing::skip(test, &error.to_string());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// The names of what a component imports, as its host will see them.
fn imports(component: &[u8]) -> Vec<String> {
    let decoded = wit_component::decode(component).unwrap();
    let wit_component::DecodedWasm::Component(resolve, world) = decoded else {
        panic!("not a component");
    };
    let imports = resolve.worlds[world].imports.keys();
    imports.map(|key| resolve.name_world_key(key)).collect()
}

fn assert_imports_only(component: &[u8], allowed: &[&str]) {
    for import in imports(component) {
        let is_allowed = allowed.iter().any(|prefix| import.starts_with(prefix));
        assert!(is_allowed, "{import} is imported");
    }
}

/// Bytes must not tell where they were built. (A whole Python tells where its own makers built it.)
fn assert_no_paths(built: &Built, folder: &Path) {
    let home = std::env::var("HOME").unwrap();
    let folder = folder.canonicalize().unwrap();
    let mut paths = vec![folder.to_str().unwrap()];
    if built.language != Language::Python {
        paths.push(&home);
    }
    for path in paths {
        let found = built.bytes.windows(path.len()).any(|bytes| bytes == path.as_bytes());
        assert!(!found, "{path} is in the component");
    }
}

#[test]
fn rust_project_builds_to_equal_bytes_in_every_folder() {
    let name = "rust_project_builds_to_equal_bytes_in_every_folder";
    let (first, second) =
        (project(Language::Rust, Kind::Service), project(Language::Rust, Kind::Service));
    let Some(built) = build(name, first.path()) else { return };
    assert_imports_only(&built.bytes, &SERVICE);
    // The lock file is part of the source.
    fs::copy(first.path().join("Cargo.lock"), second.path().join("Cargo.lock")).unwrap();
    let again = build(name, second.path()).unwrap();
    assert!(built.bytes == again.bytes, "two folders, two components");
}

#[test]
fn oracle_project_builds_and_asks_for_http() {
    let name = "oracle_project_builds_and_asks_for_http";
    let folder = project(Language::Rust, Kind::Oracle);
    let Some(built) = build(name, folder.path()) else { return };
    let allowed = ["lamina:service/", "observation", "wasi:http/", "wasi:io/", "wasi:clocks/"];
    assert_imports_only(&built.bytes, &allowed);
    assert!(imports(&built.bytes).iter().any(|i| i.starts_with("wasi:http/outgoing-handler@")));
}

#[test]
fn tests_of_new_rust_projects_pass() {
    for kind in [Kind::Service, Kind::Oracle] {
        let folder = project(Language::Rust, kind);
        let mut cargo = Command::new("cargo");
        cargo.args(["test", "--quiet"]).current_dir(folder.path());
        cargo.env("CARGO_TARGET_DIR", folder.path().join("target"));
        let output = cargo.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn javascript_project_builds() {
    let folder = project(Language::JavaScript, Kind::Service);
    let Some(built) = build("javascript_project_builds", folder.path()) else { return };
    assert_imports_only(&built.bytes, &SERVICE);

    fs::write(folder.path().join("service.js"), "export function run(input) {").unwrap();
    let error = build_project(folder.path()).unwrap_err().to_string();
    assert!(error.contains("componentize-js failed:\n"), "{error}");
    assert!(error.contains("failed to parse JS source"), "{error}");
}

#[test]
fn python_project_builds() {
    let folder = project(Language::Python, Kind::Service);
    let Some(built) = build("python_project_builds", folder.path()) else { return };
    assert_imports_only(&built.bytes, &SERVICE);

    fs::write(folder.path().join("app.py"), "import no_such_module\n").unwrap();
    let error = build_project(folder.path()).unwrap_err().to_string();
    assert!(error.contains("No module named 'no_such_module'"), "{error}");
}

#[test]
fn folder_with_something_in_it_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.txt"), "years of work").unwrap();
    let error = new_project(folder.path(), NAME, Language::Rust, Kind::Service).unwrap_err();
    assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn names_that_services_can_not_have_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let long = "a".repeat(65);
    for name in ["", "1a", "-a", "A", "a b", "é", "a/b", "../a", "lamina-sdk", &long] {
        let error = new_project(folder.path(), name, Language::Rust, Kind::Service).unwrap_err();
        assert!(matches!(error, Error::Name { .. }), "{name:?}: {error}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    new_project(folder.path(), &"a".repeat(64), Language::Python, Kind::Service).unwrap();
}

#[test]
fn oracles_are_written_in_rust() {
    let folder = tempfile::tempdir().unwrap();
    let error = new_project(folder.path(), NAME, Language::Python, Kind::Oracle).unwrap_err();
    assert_eq!(error.to_string(), "there's no oracle in python yet; choose rust");
}

#[test]
fn folder_without_a_project_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = build_project(folder.path()).unwrap_err();
    assert!(matches!(error, Error::NoProject { .. }), "{error}");

    fs::write(folder.path().join("requirements.txt"), "").unwrap();
    let error = build_project(folder.path()).unwrap_err();
    assert!(error.to_string().ends_with("service.toml"), "{error}");
}

#[test]
fn no_placeholder_is_left() {
    for language in Language::ALL {
        let folder = project(language, Kind::Service);
        let mut folders = vec![folder.path().to_owned()];
        while let Some(path) = folders.pop() {
            for path in fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else {
                    assert!(!fs::read_to_string(&path).unwrap().contains("{{"), "{path:?}");
                }
            }
        }
    }
}
