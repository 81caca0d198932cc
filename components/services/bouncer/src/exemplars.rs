use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::Error;
use crate::model::{self, Blob, EMBEDDING_WIDTH, Embedding, MiniLm, dot};
use crate::text;

/// Most exemplars of a side: each costs a tenth of a second when the direction is computed.
pub const EXEMPLARS_MAX: usize = 64;

/// What a community finds bad and fine, by example.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exemplars {
    /// Messages that shouldn't be published.
    pub bad: Vec<String>,
    /// Messages that should.
    pub fine: Vec<String>,
}

impl Exemplars {
    /// Reads the parameter `exemplars`: TOML with the lists `bad` and `fine`.
    ///
    /// # Errors
    /// [`Error::Parameter`], [`Error::ExemplarCount`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refuse = |reason| Error::Parameter { name: "exemplars", reason };
        let exemplars: Self = toml::from_str(text).map_err(|error| refuse(error.to_string()))?;
        for (side, count) in [("bad", exemplars.bad.len()), ("fine", exemplars.fine.len())] {
            if !(1..=EXEMPLARS_MAX).contains(&count) {
                return Err(Error::ExemplarCount { side, count });
            }
        }
        Ok(exemplars)
    }
}

/// Which way bad messages lie: the mean of the bad exemplars' embeddings minus that of the fine ones'.
///
/// It isn't brought to length 1: how long it is tells how far apart the sides are, and thresholds go with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Direction(Embedding);

impl Direction {
    /// Computes it: one embedding for each exemplar.
    ///
    /// # Errors
    /// [`model::Error::Read`].
    pub fn of<B: Blob>(exemplars: &Exemplars, model: &MiniLm<B>) -> Result<Self, model::Error> {
        let mut direction = mean(&exemplars.bad, model)?;
        let fine = mean(&exemplars.fine, model)?;
        direction.iter_mut().zip(fine).for_each(|(bad, fine)| *bad -= fine);
        Ok(Self(direction))
    }

    /// How far a text lies in this direction; from -1 to 1 or a little more, typically -0.3 to 0.3.
    #[must_use]
    pub fn score(&self, embedding: &Embedding) -> f32 {
        dot(&self.0, embedding)
    }

    /// Writes the parameter `direction`, so that it needn't be computed for each message: TOML with the SHA-256 of the
    /// parameter `exemplars` and the numbers' bytes, little-endian, in hex.
    #[must_use]
    pub fn write(&self, exemplars: &str) -> String {
        let bytes: Vec<u8> = self.0.iter().flat_map(|number| number.to_le_bytes()).collect();
        format!("exemplars = \"{}\"\nnumbers = \"{}\"\n", digest(exemplars), hex::encode(bytes))
    }

    /// Reads the parameter `direction`: `None` if it's of other exemplars than `exemplars`.
    ///
    /// # Errors
    /// [`Error::Parameter`] if it isn't of its form.
    pub fn parse(text: &str, exemplars: &str) -> Result<Option<Self>, Error> {
        let refuse = |reason| Error::Parameter { name: "direction", reason };
        let written: Written = toml::from_str(text).map_err(|error| refuse(error.to_string()))?;
        if written.exemplars != digest(exemplars) {
            return Ok(None);
        }
        let mut bytes = [0; 4 * EMBEDDING_WIDTH];
        hex::decode_to_slice(&written.numbers, &mut bytes)
            .map_err(|error| refuse(error.to_string()))?;
        let (numbers, _) = bytes.as_chunks::<4>();
        let direction = std::array::from_fn(|i| f32::from_le_bytes(numbers[i]));
        if direction.iter().any(|number| !number.is_finite()) {
            return Err(refuse("it has a number that isn't finite".to_owned()));
        }
        Ok(Some(Self(direction)))
    }
}

/// The parameter's own form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    exemplars: String,
    numbers: String,
}

fn mean<B: Blob>(texts: &[String], model: &MiniLm<B>) -> Result<Embedding, model::Error> {
    let mut mean = [0.0; EMBEDDING_WIDTH];
    for text in texts {
        let embedding = model.embed(&text::plain(text).0)?;
        mean.iter_mut().zip(embedding).for_each(|(sum, number)| *sum += number);
    }
    mean.iter_mut().for_each(|sum| *sum /= texts.len() as f32);
    Ok(mean)
}

fn digest(exemplars: &str) -> String {
    hex::encode(Sha256::digest(exemplars))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXEMPLARS: &str = "bad = ['a']\nfine = ['b']\n";

    #[test]
    fn written_direction_is_read_again() {
        let direction = Direction(std::array::from_fn(|i| i as f32 / 7.0));
        let text = direction.write(EXEMPLARS);
        assert_eq!(Direction::parse(&text, EXEMPLARS), Ok(Some(direction)));
    }

    #[test]
    fn direction_of_other_exemplars_is_none() {
        let text = Direction([0.0; EMBEDDING_WIDTH]).write("other");
        assert_eq!(Direction::parse(&text, EXEMPLARS), Ok(None));
    }

    #[test]
    fn direction_must_be_whole_and_finite() {
        let text = Direction([0.0; EMBEDDING_WIDTH]).write(EXEMPLARS);
        let short = text.replacen("00000000", "", 1);
        assert!(matches!(Direction::parse(&short, EXEMPLARS), Err(Error::Parameter { .. })));
        let infinite = text.replacen("00000000", "0000807f", 1);
        assert!(matches!(Direction::parse(&infinite, EXEMPLARS), Err(Error::Parameter { .. })));
    }

    #[test]
    fn each_side_needs_an_exemplar() {
        let error = Exemplars::parse("bad = []\nfine = ['b']").unwrap_err();
        assert_eq!(error, Error::ExemplarCount { side: "bad", count: 0 });
        assert!(Exemplars::parse("bad = ['a']").is_err());
    }
}
