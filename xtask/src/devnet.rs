use std::ffi::OsString;
use std::io::BufReader;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::Message;

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
    let (lamina, devchain) = build(workspace)?;
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

/// Builds the node and the program that runs a development chain, and says where they are.
fn build(workspace: &Workspace) -> Result<(PathBuf, PathBuf)> {
    eprintln!("building the node (the first time this takes minutes)…");
    let mut cargo = workspace
        .cargo()
        // All members, so that dependencies get the features that tests build them with, too: one build serves both.
        .args(["build", "--workspace", "--bin", NODE, "--bin", DEVCHAIN])
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped())
        .spawn()
        .context("running cargo")?;
    let messages = cargo.stdout.take().expect("is piped");
    let (mut node, mut devchain) = (None, None);
    for message in Message::parse_stream(BufReader::new(messages)) {
        if let Message::CompilerArtifact(artifact) = message.context("reading cargo's messages")? {
            match artifact.target.name.as_str() {
                NODE => node = artifact.executable.or(node),
                DEVCHAIN => devchain = artifact.executable.or(devchain),
                _ => {}
            }
        }
    }
    if !cargo.wait()?.success() {
        bail!("the node couldn't be built");
    }
    let executables = node.zip(devchain).context("cargo named no executable")?;
    Ok((executables.0.into(), executables.1.into()))
}

/// Package and binary.
const NODE: &str = "lamina";
/// The binary that runs a development chain.
const DEVCHAIN: &str = "lamina-devchain";
/// The flag of a network without Ethereum.
const NO_ETHEREUM: &str = "--no-ethereum";
