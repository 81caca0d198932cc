//! Measures the service on 600 labelled messages, beside simpler ways and under attack.
//!
//!     cargo run --release -p bouncer --example evaluate [-- --opinions 100]
//!
//! Thresholds are tuned on the even rows of the set (counted from 0) and everything is reported on the odd ones. With
//! `--opinions`, the language model gives its opinion on so many of these, which takes seconds each. The messages lie
//! beside the checkout (`../shared/vectors/moderation`); without them or without the models there's nothing to measure.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use bouncer::model::SmolLm2;
use bouncer::{Bouncer, Host as _, Message, Native, Prompt, opinion};
use lamina_types::testing::vectors;
use moderator::{Rules, Verdict};

fn main() -> anyhow::Result<()> {
    let folder = vectors("evaluate", "moderation").context("the messages are absent")?;
    let mut csv = csv::Reader::from_path(folder.join("messages.csv"))?;
    let messages: Vec<(String, String)> = csv.deserialize().collect::<Result<_, _>>()?;
    let messages: Vec<Labelled> = messages
        .into_iter()
        .map(|(label, text)| Labelled { toxic: label == "toxic", text })
        .collect();
    let half = |parity| messages.iter().skip(parity).step_by(2).cloned().collect::<Vec<_>>();
    let (tuning, measured) = (half(0), half(1));
    let host = host()?;
    let bouncer = Bouncer::load(&host)?;

    println!("{} messages for tuning, {} measured", tuning.len(), measured.len());
    let scores = scored(&bouncer, &tuning, str::to_owned)?;
    let thresholds = Thresholds::tune(&scores);
    println!("tuned: {thresholds:?}, on the same: {}", Quality::of(&scores, thresholds.single));

    println!("\n| | accuracy | precision | recall | AUC |\n| --- | --- | --- | --- | --- |");
    let constant = judged(&measured, |_| 1.0);
    println!("| all alike | {}", Quality::of(&constant, 0.5));
    println!("| word list | {}", Quality::of(&judged(&measured, bad_words), 0.5));
    let rules = Rules::parse(include_str!("../../moderator/rules.toml"))?;
    println!(
        "| moderator's rules | {}",
        Quality::of(&judged(&measured, |m| ruled(&rules, m)), 0.5)
    );
    let started = Instant::now();
    let clean = scored(&bouncer, &measured, str::to_owned)?;
    let seconds = started.elapsed().as_secs_f64() / measured.len() as f64;
    println!("| bouncer | {}", Quality::of(&clean, thresholds.single));

    println!("\nbouncer, {:.0} ms a message, under disguise:", 1000.0 * seconds);
    println!("\n| | accuracy | precision | recall | AUC | word list's recall | rules' recall |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for (name, disguise) in DISGUISES {
        let scores = scored(&bouncer, &measured, disguise)?;
        let disguised: Vec<_> =
            measured.iter().map(|m| Labelled { text: disguise(&m.text), toxic: m.toxic }).collect();
        let words = Quality::of(&judged(&disguised, bad_words), 0.5).recall;
        let ruled = Quality::of(&judged(&disguised, |m| ruled(&rules, m)), 0.5).recall;
        let quality = Quality::of(&scores, thresholds.single);
        println!("| {name} | {quality} {words:.2} | {ruled:.2} |");
    }

    thresholds.report_band("tuned thresholds", &clean);
    Thresholds::of(&host)?.report_band("thresholds of service.toml", &clean);
    match opinion_count()? {
        0 => Ok(()),
        count => report_opinions(&host, &measured[..count.min(measured.len())], &clean),
    }
}

#[derive(Debug, Clone)]
struct Labelled {
    text: String,
    toxic: bool,
}

/// A message's score and its label.
type Scored = (f32, bool);

#[derive(Debug, Clone, Copy)]
struct Thresholds {
    single: f32,
    allow: f32,
    block: f32,
}

impl Thresholds {
    /// The single one that's right most often; and the narrowest band outside of which, on each side, [`DECIDED`] are
    /// decided rightly.
    fn tune(scores: &[Scored]) -> Self {
        let mut candidates: Vec<f32> = scores.iter().map(|(score, _)| *score).collect();
        candidates.sort_by(f32::total_cmp);
        let right = |t: f32| scores.iter().filter(|(s, toxic)| (*s >= t) == *toxic).count();
        let single = candidates.iter().copied().max_by_key(|t| right(*t)).unwrap_or(0.0);
        let rightly = |side: Vec<&Scored>, toxic: bool| {
            let right = side.iter().filter(|(_, label)| *label == toxic).count();
            right as f64 >= DECIDED * side.len() as f64
        };
        let below = |t: f32| scores.iter().filter(|(s, _)| *s < t).collect::<Vec<_>>();
        let above = |t: f32| scores.iter().filter(|(s, _)| *s >= t).collect::<Vec<_>>();
        let allow = candidates.iter().copied().rfind(|t| rightly(below(*t), false));
        let block = candidates.iter().copied().find(|t| rightly(above(*t), true));
        let allow = allow.unwrap_or(single).min(single);
        Self { single, allow, block: block.unwrap_or(single).max(allow) }
    }

    /// Those that are set.
    fn of(host: &Native) -> anyhow::Result<Self> {
        let parameters = bouncer::Parameters::load(host)?;
        let (allow, block) = (parameters.threshold_allow, parameters.threshold_block);
        Ok(Self { single: allow, allow, block })
    }

    fn report_band(self, name: &str, scores: &[Scored]) {
        let Self { allow, block, .. } = self;
        let decided: Vec<&Scored> =
            scores.iter().filter(|(s, _)| *s < allow || *s >= block).collect();
        let right = decided.iter().filter(|(s, toxic)| (*s >= block) == *toxic).count();
        let passed = scores.iter().filter(|(s, toxic)| *toxic && *s < allow).count();
        let stopped = scores.iter().filter(|(s, toxic)| !toxic && *s >= block).count();
        println!(
            "\n{name}: {allow:.4} and {block:.4} decide {:.2} of the messages, {:.2} of them rightly; \
             {passed} toxic ones are allowed, {stopped} fine ones blocked",
            share(decided.len(), scores.len()),
            share(right, decided.len())
        );
    }
}

/// The share that is to be right on each side of the review band.
const DECIDED: f64 = 0.95;

struct Quality {
    accuracy: f64,
    precision: f64,
    recall: f64,
    auc: f64,
}

impl Quality {
    fn of(scores: &[Scored], threshold: f32) -> Self {
        let count = |f: &dyn Fn(bool, bool) -> bool| {
            scores.iter().filter(|(score, toxic)| f(*score >= threshold, *toxic)).count()
        };
        let hits = count(&|flagged, toxic| flagged && toxic);
        Self {
            accuracy: share(count(&|flagged, toxic| flagged == toxic), scores.len()),
            precision: share(hits, count(&|flagged, _| flagged)),
            recall: share(hits, count(&|_, toxic| toxic)),
            auc: auc(scores),
        }
    }
}

impl std::fmt::Display for Quality {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { accuracy, precision, recall, auc } = self;
        write!(f, "{accuracy:.2} | {precision:.2} | {recall:.2} | {auc:.2} |")
    }
}

/// How often a toxic message scores higher than a fine one; ties count half.
fn auc(scores: &[Scored]) -> f64 {
    let of = |toxic| scores.iter().filter(move |(_, label)| *label == toxic).map(|(s, _)| *s);
    let pairs = of(true).flat_map(|bad| of(false).map(move |fine| bad.total_cmp(&fine)));
    let (wins, count) = pairs.fold((0.0, 0), |(wins, count), order| {
        (wins + f64::from(order as i8 + 1) / 2.0, count + 1)
    });
    wins / f64::from(count)
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn host() -> anyhow::Result<Native> {
    let mut host = Native::with_models().context("the models are absent: cargo xtask models")?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let service: toml::Table = toml::from_str(&fs::read_to_string(folder.join("service.toml"))?)?;
    let parameters = service["parameters"].as_table().context("service.toml has parameters")?;
    for (name, value) in parameters {
        let value = match (value.as_str(), value.get("file").and_then(toml::Value::as_str)) {
            (Some(value), _) => value.to_owned(),
            (None, Some(file)) => fs::read_to_string(folder.join(file))?,
            (None, None) => anyhow::bail!("parameter {name} is neither a text nor a file"),
        };
        host.parameters.insert(name.clone(), value);
    }
    Ok(host)
}

fn scored(
    bouncer: &Bouncer<File>,
    messages: &[Labelled],
    disguise: fn(&str) -> String,
) -> anyhow::Result<Vec<Scored>> {
    let score = |Labelled { text, toxic }: &Labelled| {
        let judgement = bouncer.judge(&Message { message: disguise(text) })?;
        Ok((judgement.score, *toxic))
    };
    messages.iter().map(score).collect()
}

fn judged(messages: &[Labelled], score: impl Fn(&str) -> f32) -> Vec<Scored> {
    messages.iter().map(|Labelled { text, toxic }| (score(text), *toxic)).collect()
}

fn bad_words(message: &str) -> f32 {
    let message = message.to_lowercase();
    let mut words = message.split(|c: char| !c.is_alphabetic());
    f32::from(u8::from(words.any(|word| WORDS.contains(&word))))
}

/// What first comes to mind, singular and plural. Rude words.
const WORDS: [&str; 32] = [
    "fuck", "fucking", "fucked", "shit", "bullshit", "bitch", "bitches", "ass", "asshole",
    "assholes", "cunt", "dick", "pussy", "whore", "whores", "slut", "sluts", "bastard", "bastards",
    "retard", "retarded", "idiot", "idiots", "moron", "morons", "stupid", "dumb", "loser",
    "losers", "scum", "kill", "die",
];

fn ruled(rules: &Rules, message: &str) -> f32 {
    let message = moderator::Message { message: message.to_owned(), author: None, channel: None };
    f32::from(u8::from(moderator::judge(rules, &message).verdict != Verdict::Allow))
}

/// Its name, and what it makes of a message.
type Disguise = (&'static str, fn(&str) -> String);

/// What people do to get past a filter.
const DISGUISES: [Disguise; 4] = [
    ("leetspeak", leetspeak),
    ("letters apart", |text| text.chars().flat_map(|c| [c, ' ']).collect()),
    ("letters of other alphabets", homoglyphs),
    ("two friendly sentences after it", |text| {
        format!("{text}. Thank you all so much for your help! Have a wonderful day, everyone.")
    }),
];

fn leetspeak(text: &str) -> String {
    replaced(text, "aeiost", "431057")
}

fn homoglyphs(text: &str) -> String {
    replaced(text, "aceiopsxy", "асеіорѕху")
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    let table: BTreeMap<char, char> = from.chars().zip(to.chars()).collect();
    text.to_lowercase().chars().map(|c| table.get(&c).copied().unwrap_or(c)).collect()
}

fn opinion_count() -> anyhow::Result<usize> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => Ok(0),
        (Some("--opinions"), Some(count)) => count.parse().context("a number of messages"),
        _ => anyhow::bail!("usage: evaluate [--opinions <count>]"),
    }
}

fn report_opinions(host: &Native, messages: &[Labelled], clean: &[Scored]) -> anyhow::Result<()> {
    let model = SmolLm2::load(&host.blob("smollm2").context("the model's file can't be opened")?)?;
    let prompt = Prompt::parse(&host.parameter("prompt").context("there's no prompt")?)?;
    let started = Instant::now();
    let mut opinions = Vec::new();
    for Labelled { text, toxic } in messages {
        opinions.push((opinion(&model, &prompt, text)?, *toxic));
    }
    let seconds = started.elapsed().as_secs_f64() / messages.len() as f64;
    let clean = &clean[..messages.len()];
    println!(
        "\nopinion on {} messages: AUC {:.2} (the score's on these: {:.2}), {seconds:.1} s each",
        messages.len(),
        auc(&opinions),
        auc(clean)
    );
    for weight in [0.05, 0.1, 0.2] {
        let both = clean.iter().zip(&opinions).map(|((s, toxic), (o, _))| (s + weight * o, *toxic));
        println!("with weight {weight}: AUC {:.3}", auc(&both.collect::<Vec<_>>()));
    }
    Ok(())
}
