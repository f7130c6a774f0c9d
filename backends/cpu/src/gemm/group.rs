//! Lists of problems for batched and ragged (expert-grouped) products.

use std::ops::Range;

use super::{MatMut, MatRef, Problem};

/// Offsets that do not cut the rows into segments.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// There is no first offset.
    #[error("offsets are empty; there must be one more than experts")]
    Empty,
    /// A segment starts before row 0 or ends before it starts.
    #[error("offset {index} is {offset}, before {least}; offsets must not fall, and start at 0 or later")]
    Falling {
        /// Position among the offsets.
        index: usize,
        /// The offset there.
        offset: i32,
        /// The least it could be.
        least: i32,
    },
    /// The last segment ends after the last row.
    #[error("offsets end at {end}, but there are only {rows} rows")]
    PastEnd {
        /// The last offset.
        end: i32,
        /// Rows there are.
        rows: usize,
    },
}

/// The segments that `offsets` (one more than segments) cut `rows` rows into.
fn segments(offsets: &[i32], rows: usize) -> Result<Vec<Range<usize>>, GroupError> {
    let end = *offsets.last().ok_or(GroupError::Empty)?;
    let mut least = 0;
    for (index, &offset) in offsets.iter().enumerate() {
        if offset < least {
            return Err(GroupError::Falling { index, offset, least });
        }
        least = offset;
    }
    // None is negative after the loop above.
    if end as usize > rows {
        return Err(GroupError::PastEnd { end, rows });
    }
    Ok(offsets.windows(2).map(|w| w[0] as usize..w[1] as usize).collect())
}

/// `count` problems like `first`, each operand the given number of elements after the one before.
pub fn batched(
    first: Problem,
    count: usize,
    a_stride: isize,
    b_stride: isize,
    c_stride: isize,
    bias_stride: isize,
) -> Vec<Problem> {
    let problem = |i: isize| Problem {
        a: first.a.shifted(i * a_stride),
        b: first.b.shifted(i * b_stride),
        c: first.c.shifted(i * c_stride),
        bias: first.bias.map(|v| v.shifted(i * bias_stride)),
        ..first
    };
    (0..count as isize).map(problem).collect()
}

/// Rows cut into segments, one for each expert: `C[rows of e] = A[rows of e]·B_e + bias_e`.
///
/// `all` describes all m rows of A and C with the B and bias of expert 0; those of the next expert lie `b_stride` and
/// `bias_stride` elements further. Rows before the first and after the last offset become zero, or stay as they are
/// if `all.accumulate`.
///
/// # Errors
///
/// When `offsets` is empty, falls, or leaves `0..=m`.
pub fn grouped(
    all: Problem,
    offsets: &[i32],
    b_stride: isize,
    bias_stride: isize,
) -> Result<Vec<Problem>, GroupError> {
    let segments = segments(offsets, all.m)?;
    let part = |rows: &Range<usize>| Problem {
        m: rows.len(),
        a: all.a.at(rows.start, 0),
        c: all.c.at(rows.start, 0),
        ..all
    };
    let mut problems: Vec<_> = segments
        .iter()
        .zip(0isize..)
        .map(|(rows, e)| Problem {
            b: all.b.shifted(e * b_stride),
            bias: all.bias.map(|v| v.shifted(e * bias_stride)),
            ..part(rows)
        })
        .collect();
    // `segments` found a first and a last offset, both in 0..=m.
    let covered = offsets[0] as usize..offsets[offsets.len() - 1] as usize;
    for outside in [0..covered.start, covered.end..all.m] {
        problems.push(Problem { k: 0, bias: None, ..part(&outside) });
    }
    Ok(problems)
}

/// Weight gradients of a grouped product with weights `[n, k]`: `dW_e (+)= dY[rows of e]ᵀ·X[rows of e]`.
///
/// `dy` is `[rows, n]`, `x` is `[rows, k]`, `dw` is expert 0's `[n, k]`, and the next expert's lies `dw_stride`
/// elements further. An expert without rows gets zeros, or keeps what it has if `accumulate`.
///
/// # Errors
///
/// When `offsets` is empty, falls, or leaves `0..=rows`.
#[expect(clippy::too_many_arguments, reason = "three matrices, their sizes, and how they are cut")]
pub fn grouped_weight_grad(
    dy: MatRef,
    x: MatRef,
    dw: MatMut,
    rows: usize,
    n: usize,
    k: usize,
    offsets: &[i32],
    dw_stride: isize,
    accumulate: bool,
) -> Result<Vec<Problem>, GroupError> {
    let problem = |(rows, e): (&Range<usize>, isize)| Problem {
        m: n,
        n: k,
        k: rows.len(),
        a: dy.at(rows.start, 0).transposed(),
        b: x.at(rows.start, 0),
        c: dw.shifted(e * dw_stride),
        bias: None,
        accumulate,
    };
    Ok(segments(offsets, rows)?.iter().zip(0isize..).map(problem).collect())
}
