//! Builds a graph from forward ops, and the gradients of what was built.
//!
//! A [`Tape`] covers one stage and one microbatch. Each forward op is appended to a
//! [`Graph`] and noted as a `Node`; [`Tape::backward`] walks the notes in reverse and appends the
//! gradient of each, made of ops again. Nothing runs while the tape is built.
//!
//! What backward needs is seen from the graph itself: a forward value that no gradient op reads dies
//! after its last forward use, and its memory is used again. Gradients of parameters are added into
//! f32 tensors that the caller gives; gradients of other values are temporaries.

mod backward;
mod gates;
mod ops;
#[cfg(test)]
mod tests;
mod views;

pub use ops::{Choices, RopeTables, Routing};

use halite_hal::{Attention, BinaryFn, DType, Graph, Op, Router, TensorRef};

/// A value on a tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Var(usize);

/// Whether and how a value has a gradient.
#[derive(Clone, Debug)]
enum Gradient {
    /// It is a constant: nothing flows to it.
    Constant,
    /// It depends on a parameter; nothing has flowed to it yet.
    Awaited,
    /// What has flowed to it. `owned` says that no other value shares the tensor.
    Flowed { tensor: TensorRef, owned: bool },
    /// A parameter: gradients are added into `tensor`, or written to it while it is not `written`.
    Parameter { tensor: TensorRef, written: bool },
}

#[derive(Clone, Debug)]
struct Value {
    tensor: TensorRef,
    gradient: Gradient,
    /// Ops that read the value, its own gradient included.
    uses: usize,
    /// Whether an op of this tape made it, in a temporary.
    made: bool,
    /// The value whose memory this one shows in another shape.
    view_of: Option<Var>,
}

/// A forward op as the tape remembers it: what its gradient reads.
#[derive(Clone, Debug)]
enum Node {
    /// `y = x · wᵀ + bias`; `x [tokens, in]`, `w [out, in]`.
    Linear { x: Var, w: Var, bias: Option<Var>, y: Var },
    /// `y[r] = x[r] · w[e]ᵀ + bias[e]` for the rows `r` of expert `e`.
    GroupedLinear { x: Var, w: Var, bias: Option<Var>, offsets: TensorRef, y: Var },
    /// `y = table[ids]`.
    Embedding { table: Var, ids: TensorRef, y: Var },
    /// Over the last axis of `x`, seen as rows as wide as `w`.
    RmsNorm { x: Var, w: Var, rstd: TensorRef, y: Var },
    /// `x [tokens, heads, d]`.
    Rope { x: Var, tables: [TensorRef; 3], interleaved: bool, y: Var },
    /// `o = attention(q, k, v)`; `lse` counts the sinks in, `share` is what they leave.
    Attention {
        kind: Attention,
        q: Var,
        k: Var,
        v: Var,
        seqs: TensorRef,
        sinks: Option<(Var, TensorRef)>,
        lse: TensorRef,
        o: Var,
    },
    /// `y = silu(gate) · up`.
    SwiGlu { gate: Var, up: Var, y: Var },
    /// `y = (up + 1) · gate · sigmoid(1.702 · gate)`, clamped.
    ClampedSwiGlu { gate: Var, up: Var, limit: f32, y: Var },
    /// `y = x · share`, `share = sigmoid(gate)`, one a row.
    GateRows { x: Var, gate: Var, share: TensorRef, y: Var },
    /// A part of `x` along an axis.
    Slice { x: Var, axis: usize, start: usize, y: Var },
    /// `a`, then `b`, along the last of three axes.
    Concat { a: Var, b: Var, y: Var },
    /// `y = a + b`.
    Add { a: Var, b: Var, y: Var },
    /// The same elements in another shape.
    Reshape { x: Var, y: Var },
    /// Weights of the chosen experts.
    Router { kind: Router, logits: Var, experts: TensorRef, weights: Var },
    /// `y[r] = x[rows[r]]`; `positions` is the inverse.
    Permute { x: Var, positions: TensorRef, y: Var },
    /// `y[t] = Σ weights[t, j] · x[positions[t, j]]`.
    Combine { x: Var, positions: TensorRef, weights: Var, y: Var },
    /// The gradient of `factor · Σ_e f_e P_e`, with the expert shares `f` held fixed.
    Balance { logits: Var, offsets: TensorRef, factor: f32 },
    /// Loss of each token; gradients start here.
    CrossEntropy { logits: Var, target: TensorRef, lse: TensorRef, loss: Var },
}

/// A graph under construction, with what its gradient needs.
#[derive(Clone, Debug, Default)]
pub struct Tape {
    /// The ops so far.
    pub graph: Graph,
    values: Vec<Value>,
    nodes: Vec<Node>,
}

impl Tape {
    /// An empty tape.
    pub fn new() -> Self {
        Self::default()
    }

    fn value(&mut self, tensor: TensorRef, gradient: Gradient) -> Var {
        self.values.push(Value { tensor, gradient, uses: 0, made: false, view_of: None });
        Var(self.values.len() - 1)
    }

    /// A constant: nothing flows to it.
    pub fn constant(&mut self, tensor: TensorRef) -> Var {
        self.value(tensor, Gradient::Constant)
    }

    /// A parameter whose gradient is added into `gradient` (f32, the same shape). With `accumulate`
    /// unset, the first contribution replaces what is there.
    pub fn parameter(&mut self, tensor: TensorRef, gradient: TensorRef, accumulate: bool) -> Var {
        debug_assert_eq!(tensor.shape, gradient.shape);
        self.value(tensor, Gradient::Parameter { tensor: gradient, written: accumulate })
    }

    /// A value from elsewhere (another stage) whose gradient is wanted.
    pub fn input(&mut self, tensor: TensorRef) -> Var {
        self.value(tensor, Gradient::Awaited)
    }

    /// Where the value lies.
    pub fn tensor(&self, v: Var) -> TensorRef {
        self.values[v.0].tensor.clone()
    }

    /// What has flowed to a value so far: after [`backward`](Tape::backward), its gradient.
    pub fn gradient(&self, v: Var) -> Option<TensorRef> {
        match &self.values[v.0].gradient {
            Gradient::Flowed { tensor, .. } => Some(tensor.clone()),
            Gradient::Parameter { tensor, written: true } => Some(tensor.clone()),
            _ => None,
        }
    }

    fn needs_gradient(&self, v: Var) -> bool {
        !matches!(self.values[v.0].gradient, Gradient::Constant)
    }

    /// A temporary of the graph.
    pub fn temporary(&mut self, dtype: DType, shape: &[usize]) -> TensorRef {
        self.graph.temporary(dtype, shape)
    }

    /// A new value made by `inputs`; it awaits a gradient if one of them does.
    fn output(&mut self, tensor: TensorRef, inputs: &[Var]) -> Var {
        let mut gradient = Gradient::Constant;
        for v in inputs {
            self.values[v.0].uses += 1;
            if self.needs_gradient(*v) {
                gradient = Gradient::Awaited;
            }
        }
        let y = self.value(tensor, gradient);
        self.values[y.0].made = true;
        y
    }

    fn note(&mut self, y: Var, node: Node) {
        if self.needs_gradient(y) {
            self.nodes.push(node);
        }
    }

    /// Whether one op alone reads the memory of the value, so that its gradient op may write over it.
    fn used_once(&self, v: Var) -> bool {
        let v = &self.values[v.0];
        v.made && v.uses == 1 && v.view_of.is_none_or(|base| self.used_once(base))
    }

    /// Adds a contribution to the gradient of a value that isn't a parameter. `owned`: nothing else
    /// reads `tensor` later.
    fn flow(&mut self, v: Var, tensor: TensorRef, owned: bool) {
        let before = match &self.values[v.0].gradient {
            Gradient::Constant => return,
            Gradient::Awaited => None,
            Gradient::Flowed { tensor, owned } => Some((tensor.clone(), *owned)),
            Gradient::Parameter { tensor: into, written } => {
                let (into, written) = (into.clone(), *written);
                self.graph.push(match written {
                    true => Op::binary(BinaryFn::Add, into.clone(), tensor, into.clone()),
                    false => Op::copy(tensor, into.clone()),
                });
                self.values[v.0].gradient = Gradient::Parameter { tensor: into, written: true };
                return;
            }
        };
        // Added over whichever of the two belongs to this value alone; a shared one stays as it is.
        let sum = match before {
            None => (tensor, owned),
            Some((old, _)) if owned => {
                self.graph.push(Op::binary(BinaryFn::Add, tensor.clone(), old, tensor.clone()));
                (tensor, true)
            }
            Some((old, true)) => {
                self.graph.push(Op::binary(BinaryFn::Add, old.clone(), tensor, old.clone()));
                (old, true)
            }
            Some((old, false)) => {
                let y = self.graph.temporary(old.dtype, &old.shape);
                self.graph.push(Op::binary(BinaryFn::Add, old, tensor, y.clone()));
                (y, true)
            }
        };
        self.values[v.0].gradient = Gradient::Flowed { tensor: sum.0, owned: sum.1 };
    }

    /// Where an op that can accumulate writes its contribution to the gradient of `v`, and whether it
    /// must add to what is there. `None` when nothing flows to `v`.
    fn target(&mut self, v: Var) -> Option<(TensorRef, bool)> {
        let (tensor, accumulate) = match &self.values[v.0].gradient {
            Gradient::Constant => return None,
            Gradient::Flowed { tensor, owned: true } => (tensor.clone(), true),
            Gradient::Parameter { tensor, written } => {
                let (tensor, accumulate) = (tensor.clone(), *written);
                self.values[v.0].gradient = Gradient::Parameter { tensor: tensor.clone(), written: true };
                return Some((tensor, accumulate));
            }
            Gradient::Flowed { tensor: old, owned: false } => {
                let old = old.clone();
                let copy = self.graph.temporary(old.dtype, &old.shape);
                self.graph.push(Op::copy(old, copy.clone()));
                (copy, true)
            }
            Gradient::Awaited => {
                let x = self.values[v.0].tensor.clone();
                (self.graph.temporary(x.dtype, &x.shape), false)
            }
        };
        self.values[v.0].gradient = Gradient::Flowed { tensor: tensor.clone(), owned: true };
        Some((tensor, accumulate))
    }
}
