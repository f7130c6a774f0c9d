//! Matrix multiplication: packed, register-tiled, multi-threaded kernels for dense, batched and ragged products.
//!
//! Everything is a list of independent [`Problem`]s, each `C[m,n] = A[m,k]·B[k,n] (+ bias[n]) (+ C)` with its own
//! sizes, element types and strides. [`run`] cuts all of them into tiles and balances the tiles over the threads of
//! the current pool, so that a few large experts among many small ones keep every thread busy.
//!
//! # Numerics
//!
//! Operands are widened to f32 and accumulated in f32. For every element of C, k is cut into blocks of 256; inside a
//! block products are added one after the other in order of k, starting from zero, and the blocks' sums are added in
//! order. That order depends on nothing else: a result is the same bits for any number of threads, any m and n around
//! it (one row alone equals that row in a large batch) and any strides. [`Level::Avx512`] and [`Level::Avx2`] agree
//! bit for bit; [`Level::Portable`] agrees with them only where the target has a fused multiply-add by default
//! (aarch64). Bias joins the first block's sum. A 16-bit C is rounded once, after everything was added in f32; an
//! accumulating f32 C takes the blocks' sums one by one.

mod isa;
mod pack;
mod portable;
mod skinny;
mod store;
mod tile;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod skinny_x86;

#[cfg(test)]
mod tests;

pub use isa::Level;

/// Element type of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elem {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// bfloat16.
    Bf16,
}

impl Elem {
    /// Size of one element in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Elem::F32 => 4,
            Elem::F16 | Elem::Bf16 => 2,
        }
    }

    /// Byte offset of the element `index` elements away.
    const fn offset(self, index: isize) -> isize {
        index * self.bytes() as isize
    }
}

/// A matrix to read. Strides count elements and may be zero (broadcast) or negative; a transposed matrix is the same
/// pointer with the strides swapped.
#[derive(Clone, Copy, Debug)]
pub struct MatRef {
    /// Element (0, 0), aligned for `elem`.
    pub ptr: *const u8,
    /// Element type.
    pub elem: Elem,
    /// Elements from one row to the next.
    pub row_stride: isize,
    /// Elements from one column to the next.
    pub col_stride: isize,
}

impl MatRef {
    /// The same matrix starting at (`row`, `col`).
    pub fn at(self, row: usize, col: usize) -> Self {
        self.shifted(row as isize * self.row_stride + col as isize * self.col_stride)
    }

    /// The same matrix `elements` further in memory.
    pub fn shifted(self, elements: isize) -> Self {
        Self { ptr: self.ptr.wrapping_offset(self.elem.offset(elements)), ..self }
    }

    /// The transposed matrix.
    pub fn transposed(self) -> Self {
        Self { row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }
}

/// A matrix to write; as [`MatRef`], except that no two elements may share memory.
#[derive(Clone, Copy, Debug)]
pub struct MatMut {
    /// Element (0, 0), aligned for `elem`.
    pub ptr: *mut u8,
    /// Element type.
    pub elem: Elem,
    /// Elements from one row to the next.
    pub row_stride: isize,
    /// Elements from one column to the next.
    pub col_stride: isize,
}

impl MatMut {
    /// The same matrix starting at (`row`, `col`).
    pub fn at(self, row: usize, col: usize) -> Self {
        self.shifted(row as isize * self.row_stride + col as isize * self.col_stride)
    }

    /// The same matrix `elements` further in memory.
    pub fn shifted(self, elements: isize) -> Self {
        Self { ptr: self.ptr.wrapping_offset(self.elem.offset(elements)), ..self }
    }

    /// The transposed matrix.
    pub fn transposed(self) -> Self {
        Self { row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }
}

/// A vector to read.
#[derive(Clone, Copy, Debug)]
pub struct VecRef {
    /// Element 0, aligned for `elem`.
    pub ptr: *const u8,
    /// Element type.
    pub elem: Elem,
    /// Elements from one element to the next.
    pub stride: isize,
}

impl VecRef {
    /// The same vector `elements` further in memory.
    pub fn shifted(self, elements: isize) -> Self {
        Self { ptr: self.ptr.wrapping_offset(self.elem.offset(elements)), ..self }
    }
}

/// One product: `C[m,n] = A[m,k]·B[k,n] + bias[n]`, added to C if `accumulate`. Any of m, n and k may be zero; with
/// k = 0 the product is zero.
#[derive(Clone, Copy, Debug)]
pub struct Problem {
    /// Rows of A and C.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Columns of A and rows of B.
    pub k: usize,
    /// A, `[m, k]`.
    pub a: MatRef,
    /// B, `[k, n]`.
    pub b: MatRef,
    /// C, `[m, n]`.
    pub c: MatMut,
    /// Added to every row of the product, `[n]`.
    pub bias: Option<VecRef>,
    /// Whether C's old value is added.
    pub accumulate: bool,
}

// SAFETY: a problem is a description; its pointers are followed only by `run`, whose caller vouches for them.
unsafe impl Send for Problem {}
// SAFETY: as above.
unsafe impl Sync for Problem {}

/// Computes every problem with the machine's best instruction set, on the threads of the current [`ThreadPool`](crate::ThreadPool).
///
/// # Safety
///
/// For the time of the call every element an operand describes must be valid (to read for A, B, bias and an
/// accumulated C, to write for C) and aligned; no element of any C may be described twice or overlap any A, B or bias
/// in the list; nothing else may write the inputs or touch the outputs.
pub unsafe fn run(problems: &[Problem]) {
    // SAFETY: the caller's promise; `best` names a level this machine has.
    unsafe { run_at(Level::best(), problems) }
}

/// [`run`] with a chosen instruction set.
///
/// # Safety
///
/// As [`run`], and `level` must be one of [`Level::available`].
pub unsafe fn run_at(level: Level, problems: &[Problem]) {
    // SAFETY: the caller's promise.
    unsafe { tile::run(level.isa(), problems) }
}
