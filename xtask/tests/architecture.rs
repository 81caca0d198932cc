//! The layout is the architecture: which crate may use which, and what keeps the cores pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Node, Package, PackageId};

/// The arrows: what each crate may use of ours in normal dependencies, besides `lamina-types`.
const ARROWS: [(&str, &[&str]); 21] = [
    ("lamina-types", &[]),
    ("lamina-certificate", &[]),
    ("lamina-ledger", &["lamina-certificate"]),
    ("lamina-ledger-store", &["lamina-certificate", "lamina-ledger"]),
    ("lamina-p2p", &["lamina-certificate"]),
    ("lamina-p2p-net", &["lamina-p2p"]),
    ("lamina-components", &[]),
    ("lamina-component-build", &[]),
    ("lamina-sdk", &[]),
    ("probe", &[]),
    ("moderator", &[]),
    ("bouncer", &[]),
    ("price-feed", &["lamina-sdk"]),
    ("lamina-keystore", &[]),
    ("lamina-ethereum-core", &["lamina-certificate"]),
    ("lamina-ethereum", &["lamina-ethereum-core"]),
    ("lamina-deploy", &["lamina-ethereum", "lamina-ethereum-core", "lamina-keystore"]),
    ("lamina-bridge-testing", &["lamina-deploy"]),
    ("lamina-node-core", &["lamina-certificate", "lamina-ledger", "lamina-p2p"]),
    (
        "lamina",
        &[
            "lamina-certificate",
            "lamina-component-build",
            "lamina-components",
            "lamina-ethereum",
            "lamina-ethereum-core",
            "lamina-keystore",
            "lamina-ledger",
            "lamina-ledger-store",
            "lamina-node-core",
            "lamina-p2p",
            "lamina-p2p-net",
        ],
    ),
    ("xtask", &["lamina-component-build"]),
];

/// Crates that must not even see `lamina-types`: they are about guests and the workspace, not the network.
const WITHOUT_TYPES: [&str; 8] = [
    "lamina-types",
    "lamina-component-build",
    "lamina-sdk",
    "probe",
    "moderator",
    "bouncer",
    "price-feed",
    "xtask",
];

/// Pure crates, besides each `core`.
const PURE_FOLDERS: [&str; 2] = ["ledger/types", "ledger/certificate"];

/// Crates that do I/O, or bring it in. `cargo metadata` joins the features that all members and their tests ask for, so
/// what only proptest uses (`tempfile`) can't be among them.
const IO_CRATES: [&str; 12] = [
    "alloy",
    "axum",
    "hyper",
    "libp2p",
    "mio",
    "quinn",
    "redb",
    "reqwest",
    "rpassword",
    "socket2",
    "tokio",
    "wasmtime",
];

/// Dependencies that a crate names and does nothing with: version 0.8.2 of Malachite's core has no line that uses tokio, which it
/// takes without features, and re-exports an address type of multiaddr, which brings libp2p's keys. Look again at each update.
const UNUSED: [(&str, &str); 2] = [
    ("arc-malachitebft-core-consensus", "tokio"),
    ("arc-malachitebft-core-consensus", "multiaddr"),
];

/// Those of alloy's crates that are data and their encodings only; with them go all `alloy-sol-*`.
const ALLOY_DATA: [&str; 3] = ["alloy-json-abi", "alloy-primitives", "alloy-rlp"];

/// Crates with a lint table of their own, and why.
const OWN_LINTS: [(&str, &str); 6] = [
    ("lamina-components", "one function loads machine code, and `forbid` can't be relaxed"),
    ("lamina-sdk", GLUE),
    ("probe", GLUE),
    ("moderator", GLUE),
    ("bouncer", GLUE),
    ("price-feed", GLUE),
];
const GLUE: &str = "the glue that wit-bindgen generates is unsafe, and `forbid` can't be relaxed";

/// What each core's clippy.toml bans at least.
const BANNED: [&str; 8] = [
    "std::collections::HashMap",
    "std::collections::HashSet",
    "std::fs::File",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::thread::spawn",
    "std::time::Instant::now",
    "std::time::SystemTime::now",
];

#[test]
fn crates_use_each_other_along_the_arrows_only() {
    let metadata = metadata();
    let arrows: BTreeMap<_, _> = ARROWS.into_iter().collect();
    let ours: BTreeSet<_> =
        metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        let allowed = arrows
            .get(name)
            .unwrap_or_else(|| panic!("{name} is new: say in ARROWS what it may use"));
        let used = package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal);
        for used in used.map(|d| d.name.as_str()).filter(|used| ours.contains(*used)) {
            let is_types = used == "lamina-types" && !WITHOUT_TYPES.contains(&name);
            assert!(is_types || allowed.contains(&used), "{name} must not use {used}");
        }
    }
    let gone: Vec<_> = arrows.keys().filter(|name| !ours.contains(**name)).collect();
    assert!(gone.is_empty(), "ARROWS names crates that don't exist: {gone:?}");
}

#[test]
fn cores_do_no_io() {
    let metadata = metadata();
    let graph = Graph::new(&metadata);
    for core in cores(&metadata) {
        let mut forbidden = Vec::new();
        for (used, path) in graph.used_by(&core.id) {
            if is_io(used) {
                forbidden.push(format!("{used} (by {})", path.join(" ▶ ")));
            }
        }
        assert!(forbidden.is_empty(), "{} must not use {}", core.name, forbidden.join(", "));
    }
}

#[test]
fn cores_ban_clocks_files_and_hash_maps() {
    let metadata = metadata();
    for core in cores(&metadata) {
        let path = folder_of(core).join("clippy.toml");
        let table = read_toml(&path);
        let banned: BTreeSet<&str> = ["disallowed-methods", "disallowed-types"]
            .iter()
            .flat_map(|list| table[*list].as_array().expect("a list"))
            .map(|entry| entry["path"].as_str().expect("each has a path"))
            .collect();
        for path_banned in BANNED {
            assert!(banned.contains(path_banned), "{} lacks {path_banned}", path.display());
        }
    }
}

#[test]
fn every_crate_has_the_workspaces_lints() {
    for package in metadata().workspace_packages() {
        let manifest = read_toml(package.manifest_path.as_std_path());
        let inherits = manifest
            .get("lints")
            .and_then(|lints| lints.get("workspace"))
            .and_then(toml::Value::as_bool)
            .unwrap_or(false);
        let excepted = OWN_LINTS.iter().any(|(name, _)| *name == package.name.as_str());
        assert_ne!(inherits, excepted, "{}: `[lints] workspace = true`?", package.name);
    }
}

#[test]
fn every_crate_is_a_member() {
    let metadata = metadata();
    let members: BTreeSet<PathBuf> =
        metadata.workspace_packages().into_iter().map(|p| folder_of(p).to_path_buf()).collect();
    let root = metadata.workspace_root.as_std_path();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        // What `lamina service new` fills in, in other people's folders.
        if folder.ends_with("components/build/templates") {
            continue;
        }
        let is_crate = folder != root && folder.join("Cargo.toml").exists();
        assert!(!is_crate || members.contains(&folder), "{} is no member", folder.display());
        folders.extend(subfolders(&folder));
    }
}

fn metadata() -> Metadata {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    MetadataCommand::new().manifest_path(manifest).exec().expect("the workspace can be read")
}

fn cores(metadata: &Metadata) -> Vec<&Package> {
    let root = metadata.workspace_root.as_std_path();
    let is_core = |package: &&Package| {
        let folder = folder_of(package).strip_prefix(root).expect("is in the workspace");
        folder.ends_with("core") || PURE_FOLDERS.iter().any(|pure| folder == Path::new(pure))
    };
    let cores: Vec<_> = metadata.workspace_packages().into_iter().filter(is_core).collect();
    assert!(cores.len() > PURE_FOLDERS.len(), "the cores are found");
    cores
}

fn is_io(name: &str) -> bool {
    if name.starts_with("alloy-") {
        return !ALLOY_DATA.contains(&name) && !name.starts_with("alloy-sol-");
    }
    IO_CRATES
        .iter()
        .any(|io| name == *io || name.strip_prefix(io).is_some_and(|rest| rest.starts_with('-')))
}

/// Who uses whom, in normal dependencies.
struct Graph<'a> {
    nodes: BTreeMap<&'a PackageId, &'a Node>,
    packages: BTreeMap<&'a PackageId, &'a Package>,
}

impl<'a> Graph<'a> {
    fn new(metadata: &'a Metadata) -> Self {
        let resolve = metadata.resolve.as_ref().expect("dependencies are resolved");
        Self {
            nodes: resolve.nodes.iter().map(|node| (&node.id, node)).collect(),
            packages: metadata.packages.iter().map(|package| (&package.id, package)).collect(),
        }
    }

    /// All crates that `package` uses, directly or not, each with one way that leads there. What a procedural macro uses
    /// runs in the compiler, and doesn't count.
    fn used_by(&self, package: &'a PackageId) -> Vec<(&'a str, Vec<&'a str>)> {
        let mut seen = BTreeSet::from([package]);
        let mut waiting = vec![(package, vec![self.packages[package].name.as_str()])];
        let mut used = Vec::new();
        while let Some((id, path)) = waiting.pop() {
            for dependency in &self.nodes[id].deps {
                let normal = dependency.dep_kinds.iter().any(|k| k.kind == DependencyKind::Normal);
                let used_package = self.packages[&dependency.pkg];
                let edge = (self.packages[id].name.as_str(), used_package.name.as_str());
                if !normal || UNUSED.contains(&edge) || !seen.insert(&dependency.pkg) {
                    continue;
                }
                if used_package.targets.iter().any(|target| target.is_proc_macro()) {
                    continue;
                }
                let name = used_package.name.as_str();
                used.push((name, path.clone()));
                let path = path.iter().copied().chain([name]).collect();
                waiting.push((&dependency.pkg, path));
            }
        }
        used
    }
}

fn folder_of(package: &Package) -> &Path {
    package.manifest_path.parent().expect("a manifest is in a folder").as_std_path()
}

fn read_toml(path: &Path) -> toml::Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    toml::from_str::<toml::Table>(&text).expect("is TOML").into()
}

/// Folders of sources: not hidden ones, and not what is built or installed.
fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder can be read").flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            !name.starts_with('.') && name != "target" && name != "node_modules"
        })
        .collect()
}
