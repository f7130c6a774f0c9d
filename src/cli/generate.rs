//! `halite generate`

use super::DeviceArgs;
use super::error::{Error, Result};
use super::model::{CacheArgs, ModelArgs};
use super::output::{self, note, say};
use super::sampling::SamplingArgs;
use halite::models::inference::{GenerateOptions, Generation, Generator};
use halite::models::model::WeightTypes;
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;

/// Continue one or more texts
///
/// Several texts are generated at once, each as it would be alone, and printed in the end.
#[derive(clap::Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "Examples:\n  halite generate --model runs/tiny --prompt 'fn main() {'\n  \
                        halite generate --model runs/tiny --prompt 'The ' --temperature 0.8 --top-p 0.95 --seed 7\n  \
                        halite generate --model runs/tiny --prompts questions.txt --n 4 --temperature 0.8 --json"
)]
pub struct Generate {
    #[command(flatten)]
    model: ModelArgs,
    /// The text to continue; may be given several times
    #[arg(long = "prompt", value_name = "TEXT", required_unless_present = "file")]
    prompts: Vec<String>,
    /// More texts to continue, each line of this file one
    #[arg(long = "prompts", value_name = "FILE")]
    file: Option<PathBuf>,
    /// Samples of each prompt; sample i is the same for any number of them
    #[arg(long = "n", value_name = "SAMPLES", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    cache: CacheArgs,
    /// Tokens to generate at most, for each text
    #[arg(long, short = 'n', default_value_t = 128)]
    max_new_tokens: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// End before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// With --json: the log-probability of each token, and those of the K likeliest ones, before temperature,
    /// penalties and filters
    #[arg(long, value_name = "K", requires = "json")]
    logprobs: Option<usize>,
    /// Print JSON at the end instead of text as it comes: an object, or a list of them where there are several
    /// prompts or samples
    #[arg(long)]
    json: bool,
}

/// One of several texts.
#[derive(Serialize)]
struct Labelled<'a> {
    prompt: &'a str,
    sample: u32,
    #[serde(flatten)]
    generation: &'a Generation,
}

impl Generate {
    pub fn run(mut self) -> Result<()> {
        self.read_prompts()?;
        let device = self.device.open()?;
        // The model first: that of a checkpoint is compared with its manifest, its tokenizer too.
        let (files, mut model) = self.model.load(device, WeightTypes::Stored)?;
        let tokenizer = files.tokenizer()?;
        let options = GenerateOptions {
            sampling: self.sampling.options(&mut model, &files)?,
            max_new_tokens: self.max_new_tokens,
            stop: std::mem::take(&mut self.stop),
            logprobs: self.logprobs,
            cache_type: self.cache.cache_type,
        };
        let generator = Generator::new(&model, &tokenizer)?;
        match self.prompts.as_slice() {
            [prompt] if self.samples == 1 => self.one(&generator, prompt, &options),
            prompts => self.several(&generator, prompts, &options),
        }
    }

    fn read_prompts(&mut self) -> Result<()> {
        if let Some(path) = &self.file {
            let read = |source| Error::File { action: "read", path: path.clone(), source };
            let text = std::fs::read_to_string(path).map_err(read)?;
            self.prompts.extend(text.lines().filter(|l| !l.is_empty()).map(String::from));
            if self.prompts.is_empty() {
                return Err(Error::Failed(format!("{} has no prompt, only empty lines", path.display())));
            }
        }
        Ok(())
    }

    /// Prints the text as it comes.
    fn one(&self, generator: &Generator<'_>, prompt: &str, options: &GenerateOptions) -> Result<()> {
        let mut out = std::io::stdout().lock();
        let mut failed = None;
        // The prompt comes with the first piece, when nothing can be wrong with the command any more.
        let mut before = Some(prompt);
        let generation = generator.generate(prompt, options, |text| {
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
        note!("{}", speed(&[generation]));
        Ok(())
    }

    /// Prints all texts in the end, each below a line that says which it is.
    fn several(
        &self,
        generator: &Generator<'_>,
        prompts: &[String],
        options: &GenerateOptions,
    ) -> Result<()> {
        let prompts: Vec<&str> = prompts.iter().map(String::as_str).collect();
        let all = generator.generate_all(&prompts, self.samples, options, |_, _| true)?;
        let labelled = |(i, generation)| {
            let samples = self.samples as usize;
            Labelled { prompt: prompts[i / samples], sample: (i % samples) as u32, generation }
        };
        let texts: Vec<Labelled<'_>> = all.iter().enumerate().map(labelled).collect();
        if self.json {
            return output::json(&texts);
        }
        for (i, text) in texts.iter().enumerate() {
            let which = i / self.samples as usize;
            say!(
                "=== prompt {which}, sample {} ===\n{}{}\n",
                text.sample,
                text.prompt,
                text.generation.text
            )?;
        }
        note!("{}", speed(&all));
        Ok(())
    }
}

/// A line of speeds, of texts that were generated together.
fn speed(all: &[Generation]) -> String {
    let sum = |of: fn(&Generation) -> usize| all.iter().map(of).sum::<usize>();
    let (prompts, tokens) = (sum(|g| g.prompt_tokens), sum(|g| g.tokens.len()));
    // The first token of each text comes with its prompt.
    let decoded = sum(|g| g.tokens.len().saturating_sub(1));
    let seconds = |of: fn(&Generation) -> f64| all.first().map_or(0.0, of);
    format!(
        "prompt {prompts} tokens, {:.1} tokens/s; generated {tokens} tokens, {:.1} tokens/s",
        rate(prompts, seconds(|g| g.prefill_seconds)),
        rate(decoded, seconds(|g| g.decode_seconds)),
    )
}

/// So many a second.
pub fn rate(n: usize, seconds: f64) -> f64 {
    if seconds > 0.0 { n as f64 / seconds } else { 0.0 }
}
