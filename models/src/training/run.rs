//! A training run: steps over a source of batches, with metrics, validation and checkpoints.

use super::metrics::{Metrics, MetricsFile};
use super::source::BatchSource;
use super::step::Trainer;
use super::{RunConfig, TrainingConfig};
use crate::checkpoint::{Checkpoint, CheckpointStore, Moment, Snapshot, TrainState, Tuning, moment_name};
use crate::config::{ParamId, ParamSpec};
use crate::data::{Corpus, ValidationBatches};
use crate::model::{Model, ParameterSet};
use crate::weights::{TensorMeta, TensorSource, push_parameters};
use crate::{Error, Result};
use halite_hal::Device;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Text that is held out, and how it is cut.
#[derive(Clone, Debug)]
pub struct Validation {
    /// The text.
    pub corpus: Arc<Corpus>,
    /// Its batches.
    pub batches: ValidationBatches,
}

/// What happens in a run, for progress displays.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A step was taken.
    Step(&'a Metrics),
    /// A checkpoint was saved.
    Saved(&'a Path),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Whether all steps were taken; if not, it was stopped, and saved.
    pub finished: bool,
    /// Optimizer steps done.
    pub steps: u64,
    /// The last checkpoint.
    pub checkpoint: Option<PathBuf>,
    /// The last validation: nats a token and bits a byte.
    pub validation: Option<(f64, f64)>,
}

/// A run under way.
pub struct Run<'s> {
    /// Model and optimizer.
    pub trainer: Trainer,
    config: RunConfig,
    source: &'s dyn BatchSource,
    validation: Option<Validation>,
    files: Vec<(String, Vec<u8>)>,
    store: Option<(CheckpointStore, MetricsFile)>,
    next_batch: u64,
}

impl<'s> Run<'s> {
    /// A new run of `model`, which has its first weights. `files` (such as `tokenizer.json`) are put
    /// beside each checkpoint.
    pub fn new(
        model: Model,
        config: RunConfig,
        source: &'s dyn BatchSource,
        validation: Option<Validation>,
        files: Vec<(String, Vec<u8>)>,
    ) -> Result<Self> {
        config.training.validate()?;
        let positions = config.data.seq_len;
        let trainer = Trainer::new(model, config.training.optimizer(), positions)?;
        Ok(Run { trainer, config, source, validation, files, store: None, next_batch: 0 })
    }

    /// Goes on from a checkpoint: weights, moments, step count and place in the data are its own, and on the
    /// same device the choices of kernel variants.
    pub fn resume(
        device: Arc<dyn Device>,
        checkpoint: &Checkpoint,
        config: RunConfig,
        source: &'s dyn BatchSource,
        validation: Option<Validation>,
        files: Vec<(String, Vec<u8>)>,
    ) -> Result<Self> {
        if let Some(tuning) = &checkpoint.tuning {
            tuning.apply(&*device)?;
        }
        let model = Model::from_weights(device, checkpoint.config.clone(), &checkpoint.weights)?;
        let next_batch = source.resume(&checkpoint.state.data)?;
        let mut run = Run::new(model, config, source, validation, files)?;
        run.next_batch = next_batch;
        run.trainer.steps = checkpoint.state.step;
        let table = run.trainer.model.table.clone();
        for (moment, set) in
            [(Moment::First, &run.trainer.first_moments), (Moment::Second, &run.trainer.second_moments)]
        {
            for (i, p) in table.list.iter().enumerate().filter(|(_, p)| p.trainable()) {
                for (m, spec) in p.members.iter().enumerate() {
                    let name = moment_name(moment, &spec.name);
                    let view = checkpoint.optimizer.tensor(&name)?;
                    if view.shape != spec.shape {
                        return Err(Error::State { what: "optimizer" });
                    }
                    set.write(&table, i, m, &view.to_f32()?)?;
                }
            }
        }
        Ok(run)
    }

    /// Optimizer steps in all.
    pub fn steps(&self) -> u64 {
        self.config.training.steps
    }

    /// Saves checkpoints and metrics to `dir` from now on.
    pub fn save_to(&mut self, dir: &Path) -> Result<()> {
        let store = CheckpointStore::open(dir, NonZeroUsize::new(self.config.training.keep))?;
        let metrics = MetricsFile::open(dir, self.trainer.steps)?;
        self.store = Some((store, metrics));
        Ok(())
    }

    /// Takes the remaining steps. `stop` is asked before each; when it says yes, the run is saved and
    /// ends. A step that fails leaves the last checkpoint as it was.
    pub fn run(&mut self, stop: &dyn Fn() -> bool, observe: &mut dyn FnMut(Event<'_>)) -> Result<Outcome> {
        let TrainingConfig { steps, accumulation, validate_every, save_every, .. } = self.config.training;
        let schedule = self.config.training.schedule();
        let mut saved = None;
        let mut validation = None;
        while self.trainer.steps < steps && !stop() {
            let started = Instant::now();
            let lr = schedule.at(self.trainer.steps);
            let batches: Vec<_> =
                (self.next_batch..).take(accumulation).map(|index| self.source.batch(index)).collect();
            let tokens: usize = batches.iter().map(|b| b.ids.len()).sum();
            let report = self.trainer.step(&batches, lr)?;
            self.next_batch += accumulation as u64;
            let step = self.trainer.steps;
            let mut metrics = Metrics {
                step,
                loss: report.loss,
                lr,
                grad_norm: report.grad_norm,
                tokens_per_second: tokens as f64 / started.elapsed().as_secs_f64().max(1e-9),
                expert_load: report.expert_load,
                validation_loss: None,
                validation_bits_per_byte: None,
            };
            let due = |every: u64| step == steps || (every > 0 && step.is_multiple_of(every));
            if due(validate_every)
                && let Some((nats, bits)) = self.validate()?
            {
                metrics.validation_loss = Some(nats);
                metrics.validation_bits_per_byte = Some(bits);
                validation = Some((nats, bits));
            }
            if let Some((_, file)) = &mut self.store {
                file.write(&metrics)?;
            }
            observe(Event::Step(&metrics));
            if due(save_every) {
                saved = self.save(observe)?;
            }
        }
        let steps_done = self.trainer.steps;
        let finished = steps_done >= steps;
        if !finished {
            saved = self.save(observe)?;
        }
        Ok(Outcome { finished, steps: steps_done, checkpoint: saved, validation })
    }

    /// Cross-entropy on the validation text: nats a token, bits a byte.
    pub fn validate(&mut self) -> Result<Option<(f64, f64)>> {
        let Some(validation) = &self.validation else { return Ok(None) };
        let mut nats = 0.0;
        let mut tokens = 0;
        for batch in validation.batches.clone() {
            nats += self.trainer.evaluate(&batch)?;
            tokens += batch.target_count();
        }
        Ok(Some((nats / tokens.max(1) as f64, validation.corpus.bits_per_byte(nats))))
    }

    fn save(&mut self, observe: &mut dyn FnMut(Event<'_>)) -> Result<Option<PathBuf>> {
        let Some((store, _)) = &self.store else { return Ok(None) };
        let json =
            |v: std::result::Result<serde_json::Value, _>| v.map_err(|_| Error::State { what: "settings" });
        let state = TrainState {
            step: self.trainer.steps,
            data: self.source.state(self.next_batch),
            // Every random number is a function of the seed and a counter that is saved with the data.
            rng: self.config.seed.into(),
            run: json(serde_json::to_value(&self.config))?,
        };
        let model = &self.trainer.model;
        let files: Vec<(&str, &[u8])> = self.files.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
        let places: HashMap<ParamId, (usize, usize)> = (model.table.list.iter().enumerate())
            .flat_map(|(i, p)| p.members.iter().enumerate().map(move |(m, spec)| (spec.id, (i, m))))
            .collect();
        let mut parameters = TensorSource::new();
        let specs = model.table.list.iter().flat_map(|p| &p.members);
        let specs = specs.map(|spec| (spec.clone(), safetensors::Dtype::F32));
        push_parameters(&mut parameters, model.config.model_type, specs, |spec: &ParamSpec| {
            let (i, m) = places[&spec.id];
            Ok(model.weights.read_bytes(&model.table, i, m)?)
        });
        let mut optimizer = TensorSource::new();
        for (moment, set) in
            [(Moment::First, &self.trainer.first_moments), (Moment::Second, &self.trainer.second_moments)]
        {
            moments(&mut optimizer, model, set, moment);
        }
        let config = &model.config;
        let tuning = Tuning::of(&*model.device);
        let path =
            store.save(Snapshot { config, parameters, optimizer, state: &state, files: &files, tuning })?;
        observe(Event::Saved(&path));
        Ok(Some(path))
    }
}

/// Lists the moments of all parameters that are trained, read from the device one by one.
fn moments<'a>(to: &mut TensorSource<'a>, model: &'a Model, set: &'a ParameterSet, moment: Moment) {
    for (i, p) in model.table.list.iter().enumerate().filter(|(_, p)| p.trainable()) {
        for (m, spec) in p.members.iter().enumerate() {
            let meta = TensorMeta {
                name: moment_name(moment, &spec.name),
                dtype: safetensors::Dtype::F32,
                shape: spec.shape.clone(),
            };
            to.push(meta, move || Ok(set.read_bytes(&model.table, i, m)?.into()));
        }
    }
}
