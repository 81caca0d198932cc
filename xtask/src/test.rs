use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, Result};
use cargo_metadata::{DependencyKind, Package};

use crate::workspace::Workspace;
use crate::{guests, models};

/// `cargo xtask test`: tests and doc tests of an area; the last line is the [`Summary`].
pub(crate) fn run(workspace: &Workspace, area: Option<&str>) -> Result<ExitCode> {
    let packages = workspace.packages(area)?;
    if packages.iter().any(|package| tests_build_guests(package)) {
        // A test would do it, but silently and for minutes.
        for service in workspace.services()? {
            guests::build(&service)?;
            // Tests that lack a model are listed as skipped.
            if let Err(error) = models::fetch_for(&service) {
                eprintln!("warning: {error:#}");
            }
        }
    }
    let skipped_file =
        workspace.fresh_folder(&format!("test-{}", std::process::id()))?.join("skipped");
    let (success, mut summary) = run_tests(workspace, &packages, &skipped_file)?;
    let skips = read_skips(&skipped_file)?;
    fs::remove_dir_all(skipped_file.parent().expect("is in a folder"))?;
    summary.count_skips(&skips);

    let may_skip = std::env::var("LAMINA_REQUIRE_ALL").as_deref() != Ok("1");
    let mut out = io::stdout().lock();
    if !skips.is_empty() {
        writeln!(out, "\nskipped:")?;
        for skip in &skips {
            writeln!(out, "  {skip}")?;
        }
        if !may_skip {
            writeln!(out, "nothing may be skipped, because LAMINA_REQUIRE_ALL=1")?;
        }
    }
    if !success {
        writeln!(out, "\n`cargo test` failed, see above")?;
    }
    writeln!(out, "\n{summary}")?;
    out.flush()?;
    let passed = success && summary.failed == 0 && (may_skip || skips.is_empty());
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tests_build_guests(package: &Package) -> bool {
    package.dependencies.iter().any(|dependency| {
        dependency.kind == DependencyKind::Development
            && dependency.name == "lamina-component-build"
    })
}

/// Runs the tests, passing on what they print as it comes.
fn run_tests(
    workspace: &Workspace,
    packages: &[&Package],
    skipped_file: &Path,
) -> Result<(bool, Summary)> {
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--no-fail-fast"]);
    for package in packages {
        cargo.arg("--package").arg(package.name.as_str());
    }
    cargo.env("LAMINA_SKIPPED", skipped_file).stdout(Stdio::piped());
    let mut cargo = cargo.spawn().context("running cargo")?;
    let mut lines = BufReader::new(cargo.stdout.take().expect("is piped"));
    let mut summary = Summary::default();
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        io::stdout().write_all(&line)?;
        summary.count_line(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok((cargo.wait()?.success(), summary))
}

/// Records of skipped tests, as `lamina_types::testing::skip` writes them: `<test>: <reason>`.
fn read_skips(path: &Path) -> Result<BTreeSet<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// What all test programs together came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Summary {
    /// Counts a line like `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; …`; other lines count nothing.
    fn count_line(&mut self, line: &str) {
        let line = without_colours(line);
        let Some(result) = line.trim().strip_prefix("test result: ") else { return };
        let counts = result.split_once(". ").map_or("", |(_, counts)| counts);
        for count in counts.split("; ") {
            let Some((number, what)) = count.split_once(' ') else { continue };
            let number: u64 = number.parse().unwrap_or(0);
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }

    /// A test that skips itself returns, which counted as passed.
    fn count_skips(&mut self, skips: &BTreeSet<String>) {
        let tests: BTreeSet<_> = skips
            .iter()
            .map(|skip| skip.split_once(": ").map_or(&**skip, |(test, _)| test))
            .collect();
        self.passed = self.passed.saturating_sub(tests.len() as u64);
        self.skipped += tests.len() as u64;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// `text` without terminal escapes (`ESC [ … letter`), which `CARGO_TERM_COLOR=always` brings in.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(
            part.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, rest)| rest),
        );
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(text: &str) -> Summary {
        let mut summary = Summary::default();
        text.lines().for_each(|line| summary.count_line(line));
        summary
    }

    #[test]
    fn results_of_all_test_programs_are_added_up() {
        let summary = counted(
            "running 3 tests\n\
             test a ... ok\n\
             test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
             test result: FAILED. 4 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 1.00s\n",
        );
        assert_eq!(summary, Summary { passed: 7, failed: 1, skipped: 2 });
    }

    #[test]
    fn colours_do_not_hide_a_result() {
        let summary = counted(
            "test result: \u{1b}[31mFAILED\u{1b}[m. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!(summary, Summary { passed: 1, failed: 2, skipped: 0 });
    }

    #[test]
    fn skipped_test_does_not_count_as_passed() {
        let mut summary = Summary { passed: 5, failed: 0, skipped: 0 };
        let skips = ["a: no vectors x", "a: no vectors y", "b: no vectors x"];
        summary.count_skips(&skips.map(str::to_owned).into());
        assert_eq!(summary.to_string(), "3 passed, 0 failed, 2 skipped");
    }
}
