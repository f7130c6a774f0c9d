//! Products with block-quantised weights. A few rows are multiplied with the weights as they lie; for more, weights
//! are decoded, a part at a time, and multiplied as any others.

use super::matmul::{Problem, densify, rows, transpose};
use crate::par::{self, Shared};
use crate::simd::blocks::{self, Columns};
use crate::simd::panels::{self, COLUMNS, Decode, Product, Rows};
use crate::view::View;
use halite_hal::DType;
use std::ops::Range;

/// Rows of a product that decodes nothing to memory, at most.
const FEW_ROWS: usize = 8;

/// Elements that are decoded at a time (64 MiB), or a block of columns, at most.
pub(super) const DECODED: usize = 16 << 20;

/// Whether a product is one of few rows with a matrix that is dense along `k`.
pub(super) fn is_small(p: &Problem) -> bool {
    p.c.shape[0] <= FEW_ROWS && p.b.strides[0] == 1 && p.b.shape[0] > 0
}

/// Ranges of columns that are decoded at a time.
pub(super) fn parts(p: &Problem) -> impl Iterator<Item = Range<usize>> + use<> {
    let (k, n) = (p.b.shape[0], p.b.shape[1]);
    let step = p.b.dtype.block_elems().max(COLUMNS);
    let wide = (DECODED / k.max(1)).max(step) / step * step;
    (0..n).step_by(wide).map(move |start| start..n.min(start + wide))
}

/// Columns that are in panels.
fn in_panels(b: &View) -> usize {
    if b.packed { b.shape[1] / COLUMNS * COLUMNS } else { 0 }
}

/// Bytes of a column of a matrix that is dense along `k`.
fn column_bytes(b: &View) -> usize {
    b.strides[1] / b.dtype.block_elems() * b.dtype.block_bytes()
}

/// A part of a matrix `[k, n]` as f32: its columns `range`, the start of a block and a panel. The view is of the
/// elements.
///
/// # Safety
/// As for [`super::run`].
pub(super) unsafe fn decode(b: &View, range: &Range<usize>) -> (Vec<f32>, View) {
    let f32s = |elements: &[f32], shape: halite_hal::Shape| View {
        ptr: elements.as_ptr().cast_mut().cast(),
        dtype: DType::F32,
        shape,
        strides: shape.contiguous_strides(),
        packed: false,
    };
    if b.packed {
        // SAFETY: by the caller.
        let elements = unsafe { decode_panels(b, range) };
        let shape = halite_hal::Shape::new(&[b.shape[0], range.len()]);
        let view = f32s(&elements, shape);
        return (elements, view);
    }
    let columns = rows(&transpose(*b), range);
    // Rows of whole blocks.
    let by_k = b.strides[0] == 1;
    let part = if by_k { columns } else { transpose(columns) };
    // SAFETY: by the caller.
    let elements = unsafe { densify(&part) };
    let view = f32s(&elements, part.shape);
    (elements, if by_k { transpose(view) } else { view })
}

/// As [`decode`], `[k, n]`, of a matrix in panels.
unsafe fn decode_panels(b: &View, range: &Range<usize>) -> Vec<f32> {
    let (k, n) = (b.shape[0], range.len());
    let paneled = in_panels(b).min(range.end).saturating_sub(range.start);
    let mut out = vec![0.0; k * n];
    let y = Shared::new(&mut out);
    par::ranges(n.div_ceil(COLUMNS), COLUMNS * k, |pieces| {
        let (first, last) = (pieces.start * COLUMNS, n.min(pieces.end * COLUMNS));
        let from = b.ptr.wrapping_add((range.start + first) * column_bytes(b));
        let count = paneled.saturating_sub(first).min(last - first) / COLUMNS;
        // SAFETY: by the caller; each column is written by one task.
        unsafe {
            let y = y.at(first);
            panels::decode(b.dtype, &Decode { panels: from, count, k, y, stride: n });
            let mut column = vec![0.0; k];
            for j in first + count * COLUMNS..last {
                b.part((range.start + j) * b.strides[1], k, 1).load(&mut column);
                for (p, x) in column.iter().enumerate() {
                    y.add(p * n + j - first).write(*x);
                }
            }
        }
    });
    out
}

/// A product of few rows with a matrix that is dense along `k`.
///
/// # Safety
/// As for [`super::run`]; the product is small.
pub(super) unsafe fn few_rows(p: &Problem) {
    /// Columns whose results are collected before they are written: whole panels.
    const WIDE: usize = 2 * COLUMNS;
    let (m, n, k) = (p.c.shape[0], p.c.shape[1], p.a.shape[1]);
    // SAFETY: by the caller.
    let a = unsafe { densify(&p.a) };
    let paneled = in_panels(&p.b);
    let prepared = (paneled > 0).then(|| Rows::new(p.b.dtype, a.clone(), m, k));
    let column_bytes = column_bytes(&p.b);
    par::ranges(n.div_ceil(WIDE), WIDE * k, |pieces| {
        par::with_scratch((m + 2) * WIDE, |scratch| {
            let (sums, rest) = scratch.split_at_mut(m * WIDE);
            let (bias, held) = rest.split_at_mut(WIDE);
            for j0 in pieces.map(|piece| piece * WIDE) {
                let wide = WIDE.min(n - j0);
                let (bias, held) = (&mut bias[..wide], &mut held[..wide]);
                bias.fill(0.0);
                let at = |j: usize| p.b.ptr.wrapping_add(j * column_bytes);
                let packed = paneled.saturating_sub(j0).min(wide);
                // SAFETY: by the caller; each piece is written by one task.
                unsafe {
                    if let Some(x) = p.bias {
                        x.row(0).slice(j0, wide).load(bias);
                    }
                    if let Some(rows) = prepared.as_ref().filter(|_| packed > 0) {
                        let (panels, count) = (at(j0), packed / COLUMNS);
                        let sums = sums.as_mut_ptr();
                        panels::multiply(p.b.dtype, &Product { rows, panels, count, sums, stride: WIDE });
                    }
                    if packed < wide {
                        blocks::multiply(&Columns {
                            dtype: p.b.dtype,
                            blocks: at(j0 + packed),
                            column_bytes,
                            count: wide - packed,
                            k,
                            x: a.as_ptr(),
                            rows: m,
                            sums: sums[packed..].as_mut_ptr(),
                            stride: WIDE,
                        });
                    }
                    for (i, sums) in sums.chunks_exact_mut(WIDE).enumerate() {
                        let (c, sums) = (p.c.row(i).slice(j0, wide), &mut sums[..wide]);
                        sums.iter_mut().zip(&*bias).for_each(|(s, b)| *s += b);
                        if p.accumulate {
                            c.load(held);
                            sums.iter_mut().zip(&*held).for_each(|(s, h)| *s += h);
                        }
                        c.store(sums);
                    }
                }
            }
        });
    });
}

/// Packs contiguous matrices `[.., n, k]`, in place or not.
///
/// # Safety
/// As for [`super::run`].
pub(super) unsafe fn pack(x: &View, y: &View) {
    let rank = x.shape.len();
    let (n, k) = (x.shape[rank - 2], x.shape[rank - 1]);
    let column = k / x.dtype.block_elems() * x.dtype.block_bytes();
    let matrices: usize = x.shape[..rank - 2].iter().product();
    let (whole, matrix) = (n / COLUMNS, n * column);
    let (from, to) = (Shared::new_at(x.ptr), Shared::new_at(y.ptr));
    let bytes = COLUMNS * column;
    par::ranges(matrices * whole, COLUMNS * k, |pieces| {
        let mut columns = vec![0; bytes];
        for piece in pieces {
            let at = piece / whole * matrix + piece % whole * bytes;
            // SAFETY: by the caller; panels are apart.
            unsafe {
                from.at(at).copy_to_nonoverlapping(columns.as_mut_ptr(), bytes);
                panels::pack(x.dtype, k, &columns, to.part(at..at + bytes));
            }
        }
    });
    if x.ptr != y.ptr {
        let rest = whole * bytes..matrix;
        for start in (0..matrices).map(|i| i * matrix + rest.start) {
            // SAFETY: by the caller; the two are apart, being different.
            unsafe { from.at(start).copy_to_nonoverlapping(to.at(start), rest.len()) };
        }
    }
}
