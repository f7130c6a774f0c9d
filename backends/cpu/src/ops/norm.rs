//! Softmax and RMS normalisation, row by row.

use crate::par::{self, Shared};
use crate::simd::math::{dot, exp_shifted, fma, map2, max, sum_squares};
use crate::simd::simd;
use crate::view::View;

simd! {
    fn softmax_row(x: &[f32], y: &mut [f32]) {
        let sum = exp_shifted::<FMA>(x, max(x), y);
        let factor = 1.0 / sum;
        y.iter_mut().for_each(|y| *y *= factor);
    }

    fn softmax_backward_row(y: &[f32], dy: &[f32], dx: &mut [f32]) {
        let s = dot::<FMA>(y, dy);
        map2(y, dy, dx, |y, dy| y * (dy - s));
    }

    fn rms_row(x: &[f32], w: &[f32], eps: f32, y: &mut [f32]) -> f32 {
        let mean = sum_squares::<FMA>(x) / x.len().max(1) as f32;
        let rstd = 1.0 / (mean + eps).sqrt();
        map2(x, w, y, |x, w| x * rstd * w);
        rstd
    }

    fn rms_backward_row(dy: &[f32], x: &[f32], w: &[f32], rstd: f32, dx: &mut [f32], dw: &mut [f32]) {
        map2(dy, w, dx, |dy, w| dy * w);
        let mean = dot::<FMA>(dx, x) / x.len().max(1) as f32;
        let c = rstd * rstd * mean;
        for (((dx, dw), x), dy) in dx.iter_mut().zip(dw).zip(x).zip(dy) {
            *dx = rstd * (*dx - x * c);
            *dw = fma::<FMA>(dy * x, rstd, *dw);
        }
    }
}

/// # Safety
/// As for [`super::run`], here and below.
pub(super) unsafe fn softmax(x: &View, y: &View) {
    let n = x.cols();
    par::ranges(x.rows(), 4 * n, |rows| {
        par::with_scratch(2 * n, |scratch| {
            let (a, b) = scratch.split_at_mut(n);
            for r in rows {
                // SAFETY: by the caller; each row is written once.
                unsafe {
                    let xs = if x.ptr == y.ptr { x.row(r).copied(a) } else { x.row(r).read(a) };
                    y.row(r).write(b, |y| softmax_row(xs, y));
                }
            }
        });
    });
}

pub(super) unsafe fn softmax_backward(y: &View, dy: &View, dx: &View) {
    let n = y.cols();
    par::ranges(y.rows(), 2 * n, |rows| {
        par::with_scratch(3 * n, |scratch| {
            let (a, rest) = scratch.split_at_mut(n);
            let (b, c) = rest.split_at_mut(n);
            for r in rows {
                // SAFETY: by the caller; each row is written once.
                unsafe {
                    let ys = y.row(r).read(a);
                    let dys = if dy.ptr == dx.ptr { dy.row(r).copied(b) } else { dy.row(r).read(b) };
                    dx.row(r).write(c, |dx| softmax_backward_row(ys, dys, dx));
                }
            }
        });
    });
}

pub(super) unsafe fn rms_norm(eps: f32, x: &View, w: &View, y: &View, rstd: &View) {
    let n = x.cols();
    let mut weights = vec![0.0; n];
    // SAFETY: by the caller.
    unsafe { w.row(0).load(&mut weights) };
    let rstd = rstd.row(0);
    par::ranges(x.rows(), 2 * n, |rows| {
        par::with_scratch(2 * n, |scratch| {
            let (a, b) = scratch.split_at_mut(n);
            for r in rows {
                // SAFETY: by the caller; each row is written once.
                unsafe {
                    let xs = if x.ptr == y.ptr { x.row(r).copied(a) } else { x.row(r).read(a) };
                    let s = y.row(r).write(b, |y| rms_row(xs, &weights, eps, y));
                    rstd.set(r, f64::from(s));
                }
            }
        });
    });
}

/// Rows whose part of `dw` is summed one after the other; the parts are then added in order.
const PART: usize = 64;

pub(super) unsafe fn rms_norm_backward(accumulate: bool, i: &[View], dx: &View, dw: &View) {
    let (dy, x, w, rstd) = (&i[0], &i[1], &i[2], i[3].row(0));
    let (rows, n) = (x.rows(), x.cols());
    let parts = rows.div_ceil(PART);
    let mut weights = vec![0.0; n];
    // SAFETY: by the caller.
    unsafe { w.row(0).load(&mut weights) };
    let mut sums = vec![0.0f32; parts * n];
    let shared = Shared::new(&mut sums);
    par::for_each(parts, |part| {
        // SAFETY: each part has its own range.
        let sum = unsafe { shared.part(part * n..(part + 1) * n) };
        par::with_scratch(3 * n, |scratch| {
            let (a, rest) = scratch.split_at_mut(n);
            let (b, c) = rest.split_at_mut(n);
            for r in part * PART..rows.min((part + 1) * PART) {
                // SAFETY: by the caller; each row is written once.
                unsafe {
                    let dys = if dy.ptr == dx.ptr { dy.row(r).copied(a) } else { dy.row(r).read(a) };
                    let (xs, rstd) = (x.row(r).read(b), rstd.get(r) as f32);
                    dx.row(r).write(c, |dx| rms_backward_row(dys, xs, &weights, rstd, dx, sum));
                }
            }
        });
    });
    let mut total = vec![0.0; n];
    let out = dw.row(0);
    // SAFETY: by the caller.
    unsafe {
        if accumulate {
            out.load(&mut total);
        }
        for sum in sums.chunks_exact(n.max(1)) {
            total.iter_mut().zip(sum).for_each(|(t, s)| *t += s);
        }
        out.store(&total);
    }
}
