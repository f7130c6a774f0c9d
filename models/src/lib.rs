//! Halite's Mixture-of-Experts stack: autograd, transformer, training, generation, data and checkpoints.

pub mod data;
pub mod sampling;
pub mod tokenizer;
