//! The op catalogue: attributes, operands, and the meaning of each op in a line or two.
//!
//! The full meaning is the f64 code in [`crate::reference`]. Notation: `x [a, b]` is an operand `x` of
//! that shape; "float" is f32, f16 or bf16; sums are accumulated in f32 (or better) whatever the dtype.
//! Integer operands are i32. Operands may be strided unless an op says otherwise. Values that change
//! from one replay to the next (positions, lengths, learning rate) are operands, never attributes.
//!
//! What an index outside its range means stands at each op. Offsets of experts and rows of `seqs` that
//! contradict their definition are a mistake of the caller's: a device clips them or reports an
//! asynchronous error, and in no case touches other memory.

use super::CustomRef;
use super::function::{BinaryFn, Distribution, GroupScore, ReduceFn, Scalar, ScoreFn, UnaryFn};
use serde::{Deserialize, Serialize};

/// Attributes of [`OpKind::Router`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Router {
    /// How logits become scores.
    pub scores: ScoreFn,
    /// Experts chosen for each token.
    pub top_k: usize,
    /// Number of equal groups that the experts form; 1 for none.
    pub groups: usize,
    /// Groups that experts are chosen from.
    pub top_groups: usize,
    /// How a group is scored.
    pub group_score: GroupScore,
    /// Whether the weights are divided by their sum (+ 1e-20).
    pub normalize: bool,
    /// Factor on the weights, after normalisation.
    pub scale: Scalar,
    /// Whether there is a selection bias input.
    pub bias: bool,
}

impl Router {
    /// `top_k` experts by score, without groups, bias, normalisation or scale.
    pub fn new(scores: ScoreFn, top_k: usize) -> Self {
        Router {
            scores,
            top_k,
            groups: 1,
            top_groups: 1,
            group_score: GroupScore::Max,
            normalize: false,
            scale: Scalar(1.0),
            bias: false,
        }
    }

    /// Divides the weights by their sum.
    pub fn normalize(mut self, yes: bool) -> Self {
        self.normalize = yes;
        self
    }

    /// Multiplies the weights.
    pub fn scale(mut self, scale: f32) -> Self {
        self.scale = Scalar(scale);
        self
    }

    /// Chooses experts from the best `top_groups` of `groups` groups.
    pub fn groups(mut self, groups: usize, top_groups: usize, score: GroupScore) -> Self {
        (self.groups, self.top_groups, self.group_score) = (groups, top_groups, score);
        self
    }

    /// Adds an input that is added to the scores when experts are chosen, and only then.
    pub fn bias(mut self, yes: bool) -> Self {
        self.bias = yes;
        self
    }
}

/// Attributes of [`OpKind::Attention`] and its backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Attention {
    /// Factor on q·k, usually 1/√d.
    pub scale: Scalar,
    /// Whether a query sees only keys up to its own position.
    pub causal: bool,
    /// A query at position p sees keys at positions > p − window.
    pub window: Option<u32>,
}

impl Attention {
    /// Causal attention over everything before.
    pub fn causal(scale: f32) -> Self {
        Attention { scale: Scalar(scale), causal: true, window: None }
    }

    /// Limits attention to the last `window` positions, the query's own included.
    pub fn window(mut self, window: Option<u32>) -> Self {
        self.window = window;
        self
    }

    /// Lets every query see every key of its sequence (window aside).
    pub fn full(mut self) -> Self {
        self.causal = false;
        self
    }
}

/// Attributes of [`OpKind::AdamW`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: Scalar,
    /// Decay of the second moment.
    pub beta2: Scalar,
    /// Added to the root of the second moment.
    pub eps: Scalar,
    /// Decoupled weight decay, multiplied by the learning rate.
    pub weight_decay: Scalar,
}

impl AdamW {
    /// From plain numbers.
    pub fn new(beta1: f32, beta2: f32, eps: f32, weight_decay: f32) -> Self {
        AdamW { beta1: beta1.into(), beta2: beta2.into(), eps: eps.into(), weight_decay: weight_decay.into() }
    }
}

/// An operation and its attributes; the operands are in the order given at each variant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OpKind {
    /// `() → y` any non-block dtype. Every element is `value`, converted as by [`OpKind::Copy`].
    Fill {
        /// The value.
        value: Scalar,
    },
    /// `() → y [.., n]` i32. `y[.., i] = i`.
    Iota,
    /// `x → y`, the same shape. Copies, converting the dtype: to floats by round-to-nearest-even, to
    /// integers by truncation with saturation (NaN gives 0). `x` may be of a block type.
    Copy,
    /// `table [rows, width] (float or block), index [n] → y [n, width]` float.
    /// `y[i] = table[index[i]]`; an index outside `0..rows` gives a zero row.
    Embedding,
    /// `x [n, width], index [n] → y [rows, width]`, floats. Rows are taken in ascending order of `n`; an
    /// index outside `0..rows` is skipped. Without `accumulate`, `y[index[i]] = x[i]` and the indices
    /// must be distinct; with it, `y[index[i]] += x[i]`, summed in f32. Other rows keep what they held.
    ///
    /// Without `accumulate`, `y` may be [`Q8_0`](crate::DType::Q8_0), `width` in whole blocks: each block of 32 is
    /// quantised as [`blocks::encode`](crate::blocks::encode) does, to within what f32 arithmetic may lose. Its rows
    /// lie a multiple of 64 elements apart, so that none shares a word of memory with another.
    Scatter {
        /// Add instead of replace.
        accumulate: bool,
    },
    /// `a [b.., m, k], b [b.., k, n], bias [n]? → c [b.., m, n]`, floats, rank 2 or 3; transposition and
    /// broadcast batches are strides; blocks of `b` lie along `k` or `n`, here and in the grouped product.
    /// `c = a·b + bias`, or `c += …` with `accumulate`.
    Matmul {
        /// Add to what `c` holds.
        accumulate: bool,
        /// Whether there is a bias input.
        bias: bool,
    },
    /// `a [rows, k], b [experts, k, n], offsets [experts + 1], bias [experts, n]? → c [rows, n]`, floats.
    /// Rows `offsets[e]..offsets[e + 1]` of `c` are the same rows of `a` times `b[e]`, plus `bias[e]`.
    /// Offsets ascend from 0 to at most `rows`; rows beyond the last are zero (kept with `accumulate`).
    GroupedMatmul {
        /// Add to what `c` holds.
        accumulate: bool,
        /// Whether there is a bias input.
        bias: bool,
    },
    /// `a [rows, m], b [rows, n], offsets [experts + 1] → c [experts, m, n]`, floats.
    /// `c[e] = a[rows of e]ᵀ · b[rows of e]`: the weight gradient of [`OpKind::GroupedMatmul`]; an expert
    /// without rows gets zeros.
    GroupedMatmulWeight {
        /// Add to what `c` holds.
        accumulate: bool,
    },
    /// `x → y`, the same shape, floats; in place allowed.
    Unary(UnaryFn),
    /// `a, b → y`, the same shape (broadcast by strides), floats; in place on `a` allowed.
    /// `Equal` and `Less` also compare i32 operands.
    Binary(BinaryFn),
    /// `x [.., n] → y [..]`. Floats; `y` is i32 for `ArgMax`. Of nothing, sums and means are 0, a
    /// maximum is the lowest f32, an index is 0. Any other axis is reduced by way of strides.
    Reduce {
        /// The reduction.
        f: ReduceFn,
        /// Add to what `y` holds; only for sums and means.
        accumulate: bool,
    },
    /// `x [.., n] → y [.., n]`, floats; in place allowed. `y = exp(x − max) / Σ exp(x − max)`.
    Softmax,
    /// `y [.., n], dy [.., n] → dx [.., n]`, floats; in place on `dy`. `dx = y · (dy − Σ y·dy)`.
    SoftmaxBackward,
    /// `x [rows, n], w [n] → y [rows, n], rstd [rows]`, floats, `rstd` f32; in place allowed.
    /// `rstd = 1/√(mean(x²) + eps)`, `y = x · rstd · w` (Zhang & Sennrich 2019, eq. 4).
    RmsNorm {
        /// Added to the mean square.
        eps: Scalar,
    },
    /// `dy [rows, n], x [rows, n], w [n], rstd [rows] → dx [rows, n], dw [n]`, floats, `rstd`, `dw` f32;
    /// in place on `dy`. With `g = dy·w`: `dx = rstd · (g − x · rstd² · mean(g·x))`,
    /// `dw = Σ_rows dy·x·rstd`.
    RmsNormBackward {
        /// Add to what `dw` holds.
        accumulate: bool,
    },
    /// `x [tokens, heads, d], cos [positions, r/2] f32, sin [positions, r/2] f32, index [tokens] →
    /// y [tokens, heads, d]`, floats; in place allowed; `r ≤ d`, even. Rotates pairs of the first `r`
    /// elements by the angle of the token's position, the rest is copied (Su et al. 2021, eq. 34). Pair
    /// `i` is `(i, i + r/2)`, or `(2i, 2i + 1)` when interleaved. A position outside the table is clamped.
    Rope {
        /// Rotate backwards: the gradient.
        inverse: bool,
        /// Pairs are neighbours.
        interleaved: bool,
    },
    /// `q [tokens, heads, d], k [kv, kv_heads, d], v [kv, kv_heads, dv], seqs [n, 4] →
    /// o [tokens, heads, dv], lse [tokens, heads] f32`, floats; `k` and `v` may be
    /// [`Q8_0`](crate::DType::Q8_0). Each row of `seqs` is
    /// `(q_start, q_len, kv_start, kv_len)`: query `i` of it stands at position
    /// `p = kv_len − q_len + i`, and key `j` at position `j`. Head `h` uses kv head
    /// `h / (heads / kv_heads)`. `o = softmax(scale · q·k)·v` over the visible keys, `lse` the
    /// natural log of the sum of exponentials. Tokens of no sequence, and queries that see nothing, get
    /// zeros and an `lse` of 0. Sequences must not share query rows.
    Attention(Attention),
    /// `do [tokens, heads, dv], q, k, v, o, lse, seqs → dq, dk, dv` (as q, k, v), floats.
    /// Dao 2023 (FlashAttention-2), algorithm 2. Rows of no sequence get zeros. Sequences may share key
    /// rows; their gradients add up.
    AttentionBackward(Attention),
    /// `gate [.., n], up [.., n] → y [.., n]`, floats; in place on `gate`. `y = gate·sigmoid(gate)·up`
    /// (Shazeer 2020, eq. 6).
    SwiGlu,
    /// `dy, gate, up → dgate, dup`, floats, one shape; `dgate` in place on `gate`, `dup` on `up`.
    SwiGluBackward,
    /// `logits [n, vocab], target [n] → loss [n] f32, lse [n] f32`. `loss = lse − logits[target]`; a
    /// target outside `0..vocab` is ignored: loss 0.
    CrossEntropy,
    /// `logits [n, vocab], target [n], lse [n] f32, dloss [n] f32 → dlogits [n, vocab]`; in place.
    /// `dlogits = dloss · (exp(logits − lse) − onehot(target))`, 0 for ignored targets.
    CrossEntropyBackward,
    /// `logits [tokens, experts], bias [experts]? f32 → experts [tokens, k] i32, weights [tokens, k]
    /// f32`. Scores are a softmax or sigmoid of the logits; the `k` best of score + bias are
    /// chosen, best first, the lower index first among equals, from the best groups where there are groups;
    /// weights are their scores without bias, normalised and scaled. (Mixtral; DeepSeek-V2 §2.1.2, V3 §2.1.2.)
    Router(Router),
    /// `logits [tokens, experts], experts [tokens, k], dweights [tokens, k] f32 → dlogits
    /// [tokens, experts]`: the gradient of the weights with the choice held fixed.
    RouterBackward(Router),
    /// `experts [tokens, k] → offsets [n + 1], rows [tokens·k], positions [tokens, k]`, all i32.
    /// Sorts the assignments by expert, stably: row `r` of the sorted order comes from token `rows[r]`,
    /// assignment `(t, j)` is row `positions[t, j]`, expert `e` has rows `offsets[e]..offsets[e + 1]`. An
    /// assignment outside `0..n` is dropped: position −1. Unused rows at the end have `rows[r] = −1`.
    ExpertPermutation {
        /// Number of experts `n`.
        experts: usize,
    },
    /// `x [rows, h], positions [tokens, k], weights [tokens, k]? f32 → y [tokens, h]`, floats.
    /// `y[t] = Σ_j weights[t, j] · x[positions[t, j]]` in the order of `j`; without weights, 1; positions
    /// outside `0..rows` count nothing.
    Combine {
        /// Whether there are weights.
        weighted: bool,
        /// Add to what `y` holds.
        accumulate: bool,
    },
    /// `dy [tokens, h], x [rows, h], positions [tokens, k], weights [tokens, k] f32 → dx [rows, h],
    /// dweights [tokens, k] f32`: `dx[positions[t, j]] = weights[t, j] · dy[t]`, rows of no position 0;
    /// `dweights[t, j] = dy[t] · x[positions[t, j]]`.
    CombineBackward,
    /// `sum_squares [1] f32 → norm [1] f32, factor [1] f32`. `norm = √sum_squares`,
    /// `factor = min(1, max_norm / (norm + 1e-6))`.
    ClipFactor {
        /// The largest norm allowed.
        max_norm: Scalar,
    },
    /// `grad, hyper [3] f32, factor [1] f32 → param, m f32, v f32`, one shape. `hyper` is the learning
    /// rate, `1 − β₁ᵗ` and `1 − β₂ᵗ`. With `g = grad · factor`: `m = β₁m + (1 − β₁)g`,
    /// `v = β₂v + (1 − β₂)g²`, `param = param·(1 − lr·wd) − lr · (m/hyper₁) / (√(v/hyper₂) + eps)`
    /// (Loshchilov & Hutter 2019, algorithm 2, as PyTorch does it).
    AdamW(AdamW),
    /// `state [4] u32 → y` f32 (u32 for bits). Philox4x32-10 (Salmon et al. 2011) with key
    /// `state[0..2]`; element `i` of `y` is word `i mod 4` of counter block `(state[2..4] as u64) + i/4`.
    Philox(Distribution),
    /// `x [.., n, k] → y [.., n, k]`, one dtype, both contiguous; in place allowed. Arranges weights the way that
    /// the device likes to multiply with: `y` has the [`Packing`](crate::Packing) that
    /// [`Device::packing`](crate::Device::packing) names for `x`, takes as many bytes, and may be operand `b`,
    /// its last axes exchanged, of [`OpKind::Matmul`] and [`OpKind::GroupedMatmul`], and nothing else.
    Pack,
    /// An op defined outside this catalogue.
    Custom(CustomRef),
}

impl OpKind {
    /// The op's name, in snake case.
    pub fn name(&self) -> &str {
        match self {
            OpKind::Fill { .. } => "fill",
            OpKind::Iota => "iota",
            OpKind::Copy => "copy",
            OpKind::Embedding => "embedding",
            OpKind::Scatter { .. } => "scatter",
            OpKind::Matmul { .. } => "matmul",
            OpKind::GroupedMatmul { .. } => "grouped_matmul",
            OpKind::GroupedMatmulWeight { .. } => "grouped_matmul_weight",
            OpKind::Unary(_) => "unary",
            OpKind::Binary(_) => "binary",
            OpKind::Reduce { .. } => "reduce",
            OpKind::Softmax => "softmax",
            OpKind::SoftmaxBackward => "softmax_backward",
            OpKind::RmsNorm { .. } => "rms_norm",
            OpKind::RmsNormBackward { .. } => "rms_norm_backward",
            OpKind::Rope { .. } => "rope",
            OpKind::Attention(_) => "attention",
            OpKind::AttentionBackward(_) => "attention_backward",
            OpKind::SwiGlu => "swiglu",
            OpKind::SwiGluBackward => "swiglu_backward",
            OpKind::CrossEntropy => "cross_entropy",
            OpKind::CrossEntropyBackward => "cross_entropy_backward",
            OpKind::Router(_) => "router",
            OpKind::RouterBackward(_) => "router_backward",
            OpKind::ExpertPermutation { .. } => "expert_permutation",
            OpKind::Combine { .. } => "combine",
            OpKind::CombineBackward => "combine_backward",
            OpKind::ClipFactor { .. } => "clip_factor",
            OpKind::AdamW(_) => "adamw",
            OpKind::Philox(_) => "philox",
            OpKind::Pack => "pack",
            OpKind::Custom(c) => c.0.name(),
        }
    }

    /// The names of the catalogue, in order; without `pack`, whose result means something to one device only.
    pub const NAMES: [&'static str; 30] = [
        "fill",
        "iota",
        "copy",
        "embedding",
        "scatter",
        "matmul",
        "grouped_matmul",
        "grouped_matmul_weight",
        "unary",
        "binary",
        "reduce",
        "softmax",
        "softmax_backward",
        "rms_norm",
        "rms_norm_backward",
        "rope",
        "attention",
        "attention_backward",
        "swiglu",
        "swiglu_backward",
        "cross_entropy",
        "cross_entropy_backward",
        "router",
        "router_backward",
        "expert_permutation",
        "combine",
        "combine_backward",
        "clip_factor",
        "adamw",
        "philox",
    ];

    /// Whether every backend must have the op itself; the others can be composed, see
    /// [`crate::compose`].
    pub fn is_core(&self) -> bool {
        matches!(
            self,
            OpKind::Fill { .. }
                | OpKind::Iota
                | OpKind::Copy
                | OpKind::Embedding
                | OpKind::Scatter { .. }
                | OpKind::Matmul { .. }
                | OpKind::GroupedMatmul { .. }
                | OpKind::GroupedMatmulWeight { .. }
                | OpKind::Unary(_)
                | OpKind::Binary(_)
                | OpKind::Reduce { .. }
                | OpKind::Softmax
                | OpKind::Rope { .. }
                | OpKind::Attention(_)
                | OpKind::AttentionBackward(_)
                | OpKind::Router(_)
                | OpKind::ExpertPermutation { .. }
                | OpKind::Philox(_)
        )
    }

    /// The input that output `o` may be the same view of. Any other overlap is an error.
    pub fn in_place(&self, o: usize) -> Option<usize> {
        match (self, o) {
            (OpKind::Unary(_) | OpKind::Binary(_) | OpKind::Softmax, 0)
            | (OpKind::RmsNorm { .. } | OpKind::RmsNormBackward { .. }, 0)
            | (OpKind::Rope { .. } | OpKind::SwiGlu | OpKind::CrossEntropyBackward | OpKind::Pack, 0) => {
                Some(0)
            }
            (OpKind::SoftmaxBackward, 0) => Some(1),
            (OpKind::SwiGluBackward, _) => Some(o + 1),
            _ => None,
        }
    }

    /// Whether output `o` is also read: what it held before counts.
    pub fn updates(&self, o: usize) -> bool {
        match self {
            OpKind::Matmul { accumulate, .. }
            | OpKind::GroupedMatmul { accumulate, .. }
            | OpKind::GroupedMatmulWeight { accumulate }
            | OpKind::Reduce { accumulate, .. }
            | OpKind::Combine { accumulate, .. } => *accumulate,
            OpKind::RmsNormBackward { accumulate } => *accumulate && o == 1,
            OpKind::Scatter { .. } | OpKind::AdamW(_) | OpKind::Custom(_) => true,
            _ => false,
        }
    }
}
