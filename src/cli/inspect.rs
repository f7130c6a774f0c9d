//! `halite inspect`: what a model is made of; its logits and gradients as files, for comparison with other software.

mod model;

use super::DeviceArgs;
use super::error::{Error, Result};
use super::model::ModelArgs;
use halite::models::Error as ModelError;
use halite::models::data::Batch;
use halite::models::inference::{Decoder, Want};
use halite::models::model::WeightTypes;
use halite::models::training::{OptimizerOptions, Trainer};
use halite::models::weights::{TensorSource, Weights, save_tensors};
use std::path::PathBuf;

/// Tokens of the greedy continuation.
const GREEDY: usize = 16;

/// Say what a model is made of, or write its numbers to a file, to compare with other software
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  halite inspect logits --model DIR --ids-from reference.safetensors --out ours.safetensors"
)]
pub struct Inspect {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Model(model::InspectModel),
    /// For each int64 tensor input_ids.N write f32 logits.N [tokens, vocab] and int64 greedy.N [16]
    #[command(
        after_help = "Example:\n  halite inspect logits --model DIR --ids-from reference.safetensors --out ours.safetensors"
    )]
    Logits {
        #[command(flatten)]
        files: Files,
        /// Token by token through the cache
        #[arg(long)]
        decode: bool,
    },
    /// Write the loss on train_ids [batch, tokens] and the gradient of every parameter
    #[command(
        after_help = "Example:\n  halite inspect grads --model DIR --ids-from train.safetensors --out ours.safetensors"
    )]
    Grads {
        #[command(flatten)]
        files: Files,
    },
}

#[derive(clap::Args)]
struct Files {
    #[command(flatten)]
    model: ModelArgs,
    /// A safetensors file with token ids
    #[arg(long, value_name = "FILE")]
    ids_from: PathBuf,
    /// The safetensors file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
}

impl Inspect {
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Model(c) => c.run(),
            Command::Logits { files, decode } => logits(&files, decode),
            Command::Grads { files } => grads(&files),
        }
    }
}

fn logits(files: &Files, decode: bool) -> Result<()> {
    let input = Weights::open_file(&files.ids_from)?;
    let names: Vec<&str> = input.names().filter_map(|n| n.strip_prefix("input_ids.")).collect();
    if names.is_empty() {
        return Err(Error::Failed(format!("{} has no tensor input_ids.N", files.ids_from.display())));
    }
    let (_, model) = files.model.load(files.device.open()?, WeightTypes::Stored)?;
    let vocab = model.config.vocab_size;
    let mut results: Vec<(&str, Vec<f32>, Vec<i64>)> = Vec::new();
    for name in names {
        let tensor = input.tensor(&format!("input_ids.{name}"))?;
        if tensor.shape.len() != 1 {
            let found = tensor.shape;
            return Err(Error::Failed(format!("input_ids.{name} has shape {found:?}, needs [tokens]")));
        }
        let ids = token_ids(&tensor.to_i64()?, vocab)?;
        if ids.is_empty() {
            return Err(ModelError::EmptyPrompt.into());
        }
        // The last of the greedy tokens isn't fed.
        let mut decoder = Decoder::new(&model, ids.len() + GREEDY - 1)?;
        let mut logits = Vec::new();
        for piece in ids.chunks(if decode { 1 } else { ids.len() }) {
            logits.extend(decoder.feed(piece, Want::All)?.logits);
        }
        let greedy = decoder.greedy(&logits, GREEDY)?.into_iter().map(i64::from).collect();
        results.push((name, logits, greedy));
    }
    let mut out = TensorSource::new();
    for (name, logits, greedy) in &results {
        out.push_f32(format!("logits.{name}"), &[logits.len() / vocab, vocab], logits);
        out.push_i64(format!("greedy.{name}"), &[greedy.len()], greedy);
    }
    Ok(save_tensors(&files.out, out)?)
}

/// Ids that the model has.
pub fn token_ids(ids: &[i64], vocab_size: usize) -> Result<Vec<u32>> {
    let check = |&id: &i64| match u32::try_from(id) {
        Ok(small) if (small as usize) < vocab_size => Ok(small),
        _ => Err(Error::Models(ModelError::TokenId { id, vocab_size })),
    };
    ids.iter().map(check).collect()
}

/// The batch that the tensor `train_ids [batch, tokens]` of a file holds, and its row length.
pub fn train_ids(path: &std::path::Path, vocab_size: usize) -> Result<(Batch, usize)> {
    let input = Weights::open_file(path)?;
    let missing = || Error::Failed(format!("{} has no tensor train_ids", path.display()));
    let tensor = input.get("train_ids").ok_or_else(missing)?;
    let &[rows, tokens] = tensor.shape else {
        let found =
            format!("{}: train_ids has shape {:?}, needs [batch, tokens]", path.display(), tensor.shape);
        return Err(Error::Failed(found));
    };
    let ids = token_ids(&tensor.to_i64()?, vocab_size)?;
    let ids: Vec<i32> = ids.into_iter().map(|id| id as i32).collect();
    Ok((Batch::rows(&ids, rows), tokens))
}

fn grads(files: &Files) -> Result<()> {
    let (_, model) = files.model.load(files.device.open()?, WeightTypes::F32)?;
    let (batch, tokens) = train_ids(&files.ids_from, model.config.vocab_size)?;
    let options = OptimizerOptions { balance: false, ..Default::default() };
    let mut trainer = Trainer::new(model, options, tokens)?;
    let loss = [trainer.gradients_of(std::slice::from_ref(&batch))?.loss as f32];
    let mut grads: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    trainer.gradients().for_each(&trainer.model.table, |spec, values| {
        if spec.trainable {
            grads.push((spec.name.clone(), spec.shape.clone(), values.to_vec()));
        }
        Ok(())
    })?;
    let mut out = TensorSource::new();
    out.push_f32("loss", &[], &loss);
    for (name, shape, values) in &grads {
        out.push_f32(name.clone(), shape, values);
    }
    Ok(save_tensors(&files.out, out)?)
}
