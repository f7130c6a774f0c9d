//! Ops that follow each other and are done by one launch.
//!
//! What a launch costs is most of the time of a small op, as there are many in decoding. A fused launch
//! computes what the ops' own kernels do, bit for bit, and writes all their outputs, also those that only the
//! next op reads: whoever reads them later can't tell. So a recording, where ops are fused, gives what the same
//! ops give one by one.

use crate::{Lowering, Variant};
use halite_hal::{DeviceInfo, Op, Result, TensorRef};
use std::fmt;

/// A way to do several ops at once.
pub(crate) trait Fusion: fmt::Debug + Send + Sync {
    /// How many of the leading ops, two or more, are done at once. No extent of them is 0.
    fn matches(&self, ops: &[Op], on: &Context<'_>) -> Option<usize>;

    /// Appends the launch of ops that matched, and no others.
    fn lower(&self, ops: &[Op], on: &Context<'_>, to: &mut Lowering<'_>) -> Result<()>;
}

/// What fusions ask of the engine.
pub(crate) struct Context<'a> {
    /// The device, restricted by its profile.
    pub info: &'a DeviceInfo,
    /// The variant that an op gets by itself; `None` for ops that kernels from outside do.
    pub variant: &'a dyn Fn(&Op) -> Option<Variant>,
}

/// Whether the ops only meet in results that one hands to another: `edges` are pairs of an op and a later one
/// that reads its outputs. All else that one writes, the others neither read nor write.
pub(crate) fn meet_only(ops: &[Op], edges: &[(usize, usize)]) -> bool {
    let handed = |out: &TensorRef, input: &TensorRef| {
        out.is_contiguous() && input.is_contiguous() && out.byte_range() == input.byte_range()
    };
    ops.iter().enumerate().all(|(i, a)| {
        ops.iter().enumerate().skip(i + 1).all(|(j, b)| {
            let known = edges.contains(&(i, j));
            let reads = |out: &TensorRef, t: &TensorRef| !out.may_overlap(t) || (known && handed(out, t));
            a.outputs.iter().all(|out| {
                b.inputs.iter().all(|t| reads(out, t)) && b.outputs.iter().all(|t| !out.may_overlap(t))
            }) && b.outputs.iter().all(|out| a.inputs.iter().all(|t| !out.may_overlap(t)))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use halite_hal::{BinaryFn, DType, UnaryFn};

    fn t(slot: u32) -> TensorRef {
        TensorRef::slot(slot, DType::F32, &[2, 4])
    }

    #[test]
    fn ops_meet_where_they_are_said_to_and_nowhere_else() {
        let first = Op::unary(UnaryFn::Exp, t(0), t(1));
        let meet = |second: Op, edges: &[(usize, usize)]| meet_only(&[first.clone(), second], edges);
        let reads = |input| Op::binary(BinaryFn::Add, t(2), input, t(3));
        assert!(meet(reads(t(4)), &[]));
        assert!(meet(reads(t(1)), &[(0, 1)]) && !meet(reads(t(1)), &[]));
        assert!(meet(reads(t(1).reshape(&[8]).reshape(&[2, 4])), &[(0, 1)]));
        assert!(!meet(reads(t(1).with_offset(1)), &[(0, 1)]), "a part of it");
        let writes = |out| Op::unary(UnaryFn::Exp, t(2), out);
        assert!(!meet(writes(t(0)), &[(0, 1)]) && !meet(writes(t(1)), &[(0, 1)]));
    }
}
