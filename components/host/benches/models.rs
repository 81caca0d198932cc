//! What a model costs inside WebAssembly: the bouncer's, by the same code native, in the same run; and what a run takes of
//! memory beside what its component was given.
//!
//! An embedding is the difference between a message of eight sentences and one of a single one, a token that between the
//! opinion on a long message and on a short one: so loading the weights, which both do, isn't in it.
//!
//! Rows as JSON, for `cargo xtask bench`, into the folder that `LAMINA_BENCH_ROWS` names, or to standard output.

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use bouncer::Native;
use lamina_component_build::build_guest;
use lamina_components::{Blobs, Config, Engine, ManifestSource, Service, Task};
use lamina_types::{Address, Height, Input, TaskId};
use serde_json::{Value, json};

/// Runs of each; the median counts.
const RUNS: usize = 5;

const SHORT: &str = "The ferry leaves at nine in the morning.";
const SENTENCES: [&str; 8] = [
    "The ferry leaves at nine in the morning.",
    "Please bring the blue folder to the meeting.",
    "Nobody expected the weather to be this good.",
    "My sister plays the cello in an orchestra.",
    "The new bridge was opened by the mayor.",
    "All tickets for the concert are sold out.",
    "We painted the kitchen in a light yellow.",
    "The dog slept under the table all day.",
];

fn main() {
    let rows = match Native::with_models() {
        Some(native) => measure(native),
        None => {
            eprintln!("no models: `cargo xtask models` fetches them");
            json!([])
        }
    };
    match std::env::var_os("LAMINA_BENCH_ROWS") {
        Some(folder) => std::fs::write(Path::new(&folder).join("models.json"), rows.to_string())
            .expect("the folder can be written"),
        None => println!("{rows:#}"),
    }
}

fn measure(mut native: Native) -> Value {
    let service = Bouncer::new(&mut native);
    let long = SENTENCES.join(" ");
    let embedding = |run: &mut dyn FnMut(&str, &str)| {
        let extra = SENTENCES.len() as f64;
        (timed(|| run(&long, "off")) - timed(|| run(SHORT, "off"))) / extra
    };
    let token = |run: &mut dyn FnMut(&str, &str)| {
        // Two readings, of which each takes about nine more tokens for a further sentence.
        let long = SENTENCES[..3].join(" ");
        let opinion = |run: &mut dyn FnMut(&str, &str), text: &str| {
            timed(|| run(text, "on")) - timed(|| run(text, "off"))
        };
        (opinion(run, &long) - opinion(run, SHORT)) / 36.0
    };
    let mut in_wasm = |text: &str, opinion: &str| service.run(text, opinion);
    let mut natively = |text: &str, opinion: &str| {
        native.parameters.insert("opinion".to_owned(), opinion.to_owned());
        bouncer::run(&input(text), &native).expect("it judges");
    };
    let (wasm_embedding, native_embedding) = (embedding(&mut in_wasm), embedding(&mut natively));
    let (wasm_token, native_token) = (token(&mut in_wasm), token(&mut natively));
    let speed = |name: &str, wasm: f64, native: f64| {
        json!({
            "name": format!("components: {name}"),
            "value": 1e3 / wasm,
            "unit": "/s",
            "floor": 1e3 / native,
            "ratio": native / wasm,
            "target": "ratio >= 0.6",
            "holds": native / wasm >= 0.6,
        })
    };
    let overhead = service.memory_beside_the_components_mib();
    json!([
        speed("embeddings of a sentence in Wasm, by native", wasm_embedding, native_embedding),
        speed("tokens of the language model in Wasm, by native", wasm_token, native_token),
        { "name": "components: a message through the bouncer, weights loaded anew",
          "value": timed(|| service.run(SHORT, "off")), "unit": "ms",
          "floor": timed(|| natively(SHORT, "off")) },
        { "name": "components: memory of a run beside its component's",
          "value": overhead, "unit": "MiB", "target": "value <= 16", "holds": overhead <= 16.0 },
    ])
}

/// The bouncer as an operator runs it, with its opinion switched on or off.
struct Bouncer {
    on: Service,
    off: Service,
}

impl Bouncer {
    /// Also gives `native` the manifest's parameters.
    fn new(native: &mut Native) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../services/bouncer");
        let guest = build_guest(&folder, None).unwrap_or_else(|e| panic!("{e}"));
        let source = ManifestSource::read(&folder.join("service.toml")).expect("a manifest");
        let mut manifest = source.into_manifest(Address([1; 20]), &guest.bytes).expect("in bounds");
        manifest.limits.fuel = Config::default().fuel_max;
        manifest.limits.memory_bytes = Config::default().memory_bytes_max;
        for (name, value) in &manifest.parameters {
            native.parameters.insert(name.to_string(), value.to_string());
        }
        let engine = Engine::new(Config::default()).expect("a pool of the default size");
        let component = engine.load(&guest.bytes, &manifest.component).expect("it's a service");
        let mut serve = |opinion: &str| {
            let name = "opinion".to_owned().try_into().expect("a name");
            manifest.parameters.insert(name, lamina_types::Text::truncated(opinion));
            let mut blobs = Blobs::default();
            for name in manifest.blobs.keys() {
                let file = File::open(&native.blobs[name.as_str()]).expect("a model");
                blobs.insert(name.clone(), file).expect("it has a size");
            }
            component.clone().serve(&manifest, blobs).expect("it's admitted")
        };
        Self { on: serve("on"), off: serve("off") }
    }

    fn run(&self, text: &str, opinion: &str) {
        let service = if opinion == "on" { &self.on } else { &self.off };
        run(service, text);
    }

    /// How much more this process had in RAM at most than before, less what the component had.
    fn memory_beside_the_components_mib(&self) -> f64 {
        // What's freed stays in a pool; a first run fills it.
        run(&self.off, SHORT);
        let before = resident("VmRSS:");
        // Makes the highest value begin anew. Documentation/filesystems/proc.rst.
        std::fs::write("/proc/self/clear_refs", "5").expect("Linux lets a process do it");
        let component_mib = run(&self.off, SHORT) as f64 / f64::from(1 << 20);
        resident("VmHWM:") - before - component_mib
    }
}

/// Runs the service and says how much memory its component had, in bytes.
fn run(service: &Service, text: &str) -> u64 {
    let input = Input::new(input(text)).expect("it's short");
    let run = service.run(&Task::new(TaskId([7; 32]), Height(0), &input));
    run.verdict.expect("it ends").result.expect("it judges");
    run.memory_bytes_peak
}

fn input(text: &str) -> Vec<u8> {
    json!({ "message": text }).to_string().into_bytes()
}

/// A line of `/proc/self/status`, in MiB.
fn resident(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib / 1024.0
}

/// Median time in milliseconds.
fn timed(mut step: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            step();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[RUNS / 2]
}
