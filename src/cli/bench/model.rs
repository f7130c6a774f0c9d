//! `halite bench model`

use super::{Measuring, duration, times};
use crate::cli::error::Result;
use crate::cli::model::load;
use crate::cli::output::{self, say};
use halite::models;
use halite::models::ModelFiles;
use halite::models::config::ModelConfig;
use halite::models::model::{Model, WeightTypes};
use halite_bench::{Row, Speed, Subject, model};
use std::path::PathBuf;

/// Time a model: a prompt (ppN), generation (tgN) and a training step
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  halite bench model --preset small -p 512 -n 64\n  \
                        halite bench model --model runs/tiny --batch-size 0 --json\n\n\
                        A size of 0 leaves its test out.")]
pub struct ModelArgs {
    /// A model with random weights: tiny or small
    #[arg(long, default_value = "tiny", value_name = "NAME")]
    preset: String,
    /// A model folder, a GGUF file, or the folder of a training run; its weights are f32 if a training step is timed
    #[arg(long, value_name = "PATH", conflicts_with = "preset")]
    model: Option<PathBuf>,
    /// Tokens of the prompt [default: 128, with --quick 8]
    #[arg(long, short, value_name = "N")]
    prompt: Option<usize>,
    /// Tokens to generate [default: 32, with --quick 4]
    #[arg(long, short = 'n', value_name = "N")]
    generate: Option<usize>,
    /// Rows of a training batch [default: 8, with --quick 2]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Tokens of a row [default: 128, with --quick 8]
    #[arg(long, value_name = "N")]
    seq_len: Option<usize>,
    #[command(flatten)]
    measuring: Measuring,
}

impl ModelArgs {
    pub fn run(self) -> Result<()> {
        let m = &self.measuring;
        let or = |given: Option<usize>, usual, quick| given.unwrap_or(if m.quick { quick } else { usual });
        let options = model::Options {
            prompt: or(self.prompt, 128, 8),
            generate: or(self.generate, 32, 4),
            batch_size: or(self.batch_size, 8, 2),
            seq_len: or(self.seq_len, 128, 8),
            quick: m.quick,
            samples: m.samples.into(),
            conformance: !m.no_conformance,
        };
        let devices = m.open()?;
        let bar = output::progress((options.count() * devices.len()) as u64, "tests");
        let mut reports = Vec::new();
        for device in devices {
            bar.set_message(device.info().selector.clone());
            let (model, name) = match &self.model {
                Some(path) => {
                    // A training step needs f32; without one, weights are as they are stored.
                    let types = if options.batch_size == 0 { WeightTypes::Stored } else { WeightTypes::F32 };
                    (load(&ModelFiles::open(path)?, device, types)?, path.display().to_string())
                }
                None => {
                    let unknown = || models::Error::Preset { name: self.preset.clone() };
                    let config = ModelConfig::preset(&self.preset).ok_or_else(unknown)?;
                    (Model::new(device, config, 0)?, self.preset.clone())
                }
            };
            reports.push(model::run(&model, &name, &m.host(), &options, || bar.inc(1))?);
        }
        bar.finish_and_clear();
        m.finish(&reports, print)
    }
}

fn print(rows: &[Row]) -> Result<()> {
    let heading = ["model", "parameters", "test", "tokens/s", "median", "spread", "clock"];
    let mut table = vec![heading.map(String::from).to_vec()];
    for row in rows {
        let Subject::Model { model_filename, model_n_params, .. } = &row.subject else { continue };
        let speed = match &row.speed {
            Some(Speed::Tokens { median_ts, .. }) => format!("{median_ts:.1}"),
            _ => "-".into(),
        };
        let subject = [model_filename.clone(), model_n_params.to_string(), row.test.clone(), speed];
        table.push(subject.into_iter().chain(times(row.timing.as_ref())).collect());
    }
    output::table(&table)?;
    for (row, replay) in rows.iter().filter_map(|r| Some((r, r.replay?))) {
        let wall = duration(replay.wall_ns);
        match (replay.kernels, replay.kernels_ns, replay.overhead_ratio) {
            (Some(n), Some(sum), Some(ratio)) => {
                let sum = duration(sum);
                say!("{}: a replayed step takes {wall}, {ratio:.2} times its {n} kernels' {sum}", row.test)?;
            }
            _ => say!("{}: a replayed step takes {wall}; the device has no clock for its kernels", row.test)?,
        }
    }
    Ok(())
}
