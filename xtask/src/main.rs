//! The project's own commands: devnet, deploy, test, bench, components, models.
//!
//! Each finds what it works on in `cargo metadata`, so that a new crate or service needs no line here. Everything is
//! built into one target directory outside the checkout (`CARGO_TARGET_DIR`, else `~/.cache/lamina/target`), so that a
//! fresh clone doesn't pay again.

mod bench;
mod deploy;
mod devnet;
mod guests;
mod models;
mod row;
mod test;
mod workspace;

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use lexopt::prelude::*;

use workspace::Workspace;

const USAGE: &str = "\
The project's own commands.

Usage:
  cargo xtask devnet [SERVICE] [--no-ethereum] [--operators N] [ARGUMENT]...
      Build a service (the moderator, or the bouncer) and the node, then run `lamina devnet` with these arguments, beside
      a development chain with EigenLayer, unless there's to be none.
  cargo xtask deploy [ARGUMENT]...
      Build what puts the contracts onto an Ethereum chain, and run it with these arguments: see docs/deployment.md.
  cargo xtask test [AREA]
      Run all tests, or those of one top-level folder. What was skipped is listed at the end;
      with LAMINA_REQUIRE_ALL=1 it's a failure.
  cargo xtask bench [AREA] [--json] [--strict]
      Run the benchmarks and print one table (or JSON) of what they measured.
      With --strict a missed target is a failure.
  cargo xtask components
      Build all services into WebAssembly components.
  cargo xtask models
      Fetch the models that services name as blobs, from PyPI, into ~/.cache/lamina/models.

Everything is built in $CARGO_TARGET_DIR, or ~/.cache/lamina/target.
";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    if env::var_os(TARGET_DIR).is_none() {
        return restart_with_target_dir();
    }
    let mut arguments = lexopt::Parser::from_env();
    let command = match arguments.next()? {
        Some(Value(command)) => command.string()?,
        Some(Short('h') | Long("help")) => {
            print!("{USAGE}");
            return Ok(ExitCode::SUCCESS);
        }
        Some(other) => return Err(other.unexpected().into()),
        None => bail!("no command\n\n{USAGE}"),
    };
    match command.as_str() {
        "devnet" => {
            let passed: Vec<_> = arguments.raw_args()?.collect();
            devnet::run(&Workspace::load()?, &passed)
        }
        "deploy" => {
            let passed: Vec<_> = arguments.raw_args()?.collect();
            deploy::run(&Workspace::load()?, &passed)
        }
        "test" => {
            let (area, []) = area_and_flags(arguments, [])?;
            test::run(&Workspace::load()?, area.as_deref())
        }
        "bench" => {
            let (area, [json, strict]) = area_and_flags(arguments, ["json", "strict"])?;
            bench::run(&Workspace::load()?, area.as_deref(), json, strict)
        }
        "components" => {
            let (None, []) = area_and_flags(arguments, [])? else {
                bail!("`components` takes no arguments");
            };
            guests::build_all(&Workspace::load()?)
        }
        "models" => {
            let (None, []) = area_and_flags(arguments, [])? else {
                bail!("`models` takes no arguments");
            };
            models::run(&Workspace::load()?)
        }
        other => bail!("unknown command `{other}`\n\n{USAGE}"),
    }
}

/// `[AREA] [--flag]...`, in any order.
fn area_and_flags<const N: usize>(
    mut arguments: lexopt::Parser,
    names: [&str; N],
) -> Result<(Option<String>, [bool; N])> {
    let mut area = None;
    let mut flags = [false; N];
    while let Some(argument) = arguments.next()? {
        match argument {
            Value(value) if area.is_none() => area = Some(value.string()?),
            Long(name) if names.contains(&name) => {
                for (flag, known) in flags.iter_mut().zip(names) {
                    *flag |= known == name;
                }
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok((area, flags))
}

/// Children inherit the variable; a process can't safely set its own.
fn restart_with_target_dir() -> Result<ExitCode> {
    let home = env::var_os("HOME").filter(|home| !home.is_empty());
    let home = home.context("neither CARGO_TARGET_DIR nor HOME is set; set one of them")?;
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let error = Command::new(env::current_exe()?)
        .args(arguments)
        .env(TARGET_DIR, PathBuf::from(home).join(".cache/lamina/target"))
        .exec();
    Err(error).context("restarting with a target directory")
}

const TARGET_DIR: &str = "CARGO_TARGET_DIR";
