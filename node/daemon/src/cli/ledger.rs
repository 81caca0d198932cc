use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use lamina_types::CommitmentId;
use serde_json::{Value, json};

use super::ApiOptions;
use super::output::{fields, plain, print};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show how far the node's ledger is, and what's pending.
    Status {
        #[command(flatten)]
        api: ApiOptions,
    },
    /// Save a book as an Automerge document, which Automerge's libraries load.
    Export {
        /// `network`, or a service's identifier.
        #[arg(default_value = "network")]
        book: String,
        /// Which volume; by default the open one.
        #[arg(long)]
        volume: Option<u32>,
        /// The file to write.
        #[arg(long, default_value = "book.automerge")]
        output: PathBuf,
        #[command(flatten)]
        api: ApiOptions,
    },
    /// Save a proof of what the state has under a key; `lamina checkpoint verify` checks it.
    Prove {
        /// The key, in hexadecimal; `docs/operations.md` says how keys are made.
        #[arg(long, required_unless_present = "commitment")]
        key: Option<String>,
        /// The commitment whose key it is.
        #[arg(long, conflicts_with = "key")]
        commitment: Option<CommitmentId>,
        /// The file to write.
        #[arg(long, default_value = "proof.lamina")]
        output: PathBuf,
        #[command(flatten)]
        api: ApiOptions,
    },
}

impl Verb {
    pub(crate) async fn run(self, json: bool) -> anyhow::Result<()> {
        match self {
            Self::Status { api } => {
                let status = api.client()?.get("/v1/ledger").await?;
                print(json, &status, || status_text(&status));
                Ok(())
            }
            Self::Export { book, volume, output, api } => {
                let volume = volume.map(|v| format!("?volume={v}")).unwrap_or_default();
                let bytes = api.client()?.file(&format!("/v1/books/{book}/file{volume}")).await?;
                save(json, &output, &bytes)
            }
            Self::Prove { key, commitment, output, api } => {
                let key = match (key, commitment) {
                    (Some(key), _) => key.trim_start_matches("0x").to_owned(),
                    (None, Some(id)) => {
                        hex::encode(lamina_ledger::state::commitments::record_key(id))
                    }
                    (None, None) => unreachable!("clap requires one of them"),
                };
                let bytes = api.client()?.file(&format!("/v1/state/{key}/file")).await?;
                save(json, &output, &bytes)
            }
        }
    }
}

fn save(json: bool, path: &std::path::Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))?;
    let value = json!({ "file": path, "bytes": bytes.len() });
    print(json, &value, || format!("{}: {} bytes", path.display(), bytes.len()));
    Ok(())
}

fn status_text(status: &Value) -> String {
    fields(&[
        ("checkpoint", plain(&status["height"])),
        ("header", plain(&status["header"])),
        ("state root", plain(&status["state"])),
        ("pending", plain(&status["pending"])),
        ("promised here", plain(&status["promised"])),
        ("first kept", plain(&status["first"])),
    ])
}
