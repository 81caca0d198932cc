use serde::Serialize;

use crate::text::{plain, undisguised};
use crate::{MESSAGE_BYTES_MAX, Message, RULES_MAX, Rule, Rules, Verdict};

/// What is made of a message: `{"verdict":"block","rule":"invites","reason":"…"}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Judgement<'a> {
    /// What happens to it.
    pub verdict: Verdict,
    /// The rule that decided; `null` if it's the default.
    pub rule: Option<&'a str>,
    /// What that rule gives as its reason.
    pub reason: Option<&'a str>,
}

/// Runs the service: a message in JSON, rules in TOML, a judgement in JSON.
///
/// # Errors
/// Those of [`Rules::parse`] and [`Message::parse`]; [`Error::NoRules`].
pub fn run(input: &[u8], rules: Option<&str>) -> Result<Vec<u8>, Error> {
    let message = Message::parse(input)?;
    let rules = Rules::parse(rules.ok_or(Error::NoRules)?)?;
    let judgement = judge(&rules, &message);
    Ok(serde_json::to_vec(&judgement).expect("text and null are JSON"))
}

/// The verdict of the first rule that matches, or the default.
#[must_use]
pub fn judge<'a>(rules: &'a Rules, message: &Message) -> Judgement<'a> {
    let plain = plain(&message.message);
    let undisguised = undisguised(&plain);
    let matches = |rule: &&Rule| {
        rule.concerns(message)
            && (rule.matches(&plain) || undisguised.as_deref().is_some_and(|t| rule.matches(t)))
    };
    match rules.rules.iter().find(matches) {
        Some(rule) => {
            Judgement { verdict: rule.verdict, rule: Some(&rule.id), reason: Some(&rule.reason) }
        }
        None => Judgement { verdict: rules.default, rule: None, reason: None },
    }
}

/// Why there's no verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input isn't a message.
    #[error("input: {reason}")]
    Input {
        /// What's wrong, and where.
        reason: String,
    },
    /// The message is too long to be judged.
    #[error("the message has {bytes} bytes, at most {MESSAGE_BYTES_MAX} are allowed")]
    MessageTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The manifest carries no rules.
    #[error("the manifest has no parameter `rules`")]
    NoRules,
    /// The rules aren't TOML of the right form.
    #[error("rules: {reason}")]
    Rules {
        /// What's wrong, and where.
        reason: String,
    },
    /// There are more rules than fuel should be spent on.
    #[error("{count} rules, at most {RULES_MAX} are allowed")]
    TooManyRules {
        /// How many there are.
        count: usize,
    },
    /// A verdict wouldn't tell which rule decided.
    #[error("two rules are called {id}")]
    DuplicateRule {
        /// The name.
        id: String,
    },
    /// A rule's pattern can't be used.
    #[error("pattern of rule {id}: {reason}")]
    Pattern {
        /// The rule.
        id: String,
        /// What's wrong with it.
        reason: String,
    },
}

impl Error {
    /// Whether the service's owner has to mend it, rather than whoever sent the message.
    #[must_use]
    pub fn is_the_owners(&self) -> bool {
        !matches!(self, Self::Input { .. } | Self::MessageTooLong { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"
        default = "flag"
        [[rule]]
        id = "showcase"
        channels = ["showcase"]
        pattern = 'https?://'
        verdict = "allow"
        reason = "Links belong here."
        [[rule]]
        id = "links"
        pattern = 'https?://'
        verdict = "block"
        reason = "No links."
        [[rule]]
        id = "staff"
        authors = ["ada"]
        pattern = ''
        verdict = "allow"
        reason = "Staff."
    "#;

    fn output(input: &str) -> String {
        String::from_utf8(run(input.as_bytes(), Some(RULES)).unwrap()).unwrap()
    }

    #[test]
    fn first_match_decides() {
        let expected = r#"{"verdict":"block","rule":"links","reason":"No links."}"#;
        assert_eq!(output(r#"{"message": "see HTTP://a.example", "author": "ada"}"#), expected);
    }

    #[test]
    fn channel_narrows_a_rule() {
        let message = r#"{"message": "see http://a.example", "channel": "showcase"}"#;
        assert!(output(message).contains(r#""rule":"showcase""#));
    }

    #[test]
    fn default_decides_without_a_rule() {
        let expected = r#"{"verdict":"flag","rule":null,"reason":null}"#;
        assert_eq!(output(r#"{"message": "hello"}"#), expected);
    }

    #[test]
    fn disguised_words_are_seen() {
        assert!(output(r#"{"message": "h t t p://x"}"#).contains(r#""rule":"links""#));
    }

    #[test]
    fn malformed_input_is_the_senders_fault() {
        let error = run(b"{\"mesage\": 1}", Some(RULES)).unwrap_err();
        assert!(error.to_string().contains("missing field `message`"), "{error}");
        assert!(!error.is_the_owners());
    }

    #[test]
    fn missing_rules_are_the_owners_fault() {
        assert!(run(b"{\"message\": \"\"}", None).unwrap_err().is_the_owners());
    }

    #[test]
    fn long_message_is_refused() {
        let input = format!("{{\"message\": \"{}\"}}", "a".repeat(MESSAGE_BYTES_MAX + 1));
        let error = run(input.as_bytes(), Some(RULES)).unwrap_err();
        assert_eq!(error, Error::MessageTooLong { bytes: MESSAGE_BYTES_MAX + 1 });
    }
}
