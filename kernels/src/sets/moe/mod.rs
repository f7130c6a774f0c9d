//! Kernels that work on routing, permutation and combination of experts.

use crate::{KernelSet, Lowering, Variant};
use halite_hal::{DeviceInfo, Op, OpDesc, Result};

/// See the module.
#[derive(Debug)]
pub(crate) struct Moe;

impl KernelSet for Moe {
    fn variants(&self, _desc: &OpDesc, _info: &DeviceInfo) -> Vec<Variant> {
        Vec::new()
    }

    fn lower(&self, op: &Op, _variant: &Variant, to: &mut Lowering<'_>) -> Result<()> {
        Err(to.unsupported(&op.desc(), "no kernel"))
    }
}
