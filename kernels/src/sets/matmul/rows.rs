//! Few rows, as in decoding: every element of `b` is read once, and none of the work is for rows that aren't there.

use super::kernel::{Family, Kernel};

/// Rows of the kernels.
pub(super) const SIZES: [usize; 3] = [1, 4, 8];

const fn rows(name: &'static str, own: [usize; 2], group: [usize; 2], speed: [usize; 2]) -> Kernel {
    Kernel { name, family: Family::Rows, own, group, speed }
}

/// The sizes; names give the workgroup's rows and columns, the invocation's columns, and, behind a `k`, among how
/// many invocations the sum is split.
pub(super) const KERNELS: &[Kernel] = &[
    rows("rows-1x64-4", [1, 4], [1, 16], [200, 20]),
    rows("rows-4x64-4", [4, 4], [1, 16], [300, 40]),
    rows("rows-8x64-4", [8, 4], [1, 16], [400, 40]),
    rows("rows-1x4-4", [1, 4], [1, 1], [100, 2]),
    rows("rows-4x4-4", [4, 4], [1, 1], [150, 2]),
    rows("rows-8x4-4", [8, 4], [1, 1], [200, 2]),
    rows("rows-1x4-4-k64", [1, 4], [64, 1], [20, 100]),
    rows("rows-4x4-4-k64", [4, 4], [64, 1], [20, 200]),
    rows("rows-8x4-4-k64", [8, 4], [64, 1], [20, 200]),
    rows("rows-1x64-4-k4", [1, 4], [4, 16], [20, 100]),
    rows("rows-4x64-4-k4", [4, 4], [4, 16], [20, 200]),
    rows("rows-8x64-4-k4", [8, 4], [4, 16], [20, 200]),
];

/// Bytes of shared memory.
pub(super) fn bytes(kernel: &Kernel) -> usize {
    let [parts, along_n] = kernel.group;
    if parts == 1 { 0 } else { 4 * kernel.own[0] * kernel.own[1] * parts * along_n }
}
