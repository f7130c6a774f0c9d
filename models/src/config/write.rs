//! Writing `config.json` in the layout that every version of transformers reads.

use serde_json::{Map, Value, json};

use super::read::{BIASES, GROUP_SCORES, QK_NORMS, SCORES};
use super::{AttentionBias, AttentionKind, Latent, ModelConfig, ModelType, MoeConfig, QkNorm};

impl ModelConfig {
    /// The content of `config.json` for a checkpoint with f32 weights.
    ///
    /// [`ModelConfig::from_json`] of the result is the same configuration. For model types other
    /// than "halite", transformers builds the same model from it, given a valid configuration.
    pub fn to_json(&self) -> Value {
        let mut out = Map::new();
        let mut put = |key: &str, value: Value| {
            out.insert(key.into(), value);
        };
        put("architectures", json!([self.model_type.architecture()]));
        put("model_type", json!(self.model_type.as_str()));
        put("torch_dtype", json!("float32"));
        put("hidden_act", json!("silu"));
        put("vocab_size", json!(self.vocab_size));
        put("hidden_size", json!(self.hidden_size));
        put("num_hidden_layers", json!(self.num_hidden_layers));
        put("num_attention_heads", json!(self.num_attention_heads));
        put("num_key_value_heads", json!(self.num_key_value_heads));
        put("rms_norm_eps", json!(self.rms_norm_eps));
        put("max_position_embeddings", json!(self.max_position_embeddings));
        put("tie_word_embeddings", json!(self.tie_word_embeddings));
        put("initializer_range", json!(self.initializer_range));
        put("bos_token_id", json!(self.bos_token_id));
        put(
            "eos_token_id",
            match self.eos_token_ids.as_slice() {
                [] => Value::Null,
                [one] => json!(one),
                several => json!(several),
            },
        );
        match (self.attention, self.model_type) {
            (AttentionKind::Latent(latent), ModelType::DeepseekV2 | ModelType::DeepseekV3) => {
                self.write_latent(latent, &mut out);
            }
            _ => {
                out.insert("head_dim".into(), json!(self.head_dim));
                self.rope.write(self.head_dim, &mut out);
            }
        }
        self.write_attention(&mut out);
        self.write_feed_forward(&mut out);
        Value::Object(out)
    }

    /// DeepSeek's keys.
    fn write_latent(&self, latent: Latent, out: &mut Map<String, Value>) {
        let turned = self.rope.rotary_dim;
        self.rope.write(turned, out);
        out.insert("rope_interleave".into(), json!(self.rope.interleaved));
        out.insert("qk_nope_head_dim".into(), json!(self.head_dim - turned));
        out.insert("qk_rope_head_dim".into(), json!(turned));
        write_widths(latent, out);
    }

    /// The kind of attention of each layer, as transformers names them.
    fn layer_types(&self) -> Value {
        let kind = |layer| if self.window(layer).is_some() { "sliding_attention" } else { "full_attention" };
        (0..self.num_hidden_layers).map(kind).collect()
    }

    fn write_attention(&self, out: &mut Map<String, Value>) {
        let mut put = |key: &str, value: Value| {
            out.insert(key.into(), value);
        };
        let biased = json!(self.attention_bias != AttentionBias::None);
        match self.model_type {
            ModelType::Mistral | ModelType::Mixtral => put("sliding_window", json!(self.sliding_window)),
            ModelType::Llama | ModelType::Olmoe => put("attention_bias", biased),
            ModelType::Glm4Moe => {
                put("attention_bias", biased);
                put("use_qk_norm", json!(self.qk_norm == QkNorm::PerHead));
            }
            ModelType::Qwen2 | ModelType::Qwen2Moe | ModelType::Qwen3 | ModelType::Qwen3Moe => {
                put("attention_bias", biased);
                put("use_sliding_window", json!(self.sliding_window.is_some()));
                put("sliding_window", json!(self.sliding_window));
                // The window, if there is one, is in the layers from here on.
                put("max_window_layers", json!(0));
                if !self.full_attention_layers.is_empty() {
                    put("layer_types", self.layer_types());
                }
            }
            ModelType::GptOss => {
                put("attention_bias", biased);
                put("sliding_window", json!(self.sliding_window));
                put("layer_types", self.layer_types());
            }
            ModelType::DeepseekV2 | ModelType::DeepseekV3 => put("attention_bias", json!(false)),
            ModelType::Halite => {
                put("attention_bias", json!(name_of(&BIASES, self.attention_bias)));
                put("qk_norm", json!(name_of(&QK_NORMS, self.qk_norm)));
                put("sliding_window", json!(self.sliding_window));
                put("full_attention_layers", json!(self.full_attention_layers));
                put("attention_sinks", json!(self.attention_sinks));
                if let AttentionKind::Latent(latent) = self.attention {
                    write_widths(latent, out);
                    out.insert("latent_norm_eps".into(), json!(latent.norm_eps));
                }
            }
        }
    }

    fn write_feed_forward(&self, out: &mut Map<String, Value>) {
        let mut put = |key: &str, value: Value| {
            out.insert(key.into(), value);
        };
        let Some(moe) = &self.moe else {
            return put("intermediate_size", json!(self.intermediate_size));
        };
        put("num_experts_per_tok", json!(moe.num_experts_per_tok));
        put("router_aux_loss_coef", json!(moe.router_aux_loss_coef));
        match self.model_type {
            ModelType::Mixtral => {
                put("num_local_experts", json!(moe.num_experts));
                put("intermediate_size", json!(moe.moe_intermediate_size));
            }
            ModelType::Olmoe => {
                put("num_experts", json!(moe.num_experts));
                put("intermediate_size", json!(moe.moe_intermediate_size));
                put("norm_topk_prob", json!(moe.norm_topk_prob));
            }
            ModelType::GptOss => {
                put("num_local_experts", json!(moe.num_experts));
                put("intermediate_size", json!(moe.moe_intermediate_size));
                put("swiglu_limit", json!(moe.swiglu_limit));
            }
            ModelType::Qwen2Moe | ModelType::Qwen3Moe => {
                if self.model_type == ModelType::Qwen2Moe {
                    put("shared_expert_intermediate_size", json!(moe.shared_intermediate_size));
                }
                put("num_experts", json!(moe.num_experts));
                put("moe_intermediate_size", json!(moe.moe_intermediate_size));
                put("intermediate_size", json!(self.intermediate_size));
                put("norm_topk_prob", json!(moe.norm_topk_prob));
                put("decoder_sparse_step", json!(1));
                put("mlp_only_layers", json!((0..self.first_k_dense_replace).collect::<Vec<_>>()));
            }
            _ => {
                put("n_routed_experts", json!(moe.num_experts));
                put("moe_intermediate_size", json!(moe.moe_intermediate_size));
                put("intermediate_size", json!(self.intermediate_size));
                put("first_k_dense_replace", json!(self.first_k_dense_replace));
                put("n_shared_experts", json!(moe.n_shared_experts));
                put("n_group", json!(moe.n_group));
                put("topk_group", json!(moe.topk_group));
                put("norm_topk_prob", json!(moe.norm_topk_prob));
                put("routed_scaling_factor", json!(moe.routed_scaling_factor));
            }
        }
        match self.model_type {
            ModelType::Halite => write_free_router(moe, out),
            ModelType::DeepseekV2 => {
                out.insert("scoring_func".into(), json!("softmax"));
                let method = if moe.n_group > 1 { "group_limited_greedy" } else { "greedy" };
                out.insert("topk_method".into(), json!(method));
            }
            ModelType::DeepseekV3 => {
                out.insert("scoring_func".into(), json!("sigmoid"));
                out.insert("topk_method".into(), json!("noaux_tc"));
            }
            _ => {}
        }
    }
}

/// The keys that only "halite" has.
fn write_free_router(moe: &MoeConfig, out: &mut Map<String, Value>) {
    out.insert("scoring_func".into(), json!(name_of(&SCORES, moe.scores)));
    out.insert("group_score".into(), json!(name_of(&GROUP_SCORES, moe.group_score)));
    out.insert("selection_bias".into(), json!(moe.selection_bias));
    out.insert("shared_intermediate_size".into(), json!(moe.shared_intermediate_size));
    out.insert("shared_gate".into(), json!(moe.shared_gate));
    out.insert("expert_bias".into(), json!(moe.bias));
    out.insert("swiglu_limit".into(), json!(moe.swiglu_limit));
}

/// The widths of latent attention.
fn write_widths(latent: Latent, out: &mut Map<String, Value>) {
    out.insert("q_lora_rank".into(), json!(latent.q_lora_rank));
    out.insert("kv_lora_rank".into(), json!(latent.kv_lora_rank));
    out.insert("v_head_dim".into(), json!(latent.v_head_dim));
}

fn name_of<T: PartialEq>(names: &[(&'static str, T)], value: T) -> &'static str {
    // Each table names every variant of its type.
    names.iter().find(|(_, v)| *v == value).map_or("", |(name, _)| name)
}
