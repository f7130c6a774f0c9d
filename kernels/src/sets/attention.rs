//! Kernels that work on attention, its gradient, and rotary embedding.

use crate::{KernelSet, Lowering, Variant};
use halite_hal::{DeviceInfo, Op, OpDesc, Result};

/// See the module.
#[derive(Debug)]
pub(crate) struct Attention;

impl KernelSet for Attention {
    fn variants(&self, _desc: &OpDesc, _info: &DeviceInfo) -> Vec<Variant> {
        Vec::new()
    }

    fn lower(&self, op: &Op, _variant: &Variant, to: &mut Lowering<'_>) -> Result<()> {
        Err(to.unsupported(&op.desc(), "no kernel"))
    }
}
