//! `halite demo`: trains a small model, then runs it on every device and compares.

mod compare;

use super::DeviceArgs;
use super::error::{Error, Result};
use super::output::{self, note, say};
use super::train::{holds_a_run, peak_memory, tokenizer_files, with_progress};
use halite::hal::Device;
use halite::models::checkpoint;
use halite::models::data::bigram_bits_per_byte;
use halite::models::model::Model;
use halite::models::training::{DataConfig, Prepared, Run, RunConfig, Trainer, TrainingConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Train a tiny mixture of experts for about a minute, then compare all devices with it
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  halite demo\n  halite demo --data ~/notes --seconds 120")]
pub struct Demo {
    /// Text to train on [default: Halite's own sources and documents]
    #[arg(long, num_args = 1.., value_name = "PATH")]
    data: Vec<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    /// How long to train, about
    #[arg(long, default_value_t = 60.0, value_parser = positive)]
    seconds: f64,
    /// Train for so many steps instead
    #[arg(long)]
    steps: Option<u64>,
    /// Seed of weights and data order
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where the trained model goes; an earlier demo's is replaced
    #[arg(long, default_value = "runs/demo", value_name = "DIR")]
    out: PathBuf,
    /// Print JSON at the end
    #[arg(long)]
    json: bool,
}

/// In the folder of a demo's run, which the next demo may replace.
const MARKER: &str = ".demo";

/// Bytes of held-out text that the devices continue.
const PROMPT: usize = 128;

impl Demo {
    pub fn run(self) -> Result<()> {
        let device = self.device.open()?;
        let mut config = RunConfig {
            preset: Some("tiny".into()),
            seed: self.seed,
            data: DataConfig { paths: self.paths()?, seq_len: 128, batch_size: 16, ..DataConfig::default() },
            training: TrainingConfig { lr: 4e-3, validate_every: 0, ..TrainingConfig::default() },
            ..RunConfig::default()
        };
        let prepared = Prepared::new(&config, None, None)?;
        config.training.steps = match self.steps {
            Some(steps) => steps,
            None => steps_in(&device, &prepared, &config, self.seconds)?,
        };
        let model = Model::new(device.clone(), prepared.model.clone(), self.seed)?;
        let (total, active) = model.parameter_counts();
        note!(
            "training {total} parameters ({active} used by a token) for {} steps on {}",
            config.training.steps,
            device.info().name
        );
        let files = tokenizer_files(&prepared.tokenizer)?;
        let validation = prepared.validation.clone();
        let mut run = Run::new(model, config, &prepared.train, validation, files)?;
        replace_demo(&self.out)?;
        run.save_to(&self.out)?;
        let marker = self.out.join(MARKER);
        std::fs::write(&marker, "").map_err(|source| Error::File {
            action: "write",
            path: marker,
            source,
        })?;
        let started = Instant::now();
        let outcome = with_progress(&mut run)?;
        let seconds = started.elapsed().as_secs_f64();
        let memory = peak_memory(&*device);
        drop(run);

        let (_, bits) =
            outcome.validation.ok_or_else(|| Error::Failed("stopped before the validation".into()))?;
        let bigram = bigram_bits_per_byte(&prepared.train_texts, &prepared.validation_texts)?;
        let rows = compare::all_devices(&self.out, &prompt(&prepared)?, &self.device.options()?)?;
        if self.json {
            output::json(&serde_json::json!({
                "steps": outcome.steps,
                "seconds": seconds,
                "validation_bits_per_byte": bits,
                "bigram_bits_per_byte": bigram,
                "devices": rows,
            }))?;
            return compare::verdict(&rows);
        }
        say!("trained {} steps in {seconds:.0} s; peak memory {memory}", outcome.steps)?;
        say!("validation: {bits:.3} bits a byte; a byte-bigram model of the same text: {bigram:.3}")?;
        say!("model saved in {}\n", self.out.display())?;
        compare::print(&rows)?;
        compare::verdict(&rows)
    }

    /// The text to train on: what was asked for, or Halite's own.
    fn paths(&self) -> Result<Vec<PathBuf>> {
        if !self.data.is_empty() {
            return Ok(self.data.clone());
        }
        let built_in = Path::new(env!("CARGO_MANIFEST_DIR"));
        let home = if built_in.join("hal/src").is_dir() { built_in } else { Path::new(".") };
        let own = [
            "hal/src",
            "backends",
            "models/src",
            "bench-suite",
            "src",
            "docs",
            "README.md",
            "CONTRIBUTING.md",
        ];
        let paths: Vec<PathBuf> = own.iter().map(|p| home.join(p)).filter(|p| p.exists()).collect();
        if paths.is_empty() {
            return Err(Error::Usage("Halite's sources aren't here; give --data PATH…".into()));
        }
        Ok(paths)
    }
}

/// The beginning of the longest text that was held out.
fn prompt(prepared: &Prepared) -> Result<Vec<u32>> {
    let text = prepared.validation_texts.iter().max_by_key(|t| t.len()).map_or("fn ", |t| t.as_str());
    let end = (0..=PROMPT.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    Ok(prepared.tokenizer.encode(&text[..end], true)?)
}

/// A number of seconds.
fn positive(text: &str) -> std::result::Result<f64, String> {
    match text.parse() {
        Ok(seconds) if seconds > 0.0 && f64::is_finite(seconds) => Ok(seconds),
        _ => Err("needs a number above 0".into()),
    }
}

/// How many steps take about `seconds`, by the time of two passes without a step.
fn steps_in(device: &Arc<dyn Device>, prepared: &Prepared, config: &RunConfig, seconds: f64) -> Result<u64> {
    let model = Model::new(device.clone(), prepared.model.clone(), config.seed)?;
    let mut trainer = Trainer::new(model, config.training.optimizer(), config.data.seq_len)?;
    let batch = [prepared.train.batch(0)];
    trainer.gradients_of(&batch)?;
    let started = Instant::now();
    trainer.gradients_of(&batch)?;
    let step = started.elapsed().as_secs_f64().max(1e-4);
    Ok(((seconds / step) as u64).clamp(50, 5000))
}

/// Removes an earlier demo's run, and nothing else that is in its folder; any other run is an error.
fn replace_demo(out: &Path) -> Result<()> {
    if !holds_a_run(out) {
        return Ok(());
    }
    if !out.join(MARKER).exists() {
        let other = format!("{} holds a run that is not a demo's; choose another --out", out.display());
        return Err(Error::Failed(other));
    }
    let failed = |source| Error::File { action: "replace", path: out.into(), source };
    for step in checkpoint::steps(out)? {
        std::fs::remove_dir_all(out.join(checkpoint::step_name(step))).map_err(failed)?;
    }
    for file in ["latest", "metrics.jsonl"].map(|name| out.join(name)).iter().filter(|f| f.exists()) {
        std::fs::remove_file(file).map_err(failed)?;
    }
    Ok(())
}
