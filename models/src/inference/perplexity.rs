//! How well a model foretells a text, counted as llama.cpp's `llama-perplexity` does, so that figures compare: the
//! text is cut into windows of the context's length, each begins anew with the begin-of-text token in place of its
//! first, and the tokens of its second half are scored.

use super::cache::CacheOptions;
use super::decoder::{Decoder, Want};
use super::logprobs::LogSoftmax;
use crate::model::Model;
use crate::{Error, Result};
use halite_hal::DType;

/// The scores of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Perplexity {
    /// Windows that were scored.
    pub windows: usize,
    /// Tokens that were scored.
    pub tokens: usize,
    /// Mean negative log-likelihood of a token, in nats.
    pub nll: f64,
    /// `exp(nll)`.
    pub perplexity: f64,
    /// The standard error of the perplexity.
    pub error: f64,
}

/// Sums over tokens.
#[derive(Default)]
struct Sums {
    tokens: usize,
    nll: f64,
    squares: f64,
}

impl Sums {
    fn add(&mut self, logits: &[f32], target: u32) {
        let nll = -LogSoftmax::new(logits).of(target);
        self.tokens += 1;
        self.nll += nll;
        self.squares += nll * nll;
    }

    fn report(&self, windows: usize) -> Perplexity {
        let n = self.tokens.max(1) as f64;
        let nll = self.nll / n;
        let perplexity = nll.exp();
        let variance = (self.squares / n - nll * nll).max(0.0);
        let error = if self.tokens > 1 { (variance / (n - 1.0)).sqrt() * perplexity } else { 0.0 };
        Perplexity { windows, tokens: self.tokens, nll, perplexity, error }
    }
}

/// Scores `tokens`, which begin with `bos` where the tokenizer adds one. `context` is the length of a window,
/// `cache_type` as [`CacheOptions`] has it; `seen` hears of the windows so far and returns whether to go on.
///
/// # Errors
/// A text of less than two windows, a context that the model doesn't have.
pub fn perplexity(
    model: &Model,
    tokens: &[u32],
    bos: Option<u32>,
    context: usize,
    cache_type: DType,
    mut seen: impl FnMut(&Perplexity) -> bool,
) -> Result<Perplexity> {
    let mut decoder = Decoder::with_cache(model, &CacheOptions::new(vec![context]).dtype(cache_type))?;
    if context < 4 || tokens.len() < 2 * context {
        return Err(Error::TextTooShort { tokens: tokens.len(), wanted: 2 * context.max(4) });
    }
    let vocab = model.config.vocab_size;
    let first = context / 2;
    let mut sums = Sums::default();
    let mut report = Perplexity::default();
    for (i, window) in tokens.chunks_exact(context).enumerate() {
        let mut fed = window.to_vec();
        if let Some(bos) = bos {
            fed[0] = bos;
        }
        decoder.truncate(0);
        decoder.feed(&fed[..first], Want::Last)?;
        let logits = decoder.feed(&fed[first..], Want::All)?.logits;
        // The logits at a token score the one after it.
        for (logits, &target) in logits.chunks_exact(vocab).zip(&window[first + 1..]) {
            sums.add(logits, target);
        }
        report = sums.report(i + 1);
        if !seen(&report) {
            break;
        }
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;
    use halite_hal::reference::ReferenceDevice;
    use std::sync::Arc;

    #[test]
    fn a_model_that_knows_nothing_has_the_perplexity_of_its_vocabulary() {
        let config = ModelConfig { initializer_range: 0.0, num_hidden_layers: 1, ..ModelConfig::tiny() };
        let model = Model::new(Arc::new(ReferenceDevice::new()), config, 0).unwrap();
        let tokens: Vec<u32> = (0..35).map(|i| i * 7 % 250).collect();
        let mut windows = 0;
        let found = perplexity(&model, &tokens, Some(0), 8, DType::F32, |_| {
            windows += 1;
            true
        })
        .unwrap();
        // Four whole windows, and in each the last three of eight tokens.
        assert_eq!((windows, found.windows, found.tokens), (4, 4, 12));
        assert!((found.perplexity - 260.0).abs() < 1e-3, "{found:?}");
        assert!(found.error < 1e-3, "{found:?}");
        assert!(perplexity(&model, &tokens[..15], None, 8, DType::F16, |_| true).is_err());
    }
}
