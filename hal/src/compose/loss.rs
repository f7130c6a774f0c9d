//! Cross-entropy.

use super::parts::{Parts, along_last};
use crate::{BinaryFn, Op, ReduceFn, UnaryFn};

pub(super) fn cross_entropy(op: &Op, p: &mut Parts<'_>) {
    let ([logits, target], [loss, lse]) = (&op.inputs[..], &op.outputs[..]) else {
        unreachable!("operands were checked")
    };
    let vocab = logits.shape[1];
    let max = p.reduce(ReduceFn::Max, logits);
    let e = p.binary(BinaryFn::Sub, logits, &along_last(&max, vocab));
    p.update(UnaryFn::Exp, &e);
    let sum = p.reduce(ReduceFn::Sum, &e);
    p.update(UnaryFn::Log, &sum);
    p.push(Op::binary(BinaryFn::Add, sum, max, lse.clone()));

    let hot = p.one_hot(target, vocab);
    let counts = p.reduce(ReduceFn::Sum, &hot);
    p.update_with(BinaryFn::Mul, &hot, logits);
    let chosen = p.reduce(ReduceFn::Sum, &hot);
    let all = p.binary(BinaryFn::Sub, lse, &chosen);
    p.push(Op::binary(BinaryFn::Mul, all, counts, loss.clone()));
}

pub(super) fn cross_entropy_backward(op: &Op, p: &mut Parts<'_>) {
    let ([logits, target, lse, dloss], [dlogits]) = (&op.inputs[..], &op.outputs[..]) else {
        unreachable!("operands were checked")
    };
    let vocab = logits.shape[1];
    let hot = p.one_hot(target, vocab);
    let weight = p.reduce(ReduceFn::Sum, &hot);
    p.update_with(BinaryFn::Mul, &weight, dloss);
    let d = p.binary(BinaryFn::Sub, logits, &along_last(lse, vocab));
    p.update(UnaryFn::Exp, &d);
    p.update_with(BinaryFn::Sub, &d, &hot);
    p.push(Op::binary(BinaryFn::Mul, d, along_last(&weight, vocab), dlogits.clone()));
}
