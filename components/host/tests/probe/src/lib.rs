//! A guest for tests: it does what its input says, and tells what it saw.
#![cfg(target_family = "wasm")]

use std::fmt::Write as _;

use lamina::service::{blobs, parameters, state, task};
use wasip2::clocks::{monotonic_clock, wall_clock};
use wasip2::random::{insecure, insecure_seed, random};

wit_bindgen::generate!({ world: "service", path: "../../../wit" });

struct Probe;

impl Guest for Probe {
    /// The input has one command a line, the output one answer.
    fn run(input: Vec<u8>) -> Result<Vec<u8>, String> {
        let text = String::from_utf8(input).map_err(|error| error.to_string())?;
        let answers: Result<Vec<_>, _> = text.lines().map(obey).collect();
        answers.map(|answers| answers.join("\n").into_bytes())
    }
}

export!(Probe);

fn obey(command: &str) -> Result<String, String> {
    let words: Vec<&str> = command.split(' ').collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    Ok(match words.as_slice() {
        ["clock"] => clock(),
        ["wait", _] => {
            let before = monotonic_clock::now();
            monotonic_clock::subscribe_duration(number(1)).block();
            (monotonic_clock::now() - before).to_string()
        }
        ["random"] => {
            let bytes = hex(&random::get_random_bytes(20));
            let number = random::get_random_u64();
            let insecure = hex(&insecure::get_insecure_random_bytes(20));
            format!("{bytes} {number} {insecure} {:?}", insecure_seed::insecure_seed())
        }
        ["float"] => float(),
        ["environment"] => {
            let environment = wasip2::cli::environment::get_environment();
            let arguments = wasip2::cli::environment::get_arguments();
            let folders = wasip2::filesystem::preopens::get_directories().len();
            format!("{environment:?} {arguments:?} {folders}")
        }
        ["input"] => format!("{:?}", wasip2::cli::stdin::get_stdin().blocking_read(10).is_err()),
        ["print", rest @ ..] => {
            let stdout = wasip2::cli::stdout::get_stdout();
            stdout
                .blocking_write_and_flush(rest.join(" ").as_bytes())
                .map_err(|e| e.to_string())?;
            String::new()
        }
        ["socket"] => {
            wasip2::sockets::instance_network::instance_network();
            "there is a network".to_owned()
        }
        ["exit"] => {
            wasip2::cli::exit::exit(Ok(()));
            "still here".to_owned()
        }
        ["task"] => format!("{} {}", hex(&task::id()), task::height()),
        ["parameter", name] => format!("{:?}", parameters::get(name)),
        ["blob", name] => format!("{:?}", blobs::size(name)),
        ["blob", name, _, _] => {
            let length = u32::try_from(number(3)).unwrap_or(u32::MAX);
            let read = blobs::read(name, number(2), length);
            read.map_or_else(
                || "none".to_owned(),
                |bytes| format!("{} {}", bytes.len(), sum(&bytes)),
            )
        }
        ["get", key] => format!("{:?}", state::get(key.as_bytes()).map(|value| hex(&value))),
        ["set", key, value] => {
            state::set(key.as_bytes(), value.as_bytes());
            String::new()
        }
        ["fill", key, _] => {
            let length = usize::try_from(number(2)).unwrap_or(usize::MAX);
            state::set(key.as_bytes(), &vec![7; length]);
            String::new()
        }
        ["delete", key] => {
            state::delete(key.as_bytes());
            String::new()
        }
        ["keys", prefix] => state::keys(prefix.as_bytes(), None, 100)
            .iter()
            .map(|key| String::from_utf8_lossy(key).into_owned())
            .collect::<Vec<_>>()
            .join(","),
        ["refuse", rest @ ..] => return Err(rest.join(" ")),
        ["panic"] => panic!("as it was told"),
        _ => return Err(format!("no command: {command}")),
    })
}

/// What the clocks say, several times.
fn clock() -> String {
    let mut text = String::new();
    for _ in 0..3 {
        let now = wall_clock::now();
        let _ = write!(text, "{}.{} {} ", now.seconds, now.nanoseconds, monotonic_clock::now());
    }
    text
}

/// Bits that differ between machines where a host isn't careful: NaNs, rounding, the order of a sum.
fn float() -> String {
    let mut text = String::new();
    let mut sum = 0.0_f32;
    for i in 1..2000_u16 {
        let x = f32::from(i);
        sum += (x.sqrt() / 3.0).mul_add(1.0001, -x) * x.recip();
    }
    let zero = std::hint::black_box(0.0_f32);
    let nans =
        [zero / zero, -(zero / zero), f32::INFINITY - f32::INFINITY + zero, (-1.0 + zero).sqrt()];
    let _ = write!(text, "{:08x}", sum.to_bits());
    for nan in nans {
        let _ = write!(text, " {:08x}", nan.to_bits());
    }
    let wide = std::hint::black_box(f64::from(f32::from_bits(0x7fa0_0001)));
    let _ = write!(text, " {:016x} {:016x}", (wide + 1.0).to_bits(), (wide * 0.0).to_bits());
    text
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
