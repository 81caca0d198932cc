//! The contracts' own tests: their bytecode is the committed one, they do what they should, and their gas is below the targets.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lamina_types::testing;

#[test]
fn contracts_hold_what_they_promise() -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts/test.sh");
    let run = Command::new("sh").arg(script).output().context("running a shell")?;
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    ensure!(run.status.success(), "the contracts' tests failed\n{out}\n{err}");
    let summary = out.lines().rev().find(|line| line.contains(" tests passed, "));
    let summary = summary.with_context(|| format!("forge ran no tests\n{out}"))?;
    println!("{summary}");
    if !summary.contains(" 0 skipped") {
        testing::skip("contracts_hold_what_they_promise", "some vectors aren't there");
    }
    Ok(())
}
