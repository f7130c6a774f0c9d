//! `halite train`

use super::DeviceArgs;
use super::error::{Error, Result};
use super::inspect::train_ids;
use super::model::tokenizer_of;
use super::output::{self, note, say};
use halite::hal::Device;
use halite::models::checkpoint::{self, Checkpoint, model_folder, parse_step_name};
use halite::models::data::Packing;
use halite::models::model::Model;
use halite::models::schedule;
use halite::models::training::{
    BatchSource, Decay, Event, FixedBatch, Outcome, Prepared, Run, RunConfig, TrainingConfig,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Train a model on text, or go on training one
#[derive(clap::Args)]
#[command(
    allow_negative_numbers = true, // an impossible value gets the message that says what is possible
    after_help = "Examples:\n  halite train --preset tiny --data docs src --steps 500 --out runs/tiny\n  \
                        halite train --config run.toml --device cpu\n  \
                        halite train --out runs/tiny --resume --steps 1000\n  \
                        halite train --from runs/tiny --data more.jsonl --lr 1e-4 --out runs/tuned"
)]
pub struct Train {
    /// Settings of the run; every option below takes precedence over the file
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    config: Option<PathBuf>,
    /// A model to start with random weights: tiny or small
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// A model folder to start from
    #[arg(long, value_name = "DIR", conflicts_with_all = ["preset", "resume"])]
    from: Option<PathBuf>,
    /// Text: files, folders, globs or .jsonl files
    #[arg(long, num_args = 1.., value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Train on the one batch train_ids [batch, tokens] of a safetensors file, every step, without
    /// balancing experts
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    ids_from: Option<PathBuf>,
    /// Where metrics and checkpoints go
    #[arg(long, default_value = "runs/halite", value_name = "DIR")]
    out: PathBuf,
    /// Go on from the latest checkpoint in --out
    #[arg(long)]
    resume: bool,
    /// Go on from this checkpoint in --out, such as step-500
    #[arg(long, value_name = "step-N", conflicts_with_all = ["resume", "from"])]
    resume_from: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    settings: Settings,
}

/// Settings that take precedence over the file's.
#[derive(clap::Args)]
struct Settings {
    /// Optimizer steps in all
    #[arg(long)]
    steps: Option<u64>,
    /// Seed of weights and data order
    #[arg(long)]
    seed: Option<u64>,
    /// bytes, bpe, or the path of a tokenizer.json
    #[arg(long)]
    tokenizer: Option<String>,
    /// Share of the text that is held out, in [0, 1)
    #[arg(long)]
    validation: Option<f64>,
    /// Tokens of a row
    #[arg(long)]
    seq_len: Option<usize>,
    /// Rows of a microbatch
    #[arg(long)]
    batch_size: Option<usize>,
    /// What tokens see: their own document or their whole row
    #[arg(long, value_parser = ["documents", "rows"])]
    packing: Option<String>,
    /// Microbatches of a step
    #[arg(long)]
    accumulation: Option<usize>,
    /// Highest learning rate
    #[arg(long)]
    lr: Option<f64>,
    /// Steps until it is reached
    #[arg(long)]
    warmup: Option<u64>,
    /// How the learning rate goes after that
    #[arg(long, value_parser = ["constant", "cosine", "wsd"])]
    schedule: Option<String>,
    /// Decay of the first moment
    #[arg(long)]
    beta1: Option<f32>,
    /// Decay of the second moment
    #[arg(long)]
    beta2: Option<f32>,
    /// Added to the root of the second moment
    #[arg(long)]
    eps: Option<f32>,
    /// Decoupled weight decay
    #[arg(long)]
    weight_decay: Option<f32>,
    /// Parameters that decay
    #[arg(long, value_parser = ["matrices", "all"])]
    decay: Option<String>,
    /// Largest gradient norm; 0 doesn't clip
    #[arg(long)]
    clip: Option<f32>,
    /// Validate every N steps; 0: at the end only
    #[arg(long, value_name = "N")]
    validate_every: Option<u64>,
    /// Save every N steps; 0: at the end only
    #[arg(long, value_name = "N")]
    save_every: Option<u64>,
    /// Checkpoints that are kept; 0: all
    #[arg(long, value_name = "N")]
    keep: Option<usize>,
}

/// The last part of the run in which a warmup-stable-decay schedule declines, when nothing else is said.
const WSD_DECAY_PART: u64 = 5;

impl Settings {
    fn apply(&self, config: &mut RunConfig) {
        fn set<T: Clone>(to: &mut T, from: &Option<T>) {
            if let Some(value) = from {
                *to = value.clone();
            }
        }
        let t = &mut config.training;
        set(&mut t.steps, &self.steps);
        set(&mut config.seed, &self.seed);
        set(&mut config.data.tokenizer, &self.tokenizer);
        set(&mut config.data.validation, &self.validation);
        set(&mut config.data.seq_len, &self.seq_len);
        set(&mut config.data.batch_size, &self.batch_size);
        set(&mut t.accumulation, &self.accumulation);
        set(&mut t.lr, &self.lr);
        set(&mut t.warmup_steps, &self.warmup);
        set(&mut t.beta1, &self.beta1);
        set(&mut t.beta2, &self.beta2);
        set(&mut t.eps, &self.eps);
        set(&mut t.weight_decay, &self.weight_decay);
        set(&mut t.clip, &self.clip);
        set(&mut t.validate_every, &self.validate_every);
        set(&mut t.save_every, &self.save_every);
        set(&mut t.keep, &self.keep);
        if let Some(name) = &self.schedule {
            t.schedule = match name.as_str() {
                "constant" => schedule::Decay::Constant,
                "cosine" => schedule::Decay::Cosine { min_ratio: 0.1 },
                _ => schedule::Decay::Wsd { decay_steps: t.steps / WSD_DECAY_PART, min_ratio: 0.1 },
            };
        }
        if let Some(name) = &self.decay {
            t.decay = if name == "all" { Decay::All } else { Decay::Matrices };
        }
        if let Some(name) = &self.packing {
            config.data.packing = if name == "rows" { Packing::Rows } else { Packing::Documents };
        }
    }
}

impl Train {
    pub fn run(self) -> Result<()> {
        let checkpoint = self.checkpoint()?;
        let config = self.config(checkpoint.as_ref())?;
        config.training.validate()?;
        let device = self.device.open()?;
        match &self.ids_from {
            Some(path) => self.on_batch(device, path, config, checkpoint.as_ref()),
            None => self.on_text(device, config, checkpoint.as_ref()),
        }
    }

    /// The checkpoint to go on from, if one was asked for.
    fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        let step = match &self.resume_from {
            Some(name) => Some(parse_step_name(name).ok_or_else(|| {
                Error::Usage(format!(
                    "--resume-from {name:?} is not the name of a checkpoint, such as step-500"
                ))
            })?),
            None => None,
        };
        if self.resume || step.is_some() {
            return Ok(Some(checkpoint::load(&self.out, step)?));
        }
        if holds_a_run(&self.out) {
            return Err(Error::Failed(format!(
                "{} holds a run already; go on with --resume, or choose another --out",
                self.out.display()
            )));
        }
        Ok(None)
    }

    /// The file's settings, or the checkpoint's, or the defaults, with this command line's on top.
    fn config(&self, checkpoint: Option<&Checkpoint>) -> Result<RunConfig> {
        let saved = checkpoint.map(|c| serde_json::from_value::<RunConfig>(c.state.run.clone())).transpose();
        let saved = saved.map_err(|_| halite::models::Error::State { what: "settings" })?;
        let fresh = self.config.is_some() || saved.is_none();
        let mut config = match (&self.config, &saved) {
            (Some(path), _) => settings_file(path)?,
            (None, Some(saved)) => saved.clone(),
            (None, None) => RunConfig::default(),
        };
        if fresh && self.ids_from.is_some() {
            config.training =
                TrainingConfig { warmup_steps: 0, balance: false, save_every: 0, ..config.training };
        }
        if let Some(preset) = &self.preset {
            (config.preset, config.model) = (Some(preset.clone()), None);
            if fresh && preset == "small" {
                config.data.tokenizer = "bpe".into();
            }
        }
        if !self.data.is_empty() {
            config.data.paths = self.data.clone();
        }
        if self.from.is_some() && config.model.is_some() {
            return Err(Error::Usage(
                "--from brings its own model: leave [model] out of the settings".into(),
            ));
        }
        self.settings.apply(&mut config);
        if let (Some(checkpoint), Some(saved)) = (checkpoint, &saved) {
            same_model(checkpoint, &config)?;
            if self.ids_from.is_none() {
                same_batches(saved, &config)?;
            }
        }
        Ok(config)
    }

    /// The model to start from, if one was named.
    fn open_from(&self) -> Result<Option<checkpoint::Model>> {
        Ok(self.from.as_deref().map(checkpoint::open_model).transpose()?)
    }

    fn on_batch(
        &self,
        device: Arc<dyn Device>,
        path: &Path,
        mut config: RunConfig,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<()> {
        let from = self.open_from()?;
        let vocab = match (checkpoint, &from) {
            (Some(c), _) => c.config.vocab_size,
            (None, Some(m)) => m.config.vocab_size,
            (None, None) => config.model()?.vocab_size,
        };
        let (batch, tokens) = train_ids(path, vocab)?;
        config.data.seq_len = tokens;
        let source = FixedBatch(batch);
        let files = match checkpoint.map(|c| &c.dir).or(self.from.as_ref()) {
            Some(dir) if model_folder(dir)?.join("tokenizer.json").exists() => {
                tokenizer_files(&tokenizer_of(dir)?)?
            }
            _ => Vec::new(),
        };
        let run = match (checkpoint, from) {
            (Some(c), _) => Run::resume(device.clone(), c, config, &source, None, files)?,
            (None, Some(m)) => {
                let model = Model::from_weights(device.clone(), m.config, &m.weights)?;
                Run::new(model, config, &source, None, files)?
            }
            (None, None) => {
                let model = Model::new(device.clone(), config.model()?, config.seed)?;
                Run::new(model, config, &source, None, files)?
            }
        };
        self.train(run, &*device)
    }

    fn on_text(
        &self,
        device: Arc<dyn Device>,
        config: RunConfig,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<()> {
        if config.data.paths.is_empty() {
            return Err(Error::Usage("no text to train on: give --data PATH…, or paths in the file".into()));
        }
        let from = self.open_from()?;
        let model = checkpoint.map(|c| &c.config).or(from.as_ref().map(|m| &m.config)).cloned();
        let folder = checkpoint.map(|c| &c.dir).or(self.from.as_ref());
        let tokenizer = folder.map(|dir| tokenizer_of(dir)).transpose()?;
        if model.is_none() {
            config.validate()?;
        }
        let prepared = Prepared::new(&config, model, tokenizer)?;
        let files = tokenizer_files(&prepared.tokenizer)?;
        let validation = prepared.validation.clone();
        let source: &dyn BatchSource = &prepared.train;
        let run = match (checkpoint, from) {
            (Some(c), _) => Run::resume(device.clone(), c, config, source, validation, files)?,
            (None, Some(m)) => {
                let model = Model::from_weights(device.clone(), prepared.model, &m.weights)?;
                Run::new(model, config, source, validation, files)?
            }
            (None, None) => {
                let model = Model::new(device.clone(), prepared.model, config.seed)?;
                Run::new(model, config, source, validation, files)?
            }
        };
        self.train(run, &*device)
    }

    fn train(&self, mut run: Run<'_>, device: &dyn Device) -> Result<()> {
        run.save_to(&self.out)?;
        let (total, active) = run.trainer.model.parameter_counts();
        note!("{total} parameters, {active} used by a token, on {}", device.info().name);
        let outcome = with_progress(&mut run)?;
        let (nats, bits) = outcome.validation.unzip();
        let state = if outcome.finished { "finished" } else { "stopped" };
        let saved = outcome.checkpoint.map_or("nothing to save".into(), |p| format!("saved {}", p.display()));
        if self.json {
            return output::json(&serde_json::json!({
                "steps": outcome.steps,
                "finished": outcome.finished,
                "out": self.out,
                "validation_loss": nats,
                "validation_bits_per_byte": bits,
                "peak_device_bytes": device.memory().peak,
                "peak_resident_bytes": output::peak_resident(),
            }));
        }
        if let (Some(nats), Some(bits)) = (nats, bits) {
            say!("validation loss {nats:.4} nats a token, {bits:.4} bits a byte")?;
        }
        say!("{state} after {} steps; {saved}", outcome.steps)?;
        say!("peak memory: {}", peak_memory(device))?;
        Ok(())
    }
}

/// A run goes on with the model that it has. Settings of a run that began with a given model name none.
fn same_model(checkpoint: &Checkpoint, now: &RunConfig) -> Result<()> {
    if now.preset.is_none() && now.model.is_none() {
        return Ok(());
    }
    let mut wanted = now.model()?;
    // The tokenizer's, where the settings have none.
    wanted.eos_token_ids.clone_from(&checkpoint.config.eos_token_ids);
    if wanted == checkpoint.config {
        return Ok(());
    }
    Err(Error::Failed(format!("the settings are of another model than {}", checkpoint.dir.display())))
}

/// A run goes on with the batches that it would have seen: what decides them can't be changed.
fn same_batches(started: &RunConfig, now: &RunConfig) -> Result<()> {
    let deciding = |c: &RunConfig| {
        [
            ("--seed", c.seed.to_string()),
            ("--seq-len", c.data.seq_len.to_string()),
            ("--batch-size", c.data.batch_size.to_string()),
            ("--accumulation", c.training.accumulation.to_string()),
            ("--validation", c.data.validation.to_string()),
            ("--packing", format!("{:?}", c.data.packing).to_lowercase()),
        ]
    };
    for ((option, was), (_, is)) in deciding(started).into_iter().zip(deciding(now)) {
        if was != is {
            return Err(Error::Failed(format!(
                "the run was started with {option} {was}, it can't go on with {is}"
            )));
        }
    }
    Ok(())
}

/// Whether a folder has something of a run: a checkpoint or metrics of a step. A run that failed before
/// its first step has left nothing that is worth keeping.
pub fn holds_a_run(dir: &Path) -> bool {
    let metrics = std::fs::metadata(dir.join("metrics.jsonl")).is_ok_and(|m| m.len() > 0);
    metrics || dir.join("latest").exists() || checkpoint::steps(dir).is_ok_and(|steps| !steps.is_empty())
}

/// The files that go beside each checkpoint.
pub fn tokenizer_files(tokenizer: &halite::models::tokenizer::Tokenizer) -> Result<Vec<(String, Vec<u8>)>> {
    Ok(vec![("tokenizer.json".into(), tokenizer.to_json()?.into_bytes())])
}

fn settings_file(path: &Path) -> Result<RunConfig> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::File {
        action: "read",
        path: path.into(),
        source,
    })?;
    toml::from_str(&text).map_err(|e: toml::de::Error| {
        let before = e.span().and_then(|span| text.get(..span.start));
        let line = before.map(|before| before.matches('\n').count() + 1);
        Error::Settings { path: path.into(), line, reason: e.message().into() }
    })
}

/// Device memory and, where the system tells, this process's.
pub fn peak_memory(device: &dyn Device) -> String {
    let on_device = output::size(device.memory().peak);
    match output::peak_resident() {
        Some(bytes) => format!("{on_device} in device buffers, {} resident", output::size(bytes)),
        None => format!("{on_device} in device buffers"),
    }
}

/// Runs to the end, or until Ctrl-C, with a progress bar.
pub fn with_progress(run: &mut Run<'_>) -> Result<Outcome> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    // Fails only when a handler is there already; then Ctrl-C does what that one says.
    let _ = ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        note!("\nstopping after this step; once more stops at once, without saving");
    });
    let bar = output::progress(run.steps(), "steps");
    bar.set_position(run.trainer.steps);
    let outcome = run.run(&|| stop.load(Ordering::Relaxed), &mut |event| {
        if let Event::Step(m) = event {
            bar.set_position(m.step);
            bar.set_message(format!("loss {:.4}, {:.0} tokens/s", m.loss, m.tokens_per_second));
            if let Some(bits) = m.validation_bits_per_byte {
                bar.suspend(|| note!("step {}: validation {bits:.4} bits a byte", m.step));
            }
        }
    })?;
    bar.finish_and_clear();
    Ok(outcome)
}
