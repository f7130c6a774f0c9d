//! Moving and converting: copy, fill, iota.

use super::elementwise::tiles;
use crate::par;
use crate::view::{Row, View, coalesce};
use halite_hal::DType;

/// # Safety
/// As for [`super::run`], here and below.
pub(super) unsafe fn fill(value: f32, y: &View) {
    let [y] = coalesce([y]);
    tiles(y.rows(), y.cols(), 1, |row, start, len, scratch| {
        let row = y.row(row).slice(start, len);
        // SAFETY: by the caller; each piece is written once.
        unsafe {
            if value.to_bits() == 0 && y.dtype.is_float() {
                row.zero();
            } else if y.dtype.is_float() {
                row.write(scratch, |out| out.fill(value));
            } else {
                (0..len).for_each(|i| row.set(i, f64::from(value)));
            }
        }
    });
}

pub(super) unsafe fn iota(y: &View) {
    par::ranges(y.rows(), y.cols(), |rows| {
        for row in rows.map(|r| y.row(r)) {
            // SAFETY: by the caller; each row is written once.
            (0..row.len()).for_each(|i| unsafe { row.set_int(i, i as i32) });
        }
    });
}

pub(super) unsafe fn copy(x: &View, y: &View) {
    if let Some((rows, cols)) = transposed(x, y) {
        // SAFETY: by the caller.
        return unsafe { transpose(&rows, &cols, y.dtype) };
    }
    let [x, y] = if x.dtype.is_block() { [*x, *y] } else { coalesce([x, y]) };
    tiles(x.rows(), x.cols(), 2, |row, start, len, scratch| {
        // SAFETY: by the caller; each piece is written once.
        unsafe {
            copy_row(&x.row(row).slice(start, len), &y.row(row).slice(start, len), x.dtype, y.dtype, scratch)
        }
    });
}

/// # Safety
/// As for [`super::run`].
unsafe fn copy_row(x: &Row, y: &Row, from: DType, to: DType, scratch: &mut [f32]) {
    let (a, b) = scratch.split_at_mut(scratch.len() / 2);
    // SAFETY: by the caller.
    unsafe {
        if from == to
            && let (Some(x), Some(y_bytes)) = (x.as_bytes(), y.as_bytes())
        {
            std::ptr::copy_nonoverlapping(x, y_bytes, y.len() * to.block_bytes());
        } else if (from.is_float() || from.is_block()) && to.is_float() {
            let x = x.read(a);
            y.write(b, |y| y.copy_from_slice(x));
        } else {
            // f64 holds every value of every type.
            (0..y.len()).for_each(|i| y.set(i, x.get(i)));
        }
    }
}

/// For a copy of f32 or two-byte elements between memory whose dense axes differ: the two as views
/// `[batch, dense in x, dense in y]`.
fn transposed(x: &View, y: &View) -> Option<(View, View)> {
    let same = x.dtype == y.dtype && matches!(x.dtype.block_bytes(), 2 | 4);
    let [x, y] = coalesce([x, y]);
    let (rank, dense) = (x.shape.len(), |s: &[usize]| s.iter().position(|&s| s == 1));
    let (ax, ay) = (dense(&x.strides)?, dense(&y.strides)?);
    if !same || rank != 2 || ax == ay {
        return None;
    }
    Some((x, y))
}

/// # Safety
/// As for [`super::run`]; the views are matrices of one plain type of 2 or 4 bytes.
unsafe fn transpose(x: &View, y: &View, dtype: DType) {
    // Squares that fit the first-level cache on both sides.
    const SIDE: usize = 32;
    let (m, n) = (x.shape[0], x.shape[1]);
    let (across, size) = (n.div_ceil(SIDE), dtype.block_bytes());
    par::ranges(m.div_ceil(SIDE) * across, SIDE * SIDE, |squares| {
        for square in squares {
            let (i0, j0) = (square / across * SIDE, square % across * SIDE);
            let (i1, j1) = (m.min(i0 + SIDE), n.min(j0 + SIDE));
            for i in i0..i1 {
                for j in j0..j1 {
                    let from = x.ptr.wrapping_add((i * x.strides[0] + j * x.strides[1]) * size);
                    let to = y.ptr.wrapping_add((i * y.strides[0] + j * y.strides[1]) * size);
                    // SAFETY: by the caller; each element is written once.
                    unsafe {
                        match size {
                            4 => to.cast::<u32>().write(from.cast::<u32>().read()),
                            _ => to.cast::<u16>().write(from.cast::<u16>().read()),
                        }
                    }
                }
            }
        }
    });
}
