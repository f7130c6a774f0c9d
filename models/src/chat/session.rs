//! A chat with a model: history, cache, and one turn after another.

use std::time::Instant;

use super::{ChatTemplate, Message};
use crate::inference::{CacheOptions, Decoder, Finish, PREFILL, Want};
use crate::model::Model;
use crate::sampling::{Sampler, SamplingOptions};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// How to answer.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// How tokens are chosen.
    pub sampling: SamplingOptions,
    /// The most tokens of one answer.
    pub max_new_tokens: usize,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Turn {
    /// What the model said, without the token that ends it.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of the prompt that were in the cache.
    pub cached_tokens: usize,
    /// Tokens of the prompt that were fed.
    pub prefill_tokens: usize,
    /// Tokens that were generated, the one that ends the answer included.
    pub decode_tokens: usize,
    /// Seconds for the prompt.
    pub prefill_seconds: f64,
    /// Seconds for the answer.
    pub decode_seconds: f64,
}

/// What a session has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Statistics {
    /// Tokens of prompts that were fed.
    pub prefill_tokens: usize,
    /// Seconds for prompts.
    pub prefill_seconds: f64,
    /// Tokens that were generated.
    pub decode_tokens: usize,
    /// Seconds for answers.
    pub decode_seconds: f64,
    /// Tokens in the cache.
    pub context_used: usize,
    /// Tokens that the cache has room for.
    pub context_capacity: usize,
}

/// A chat under way.
///
/// Each turn renders the whole history, as a template may change what it made of earlier messages, and feeds the
/// tokens that follow the longest beginning that the cache has already.
#[derive(Debug)]
pub struct Session<'m> {
    tokenizer: &'m Tokenizer,
    template: ChatTemplate,
    decoder: Decoder<'m>,
    /// The tokens in the decoder's cache.
    fed: Vec<u32>,
    messages: Vec<Message>,
    ends: Vec<u32>,
    done: Statistics,
}

impl<'m> Session<'m> {
    /// An empty chat in the first sequence of a cache. The tokenizer must not know more tokens than the model.
    pub fn new(
        model: &'m Model,
        tokenizer: &'m Tokenizer,
        template: ChatTemplate,
        cache: &CacheOptions,
    ) -> Result<Self> {
        let (known, vocab_size) = (tokenizer.vocab_size(), model.config.vocab_size);
        if known > vocab_size {
            return Err(Error::TokenizerTooLarge { known, vocab_size });
        }
        let decoder = Decoder::with_cache(model, cache)?;
        let mut ends = model.config.eos_token_ids.clone();
        ends.extend(tokenizer.eos_id());
        ends.extend(tokenizer.eot_id());
        ends.extend(end_of_turn(&template, tokenizer));
        ends.sort_unstable();
        ends.dedup();
        Ok(Session {
            tokenizer,
            template,
            decoder,
            fed: Vec::new(),
            messages: Vec::new(),
            ends,
            done: Statistics::default(),
        })
    }

    /// The messages so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The tokens that end an answer: the model's and the tokenizer's ends of text, and the added token that
    /// the template writes after what an assistant said.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// Adds a message that isn't answered: what the system says, or a history.
    pub fn push(&mut self, message: Message) {
        self.messages.push(message);
    }

    /// Forgets all messages but those of the system at the beginning.
    pub fn reset(&mut self) {
        let first = self.messages.iter().take_while(|m| m.role == "system").count();
        self.messages.truncate(first);
    }

    /// What was done so far.
    pub fn statistics(&self) -> Statistics {
        let (context_used, context_capacity) = (self.decoder.length(), self.decoder.capacity());
        Statistics { context_used, context_capacity, ..self.done }
    }

    /// Answers `text`. `go_on` is called after every token, and now and then before the first, with the text
    /// that is new, which may be empty; the answer ends when it returns false.
    ///
    /// Question and answer are kept, however the answer ended; but neither is if there was an error, or if the
    /// answer was cancelled before it had any text.
    pub fn say(
        &mut self,
        text: &str,
        options: &SessionOptions,
        go_on: impl FnMut(&str) -> bool,
    ) -> Result<Turn> {
        self.messages.push(Message::new("user", text));
        let turn = self.answer(options, go_on);
        match &turn {
            Ok(turn) if !turn.text.is_empty() || turn.finish != Finish::Cancelled => {
                self.messages.push(Message::new("assistant", &*turn.text));
            }
            _ => drop(self.messages.pop()),
        }
        turn
    }

    fn answer(&mut self, options: &SessionOptions, mut go_on: impl FnMut(&str) -> bool) -> Result<Turn> {
        let sampler = Sampler::new(options.sampling.clone())?;
        let prompt = self.template.render(&self.messages, true)?;
        // The template has written the special tokens.
        let mut previous = self.tokenizer.encode(&prompt, false)?;
        let (length, capacity) = (previous.len(), self.decoder.capacity());
        if length == 0 {
            return Err(Error::EmptyPrompt);
        }
        if length >= capacity {
            return Err(Error::ContextLength { requested: length + 1, maximum: capacity });
        }
        let cached = self.keep(&previous);
        let mut turn = Turn {
            text: String::new(),
            finish: Finish::Length,
            cached_tokens: cached,
            prefill_tokens: 0,
            decode_tokens: 0,
            prefill_seconds: 0.0,
            decode_seconds: 0.0,
        };

        let started = Instant::now();
        let mut logits = Vec::new();
        for piece in previous[cached..].chunks(PREFILL) {
            logits = self.feed(piece)?;
            turn.prefill_tokens += piece.len();
            if !go_on("") {
                turn.finish = Finish::Cancelled;
                break;
            }
        }
        turn.prefill_seconds = started.elapsed().as_secs_f64();
        self.done.prefill_tokens += turn.prefill_tokens;
        self.done.prefill_seconds += turn.prefill_seconds;

        let started = Instant::now();
        let mut pieces = self.tokenizer.stream(true);
        while turn.finish == Finish::Length && turn.decode_tokens < options.max_new_tokens {
            if turn.decode_tokens > 0 {
                if self.decoder.length() == capacity {
                    turn.finish = Finish::Context;
                    break;
                }
                logits = self.feed(&previous[previous.len() - 1..])?;
            }
            // Counted over all turns, so that each draws random numbers of its own.
            let step = (self.done.decode_tokens + turn.decode_tokens) as u64;
            let token = sampler.sample(&mut logits, &previous, step)?;
            turn.decode_tokens += 1;
            previous.push(token);
            if self.ends.contains(&token) {
                turn.finish = Finish::EndOfText;
                break;
            }
            let text = pieces.push(token)?;
            turn.text.push_str(&text);
            if !go_on(&text) {
                turn.finish = Finish::Cancelled;
            }
        }
        if turn.finish != Finish::Cancelled {
            let rest = pieces.finish()?;
            if !rest.is_empty() {
                turn.text.push_str(&rest);
                go_on(&rest);
            }
        }
        turn.decode_seconds = started.elapsed().as_secs_f64();
        self.done.decode_tokens += turn.decode_tokens;
        self.done.decode_seconds += turn.decode_seconds;
        Ok(turn)
    }

    /// Keeps of the cache what `tokens` begin with, as far as it can, and says how many that are. The last token is
    /// always to be fed, as its logits are wanted.
    fn keep(&mut self, tokens: &[u32]) -> usize {
        let limit = self.fed.len().min(tokens.len() - 1);
        let same = (0..limit).take_while(|&i| self.fed[i] == tokens[i]).count();
        let kept = self.decoder.truncate(same);
        self.fed.truncate(kept);
        kept
    }

    fn feed(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let fed = self.decoder.feed(tokens, Want::Last)?;
        self.fed.extend_from_slice(tokens);
        Ok(fed.logits)
    }
}

/// The added token that the template writes after what an assistant said, if it does.
fn end_of_turn(template: &ChatTemplate, tokenizer: &Tokenizer) -> Option<u32> {
    let said = "halite";
    let messages = [Message::new("user", "?"), Message::new("assistant", said)];
    // A template that refuses these messages will say so when it is asked for an answer.
    let text = template.render(&messages, false).ok()?;
    let after = &text[text.rfind(said)? + said.len()..];
    let first = *tokenizer.encode(after.trim_start(), false).ok()?.first()?;
    // Some files don't call it special.
    tokenizer.is_added(first).then_some(first)
}
