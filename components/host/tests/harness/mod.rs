//! Small guests, written as text, and an engine to run them.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::time::Duration;

use lamina_components::{Blobs, Component, Config, Engine, Error, Run, Service, Task};
use lamina_types::{
    Address, Digest, Failure, Height, Input, Limits, Manifest, Outcome, TaskId, Text, Trap,
};

/// Limits that none of the small guests meets unless it tries to.
pub const LIMITS: Limits = Limits {
    fuel: 30_000_000,
    memory_bytes: 1 << 20,
    input_bytes: 1024,
    output_bytes: 1024,
    state_bytes: 0,
};

pub fn config() -> Config {
    let wall_time_max = Duration::from_secs(120);
    Config { instances_max: 8, memory_bytes_max: 2 << 30, wall_time_max, ..Config::default() }
}

pub fn engine() -> Engine {
    Engine::new(config()).unwrap()
}

/// A component whose `run` is `body`, with the input at `$ptr`, `$len`; it returns where its result lies.
pub fn guest(body: &str) -> String {
    guest_with("(memory (export \"memory\") 1)", body)
}

/// [`guest`] with other `fields` in place of its memory.
pub fn guest_with(fields: &str, body: &str) -> String {
    format!(
        r#"(component
            (core module $module
                {fields}
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
                (func (export "run") (param $ptr i32) (param $len i32) (result i32) {body}))
            (core instance $instance (instantiate $module))
            (func (export "run") (param "input" (list u8)) (result (result (list u8) (error string)))
                (canon lift (core func $instance "run")
                    (memory (core memory $instance "memory")) (realloc (core func $instance "realloc")))))"#
    )
}

/// A component that imports `log` and `get`, with its memory in an instance of its own.
pub fn importing_guest(body: &str) -> String {
    format!(
        r#"(component
            (import "lamina:service/log@0.2.0" (instance $log
                (type $level' (enum "debug" "info" "warn" "error"))
                (export "level" (type $level (eq $level')))
                (export "log" (func (param "level" $level) (param "message" string)))))
            (import "lamina:service/parameters@0.2.0" (instance $parameters
                (export "get" (func (param "name" string) (result (option string))))))
            (core module $libc
                (memory (export "memory") 16)
                (data (i32.const 64) "rules\1b[2J")
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
            (core instance $libc (instantiate $libc))
            (core func $log' (canon lower (func $log "log") (memory (core memory $libc "memory"))))
            (core func $get' (canon lower (func $parameters "get")
                (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
            (core module $module
                (import "libc" "memory" (memory 16))
                (import "host" "log" (func $log (param i32 i32 i32)))
                (import "host" "get" (func $get (param i32 i32 i32)))
                (func (export "run") (param $ptr i32) (param $len i32) (result i32) {body}))
            (core instance $instance (instantiate $module
                (with "libc" (instance $libc))
                (with "host" (instance (export "log" (func $log')) (export "get" (func $get'))))))
            (func (export "run") (param "input" (list u8)) (result (result (list u8) (error string)))
                (canon lift (core func $instance "run")
                    (memory (core memory $libc "memory")) (realloc (core func $libc "realloc")))))"#
    )
}

/// Body of a guest that returns `len` bytes at `ptr` as its output (`tag` 0) or its error (1).
pub fn returning(tag: u32, ptr: &str, len: &str) -> String {
    format!(
        "(i32.store8 (i32.const 0) (i32.const {tag})) (i32.store (i32.const 4) {ptr})
         (i32.store (i32.const 8) {len}) (i32.const 0)"
    )
}

pub fn echo() -> String {
    guest(&returning(0, "(local.get $ptr)", "(local.get $len)"))
}

pub fn load(engine: &Engine, text: &str) -> Result<Component, Error> {
    let bytes = wat::parse_str(text).unwrap_or_else(|e| panic!("{e}"));
    engine.load(&bytes, &Digest::of(&bytes))
}

/// A manifest for `component` with nothing but limits.
pub fn manifest(component: &Component, limits: &Limits) -> Manifest {
    Manifest {
        owner: Address([1; 20]),
        name: "guest".to_owned().try_into().unwrap(),
        description: Text::default(),
        component: component.digest(),
        component_bytes: 1,
        limits: *limits,
        parameters: [].into(),
        blobs: [].into(),
        oracle: None,
    }
}

pub fn serve(component: &Component, limits: &Limits) -> Service {
    component.clone().serve(&manifest(component, limits), Blobs::default()).unwrap()
}

pub fn run_service(service: &Service, input: &[u8]) -> Run {
    service.run(&Task::new(TaskId([7; 32]), Height(0), &Input::new(input).unwrap()))
}

pub fn run(component: &Component, limits: &Limits) -> Run {
    run_service(&serve(component, limits), b"hello")
}

pub fn run_text(engine: &Engine, text: &str) -> Run {
    run(&load(engine, text).unwrap(), &LIMITS)
}

pub fn outcome(engine: &Engine, text: &str) -> Outcome {
    run_text(engine, text).verdict.unwrap()
}

pub fn failure(engine: &Engine, text: &str) -> Failure {
    outcome(engine, text).result.unwrap_err()
}

pub fn trapped(trap: Trap) -> Failure {
    Failure::Trapped { trap }
}

/// A guest's name, its text and how it ends.
pub type Exhibit = (&'static str, String, Result<&'static [u8], Failure>);

/// Guests that use each bound and each trap.
pub fn gallery() -> Vec<Exhibit> {
    let too_long = Err(Failure::OutputTooLong { max: 1024 });
    let refused =
        |reason| Err(Failure::Refused { reason: lamina_types::Reason::truncated(reason) });
    let trap = |trap| Err(trapped(trap));
    let large = |tag| {
        let body = returning(tag, "(i32.const 16)", "(i32.const 0x40000000)");
        // 1 GiB and a page, which the operating system gives when it's touched.
        guest_with("(memory (export \"memory\") 16385)", &body)
    };
    let text = |bytes: &str, len| {
        let memory = format!("(memory (export \"memory\") 1) (data (i32.const 64) \"{bytes}\")");
        guest_with(&memory, &returning(1, "(i32.const 64)", len))
    };
    let table =
        "(memory (export \"memory\") 1) (table $table 1 funcref) (type $other (func (param i64)))";
    let with_table = |body| guest_with(table, body);
    let forever = "(loop $again (br $again)) (unreachable)";
    let recursing = "(memory (export \"memory\") 1)
        (func $deeper (param i32) (result i32)
            (i32.add (call $deeper (i32.add (local.get 0) (i32.const 1))) (local.get 0)))";
    vec![
        ("echo", echo(), Ok(b"hello")),
        ("empty output", guest(&returning(0, "(i32.const 0)", "(i32.const 0)")), Ok(b"")),
        ("error", text("no", "(i32.const 2)"), refused("no")),
        ("error that isn't text", text("\\ff", "(i32.const 1)"), trap(Trap::CanonicalAbi)),
        ("endless loop", guest(forever), Err(Failure::OutOfFuel)),
        (
            "endless loop before it's called",
            guest_with(
                "(memory (export \"memory\") 1) (func $s (loop $a (br $a))) (start $s)",
                "(i32.const 0)",
            ),
            Err(Failure::OutOfFuel),
        ),
        (
            "grows page by page",
            guest("(loop $again (drop (memory.grow (i32.const 1))) (br $again)) (unreachable)"),
            Err(Failure::OutOfMemory),
        ),
        (
            "grows beyond four gigabytes at once",
            guest("(drop (memory.grow (i32.const 65536))) (i32.const 0)"),
            Err(Failure::OutOfMemory),
        ),
        (
            "begins too large",
            guest_with("(memory (export \"memory\") 17)", "(i32.const 0)"),
            Err(Failure::OutOfMemory),
        ),
        (
            "grows its table",
            with_table(
                "(loop $again (drop (table.grow $table (ref.null func) (i32.const 1000))) (br $again)) (unreachable)",
            ),
            Err(Failure::OutOfMemory),
        ),
        (
            "grows up to its own maximum",
            guest_with(
                "(memory (export \"memory\") 1 2)",
                &format!(
                    "(i32.store (i32.const 16) (memory.grow (i32.const 2))) {}",
                    returning(0, "(i32.const 16)", "(i32.const 4)")
                ),
            ),
            Ok(b"\xff\xff\xff\xff"),
        ),
        ("unreachable", guest("(unreachable)"), trap(Trap::Unreachable)),
        (
            "reads outside its memory",
            guest("(i32.load (i32.const -4))"),
            trap(Trap::MemoryOutOfBounds),
        ),
        (
            "data outside its memory",
            guest_with(
                "(memory (export \"memory\") 1) (data (i32.const 65536) \"a\")",
                "(i32.const 0)",
            ),
            trap(Trap::MemoryOutOfBounds),
        ),
        (
            "reads outside its table",
            with_table("(drop (table.get $table (i32.const 9))) (i32.const 0)"),
            trap(Trap::TableOutOfBounds),
        ),
        (
            "calls nothing",
            with_table(
                "(call_indirect $table (param i64) (i64.const 0) (i32.const 0)) (i32.const 0)",
            ),
            trap(Trap::IndirectCall),
        ),
        (
            "divides by zero",
            guest("(i32.div_u (local.get $ptr) (i32.const 0))"),
            trap(Trap::Arithmetic),
        ),
        (
            "converts what isn't a number",
            guest("(i32.trunc_f32_s (f32.const nan))"),
            trap(Trap::Arithmetic),
        ),
        (
            "calls itself",
            guest_with(recursing, "(call $deeper (i32.const 0))"),
            trap(Trap::StackOverflow),
        ),
        (
            "returns 1025 bytes",
            guest(&returning(0, "(i32.const 0)", "(i32.const 1025)")),
            too_long.clone(),
        ),
        ("returns a gigabyte", large(0), Err(Failure::OutOfMemory)),
        (
            "returns a gigabyte that isn't there",
            guest(&returning(0, "(i32.const 16)", "(i32.const 0x40000000)")),
            trap(Trap::CanonicalAbi),
        ),
        (
            "returns what wraps around",
            guest(&returning(0, "(i32.const -8)", "(i32.const -1)")),
            trap(Trap::CanonicalAbi),
        ),
        ("result outside its memory", guest("(i32.const 65532)"), trap(Trap::CanonicalAbi)),
        ("result not aligned", guest("(i32.const 1)"), trap(Trap::CanonicalAbi)),
        (
            "neither output nor error",
            guest("(i32.store8 (i32.const 0) (i32.const 2)) (i32.const 0)"),
            trap(Trap::CanonicalAbi),
        ),
        (
            "floods the log",
            importing_guest(
                "(loop $again (call $log (i32.const 1) (i32.const 64) (i32.const 5)) (br $again)) (unreachable)",
            ),
            Err(Failure::OutOfFuel),
        ),
        (
            "logs at a level that isn't one",
            importing_guest("(call $log (i32.const 7) (i32.const 64) (i32.const 5)) (i32.const 0)"),
            trap(Trap::CanonicalAbi),
        ),
        (
            "logs a megabyte",
            importing_guest(
                "(call $log (i32.const 1) (i32.const 0) (i32.const 0x100000)) (i32.const 0)",
            ),
            too_long,
        ),
    ]
}
