//! Two language models, in plain Rust: their files, their tokenisers, their arithmetic.
//!
//! A model gives the same bits on each machine, natively and in WebAssembly: sums are taken in a fixed order
//! (`arithmetic.rs`), the functions beyond the basic operations come from `libm`, and nothing is multiplied and added in
//! one rounding. Files are read through [`Blob`] and never trusted: what isn't as expected is an [`Error`].

mod arithmetic;
mod blob;
mod bpe;
mod gguf;
mod minilm;
mod safetensors;
mod smollm2;
mod wordpiece;

pub use blob::{Blob, Error};
pub use bpe::Bpe;
pub use minilm::{EMBEDDING_WIDTH, Embedding, MiniLm};
pub use smollm2::{Context, SmolLm2};
pub use wordpiece::{TOKENS_MAX, Tokens, WordPiece};

pub(crate) use arithmetic::dot;
