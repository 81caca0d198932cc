//! EigenLayer's bytecode, out of the source of a published crate that isn't compiled: it would bring another alloy and an
//! AWS SDK with it.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::command::{cache, lock, output};

const CRATE: &str = "eigenlayer-contract-deployer";
const VERSION: &str = "0.4.0";
/// Of the package as crates.io has it.
const SHA256: &str = "df259858472ebcda21942b9994352c9d09ea34c0ab4173e29b0319441082bc51";

/// The crate's source, unpacked from the package whose hash was checked.
#[derive(Debug)]
pub(crate) struct Artifacts {
    bindings: PathBuf,
}

impl Artifacts {
    /// Has cargo fetch the package if it isn't there, checks it and unpacks it.
    pub(crate) fn fetch() -> Result<Self> {
        let name = format!("{CRATE}-{VERSION}");
        let folder = cache()?;
        let _lock = lock(CRATE)?;
        let unpacked = folder.join(&name);
        if !unpacked.join("unpacked").is_file() {
            let package = package(&name)?;
            check(&package)?;
            let mut tar = Command::new("tar");
            tar.arg("-xzf").arg(&package).arg("-C").arg(&folder);
            output(&mut tar, "install tar and gzip")?;
            fs::write(unpacked.join("unpacked"), SHA256)?;
        }
        Ok(Self { bindings: unpacked.join("src/bindings/core") })
    }

    /// The creation code of the contract whose binding has this file name.
    pub(crate) fn bytecode(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.bindings.join(format!("{name}.rs"));
        let source =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let literal = literal(&source).with_context(|| format!("{name} has no bytecode"))?;
        unescape(literal).with_context(|| format!("bytecode of {name}"))
    }
}

/// What the packages of this version hash to: part of the name of whatever is made of them.
pub(crate) const fn fingerprint() -> &'static str {
    SHA256
}

/// Where cargo keeps the package.
fn package(name: &str) -> Result<PathBuf> {
    if let Some(found) = in_registry(name)? {
        return Ok(found);
    }
    // The one command that downloads a package without a project that depends on it.
    let mut cargo = Command::new("cargo");
    cargo.args(["info", "--quiet"]).arg(format!("{CRATE}@{VERSION}")).current_dir("/");
    output(&mut cargo, "is crates.io reachable?")?;
    in_registry(name)?.with_context(|| format!("cargo didn't keep {name}.crate"))
}

fn in_registry(name: &str) -> Result<Option<PathBuf>> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let registries = home.context("neither CARGO_HOME nor HOME is set")?.join("registry/cache");
    let Ok(entries) = fs::read_dir(&registries) else { return Ok(None) };
    let packages = entries.flatten().map(|entry| entry.path().join(format!("{name}.crate")));
    Ok(packages.into_iter().find(|path| path.is_file()))
}

fn check(package: &Path) -> Result<()> {
    let mut bytes = Vec::new();
    fs::File::open(package)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .with_context(|| format!("reading {}", package.display()))?;
    let found = hex::encode(Sha256::digest(&bytes));
    ensure!(found == SHA256, "{} has the SHA-256 {found}, expected {SHA256}", package.display());
    Ok(())
}

/// What stands between the quotes of `BYTECODE = … b"…"`.
fn literal(source: &str) -> Option<&str> {
    let after = source.split_once("pub static BYTECODE:")?.1.split_once("b\"")?.1;
    let mut escaped = false;
    let end = after.char_indices().find(|(_, c)| {
        let is_end = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        is_end
    })?;
    Some(&after[..end.0])
}

/// The bytes of a byte string literal of Rust.
fn unescape(literal: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(literal.len());
    let mut rest = literal.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next().context("ends with a backslash")? {
            b'x' => {
                let digits = [rest.next(), rest.next()].map(Option::unwrap_or_default);
                let mut value = [0];
                hex::decode_to_slice(digits, &mut value)?;
                bytes.push(value[0]);
            }
            b'n' => bytes.push(b'\n'),
            b'r' => bytes.push(b'\r'),
            b't' => bytes.push(b'\t'),
            b'0' => bytes.push(0),
            same @ (b'\\' | b'\'' | b'"') => bytes.push(same),
            other => bail!("unknown escape \\{}", char::from(other)),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_read_as_rust_reads_them() {
        let source = r#"pub static BYTECODE: Bytes = from_static(b"`\x80\0\"\\'\n\xfF");"#;
        let literal = literal(source).unwrap();
        assert_eq!(unescape(literal).unwrap(), b"`\x80\0\"\\'\n\xfF");
    }

    #[test]
    fn literals_that_are_cut_off_are_errors() {
        for bad in [r"\", r"\x1", r"\q"] {
            assert!(unescape(bad).is_err(), "{bad}");
        }
    }
}
