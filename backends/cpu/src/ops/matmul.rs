//! Matrix products: single, batched and grouped by expert.

use super::moe::expert_rows;
use super::quantised;
use crate::gemm::{self, Elem, MatMut, MatRef, VecRef};
use crate::par::{self, Shared};
use crate::view::View;
use halite_hal::DType;

/// `c (+)= a·b + bias`, matrices as rank-2 views.
#[derive(Clone, Copy)]
pub(super) struct Problem {
    pub(super) a: View,
    pub(super) b: View,
    pub(super) bias: Option<View>,
    pub(super) c: View,
    pub(super) accumulate: bool,
}

/// The rows `range` of a matrix, or elements of a vector. Of a matrix of blocks, they start at a block.
pub(super) fn rows(x: &View, range: &std::ops::Range<usize>) -> View {
    let mut part = *x;
    let blocks = range.start * x.strides[0] / x.dtype.block_elems();
    part.ptr = x.ptr.wrapping_add(blocks * x.dtype.block_bytes());
    part.shape.dims_mut()[0] = range.len();
    part
}

pub(super) fn transpose(mut x: View) -> View {
    x.shape.dims_mut().swap(0, 1);
    x.strides.dims_mut().swap(0, 1);
    x
}

/// # Safety
/// As for [`super::run`], here and below.
pub(super) unsafe fn matmul(a: &View, b: &View, bias: Option<&View>, c: &View, accumulate: bool) {
    let problem = |a: View, b: View, c: View| Problem { a, b, bias: bias.copied(), c, accumulate };
    let problems: Vec<Problem> = match c.shape.len() {
        2 => vec![problem(*a, *b, *c)],
        _ => (0..c.shape[0]).map(|i| problem(a.at(i), b.at(i), c.at(i))).collect(),
    };
    // SAFETY: by the caller.
    unsafe { multiply(&problems) }
}

pub(super) unsafe fn grouped(
    a: &View,
    b: &View,
    offsets: &View,
    bias: Option<&View>,
    c: &View,
    accumulate: bool,
) -> Result<(), String> {
    // SAFETY: by the caller.
    let ranges = unsafe { expert_rows(offsets, a.shape[0]) }?;
    let problems: Vec<Problem> = ranges
        .iter()
        .enumerate()
        .filter(|(_, r)| !r.is_empty())
        .map(|(e, r)| Problem {
            a: rows(a, r),
            b: b.at(e),
            bias: bias.map(|bias| bias.at(e)),
            c: rows(c, r),
            accumulate,
        })
        .collect();
    // SAFETY: by the caller.
    unsafe {
        multiply(&problems);
        if !accumulate {
            let first = ranges.first().map_or(0, |r| r.start);
            let last = ranges.last().map_or(0, |r| r.end);
            (0..first).chain(last..c.shape[0]).for_each(|r| c.row(r).zero());
        }
    }
    Ok(())
}

pub(super) unsafe fn grouped_weight(
    a: &View,
    b: &View,
    offsets: &View,
    c: &View,
    accumulate: bool,
) -> Result<(), String> {
    // SAFETY: by the caller.
    let ranges = unsafe { expert_rows(offsets, a.shape[0]) }?;
    let problems: Vec<Problem> = ranges
        .iter()
        .enumerate()
        .map(|(e, r)| Problem { a: transpose(rows(a, r)), b: rows(b, r), bias: None, c: c.at(e), accumulate })
        .collect();
    // SAFETY: by the caller.
    unsafe { multiply(&problems) }
    Ok(())
}

/// A matrix as dense rows of f32.
///
/// # Safety
/// As for [`super::run`].
pub(super) unsafe fn densify(x: &View) -> Vec<f32> {
    let (m, n) = (x.shape[0], x.shape[1]);
    let mut out = vec![0.0; m * n];
    let shared = Shared::new(&mut out);
    par::ranges(m, n, |range| {
        for r in range {
            // SAFETY: by the caller; each row is written once.
            unsafe { x.row(r).load(shared.part(r * n..(r + 1) * n)) };
        }
    });
    out
}

unsafe fn multiply(problems: &[Problem]) {
    // Block-quantised matrices of larger products, decoded; they must outlive the products.
    let mut decoded: Vec<Vec<f32>> = Vec::new();
    let mut room = quantised::DECODED;
    let mut plain = Vec::with_capacity(problems.len());
    for p in problems {
        if p.c.shape.elems() == 0 {
            continue;
        }
        if !p.b.dtype.is_block() {
            plain.push(p.describe());
            continue;
        }
        if quantised::is_small(p) {
            // SAFETY: by the caller.
            unsafe { quantised::few_rows(p) };
            continue;
        }
        let k = p.b.shape[0];
        for range in quantised::parts(p) {
            if range.len() * k > room && !plain.is_empty() {
                // SAFETY: by the caller; what was decoded is alive.
                unsafe { gemm::run(&plain) };
                plain.clear();
                decoded.clear();
                room = quantised::DECODED;
            }
            room = room.saturating_sub(range.len() * k);
            // SAFETY: by the caller.
            let (elements, b) = unsafe { quantised::decode(&p.b, &range) };
            decoded.push(elements);
            let bias = p.bias.map(|bias| rows(&bias, &range));
            let c = transpose(rows(&transpose(p.c), &range));
            plain.push(Problem { b, bias, c, ..*p }.describe());
        }
    }
    // SAFETY: as above.
    unsafe { gemm::run(&plain) }
}

fn element(dtype: DType) -> Elem {
    match dtype {
        DType::F32 => Elem::F32,
        DType::F16 => Elem::F16,
        DType::BF16 => Elem::Bf16,
        other => unreachable!("{other} is no operand of a product"),
    }
}

impl Problem {
    fn describe(&self) -> gemm::Problem {
        let strides = |x: &View| (x.strides[0] as isize, x.strides[1] as isize);
        let read = |x: &View| {
            let (row_stride, col_stride) = strides(x);
            MatRef { ptr: x.ptr, elem: element(x.dtype), row_stride, col_stride }
        };
        let (row_stride, col_stride) = strides(&self.c);
        gemm::Problem {
            m: self.c.shape[0],
            n: self.c.shape[1],
            k: self.a.shape[1],
            a: read(&self.a),
            b: read(&self.b),
            c: MatMut { ptr: self.c.ptr, elem: element(self.c.dtype), row_stride, col_stride },
            bias: self.bias.map(|x| VecRef {
                ptr: x.ptr,
                elem: element(x.dtype),
                stride: x.strides[0] as isize,
            }),
            accumulate: self.accumulate,
        }
    }
}
