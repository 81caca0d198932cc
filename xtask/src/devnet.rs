use std::ffi::OsString;
use std::io::BufReader;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::Message;

use crate::workspace::Workspace;
use crate::{guests, models};

/// `cargo xtask devnet`: builds what a development network needs, then becomes `lamina devnet`.
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
    let lamina = build_node(workspace)?;
    // In place of this process, so that Ctrl-C, other signals and the exit code are the node's own affair.
    let error = Command::new(&lamina)
        .arg("devnet")
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

/// Builds the node and says where it is.
fn build_node(workspace: &Workspace) -> Result<PathBuf> {
    eprintln!("building the node (the first time this takes minutes)…");
    let mut cargo = workspace
        .cargo()
        // All members, so that dependencies get the features that tests build them with, too: one build serves both.
        .args(["build", "--workspace", "--bin", NODE])
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped())
        .spawn()
        .context("running cargo")?;
    let messages = cargo.stdout.take().expect("is piped");
    let mut executable = None;
    for message in Message::parse_stream(BufReader::new(messages)) {
        if let Message::CompilerArtifact(artifact) = message.context("reading cargo's messages")?
            && artifact.target.name == NODE
        {
            executable = artifact.executable.or(executable);
        }
    }
    if !cargo.wait()?.success() {
        bail!("the node couldn't be built");
    }
    Ok(executable.context("cargo named no executable")?.into())
}

/// Package and binary.
const NODE: &str = "lamina";
