//! Checks an op's operands against its definition in the catalogue.

use super::{BinaryFn, Distribution, Layout, OpDesc, OpKind, ReduceFn, Router};
use crate::{DType, Packing};

type Check = Result<(), String>;

fn ensure(ok: bool, message: impl FnOnce() -> String) -> Check {
    if ok { Ok(()) } else { Err(message()) }
}

/// Names an operand in messages.
fn rank(what: &str, l: &Layout, rank: usize) -> Check {
    ensure(l.shape.len() == rank, || format!("{what} has shape {:?}, needs {rank} axes", &*l.shape))
}

fn shape(what: &str, l: &Layout, wanted: &[usize]) -> Check {
    ensure(*l.shape == *wanted, || format!("{what} has shape {:?}, needs {wanted:?}", &*l.shape))
}

fn dtype(what: &str, l: &Layout, wanted: DType) -> Check {
    ensure(l.dtype == wanted, || format!("{what} is {}, needs {wanted}", l.dtype))
}

fn float(what: &str, l: &Layout) -> Check {
    ensure(l.dtype.is_float(), || format!("{what} is {}, needs f32, f16 or bf16", l.dtype))
}

fn float_or_block(what: &str, l: &Layout) -> Check {
    ensure(l.dtype.is_float() || l.dtype.is_block(), || {
        format!("{what} is {}, needs a float or block type", l.dtype)
    })
}

fn float_or_q8_0(what: &str, l: &Layout) -> Check {
    ensure(l.dtype.is_float() || l.dtype == DType::Q8_0, || {
        format!("{what} is {}, needs f32, f16, bf16 or q8_0", l.dtype)
    })
}

fn typed(what: &str, l: &Layout, dt: DType, dims: &[usize]) -> Check {
    dtype(what, l, dt)?;
    shape(what, l, dims)
}

fn floats(what: &str, l: &Layout, dims: &[usize]) -> Check {
    float(what, l)?;
    shape(what, l, dims)
}

/// Only weights of products are packed.
fn packings(d: &OpDesc) -> Check {
    let weight = |i| matches!(d.kind, OpKind::Matmul { .. } | OpKind::GroupedMatmul { .. }) && i == 1;
    let operands = d.inputs.iter().enumerate().map(|(i, l)| ("input", i, l, weight(i)));
    let outputs = d.outputs.iter().enumerate().map(|(o, l)| ("output", o, l, d.kind == OpKind::Pack));
    for (what, i, l, may) in operands.chain(outputs) {
        ensure(l.packing == Packing::Plain || may, || {
            format!("{what} {i} is {:?}; of {} it must be plain", l.packing, d.kind.name())
        })?;
        let swapped = |n: usize| n >= 2 && l.strides[n - 2] == 1 && l.strides[n - 1] == l.shape[n - 2];
        let whole = l.packing == Packing::Plain || d.kind == OpKind::Pack || swapped(l.shape.len());
        ensure(whole, || format!("packed b has strides {:?}, must be a weight transposed", &*l.strides))?;
    }
    Ok(())
}

pub(super) fn check(d: &OpDesc) -> Check {
    let OpDesc { kind, inputs: i, outputs: o } = d;
    let count = |n_in: usize, n_out: usize| {
        ensure(i.len() == n_in && o.len() == n_out, || {
            format!("{} inputs and {} outputs, needs {n_in} and {n_out}", i.len(), o.len())
        })
    };
    packings(d)?;
    match kind {
        OpKind::Fill { .. } => {
            count(0, 1)?;
            ensure(!o[0].dtype.is_block(), || format!("can't fill {}", o[0].dtype))
        }
        OpKind::Iota => {
            count(0, 1)?;
            ensure(!o[0].shape.is_empty(), || "needs at least one axis".into())?;
            dtype("y", &o[0], DType::I32)
        }
        OpKind::Copy => {
            count(1, 1)?;
            ensure(!o[0].dtype.is_block(), || format!("can't write {}", o[0].dtype))?;
            shape("y", &o[0], &i[0].shape)
        }
        OpKind::Embedding => {
            count(2, 1)?;
            rank("table", &i[0], 2)?;
            rank("index", &i[1], 1)?;
            dtype("index", &i[1], DType::I32)?;
            float_or_block("table", &i[0])?;
            floats("y", &o[0], &[i[1].shape[0], i[0].shape[1]])
        }
        OpKind::Scatter { accumulate } => {
            count(2, 1)?;
            rank("x", &i[0], 2)?;
            rank("y", &o[0], 2)?;
            float("x", &i[0])?;
            typed("index", &i[1], DType::I32, &i[0].shape[..1])?;
            match o[0].dtype {
                DType::Q8_0 => quantised_rows("y", &o[0], *accumulate)?,
                _ => float("y", &o[0])?,
            }
            shape("y", &o[0], &[o[0].shape[0], i[0].shape[1]])
        }
        OpKind::Matmul { bias, .. } => {
            count(2 + usize::from(*bias), 1)?;
            let r = i[0].shape.len();
            ensure(r == 2 || r == 3, || format!("a has {r} axes, needs 2 or 3"))?;
            rank("b", &i[1], r)?;
            float("a", &i[0])?;
            float_or_block("b", &i[1])?;
            blocks_in_matrix(&i[1])?;
            let (a, b) = (&i[0].shape, &i[1].shape);
            let mut wanted_b = a.to_vec();
            (wanted_b[r - 2], wanted_b[r - 1]) = (a[r - 1], b[r - 1]);
            shape("b", &i[1], &wanted_b)?;
            let mut wanted_c = a.to_vec();
            wanted_c[r - 1] = b[r - 1];
            if *bias {
                floats("bias", &i[2], &[b[r - 1]])?;
            }
            floats("c", &o[0], &wanted_c)
        }
        OpKind::GroupedMatmul { bias, .. } => {
            count(3 + usize::from(*bias), 1)?;
            rank("a", &i[0], 2)?;
            rank("b", &i[1], 3)?;
            float("a", &i[0])?;
            float_or_block("b", &i[1])?;
            blocks_in_matrix(&i[1])?;
            let (e, n) = (i[1].shape[0], i[1].shape[2]);
            shape("b", &i[1], &[e, i[0].shape[1], n])?;
            typed("offsets", &i[2], DType::I32, &[e.saturating_add(1)])?;
            if *bias {
                floats("bias", &i[3], &[e, n])?;
            }
            floats("c", &o[0], &[i[0].shape[0], n])
        }
        OpKind::GroupedMatmulWeight { .. } => {
            count(3, 1)?;
            rank("a", &i[0], 2)?;
            rank("b", &i[1], 2)?;
            rank("c", &o[0], 3)?;
            float("a", &i[0])?;
            floats("b", &i[1], &[i[0].shape[0], i[1].shape[1]])?;
            typed("offsets", &i[2], DType::I32, &[o[0].shape[0].saturating_add(1)])?;
            floats("c", &o[0], &[o[0].shape[0], i[0].shape[1], i[1].shape[1]])
        }
        OpKind::Unary(_) => {
            count(1, 1)?;
            float("x", &i[0])?;
            floats("y", &o[0], &i[0].shape)
        }
        OpKind::Binary(f) => {
            count(2, 1)?;
            let compares = matches!(f, BinaryFn::Equal | BinaryFn::Less);
            if !(compares && i[0].dtype == DType::I32 && i[1].dtype == DType::I32) {
                float("a", &i[0])?;
                float("b", &i[1])?;
            }
            shape("b", &i[1], &i[0].shape)?;
            floats("y", &o[0], &i[0].shape)
        }
        OpKind::Reduce { f, accumulate } => {
            count(1, 1)?;
            float("x", &i[0])?;
            ensure(!i[0].shape.is_empty(), || "x needs at least one axis".into())?;
            ensure(!accumulate || !matches!(f, ReduceFn::Max | ReduceFn::ArgMax), || {
                format!("{f:?} can't accumulate, only sums and means can")
            })?;
            match f {
                ReduceFn::ArgMax => dtype("y", &o[0], DType::I32)?,
                _ => float("y", &o[0])?,
            }
            shape("y", &o[0], &i[0].shape[..i[0].shape.len() - 1])
        }
        OpKind::Softmax => {
            count(1, 1)?;
            float("x", &i[0])?;
            ensure(!i[0].shape.is_empty(), || "x needs at least one axis".into())?;
            floats("y", &o[0], &i[0].shape)
        }
        OpKind::SoftmaxBackward => {
            count(2, 1)?;
            float("y", &i[0])?;
            ensure(!i[0].shape.is_empty(), || "y needs at least one axis".into())?;
            floats("dy", &i[1], &i[0].shape)?;
            floats("dx", &o[0], &i[0].shape)
        }
        OpKind::RmsNorm { .. } => {
            count(2, 2)?;
            rank("x", &i[0], 2)?;
            float("x", &i[0])?;
            floats("w", &i[1], &i[0].shape[1..])?;
            floats("y", &o[0], &i[0].shape)?;
            typed("rstd", &o[1], DType::F32, &i[0].shape[..1])
        }
        OpKind::RmsNormBackward { .. } => {
            count(4, 2)?;
            rank("dy", &i[0], 2)?;
            float("dy", &i[0])?;
            floats("x", &i[1], &i[0].shape)?;
            floats("w", &i[2], &i[0].shape[1..])?;
            typed("rstd", &i[3], DType::F32, &i[0].shape[..1])?;
            floats("dx", &o[0], &i[0].shape)?;
            typed("dw", &o[1], DType::F32, &i[0].shape[1..])
        }
        OpKind::Rope { .. } => {
            count(4, 1)?;
            rank("x", &i[0], 3)?;
            rank("cos", &i[1], 2)?;
            float("x", &i[0])?;
            dtype("cos", &i[1], DType::F32)?;
            ensure(i[1].shape[1] <= i[0].shape[2] / 2, || {
                format!("cos has {} columns, at most half of {}", i[1].shape[1], i[0].shape[2])
            })?;
            ensure(i[1].shape[0] > 0, || "cos has no rows".into())?;
            typed("sin", &i[2], DType::F32, &i[1].shape)?;
            typed("index", &i[3], DType::I32, &i[0].shape[..1])?;
            floats("y", &o[0], &i[0].shape)
        }
        OpKind::Attention(_) => {
            count(4, 2)?;
            attention(&i[0], &i[1], &i[2], &i[3], float_or_q8_0)?;
            floats("o", &o[0], &[i[0].shape[0], i[0].shape[1], i[2].shape[2]])?;
            typed("lse", &o[1], DType::F32, &i[0].shape[..2])
        }
        OpKind::AttentionBackward(_) => {
            count(7, 3)?;
            attention(&i[1], &i[2], &i[3], &i[6], float)?;
            let out = [i[1].shape[0], i[1].shape[1], i[3].shape[2]];
            floats("do", &i[0], &out)?;
            floats("o", &i[4], &out)?;
            typed("lse", &i[5], DType::F32, &out[..2])?;
            floats("dq", &o[0], &i[1].shape)?;
            floats("dk", &o[1], &i[2].shape)?;
            floats("dv", &o[2], &i[3].shape)
        }
        OpKind::SwiGlu => {
            count(2, 1)?;
            float("gate", &i[0])?;
            floats("up", &i[1], &i[0].shape)?;
            floats("y", &o[0], &i[0].shape)
        }
        OpKind::SwiGluBackward => {
            count(3, 2)?;
            float("dy", &i[0])?;
            floats("gate", &i[1], &i[0].shape)?;
            floats("up", &i[2], &i[0].shape)?;
            floats("dgate", &o[0], &i[0].shape)?;
            floats("dup", &o[1], &i[0].shape)
        }
        OpKind::CrossEntropy => {
            count(2, 2)?;
            rank("logits", &i[0], 2)?;
            float("logits", &i[0])?;
            typed("target", &i[1], DType::I32, &i[0].shape[..1])?;
            typed("loss", &o[0], DType::F32, &i[0].shape[..1])?;
            typed("lse", &o[1], DType::F32, &i[0].shape[..1])
        }
        OpKind::CrossEntropyBackward => {
            count(4, 1)?;
            rank("logits", &i[0], 2)?;
            float("logits", &i[0])?;
            typed("target", &i[1], DType::I32, &i[0].shape[..1])?;
            typed("lse", &i[2], DType::F32, &i[0].shape[..1])?;
            typed("dloss", &i[3], DType::F32, &i[0].shape[..1])?;
            floats("dlogits", &o[0], &i[0].shape)
        }
        OpKind::Router(r) => {
            count(1 + usize::from(r.bias), 2)?;
            router(r, &i[0])?;
            if r.bias {
                typed("bias", &i[1], DType::F32, &i[0].shape[1..])?;
            }
            let chosen = [i[0].shape[0], r.top_k];
            typed("experts", &o[0], DType::I32, &chosen)?;
            typed("weights", &o[1], DType::F32, &chosen)
        }
        OpKind::RouterBackward(r) => {
            count(3, 1)?;
            router(r, &i[0])?;
            let chosen = [i[0].shape[0], r.top_k];
            typed("experts", &i[1], DType::I32, &chosen)?;
            typed("dweights", &i[2], DType::F32, &chosen)?;
            floats("dlogits", &o[0], &i[0].shape)
        }
        OpKind::ExpertPermutation { experts } => {
            count(1, 3)?;
            rank("experts", &i[0], 2)?;
            dtype("experts", &i[0], DType::I32)?;
            typed("offsets", &o[0], DType::I32, &[experts.saturating_add(1)])?;
            typed("rows", &o[1], DType::I32, &[i[0].shape.elems()])?;
            typed("positions", &o[2], DType::I32, &i[0].shape)
        }
        OpKind::Combine { weighted, .. } => {
            count(2 + usize::from(*weighted), 1)?;
            rank("x", &i[0], 2)?;
            rank("positions", &i[1], 2)?;
            float("x", &i[0])?;
            dtype("positions", &i[1], DType::I32)?;
            if *weighted {
                typed("weights", &i[2], DType::F32, &i[1].shape)?;
            }
            floats("y", &o[0], &[i[1].shape[0], i[0].shape[1]])
        }
        OpKind::CombineBackward => {
            count(4, 2)?;
            rank("x", &i[1], 2)?;
            rank("positions", &i[2], 2)?;
            float("x", &i[1])?;
            dtype("positions", &i[2], DType::I32)?;
            floats("dy", &i[0], &[i[2].shape[0], i[1].shape[1]])?;
            typed("weights", &i[3], DType::F32, &i[2].shape)?;
            floats("dx", &o[0], &i[1].shape)?;
            typed("dweights", &o[1], DType::F32, &i[2].shape)
        }
        OpKind::ClipFactor { .. } => {
            count(1, 2)?;
            typed("sum_squares", &i[0], DType::F32, &[1])?;
            typed("norm", &o[0], DType::F32, &[1])?;
            typed("factor", &o[1], DType::F32, &[1])
        }
        OpKind::AdamW(_) => {
            count(3, 3)?;
            float("grad", &i[0])?;
            typed("hyper", &i[1], DType::F32, &[3])?;
            typed("factor", &i[2], DType::F32, &[1])?;
            floats("param", &o[0], &i[0].shape)?;
            typed("m", &o[1], DType::F32, &i[0].shape)?;
            typed("v", &o[2], DType::F32, &i[0].shape)
        }
        OpKind::Philox(dist) => {
            count(1, 1)?;
            typed("state", &i[0], DType::U32, &[4])?;
            dtype("y", &o[0], if *dist == Distribution::Bits { DType::U32 } else { DType::F32 })
        }
        OpKind::Pack => {
            count(1, 1)?;
            ensure(i[0].shape.len() >= 2, || {
                format!("x has shape {:?}, needs 2 axes or more", &*i[0].shape)
            })?;
            typed("y", &o[0], i[0].dtype, &i[0].shape)?;
            let contiguous = i[0].is_contiguous() && o[0].is_contiguous();
            ensure(contiguous, || {
                format!("strides {:?} and {:?} have gaps", &*i[0].strides, &*o[0].strides)
            })?;
            ensure(o[0].packing != Packing::Plain, || "y is plain: nothing to do".into())
        }
        OpKind::Custom(c) => c.0.check(i, o),
    }
}

/// A block must not span the matrices of a batch.
fn blocks_in_matrix(b: &Layout) -> Check {
    let spans =
        b.dtype.is_block() && b.shape.len() == 3 && !b.strides[0].is_multiple_of(b.dtype.block_elems());
    ensure(!spans, || {
        format!("blocks of b lie across its matrices (strides {:?}), must lie along k or n", &*b.strides)
    })
}

/// Rows that are quantised as they are written: none may share a 32-bit word with another, as devices write words.
fn quantised_rows(what: &str, l: &Layout, accumulate: bool) -> Check {
    ensure(!accumulate, || format!("can't add to {what} of {}", l.dtype))?;
    let pair = 2 * l.dtype.block_elems();
    let apart = l.strides[1] == 1 && (l.shape[0] <= 1 || l.strides[0].is_multiple_of(pair));
    ensure(apart, || {
        format!(
            "{what} has strides {:?}, of {} its rows must lie a multiple of {pair} apart",
            &*l.strides, l.dtype
        )
    })
}

/// `of_keys` is the check of the types of keys and values.
fn attention(
    q: &Layout,
    k: &Layout,
    v: &Layout,
    seqs: &Layout,
    of_keys: fn(&str, &Layout) -> Check,
) -> Check {
    rank("q", q, 3)?;
    rank("k", k, 3)?;
    rank("v", v, 3)?;
    rank("seqs", seqs, 2)?;
    float("q", q)?;
    let (heads, kv_heads) = (q.shape[1], k.shape[1]);
    ensure(kv_heads > 0 && heads % kv_heads == 0, || {
        format!("{heads} query heads, needs a multiple of the {kv_heads} kv heads")
    })?;
    of_keys("k", k)?;
    of_keys("v", v)?;
    shape("k", k, &[k.shape[0], kv_heads, q.shape[2]])?;
    shape("v", v, &[k.shape[0], kv_heads, v.shape[2]])?;
    typed("seqs", seqs, DType::I32, &[seqs.shape[0], 4])
}

fn router(r: &Router, logits: &Layout) -> Check {
    rank("logits", logits, 2)?;
    float("logits", logits)?;
    let experts = logits.shape[1];
    ensure(r.groups > 0 && experts.is_multiple_of(r.groups), || {
        format!("{experts} experts, needs a multiple of the {} groups", r.groups)
    })?;
    ensure(r.top_groups > 0 && r.top_groups <= r.groups, || {
        format!("{} groups chosen, needs 1 to {}", r.top_groups, r.groups)
    })?;
    let eligible = experts / r.groups * r.top_groups;
    ensure(r.top_k > 0 && r.top_k <= eligible, || {
        format!("{} experts chosen, needs 1 to {eligible}", r.top_k)
    })
}
