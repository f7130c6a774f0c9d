//! From logits to a token, on the host: greedy or random, with the usual filters and stop strings.
//!
//! Filters are those of Hugging Face's `generate`, in its order: repetition penalty, temperature,
//! top-k, top-p, min-p. Draws come from a counter, so that a token is a pure function of logits,
//! options and step.

mod stop;

use halite_hal::philox;

pub use stop::StopMatcher;

/// Fourth word of the random counter: keeps draws apart from other uses of the same seed.
const STREAM: u32 = 0x5A3B_1E00;

/// How to choose a token. The default draws from the model's own distribution.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingOptions {
    /// Divides the logits; 0 takes the likeliest token always. At least 0.
    pub temperature: f32,
    /// Keeps this many likeliest tokens, and those as likely as the last of them; 0 keeps all.
    pub top_k: usize,
    /// Keeps the fewest likeliest tokens with at least this probability together (nucleus sampling,
    /// Holtzman et al. 2020). In (0, 1]; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens with at least this share of the likeliest token's probability. In [0, 1].
    pub min_p: f32,
    /// Divides positive logits of tokens that came before, prompt included, and multiplies negative
    /// ones (Keskar et al. 2019). Above 0; 1 changes nothing.
    pub repetition_penalty: f32,
    /// The same seed gives the same tokens for the same logits.
    pub seed: u64,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, seed: 0 }
    }
}

/// The id of the largest of `logits` `[vocab_size]`, the lowest among equals; 0 of none.
pub fn likeliest(logits: &[f32]) -> u32 {
    (0..logits.len()).fold(0, |best, id| if logits[id] > logits[best] { id } else { best }) as u32
}

/// What can go wrong in sampling.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SamplingError {
    /// An option is outside its range.
    #[error("{option} is {value}, but must be {range}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// Its value.
        value: f32,
        /// What is allowed.
        range: &'static str,
    },
    /// A stop string is empty.
    #[error("stop string {index} is empty: it would stop before the first token")]
    EmptyStop {
        /// Its place in the list.
        index: usize,
    },
    /// There are no logits to choose from.
    #[error("no logits to choose a token from")]
    NoLogits,
    /// A logit is not a finite number.
    #[error("logit of token {id} is {value}, not a finite number")]
    NonFinite {
        /// The token.
        id: usize,
        /// Its logit.
        value: f32,
    },
    /// An earlier token lies outside the logits.
    #[error("previous token {id} is outside the {vocab_size} logits")]
    UnknownToken {
        /// The token.
        id: u32,
        /// Number of logits.
        vocab_size: usize,
    },
}

/// Chooses tokens by checked options.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplingOptions,
    sample: u32,
}

impl Sampler {
    /// Checks the options; an error names the one outside its range.
    pub fn new(options: SamplingOptions) -> Result<Self, SamplingError> {
        let SamplingOptions { temperature, top_p, min_p, repetition_penalty, .. } = options;
        let check = |ok: bool, option, value, range| {
            if ok { Ok(()) } else { Err(SamplingError::Option { option, value, range }) }
        };
        let finite = temperature.is_finite() && temperature >= 0.0;
        check(finite, "temperature", temperature, "a finite number of at least 0")?;
        check(top_p > 0.0 && top_p <= 1.0, "top_p", top_p, "above 0 and at most 1")?;
        check((0.0..=1.0).contains(&min_p), "min_p", min_p, "from 0 to 1")?;
        let finite = repetition_penalty.is_finite() && repetition_penalty > 0.0;
        check(finite, "repetition_penalty", repetition_penalty, "a finite number above 0")?;
        Ok(Self { options, sample: 0 })
    }

    /// The options.
    pub fn options(&self) -> &SamplingOptions {
        &self.options
    }

    /// The same options with draws of their own: sample 0 has those of [`Sampler::new`].
    pub fn sample_number(self, sample: u32) -> Self {
        Sampler { sample, ..self }
    }

    /// Chooses the next token from `logits` `[vocab_size]`, which the repetition penalty changes.
    ///
    /// `previous` are all tokens so far, prompt included; `step` is the number of tokens generated
    /// so far, the counter of the random draw. Of equally likely tokens greedy takes the lowest id.
    /// An error if there are no logits, one is not finite, or a previous token lies outside them.
    pub fn sample(&self, logits: &mut [f32], previous: &[u32], step: u64) -> Result<u32, SamplingError> {
        if let Some((id, &value)) = logits.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            return Err(SamplingError::NonFinite { id, value });
        }
        self.penalise(logits, previous)?;
        let best = likeliest(logits);
        let max = *logits.get(best as usize).ok_or(SamplingError::NoLogits)?;
        let options = &self.options;
        if options.temperature == 0.0 {
            return Ok(best);
        }

        // Probabilities up to a common factor, in id order throughout: what a draw gives then does
        // not depend on how a filter partitions. The difference to the maximum cannot overflow to
        // +inf however small the temperature is.
        let (max, temperature) = (f64::from(max), f64::from(options.temperature));
        let weight = |(id, &logit): (usize, &f32)| Candidate {
            id: id as u32,
            weight: ((f64::from(logit) - max) / temperature).exp(),
        };
        let mut kept: Vec<Candidate> = logits.iter().enumerate().map(weight).collect();
        if (1..kept.len()).contains(&options.top_k) {
            keep_top_k(&mut kept, options.top_k);
        }
        if options.top_p < 1.0 {
            keep_top_p(&mut kept, f64::from(options.top_p));
        }
        kept.retain(|candidate| candidate.weight >= f64::from(options.min_p));
        Ok(draw(&kept, self.uniform(step)))
    }

    fn penalise(&self, logits: &mut [f32], previous: &[u32]) -> Result<(), SamplingError> {
        let penalty = self.options.repetition_penalty;
        if penalty == 1.0 {
            return Ok(());
        }
        let mut ids = previous.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let vocab_size = logits.len();
        for id in ids {
            let logit = logits.get_mut(id as usize).ok_or(SamplingError::UnknownToken { id, vocab_size })?;
            *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
            *logit = logit.clamp(f32::MIN, f32::MAX);
        }
        Ok(())
    }

    /// The uniform number in [0, 1) of a step of this sample.
    fn uniform(&self, step: u64) -> f64 {
        let [low, high, ..] = philox::block(
            philox::key(self.options.seed),
            [step as u32, (step >> 32) as u32, self.sample, STREAM],
        );
        philox::uniform_f64(low, high)
    }
}

/// A token that may still be chosen.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: u32,
    /// Probability relative to the likeliest token's, in [0, 1].
    weight: f64,
}

impl Candidate {
    /// Likelier tokens first; of equally likely ones the lowest id.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        other.weight.total_cmp(&self.weight).then(self.id.cmp(&other.id))
    }
}

/// Keeps the `k` likeliest (0 < k < length) and those as likely as the last of them.
fn keep_top_k(kept: &mut Vec<Candidate>, k: usize) {
    let mut parted = kept.clone();
    let (_, last, _) = parted.select_nth_unstable_by(k - 1, Candidate::order);
    let least = last.weight;
    kept.retain(|candidate| candidate.weight >= least);
}

/// Keeps the fewest likeliest tokens that have at least the share `p` of all weight.
fn keep_top_p(kept: &mut Vec<Candidate>, p: f64) {
    let needed = p * kept.iter().map(|candidate| candidate.weight).sum::<f64>();
    let mut sorted = kept.clone();
    // Few tokens are needed mostly, so only a growing number of the likeliest gets sorted.
    let (mut done, mut size, mut mass) = (0, 64, 0.0);
    while done < sorted.len() {
        let count = size.min(sorted.len() - done);
        let rest = &mut sorted[done..];
        if count < rest.len() {
            rest.select_nth_unstable_by(count, Candidate::order);
        }
        rest[..count].sort_unstable_by(Candidate::order);
        for last in &rest[..count] {
            mass += last.weight;
            if mass >= needed {
                kept.retain(|candidate| candidate.order(last).is_le());
                return;
            }
        }
        done += count;
        size *= 8;
    }
}

/// The candidate at the share `unit` in [0, 1) of all weight. The likeliest has weight 1, so that the
/// total is never zero.
fn draw(kept: &[Candidate], unit: f64) -> u32 {
    let mut left = unit * kept.iter().map(|candidate| candidate.weight).sum::<f64>();
    let mut chosen = 0;
    for candidate in kept.iter().filter(|candidate| candidate.weight > 0.0) {
        chosen = candidate.id;
        left -= candidate.weight;
        if left < 0.0 {
            break;
        }
    }
    chosen
}

#[cfg(test)]
mod tests;
