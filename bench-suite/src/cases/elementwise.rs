//! Ops on one element at a time, and those that only move data.

use super::{Case, Operands, Sizes};
use halite_hal::{AdamW, BinaryFn, DType, Distribution, Op, UnaryFn};

/// Arithmetic of AdamW for each element, counted off its formula.
const ADAMW_FLOPS: usize = 15;

pub fn cases(s: &Sizes, cases: &mut Vec<Case>) {
    let n = s.elements;
    let label = format!("{n}");
    let shape = [s.tokens, s.hidden];
    let matrix = format!("{}x{}", s.tokens, s.hidden);
    for dtype in DType::FLOATS {
        let mut o = Operands::new();
        let y = o.zeros(dtype, &[n]);
        cases.push(o.case(Op::fill(1.0, y), &label, dtype, 0));

        let mut o = Operands::new();
        let (x, y) = (o.normal(dtype, &[n]), o.zeros(dtype, &[n]));
        cases.push(o.case(Op::copy(x, y), &label, dtype, 0));

        for (f, name) in [(UnaryFn::Exp, "exp"), (UnaryFn::Silu, "silu")] {
            let mut o = Operands::new();
            let (x, y) = (o.normal(dtype, &[n]), o.zeros(dtype, &[n]));
            let flops = if f == UnaryFn::Exp { n } else { 4 * n };
            cases.push(o.case(Op::unary(f, x, y), format!("{name} {label}"), dtype, flops));
        }

        let mut o = Operands::new();
        let (a, b, y) = (o.normal(dtype, &[n]), o.normal(dtype, &[n]), o.zeros(dtype, &[n]));
        cases.push(o.case(Op::binary(BinaryFn::Add, a, b, y), format!("add {label}"), dtype, n));

        let mut o = Operands::new();
        let (a, b) = (o.normal(dtype, &shape), o.normal(dtype, &shape[1..]).broadcast(&shape));
        let y = o.zeros(dtype, &shape);
        let flops = shape[0] * shape[1];
        cases.push(o.case(
            Op::binary(BinaryFn::Mul, a, b, y),
            format!("mul {matrix} by a row"),
            dtype,
            flops,
        ));
    }
    for to in [DType::F16, DType::BF16] {
        let mut o = Operands::new();
        let (x, y) = (o.normal(DType::F32, &[n]), o.zeros(to, &[n]));
        cases.push(o.case(Op::copy(x, y), format!("{label} f32 to {to}"), to, 0));
    }
    let mut o = Operands::new();
    let x = o.normal(DType::F32, &[s.hidden, s.tokens]).transpose(0, 1);
    let y = o.zeros(DType::F32, &shape);
    cases.push(o.case(Op::copy(x, y), format!("{matrix} transposed"), DType::F32, 0));

    let mut o = Operands::new();
    let y = o.zeros(DType::I32, &[n]);
    cases.push(o.case(Op::iota(y), &label, DType::I32, 0));

    for (distribution, name, flops) in
        [(Distribution::Uniform, "uniform", 2 * n), (Distribution::Normal, "normal", 5 * n)]
    {
        let mut o = Operands::new();
        let (state, y) = (o.zeros(DType::U32, &[4]), o.zeros(DType::F32, &[n]));
        let op = Op::philox(distribution, state, y);
        cases.push(o.case(op, format!("{name} {label}"), DType::F32, flops));
    }

    for dtype in [DType::F32, DType::BF16] {
        let mut o = Operands::new();
        let (grad, hyper, factor) = (o.normal(dtype, &[n]), o.floats(&[1e-3, 0.1, 0.05]), o.floats(&[1.0]));
        let state = [o.normal(dtype, &[n]), o.zeros(DType::F32, &[n]), o.zeros(DType::F32, &[n])];
        let op = Op::adamw(AdamW::new(0.9, 0.95, 1e-8, 0.1), grad, hyper, factor, state);
        cases.push(o.case(op, &label, dtype, ADAMW_FLOPS * n));
    }

    let mut o = Operands::new();
    let (sum, norm, factor) = (o.floats(&[4.0]), o.zeros(DType::F32, &[1]), o.zeros(DType::F32, &[1]));
    cases.push(o.case(Op::clip_factor(1.0, sum, norm, factor), "1", DType::F32, 4));
}
