//! Gates that the catalogue has no op for, made of its elementwise ops, and their gradients.

use super::{Node, Tape, Var};
use halite_hal::{BinaryFn, DType, Op, ReduceFn, TensorRef, UnaryFn};

/// The factor in gpt-oss's sigmoid.
const ALPHA: f32 = 1.702;

fn affine(scale: f32, shift: f32) -> UnaryFn {
    UnaryFn::Affine { scale: scale.into(), shift: shift.into() }
}

/// What the gradient of a clamped SwiGLU needs, all of one shape.
struct Clamped {
    gate: TensorRef,
    up: TensorRef,
    sigmoid: TensorRef,
}

impl Tape {
    /// `value` everywhere, in a shape.
    fn number(&mut self, value: f32, shape: &[usize]) -> TensorRef {
        let one = self.temporary(DType::F32, &vec![1; shape.len()]);
        self.graph.push(Op::fill(value, one.clone()));
        one.broadcast(shape)
    }

    fn unary(&mut self, f: UnaryFn, x: &TensorRef) -> TensorRef {
        let y = self.temporary(x.dtype, &x.shape);
        self.graph.push(Op::unary(f, x.clone(), y.clone()));
        y
    }

    fn binary(&mut self, f: BinaryFn, a: &TensorRef, b: &TensorRef) -> TensorRef {
        let y = self.temporary(a.dtype, &a.shape);
        self.graph.push(Op::binary(f, a.clone(), b.clone(), y.clone()));
        y
    }

    /// `a = f(a, b)`.
    fn update(&mut self, f: BinaryFn, a: &TensorRef, b: &TensorRef) {
        self.graph.push(Op::binary(f, a.clone(), b.clone(), a.clone()));
    }

    fn clamped(&mut self, gate: &TensorRef, up: &TensorRef, limit: f32) -> Clamped {
        let (most, least) = (self.number(limit, &gate.shape), self.number(-limit, &gate.shape));
        let gate = self.binary(BinaryFn::Min, gate, &most);
        let up = self.binary(BinaryFn::Min, up, &most);
        self.update(BinaryFn::Max, &up, &least);
        let sigmoid = self.unary(affine(ALPHA, 0.0), &gate);
        self.graph.push(Op::unary(UnaryFn::Sigmoid, sigmoid.clone(), sigmoid.clone()));
        Clamped { gate, up, sigmoid }
    }

    /// `(up + 1) · gate · sigmoid(1.702 · gate)`, with `gate` clamped from above and `up` from both sides to
    /// `limit` (gpt-oss's modelling code).
    pub fn clamped_swiglu(&mut self, gate: Var, up: Var, limit: f32) -> Var {
        let (tg, tu) = (self.tensor(gate), self.tensor(up));
        let Clamped { gate: g, up: u, sigmoid } = self.clamped(&tg, &tu, limit);
        let ty = self.unary(affine(1.0, 1.0), &u);
        self.update(BinaryFn::Mul, &ty, &g);
        self.update(BinaryFn::Mul, &ty, &sigmoid);
        let y = self.output(ty, &[gate, up]);
        self.note(y, Node::ClampedSwiGlu { gate, up, limit, y });
        y
    }

    pub(super) fn clamped_swiglu_backward(&mut self, gate: Var, up: Var, limit: f32, y: Var) {
        let Some((dy, _)) = self.take(y) else { return };
        let (tg, tu) = (self.tensor(gate), self.tensor(up));
        let Clamped { gate: g, up: u, sigmoid: s } = self.clamped(&tg, &tu, limit);
        // What lies on the limit counts as inside, as PyTorch has it.
        let (most, least) = (self.number(limit, &tg.shape), self.number(-limit, &tg.shape));
        let mut outside = [(&most, &tg), (&most, &tu), (&tu, &least)]
            .map(|(a, b)| self.binary(BinaryFn::Less, a, b))
            .map(|mask| self.unary(affine(-1.0, 1.0), &mask));
        let [gate_in, up_in, up_above] = &mut outside;
        // d/dup = gate · s.
        let dup = self.binary(BinaryFn::Mul, &g, &s);
        // d/dgate = (up + 1) · (s + 1.702 · gate · s · (1 − s)).
        let dgate = self.unary(affine(-1.0, 1.0), &s);
        self.update(BinaryFn::Mul, &dgate, &dup);
        self.graph.push(Op::unary(affine(ALPHA, 0.0), dgate.clone(), dgate.clone()));
        self.update(BinaryFn::Add, &dgate, &s);
        self.graph.push(Op::unary(affine(1.0, 1.0), u.clone(), u.clone()));
        for factor in [&u, &*gate_in, &dy] {
            self.update(BinaryFn::Mul, &dgate, factor);
        }
        for factor in [&*up_in, &*up_above, &dy] {
            self.update(BinaryFn::Mul, &dup, factor);
        }
        self.flow(gate, dgate, true);
        self.flow(up, dup, true);
    }

    /// `x [tokens, h]` times the sigmoid of `gate [tokens, 1]`.
    pub fn gate_rows(&mut self, x: Var, gate: Var) -> Var {
        let (tx, tg) = (self.tensor(x), self.tensor(gate));
        let share = self.unary(UnaryFn::Sigmoid, &tg);
        let ty = self.binary(BinaryFn::Mul, &tx, &share.clone().broadcast(&tx.shape));
        let y = self.output(ty, &[x, gate]);
        self.note(y, Node::GateRows { x, gate, share, y });
        y
    }

    pub(super) fn gate_rows_backward(&mut self, x: Var, gate: Var, share: &TensorRef, y: Var) {
        let Some((dy, _)) = self.take(y) else { return };
        let tx = self.tensor(x);
        let tokens = tx.shape[0];
        let dx = self.binary(BinaryFn::Mul, &dy, &share.clone().broadcast(&tx.shape));
        // dgate = (1 − share) · Σ dx·x.
        let product = self.binary(BinaryFn::Mul, &dx, &tx);
        let sums = self.temporary(DType::F32, &[tokens]);
        self.graph.push(Op::reduce(ReduceFn::Sum, product, sums.clone(), false));
        let dgate = self.unary(affine(-1.0, 1.0), share);
        self.update(BinaryFn::Mul, &dgate, &sums.reshape(&[tokens, 1]));
        self.flow(x, dx, true);
        self.flow(gate, dgate, true);
    }

    /// Lets a score a head, `sinks [heads]`, take part in the softmax that gave `o [tokens, heads, dv]` and
    /// `lse [tokens, heads]`: `o` is multiplied by the share of what it had, which is returned.
    pub(super) fn sink(&mut self, o: &TensorRef, lse: &TensorRef, sinks: &TensorRef) -> TensorRef {
        let share = self.binary(BinaryFn::Sub, lse, &sinks.clone().broadcast(&lse.shape));
        self.graph.push(Op::unary(UnaryFn::Sigmoid, share.clone(), share.clone()));
        let column = share.clone().reshape(&[lse.shape[0], lse.shape[1], 1]);
        self.update(BinaryFn::Mul, o, &column.broadcast(&o.shape));
        share
    }

    /// The logarithm of the sum of exponentials with the sinks' own.
    pub(super) fn sunk_lse(&mut self, lse: &TensorRef, share: &TensorRef) -> TensorRef {
        let log = self.unary(UnaryFn::Log, share);
        self.binary(BinaryFn::Sub, lse, &log)
    }

    /// `dsinks = Σ_tokens (share − 1) · (do·o)`.
    pub(super) fn sink_backward(&mut self, sinks: Var, share: &TensorRef, d_o: &TensorRef, o: &TensorRef) {
        let Some((into, accumulate)) = self.target(sinks) else { return };
        let product = self.binary(BinaryFn::Mul, d_o, o);
        let sums = self.temporary(DType::F32, &share.shape);
        self.graph.push(Op::reduce(ReduceFn::Sum, product, sums.clone(), false));
        let rest = self.unary(affine(1.0, -1.0), share);
        self.update(BinaryFn::Mul, &rest, &sums);
        self.graph.push(Op::reduce(ReduceFn::Sum, rest.transpose(0, 1), into, accumulate));
    }
}
