//! What a path names as a model: a Hugging Face folder, a training run or one of its checkpoints, a GGUF file.

use crate::chat::ChatTemplate;
use crate::checkpoint;
use crate::config::{ModelConfig, ParamSpec, parameters};
use crate::gguf::{GgufError, GgufModel, GgufParameter};
use crate::tokenizer::{GgufVocab, Tokenizer};
use crate::weights::{ParameterSource, Values};
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// A model that was found; its weights are still where they were.
pub enum ModelFiles {
    /// A folder with `config.json` and safetensors.
    Folder(Box<checkpoint::Model>),
    /// A GGUF file.
    Gguf(Box<GgufModel>),
}

impl ModelFiles {
    /// Finds the model that `path` means: a GGUF file, or a folder that has just one and no `config.json`; any
    /// other folder as [`checkpoint::open_model`] does. Everything that the configuration wants is there then.
    pub fn open(path: &Path) -> Result<ModelFiles> {
        let Some(file) = gguf_file(path) else {
            return Ok(ModelFiles::Folder(Box::new(checkpoint::open_model(path)?)));
        };
        let model = GgufModel::open(&file)?;
        let unused = model.check(&parameters(model.config())).map_err(|e| e.of(&file))?;
        if !unused.is_empty() {
            tracing::debug!("{} has tensors that are no parameters: {unused:?}", file.display());
        }
        Ok(ModelFiles::Gguf(Box::new(model)))
    }

    /// What the model is made of.
    pub fn config(&self) -> &ModelConfig {
        match self {
            ModelFiles::Folder(folder) => &folder.config,
            ModelFiles::Gguf(model) => model.config(),
        }
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        Ok(match self {
            ModelFiles::Folder(folder) => Tokenizer::from_file(folder.dir.join("tokenizer.json"))?,
            ModelFiles::Gguf(model) => Tokenizer::from_gguf(GgufVocab::read(model.gguf())?)?,
        })
    }

    /// Its chat template.
    pub fn chat_template(&self) -> Result<ChatTemplate> {
        Ok(match self {
            ModelFiles::Folder(folder) => ChatTemplate::open_folder(&folder.dir)?,
            ModelFiles::Gguf(model) => ChatTemplate::from_gguf(&GgufVocab::read(model.gguf())?)?,
        })
    }
}

impl ParameterSource for ModelFiles {
    fn values(&self, spec: &ParamSpec) -> Result<Values<'_>> {
        match self {
            ModelFiles::Folder(folder) => folder.weights.values(spec),
            ModelFiles::Gguf(model) => model.values(spec),
        }
    }
}

impl ParameterSource for GgufModel {
    fn values(&self, spec: &ParamSpec) -> Result<Values<'_>> {
        let parameter = self.parameter(spec)?;
        let values = match parameter.ggml_type.dtype().filter(|d| d.is_float() || d.is_block()) {
            Some(dtype) => Values { dtype, bytes: parameter.bytes },
            None => expanded(&parameter)?,
        };
        values.check_scales(&spec.name)?;
        Ok(values)
    }
}

/// A type that devices don't know, in f32.
fn expanded(parameter: &GgufParameter<'_>) -> Result<Values<'static>, GgufError> {
    Ok(Values::of_f32(&parameter.to_f32()?))
}

/// The GGUF file that a path names, if it names one.
fn gguf_file(path: &Path) -> Option<PathBuf> {
    if path.is_file() {
        return Some(path.into());
    }
    if path.join("config.json").exists() {
        return None;
    }
    let mut files = std::fs::read_dir(path).ok()?.filter_map(|entry| {
        let file = entry.ok()?.path();
        file.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf")).then_some(file)
    });
    let first = files.next()?;
    files.next().is_none().then_some(first)
}

impl From<GgufError> for Error {
    fn from(e: GgufError) -> Self {
        Error::Gguf(Box::new(e))
    }
}
