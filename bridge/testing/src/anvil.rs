use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::{Chain, Tools};

/// How a development chain runs.
#[derive(Debug, Clone, Default)]
pub struct AnvilOptions {
    /// The port on loopback; a free one if none is given.
    pub port: Option<u16>,
    /// The chain id (EIP-155); 31337 if none is given.
    pub chain_id: Option<u64>,
    /// Time between two blocks, in seconds; else each transaction makes one.
    pub block_time_s: Option<u64>,
    /// A state that [`Anvil::stop`] wrote, to begin with; and where to write it again.
    pub state: Option<PathBuf>,
}

/// A development chain in a process of its own, on loopback. A block is `finalized` when two others follow it.
///
/// The process ends when this is dropped, and also when its owner dies in whatever way: it runs under a shell that waits
/// for the end of a pipe whose other end is here.
#[derive(Debug)]
pub struct Anvil {
    shell: Child,
    /// Closing it ends the chain.
    held: Option<ChildStdin>,
    port: u16,
}

impl Anvil {
    /// Starts it, and waits until it answers.
    ///
    /// # Errors
    /// If it can't be started, or doesn't listen within some seconds: the port is taken, say.
    pub fn start(tools: &Tools, options: &AnvilOptions) -> Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", WATCH, "sh"]).arg(tools.anvil());
        command.args(["--host", "127.0.0.1", "--slots-in-an-epoch", "1", "--order", "fifo"]);
        command.arg("--port").arg(options.port.unwrap_or(0).to_string());
        if let Some(chain_id) = options.chain_id {
            command.arg("--chain-id").arg(chain_id.to_string());
        }
        if let Some(seconds) = options.block_time_s {
            command.arg("--block-time").arg(seconds.to_string());
        }
        if let Some(state) = &options.state {
            command.arg("--state").arg(state);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = command.spawn().context("starting anvil")?;
        let held = shell.stdin.take();
        let (found, port) = mpsc::channel();
        let written = BufReader::new(shell.stdout.take().context("anvil's output is piped")?);
        std::thread::spawn(move || {
            for line in written.lines().map_while(Result::ok) {
                let address = line.strip_prefix("Listening on ");
                if let Some(port) = address.and_then(|a| a.rsplit(':').next()?.parse().ok()) {
                    let _ = found.send(port);
                }
            }
        });
        let mut anvil = Self { shell, held, port: 0 };
        anvil.port =
            port.recv_timeout(START_TIMEOUT).context("anvil doesn't listen; is its port taken?")?;
        Ok(anvil)
    }

    /// Its HTTP endpoint.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A client of it.
    ///
    /// # Errors
    /// Never for the endpoint of a running chain.
    pub fn chain(&self) -> Result<Chain> {
        Chain::connect(&self.url())
    }

    /// Ends it, and waits until its state is written.
    ///
    /// # Errors
    /// If the process can't be waited for.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        drop(self.held.take());
        self.shell.wait().context("waiting for anvil")?;
        Ok(())
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        // Nothing is left to do about a process that can't be waited for.
        let _ = self.end();
    }
}

/// Runs the chain until standard input ends.
const WATCH: &str =
    r#""$@" </dev/null & child=$!; read -r _; kill "$child" 2>/dev/null; wait "$child""#;
/// Longest time to the first answer. It takes 0.2 s on a machine that isn't busy.
const START_TIMEOUT: Duration = Duration::from_secs(60);
