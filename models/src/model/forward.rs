//! The transformer's forward pass, on a tape.

use super::tree::{AttentionWeights, FeedForwardWeights, GroupedQuery, Layer, Linear, Mlp, Moe, Weights};
use crate::config::{GroupScore, ModelConfig, MoeConfig, RouterScores};
use crate::tape::{Choices, RopeTables, Routing, Tape, Var};
use halite_hal::{Attention, Op, Router, ScoreFn, TensorRef};

/// What a forward pass reads besides weights.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Token ids, i32 `[tokens]`.
    pub ids: TensorRef,
    /// Rotary tables and the position of each token.
    pub rope: RopeTables,
    /// Sequences as [`halite_hal::OpKind::Attention`] wants them, i32 `[n, 4]`, of a batch without a cache.
    pub seqs: TensorRef,
    /// Where keys and values go, and where those of earlier tokens are: one for each layer.
    pub cache: Option<Vec<LayerCache>>,
    /// Rows whose logits are wanted, i32 `[rows]`; all without it.
    pub select: Option<TensorRef>,
    /// The experts of each layer that has some, first to last, where the router isn't to choose them.
    pub choices: Option<Vec<Choices>>,
}

/// What a layer keeps of the tokens so far.
#[derive(Clone, Debug)]
pub enum Store {
    /// Keys `[rows, kv_heads, d]` and values `[rows, kv_heads, d]`, of a block type with `d` filled up by zeros to whole
    /// blocks. Rows may lie apart.
    KeyValue(TensorRef, TensorRef),
    /// The normed latent vector and the rotated common part of the keys, `[rows, kv_lora_rank + rotary_dim]`, each
    /// filled up likewise.
    Latent(TensorRef),
}

impl Store {
    /// Its tensors.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorRef> {
        let (first, second) = match self {
            Store::KeyValue(keys, values) => (keys, Some(values)),
            Store::Latent(latent) => (latent, None),
        };
        [first].into_iter().chain(second)
    }
}

/// A layer's cache, and where the tokens of a batch go in it.
#[derive(Clone, Debug)]
pub struct LayerCache {
    /// The tokens so far.
    pub store: Store,
    /// Row of each token, i32 `[tokens]`; outside the store for one that is not kept.
    pub rows: TensorRef,
    /// Sequences with their keys in the store, i32 `[n, 4]`.
    pub seqs: TensorRef,
}

/// What a forward pass gives.
#[derive(Clone, Debug)]
pub struct Output {
    /// `[tokens or selected rows, vocab]`.
    pub logits: Var,
    /// The routing of each layer with experts: `(layer, routing)`.
    pub routing: Vec<(usize, Routing)>,
}

/// The router attributes of a layer with experts.
pub fn router(moe: &MoeConfig) -> Router {
    let scores = match moe.scores {
        RouterScores::Softmax => ScoreFn::Softmax,
        RouterScores::Sigmoid => ScoreFn::Sigmoid,
    };
    let group_score = match moe.group_score {
        GroupScore::Max => halite_hal::GroupScore::Max,
        GroupScore::SumTop2 => halite_hal::GroupScore::SumTop2,
    };
    Router::new(scores, moe.num_experts_per_tok)
        .groups(moe.n_group, moe.topk_group, group_score)
        .normalize(moe.norm_topk_prob)
        .scale(moe.routed_scaling_factor as f32)
        .bias(moe.selection_bias)
}

/// Appends the forward pass of the whole model to the tape.
pub fn forward(tape: &mut Tape, config: &ModelConfig, weights: &Weights<Var>, batch: &Batch) -> Output {
    let mut pass = Pass { config, batch, tape, routing: Vec::new() };
    let mut x = pass.tape.embedding(weights.embed, batch.ids.clone());
    for (i, layer) in weights.layers.iter().enumerate() {
        x = pass.layer(i, layer, x);
    }
    if let Some(rows) = &batch.select {
        x = pass.tape.embedding(x, rows.clone());
    }
    let x = pass.tape.rms_norm(x, weights.norm, config.rms_norm_eps as f32);
    let logits = pass.tape.linear(x, weights.head, None);
    Output { logits, routing: pass.routing }
}

pub(super) struct Pass<'a> {
    pub config: &'a ModelConfig,
    pub batch: &'a Batch,
    pub tape: &'a mut Tape,
    routing: Vec<(usize, Routing)>,
}

impl Pass<'_> {
    fn layer(&mut self, i: usize, layer: &Layer<Var>, x: Var) -> Var {
        let eps = self.config.rms_norm_eps as f32;
        let normed = self.tape.rms_norm(x, layer.input_norm, eps);
        let attended = match &layer.attention {
            AttentionWeights::GroupedQuery(w) => self.grouped_query(i, w, normed),
            AttentionWeights::Latent(w) => self.latent(i, w, normed),
        };
        let x = self.tape.add(x, attended);
        let normed = self.tape.rms_norm(x, layer.post_norm, eps);
        let fed = match &layer.feed_forward {
            FeedForwardWeights::Dense(w) => self.mlp(w, normed),
            FeedForwardWeights::Moe(w) => self.moe(i, w, normed),
        };
        self.tape.add(x, fed)
    }

    fn linear(&mut self, x: Var, w: &Linear<Var>) -> Var {
        self.tape.linear(x, w.weight, w.bias)
    }

    /// A projection as heads `[tokens, heads, d]`, normed if the model norms queries and keys.
    fn heads(&mut self, mut y: Var, norm: Option<Var>, heads: usize) -> Var {
        if let Some(norm) = norm {
            y = self.tape.rms_norm(y, norm, self.config.rms_norm_eps as f32);
        }
        let tokens = self.tape.tensor(y).shape[0];
        self.tape.reshape(y, &[tokens, heads, self.config.head_dim])
    }

    fn grouped_query(&mut self, i: usize, w: &GroupedQuery<Var>, x: Var) -> Var {
        let c = self.config;
        let (heads, kv_heads) = (c.num_attention_heads, c.num_key_value_heads);
        // One after another: a device may do products of the same rows at once.
        let [q, k, v] = [&w.q, &w.k, &w.v].map(|w| self.linear(x, w));
        let q = self.heads(q, w.q_norm, heads);
        let k = self.heads(k, w.k_norm, kv_heads);
        let mut v = self.heads(v, None, kv_heads);
        let mut q = self.tape.rope(q, &self.batch.rope);
        let mut k = self.tape.rope(k, &self.batch.rope);
        let mut seqs = &self.batch.seqs;
        if let Some(cache) = self.batch.cache.as_ref().map(|layers| &layers[i])
            && let Store::KeyValue(keys, values) = &cache.store
        {
            seqs = &cache.seqs;
            [q, k, v] = [q, k, v].map(|x| self.filled_up(x, keys.shape[2]));
            for (new, store) in [(&mut k, keys), (&mut v, values)] {
                let fresh = self.tape.tensor(*new);
                // Rows of a store may lie apart.
                let rows = |t: TensorRef| {
                    let (shape, pitch) = ([t.shape[0], t.shape[1] * t.shape[2]], t.strides[0]);
                    t.with_layout(&shape, &[pitch, 1])
                };
                let (from, into) = (rows(fresh), rows(store.clone()));
                self.tape.graph.push(Op::scatter(from, cache.rows.clone(), into, false));
                *new = self.tape.constant(store.clone());
            }
        }
        let kind = Attention::causal(c.attention_scale() as f32);
        let kind = kind.window(c.window(i).map(|w| u32::try_from(w).unwrap_or(u32::MAX)));
        let o = self.tape.attention(kind, [q, k, v], seqs.clone(), w.sinks);
        let tokens = self.tape.tensor(o).shape[0];
        let o = self.first_columns(o, c.head_dim);
        let o = self.tape.reshape(o, &[tokens, heads * c.head_dim]);
        self.linear(o, &w.o)
    }

    fn mlp(&mut self, w: &Mlp<Var>, x: Var) -> Var {
        let gate = self.tape.linear(x, w.gate, None);
        let up = self.tape.linear(x, w.up, None);
        let y = self.tape.swiglu(gate, up);
        self.tape.linear(y, w.down, None)
    }

    fn moe(&mut self, i: usize, w: &Moe<Var>, x: Var) -> Var {
        let logits = self.linear(x, &w.router);
        let routing = match &self.batch.choices {
            Some(layers) => self.tape.route_to(w.kind, logits, &layers[self.routing.len()]),
            None => {
                let bias = w.bias.map(|b| self.tape.tensor(b));
                self.tape.route(w.kind, logits, bias)
            }
        };
        let rows = self.tape.permute(x, &routing);
        let bias = |of: fn(&Mlp<Var>) -> Var| w.expert_bias.as_ref().map(of);
        let gate = self.tape.grouped_linear(rows, w.experts.gate, bias(|b| b.gate), &routing);
        let up = self.tape.grouped_linear(rows, w.experts.up, bias(|b| b.up), &routing);
        let y = match self.config.moe.as_ref().and_then(|m| m.swiglu_limit) {
            Some(limit) => self.tape.clamped_swiglu(gate, up, limit as f32),
            None => self.tape.swiglu(gate, up),
        };
        let y = self.tape.grouped_linear(y, w.experts.down, bias(|b| b.down), &routing);
        let mut y = self.tape.combine(y, &routing);
        if let Some(shared) = &w.shared {
            let mut s = self.mlp(shared, x);
            if let Some(gate) = w.shared_gate {
                let gate = self.tape.linear(x, gate, None);
                s = self.tape.gate_rows(s, gate);
            }
            y = self.tape.add(y, s);
        }
        self.routing.push((i, routing));
        y
    }
}
