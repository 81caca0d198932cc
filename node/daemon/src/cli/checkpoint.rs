use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use lamina_certificate::{HandoverFile, OperatorSet};
use lamina_ledger::file::CheckpointFile;
use lamina_types::Height;
use serde_json::{Value, json};

use super::output::{fields, plain, print, short, table};
use super::{ApiOptions, TrustOptions, read_bounded};

/// Longest file that's read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List checkpoints, latest first.
    List {
        /// How many.
        #[arg(long, default_value_t = 20)]
        limit: usize,
        /// Only those before this one.
        #[arg(long)]
        before: Option<u64>,
        #[command(flatten)]
        api: ApiOptions,
    },
    /// Show a checkpoint: its header, who signed it, and how far it moved the books.
    Show {
        /// Its height; by default the latest.
        height: Option<u64>,
        /// Save what `lamina checkpoint verify` reads.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        api: ApiOptions,
    },
    /// Check saved checkpoints against a genesis file; needs no network.
    Verify {
        /// What `checkpoint show` saved, or `ledger prove`.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        trust: TrustOptions,
    },
    /// Save how operators handed over to those of later epochs, for `lamina checkpoint verify` and `lamina task verify`.
    Handovers {
        /// The file to write.
        #[arg(long, value_name = "FILE", default_value = "handovers.lamina")]
        output: PathBuf,
        #[command(flatten)]
        api: ApiOptions,
    },
}

impl Verb {
    pub(crate) async fn run(self, json: bool) -> anyhow::Result<()> {
        match self {
            Self::List { limit, before, api } => {
                let mut path = format!("/v1/checkpoints?limit={limit}");
                if let Some(before) = before {
                    path.push_str(&format!("&before={before}"));
                }
                let list = api.client()?.get(&path).await?;
                print(json, &list, || list_table(&list));
                Ok(())
            }
            Self::Show { height, output, api } => {
                let client = api.client()?;
                let height = height.map_or_else(|| "latest".to_owned(), |h| h.to_string());
                let view = client.get(&format!("/v1/checkpoints/{height}")).await?;
                if let Some(path) = output {
                    let height = plain(&view["header"]["height"]);
                    let bytes = client.file(&format!("/v1/checkpoints/{height}/file")).await?;
                    std::fs::write(&path, bytes)
                        .with_context(|| format!("writing {}", path.display()))?;
                }
                print(json, &view, || show_text(&view));
                Ok(())
            }
            Self::Verify { files, trust } => {
                let (genesis, epochs) = trust.load()?;
                for path in &files {
                    let shown = path.display();
                    let bytes = read(path)?;
                    let file = CheckpointFile::from_bytes(&bytes)
                        .with_context(|| format!("{shown} isn't a checkpoint's file"))?;
                    let height = file
                        .verify(&genesis.chain_id, &epochs)
                        .with_context(|| format!("{shown} doesn't hold"))?;
                    print_verified(json, &shown.to_string(), height, &file);
                }
                Ok(())
            }
            Self::Handovers { output, api } => {
                let client = api.client()?;
                let bytes = client.file("/v1/handovers").await?;
                // By the node's own genesis file: only who has it from elsewhere knows.
                let epochs = HandoverFile::from_bytes(&bytes)?.epochs(&client.genesis().await?)?;
                std::fs::write(&output, bytes)
                    .with_context(|| format!("writing {}", output.display()))?;
                print(json, &epochs_view(&output, &epochs), || epochs_table(&epochs));
                Ok(())
            }
        }
    }
}

fn print_verified(json: bool, path: &str, height: Height, file: &CheckpointFile) {
    let (header, signers) = (file.header(), file.signers());
    let proven: Vec<Value> = file
        .entries()
        .map(|(key, value)| json!({ "key": hex::encode(key), "value": value.map(hex::encode) }))
        .collect();
    let value = json!({
        "file": path, "holds": true, "height": height, "header": header, "signers": signers, "proven": proven,
    });
    print(json, &value, || {
        let what = if proven.is_empty() {
            String::new()
        } else {
            format!(", and proves {} of the state", count(proven.len(), "key"))
        };
        format!("{path}: checkpoint {height} holds, signed by {signers} operators{what}")
    });
}

fn epochs_view(output: &Path, epochs: &[(Height, OperatorSet)]) -> Value {
    let epoch = |(first, set): &(Height, OperatorSet)| {
        json!({
            "epoch": set.epoch(), "first": first, "operators": set.size(), "stake_gwei": set.stake_gwei(), "root": set.root(),
        })
    };
    json!({ "file": output, "epochs": epochs.iter().map(epoch).collect::<Vec<_>>() })
}

fn epochs_table(epochs: &[(Height, OperatorSet)]) -> String {
    let rows = epochs.iter().map(|(first, set)| {
        let (operators, stake) = (set.size().to_string(), set.stake_gwei().to_string());
        vec![set.epoch().to_string(), first.to_string(), operators, stake, set.root().to_string()]
    });
    table(&["epoch", "from", "operators", "stake (gwei)", "root"], rows.collect())
}

fn count(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

pub(super) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    read_bounded(path, FILE_BYTES_MAX)
}

fn list_table(list: &Value) -> String {
    let rows = list.as_array().map(Vec::as_slice).unwrap_or_default().iter().map(|checkpoint| {
        vec![
            plain(&checkpoint["height"]),
            time(&checkpoint["time"]),
            plain(&checkpoint["books"]),
            plain(&checkpoint["signers"]),
            plain(&checkpoint["round"]),
            short(&checkpoint["state"]),
            plain(&checkpoint["id"]),
        ]
    });
    let head = ["height", "time", "books", "signers", "round", "state", "header"];
    table(&head, rows.collect())
}

/// Microseconds since 1970 as seconds with three places, which sort and subtract well.
fn time(value: &Value) -> String {
    let micros = value.as_u64().unwrap_or(0);
    format!("{}.{:03}", micros / 1_000_000, micros / 1000 % 1000)
}

fn show_text(view: &Value) -> String {
    let (header, certificate) = (&view["header"], &view["certificate"]);
    let mut text = fields(&[
        ("height", plain(&header["height"])),
        ("header", plain(&view["id"])),
        ("previous", plain(&header["previous"])),
        ("time", time(&header["time"])),
        ("epoch", plain(&header["epoch"])),
        ("history root", plain(&header["history"])),
        ("state root", plain(&header["state"])),
        ("claims root", plain(&header["claims"])),
        ("results root", plain(&header["results"])),
        ("cut", plain(&header["cut"])),
        ("operators", plain(&header["operators"])),
        ("next operators", plain(&header["next_operators"])),
        ("signers", plain(&certificate["signers"])),
        ("round", plain(&certificate["round"])),
        ("Ethereum block", plain(&header["ethereum"]["number"])),
    ]);
    if view["anchor"].is_object() {
        let anchor = &view["anchor"];
        let of = if anchor["is_this"] == true { "" } else { ", a later one that proves this one" };
        let gas = match anchor["gas_used"].as_u64() {
            Some(gas) => gas.to_string(),
            None => format!("not known: {}", plain(&anchor["gas_unknown"])),
        };
        text.push('\n');
        text.push_str(&fields(&[
            ("anchored", format!("checkpoint {}{of}", plain(&anchor["height"]))),
            ("transaction", plain(&anchor["transaction"])),
            ("in block", plain(&anchor["block"])),
            ("submitted by", plain(&anchor["submitter"])),
            ("gas used", gas),
        ]));
    }
    for book in view["cut"]["books"].as_array().into_iter().flatten() {
        let lanes = book["lanes"].as_array().map_or(0, Vec::len);
        let name = match book["book"].as_str() {
            Some(name) => name.to_owned(),
            None => plain(&book["book"]["service"]),
        };
        text.push_str(&format!("\nbook {name}, volume {}: {lanes} lanes", plain(&book["volume"])));
    }
    text
}
