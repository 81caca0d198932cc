//! Guests that loop, allocate without end, trap, return too much or want what they aren't given: each fails its own task,
//! with the same reason and the same fuel wherever it's run, and the engine goes on.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod harness;

use std::time::Duration;

use harness::*;
use lamina_components::{Abstain, Blobs, Config, Engine, Error};
use lamina_types::{Digest, Failure, Limits, Trap};
use proptest::prelude::*;

#[test]
fn every_guest_ends_as_it_should() {
    let engine = engine();
    for (name, text, expected) in gallery() {
        let result = outcome(&engine, &text).result;
        let expected = expected.map(|bytes| lamina_types::Output::new(bytes).unwrap());
        assert_eq!(result, expected, "{name}");
    }
    assert!(outcome(&engine, &echo()).result.is_ok());
}

#[test]
fn outcomes_are_the_same_pooled_and_on_demand_cold_and_warm_and_in_parallel() {
    let pooled = engine();
    let on_demand = Engine::new(Config { pooled: false, ..config() }).unwrap();
    for (name, text, _) in gallery() {
        let component = load(&pooled, &text).unwrap();
        let first = run(&component, &LIMITS).verdict.unwrap();
        assert_eq!(outcome(&on_demand, &text), first, "{name}, on demand");
        let again =
            || (0..3).map(|_| run(&component, &LIMITS).verdict.unwrap()).collect::<Vec<_>>();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(again)).collect();
            for thread in threads {
                for outcome in thread.join().unwrap() {
                    assert_eq!(outcome, first, "{name}, in parallel");
                }
            }
        });
    }
}

#[test]
fn what_used_up_its_fuel_has_used_all_of_it() {
    let engine = engine();
    for name in ["endless loop", "floods the log", "calls itself"] {
        let (_, text, _) = gallery().into_iter().find(|(n, _, _)| *n == name).unwrap();
        assert_eq!(outcome(&engine, &text).fuel_used, LIMITS.fuel, "{name}");
    }
}

/// What the guest finds in its memory when the host reads it matters, not what it says: nothing is allocated for it.
#[test]
fn a_gigabyte_is_refused_before_it_is_copied() {
    let engine = engine();
    let limits = Limits { memory_bytes: 2 << 30, ..LIMITS };
    for tag in [0, 1] {
        let body = returning(tag, "(i32.const 16)", "(i32.const 0x40000000)");
        let text = guest_with("(memory (export \"memory\") 16385)", &body);
        let run = run(&load(&engine, &text).unwrap(), &limits);
        assert_eq!(run.verdict.unwrap().result, Err(Failure::OutputTooLong { max: 1024 }));
        assert_eq!(run.memory_bytes_peak, 16385 << 16);
    }
}

#[test]
fn long_reason_is_cut() {
    let engine = engine();
    let text = guest(&returning(1, "(i32.const 16)", "(i32.const 2000)"));
    let Failure::Refused { reason } = failure(&engine, &text) else { panic!("not refused") };
    assert_eq!(reason.as_str().len(), 1024);
}

#[test]
fn long_input_is_refused_without_a_run() {
    let engine = engine();
    let limits = Limits { input_bytes: 4, ..LIMITS };
    let outcome = run(&load(&engine, &echo()).unwrap(), &limits).verdict.unwrap();
    assert_eq!((outcome.fuel_used, outcome.result), (0, Err(Failure::InputTooLong { max: 4 })));
}

#[test]
fn pointer_for_the_input_must_be_inside() {
    let engine = engine();
    let text = echo().replace("(i32.const 1024)", "(i32.const -1)");
    assert_eq!(failure(&engine, &text), trapped(Trap::CanonicalAbi));
}

#[test]
fn slow_run_is_abstained_from_and_not_certified() {
    let wall_time_max = Duration::from_millis(50);
    let engine = Engine::new(Config { wall_time_max, fuel_max: u64::MAX, ..config() }).unwrap();
    let limits = Limits { fuel: u64::MAX, ..LIMITS };
    let component = load(&engine, &guest("(loop $again (br $again)) (unreachable)")).unwrap();
    let run = run(&component, &limits);
    assert_eq!(run.verdict, Err(Abstain::WallTime { max: wall_time_max }));
    assert!(run.elapsed >= wall_time_max && run.elapsed < Duration::from_secs(5));
}

#[test]
fn one_more_than_allowed_is_abstained_from() {
    let wall_time_max = Duration::from_secs(1);
    let config = Config { instances_max: 1, fuel_max: u64::MAX, wall_time_max, ..config() };
    let engine = Engine::new(config).unwrap();
    let limits = Limits { fuel: u64::MAX, ..LIMITS };
    let component = load(&engine, &guest("(loop $again (br $again)) (unreachable)")).unwrap();
    let slow = component.clone();
    let busy = std::thread::spawn(move || run(&slow, &limits));
    std::thread::sleep(Duration::from_millis(300));
    let second = run(&component, &limits);
    assert_eq!(second.verdict, Err(Abstain::Busy { instances_max: 1 }));
    assert!(matches!(busy.join().unwrap().verdict, Err(Abstain::WallTime { .. })));
}

#[test]
fn limits_above_the_operators_are_not_run() {
    let engine = engine();
    let component = load(&engine, &echo()).unwrap();
    for (limits, words) in [
        (Limits { fuel: u64::MAX, ..LIMITS }, "units of fuel, this operator gives at most"),
        (
            Limits { memory_bytes: 1 << 40, ..LIMITS },
            "bytes of memory, this operator gives at most",
        ),
    ] {
        let served = component.clone().serve(&manifest(&component, &limits), Blobs::default());
        let error = served.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn log_is_bounded_and_what_is_dropped_is_counted() {
    let engine = Engine::new(Config { log_bytes_max: 100, ..config() }).unwrap();
    let line = "(call $log (i32.const 3) (i32.const 64) (i32.const 9))";
    let body = format!("{line}{line}{line}{}", returning(0, "(i32.const 0)", "(i32.const 0)"));
    let run = run_text(&engine, &importing_guest(&body));
    assert!(run.verdict.unwrap().result.is_ok());
    assert_eq!((run.log.lines.len(), run.log.dropped), (2, 1));
    assert_eq!(run.log.lines[0].message, "rules [2J");
}

#[test]
fn outcome_does_not_depend_on_the_log_bound() {
    let (_, text, _) = gallery().into_iter().find(|(n, _, _)| *n == "floods the log").unwrap();
    let small = Engine::new(Config { log_bytes_max: 0, ..config() }).unwrap();
    assert_eq!(outcome(&small, &text), outcome(&engine(), &text));
}

#[test]
fn parameters_are_read_by_name() {
    let engine = engine();
    // `get("rules")` writes the option's tag, pointer and length to 128.
    let body = format!(
        "(call $get (i32.const 64) (i32.const 5) (i32.const 128)) {}",
        returning(0, "(i32.load (i32.const 132))", "(i32.load (i32.const 136))")
    );
    let component = load(&engine, &importing_guest(&body)).unwrap();
    let mut manifest = manifest(&component, &LIMITS);
    let value = lamina_types::ParameterValue::new("be kind").unwrap();
    manifest.parameters.insert("rules".to_owned().try_into().unwrap(), value);
    let service = component.serve(&manifest, Blobs::default()).unwrap();
    let outcome = run_service(&service, b"").verdict.unwrap();
    assert_eq!(outcome.result.unwrap().as_slice(), b"be kind");
    assert!(outcome.fuel_used > 500 + 5 + 7);
}

#[test]
fn only_granted_imports_are_loaded() {
    let engine = engine();
    for import in [
        "wasi:http/outgoing-handler@0.2.0",
        "wasi:clocks/wall-clock@0.3.0",
        "wasi:nn/graph@0.2.0",
        "lamina:service/llm@0.2.0",
        "lamina:service/log@0.1.0",
    ] {
        let instance = format!("(component (import \"{import}\" (instance))");
        let text = echo().replacen("(component", &instance, 1);
        let error = load(&engine, &text).unwrap_err();
        assert!(matches!(&error, Error::ImportNotGranted { name } if name == import), "{error}");
    }
}

#[test]
fn other_worlds_are_refused_with_a_reason() {
    let engine = engine();
    let other_type = echo().replace(
        "(result (result (list u8) (error string)))",
        "(result (result (list s8) (error string)))",
    );
    let no_run = echo().replace(
        "(func (export \"run\") (param \"input\"",
        "(func (export \"ran\") (param \"input\"",
    );
    let other_log = importing_guest("(i32.const 0)").replace("\"warn\" \"error\"", "\"warn\"");
    for text in [other_type, no_run, other_log] {
        let error = load(&engine, &text).unwrap_err();
        assert!(matches!(error, Error::WrongWorld { .. }), "{error}");
    }
}

#[test]
fn what_is_no_component_is_refused() {
    let engine = engine();
    for text in ["(module)", "(module (func (export \"run\")))"] {
        assert!(matches!(load(&engine, text), Err(Error::NotAComponent)));
    }
    let bytes = wat::parse_str(echo()).unwrap();
    let other = Digest::of(b"other");
    assert!(matches!(engine.load(&bytes, &other), Err(Error::WrongDigest { .. })));
    let cut = &bytes[..bytes.len() - 1];
    assert!(matches!(engine.load(cut, &Digest::of(cut)), Err(Error::Invalid { .. })));
    let large = vec![0; lamina_types::COMPONENT_BYTES_MAX as usize + 1];
    assert!(matches!(engine.load(&large, &Digest::of(&large)), Err(Error::TooLarge { .. })));
}

#[test]
fn features_that_could_differ_are_off() {
    let engine = engine();
    let bodies = [
        "(drop (f32x4.relaxed_madd (v128.const i64x2 0 0) (v128.const i64x2 0 0) (v128.const i64x2 0 0))) (i32.const 0)",
        "(drop (memory.atomic.notify (i32.const 0) (i32.const 0))) (i32.const 0)",
    ];
    for body in bodies {
        let error = load(&engine, &guest(body)).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
    }
    let shared = guest_with("(memory (export \"memory\") 1 1 shared)", "(i32.const 0)");
    assert!(matches!(load(&engine, &shared), Err(Error::Invalid { .. })));
    let wide = guest_with("(memory (export \"memory\") i64 1)", "(i32.const 0)");
    assert!(matches!(load(&engine, &wide), Err(Error::Invalid { .. })));
}

#[test]
fn parts_are_counted() {
    let engine = engine();
    let table = format!("(memory (export \"memory\") 1) (table {} funcref)", 65_537);
    assert!(load(&engine, &guest_with(&table, "(i32.const 0)")).is_err());
    let tables = format!("(memory (export \"memory\") 1) {}", "(table 1 funcref)".repeat(17));
    assert!(load(&engine, &guest_with(&tables, "(i32.const 0)")).is_err());
}

/// NaNs come out with one bit pattern, whatever the machine makes of them.
#[test]
fn nan_is_canonical() {
    let engine = engine();
    let body = format!(
        "(f32.store (i32.const 16) (f32.div (f32.const -nan:0x200001) (f32.const 0))) {}",
        returning(0, "(i32.const 16)", "(i32.const 4)")
    );
    let output = outcome(&engine, &guest(&body)).result.unwrap();
    assert_eq!(output.as_slice(), 0x7fc0_0000_u32.to_le_bytes());
}

/// Bulk operations cost what they do, or a guest could work for free.
#[test]
fn bulk_operations_cost_by_their_length() {
    let engine = engine();
    let fill = |bytes: u32| {
        let body = format!(
            "(memory.fill (i32.const 4096) (i32.const 1) (i32.const {bytes})) {}",
            returning(0, "(i32.const 0)", "(i32.const 0)")
        );
        outcome(&engine, &guest(&body)).fuel_used
    };
    assert_eq!(fill(40_000) - fill(10_000), 30_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_make_load_panic(bytes in prop::collection::vec(any::<u8>(), 0..256), header in any::<bool>()) {
        let engine = shared_engine();
        let mut component = if header { b"\0asm\x0d\0\x01\0".to_vec() } else { Vec::new() };
        component.extend(bytes);
        let _ = engine.load(&component, &Digest::of(&component));
    }

    #[test]
    fn no_change_of_a_component_stops_the_engine(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let engine = shared_engine();
        let mut bytes = wat::parse_str(echo()).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(component) = engine.load(&bytes, &Digest::of(&bytes)) {
            let _ = run(&component, &LIMITS);
        }
    }
}

fn shared_engine() -> &'static Engine {
    static ENGINE: std::sync::OnceLock<Engine> = std::sync::OnceLock::new();
    ENGINE.get_or_init(engine)
}
