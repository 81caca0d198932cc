use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use lamina_components::ManifestSource;
use lamina_types::{Action, COMPONENT_BYTES_MAX, ServiceId, ServiceName};
use serde_json::{Value, json};

use super::author::{self, Lang, LocalOptions, built_component, models_folder};
use super::operation::SubmitOptions;
use super::output::{fields, plain, print, short, table};
use super::task::InputOptions;
use super::{ApiOptions, operation};
use crate::client::Client;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Begin a project: a service that builds at once, with its manifest, its cases and a README.
    New {
        /// What people will call it; the project's folder, too.
        #[arg(value_parser = |name: &str| ServiceName::try_from(name.to_owned()))]
        name: ServiceName,
        /// The language that it's written in.
        #[arg(long, value_enum, default_value_t)]
        lang: Lang,
        /// An oracle, which observes the outside world (in Rust).
        #[arg(long)]
        oracle: bool,
        /// Where the project's folder is made.
        #[arg(long, value_name = "FOLDER", default_value = ".")]
        directory: PathBuf,
    },
    /// Build the project's component, into its folder `build`. Installs the pinned tools that it lacks.
    Build {
        /// The project's folder.
        #[arg(default_value = ".")]
        folder: PathBuf,
    },
    /// Run a service on this machine, under the rules by which operators run it.
    Run {
        #[command(flatten)]
        local: LocalOptions,
        #[command(flatten)]
        input: InputOptions,
    },
    /// Run a service on the inputs of `cases.toml`, and compare what it answers.
    Test {
        #[command(flatten)]
        local: LocalOptions,
        /// The cases; by default `cases.toml` beside the manifest.
        #[arg(long, value_name = "FILE")]
        cases: Option<PathBuf>,
    },
    /// Register a service: a manifest, signed by its owner, its component, and the blobs that it names.
    Create {
        /// The manifest as authors write it.
        #[arg(long, value_name = "FILE", default_value = "service.toml")]
        manifest: PathBuf,
        /// The WebAssembly component; by default the only one in the folder `build` beside the manifest.
        #[arg(long, value_name = "FILE")]
        component: Option<PathBuf>,
        /// A folder with the blobs that the manifest names; may be given several times.
        #[arg(long, value_name = "FOLDER")]
        blobs: Vec<PathBuf>,
        #[command(flatten)]
        options: SubmitOptions,
    },
    /// List the services that the node knows.
    List {
        #[command(flatten)]
        api: ApiOptions,
    },
    /// Show a service.
    Show {
        /// Its identifier, or its name if only one service has it.
        service: String,
        #[command(flatten)]
        api: ApiOptions,
    },
}

impl Verb {
    pub(crate) async fn run(self, json: bool) -> anyhow::Result<()> {
        match self {
            Self::New { name, lang, oracle, directory } => {
                author::new_project(json, &name, lang, oracle, &directory)
            }
            Self::Build { folder } => {
                tokio::task::spawn_blocking(move || author::build_project(json, &folder)).await?
            }
            Self::Run { local, input } => {
                tokio::task::spawn_blocking(move || author::run(json, &local, &input)).await?
            }
            Self::Test { local, cases } => {
                tokio::task::spawn_blocking(move || author::test(json, &local, cases.as_deref()))
                    .await?
            }
            Self::Create { manifest, component, blobs, options } => {
                let client = options.client()?;
                let source = ManifestSource::read(&manifest)?;
                let component = component.map_or_else(|| built_component(&manifest), Ok)?;
                let bytes = read_component(&component)?;
                let account = options.unlock()?;
                let chain = client.genesis().await?.chain_id;
                let note = |text: String| {
                    if !json {
                        eprintln!("{text}");
                    }
                };
                upload_blobs(&client, &source, &manifest, &blobs, note).await?;
                let manifest = source.into_manifest(account.address(), &bytes)?;
                let (name, id) = (manifest.name.clone(), manifest.service_id(&chain));
                client.put_component(bytes).await?;
                let action = Action::RegisterService { manifest: Box::new(manifest) };
                let view = options.send(&client, account, action).await?;
                if !options.is_hasty() {
                    operation::check(&view)?;
                }
                let value = json!({ "id": id, "name": name });
                print(json, &value, || format!("service {name} is registered as\n{id}"));
                Ok(())
            }
            Self::List { api } => {
                let services = api.client()?.get("/v1/services").await?;
                print(json, &services, || list_table(&services));
                Ok(())
            }
            Self::Show { service, api } => {
                let client = api.client()?;
                let id = find(&client, &service).await?;
                let service = client.get(&format!("/v1/services/{id}")).await?;
                print(json, &service, || show_text(&service));
                Ok(())
            }
        }
    }
}

/// The service with this identifier, or the only one with this name.
pub(crate) async fn find(client: &Client, service: &str) -> anyhow::Result<ServiceId> {
    if let Ok(id) = service.parse() {
        return Ok(id);
    }
    let services = client.get("/v1/services").await?;
    let named: Vec<_> = services
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .filter(|known| known["manifest"]["name"] == service)
        .filter_map(|known| known["id"].as_str())
        .collect();
    match named.as_slice() {
        [] => anyhow::bail!("no service is called {service:?}; `lamina service list` shows them"),
        [id] => Ok(id.parse()?),
        ids => anyhow::bail!(
            "{} services are called {service:?}; give the identifier of one: {}",
            ids.len(),
            ids.join(", ")
        ),
    }
}

/// Uploads what the manifest names and the node lacks.
pub(crate) async fn upload_blobs(
    client: &Client,
    source: &ManifestSource,
    manifest: &Path,
    folders: &[PathBuf],
    note: impl Fn(String),
) -> anyhow::Result<()> {
    let here = manifest.parent().unwrap_or_else(|| Path::new("")).to_owned();
    let folders: Vec<_> =
        [here].into_iter().chain(folders.iter().cloned()).chain([models_folder()]).collect();
    for (name, blob) in &source.blobs {
        if client.has_blob(&blob.blob.digest).await? {
            continue;
        }
        let (blob, folders) = (blob.clone(), folders.clone());
        let (digest, bytes) = (blob.blob.digest, blob.blob.bytes);
        let find = move || lamina_components::local::find_blob(&blob, &folders);
        let path = tokio::task::spawn_blocking(find).await??;
        note(format!(
            "uploading the blob {name}, {:.1} MiB",
            f64::from(bytes) / f64::from(1 << 20)
        ));
        client.put_blob(&digest, &path).await?;
    }
    Ok(())
}

pub(crate) fn read_component(path: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let size = std::fs::metadata(path).with_context(|| format!("reading {shown}"))?.len();
    anyhow::ensure!(
        size <= COMPONENT_BYTES_MAX.into(),
        "{shown} has {size} bytes; a component may have {COMPONENT_BYTES_MAX}"
    );
    std::fs::read(path).with_context(|| format!("reading {shown}"))
}

fn list_table(services: &Value) -> String {
    let rows = services.as_array().map(Vec::as_slice).unwrap_or_default().iter().map(|service| {
        let manifest = &service["manifest"];
        vec![
            plain(&manifest["name"]),
            plain(&service["id"]),
            short(&manifest["owner"]),
            status(service),
        ]
    });
    table(&["name", "service", "owner", "here"], rows.collect())
}

fn show_text(service: &Value) -> String {
    let manifest = &service["manifest"];
    let limits = &manifest["limits"];
    let mut text = fields(&[
        ("service", plain(&service["id"])),
        ("name", plain(&manifest["name"])),
        ("description", plain(&manifest["description"])),
        ("owner", plain(&manifest["owner"])),
        ("component", plain(&manifest["component"])),
        ("size", format!("{} bytes", plain(&manifest["component_bytes"]))),
        ("fuel", plain(&limits["fuel"])),
        ("memory", format!("{} bytes", plain(&limits["memory_bytes"]))),
        ("input", format!("{} bytes", plain(&limits["input_bytes"]))),
        ("output", format!("{} bytes", plain(&limits["output_bytes"]))),
        ("state", format!("{} bytes", plain(&limits["state_bytes"]))),
        ("here", status(service)),
    ]);
    for (name, blob) in manifest["blobs"].as_object().into_iter().flatten() {
        let (digest, bytes) = (plain(&blob["digest"]), plain(&blob["bytes"]));
        text.push_str(&format!("\nblob {name}: {bytes} bytes, {digest}"));
    }
    for origin in manifest["oracle"]["origins"].as_array().into_iter().flatten() {
        text.push_str(&format!("\nreaches {}", plain(origin)));
    }
    if let Some(model) = manifest["oracle"]["llm"]["model"].as_str() {
        text.push_str(&format!("\nasks the language model {model}"));
    }
    for (name, value) in manifest["parameters"].as_object().into_iter().flatten() {
        text.push_str(&format!("\n\nparameter {name}:\n{}", plain(value)));
    }
    text
}

fn status(service: &Value) -> String {
    match service["reason"].as_str() {
        Some(reason) => format!("{}: {reason}", plain(&service["status"])),
        None => plain(&service["status"]),
    }
}
