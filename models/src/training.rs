//! Training: one step on given batches, and runs over a corpus.

mod config;
mod metrics;
mod prepare;
mod run;
mod source;
mod step;

pub use config::{DataConfig, RunConfig, TrainingConfig};
pub use metrics::{Metrics, MetricsFile};
pub use prepare::Prepared;
pub use run::{Event, Outcome, Run, Validation};
pub use source::{BatchSource, FixedBatch};
pub use step::{Decay, OptimizerOptions, StepReport, Trainer};
