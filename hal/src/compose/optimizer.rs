//! The optimizer's step.

use super::parts::{Parts, affine, scalar};
use crate::{AdamW, BinaryFn, Op, UnaryFn};

pub(super) fn clip_factor(op: &Op, max_norm: f32, p: &mut Parts<'_>) {
    let [norm, factor] = &op.outputs[..] else { unreachable!("operands were checked") };
    p.push(Op::unary(UnaryFn::Sqrt, op.inputs[0].clone(), norm.clone()));
    let below = p.unary(affine(1.0, 1e-6), norm);
    let ratio = p.fill(max_norm, &[1]);
    p.update_with(BinaryFn::Div, &ratio, &below);
    let one = p.fill(1.0, &[1]);
    p.push(Op::binary(BinaryFn::Min, ratio, one, factor.clone()));
}

pub(super) fn adamw(op: &Op, a: AdamW, p: &mut Parts<'_>) {
    let ([grad, hyper, factor], [param, m, v]) = (&op.inputs[..], &op.outputs[..]) else {
        unreachable!("operands were checked")
    };
    let shape = &grad.shape;
    let hyper = |i: usize| hyper.clone().slice(0, i, 1);
    let (beta1, beta2) = (a.beta1.0, a.beta2.0);
    let g = p.mul(grad, &scalar(factor, shape));

    let kept = p.unary(affine(beta1, 0.0), m);
    let step = p.unary(affine(1.0 - beta1, 0.0), &g);
    p.push(Op::binary(BinaryFn::Add, kept, step.clone(), m.clone()));
    p.update(UnaryFn::Square, &g);
    p.update(affine(1.0 - beta2, 0.0), &g);
    let root = p.unary(affine(beta2, 0.0), v);
    p.push(Op::binary(BinaryFn::Add, root.clone(), g, v.clone()));

    p.push(Op::binary(BinaryFn::Div, v.clone(), scalar(&hyper(2), shape), root.clone()));
    p.update(UnaryFn::Sqrt, &root);
    p.update(affine(1.0, a.eps.0), &root);
    p.push(Op::binary(BinaryFn::Div, m.clone(), scalar(&hyper(1), shape), step.clone()));
    p.update_with(BinaryFn::Mul, &step, &scalar(&hyper(0), shape));
    p.update_with(BinaryFn::Div, &step, &root);

    let decay = p.unary(affine(-a.weight_decay.0, 1.0), &hyper(0));
    let rest = p.mul(param, &scalar(&decay, shape));
    p.push(Op::binary(BinaryFn::Sub, rest, step, param.clone()));
}
