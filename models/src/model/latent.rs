//! Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1).
//!
//! Without a cache, keys and values are expanded from the latent vectors, and everything has a gradient. With
//! one, what is kept of a token is its latent vector and the rotary part of its keys; the projections from the
//! latent vector are absorbed into query and result, so that all heads attend over one key a token, and its
//! first `kv_lora_rank` elements are the value.

use super::forward::{LayerCache, Pass, Store};
use super::tree::LatentAttention;
use crate::config::AttentionKind;
use crate::tape::Var;
use halite_hal::{Attention, DType, Op, OpKind, TensorRef};

impl Pass<'_> {
    /// Attention of layer `i` on `x [tokens, hidden]`, already normed → `[tokens, hidden]`.
    pub(super) fn latent(&mut self, i: usize, w: &LatentAttention<Var>, x: Var) -> Var {
        let c = self.config;
        let AttentionKind::Latent(latent) = c.attention else {
            unreachable!("the weights are those of latent attention")
        };
        let (heads, turned, rank, eps) =
            (c.num_attention_heads, c.rope.rotary_dim, latent.kv_lora_rank, latent.norm_eps as f32);
        let tokens = self.tape.tensor(x).shape[0];

        let compressed = match w.q_down {
            Some((down, norm)) => {
                let y = self.tape.linear(x, down, None);
                self.tape.rms_norm(y, norm, eps)
            }
            None => x,
        };
        let q = self.tape.linear(compressed, w.q, None);
        let q = self.tape.reshape(q, &[tokens, heads, c.head_dim]);
        let both = self.tape.linear(x, w.latent, None);
        let vector = self.tape.slice(both, 1, 0, rank);
        let vector = self.tape.rms_norm(vector, w.norm, eps);
        let both = self.tape.reshape(both, &[tokens, 1, rank + turned]);
        let k_turned = self.tape.slice(both, 2, rank, turned);
        let k_turned = self.tape.rope(k_turned, &self.batch.rope);

        let o = match self.batch.cache.as_ref().map(|layers| &layers[i]) {
            Some(LayerCache { store: Store::Latent(store), rows, seqs }) => {
                let vector = self.tape.reshape(vector, &[tokens, 1, rank]);
                let mut start = 0;
                for part in [vector, k_turned] {
                    let width = self.tape.tensor(part).shape[2].next_multiple_of(store.dtype.block_elems());
                    let part = self.filled_up(part, width);
                    let part = self.tape.tensor(part).reshape(&[tokens, width]);
                    let into = store.clone().slice(1, start, width);
                    self.tape.graph.push(Op::scatter(part, rows.clone(), into, false));
                    start += width;
                }
                self.absorbed(q, store.clone(), seqs.clone(), self.tape.tensor(w.up))
            }
            _ => self.expanded(q, vector, k_turned, w.up),
        };
        let o = self.tape.reshape(o, &[tokens, heads * latent.v_head_dim]);
        self.tape.linear(o, w.o, None)
    }

    fn kind(&self) -> Attention {
        Attention::causal(self.config.attention_scale() as f32)
    }

    /// `q [tokens, heads, d]` over keys and values of every head → `[tokens, heads, dv]`.
    fn expanded(&mut self, q: Var, vector: Var, k_turned: Var, up: Var) -> Var {
        let c = self.config;
        let (heads, turned, dv) = (c.num_attention_heads, c.rope.rotary_dim, c.value_dim());
        let plain = c.head_dim - turned;
        let tokens = self.tape.tensor(q).shape[0];
        let q_plain = self.tape.slice(q, 2, 0, plain);
        let q_turned = self.tape.slice(q, 2, plain, turned);
        let q_turned = self.tape.rope(q_turned, &self.batch.rope);
        let q = self.tape.concat(q_plain, q_turned);
        let kv = self.tape.linear(vector, up, None);
        let kv = self.tape.reshape(kv, &[tokens, heads, plain + dv]);
        let k = self.tape.slice(kv, 2, 0, plain);
        let k = self.tape.concat(k, k_turned);
        let v = self.tape.slice(kv, 2, plain, dv);
        self.tape.attention(self.kind(), [q, k, v], self.batch.seqs.clone(), None)
    }

    /// `q [tokens, heads, d]` over the latent vectors of `store [capacity, rank + r]`, each part perhaps filled up by
    /// zeros, by way of `up [heads·(d − r + dv), rank]` → `[tokens, heads, dv]`. It has no gradient.
    fn absorbed(&mut self, q: Var, store: TensorRef, seqs: TensorRef, up: TensorRef) -> Var {
        let c = self.config;
        let (heads, turned, dv) = (c.num_attention_heads, c.rope.rotary_dim, c.value_dim());
        let plain = c.head_dim - turned;
        let (capacity, width) = (store.shape[0], store.shape[1]);
        let rank = up.shape[1];
        let first = rank.next_multiple_of(store.dtype.block_elems());
        let q = self.tape.tensor(q);
        let tokens = q.shape[0];
        let up = up.reshape(&[heads, plain + dv, rank]);
        let (to_keys, to_values) = (up.clone().slice(1, 0, plain), up.slice(1, plain, dv));

        // [heads, tokens, d − r] · [heads, d − r, rank], then the rotary part.
        let query = self.tape.temporary(DType::F32, &[tokens, heads, width]);
        for zeros in [rank..first, first + turned..width] {
            if !zeros.is_empty() {
                let columns = query.clone().slice(2, zeros.start, zeros.len());
                self.tape.graph.push(Op::fill(0.0, columns));
            }
        }
        let into = query.clone().slice(2, 0, rank).transpose(0, 1);
        let from = q.clone().slice(2, 0, plain).transpose(0, 1);
        self.tape.graph.push(Op::matmul_with(from, to_keys, None, into, false));
        let rope = &self.batch.rope;
        let inputs =
            vec![q.slice(2, plain, turned), rope.cos.clone(), rope.sin.clone(), rope.positions.clone()];
        let kind = OpKind::Rope { inverse: false, interleaved: rope.interleaved };
        self.tape.graph.push(Op::new(kind, inputs, vec![query.clone().slice(2, first, turned)]));

        // Rows may lie apart.
        let pitch = store.strides[0];
        let keys = store.with_layout(&[capacity, 1, width], &[pitch, width, 1]);
        let values = keys.clone().slice(2, 0, first);
        let [query, keys, values] = [query, keys, values].map(|t| self.tape.constant(t));
        let sums = self.tape.attention(self.kind(), [query, keys, values], seqs, None);

        // [heads, tokens, rank] · [heads, rank, dv].
        let sums = self.tape.tensor(sums).slice(2, 0, rank).transpose(0, 1);
        let o = self.tape.temporary(DType::F32, &[tokens, heads, dv]);
        let into = o.clone().transpose(0, 1);
        self.tape.graph.push(Op::matmul_with(sums, to_values.transpose(1, 2), None, into, false));
        self.tape.constant(o)
    }
}
