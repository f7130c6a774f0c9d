//! Tiles in registers, without shared memory: for devices on processors, and those without barriers.

use super::kernel::{Family, Kernel};
use super::problem::Problem;
use crate::{Lowering, template};
use halite_hal::Result;

const fn tile(name: &'static str, own: [usize; 2], group: [usize; 2], speed: [usize; 2]) -> Kernel {
    Kernel { name, family: Family::Registers, own, group, speed }
}

/// The sizes; names give the workgroup's tile and the invocation's.
pub(super) const KERNELS: &[Kernel] = &[
    tile("registers-128x128-16x16", [16, 16], [8, 8], [1000, 50]),
    tile("registers-32x64-8x8", [8, 8], [4, 8], [900, 100]),
    tile("registers-16x16-4x4", [4, 4], [4, 4], [350, 100]),
    tile("registers-8x8-8x8", [8, 8], [1, 1], [200, 10]),
    tile("registers-4x4-4x4", [4, 4], [1, 1], [100, 5]),
];

pub(super) fn lower(kernel: &Kernel, p: &Problem, to: &mut Lowering<'_>) -> Result<()> {
    let ([tm, tn], [wy, wx]) = (kernel.own, kernel.group);
    let launch = to
        .launch(template!("matmul_registers.wgsl"))
        .literal("tm", tm as u32)
        .literal("tn", tn as u32)
        .literal("wx", wx as u32)
        .literal("wy", wy as u32)
        .literal("fours", p.reads_fours())
        .workgroup([wx as u32, wy as u32, 1]);
    let (launch, groups) = p.bind(launch, kernel.tile());
    launch.linear(groups)
}
