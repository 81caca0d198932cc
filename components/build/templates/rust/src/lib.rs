//! Judges messages by a list of banned words.
//!
//! The input is `{"message": "…"}`, the parameter `banned` lists words, and the output is `{"verdict":"block","count":2}`:
//! `allow` if none of the message's words is banned, and how many are.

use std::collections::BTreeSet;

use lamina_sdk::{Json, log, parameters};
use serde::{Deserialize, Serialize};

lamina_sdk::service!(judge);

/// What is judged.
#[derive(Debug, Deserialize)]
pub struct Message {
    /// What somebody wrote.
    pub message: String,
}

/// What comes of it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// What to do with the message.
    pub verdict: Verdict,
    /// How many of its words are banned.
    pub count: usize,
}

/// What to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Publish it.
    Allow,
    /// Don't.
    Block,
}

/// Judges one message. Every operator does, so equal messages must give equal bytes, and equal errors.
///
/// # Errors
/// If the message is empty.
pub fn judge(Json(input): Json<Message>) -> Result<Json<Judgement>, &'static str> {
    if input.message.is_empty() {
        return Err("the message is empty");
    }
    let list = parameters::get("banned").unwrap_or_default().to_lowercase();
    let banned: BTreeSet<_> = words(&list).collect();
    if banned.is_empty() {
        log::warn("the parameter `banned` lists no words, so all messages are allowed");
    }
    let text = input.message.to_lowercase();
    let count = words(&text).filter(|word| banned.contains(word)).count();
    let verdict = if count == 0 { Verdict::Allow } else { Verdict::Block };
    Ok(Json(Judgement { verdict, count }))
}

/// What stands between blanks and signs. Letters of all alphabets are part of words.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let between = |c: char| c.is_ascii() && !c.is_ascii_alphanumeric();
    text.split(between).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use lamina_sdk::testing;

    use super::*;

    fn judge_text(input: &str) -> Result<String, String> {
        testing::set_parameter("banned", "spam, scam");
        let output = testing::run(judge, input)?;
        Ok(String::from_utf8(output).unwrap())
    }

    #[test]
    fn banned_words_are_counted() {
        let output = judge_text(r#"{"message":"Spam, spam and eggs"}"#);
        assert_eq!(output.unwrap(), r#"{"verdict":"block","count":2}"#);
    }

    #[test]
    fn parts_of_words_are_not_banned() {
        let output = judge_text(r#"{"message":"A spammer's lunch"}"#);
        assert_eq!(output.unwrap(), r#"{"verdict":"allow","count":0}"#);
    }

    #[test]
    fn input_of_another_form_is_refused() {
        let error = judge_text("spam").unwrap_err();
        assert!(error.starts_with("the input isn't JSON of the expected form: "), "{error}");
    }
}
