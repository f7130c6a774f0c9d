//! Which weights a model has, as a tree over any handle: an index into the parameter table, a value on
//! a tape.

use halite_hal::Router;

/// Gate, up and down projection of a SwiGLU, of one network or stacked over experts.
#[derive(Clone, Debug)]
pub struct Mlp<T> {
    /// `[(experts,) intermediate, hidden]`.
    pub gate: T,
    /// `[(experts,) intermediate, hidden]`.
    pub up: T,
    /// `[(experts,) hidden, intermediate]`.
    pub down: T,
}

/// A projection.
#[derive(Clone, Debug)]
pub struct Linear<T> {
    /// `[out, in]`.
    pub weight: T,
    /// `[out]`.
    pub bias: Option<T>,
}

/// The mixture of experts of a layer.
#[derive(Clone, Debug)]
pub struct Moe<T> {
    /// How tokens choose experts.
    pub kind: Router,
    /// `[experts, hidden]`.
    pub router: Linear<T>,
    /// Selection bias, f32 `[experts]`; not trained by gradient.
    pub bias: Option<T>,
    /// Routed experts, stacked.
    pub experts: Mlp<T>,
    /// Their biases, `[experts, intermediate]`, for down `[experts, hidden]`.
    pub expert_bias: Option<Mlp<T>>,
    /// Shared experts, as one network.
    pub shared: Option<Mlp<T>>,
    /// Weighs what the shared experts give, `[1, hidden]`.
    pub shared_gate: Option<T>,
}

/// The feed-forward part of a layer.
#[derive(Clone, Debug)]
pub enum FeedForwardWeights<T> {
    /// One network.
    Dense(Mlp<T>),
    /// Routed and shared experts.
    Moe(Moe<T>),
}

/// Attention whose query heads share key/value heads.
#[derive(Clone, Debug)]
pub struct GroupedQuery<T> {
    /// `[heads·d, hidden]`.
    pub q: Linear<T>,
    /// `[kv_heads·d, hidden]`.
    pub k: Linear<T>,
    /// `[kv_heads·d, hidden]`.
    pub v: Linear<T>,
    /// `[hidden, heads·d]`.
    pub o: Linear<T>,
    /// Norm of queries, `[d]` or `[heads·d]`.
    pub q_norm: Option<T>,
    /// Norm of keys, `[d]` or `[kv_heads·d]`.
    pub k_norm: Option<T>,
    /// Scores without a value, `[heads]`.
    pub sinks: Option<T>,
}

/// Attention by way of a latent vector of width `rank`; `d` is a query's width, `r` of it rotary, `dv` a value's.
#[derive(Clone, Debug)]
pub struct LatentAttention<T> {
    /// What compresses queries `[q_rank, hidden]`, and the norm of the result `[q_rank]`.
    pub q_down: Option<(T, T)>,
    /// Queries `[heads·d, hidden or q_rank]`.
    pub q: T,
    /// The latent vector and the rotary part of the keys `[rank + r, hidden]`.
    pub latent: T,
    /// Norm of the latent vector `[rank]`.
    pub norm: T,
    /// For each head keys, then values, from the latent vector `[heads·(d − r + dv), rank]`.
    pub up: T,
    /// `[hidden, heads·dv]`.
    pub o: T,
}

/// The attention part of a layer.
#[derive(Clone, Debug)]
pub enum AttentionWeights<T> {
    /// Heads with keys and values of their own.
    GroupedQuery(GroupedQuery<T>),
    /// Keys and values from a latent vector.
    Latent(LatentAttention<T>),
}

/// One decoder layer.
#[derive(Clone, Debug)]
pub struct Layer<T> {
    /// Norm before attention, `[hidden]`.
    pub input_norm: T,
    /// The attention part.
    pub attention: AttentionWeights<T>,
    /// Norm before the feed-forward part, `[hidden]`.
    pub post_norm: T,
    /// The feed-forward part.
    pub feed_forward: FeedForwardWeights<T>,
}

/// A whole model.
#[derive(Clone, Debug)]
pub struct Weights<T> {
    /// `[vocab, hidden]`.
    pub embed: T,
    /// The layers, first to last.
    pub layers: Vec<Layer<T>>,
    /// Final norm, `[hidden]`.
    pub norm: T,
    /// `[vocab, hidden]`; the embedding when tied.
    pub head: T,
}

impl<T> Mlp<T> {
    fn map<U>(&self, f: &mut impl FnMut(&T) -> U) -> Mlp<U> {
        Mlp { gate: f(&self.gate), up: f(&self.up), down: f(&self.down) }
    }
}

impl<T> Linear<T> {
    fn map<U>(&self, f: &mut impl FnMut(&T) -> U) -> Linear<U> {
        Linear { weight: f(&self.weight), bias: self.bias.as_ref().map(f) }
    }
}

impl<T> AttentionWeights<T> {
    fn map<U>(&self, f: &mut impl FnMut(&T) -> U) -> AttentionWeights<U> {
        match self {
            AttentionWeights::GroupedQuery(a) => AttentionWeights::GroupedQuery(GroupedQuery {
                q: a.q.map(f),
                k: a.k.map(f),
                v: a.v.map(f),
                o: a.o.map(f),
                q_norm: a.q_norm.as_ref().map(&mut *f),
                k_norm: a.k_norm.as_ref().map(&mut *f),
                sinks: a.sinks.as_ref().map(f),
            }),
            AttentionWeights::Latent(a) => AttentionWeights::Latent(LatentAttention {
                q_down: a.q_down.as_ref().map(|(down, norm)| (f(down), f(norm))),
                q: f(&a.q),
                latent: f(&a.latent),
                norm: f(&a.norm),
                up: f(&a.up),
                o: f(&a.o),
            }),
        }
    }
}

impl<T> FeedForwardWeights<T> {
    fn map<U>(&self, f: &mut impl FnMut(&T) -> U) -> FeedForwardWeights<U> {
        match self {
            FeedForwardWeights::Dense(m) => FeedForwardWeights::Dense(m.map(f)),
            FeedForwardWeights::Moe(m) => FeedForwardWeights::Moe(Moe {
                kind: m.kind,
                router: m.router.map(f),
                bias: m.bias.as_ref().map(&mut *f),
                experts: m.experts.map(f),
                expert_bias: m.expert_bias.as_ref().map(|b| b.map(f)),
                shared: m.shared.as_ref().map(|s| s.map(f)),
                shared_gate: m.shared_gate.as_ref().map(f),
            }),
        }
    }
}

impl<T> Weights<T> {
    /// The same tree over other handles.
    pub fn map<U>(&self, mut f: impl FnMut(&T) -> U) -> Weights<U> {
        let f = &mut f;
        let layers = self.layers.iter().map(|l| Layer {
            input_norm: f(&l.input_norm),
            attention: l.attention.map(f),
            post_norm: f(&l.post_norm),
            feed_forward: l.feed_forward.map(f),
        });
        let layers = layers.collect();
        Weights { embed: f(&self.embed), layers, norm: f(&self.norm), head: f(&self.head) }
    }
}
