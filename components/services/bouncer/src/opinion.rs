use serde::Deserialize;

use crate::Error;
use crate::model::{self, SmolLm2};

/// Most tokens of a message that an opinion is about: each costs two passes through the model.
pub const OPINION_TOKENS_MAX: usize = 32;

/// What the language model reads before the message: how a list of rude messages begins, and one of normal ones.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompt {
    /// After it, a rude message is to be expected.
    pub rude: String,
    /// After it, a normal one.
    pub normal: String,
}

impl Prompt {
    /// Reads the parameter `prompt`: TOML with the texts `rude` and `normal`.
    ///
    /// # Errors
    /// [`Error::Parameter`] if it isn't, or if one of them is empty or has more than 2048 bytes.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refuse = |reason| Error::Parameter { name: "prompt", reason };
        let prompt: Self = toml::from_str(text).map_err(|error| refuse(error.to_string()))?;
        for (side, text) in [("rude", &prompt.rude), ("normal", &prompt.normal)] {
            if !(1..=PROMPT_BYTES_MAX).contains(&text.len()) {
                let bytes = text.len();
                let reason = format!("{side} has {bytes} bytes instead of 1 to {PROMPT_BYTES_MAX}");
                return Err(refuse(reason));
            }
        }
        Ok(prompt)
    }
}

/// How much likelier the model finds `text` after rude messages than after normal ones: the difference of the logarithms
/// of its probabilities, for each token, and cut to -1 to 1. 0 if there's no text.
///
/// Asked whether a message is rude, so small a model answers by chance; how it would go on is what it knows.
///
/// # Errors
/// [`model::Error::Malformed`] if a prompt has no tokens, or more than the model reads.
pub fn opinion(model: &SmolLm2, prompt: &Prompt, text: &str) -> Result<f32, model::Error> {
    let mut tokens = model.tokeniser().tokens(&format!(" {}", text.trim_start()));
    tokens.truncate(OPINION_TOKENS_MAX);
    let log_probability = |prompt: &str| {
        let prompt = model.tokeniser().tokens_of_prompt(prompt);
        model.log_probability(&mut model.begin(), &prompt, &tokens)
    };
    let difference = log_probability(&prompt.rude)? - log_probability(&prompt.normal)?;
    Ok((difference / tokens.len() as f32).clamp(-1.0, 1.0))
}

/// Fewer tokens than [`SmolLm2::TOKENS_MAX`] in any language that it was made for.
const PROMPT_BYTES_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompt_has_two_sides() {
        let prompt = Prompt::parse("rude = 'Rude:'\nnormal = 'Normal:'").unwrap();
        assert_eq!((&prompt.rude[..], &prompt.normal[..]), ("Rude:", "Normal:"));
        assert!(Prompt::parse("rude = 'Rude:'").is_err());
        assert!(Prompt::parse("rude = 'Rude:'\nnormal = ''").is_err());
    }
}
