//! Parts of tensors and tensors of parts, and their gradients.

use super::{Node, Tape, Var};
use halite_hal::{BinaryFn, Op, ReduceFn, TensorRef};

impl Tape {
    /// Elements `start..start + len` of an axis of `x`; no copy.
    pub fn slice(&mut self, x: Var, axis: usize, start: usize, len: usize) -> Var {
        let ty = self.tensor(x).slice(axis, start, len);
        let y = self.output(ty, &[x]);
        self.values[y.0].view_of = Some(x);
        self.note(y, Node::Slice { x, axis, start, y });
        y
    }

    /// `a [tokens, heads, n]` and after it `b [tokens, heads or 1, m]`, which all heads share if it has but one
    /// → `[tokens, heads, n + m]`.
    pub fn concat(&mut self, a: Var, b: Var) -> Var {
        let (ta, tb) = (self.tensor(a), self.tensor(b));
        let (n, m) = (ta.shape[2], tb.shape[2]);
        let ty = self.temporary(ta.dtype, &[ta.shape[0], ta.shape[1], n + m]);
        let shared = tb.broadcast(&[ta.shape[0], ta.shape[1], m]);
        self.graph.push(Op::copy(ta, ty.clone().slice(2, 0, n)));
        self.graph.push(Op::copy(shared, ty.clone().slice(2, n, m)));
        let y = self.output(ty, &[a, b]);
        self.note(y, Node::Concat { a, b, y });
        y
    }

    pub(super) fn slice_backward(&mut self, x: Var, axis: usize, start: usize, y: Var) {
        let Some((dy, _)) = self.take(y) else { return };
        let len = dy.shape[axis];
        let Some((dx, accumulate)) = self.target(x) else { return };
        let part = dx.clone().slice(axis, start, len);
        if accumulate {
            self.graph.push(Op::binary(BinaryFn::Add, part.clone(), dy, part));
        } else {
            self.graph.push(Op::fill(0.0, dx));
            self.graph.push(Op::copy(dy, part));
        }
    }

    pub(super) fn concat_backward(&mut self, a: Var, b: Var, y: Var) {
        let Some((dy, _)) = self.take(y) else { return };
        let (ta, tb) = (self.tensor(a), self.tensor(b));
        let (n, m) = (ta.shape[2], tb.shape[2]);
        self.flow(a, dy.clone().slice(2, 0, n), false);
        let db = dy.slice(2, n, m);
        if tb.shape[1] == ta.shape[1] {
            self.flow(b, db, false);
        } else if let Some((into, accumulate)) = self.target(b) {
            // Over the heads, as the last axis.
            let one: TensorRef = into.reshape(&[tb.shape[0], m]);
            self.graph.push(Op::reduce(ReduceFn::Sum, db.transpose(1, 2), one, accumulate));
        }
    }
}
