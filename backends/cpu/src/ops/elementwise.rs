//! Functions of the elements at one place.

use crate::par;
use crate::simd::math::{exp, fma, map, map2, sigmoid, silu};
use crate::simd::simd;
use crate::view::{Row, View, coalesce};
use halite_hal::{BinaryFn, DType, UnaryFn};

/// Elements that are worked on at a time, so that converted ones stay in the first-level cache.
const TILE: usize = 1024;

/// Walks over rows in pieces of at most [`TILE`] elements, in parallel. `f` gets the row's number, the
/// piece's start and length, and scratch memory for `buffers` pieces.
pub(super) fn tiles(
    rows: usize,
    cols: usize,
    buffers: usize,
    f: impl Fn(usize, usize, usize, &mut [f32]) + Send + Sync,
) {
    let piece = |row: usize, start: usize, end: usize, scratch: &mut [f32]| {
        for at in (start..end).step_by(TILE) {
            f(row, at, TILE.min(end - at), scratch);
        }
    };
    if cols >= par::GRAIN {
        let per_row = cols.div_ceil(par::GRAIN);
        par::for_each(rows * per_row, |i| {
            let start = i % per_row * par::GRAIN;
            par::with_scratch(buffers * TILE, |s| piece(i / per_row, start, cols.min(start + par::GRAIN), s));
        });
    } else {
        par::ranges(rows, cols, |range| {
            par::with_scratch(buffers * TILE, |s| range.for_each(|row| piece(row, 0, cols, s)));
        });
    }
}

/// The elements of an input, copied if the output is the same memory.
///
/// # Safety
/// As for [`Row::read`].
unsafe fn input<'a>(x: &View, row: &Row, output: &View, scratch: &'a mut [f32]) -> &'a [f32] {
    // SAFETY: by the caller.
    unsafe { if x.ptr == output.ptr { row.copied(scratch) } else { row.read(scratch) } }
}

simd! {
    fn apply_unary(f: UnaryFn, x: &[f32], y: &mut [f32]) {
        match f {
            UnaryFn::Neg => map(x, y, |x| -x),
            UnaryFn::Abs => map(x, y, f32::abs),
            UnaryFn::Exp => map(x, y, exp::<FMA>),
            UnaryFn::Log => map(x, y, f32::ln),
            UnaryFn::Sqrt => map(x, y, f32::sqrt),
            UnaryFn::Rsqrt => map(x, y, |x| 1.0 / x.sqrt()),
            UnaryFn::Recip => map(x, y, |x| 1.0 / x),
            UnaryFn::Square => map(x, y, |x| x * x),
            UnaryFn::Sigmoid => map(x, y, sigmoid::<FMA>),
            UnaryFn::Silu => map(x, y, silu::<FMA>),
            UnaryFn::Tanh => map(x, y, f32::tanh),
            UnaryFn::Relu => map(x, y, |x| if x < 0.0 { 0.0 } else { x }),
            UnaryFn::Affine { scale, shift } => map(x, y, |x| fma::<FMA>(scale.0, x, shift.0)),
            other => unreachable!("{other:?} is no function of this backend"),
        }
    }

    fn apply_binary(f: BinaryFn, a: &[f32], b: &[f32], y: &mut [f32]) {
        let truth = |yes: bool| if yes { 1.0 } else { 0.0 };
        match f {
            BinaryFn::Add => map2(a, b, y, |a, b| a + b),
            BinaryFn::Sub => map2(a, b, y, |a, b| a - b),
            BinaryFn::Mul => map2(a, b, y, |a, b| a * b),
            BinaryFn::Div => map2(a, b, y, |a, b| a / b),
            BinaryFn::Max => map2(a, b, y, f32::max),
            BinaryFn::Min => map2(a, b, y, f32::min),
            BinaryFn::Equal => map2(a, b, y, |a, b| truth(a == b)),
            BinaryFn::Less => map2(a, b, y, |a, b| truth(a < b)),
            other => unreachable!("{other:?} is no function of this backend"),
        }
    }

    fn apply_swiglu(gate: &[f32], up: &[f32], y: &mut [f32]) {
        map2(gate, up, y, |g, u| g * sigmoid::<FMA>(g) * u);
    }

    fn apply_swiglu_backward(dy: &[f32], gate: &[f32], up: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
        let inputs = dy.iter().zip(gate).zip(up);
        for ((dgate, dup), ((dy, g), up)) in dgate.iter_mut().zip(dup).zip(inputs) {
            let e = exp::<FMA>(-g.abs());
            let (large, small) = (1.0 / (1.0 + e), e / (1.0 + e));
            let (s, rest) = if *g < 0.0 { (small, large) } else { (large, small) };
            *dgate = dy * up * s * fma::<FMA>(*g, rest, 1.0);
            *dup = dy * g * s;
        }
    }
}

/// # Safety
/// As for [`super::run`], here and below.
pub(super) unsafe fn unary(f: UnaryFn, x: &View, y: &View) {
    let [x, y] = coalesce([x, y]);
    tiles(x.rows(), x.cols(), 2, |row, start, len, scratch| {
        let (a, b) = scratch.split_at_mut(TILE);
        let (xs, ys) = (x.row(row).slice(start, len), y.row(row).slice(start, len));
        // SAFETY: by the caller; each piece is written once.
        unsafe {
            let xs = input(&x, &xs, &y, a);
            ys.write(b, |ys| apply_unary(f, xs, ys));
        }
    });
}

pub(super) unsafe fn binary(f: BinaryFn, a: &View, b: &View, y: &View) {
    let ints = a.dtype == DType::I32 && b.dtype == DType::I32;
    let [a, b, y] = coalesce([a, b, y]);
    tiles(a.rows(), a.cols(), 3, |row, start, len, scratch| {
        let (s0, s) = scratch.split_at_mut(TILE);
        let (s1, s2) = s.split_at_mut(TILE);
        let [xa, xb, xy] = [a, b, y].map(|v| v.row(row).slice(start, len));
        // SAFETY: by the caller; each piece is written once.
        unsafe {
            if ints {
                for i in 0..len {
                    let (l, r) = (xa.int(i), xb.int(i));
                    let yes = if f == BinaryFn::Equal { l == r } else { l < r };
                    xy.set(i, f64::from(u8::from(yes)));
                }
                return;
            }
            let (xa, xb) = (input(&a, &xa, &y, s0), xb.read(s1));
            xy.write(s2, |y| apply_binary(f, xa, xb, y));
        }
    });
}

pub(super) unsafe fn swiglu(gate: &View, up: &View, y: &View) {
    let [gate, up, y] = coalesce([gate, up, y]);
    tiles(y.rows(), y.cols(), 3, |row, start, len, scratch| {
        let (s0, s) = scratch.split_at_mut(TILE);
        let (s1, s2) = s.split_at_mut(TILE);
        let [g, u, out] = [gate, up, y].map(|v| v.row(row).slice(start, len));
        // SAFETY: by the caller; each piece is written once.
        unsafe {
            let (g, u) = (input(&gate, &g, &y, s0), u.read(s1));
            out.write(s2, |y| apply_swiglu(g, u, y));
        }
    });
}

pub(super) unsafe fn swiglu_backward(i: &[View], dgate: &View, dup: &View) {
    let [dy, gate, up, dgate, dup] = coalesce([&i[0], &i[1], &i[2], dgate, dup]);
    tiles(dy.rows(), dy.cols(), 5, |row, start, len, scratch| {
        let (s0, s) = scratch.split_at_mut(TILE);
        let (s1, s) = s.split_at_mut(TILE);
        let (s2, s) = s.split_at_mut(TILE);
        let (s3, s4) = s.split_at_mut(TILE);
        let [xdy, xg, xu, xdg, xdu] = [dy, gate, up, dgate, dup].map(|v| v.row(row).slice(start, len));
        // SAFETY: by the caller; each piece is written once.
        unsafe {
            let dy = xdy.read(s0);
            let (g, u) = (input(&gate, &xg, &dgate, s1), input(&up, &xu, &dup, s2));
            xdg.write(s3, |dg| xdu.write(s4, |du| apply_swiglu_backward(dy, g, u, dg, du)));
        }
    });
}
