//! A text under way: from one token's logits to the next token, and when it ends.

use super::generate::GenerateOptions;
use super::logprobs::{LogProb, LogSoftmax, TokenLogProbs};
use crate::Result;
use crate::sampling::{Sampler, StopMatcher};
use crate::tokenizer::{DecodeStream, Tokenizer};

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
    /// One for each of the tokens, if wanted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<TokenLogProbs>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Why it ended.
    pub finish: Finish,
    /// Seconds for the prompt; of several texts, for all their prompts.
    pub prefill_seconds: f64,
    /// Seconds for the generated tokens; of several texts, for those of all.
    pub decode_seconds: f64,
}

/// A text under way.
pub(super) struct Sequence<'t> {
    tokenizer: &'t Tokenizer,
    sampler: Sampler,
    stop: StopMatcher,
    pieces: DecodeStream<'t>,
    /// Tokens so far, those of the prompt included.
    previous: Vec<u32>,
    ended: bool,
    generation: Generation,
}

impl<'t> Sequence<'t> {
    /// A continuation of `prompt`, the one of this number.
    pub fn new(
        tokenizer: &'t Tokenizer,
        options: &GenerateOptions,
        prompt: Vec<u32>,
        sample: u32,
    ) -> Result<Self> {
        Ok(Sequence {
            tokenizer,
            sampler: Sampler::new(options.sampling.clone())?.sample_number(sample),
            stop: StopMatcher::new(options.stop.clone())?,
            pieces: tokenizer.stream(true),
            generation: Generation {
                text: String::new(),
                tokens: Vec::new(),
                logprobs: Vec::new(),
                prompt_tokens: prompt.len(),
                finish: Finish::Length,
                prefill_seconds: 0.0,
                decode_seconds: 0.0,
            },
            ended: options.max_new_tokens == 0,
            previous: prompt,
        })
    }

    /// Whether there is no next token.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// The last token, which isn't fed yet.
    pub fn last(&self) -> u32 {
        self.previous[self.previous.len() - 1]
    }

    /// Chooses the next token. `ends` says whether one ends the text, `room` how many tokens there is room for.
    /// `emit` gets what is new of the text, and returns whether to go on.
    pub fn advance(
        &mut self,
        logits: &mut [f32],
        options: &GenerateOptions,
        ends: impl Fn(u32) -> bool,
        room: usize,
        mut emit: impl FnMut(&str) -> bool,
    ) -> Result<()> {
        let step = self.generation.tokens.len() as u64;
        // Penalties change the logits.
        let plain = options.logprobs.map(|count| (count, logits.to_vec()));
        let token = self.sampler.sample(logits, &self.previous, step)?;
        if let Some((count, logits)) = plain {
            self.generation.logprobs.push(log_probs(self.tokenizer, &logits, token, count)?);
        }
        self.generation.tokens.push(token);
        self.previous.push(token);
        self.ended = true;
        if ends(token) {
            self.generation.finish = Finish::EndOfText;
            return Ok(());
        }
        let text = self.stop.push(&self.pieces.push(token)?);
        self.generation.text.push_str(&text);
        let go_on = text.is_empty() || emit(&text);
        if self.stop.stopped().is_some() {
            self.generation.finish = Finish::Stop;
        } else if !go_on {
            self.generation.finish = Finish::Cancelled;
        } else if self.generation.tokens.len() < options.max_new_tokens {
            if self.previous.len() > room {
                self.generation.finish = Finish::Context;
            } else {
                self.ended = false;
            }
        }
        Ok(())
    }

    /// What was generated, in so many seconds. `emit` gets what was held back of the text.
    pub fn finish(self, seconds: [f64; 2], mut emit: impl FnMut(&str) -> bool) -> Result<Generation> {
        let Sequence { mut stop, pieces, mut generation, .. } = self;
        [generation.prefill_seconds, generation.decode_seconds] = seconds;
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

/// The log-probabilities of `token` and of the `count` likeliest tokens.
fn log_probs(tokenizer: &Tokenizer, logits: &[f32], token: u32, count: usize) -> Result<TokenLogProbs> {
    let softmax = LogSoftmax::new(logits);
    let of = |token| -> Result<LogProb> {
        Ok(LogProb { token, text: tokenizer.decode(&[token], false)?, logprob: softmax.of(token) as f32 })
    };
    let top = softmax.top(count).into_iter().map(of).collect::<Result<_>>()?;
    Ok(TokenLogProbs { chosen: of(token)?, top })
}
