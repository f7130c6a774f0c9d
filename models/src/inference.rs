//! Inference: tokens through a model with a key-value cache, and text generation on top.

mod decoder;
mod generate;

pub use decoder::{Decoder, Fed, Want};
pub use generate::{Finish, GenerateOptions, Generation, Generator};
