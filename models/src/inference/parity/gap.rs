//! How close a choice was that another device made differently.

use halite_hal::Router;
use halite_hal::reference::biased_scores;

/// One token in one layer: what its router said, and the experts that were chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Routed<'a> {
    /// `[experts]`.
    pub logits: &'a [f32],
    /// `[k]`, in any order.
    pub experts: &'a [i32],
}

/// The gap in the reference between the experts that it alone chose and those that `other` alone chose, in
/// standard deviations of the scores that it chose by; `None` where both chose the same set. Where the groups
/// that experts are chosen from differ, it is the gap between the groups' scores.
pub(super) fn of_experts(
    kind: Router,
    bias: Option<&[f64]>,
    reference: Routed<'_>,
    other: Routed<'_>,
) -> Option<f64> {
    let index = |experts: &[i32]| experts.iter().map(|&e| e as usize).collect::<Vec<_>>();
    let (own, others) = (index(reference.experts), index(other.experts));
    if missing(&own, &others).is_empty() && missing(&others, &own).is_empty() {
        return None;
    }
    let wide = |logits: &[f32]| logits.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    let (scores, groups, open) = biased_scores(kind, &wide(reference.logits), bias);
    let (_, _, open_there) = biased_scores(kind, &wide(other.logits), bias);
    let size = scores.len() / kind.groups;
    let opened = |open: &[bool]| (0..kind.groups).filter(|g| open[g * size]).collect::<Vec<_>>();
    let (own_groups, other_groups) = (opened(&open), opened(&open_there));
    let gap = match own_groups == other_groups {
        true => between(&scores, &own, &others),
        false => between(&groups, &own_groups, &other_groups),
    };
    Some(relative(gap, &scores))
}

/// The gap in the reference's `logits [vocab]` between its likeliest token and another device's, in standard
/// deviations; `None` where they are the same.
pub(super) fn of_tokens(logits: &[f32], own: u32, other: u32) -> Option<f64> {
    let logits: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
    (own != other).then(|| relative(between(&logits, &[own as usize], &[other as usize]), &logits))
}

/// The elements of `a` that aren't in `b`.
fn missing(a: &[usize], b: &[usize]) -> Vec<usize> {
    a.iter().copied().filter(|x| !b.contains(x)).collect()
}

/// The distance of the best that only `own` has from the worst that only `other` has: the other device has put
/// each of the latter above each of the former. Infinite where it chose what doesn't exist, or nothing instead.
fn between(values: &[f64], own: &[usize], other: &[usize]) -> f64 {
    let value = |i: usize| values.get(i).copied().unwrap_or(f64::NEG_INFINITY);
    let best = missing(own, other).into_iter().map(value).fold(f64::NEG_INFINITY, f64::max);
    let worst = missing(other, own).into_iter().map(value).fold(f64::INFINITY, f64::min);
    // Negative where the reference rounded its scores and these aren't.
    (best - worst).abs()
}

/// `gap` in standard deviations of `values`.
fn relative(gap: f64, values: &[f64]) -> f64 {
    // Equal values would give 0/0; and NaN, if there is one, is to be positive: it counts as the widest gap.
    if gap == 0.0 { 0.0 } else { (gap / deviation(values.iter().copied())).abs() }
}

/// The standard deviation; 0 of nothing.
pub(super) fn deviation(values: impl ExactSizeIterator<Item = f64> + Clone) -> f64 {
    let n = values.len().max(1) as f64;
    let mean = values.clone().sum::<f64>() / n;
    (values.map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use halite_hal::{GroupScore, ScoreFn};

    /// Logits whose sigmoids are these scores.
    fn logits(scores: &[f64]) -> Vec<f32> {
        scores.iter().map(|s| (s / (1.0 - s)).ln() as f32).collect()
    }

    fn gap(
        kind: Router,
        bias: Option<&[f64]>,
        own: (&[f64], &[i32]),
        other: (&[f64], &[i32]),
    ) -> Option<f64> {
        let routed = [own, other].map(|(scores, _)| logits(scores));
        let own = Routed { logits: &routed[0], experts: own.1 };
        of_experts(kind, bias, own, Routed { logits: &routed[1], experts: other.1 })
    }

    fn near(got: Option<f64>, want: f64) {
        let got = got.expect("another choice");
        assert!((got - want).abs() < 1e-6, "{got}, wanted {want}");
    }

    const SCORES: [f64; 4] = [0.8, 0.6, 0.4, 0.2];
    /// The root of the mean of 0.09, 0.01, 0.01, 0.09.
    const DEVIATION: f64 = 0.223_606_797_749_979;

    #[test]
    fn sets_are_compared_and_not_their_order() {
        let kind = Router::new(ScoreFn::Sigmoid, 2);
        let gap = |experts: &[i32]| gap(kind, None, (&SCORES, &[0, 1]), (&SCORES, experts));
        assert_eq!(gap(&[0, 1]), None);
        assert_eq!(gap(&[1, 0]), None);
        near(gap(&[0, 2]), 0.2 / DEVIATION);
        near(gap(&[3, 0]), 0.4 / DEVIATION);
        // Nearest of all would be 1 and 2, but 0 was exchanged for 3 too.
        near(gap(&[2, 3]), 0.6 / DEVIATION);
        for impossible in [&[0, 4], &[0, -1], &[0, 0]] {
            assert_eq!(gap(impossible), Some(f64::INFINITY), "{impossible:?}");
        }
    }

    #[test]
    fn the_bias_takes_part_in_the_choice() {
        let kind = Router::new(ScoreFn::Sigmoid, 1).bias(true);
        let bias = [0.0, 0.2, 0.0, 0.0];
        // Scores of 0.8, 0.8, 0.4 and 0.2 to choose by.
        let deviation = (0.0675f64).sqrt();
        near(gap(kind, Some(&bias), (&SCORES, &[0]), (&SCORES, &[1])), 0.0);
        near(gap(kind, Some(&bias), (&SCORES, &[0]), (&SCORES, &[2])), 0.4 / deviation);
    }

    #[test]
    fn other_groups_are_as_far_as_their_scores() {
        let kind = |score| Router::new(ScoreFn::Sigmoid, 1).groups(2, 1, score);
        let (own, other) = ([0.8, 0.3, 0.7, 0.2], [0.5, 0.3, 0.7, 0.2]);
        let deviation = (0.065f64).sqrt();
        near(gap(kind(GroupScore::Max), None, (&own, &[0]), (&other, &[2])), 0.1 / deviation);
        near(gap(kind(GroupScore::SumTop2), None, (&own, &[0]), (&other, &[2])), 0.2 / deviation);
        // In the same group it is the experts.
        near(gap(kind(GroupScore::Max), None, (&own, &[0]), (&own, &[1])), 0.5 / deviation);
    }

    #[test]
    fn equal_scores_have_no_gap_and_what_is_no_number_has_no_bound() {
        let kind = Router::new(ScoreFn::Softmax, 1);
        let own = Routed { logits: &[1.0; 3], experts: &[0] };
        assert_eq!(of_experts(kind, None, own, Routed { logits: &[1.0; 3], experts: &[2] }), Some(0.0));
        let own = Routed { logits: &[f32::NAN; 3], experts: &[0] };
        let nan = of_experts(kind, None, own, Routed { logits: &[1.0; 3], experts: &[2] }).unwrap();
        assert!(nan.is_nan() && nan.is_sign_positive());
    }

    #[test]
    fn tokens_are_as_far_as_their_logits() {
        assert_eq!(of_tokens(&[1.0, 3.0, 2.0], 1, 1), None);
        near(of_tokens(&[1.0, 3.0, 2.0], 1, 2), 1.0 / (2.0f64 / 3.0).sqrt());
        assert_eq!(of_tokens(&[3.0, 3.0, 2.0], 0, 1), Some(0.0));
    }
}
