//! Kernels that work on attention, its gradient, and rotary embedding.
//!
//! Which rows belong to which sequence is read on the device: grids are sized by the tensors' shapes. What
//! contradicts the definition of `seqs` is clipped.

mod backward;
mod flash;
mod forward;
mod fused;
mod rope;
mod split;

use crate::sets::elementwise::copy;
use crate::{Access, KernelSet, LaunchBuilder, Lowering, Variant};
use halite_hal::{
    Attention as Attributes, DType, DeviceInfo, DeviceKind, Op, OpDesc, OpKind, Result, TensorRef,
};

pub(crate) use fused::RopeBoth;

/// See the module.
#[derive(Debug)]
pub(crate) struct Attention;

impl KernelSet for Attention {
    fn variants(&self, desc: &OpDesc, info: &DeviceInfo) -> Vec<Variant> {
        match desc.kind {
            OpKind::Rope { .. } => vec![Variant::ONLY],
            OpKind::Attention(_) => forward::variants(desc, info),
            OpKind::AttentionBackward(_) => backward::variants(desc, info),
            _ => Vec::new(),
        }
    }

    fn lower(&self, op: &Op, variant: &Variant, to: &mut Lowering<'_>) -> Result<()> {
        match op.kind {
            OpKind::Rope { inverse, interleaved } => rope::lower(op, inverse, interleaved, to),
            OpKind::Attention(a) => forward::lower(op, a, variant, to),
            OpKind::AttentionBackward(a) => backward::lower(op, a, variant, to),
            _ => Err(to.unsupported(&op.desc(), "no kernel")),
        }
    }
}

/// An output where a kernel can write it: itself, or scratch memory to be copied from.
struct Target<'a> {
    output: &'a TensorRef,
    written: TensorRef,
}

impl<'a> Target<'a> {
    fn new(output: &'a TensorRef, access: Access, to: &mut Lowering<'_>) -> Result<Self> {
        let written = match to.can_write(output, access) {
            true => output.clone(),
            false => to.scratch(DType::F32, &output.shape)?,
        };
        Ok(Target { output, written })
    }

    /// Brings the output to its place, once everything is written.
    fn finish(self, to: &mut Lowering<'_>) -> Result<()> {
        if self.written.same_view(self.output) { Ok(()) } else { copy(to, &self.written, self.output) }
    }
}

/// Columns of a result that an invocation of a kernel without shared memory holds; there is an invocation for
/// each part of a row.
const WIDTH: usize = 64;

/// Iterations of a loop over `n` things, four at a time.
fn fours(n: usize) -> usize {
    n.div_ceil(4) + 1
}

/// A launch with one invocation for each item, in workgroups of up to 64.
fn each<'l, 'a>(launch: LaunchBuilder<'l, 'a>, items: usize, group: u32) -> Result<()> {
    launch.param("items", items).workgroup([group, 1, 1]).linear(items.div_ceil(group as usize))
}

/// Invocations of a workgroup that don't work together.
fn apart(info: &DeviceInfo) -> u32 {
    info.max_workgroup_size.min(64)
}

/// Whether a processor does the work: it has no fast shared memory, and barriers cost it much.
fn on_processor(info: &DeviceInfo) -> bool {
    !info.barriers || matches!(info.kind, DeviceKind::Cpu | DeviceKind::Software)
}

/// The parameters of `sequences.wgsl`, and the operand.
fn sequences<'l, 'a>(
    launch: LaunchBuilder<'l, 'a>,
    a: Attributes,
    [q, k, seqs]: [&TensorRef; 3],
) -> LaunchBuilder<'l, 'a> {
    let window = a.window.map_or(i32::MAX, |w| w.min(i32::MAX as u32) as i32);
    launch
        .input("seqs", seqs)
        .param("seqs", seqs.shape[0])
        .param("tokens", q.shape[0])
        .param("kv", k.shape[0])
        .param("causal", usize::from(a.causal))
        .param_i32("window", window)
        .param_f32("scale", a.scale.0)
}

#[cfg(test)]
mod tests;
