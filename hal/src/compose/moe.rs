//! Gradients of routing, and rows coming back from experts.

use super::parts::{Parts, affine, along, along_last};
use crate::{BinaryFn, DType, Op, ReduceFn, Router, ScoreFn, TensorRef, UnaryFn};

/// See `reference/moe.rs` for the formula. The choice is a one-hot tensor `[tokens, k, experts]`.
pub(super) fn router_backward(op: &Op, r: Router, p: &mut Parts<'_>) {
    let ([logits, experts, dweights], [dlogits]) = (&op.inputs[..], &op.outputs[..]) else {
        unreachable!("operands were checked")
    };
    let (n, k) = (logits.shape[1], r.top_k);
    let s = match r.scores {
        ScoreFn::Softmax => {
            let s = p.f32(&logits.shape);
            p.push(Op::softmax(logits.clone(), s.clone()));
            s
        }
        ScoreFn::Sigmoid => p.unary(UnaryFn::Sigmoid, logits),
    };
    let hot = p.one_hot(experts, n);
    let dchosen = if r.normalize {
        let masked = p.mul(&hot, &along(&s, 1, k));
        let weights = p.reduce(ReduceFn::Sum, &masked);
        let sum = p.reduce(ReduceFn::Sum, &weights);
        p.update(affine(1.0, 1e-20), &sum);
        let sum = along_last(&sum, k);
        p.update_with(BinaryFn::Div, &weights, &sum);
        p.update_with(BinaryFn::Mul, &weights, dweights);
        let mean = p.reduce(ReduceFn::Sum, &weights);
        let d = p.binary(BinaryFn::Sub, dweights, &along_last(&mean, k));
        p.update_with(BinaryFn::Div, &d, &sum);
        p.update(affine(r.scale.0, 0.0), &d);
        d
    } else {
        p.unary(affine(r.scale.0, 0.0), dweights)
    };
    p.update_with(BinaryFn::Mul, &hot, &along_last(&dchosen, n));
    let ds = p.reduce(ReduceFn::Sum, &hot.transpose(1, 2));
    let slope = match r.scores {
        ScoreFn::Softmax => {
            let products = p.mul(&s, &ds);
            let dot = p.reduce(ReduceFn::Sum, &products);
            p.binary(BinaryFn::Sub, &ds, &along_last(&dot, n))
        }
        ScoreFn::Sigmoid => {
            let slope = p.unary(affine(-1.0, 1.0), &s);
            p.update_with(BinaryFn::Mul, &slope, &ds);
            slope
        }
    };
    p.push(Op::binary(BinaryFn::Mul, slope, s, dlogits.clone()));
}

/// The positions one after the other, and the rows of `x` at them as `[tokens, k, h]` f32, zero where there
/// is none.
fn gather(x: &TensorRef, positions: &TensorRef, p: &mut Parts<'_>) -> (TensorRef, TensorRef) {
    let (tokens, k, h) = (positions.shape[0], positions.shape[1], x.shape[1]);
    let index = p.0.temporary(DType::I32, &positions.shape);
    p.push(Op::copy(positions.clone(), index.clone()));
    let index = index.reshape(&[tokens * k]);
    let rows = p.f32(&[tokens * k, h]);
    p.push(Op::embedding(x.clone(), index.clone(), rows.clone()));
    (index, rows.reshape(&[tokens, k, h]))
}

pub(super) fn combine(op: &Op, weighted: bool, accumulate: bool, p: &mut Parts<'_>) {
    let (_, rows) = gather(&op.inputs[0], &op.inputs[1], p);
    if weighted {
        p.update_with(BinaryFn::Mul, &rows, &along_last(&op.inputs[2], rows.shape[2]));
    }
    p.push(Op::reduce(ReduceFn::Sum, rows.transpose(1, 2), op.outputs[0].clone(), accumulate));
}

pub(super) fn combine_backward(op: &Op, p: &mut Parts<'_>) {
    let ([dy, x, positions, weights], [dx, dweights]) = (&op.inputs[..], &op.outputs[..]) else {
        unreachable!("operands were checked")
    };
    let (k, h) = (positions.shape[1], x.shape[1]);
    let dy = along(dy, 1, k);
    let (index, rows) = gather(x, positions, p);
    p.update_with(BinaryFn::Mul, &rows, &dy);
    p.push(Op::reduce(ReduceFn::Sum, rows, dweights.clone(), false));
    let shares = p.mul(&dy, &along_last(weights, h));
    p.push(Op::fill(0.0, dx.clone()));
    p.push(Op::scatter(shares.reshape(&[index.shape[0], h]), index, dx.clone(), false));
}
