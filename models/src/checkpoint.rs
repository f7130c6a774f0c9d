//! Checkpoints of a training run.
//!
//! A run directory holds `step-N/` folders and `latest`, a text file with the name of the newest.
//! Each folder is a Hugging Face model folder (`config.json`, `model.safetensors`, and files that
//! the caller adds, such as `tokenizer.json`) plus `optimizer.safetensors`, `state.json`, and
//! `manifest.json` with length and SHA-256 of every other file.
//!
//! Promises: a save that fails or is killed at any point leaves every earlier checkpoint loadable
//! and `latest` valid; a folder named `step-N` is always complete; a file that isn't what was saved
//! is an error that names it, and another checkpoint is used only if the caller asks for it.
//! One process at a time may save into a run directory; others may load from it.

mod disk;
mod error;
mod load;
mod manifest;
mod save;
mod tuning;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::ModelConfig;
use crate::weights::{TensorSource, Weights};

pub use error::{CheckpointError, Damage};
pub use load::{latest, load, model_folder, open_model, steps, verify};
pub use save::CheckpointStore;
pub use tuning::Tuning;

const CONFIG: &str = "config.json";
const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
const MANIFEST: &str = "manifest.json";
const LATEST: &str = "latest";
/// Unfinished things; never read.
const TEMPORARY: &str = ".tmp-";
/// A checkpoint set aside while a new one of the same step takes its place.
const REPLACED: &str = ".replaced-";

/// What a resumed run needs besides tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainState {
    /// Optimizer steps done.
    pub step: u64,
    /// Position in the data.
    pub data: Value,
    /// State of the random number generators.
    pub rng: Value,
    /// Settings of the run.
    pub run: Value,
}

/// Everything that goes into a checkpoint.
pub struct Snapshot<'a> {
    /// The model; `config.json`.
    pub config: &'a ModelConfig,
    /// The parameters under their Hugging Face names.
    pub parameters: TensorSource<'a>,
    /// The optimizer's tensors; [`moment_name`] names those of AdamW.
    pub optimizer: TensorSource<'a>,
    /// The rest of the run's state.
    pub state: &'a TrainState,
    /// Further files of the model folder by name, such as `tokenizer.json`.
    pub files: &'a [(&'a str, &'a [u8])],
    /// The device's choices of kernel variants.
    pub tuning: Option<Tuning>,
}

/// A checkpoint, verified against its manifest.
pub struct Checkpoint {
    /// Its folder.
    pub dir: PathBuf,
    /// The model.
    pub config: ModelConfig,
    /// The parameters; all of the configuration's are there.
    pub weights: Weights,
    /// The optimizer's tensors.
    pub optimizer: Weights,
    /// The rest of the run's state.
    pub state: TrainState,
    /// The choices of kernel variants of the device that it was saved from.
    pub tuning: Option<Tuning>,
}

/// A model to run: from a checkpoint, or any Hugging Face model folder.
pub struct Model {
    /// The folder that holds it.
    pub dir: PathBuf,
    /// The model.
    pub config: ModelConfig,
    /// The parameters; all of the configuration's are there.
    pub weights: Weights,
    /// Tensors in the file that belong to no parameter.
    pub unexpected: Vec<String>,
}

/// Which running mean of AdamW.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Of the gradient.
    First,
    /// Of its square.
    Second,
}

/// Name of a parameter's moment in `optimizer.safetensors`: `m.NAME` or `v.NAME`.
pub fn moment_name(moment: Moment, parameter: &str) -> String {
    match moment {
        Moment::First => format!("m.{parameter}"),
        Moment::Second => format!("v.{parameter}"),
    }
}

/// Name of the folder of a step.
pub fn step_name(step: u64) -> String {
    format!("step-{step}")
}

/// The step of a folder name; `None` if it isn't one.
pub fn parse_step_name(name: &str) -> Option<u64> {
    let step = name.strip_prefix("step-")?.parse().ok()?;
    (step_name(step) == name).then_some(step)
}

/// Where the checkpoint of a step is: also found when a save that was to replace it was killed.
fn step_dir(run_dir: &Path, step: u64) -> PathBuf {
    let dir = run_dir.join(step_name(step));
    let aside = run_dir.join(format!("{REPLACED}{}", step_name(step)));
    if !dir.exists() && aside.exists() { aside } else { dir }
}
