//! Routing, and moving rows to experts and back.

use super::elementwise::sigmoid;
use super::norm::softmax_row;
use super::{Array, Real, Sum};
use crate::{GroupScore, Router, ScoreFn};

/// Added to the sum of the weights before it divides them.
const NORM_EPS: f64 = 1e-20;

/// The scores of one token's logits.
pub fn scores<T: Real>(f: ScoreFn, logits: &[T]) -> Vec<T> {
    match f {
        ScoreFn::Softmax => softmax_row(logits),
        ScoreFn::Sigmoid => logits.iter().map(|&x| sigmoid(x)).collect(),
    }
}

/// The indices of `x`, largest value first, the lower index first among equals.
pub fn best_first<T: Real>(x: &[T]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| x[b].value().total_cmp(&x[a].value()));
    order
}

/// What one token's choice goes by: the scores plus the bias, the groups' scores, and whether each expert
/// is in a chosen group.
pub fn biased_scores<T: Real>(r: Router, logits: &[T], bias: Option<&[T]>) -> (Vec<T>, Vec<T>, Vec<bool>) {
    let mut biased = scores(r.scores, logits);
    if let Some(bias) = bias {
        biased.iter_mut().zip(bias).for_each(|(s, &b)| *s = *s + b);
    }
    let size = logits.len() / r.groups;
    let group_scores: Vec<T> = (0..r.groups)
        .map(|g| {
            let members = &biased[g * size..(g + 1) * size];
            let best = best_first(members);
            match r.group_score {
                GroupScore::Max => members[best[0]],
                GroupScore::SumTop2 => T::sum(best.iter().take(2).map(|&i| members[i])),
            }
        })
        .collect();
    let mut eligible = vec![false; logits.len()];
    for g in best_first(&group_scores).into_iter().take(r.top_groups) {
        eligible[g * size..(g + 1) * size].fill(true);
    }
    (biased, group_scores, eligible)
}

pub(super) fn router<T: Real>(r: Router, inputs: &[Array<T>], outputs: &mut [Array<T>]) {
    let logits = &inputs[0];
    for t in 0..logits.rows() {
        let s = scores(r.scores, logits.row(t));
        let (biased, _, eligible) = biased_scores(r, logits.row(t), r.bias.then(|| &inputs[1].data[..]));
        let chosen: Vec<usize> =
            best_first(&biased).into_iter().filter(|&e| eligible[e]).take(r.top_k).collect();
        let sum = T::sum(chosen.iter().map(|&e| s[e])) + T::from(NORM_EPS);
        for (j, e) in chosen.into_iter().enumerate() {
            let w = if r.normalize { s[e] / sum } else { s[e] };
            outputs[0].row_mut(t)[j] = (e as f64).into();
            outputs[1].row_mut(t)[j] = w * f64::from(r.scale.0).into();
        }
    }
}

/// With `s` the scores, `e_j` the chosen experts and `dw` the gradient of their weights: without
/// normalisation `ds[e_j] = scale · dw_j`; with `S = Σ s[e_j] + 1e-20`,
/// `ds[e_j] = scale · (dw_j − Σ_i dw_i · s[e_i] / S) / S`. Then through the softmax,
/// `dlogits = s · (ds − Σ s·ds)`, or the sigmoid, `dlogits = ds · s · (1 − s)`.
pub(super) fn router_backward<T: Real>(r: Router, inputs: &[Array<T>], dlogits: &mut Array<T>) {
    let [logits, experts, dweights] = inputs else { unreachable!("three inputs were checked") };
    let scale = T::from(f64::from(r.scale.0));
    for t in 0..logits.rows() {
        let row = logits.row(t);
        let s = scores(r.scores, row);
        let chosen: Vec<(usize, T)> = experts
            .row(t)
            .iter()
            .zip(dweights.row(t))
            .filter_map(|(e, &dw)| Some((e.index(row.len())?, dw)))
            .collect();
        let mut ds = vec![T::zero(); row.len()];
        let sum = T::sum(chosen.iter().map(|&(e, _)| s[e])) + T::from(NORM_EPS);
        let mean = T::sum(chosen.iter().map(|&(e, dw)| dw * (s[e] / sum)));
        for &(e, dw) in &chosen {
            ds[e] = scale * if r.normalize { (dw - mean) / sum } else { dw };
        }
        let dot = T::sum(chosen.iter().map(|&(e, _)| s[e] * ds[e]));
        for (i, out) in dlogits.row_mut(t).iter_mut().enumerate() {
            *out = match r.scores {
                ScoreFn::Softmax => s[i] * (ds[i] - dot),
                ScoreFn::Sigmoid => ds[i] * s[i] * (T::from(1.0) - s[i]),
            };
        }
    }
}

pub(super) fn permutation<T: Real>(n: usize, experts: &Array<T>, outputs: &mut [Array<T>]) {
    let k = experts.width();
    let [offsets, rows, positions] = outputs else { unreachable!("three outputs were checked") };
    rows.data.fill(T::from(-1.0));
    positions.data.fill(T::from(-1.0));
    let mut next = 0;
    for e in 0..n {
        offsets.data[e] = (next as f64).into();
        for a in (0..experts.data.len()).filter(|&a| experts.data[a].index(n) == Some(e)) {
            rows.data[next] = ((a / k) as f64).into();
            positions.data[a] = (next as f64).into();
            next += 1;
        }
    }
    offsets.data[n] = (next as f64).into();
}

pub(super) fn combine<T: Real>(weighted: bool, accumulate: bool, inputs: &[Array<T>], y: &mut Array<T>) {
    let (x, positions) = (&inputs[0], &inputs[1]);
    for t in 0..positions.shape[0] {
        for c in 0..x.shape[1] {
            let y = &mut y.row_mut(t)[c];
            let mut sum = T::Sum::default();
            if accumulate {
                sum.push(*y);
            }
            for (j, p) in positions.row(t).iter().enumerate() {
                if let Some(p) = p.index(x.shape[0]) {
                    let x = x.row(p)[c];
                    sum.push(if weighted { inputs[2].row(t)[j] * x } else { x });
                }
            }
            *y = sum.total();
        }
    }
}

pub(super) fn combine_backward<T: Real>(inputs: &[Array<T>], outputs: &mut [Array<T>]) {
    let [dy, x, positions, weights] = inputs else { unreachable!("four inputs were checked") };
    let [dx, dweights] = outputs else { unreachable!("two outputs were checked") };
    dx.data.fill(T::zero());
    for t in 0..positions.shape[0] {
        for (j, p) in positions.row(t).iter().enumerate() {
            dweights.row_mut(t)[j] = T::zero();
            if let Some(p) = p.index(x.shape[0]) {
                let w = weights.row(t)[j];
                dx.row_mut(p).iter_mut().zip(dy.row(t)).for_each(|(dx, &dy)| *dx = w * dy);
                dweights.row_mut(t)[j] = T::sum(dy.row(t).iter().zip(x.row(p)).map(|(&a, &b)| a * b));
            }
        }
    }
}
