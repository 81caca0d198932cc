//! Both toolchains build the moderator into a component, even when an outer cargo's variables are about.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::path::{Path, PathBuf};

use lamina_component_build::{Error, Guest, Toolchain, build_guest_with};

fn moderator() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../services/moderator")
}

/// The component, or `None` where the toolchain isn't and can't be installed.
fn build(test: &str, toolchain: Result<Toolchain, Error>) -> Option<Guest> {
    let toolchain = match toolchain {
        Ok(toolchain) => toolchain,
        Err(error) => {
            lamina_types::testing::skip(test, &error.to_string());
            return None;
        }
    };
    let out = tempfile::tempdir().unwrap();
    let guest = build_guest_with(toolchain, &moderator(), Some(out.path()));
    let guest = guest.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(guest.path, out.path().join("moderator.component.wasm"));
    assert_eq!(std::fs::read(&guest.path).unwrap(), guest.bytes);
    Some(guest)
}

/// Bytes must not tell where they were built, or two checkouts would have two services.
fn assert_no_paths(guest: &Guest) {
    let home = std::env::var("HOME").unwrap();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    for path in [home.as_str(), workspace.to_str().unwrap(), "/usr/lib/rustlib", ".cargo/registry"]
    {
        let found = guest.bytes.windows(path.len()).any(|bytes| bytes == path.as_bytes());
        assert!(!found, "{path} is in the component");
    }
}

#[test]
fn cargos_own_compiler_builds_the_moderator() {
    let name = "cargos_own_compiler_builds_the_moderator";
    let Some(guest) = build(name, Toolchain::rustup()) else { return };
    assert_no_paths(&guest);
    println!("{} bytes", guest.bytes.len());
}

#[test]
fn debians_compiler_builds_the_moderator() {
    let name = "debians_compiler_builds_the_moderator";
    let Some(guest) = build(name, Toolchain::debian()) else { return };
    assert_no_paths(&guest);
    println!("{} bytes", guest.bytes.len());
}

#[test]
fn crate_that_is_no_guest_is_refused() {
    let Ok(toolchain) = Toolchain::rustup() else { return };
    let folder = tempfile::tempdir().unwrap();
    let manifest = "[package]\nname = \"plain\"\nedition = \"2024\"\n[profile.guest]\ninherits = \"release\"\n[workspace]\n";
    std::fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
    std::fs::create_dir(folder.path().join("src")).unwrap();
    std::fs::write(folder.path().join("src/lib.rs"), "").unwrap();
    let error = build_guest_with(toolchain, folder.path(), Some(folder.path())).unwrap_err();
    assert!(matches!(error, Error::NoModule { .. }), "{error}");
}
