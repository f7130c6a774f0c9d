//! Attention with an online softmax (Dao 2023, FlashAttention-2, algorithm 1): no matrix of all scores.
//!
//! Scores are kept transposed, `[keys, queries]`, so that maxima and sums over keys run along vectors of
//! queries, and keys and values are read as they lie. Sequences of very few queries (decoding) go key by
//! key instead, in splits that are joined in order.

use crate::par::{self, Shared};
use crate::simd::math::{dot, exp, exp_shifted, fma, max};
use crate::simd::simd;
use crate::simd::tile::{Product, product};
use crate::view::View;
use halite_hal::Attention;
use std::ops::Range;

/// Queries of a block.
pub(super) const QUERIES: usize = 64;
/// Keys of a block.
pub(super) const KEYS: usize = 64;
/// Queries in vectors of this many.
pub(super) const LANES: usize = 16;
/// Up to so many queries, a sequence goes key by key.
const FEW: usize = 4;
/// Keys of a split.
const SPLIT: usize = 256;

/// A row of `seqs`.
#[derive(Clone, Copy)]
pub(super) struct Sequence {
    pub(super) q_start: usize,
    pub(super) q_len: usize,
    pub(super) kv_start: usize,
    pub(super) kv_len: usize,
}

impl Sequence {
    /// The keys that query `i` sees, counted from the sequence's first.
    pub(super) fn visible(&self, a: &Attention, i: usize) -> Range<usize> {
        let position = (self.kv_len + i) as i64 - self.q_len as i64;
        let len = self.kv_len as i64;
        let end = if a.causal { (position + 1).clamp(0, len) } else { len };
        let start = a.window.map_or(0, |w| (position - i64::from(w) + 1).clamp(0, end));
        start as usize..end as usize
    }
}

/// The sequences that have queries and keys, and for each token whether it is a query of one.
///
/// # Safety
/// As for [`super::run`].
pub(super) unsafe fn sequences(
    seqs: &View,
    tokens: usize,
    kv: usize,
) -> Result<(Vec<Sequence>, Vec<bool>), String> {
    let (mut all, mut covered) = (Vec::new(), vec![false; tokens]);
    // SAFETY: by the caller.
    for row in unsafe { seqs.ints() }.as_chunks::<4>().0 {
        let bad = |what: &str| Err(format!("the sequence {row:?} {what}"));
        if row.iter().any(|&x| x < 0) {
            return bad("has a negative number");
        }
        let [q_start, q_len, kv_start, kv_len] = row.map(|x| x as usize);
        if q_len == 0 || kv_len == 0 {
            continue;
        }
        if q_start + q_len > tokens {
            return bad(&format!("ends beyond the {tokens} query rows"));
        }
        if kv_start + kv_len > kv {
            return bad(&format!("ends beyond the {kv} key rows"));
        }
        for c in &mut covered[q_start..q_start + q_len] {
            if std::mem::replace(c, true) {
                return bad("shares query rows with another");
            }
        }
        all.push(Sequence { q_start, q_len, kv_start, kv_len });
    }
    Ok((all, covered))
}

/// Rows `first..first + rows` of one head of `[rows, heads, d]` as f32: an address and the distance of
/// rows. Where they don't lie so they are converted into `buffer`.
///
/// # Safety
/// As for [`super::run`].
pub(super) unsafe fn head_rows(
    x: &View,
    first: usize,
    rows: usize,
    head: usize,
    buffer: &mut [f32],
) -> (*const f32, usize) {
    let d = x.shape[2];
    if x.dense() {
        let offset = first * x.strides[0] + head * x.strides[1];
        return (x.ptr.wrapping_add(4 * offset).cast(), x.strides[0]);
    }
    // The rows of a head lie too far apart for the processor to fetch them by itself.
    const AHEAD: usize = 12;
    for (r, out) in (first..first + rows).zip(buffer.chunks_exact_mut(d.max(1))) {
        x.row2(r + AHEAD, head).prefetch();
        // SAFETY: by the caller.
        unsafe { x.row2(r, head).load(out) };
    }
    (buffer.as_ptr(), d)
}

/// Writes `[rows, d]` as `[d, lanes]`, times `factor`; lanes beyond the rows become zero.
pub(super) fn transpose_rows(x: &[f32], d: usize, lanes: usize, factor: f32, out: &mut [f32]) {
    let rows = x.len() / d.max(1);
    for (c, out) in out.chunks_exact_mut(lanes).take(d).enumerate() {
        for (i, o) in out[..rows].iter_mut().enumerate() {
            *o = x[i * d + c] * factor;
        }
        out[rows..].fill(0.0);
    }
}

/// The keys that the queries of a block see.
pub(super) struct Mask {
    starts: [i32; QUERIES],
    ends: [i32; QUERIES],
    queries: usize,
}

impl Mask {
    /// Of the queries `first..first + queries`.
    pub(super) fn new(a: &Attention, s: &Sequence, first: usize, queries: usize) -> Self {
        let mut mask = Mask { starts: [0; QUERIES], ends: [0; QUERIES], queries };
        for i in 0..queries {
            let seen = s.visible(a, first + i);
            (mask.starts[i], mask.ends[i]) = (seen.start as i32, seen.end as i32);
        }
        mask
    }

    /// From the first key that any query sees to the last. Both bounds ascend with the query.
    pub(super) fn keys(&self) -> Range<usize> {
        self.starts[0] as usize..self.ends[self.queries - 1] as usize
    }

    /// Sets the scores `[keys, lanes]` of the keys from `first` on that a query doesn't see to −∞.
    pub(super) fn apply(&self, scores: &mut [f32], lanes: usize, first: usize) {
        let last = first + scores.len() / lanes - 1;
        let q = self.queries - 1;
        if first as i32 >= self.starts[q] && (last as i32) < self.ends[0] {
            return;
        }
        for (j, row) in scores.chunks_exact_mut(lanes).enumerate() {
            let j = (first + j) as i32;
            for ((s, start), end) in row.iter_mut().zip(&self.starts).zip(&self.ends) {
                *s = if j < *start || j >= *end { f32::NEG_INFINITY } else { *s };
            }
        }
    }
}

/// # Safety
/// As for [`super::run`].
pub(super) unsafe fn attention(a: Attention, i: &[View], o: &View, lse: &View) -> Result<(), String> {
    let x = Operands { a, q: i[0], k: i[1], v: i[2], o: *o, lse: *lse };
    let (tokens, heads) = (x.q.shape[0], x.q.shape[1]);
    // SAFETY: by the caller.
    let (all, covered) = unsafe { sequences(&i[3], tokens, x.k.shape[0]) }?;
    let (few, many): (Vec<Sequence>, Vec<Sequence>) = all.iter().partition(|s| s.q_len <= FEW);
    let blocks: Vec<(Sequence, usize)> =
        many.iter().flat_map(|s| (0..s.q_len).step_by(QUERIES).map(move |first| (*s, first))).collect();
    par::for_each(blocks.len() * heads, |n| {
        // The last blocks of a causal sequence take longest, so they come first.
        let (s, first) = blocks[blocks.len() - 1 - n / heads];
        // SAFETY: by the caller; each block is written once.
        unsafe { x.block(&s, first, n % heads) };
    });
    // SAFETY: by the caller.
    unsafe {
        x.decode(&few);
        for t in (0..tokens).filter(|&t| !covered[t]) {
            (t * heads..(t + 1) * heads).for_each(|r| x.o.row(r).zero());
            x.lse.row(t).zero();
        }
    }
    Ok(())
}

struct Operands {
    a: Attention,
    q: View,
    k: View,
    v: View,
    o: View,
    lse: View,
}

impl Operands {
    fn group(&self) -> usize {
        self.q.shape[1] / self.k.shape[1]
    }

    /// A block of queries of one head.
    ///
    /// # Safety
    /// As for [`super::run`].
    unsafe fn block(&self, s: &Sequence, first: usize, head: usize) {
        let (d, dv) = (self.q.shape[2], self.v.shape[2]);
        let kv_head = head / self.group();
        let n = QUERIES.min(s.q_len - first);
        let lanes = n.next_multiple_of(LANES);
        let mask = Mask::new(&self.a, s, first, n);
        let sizes = [n * d, d * lanes, KEYS * lanes, n * dv, lanes, lanes, lanes, KEYS * d, KEYS * dv];
        par::with_scratch(sizes.iter().sum(), |scratch| {
            let [rows, qt, scores, sum, top, total, decay, k_buffer, v_buffer] = split(scratch, sizes);
            // SAFETY: by the caller, throughout.
            unsafe {
                for i in 0..n {
                    self.q.row2(s.q_start + first + i, head).load(&mut rows[i * d..(i + 1) * d]);
                }
                transpose_rows(rows, d, lanes, self.a.scale.0, qt);
                sum.fill(0.0);
                top.fill(f32::NEG_INFINITY);
                total.fill(0.0);
                let keys = mask.keys();
                for j in keys.clone().step_by(KEYS) {
                    let m = KEYS.min(keys.end - j);
                    let scores = &mut scores[..m * lanes];
                    let (k, k_stride) = head_rows(&self.k, s.kv_start + j, m, kv_head, k_buffer);
                    product(&Product {
                        m,
                        n: lanes,
                        k: d,
                        a: k,
                        a_row: k_stride,
                        a_col: 1,
                        b: qt.as_ptr(),
                        b_row: lanes,
                        c: scores.as_mut_ptr(),
                        c_row: lanes,
                        accumulate: false,
                    });
                    mask.apply(scores, lanes, j);
                    online_softmax(scores, top, total, decay);
                    decay_rows(&decay[..n], sum, dv);
                    let (v, v_stride) = head_rows(&self.v, s.kv_start + j, m, kv_head, v_buffer);
                    product(&Product {
                        m: n,
                        n: dv,
                        k: m,
                        a: scores.as_ptr(),
                        a_row: 1,
                        a_col: lanes,
                        b: v,
                        b_row: v_stride,
                        c: sum.as_mut_ptr(),
                        c_row: dv,
                        accumulate: true,
                    });
                }
                for i in 0..n {
                    let sum = &mut sum[i * dv..(i + 1) * dv];
                    self.finish(s.q_start + first + i, head, sum, top[i], total[i]);
                }
            }
        });
    }

    /// Writes a query's results: `sum` are the values weighted with exp(score − top), `total` is the sum
    /// of these weights.
    ///
    /// # Safety
    /// As for [`super::run`].
    unsafe fn finish(&self, token: usize, head: usize, sum: &mut [f32], top: f32, total: f32) {
        let (o, lse) = (self.o.row2(token, head), self.lse.row(token));
        // SAFETY: by the caller.
        unsafe {
            if total == 0.0 {
                o.zero();
                lse.set(head, 0.0);
            } else {
                sum.iter_mut().for_each(|x| *x /= total);
                o.store(sum);
                lse.set(head, f64::from(top + total.ln()));
            }
        }
    }

    /// Sequences of few queries: the keys are cut into splits of one kv head, which many threads can
    /// work on; keys and values are read once for all queries and heads that share them.
    ///
    /// # Safety
    /// As for [`super::run`].
    unsafe fn decode(&self, seqs: &[Sequence]) {
        let (d, dv) = (self.q.shape[2], self.v.shape[2]);
        let (kv_heads, group) = (self.k.shape[1], self.group());
        // Of each query and head in a split: its top score, the total of its weights, its weighted sum.
        let width = dv + 2;
        struct Task {
            s: Sequence,
            kv_head: usize,
            keys: Range<usize>,
            /// Where its results start.
            at: usize,
        }
        let (mut tasks, mut at) = (Vec::new(), 0);
        for s in seqs {
            for kv_head in 0..kv_heads {
                for start in (0..s.kv_len).step_by(SPLIT) {
                    let keys = start..s.kv_len.min(start + SPLIT);
                    tasks.push(Task { s: *s, kv_head, keys, at });
                    at += s.q_len * group * width;
                }
            }
        }
        let mut results = vec![0.0; at];
        let shared = Shared::new(&mut results);
        par::for_each(tasks.len(), |n| {
            let Task { s, kv_head, keys, at } = &tasks[n];
            let (queries, m) = (s.q_len * group, keys.len());
            // SAFETY: each task has its own part.
            let results = unsafe { shared.part(*at..*at + queries * width) };
            par::with_scratch(m * d + m * dv + d + m, |scratch| {
                let [k_buffer, v_buffer, q, scores] = split(scratch, [m * d, m * dv, d, m]);
                // SAFETY: by the caller, throughout; a slice from a row's start to the last row's end
                // lies inside the tensor.
                unsafe {
                    let (k, k_stride) = head_rows(&self.k, s.kv_start + keys.start, m, *kv_head, k_buffer);
                    let (v, v_stride) = head_rows(&self.v, s.kv_start + keys.start, m, *kv_head, v_buffer);
                    let k = std::slice::from_raw_parts(k, if d == 0 { 0 } else { (m - 1) * k_stride + d });
                    let v = std::slice::from_raw_parts(v, if dv == 0 { 0 } else { (m - 1) * v_stride + dv });
                    for (n, result) in results.chunks_exact_mut(width).enumerate() {
                        let (i, head) = (n / group, kv_head * group + n % group);
                        let ([top, total], sum) = result.split_first_chunk_mut().expect("width is 2 + dv");
                        self.q.row2(s.q_start + i, head).load(q);
                        let seen = s.visible(&self.a, i);
                        let (start, end) = (seen.start.max(keys.start), seen.end.min(keys.end));
                        *top = f32::NEG_INFINITY;
                        if start >= end {
                            continue;
                        }
                        let (first, m) = (start - keys.start, end - start);
                        let scores = &mut scores[..m];
                        key_scores(
                            q,
                            self.a.scale.0,
                            &k[(first * k_stride).min(k.len())..],
                            k_stride,
                            scores,
                        );
                        let v = &v[(first * v_stride).min(v.len())..];
                        (*top, *total) = weighted_sum(scores, v, v_stride, sum);
                    }
                }
            });
        });
        let mut next = tasks.iter().peekable();
        while let Some(first) = next.next() {
            let mut splits = vec![first];
            while let Some(t) = next.next_if(|t| t.keys.start > 0) {
                splits.push(t);
            }
            for n in 0..first.s.q_len * group {
                let part = |t: &Task| t.at + n * width..t.at + (n + 1) * width;
                let top = splits.iter().map(|t| results[part(t)][0]).fold(f32::NEG_INFINITY, f32::max);
                let (mut total, mut sum) = (0.0, vec![0.0; dv]);
                for t in splits.iter().filter(|t| results[part(t)][1] > 0.0) {
                    let result = &results[part(t)];
                    let factor = (result[0] - top).exp();
                    total += factor * result[1];
                    sum.iter_mut().zip(&result[2..]).for_each(|(s, x)| *s += factor * x);
                }
                let head = first.kv_head * group + n % group;
                // SAFETY: by the caller; each query is written once.
                unsafe { self.finish(first.s.q_start + n / group, head, &mut sum, top, total) };
            }
        }
    }
}

/// Cuts scratch memory into parts of the given sizes.
pub(super) fn split<const N: usize>(mut x: &mut [f32], sizes: [usize; N]) -> [&mut [f32]; N] {
    sizes.map(|n| {
        let (part, rest) = std::mem::take(&mut x).split_at_mut(n);
        x = rest;
        part
    })
}

simd! {
    /// Takes a block of scores `[keys, lanes]` into the running maxima `top` and `total`s of weights,
    /// turns the scores into weights, and gives the factor by which earlier sums must shrink.
    fn online_softmax(scores: &mut [f32], top: &mut [f32], total: &mut [f32], decay: &mut [f32]) {
        let per_row = top.len() / LANES;
        let scores = scores.as_chunks_mut::<LANES>().0;
        let lanes = top.as_chunks_mut::<LANES>().0.iter_mut().zip(total.as_chunks_mut::<LANES>().0);
        for (c, ((top, total), decay)) in lanes.zip(decay.as_chunks_mut::<LANES>().0).enumerate() {
            let before = *top;
            let mut now = before;
            for s in scores.iter().skip(c).step_by(per_row) {
                for (n, s) in now.iter_mut().zip(s) {
                    *n = if *s > *n { *s } else { *n };
                }
            }
            *top = now;
            // A query that has seen nothing yet must not subtract −∞ from −∞.
            let shift = now.map(|n| if n == f32::NEG_INFINITY { 0.0 } else { n });
            let mut sum = [0.0; LANES];
            for s in scores.iter_mut().skip(c).step_by(per_row) {
                for ((s, sum), shift) in s.iter_mut().zip(&mut sum).zip(&shift) {
                    *s = exp::<FMA>(*s - shift);
                    *sum += *s;
                }
            }
            for i in 0..LANES {
                decay[i] = exp::<FMA>(before[i] - shift[i]);
                total[i] = fma::<FMA>(total[i], decay[i], sum[i]);
            }
        }
    }

    fn decay_rows(decay: &[f32], x: &mut [f32], width: usize) {
        if width == 0 || decay.iter().all(|d| *d == 1.0) {
            return;
        }
        for (d, row) in decay.iter().zip(x.chunks_exact_mut(width)) {
            row.iter_mut().for_each(|x| *x *= d);
        }
    }

    /// The scaled scores of one query with as many keys as there are scores.
    fn key_scores(q: &[f32], scale: f32, k: &[f32], stride: usize, scores: &mut [f32]) {
        for (j, s) in scores.iter_mut().enumerate() {
            *s = if q.is_empty() { 0.0 } else { scale * dot::<FMA>(q, &k[j * stride..j * stride + q.len()]) };
        }
    }

    /// Turns scores into weights exp(score − top); returns `top` and the weights' total, and the sum of
    /// the values, so weighted.
    fn weighted_sum(scores: &mut [f32], v: &[f32], stride: usize, sum: &mut [f32]) -> (f32, f32) {
        let top = max(scores);
        let mut total = 0.0;
        // In pieces, to have the weights beside the scores without more memory.
        for (p, piece) in scores.chunks_mut(KEYS).enumerate() {
            let mut weights = [0.0; KEYS];
            total += exp_shifted::<FMA>(piece, top, &mut weights[..piece.len()]);
            for (i, w) in weights[..piece.len()].iter().enumerate() {
                let at = (p * KEYS + i) * stride;
                if let Some(v) = v.get(at..at + sum.len()) {
                    for (s, v) in sum.iter_mut().zip(v) {
                        *s = fma::<FMA>(*w, *v, *s);
                    }
                }
            }
        }
        (top, total)
    }
}
