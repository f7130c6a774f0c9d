//! Writes ops that a device lacks as ops that it has.

use crate::{Device, Error, Graph, Op, OpDesc, Result, SlotKind, Source, Support};

/// How a device that runs core ops natively does `desc`: composed, if a decomposition exists.
pub fn support<D: Device + ?Sized>(_device: &D, _desc: &OpDesc) -> Support {
    Support::Unsupported("no decomposition".into())
}

/// Appends to `graph` core ops (or ops nearer to them) that mean the same as `op`; `None` when there is
/// no decomposition. Intermediate values are temporaries of the graph.
pub fn decompose(_op: &Op, _graph: &mut Graph) -> Option<Result<()>> {
    None
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
