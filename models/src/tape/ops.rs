//! The forward ops of a tape. Shapes are checked by the graph when it is recorded.

use super::{Node, Tape, Var};
use halite_hal::{Attention, BinaryFn, DType, Op, ReduceFn, Router, ScoreFn, TensorRef, UnaryFn};

/// The routing of a batch of tokens: who goes where, and with which weight.
#[derive(Clone, Debug)]
pub struct Routing {
    /// Chosen experts, i32 `[tokens, k]`.
    pub experts: TensorRef,
    /// Their weights, f32 `[tokens, k]`.
    pub weights: Var,
    /// What the router said, `[tokens, experts]`.
    pub logits: Var,
    /// Rows of expert `e` are `offsets[e]..offsets[e + 1]`, i32 `[experts + 1]`.
    pub offsets: TensorRef,
    /// Token of each row, i32 `[tokens·k]`.
    pub rows: TensorRef,
    /// Row of each assignment, i32 `[tokens, k]`.
    pub positions: TensorRef,
}

/// Experts that were chosen elsewhere, for [`Tape::route_to`].
#[derive(Clone, Debug)]
pub struct Choices {
    /// Chosen experts, i32 `[tokens, k]`.
    pub experts: TensorRef,
    /// Where their scores lie among those of the batch, i32 `[tokens·k]`, as [`Choices::places`] says.
    pub places: TensorRef,
}

impl Choices {
    /// Where the scores of `chosen [tokens, k]` lie in `[tokens, experts]`: token · experts + expert.
    pub fn places(chosen: &[i32], k: usize, experts: usize) -> impl Iterator<Item = i32> {
        chosen.iter().enumerate().map(move |(i, &e)| (i / k * experts) as i32 + e)
    }
}

/// Tables and positions of a rotary embedding.
#[derive(Clone, Debug)]
pub struct RopeTables {
    /// Cosines, f32 `[positions, r/2]`.
    pub cos: TensorRef,
    /// Sines, f32 `[positions, r/2]`.
    pub sin: TensorRef,
    /// Position of each token, i32 `[tokens]`.
    pub positions: TensorRef,
    /// Whether pairs are neighbours.
    pub interleaved: bool,
}

/// A tensor as rows; one that has this shape may be strided.
pub(super) fn as_rows(t: TensorRef, rows: &[usize; 2]) -> TensorRef {
    if *t.shape == *rows { t } else { t.reshape(rows) }
}

impl Tape {
    /// `x [tokens, in]` times `w [out, in]` transposed, plus `bias [out]` → `[tokens, out]`.
    pub fn linear(&mut self, x: Var, w: Var, bias: Option<Var>) -> Var {
        let (tx, tw) = (self.tensor(x), self.tensor(w));
        let ty = self.temporary(tx.dtype, &[tx.shape[0], tw.shape[0]]);
        let b = bias.map(|b| self.tensor(b));
        self.graph.push(Op::matmul_with(tx, tw.transpose(0, 1), b, ty.clone(), false));
        let inputs: Vec<Var> = [x, w].into_iter().chain(bias).collect();
        let y = self.output(ty, &inputs);
        self.note(y, Node::Linear { x, w, bias, y });
        y
    }

    /// Rows of `x [rows, in]` times their expert's `w [experts, out, in]` transposed, plus its
    /// `bias [experts, out]` → `[rows, out]`.
    pub fn grouped_linear(&mut self, x: Var, w: Var, bias: Option<Var>, routing: &Routing) -> Var {
        let (tx, tw) = (self.tensor(x), self.tensor(w));
        let ty = self.temporary(tx.dtype, &[tx.shape[0], tw.shape[1]]);
        let offsets = routing.offsets.clone();
        let b = bias.map(|b| self.tensor(b));
        self.graph.push(Op::grouped_matmul(tx, tw.transpose(1, 2), offsets.clone(), b, ty.clone(), false));
        let inputs: Vec<Var> = [x, w].into_iter().chain(bias).collect();
        let y = self.output(ty, &inputs);
        self.note(y, Node::GroupedLinear { x, w, bias, offsets, y });
        y
    }

    /// Rows of `table [vocab, hidden]`, of any float or block type, for `ids [tokens]` → f32 `[tokens, hidden]`.
    pub fn embedding(&mut self, table: Var, ids: TensorRef) -> Var {
        let tt = self.tensor(table);
        let ty = self.temporary(DType::F32, &[ids.shape[0], tt.shape[1]]);
        self.graph.push(Op::embedding(tt, ids.clone(), ty.clone()));
        let y = self.output(ty, &[table]);
        self.note(y, Node::Embedding { table, ids, y });
        y
    }

    /// RMS norm over groups of as many elements as `w` has: whole rows, or each head of a row.
    pub fn rms_norm(&mut self, x: Var, w: Var, eps: f32) -> Var {
        let (tx, tw) = (self.tensor(x), self.tensor(w));
        let rows = [tx.elems() / tw.elems().max(1), tw.elems()];
        let ty = self.temporary(tx.dtype, &tx.shape);
        let rstd = self.temporary(DType::F32, &rows[..1]);
        self.graph.push(Op::rms_norm(as_rows(tx, &rows), tw, ty.clone().reshape(&rows), rstd.clone(), eps));
        let y = self.output(ty, &[x, w]);
        self.note(y, Node::RmsNorm { x, w, rstd, y });
        y
    }

    /// Rotates `x [tokens, heads, d]` by position.
    pub fn rope(&mut self, x: Var, tables: &RopeTables) -> Var {
        let tx = self.tensor(x);
        let ty = self.temporary(tx.dtype, &tx.shape);
        let RopeTables { cos, sin, positions, interleaved } = tables.clone();
        let mut op = Op::rope(tx, cos.clone(), sin.clone(), positions.clone(), ty.clone());
        op.kind = halite_hal::OpKind::Rope { inverse: false, interleaved };
        self.graph.push(op);
        let y = self.output(ty, &[x]);
        self.note(y, Node::Rope { x, tables: [cos, sin, positions], interleaved, y });
        y
    }

    /// Attention of `q [tokens, heads, d]` over `k [kv, kv_heads, d]` and `v [kv, kv_heads, dv]`, in the
    /// sequences of `seqs [n, 4]` → `[tokens, heads, dv]`. With `sinks [heads]` each softmax has one more
    /// column, of that score and no value.
    pub fn attention(
        &mut self,
        kind: Attention,
        [q, k, v]: [Var; 3],
        seqs: TensorRef,
        sinks: Option<Var>,
    ) -> Var {
        let (tq, tk, tv) = (self.tensor(q), self.tensor(k), self.tensor(v));
        let to = self.temporary(tq.dtype, &[tq.shape[0], tq.shape[1], tv.shape[2]]);
        let mut lse = self.temporary(DType::F32, &tq.shape[..2]);
        self.graph.push(Op::attention(kind, tq, tk, tv, seqs.clone(), to.clone(), lse.clone()));
        let sinks = sinks.map(|s| (s, self.tensor(s)));
        let sinks = sinks.map(|(s, scores)| (s, self.sink(&to, &lse, &scores)));
        let inputs: Vec<Var> = [q, k, v].into_iter().chain(sinks.as_ref().map(|s| s.0)).collect();
        let o = self.output(to, &inputs);
        // Its own gradient reads it too.
        self.values[o.0].uses += 1;
        if let Some((_, share)) = &sinks
            && self.needs_gradient(o)
        {
            lse = self.sunk_lse(&lse, share);
        }
        self.note(o, Node::Attention { kind, q, k, v, seqs, sinks, lse, o });
        o
    }

    /// `silu(gate) · up`.
    pub fn swiglu(&mut self, gate: Var, up: Var) -> Var {
        let (tg, tu) = (self.tensor(gate), self.tensor(up));
        let ty = self.temporary(tg.dtype, &tg.shape);
        self.graph.push(Op::swiglu(tg, tu, ty.clone()));
        let y = self.output(ty, &[gate, up]);
        self.note(y, Node::SwiGlu { gate, up, y });
        y
    }

    /// `a + b`.
    pub fn add(&mut self, a: Var, b: Var) -> Var {
        let (ta, tb) = (self.tensor(a), self.tensor(b));
        let ty = self.temporary(ta.dtype, &ta.shape);
        self.graph.push(Op::binary(BinaryFn::Add, ta, tb, ty.clone()));
        let y = self.output(ty, &[a, b]);
        self.note(y, Node::Add { a, b, y });
        y
    }

    /// The same elements in another shape; no copy.
    pub fn reshape(&mut self, x: Var, shape: &[usize]) -> Var {
        let ty = self.tensor(x).reshape(shape);
        let y = self.output(ty, &[x]);
        self.values[y.0].view_of = Some(x);
        self.note(y, Node::Reshape { x, y });
        y
    }

    /// Chooses experts from `logits [tokens, experts]` and sorts the assignments by expert.
    pub fn route(&mut self, kind: Router, logits: Var, bias: Option<TensorRef>) -> Routing {
        let tl = self.tensor(logits);
        let chosen = self.temporary(DType::I32, &[tl.shape[0], kind.top_k]);
        let weights = self.temporary(DType::F32, &[tl.shape[0], kind.top_k]);
        self.graph.push(Op::router(kind, tl, bias, chosen.clone(), weights.clone()));
        self.assign(kind, logits, chosen, weights)
    }

    /// [`Tape::route`] with the experts already chosen: only their weights come from `logits [tokens, experts]`,
    /// by the same formula.
    pub fn route_to(&mut self, kind: Router, logits: Var, choices: &Choices) -> Routing {
        let tl = self.tensor(logits);
        let tokens = tl.shape[0];
        let scores = self.temporary(DType::F32, &tl.shape);
        self.graph.push(match kind.scores {
            ScoreFn::Softmax => Op::softmax(tl, scores.clone()),
            _ => Op::unary(UnaryFn::Sigmoid, tl, scores.clone()),
        });
        let weights = self.temporary(DType::F32, &[tokens, kind.top_k]);
        let column = |t: &TensorRef| t.clone().reshape(&[t.elems(), 1]);
        self.graph.push(Op::embedding(column(&scores), choices.places.clone(), column(&weights)));
        let affine = |scale, shift| UnaryFn::Affine { scale, shift };
        if kind.normalize {
            let sum = self.temporary(DType::F32, &[tokens]);
            self.graph.push(Op::reduce(ReduceFn::Sum, weights.clone(), sum.clone(), false));
            self.graph.push(Op::unary(affine(1.0.into(), 1e-20.into()), sum.clone(), sum.clone()));
            let sum = column(&sum).broadcast(&weights.shape);
            self.graph.push(Op::binary(BinaryFn::Div, weights.clone(), sum, weights.clone()));
        }
        self.graph.push(Op::unary(affine(kind.scale, 0.0.into()), weights.clone(), weights.clone()));
        self.assign(kind, logits, choices.experts.clone(), weights)
    }

    /// Sorts the assignments of `chosen [tokens, k]` by expert.
    fn assign(&mut self, kind: Router, logits: Var, chosen: TensorRef, weights: TensorRef) -> Routing {
        let shape = self.tensor(logits).shape;
        let (tokens, experts) = (shape[0], shape[1]);
        let offsets = self.temporary(DType::I32, &[experts + 1]);
        let rows = self.temporary(DType::I32, &[tokens * kind.top_k]);
        let positions = self.temporary(DType::I32, &[tokens, kind.top_k]);
        self.graph.push(Op::expert_permutation(
            chosen.clone(),
            offsets.clone(),
            rows.clone(),
            positions.clone(),
        ));
        let weights = self.output(weights, &[logits]);
        self.note(weights, Node::Router { kind, logits, experts: chosen.clone(), weights });
        Routing { experts: chosen, weights, logits, offsets, rows, positions }
    }

    /// Lets the load-balancing loss `coefficient · E · Σ_e f_e P_e` take part in the gradient: `f_e` is the
    /// mean number of a token's assignments that expert `e` gets, `P_e` its mean softmax probability
    /// (Fedus et al. 2021, eq. 4, for top-k as in Mixtral). Its value isn't computed.
    pub fn balance(&mut self, routing: &Routing, coefficient: f64) {
        let shape = self.tensor(routing.logits).shape;
        let (tokens, experts) = (shape[0] as f64, shape[1] as f64);
        self.values[routing.logits.0].uses += 1;
        // d/dP[t, e] = coefficient · E · (count_e / tokens) / tokens.
        let factor = (coefficient * experts / tokens / tokens) as f32;
        let (logits, offsets) = (routing.logits, routing.offsets.clone());
        self.note(logits, Node::Balance { logits, offsets, factor });
    }

    /// Rows of `x [tokens, h]` in the order of experts → `[tokens·k, h]`.
    pub fn permute(&mut self, x: Var, routing: &Routing) -> Var {
        let tx = self.tensor(x);
        let ty = self.temporary(tx.dtype, &[routing.rows.shape[0], tx.shape[1]]);
        self.graph.push(Op::embedding(tx, routing.rows.clone(), ty.clone()));
        let y = self.output(ty, &[x]);
        self.note(y, Node::Permute { x, positions: routing.positions.clone(), y });
        y
    }

    /// Weighted sum of each token's rows of `x [tokens·k, h]` → `[tokens, h]`.
    pub fn combine(&mut self, x: Var, routing: &Routing) -> Var {
        let (tx, tw) = (self.tensor(x), self.tensor(routing.weights));
        let ty = self.temporary(tx.dtype, &[routing.positions.shape[0], tx.shape[1]]);
        let positions = routing.positions.clone();
        self.graph.push(Op::combine(tx, positions.clone(), Some(tw), ty.clone(), false));
        let y = self.output(ty, &[x, routing.weights]);
        self.note(y, Node::Combine { x, positions, weights: routing.weights, y });
        y
    }

    /// Cross-entropy of each row of `logits [tokens, vocab]` against `target [tokens]` → f32 `[tokens]`.
    pub fn cross_entropy(&mut self, logits: Var, target: TensorRef) -> Var {
        let tl = self.tensor(logits);
        let loss = self.temporary(DType::F32, &tl.shape[..1]);
        let lse = self.temporary(DType::F32, &tl.shape[..1]);
        self.graph.push(Op::cross_entropy(tl, target.clone(), loss.clone(), lse.clone()));
        let loss = self.output(loss, &[logits]);
        self.note(loss, Node::CrossEntropy { logits, target, lse, loss });
        loss
    }
}
