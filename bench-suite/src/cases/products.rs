//! Matrix products: square ones, a model's projections, and those of decoding. `b` is a weight
//! `[out, in]`, as models have it, used transposed.

use super::{Case, Operands, Sizes};
use halite_hal::{DType, Op};

/// `a [m, k]` times the weight `[n, k]` transposed.
fn projection(dtype: DType, [m, n, k]: [usize; 3]) -> Case {
    let mut o = Operands::new();
    let (a, w, c) = (o.normal(dtype, &[m, k]), o.normal(dtype, &[n, k]), o.zeros(dtype, &[m, n]));
    o.case(Op::matmul(a, w.transpose(0, 1), c), format!("{m}x{n}x{k} bT"), dtype, 2 * m * n * k)
}

pub fn square(dtype: DType, n: usize) -> Case {
    let mut o = Operands::new();
    let (a, b, c) = (o.normal(dtype, &[n, n]), o.normal(dtype, &[n, n]), o.zeros(dtype, &[n, n]));
    o.case(Op::matmul(a, b, c), format!("{n}x{n}x{n}"), dtype, 2 * n * n * n)
}

/// The weight gradient of a projection: `dy [m, n]` transposed times `x [m, k]`, added in f32.
fn weight_gradient(dtype: DType, [m, n, k]: [usize; 3]) -> Case {
    let mut o = Operands::new();
    let (dy, x, dw) = (o.normal(dtype, &[m, n]), o.normal(dtype, &[m, k]), o.zeros(DType::F32, &[n, k]));
    let op = Op::matmul_with(dy.transpose(0, 1), x, None, dw, true);
    o.case(op, format!("{n}x{k}x{m} aT added"), dtype, 2 * m * n * k)
}

pub fn cases(s: &Sizes, cases: &mut Vec<Case>) {
    let [out, input] = s.weight;
    for dtype in DType::FLOATS {
        cases.extend(s.squares.map(|n| square(dtype, n)));
        cases.push(projection(dtype, [s.tokens, s.hidden, s.hidden]));
        cases.push(weight_gradient(dtype, [s.tokens, s.hidden, s.hidden]));
        cases.extend([1, 8].map(|m| projection(dtype, [m, out, input])));
    }
}
