//! Halite's Mixture-of-Experts stack: autograd, transformer, training, generation, chat, data and checkpoints.
//!
//! Everything here is written against [`halite_hal::Device`] and names no backend. A
//! [`config::ModelConfig`] says what a model is made of, a [`model::Model`] holds its weights on a
//! device, a [`tape::Tape`] builds what a training step or a decoded token runs.

pub mod chat;
pub mod checkpoint;
pub mod config;
pub mod convert;
pub mod data;
mod error;
pub mod gguf;
pub mod inference;
pub mod model;
mod open;
mod replace;
pub mod sampling;
pub mod schedule;
pub mod tape;
pub mod tokenizer;
pub mod training;
pub mod weights;

pub use error::{Error, Result};
pub use open::ModelFiles;
