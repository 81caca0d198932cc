use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{Package, TargetKind};
use serde::Deserialize;

use crate::row::{Row, table};
use crate::workspace::{Workspace, folder_of};

/// `cargo xtask bench`: runs the benchmarks of an area and prints what this run measured.
///
/// A crate's `bench-rows.toml` says what its criterion benchmarks mean ([`RowRule`]); what no rule names is reported
/// without a target. What criterion can't measure a bench program writes as JSON ([`Row`]) into `$LAMINA_BENCH_ROWS`.
pub(crate) fn run(
    workspace: &Workspace,
    area: Option<&str>,
    json: bool,
    strict: bool,
) -> Result<ExitCode> {
    let packages = workspace.packages(area)?;
    let mut rows = Vec::new();
    let mut failed = Vec::new();
    for package in packages.into_iter().filter(|package| benches(package).next().is_some()) {
        match bench_package(workspace, package) {
            Ok(measured) => rows.extend(measured),
            Err(error) => {
                eprintln!("error: {error:#}");
                failed.push(package.name.as_str());
            }
        }
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        println!("{}", table(&rows));
    }
    let missed = rows.iter().filter(|row| row.holds == Some(false)).count();
    if missed > 0 {
        eprintln!("{missed} of {} rows miss their target", rows.len());
    }
    if !failed.is_empty() {
        bail!("benchmarks failed: {}", failed.join(", "));
    }
    Ok(if strict && missed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn benches(package: &Package) -> impl Iterator<Item = &str> {
    let targets = package.targets.iter();
    targets.filter(|target| target.kind.contains(&TargetKind::Bench)).map(|t| t.name.as_str())
}

/// Runs a package's benchmarks, into folders that hold nothing from earlier.
fn bench_package(workspace: &Workspace, package: &Package) -> Result<Vec<Row>> {
    let rules = read_rules(&folder_of(package).join("bench-rows.toml"))?;
    let folder = workspace.fresh_folder(&format!("bench/{}", package.name))?;
    let (criterion, programs) = (folder.join("criterion"), folder.join("rows"));
    fs::create_dir_all(&criterion)?;
    fs::create_dir_all(&programs)?;

    let mut cargo = workspace.cargo();
    // All members, so that dependencies are built once, with the same features for every package.
    cargo.args(["bench", "--workspace"]);
    for bench in benches(package) {
        cargo.args(["--bench", bench]);
    }
    let status = cargo
        .env("CRITERION_HOME", &criterion)
        .env("LAMINA_BENCH_ROWS", &programs)
        // What criterion prints is progress; the table alone is the result.
        .stdout(Stdio::from(io::stderr()))
        .status()
        .context("running cargo")?;
    if !status.success() {
        bail!("`cargo bench` of {} failed ({status})", package.name);
    }
    let mut rows = join(&rules, &read_criterion(&criterion)?)
        .with_context(|| format!("benchmarks of {}", package.name))?;
    rows.extend(read_rows(&programs)?);
    Ok(rows)
}

/// `bench-rows.toml`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    #[serde(default)]
    row: Vec<RowRule>,
}

/// What one criterion benchmark means.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RowRule {
    name: String,
    /// Criterion's id of what is measured: `group/function/parameter`, or what `bench_function` was given.
    value: String,
    /// Criterion's id of what it's held against.
    floor: Option<String>,
    /// `ns`, `µs`, `ms`, `s`, or `/s` for a rate; by default what fits the value.
    unit: Option<Unit>,
    /// `ratio <= 1.5`, `value >= 2000`: of the ratio to the floor, or of the value in its unit.
    target: Option<String>,
}

fn read_rules(path: &Path) -> Result<Rules> {
    if !path.exists() {
        return Ok(Rules::default());
    }
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("reading {}", path.display()))
}

#[derive(Clone, Copy, Deserialize)]
enum Unit {
    #[serde(rename = "ns")]
    Nanoseconds,
    #[serde(rename = "µs", alias = "us")]
    Microseconds,
    #[serde(rename = "ms")]
    Milliseconds,
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "/s")]
    PerSecond,
}

impl Unit {
    const fn name(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::Microseconds => "µs",
            Self::Milliseconds => "ms",
            Self::Seconds => "s",
            Self::PerSecond => "/s",
        }
    }

    const fn fitting(median_ns: f64) -> Self {
        match median_ns {
            ns if ns < 1e3 => Self::Nanoseconds,
            ns if ns < 1e6 => Self::Microseconds,
            ns if ns < 1e9 => Self::Milliseconds,
            _ => Self::Seconds,
        }
    }

    fn of(self, measured: &Measured) -> f64 {
        match self {
            Self::Nanoseconds => measured.median_ns,
            Self::Microseconds => measured.median_ns / 1e3,
            Self::Milliseconds => measured.median_ns / 1e6,
            Self::Seconds => measured.median_ns / 1e9,
            Self::PerSecond => measured.elements * 1e9 / measured.median_ns,
        }
    }
}

/// What criterion found for one id.
struct Measured {
    median_ns: f64,
    /// Of one iteration; for rates.
    elements: f64,
}

/// Rows in the rules' order, then what was measured without a rule.
fn join(rules: &Rules, measured: &BTreeMap<String, Measured>) -> Result<Vec<Row>> {
    let mut unnamed: BTreeMap<_, _> = measured.iter().collect();
    let mut rows = Vec::new();
    for rule in &rules.row {
        let find = |id: &String| {
            measured.get(id).with_context(|| format!("row `{}`: `{id}` wasn't measured", rule.name))
        };
        let value = find(&rule.value)?;
        let floor = rule.floor.as_ref().map(find).transpose()?;
        for id in std::iter::once(&rule.value).chain(&rule.floor) {
            unnamed.remove(id);
        }
        rows.push(judge(rule, value, floor)?);
    }
    rows.extend(unnamed.into_iter().map(|(id, measured)| {
        let unit = Unit::fitting(measured.median_ns);
        Row {
            name: id.clone(),
            value: unit.of(measured),
            unit: unit.name().to_owned(),
            floor: None,
            ratio: None,
            target: None,
            holds: None,
        }
    }));
    Ok(rows)
}

fn judge(rule: &RowRule, value: &Measured, floor: Option<&Measured>) -> Result<Row> {
    let unit = rule.unit.unwrap_or_else(|| Unit::fitting(value.median_ns));
    let value = unit.of(value);
    let floor = floor.map(|floor| unit.of(floor));
    let ratio = floor.map(|floor| value / floor);
    let holds = match &rule.target {
        Some(target) => Some(
            holds(target, value, ratio)
                .with_context(|| format!("row `{}`: target `{target}`", rule.name))?,
        ),
        None => None,
    };
    Ok(Row {
        name: rule.name.clone(),
        value,
        unit: unit.name().to_owned(),
        floor,
        ratio,
        target: rule.target.clone(),
        holds,
    })
}

fn holds(target: &str, value: f64, ratio: Option<f64>) -> Result<bool> {
    let [what, order, limit] = target.split(' ').collect::<Vec<_>>()[..] else {
        bail!("isn't of the form `ratio <= 1.5`");
    };
    let found = match what {
        "value" => value,
        "ratio" => ratio.context("there's no floor to form a ratio with")?,
        _ => bail!("is about `{what}`, not `ratio` or `value`"),
    };
    let limit: f64 = limit.parse().context("has no number")?;
    match order {
        "<=" => Ok(found <= limit),
        ">=" => Ok(found >= limit),
        _ => bail!("compares by `{order}`, not `<=` or `>=`"),
    }
}

/// All that criterion left below `folder`, by id. It writes each benchmark's newest result into a folder `new`.
fn read_criterion(folder: &Path) -> Result<BTreeMap<String, Measured>> {
    #[derive(Deserialize)]
    struct Benchmark {
        full_id: String,
        throughput: Option<BTreeMap<String, serde_json::Value>>,
    }
    #[derive(Deserialize)]
    struct Estimates {
        median: Estimate,
    }
    #[derive(Deserialize)]
    struct Estimate {
        point_estimate: f64,
    }

    let mut measured = BTreeMap::new();
    for path in files_below(folder)? {
        if !path.ends_with("new/benchmark.json") {
            continue;
        }
        let benchmark: Benchmark = read_json(&path)?;
        let estimates: Estimates = read_json(&path.with_file_name("estimates.json"))?;
        let elements = benchmark.throughput.and_then(|kinds| kinds.get("Elements")?.as_f64());
        let result = Measured {
            median_ns: estimates.median.point_estimate,
            elements: elements.unwrap_or(1.0),
        };
        measured.insert(benchmark.full_id, result);
    }
    Ok(measured)
}

/// All rows that bench programs wrote into `folder`.
fn read_rows(folder: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for path in files_below(folder)? {
        rows.extend(read_json::<Vec<Row>>(&path)?);
    }
    Ok(rows)
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    Ok(files)
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    let read = || -> Result<T> { Ok(serde_json::from_slice(&fs::read(path)?)?) };
    read().with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(ids: &[(&str, f64)]) -> BTreeMap<String, Measured> {
        ids.iter()
            .map(|&(id, median_ns)| (id.to_owned(), Measured { median_ns, elements: 10.0 }))
            .collect()
    }

    fn rules(text: &str) -> Rules {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn value_is_held_against_its_floor() {
        let rules = rules(
            r#"
            [[row]]
            name = "host: small call"
            value = "host/call"
            floor = "host/bare"
            target = "ratio <= 1.5"
            "#,
        );
        let slow =
            join(&rules, &measured(&[("host/call", 4000.0), ("host/bare", 2000.0)])).unwrap();
        assert_eq!((slow[0].value, slow[0].ratio, slow[0].holds), (4.0, Some(2.0), Some(false)));
        assert_eq!(slow.len(), 1);
        let quick =
            join(&rules, &measured(&[("host/call", 2500.0), ("host/bare", 2000.0)])).unwrap();
        assert_eq!(quick[0].holds, Some(true));
    }

    #[test]
    fn rate_counts_the_elements_of_an_iteration() {
        let rules = rules(
            r#"
            [[row]]
            name = "node: triggers"
            value = "trigger"
            unit = "/s"
            target = "value >= 5000"
            "#,
        );
        let rows = join(&rules, &measured(&[("trigger", 1e6)])).unwrap();
        assert_eq!((rows[0].value, rows[0].holds), (10_000.0, Some(true)));
    }

    #[test]
    fn what_no_rule_names_is_reported_without_a_target() {
        let rows = join(&Rules::default(), &measured(&[("verify", 917_000.0)])).unwrap();
        assert_eq!((rows[0].value, rows[0].unit.as_str(), rows[0].holds), (917.0, "µs", None));
    }

    #[test]
    fn rule_for_what_was_not_measured_is_an_error() {
        let rules = rules("[[row]]\nname = \"host: load\"\nvalue = \"host/load\"");
        let error = join(&rules, &measured(&[])).unwrap_err();
        assert_eq!(error.to_string(), "row `host: load`: `host/load` wasn't measured");
    }

    #[test]
    fn target_that_is_not_understood_is_an_error() {
        for target in ["ratio < 1", "speed <= 1", "ratio <= fast", "<= 1", "ratio <= 1"] {
            assert!(holds(target, 1.0, None).is_err(), "{target}");
        }
    }
}
