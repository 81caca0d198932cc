use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::command::{lock, output};

/// Foundry's programs and the Solidity compiler, in the versions that `bridge/contracts/package-lock.json` pins by hash.
#[derive(Debug, Clone)]
pub struct Tools {
    contracts: PathBuf,
}

impl Tools {
    /// Installs what is missing, with `npm ci`. Takes seconds the first time.
    ///
    /// # Errors
    /// If npm isn't there or can't fetch the packages.
    pub fn install() -> Result<Self> {
        let contracts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts");
        let tools = Self { contracts };
        let _lock = lock("npm")?;
        if !tools.are_installed() {
            let mut npm = Command::new("npm");
            npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
                .current_dir(&tools.contracts);
            output(&mut npm, "install npm with `apt-get install nodejs npm`")?;
            ensure!(
                tools.are_installed(),
                "npm installed no anvil, forge and cast for this machine"
            );
        }
        Ok(tools)
    }

    /// The development chain.
    #[must_use]
    pub fn anvil(&self) -> PathBuf {
        self.foundry("anvil")
    }

    /// The command line that reads and writes a chain.
    #[must_use]
    pub fn cast(&self) -> PathBuf {
        self.foundry("cast")
    }

    /// What compiles and tests contracts.
    #[must_use]
    pub fn forge(&self) -> PathBuf {
        self.foundry("forge")
    }

    /// The folder of Lamina's contracts, with `node_modules` in it.
    #[must_use]
    pub fn contracts(&self) -> &Path {
        &self.contracts
    }

    fn foundry(&self, name: &str) -> PathBuf {
        let package = format!("node_modules/@foundry-rs/{name}-linux-amd64/bin/{name}");
        self.contracts.join(package)
    }

    fn are_installed(&self) -> bool {
        [self.anvil(), self.cast(), self.forge()].iter().all(|program| program.is_file())
    }
}
