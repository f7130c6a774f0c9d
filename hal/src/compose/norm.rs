//! Normalisations and gates.

use super::parts::{Parts, affine, along, along_last};
use crate::{BinaryFn, Op, ReduceFn, UnaryFn};

pub(super) fn rms_norm(op: &Op, eps: f32, p: &mut Parts<'_>) {
    let ([x, w], [y, rstd]) = (&op.inputs[..], &op.outputs[..]) else {
        unreachable!("operands were checked")
    };
    let (rows, n) = (x.shape[0], x.shape[1]);
    let mean = p.reduce(ReduceFn::SumSquares, x);
    p.update(affine(1.0 / n.max(1) as f32, eps), &mean);
    p.push(Op::unary(UnaryFn::Rsqrt, mean, rstd.clone()));
    let scaled = p.mul(x, &along_last(rstd, n));
    p.push(Op::binary(BinaryFn::Mul, scaled, along(w, 0, rows), y.clone()));
}

pub(super) fn rms_norm_backward(op: &Op, accumulate: bool, p: &mut Parts<'_>) {
    let ([dy, x, w, rstd], [dx, dw]) = (&op.inputs[..], &op.outputs[..]) else {
        unreachable!("operands were checked")
    };
    let (rows, n) = (x.shape[0], x.shape[1]);
    let terms = p.mul(dy, x);
    p.update_with(BinaryFn::Mul, &terms, &along_last(rstd, n));
    p.push(Op::reduce(ReduceFn::Sum, terms.transpose(0, 1), dw.clone(), accumulate));

    let g = p.mul(dy, &along(w, 0, rows));
    let gx = p.mul(&g, x);
    let mean = p.reduce(ReduceFn::Mean, &gx);
    p.update_with(BinaryFn::Mul, &mean, rstd);
    p.update_with(BinaryFn::Mul, &mean, rstd);
    let away = p.mul(x, &along_last(&mean, n));
    p.update_with(BinaryFn::Sub, &g, &away);
    p.push(Op::binary(BinaryFn::Mul, g, along_last(rstd, n), dx.clone()));
}

pub(super) fn softmax_backward(op: &Op, p: &mut Parts<'_>) {
    let ([y, dy], [dx]) = (&op.inputs[..], &op.outputs[..]) else { unreachable!("operands were checked") };
    let products = p.mul(y, dy);
    let dot = p.reduce(ReduceFn::Sum, &products);
    let centred = p.binary(BinaryFn::Sub, dy, &along_last(&dot, y.shape[y.rank() - 1]));
    p.push(Op::binary(BinaryFn::Mul, centred, y.clone(), dx.clone()));
}

pub(super) fn swiglu(op: &Op, p: &mut Parts<'_>) {
    let ([gate, up], [y]) = (&op.inputs[..], &op.outputs[..]) else { unreachable!("operands were checked") };
    let silu = p.unary(UnaryFn::Silu, gate);
    p.push(Op::binary(BinaryFn::Mul, silu, up.clone(), y.clone()));
}

/// `dgate = dy · up · s · (1 + gate · (1 − s))` and `dup = dy · gate · s` with `s = sigmoid(gate)`.
pub(super) fn swiglu_backward(op: &Op, p: &mut Parts<'_>) {
    let ([dy, gate, up], [dgate, dup]) = (&op.inputs[..], &op.outputs[..]) else {
        unreachable!("operands were checked")
    };
    let s = p.unary(UnaryFn::Sigmoid, gate);
    let slope = p.unary(affine(-1.0, 1.0), &s);
    p.update_with(BinaryFn::Mul, &slope, gate);
    p.update(affine(1.0, 1.0), &slope);
    p.update_with(BinaryFn::Mul, &slope, &s);
    p.update_with(BinaryFn::Mul, &s, gate);
    let through = p.mul(dy, up);
    p.push(Op::binary(BinaryFn::Mul, s, dy.clone(), dup.clone()));
    p.push(Op::binary(BinaryFn::Mul, through, slope, dgate.clone()));
}
