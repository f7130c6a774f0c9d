//! Routed experts: choosing, sorting, the products of ragged rows, and adding up, by routing skew.

use super::{Case, Operands, Sizes};
use crate::skew::{Routing, Skew};
use halite_hal::{DType, Op, Router, ScoreFn};

pub fn cases(s: &Sizes, cases: &mut Vec<Case>) {
    for skew in Skew::ALL {
        let routing = Routing::new(skew, s.tokens, s.top_k, s.experts);
        for dtype in DType::FLOATS {
            cases.push(product(s, dtype, s.tokens, &routing).skewed(skew));
            cases.push(weight_gradient(s, dtype, &routing).skewed(skew));
        }
        cases.push(permutation(s, &routing).skewed(skew));
    }
    let one = Routing::new(Skew::Uniform, 1, s.top_k, s.experts);
    for dtype in DType::FLOATS {
        cases.push(product(s, dtype, 1, &one).skewed(Skew::Uniform));
        router(s, dtype, cases);
        combine(s, dtype, cases);
    }
}

/// Rows of `tokens` tokens times the weights `[experts, out, in]` transposed.
fn product(s: &Sizes, dtype: DType, tokens: usize, routing: &Routing) -> Case {
    let (rows, n, k) = (tokens * s.top_k, s.width, s.hidden);
    let mut o = Operands::new();
    let (a, w) = (o.normal(dtype, &[rows, k]), o.normal(dtype, &[s.experts, n, k]));
    let offsets = o.ints(&[s.experts + 1], &routing.offsets);
    let c = o.zeros(dtype, &[rows, n]);
    let op = Op::grouped_matmul(a, w.transpose(1, 2), offsets, None, c, false);
    let bytes = dtype.block_bytes() * (rows * (k + n) + routing.used() * n * k) + 4 * routing.offsets.len();
    let label = format!("{rows}x{n}x{k} bT, {} experts", s.experts);
    o.case(op, label, dtype, 2 * rows * n * k).touching(bytes)
}

/// Weight gradients of experts, in f32.
fn weight_gradient(s: &Sizes, dtype: DType, routing: &Routing) -> Case {
    let (rows, m, n) = (s.rows(), s.width, s.hidden);
    let mut o = Operands::new();
    let (a, b) = (o.normal(dtype, &[rows, m]), o.normal(dtype, &[rows, n]));
    let offsets = o.ints(&[s.experts + 1], &routing.offsets);
    let c = o.zeros(DType::F32, &[s.experts, m, n]);
    let op = Op::grouped_matmul_weight(a, b, offsets, c, false);
    o.case(op, format!("{m}x{n}x{rows}, {} experts", s.experts), dtype, 2 * rows * m * n)
}

fn permutation(s: &Sizes, routing: &Routing) -> Case {
    let mut o = Operands::new();
    let experts = o.ints(&[s.tokens, s.top_k], &routing.experts);
    let (offsets, rows) = (o.zeros(DType::I32, &[s.experts + 1]), o.zeros(DType::I32, &[s.rows()]));
    let positions = o.zeros(DType::I32, &[s.tokens, s.top_k]);
    let label = format!("{}x{} of {}", s.tokens, s.top_k, s.experts);
    o.case(Op::expert_permutation(experts, offsets, rows, positions), label, DType::I32, 0)
}

fn router(s: &Sizes, dtype: DType, cases: &mut Vec<Case>) {
    let attributes = Router::new(ScoreFn::Softmax, s.top_k).normalize(true);
    let (scores, chosen) = ([s.tokens, s.experts], [s.tokens, s.top_k]);
    let label = format!("{}x{} of {}", s.tokens, s.top_k, s.experts);
    let flops = s.tokens * (3 * s.experts + 2 * s.top_k);
    let mut o = Operands::new();
    let logits = o.normal(dtype, &scores);
    let (experts, weights) = (o.zeros(DType::I32, &chosen), o.zeros(DType::F32, &chosen));
    cases.push(o.case(Op::router(attributes, logits, None, experts, weights), &label, dtype, flops));

    let mut o = Operands::new();
    let logits = o.normal(dtype, &scores);
    let routing = Routing::new(Skew::Uniform, s.tokens, s.top_k, s.experts);
    let experts = o.ints(&chosen, &routing.experts);
    let (dweights, dlogits) = (o.normal(DType::F32, &chosen), o.zeros(dtype, &scores));
    let op = Op::router_backward(attributes, logits, experts, dweights, dlogits);
    cases.push(o.case(op, &label, dtype, 2 * flops));
}

fn combine(s: &Sizes, dtype: DType, cases: &mut Vec<Case>) {
    let (rows, chosen, h) = (s.rows(), [s.tokens, s.top_k], s.hidden);
    let positions = Routing::new(Skew::Uniform, s.tokens, s.top_k, s.experts).positions;
    let label = format!("{}x{h} of {rows} rows", s.tokens);
    let mut o = Operands::new();
    let (x, at, weights) =
        (o.normal(dtype, &[rows, h]), o.ints(&chosen, &positions), o.normal(DType::F32, &chosen));
    let y = o.zeros(dtype, &[s.tokens, h]);
    cases.push(o.case(Op::combine(x, at, Some(weights), y, false), &label, dtype, 2 * rows * h));

    let mut o = Operands::new();
    let (dy, x) = (o.normal(dtype, &[s.tokens, h]), o.normal(dtype, &[rows, h]));
    let (at, weights) = (o.ints(&chosen, &positions), o.normal(DType::F32, &chosen));
    let (dx, dweights) = (o.zeros(dtype, &[rows, h]), o.zeros(DType::F32, &chosen));
    let op = Op::combine_backward(dy, x, at, weights, dx, dweights);
    cases.push(o.case(op, &label, dtype, 3 * rows * h));
}
