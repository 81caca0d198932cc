//! `lamina devnet`: a whole network that comes up, works, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "tests may, their helpers included")]

mod harness;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use harness::{text, wait_for};
use serde_json::Value;

#[test]
fn comes_up_certifies_and_leaves_nothing_behind_at_ctrl_c() {
    let moderator =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../components/services/moderator");
    let built = lamina_component_build::build_guest(&moderator, None).unwrap();
    let mut devnet = Command::new(env!("CARGO_BIN_EXE_lamina"))
        .args(["devnet", "--json", "--operators", "4", "--interval-ms", "200"])
        .args(["--service", &text(&moderator.join("service.toml"))])
        .args(["--component", &text(&built.path)])
        .args(["--messages", &text(&moderator.join("messages.jsonl"))])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map(Running)
        .unwrap();
    let mut lines = BufReader::new(devnet.0.stdout.take().unwrap()).lines().map(|line| {
        let line = line.unwrap();
        serde_json::from_str::<Value>(&line).unwrap_or_else(|e| panic!("{line}: {e}"))
    });

    let up = lines.next().expect("it says that it's up");
    assert_eq!(up["event"], "up");
    assert_eq!(up["network"]["operators"].as_array().unwrap().len(), 4);
    let genesis = PathBuf::from(up["network"]["genesis"].as_str().unwrap());
    let folder = genesis.parent().unwrap().to_owned();
    assert_eq!(processes_of(&folder).len(), 4);
    let certified = lines.by_ref().find(|line| line["event"] == "task").expect("a task");
    assert_eq!(certified["task"]["status"], "certified", "{certified}");

    // As a terminal does at Ctrl-C, but to the one process: the others must follow.
    let interrupted = Command::new("kill").args(["-INT", &devnet.0.id().to_string()]).status();
    assert!(interrupted.unwrap().success());
    assert!(devnet.0.wait().unwrap().success());
    assert!(!folder.exists(), "{} is left", folder.display());
    assert_eq!(processes_of(&folder), Vec::<u32>::new());
}

#[test]
fn operators_stop_when_the_devnet_is_killed() {
    let moderator =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../components/services/moderator");
    let built = lamina_component_build::build_guest(&moderator, None).unwrap();
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("devnet");
    let mut devnet = Command::new(env!("CARGO_BIN_EXE_lamina"))
        .args(["devnet", "--json", "--operators", "1", "--directory", &text(&folder)])
        .args(["--service", &text(&moderator.join("service.toml"))])
        .args(["--component", &text(&built.path)])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map(Running)
        .unwrap();
    let mut lines = BufReader::new(devnet.0.stdout.take().unwrap()).lines();
    assert!(lines.next().expect("it says that it's up").unwrap().contains("\"up\""));
    assert_eq!(processes_of(&folder).len(), 1);
    devnet.0.kill().unwrap();
    devnet.0.wait().unwrap();
    wait_for("the operator has stopped", || processes_of(&folder).is_empty().then_some(()));
}

/// A process that doesn't outlive a failed test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Operators that run in `folder`.
fn processes_of(folder: &Path) -> Vec<u32> {
    let named = |pid: &u32| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(folder.join("operator-").to_str().unwrap())
    };
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(named)
        .collect()
}
