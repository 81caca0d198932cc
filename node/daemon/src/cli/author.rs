//! What service authors do on their own machine: run a service and its cases under the network's rules.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use lamina_component_build::{Kind, Language};
use lamina_components::local::{Cases, Local, Report};
use lamina_components::{Allowed, Cache, CacheKey, Engine, Log, LogLevel};
use lamina_types::{Digest, Input, Origin, ParameterName, ParameterValue, ServiceName};
use serde_json::{Value, json};

use super::output::{fields, print, readable};
use super::service::read_component;
use super::task::InputOptions;
use crate::config::{Config, Overrides};

/// Most that compiled components take on an author's disk, in bytes.
const CACHE_BYTES_MAX: u64 = 2 << 30;

/// The languages of which there are templates.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum Lang {
    #[default]
    Rust,
    #[value(alias = "javascript")]
    Js,
    Python,
}

impl From<Lang> for Language {
    fn from(lang: Lang) -> Self {
        match lang {
            Lang::Rust => Self::Rust,
            Lang::Js => Self::JavaScript,
            Lang::Python => Self::Python,
        }
    }
}

/// `lamina service new`.
pub(crate) fn new_project(
    json: bool,
    name: &ServiceName,
    lang: Lang,
    oracle: bool,
    parent: &Path,
) -> anyhow::Result<()> {
    let folder = parent.join(name.as_str());
    let kind = if oracle { Kind::Oracle } else { Kind::Service };
    lamina_component_build::new_project(&folder, name.as_str(), lang.into(), kind)?;
    print(json, &json!({ "folder": folder, "name": name }), || {
        let shown = folder.display();
        format!(
            "made {shown}; its README.md says how to go on:\n    cd {shown}\n    lamina service build"
        )
    });
    Ok(())
}

/// `lamina service build`.
pub(crate) fn build_project(json: bool, folder: &Path) -> anyhow::Result<()> {
    if !json {
        eprintln!("building {} (the first time, tools are installed)…", folder.display());
    }
    let built = lamina_component_build::build_project(folder)?;
    let digest = Digest::of(&built.bytes);
    let value = json!({
        "component": built.path,
        "bytes": built.bytes.len(),
        "sha256": digest,
        "language": built.language.name(),
    });
    print(json, &value, || {
        fields(&[
            ("component", built.path.display().to_string()),
            ("size", format!("{} bytes", built.bytes.len())),
            ("sha256", digest.to_string()),
        ])
    });
    Ok(())
}

/// Which service, and what it's given.
#[derive(Debug, Args)]
pub(crate) struct LocalOptions {
    /// The component; by default the only one in the folder `build` beside the manifest.
    component: Option<PathBuf>,
    /// The manifest as authors write it.
    #[arg(long, value_name = "FILE", default_value = "service.toml")]
    manifest: PathBuf,
    /// A folder with the blobs that the manifest names; may be given several times.
    #[arg(long, value_name = "FOLDER")]
    blobs: Vec<PathBuf>,
    /// Another value for a parameter: NAME=VALUE; may be given several times.
    #[arg(long = "parameter", value_name = "NAME=VALUE")]
    parameters: Vec<String>,
    /// Let an oracle reach this origin though it leads to a private address; may be given several times.
    #[arg(long = "private-origin", value_name = "ORIGIN")]
    private_origins: Vec<Origin>,
    /// Run it with an operator's settings, from its configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl LocalOptions {
    fn open(&self) -> anyhow::Result<Local> {
        let component = match &self.component {
            Some(component) => component.clone(),
            None => built_component(&self.manifest)?,
        };
        let bytes = read_component(&component)?;
        let mut folders = self.blobs.clone();
        folders.push(models_folder());
        let mut local = Local::open(&self.engine()?, &self.manifest, &bytes, &folders)?;
        for parameter in &self.parameters {
            let (name, value) = parameter
                .split_once('=')
                .with_context(|| format!("{parameter:?} isn't a parameter; write NAME=VALUE"))?;
            let name = ParameterName::try_from(name.to_owned())?;
            local.set_parameter(name, ParameterValue::new(value)?)?;
        }
        Ok(local)
    }

    fn engine(&self) -> anyhow::Result<Engine> {
        let mut config = match &self.config {
            Some(path) => Config::load(path, &Overrides::default())?.components,
            None => {
                let mut config = lamina_components::Config::default();
                // On the author's own machine, the manifest decides.
                config.http.origins = Allowed::Any;
                // One task at a time needs no pool.
                config.pooled = false;
                config
            }
        };
        config.http.private_origins.extend(self.private_origins.iter().cloned());
        let engine = Engine::new(config)?;
        Ok(match cache() {
            Ok(cache) => engine.with_cache(cache),
            Err(error) => {
                eprintln!("warning: no cache of compiled components: {error:#}");
                engine
            }
        })
    }
}

/// `lamina service run`.
pub(crate) fn run(json: bool, options: &LocalOptions, inputs: &InputOptions) -> anyhow::Result<()> {
    let inputs = inputs.read()?;
    let mut local = options.open()?;
    let mut failed = 0;
    for (at, input) in inputs.iter().enumerate() {
        let report = local.run(input);
        failed += usize::from(!matches!(&report.outcome, Ok(outcome) if outcome.result.is_ok()));
        let value = describe(&local, &report);
        print(json, &value, || {
            let gap = if at > 0 { "\n" } else { "" };
            format!("{gap}{}", text(&local, &report))
        });
    }
    anyhow::ensure!(failed == 0, "{failed} of {} runs have no output", inputs.len());
    Ok(())
}

/// `lamina service test`.
pub(crate) fn test(json: bool, options: &LocalOptions, cases: Option<&Path>) -> anyhow::Result<()> {
    let path = match cases {
        Some(path) => path.to_owned(),
        None => folder_of(&options.manifest).join("cases.toml"),
    };
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("reading {}; name the file with --cases", path.display()))?;
    let cases: Cases = toml::from_str(&text).with_context(|| path.display().to_string())?;
    let base = options.open()?;
    let own = base.manifest().parameters.clone();
    let mut local = base;
    let mut failed = 0;
    for case in &cases.cases {
        for (name, value) in own.iter().chain(&case.parameters) {
            if local.manifest().parameters.get(name) != Some(value) {
                local.set_parameter(name.clone(), value.clone())?;
            }
        }
        let report = local.run(&Input::new(case.input.as_str())?);
        let differs = case.differs(&report);
        failed += usize::from(differs.is_some());
        let value = json!({ "case": case.name, "holds": differs.is_none(), "differs": differs });
        print(json, &value, || match &differs {
            None => format!("ok      {}", case.name),
            Some(differs) => format!("FAILED  {}\n        {differs}", case.name),
        });
    }
    let count = cases.cases.len();
    anyhow::ensure!(failed == 0, "{failed} of {count} cases failed");
    if !json {
        println!("{count} cases hold");
    }
    Ok(())
}

/// The only component in the folder `build` beside the manifest.
pub(crate) fn built_component(manifest: &Path) -> anyhow::Result<PathBuf> {
    let folder = folder_of(manifest).join("build");
    let is_component = |path: &PathBuf| path.extension().is_some_and(|end| end == "wasm");
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let built: Vec<_> = entries.map(|entry| entry.path()).filter(is_component).collect();
    match built.as_slice() {
        [component] => Ok(component.clone()),
        [] => anyhow::bail!(
            "there's no component in {}; build it with `lamina service build`, or name it",
            folder.display()
        ),
        _ => anyhow::bail!("there are several components in {}; name one", folder.display()),
    }
}

fn folder_of(manifest: &Path) -> &Path {
    match manifest.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Where the project's scripts put models: `$LAMINA_MODELS`, or `~/.cache/lamina/models`.
pub(crate) fn models_folder() -> PathBuf {
    let set = std::env::var_os("LAMINA_MODELS").map(PathBuf::from);
    set.unwrap_or_else(|| cache_folder().join("models"))
}

fn cache_folder() -> PathBuf {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    home.unwrap_or_else(std::env::temp_dir).join("lamina")
}

/// Compiled components, under a key that only this user may read.
fn cache() -> anyhow::Result<Cache> {
    let folder = cache_folder().join("components");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("key");
    let key = match std::fs::read(&path) {
        Ok(key) => key,
        Err(_) => {
            let mut file = tempfile::NamedTempFile::new_in(&folder)?;
            file.write_all(&crate::daemon::random()?)?;
            // Another process may have been first; its key holds then.
            let _ = file.persist_noclobber(&path);
            std::fs::read(&path)?
        }
    };
    anyhow::ensure!(key.len() == 32, "{} isn't a key; delete it", path.display());
    Ok(Cache::open(&folder, CacheKey::derive(&key), CACHE_BYTES_MAX)?)
}

fn describe(local: &Local, report: &Report) -> Value {
    let lines = |log: &Log| {
        log.lines
            .iter()
            .map(|line| json!({ "level": level(line.level), "message": line.message }))
            .collect::<Vec<_>>()
    };
    json!({
        "outcome": report.outcome.as_ref().ok(),
        "abstained": report.outcome.as_ref().err(),
        "observed": report.observed.as_deref().map(|bytes| format!("0x{}", hex::encode(bytes))),
        "refusals": report.refusals,
        "limits": local.manifest().limits,
        "memory_bytes_peak": report.memory_bytes_peak,
        "elapsed_us": u64::try_from(report.elapsed.as_micros()).unwrap_or(u64::MAX),
        "price": report.price,
        "log": report.logs.iter().flat_map(lines).collect::<Vec<_>>(),
        "log_lines_dropped": report.logs.iter().map(|log| log.dropped).sum::<u64>(),
    })
}

fn text(local: &Local, report: &Report) -> String {
    let limits = &local.manifest().limits;
    let mut pairs = Vec::new();
    if let Some(observed) = &report.observed {
        pairs.push(("observed", readable(observed)));
    }
    match &report.outcome {
        Ok(outcome) => {
            match &outcome.result {
                Ok(output) => pairs.push(("output", readable(output.as_slice()))),
                Err(failure) => pairs.push(("failed", failure.to_string())),
            }
            let (used, max) = (outcome.fuel_used, limits.fuel);
            let share = used as f64 / max.max(1) as f64 * 100.0;
            pairs.push(("fuel", format!("{used} of {max} ({share:.1}%)")));
            if let Some(state) = &outcome.state {
                let (before, after) = (state.before.short(), state.after.short());
                pairs.push(("state", format!("{before}… to {after}…")));
            }
        }
        Err(reason) => pairs.push(("abstained", reason.clone())),
    }
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let (used, max) = (mib(report.memory_bytes_peak), mib(limits.memory_bytes));
    pairs.push(("memory", format!("{used:.1} MiB of {max:.1} MiB")));
    pairs.push(("time", format!("{:.1} ms", report.elapsed.as_secs_f64() * 1e3)));
    pairs.push(("price", format!("{} units", report.price)));
    for refusal in &report.refusals {
        pairs.push(("refused", refusal.clone()));
    }
    for log in &report.logs {
        for line in &log.lines {
            pairs.push(("log", format!("{}: {}", level(line.level), line.message)));
        }
        if log.dropped > 0 {
            pairs.push(("log", format!("{} more lines were dropped", log.dropped)));
        }
    }
    fields(&pairs)
}

const fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    }
}
