//! Kernels for a few rows of A (decoding): they stream B once from where it lies, without packing it, in the same order
//! of additions as the packed kernels.

use super::MatRef;

/// Rows of A at most.
pub(super) const MAX_ROWS: usize = 8;

/// Arguments of a skinny kernel: `sums = A·B (+ bias) (+ sums)`.
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "the portable level packs always"))]
pub(super) struct Skinny {
    /// 1..=MAX_ROWS.
    pub rows: usize,
    /// A multiple of the level's lanes.
    pub cols: usize,
    /// More than 0.
    pub k: usize,
    /// A in panels of the level's `nr` values of k, `[k / nr, rows, nr]`.
    pub a: *const f32,
    /// B, one of whose strides is 1.
    pub b: MatRef,
    /// The result, `[rows, cols]`.
    pub sums: *mut f32,
    /// Room for another `[rows, cols]`.
    pub partial: *mut f32,
    /// `cols` values, or null.
    pub bias: *const f32,
    /// Whether `sums` holds values to add to.
    pub add: bool,
}
