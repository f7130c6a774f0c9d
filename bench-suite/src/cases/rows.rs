//! Ops on rows: norms, softmax, sums, gating, and rows by index.

use super::{Case, Operands, Sizes};
use halite_hal::{DType, Op, ReduceFn};

/// Distinct rows in no order that a cache would like.
fn indices(n: usize, of: usize) -> Vec<i32> {
    // An odd step meets every row of a power of two.
    (0..n).map(|i| (i * 4099 % of) as i32).collect()
}

pub fn cases(s: &Sizes, cases: &mut Vec<Case>) {
    let (rows, n) = (s.tokens, s.hidden);
    let shape = [rows, n];
    let elements = rows * n;
    let label = format!("{rows}x{n}");
    for dtype in DType::FLOATS {
        let mut o = Operands::new();
        let (x, w) = (o.normal(dtype, &shape), o.normal(dtype, &[n]));
        let (y, rstd) = (o.zeros(dtype, &shape), o.zeros(DType::F32, &[rows]));
        cases.push(o.case(Op::rms_norm(x, w, y, rstd, 1e-5), &label, dtype, 4 * elements));

        let mut o = Operands::new();
        let (dy, x, w) = (o.normal(dtype, &shape), o.normal(dtype, &shape), o.normal(dtype, &[n]));
        let rstd = o.floats(&vec![1.0; rows]);
        let (dx, dw) = (o.zeros(dtype, &shape), o.zeros(DType::F32, &[n]));
        let op = Op::rms_norm_backward(dy, x, w, rstd, dx, dw, false);
        cases.push(o.case(op, &label, dtype, 9 * elements));

        let mut o = Operands::new();
        let (x, y) = (o.normal(dtype, &shape), o.zeros(dtype, &shape));
        cases.push(o.case(Op::softmax(x, y), &label, dtype, 4 * elements));

        let mut o = Operands::new();
        let (y, dy, dx) = (o.normal(dtype, &shape), o.normal(dtype, &shape), o.zeros(dtype, &shape));
        cases.push(o.case(Op::softmax_backward(y, dy, dx), &label, dtype, 4 * elements));

        let wide = [s.rows(), s.width];
        let (gated, gated_label) = (wide[0] * wide[1], format!("{}x{}", wide[0], wide[1]));
        let mut o = Operands::new();
        let (gate, up, y) = (o.normal(dtype, &wide), o.normal(dtype, &wide), o.zeros(dtype, &wide));
        cases.push(o.case(Op::swiglu(gate, up, y), &gated_label, dtype, 5 * gated));

        let mut o = Operands::new();
        let [dy, gate, up] = [(); 3].map(|()| o.normal(dtype, &wide));
        let (dgate, dup) = (o.zeros(dtype, &wide), o.zeros(dtype, &wide));
        let op = Op::swiglu_backward(dy, gate, up, dgate, dup);
        cases.push(o.case(op, &gated_label, dtype, 11 * gated));

        let mut o = Operands::new();
        let (table, index) = (o.normal(dtype, &[s.vocab, n]), o.ints(&[rows], &indices(rows, s.vocab)));
        let y = o.zeros(dtype, &shape);
        let bytes = 2 * elements * dtype.block_bytes() + 4 * rows;
        let label = format!("{rows} of {}x{n}", s.vocab);
        cases.push(o.case(Op::embedding(table, index, y), &label, dtype, 0).touching(bytes));
    }
    for accumulate in [false, true] {
        let mut o = Operands::new();
        let (x, index) = (o.normal(DType::F32, &shape), o.ints(&[rows], &indices(rows, s.vocab)));
        let y = o.zeros(DType::F32, &[s.vocab, n]);
        let op = Op::scatter(x, index, y, accumulate);
        let label = format!("{rows} of {}x{n}{}", s.vocab, if accumulate { " added" } else { "" });
        let moved = if accumulate { 3 } else { 2 };
        let case = o.case(op, label, DType::F32, if accumulate { elements } else { 0 });
        cases.push(case.touching(moved * 4 * elements + 4 * rows));
    }
    let argmax = [rows, s.vocab];
    for (f, name, shape, out) in [
        (ReduceFn::Sum, "sum", shape, DType::F32),
        (ReduceFn::ArgMax, "arg_max", argmax, DType::I32),
        (ReduceFn::SumSquares, "sum_squares", [1, s.elements], DType::F32),
    ] {
        let mut o = Operands::new();
        let (x, y) = (o.normal(DType::F32, &shape), o.zeros(out, &shape[..1]));
        let flops = shape[0] * shape[1] * if f == ReduceFn::SumSquares { 2 } else { 1 };
        let label = format!("{name} {}x{}", shape[0], shape[1]);
        cases.push(o.case(Op::reduce(f, x, y, false), label, DType::F32, flops));
    }
    let mut o = Operands::new();
    let (x, y) = (o.normal(DType::F32, &shape).transpose(0, 1), o.zeros(DType::F32, &[n]));
    let op = Op::reduce(ReduceFn::Sum, x, y, false);
    cases.push(o.case(op, format!("sum of the columns of {label}"), DType::F32, elements));
}
