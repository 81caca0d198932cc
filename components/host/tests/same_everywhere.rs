//! One task, however it's run, has one outcome: a thousand times, cold and warm, pooled and on demand, in two processes.
//! The guest asks for all that could differ; the last test shows that it would differ where a host isn't careful.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod harness;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use harness::*;
use lamina_component_build::build_guest;
use lamina_components::{
    Blobs, Cache, CacheKey, Config, Engine, Run, Service, ServiceState, Task, runtime,
};
use lamina_types::{
    Blob, Digest, Failure, Height, Input, Limits, Manifest, Outcome, StateTransition, TaskId, Trap,
};

/// All that could differ from run to run or from machine to machine.
const EVERYTHING: &str = "task\nclock\nwait 3600000000000\nclock\nrandom\nfloat\nenvironment\ninput\n\
    parameter word\nblob data 0 100\nblob data 5 1000000\nset a 1\nset b 2\nkeys \nget a\nrandom\nclock";

const PROBE_LIMITS: Limits = Limits {
    fuel: 50_000_000,
    memory_bytes: 8 << 20,
    input_bytes: 1024,
    output_bytes: 4096,
    state_bytes: 1000,
};

/// The probe's component, built once.
fn component() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probe");
        build_guest(&folder, None).unwrap_or_else(|e| panic!("{e}")).bytes
    })
}

fn blob() -> Vec<u8> {
    (0..100_000_u32).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

fn probe_manifest() -> Manifest {
    let engine = shared_engine();
    let component = engine.load(component(), &Digest::of(component())).unwrap();
    let mut manifest = manifest(&component, &PROBE_LIMITS);
    let word = lamina_types::ParameterValue::new("stern").unwrap();
    manifest.parameters.insert("word".to_owned().try_into().unwrap(), word);
    let data = Blob { digest: Digest::of(&blob()), bytes: u32::try_from(blob().len()).unwrap() };
    manifest.blobs.insert("data".to_owned().try_into().unwrap(), data);
    manifest
}

fn serve_probe(engine: &Engine) -> Service {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&blob()).unwrap();
    let mut blobs = Blobs::default();
    blobs.insert("data".to_owned().try_into().unwrap(), file).unwrap();
    let component = engine.load(component(), &Digest::of(component())).unwrap();
    component.serve(&probe_manifest(), blobs).unwrap()
}

fn shared_engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(engine)
}

fn probe() -> &'static Service {
    static SERVICE: OnceLock<Service> = OnceLock::new();
    SERVICE.get_or_init(|| serve_probe(shared_engine()))
}

fn run_probe(input: &str) -> Run {
    run_service(probe(), input.as_bytes())
}

fn answers(input: &str) -> Vec<String> {
    let output = run_probe(input).verdict.unwrap().result.unwrap_or_else(|e| panic!("{e}"));
    String::from_utf8(output.into_vec()).unwrap().split('\n').map(ToOwned::to_owned).collect()
}

fn failure(input: &str) -> Failure {
    run_probe(input).verdict.unwrap().result.unwrap_err()
}

fn everything(service: &Service) -> Outcome {
    run_service(service, EVERYTHING.as_bytes()).verdict.unwrap()
}

#[test]
fn a_thousand_runs_have_one_outcome_cold_and_warm_pooled_and_on_demand() {
    let first = everything(probe());
    assert!(first.result.is_ok(), "{:?}", first.result);
    let on_demand = Engine::new(Config { pooled: false, ..config() }).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let cached = || {
        let cache = Cache::open(folder.path(), CacheKey::derive(b"secret"), 1 << 30).unwrap();
        engine().with_cache(cache)
    };
    // Compiled and cached by one engine, loaded from the cache by the next one.
    let services =
        [probe().clone(), serve_probe(&on_demand), serve_probe(&cached()), serve_probe(&cached())];
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    std::thread::scope(|scope| {
        for service in &services {
            let first = &first;
            scope.spawn(move || {
                for run in 0..250 {
                    assert_eq!(&everything(service), first, "run {run}");
                }
            });
        }
    });
}

/// The other process is this test's own program, told by a variable to print its outcome and no more.
#[test]
fn another_process_has_the_same_outcome() {
    const CHILD: &str = "LAMINA_TEST_PRINTS_ITS_OUTCOME";
    let outcome = format!("{:?} {}", everything(probe()), runtime());
    if std::env::var_os(CHILD).is_some() {
        println!("outcome: {outcome}");
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "another_process_has_the_same_outcome", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(&format!("outcome: {outcome}\n")), "{outcome}\nbut\n{text}");
}

#[test]
fn clocks_begin_at_zero_and_waiting_takes_no_time() {
    let answers = answers("clock\nwait 3600000000000\nclock");
    assert_eq!(answers[0], "0.1000 2000 0.3000 4000 0.5000 6000 ");
    assert_eq!(answers[1], "3600000001000");
    assert!(answers[2].starts_with("3600."), "{}", answers[2]);
}

#[test]
fn randomness_follows_from_the_task() {
    let service = probe();
    let input = Input::new(*b"random").unwrap();
    let of = |id: u8| {
        let run = service.run(&Task::new(TaskId([id; 32]), Height(0), &input));
        run.verdict.unwrap().result.unwrap()
    };
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
}

/// Figures that were computed once, on x86-64. A machine or an engine that comes to others can't be an operator.
#[test]
fn floats_have_the_bits_that_they_always_had() {
    assert_eq!(answers("float"), [FLOATS]);
}

const FLOATS: &str =
    "c4f63591 7fc00000 ffc00000 7fc00000 7fc00000 7ff8000000000000 7ff8000000000000";

#[test]
fn a_service_sees_nothing_of_the_machine() {
    assert_eq!(answers("environment\ninput"), ["[] [] 0", "true"]);
    let task = "07".repeat(32);
    assert_eq!(answers("task"), [format!("{task} 0")]);
}

#[test]
fn what_is_not_given_ends_the_run_with_its_name() {
    let Failure::Forbidden { call } = failure("socket") else { panic!("not forbidden") };
    assert!(call.as_str().starts_with("wasi:sockets/instance-network@0.2."), "{call}");
    assert!(call.as_str().ends_with("#instance-network"), "{call}");
    assert_eq!(failure("exit"), trapped(Trap::Unreachable));
}

#[test]
fn what_is_printed_is_logged() {
    let run = run_probe("print hello\nprint world");
    let lines: Vec<_> = run.log.lines.iter().map(|line| line.message.as_str()).collect();
    assert_eq!(lines, ["helloworld"]);
}

#[test]
fn blobs_are_read_by_range() {
    let sum = |bytes: &[u8]| bytes.iter().map(|b| u64::from(*b)).sum::<u64>();
    let blob = blob();
    let answers =
        answers("blob data\nblob data 7 10\nblob data 99990 100\nblob none 0 1\nblob none");
    assert_eq!(answers[0], "Some(100000)");
    assert_eq!(answers[1], format!("10 {}", sum(&blob[7..17])));
    assert_eq!(answers[2], format!("10 {}", sum(&blob[99_990..])));
    assert_eq!(answers[3..], ["none", "None"]);
    let fuel = |input| run_probe(input).verdict.unwrap().fuel_used;
    assert!(fuel("blob data 0 80000") - fuel("blob data 0 00008") >= 10_000 - 1);
}

#[test]
fn blob_of_another_size_is_not_served() {
    let manifest = probe_manifest();
    let component = shared_engine().load(component(), &manifest.component).unwrap();
    let error = component.serve(&manifest, Blobs::default()).unwrap_err();
    assert_eq!(error.to_string(), "the blob data isn't here with 100000 bytes");
}

/// Runs the probe on what the run before left.
fn run_on(state: &Arc<ServiceState>, input: &str) -> Run {
    let input = Input::new(input).unwrap();
    let task = Task { state, ..Task::new(TaskId([7; 32]), Height(0), &input) };
    probe().run(&task)
}

#[test]
fn state_goes_from_task_to_task_and_its_roots_are_certified() {
    let empty = Arc::<ServiceState>::default();
    let first = run_on(&empty, "set a 1\nset b 2\nget a");
    let outcome = first.verdict.unwrap();
    assert_eq!(outcome.result.unwrap().as_slice(), b"\n\nSome(\"31\")");
    let kept = first.state.unwrap();
    let roots = StateTransition { before: empty.root(), after: kept.root() };
    assert_eq!(outcome.state, Some(roots));

    let second = run_on(&kept, "get b\ndelete a\nkeys ");
    let outcome = second.verdict.unwrap();
    assert_eq!(outcome.result.unwrap().as_slice(), b"Some(\"32\")\n\nb");
    assert_eq!(outcome.state.unwrap().before, kept.root());
    assert_eq!(kept.get(b"a"), Some(b"1".as_slice()), "the state before isn't touched");
}

#[test]
fn failed_run_leaves_the_state_as_it_was() {
    let empty = Arc::<ServiceState>::default();
    let kept = run_on(&empty, "set a 1").state.unwrap();
    let long_key = "k".repeat(257);
    for (input, failure) in [
        ("set a 2\npanic".to_owned(), trapped(Trap::Unreachable)),
        ("set a 2\nfill b 990".to_owned(), Failure::StateTooLarge),
        (format!("set a 2\nset {long_key} 1"), Failure::StateTooLarge),
    ] {
        let run = run_on(&kept, &input);
        let outcome = run.verdict.unwrap();
        assert_eq!(outcome.result, Err(failure));
        assert_eq!(
            outcome.state,
            Some(StateTransition { before: kept.root(), after: kept.root() })
        );
        assert_eq!(run.state.unwrap(), kept);
    }
    let refused = run_on(&kept, "set a 2\nrefuse no").verdict.unwrap();
    assert!(matches!(refused.result, Err(Failure::Refused { .. })));
    assert_eq!(refused.state.unwrap().after, kept.root());
}

#[test]
fn service_without_state_that_asks_for_it_is_ended() {
    let manifest =
        Manifest { limits: Limits { state_bytes: 0, ..PROBE_LIMITS }, ..probe_manifest() };
    let manifest = Manifest { blobs: [].into(), ..manifest };
    let component = shared_engine().load(component(), &manifest.component).unwrap();
    let service = component.serve(&manifest, Blobs::default()).unwrap();
    let outcome = run_service(&service, b"get a").verdict.unwrap();
    let Err(Failure::Forbidden { call }) = outcome.result else { panic!("not forbidden") };
    assert_eq!(call.as_str(), "lamina:service/state@0.2.0#get");
    assert_eq!(outcome.state, None);
}

/// The same guest on a host that isn't careful: if it gave the same answers twice there, the tests above would see nothing.
#[test]
fn the_guest_would_tell_a_leak() {
    let careless = Careless;
    for command in ["clock", "random"] {
        let answers: BTreeSet<_> = (0..3).map(|_| careless.run(command, true)).collect();
        assert_eq!(answers.len(), 3, "{command}");
    }
    // x86-64 makes NaNs with the sign set, which aarch64 doesn't.
    if cfg!(target_arch = "x86_64") {
        assert_ne!(careless.run("float", false), FLOATS);
    }
    assert_eq!(careless.run("float", true), FLOATS);
}

/// wasmtime with the machine's own clocks and randomness.
struct Careless;

struct Machine {
    wasi: wasmtime_wasi::WasiCtx,
    table: wasmtime::component::ResourceTable,
}

impl wasmtime_wasi::WasiView for Machine {
    fn ctx(&mut self) -> wasmtime_wasi::WasiCtxView<'_> {
        wasmtime_wasi::WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl Careless {
    fn run(&self, command: &str, canonical: bool) -> String {
        let mut config = wasmtime::Config::new();
        config.cranelift_nan_canonicalization(canonical);
        let engine = wasmtime::Engine::new(&config).unwrap();
        let component = wasmtime::component::Component::new(&engine, component()).unwrap();
        let mut linker = wasmtime::component::Linker::<Machine>::new(&engine);
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker).unwrap();
        for (interface, functions) in [
            ("parameters", &["get"][..]),
            ("blobs", &["size", "read"]),
            ("state", &["get", "set", "delete", "keys"]),
            ("task", &["id", "height"]),
        ] {
            let name = format!("lamina:service/{interface}@0.2.0");
            let mut instance = linker.instance(&name).unwrap();
            for function in functions {
                let absent =
                    |_: wasmtime::StoreContextMut<'_, Machine>, _, _: &[_], _: &mut [_]| {
                        Err(wasmtime::Error::msg("not here"))
                    };
                instance.func_new(function, absent).unwrap();
            }
        }
        let wasi = wasmtime_wasi::WasiCtx::builder().build();
        let machine = Machine { wasi, table: wasmtime::component::ResourceTable::new() };
        let mut store = wasmtime::Store::new(&engine, machine);
        let instance = linker.instantiate(&mut store, &component).unwrap();
        let run = instance
            .get_typed_func::<(&[u8],), (Result<Vec<u8>, String>,)>(&mut store, "run")
            .unwrap();
        let (answer,) = run.call(&mut store, (command.as_bytes(),)).unwrap();
        String::from_utf8(answer.unwrap()).unwrap()
    }
}
