use serde::Serialize;

use crate::model::{Blob, MiniLm, SmolLm2, TOKENS_MAX};
use crate::{
    Direction, Error, Extent, Host, MESSAGE_BYTES_MAX, Message, Opinion, Parameters, Reading,
    opinion, readings,
};

/// What happens to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It's published.
    Allow,
    /// A moderator looks at it first.
    Review,
    /// It isn't published.
    Block,
}

/// What is made of a message.
///
/// `{"verdict":"block","score":0.21,"reading":"you are an idiot.","complete":true,"opinion":null,"opinion_weight":0.0,"total":0.21}`;
/// numbers are in single precision, with as many digits as tell them apart.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judgement {
    /// What happens to it.
    pub verdict: Verdict,
    /// The highest score of all readings; a sentence of several has 0.03 less.
    pub score: f32,
    /// The reading that has it: the message or one of its sentences, as it is or with disguises undone. Of one that got
    /// longer than a message by that, the beginning.
    pub reading: String,
    /// Whether all was read, and each sentence by itself. If not, the message isn't allowed without review.
    pub complete: bool,
    /// The language model's opinion, from -1 (normal) to 1 (rude); `null` if it's off.
    pub opinion: Option<f32>,
    /// What it was multiplied with.
    pub opinion_weight: f32,
    /// What the thresholds were applied to: `score + opinion_weight * opinion`.
    pub total: f32,
}

/// Runs the service: a message in JSON, parameters and models from the host, a judgement in JSON.
///
/// # Errors
/// All of [`Error`].
pub fn run(input: &[u8], host: &impl Host) -> Result<Vec<u8>, Error> {
    let message = Message::parse(input)?;
    let judgement = Bouncer::load(host)?.judge(&message)?;
    Ok(serde_json::to_vec(&judgement).expect("text, numbers and null are JSON"))
}

/// The models and the parameters, ready to judge messages.
#[derive(Debug)]
pub struct Bouncer<B> {
    parameters: Parameters,
    encoder: MiniLm<B>,
    direction: Direction,
    opinion: Option<(SmolLm2, Opinion)>,
}

impl<B: Blob> Bouncer<B> {
    /// Loads what the parameters ask for: the blobs `minilm` and `vocabulary`, and `smollm2` if there's to be an opinion.
    ///
    /// # Errors
    /// All of [`Error`] that are the owner's.
    pub fn load(host: &impl Host<Blob = B>) -> Result<Self, Error> {
        let blob = |name| host.blob(name).ok_or(Error::NoBlob { name });
        let parameters = Parameters::load(host)?;
        let encoder = MiniLm::load(blob("minilm")?, &blob("vocabulary")?).map_err(of("minilm"))?;
        let direction = match parameters.direction.clone() {
            Some(direction) => direction,
            None => Direction::of(&parameters.exemplars, &encoder).map_err(of("minilm"))?,
        };
        let opinion = match parameters.opinion.clone() {
            Some(opinion) => {
                let model = SmolLm2::load(&blob("smollm2")?).map_err(of("smollm2"))?;
                Some((model, opinion))
            }
            None => None,
        };
        Ok(Self { parameters, encoder, direction, opinion })
    }

    /// The sentence encoder.
    #[must_use]
    pub fn encoder(&self) -> &MiniLm<B> {
        &self.encoder
    }

    /// Which way bad messages lie.
    #[must_use]
    pub fn direction(&self) -> &Direction {
        &self.direction
    }

    /// The message's verdict.
    ///
    /// # Errors
    /// [`Error::Model`] if a blob can't be read any more.
    pub fn judge(&self, message: &Message) -> Result<Judgement, Error> {
        let (readings, mut complete) = readings(&message.message, self.encoder.vocabulary());
        let mut tokens_left = READ_TOKENS_MAX;
        let mut worst: Option<(f32, Reading)> = None;
        for reading in readings {
            let tokens = self.encoder.vocabulary().tokens(&reading.text);
            if tokens.ids.len() > tokens_left {
                complete = false;
                break;
            }
            tokens_left -= tokens.ids.len();
            complete &= tokens.complete || reading.extent == Extent::Whole;
            let embedding = self.encoder.embed_tokens(&tokens.ids).map_err(of("minilm"))?;
            let is_sentence = reading.extent == Extent::Sentence;
            let handicap = if is_sentence { SENTENCE_HANDICAP } else { 0.0 };
            let score = self.direction.score(&embedding) - handicap;
            if worst.as_ref().is_none_or(|(highest, _)| score > *highest) {
                worst = Some((score, reading));
            }
        }
        let (score, reading) = worst.expect("the first reading has no more tokens than allowed");
        let mut reading = reading.text;
        reading.truncate(reading.floor_char_boundary(MESSAGE_BYTES_MAX));
        let opinion = self.opinion_of(message)?;
        let opinion_weight = self.opinion.as_ref().map_or(0.0, |(_, opinion)| opinion.weight);
        let total = score + opinion_weight * opinion.unwrap_or(0.0);
        let verdict = self.verdict(total, complete);
        Ok(Judgement { verdict, score, reading, complete, opinion, opinion_weight, total })
    }

    fn opinion_of(&self, message: &Message) -> Result<Option<f32>, Error> {
        let Some((model, Opinion { prompt, .. })) = &self.opinion else { return Ok(None) };
        opinion(model, prompt, &message.message).map(Some).map_err(of("smollm2"))
    }

    fn verdict(&self, total: f32, complete: bool) -> Verdict {
        if total >= self.parameters.threshold_block {
            Verdict::Block
        } else if total >= self.parameters.threshold_allow || !complete {
            Verdict::Review
        } else {
            Verdict::Allow
        }
    }
}

fn of(name: &'static str) -> impl Fn(crate::model::Error) -> Error {
    move |source| Error::Model { name, source }
}

/// What's taken from the score of a sentence beside others: the highest of several is higher by chance. Of 0, 0.02, 0.03 and
/// 0.04, what did best on the rows that `examples/evaluate.rs` tunes on.
const SENTENCE_HANDICAP: f32 = 0.03;
/// Most tokens that are read of a message, in all its readings: they're what its fuel is spent on. One of 100 characters
/// has 25, twice that if it has several sentences, and again if it's disguised.
const READ_TOKENS_MAX: usize = TOKENS_MAX;
