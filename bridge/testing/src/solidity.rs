//! Compiles this crate's own contracts.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::Tools;
use crate::command::{cache, write};

/// The creation code of a contract in this crate's folder `contracts`; compiled once for each version of its source.
pub(crate) fn compile(tools: &Tools, name: &str) -> Result<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("contracts");
    let path = folder.join(format!("{name}.sol"));
    let source =
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let hash = hex::encode(Sha256::digest(&source));
    let compiled = cache()?.join(format!("{name}-{}.bin", &hash[..16]));
    if let Ok(code) = fs::read(&compiled) {
        return Ok(code);
    }
    let input = json!({
        "language": "Solidity",
        "sources": { name: { "content": source } },
        "settings": {
            "evmVersion": "osaka",
            "outputSelection": { "*": { "*": ["evm.bytecode.object"] } },
        },
    });
    let mut compiler = Command::new(tools.contracts().join("tools/solc"))
        .arg("--standard-json")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting the Solidity compiler; install node with `apt-get install nodejs`")?;
    let mut stdin = compiler.stdin.take().context("standard input is piped")?;
    stdin.write_all(input.to_string().as_bytes())?;
    drop(stdin);
    let output = compiler.wait_with_output()?;
    ensure!(output.status.success(), "the Solidity compiler failed");
    let output: Value = serde_json::from_slice(&output.stdout)?;
    let code = output["contracts"][name][name]["evm"]["bytecode"]["object"].as_str();
    let code = hex::decode(code.with_context(|| format!("{name}: {}", output["errors"]))?)?;
    write(&compiled, &code)?;
    Ok(code)
}
