//! The cases of each op.

mod attention;
mod elementwise;
mod loss;
mod matmul;
mod moe;
mod norm;
mod optimizer;
mod random;
mod rows;

use super::case::{Cases, Value};
use super::data::ints;
use crate::DType::{self, BF16, F16, F32};
use crate::reference::Array;

/// Adds the cases of the op of that name.
pub fn generate(op: &str, c: &mut Cases) {
    match op {
        "fill" => elementwise::fill(c),
        "iota" => elementwise::iota(c),
        "copy" => elementwise::copy(c),
        "embedding" => rows::embedding(c),
        "scatter" => rows::scatter(c),
        "matmul" => matmul::matmul(c),
        "grouped_matmul" => matmul::grouped(c),
        "grouped_matmul_weight" => matmul::grouped_weight(c),
        "unary" => elementwise::unary(c),
        "binary" => elementwise::binary(c),
        "reduce" => elementwise::reduce(c),
        "softmax" => norm::softmax(c),
        "softmax_backward" => norm::softmax_backward(c),
        "rms_norm" => norm::rms_norm(c),
        "rms_norm_backward" => norm::rms_norm_backward(c),
        "rope" => attention::rope(c),
        "attention" => attention::forward(c),
        "attention_backward" => attention::backward(c),
        "swiglu" => elementwise::swiglu(c),
        "swiglu_backward" => elementwise::swiglu_backward(c),
        "cross_entropy" => loss::cross_entropy(c),
        "cross_entropy_backward" => loss::cross_entropy_backward(c),
        "router" => moe::router(c),
        "router_backward" => moe::router_backward(c),
        "expert_permutation" => moe::permutation(c),
        "combine" => moe::combine(c),
        "combine_backward" => moe::combine_backward(c),
        "clip_factor" => optimizer::clip_factor(c),
        "adamw" => optimizer::adamw(c),
        "philox" => random::philox(c),
        other => unreachable!("{other} is in the catalogue and has no cases"),
    }
}

/// Three dtypes: all equal, then mixtures.
const TRIPLES: [[DType; 3]; 8] = [
    [F32, F32, F32],
    [F16, F16, F16],
    [BF16, BF16, BF16],
    [BF16, BF16, F32],
    [F16, F32, F32],
    [F32, BF16, F16],
    [BF16, F32, BF16],
    [F32, F16, BF16],
];

/// A value as it is, or repeated along its axes of extent 1.
fn broadcast(a: Array, shape: &[usize]) -> Value {
    Value::Broadcast(a, crate::Shape::new(shape))
}

/// Ways to spread `rows` rows over 4 experts, by name: offsets ascend from 0 to at most `rows`.
fn expert_offsets(rows: usize) -> Vec<(&'static str, Value)> {
    let r = rows as i64;
    [
        ("uneven", [0, r / 4, r / 2, r / 2 + r / 8, r]),
        ("an expert without rows", [0, r / 3, r / 3, r / 3 * 2, r]),
        ("one expert has all rows", [0, 0, 0, r, r]),
        ("rows beyond the last", [0, r / 5, r / 3, r / 2, r / 2]),
        ("no expert has rows", [0; 5]),
        ("one row each", [0, 1.min(r), 2.min(r), 3.min(r), 4.min(r)]),
    ]
    .into_iter()
    .map(|(name, o)| (name, ints(&[5], &o).into()))
    .collect()
}
