//! Writes ops that a device lacks as ops that it has.
//!
//! Every op that isn't core has a decomposition into core ones here; custom ops may bring theirs. It
//! computes in f32 whatever the dtypes, keeps within the conformance suite's tolerances, and works on any
//! views and in place like the op itself.

mod loss;
mod moe;
mod norm;
mod optimizer;
mod parts;

use crate::{Device, Error, Graph, Op, OpDesc, OpKind, Result, SlotKind, Source, Support, TensorRef};
use parts::Parts;

/// How a device can do `desc` without a kernel of its own: composed, if there is a decomposition and the
/// device can do its parts.
pub fn support<D: Device + ?Sized>(device: &D, desc: &OpDesc) -> Support {
    if let Err(e) = desc.check() {
        return Support::Unsupported(e.to_string());
    }
    let mut graph = Graph::new();
    let mut operands = desc.inputs.iter().chain(&desc.outputs).map(|l| {
        let slot = graph.slot(SlotKind::External, 0);
        let mut t = TensorRef::slot(slot, l.dtype, &[]).with_layout(&l.shape, &l.strides);
        t.packing = l.packing;
        t
    });
    let inputs = operands.by_ref().take(desc.inputs.len()).collect();
    let outputs = operands.collect();
    match decompose(&Op::new(desc.kind.clone(), inputs, outputs), &mut graph) {
        None => return Support::Unsupported("no kernel and no decomposition".into()),
        Some(Err(e)) => return Support::Unsupported(e.to_string()),
        Some(Ok(())) => {}
    }
    for part in &graph.ops {
        let part = part.desc();
        if let Support::Unsupported(reason) = device.supports(&part) {
            return Support::Unsupported(format!("its part {part}: {reason}"));
        }
    }
    Support::Composed
}

/// Appends to `graph` core ops (or, for custom ops, ops nearer to them) that mean the same as `op`; `None`
/// when there is no decomposition, as for core ops. Intermediate values are temporaries of the graph. The
/// operands of `op` must fit its definition, see [`OpDesc::check`].
pub fn decompose(op: &Op, graph: &mut Graph) -> Option<Result<()>> {
    let p = &mut Parts(graph);
    match &op.kind {
        OpKind::RmsNorm { eps } => norm::rms_norm(op, eps.0, p),
        OpKind::RmsNormBackward { accumulate } => norm::rms_norm_backward(op, *accumulate, p),
        OpKind::SoftmaxBackward => norm::softmax_backward(op, p),
        OpKind::SwiGlu => norm::swiglu(op, p),
        OpKind::SwiGluBackward => norm::swiglu_backward(op, p),
        OpKind::CrossEntropy => loss::cross_entropy(op, p),
        OpKind::CrossEntropyBackward => loss::cross_entropy_backward(op, p),
        OpKind::RouterBackward(r) => moe::router_backward(op, *r, p),
        OpKind::Combine { weighted, accumulate } => moe::combine(op, *weighted, *accumulate, p),
        OpKind::CombineBackward => moe::combine_backward(op, p),
        OpKind::ClipFactor { max_norm } => optimizer::clip_factor(op, max_norm.0, p),
        OpKind::AdamW(a) => optimizer::adamw(op, *a, p),
        OpKind::Custom(c) => return c.0.decompose(op, p.0),
        _ => return None,
    }
    Some(Ok(()))
}

/// Writes out the ops of `graph` that `device` doesn't do natively, until it can do all of them.
pub fn lower<D: Device + ?Sized>(device: &D, graph: &Graph) -> Result<Graph> {
    let mut out = Graph { ops: Vec::with_capacity(graph.ops.len()), slots: graph.slots.clone() };
    for op in &graph.ops {
        lower_op(device, op, &mut out)?;
    }
    Ok(out)
}

fn lower_op<D: Device + ?Sized>(device: &D, op: &Op, out: &mut Graph) -> Result<()> {
    let desc = op.desc();
    let unsupported = |reason: String| Error::Unsupported {
        device: device.info().selector.clone(),
        op: desc.to_string(),
        reason,
    };
    match device.supports(&desc) {
        Support::Native => out.push(op.clone()),
        Support::Unsupported(reason) => return Err(unsupported(reason)),
        Support::Composed => {
            let first = out.ops.len();
            decompose(op, out).ok_or_else(|| unsupported("it has no decomposition".into()))??;
            for part in out.ops.split_off(first) {
                lower_op(device, &part, out)?;
            }
        }
    }
    Ok(())
}

/// For ops on buffers that are submitted without a recording: `None` when the device does all of them
/// natively, else the ops written out, with temporaries allocated from the device.
pub fn lower_ops<D: Device + ?Sized>(device: &D, ops: &[Op]) -> Result<Option<Vec<Op>>> {
    if ops.iter().all(|op| device.supports(&op.desc()) == Support::Native) {
        return Ok(None);
    }
    for op in ops {
        op.check(|_| None)?;
    }
    let graph = Graph { ops: ops.to_vec(), slots: Vec::new() };
    let mut lowered = lower(device, &graph)?;
    let memory = lowered
        .slots
        .iter()
        .map(|s| {
            debug_assert_eq!(s.kind, SlotKind::Temporary);
            device.allocate(s.bytes, 0)
        })
        .collect::<Result<Vec<_>>>()?;
    for t in lowered.ops.iter_mut().flat_map(Op::operands_mut) {
        if let Source::Slot(s) = t.source {
            t.source = Source::Buffer(memory[s as usize].clone());
        }
    }
    Ok(Some(lowered.ops))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::{CoreOnly, NullDevice};
    use crate::{DType, DeviceInfo, DeviceKind, Layout};
    use std::sync::Arc;

    #[test]
    fn parts_are_core_and_a_missing_one_is_named() {
        let info = DeviceInfo::new("null", 0, "null", DeviceKind::Software);
        let device = CoreOnly::new(Arc::new(NullDevice::new(info)));
        let l = |shape: &[usize]| Layout::contiguous(DType::F32, shape);
        let desc = OpDesc::new(OpKind::SwiGlu, vec![l(&[2, 3]), l(&[2, 3])], vec![l(&[2, 3])]);
        assert_eq!(support(&device, &desc), Support::Composed);
        // Core ops have no decomposition, and what isn't well formed has none either.
        let core = OpDesc::new(OpKind::Softmax, vec![l(&[3])], vec![l(&[3])]);
        assert!(matches!(support(&device, &core), Support::Unsupported(_)));
        let bad = OpDesc::new(OpKind::SwiGlu, vec![l(&[2, 3])], vec![l(&[2, 3])]);
        assert!(matches!(support(&device, &bad), Support::Unsupported(_)));
    }
}
