//! How tokens are chosen: the arguments of `generate` and `chat`, and what a model folder says.

use super::error::Result;
use halite::models::ModelFiles;
use halite::models::config::GenerationConfig;
use halite::models::model::Model;
use halite::models::sampling::SamplingOptions;

/// What isn't given is as the model's generation_config.json says.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Sampling (what isn't given is as the model's generation_config.json says)")]
pub struct SamplingArgs {
    /// 0 takes the likeliest token always [default: 0]
    #[arg(long)]
    temperature: Option<f32>,
    /// Keep the K likeliest tokens; 0 keeps all [default: 0]
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Keep the likeliest tokens that have this probability together [default: 1]
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Keep tokens with this share of the likeliest one's probability [default: 0]
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,
    /// Make tokens that came before less likely; 1 doesn't [default: 1]
    #[arg(long)]
    repetition_penalty: Option<f32>,
    /// Seed of the random choices
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl SamplingArgs {
    /// The options for a model from these files, which also learns of the tokens that end its texts.
    pub fn options(&self, model: &mut Model, files: &ModelFiles) -> Result<SamplingOptions> {
        let said = match files {
            ModelFiles::Folder(folder) => GenerationConfig::open_folder(&folder.dir)?,
            ModelFiles::Gguf(_) => GenerationConfig::default(),
        };
        model.config.eos_token_ids.extend(&said.eos_token_ids);
        let default = SamplingOptions { temperature: 0.0, ..SamplingOptions::default() };
        let default = said.sampling().unwrap_or(default);
        Ok(SamplingOptions {
            temperature: self.temperature.unwrap_or(default.temperature),
            top_k: self.top_k.unwrap_or(default.top_k),
            top_p: self.top_p.unwrap_or(default.top_p),
            min_p: self.min_p.unwrap_or(default.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(default.repetition_penalty),
            seed: self.seed,
        })
    }
}
