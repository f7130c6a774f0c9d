//! Rotary embedding and attention.

use super::TRIPLES;
use crate::conformance::case::{Cases, Value};
use crate::conformance::data::ints;
use crate::reference::{Array, eval};
use crate::{Attention, DType, DType::*, OpKind, Shape};

/// Tables of angles `position · 10000^(−2i/r)`.
fn tables(positions: usize, half: usize) -> [Array; 2] {
    [f64::cos, f64::sin].map(|f| {
        let angle = |i: usize| (i / half) as f64 * 10_000f64.powf(-((i % half) as f64) / half as f64);
        Array::new(F32, &[positions, half], (0..positions * half).map(|i| f(angle(i))).collect()).rounded()
    })
}

pub fn rope(c: &mut Cases) {
    for (inverse, interleaved) in [(false, false), (true, false), (false, true), (true, true)] {
        let kind = OpKind::Rope { inverse, interleaved };
        let add = |c: &mut Cases, [from, _, to]: [DType; 3], shape: [usize; 3], half: usize, all: bool| {
            let [cos, sin] = tables(20, half);
            let index = c.data.map(I32, &shape[..1], |d| match d.below(6) {
                0 => [-1.0, 20.0, f64::from(i32::MAX), f64::from(i32::MIN)][d.below(4)],
                _ => d.below(20) as f64,
            });
            let x = vec![c.data.normal(from, &shape, 1.0).into(), cos.into(), sin.into(), index.into()];
            let y = vec![c.out(to, &shape)];
            let name = format!("inverse {inverse} interleaved {interleaved}");
            if all {
                c.all(&name, kind.clone(), x, y);
            } else {
                c.add(&name, kind.clone(), x, y);
            }
        };
        for dtypes in TRIPLES {
            add(c, dtypes, [5, 3, 8], 4, true);
        }
        for (shape, half) in [
            ([1, 1, 2], 1),
            ([4, 2, 9], 3),
            ([4, 2, 16], 3),
            ([0, 2, 8], 4),
            ([3, 0, 8], 4),
            ([3, 5, 64], 32),
            ([2, 1, 128], 64),
            ([17, 3, 24], 12),
            ([2, 2, 5], 0),
            ([2, 2, 80], 16),
        ] {
            add(c, [F32; 3], shape, half, false);
            add(c, [BF16; 3], shape, half, false);
        }
    }
}

/// What the cases of attention vary.
#[derive(Clone)]
struct Setup {
    attention: Attention,
    /// q, k, v and o; the gradients are of those of q, k, v.
    dtypes: [DType; 4],
    heads: usize,
    kv_heads: usize,
    d: usize,
    dv: usize,
    /// Rows of q and of k and v.
    rows: [usize; 2],
    seqs: Vec<[i64; 4]>,
    scale: f64,
}

impl Setup {
    fn name(&self) -> String {
        format!("{:?} seqs {:?}", self.attention, self.seqs)
    }

    fn inputs(&self, c: &mut Cases) -> Vec<Array> {
        let [dq, dk, dv, _] = self.dtypes;
        let [tokens, kv] = self.rows;
        vec![
            c.data.normal(dq, &[tokens, self.heads, self.d], self.scale),
            c.data.normal(dk, &[kv, self.kv_heads, self.d], 1.0),
            c.data.normal(dv, &[kv, self.kv_heads, self.dv], 1.0),
            self.sequences(),
        ]
    }

    fn sequences(&self) -> Array {
        let seqs: Vec<i64> = self.seqs.iter().flatten().copied().collect();
        ints(&[self.seqs.len(), 4], &seqs)
    }

    /// What is tried in all styles of memory, so that none of longer sequences is the only one in its style.
    fn wide_and_short(&self) -> bool {
        self.d >= 256 && short().iter().any(|(rows, _)| *rows == self.rows)
    }

    /// Adds the case of the forward pass with these inputs.
    fn push(&self, c: &mut Cases, x: Vec<Value>, all: bool) {
        let tokens = self.rows[0];
        let y =
            vec![c.out(self.dtypes[3], &[tokens, self.heads, self.dv]), c.out(F32, &[tokens, self.heads])];
        let kind = OpKind::Attention(self.attention);
        if all { c.all(&self.name(), kind, x, y) } else { c.add(&self.name(), kind, x, y) }
    }
}

/// Sequences by name: those that pack whole sequences, and those that continue a cache.
fn layouts() -> Vec<([usize; 2], Vec<[i64; 4]>)> {
    vec![
        ([9, 9], vec![[0, 9, 0, 9]]),
        // Ragged, one of them empty, in another order than the rows.
        ([17, 17], vec![[8, 9, 8, 9], [0, 5, 0, 5], [5, 0, 5, 0], [5, 3, 5, 3]]),
        // Decoding from a cache.
        ([2, 40], vec![[0, 1, 0, 13], [1, 1, 20, 20]]),
        // Prefill of a part.
        ([7, 30], vec![[0, 4, 0, 11], [4, 3, 15, 3]]),
        // Rows of no sequence, and rows of the cache that nothing uses.
        ([10, 30], vec![[1, 3, 2, 5], [6, 2, 20, 9]]),
        // More queries than keys: the first see nothing when causal.
        ([6, 5], vec![[0, 6, 0, 4]]),
        // Two sequences read the same keys.
        ([8, 12], vec![[0, 4, 0, 12], [4, 4, 0, 10]]),
        ([3, 4], vec![]),
        ([4, 4], vec![[0, 4, 0, 0]]),
    ]
}

/// Short sequences, for devices on which many products take long: in a cache whose keys aren't split, and in one so long
/// that they are.
fn short() -> [([usize; 2], Vec<[i64; 4]>); 2] {
    [([7, 30], vec![[0, 4, 0, 11], [4, 3, 15, 3]]), ([7, 260], vec![[0, 4, 0, 11], [4, 3, 245, 3]])]
}

fn setups() -> Vec<(Setup, bool)> {
    let base = Setup {
        attention: Attention::causal(0.3),
        dtypes: [F32; 4],
        heads: 2,
        kv_heads: 2,
        d: 8,
        dv: 8,
        rows: [9, 9],
        seqs: vec![[0, 9, 0, 9]],
        scale: 1.0,
    };
    let mut all = Vec::new();
    for (i, (rows, seqs)) in layouts().into_iter().enumerate() {
        for attention in [
            Attention::causal(0.3),
            Attention::causal(0.3).full(),
            Attention::causal(0.3).window(Some(3)),
            Attention::causal(0.3).window(Some(3)).full(),
            Attention::causal(0.3).window(Some(1)),
            Attention::causal(0.3).window(Some(1000)),
        ] {
            all.push((Setup { attention, rows, seqs: seqs.clone(), ..base.clone() }, i < 4));
        }
        for (heads, kv_heads) in [(3, 3), (4, 2), (3, 1), (7, 1), (6, 2), (14, 2)] {
            all.push((Setup { heads, kv_heads, rows, seqs: seqs.clone(), ..base.clone() }, false));
        }
    }
    let (rows, seqs) = layouts()[1].clone();
    for [a, b, o] in TRIPLES {
        let dtypes = [a, b, if o == F16 { a } else { b }, o];
        all.push((Setup { dtypes, rows, seqs: seqs.clone(), kv_heads: 1, ..base.clone() }, true));
        let (rows, seqs) = layouts()[3].clone();
        all.push((Setup { dtypes, rows, seqs, d: 16, dv: 12, ..base.clone() }, false));
    }
    for (d, dv) in
        [(1, 1), (3, 3), (16, 16), (24, 24), (64, 64), (80, 80), (128, 128), (24, 16), (8, 64), (192, 128)]
    {
        for dtype in [F32, BF16] {
            for (rows, seqs) in [layouts()[1].clone(), layouts()[2].clone()] {
                let attention = Attention::causal(1.0 / (d as f32).sqrt());
                let dtypes = [dtype; 4];
                all.push((Setup { attention, dtypes, d, dv, rows, seqs, ..base.clone() }, false));
            }
        }
    }
    for (scale, kv) in [(1e4, 300), (0.0, 70)] {
        // Logits of up to 1e4, and all equal; long rows.
        let attention = Attention::causal(0.1);
        let seqs = vec![[0, 2, 0, kv]];
        all.push((Setup { attention, scale, rows: [2, kv as usize], seqs, ..base.clone() }, false));
    }
    for (rows, seqs) in [([130, 130], vec![[0, 130, 0, 130]]), ([1, 1500], vec![[0, 1, 0, 1500]])] {
        for window in [None, Some(64)] {
            let attention = Attention::causal(0.25).window(window);
            all.push((
                Setup { attention, rows, seqs: seqs.clone(), d: 16, dv: 16, kv_heads: 1, ..base.clone() },
                false,
            ));
        }
    }
    all.extend(halves(&base).into_iter().map(|s| (s.clone(), s.wide_and_short())));
    all.push((Setup { rows: [0, 5], seqs: vec![[0, 0, 0, 5]], ..base.clone() }, false));
    all.push((Setup { rows: [0, 0], seqs: vec![], ..base }, false));
    all
}

/// What matrix instructions take: 16-bit types and columns by 16, over several tiles of rows and of keys.
fn halves(base: &Setup) -> Vec<Setup> {
    let causal = Attention::causal(0.2);
    let mut all = Vec::new();
    for (i, dtype) in [BF16, F16].into_iter().enumerate() {
        let base = Setup { dtypes: [dtype; 4], d: 32, dv: 16, ..base.clone() };
        for (n, (rows, seqs)) in layouts().into_iter().enumerate() {
            let attention = [causal, causal.window(Some(3)), causal.full()][(n + i) % 3];
            all.push(Setup { attention, heads: 6, rows, seqs, ..base.clone() });
        }
        let ragged = ([150, 220], vec![[0, 70, 0, 70], [72, 77, 75, 140]]);
        let decoding = ([3, 700], vec![[0, 1, 0, 300], [1, 1, 310, 390], [2, 1, 0, 5]]);
        for (rows, seqs) in [ragged, decoding].into_iter().chain(short()) {
            for (attention, d, heads) in [(causal, 64, 2), (causal.window(Some(50)), 16, 34)] {
                let attention = if i == 0 { attention } else { attention.full() };
                all.push(Setup { attention, d, dv: d, heads, rows, seqs: seqs.clone(), ..base.clone() });
            }
        }
    }
    for (d, dv) in [(256, 256), (576, 512)] {
        let decoding = ([2, 300], vec![[0, 1, 0, 30], [1, 1, 30, 270]]);
        for (rows, seqs) in [decoding].into_iter().chain(short()) {
            let dtypes = [BF16; 4];
            all.push(Setup { attention: causal, dtypes, heads: 18, d, dv, rows, seqs, ..base.clone() });
        }
    }
    // Results as wide as the sums.
    let (rows, seqs) = layouts()[1].clone();
    for dtype in [BF16, F16] {
        let dtypes = [dtype, dtype, dtype, F32];
        all.push(Setup {
            attention: causal,
            dtypes,
            d: 64,
            dv: 64,
            rows,
            seqs: seqs.clone(),
            ..base.clone()
        });
    }
    all
}

/// Quantised keys and values, as of a cache: of both, or of one.
fn quantised(c: &mut Cases) {
    let base = Setup {
        attention: Attention::causal(0.1),
        dtypes: [F32, Q8_0, Q8_0, F32],
        heads: 4,
        kv_heads: 2,
        d: 32,
        dv: 32,
        rows: [9, 9],
        seqs: vec![[0, 9, 0, 9]],
        scale: 1.0,
    };
    let mut all: Vec<(Setup, bool)> = Vec::new();
    for (i, (rows, seqs)) in layouts().into_iter().enumerate() {
        all.push((Setup { rows, seqs, ..base.clone() }, i == 3));
    }
    let decoding = ([3, 700], vec![[0, 1, 0, 300], [1, 1, 310, 390], [2, 1, 0, 5]]);
    let ragged = ([150, 220], vec![[0, 70, 0, 70], [72, 77, 75, 140]]);
    for (d, dv) in [(64, 64), (96, 32), (128, 128), (256, 64), (576, 512)] {
        for (rows, seqs) in [decoding.clone(), ragged.clone()].into_iter().chain(short()) {
            let attention = base.attention.window((d == 64).then_some(50));
            let (heads, kv_heads) = if d == 576 { (6, 1) } else { (6, 2) };
            let s = Setup { attention, d, dv, heads, kv_heads, rows, seqs, ..base.clone() };
            all.push((s.clone(), s.wide_and_short()));
        }
    }
    for dtypes in [
        [BF16, Q8_0, Q8_0, BF16],
        [F16, Q8_0, Q8_0, F32],
        [F32, Q8_0, F32, F32],
        [F32, BF16, Q8_0, F32],
        [BF16, Q8_0, BF16, BF16],
    ] {
        let (rows, seqs) = layouts()[3].clone();
        all.push((Setup { dtypes, rows, seqs, ..base.clone() }, false));
        for (rows, seqs) in [decoding.clone()].into_iter().chain(short()) {
            all.push((Setup { dtypes, rows, seqs, d: 64, dv: 64, ..base.clone() }, false));
        }
    }
    for (s, all) in all {
        let [tokens, kv] = s.rows;
        let mut operand = |dtype: DType, shape: &[usize]| -> Value {
            if dtype.is_block() {
                Value::Blocks(dtype, Shape::new(shape))
            } else {
                c.data.normal(dtype, shape, 1.0).into()
            }
        };
        let x = vec![
            operand(s.dtypes[0], &[tokens, s.heads, s.d]),
            operand(s.dtypes[1], &[kv, s.kv_heads, s.d]),
            operand(s.dtypes[2], &[kv, s.kv_heads, s.dv]),
            s.sequences().into(),
        ];
        s.push(c, x, all);
    }
}

pub fn forward(c: &mut Cases) {
    for (s, all) in setups() {
        let x = s.inputs(c).into_iter().map(Value::from).collect();
        s.push(c, x, all);
    }
    quantised(c);
}

pub fn backward(c: &mut Cases) {
    for (s, all) in setups() {
        let x = s.inputs(c);
        let [tokens, _] = s.rows;
        let mut y = [
            Array::full(s.dtypes[3], &[tokens, s.heads, s.dv], 0.0),
            Array::full(F32, &[tokens, s.heads], 0.0),
        ];
        eval(&OpKind::Attention(s.attention), &x, &mut y);
        let [o, lse] = y.map(Array::rounded);
        let grad = c.data.normal(s.dtypes[3], &o.shape, 1.0);
        let outputs = (0..3).map(|i| c.out(s.dtypes[i], &x[i].shape)).collect();
        let [q, k, v, seqs] = <[Array; 4]>::try_from(x).expect("four inputs");
        let inputs = [grad, q, k, v, o, lse, seqs].map(Value::from).into();
        let kind = OpKind::AttentionBackward(s.attention);
        if all {
            c.all(&s.name(), kind, inputs, outputs);
        } else {
            c.add(&s.name(), kind, inputs, outputs);
        }
    }
}
