//! Block-quantised weights in panels of 16 columns: the CPU's own layout, in which a vector holds one element of
//! each column.
//!
//! Scales are converted 16 at a time, nothing is shuffled, and no sum has to be added up across a vector. Of 16
//! columns, a block of each becomes: 16 scales (f16), 16 minima (f16, Q4_1 only), then its elements along `k`. Of
//! Q8_0 these are 16 bytes each; of types of four bits, each 8 are 16 words, in which element `t` of a column's 8
//! lies at bit `4t`. A nibble is used where it lies in its word, as its value times `2^(4t)`; the rows are multiplied
//! by `2^(−4t)` before, which is exact. Columns that make no whole panel stay as they were, behind the panels: the
//! layout takes as many bytes as the plain one.
//!
//! A product adds, for each block, even and odd elements along `k` apart, each in order; then those two, times
//! the scale; minima are multiplied with the row's sum over the block. It is the same for any number of rows.

use super::wide::{Plain16, Wide};
#[cfg(target_arch = "x86_64")]
use super::wide::{Ymm16, Zmm16};
use super::{Level, level, prefetch_ahead};
use halite_hal::{DType, Packing};

/// Columns of a panel.
pub(crate) const COLUMNS: usize = 16;

/// Elements of a block.
const BLOCK: usize = 32;

/// Elements along `k` that are multiplied together: the nibbles of a word.
const RUN: usize = 8;

/// The layout's name outside.
pub(crate) const PANELS: Packing = Packing::Packed(1);

/// Whether the CPU has such a layout for a type.
pub(crate) fn knows(packing: Packing, dtype: DType) -> bool {
    packing == Packing::Plain || packing == PANELS && matches!(dtype, DType::Q4_0 | DType::Q4_1 | DType::Q8_0)
}

/// What is said of a layout that the CPU doesn't have.
pub(crate) fn foreign(packing: Packing, dtype: DType) -> String {
    format!("{packing:?} of {dtype} is a layout of another device")
}

/// Turns 16 columns of `k` elements, one after another, into a panel.
pub(crate) fn pack(dtype: DType, k: usize, columns: &[u8], panel: &mut [u8]) {
    let bytes = dtype.block_bytes();
    let scales = if dtype == DType::Q4_1 { 4 } else { 2 };
    let column_bytes = k / BLOCK * bytes;
    for (b, panel) in panel.chunks_exact_mut(COLUMNS * bytes).enumerate() {
        let (ends, elements) = panel.split_at_mut(COLUMNS * scales);
        for c in 0..COLUMNS {
            let block = &columns[c * column_bytes + b * bytes..][..bytes];
            for (end, scale) in ends.chunks_exact_mut(2 * COLUMNS).zip(block[..scales].chunks_exact(2)) {
                end[2 * c..][..2].copy_from_slice(scale);
            }
            if dtype == DType::Q8_0 {
                elements.iter_mut().skip(c).step_by(COLUMNS).zip(&block[scales..]).for_each(|(y, x)| *y = *x);
                continue;
            }
            // The lower halves of the bytes are the first 16 elements, the upper the rest.
            for (i, eight) in block[scales..].as_chunks::<8>().0.iter().enumerate() {
                let eight = u64::from_le_bytes(*eight);
                for (half, eight) in [eight, eight >> 4].into_iter().enumerate() {
                    let at = 4 * ((2 * half + i) * COLUMNS + c);
                    elements[at..at + 4].copy_from_slice(&gather_nibbles(eight).to_le_bytes());
                }
            }
        }
    }
}

/// The lower halves of eight bytes, in order.
fn gather_nibbles(bytes: u64) -> u32 {
    let x = bytes & 0x0f0f_0f0f_0f0f_0f0f;
    let x = (x | x >> 4) & 0x00ff_00ff_00ff_00ff;
    let x = (x | x >> 8) & 0x0000_ffff_0000_ffff;
    (x | x >> 16) as u32
}

/// Rows as panels are multiplied with them.
pub(crate) struct Rows {
    k: usize,
    count: usize,
    /// `[count, k]`, element `8i + t` times what elements of panels lack at `t`.
    x: Vec<f32>,
    /// `[count, k / 32]`: sums over blocks.
    sums: Vec<f32>,
}

impl Rows {
    /// From `count` rows of `k` elements, whole blocks, for panels of a type.
    pub(crate) fn new(dtype: DType, mut x: Vec<f32>, count: usize, k: usize) -> Self {
        let sums = x.as_chunks::<BLOCK>().0.iter().map(|block| block.iter().sum()).collect();
        if dtype != DType::Q8_0 {
            for eight in x.as_chunks_mut::<RUN>().0 {
                eight.iter_mut().zip(FACTORS).for_each(|(x, factor)| *x *= factor);
            }
        }
        Rows { k, count, x, sums }
    }
}

/// What the value of a nibble must be multiplied with, by its place in a word.
const FACTORS: [f32; RUN] = {
    let mut factors = [1.0; RUN];
    let mut t = 0;
    while t < RUN - 1 {
        factors[t] = 1.0 / (1u32 << (4 * t)) as f32;
        t += 1;
    }
    factors
};

/// Products of rows with panels.
pub(crate) struct Product<'a> {
    /// The rows.
    pub(crate) rows: &'a Rows,
    /// The first panel; others follow.
    pub(crate) panels: *const u8,
    /// Number of panels.
    pub(crate) count: usize,
    /// Receives the product of row `i` and column `j` at `i · stride + j`.
    pub(crate) sums: *mut f32,
    /// At least the number of columns.
    pub(crate) stride: usize,
}

/// Multiplies every row with every column of panels of a type.
///
/// # Safety
/// The operands are there, and no one else uses the sums meanwhile.
pub(crate) unsafe fn multiply(dtype: DType, product: &Product<'_>) {
    // SAFETY: by the caller.
    unsafe { run(dtype, product) }
}

/// Decodes panels.
pub(crate) struct Decode {
    /// The first panel; others follow.
    pub(crate) panels: *const u8,
    /// Number of panels.
    pub(crate) count: usize,
    /// Elements of a column.
    pub(crate) k: usize,
    /// Receives element `p` of column `j` at `p · stride + j`.
    pub(crate) y: *mut f32,
    /// At least the number of columns.
    pub(crate) stride: usize,
}

/// Decodes panels of a type to rows along the columns.
///
/// # Safety
/// The operands are there, and no one else uses `y` meanwhile.
pub(crate) unsafe fn decode(dtype: DType, decode: &Decode) {
    // SAFETY: by the caller.
    unsafe { run(dtype, decode) }
}

/// Something to do with panels of any type on any instruction set.
trait Task {
    /// # Safety
    /// As the task's fields say; the processor has the instructions of `V`.
    unsafe fn run<V: Wide, P: Panel>(&self);
}

/// # Safety
/// As for [`Task::run`].
unsafe fn run(dtype: DType, task: &impl Task) {
    // SAFETY: by the caller.
    unsafe {
        match dtype {
            DType::Q4_0 => run_level::<Q4_0>(task),
            DType::Q4_1 => run_level::<Q4_1>(task),
            DType::Q8_0 => run_level::<Q8_0>(task),
            other => unreachable!("{other} has no panels"),
        }
    }
}

/// # Safety
/// As for [`Task::run`].
unsafe fn run_level<P: Panel>(task: &impl Task) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
    unsafe fn avx512<P: Panel>(task: &impl Task) {
        // SAFETY: by the caller.
        unsafe { task.run::<Zmm16, P>() }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn avx2<P: Panel>(task: &impl Task) {
        // SAFETY: by the caller.
        unsafe { task.run::<Ymm16, P>() }
    }
    // SAFETY: the processor has the instructions; the rest by the caller.
    unsafe {
        match level() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => avx512::<P>(task),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => avx2::<P>(task),
            Level::Base => task.run::<Plain16, P>(),
        }
    }
}

/// A type's panels.
trait Panel {
    /// Whether there are minima.
    const MIN: bool;
    /// Bytes of [`RUN`] elements of the columns.
    const RUN_BYTES: usize;
    /// What numbers must be multiplied with, by their place in a run.
    const FACTORS: [f32; RUN];
    /// Bytes before a block's elements.
    const SCALE_BYTES: usize = COLUMNS * if Self::MIN { 4 } else { 2 };
    /// Bytes of a block.
    const BYTES: usize = Self::SCALE_BYTES + BLOCK / RUN * Self::RUN_BYTES;
    /// Element `t` of the run at `run`.
    ///
    /// # Safety
    /// As for [`Wide`].
    unsafe fn numbers<V: Wide>(run: *const u8, t: usize) -> V;
}

/// Nibbles count from 8.
struct Q4_0;

impl Panel for Q4_0 {
    const MIN: bool = false;
    const RUN_BYTES: usize = 4 * COLUMNS;
    const FACTORS: [f32; RUN] = FACTORS;
    #[inline(always)]
    unsafe fn numbers<V: Wide>(run: *const u8, t: usize) -> V {
        // SAFETY: by the caller.
        unsafe { V::nibble(V::words(run), t).add(V::splat(-8.0 / FACTORS[t])) }
    }
}

struct Q4_1;

impl Panel for Q4_1 {
    const MIN: bool = true;
    const RUN_BYTES: usize = 4 * COLUMNS;
    const FACTORS: [f32; RUN] = FACTORS;
    #[inline(always)]
    unsafe fn numbers<V: Wide>(run: *const u8, t: usize) -> V {
        // SAFETY: by the caller.
        unsafe { V::nibble(V::words(run), t) }
    }
}

struct Q8_0;

impl Panel for Q8_0 {
    const MIN: bool = false;
    const RUN_BYTES: usize = RUN * COLUMNS;
    const FACTORS: [f32; RUN] = [1.0; RUN];
    #[inline(always)]
    unsafe fn numbers<V: Wide>(run: *const u8, t: usize) -> V {
        // SAFETY: by the caller.
        unsafe { V::signed(run.add(t * COLUMNS)) }
    }
}

impl Task for Product<'_> {
    #[inline(always)]
    unsafe fn run<V: Wide, P: Panel>(&self) {
        let panel_bytes = self.rows.k / BLOCK * P::BYTES;
        for p in 0..self.count {
            // SAFETY: by the caller.
            unsafe {
                let panel = self.panels.add(p * panel_bytes);
                let mut i = 0;
                while i + 2 <= self.rows.count {
                    self.rows::<V, P, 2>(panel, i, p * COLUMNS);
                    i += 2;
                }
                if i < self.rows.count {
                    self.rows::<V, P, 1>(panel, i, p * COLUMNS);
                }
            }
        }
    }
}

impl Product<'_> {
    /// `R` rows from `i` on, with a panel whose first column is `j`.
    ///
    /// # Safety
    /// As for [`Task::run`].
    #[inline(always)]
    unsafe fn rows<V: Wide, P: Panel, const R: usize>(&self, panel: *const u8, i: usize, j: usize) {
        let k = self.rows.k;
        let (x, sums) = (&self.rows.x[i * k..], &self.rows.sums[i * (k / BLOCK)..]);
        // SAFETY: by the caller.
        unsafe {
            let zero = V::splat(0.0);
            let mut totals = [zero; R];
            for block in 0..k / BLOCK {
                let at = panel.add(block * P::BYTES);
                let mut parts = [[zero; 2]; R];
                prefetch_ahead(at);
                for g in 0..BLOCK / RUN {
                    let at = at.add(P::SCALE_BYTES + P::RUN_BYTES * g);
                    for line in (0..P::RUN_BYTES).step_by(64) {
                        prefetch_ahead(at.add(line));
                    }
                    let x = x.as_ptr().add(block * BLOCK + g * RUN);
                    for t in 0..RUN {
                        let q: V = P::numbers(at, t);
                        for (r, parts) in parts.iter_mut().enumerate() {
                            parts[t % 2] = q.mul_add(V::splat(*x.add(r * k + t)), parts[t % 2]);
                        }
                    }
                }
                let scale = V::halves(at);
                for (r, (total, [even, odd])) in totals.iter_mut().zip(parts).enumerate() {
                    *total = scale.mul_add(even.add(odd), *total);
                    if P::MIN {
                        let sum = V::splat(*sums.as_ptr().add(r * (k / BLOCK) + block));
                        *total = V::halves(at.add(2 * COLUMNS)).mul_add(sum, *total);
                    }
                }
            }
            for (r, total) in totals.into_iter().enumerate() {
                total.store(self.sums.add((i + r) * self.stride + j));
            }
        }
    }
}

impl Task for Decode {
    #[inline(always)]
    unsafe fn run<V: Wide, P: Panel>(&self) {
        let blocks = self.k / BLOCK;
        for p in 0..self.count {
            for block in 0..blocks {
                // SAFETY: by the caller.
                unsafe {
                    let at = self.panels.add((p * blocks + block) * P::BYTES);
                    let zero = V::splat(0.0);
                    let scale = V::halves(at);
                    let min = if P::MIN { V::halves(at.add(2 * COLUMNS)) } else { zero };
                    for g in 0..BLOCK / RUN {
                        let at = at.add(P::SCALE_BYTES + P::RUN_BYTES * g);
                        for (t, factor) in P::FACTORS.into_iter().enumerate() {
                            let q: V = P::numbers(at, t);
                            let y = scale.mul_add(q.mul_add(V::splat(factor), zero), min);
                            y.store(self.y.add((block * BLOCK + g * RUN + t) * self.stride + p * COLUMNS));
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use halite_hal::blocks;

    /// Any bytes, with scales that are finite.
    fn columns(dtype: DType, count: usize, k: usize) -> Vec<u8> {
        let size = dtype.block_bytes();
        let n = count * k / BLOCK * size;
        let mut bytes: Vec<u8> = (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 19) as u8).collect();
        for block in bytes.chunks_mut(size) {
            (block[1], block[3]) = (block[1] & 0x3f, block[3] & 0xbf);
        }
        bytes
    }

    #[test]
    fn panels_are_the_columns_that_they_were_made_of() {
        for dtype in [DType::Q4_0, DType::Q4_1, DType::Q8_0] {
            let k = 96;
            let plain = columns(dtype, COLUMNS, k);
            let mut want = vec![0.0; COLUMNS * k];
            blocks::decode(dtype, &plain, &mut want).unwrap();
            let mut panel = vec![0; plain.len()];
            pack(dtype, k, &plain, &mut panel);
            let mut got = vec![0.0; k * COLUMNS];
            let task = Decode { panels: panel.as_ptr(), count: 1, k, y: got.as_mut_ptr(), stride: COLUMNS };
            // SAFETY: there is one panel, and room for its elements.
            unsafe { decode(dtype, &task) };
            for (p, row) in got.chunks(COLUMNS).enumerate() {
                for (j, got) in row.iter().enumerate() {
                    assert_eq!(*got, want[j * k + p], "{dtype} column {j} element {p}");
                }
            }
        }
    }

    /// A row gives the same whatever other rows there are.
    #[test]
    fn rows_are_multiplied_alike_alone_and_together() {
        let (k, rows) = (64, 5);
        let x: Vec<f32> = (0..rows * k).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
        for dtype in [DType::Q4_0, DType::Q4_1, DType::Q8_0] {
            let plain = columns(dtype, 2 * COLUMNS, k);
            let mut panels = vec![0; plain.len()];
            let half = plain.len() / 2;
            pack(dtype, k, &plain[..half], &mut panels[..half]);
            pack(dtype, k, &plain[half..], &mut panels[half..]);
            let product = |x: &[f32]| {
                let rows = Rows::new(dtype, x.to_vec(), x.len() / k, k);
                let mut sums = vec![0.0; rows.count * 2 * COLUMNS];
                let (panels, sums_at) = (panels.as_ptr(), sums.as_mut_ptr());
                let product = Product { rows: &rows, panels, count: 2, sums: sums_at, stride: 2 * COLUMNS };
                // SAFETY: there are two panels, and room for the sums.
                unsafe { multiply(dtype, &product) };
                sums
            };
            let together = product(&x);
            let alone: Vec<f32> = x.chunks(k).flat_map(product).collect();
            assert_eq!(together, alone, "{dtype}");
        }
    }
}
