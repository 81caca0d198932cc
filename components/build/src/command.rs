use std::ffi::OsStr;
use std::process::{Command, Stdio};

use crate::{Error, Tool};

/// A command that doesn't inherit what an outer cargo (`cargo test`, `cargo run`, a build script) says about its own build.
///
/// Kept is what says how to reach registries and how to print.
pub(crate) fn clean(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_of_a_build) {
            command.env_remove(name);
        }
    }
    command
}

fn is_of_a_build(name: &str) -> bool {
    const KEPT: [&str; 7] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
        "CARGO_BUILD_JOBS",
    ];
    const OTHERS: [&str; 8] =
        ["OUT_DIR", "TARGET", "HOST", "PROFILE", "OPT_LEVEL", "DEBUG", "NUM_JOBS", "CARGO"];
    let cargos = name.starts_with("CARGO_") && !KEPT.iter().any(|kept| name.starts_with(kept));
    let compilers = name.starts_with("RUSTC") || name.starts_with("RUSTDOC") || name == "RUSTFLAGS";
    cargos || compilers || OTHERS.contains(&name)
}

/// Runs `command` and returns what it wrote to standard output.
///
/// # Errors
/// [`Error::Start`], [`Error::Failed`].
pub(crate) fn output(command: &mut Command) -> Result<String, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|source| Error::Start { program, source })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !output.status.success() {
        // Some tools write what's wrong to standard output.
        let written = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
        return Err(Error::Failed {
            command: line(command),
            output: text(written).trim().to_owned(),
        });
    }
    Ok(text(&output.stdout))
}

/// Checks that `probe`, a command that does nothing, works: if not, `tool` isn't installed.
///
/// # Errors
/// [`Error::NoTool`] says what to install.
pub(crate) fn installed(probe: &mut Command, tool: Tool) -> Result<(), Error> {
    output(probe).map(drop).map_err(|cause| Error::NoTool { tool, cause: Box::new(cause) })
}

/// The command as one would type it.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_describes_a_build_is_dropped() {
        for name in
            ["CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "CARGO_PKG_NAME", "RUSTFLAGS", "CARGO"]
        {
            assert!(is_of_a_build(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_HTTP_PROXY", "RUSTUP_TOOLCHAIN", "PATH", "RUST_BACKTRACE"]
        {
            assert!(!is_of_a_build(name), "{name}");
        }
    }

    #[test]
    fn failure_carries_the_command_and_its_words() {
        let error = output(clean("rustc").arg("--no-such-flag")).unwrap_err().to_string();
        assert!(error.starts_with("rustc --no-such-flag failed:\nerror:"), "{error}");
    }
}
