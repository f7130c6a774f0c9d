//! Text generation: prompt in, text out piece by piece.

use super::decoder::{Decoder, Want};
use crate::model::Model;
use crate::sampling::{Sampler, SamplingOptions, StopMatcher};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Prompts are fed in pieces of this many tokens, so that memory doesn't grow with the prompt.
pub(crate) const PREFILL: usize = 512;

/// How to generate.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// How tokens are chosen.
    pub sampling: SamplingOptions,
    /// The most tokens to generate.
    pub max_new_tokens: usize,
    /// Generation ends before any of these strings.
    pub stop: Vec<String>,
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model said so.
    EndOfText,
    /// A stop string came.
    Stop,
    /// As many tokens as asked for.
    Length,
    /// The model's context is full.
    Context,
    /// The caller said so.
    Cancelled,
}

/// What was generated.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Generation {
    /// The text, without the prompt.
    pub text: String,
    /// The token ids, without the prompt; a final end-of-text included.
    pub tokens: Vec<u32>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Why it ended.
    pub finish: Finish,
    /// Seconds for the prompt.
    pub prefill_seconds: f64,
    /// Seconds for the generated tokens.
    pub decode_seconds: f64,
}

/// Generates text with a model and its tokenizer.
#[derive(Debug)]
pub struct Generator<'m> {
    model: &'m Model,
    tokenizer: &'m Tokenizer,
}

impl<'m> Generator<'m> {
    /// A generator; the tokenizer must not know more tokens than the model.
    pub fn new(model: &'m Model, tokenizer: &'m Tokenizer) -> Result<Self> {
        let (known, vocab_size) = (tokenizer.vocab_size(), model.config.vocab_size);
        if known > vocab_size {
            return Err(Error::TokenizerTooLarge { known, vocab_size });
        }
        Ok(Generator { model, tokenizer })
    }

    /// Continues `prompt`. `emit` gets the text piece by piece as soon as it can't change any more, and
    /// returns whether to go on.
    pub fn generate(
        &self,
        prompt: &str,
        options: &GenerateOptions,
        mut emit: impl FnMut(&str) -> bool,
    ) -> Result<Generation> {
        let sampler = Sampler::new(options.sampling.clone())?;
        let mut stop = StopMatcher::new(options.stop.clone())?;
        let mut previous = self.tokenizer.encode(prompt, true)?;
        if previous.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        let prompt_tokens = previous.len();
        let limit = self.model.config.max_position_embeddings;
        if prompt_tokens >= limit {
            return Err(Error::ContextLength { requested: prompt_tokens + 1, maximum: limit });
        }
        let capacity = prompt_tokens.saturating_add(options.max_new_tokens).clamp(1, limit);
        let mut decoder = Decoder::new(self.model, capacity)?;
        let mut pieces = self.tokenizer.stream(true);
        let mut generation = Generation {
            text: String::new(),
            tokens: Vec::new(),
            prompt_tokens,
            finish: Finish::Length,
            prefill_seconds: 0.0,
            decode_seconds: 0.0,
        };

        let started = std::time::Instant::now();
        let mut logits = Vec::new();
        for piece in previous.chunks(PREFILL) {
            logits = decoder.feed(piece, Want::Last)?.logits;
        }
        generation.prefill_seconds = started.elapsed().as_secs_f64();

        let started = std::time::Instant::now();
        while generation.tokens.len() < options.max_new_tokens {
            let token = sampler.sample(&mut logits, &previous, generation.tokens.len() as u64)?;
            generation.tokens.push(token);
            previous.push(token);
            let ends =
                self.model.config.eos_token_ids.contains(&token) || self.tokenizer.eos_id() == Some(token);
            if ends {
                generation.finish = Finish::EndOfText;
                break;
            }
            let text = stop.push(&pieces.push(token)?);
            generation.text.push_str(&text);
            if stop.stopped().is_some() {
                generation.finish = Finish::Stop;
                if !text.is_empty() {
                    emit(&text);
                }
                break;
            }
            if !text.is_empty() && !emit(&text) {
                generation.finish = Finish::Cancelled;
                break;
            }
            if generation.tokens.len() == options.max_new_tokens {
                break;
            }
            if decoder.length() == decoder.capacity() {
                generation.finish = Finish::Context;
                break;
            }
            logits = decoder.feed(&[token], Want::Last)?.logits;
        }
        generation.decode_seconds = started.elapsed().as_secs_f64();
        if stop.stopped().is_none() && generation.finish != Finish::Cancelled {
            let mut rest = stop.push(&pieces.finish()?);
            if stop.stopped().is_none() {
                rest.push_str(&stop.finish());
            }
            if !rest.is_empty() {
                generation.text.push_str(&rest);
                emit(&rest);
            }
        }
        Ok(generation)
    }
}
