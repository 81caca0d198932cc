//! Both models against reference implementations.
//!
//! `reference.json` was computed with sentence-transformers (double precision) and with transformers on the weights of the
//! GGUF file (double precision; `log_probability` in single precision): the tokens must be the same, and the numbers within
//! what single precision gives.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use bouncer::model::{MiniLm, SmolLm2};
use bouncer::{Host as _, Native};
use lamina_types::testing::skip;
use serde::Deserialize;

/// Most that a number of an embedding may differ. Single precision gave 2e-7 where the reference used it.
const EMBEDDING_TOLERANCE: f32 = 1e-6;
/// Most that a logit may differ: they are up to 20, and single precision gave 2.5e-5 where the reference used it.
const LOGIT_TOLERANCE: f32 = 2e-4;
/// Most that the logarithm of ten tokens' probability may differ, which is a sum of ten.
const LOG_PROBABILITY_TOLERANCE: f32 = 5e-4;

#[derive(Deserialize)]
struct Reference {
    embeddings: Vec<Case>,
    tokens: Vec<Case>,
    logits: Vec<Case>,
    prefix: String,
    continuations: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    tokens: Vec<u32>,
    #[serde(default)]
    embedding: Vec<f32>,
    #[serde(default)]
    logits: Vec<(usize, f32)>,
    #[serde(default)]
    log_probability: f32,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("reference.json")).unwrap()
}

fn models(test: &str) -> Option<Native> {
    let native = Native::with_models();
    if native.is_none() {
        skip(test, "the models are absent; `cargo xtask models` fetches them");
    }
    native
}

#[test]
fn embeddings_are_those_of_sentence_transformers() {
    let Some(host) = models("embeddings_are_those_of_sentence_transformers") else { return };
    let model =
        MiniLm::load(host.blob("minilm").unwrap(), &host.blob("vocabulary").unwrap()).unwrap();
    let mut largest = 0.0_f32;
    for case in reference().embeddings {
        assert_eq!(model.vocabulary().tokens(&case.text).ids, case.tokens, "{:?}", case.text);
        let embedding = model.embed(&case.text).unwrap();
        let differences = embedding.iter().zip(&case.embedding).map(|(a, b)| (a - b).abs());
        largest = differences.fold(largest, f32::max);
    }
    println!("largest difference {largest:e}");
    assert!(largest < EMBEDDING_TOLERANCE, "{largest:e}");
}

#[test]
fn logits_are_those_of_transformers() {
    let Some(host) = models("logits_are_those_of_transformers") else { return };
    let model = SmolLm2::load(&host.blob("smollm2").unwrap()).unwrap();
    let reference = reference();
    for case in &reference.tokens {
        let tokens = model.tokeniser().tokens_of_prompt(&case.text);
        assert_eq!(tokens, case.tokens, "{:?}", case.text);
    }

    let mut largest = 0.0_f32;
    for case in &reference.logits {
        let tokens = model.tokeniser().tokens_of_prompt(&case.text);
        assert_eq!(tokens, case.tokens, "{:?}", case.text);
        let mut context = model.begin();
        let states = model.read(&mut context, &tokens).unwrap();
        let last = &states[states.len() / tokens.len() * (tokens.len() - 1)..];
        let logits = model.logits(last);
        let differences = case.logits.iter().map(|(token, logit)| (logits[*token] - logit).abs());
        largest = differences.fold(largest, f32::max);
    }
    println!("largest difference of a logit {largest:e}");
    assert!(largest < LOGIT_TOLERANCE, "{largest:e}");

    let prefix = model.tokeniser().tokens_of_prompt(&reference.prefix);
    let (last, before) = prefix.split_last().unwrap();
    let mut context = model.begin();
    model.read(&mut context, before).unwrap();
    for case in &reference.continuations {
        assert_eq!(model.tokeniser().tokens(&case.text), case.tokens);
        let found = model.log_probability(&mut context.clone(), &[*last], &case.tokens).unwrap();
        let difference = (found - case.log_probability).abs();
        println!("log probability {found}, difference {difference:e}");
        assert!(difference < LOG_PROBABILITY_TOLERANCE, "{:?}: {found}", case.text);
    }
}

#[test]
fn text_read_in_two_pieces_gives_the_bits_of_one() {
    let Some(host) = models("text_read_in_two_pieces_gives_the_bits_of_one") else { return };
    let model = SmolLm2::load(&host.blob("smollm2").unwrap()).unwrap();
    let tokens = model.tokeniser().tokens("The capital of France is Paris");
    let at_once = model.read(&mut model.begin(), &tokens).unwrap();
    let mut context = model.begin();
    let mut pieces = model.read(&mut context, &tokens[..2]).unwrap();
    pieces.extend(model.read(&mut context, &tokens[2..]).unwrap());
    assert!(at_once.iter().zip(&pieces).all(|(a, b)| a.to_bits() == b.to_bits()));
}
