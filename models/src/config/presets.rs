//! Configurations to start from.

use super::{
    AttentionBias, AttentionKind, GroupScore, ModelConfig, ModelType, MoeConfig, QkNorm, Rope, RouterScores,
};

/// Names that [`ModelConfig::preset`] knows.
pub const PRESETS: [&str; 2] = ["tiny", "small"];

impl ModelConfig {
    /// The preset of that name: one of [`PRESETS`].
    pub fn preset(name: &str) -> Option<ModelConfig> {
        match name {
            "tiny" => Some(ModelConfig::tiny()),
            "small" => Some(ModelConfig::small()),
            _ => None,
        }
    }

    /// 4 layers of width 128, 8 experts of width 192, two a token; bytes as vocabulary, with room
    /// for 4 special tokens. Learns to spell in a minute on a small CPU.
    pub fn tiny() -> ModelConfig {
        mixture(Sizes { vocab: 260, hidden: 128, layers: 4, heads: 4, kv_heads: 2, experts: 8, width: 192 })
    }

    /// 6 layers of width 256, 8 experts of width 512, two a token; vocabulary of 4096.
    pub fn small() -> ModelConfig {
        mixture(Sizes { vocab: 4096, hidden: 256, layers: 6, heads: 4, kv_heads: 4, experts: 8, width: 512 })
    }
}

struct Sizes {
    vocab: usize,
    hidden: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    experts: usize,
    width: usize,
}

/// A Mixtral-like model: softmax router, renormalised top-2, no shared experts.
fn mixture(sizes: Sizes) -> ModelConfig {
    let head_dim = sizes.hidden / sizes.heads;
    ModelConfig {
        model_type: ModelType::Mixtral,
        vocab_size: sizes.vocab,
        hidden_size: sizes.hidden,
        num_hidden_layers: sizes.layers,
        attention: AttentionKind::GroupedQuery,
        num_attention_heads: sizes.heads,
        num_key_value_heads: sizes.kv_heads,
        head_dim,
        attention_bias: AttentionBias::None,
        qk_norm: QkNorm::None,
        attention_sinks: false,
        sliding_window: None,
        full_attention_layers: Vec::new(),
        rope: Rope { theta: 10000.0, scaling: None, rotary_dim: head_dim, interleaved: false },
        rms_norm_eps: 1e-5,
        max_position_embeddings: 2048,
        tie_word_embeddings: false,
        intermediate_size: 0,
        first_k_dense_replace: 0,
        moe: Some(MoeConfig {
            num_experts: sizes.experts,
            num_experts_per_tok: 2,
            moe_intermediate_size: sizes.width,
            scores: RouterScores::Softmax,
            selection_bias: false,
            n_group: 1,
            topk_group: 1,
            group_score: GroupScore::Max,
            norm_topk_prob: true,
            routed_scaling_factor: 1.0,
            n_shared_experts: 0,
            shared_intermediate_size: 0,
            shared_gate: false,
            bias: false,
            swiglu_limit: None,
            router_aux_loss_coef: 0.01,
        }),
        initializer_range: 0.02,
        bos_token_id: None,
        eos_token_ids: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid_and_exportable() {
        for name in PRESETS {
            let config = ModelConfig::preset(name).unwrap();
            config.validate().unwrap();
            assert_eq!(config.export_model_type().unwrap(), ModelType::Mixtral);
            assert_eq!(ModelConfig::from_json(&config.to_json()).unwrap(), config);
        }
        assert!(ModelConfig::preset("huge").is_none());
    }
}
