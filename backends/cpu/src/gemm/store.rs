//! Writes a finished f32 tile to C: any stride, any element type, with or without C's old value.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::{Elem, MatMut};

/// Values converted at a time.
const CHUNK: usize = 32;

/// `c = src (+ c)` for `rows` × `cols` elements.
///
/// # Safety
///
/// `src` has `rows` rows, `src_stride` apart, of `cols` values; C's elements are writable, and readable if `add`.
pub(super) unsafe fn store(
    src: *const f32,
    src_stride: usize,
    rows: usize,
    cols: usize,
    c: MatMut,
    add: bool,
) {
    for i in 0..rows {
        // SAFETY: row i of both sides, as the caller promises.
        unsafe {
            let row = std::slice::from_raw_parts(src.add(i * src_stride), cols);
            let c = c.at(i, 0);
            match c.elem {
                Elem::F32 => store_f32(row, c.ptr.cast(), c.col_stride, add),
                Elem::F16 => store_half::<f16>(row, c.ptr.cast(), c.col_stride, add),
                Elem::Bf16 => store_half::<bf16>(row, c.ptr.cast(), c.col_stride, add),
            }
        }
    }
}

/// # Safety
///
/// `dst` has as many elements as `row`, `stride` apart.
unsafe fn store_f32(row: &[f32], dst: *mut f32, stride: isize, add: bool) {
    for (j, &v) in row.iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            let d = dst.offset(j as isize * stride);
            *d = if add { *d + v } else { v };
        }
    }
}

/// A 16-bit float with conversions of whole slices.
trait Half: Copy + Default {
    fn widen(from: &[Self], to: &mut [f32]);
    fn narrow(from: &[f32], to: &mut [Self]);
}

impl Half for f16 {
    fn widen(from: &[Self], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }
    fn narrow(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }
}

impl Half for bf16 {
    fn widen(from: &[Self], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }
    fn narrow(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }
}

/// # Safety
///
/// `dst` has as many elements as `row`, `stride` apart.
unsafe fn store_half<H: Half>(row: &[f32], dst: *mut H, stride: isize, add: bool) {
    let mut narrow = [H::default(); CHUNK];
    let mut sum = [0f32; CHUNK];
    for (chunk, row) in row.chunks(CHUNK).enumerate() {
        let (narrow, sum) = (&mut narrow[..row.len()], &mut sum[..row.len()]);
        let dst = dst.wrapping_offset((chunk * CHUNK) as isize * stride);
        if add {
            for (j, h) in narrow.iter_mut().enumerate() {
                // SAFETY: the caller's promise.
                *h = unsafe { *dst.offset(j as isize * stride) };
            }
            H::widen(narrow, sum);
            for (s, v) in sum.iter_mut().zip(row) {
                *s += v;
            }
            H::narrow(sum, narrow);
        } else {
            H::narrow(row, narrow);
        }
        for (j, &h) in narrow.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { *dst.offset(j as isize * stride) = h };
        }
    }
}
