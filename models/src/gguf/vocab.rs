//! The tokenizer and the chat template that a GGUF file carries.

use super::{Gguf, GgufError, GgufWriter};
use crate::tokenizer::GgufVocab;

impl GgufVocab {
    /// What a file says about its tokenizer.
    ///
    /// # Errors
    /// When it says nothing, or a value is of another type than it must be.
    pub fn read(gguf: &Gguf) -> Result<GgufVocab, GgufError> {
        let text = |key: &str| Ok::<_, GgufError>(gguf.get::<&str>(key)?.map(String::from));
        let texts = |key: &str| {
            let texts = gguf.get::<Vec<&str>>(key)?.unwrap_or_default();
            Ok::<Vec<String>, GgufError>(texts.into_iter().map(String::from).collect())
        };
        Ok(GgufVocab {
            model: gguf.need::<&str>("tokenizer.ggml.model")?.into(),
            pre: text("tokenizer.ggml.pre")?,
            tokens: texts("tokenizer.ggml.tokens")?,
            token_types: gguf.get("tokenizer.ggml.token_type")?.unwrap_or_default(),
            merges: texts("tokenizer.ggml.merges")?,
            scores: gguf.get("tokenizer.ggml.scores")?.unwrap_or_default(),
            bos_id: gguf.get("tokenizer.ggml.bos_token_id")?,
            eos_id: gguf.get("tokenizer.ggml.eos_token_id")?,
            eot_id: gguf.get("tokenizer.ggml.eot_token_id")?,
            unk_id: gguf.get("tokenizer.ggml.unknown_token_id")?,
            pad_id: gguf.get("tokenizer.ggml.padding_token_id")?,
            add_bos: gguf.get("tokenizer.ggml.add_bos_token")?,
            add_eos: gguf.get("tokenizer.ggml.add_eos_token")?,
            add_space_prefix: gguf.get("tokenizer.ggml.add_space_prefix")?,
            chat_template: text("tokenizer.chat_template")?,
        })
    }

    /// Writes all but the tokens that begin and end a text, which are the configuration's.
    ///
    /// # Errors
    /// When a key is there already.
    pub fn write(&self, to: &mut GgufWriter<'_>) -> Result<(), GgufError> {
        to.metadata("tokenizer.ggml.model", &*self.model)?;
        if let Some(pre) = &self.pre {
            to.metadata("tokenizer.ggml.pre", &**pre)?;
        }
        to.array("tokenizer.ggml.tokens", self.tokens.iter().map(String::as_str))?;
        to.array("tokenizer.ggml.token_type", self.token_types.iter().copied())?;
        // llama.cpp wants to see that there are none.
        if self.model == "gpt2" {
            to.array("tokenizer.ggml.merges", self.merges.iter().map(String::as_str))?;
        }
        if !self.scores.is_empty() {
            to.array("tokenizer.ggml.scores", self.scores.iter().copied())?;
        }
        for (key, id) in [("unknown", self.unk_id), ("padding", self.pad_id)] {
            if let Some(id) = id {
                to.metadata(&format!("tokenizer.ggml.{key}_token_id"), id)?;
            }
        }
        for (key, add) in [
            ("add_bos_token", self.add_bos),
            ("add_eos_token", self.add_eos),
            ("add_space_prefix", self.add_space_prefix),
        ] {
            if let Some(add) = add {
                to.metadata(&format!("tokenizer.ggml.{key}"), add)?;
            }
        }
        match &self.chat_template {
            Some(template) => to.metadata("tokenizer.chat_template", &**template),
            None => Ok(()),
        }
    }
}
