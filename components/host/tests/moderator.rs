//! The service `moderator`, built from its source and run as operators run it.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::path::Path;
use std::sync::OnceLock;

use lamina_component_build::build_guest;
use lamina_components::{Blobs, Component, Config, Engine, ManifestSource, Run, Task};
use lamina_types::testing::vectors;
use lamina_types::{Address, Failure, Height, Input, Manifest, Outcome, TaskId};
use moderator::Verdict;
use serde::Deserialize;

struct Service {
    manifest: Manifest,
    component: Component,
}

impl Service {
    fn run(&self, input: &[u8]) -> Run {
        self.run_with(&self.manifest, input)
    }

    fn run_with(&self, manifest: &Manifest, input: &[u8]) -> Run {
        let service = self.component.clone().serve(manifest, Blobs::default()).unwrap();
        service.run(&Task::new(TaskId([7; 32]), Height(0), &Input::new(input).unwrap()))
    }

    fn outcome(&self, message: &str) -> Outcome {
        let input = serde_json::json!({ "message": message }).to_string();
        self.run(input.as_bytes()).verdict.unwrap()
    }
}

/// As an operator gets it: the manifest's source, the component, the engine.
fn service() -> &'static Service {
    static SERVICE: OnceLock<Service> = OnceLock::new();
    SERVICE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../services/moderator");
        let guest = build_guest(&folder, None).unwrap_or_else(|e| panic!("{e}"));
        let source = ManifestSource::read(&folder.join("service.toml")).unwrap();
        let manifest = source.into_manifest(Address([1; 20]), &guest.bytes).unwrap();
        let engine = Engine::new(Config::default()).unwrap();
        let component = engine.load(&guest.bytes, &manifest.component).unwrap();
        Service { manifest, component }
    })
}

/// What consumers of the output read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Judgement {
    verdict: Verdict,
    rule: Option<String>,
    reason: Option<String>,
}

fn judgement(outcome: &Outcome) -> Judgement {
    serde_json::from_slice(outcome.result.as_ref().unwrap().as_slice()).unwrap()
}

#[test]
fn every_example_gets_the_verdict_beside_it() {
    let mut fuel = Vec::new();
    for line in include_str!("../../services/moderator/messages.jsonl").lines() {
        let example: serde_json::Value = serde_json::from_str(line).unwrap();
        let outcome = service().run(line.as_bytes()).verdict.unwrap();
        let judgement = judgement(&outcome);
        assert_eq!(serde_json::to_value(judgement.verdict).unwrap(), example["expected"], "{line}");
        assert_eq!(judgement.rule.is_some(), judgement.reason.is_some(), "{line}");
        fuel.push(outcome.fuel_used);
    }
    fuel.sort_unstable();
    let limit = service().manifest.limits.fuel;
    println!("fuel: median {}, most {}, limit {limit}", fuel[fuel.len() / 2], fuel[fuel.len() - 1]);
    assert!(fuel[fuel.len() - 1] < limit / 4, "{fuel:?}");
}

#[test]
fn host_and_native_agree_to_the_byte() {
    let rules = include_str!("../../services/moderator/rules.toml");
    for line in include_str!("../../services/moderator/messages.jsonl").lines() {
        let native = moderator::run(line.as_bytes(), Some(rules)).unwrap();
        let outcome = service().run(line.as_bytes()).verdict.unwrap();
        assert_eq!(outcome.result.unwrap().as_slice(), native, "{line}");
    }
}

#[test]
fn malformed_input_is_refused_in_the_services_words() {
    let Err(Failure::Refused { reason }) = service().run(b"{}").verdict.unwrap().result else {
        panic!("not refused");
    };
    assert!(reason.as_str().starts_with("input: missing field `message`"), "{reason}");
}

#[test]
fn missing_rules_are_logged_for_the_operator() {
    let manifest = Manifest { parameters: [].into(), ..service().manifest.clone() };
    let run = service().run_with(&manifest, br#"{"message": ""}"#);
    assert!(matches!(run.verdict.unwrap().result, Err(Failure::Refused { .. })));
    assert_eq!(run.log.lines[0].message, "the manifest has no parameter `rules`");
}

/// The longest message there can be, made to keep every pattern busy.
#[test]
fn worst_messages_stay_within_the_fuel() {
    let spaced = "a ".repeat(moderator::MESSAGE_BYTES_MAX / 2);
    let letters = "i will you are free ".repeat(moderator::MESSAGE_BYTES_MAX / 20);
    let mixed = "fr33 l0ve y0u ".repeat(moderator::MESSAGE_BYTES_MAX / 14);
    for message in [spaced, letters, mixed] {
        let outcome = service().outcome(&message);
        println!("fuel of {} bytes ({}…): {}", message.len(), &message[..6], outcome.fuel_used);
        assert!(outcome.result.is_ok(), "{:?}", outcome.result);
    }
}

/// 600 messages as people write them, labelled fine or toxic. The example rules weren't made for them, so the figures are
/// reported, not required; what is required is that all succeed, and twice alike.
#[test]
fn foreign_messages_are_judged_alike_twice() {
    let Some(folder) = vectors("foreign_messages_are_judged_alike_twice", "moderation") else {
        return;
    };
    let mut csv = csv::Reader::from_path(folder.join("messages.csv")).unwrap();
    let messages: Vec<(String, String)> = csv.deserialize().map(Result::unwrap).collect();
    let judge = |message: &str| {
        let outcome = service().outcome(message);
        assert_eq!(service().outcome(message), outcome, "{message}");
        judgement(&outcome).verdict != Verdict::Allow
    };
    let (mut hits, mut false_alarms, mut misses, mut passed) = (0_u32, 0_u32, 0_u32, 0_u32);
    for (label, message) in &messages {
        let count = match (judge(message), label == "toxic") {
            (true, true) => &mut hits,
            (true, false) => &mut false_alarms,
            (false, true) => &mut misses,
            (false, false) => &mut passed,
        };
        *count += 1;
    }
    let share = |part: u32, whole: u32| f64::from(part) / f64::from(whole.max(1));
    let count = hits + false_alarms + misses + passed;
    let accuracy = share(hits + passed, count);
    println!(
        "{count} messages: accuracy {accuracy:.2}, precision {:.2}, recall {:.2}",
        share(hits, hits + false_alarms),
        share(hits, hits + misses)
    );
    assert!(count > 0 && accuracy > 0.5, "worse than chance: {accuracy}");
}
