//! Text generation: prompts in, text out piece by piece.

use super::cache::CacheOptions;
use super::decoder::Decoder;
use super::sequence::{Generation, Sequence};
use crate::model::Model;
use crate::sampling::SamplingOptions;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};
use halite_hal::DType;
use std::time::Instant;

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
    /// The log-probabilities of each token that is chosen, and of so many likeliest ones, are wanted.
    pub logprobs: Option<usize>,
    /// The type of the key-value cache, as [`CacheOptions`] has it.
    pub cache_type: DType,
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
        let mut all = self.generate_all(&[prompt], 1, options, |_, text| emit(text))?;
        Ok(all.remove(0))
    }

    /// Continues each of `prompts` `samples` times, all at once: the samples of the first prompt come first. Sample
    /// `i` of a prompt draws random numbers of its own, and gets the same tokens whatever runs beside it. `emit`
    /// also gets the place of the text in the result; a text of which it returns false ends.
    pub fn generate_all(
        &self,
        prompts: &[&str],
        samples: u32,
        options: &GenerateOptions,
        mut emit: impl FnMut(usize, &str) -> bool,
    ) -> Result<Vec<Generation>> {
        let limit = self.model.config.max_position_embeddings;
        let (mut sequences, mut capacities, mut encoded) = (Vec::new(), Vec::new(), Vec::new());
        for prompt in prompts {
            let tokens = self.tokenizer.encode(prompt, true)?;
            if tokens.is_empty() {
                return Err(Error::EmptyPrompt);
            }
            if tokens.len() >= limit {
                return Err(Error::ContextLength { requested: tokens.len() + 1, maximum: limit });
            }
            for sample in 0..samples {
                sequences.push(Sequence::new(self.tokenizer, options, tokens.clone(), sample)?);
                capacities.push(tokens.len().saturating_add(options.max_new_tokens).min(limit));
            }
            encoded.push(tokens);
        }
        let cache = CacheOptions::new(capacities.clone()).dtype(options.cache_type);
        let mut decoder = Decoder::with_cache(self.model, &cache)?;

        // A prompt is fed once, by itself; its other samples begin with a copy.
        let started = Instant::now();
        let mut logits = Vec::with_capacity(sequences.len());
        for tokens in &encoded {
            let first = logits.len();
            let last = decoder.feed_to(first, tokens)?;
            logits.push(last.clone());
            for other in 1..samples as usize {
                decoder.fork(first, first + other)?;
                logits.push(last.clone());
            }
        }
        let prefill_seconds = started.elapsed().as_secs_f64();

        let started = Instant::now();
        let end = self.tokenizer.eos_id();
        let ends = |token| self.model.config.eos_token_ids.contains(&token) || end == Some(token);
        let mut running: Vec<usize> = (0..sequences.len()).filter(|&i| !sequences[i].ended()).collect();
        while !running.is_empty() {
            for &i in &running {
                let emit = |text: &str| emit(i, text);
                sequences[i].advance(&mut logits[i], options, ends, capacities[i], emit)?;
            }
            running.retain(|&i| !sequences[i].ended());
            let tokens: Vec<(usize, u32)> = running.iter().map(|&i| (i, sequences[i].last())).collect();
            let all = decoder.step(&tokens)?;
            for (&i, row) in running.iter().zip(all.chunks_exact(self.model.config.vocab_size)) {
                logits[i].copy_from_slice(row);
            }
        }
        let seconds = [prefill_seconds, started.elapsed().as_secs_f64()];
        let finish = |(i, s): (usize, Sequence<'_>)| s.finish(seconds, |text| emit(i, text));
        sequences.into_iter().enumerate().map(finish).collect()
    }
}
