//! The settings of a training run, as `run.toml` gives them.

use super::{Decay, OptimizerOptions};
use crate::config::ModelConfig;
use crate::data::{BatchShape, Packing};
use crate::schedule::{self, Schedule};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Most microbatches of a step: they are all in memory at once.
const MAX_ACCUMULATION: usize = 1 << 16;

/// Everything that decides a training run but the device: the same settings, data and seed give the
/// same run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// A preset of [`crate::config::PRESETS`]; or else `model`.
    pub preset: Option<String>,
    /// The model, with the keys of Hugging Face's `config.json`.
    pub model: Option<serde_json::Value>,
    /// Accepts a model that no Hugging Face model type can express.
    pub give_up_export: bool,
    /// Seed of weights and data order.
    pub seed: u64,
    /// Where text comes from and how it is cut.
    pub data: DataConfig,
    /// How long and how fast to learn.
    pub training: TrainingConfig,
}

/// Text, tokens, batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Files, folders, globs; `.jsonl` files hold a document a line.
    pub paths: Vec<PathBuf>,
    /// The field of a JSONL line that is its text.
    pub text_field: String,
    /// `bytes`, `bpe` (trained on the training text, as large as the model's vocabulary), or the path
    /// of a `tokenizer.json`.
    pub tokenizer: String,
    /// Share of the text that is held out for validation, in [0, 1).
    pub validation: f64,
    /// Tokens of a row.
    pub seq_len: usize,
    /// Rows of a microbatch.
    pub batch_size: usize,
    /// Whether tokens see only their own document (`documents`) or their whole row (`rows`).
    pub packing: Packing,
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig {
            paths: Vec::new(),
            text_field: "text".into(),
            tokenizer: "bytes".into(),
            validation: 0.05,
            seq_len: 256,
            batch_size: 8,
            packing: Packing::Documents,
        }
    }
}

impl DataConfig {
    /// The shape of a microbatch.
    pub fn shape(&self) -> BatchShape {
        BatchShape { batch_size: self.batch_size, seq_len: self.seq_len, packing: self.packing }
    }
}

/// Steps, schedule, optimizer, and what is saved when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingConfig {
    /// Optimizer steps.
    pub steps: u64,
    /// Microbatches of a step.
    pub accumulation: usize,
    /// Highest learning rate.
    pub lr: f64,
    /// Steps until it is reached.
    pub warmup_steps: u64,
    /// How it goes after that.
    pub schedule: schedule::Decay,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Which parameters decay.
    pub decay: Decay,
    /// Largest gradient norm; 0 doesn't clip.
    pub clip: f32,
    /// Whether experts are balanced.
    pub balance: bool,
    /// Validate every so many steps, and at the end; 0: at the end only.
    pub validate_every: u64,
    /// Save every so many steps, and at the end; 0: at the end only.
    pub save_every: u64,
    /// Checkpoints that are kept; 0: all.
    pub keep: usize,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        TrainingConfig {
            steps: 1000,
            accumulation: 1,
            lr: 1e-3,
            warmup_steps: 20,
            schedule: schedule::Decay::Cosine { min_ratio: 0.1 },
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            decay: Decay::Matrices,
            clip: 1.0,
            balance: true,
            validate_every: 100,
            save_every: 500,
            keep: 3,
        }
    }
}

impl TrainingConfig {
    /// The learning rate's course.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            peak: self.lr,
            warmup_steps: self.warmup_steps.min(self.steps),
            total_steps: self.steps,
            decay: self.schedule,
        }
    }

    /// The optimizer's settings.
    pub fn optimizer(&self) -> OptimizerOptions {
        OptimizerOptions {
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.eps,
            weight_decay: self.weight_decay,
            decay: self.decay,
            clip: (self.clip > 0.0).then_some(self.clip),
            balance: self.balance,
            ..OptimizerOptions::default()
        }
    }

    /// Checks every range.
    pub fn validate(&self) -> Result<()> {
        let check = |ok: bool, key: &'static str, value: f64, wanted: &'static str| match ok {
            true => Ok(()),
            false => Err(Error::Setting { key, value: value.to_string(), wanted }),
        };
        let beta = |b: f32| (0.0..1.0).contains(&b);
        check(self.steps > 0, "steps", self.steps as f64, "at least 1")?;
        let microbatches = (1..=MAX_ACCUMULATION).contains(&self.accumulation);
        check(microbatches, "accumulation", self.accumulation as f64, "from 1 to 65536")?;
        check(beta(self.beta1), "beta1", self.beta1.into(), "in [0, 1)")?;
        check(beta(self.beta2), "beta2", self.beta2.into(), "in [0, 1)")?;
        check(self.eps.is_finite() && self.eps > 0.0, "eps", self.eps.into(), "finite and above 0")?;
        let decay = self.weight_decay;
        check(decay.is_finite() && decay >= 0.0, "weight_decay", decay.into(), "finite and at least 0")?;
        check(self.clip.is_finite() && self.clip >= 0.0, "clip", self.clip.into(), "finite and at least 0")?;
        Ok(self.schedule().validate()?)
    }
}

impl RunConfig {
    /// The model that is to be trained.
    pub fn model(&self) -> Result<ModelConfig> {
        match (&self.preset, &self.model) {
            (Some(name), None) => {
                ModelConfig::preset(name).ok_or_else(|| Error::Preset { name: name.clone() })
            }
            (None, Some(json)) => Ok(ModelConfig::from_settings(json, self.give_up_export)?),
            (Some(_), Some(_)) => Err(Error::Setting {
                key: "preset",
                value: "given".into(),
                wanted: "left out when there is a [model], which says it all",
            }),
            (None, None) => Err(Error::Setting {
                key: "model",
                value: "missing".into(),
                wanted: "a table [model], or a preset",
            }),
        }
    }

    /// Checks every setting that can be checked without data.
    pub fn validate(&self) -> Result<()> {
        self.training.validate()?;
        let config = self.model()?;
        let (requested, maximum) = (self.data.seq_len, config.max_position_embeddings);
        if requested > maximum {
            return Err(Error::ContextLength { requested, maximum });
        }
        Ok(())
    }
}
