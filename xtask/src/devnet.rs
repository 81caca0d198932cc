use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;
use crate::{guests, models};

/// `cargo xtask devnet`: builds what a development network needs, then becomes `lamina devnet`. With `--no-ethereum` the
/// network has no chain beside it, and needs no npm.
pub(crate) fn run(workspace: &Workspace, passed: &[OsString]) -> Result<ExitCode> {
    let is_name = |argument: &&OsString| !argument.to_string_lossy().starts_with('-');
    let (name, passed) = match passed.first().filter(is_name) {
        Some(name) => (name.to_string_lossy().into_owned(), &passed[1..]),
        None => ("moderator".to_owned(), passed),
    };
    let services = workspace.services()?;
    let service = services.iter().find(|service| service.ends_with(&name));
    let service = service.with_context(|| format!("no service is called {name}"))?;
    models::fetch_for(service)?;
    let component = guests::build(service)?;
    eprintln!("building the node (the first time this takes minutes)…");
    let [lamina, devchain] = workspace.build([NODE, DEVCHAIN])?;
    let has_ethereum = !passed.iter().any(|argument| argument == NO_ETHEREUM);
    let passed = passed.iter().filter(|argument| *argument != NO_ETHEREUM);
    // In place of this process, so that Ctrl-C, other signals and the exit code are the node's own affair.
    let mut command = Command::new(&lamina);
    command.arg("devnet");
    if has_ethereum {
        command.arg("--devchain").arg(devchain);
    }
    let error = command
        .arg("--service")
        .arg(service.join("service.toml"))
        .arg("--component")
        .arg(component)
        .arg("--messages")
        .arg(workspace.root().join("components/services/moderator/messages.jsonl"))
        .args(passed)
        .exec();
    Err(error).with_context(|| format!("running {}", lamina.display()))
}

/// Package and binary.
const NODE: &str = "lamina";
/// The binary that runs a development chain.
const DEVCHAIN: &str = "lamina-devchain";
/// The flag of a network without Ethereum.
const NO_ETHEREUM: &str = "--no-ethereum";
