use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use cargo_metadata::{Message, Metadata, MetadataCommand, Package};

/// The workspace as `cargo metadata` tells it.
pub(crate) struct Workspace {
    metadata: Metadata,
}

impl Workspace {
    pub(crate) fn load() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
        let metadata = MetadataCommand::new()
            .manifest_path(manifest)
            .no_deps()
            .exec()
            .context("reading the workspace")?;
        Ok(Self { metadata })
    }

    pub(crate) fn root(&self) -> &Path {
        self.metadata.workspace_root.as_std_path()
    }

    /// An empty folder of this name, for what a command's children write.
    pub(crate) fn fresh_folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.metadata.target_directory.as_std_path().join("xtask").join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("emptying {}", folder.display()))?;
        }
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(folder)
    }

    /// Cargo, at the workspace's root.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(self.root());
        // What `cargo run` says about this program: some build scripts look at it, and would run again for nothing.
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                cargo.env_remove(&name);
            }
        }
        cargo
    }

    /// Builds these binaries and says where they are.
    pub(crate) fn build<const N: usize>(&self, names: [&str; N]) -> Result<[PathBuf; N]> {
        let mut cargo = self.cargo();
        // All members, so that dependencies get the features that tests build them with, too: one build serves both.
        cargo.args(["build", "--workspace"]);
        for name in names {
            cargo.args(["--bin", name]);
        }
        cargo.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
        let mut cargo = cargo.spawn().context("running cargo")?;
        let messages = cargo.stdout.take().expect("is piped");
        let mut built = BTreeMap::new();
        for message in Message::parse_stream(BufReader::new(messages)) {
            if let Message::CompilerArtifact(artifact) =
                message.context("reading cargo's messages")?
                && let Some(executable) = artifact.executable
            {
                built.insert(artifact.target.name, PathBuf::from(executable));
            }
        }
        if !cargo.wait()?.success() {
            bail!("{} couldn't be built", names.join(" and "));
        }
        let missing: Vec<_> = names.into_iter().filter(|name| !built.contains_key(*name)).collect();
        ensure!(missing.is_empty(), "cargo named no executable of {}", missing.join(" and "));
        Ok(names.map(|name| built[name].clone()))
    }

    /// The packages of an area, or all, by name.
    pub(crate) fn packages(&self, area: Option<&str>) -> Result<Vec<&Package>> {
        let by_area = self.areas();
        match area {
            None => Ok(by_area.into_values().flatten().collect()),
            Some(area) => by_area.get(area).cloned().with_context(|| {
                let known: Vec<_> = by_area.keys().copied().collect();
                format!("unknown area `{area}`; there are: {}", known.join(", "))
            }),
        }
    }

    /// The services' folders.
    pub(crate) fn services(&self) -> Result<Vec<PathBuf>> {
        let folder = self.root().join("components/services");
        let folders: BTreeSet<_> = self
            .metadata
            .packages
            .iter()
            .map(folder_of)
            .filter(|path| path.starts_with(&folder))
            .map(Path::to_path_buf)
            .collect();
        if folders.is_empty() {
            bail!("there are no services in {}", folder.display());
        }
        Ok(folders.into_iter().collect())
    }

    /// Packages by the top-level folder that they are in.
    fn areas(&self) -> BTreeMap<&str, Vec<&Package>> {
        let mut areas: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for package in &self.metadata.packages {
            let inside = folder_of(package).strip_prefix(self.root()).ok();
            let area = inside.and_then(|path| path.components().next()?.as_os_str().to_str());
            if let Some(area) = area {
                areas.entry(area).or_default().push(package);
            }
        }
        areas
    }
}

pub(crate) fn folder_of(package: &Package) -> &Path {
    package.manifest_path.parent().expect("a manifest is in a folder").as_std_path()
}
