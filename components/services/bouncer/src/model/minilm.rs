use super::Error;
use super::arithmetic::{Attention, add, add_scaled, dot, multiply};
use super::blob::Blob;
use super::safetensors::Tensors;
use super::wordpiece::{TOKENS_MAX, WordPiece};

/// Numbers of an embedding.
pub const EMBEDDING_WIDTH: usize = 384;

/// What a text means, as a point on the unit sphere: texts of similar meaning are close to each other.
pub type Embedding = [f32; EMBEDDING_WIDTH];

/// The sentence encoder all-MiniLM-L6-v2: six layers of BERT, the mean over the tokens, normalised.
///
/// The layers (43 MB) are kept in memory; of the table of words (47 MB) the rows are read that a text has.
#[derive(Debug)]
pub struct MiniLm<B> {
    tensors: Tensors<B>,
    vocabulary: WordPiece,
    /// Where the table of words begins.
    words: u64,
    positions: Vec<f32>,
    /// What is added for the first of two texts, which is the only one here.
    segment: Vec<f32>,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

impl<B: Blob> MiniLm<B> {
    /// Reads the model from a file of safetensors, and its vocabulary, one piece a line.
    ///
    /// # Errors
    /// All of [`Error`].
    pub fn load(model: B, vocabulary: &impl Blob) -> Result<Self, Error> {
        let tensors = Tensors::open(model)?;
        let positions =
            tensors.floats("embeddings.position_embeddings.weight", &[512, EMBEDDING_WIDTH])?;
        let mut segment =
            tensors.floats("embeddings.token_type_embeddings.weight", &[2, EMBEDDING_WIDTH])?;
        segment.truncate(EMBEDDING_WIDTH);
        Ok(Self {
            vocabulary: WordPiece::load(vocabulary)?,
            words: tensors.find("embeddings.word_embeddings.weight", &[WORDS, EMBEDDING_WIDTH])?,
            positions,
            segment,
            norm: LayerNorm::load(&tensors, "embeddings.LayerNorm")?,
            layers: (0..LAYERS).map(|i| Layer::load(&tensors, i)).collect::<Result<_, _>>()?,
            tensors,
        })
    }

    /// Its tokeniser.
    #[must_use]
    pub fn vocabulary(&self) -> &WordPiece {
        &self.vocabulary
    }

    /// The embedding of a text, of which the first [`TOKENS_MAX`] tokens count.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn embed(&self, text: &str) -> Result<Embedding, Error> {
        self.embed_tokens(&self.vocabulary.tokens(text).ids)
    }

    /// The embedding of a text that's already split into tokens.
    ///
    /// # Errors
    /// [`Error::Read`]; [`Error::Malformed`] if there are none or more than [`TOKENS_MAX`], or one that isn't the model's.
    pub fn embed_tokens(&self, tokens: &[u32]) -> Result<Embedding, Error> {
        let known = tokens.iter().all(|token| (*token as usize) < WORDS);
        if !known || !(1..=TOKENS_MAX).contains(&tokens.len()) {
            let reason = format!("{} tokens that can't be embedded", tokens.len());
            return Err(Error::Malformed { format: "tokens", reason });
        }
        let mut xs = Vec::with_capacity(tokens.len() * EMBEDDING_WIDTH);
        for token in tokens {
            let mut word = self.tensors.row(self.words, EMBEDDING_WIDTH, *token)?;
            add(&mut word, &self.segment);
            xs.append(&mut word);
        }
        add(&mut xs, &self.positions);
        self.norm.apply(&mut xs);
        for layer in &self.layers {
            layer.apply(&mut xs);
        }
        Ok(normalised(&xs))
    }
}

/// Self-attention and a network of one hidden layer, each added to its input and normalised.
#[derive(Debug)]
struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    attention_norm: LayerNorm,
    expand: Linear,
    contract: Linear,
    norm: LayerNorm,
}

impl Layer {
    fn load<B: Blob>(tensors: &Tensors<B>, index: usize) -> Result<Self, Error> {
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        let linear = |part, from, to| Linear::load(tensors, &name(part), from, to);
        let (width, hidden) = (EMBEDDING_WIDTH, HIDDEN_WIDTH);
        Ok(Self {
            query: linear("attention.self.query", width, width)?,
            key: linear("attention.self.key", width, width)?,
            value: linear("attention.self.value", width, width)?,
            output: linear("attention.output.dense", width, width)?,
            attention_norm: LayerNorm::load(tensors, &name("attention.output.LayerNorm"))?,
            expand: linear("intermediate.dense", width, hidden)?,
            contract: linear("output.dense", hidden, width)?,
            norm: LayerNorm::load(tensors, &name("output.LayerNorm"))?,
        })
    }

    fn apply(&self, xs: &mut [f32]) {
        let count = xs.len() / EMBEDDING_WIDTH;
        let [query, key, value] = [&self.query, &self.key, &self.value].map(|l| l.apply(xs));
        let attended = ATTENTION.attend(&query, &key, &value, |_| count);
        add(xs, &self.output.apply(&attended));
        self.attention_norm.apply(xs);

        let mut hidden = self.expand.apply(xs);
        for x in &mut hidden {
            *x = gelu(*x);
        }
        add(xs, &self.contract.apply(&hidden));
        self.norm.apply(xs);
    }
}

/// A matrix, row by row, and what is added to its products.
#[derive(Debug)]
struct Linear {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Linear {
    fn load<B: Blob>(
        tensors: &Tensors<B>,
        name: &str,
        from: usize,
        to: usize,
    ) -> Result<Self, Error> {
        let weight = tensors.floats(&format!("{name}.weight"), &[to, from])?;
        let bias = tensors.floats(&format!("{name}.bias"), &[to])?;
        Ok(Self { weight, bias })
    }

    fn apply(&self, xs: &[f32]) -> Vec<f32> {
        let to = self.bias.len();
        let from = self.weight.len() / to;
        let mut out = vec![0.0; xs.len() / from * to];
        multiply(&self.weight, xs, from, &mut out, to, 0);
        out.chunks_exact_mut(to).for_each(|x| add(x, &self.bias));
        out
    }
}

/// Brings each vector to mean 0 and variance 1, then scales and shifts it.
#[derive(Debug)]
struct LayerNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl LayerNorm {
    fn load<B: Blob>(tensors: &Tensors<B>, name: &str) -> Result<Self, Error> {
        let weight = tensors.floats(&format!("{name}.weight"), &[EMBEDDING_WIDTH])?;
        let bias = tensors.floats(&format!("{name}.bias"), &[EMBEDDING_WIDTH])?;
        Ok(Self { weight, bias })
    }

    fn apply(&self, xs: &mut [f32]) {
        for x in xs.chunks_exact_mut(EMBEDDING_WIDTH) {
            let mean = x.iter().fold(0.0, |sum, x| sum + x) / EMBEDDING_WIDTH as f32;
            x.iter_mut().for_each(|x| *x -= mean);
            let scale = 1.0 / (dot(x, x) / EMBEDDING_WIDTH as f32 + EPSILON).sqrt();
            for (x, (weight, bias)) in x.iter_mut().zip(self.weight.iter().zip(&self.bias)) {
                *x = *x * scale * weight + bias;
            }
        }
    }
}

/// The direction of the mean.
fn normalised(xs: &[f32]) -> Embedding {
    let mut sum = [0.0; EMBEDDING_WIDTH];
    xs.chunks_exact(EMBEDDING_WIDTH).for_each(|x| add(&mut sum, x));
    let mut out = [0.0; EMBEDDING_WIDTH];
    add_scaled(&mut out, 1.0 / dot(&sum, &sum).sqrt(), &sum);
    out
}

fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2))
}

const ATTENTION: Attention = Attention { heads: 12, kv_heads: 12, width: 32 };
const LAYERS: usize = 6;
const HIDDEN_WIDTH: usize = 1536;
/// Pieces in the vocabulary.
const WORDS: usize = 30_522;
const EPSILON: f32 = 1e-12;
