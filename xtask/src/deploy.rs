use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};

use crate::workspace::Workspace;

/// `cargo xtask deploy`: installs what compiles the contracts, then becomes `lamina-deploy`.
pub(crate) fn run(workspace: &Workspace, passed: &[OsString]) -> Result<ExitCode> {
    let contracts = workspace.root().join("bridge/contracts");
    let installed = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(&contracts)
        .status()
        .context("npm can't be started; install it with `apt-get install nodejs npm`")?;
    ensure!(installed.success(), "npm couldn't install what compiles the contracts");
    let [deploy] = workspace.build(["lamina-deploy"])?;
    let error = Command::new(&deploy)
        .arg("--contracts")
        .arg(&contracts)
        .arg("--build")
        .arg(workspace.fresh_folder("contracts")?)
        .args(passed)
        .exec();
    Err(error).with_context(|| format!("running {}", deploy.display()))
}
