//! Which Hugging Face model type means the same as a configuration.
//!
//! The rules follow transformers' modelling code, not its configuration classes: a type qualifies
//! only if its forward pass computes the same function.

use super::{
    AttentionBias, AttentionKind, ConfigError, GroupScore, ModelConfig, ModelType, MoeConfig, QkNorm,
    RouterScores,
};

impl ModelConfig {
    /// The model type under which this configuration loads in transformers with the same result:
    /// its own if that qualifies, else the first that does. [`ConfigError::NotExportable`] says
    /// for each type what is in the way.
    pub fn export_model_type(&self) -> Result<ModelType, ConfigError> {
        let candidates = || ModelType::ALL.into_iter().filter(|t| *t != ModelType::Halite);
        if self.model_type != ModelType::Halite && self.expressible_as(self.model_type).is_ok() {
            return Ok(self.model_type);
        }
        if let Some(found) = candidates().find(|t| self.expressible_as(*t).is_ok()) {
            return Ok(found);
        }
        let reasons = candidates()
            // A dense type can't help a model with experts, nor the reverse: not worth a line.
            .filter(|t| is_moe(*t) == self.moe.is_some())
            .filter_map(|t| self.expressible_as(t).err().map(|why| format!("{t}: {why}")))
            .collect();
        Err(ConfigError::NotExportable { reasons })
    }

    /// `Err` says the first thing that `model_type` doesn't have, as a noun phrase.
    pub(super) fn expressible_as(&self, model_type: ModelType) -> Result<(), String> {
        if model_type == ModelType::Halite {
            return Ok(());
        }
        self.attention_expressible_as(model_type)?;
        match (&self.moe, is_moe(model_type)) {
            (None, false) => Ok(()),
            (None, true) => Err("no experts".into()),
            (Some(_), false) => Err("experts".into()),
            (Some(moe), true) => self.experts_expressible_as(moe, model_type),
        }
    }

    fn attention_expressible_as(&self, model_type: ModelType) -> Result<(), String> {
        use ModelType::*;
        let deepseek = matches!(model_type, DeepseekV2 | DeepseekV3);
        match (self.attention, deepseek) {
            (AttentionKind::GroupedQuery, true) => return Err("no latent attention".into()),
            (AttentionKind::Latent(_), false) => return Err("latent attention".into()),
            (AttentionKind::Latent(latent), true) if latent.norm_eps != 1e-6 => {
                return Err("norms of latent vectors with an epsilon other than 1e-6".into());
            }
            _ => {}
        }
        if self.attention_sinks != (model_type == GptOss) {
            return Err(if self.attention_sinks { "attention sinks" } else { "no attention sinks" }.into());
        }
        let biases: &[AttentionBias] = match model_type {
            Mistral | Mixtral | DeepseekV2 | DeepseekV3 => &[AttentionBias::None],
            Qwen2 | Qwen2Moe => &[AttentionBias::Qkv],
            Glm4Moe => &[AttentionBias::None, AttentionBias::Qkv],
            _ => &[AttentionBias::None, AttentionBias::Qkvo],
        };
        if !biases.contains(&self.attention_bias) {
            return Err(match self.attention_bias {
                AttentionBias::None => "no attention bias".into(),
                AttentionBias::Qkv => "an attention bias on q, k and v only".into(),
                AttentionBias::Qkvo => "an attention bias on q, k, v and the output".into(),
            });
        }
        let norms: &[QkNorm] = match model_type {
            Qwen3 | Qwen3Moe => &[QkNorm::PerHead],
            Olmoe => &[QkNorm::Projection],
            Glm4Moe => &[QkNorm::None, QkNorm::PerHead],
            _ => &[QkNorm::None],
        };
        if !norms.contains(&self.qk_norm) {
            return Err(match self.qk_norm {
                QkNorm::None => "no q/k norm".into(),
                QkNorm::PerHead => "q/k norm per head".into(),
                QkNorm::Projection => "q/k norm over the projection".into(),
            });
        }
        let windowless = matches!(model_type, Llama | Olmoe | Glm4Moe) || deepseek;
        if self.sliding_window.is_some() && windowless {
            return Err("a sliding window".into());
        }
        if model_type == GptOss && self.sliding_window.is_none() {
            return Err("no sliding window".into());
        }
        let alternates = matches!(model_type, Qwen2 | Qwen2Moe | Qwen3 | GptOss);
        if !self.full_attention_layers.is_empty() && !alternates {
            return Err("a sliding window in some layers only".into());
        }
        if self.rope.rotary_dim != self.head_dim && model_type != Glm4Moe && !deepseek {
            return Err("a partial rotary embedding".into());
        }
        if self.rope.rotary_dim == self.head_dim && deepseek {
            return Err("a rotary embedding of whole heads".into());
        }
        if self.rope.interleaved && !deepseek {
            return Err("an interleaved rotary embedding".into());
        }
        if !self.rope.interleaved && model_type == DeepseekV2 {
            return Err("a rotary embedding that isn't interleaved".into());
        }
        let split = self.hidden_size.is_multiple_of(self.num_attention_heads);
        if model_type == Llama && !split {
            return Err("a hidden size that isn't a multiple of the heads".into());
        }
        let plain_heads = split && self.hidden_size / self.num_attention_heads == self.head_dim;
        if matches!(model_type, Olmoe | Qwen2 | Qwen2Moe) && !plain_heads {
            return Err("a head_dim other than hidden_size / num_attention_heads".into());
        }
        Ok(())
    }

    fn experts_expressible_as(&self, moe: &MoeConfig, model_type: ModelType) -> Result<(), String> {
        use ModelType::*;
        let sigmoid = matches!(model_type, Glm4Moe | DeepseekV3);
        match (moe.scores, sigmoid) {
            (RouterScores::Softmax, true) => return Err("softmax router scores".into()),
            (RouterScores::Sigmoid, false) => return Err("sigmoid router scores".into()),
            _ => {}
        }
        if moe.selection_bias != sigmoid {
            let what = if sigmoid { "no selection bias" } else { "a selection bias" };
            return Err(what.into());
        }
        if moe.shared_gate != (model_type == Qwen2Moe) {
            let what = if moe.shared_gate { "gated shared experts" } else { "no gated shared expert" };
            return Err(what.into());
        }
        if moe.bias != (model_type == GptOss) {
            return Err(if moe.bias { "biases of router and experts" } else { "no biases of experts" }.into());
        }
        if moe.swiglu_limit.is_some() != (model_type == GptOss) {
            let what = if moe.swiglu_limit.is_some() { "a clamped SwiGLU" } else { "no clamped SwiGLU" };
            return Err(what.into());
        }
        if sigmoid {
            return self.experts_expressible_as_glm4(moe);
        }
        let limited = moe.n_group > 1 && moe.topk_group < moe.n_group;
        if model_type == DeepseekV2 {
            return experts_expressible_as_deepseek_v2(moe, limited);
        }
        if limited {
            return Err("group-limited routing".into());
        }
        if moe.routed_scaling_factor != 1.0 {
            return Err("a routed scaling factor".into());
        }
        if moe.n_shared_experts > 1 || (moe.n_shared_experts == 1) != (model_type == Qwen2Moe) {
            return Err(if moe.n_shared_experts > 0 { "shared experts" } else { "no shared expert" }.into());
        }
        if self.first_k_dense_replace > 0 && !matches!(model_type, Qwen2Moe | Qwen3Moe) {
            return Err("leading dense layers".into());
        }
        if !moe.norm_topk_prob && matches!(model_type, Mixtral | GptOss) {
            return Err("router weights that aren't normalised".into());
        }
        Ok(())
    }

    fn experts_expressible_as_glm4(&self, moe: &MoeConfig) -> Result<(), String> {
        if moe.n_group > 1 && moe.topk_group < moe.n_group && moe.group_score != GroupScore::SumTop2 {
            return Err("groups scored by their maximum".into());
        }
        // Transformers takes each group's two best even when all groups are kept.
        if moe.num_experts / moe.n_group < 2 {
            return Err("fewer than two experts in a group".into());
        }
        shared_as_wide_as_routed(moe)
    }
}

fn experts_expressible_as_deepseek_v2(moe: &MoeConfig, limited: bool) -> Result<(), String> {
    if limited && moe.group_score != GroupScore::Max {
        return Err("groups scored by their two best experts".into());
    }
    if moe.norm_topk_prob {
        return Err("normalised router weights".into());
    }
    shared_as_wide_as_routed(moe)
}

/// Shared experts, each as wide as a routed one.
fn shared_as_wide_as_routed(moe: &MoeConfig) -> Result<(), String> {
    if moe.n_shared_experts == 0 {
        return Err("no shared experts".into());
    }
    if moe.moe_intermediate_size.checked_mul(moe.n_shared_experts) != Some(moe.shared_intermediate_size) {
        return Err("shared experts of another width than the routed ones".into());
    }
    Ok(())
}

fn is_moe(model_type: ModelType) -> bool {
    use ModelType::*;
    matches!(model_type, Mixtral | Qwen2Moe | Qwen3Moe | Olmoe | Glm4Moe | DeepseekV2 | DeepseekV3 | GptOss)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_combination_finds_its_type() {
        let tiny = ModelConfig::tiny();
        assert_eq!(tiny.export_model_type().unwrap(), ModelType::Mixtral);

        let dense =
            ModelConfig { moe: None, intermediate_size: 64, model_type: ModelType::Halite, ..tiny.clone() };
        assert_eq!(dense.export_model_type().unwrap(), ModelType::Llama);
        let windowed = ModelConfig { sliding_window: Some(8), ..dense.clone() };
        assert_eq!(windowed.export_model_type().unwrap(), ModelType::Mistral);
        let normed = ModelConfig { qk_norm: QkNorm::PerHead, ..dense };
        assert_eq!(normed.export_model_type().unwrap(), ModelType::Qwen3);

        let mut qwen = tiny.clone();
        qwen.qk_norm = QkNorm::PerHead;
        qwen.first_k_dense_replace = 1;
        qwen.intermediate_size = 64;
        assert_eq!(qwen.export_model_type().unwrap(), ModelType::Qwen3Moe);

        let glm = glm();
        assert_eq!(glm.export_model_type().unwrap(), ModelType::Glm4Moe);
    }

    fn glm() -> ModelConfig {
        let mut glm = ModelConfig::tiny();
        glm.model_type = ModelType::Halite;
        glm.first_k_dense_replace = 1;
        glm.intermediate_size = 256;
        let moe = glm.moe.as_mut().unwrap();
        moe.scores = RouterScores::Sigmoid;
        moe.selection_bias = true;
        moe.group_score = GroupScore::SumTop2;
        moe.routed_scaling_factor = 2.5;
        moe.n_shared_experts = 1;
        moe.shared_intermediate_size = moe.moe_intermediate_size;
        glm
    }

    #[test]
    fn combinations_without_a_type_say_what_is_in_the_way() {
        let mut config = glm();
        config.moe.as_mut().unwrap().scores = RouterScores::Softmax;
        let message = config.export_model_type().unwrap_err().to_string();
        assert!(message.contains("glm4_moe: softmax router scores"), "{message}");
        assert!(message.contains("mixtral: a selection bias"), "{message}");
        assert!(!message.contains("llama"), "{message}");

        let mut config = glm();
        config.moe.as_mut().unwrap().shared_intermediate_size += 1;
        assert!(config.export_model_type().is_err());
        config.validate().unwrap(); // fine in Halite

        let mut config = ModelConfig::tiny();
        config.moe.as_mut().unwrap().norm_topk_prob = false;
        assert!(matches!(config.validate(), Err(ConfigError::Unsupported { .. })));
    }
}
