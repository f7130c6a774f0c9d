//! One model on every device: speed, and how far each is from the CPU.

use crate::cli::error::{Error, Result};
use crate::cli::output;
use halite::hal::{DeviceInfo, DeviceOptions};
use halite::models::inference::parity::{Parity, Parting, Reference};
use halite::models::inference::{Decoder, Want};
use halite::models::model::Model;
use std::path::Path;
use std::time::Instant;

/// Tokens that the devices generate.
const NEW_TOKENS: usize = 64;

/// One device's part of the comparison.
#[derive(Debug, serde::Serialize)]
pub struct Row {
    device: String,
    name: String,
    /// Why the device couldn't run the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    comparison: Option<Comparison>,
}

/// A device's speed, and how far it is from the CPU.
#[derive(Debug, serde::Serialize)]
struct Comparison {
    prefill_tokens_per_second: f64,
    decode_tokens_per_second: f64,
    /// Of the prompt, as logits are.
    max_logit_difference: f64,
    /// Of the prompt, in nats.
    mean_kl: f64,
    same_tokens: bool,
    router_agreement: f64,
    /// Of prompt and continuation, in standard deviations of the CPU's logits.
    max_logit_difference_replayed: f64,
    first_near_tie: Option<Parting>,
    /// What rounding doesn't explain.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

/// What a device made of the prompt.
struct Answer {
    model: Model,
    logits: Vec<f32>,
    tokens: Vec<u32>,
    prefill_seconds: f64,
    decode_seconds: f64,
}

/// Runs the model in `folder` on every device; the CPU is what the others are compared with.
pub fn all_devices(folder: &Path, prompt: &[u32], options: &DeviceOptions) -> Result<Vec<Row>> {
    let registry = halite::registry();
    let run = |info: DeviceInfo| {
        let opened = registry.open(&info.selector, options).map_err(Error::from);
        let answer = opened.and_then(|device| answer(Model::open(device, folder)?, prompt));
        (info, answer)
    };
    let answers: Vec<_> = registry.find("all")?.into_iter().map(run).collect();
    // Without the CPU backend, the first device that answers is what the others are compared with.
    let mut answered = answers.iter().filter_map(|(info, a)| Some((info, a.as_ref().ok()?)));
    let base = answered.clone().find(|(info, _)| info.backend == "cpu").or_else(|| answered.next());
    let base = match base {
        // The last of the new tokens isn't fed.
        Some((_, b)) => Some((b, Reference::new(&b.model, prompt, NEW_TOKENS - 1)?)),
        None => None,
    };
    let row = |(info, answer): &(DeviceInfo, Result<Answer>)| {
        let compared = answer.as_ref().map_err(Error::to_string).and_then(|a| {
            let compare = |(b, reference): &(&Answer, Reference<'_>)| {
                Ok(compare(a, b, prompt.len(), &reference.compare(&a.model)?))
            };
            base.as_ref().map(compare).transpose().map_err(|e: Error| e.to_string())
        });
        let (comparison, error) = match compared {
            Ok(comparison) => (comparison, None),
            Err(error) => (None, Some(error)),
        };
        Row { device: info.selector.clone(), name: info.name.clone(), error, comparison }
    };
    Ok(answers.iter().map(row).collect())
}

/// An error if a device couldn't run the model, or differs by more than rounding.
pub fn verdict(rows: &[Row]) -> Result<()> {
    for r in rows {
        if let Some(error) = &r.error {
            return Err(Error::Failed(format!("{} can't run the model: {error}", r.device)));
        }
        if let Some(fault) = r.comparison.as_ref().and_then(|c| c.fault.as_ref()) {
            return Err(Error::Failed(format!("{} {fault}", r.device)));
        }
    }
    Ok(())
}

/// Prints the comparison as a table.
pub fn print(rows: &[Row]) -> Result<()> {
    let heading = [
        "device",
        "prefill tok/s",
        "decode tok/s",
        "max logit diff",
        "mean KL",
        "same tokens",
        "router agreement",
        "first near-tie",
        "diff replayed",
        "name",
    ];
    let mut table = vec![heading.map(String::from).to_vec()];
    for r in rows {
        let mut row = vec![r.device.clone()];
        match &r.comparison {
            Some(c) => row.extend([
                format!("{:.0}", c.prefill_tokens_per_second),
                format!("{:.0}", c.decode_tokens_per_second),
                format!("{:.2e}", c.max_logit_difference),
                format!("{:.2e}", c.mean_kl),
                if c.same_tokens { "yes".into() } else { "no".into() },
                format!("{:.2}%", 100.0 * c.router_agreement),
                c.first_near_tie.map_or("none".into(), |p| p.to_string()),
                format!("{:.2e}", c.max_logit_difference_replayed),
            ]),
            None => row.extend(["-"; 8].map(String::from)),
        }
        row.push(r.name.clone());
        table.push(row);
    }
    output::table(&table)
}

/// What `a` says of a prompt of `tokens` tokens, beside what `b` says.
fn compare(a: &Answer, b: &Answer, tokens: usize, parity: &Parity) -> Comparison {
    let differences = a.logits.iter().zip(&b.logits).map(|(x, y)| f64::from(x - y).abs());
    Comparison {
        prefill_tokens_per_second: tokens as f64 / a.prefill_seconds,
        // The first token comes with the prompt.
        decode_tokens_per_second: (a.tokens.len() - 1) as f64 / a.decode_seconds,
        max_logit_difference: differences.fold(0.0, f64::max),
        mean_kl: mean_kl(&b.logits, &a.logits, a.model.config.vocab_size),
        same_tokens: a.tokens == b.tokens,
        router_agreement: parity.router_agreement,
        max_logit_difference_replayed: parity.replayed,
        first_near_tie: parity.first,
        fault: parity.check().err().map(|fault| fault.to_string()),
    }
}

fn answer(model: Model, prompt: &[u32]) -> Result<Answer> {
    let mut decoder = Decoder::new(&model, prompt.len() + NEW_TOKENS)?;
    // Once to prepare, so that compilation isn't timed.
    decoder.feed(prompt, Want::All)?;
    decoder.truncate(0);
    let started = Instant::now();
    let logits = decoder.feed(prompt, Want::All)?.logits;
    let prefill_seconds = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let tokens = decoder.greedy(&logits, NEW_TOKENS)?;
    let decode_seconds = started.elapsed().as_secs_f64();
    drop(decoder);
    Ok(Answer { model, logits, tokens, prefill_seconds, decode_seconds })
}

/// Mean over rows of Σ p·(ln p − ln q), in nats, p and q the softmax of `p` and `q`.
fn mean_kl(p: &[f32], q: &[f32], vocab: usize) -> f64 {
    let log_softmax = |row: &[f32]| {
        let max = row.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = row.iter().map(|&x| f64::from(x - max).exp()).sum();
        row.iter().map(|&x| f64::from(x - max) - sum.ln()).collect::<Vec<f64>>()
    };
    let rows = p.chunks(vocab).zip(q.chunks(vocab));
    let kl = rows.map(|(p, q)| {
        let (p, q) = (log_softmax(p), log_softmax(q));
        p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>()
    });
    kl.sum::<f64>() / (p.len() / vocab).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_rounding_explains_passes() {
        let row = |fault: Option<&str>, error: Option<&str>| {
            let comparison = Comparison {
                prefill_tokens_per_second: 1.0,
                decode_tokens_per_second: 1.0,
                max_logit_difference: 0.5,
                mean_kl: 0.0,
                same_tokens: false,
                router_agreement: 0.9,
                max_logit_difference_replayed: 1e-6,
                first_near_tie: Some(Parting { token: 37, layer: Some(2), gap: 3e-6 }),
                fault: fault.map(String::from),
            };
            let comparison = error.is_none().then_some(comparison);
            Row { device: "toy:0".into(), name: "Toy".into(), error: error.map(String::from), comparison }
        };
        let json = serde_json::to_value(row(None, None)).unwrap();
        assert_eq!(json["first_near_tie"], serde_json::json!({ "token": 37, "layer": 2, "gap": 3e-6 }));
        verdict(&[row(None, None), row(None, None)]).unwrap();
        let fails = |bad| verdict(&[row(None, None), bad]).unwrap_err().to_string();
        assert_eq!(fails(row(Some("is off"), None)), "toy:0 is off");
        assert_eq!(fails(row(None, Some("too small"))), "toy:0 can't run the model: too small");
    }
}
