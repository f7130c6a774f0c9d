//! Reductions over the last axis.

use crate::par::{self, Shared};
use crate::simd::math::{fma, max, sum, sum_squares};
use crate::simd::simd;
use crate::view::View;
use halite_hal::ReduceFn;

simd! {
    fn reduce_slice(f: ReduceFn, x: &[f32]) -> f32 {
        match f {
            ReduceFn::Sum | ReduceFn::Mean => sum(x),
            ReduceFn::SumSquares => sum_squares::<FMA>(x),
            _ => max(x),
        }
    }

    /// Takes one more row into the reduction of many columns.
    fn reduce_into(f: ReduceFn, x: &[f32], sums: &mut [f32]) {
        let pairs = sums.iter_mut().zip(x);
        match f {
            ReduceFn::Sum | ReduceFn::Mean => pairs.for_each(|(s, x)| *s += x),
            ReduceFn::SumSquares => pairs.for_each(|(s, x)| *s = fma::<FMA>(*x, *x, *s)),
            _ => pairs.for_each(|(s, x)| *s = if *x > *s { *x } else { *s }),
        }
    }
}

/// The result for a part of a row; parts are joined in order.
#[derive(Clone, Copy)]
struct Part {
    value: f64,
    index: usize,
}

fn start(f: ReduceFn) -> f32 {
    match f {
        ReduceFn::Max | ReduceFn::ArgMax => f32::MIN,
        _ => 0.0,
    }
}

fn join(f: ReduceFn, a: Part, b: Part) -> Part {
    match f {
        ReduceFn::Max | ReduceFn::ArgMax if b.value > a.value => b,
        ReduceFn::Max | ReduceFn::ArgMax => a,
        _ => Part { value: a.value + b.value, index: 0 },
    }
}

/// # Safety
/// As for [`super::run`], here and below.
pub(super) unsafe fn reduce(f: ReduceFn, accumulate: bool, x: &View, y: &View) {
    let (rows, n) = (x.rows(), x.cols());
    let finish = |row: usize, part: Part| {
        let y_row = y.row(row / y.cols().max(1));
        let at = row % y.cols().max(1);
        // SAFETY: by the caller; each element is written once.
        unsafe {
            match f {
                ReduceFn::ArgMax => y_row.set_int(at, part.index as i32),
                _ => {
                    let value = if f == ReduceFn::Mean { part.value / n.max(1) as f64 } else { part.value };
                    y_row.set(at, if accumulate { y_row.get(at) + value } else { value });
                }
            }
        }
    };
    if x.shape.len() == 2 && x.strides[0] == 1 && x.strides[1] != 1 && rows > 1 && f != ReduceFn::ArgMax {
        // SAFETY: by the caller.
        return unsafe { columns(f, x, finish) };
    }
    // Long rows are cut into parts.
    let per_row = n.div_ceil(par::GRAIN).max(1);
    let part = |row: usize, part: usize| {
        let first = part * par::GRAIN;
        let len = par::GRAIN.min(n - first);
        par::with_scratch(len, |scratch| {
            // SAFETY: by the caller.
            let x = unsafe { x.row(row).slice(first, len).read(scratch) };
            if x.is_empty() {
                return Part { value: f64::from(start(f)), index: 0 };
            }
            let value = reduce_slice(f, x);
            let index = match f {
                ReduceFn::ArgMax => first + x.iter().position(|&x| x == value).unwrap_or(0),
                _ => 0,
            };
            Part { value: f64::from(value), index }
        })
    };
    if per_row == 1 {
        return par::ranges(rows, n, |range| range.for_each(|row| finish(row, part(row, 0))));
    }
    let mut parts = vec![Part { value: 0.0, index: 0 }; rows * per_row];
    let shared = Shared::new(&mut parts);
    par::for_each(rows * per_row, |i| {
        // SAFETY: each task has its own element.
        unsafe { shared.part(i..i + 1)[0] = part(i / per_row, i % per_row) };
    });
    for (row, parts) in parts.chunks_exact(per_row).enumerate() {
        let total = parts[1..].iter().fold(parts[0], |a, b| join(f, a, *b));
        finish(row, total);
    }
}

/// Of a matrix whose columns lie dense: all columns at once, row by row.
unsafe fn columns(f: ReduceFn, x: &View, finish: impl Fn(usize, Part) + Sync) {
    /// Rows that are reduced one after the other.
    const DEEP: usize = 128;
    /// Columns of a task.
    const WIDE: usize = 256;
    let (cols, depth) = (x.shape[0], x.shape[1]);
    let (across, down) = (cols.div_ceil(WIDE), depth.div_ceil(DEEP));
    let identity = if f == ReduceFn::Max { f32::NEG_INFINITY } else { 0.0 };
    let mut parts = vec![identity; cols * down];
    let shared = Shared::new(&mut parts);
    par::for_each(across * down, |i| {
        let (j0, i0) = (i % across * WIDE, i / across * DEEP);
        let wide = WIDE.min(cols - j0);
        // SAFETY: each task has its own range.
        let sums = unsafe { shared.part(i / across * cols + j0..i / across * cols + j0 + wide) };
        par::with_scratch(wide, |scratch| {
            for r in i0..depth.min(i0 + DEEP) {
                // SAFETY: by the caller.
                let row = unsafe { x.part(r * x.strides[1] + j0, wide, 1).read(scratch) };
                reduce_into(f, row, sums);
            }
        });
    });
    for j in 0..cols {
        let part = |d: usize| Part { value: f64::from(parts[d * cols + j]), index: 0 };
        let nothing = Part { value: f64::from(start(f)), index: 0 };
        finish(j, (0..down).map(part).reduce(|a, b| join(f, a, b)).unwrap_or(nothing));
    }
}
