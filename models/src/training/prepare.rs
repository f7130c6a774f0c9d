//! From the settings of a run to tokens: reads text, splits it, makes or loads the tokenizer.

use super::{RunConfig, Validation};
use crate::config::ModelConfig;
use crate::data::{Corpus, TrainBatches, ValidationBatches, read_documents, split};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};
use std::sync::Arc;

/// What a run over text needs besides a device.
#[derive(Debug)]
pub struct Prepared {
    /// The model, with the tokenizer's end-of-text filled in.
    pub model: ModelConfig,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// Batches to train on.
    pub train: TrainBatches,
    /// Held-out text, if any.
    pub validation: Option<Validation>,
    /// The documents trained on.
    pub train_texts: Vec<String>,
    /// The documents held out.
    pub validation_texts: Vec<String>,
}

impl Prepared {
    /// Reads the text of `config`. `model` and `tokenizer` take the place of the settings' own when they
    /// are given (a run that goes on from earlier weights).
    pub fn new(config: &RunConfig, model: Option<ModelConfig>, tokenizer: Option<Tokenizer>) -> Result<Self> {
        let data = &config.data;
        let mut model = match model {
            Some(model) => model,
            None => config.model()?,
        };
        let documents = read_documents(&data.paths, &data.text_field)?;
        let texts: Vec<String> = documents.into_iter().map(|d| d.text).collect();
        let split = split(&texts, data.validation, config.seed)?;
        let tokenizer = match (tokenizer, data.tokenizer.as_str()) {
            (Some(given), _) => given,
            (None, "bytes") => Tokenizer::byte_level(),
            (None, "bpe") => Tokenizer::train_bpe(split.train.iter(), model.vocab_size)?,
            (None, path) => Tokenizer::from_file(path)?,
        };
        let (known, vocab_size) = (tokenizer.vocab_size(), model.vocab_size);
        if known > vocab_size {
            return Err(Error::TokenizerTooLarge { known, vocab_size });
        }
        if model.eos_token_ids.is_empty() {
            model.eos_token_ids.extend(tokenizer.eos_id());
        }
        let train = Arc::new(Corpus::new(&split.train, &tokenizer)?);
        let validation = match split.validation.is_empty() {
            true => None,
            false => {
                let corpus = Arc::new(Corpus::new(&split.validation, &tokenizer)?);
                let batches = ValidationBatches::new(corpus.clone(), data.shape())?;
                Some(Validation { corpus, batches })
            }
        };
        let train = TrainBatches::new(train, data.shape(), config.seed)?;
        let own = |texts: Vec<&str>| texts.into_iter().map(str::to_string).collect();
        let (train_texts, validation_texts) = (own(split.train), own(split.validation));
        Ok(Prepared { model, tokenizer, train, validation, train_texts, validation_texts })
    }
}
