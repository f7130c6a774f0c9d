//! `halite perplexity`

use super::DeviceArgs;
use super::error::{Error, Result};
use super::model::{CacheArgs, ModelArgs};
use super::output::{self, say};
use halite::models::inference::perplexity;
use halite::models::model::WeightTypes;
use std::path::PathBuf;

/// Tell how well a model foretells a text
///
/// Counted as llama-perplexity does: windows of the context's length, the second half of each is scored.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  halite perplexity --model model.gguf --text wiki.test.raw")]
pub struct Perplexity {
    #[command(flatten)]
    model: ModelArgs,
    /// The text, UTF-8
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    cache: CacheArgs,
    /// Tokens of a window
    #[arg(long, value_name = "TOKENS", default_value_t = 512)]
    context: usize,
    /// Windows at most; 0 takes the whole text
    #[arg(long, value_name = "N", default_value_t = 0)]
    windows: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Perplexity {
    pub fn run(self) -> Result<()> {
        let read = |source| Error::File { action: "read", path: self.text.clone(), source };
        let text = std::fs::read_to_string(&self.text).map_err(read)?;
        let (files, model) = self.model.load(self.device.open()?, WeightTypes::Stored)?;
        let tokenizer = files.tokenizer()?;
        let tokens = tokenizer.encode(&text, true)?;
        let bos = tokenizer.bos_id().filter(|bos| tokens.first() == Some(bos));
        let all = tokens.len() / self.context.max(1);
        let windows = if self.windows == 0 { all } else { self.windows.min(all) };
        let bar = output::progress(windows as u64, "windows");
        let found = perplexity(&model, &tokens, bos, self.context, self.cache.cache_type, |so_far| {
            bar.set_position(so_far.windows as u64);
            bar.set_message(format!("{:.4}", so_far.perplexity));
            so_far.windows < windows
        });
        bar.finish_and_clear();
        let found = found?;
        if self.json {
            return output::json(&found);
        }
        let halite::models::inference::Perplexity { perplexity, error, tokens, windows, .. } = found;
        say!(
            "perplexity {perplexity:.4} +/- {error:.4} ({tokens} tokens in {windows} windows of {})",
            self.context
        )
    }
}
