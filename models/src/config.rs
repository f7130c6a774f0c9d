//! What a model is made of: the sizes and kinds that its layers are assembled from.
//!
//! [`ModelConfig`] is the normalised form of a Hugging Face `config.json` of any supported model
//! type: an attention kind and a feed-forward kind for each layer, with no mention of a family
//! left but [`ModelConfig::model_type`], which only decides names and file layout. Reading accepts
//! both layouts in use (`rope_theta`/`rope_scaling`/`torch_dtype` and `rope_parameters`/`dtype`).
//! A configuration that was read or that passed [`ModelConfig::validate`] can be built: its sizes
//! are consistent, and no product of them overflows.

mod error;
mod export;
mod fields;
mod generation;
mod parameters;
mod presets;
mod read;
mod rope;
mod validate;
mod write;

pub use error::ConfigError;
pub use generation::GenerationConfig;
pub use parameters::{Init, LayerParam, ParamId, ParamSpec, Projection, parameters};
pub use presets::PRESETS;
pub use rope::{Rope, RopeScaling};

/// The Hugging Face model types that Halite reads and writes, and its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ModelType {
    /// `llama`: dense.
    Llama,
    /// `mistral`: dense, optional sliding window.
    Mistral,
    /// `qwen3`: dense, q/k norm per head.
    Qwen3,
    /// `mixtral`: softmax router with renormalised top-k.
    Mixtral,
    /// `qwen3_moe`: softmax router, q/k norm per head.
    Qwen3Moe,
    /// `olmoe`: softmax router, q/k norm over the whole projection.
    Olmoe,
    /// `glm4_moe`: sigmoid router with correction bias and groups, shared experts, leading dense
    /// layers.
    Glm4Moe,
    /// `qwen2`: dense, bias on query, key and value.
    Qwen2,
    /// `qwen2_moe`: softmax router, a gated shared expert, bias on query, key and value.
    Qwen2Moe,
    /// `deepseek_v2`: latent attention, softmax router, groups scored by their best expert.
    DeepseekV2,
    /// `deepseek_v3`: latent attention, sigmoid router with correction bias and groups.
    DeepseekV3,
    /// `gpt_oss`: sinks, alternating sliding window, biases throughout, clamped SwiGLU.
    GptOss,
    /// `halite`: any combination; loads in Halite only.
    Halite,
}

impl ModelType {
    /// Every model type, in the order in which [`ModelConfig::export_model_type`] tries them.
    pub const ALL: [ModelType; 13] = [
        ModelType::Llama,
        ModelType::Mistral,
        ModelType::Qwen3,
        ModelType::Mixtral,
        ModelType::Qwen3Moe,
        ModelType::Olmoe,
        ModelType::Glm4Moe,
        ModelType::Qwen2,
        ModelType::Qwen2Moe,
        ModelType::DeepseekV2,
        ModelType::DeepseekV3,
        ModelType::GptOss,
        ModelType::Halite,
    ];

    /// The value of `model_type` in `config.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            ModelType::Llama => "llama",
            ModelType::Mistral => "mistral",
            ModelType::Qwen3 => "qwen3",
            ModelType::Mixtral => "mixtral",
            ModelType::Qwen3Moe => "qwen3_moe",
            ModelType::Olmoe => "olmoe",
            ModelType::Glm4Moe => "glm4_moe",
            ModelType::Qwen2 => "qwen2",
            ModelType::Qwen2Moe => "qwen2_moe",
            ModelType::DeepseekV2 => "deepseek_v2",
            ModelType::DeepseekV3 => "deepseek_v3",
            ModelType::GptOss => "gpt_oss",
            ModelType::Halite => "halite",
        }
    }

    /// The model type of that name, if it is supported.
    pub fn from_name(name: &str) -> Option<ModelType> {
        ModelType::ALL.into_iter().find(|t| t.as_str() == name)
    }

    /// The class that transformers builds for it, as in `architectures`.
    fn architecture(self) -> &'static str {
        match self {
            ModelType::Llama => "LlamaForCausalLM",
            ModelType::Mistral => "MistralForCausalLM",
            ModelType::Qwen3 => "Qwen3ForCausalLM",
            ModelType::Mixtral => "MixtralForCausalLM",
            ModelType::Qwen3Moe => "Qwen3MoeForCausalLM",
            ModelType::Olmoe => "OlmoeForCausalLM",
            ModelType::Glm4Moe => "Glm4MoeForCausalLM",
            ModelType::Qwen2 => "Qwen2ForCausalLM",
            ModelType::Qwen2Moe => "Qwen2MoeForCausalLM",
            ModelType::DeepseekV2 => "DeepseekV2ForCausalLM",
            ModelType::DeepseekV3 => "DeepseekV3ForCausalLM",
            ModelType::GptOss => "GptOssForCausalLM",
            ModelType::Halite => "HaliteForCausalLM",
        }
    }
}

impl std::fmt::Display for ModelType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a layer attends.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum AttentionKind {
    /// Query heads share key/value heads, `num_attention_heads / num_key_value_heads` to one; each
    /// head is `head_dim` wide in query, key and value.
    GroupedQuery,
    /// Keys and values come from one latent vector a token; a head's query and key are `head_dim`
    /// wide, the last `rope.rotary_dim` of which turn, and the key's turned part is common to all heads.
    Latent(Latent),
}

/// The widths of multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latent {
    /// Width that queries are compressed to; `None` without compression.
    pub q_lora_rank: Option<usize>,
    /// Width of the latent vector.
    pub kv_lora_rank: usize,
    /// Width of a head's value.
    pub v_head_dim: usize,
    /// Added to the mean square in the norms of the compressed vectors.
    pub norm_eps: f64,
}

/// Which attention projections add a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionBias {
    /// None of them.
    None,
    /// Query, key and value (`qwen2`, `glm4_moe`).
    Qkv,
    /// Query, key, value and output (`llama`, `qwen3`, `gpt_oss`).
    Qkvo,
}

impl AttentionBias {
    /// Whether query, key and value have a bias.
    pub fn on_qkv(self) -> bool {
        self != AttentionBias::None
    }

    /// Whether the output projection has a bias.
    pub fn on_output(self) -> bool {
        self == AttentionBias::Qkvo
    }
}

/// RMS norm of queries and keys, before the rotary embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// No norm.
    None,
    /// Over each head; one weight `[head_dim]` for all heads.
    PerHead,
    /// Over the whole projection; weights `[heads * head_dim]`.
    Projection,
}

/// What the router makes of its logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouterScores {
    /// Softmax over all experts.
    Softmax,
    /// Sigmoid of each logit.
    Sigmoid,
}

/// How a group of experts is scored when only the best groups may be selected from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupScore {
    /// The group's best score (DeepSeek-V2).
    Max,
    /// The sum of its two best scores (DeepSeek-V3).
    SumTop2,
}

/// The mixture of experts in a layer.
///
/// Routing of one token: scores `s = softmax|sigmoid(W x)`; selection scores `b = s + bias` (with
/// `selection_bias`); the `topk_group` best of `n_group` equal groups stay; the
/// `num_experts_per_tok` experts of highest `b` are chosen, weighted by their `s`, which are
/// divided by their sum if `norm_topk_prob` and then multiplied by `routed_scaling_factor`.
/// Source: DeepSeek-V3 report, arXiv 2412.19437, section 2.1.2; Mixtral, arXiv 2401.04088.
#[derive(Debug, Clone, PartialEq)]
pub struct MoeConfig {
    /// Routed experts in a layer.
    pub num_experts: usize,
    /// Experts chosen for each token.
    pub num_experts_per_tok: usize,
    /// Width of a routed expert.
    pub moe_intermediate_size: usize,
    /// What the router makes of its logits.
    pub scores: RouterScores,
    /// Whether a per-expert bias, balanced without a loss, is added for the selection only.
    pub selection_bias: bool,
    /// Equal groups of experts; 1 for no grouping.
    pub n_group: usize,
    /// Groups that may be selected from.
    pub topk_group: usize,
    /// How a group is scored.
    pub group_score: GroupScore,
    /// Whether the chosen experts' scores are divided by their sum.
    pub norm_topk_prob: bool,
    /// Factor on the routed experts' weights.
    pub routed_scaling_factor: f64,
    /// Experts that every token passes through, fused into one of `shared_intermediate_size`.
    pub n_shared_experts: usize,
    /// Width of all shared experts together; 0 without.
    pub shared_intermediate_size: usize,
    /// Whether the shared experts' result is multiplied by the sigmoid of a product with the token
    /// (`qwen2_moe`).
    pub shared_gate: bool,
    /// Whether router and routed experts add biases (`gpt_oss`).
    pub bias: bool,
    /// With it the routed experts compute `(up + 1) · gate · sigmoid(1.702 · gate)`, with `gate` clamped
    /// from above and `up` from both sides to this (`gpt_oss`).
    pub swiglu_limit: Option<f64>,
    /// Factor on the load-balancing loss in training.
    pub router_aux_loss_coef: f64,
}

/// How a layer's feed-forward part is built.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FeedForward<'a> {
    /// One SwiGLU of that width.
    Dense {
        /// Width between the up and the down projection.
        intermediate_size: usize,
    },
    /// Routed and shared experts.
    Moe(&'a MoeConfig),
}

/// A decoder-only transformer: token embedding, pre-norm layers of attention and feed-forward,
/// final norm, language-model head. All norms are RMS norms; the feed-forward activation is SwiGLU.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Decides tensor names and the layout of `config.json`, nothing else.
    pub model_type: ModelType,
    /// Rows of the embedding and of the head.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// How layers attend.
    pub attention: AttentionKind,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key/value heads; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Width of a head's query and key; `num_attention_heads * head_dim` need not be `hidden_size`.
    pub head_dim: usize,
    /// Which attention projections have a bias.
    pub attention_bias: AttentionBias,
    /// Norm of queries and keys.
    pub qk_norm: QkNorm,
    /// Whether each head's softmax has one more column, a learnt score whose value is zero (`gpt_oss`).
    pub attention_sinks: bool,
    /// A query at position i sees the keys j with `i - window < j <= i`; `None`: all `j <= i`.
    pub sliding_window: Option<usize>,
    /// Layers (0-based, ascending) that see everything although there is a window.
    pub full_attention_layers: Vec<usize>,
    /// Rotary position embedding.
    pub rope: Rope,
    /// Added to the mean square in every RMS norm.
    pub rms_norm_eps: f64,
    /// Longest sequence that the model is meant for, in tokens.
    pub max_position_embeddings: usize,
    /// Whether the head uses the embedding's weights.
    pub tie_word_embeddings: bool,
    /// Width of dense feed-forward layers; 0 if there are none.
    pub intermediate_size: usize,
    /// Leading layers that are dense in a model with experts; 0 in a dense model.
    pub first_k_dense_replace: usize,
    /// The experts of the other layers; `None` in a dense model.
    pub moe: Option<MoeConfig>,
    /// Standard deviation of freshly initialised matrices.
    pub initializer_range: f64,
    /// Token that begins a text, if there is one.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a text.
    pub eos_token_ids: Vec<u32>,
}

impl ModelConfig {
    /// The sliding window of layer `layer` (0-based), if it has one.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.sliding_window.filter(|_| self.full_attention_layers.binary_search(&layer).is_err())
    }

    /// Width of a head's value.
    pub fn value_dim(&self) -> usize {
        match self.attention {
            AttentionKind::GroupedQuery => self.head_dim,
            AttentionKind::Latent(latent) => latent.v_head_dim,
        }
    }

    /// The factor on `q·k`: `1 / √head_dim`, for latent attention times the square of YaRN's
    /// `0.1 · mscale_all_dim · ln factor + 1` (DeepSeek-V2's modelling code).
    pub fn attention_scale(&self) -> f64 {
        let stretch = match self.attention {
            AttentionKind::GroupedQuery => 1.0,
            AttentionKind::Latent(_) => self.rope.softmax_stretch(),
        };
        stretch * stretch / (self.head_dim as f64).sqrt()
    }

    /// The feed-forward kind of layer `layer` (0-based).
    pub fn feed_forward(&self, layer: usize) -> FeedForward<'_> {
        match &self.moe {
            Some(moe) if layer >= self.first_k_dense_replace => FeedForward::Moe(moe),
            _ => FeedForward::Dense { intermediate_size: self.intermediate_size },
        }
    }
}
