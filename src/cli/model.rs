//! The model that a command works with.

use super::error::Result;
use super::output;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use halite::hal::{DType, Device};
use halite::models::ModelFiles;
use halite::models::checkpoint::model_folder;
use halite::models::model::{Model, WeightTypes};
use halite::models::tokenizer::Tokenizer;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which model.
#[derive(clap::Args, Clone, Debug)]
pub struct ModelArgs {
    /// A model folder, a GGUF file, or the folder of a training run
    #[arg(long = "model", value_name = "PATH")]
    pub path: PathBuf,
}

impl ModelArgs {
    /// Finds it; its weights are still where they were.
    pub fn find(&self) -> Result<ModelFiles> {
        Ok(ModelFiles::open(&self.path)?)
    }

    /// Finds it and loads its weights.
    pub fn load(&self, device: Arc<dyn Device>, types: WeightTypes) -> Result<(ModelFiles, Model)> {
        let files = self.find()?;
        let model = load(&files, device, types)?;
        Ok((files, model))
    }
}

/// What the key-value cache is stored as.
#[derive(clap::Args, Clone, Debug)]
pub struct CacheArgs {
    /// Type of the key-value cache; f16 and bf16 take half the memory, q8_0 about a quarter, and round
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = cache_type())]
    pub cache_type: DType,
}

/// The types that a cache can have, by their names.
fn cache_type() -> impl TypedValueParser<Value = DType> {
    let types = || DType::FLOATS.into_iter().chain([DType::Q8_0]);
    let named = move |name: String| types().find(|t| t.name() == name);
    PossibleValuesParser::new(types().map(DType::name)).try_map(move |name| named(name).ok_or("no such type"))
}

/// Loads the weights of a model that was found.
pub fn load(files: &ModelFiles, device: Arc<dyn Device>, types: WeightTypes) -> Result<Model> {
    let bar = output::progress(0, "parameters");
    let model = Model::load(device, files.config().clone(), files, types, &mut |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    Ok(model?)
}

/// The tokenizer of a model folder or of a training run.
pub fn tokenizer_of(model: &Path) -> Result<Tokenizer> {
    Ok(Tokenizer::from_file(model_folder(model)?.join("tokenizer.json"))?)
}
