//! The tokenizer and the chat template that a GGUF file carries.

use super::{Gguf, GgufError};
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
}
