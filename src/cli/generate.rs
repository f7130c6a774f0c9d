//! `halite generate`

use super::DeviceArgs;
use super::error::{Error, Result};
use super::model::ModelArgs;
use super::output::{self, note};
use super::sampling::SamplingArgs;
use halite::models::inference::{GenerateOptions, Generation, Generator};
use halite::models::model::WeightTypes;
use std::io::Write;

/// Continue a text
#[derive(clap::Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "Examples:\n  halite generate --model runs/tiny --prompt 'fn main() {'\n  \
                        halite generate --model runs/tiny --prompt 'The ' --temperature 0.8 --top-p 0.95 --seed 7"
)]
pub struct Generate {
    #[command(flatten)]
    model: ModelArgs,
    /// The text to continue
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    #[command(flatten)]
    device: DeviceArgs,
    /// Tokens to generate at most
    #[arg(long, short = 'n', default_value_t = 128)]
    max_new_tokens: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// End before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Print JSON at the end instead of text as it comes
    #[arg(long)]
    json: bool,
}

impl Generate {
    pub fn run(self) -> Result<()> {
        let device = self.device.open()?;
        // The model first: that of a checkpoint is compared with its manifest, its tokenizer too.
        let (files, mut model) = self.model.load(device, WeightTypes::Stored)?;
        let tokenizer = files.tokenizer()?;
        let options = GenerateOptions {
            sampling: self.sampling.options(&mut model, &files)?,
            max_new_tokens: self.max_new_tokens,
            stop: self.stop,
        };
        let generator = Generator::new(&model, &tokenizer)?;
        let mut out = std::io::stdout().lock();
        let mut failed = None;
        // The prompt comes with the first piece, when nothing can be wrong with the command any more.
        let mut before = Some(self.prompt.as_str());
        let generation = generator.generate(&self.prompt, &options, |text| {
            if self.json {
                return true;
            }
            let prompt = before.take().unwrap_or_default();
            let written = write!(out, "{prompt}{text}").and_then(|()| out.flush());
            failed = written.err();
            failed.is_none()
        })?;
        if let Some(e) = failed {
            return Err(Error::Output(e));
        }
        if self.json {
            drop(out);
            return output::json(&generation);
        }
        writeln!(out, "{}", before.unwrap_or_default())?;
        note!("{}", speed(&generation));
        Ok(())
    }
}

/// A line of speeds.
fn speed(g: &Generation) -> String {
    format!(
        "prompt {} tokens, {:.1} tokens/s; generated {} tokens, {:.1} tokens/s",
        g.prompt_tokens,
        rate(g.prompt_tokens, g.prefill_seconds),
        g.tokens.len(),
        // The first token comes with the prompt.
        rate(g.tokens.len().saturating_sub(1), g.decode_seconds),
    )
}

/// So many a second.
pub fn rate(n: usize, seconds: f64) -> f64 {
    if seconds > 0.0 { n as f64 / seconds } else { 0.0 }
}
