//! Tests of the sampler: each filter against its definition, and the draws against probabilities.

use super::*;
use proptest::prelude::*;

fn sampler(options: SamplingOptions) -> Sampler {
    Sampler::new(options).unwrap()
}

/// All tokens that a sampler gives over many steps, sorted.
fn support(options: SamplingOptions, logits: &[f32], previous: &[u32]) -> Vec<u32> {
    let sampler = sampler(options);
    let mut seen: Vec<u32> =
        (0..2000).map(|step| sampler.sample(&mut logits.to_vec(), previous, step).unwrap()).collect();
    seen.sort_unstable();
    seen.dedup();
    seen
}

fn log(probabilities: &[f32]) -> Vec<f32> {
    probabilities.iter().map(|p| p.ln()).collect()
}

#[test]
fn greedy_takes_the_likeliest_and_the_lowest_of_equals() {
    let greedy = sampler(SamplingOptions { temperature: 0.0, ..Default::default() });
    assert_eq!(greedy.sample(&mut [0.5, 2.0, -1.0, 2.0], &[], 0), Ok(1));
    assert_eq!(greedy.sample(&mut [-0.0, 0.0], &[], 0), Ok(0));
    assert_eq!(greedy.sample(&mut [], &[], 0), Err(SamplingError::NoLogits));
}

#[test]
fn draws_follow_the_probabilities() {
    let sampler = sampler(SamplingOptions { seed: 7, ..Default::default() });
    let probabilities = [0.1, 0.6, 0.3];
    let mut counts = [0u32; 3];
    let draws = 20_000;
    for step in 0..draws {
        counts[sampler.sample(&mut log(&probabilities), &[], step).unwrap() as usize] += 1;
    }
    // Four standard deviations of a binomial count.
    for (count, p) in counts.iter().zip(probabilities) {
        let (mean, deviation) = (draws as f32 * p, (draws as f32 * p * (1.0 - p)).sqrt());
        assert!((*count as f32 - mean).abs() < 4.0 * deviation, "{counts:?}");
    }
}

#[test]
fn a_draw_is_a_function_of_seed_and_step() {
    let logits = vec![0.0; 1000];
    let tokens = |seed| {
        let sampler = sampler(SamplingOptions { seed, ..Default::default() });
        (0..8).map(|step| sampler.sample(&mut logits.clone(), &[], step).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(tokens(3), tokens(3));
    assert_ne!(tokens(3), tokens(4));
    assert_ne!(tokens(3)[0], tokens(3)[1]);
    // Both words of the seed count.
    assert_ne!(tokens(3), tokens(3 | 1 << 32));
}

#[test]
fn samples_of_a_seed_have_draws_of_their_own() {
    let logits = vec![0.0; 1000];
    let tokens = |sample| {
        let sampler = sampler(SamplingOptions { seed: 3, ..Default::default() }).sample_number(sample);
        (0..8).map(|step| sampler.sample(&mut logits.clone(), &[], step).unwrap()).collect::<Vec<_>>()
    };
    let unnumbered = sampler(SamplingOptions { seed: 3, ..Default::default() });
    assert_eq!(tokens(0)[0], unnumbered.sample(&mut logits.clone(), &[], 0).unwrap());
    assert_eq!(tokens(2), tokens(2));
    assert_ne!(tokens(0), tokens(1));
    assert_ne!(tokens(1), tokens(2));
}

#[test]
fn temperature_sharpens_without_overflow() {
    let cold = SamplingOptions { temperature: 1e-38, ..Default::default() };
    assert_eq!(support(cold, &[-3e38, 3e38, 2e38], &[]), [1]);
    // 0.5 squares the odds: 4:1 becomes 16:1, below a min-p of 0.1.
    let cool = SamplingOptions { temperature: 0.5, min_p: 0.1, ..Default::default() };
    assert_eq!(support(cool, &log(&[0.2, 0.8]), &[]), [1]);
}

#[test]
fn top_k_keeps_ties_with_the_last() {
    let top = |top_k| SamplingOptions { top_k, ..Default::default() };
    let logits = [1.0, 2.0, 1.0, 0.0];
    assert_eq!(support(top(1), &logits, &[]), [1]);
    assert_eq!(support(top(2), &logits, &[]), [0, 1, 2]);
    assert_eq!(support(top(0), &logits, &[]), [0, 1, 2, 3]);
    assert_eq!(support(top(99), &logits, &[]), [0, 1, 2, 3]);
}

#[test]
fn top_p_keeps_the_fewest_with_enough_probability() {
    let top = |top_p| SamplingOptions { top_p, ..Default::default() };
    let logits = log(&[0.2, 0.5, 0.3]);
    assert_eq!(support(top(1e-6), &logits, &[]), [1]);
    assert_eq!(support(top(0.6), &logits, &[]), [1, 2]);
    assert_eq!(support(top(0.9), &logits, &[]), [0, 1, 2]);
    // Of equally likely tokens the lowest ids stay.
    assert_eq!(support(top(0.4), &[0.0; 4], &[]), [0, 1]);
}

#[test]
fn min_p_keeps_a_share_of_the_likeliest() {
    let min = |min_p| SamplingOptions { min_p, ..Default::default() };
    let logits = log(&[0.05, 0.6, 0.35]);
    assert_eq!(support(min(0.5), &logits, &[]), [1, 2]);
    assert_eq!(support(min(1.0), &logits, &[]), [1]);
    assert_eq!(support(min(0.0), &logits, &[]), [0, 1, 2]);
}

#[test]
fn filters_apply_in_order() {
    // Top-k first renormalises to 0.625 and 0.375: top-p 0.6 is then met by the first alone.
    let options = SamplingOptions { top_k: 2, top_p: 0.6, ..Default::default() };
    assert_eq!(support(options, &log(&[0.5, 0.3, 0.2]), &[]), [0]);
    // Temperature comes before top-p: 0.5 turns 0.6, 0.4 into 0.69, 0.31.
    let options = SamplingOptions { temperature: 0.5, top_p: 0.65, ..Default::default() };
    assert_eq!(support(options, &log(&[0.6, 0.4]), &[]), [0]);
}

#[test]
fn repetition_penalty_counts_a_token_once() {
    let greedy = sampler(SamplingOptions { temperature: 0.0, repetition_penalty: 2.0, ..Default::default() });
    let mut logits = [4.0, 1.5, -1.0, 0.0];
    assert_eq!(greedy.sample(&mut logits, &[0, 2, 0, 0, 3], 0), Ok(0));
    assert_eq!(logits, [2.0, 1.5, -2.0, 0.0]);
    assert_eq!(greedy.sample(&mut [f32::MIN, f32::MIN], &[0, 1], 0), Ok(0));
    assert_eq!(
        greedy.sample(&mut [0.0; 4], &[4], 0),
        Err(SamplingError::UnknownToken { id: 4, vocab_size: 4 })
    );
}

#[test]
fn non_finite_logits_are_an_error() {
    for value in [f32::INFINITY, f32::NEG_INFINITY] {
        let error = sampler(SamplingOptions::default()).sample(&mut [0.0, value], &[], 0).unwrap_err();
        assert_eq!(error, SamplingError::NonFinite { id: 1, value });
    }
    let error = sampler(SamplingOptions::default()).sample(&mut [f32::NAN], &[], 0).unwrap_err();
    assert_eq!(error.to_string(), "logit of token 0 is NaN, not a finite number");
}

#[test]
fn options_out_of_range_are_named() {
    let base = SamplingOptions::default;
    for (options, text) in [
        (
            SamplingOptions { temperature: -0.5, ..base() },
            "temperature is -0.5, but must be a finite number of at least 0",
        ),
        (SamplingOptions { top_p: 0.0, ..base() }, "top_p is 0, but must be above 0 and at most 1"),
        (SamplingOptions { top_p: f32::NAN, ..base() }, "top_p is NaN, but must be above 0 and at most 1"),
        (SamplingOptions { min_p: 1.5, ..base() }, "min_p is 1.5, but must be from 0 to 1"),
        (
            SamplingOptions { repetition_penalty: 0.0, ..base() },
            "repetition_penalty is 0, but must be a finite number above 0",
        ),
    ] {
        assert_eq!(Sampler::new(options).unwrap_err().to_string(), text);
    }
}

/// The filters by their definitions, over a full sort, as Hugging Face's processors state them.
fn kept_by_definition(logits: &[f32], options: &SamplingOptions) -> Vec<u32> {
    let mut sorted: Vec<(u32, f64)> = (0..)
        .zip(logits.iter().map(|&logit| (f64::from(logit) / f64::from(options.temperature)).exp()))
        .collect();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    if options.top_k > 0 {
        let least = sorted[options.top_k.min(sorted.len()) - 1].1;
        sorted.retain(|&(_, p)| p >= least);
    }
    let total: f64 = sorted.iter().map(|&(_, p)| p).sum();
    let mut before = 0.0;
    sorted.retain(|&(_, p)| {
        let keep = before < f64::from(options.top_p) * total;
        before += p;
        keep
    });
    let best = sorted[0].1;
    sorted.retain(|&(_, p)| p >= f64::from(options.min_p) * best);
    let mut ids: Vec<u32> = sorted.into_iter().map(|(id, _)| id).collect();
    ids.sort_unstable();
    ids
}

proptest! {
    #[test]
    fn filters_agree_with_their_definitions(
        // Quarters make ties frequent and keep every comparison exact enough.
        logits in prop::collection::vec((-12i8..12).prop_map(|x| f32::from(x) / 4.0), 1..300),
        temperature in prop::sample::select(vec![0.5f32, 1.0, 2.0]),
        top_k in 0usize..40,
        top_p in 0.011f32..1.0,
        min_p in prop::sample::select(vec![0.0f32, 0.123, 0.77]),
        step in any::<u64>(),
    ) {
        let options = SamplingOptions { temperature, top_k, top_p, min_p, ..Default::default() };
        let expected = kept_by_definition(&logits, &options);
        let token = sampler(options).sample(&mut logits.clone(), &[], step).unwrap();
        prop_assert!(expected.contains(&token), "{token} is not in {expected:?}");
    }

    #[test]
    fn top_p_keeps_the_same_as_a_full_sort(
        weights in prop::collection::vec(1u8..20, 1..2000), p in 0.01f64..1.0
    ) {
        let all: Vec<Candidate> =
            (0..).zip(&weights).map(|(id, &weight)| Candidate { id, weight: weight.into() }).collect();
        let mut kept = all.clone();
        keep_top_p(&mut kept, p);
        let mut sorted = all.clone();
        sorted.sort_by(Candidate::order);
        let needed = p * sorted.iter().map(|candidate| candidate.weight).sum::<f64>();
        let mut mass = 0.0;
        let count = 1 + sorted.iter().take_while(|c| { mass += c.weight; mass < needed }).count();
        let mut expected: Vec<u32> = sorted[..count].iter().map(|candidate| candidate.id).collect();
        expected.sort_unstable();
        prop_assert_eq!(kept.iter().map(|candidate| candidate.id).collect::<Vec<_>>(), expected);
    }
}
