//! The rotation of queries and keys, and the way of keys and values into their cache.

use super::rope::{Units, per};
use crate::fusion::{Context, Fusion, meet_only};
use crate::{Access, Lowering, template};
use halite_hal::{DType, Op, OpKind, Result, TensorRef};

/// `rope, rope`, and perhaps `scatter, scatter` of what the second one gives and of something else.
#[derive(Debug)]
pub(crate) struct RopeBoth;

/// The ops that were found.
struct Found<'a> {
    q: &'a Op,
    k: &'a Op,
    /// Of keys, and of values.
    scatters: Option<[&'a Op; 2]>,
    units: Units,
    interleaved: bool,
    inverse: bool,
}

/// Whether two views are the same elements in the same order, whatever their axes.
fn same_elements(a: &TensorRef, b: &TensorRef) -> bool {
    let flat = |t: &TensorRef| t.is_contiguous().then(|| t.clone().reshape(&[t.elems()]));
    flat(a).zip(flat(b)).is_some_and(|(a, b)| a.same_view(&b))
}

impl<'a> Found<'a> {
    fn of(ops: &'a [Op], on: &Context<'_>) -> Option<Found<'a>> {
        let [q, k, rest @ ..] = ops else { return None };
        let OpKind::Rope { interleaved, inverse } = q.kind else { return None };
        let d = q.inputs[0].shape[2];
        let alike = k.kind == q.kind
            && q.inputs[1..].iter().zip(&k.inputs[1..]).all(|(a, b)| a.same_view(b))
            && k.inputs[0].shape[0] == q.inputs[0].shape[0]
            && k.inputs[0].shape[2] == d;
        let units = Units::new(d, q.inputs[1].shape[1], interleaved);
        let lowering = Lowering::new(on.info);
        let written =
            |op: &Op| op.outputs.iter().all(|t| t.dtype.is_float() && lowering.can_write(t, Access::Pairs));
        if !alike || units.step != 4 || !written(q) || !written(k) {
            return None;
        }
        let scatters = match rest {
            [keys, values, ..]
                if d.is_multiple_of(4)
                    && written(keys)
                    && written(values)
                    && into_cache(k, keys, values)
                    && meet_only(&ops[..4], &[(1, 2)]) =>
            {
                Some([keys, values])
            }
            _ if meet_only(&ops[..2], &[]) => None,
            _ => return None,
        };
        Some(Found { q, k, scatters, units, interleaved, inverse })
    }

    fn len(&self) -> usize {
        if self.scatters.is_some() { 4 } else { 2 }
    }

    fn bindings(&self) -> usize {
        7 + if self.scatters.is_some() { 4 } else { 0 }
    }
}

/// Whether `keys` writes what `k` gives, and `values` something else, to the same rows.
fn into_cache(k: &Op, keys: &Op, values: &Op) -> bool {
    let replaces = OpKind::Scatter { accumulate: false };
    let given = &k.outputs[0];
    // A row of the cache gets what was rotated, before it is rounded to the type of `given`.
    let exact = given.dtype == DType::F32 || keys.outputs[0].dtype == given.dtype;
    keys.kind == replaces
        && values.kind == replaces
        && exact
        && same_elements(given, &keys.inputs[0])
        && keys.inputs[0].shape[0] == given.shape[0]
        && keys.inputs[1].same_view(&values.inputs[1])
        && keys.outputs[0].shape[0] == values.outputs[0].shape[0]
}

impl Fusion for RopeBoth {
    fn matches(&self, ops: &[Op], on: &Context<'_>) -> Option<usize> {
        let found = Found::of(ops, on).filter(|f| f.bindings() <= on.info.max_bindings as usize)?;
        let ours = ops[..found.len()].iter().all(|op| (on.variant)(op).is_some());
        ours.then_some(found.len())
    }

    fn lower(&self, ops: &[Op], on: &Context<'_>, to: &mut Lowering<'_>) -> Result<()> {
        let Some(found) = Found::of(ops, on) else {
            return Err(to.unsupported(&ops[0].desc(), "no kernel for two rotations"));
        };
        let Found { q, k, scatters, units, interleaved, inverse } = found;
        let (tokens, heads) = (q.inputs[0].shape[0], q.inputs[0].shape[1]);
        let kv_heads = k.inputs[0].shape[1];
        let keys = tokens * heads * units.all;
        let values = keys + tokens * kv_heads * units.all;
        let l = to.launch(template!("rope_both.wgsl"));
        let l = l.input("q", &q.inputs[0]).input("k", &k.inputs[0]);
        let l = l.input("cos", &q.inputs[1]).input("sin", &q.inputs[2]).input("index", &q.inputs[3]);
        let l = l.output("q_out", &q.outputs[0]).output("k_out", &k.outputs[0]);
        let l = l.param("heads", heads).param("kv_heads", kv_heads).param("keys", keys);
        let l = units.describe(l, &q.inputs[1], inverse).literal("interleaved", interleaved);
        let l = l.literal("caches", scatters.is_some());
        let (l, items) = match scatters {
            Some([k, v]) => {
                let (width, chunks) = (v.inputs[0].shape[1], v.inputs[0].shape[1].div_ceil(4));
                let l = l.input("v", &v.inputs[0]).input("rows", &v.inputs[1]);
                let l = l.output("k_cache", &k.outputs[0]).output("v_cache", &v.outputs[0]);
                let l = l.param("capacity", v.outputs[0].shape[0]).param("values", values);
                (l.param("width", width).param("chunks", chunks), values + tokens * chunks)
            }
            None => (l, values),
        };
        per(l, items, on.info)
    }
}
