use super::Error;
use super::arithmetic::{Attention, ROWS, add, dot, log_sum_exp, multiply};
use super::blob::Blob;
use super::bpe::Bpe;
use super::gguf::{BLOCK, Encoding, Gguf, Value};

/// The language model SmolLM2-135M-Instruct, whose weights are stored in four bits.
///
/// They stay so in memory (97 MB) and are brought to single precision a few rows at a time.
#[derive(Debug)]
pub struct SmolLm2 {
    tokeniser: Bpe,
    /// The embedding of each token, by which the next one is chosen, too.
    tokens: Matrix,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    /// Cosine and sine of each position and pair of a head: `[position][pair]`.
    rotations: Vec<(f32, f32)>,
}

/// A text that the model has read so far: the keys and values that what follows attends to.
#[derive(Debug, Clone)]
pub struct Context {
    /// Of each layer.
    layers: Vec<(Vec<f32>, Vec<f32>)>,
    tokens: usize,
}

impl SmolLm2 {
    /// Most tokens of a text. The model could read 8192; what it's used for here is short.
    pub const TOKENS_MAX: usize = 1024;

    /// Reads the model from a GGUF file.
    ///
    /// # Errors
    /// All of [`Error`].
    pub fn load(blob: &impl Blob) -> Result<Self, Error> {
        let gguf = Gguf::open(blob)?;
        check(&gguf)?;
        Ok(Self {
            tokeniser: tokeniser(&gguf)?,
            tokens: Matrix::load(&gguf, "token_embd", Encoding::Q8_0, TOKENS, WIDTH)?,
            layers: (0..LAYERS).map(|i| Layer::load(&gguf, i)).collect::<Result<_, _>>()?,
            norm: gguf.floats("output_norm.weight", WIDTH)?,
            rotations: rotations(),
        })
    }

    /// Its tokeniser.
    #[must_use]
    pub fn tokeniser(&self) -> &Bpe {
        &self.tokeniser
    }

    /// An empty text.
    #[must_use]
    pub fn begin(&self) -> Context {
        Context { layers: vec![(Vec::new(), Vec::new()); LAYERS], tokens: 0 }
    }

    /// Reads on, and gives the state after each token, of which [`Self::logits`] predicts the next one.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the text gets longer than [`Self::TOKENS_MAX`], or a token isn't the model's.
    pub fn read(&self, context: &mut Context, tokens: &[u32]) -> Result<Vec<f32>, Error> {
        let known = tokens.iter().all(|token| (*token as usize) < TOKENS);
        if !known || context.tokens + tokens.len() > Self::TOKENS_MAX {
            let reason = format!("{} tokens that can't be read", tokens.len());
            return Err(Error::Malformed { format: "tokens", reason });
        }
        let mut xs = vec![0.0; tokens.len() * WIDTH];
        for (x, token) in xs.chunks_exact_mut(WIDTH).zip(tokens) {
            self.tokens.row(*token as usize, x);
        }
        let rotations = &self.rotations[context.tokens * PAIRS..];
        for (layer, (keys, values)) in self.layers.iter().zip(&mut context.layers) {
            layer.apply(&mut xs, keys, values, context.tokens, rotations);
        }
        context.tokens += tokens.len();
        Ok(rms_norm(&xs, &self.norm))
    }

    /// For each state, the logarithm of each token's probability to be next, but for a constant.
    #[must_use]
    pub fn logits(&self, states: &[f32]) -> Vec<f32> {
        self.tokens.apply(states)
    }

    /// Reads on with `before`, and gives the logarithm of the probability that `tokens` follow.
    ///
    /// # Errors
    /// As of [`Self::read`]; [`Error::Malformed`] if `before` is empty: the model predicts from what it has just read.
    pub fn log_probability(
        &self,
        context: &mut Context,
        before: &[u32],
        tokens: &[u32],
    ) -> Result<f32, Error> {
        let Some(last) = before.len().checked_sub(1) else {
            let reason = "nothing to predict from".to_owned();
            return Err(Error::Malformed { format: "tokens", reason });
        };
        let read = [before, tokens].concat();
        let states = self.read(context, &read[..last + tokens.len()])?;
        let logits = self.logits(&states[last * WIDTH..]);
        let each = logits.chunks_exact(TOKENS).zip(tokens);
        Ok(each.fold(0.0, |sum, (logits, token)| {
            sum + (logits[*token as usize] - log_sum_exp(logits))
        }))
    }
}

/// Attention to all that came before and a gated network, each added to its input.
#[derive(Debug)]
struct Layer {
    attention_norm: Vec<f32>,
    query: Matrix,
    key: Matrix,
    value: Matrix,
    output: Matrix,
    norm: Vec<f32>,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

impl Layer {
    fn load<B: Blob>(gguf: &Gguf<B>, index: usize) -> Result<Self, Error> {
        let matrix = |part: &str, rows, width| {
            Matrix::load(gguf, &format!("blk.{index}.{part}"), Encoding::Q4_1, rows, width)
        };
        let norm = |part: &str| gguf.floats(&format!("blk.{index}.{part}.weight"), WIDTH);
        Ok(Self {
            attention_norm: norm("attn_norm")?,
            query: matrix("attn_q", WIDTH, WIDTH)?,
            key: matrix("attn_k", KV_WIDTH, WIDTH)?,
            value: matrix("attn_v", KV_WIDTH, WIDTH)?,
            output: matrix("attn_output", WIDTH, WIDTH)?,
            norm: norm("ffn_norm")?,
            gate: matrix("ffn_gate", HIDDEN_WIDTH, WIDTH)?,
            up: matrix("ffn_up", HIDDEN_WIDTH, WIDTH)?,
            down: matrix("ffn_down", WIDTH, HIDDEN_WIDTH)?,
        })
    }

    /// `before`: how many tokens came before. `rotations`: those from there on.
    fn apply(
        &self,
        xs: &mut [f32],
        keys: &mut Vec<f32>,
        values: &mut Vec<f32>,
        before: usize,
        rotations: &[(f32, f32)],
    ) {
        let normed = rms_norm(xs, &self.attention_norm);
        let mut query = self.query.apply(&normed);
        let mut key = self.key.apply(&normed);
        rotate(&mut query, WIDTH, rotations);
        rotate(&mut key, KV_WIDTH, rotations);
        keys.append(&mut key);
        values.append(&mut self.value.apply(&normed));
        let attended = ATTENTION.attend(&query, keys, values, |i| before + i + 1);
        add(xs, &self.output.apply(&attended));

        let normed = rms_norm(xs, &self.norm);
        let mut hidden = self.gate.apply(&normed);
        for (gate, up) in hidden.iter_mut().zip(self.up.apply(&normed)) {
            *gate = silu(*gate) * up;
        }
        add(xs, &self.down.apply(&hidden));
    }
}

/// A quantised matrix.
#[derive(Debug)]
struct Matrix {
    encoding: Encoding,
    width: usize,
    bytes: Vec<u8>,
}

impl Matrix {
    fn load<B: Blob>(
        gguf: &Gguf<B>,
        name: &str,
        encoding: Encoding,
        rows: usize,
        width: usize,
    ) -> Result<Self, Error> {
        let bytes = gguf.bytes(&format!("{name}.weight"), encoding, rows, width)?;
        Ok(Self { encoding, width, bytes })
    }

    /// Row `index`, in single precision.
    fn row(&self, index: usize, out: &mut [f32]) {
        let bytes = self.encoding.bytes(self.width);
        dequantise(self.encoding, &self.bytes[index * bytes..][..bytes], out);
    }

    fn apply(&self, xs: &[f32]) -> Vec<f32> {
        let row_bytes = self.encoding.bytes(self.width);
        let rows = self.bytes.len() / row_bytes;
        let mut out = vec![0.0; xs.len() / self.width * rows];
        let mut block = vec![0.0; ROWS * self.width];
        for (i, bytes) in self.bytes.chunks(ROWS * row_bytes).enumerate() {
            let block = &mut block[..bytes.len() / row_bytes * self.width];
            dequantise(self.encoding, bytes, block);
            multiply(block, xs, self.width, &mut out, rows, i * ROWS);
        }
        out
    }
}

/// Brings whole blocks to single precision.
#[cfg_attr(target_family = "wasm", target_feature(enable = "simd128"))]
fn dequantise(encoding: Encoding, bytes: &[u8], out: &mut [f32]) {
    let (blocks, _) = out.as_chunks_mut::<BLOCK>();
    match encoding {
        Encoding::Q4_1 => {
            let (quantised, _) = bytes.as_chunks::<20>();
            for (out, [a, b, c, d, pairs @ ..]) in blocks.iter_mut().zip(quantised) {
                let (scale, smallest) = (half([*a, *b]), half([*c, *d]));
                let (low, high) = out.split_at_mut(BLOCK / 2);
                for ((low, high), pair) in low.iter_mut().zip(high).zip(pairs) {
                    *low = scale * f32::from(pair & 15) + smallest;
                    *high = scale * f32::from(pair >> 4) + smallest;
                }
            }
        }
        Encoding::Q8_0 => {
            let (quantised, _) = bytes.as_chunks::<34>();
            for (out, [a, b, numbers @ ..]) in blocks.iter_mut().zip(quantised) {
                let scale = half([*a, *b]);
                for (out, number) in out.iter_mut().zip(numbers) {
                    *out = scale * f32::from(number.cast_signed());
                }
            }
        }
        Encoding::F32 => unreachable!("matrices are quantised"),
    }
}

/// A number in half precision.
fn half(bytes: [u8; 2]) -> f32 {
    let bits = u32::from(u16::from_le_bytes(bytes));
    let (sign, exponent, fraction) = ((bits >> 15) << 31, (bits >> 10) & 31, bits & 1023);
    let magnitude = match exponent {
        0 => (fraction as f32 * SMALLEST_HALF).to_bits(),
        31 => 0x7f80_0000 | fraction << 13,
        _ => (exponent + 112) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

/// Brings each vector to a mean square of 1, then scales it.
fn rms_norm(xs: &[f32], weight: &[f32]) -> Vec<f32> {
    let mut out = xs.to_vec();
    for x in out.chunks_exact_mut(weight.len()) {
        let scale = 1.0 / (dot(x, x) / weight.len() as f32 + EPSILON).sqrt();
        for (x, weight) in x.iter_mut().zip(weight) {
            *x = *x * scale * weight;
        }
    }
    out
}

/// Rotary position embedding: turns each pair of a head by its position's angle.
fn rotate(xs: &mut [f32], width: usize, rotations: &[(f32, f32)]) {
    for (x, rotations) in xs.chunks_exact_mut(width).zip(rotations.chunks_exact(PAIRS)) {
        let (pairs, _) = x.as_chunks_mut::<2>();
        for (pair, (cos, sin)) in pairs.iter_mut().zip(rotations.iter().cycle()) {
            *pair = [pair[0] * cos - pair[1] * sin, pair[0] * sin + pair[1] * cos];
        }
    }
}

/// The rotations of all positions. Pair `i` of a head turns by `ROPE_BASE^(-i / PAIRS)` at each.
#[expect(clippy::cast_possible_truncation, reason = "rounding to single precision")]
fn rotations() -> Vec<(f32, f32)> {
    let speeds: Vec<f64> =
        (0..PAIRS).map(|i| libm::pow(ROPE_BASE.into(), -(i as f64) / PAIRS as f64)).collect();
    let angles = (0..SmolLm2::TOKENS_MAX).flat_map(|t| speeds.iter().map(move |s| t as f64 * s));
    angles.map(|angle| (libm::cos(angle) as f32, libm::sin(angle) as f32)).collect()
}

fn silu(x: f32) -> f32 {
    x / (1.0 + libm::expf(-x))
}

/// The file's tensors have the right shapes or aren't found; the rest of what tells models apart is checked here.
fn check<B: Blob>(gguf: &Gguf<B>) -> Result<(), Error> {
    let expected = [
        ("general.architecture", Value::Text("llama".to_owned())),
        ("llama.block_count", Value::Integer(LAYERS as u64)),
        ("llama.attention.head_count", Value::Integer(ATTENTION.heads as u64)),
        ("llama.attention.head_count_kv", Value::Integer(ATTENTION.kv_heads as u64)),
        ("llama.rope.freq_base", Value::Float(ROPE_BASE)),
        ("llama.attention.layer_norm_rms_epsilon", Value::Float(EPSILON)),
        ("tokenizer.ggml.pre", Value::Text("smollm".to_owned())),
    ];
    for (name, expected) in expected {
        let found = gguf.value(name)?;
        if *found != expected {
            let reason = format!("{name} is {found:?} instead of {expected:?}");
            return Err(Error::Malformed { format: "SmolLM2", reason });
        }
    }
    Ok(())
}

fn tokeniser<B: Blob>(gguf: &Gguf<B>) -> Result<Bpe, Error> {
    let vocabulary = gguf.texts("tokenizer.ggml.tokens")?;
    let types = gguf.integers("tokenizer.ggml.token_type")?;
    let controls = vocabulary.iter().zip(0..).zip(types).filter(|(_, kind)| **kind == CONTROL);
    let controls = controls.map(|((name, token), _)| (name.clone(), token)).collect();
    Bpe::new(vocabulary, gguf.texts("tokenizer.ggml.merges")?, controls)
}

const ATTENTION: Attention = Attention { heads: 9, kv_heads: 3, width: 64 };
const WIDTH: usize = 576;
const KV_WIDTH: usize = ATTENTION.kv_heads * ATTENTION.width;
const HIDDEN_WIDTH: usize = 1536;
const LAYERS: usize = 30;
/// Tokens of the vocabulary.
const TOKENS: usize = 49_152;
/// Pairs of numbers that are turned, of each head.
const PAIRS: usize = ATTENTION.width / 2;
const ROPE_BASE: f32 = 100_000.0;
const EPSILON: f32 = 1e-5;
/// The type of tokens that stand for no text.
const CONTROL: u64 = 3;
/// 2^-24.
const SMALLEST_HALF: f32 = 5.960_464_5e-8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn halves_are_read() {
        for (bits, number) in [
            (0x3c00_u16, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x0001, SMALLEST_HALF),
            (0x8000, 0.0),
            (0x7c00, f32::INFINITY),
        ] {
            assert_eq!(half(bits.to_le_bytes()), number, "{bits:x}");
        }
    }

    #[test]
    fn blocks_are_dequantised() {
        let mut out = [0.0; BLOCK];
        let block = [&[0, 0x3c, 0, 0x40, 0x21][..], &[0; 15]].concat();
        dequantise(Encoding::Q4_1, &block, &mut out);
        assert_eq!((out[0], out[16], out[1]), (3.0, 4.0, 2.0));
        let block = [&[0, 0x40, 0xff][..], &[0; 31]].concat();
        dequantise(Encoding::Q8_0, &block, &mut out);
        assert_eq!((out[0], out[1]), (-2.0, 0.0));
    }

    #[test]
    fn rotation_keeps_lengths() {
        let mut xs = vec![1.0; 2 * WIDTH];
        rotate(&mut xs, WIDTH, &rotations()[PAIRS..]);
        let turned = libm::sqrtf(xs[0] * xs[0] + xs[1] * xs[1]);
        assert!((turned - libm::sqrtf(2.0)).abs() < 1e-6);
        assert_eq!(xs[0], libm::cosf(1.0) - libm::sinf(1.0));
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>) {
            prop_assert!(SmolLm2::load(&&bytes[..]).is_err());
        }
    }
}
