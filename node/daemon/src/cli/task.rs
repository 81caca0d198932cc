use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use futures::{StreamExt as _, stream};
use lamina_certificate::{
    CERTIFIED_TASK_BYTES_MAX, CertifiedTask, HandoverFile, OperatorSet, VerifiedTask,
};
use lamina_types::account::SigningContext;
use lamina_types::{
    AccountKey, Canonical, Height, INPUT_BYTES_MAX, Input, ServiceId, TaskId, TaskRequest,
};
use serde_json::{Value, json};

use super::output::{clip, fields, plain, print, readable, short, table, unhex};
use super::{AccountOptions, ApiOptions, TrustOptions, service};
use crate::client::Client;
use crate::daemon::{now, random};

/// Tasks that wait for their certificates at once, when many are submitted.
const CONCURRENT: usize = 16;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Ask the network to run a service, and wait for the certificates.
    Submit(Submit),
    /// Show a task: its result, who attested it, and who is missing.
    Show {
        /// The task's identifier, or the first digits of one that's listed.
        task: String,
        /// Wait so long for its end, in seconds.
        #[arg(long, default_value_t = 0)]
        wait: u64,
        /// Save what `lamina task verify` reads.
        #[arg(long, value_name = "FILE")]
        certificate: Option<PathBuf>,
        #[command(flatten)]
        api: ApiOptions,
    },
    /// List tasks, latest first.
    List {
        /// Only open, certified or expired ones.
        #[arg(long)]
        status: Option<String>,
        /// How many.
        #[arg(long, default_value_t = 20)]
        limit: usize,
        #[command(flatten)]
        api: ApiOptions,
    },
    /// Check saved certificates against a genesis file; needs no network. Where only some operators serve the service, the
    /// file has to be from after the task was recorded in the ledger.
    Verify {
        /// What `task submit` or `task show` saved.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        trust: TrustOptions,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Submit {
    /// The service: its identifier, or its name if only one has it.
    service: String,
    #[command(flatten)]
    input: InputOptions,
    /// Don't wait for certificates.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for each certificate, in seconds.
    #[arg(long, default_value_t = 60)]
    wait: u64,
    /// How long operators may work on it, in seconds.
    #[arg(long, default_value_t = 3600)]
    valid_for: u64,
    /// Save the certificates in this folder, each as `<task>.lamina`.
    #[arg(long, value_name = "FOLDER", conflicts_with = "no_wait")]
    certificates: Option<PathBuf>,
    #[command(flatten)]
    account: AccountOptions,
    #[command(flatten)]
    api: ApiOptions,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct InputOptions {
    /// The input itself.
    #[arg(long, value_name = "TEXT")]
    input: Option<String>,
    /// A file with the input; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    input_file: Option<PathBuf>,
    /// A file with an input on each line, each for a task of its own; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    input_lines: Option<PathBuf>,
}

impl InputOptions {
    /// The inputs, each as long as one can be at most.
    pub(crate) fn read(&self) -> anyhow::Result<Vec<Input>> {
        let bounded = |bytes: Vec<u8>| {
            Input::new(bytes).with_context(|| format!("an input may have {INPUT_BYTES_MAX} bytes"))
        };
        match (&self.input, &self.input_file, &self.input_lines) {
            (Some(text), _, _) => Ok(vec![bounded(text.clone().into_bytes())?]),
            (None, Some(path), _) => {
                let mut bytes = Vec::new();
                open(path)?.take(INPUT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
                Ok(vec![bounded(bytes)?])
            }
            (None, None, Some(path)) => std::io::BufReader::new(open(path)?)
                .lines()
                .filter(|line| !line.as_ref().is_ok_and(|line| line.trim().is_empty()))
                .map(|line| bounded(line?.into_bytes()))
                .collect(),
            (None, None, None) => unreachable!("clap requires one of them"),
        }
    }
}

fn open(path: &Path) -> anyhow::Result<Box<dyn std::io::Read>> {
    if path == Path::new("-") {
        return Ok(Box::new(std::io::stdin()));
    }
    let file = std::fs::File::open(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(Box::new(file))
}

impl Verb {
    pub(crate) async fn run(self, json: bool) -> anyhow::Result<()> {
        match self {
            Self::Submit(submit) => submit.run(json).await,
            Self::Show { task, wait, certificate, api } => {
                let client = api.client()?;
                let task = find(&client, &task).await?;
                let mut view = client.task(&task, Duration::from_secs(wait)).await?;
                if let Some(path) = certificate {
                    let bytes = client.certificate(&task).await?;
                    std::fs::write(&path, &bytes)
                        .with_context(|| format!("writing {}", path.display()))?;
                    // By the node's own genesis file: only who has it from elsewhere knows.
                    let genesis = client.genesis().await?;
                    let handovers = client.file("/v1/handovers").await?;
                    let epochs = HandoverFile::from_bytes(&handovers)?.epochs(&genesis)?;
                    let verified = verify_bytes(&bytes, &genesis.signing_context(), &epochs);
                    view["certificate_file"] = json!(path);
                    match verified {
                        Ok(value) => view["verified_by"] = value["by"].clone(),
                        Err(error) => view["not_verified"] = json!(format!("{error:#}")),
                    }
                }
                print(json, &view, || show_text(&view));
                Ok(())
            }
            Self::List { status, limit, api } => {
                let filter = status.map(|s| format!("&status={s}")).unwrap_or_default();
                let path = format!("/v1/tasks?limit={limit}{filter}");
                let tasks = api.client()?.get(&path).await?;
                print(json, &tasks, || {
                    list_table(tasks.as_array().map(Vec::as_slice).unwrap_or_default())
                });
                Ok(())
            }
            Self::Verify { files, trust } => verify(json, &files, &trust),
        }
    }
}

/// The task with this identifier, or the only one in the node's list that begins so.
async fn find(client: &Client, task: &str) -> anyhow::Result<TaskId> {
    if let Ok(id) = task.parse() {
        return Ok(id);
    }
    let tasks = client.get("/v1/tasks?limit=1000").await?;
    let ids = tasks.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut named = ids.iter().filter_map(|t| t["id"].as_str()).filter(|id| id.starts_with(task));
    match (named.next(), named.next()) {
        (Some(id), None) => Ok(id.parse()?),
        (None, _) => anyhow::bail!("no task in the node's list begins with {task:?}"),
        (Some(_), Some(_)) => anyhow::bail!("several tasks begin with {task:?}; give more digits"),
    }
}

impl Submit {
    async fn run(self, json: bool) -> anyhow::Result<()> {
        let client = self.api.client()?;
        let inputs = self.input.read()?;
        let submitter = Submitter {
            service: service::find(&client, &self.service).await?,
            account: self.account.unlock()?,
            context: client.genesis().await?.signing_context(),
            client,
            valid_for: Duration::from_secs(self.valid_for),
        };
        if let Some(folder) = &self.certificates {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("creating {}", folder.display()))?;
        }
        let (count, many) = (inputs.len(), inputs.len() > 1);
        let progress = many && std::io::stderr().is_terminal();
        let mut tasks = stream::iter(inputs)
            .map(|input| self.submit_one(&submitter, input))
            .buffered(CONCURRENT);
        let (mut done, mut rows, mut certified) = (0, Vec::new(), 0);
        while let Some(view) = tasks.next().await {
            let view = view?;
            done += 1;
            certified += usize::from(view["status"] == "certified");
            if progress {
                eprint!("\r{done} of {count} tasks, {certified} certified");
            }
            match (json, many) {
                (true, _) => println!("{view}"),
                (false, true) => rows.push(view),
                (false, false) if self.no_wait => println!("{}", plain(&view["id"])),
                (false, false) => println!("{}", show_text(&view)),
            }
        }
        if progress {
            eprintln!();
        }
        if many && !json {
            println!("{}", list_table(&rows));
            println!("\n{certified} of {count} certified");
        }
        anyhow::ensure!(
            self.no_wait || certified == count,
            "{} of {count} tasks have no certificate after {} seconds; `lamina task show` tells who is missing",
            count - certified,
            self.wait
        );
        Ok(())
    }

    async fn submit_one(&self, submitter: &Submitter, input: Input) -> anyhow::Result<Value> {
        let id = submitter.submit(input).await?;
        if self.no_wait {
            return Ok(json!({ "id": id, "status": "open" }));
        }
        let mut view = submitter.client.task(&id, Duration::from_secs(self.wait)).await?;
        if let (Some(folder), true) = (&self.certificates, view["status"] == "certified") {
            let path = folder.join(format!("{id}.lamina"));
            std::fs::write(&path, submitter.client.certificate(&id).await?)
                .with_context(|| format!("writing {}", path.display()))?;
            view["certificate_file"] = json!(path);
        }
        Ok(view)
    }
}

/// Signs requests for one service and hands them to a node.
pub(crate) struct Submitter {
    pub(crate) client: Client,
    pub(crate) service: ServiceId,
    pub(crate) account: AccountKey,
    pub(crate) context: SigningContext,
    pub(crate) valid_for: Duration,
}

impl Submitter {
    pub(crate) async fn submit(&self, input: Input) -> anyhow::Result<TaskId> {
        let random = random()?;
        let nonce = u64::from_le_bytes(*random.first_chunk().context("32 bytes have 8")?);
        let request = TaskRequest {
            service: self.service,
            input,
            requester: self.account.address(),
            nonce,
            height: self.client.height().await?,
            valid_until: now() + self.valid_for,
        };
        self.client.submit_task(&request.sign(&self.account, &self.context)).await
    }
}

fn verify(json: bool, files: &[PathBuf], trust: &TrustOptions) -> anyhow::Result<()> {
    let (genesis, epochs) = trust.load()?;
    let context = genesis.signing_context();
    let mut refused = 0;
    for file in files {
        match verify_one(file, &context, &epochs) {
            Ok(value) => print(json, &value, || verified_text(file, &value)),
            Err(error) => {
                refused += 1;
                let value = json!({ "file": file, "holds": false, "error": format!("{error:#}") });
                print(json, &value, || format!("{}: REFUSED: {error:#}", file.display()));
            }
        }
    }
    anyhow::ensure!(refused == 0, "{refused} of {} certificates don't hold", files.len());
    Ok(())
}

fn verify_one(
    file: &Path,
    context: &SigningContext,
    epochs: &[(Height, OperatorSet)],
) -> anyhow::Result<Value> {
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(CERTIFIED_TASK_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    let mut value = verify_bytes(&bytes, context, epochs)?;
    value["file"] = json!(file);
    Ok(value)
}

fn verify_bytes(
    bytes: &[u8],
    context: &SigningContext,
    epochs: &[(Height, OperatorSet)],
) -> anyhow::Result<Value> {
    let task = CertifiedTask::from_bytes(bytes)?;
    let VerifiedTask { task: id, checkpoint, signers, stake_gwei, of_gwei } =
        task.verify(context, epochs)?;
    Ok(json!({
        "holds": true,
        "by": if checkpoint.is_some() { "checkpoint" } else { "certificate" },
        "checkpoint": checkpoint,
        "task": id,
        "service": task.request.request.service,
        "requester": task.request.request.requester,
        "input": task.request.request.input,
        "outcome": task.outcome,
        "signers": signers,
        "operators": signers.set_size(),
        "stake_gwei": stake_gwei,
        "stake_total_gwei": of_gwei,
    }))
}

fn verified_text(file: &Path, value: &Value) -> String {
    let share = |name: &str| value[name].as_u64().unwrap_or(0) as f64;
    let signed = format!(
        "{} of {} operators, {:.1}% of the stake",
        value["signers"].as_array().map_or(0, Vec::len),
        value["operators"],
        share("stake_gwei") / share("stake_total_gwei") * 100.0
    );
    let by = match value["checkpoint"].as_u64() {
        Some(height) => format!("recorded in checkpoint {height}, signed by {signed}"),
        None => signed,
    };
    let head = format!("{}: holds: {by}", file.display());
    let rest = fields(&[
        ("  task", plain(&value["task"])),
        ("  service", plain(&value["service"])),
        ("  input", clip(&readable(&unhex(&value["input"])), 100)),
        ("  result", result_text(&value["outcome"])),
    ]);
    format!("{head}\n{rest}")
}

fn show_text(task: &Value) -> String {
    let request = &task["request"];
    let mut pairs = vec![
        ("task", plain(&task["id"])),
        ("status", plain(&task["status"])),
        ("service", plain(&request["service"])),
        ("requester", plain(&request["requester"])),
        ("input", readable(&unhex(&request["input"]))),
        ("result", result_text(&task["outcome"])),
        ("fuel", plain(&task["outcome"]["fuel_used"])),
        ("price", format!("{} units", plain(&task["price"]))),
        ("latency", latency(task).unwrap_or_else(|| "-".into())),
        ("attested by", operators(&task["signers"])),
        ("recorded", recorded(task)),
    ];
    if task["status"] == "open" {
        let total: u64 = task["outcomes"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|outcome| outcome[1].as_u64())
            .max()
            .unwrap_or(0);
        let quorum = plain(&task["quorum_gwei"]);
        pairs.push(("stake", format!("{total} gwei; a certificate needs more than {quorum}")));
        for operator in task["missing"].as_array().into_iter().flatten() {
            let link = if operator["connected"] == true { "connected" } else { "not connected" };
            let text =
                format!("operator {} ({link}) {}", operator["index"], plain(&operator["address"]));
            pairs.push(("missing", text));
        }
    }
    for observation in task["observations"].as_array().into_iter().flatten() {
        let used = if observation["in_set"] == true { "" } else { " (not reduced)" };
        let value = readable(&unhex(&observation["value"]));
        pairs.push(("observed", format!("operator {}{used}: {value}", observation["operator"])));
    }
    if let Some(reason) = task["abstention"]["reason"].as_str() {
        pairs.push(("abstained", format!("this node: {reason}")));
    }
    if task["dissent"] == true {
        pairs.push(("dissent", "this node's own outcome isn't the certified one".into()));
    }
    if let Some(by) = task["verified_by"].as_str() {
        pairs
            .push(("saved", format!("{}, verified by the {by}", plain(&task["certificate_file"]))));
    }
    if let Some(error) = task["not_verified"].as_str() {
        pairs.push(("saved", format!("{}: {error}", plain(&task["certificate_file"]))));
    }
    fields(&pairs)
}

/// What the ledger says of a task.
fn recorded(task: &Value) -> String {
    match task["recorded"].as_u64() {
        Some(height) => format!("in checkpoint {height}"),
        None => "not in the ledger yet".to_owned(),
    }
}

pub(crate) fn result_text(outcome: &Value) -> String {
    if outcome.is_null() {
        return "-".into();
    }
    match outcome["result"].get("Ok") {
        Some(output) => readable(&unhex(output)),
        None => {
            let failure = &outcome["result"]["Err"];
            let reason = failure["reason"].as_str().or_else(|| failure["trap"].as_str());
            let detail = reason.map(|text| format!(": {text}")).unwrap_or_default();
            format!("failed: {}{detail}", plain(&failure["kind"]))
        }
    }
}

/// From request to certificate, as this node saw it.
pub(crate) fn latency(task: &Value) -> Option<String> {
    let at = |name: &str| task["timeline"][name].as_u64();
    let micros = at("certified")?.checked_sub(at("accepted")?)?;
    Some(format!("{:.1} ms", micros as f64 / 1e3))
}

fn operators(signers: &Value) -> String {
    let indices: Vec<_> = signers.as_array().into_iter().flatten().map(plain).collect();
    match indices.as_slice() {
        [] => "nobody".into(),
        indices => format!("operators {}", indices.join(", ")),
    }
}

fn list_table(tasks: &[Value]) -> String {
    let rows = tasks.iter().map(|task| {
        vec![
            short(&task["id"]),
            plain(&task["status"]),
            latency(task).unwrap_or_else(|| "-".into()),
            task["signers"].as_array().map_or(0, Vec::len).to_string(),
            clip(&readable(&unhex(&task["request"]["input"])), 44),
            clip(&result_text(&task["outcome"]), 60),
        ]
    });
    table(&["task", "status", "latency", "signers", "input", "result"], rows.collect())
}
