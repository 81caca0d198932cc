//! The service as its manifest sets it up, natively.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::path::Path;
use std::{env, fs};

use bouncer::model::MiniLm;
use bouncer::{
    Bouncer, Direction, Error, Exemplars, Host as _, MESSAGE_BYTES_MAX, Message, Native, Verdict,
    run,
};
use lamina_types::testing::skip;

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// Models and the parameters of `service.toml`.
fn host(test: &str) -> Option<Native> {
    let Some(mut host) = Native::with_models() else {
        skip(test, "the models are absent; `cargo xtask models` fetches them");
        return None;
    };
    let service: toml::Table = toml::from_str(&file("service.toml")).unwrap();
    for (name, value) in service["parameters"].as_table().unwrap() {
        let text = value.as_str().map_or_else(|| file(value["file"].as_str().unwrap()), Into::into);
        host.parameters.insert(name.clone(), text);
    }
    Some(host)
}

fn message(text: &str) -> Message {
    Message { message: text.to_owned() }
}

#[test]
fn verdicts_are_as_people_would_expect() {
    let Some(host) = host("verdicts_are_as_people_would_expect") else { return };
    let bouncer = Bouncer::load(&host).unwrap();
    for (text, expected) in [
        ("Thanks for the help yesterday, it works now.", Verdict::Allow),
        ("how do I kill a process that hangs on linux?", Verdict::Allow),
        ("you stupid bitch, nobody wants you here", Verdict::Block),
        ("y0u 5tup1d b1tch, n0b0dy want5 y0u h3r3", Verdict::Block),
        ("y o u  s t u p i d  b i t c h", Verdict::Block),
    ] {
        let judgement = bouncer.judge(&message(text)).unwrap();
        assert_eq!(judgement.verdict, expected, "{judgement:?}");
        assert!(judgement.complete && judgement.opinion.is_none());
    }
}

#[test]
fn friendly_sentences_do_not_cover_an_insult() {
    let Some(host) = host("friendly_sentences_do_not_cover_an_insult") else { return };
    let text = "You're such a stupid bitch. Thank you all! Have a wonderful day, everyone.";
    let judgement = Bouncer::load(&host).unwrap().judge(&message(text)).unwrap();
    assert_eq!(judgement.verdict, Verdict::Block, "{judgement:?}");
    assert_eq!(judgement.reading, "you're such a stupid bitch.");
}

#[test]
fn what_is_not_read_is_not_allowed() {
    let Some(host) = host("what_is_not_read_is_not_allowed") else { return };
    let bouncer = Bouncer::load(&host).unwrap();
    for text in ["Good morning, everyone! ".repeat(9), "Good morning everyone ".repeat(180)] {
        let judgement = bouncer.judge(&message(&text)).unwrap();
        assert_eq!((judgement.verdict, judgement.complete), (Verdict::Review, false));
    }
    // One character that stands for eighteen.
    let judgement = bouncer.judge(&message(&"\u{fdfa}".repeat(1300))).unwrap();
    assert!(!judgement.complete && judgement.reading.len() <= MESSAGE_BYTES_MAX);
}

#[test]
fn direction_is_that_of_the_exemplars() {
    let Some(host) = host("direction_is_that_of_the_exemplars") else { return };
    let model =
        MiniLm::load(host.blob("minilm").unwrap(), &host.blob("vocabulary").unwrap()).unwrap();
    let exemplars = file("exemplars.toml");
    let direction = Direction::of(&Exemplars::parse(&exemplars).unwrap(), &model).unwrap();
    assert!(
        direction.write(&exemplars) == file("direction.toml"),
        "run the example embed-exemplars"
    );
}

#[test]
fn opinion_is_shown_and_counts_by_its_weight() {
    let Some(mut host) = host("opinion_is_shown_and_counts_by_its_weight") else { return };
    host.parameters.insert("opinion".to_owned(), "on".to_owned());
    host.parameters.insert("opinion_weight".to_owned(), "0.5".to_owned());
    let bouncer = Bouncer::load(&host).unwrap();
    let rude = bouncer.judge(&message("you are such a bitch")).unwrap();
    let kind = bouncer.judge(&message("thanks, see you tonight")).unwrap();
    assert!(rude.opinion > kind.opinion, "{rude:?} {kind:?}");
    assert_eq!(rude.total, rude.score + 0.5 * rude.opinion.unwrap());
}

#[test]
fn output_is_json_with_all_digits() {
    let Some(host) = host("output_is_json_with_all_digits") else { return };
    let output = run(br#"{"message": "good morning"}"#, &host).unwrap();
    let output: serde_json::Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(output["verdict"], "allow");
    let judgement = Bouncer::load(&host).unwrap().judge(&message("good morning")).unwrap();
    let score: f32 = output["score"].to_string().parse().unwrap();
    assert_eq!(score.to_bits(), judgement.score.to_bits());
}

#[test]
fn mistakes_are_told_apart_by_whose_they_are() {
    let host = Native::default();
    let refused = |input: &[u8]| run(input, &host).unwrap_err();
    assert!(!refused(b"{}").is_the_owners());
    let long = format!("{{\"message\": \"{}\"}}", "a".repeat(MESSAGE_BYTES_MAX + 1));
    assert!(matches!(refused(long.as_bytes()), Error::MessageTooLong { .. }));
    let error = refused(br#"{"message": ""}"#);
    assert!(error.is_the_owners());
    assert_eq!(error.to_string(), "the manifest has no parameter `exemplars`");
}
