//! What a devnet shows: the operators, and the last tasks.

use std::collections::VecDeque;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use lamina_types::{Input, TaskId};
use serde_json::{Value, json};

use crate::cli::output::{clip, fields, plain, readable, table};
use crate::cli::task::{latency, result_text};
use crate::client::Client;

/// Tasks that are shown.
const TASKS_SHOWN: usize = 8;
/// Latencies that the percentiles are taken of.
const LATENCIES_MAX: usize = 1000;
/// Tasks that are watched; beyond, the oldest is given up.
const WATCHED_MAX: usize = 256;

/// How an operator is.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) index: usize,
    pub(crate) api: String,
    pub(crate) peers: u64,
    pub(crate) tasks_open: u64,
    pub(crate) tasks_certified: u64,
    pub(crate) checkpoint: u64,
    /// The last checkpoint on Ethereum.
    pub(crate) anchored: Option<u64>,
    pub(crate) resident_bytes: u64,
}

/// What's said once, when the network is up.
pub(crate) fn head(up: &Value) -> String {
    let first = up["operators"][0].as_str().unwrap_or_default();
    let account = format!(
        "--account {} --passphrase-file {}",
        plain(&up["account"]),
        plain(&up["passphrase_file"])
    );
    let input = r#"'{"message": "hello"}'"#;
    let seconds = up["took_ms"].as_u64().unwrap_or(0) as f64 / 1e3;
    let mut chain = Vec::new();
    if up["rpc"].is_string() {
        chain.push(("ethereum", plain(&up["rpc"])));
        chain.push(("eigenlayer", plain(&up["eigenlayer"])));
    }
    let chain = if chain.is_empty() { String::new() } else { format!("{}\n", fields(&chain)) };
    format!(
        "the network is up after {seconds:.1} s; Ctrl-C stops it\n\n{chain}{}\n",
        fields(&[
            ("service", plain(&up["service"])),
            ("genesis", plain(&up["genesis"])),
            ("logs", plain(&up["logs"])),
            ("try", format!("lamina task list --api {first}")),
            (
                "",
                format!(
                    "lamina task submit {} --input {input} --api {first} \\",
                    plain(&up["service"])
                )
            ),
            ("", format!("  {account}")),
        ])
    )
}

/// Follows submitted tasks and draws.
pub(crate) struct Feed {
    json: bool,
    terminal: bool,
    lines_drawn: usize,
    watched: VecDeque<TaskId>,
    last: VecDeque<Value>,
    latencies_us: VecDeque<u64>,
    submitted: u64,
    certified: u64,
    failed_submissions: u64,
    rows: Vec<Row>,
}

impl Feed {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            terminal: std::io::stdout().is_terminal(),
            lines_drawn: 0,
            watched: VecDeque::new(),
            last: VecDeque::new(),
            latencies_us: VecDeque::new(),
            submitted: 0,
            certified: 0,
            failed_submissions: 0,
            rows: Vec::new(),
        }
    }

    /// Follows a task that was submitted.
    pub(crate) fn submitted(&mut self, result: anyhow::Result<TaskId>, input: &Input) {
        match result {
            Ok(id) => {
                self.submitted += 1;
                self.watched.push_back(id);
                if self.watched.len() > WATCHED_MAX {
                    self.watched.pop_front();
                }
            }
            Err(error) => {
                self.failed_submissions += 1;
                let input = readable(input.as_slice());
                self.say(
                    &json!({ "event": "refused", "input": input, "error": error.to_string() }),
                );
            }
        }
    }

    /// Asks how the tasks are and draws everything anew.
    pub(crate) async fn update(&mut self, client: &Client, rows: &[Row]) {
        self.rows = rows.to_vec();
        for id in std::mem::take(&mut self.watched) {
            match client.task(&id, Duration::ZERO).await {
                Ok(task) if task["status"] == "open" => self.watched.push_back(id),
                Ok(task) => self.ended(task),
                Err(_) => {}
            }
        }
        if !self.json && self.terminal {
            self.draw();
        }
    }

    /// What all came to.
    pub(crate) fn finish(&mut self) {
        if !self.json {
            self.draw();
        } else {
            let rows: Vec<_> = self
                .rows
                .iter()
                .map(|row| {
                    json!({
                        "operator": row.index,
                        "peers": row.peers,
                        "tasks_open": row.tasks_open,
                        "tasks_certified": row.tasks_certified,
                        "checkpoint": row.checkpoint,
                        "anchored": row.anchored,
                        "resident_bytes": row.resident_bytes,
                    })
                })
                .collect();
            self.say(&json!({
                "event": "end",
                "submitted": self.submitted,
                "certified": self.certified,
                "refused": self.failed_submissions,
                "latency_us_p50": self.percentile(50),
                "latency_us_p99": self.percentile(99),
                "operators": rows,
            }));
        }
    }

    fn ended(&mut self, task: Value) {
        let at = |name: &str| task["timeline"][name].as_u64();
        if let (Some(from), Some(to)) = (at("accepted"), at("certified")) {
            self.certified += 1;
            self.latencies_us.push_back(to.saturating_sub(from));
            if self.latencies_us.len() > LATENCIES_MAX {
                self.latencies_us.pop_front();
            }
        }
        self.say(&json!({ "event": "task", "task": task }));
        if !self.json && !self.terminal {
            // A file or a pipe can't be drawn over: a line for each task, the tables once at the end.
            println!("{}", line(&task));
        }
        self.last.push_back(task);
        if self.last.len() > TASKS_SHOWN {
            self.last.pop_front();
        }
    }

    fn say(&self, value: &Value) {
        if self.json {
            println!("{value}");
        }
    }

    fn draw(&mut self) {
        let text = self.text();
        let mut out = std::io::stdout().lock();
        if self.terminal && self.lines_drawn > 0 {
            // Up to where the last drawing began, and clear from there.
            let _ = write!(out, "\x1b[{}A\x1b[J", self.lines_drawn);
        }
        let _ = writeln!(out, "{text}");
        let _ = out.flush();
        self.lines_drawn = text.lines().count();
    }

    fn text(&self) -> String {
        let operators = self.rows.iter().map(|row| {
            vec![
                row.index.to_string(),
                row.api.clone(),
                row.peers.to_string(),
                row.tasks_open.to_string(),
                row.tasks_certified.to_string(),
                row.checkpoint.to_string(),
                row.anchored.map_or_else(|| "-".to_owned(), |height| height.to_string()),
                format!("{} MiB", row.resident_bytes >> 20),
            ]
        });
        let tasks = self.last.iter().map(|task| {
            let input = input_text(task);
            vec![
                clip(task["id"].as_str().unwrap_or_default(), 11),
                clip(&input, 48),
                clip(&verdict_text(task), 40),
                latency(task).unwrap_or_else(|| plain(&task["status"])),
            ]
        });
        let ms = |p| match self.percentile(p) {
            Some(us) => format!("{:.1} ms", us as f64 / 1e3),
            None => "-".to_owned(),
        };
        format!(
            "{}\n\n{}\n\n{} submitted, {} certified, latency {} (median), {} (99th percentile)",
            table(
                &[
                    "operator",
                    "api",
                    "peers",
                    "open",
                    "certified",
                    "checkpoint",
                    "anchored",
                    "memory"
                ],
                operators.collect()
            ),
            table(&["task", "message", "verdict", "latency"], tasks.collect()),
            self.submitted,
            self.certified,
            ms(50),
            ms(99),
        )
    }

    fn percentile(&self, p: usize) -> Option<u64> {
        let mut sorted: Vec<_> = self.latencies_us.iter().copied().collect();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        Some(sorted[last * p / 100])
    }
}

/// A task on one line.
fn line(task: &Value) -> String {
    let signers = task["signers"].as_array().map_or(0, Vec::len);
    format!(
        "{}  {} by {signers}, {}  {}  <- {}",
        clip(task["id"].as_str().unwrap_or_default(), 11),
        plain(&task["status"]),
        latency(task).unwrap_or_else(|| "-".to_owned()),
        verdict_text(task),
        clip(&input_text(task), 60),
    )
}

/// A moderator's verdict and the rule that decided, or the result as it is.
fn verdict_text(task: &Value) -> String {
    let output = crate::cli::output::unhex(&task["outcome"]["result"]["Ok"]);
    let judgement = serde_json::from_slice::<Value>(&output).unwrap_or_default();
    match (judgement["verdict"].as_str(), judgement["rule"].as_str()) {
        (Some(verdict), Some(rule)) => format!("{verdict} ({rule})"),
        (Some(verdict), None) => verdict.to_owned(),
        (None, _) => result_text(&task["outcome"]),
    }
}

/// A chat message's text, or the input as it is.
fn input_text(task: &Value) -> String {
    let bytes = crate::cli::output::unhex(&task["request"]["input"]);
    let message = serde_json::from_slice::<Value>(&bytes).ok();
    match message.as_ref().and_then(|value| value["message"].as_str()) {
        Some(text) => readable(text.as_bytes()),
        None => readable(&bytes),
    }
}
