use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The contracts' creation bytecode, as it was built from source.
#[derive(Debug, Clone)]
pub struct Artifacts {
    folder: PathBuf,
    /// `sha256  name` lines: what a build from source reproduces.
    hashes: String,
}

impl Artifacts {
    /// Builds the contracts in `contracts` (the folder `bridge/contracts`, with its npm packages installed) into `output`.
    ///
    /// # Errors
    /// If forge isn't there, or they don't compile.
    pub fn build(contracts: &Path, output: &Path) -> Result<Self> {
        let forge = contracts.join("node_modules/@foundry-rs/forge-linux-amd64/bin/forge");
        let mut command = Command::new(&forge);
        command
            .args(["build", "--offline", "--skip", "test", "--out"])
            .arg(output.join("out"))
            .arg("--cache-path")
            .arg(output.join("cache"))
            .current_dir(contracts);
        let built = command.output().with_context(|| {
            format!("{} can't be started; run `npm ci` in {}", forge.display(), contracts.display())
        })?;
        ensure!(
            built.status.success(),
            "the contracts don't compile:\n{}{}",
            String::from_utf8_lossy(&built.stdout),
            String::from_utf8_lossy(&built.stderr)
        );
        let path = contracts.join("artifacts.sha256");
        let hashes = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        Ok(Self { folder: output.join("out"), hashes })
    }

    /// A contract's creation bytecode, whose hash is the committed one.
    ///
    /// # Errors
    /// If the build is another one.
    pub fn bytecode(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.folder.join(format!("{name}.sol/{name}.json"));
        let text = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let artifact: Value = serde_json::from_slice(&text)?;
        let code = artifact["bytecode"]["object"].as_str().context("an artifact has bytecode")?;
        let code = hex::decode(code.trim_start_matches("0x"))?;
        let hash = hex::encode(Sha256::digest(&code));
        ensure!(
            self.hashes.lines().any(|line| line == format!("{hash}  {name}")),
            "the bytecode of {name} isn't the one whose hash is in artifacts.sha256: another compiler, or other sources"
        );
        Ok(code)
    }
}
