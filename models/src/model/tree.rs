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
    pub router: T,
    /// Selection bias, f32 `[experts]`; not trained by gradient.
    pub bias: Option<T>,
    /// Routed experts, stacked.
    pub experts: Mlp<T>,
    /// Shared experts, as one network.
    pub shared: Option<Mlp<T>>,
}

/// The feed-forward part of a layer.
#[derive(Clone, Debug)]
pub enum FeedForwardWeights<T> {
    /// One network.
    Dense(Mlp<T>),
    /// Routed and shared experts.
    Moe(Moe<T>),
}

/// One decoder layer.
#[derive(Clone, Debug)]
pub struct Layer<T> {
    /// Norm before attention, `[hidden]`.
    pub input_norm: T,
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

impl<T> Weights<T> {
    /// The same tree over other handles.
    pub fn map<U>(&self, mut f: impl FnMut(&T) -> U) -> Weights<U> {
        let f = &mut f;
        let layers = self.layers.iter().map(|l| Layer {
            input_norm: f(&l.input_norm),
            q: l.q.map(f),
            k: l.k.map(f),
            v: l.v.map(f),
            o: l.o.map(f),
            q_norm: l.q_norm.as_ref().map(&mut *f),
            k_norm: l.k_norm.as_ref().map(&mut *f),
            post_norm: f(&l.post_norm),
            feed_forward: match &l.feed_forward {
                FeedForwardWeights::Dense(m) => FeedForwardWeights::Dense(m.map(f)),
                FeedForwardWeights::Moe(m) => FeedForwardWeights::Moe(Moe {
                    kind: m.kind,
                    router: f(&m.router),
                    bias: m.bias.as_ref().map(&mut *f),
                    experts: m.experts.map(f),
                    shared: m.shared.as_ref().map(|s| s.map(f)),
                }),
            },
        });
        let layers = layers.collect();
        Weights { embed: f(&self.embed), layers, norm: f(&self.norm), head: f(&self.head) }
    }
}
