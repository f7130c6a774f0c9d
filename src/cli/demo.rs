//! `halite demo`: trains a small model, then runs it on every device and compares.

use super::DeviceArgs;
use super::error::{Error, Result};
use super::output::{self, note, say};
use super::train::{holds_a_run, peak_memory, tokenizer_files, with_progress};
use halite::hal::{Device, DeviceInfo};
use halite::models::checkpoint;
use halite::models::data::bigram_bits_per_byte;
use halite::models::inference::{Decoder, Want};
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

/// Bytes of held-out text that the devices continue, and tokens that they generate.
const PROMPT: usize = 128;
const NEW_TOKENS: usize = 64;

/// One device's part of the comparison.
#[derive(serde::Serialize)]
struct Row {
    device: String,
    name: String,
    /// Why the device couldn't run the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    comparison: Option<Comparison>,
}

/// A device's speed, and how far it is from the CPU.
#[derive(serde::Serialize)]
struct Comparison {
    prefill_tokens_per_second: f64,
    decode_tokens_per_second: f64,
    max_logit_difference: f64,
    mean_kl: f64,
    same_tokens: bool,
    router_agreement: f64,
}

/// What a device made of the prompt.
struct Answer {
    logits: Vec<f32>,
    experts: Vec<Vec<i32>>,
    tokens: Vec<u32>,
    prefill_seconds: f64,
    decode_seconds: f64,
}

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
        let rows = self.compare(&prepared)?;
        if self.json {
            return output::json(&serde_json::json!({
                "steps": outcome.steps,
                "seconds": seconds,
                "validation_bits_per_byte": bits,
                "bigram_bits_per_byte": bigram,
                "devices": rows,
            }));
        }
        say!("trained {} steps in {seconds:.0} s; peak memory {memory}", outcome.steps)?;
        say!("validation: {bits:.3} bits a byte; a byte-bigram model of the same text: {bigram:.3}")?;
        say!("model saved in {}\n", self.out.display())?;
        print(&rows)
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

    /// Runs the trained model on every device; the CPU is what the others are compared with.
    fn compare(&self, prepared: &Prepared) -> Result<Vec<Row>> {
        let text = prepared.validation_texts.iter().max_by_key(|t| t.len()).map_or("fn ", |t| t.as_str());
        let end = (0..=PROMPT.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        let prompt = prepared.tokenizer.encode(&text[..end], true)?;
        let registry = halite::registry();
        let options = self.device.options()?;
        let run = |selector: &str| -> Result<Answer> {
            let device = registry.open(selector, &options)?;
            answer(&Model::open(device, &self.out)?, &prompt)
        };
        let answers: Vec<_> = registry.find("all")?.into_iter().map(|i| (run(&i.selector), i)).collect();
        // Without the CPU backend, the first device that answers is what the others are compared with.
        let mut answered = answers.iter().filter_map(|(a, info)| Some((info, a.as_ref().ok()?)));
        let base = answered.clone().find(|(info, _)| info.backend == "cpu").or_else(|| answered.next());
        let vocab = prepared.model.vocab_size;
        let row = |(answer, info): &(Result<Answer>, DeviceInfo)| Row {
            device: info.selector.clone(),
            name: info.name.clone(),
            error: answer.as_ref().err().map(Error::to_string),
            comparison: answer.as_ref().ok().zip(base).map(|(a, (_, b))| compare(a, b, prompt.len(), vocab)),
        };
        Ok(answers.iter().map(row).collect())
    }
}

/// What `a` says of a prompt of `tokens` tokens, beside what `b` says.
fn compare(a: &Answer, b: &Answer, tokens: usize, vocab: usize) -> Comparison {
    let differences = a.logits.iter().zip(&b.logits).map(|(x, y)| f64::from(x - y).abs());
    Comparison {
        prefill_tokens_per_second: tokens as f64 / a.prefill_seconds,
        // The first token comes with the prompt.
        decode_tokens_per_second: (a.tokens.len() - 1) as f64 / a.decode_seconds,
        max_logit_difference: differences.fold(0.0, f64::max),
        mean_kl: mean_kl(&b.logits, &a.logits, vocab),
        same_tokens: a.tokens == b.tokens,
        router_agreement: agreement(&a.experts, &b.experts),
    }
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

fn answer(model: &Model, prompt: &[u32]) -> Result<Answer> {
    let mut decoder = Decoder::new(model, prompt.len() + NEW_TOKENS)?;
    // Once to prepare, so that compilation isn't timed.
    decoder.feed(prompt, Want::Routing)?;
    decoder.truncate(0);
    let started = Instant::now();
    let fed = decoder.feed(prompt, Want::Routing)?;
    let prefill_seconds = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let tokens = decoder.greedy(&fed.logits, NEW_TOKENS)?;
    let decode_seconds = started.elapsed().as_secs_f64();
    Ok(Answer { logits: fed.logits, experts: fed.experts, tokens, prefill_seconds, decode_seconds })
}

/// Mean over rows of Σ p·(ln p − ln q), in nats, p and q the softmax of `p` and `q`.
fn mean_kl(p: &[f32], q: &[f32], vocab: usize) -> f64 {
    let log_softmax = |row: &[f32]| {
        let max = row.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = row.iter().map(|&x| f64::from(x - max).exp()).sum();
        row.iter().map(|&x| f64::from(x - max) - sum.ln()).collect::<Vec<f64>>()
    };
    let rows = p.chunks(vocab).zip(q.chunks(vocab));
    let kl = rows.map(|(p, q)| {
        let (p, q) = (log_softmax(p), log_softmax(q));
        p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>()
    });
    kl.sum::<f64>() / (p.len() / vocab).max(1) as f64
}

/// Share of the choices of experts that are the same.
fn agreement(a: &[Vec<i32>], b: &[Vec<i32>]) -> f64 {
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    let total = pairs.clone().count();
    pairs.filter(|(x, y)| x == y).count() as f64 / total.max(1) as f64
}

fn print(rows: &[Row]) -> Result<()> {
    let heading = [
        "device",
        "prefill tok/s",
        "decode tok/s",
        "max logit diff",
        "mean KL",
        "same tokens",
        "router agreement",
        "name",
    ];
    let mut table = vec![heading.map(String::from).to_vec()];
    for r in rows {
        let mut row = vec![r.device.clone()];
        match &r.comparison {
            Some(c) => row.extend([
                format!("{:.0}", c.prefill_tokens_per_second),
                format!("{:.0}", c.decode_tokens_per_second),
                format!("{:.2e}", c.max_logit_difference),
                format!("{:.2e}", c.mean_kl),
                if c.same_tokens { "yes".into() } else { "no".into() },
                format!("{:.2}%", 100.0 * c.router_agreement),
            ]),
            None => row.extend(["-"; 6].map(String::from)),
        }
        row.push(r.name.clone());
        table.push(row);
    }
    output::table(&table)?;
    for r in rows {
        if let Some(error) = &r.error {
            return Err(Error::Failed(format!("{} can't run the model: {error}", r.device)));
        }
    }
    Ok(())
}
