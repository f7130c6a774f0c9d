//! Tiles through shared memory: for GPUs.

use super::kernel::{Family, Kernel};

/// How much of the sum is staged at a time.
pub(super) const DEPTH: usize = 16;

const fn tile(name: &'static str, own: [usize; 2], group: [usize; 2], speed: [usize; 2]) -> Kernel {
    Kernel { name, family: Family::Shared, own, group, speed }
}

/// The sizes; names give the workgroup's tile, the part of the sum that is staged, and the invocation's tile.
pub(super) const KERNELS: &[Kernel] = &[
    tile("shared-128x128x16-8x8", [8, 8], [16, 16], [100, 1000]),
    tile("shared-64x64x16-4x4", [4, 4], [16, 16], [50, 700]),
    tile("shared-64x64x16-8x4", [8, 4], [8, 16], [50, 700]),
    tile("shared-32x32x16-4x4", [4, 4], [8, 8], [50, 500]),
];

/// Bytes of shared memory.
pub(super) fn bytes(kernel: &Kernel) -> usize {
    let [rows, columns] = kernel.tile();
    4 * DEPTH * (rows + columns)
}
