//! Training: one step on given batches, and runs over a corpus.

mod step;

pub use step::{Decay, OptimizerOptions, StepReport, Trainer};
