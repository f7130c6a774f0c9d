//! Kernels that work on matrix products, dense and grouped.

use crate::{KernelSet, Lowering, Variant};
use halite_hal::{DeviceInfo, Op, OpDesc, Result};

/// See the module.
#[derive(Debug)]
pub(crate) struct Matmul;

impl KernelSet for Matmul {
    fn variants(&self, _desc: &OpDesc, _info: &DeviceInfo) -> Vec<Variant> {
        Vec::new()
    }

    fn lower(&self, op: &Op, _variant: &Variant, to: &mut Lowering<'_>) -> Result<()> {
        Err(to.unsupported(&op.desc(), "no kernel"))
    }
}
