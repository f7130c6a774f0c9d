//! Ops that follow each other, as in a layer: a device may do several at once. What they give in a recording
//! must be what they give one by one, bit for bit, whether what one hands to another lives on or not.

use super::data::{Data, ints};
use super::runtime::{Checked, STREAM, same};
use crate::reference::Array;
use crate::{
    AdamW, Attention, BinaryFn, Binding, Buffer, DType, Device, Graph, GroupScore, Op, OpKind, Result,
    Router, ScoreFn, SlotKind, Source, TensorRef,
};

/// A sequence of ops over tensors of its own.
struct Sequence {
    data: Data,
    dtype: DType,
    /// Bytes that each slot starts with; those of results have none.
    slots: Vec<(Option<Vec<u8>>, u64)>,
    ops: Vec<Op>,
}

impl Sequence {
    fn new(seed: u64, name: &str, dtype: DType) -> Self {
        Sequence { data: Data::new(seed, name), dtype, slots: Vec::new(), ops: Vec::new() }
    }

    fn slot(&mut self, dtype: DType, shape: &[usize], bytes: Option<Vec<u8>>) -> TensorRef {
        let size = dtype.bytes(shape).expect("sizes are small");
        self.slots.push((bytes, size));
        TensorRef::slot((self.slots.len() - 1) as u32, dtype, shape)
    }

    fn given(&mut self, x: &Array) -> TensorRef {
        self.slot(x.dtype, &x.shape, Some(x.to_bytes()))
    }

    fn normal(&mut self, shape: &[usize], scale: f64) -> TensorRef {
        let x = self.data.normal(self.dtype, shape, scale);
        self.given(&x)
    }

    fn floats(&mut self, shape: &[usize]) -> TensorRef {
        let x = self.data.normal(DType::F32, shape, 1.0);
        self.given(&x)
    }

    fn blocks(&mut self, dtype: DType, shape: &[usize]) -> TensorRef {
        let mut bytes = vec![0; dtype.bytes(shape).expect("whole blocks") as usize];
        self.data.blocks(dtype, &mut bytes);
        self.slot(dtype, shape, Some(bytes))
    }

    /// Weights `[.., out, in]`, quantised or not, as a product wants them: `[.., in, out]`.
    fn weights(&mut self, dtype: DType, shape: &[usize]) -> TensorRef {
        let w = if dtype.is_block() {
            self.blocks(dtype, shape)
        } else {
            let x = self.data.normal(dtype, shape, 0.3);
            self.given(&x)
        };
        let rank = shape.len();
        w.transpose(rank - 2, rank - 1)
    }

    /// A result.
    fn fresh(&mut self, shape: &[usize]) -> TensorRef {
        self.slot(self.dtype, shape, None)
    }

    fn fresh_of(&mut self, dtype: DType, shape: &[usize]) -> TensorRef {
        self.slot(dtype, shape, None)
    }

    fn product(&mut self, a: &TensorRef, w: TensorRef, bias: Option<TensorRef>) -> TensorRef {
        let y = self.fresh(&[a.shape[0], w.shape[1]]);
        self.ops.push(Op::matmul_with(a.clone(), w, bias, y.clone(), false));
        y
    }

    fn swiglu(&mut self, gate: TensorRef, up: TensorRef) -> TensorRef {
        let y = self.fresh(&gate.shape);
        self.ops.push(Op::swiglu(gate, up, y.clone()));
        y
    }

    fn add(&mut self, a: TensorRef, b: TensorRef) -> TensorRef {
        let y = self.fresh(&a.shape);
        self.ops.push(Op::binary(BinaryFn::Add, a, b, y.clone()));
        y
    }

    fn norm(&mut self, x: TensorRef) -> TensorRef {
        let w = self.normal(&x.shape[1..], 1.0);
        let (y, rstd) = (self.fresh(&x.shape), self.fresh_of(DType::F32, &x.shape[..1]));
        self.ops.push(Op::rms_norm(x, w, y.clone(), rstd, 1e-5));
        y
    }

    /// Memory for each slot, as it is at the start.
    fn memory(&self, d: &dyn Device) -> Result<Vec<Buffer>> {
        let place = |(bytes, size): &(Option<Vec<u8>>, u64)| {
            let buffer = d.allocate(*size, 0)?;
            match bytes {
                Some(bytes) => d.upload(STREAM, &buffer, 0, bytes)?,
                None => d.upload(STREAM, &buffer, 0, &vec![0xff; *size as usize])?,
            }
            Ok(buffer)
        };
        self.slots.iter().map(place).collect()
    }

    /// Runs it in all three ways, and compares.
    fn check(self, d: &dyn Device) -> Checked {
        let alone = self.memory(d)?;
        for op in &self.ops {
            let mut op = op.clone();
            for t in op.operands_mut() {
                if let Source::Slot(s) = t.source {
                    t.source = Source::Buffer(alone[s as usize].clone());
                }
            }
            op.check(|_| None)?;
            d.submit(STREAM, &[op])?;
        }
        let read = |b: &Buffer| d.download(STREAM, b, 0, b.bytes())?.wait();
        let want = alone.iter().map(read).collect::<Result<Vec<_>>>()?;
        for (way, passing) in [("everything kept", false), ("results kept", true)] {
            let read_later = |s: usize| {
                self.ops
                    .iter()
                    .flat_map(|op| &op.inputs)
                    .any(|t| matches!(t.source, Source::Slot(n) if n as usize == s))
            };
            let temporary = |s: usize| passing && self.slots[s].0.is_none() && read_later(s);
            let mut graph = Graph::new();
            for (s, (_, size)) in self.slots.iter().enumerate() {
                let kind = if temporary(s) { SlotKind::Temporary } else { SlotKind::External };
                graph.slot(kind, *size);
            }
            graph.ops = self.ops.clone();
            let recording = d.record(&graph)?;
            let memory = self.memory(d)?;
            let bound = memory.iter().enumerate().filter(|(s, _)| !temporary(*s));
            let bound: Vec<_> = bound.map(|(s, b)| Binding::new(s as u32, b)).collect();
            d.replay(STREAM, &recording, &bound)?;
            for b in &bound {
                let slot = b.slot as usize;
                same(&format!("{way}: slot {slot}"), &read(&memory[slot])?, &want[slot])?;
            }
        }
        Ok(())
    }
}

/// Three products of the same rows, with a bias or without, of weights of any type.
pub fn products(d: &dyn Device, seed: u64, dtype: DType, weights: DType) -> Checked {
    let k = if weights.is_block() { weights.block_elems().max(64) } else { 36 };
    for (rows, bias) in [(1, false), (3, true), (9, false)] {
        let mut s = Sequence::new(seed, "products", dtype);
        let x = s.normal(&[rows, k], 1.0);
        for n in [40, 8, 13] {
            let w = s.weights(weights, &[n, k]);
            let bias = bias.then(|| s.normal(&[n], 1.0));
            s.product(&x, w, bias);
        }
        // One that has other rows.
        let (other, w) = (s.normal(&[rows, k], 1.0), s.weights(weights, &[8, k]));
        s.product(&other, w, None);
        s.check(d)?;
    }
    Ok(())
}

/// Gate and up, the SwiGLU of them, and down; with weights both ways round, which `by_rows` are of type `dtype`.
pub fn gated(d: &dyn Device, seed: u64, dtype: DType, of_weights: DType, by_rows: bool) -> Checked {
    for (rows, n) in [(1, 38), (5, 38), (70, 40), (33, 150)] {
        let h = 24;
        let mut s = Sequence::new(seed, "gated", dtype);
        let x = s.normal(&[rows, h], 1.0);
        let weights = |s: &mut Sequence, from, to| match by_rows {
            true => s.normal(&[from, to], 0.3),
            false => s.weights(of_weights, &[to, from]),
        };
        let (gate, up, down) = (weights(&mut s, h, n), weights(&mut s, h, n), weights(&mut s, n, h));
        let (gate, up) = (s.product(&x, gate, None), s.product(&x, up, None));
        let y = s.swiglu(gate, up);
        s.product(&y, down, None);
        s.check(d)?;
    }
    Ok(())
}

/// A sum and its norm, twice, the second time of the first one's result.
pub fn norms(d: &dyn Device, seed: u64, dtype: DType) -> Checked {
    for (rows, n) in [(1, 64), (3, 37), (70, 300)] {
        let mut s = Sequence::new(seed, "norms", dtype);
        let (x, y, z) = (s.normal(&[rows, n], 1.0), s.normal(&[rows, n], 1.0), s.normal(&[rows, n], 1.0));
        let x = s.add(x, y);
        s.norm(x.clone());
        let x = s.add(z, x);
        s.norm(x);
        s.check(d)?;
    }
    Ok(())
}

/// A layer's experts, from the router to the next norm.
pub fn experts(d: &dyn Device, seed: u64, dtype: DType, sigmoid: bool) -> Checked {
    for (tokens, n, k) in [(1, 8, 2), (3, 6, 3), (90, 8, 2)] {
        let (h, inner) = (20, 12);
        let mut s = Sequence::new(seed, "experts", dtype);
        let (x, residual) = (s.normal(&[tokens, h], 1.0), s.normal(&[tokens, h], 1.0));
        let w = s.weights(dtype, &[n, h]);
        let logits = s.product(&x, w, None);
        let (mut router, mut bias) = (Router::new(ScoreFn::Softmax, k), None);
        if sigmoid {
            router = Router::new(ScoreFn::Sigmoid, k).groups(2, 1, GroupScore::SumTop2).bias(true);
            router = router.normalize(true).scale(2.5);
            bias = Some(s.floats(&[n]));
        }
        let [chosen, positions] = [0; 2].map(|_| s.fresh_of(DType::I32, &[tokens, k]));
        let weights = s.fresh_of(DType::F32, &[tokens, k]);
        let (offsets, rows) = (s.fresh_of(DType::I32, &[n + 1]), s.fresh_of(DType::I32, &[tokens * k]));
        s.ops.push(Op::router(router, logits, bias, chosen.clone(), weights.clone()));
        s.ops.push(Op::expert_permutation(chosen, offsets.clone(), rows.clone(), positions.clone()));
        let to_experts = s.fresh(&[tokens * k, h]);
        s.ops.push(Op::embedding(x, rows, to_experts.clone()));
        let grouped = |s: &mut Sequence, a: &TensorRef, shape: [usize; 2]| {
            let w = s.weights(dtype, &[n, shape[0], shape[1]]);
            let y = s.fresh(&[tokens * k, shape[0]]);
            s.ops.push(Op::grouped_matmul(a.clone(), w, offsets.clone(), None, y.clone(), false));
            y
        };
        let (gate, up) = (grouped(&mut s, &to_experts, [inner, h]), grouped(&mut s, &to_experts, [inner, h]));
        let y = s.swiglu(gate, up);
        let y = grouped(&mut s, &y, [h, inner]);
        let combined = s.fresh(&[tokens, h]);
        s.ops.push(Op::combine(y, positions, Some(weights), combined.clone(), false));
        let x = s.add(residual, combined);
        s.norm(x);
        s.check(d)?;
    }
    Ok(())
}

/// The optimiser's step of a model's tensors: norms without decay between matrices with it, one tensor of many
/// workgroups, more tensors than one launch takes, the last ones of parameters in `dtype`.
pub fn updates(d: &dyn Device, seed: u64, dtype: DType) -> Checked {
    let mut s = Sequence::new(seed, "updates", dtype);
    let hyper = s.given(&Array::new(DType::F32, &[3], vec![1e-2, 0.3, 0.2]));
    let factor = s.given(&Array::new(DType::F32, &[1], vec![0.7]));
    for i in 0..21 {
        let shape = match i {
            4 => vec![60, 150],
            _ if i % 3 == 0 => vec![1 + 37 * i % 90],
            _ => vec![1 + i % 5, 1 + 53 * i % 70],
        };
        let param = if i > 17 { s.normal(&shape, 1.0) } else { s.floats(&shape) };
        let (grad, m) = (s.floats(&shape), s.floats(&shape));
        let mut v = s.data.normal(DType::F32, &shape, 1.0);
        v.data.iter_mut().for_each(|x| *x = x.abs());
        let v = s.given(&v);
        let kind = AdamW::new(0.9, 0.95, 1e-8, if i % 3 == 0 { 0.0 } else { 0.1 });
        s.ops.push(Op::adamw(kind, grad, hyper.clone(), factor.clone(), [param, m, v]));
    }
    s.check(d)
}

/// Rotation, the way into the cache, perhaps a quantised one, and attention over it; one token is outside of the cache.
pub fn cached(d: &dyn Device, seed: u64, dtype: DType, interleaved: bool) -> Checked {
    for (tokens, heads, kv_heads, width, rotated, quantised) in
        [(1, 4, 2, 8, 8, false), (3, 3, 1, 24, 8, false), (2, 2, 2, 6, 4, false), (3, 4, 2, 32, 32, true)]
    {
        let capacity = 7;
        let mut s = Sequence::new(seed, "cached", dtype);
        let q = s.normal(&[tokens, heads, width], 1.0);
        let [k, v] = [0; 2].map(|_| s.normal(&[tokens, kv_heads, width], 1.0));
        let [cos, sin] = [0; 2].map(|_| s.floats(&[9, rotated / 2]));
        let positions: Vec<i64> = (0..tokens as i64).map(|t| 4 + t).collect();
        let positions = s.given(&ints(&[tokens], &positions));
        let rows: Vec<i64> = (0..tokens as i64).map(|t| if t == 2 { 99 } else { 4 + t }).collect();
        let rows = s.given(&ints(&[tokens], &rows));
        let turned = |s: &mut Sequence, x: &TensorRef| {
            let y = s.fresh(&x.shape);
            let mut op = Op::rope(x.clone(), cos.clone(), sin.clone(), positions.clone(), y.clone());
            op.kind = OpKind::Rope { inverse: false, interleaved };
            s.ops.push(op);
            y
        };
        let (q, k) = (turned(&mut s, &q), turned(&mut s, &k));
        let shape = [capacity, kv_heads, width];
        let [keys, values] = [0; 2].map(|_| match quantised {
            true => s.blocks(DType::Q8_0, &shape),
            false => s.normal(&shape, 1.0),
        });
        let flat = |t: &TensorRef| t.clone().reshape(&[t.shape[0], kv_heads * width]);
        for (new, store) in [(&k, &keys), (&v, &values)] {
            s.ops.push(Op::scatter(flat(new), rows.clone(), flat(store), false));
        }
        let kept = tokens.min(2);
        let n = kept as i64;
        let seqs = s.given(&ints(&[1, 4], &[0, n, 0, 4 + n]));
        let (o, lse) = (s.fresh(&q.shape), s.fresh_of(DType::F32, &q.shape[..2]));
        s.ops.push(Op::attention(Attention::causal(0.3), q, keys, values, seqs, o, lse));
        s.check(d)?;
    }
    Ok(())
}
