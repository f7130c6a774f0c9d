//! Inference: tokens through a model with a key-value cache, text generation on top, and the comparison of
//! devices.

mod cache;
mod decoder;
mod generate;
mod logprobs;
pub mod parity;
mod perplexity;
mod sequence;

pub use cache::CacheOptions;
pub use decoder::{Decoder, Fed, Want};
pub(crate) use generate::PREFILL;
pub use generate::{GenerateOptions, Generator};
pub use logprobs::{LogProb, LogSoftmax, TokenLogProbs};
pub use perplexity::{Perplexity, perplexity};
pub use sequence::{Finish, Generation};
