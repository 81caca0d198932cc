use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use lamina_components::ManifestSource;
use lamina_types::{COMPONENT_BYTES_MAX, ServiceId};
use serde_json::{Value, json};

use super::output::{fields, plain, print, short, table};
use super::{AccountOptions, ApiOptions};
use crate::client::Client;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Register a service: a manifest, signed by its owner, and its component.
    Create {
        /// The manifest as authors write it.
        #[arg(long, value_name = "FILE", default_value = "service.toml")]
        manifest: PathBuf,
        /// The WebAssembly component.
        #[arg(long, value_name = "FILE")]
        component: PathBuf,
        #[command(flatten)]
        account: AccountOptions,
        #[command(flatten)]
        api: ApiOptions,
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
            Self::Create { manifest, component, account, api } => {
                let client = api.client()?;
                let source = ManifestSource::read(&manifest)?;
                let bytes = read_component(&component)?;
                let account = account.unlock()?;
                let manifest = source.into_manifest(account.address(), &bytes)?;
                let name = manifest.name.clone();
                let context = client.genesis().await?.signing_context();
                let registration = manifest.register(&account, &context);
                client.put_component(bytes).await?;
                let id = client.create_service(&registration).await?;
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

fn read_component(path: &PathBuf) -> anyhow::Result<Vec<u8>> {
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
        ("here", status(service)),
    ]);
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
