//! Halite's Mixture-of-Experts stack: autograd, transformer, training, generation, data and checkpoints.

pub mod checkpoint;
pub mod config;
pub mod schedule;
pub mod weights;
