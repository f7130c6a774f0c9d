//! Rotary embedding and attention.

use super::{Array, Real, Sum};
use crate::Attention;
use std::ops::Range;

/// Pair `(a, b)` turned by the angle of the position: `(a cos − b sin, a sin + b cos)`.
pub(super) fn rope<T: Real>(inverse: bool, interleaved: bool, inputs: &[Array<T>], y: &mut Array<T>) {
    let [x, cos, sin, index] = inputs else { unreachable!("four inputs were checked") };
    let (heads, d) = (x.shape[1], x.shape[2]);
    let (positions, half) = (cos.shape[0], cos.shape[1]);
    y.data.clone_from(&x.data);
    for t in 0..x.shape[0] {
        let p = index.data[t].value().clamp(0.0, (positions - 1) as f64) as usize;
        for h in 0..heads {
            let at = (t * heads + h) * d;
            for i in 0..half {
                let (first, second) = if interleaved { (2 * i, 2 * i + 1) } else { (i, i + half) };
                let (a, b) = (x.data[at + first], x.data[at + second]);
                let (c, s) = (cos.row(p)[i], sin.row(p)[i]);
                let s = if inverse { -s } else { s };
                y.data[at + first] = a * c - b * s;
                y.data[at + second] = a * s + b * c;
            }
        }
    }
}

/// The keys, counted from the start of the sequence, that query `i` of a sequence of `q_len` queries and
/// `kv_len` keys sees.
pub fn visible(a: Attention, q_len: usize, kv_len: usize, i: usize) -> Range<usize> {
    let position = (kv_len + i) as i64 - q_len as i64;
    let end = if a.causal { (position + 1).clamp(0, kv_len as i64) } else { kv_len as i64 };
    let start = a.window.map_or(0, |w| (position - i64::from(w) + 1).clamp(0, end));
    start as usize..end as usize
}

/// One query row of a sequence and the rows of the keys it sees.
struct Query {
    token: usize,
    keys: Range<usize>,
}

/// Every query of every sequence. Rows outside the tensors are left out.
fn queries<T: Real>(a: Attention, seqs: &Array<T>, tokens: usize, kv: usize) -> Vec<Query> {
    let mut all = Vec::new();
    for s in 0..seqs.rows() {
        let [q_start, q_len, kv_start, kv_len] =
            [0, 1, 2, 3].map(|c| seqs.row(s)[c].value().max(0.0) as usize);
        for i in 0..q_len {
            let seen = visible(a, q_len, kv_len, i);
            let keys = (kv_start + seen.start).min(kv)..(kv_start + seen.end).min(kv);
            if q_start + i < tokens {
                all.push(Query { token: q_start + i, keys });
            }
        }
    }
    all
}

/// The `d` elements of a head of a row of `[rows, heads, d]`.
fn head<T>(x: &Array<T>, row: usize, head: usize) -> &[T] {
    let d = x.shape[2];
    &x.data[(row * x.shape[1] + head) * d..][..d]
}

fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    T::sum(a.iter().zip(b).map(|(&a, &b)| a * b))
}

/// `o = softmax(scale · q·k)·v`, `lse = ln Σ exp(scale · q·k)`.
pub(super) fn forward<T: Real>(a: Attention, inputs: &[Array<T>], outputs: &mut [Array<T>]) {
    let [q, k, v, seqs] = inputs else { unreachable!("four inputs were checked") };
    let (heads, dv) = (q.shape[1], v.shape[2]);
    let group = heads / k.shape[1];
    let scale = T::from(f64::from(a.scale.0));
    outputs.iter_mut().for_each(|o| o.data.fill(T::zero()));
    for Query { token, keys } in queries(a, seqs, q.shape[0], k.shape[0]) {
        if keys.is_empty() {
            continue;
        }
        for h in 0..heads {
            let s: Vec<T> =
                keys.clone().map(|j| scale * dot(head(q, token, h), head(k, j, h / group))).collect();
            let max = T::largest(s.iter().copied());
            let p: Vec<T> = s.iter().map(|&s| (s - max).exp()).collect();
            let sum = T::sum(p.iter().copied());
            for c in 0..dv {
                let o = T::sum(keys.clone().zip(&p).map(|(j, &p)| p * head(v, j, h / group)[c]));
                outputs[0].data[(token * heads + h) * dv + c] = o / sum;
            }
            outputs[1].data[token * heads + h] = max + sum.ln();
        }
    }
}

/// With `p = exp(scale · q·k − lse)`, `D = do·o`, `ds = p · (do·v − D)`:
/// `dq = scale · Σ ds·k`, `dk = scale · Σ ds·q`, `dv = Σ p·do`.
pub(super) fn backward<T: Real>(a: Attention, inputs: &[Array<T>], outputs: &mut [Array<T>]) {
    let [grad, q, k, v, o, lse, seqs] = inputs else { unreachable!("seven inputs were checked") };
    let (heads, kv_heads, d, dv) = (q.shape[1], k.shape[1], q.shape[2], v.shape[2]);
    let group = heads / kv_heads;
    let scale = T::from(f64::from(a.scale.0));
    let sums = |n: usize| -> Vec<T::Sum> { (0..n).map(|_| T::Sum::default()).collect() };
    let (mut dq_sum, mut dk_sum, mut dv_sum) = (sums(q.data.len()), sums(k.data.len()), sums(v.data.len()));
    for Query { token, keys } in queries(a, seqs, q.shape[0], k.shape[0]) {
        for h in 0..heads {
            let kh = h / group;
            let (q, grad) = (head(q, token, h), head(grad, token, h));
            let delta = dot(grad, head(o, token, h));
            for j in keys.clone() {
                let (k, v) = (head(k, j, kh), head(v, j, kh));
                let p = (scale * dot(q, k) - lse.data[token * heads + h]).exp();
                let ds = p * (dot(grad, v) - delta) * scale;
                for c in 0..d {
                    dq_sum[(token * heads + h) * d + c].push(ds * k[c]);
                    dk_sum[(j * kv_heads + kh) * d + c].push(ds * q[c]);
                }
                for c in 0..dv {
                    dv_sum[(j * kv_heads + kh) * dv + c].push(p * grad[c]);
                }
            }
        }
    }
    for (out, sums) in outputs.iter_mut().zip([dq_sum, dk_sum, dv_sum]) {
        out.data = sums.iter().map(Sum::total).collect();
    }
}
