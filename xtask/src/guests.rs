use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;

/// `cargo xtask components`.
pub(crate) fn build_all(workspace: &Workspace) -> Result<ExitCode> {
    for service in workspace.services()? {
        println!("{}", build(&service)?.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds one service and says where its component is.
pub(crate) fn build(service: &Path) -> Result<PathBuf> {
    let name = service.file_name().unwrap_or_default().display();
    eprintln!("building the {name} component (the first time this takes minutes)…");
    let guest = lamina_component_build::build_guest(service, None)
        .with_context(|| format!("building the {name} component"))?;
    Ok(guest.path)
}
