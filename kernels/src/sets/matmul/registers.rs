//! Tiles in registers, without shared memory: for devices on processors, and those without barriers.

use super::kernel::{Family, Kernel};

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
