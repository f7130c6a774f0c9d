//! Whether a model says the same on two devices.
//!
//! Rounding differs between devices, so where two experts or two tokens score nearly the same, two devices may
//! choose differently, and go different ways from there. A [`Reference`] follows another device through the
//! same tokens twice. Free, each place where it chose differently must be such a near-tie, and up to the first
//! other expert the logits must agree. Then with the reference's experts, when all logits must agree.

mod gap;

use super::decoder::{Decoder, Fed, Want};
use crate::model::{FeedForwardWeights, Model};
use crate::sampling::likeliest;
use crate::{Error, Result};
use gap::{Routed, deviation};
use halite_hal::Router;

/// The most that logits may differ by where the same experts were chosen, in standard deviations of the
/// reference's logits. Rounding in f32 makes differences of about 1e-6 in each layer; a wrong operation makes
/// far greater ones.
pub const TIGHT: f64 = 2e-4;

/// The widest gap of a near-tie, in standard deviations of the scores or logits that were chosen by: values that
/// are off by up to [`TIGHT`] each change places only where they are closer than twice that.
pub const NEAR_TIE: f64 = 2.0 * TIGHT;

/// A place where a device chose differently.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Parting {
    /// Index of the token, the prompt's first being 0.
    pub token: usize,
    /// The layer whose router chose other experts; without one, the next token is another.
    pub layer: Option<usize>,
    /// How far apart the two choices are in the reference, in standard deviations of what it chose by.
    pub gap: f64,
}

impl std::fmt::Display for Parting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.layer {
            Some(layer) => write!(f, "token {}, layer {layer}, gap {:.0e}", self.token, self.gap),
            None => write!(f, "token {}, next token, gap {:.0e}", self.token, self.gap),
        }
    }
}

/// How a device compares with the reference. Differences are the largest of the logits', in standard deviations
/// of the reference's.
#[derive(Clone, Debug, PartialEq)]
pub struct Parity {
    /// The difference with choices of its own.
    pub free: f64,
    /// The same up to the first token for which other experts were chosen.
    pub free_agreed: f64,
    /// The share of the reference's choices of experts that the device made too, in whatever order.
    pub router_agreement: f64,
    /// The first different choice: of the smallest token, there in the first layer; the next token comes last.
    pub first: Option<Parting>,
    /// The different choice with the widest gap, of those that no earlier one can have caused.
    pub widest: Option<Parting>,
    /// The difference with the reference's choices of experts.
    pub replayed: f64,
}

/// A device's results are not explained by rounding.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ParityFault {
    /// A choice differs where the reference had no near-tie.
    #[error(
        "parts ways with the reference at no near-tie: {0} standard deviations, at most {NEAR_TIE:.0e} is one"
    )]
    Choice(Parting),
    /// Logits differ before any other expert was chosen.
    #[error(
        "differs by {0:.1e} standard deviations of the logits with the same experts, at most {TIGHT:.0e} is right"
    )]
    Free(f64),
    /// Logits differ with the reference's experts.
    #[error(
        "differs by {0:.1e} standard deviations of the logits with choices replayed, at most {TIGHT:.0e} is right"
    )]
    Replayed(f64),
}

impl Parity {
    /// Whether rounding explains every difference.
    pub fn check(&self) -> Result<(), ParityFault> {
        // Written so that NaN is a fault.
        let within = |x: f64, bound: f64| x <= bound;
        match self.widest {
            Some(parting) if !within(parting.gap, NEAR_TIE) => Err(ParityFault::Choice(parting)),
            _ if !within(self.free_agreed, TIGHT) => Err(ParityFault::Free(self.free_agreed)),
            _ if !within(self.replayed, TIGHT) => Err(ParityFault::Replayed(self.replayed)),
            _ => Ok(()),
        }
    }
}

/// A layer's router.
#[derive(Debug)]
struct LayerRouter {
    layer: usize,
    kind: Router,
    bias: Option<Vec<f64>>,
}

/// A prompt and its likeliest continuation, as one device computes them.
#[derive(Debug)]
pub struct Reference<'m> {
    model: &'m Model,
    routers: Vec<LayerRouter>,
    prompt: usize,
    tokens: Vec<u32>,
    /// Of every token.
    fed: Fed,
    deviation: f64,
}

impl<'m> Reference<'m> {
    /// Feeds `prompt` in one pass, then `more` tokens one by one, each the likeliest after those before.
    pub fn new(model: &'m Model, prompt: &[u32], more: usize) -> Result<Self> {
        let mut decoder = Decoder::new(model, prompt.len() + more)?;
        let mut fed = decoder.feed(prompt, Want::Routing)?;
        let mut tokens = prompt.to_vec();
        for _ in 0..more {
            let vocab = model.config.vocab_size;
            let token = likeliest(&fed.logits[fed.logits.len() - vocab..]);
            tokens.push(token);
            fed.append(decoder.feed(&[token], Want::Routing)?);
        }
        let deviation = deviation(fed.logits.iter().map(|&x| f64::from(x)));
        Ok(Reference { model, routers: routers(model)?, prompt: prompt.len(), tokens, fed, deviation })
    }

    /// The prompt and the tokens that were fed after it.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Feeds the same tokens to the same weights on another device, in the same passes.
    pub fn compare(&self, other: &Model) -> Result<Parity> {
        if other.config != self.model.config {
            return Err(Error::DifferentModels);
        }
        let free = self.follow(other, false)?;
        let replayed = self.follow(other, true)?;
        let (partings, agreed) = self.partings(&free);
        Ok(Parity {
            free: self.difference(&free, self.tokens.len()),
            free_agreed: self.difference(&free, agreed),
            router_agreement: self.agreement(&free),
            first: partings.first().copied(),
            widest: partings.iter().copied().max_by(|a, b| a.gap.total_cmp(&b.gap)),
            replayed: self.difference(&replayed, self.tokens.len()),
        })
    }

    fn follow(&self, other: &Model, replay: bool) -> Result<Fed> {
        let (_, _, k) = other.experts();
        let mut decoder = Decoder::new(other, self.tokens.len())?;
        let mut fed = Fed::default();
        let singles = (self.prompt..self.tokens.len()).map(|i| i..i + 1);
        for piece in std::iter::once(0..self.prompt).chain(singles) {
            let choices: Vec<&[i32]> =
                self.fed.experts.iter().map(|layer| &layer[piece.start * k..piece.end * k]).collect();
            let choices = replay.then_some(&choices[..]);
            fed.append(decoder.feed_routed(&self.tokens[piece], Want::Routing, choices)?);
        }
        Ok(fed)
    }

    /// The different choices of a free run that no earlier one can have caused, in the order of [`Parity::first`],
    /// and how many tokens come before the first that has other experts.
    fn partings(&self, free: &Fed) -> (Vec<Parting>, usize) {
        let mut partings = Vec::new();
        let mut agreed = self.tokens.len();
        // Other experts change what later tokens see, but only in later layers than this.
        let mut reached = usize::MAX;
        for token in 0..self.tokens.len() {
            for (i, router) in self.routers.iter().enumerate().take_while(|(_, r)| r.layer <= reached) {
                let [own, other] = [&self.fed, free].map(|fed| self.routed(fed, i, token));
                if let Some(gap) = gap::of_experts(router.kind, router.bias.as_deref(), own, other) {
                    partings.push(Parting { token, layer: Some(router.layer), gap });
                    agreed = agreed.min(token);
                    reached = router.layer;
                    break;
                }
            }
            // Nothing is chosen after a token that another one of the prompt follows. What is fed is the
            // reference's, so that another next token has no consequences.
            if agreed > token && token + 1 >= self.prompt {
                let [own, other] = [&self.fed, free].map(|fed| self.row(&fed.logits, token));
                if let Some(gap) = gap::of_tokens(own, likeliest(own), likeliest(other)) {
                    partings.push(Parting { token, layer: None, gap });
                }
            }
        }
        (partings, agreed)
    }

    fn routed<'a>(&self, fed: &'a Fed, layer: usize, token: usize) -> Routed<'a> {
        let (logits, experts) = (&fed.router_logits[layer], &fed.experts[layer]);
        Routed { logits: self.row(logits, token), experts: self.row(experts, token) }
    }

    /// The part of `values [tokens, ..]` that is a token's.
    fn row<'a, T>(&self, values: &'a [T], token: usize) -> &'a [T] {
        let width = values.len() / self.tokens.len();
        &values[token * width..(token + 1) * width]
    }

    /// The largest difference of the logits of the first `tokens` tokens; NaN if any is.
    fn difference(&self, other: &Fed, tokens: usize) -> f64 {
        let n = tokens * self.model.config.vocab_size;
        let pairs = self.fed.logits[..n].iter().zip(&other.logits[..n]);
        let differences = pairs.map(|(a, b)| f64::from(a - b).abs());
        let far = differences.fold(0.0, |far: f64, d| if d <= far || far.is_nan() { far } else { d });
        if far == 0.0 { 0.0 } else { far / self.deviation }
    }

    fn agreement(&self, other: &Fed) -> f64 {
        let (_, _, k) = self.model.experts();
        let (mut same, mut all) = (0, 0);
        for (own, other) in self.fed.experts.iter().zip(&other.experts) {
            for (own, other) in own.chunks(k).zip(other.chunks(k)) {
                same += own.iter().filter(|e| other.contains(e)).count();
                all += k;
            }
        }
        if all == 0 { 1.0 } else { same as f64 / all as f64 }
    }
}

fn routers(model: &Model) -> Result<Vec<LayerRouter>> {
    let mut routers = Vec::new();
    for (layer, weights) in model.table.weights.layers.iter().enumerate() {
        if let FeedForwardWeights::Moe(moe) = &weights.feed_forward {
            let bias = moe.bias.map(|i| model.weights.read(i)).transpose()?;
            let bias = bias.map(|b| b.into_iter().map(f64::from).collect());
            routers.push(LayerRouter { layer, kind: moe.kind, bias });
        }
    }
    Ok(routers)
}
