use regex_lite::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::{Error, Message};

/// Most rules: each costs fuel for each message.
pub const RULES_MAX: usize = 128;
/// Longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 1024;

/// What happens to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It's published.
    Allow,
    /// It's published, and a moderator looks at it.
    Flag,
    /// It isn't published.
    Block,
}

/// A community's rules, in the order in which they're tried.
#[derive(Debug, Clone)]
pub struct Rules {
    /// What decides if no rule does.
    pub default: Verdict,
    /// The rules.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its name, given with the verdict.
    pub id: String,
    /// What becomes of a message that it matches.
    pub verdict: Verdict,
    /// Why, for the message's author.
    pub reason: String,
    pattern: Regex,
    channels: Vec<String>,
    authors: Vec<String>,
}

impl Rules {
    /// Reads rules as they're written by hand.
    ///
    /// All patterns are compiled, also those that a message won't come to: a mistake shows with the first message.
    ///
    /// # Errors
    /// [`Error::Rules`], [`Error::TooManyRules`], [`Error::DuplicateRule`], [`Error::Pattern`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let written: Written =
            toml::from_str(text).map_err(|e| Error::Rules { reason: e.to_string() })?;
        if written.rule.len() > RULES_MAX {
            return Err(Error::TooManyRules { count: written.rule.len() });
        }
        let rules: Vec<Rule> = written.rule.into_iter().map(compile).collect::<Result<_, _>>()?;
        let repeated = |(i, rule): (usize, &Rule)| rules[..i].iter().any(|r| r.id == rule.id);
        if let Some(i) = (0..rules.len()).find(|&i| repeated((i, &rules[i]))) {
            return Err(Error::DuplicateRule { id: rules[i].id.clone() });
        }
        Ok(Self { default: written.default, rules })
    }
}

impl Rule {
    /// Whether the rule is about messages from there, whatever they say.
    pub(crate) fn concerns(&self, message: &Message) -> bool {
        let among = |list: &[String], value: &Option<String>| {
            list.is_empty() || value.as_ref().is_some_and(|value| list.contains(value))
        };
        among(&self.channels, &message.channel) && among(&self.authors, &message.author)
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        self.pattern.is_match(text)
    }
}

/// The file's own form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default = "allow")]
    default: Verdict,
    #[serde(default)]
    rule: Vec<WrittenRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRule {
    id: String,
    pattern: String,
    verdict: Verdict,
    reason: String,
    #[serde(default)]
    channels: Vec<String>,
    #[serde(default)]
    authors: Vec<String>,
}

fn allow() -> Verdict {
    Verdict::Allow
}

fn compile(written: WrittenRule) -> Result<Rule, Error> {
    let WrittenRule { id, pattern, verdict, reason, channels, authors } = written;
    let refuse = |reason: String| Error::Pattern { id: id.clone(), reason };
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(refuse(format!("it has more than {PATTERN_BYTES_MAX} bytes")));
    }
    if has_upper_case(&pattern) {
        return Err(refuse("messages are matched in lower case, it has a capital letter".into()));
    }
    let pattern = RegexBuilder::new(&pattern).size_limit(PATTERN_MEMORY_BYTES_MAX).build();
    let pattern = pattern.map_err(|error| refuse(error.to_string()))?;
    Ok(Rule { id, verdict, reason, pattern, channels, authors })
}

/// Most memory of a compiled pattern, in bytes: `(\w{9}){99}` is short to write and long to run.
const PATTERN_MEMORY_BYTES_MAX: usize = 64 << 10;

/// Whether a literal capital is in the pattern, which could never match. Classes such as `\W` aren't literals.
fn has_upper_case(pattern: &str) -> bool {
    let mut escaped = false;
    pattern.chars().any(|c| {
        let literal = !escaped;
        escaped = literal && c == '\\';
        literal && c.is_uppercase()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(id: &str, pattern: &str) -> String {
        format!("[[rule]]\nid = '{id}'\npattern = '{pattern}'\nverdict = 'block'\nreason = ''\n")
    }

    #[test]
    fn broken_pattern_is_named() {
        let error = Rules::parse(&(rule("a", "a") + &rule("b", "("))).unwrap_err();
        assert!(error.to_string().starts_with("pattern of rule b: "), "{error}");
    }

    #[test]
    fn capital_letters_are_refused_but_classes_are_not() {
        assert!(Rules::parse(&rule("a", r"\Wfoo\S")).is_ok());
        assert!(Rules::parse(&rule("a", r"\\Foo")).is_err());
    }

    #[test]
    fn patterns_that_grow_when_compiled_are_refused() {
        assert!(matches!(Rules::parse(&rule("a", r"(\w{99}){99}")), Err(Error::Pattern { .. })));
    }

    #[test]
    fn two_rules_of_one_name_are_refused() {
        let error = Rules::parse(&(rule("a", "a") + &rule("a", "b"))).unwrap_err();
        assert_eq!(error, Error::DuplicateRule { id: "a".to_owned() });
    }

    #[test]
    fn unknown_verdict_is_refused_with_its_line() {
        let error = Rules::parse("default = 'ban'").unwrap_err().to_string();
        assert!(error.contains("line 1") && error.contains("allow"), "{error}");
    }

    #[test]
    fn no_more_rules_than_the_bound() {
        let text: String = (0..=RULES_MAX).map(|i| rule(&format!("r{i}"), "a")).collect();
        assert_eq!(Rules::parse(&text).unwrap_err(), Error::TooManyRules { count: RULES_MAX + 1 });
    }
}
