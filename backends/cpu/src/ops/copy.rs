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
    if let Some((x, y)) = transposed(x, y) {
        // SAFETY: by the caller.
        return unsafe {
            match y.dtype.block_bytes() {
                4 => transpose::<u32>(&x, &y),
                _ => transpose::<u16>(&x, &y),
            }
        };
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

/// For a copy of elements of 2 or 4 bytes between matrices of which one is dense in its first axis and the
/// other in its second: the matrices, the one to read first.
fn transposed(x: &View, y: &View) -> Option<(View, View)> {
    let same = x.dtype == y.dtype && matches!(x.dtype.block_bytes(), 2 | 4);
    let [mut x, mut y] = coalesce([x, y]);
    if !same || x.shape.len() != 2 {
        return None;
    }
    if x.strides[1] == 1 && y.strides[0] == 1 {
        for v in [&mut x, &mut y] {
            v.shape.dims_mut().swap(0, 1);
            v.strides.dims_mut().swap(0, 1);
        }
    }
    (x.strides[0] == 1 && y.strides[1] == 1).then_some((x, y))
}

/// # Safety
/// As for [`super::run`]; `T` has the size of the elements, `x` is dense in its first axis and `y` in its
/// second.
unsafe fn transpose<T: Copy + Default>(x: &View, y: &View) {
    /// Squares that are turned in registers or the first-level cache.
    const SIDE: usize = 16;
    let (m, n) = (x.shape[0], x.shape[1]);
    let (x_stride, y_stride) = (x.strides[1], y.strides[0]);
    let across = n.div_ceil(SIDE);
    par::ranges(m.div_ceil(SIDE) * across, 2 * SIDE * SIDE, |squares| {
        for square in squares {
            let (i0, j0) = (square / across * SIDE, square % across * SIDE);
            let (height, width) = (SIDE.min(m - i0), SIDE.min(n - j0));
            let from = x.ptr.cast::<T>().wrapping_add(i0 + j0 * x_stride);
            let to = y.ptr.cast::<T>().wrapping_add(i0 * y_stride + j0);
            let mut turned = [[T::default(); SIDE]; SIDE];
            // SAFETY: by the caller; each element is read and written inside the views, and written once.
            unsafe {
                for j in 0..width {
                    let column = std::slice::from_raw_parts(from.add(j * x_stride), height);
                    for (row, x) in turned.iter_mut().zip(column) {
                        row[j] = *x;
                    }
                }
                for (i, row) in turned[..height].iter().enumerate() {
                    std::ptr::copy_nonoverlapping(row.as_ptr(), to.add(i * y_stride), width);
                }
            }
        }
    });
}
