//! Attention's gradient by recomputation from `lse` (Dao 2023, FlashAttention-2, algorithm 2).
//!
//! A task owns one kv head of all sequences that share keys, so gradients of keys and values are summed
//! by one thread in a fixed order, whoever shares them.

use super::attention::{KEYS, LANES, Mask, QUERIES, Sequence, head_rows, sequences, split, transpose_rows};
use crate::par;
use crate::simd::math::{dot, exp};
use crate::simd::simd;
use crate::simd::tile::{Product, product};
use crate::view::View;
use halite_hal::Attention;
use std::ops::Range;

/// Sequences that share keys, and the keys of all of them.
struct Cluster {
    seqs: Vec<Sequence>,
    keys: Range<usize>,
}

fn clusters(mut seqs: Vec<Sequence>) -> Vec<Cluster> {
    seqs.sort_by_key(|s| (s.kv_start, s.q_start));
    let mut all: Vec<Cluster> = Vec::new();
    for s in seqs {
        let end = s.kv_start + s.kv_len;
        match all.last_mut() {
            Some(c) if s.kv_start < c.keys.end => {
                c.keys.end = c.keys.end.max(end);
                c.seqs.push(s);
            }
            _ => all.push(Cluster { seqs: vec![s], keys: s.kv_start..end }),
        }
    }
    all
}

/// # Safety
/// As for [`super::run`].
pub(super) unsafe fn attention_backward(a: Attention, i: &[View], o: &[View]) -> Result<(), String> {
    let x = Operands {
        a,
        grad: i[0],
        q: i[1],
        k: i[2],
        v: i[3],
        o: i[4],
        lse: i[5],
        dq: o[0],
        dk: o[1],
        dv: o[2],
    };
    let (tokens, heads, kv, kv_heads) = (x.q.shape[0], x.q.shape[1], x.k.shape[0], x.k.shape[1]);
    // SAFETY: by the caller.
    let (seqs, covered) = unsafe { sequences(&i[6], tokens, kv) }?;
    let clusters = clusters(seqs);
    par::for_each(clusters.len() * kv_heads, |n| {
        // SAFETY: by the caller; each kv head of each cluster is written once.
        unsafe { x.cluster(&clusters[n / kv_heads], n % kv_heads) };
    });
    let mut keyed = vec![false; kv];
    clusters.iter().for_each(|c| keyed[c.keys.clone()].fill(true));
    // SAFETY: by the caller.
    unsafe {
        for t in (0..tokens).filter(|&t| !covered[t]) {
            (t * heads..(t + 1) * heads).for_each(|r| x.dq.row(r).zero());
        }
        for t in (0..kv).filter(|&t| !keyed[t]) {
            for r in t * kv_heads..(t + 1) * kv_heads {
                x.dk.row(r).zero();
                x.dv.row(r).zero();
            }
        }
    }
    Ok(())
}

struct Operands {
    a: Attention,
    grad: View,
    q: View,
    k: View,
    v: View,
    o: View,
    lse: View,
    dq: View,
    dk: View,
    dv: View,
}

/// Keys, values and their gradients of one kv head, from the cluster's first key on.
struct Shared<'a> {
    k: (*const f32, usize),
    v: (*const f32, usize),
    dk: &'a mut [f32],
    dv: &'a mut [f32],
}

impl Operands {
    /// # Safety
    /// As for [`super::run`].
    unsafe fn cluster(&self, c: &Cluster, kv_head: usize) {
        let (kv_heads, d, e) = (self.k.shape[1], self.k.shape[2], self.v.shape[2]);
        let group = self.q.shape[1] / kv_heads;
        let n = c.keys.len();
        let copy = |x: &View, width: usize| if x.dense() { 0 } else { n * width };
        let sizes = [n * d, n * e, copy(&self.k, d), copy(&self.v, e), self.block_scratch()];
        par::with_scratch(sizes.iter().sum(), |scratch| {
            let [dk, dv, k_buffer, v_buffer, rest] = split(scratch, sizes);
            dk.fill(0.0);
            dv.fill(0.0);
            // SAFETY: by the caller, throughout.
            unsafe {
                let mut shared = Shared {
                    k: head_rows(&self.k, c.keys.start, n, kv_head, k_buffer),
                    v: head_rows(&self.v, c.keys.start, n, kv_head, v_buffer),
                    dk,
                    dv,
                };
                for s in &c.seqs {
                    for head in kv_head * group..(kv_head + 1) * group {
                        for first in (0..s.q_len).step_by(QUERIES) {
                            self.block(s, s.kv_start - c.keys.start, first, head, &mut shared, rest);
                        }
                    }
                }
                for (i, row) in c.keys.clone().enumerate() {
                    self.dk.row2(row, kv_head).store(&shared.dk[i * d..(i + 1) * d]);
                    self.dv.row2(row, kv_head).store(&shared.dv[i * e..(i + 1) * e]);
                }
            }
        });
    }

    /// Scratch of a block, see [`Operands::sizes`].
    fn block_scratch(&self) -> usize {
        self.sizes(QUERIES).iter().sum()
    }

    /// Queries and output gradients, by rows and transposed; `dq`; weights and their gradients; `lse`
    /// and `do·o`.
    fn sizes(&self, n: usize) -> [usize; 9] {
        let (d, e) = (self.k.shape[2], self.v.shape[2]);
        let lanes = n.next_multiple_of(LANES);
        [n * d, n * e, d * lanes, e * lanes, n * d.max(e), KEYS * lanes, KEYS * lanes, lanes, lanes]
    }

    /// A block of queries of one head with all the keys that it sees. The sequence's keys start `offset`
    /// rows into the cluster's.
    ///
    /// # Safety
    /// As for [`super::run`].
    unsafe fn block(
        &self,
        s: &Sequence,
        offset: usize,
        first: usize,
        head: usize,
        shared: &mut Shared<'_>,
        scratch: &mut [f32],
    ) {
        let (d, e) = (self.k.shape[2], self.v.shape[2]);
        let n = QUERIES.min(s.q_len - first);
        let lanes = n.next_multiple_of(LANES);
        let scale = self.a.scale.0;
        let [q, grad, q_t, grad_t, dq, p, ds, lse, delta] = split(scratch, self.sizes(n));
        let token = |i: usize| s.q_start + first + i;
        // SAFETY: by the caller, throughout.
        unsafe {
            lse.fill(0.0);
            delta.fill(0.0);
            for i in 0..n {
                self.q.row2(token(i), head).load(&mut q[i * d..(i + 1) * d]);
                self.grad.row2(token(i), head).load(&mut grad[i * e..(i + 1) * e]);
                // `dq` serves as scratch here.
                delta[i] = row_dot(&grad[i * e..(i + 1) * e], self.o.row2(token(i), head).read(dq));
                lse[i] = self.lse.row(token(i)).get(head) as f32;
            }
            transpose_rows(q, d, lanes, scale, q_t);
            transpose_rows(grad, e, lanes, 1.0, grad_t);
            let dq = &mut dq[..n * d];
            dq.fill(0.0);
            let mask = Mask::new(&self.a, s, first, n);
            let keys = mask.keys();
            for j in keys.clone().step_by(KEYS) {
                let m = KEYS.min(keys.end - j);
                let at = offset + j;
                let (p, ds) = (&mut p[..m * lanes], &mut ds[..m * lanes]);
                let (k, k_stride) = (shared.k.0.add(at * shared.k.1), shared.k.1);
                let (v, v_stride) = (shared.v.0.add(at * shared.v.1), shared.v.1);
                // Both `[keys, queries]`: scores, and gradients of the weights.
                let across = |inner, a, a_row, b: &[f32], c: &mut [f32]| {
                    product(&Product {
                        m,
                        n: lanes,
                        k: inner,
                        a,
                        a_row,
                        a_col: 1,
                        b: b.as_ptr(),
                        b_row: lanes,
                        c: c.as_mut_ptr(),
                        c_row: lanes,
                        accumulate: false,
                    });
                };
                across(d, k, k_stride, q_t, p);
                across(e, v, v_stride, grad_t, ds);
                mask.apply(p, lanes, j);
                weight_gradients(p, ds, lse, delta, scale);
                // Sums over the queries.
                let down = |width, a: &[f32], b: &[f32], c: &mut [f32]| {
                    product(&Product {
                        m,
                        n: width,
                        k: n,
                        a: a.as_ptr(),
                        a_row: lanes,
                        a_col: 1,
                        b: b.as_ptr(),
                        b_row: width,
                        c: c.as_mut_ptr(),
                        c_row: width,
                        accumulate: true,
                    });
                };
                down(e, p, grad, &mut shared.dv[at * e..(at + m) * e]);
                down(d, ds, q, &mut shared.dk[at * d..(at + m) * d]);
                product(&Product {
                    m: n,
                    n: d,
                    k: m,
                    a: ds.as_ptr(),
                    a_row: 1,
                    a_col: lanes,
                    b: k,
                    b_row: k_stride,
                    c: dq.as_mut_ptr(),
                    c_row: d,
                    accumulate: true,
                });
            }
            for i in 0..n {
                self.dq.row2(token(i), head).store(&dq[i * d..(i + 1) * d]);
            }
        }
    }
}

simd! {
    /// Turns scores into weights `p = exp(score − lse)`, and the weights' gradients into those of the
    /// unscaled scores, `p · (dp − delta) · scale`.
    fn weight_gradients(p: &mut [f32], ds: &mut [f32], lse: &[f32], delta: &[f32], scale: f32) {
        let lanes = lse.len();
        for (p, ds) in p.chunks_exact_mut(lanes).zip(ds.chunks_exact_mut(lanes)) {
            for (((p, ds), lse), delta) in p.iter_mut().zip(ds).zip(lse).zip(delta) {
                *p = exp::<FMA>(*p - lse);
                *ds = *p * (*ds - delta) * scale;
            }
        }
    }

    fn row_dot(a: &[f32], b: &[f32]) -> f32 {
        dot::<FMA>(a, b)
    }
}
