use std::io::Read as _;
use std::path::PathBuf;

use clap::Subcommand;
use serde_json::Value;

use super::ApiOptions;
use super::output::{fields, plain, print, table};
use crate::config::{Config, Overrides};
use crate::daemon;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a node until Ctrl-C or SIGTERM.
    Run {
        /// The configuration.
        #[arg(long, default_value = "lamina.toml")]
        config: PathBuf,
        #[command(flatten)]
        overrides: Overrides,
        /// Also stop when standard input ends, so that the node can't outlive the program that started it.
        #[arg(long)]
        stop_with_stdin: bool,
    },
    /// Show how a running node is.
    Status {
        #[command(flatten)]
        api: ApiOptions,
    },
    /// Show the peers of a running node.
    Peers {
        #[command(flatten)]
        api: ApiOptions,
    },
}

impl Verb {
    pub(crate) async fn run(self, json: bool) -> anyhow::Result<()> {
        match self {
            Self::Run { config, overrides, stop_with_stdin } => {
                let config = Config::load(&config, &overrides)?;
                daemon::run(config, stop(stop_with_stdin)).await
            }
            Self::Status { api } => {
                let status = api.client()?.get("/v1/status").await?;
                print(json, &status, || status_text(&status));
                Ok(())
            }
            Self::Peers { api } => {
                let peers = api.client()?.get("/v1/peers").await?;
                print(json, &peers, || peers_table(&peers));
                Ok(())
            }
        }
    }
}

/// Completes when the node is to stop.
async fn stop(with_stdin: bool) {
    use tokio::signal::unix::{SignalKind, signal};
    let signalled = async {
        match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
            (Ok(mut interrupt), Ok(mut terminate)) => {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            }
            _ => std::future::pending().await,
        }
    };
    let ended = async {
        if !with_stdin {
            return std::future::pending().await;
        }
        let (sender, receiver) = tokio::sync::oneshot::channel();
        // A thread of its own: a blocking read can't be cancelled, and mustn't hold up the end.
        std::thread::spawn(move || {
            let mut sink = [0; 64];
            while matches!(std::io::stdin().lock().read(&mut sink), Ok(1..)) {}
            let _ = sender.send(());
        });
        let _ = receiver.await;
    };
    tokio::select! { () = signalled => {}, () = ended => {} }
}

fn status_text(status: &Value) -> String {
    let list = |value: &Value| {
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().map(plain).collect::<Vec<_>>().join("\n              ")
    };
    let mib = status["resident_bytes"].as_u64().unwrap_or(0) / (1 << 20);
    fields(&[
        ("version", plain(&status["version"])),
        ("chain", plain(&status["chain_id"])),
        ("operator", plain(&status["operator"])),
        ("peer id", plain(&status["peer_id"])),
        ("listening", list(&status["listening"])),
        ("peers", plain(&status["peers"])),
        ("services", plain(&status["services"])),
        ("open tasks", plain(&status["tasks_open"])),
        ("certified", plain(&status["tasks_certified"])),
        ("checkpoint", plain(&status["checkpoint"])),
        ("pending", format!("{} operations", plain(&status["operations_pending"]))),
        ("memory", format!("{mib} MiB")),
    ])
}

fn peers_table(peers: &Value) -> String {
    let rows = peers.as_array().map(Vec::as_slice).unwrap_or_default().iter().map(|peer| {
        let round_trip =
            peer["round_trip_us"].as_u64().map(|us| format!("{:.1} ms", us as f64 / 1e3));
        vec![
            plain(&peer["peer_id"]),
            plain(&peer["operator"]),
            plain(&peer["address"]),
            round_trip.unwrap_or_else(|| "-".into()),
            peer["score"].as_f64().map(|score| format!("{score:.1}")).unwrap_or_default(),
        ]
    });
    table(&["peer", "operator", "address", "round trip", "score"], rows.collect())
}
