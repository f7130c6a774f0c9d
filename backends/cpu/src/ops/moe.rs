//! Routing, and moving rows to experts and back.

use crate::par;
use crate::simd::math::{dot, fma};
use crate::simd::simd;
use crate::view::{Row, View};
use halite_hal::{GroupScore, Router, ScoreFn};

/// Added to the sum of the weights before it divides them.
const NORM_EPS: f64 = 1e-20;

/// Turns a token's logits into scores. In f64, so that a choice between near equals is the reference's.
fn score(f: ScoreFn, x: &mut [f64]) {
    match f {
        ScoreFn::Softmax => {
            let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            x.iter_mut().for_each(|x| *x = (*x - max).exp());
            let sum: f64 = x.iter().sum();
            x.iter_mut().for_each(|x| *x /= sum);
        }
        _ => x.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-*x).exp())),
    }
}

/// The index of the largest of the allowed elements, the lowest among equals.
fn best(x: &[f64], allowed: impl Fn(usize) -> bool) -> Option<usize> {
    (0..x.len()).filter(|&i| allowed(i)).reduce(|a, b| if x[b] > x[a] { b } else { a })
}

/// Marks the experts of the groups that may be chosen from.
fn eligible(r: &Router, biased: &[f64], open: &mut [bool]) {
    if r.top_groups == r.groups {
        return open.fill(true);
    }
    open.fill(false);
    let size = biased.len() / r.groups;
    let score = |members: &[f64]| {
        let first = best(members, |_| true);
        let second = match r.group_score {
            GroupScore::SumTop2 => best(members, |i| Some(i) != first),
            _ => None,
        };
        first.into_iter().chain(second).map(|i| members[i]).sum()
    };
    let scores: Vec<f64> = biased.chunks_exact(size).map(score).collect();
    for _ in 0..r.top_groups {
        let g = best(&scores, |g| !open[g * size]).expect("no more groups are chosen than there are");
        open[g * size..(g + 1) * size].fill(true);
    }
}

/// # Safety
/// As for [`super::run`], here and below.
pub(super) unsafe fn router(r: Router, logits: &View, bias: Option<&View>, experts: &View, weights: &View) {
    let n = logits.cols();
    let load = |row: Row, out: &mut [f64]| {
        for (i, x) in out.iter_mut().enumerate() {
            // SAFETY: by the caller.
            *x = unsafe { row.get(i) };
        }
    };
    let mut biases = vec![0.0; n];
    if let Some(bias) = bias {
        load(bias.row(0), &mut biases);
    }
    par::ranges(logits.rows(), 16 * n, |tokens| {
        let (mut scores, mut biased) = (vec![0.0; n], vec![0.0; n]);
        let (mut open, mut chosen) = (vec![true; n], Vec::with_capacity(r.top_k));
        for t in tokens {
            load(logits.row(t), &mut scores);
            score(r.scores, &mut scores);
            for ((b, s), bias) in biased.iter_mut().zip(&scores).zip(&biases) {
                *b = s + bias;
            }
            eligible(&r, &biased, &mut open);
            chosen.clear();
            for _ in 0..r.top_k {
                let e = best(&biased, |e| open[e]).expect("no more experts are chosen than are eligible");
                open[e] = false;
                chosen.push(e);
            }
            let sum = chosen.iter().map(|&e| scores[e]).sum::<f64>() + NORM_EPS;
            let (e_row, w_row) = (experts.row(t), weights.row(t));
            for (j, &e) in chosen.iter().enumerate() {
                let w = if r.normalize { scores[e] / sum } else { scores[e] };
                // SAFETY: by the caller; each row is written once.
                unsafe {
                    e_row.set_int(j, e as i32);
                    w_row.set(j, w * f64::from(r.scale.0));
                }
            }
        }
    });
}

/// With `s` the scores and `S` the sum of the chosen ones: `ds[e_j] = scale · dw_j`, normalised
/// `scale · (dw_j − Σ dw·s / S) / S`; then through the softmax or the sigmoid.
pub(super) unsafe fn router_backward(r: Router, i: &[View], dlogits: &View) {
    let (logits, experts, dweights) = (&i[0], &i[1], &i[2]);
    let n = logits.cols();
    par::ranges(logits.rows(), 16 * n, |tokens| {
        let (mut x, mut s, mut ds) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
        for t in tokens {
            let row = logits.row(t);
            // SAFETY: by the caller.
            x.iter_mut().enumerate().for_each(|(i, x)| *x = unsafe { row.get(i) });
            s.copy_from_slice(&x);
            score(r.scores, &mut s);
            let (e_row, w_row) = (experts.row(t), dweights.row(t));
            let chosen = || {
                (0..r.top_k).filter_map(|j| {
                    // SAFETY: by the caller.
                    let (e, dw) = unsafe { (e_row.int(j), w_row.get(j)) };
                    Some((usize::try_from(e).ok().filter(|&e| e < n)?, dw))
                })
            };
            let sum = chosen().map(|(e, _)| s[e]).sum::<f64>() + NORM_EPS;
            let mean: f64 = chosen().map(|(e, dw)| dw * (s[e] / sum)).sum();
            let scale = f64::from(r.scale.0);
            ds.fill(0.0);
            for (e, dw) in chosen() {
                ds[e] = scale * if r.normalize { (dw - mean) / sum } else { dw };
            }
            let dot: f64 = chosen().map(|(e, _)| s[e] * ds[e]).sum();
            let out = dlogits.row(t);
            for e in 0..n {
                let d = match r.scores {
                    ScoreFn::Softmax => s[e] * (ds[e] - dot),
                    _ => ds[e] * s[e] / (1.0 + x[e].exp()),
                };
                // SAFETY: by the caller; each row is written once.
                unsafe { out.set(e, d) };
            }
        }
    });
}

/// A counting sort; small next to everything else, so one thread does it.
pub(super) unsafe fn permutation(n: usize, experts: &View, o: &[View]) {
    let (offsets, rows, positions) = (o[0].row(0), o[1].row(0), &o[2]);
    let k = experts.cols().max(1);
    // SAFETY: by the caller.
    let experts = unsafe { experts.ints() };
    let expert = |e: i32| usize::try_from(e).ok().filter(|&e| e < n);
    let mut next = vec![0usize; n + 1];
    for e in experts.iter().filter_map(|&e| expert(e)) {
        next[e + 1] += 1;
    }
    for e in 0..n {
        next[e + 1] += next[e];
    }
    // SAFETY: by the caller.
    unsafe {
        next.iter().enumerate().for_each(|(e, &at)| offsets.set_int(e, at as i32));
        (next[n]..rows.len()).for_each(|r| rows.set_int(r, -1));
        for (i, &e) in experts.iter().enumerate() {
            let mut position = -1;
            if let Some(e) = expert(e) {
                position = next[e] as i32;
                rows.set_int(next[e], (i / k) as i32);
                next[e] += 1;
            }
            positions.row(i / k).set_int(i % k, position);
        }
    }
}

simd! {
    fn add_scaled(w: f32, x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = fma::<FMA>(w, *x, *y);
        }
    }

    fn scale(w: f32, x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = w * x;
        }
    }

    fn dot_product(a: &[f32], b: &[f32]) -> f32 {
        dot::<FMA>(a, b)
    }
}

pub(super) unsafe fn combine(accumulate: bool, i: &[View], y: &View) {
    let (x, positions, weights) = (&i[0], &i[1], i.get(2));
    let (rows, h, k) = (x.shape[0], x.shape[1], positions.cols());
    par::ranges(y.rows(), (k + 1) * h, |tokens| {
        par::with_scratch(2 * h, |scratch| {
            let (a, b) = scratch.split_at_mut(h);
            for t in tokens {
                let mut sum = |y: &mut [f32]| {
                    for j in 0..k {
                        // SAFETY: by the caller.
                        unsafe {
                            let Some(p) = row_of(positions, t, j, rows) else { continue };
                            let w = weights.map_or(1.0, |w| w.row(t).get(j) as f32);
                            add_scaled(w, x.row(p).read(a), y);
                        }
                    }
                };
                // SAFETY: by the caller; each row is written once.
                unsafe {
                    if accumulate {
                        y.row(t).update(b, sum);
                    } else {
                        y.row(t).write(b, |y| {
                            y.fill(0.0);
                            sum(y);
                        });
                    }
                }
            }
        });
    });
}

/// The row that assignment `(t, j)` names, if it names one of `rows`.
///
/// # Safety
/// As for [`super::run`].
unsafe fn row_of(positions: &View, t: usize, j: usize, rows: usize) -> Option<usize> {
    // SAFETY: by the caller.
    usize::try_from(unsafe { positions.row(t).int(j) }).ok().filter(|&p| p < rows)
}

pub(super) unsafe fn combine_backward(i: &[View], dx: &View, dweights: &View) {
    let (dy, x, positions, weights) = (&i[0], &i[1], &i[2], &i[3]);
    let (rows, h, k) = (x.shape[0], x.shape[1], positions.cols());
    let tokens = positions.rows();
    // Who names each row; so each row has one writer, even if two assignments should name it.
    let mut owner = vec![usize::MAX; rows];
    for a in 0..tokens * k {
        // SAFETY: by the caller.
        if let Some(p) = unsafe { row_of(positions, a / k, a % k, rows) } {
            owner[p] = a;
        }
    }
    par::ranges(rows, h, |range| {
        par::with_scratch(2 * h, |scratch| {
            let (a, b) = scratch.split_at_mut(h);
            for r in range {
                // SAFETY: by the caller; each row is written once.
                unsafe {
                    match owner[r] {
                        usize::MAX => dx.row(r).zero(),
                        at => {
                            let w = weights.row(at / k).get(at % k) as f32;
                            let dy = dy.row(at / k).read(a);
                            dx.row(r).write(b, |dx| scale(w, dy, dx));
                        }
                    }
                }
            }
        });
    });
    par::ranges(tokens, k * h, |range| {
        par::with_scratch(2 * h, |scratch| {
            let (a, b) = scratch.split_at_mut(h);
            for t in range {
                // SAFETY: by the caller; each row is written once.
                unsafe {
                    let dy = dy.row(t).read(a);
                    for j in 0..k {
                        let p = row_of(positions, t, j, rows);
                        let d = p.map_or(0.0, |p| dot_product(dy, x.row(p).read(b)));
                        dweights.row(t).set(j, f64::from(d));
                    }
                }
            }
        });
    });
}

/// Reads the first row of each expert, and checks that they ascend inside `0..=rows`.
///
/// # Safety
/// As for [`super::run`].
pub(super) unsafe fn expert_rows(offsets: &View, rows: usize) -> Result<Vec<std::ops::Range<usize>>, String> {
    // SAFETY: by the caller.
    let offsets = unsafe { offsets.ints() };
    let mut ranges = Vec::with_capacity(offsets.len().saturating_sub(1));
    for (e, w) in offsets.windows(2).enumerate() {
        let (Ok(start), Ok(end)) = (usize::try_from(w[0]), usize::try_from(w[1])) else {
            return Err(format!(
                "the rows of expert {e} are {}..{}, needs ascending offsets from 0",
                w[0], w[1]
            ));
        };
        if start > end || end > rows {
            return Err(format!(
                "the rows of expert {e} are {start}..{end}, needs ascending offsets to {rows}"
            ));
        }
        ranges.push(start..end);
    }
    Ok(ranges)
}
