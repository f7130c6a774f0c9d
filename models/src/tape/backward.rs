//! The gradient of each node, as ops.

use super::ops::as_rows;
use super::{Gradient, Node, Tape, Var};
use halite_hal::{BinaryFn, DType, Op, OpKind, ReduceFn, TensorRef, UnaryFn};

impl Tape {
    /// Appends the gradients of everything that `y` depends on; `dy` is the gradient of `y`, of its shape
    /// (a broadcast view will do). The tape's notes are used up.
    pub fn backward(&mut self, y: Var, dy: TensorRef) {
        self.flow(y, dy, false);
        while let Some(node) = self.nodes.pop() {
            self.node(node);
        }
    }

    /// Takes the gradient of a node's result; `None` when nothing flowed to it.
    pub(super) fn take(&mut self, y: Var) -> Option<(TensorRef, bool)> {
        match std::mem::replace(&mut self.values[y.0].gradient, Gradient::Awaited) {
            Gradient::Flowed { tensor, owned } => Some((tensor, owned)),
            _ => None,
        }
    }

    /// A gradient that can be reshaped: a broadcast one is written out.
    fn dense(&mut self, dy: TensorRef, owned: bool) -> (TensorRef, bool) {
        if dy.is_contiguous() {
            return (dy, owned);
        }
        let dense = self.temporary(dy.dtype, &dy.shape);
        self.graph.push(Op::copy(dy, dense.clone()));
        (dense, true)
    }

    fn node(&mut self, node: Node) {
        match node {
            Node::Linear { x, w, bias, y } => {
                let Some((dy, _)) = self.take(y) else { return };
                let (tx, tw) = (self.tensor(x), self.tensor(w));
                if let Some((dx, accumulate)) = self.target(x) {
                    self.graph.push(Op::matmul_with(dy.clone(), tw, None, dx, accumulate));
                }
                if let Some((dw, accumulate)) = self.target(w) {
                    self.graph.push(Op::matmul_with(dy.clone().transpose(0, 1), tx, None, dw, accumulate));
                }
                if let Some((db, accumulate)) = bias.and_then(|b| self.target(b)) {
                    self.graph.push(Op::reduce(ReduceFn::Sum, dy.transpose(0, 1), db, accumulate));
                }
            }
            Node::GroupedLinear { x, w, bias, offsets, y } => {
                let Some((dy, _)) = self.take(y) else { return };
                let (tx, tw) = (self.tensor(x), self.tensor(w));
                if let Some((dx, accumulate)) = self.target(x) {
                    self.graph.push(Op::grouped_matmul(
                        dy.clone(),
                        tw,
                        offsets.clone(),
                        None,
                        dx,
                        accumulate,
                    ));
                }
                if let Some((dw, accumulate)) = self.target(w) {
                    let offsets = offsets.clone();
                    self.graph.push(Op::grouped_matmul_weight(dy.clone(), tx, offsets, dw, accumulate));
                }
                if let Some((db, accumulate)) = bias.and_then(|b| self.target(b)) {
                    // Sums of each expert's rows: their product with ones.
                    let ones = self.temporary(dy.dtype, &[1, 1]);
                    self.graph.push(Op::fill(1.0, ones.clone()));
                    let ones = ones.broadcast(&[dy.shape[0], 1]);
                    let db = db.clone().reshape(&[db.shape[0], db.shape[1], 1]);
                    self.graph.push(Op::grouped_matmul_weight(dy, ones, offsets, db, accumulate));
                }
            }
            Node::Embedding { table, ids, y } => {
                let Some((dy, _)) = self.take(y) else { return };
                if let Some((dt, accumulate)) = self.target(table) {
                    if !accumulate {
                        self.graph.push(Op::fill(0.0, dt.clone()));
                    }
                    self.graph.push(Op::scatter(dy, ids, dt, true));
                }
            }
            Node::RmsNorm { x, w, rstd, y } => self.rms_norm_backward(x, w, rstd, y),
            Node::Rope { x, tables: [cos, sin, positions], interleaved, y } => {
                let Some((dy, owned)) = self.take(y) else { return };
                let dx = if owned { dy.clone() } else { self.temporary(dy.dtype, &dy.shape) };
                let kind = OpKind::Rope { inverse: true, interleaved };
                self.graph.push(Op::new(kind, vec![dy, cos, sin, positions], vec![dx.clone()]));
                self.flow(x, dx, true);
            }
            Node::Attention { kind, q, k, v, seqs, sinks, lse, o } => {
                let Some((d_o, _)) = self.take(o) else { return };
                let [tq, tk, tv, to] = [q, k, v, o].map(|t| self.tensor(t));
                if let Some((sinks, share)) = sinks {
                    self.sink_backward(sinks, &share, &d_o, &to);
                }
                let d = [&tq, &tk, &tv].map(|t| self.graph.temporary(t.dtype, &t.shape));
                self.graph.push(Op::attention_backward(kind, [d_o, tq, tk, tv, to, lse, seqs], d.clone()));
                for (t, d) in [q, k, v].into_iter().zip(d) {
                    self.flow(t, d, true);
                }
            }
            Node::SwiGlu { gate, up, y } => {
                let Some((dy, _)) = self.take(y) else { return };
                let (tg, tu) = (self.tensor(gate), self.tensor(up));
                // Where nothing else reads gate and up, their gradients take their place.
                let in_place = self.used_once(gate) && self.used_once(up) && gate != up;
                let d = match in_place {
                    true => [tg.clone(), tu.clone()],
                    false => [&tg, &tu].map(|t| self.graph.temporary(t.dtype, &t.shape)),
                };
                let [dgate, dup] = d.clone();
                self.graph.push(Op::swiglu_backward(dy, tg, tu, dgate, dup));
                for (t, d) in [gate, up].into_iter().zip(d) {
                    self.flow(t, d, true);
                }
            }
            Node::ClampedSwiGlu { gate, up, limit, y } => self.clamped_swiglu_backward(gate, up, limit, y),
            Node::GateRows { x, gate, share, y } => self.gate_rows_backward(x, gate, &share, y),
            Node::Slice { x, axis, start, y } => self.slice_backward(x, axis, start, y),
            Node::Concat { a, b, y } => self.concat_backward(a, b, y),
            Node::Add { a, b, y } => {
                let Some((dy, _)) = self.take(y) else { return };
                self.flow(a, dy.clone(), false);
                self.flow(b, dy, false);
            }
            Node::Reshape { x, y } => {
                let Some((dy, owned)) = self.take(y) else { return };
                let shape = self.tensor(x).shape;
                let (dy, owned) = self.dense(dy, owned);
                self.flow(x, dy.reshape(&shape), owned);
            }
            Node::Router { kind, logits, experts, weights } => {
                let Some((dw, _)) = self.take(weights) else { return };
                let tl = self.tensor(logits);
                let dl = self.temporary(tl.dtype, &tl.shape);
                self.graph.push(Op::router_backward(kind, tl, experts, dw, dl.clone()));
                self.flow(logits, dl, true);
            }
            Node::Balance { logits, offsets, factor } => {
                let tl = self.tensor(logits);
                let experts = tl.shape[1];
                let [ends, counts] = [0; 2].map(|_| self.temporary(DType::F32, &[experts]));
                let probabilities = self.temporary(tl.dtype, &tl.shape);
                let dl = self.temporary(tl.dtype, &tl.shape);
                self.graph.push(Op::copy(offsets.clone().slice(0, 1, experts), ends.clone()));
                self.graph.push(Op::copy(offsets.slice(0, 0, experts), counts.clone()));
                self.graph.push(Op::binary(BinaryFn::Sub, ends.clone(), counts, ends.clone()));
                let scale = UnaryFn::Affine { scale: factor.into(), shift: 0.0.into() };
                self.graph.push(Op::unary(scale, ends.clone(), ends.clone()));
                self.graph.push(Op::softmax(tl.clone(), probabilities.clone()));
                let dp = ends.broadcast(&tl.shape);
                self.graph.push(Op::softmax_backward(probabilities, dp, dl.clone()));
                self.flow(logits, dl, true);
            }
            Node::Permute { x, positions, y } => {
                let Some((dy, _)) = self.take(y) else { return };
                if let Some((dx, accumulate)) = self.target(x) {
                    self.graph.push(Op::combine(dy, positions, None, dx, accumulate));
                }
            }
            Node::Combine { x, positions, weights, y } => {
                let Some((dy, _)) = self.take(y) else { return };
                let (tx, tw) = (self.tensor(x), self.tensor(weights));
                let dx = self.temporary(tx.dtype, &tx.shape);
                let dw = self.temporary(DType::F32, &tw.shape);
                self.graph.push(Op::combine_backward(dy, tx, positions, tw, dx.clone(), dw.clone()));
                self.flow(x, dx, true);
                self.flow(weights, dw, true);
            }
            Node::CrossEntropy { logits, target, lse, loss } => {
                let Some((dloss, _)) = self.take(loss) else { return };
                let tl = self.tensor(logits);
                let dl = match self.used_once(logits) {
                    true => tl.clone(),
                    false => self.temporary(tl.dtype, &tl.shape),
                };
                self.graph.push(Op::cross_entropy_backward(tl, target, lse, dloss, dl.clone()));
                self.flow(logits, dl, true);
            }
        }
    }

    fn rms_norm_backward(&mut self, x: Var, w: Var, rstd: TensorRef, y: Var) {
        let Some((dy, owned)) = self.take(y) else { return };
        let (dy, owned) = self.dense(dy, owned);
        let (tx, tw) = (self.tensor(x), self.tensor(w));
        let rows = [rstd.elems(), tw.elems()];
        let dx = if owned { dy.clone() } else { self.temporary(tx.dtype, &tx.shape) };
        let (dw, accumulate) = match self.target(w) {
            Some(target) => target,
            None => (self.temporary(DType::F32, &tw.shape), false),
        };
        let [dy, tx, out] = [dy, tx, dx.clone()].map(|t| as_rows(t, &rows));
        self.graph.push(Op::rms_norm_backward(dy, tx, tw, rstd, out, dw, accumulate));
        self.flow(x, dx, true);
    }
}
