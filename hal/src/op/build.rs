//! A constructor for each op of the catalogue; operands are in the order of [`OpKind`]'s definitions.

use super::{
    AdamW, Attention, BinaryFn, CustomOp, CustomRef, Distribution, Op, OpKind, ReduceFn, Router, UnaryFn,
};
use crate::TensorRef as T;
use std::sync::Arc;

impl Op {
    /// [`OpKind::Fill`].
    pub fn fill(value: f32, y: T) -> Self {
        Op::new(OpKind::Fill { value: value.into() }, vec![], vec![y])
    }

    /// [`OpKind::Iota`].
    pub fn iota(y: T) -> Self {
        Op::new(OpKind::Iota, vec![], vec![y])
    }

    /// [`OpKind::Copy`].
    pub fn copy(x: T, y: T) -> Self {
        Op::new(OpKind::Copy, vec![x], vec![y])
    }

    /// [`OpKind::Pack`].
    pub fn pack(x: T, y: T) -> Self {
        Op::new(OpKind::Pack, vec![x], vec![y])
    }

    /// [`OpKind::Embedding`].
    pub fn embedding(table: T, index: T, y: T) -> Self {
        Op::new(OpKind::Embedding, vec![table, index], vec![y])
    }

    /// [`OpKind::Scatter`].
    pub fn scatter(x: T, index: T, y: T, accumulate: bool) -> Self {
        Op::new(OpKind::Scatter { accumulate }, vec![x, index], vec![y])
    }

    /// [`OpKind::Matmul`]: `c = a·b`.
    pub fn matmul(a: T, b: T, c: T) -> Self {
        Op::new(OpKind::Matmul { accumulate: false, bias: false }, vec![a, b], vec![c])
    }

    /// [`OpKind::Matmul`] with its attributes.
    pub fn matmul_with(a: T, b: T, bias: Option<T>, c: T, accumulate: bool) -> Self {
        let kind = OpKind::Matmul { accumulate, bias: bias.is_some() };
        Op::new(kind, [a, b].into_iter().chain(bias).collect(), vec![c])
    }

    /// [`OpKind::GroupedMatmul`].
    pub fn grouped_matmul(a: T, b: T, offsets: T, bias: Option<T>, c: T, accumulate: bool) -> Self {
        let kind = OpKind::GroupedMatmul { accumulate, bias: bias.is_some() };
        Op::new(kind, [a, b, offsets].into_iter().chain(bias).collect(), vec![c])
    }

    /// [`OpKind::GroupedMatmulWeight`].
    pub fn grouped_matmul_weight(a: T, b: T, offsets: T, c: T, accumulate: bool) -> Self {
        Op::new(OpKind::GroupedMatmulWeight { accumulate }, vec![a, b, offsets], vec![c])
    }

    /// [`OpKind::Unary`].
    pub fn unary(f: UnaryFn, x: T, y: T) -> Self {
        Op::new(OpKind::Unary(f), vec![x], vec![y])
    }

    /// [`OpKind::Binary`].
    pub fn binary(f: BinaryFn, a: T, b: T, y: T) -> Self {
        Op::new(OpKind::Binary(f), vec![a, b], vec![y])
    }

    /// [`OpKind::Reduce`].
    pub fn reduce(f: ReduceFn, x: T, y: T, accumulate: bool) -> Self {
        Op::new(OpKind::Reduce { f, accumulate }, vec![x], vec![y])
    }

    /// [`OpKind::Softmax`].
    pub fn softmax(x: T, y: T) -> Self {
        Op::new(OpKind::Softmax, vec![x], vec![y])
    }

    /// [`OpKind::SoftmaxBackward`].
    pub fn softmax_backward(y: T, dy: T, dx: T) -> Self {
        Op::new(OpKind::SoftmaxBackward, vec![y, dy], vec![dx])
    }

    /// [`OpKind::RmsNorm`].
    pub fn rms_norm(x: T, w: T, y: T, rstd: T, eps: f32) -> Self {
        Op::new(OpKind::RmsNorm { eps: eps.into() }, vec![x, w], vec![y, rstd])
    }

    /// [`OpKind::RmsNormBackward`].
    pub fn rms_norm_backward(dy: T, x: T, w: T, rstd: T, dx: T, dw: T, accumulate: bool) -> Self {
        Op::new(OpKind::RmsNormBackward { accumulate }, vec![dy, x, w, rstd], vec![dx, dw])
    }

    /// [`OpKind::Rope`] with pairs `(i, i + r/2)`.
    pub fn rope(x: T, cos: T, sin: T, index: T, y: T) -> Self {
        Op::new(OpKind::Rope { inverse: false, interleaved: false }, vec![x, cos, sin, index], vec![y])
    }

    /// [`OpKind::Attention`].
    pub fn attention(attributes: Attention, q: T, k: T, v: T, seqs: T, o: T, lse: T) -> Self {
        Op::new(OpKind::Attention(attributes), vec![q, k, v, seqs], vec![o, lse])
    }

    /// [`OpKind::AttentionBackward`]; inputs `[do, q, k, v, o, lse, seqs]`, outputs `[dq, dk, dv]`.
    pub fn attention_backward(attributes: Attention, inputs: [T; 7], outputs: [T; 3]) -> Self {
        Op::new(OpKind::AttentionBackward(attributes), inputs.into(), outputs.into())
    }

    /// [`OpKind::SwiGlu`].
    pub fn swiglu(gate: T, up: T, y: T) -> Self {
        Op::new(OpKind::SwiGlu, vec![gate, up], vec![y])
    }

    /// [`OpKind::SwiGluBackward`].
    pub fn swiglu_backward(dy: T, gate: T, up: T, dgate: T, dup: T) -> Self {
        Op::new(OpKind::SwiGluBackward, vec![dy, gate, up], vec![dgate, dup])
    }

    /// [`OpKind::CrossEntropy`].
    pub fn cross_entropy(logits: T, target: T, loss: T, lse: T) -> Self {
        Op::new(OpKind::CrossEntropy, vec![logits, target], vec![loss, lse])
    }

    /// [`OpKind::CrossEntropyBackward`].
    pub fn cross_entropy_backward(logits: T, target: T, lse: T, dloss: T, dlogits: T) -> Self {
        Op::new(OpKind::CrossEntropyBackward, vec![logits, target, lse, dloss], vec![dlogits])
    }

    /// [`OpKind::Router`]; `bias` is there when the attributes say so.
    pub fn router(attributes: Router, logits: T, bias: Option<T>, experts: T, weights: T) -> Self {
        let inputs = [logits].into_iter().chain(bias).collect();
        Op::new(OpKind::Router(attributes), inputs, vec![experts, weights])
    }

    /// [`OpKind::RouterBackward`].
    pub fn router_backward(attributes: Router, logits: T, experts: T, dweights: T, dlogits: T) -> Self {
        Op::new(OpKind::RouterBackward(attributes), vec![logits, experts, dweights], vec![dlogits])
    }

    /// [`OpKind::ExpertPermutation`]; the number of experts is read off `offsets [experts + 1]`.
    pub fn expert_permutation(experts: T, offsets: T, rows: T, positions: T) -> Self {
        let n = offsets.elems().saturating_sub(1);
        Op::new(OpKind::ExpertPermutation { experts: n }, vec![experts], vec![offsets, rows, positions])
    }

    /// [`OpKind::Combine`].
    pub fn combine(x: T, positions: T, weights: Option<T>, y: T, accumulate: bool) -> Self {
        let kind = OpKind::Combine { weighted: weights.is_some(), accumulate };
        Op::new(kind, [x, positions].into_iter().chain(weights).collect(), vec![y])
    }

    /// [`OpKind::CombineBackward`].
    pub fn combine_backward(dy: T, x: T, positions: T, weights: T, dx: T, dweights: T) -> Self {
        Op::new(OpKind::CombineBackward, vec![dy, x, positions, weights], vec![dx, dweights])
    }

    /// [`OpKind::ClipFactor`].
    pub fn clip_factor(max_norm: f32, sum_squares: T, norm: T, factor: T) -> Self {
        Op::new(OpKind::ClipFactor { max_norm: max_norm.into() }, vec![sum_squares], vec![norm, factor])
    }

    /// [`OpKind::AdamW`]; `state` is `[param, m, v]`.
    pub fn adamw(attributes: AdamW, grad: T, hyper: T, factor: T, state: [T; 3]) -> Self {
        Op::new(OpKind::AdamW(attributes), vec![grad, hyper, factor], state.into())
    }

    /// [`OpKind::Philox`].
    pub fn philox(distribution: Distribution, state: T, y: T) -> Self {
        Op::new(OpKind::Philox(distribution), vec![state], vec![y])
    }

    /// [`OpKind::Custom`].
    pub fn custom(op: Arc<dyn CustomOp>, inputs: Vec<T>, outputs: Vec<T>) -> Self {
        Op::new(OpKind::Custom(CustomRef(op)), inputs, outputs)
    }
}
