//! The example rules on the example messages, without WebAssembly.

use moderator::{Message, Rules, Verdict, judge};
use serde::Deserialize;

#[derive(Deserialize)]
struct Example {
    #[serde(flatten)]
    message: Message,
    expected: Verdict,
}

#[test]
fn every_example_gets_the_verdict_beside_it() {
    let rules = Rules::parse(include_str!("../rules.toml")).unwrap();
    let mut wrong = Vec::new();
    for line in include_str!("../messages.jsonl").lines() {
        let example: Example = serde_json::from_str(line).unwrap();
        let judgement = judge(&rules, &example.message);
        if judgement.verdict != example.expected {
            wrong.push(format!("{:?} for {line}", judgement));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_decides_about_some_example() {
    let rules = Rules::parse(include_str!("../rules.toml")).unwrap();
    let messages: Vec<Message> = include_str!("../messages.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let decided: Vec<_> = messages.iter().filter_map(|m| judge(&rules, m).rule).collect();
    for rule in &rules.rules {
        assert!(decided.contains(&rule.id.as_str()), "{} never decides", rule.id);
    }
}
