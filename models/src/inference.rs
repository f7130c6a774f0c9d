//! Inference: tokens through a model with a key-value cache, text generation on top, and the comparison of
//! devices.

mod decoder;
mod generate;
pub mod parity;
mod perplexity;

pub use decoder::{Decoder, Fed, Want};
pub(crate) use generate::PREFILL;
pub use generate::{Finish, GenerateOptions, Generation, Generator};
pub use perplexity::{Perplexity, perplexity};
