//! Checks that a configuration can be built, whatever its source.

use super::{
    AttentionBias, AttentionKind, ConfigError, GroupScore, ModelConfig, ModelType, MoeConfig, QkNorm,
};

/// Largest size along any dimension: kernels index rows and columns in 32 bits.
const MAX_SIZE: usize = i32::MAX as usize;
/// Most tensors in a model; far above any real one, low enough to list them.
const MAX_TENSORS: usize = 1 << 24;
/// Most parameters: their f64 moments must still be addressable.
const MAX_PARAMETERS: usize = isize::MAX as usize / 8;

impl ModelConfig {
    /// Checks the sizes on their own and against each other, and that the model type can express
    /// them.
    pub fn validate(&self) -> Result<(), ConfigError> {
        size("vocab_size", self.vocab_size)?;
        size("hidden_size", self.hidden_size)?;
        size("num_hidden_layers", self.num_hidden_layers)?;
        size("num_attention_heads", self.num_attention_heads)?;
        size("num_key_value_heads", self.num_key_value_heads)?;
        size("head_dim", self.head_dim)?;
        size("max_position_embeddings", self.max_position_embeddings)?;
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let wanted = format!("a divisor of num_attention_heads ({})", self.num_attention_heads);
            return Err(ConfigError::invalid("num_key_value_heads", self.num_key_value_heads, wanted));
        }
        if !self.head_dim.is_multiple_of(2) {
            let wanted = "even: rotary embedding turns dimensions in pairs";
            return Err(ConfigError::invalid("head_dim", self.head_dim, wanted));
        }
        if let Some(window) = self.sliding_window {
            size("sliding_window", window)?;
        }
        self.check_full_layers()?;
        self.check_latent()?;
        self.rope.validate(self.head_dim)?;
        if !(self.rms_norm_eps.is_finite() && self.rms_norm_eps > 0.0) {
            let wanted = "a finite number greater than 0";
            return Err(ConfigError::invalid("rms_norm_eps", self.rms_norm_eps, wanted));
        }
        at_least_zero("initializer_range", self.initializer_range)?;
        if self.moe.is_none() && self.first_k_dense_replace != 0 {
            let wanted = "0 in a model without experts, where every layer is dense";
            return Err(ConfigError::invalid("first_k_dense_replace", self.first_k_dense_replace, wanted));
        }
        if self.moe.is_some() && self.first_k_dense_replace >= self.num_hidden_layers {
            let wanted = format!("less than num_hidden_layers ({})", self.num_hidden_layers);
            return Err(ConfigError::invalid("first_k_dense_replace", self.first_k_dense_replace, wanted));
        }
        if self.moe.is_none() || self.first_k_dense_replace > 0 {
            size("intermediate_size", self.intermediate_size)?;
        }
        if let Some(moe) = &self.moe {
            moe.validate()?;
        }
        self.check_volume()?;
        if self.model_type != ModelType::Halite {
            self.expressible_as(self.model_type).map_err(|why| {
                ConfigError::unsupported(format!("{why}, as model type \"{}\"", self.model_type))
            })?;
        }
        Ok(())
    }

    fn check_full_layers(&self) -> Result<(), ConfigError> {
        let layers = &self.full_attention_layers;
        let ascend = layers.is_sorted_by(|a, b| a < b);
        let last = layers.last().is_none_or(|&last| last < self.num_hidden_layers);
        if ascend && last && (layers.is_empty() || self.sliding_window.is_some()) {
            return Ok(());
        }
        let wanted = format!(
            "ascending layers from 0 to {}, in a model with a sliding window",
            self.num_hidden_layers - 1
        );
        Err(ConfigError::invalid("full_attention_layers", format!("{layers:?}"), wanted))
    }

    fn check_latent(&self) -> Result<(), ConfigError> {
        let AttentionKind::Latent(latent) = self.attention else { return Ok(()) };
        size("kv_lora_rank", latent.kv_lora_rank)?;
        size("v_head_dim", latent.v_head_dim)?;
        if !(latent.norm_eps.is_finite() && latent.norm_eps > 0.0) {
            let wanted = "a finite number greater than 0";
            return Err(ConfigError::invalid("latent_norm_eps", latent.norm_eps, wanted));
        }
        if let Some(rank) = latent.q_lora_rank {
            size("q_lora_rank", rank)?;
        }
        if self.rope.rotary_dim >= self.head_dim {
            let wanted = format!("less than a head's width ({}) with latent attention", self.head_dim);
            return Err(ConfigError::invalid("rotary dimensions", self.rope.rotary_dim, wanted));
        }
        if self.num_key_value_heads != self.num_attention_heads {
            let wanted = format!("num_attention_heads ({}) with latent attention", self.num_attention_heads);
            return Err(ConfigError::invalid("num_key_value_heads", self.num_key_value_heads, wanted));
        }
        let plain = self.attention_bias == AttentionBias::None && self.qk_norm == QkNorm::None;
        if !plain || self.attention_sinks || self.sliding_window.is_some() {
            let what = "latent attention with biases, q/k norm, sinks or a sliding window";
            return Err(ConfigError::unsupported(what));
        }
        Ok(())
    }

    /// Tensors and parameters are few enough to list and to address.
    fn check_volume(&self) -> Result<(), ConfigError> {
        let mut volume = Volume::default();
        let head = |heads: usize| heads.checked_mul(self.head_dim).ok_or_else(too_large);
        let (q, kv, hidden) =
            (head(self.num_attention_heads)?, head(self.num_key_value_heads)?, self.hidden_size);
        let (layers, dense_layers) = match &self.moe {
            Some(_) => (self.num_hidden_layers, self.first_k_dense_replace),
            None => (self.num_hidden_layers, self.num_hidden_layers),
        };
        volume.add(3, self.vocab_size, hidden)?;
        volume.add(layers.checked_mul(2).ok_or_else(too_large)?, q, hidden)?;
        if let AttentionKind::Latent(latent) = self.attention {
            let rank = latent.q_lora_rank.unwrap_or(0).max(latent.kv_lora_rank);
            let value = latent.v_head_dim.checked_mul(self.num_attention_heads).ok_or_else(too_large)?;
            let out = q.checked_add(value).ok_or_else(too_large)?.max(hidden);
            volume.add(layers.checked_mul(4).ok_or_else(too_large)?, out, rank)?;
            volume.add(layers, value, hidden)?;
        }
        volume.add(layers.checked_mul(2).ok_or_else(too_large)?, kv, hidden)?;
        volume.add(layers.checked_mul(8).ok_or_else(too_large)?, 1, q.max(hidden))?; // norms and biases
        volume.add(dense_layers.checked_mul(3).ok_or_else(too_large)?, self.intermediate_size, hidden)?;
        if let Some(moe) = &self.moe {
            let layers = layers - dense_layers;
            let expert_matrices = moe.num_experts.checked_mul(3).and_then(|n| n.checked_mul(layers));
            volume.add(expert_matrices.ok_or_else(too_large)?, moe.moe_intermediate_size, hidden)?;
            volume.add(layers * 3, moe.shared_intermediate_size, hidden)?;
            volume.add(layers * 3, moe.num_experts, hidden)?; // the router, biases of the experts
        }
        Ok(())
    }
}

#[derive(Default)]
struct Volume {
    tensors: usize,
    parameters: usize,
}

impl Volume {
    fn add(&mut self, count: usize, rows: usize, columns: usize) -> Result<(), ConfigError> {
        let parameters = rows.checked_mul(columns).and_then(|n| n.checked_mul(count));
        self.tensors = self.tensors.saturating_add(count);
        self.parameters = self.parameters.saturating_add(parameters.ok_or_else(too_large)?);
        if self.tensors > MAX_TENSORS || self.parameters > MAX_PARAMETERS {
            return Err(too_large());
        }
        Ok(())
    }
}

fn too_large() -> ConfigError {
    let wanted = format!("at most {MAX_PARAMETERS} parameters in at most {MAX_TENSORS} tensors");
    ConfigError::invalid("model size", "larger than can be addressed", wanted)
}

impl MoeConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        size("num_experts", self.num_experts)?;
        size("moe_intermediate_size", self.moe_intermediate_size)?;
        if self.num_experts_per_tok == 0 || self.num_experts_per_tok > self.num_experts {
            let wanted = format!("from 1 to the number of experts ({})", self.num_experts);
            return Err(ConfigError::invalid("num_experts_per_tok", self.num_experts_per_tok, wanted));
        }
        if self.n_group == 0 || !self.num_experts.is_multiple_of(self.n_group) {
            let wanted = format!("a divisor of the number of experts ({})", self.num_experts);
            return Err(ConfigError::invalid("n_group", self.n_group, wanted));
        }
        if self.topk_group == 0 || self.topk_group > self.n_group {
            let wanted = format!("from 1 to n_group ({})", self.n_group);
            return Err(ConfigError::invalid("topk_group", self.topk_group, wanted));
        }
        let per_group = self.num_experts / self.n_group;
        let reachable = per_group * self.topk_group; // at most num_experts
        if reachable < self.num_experts_per_tok {
            let wanted = format!("at most the {reachable} experts of {} group(s)", self.topk_group);
            return Err(ConfigError::invalid("num_experts_per_tok", self.num_experts_per_tok, wanted));
        }
        if self.n_group > 1 && self.group_score == GroupScore::SumTop2 && per_group < 2 {
            let wanted =
                format!("at most {}: a group is scored by its two best experts", self.num_experts / 2);
            return Err(ConfigError::invalid("n_group", self.n_group, wanted));
        }
        if !(self.routed_scaling_factor.is_finite() && self.routed_scaling_factor > 0.0) {
            let wanted = "a finite number greater than 0";
            return Err(ConfigError::invalid("routed_scaling_factor", self.routed_scaling_factor, wanted));
        }
        if self.n_shared_experts > 0 {
            size("n_shared_experts", self.n_shared_experts)?;
            size("shared_intermediate_size", self.shared_intermediate_size)?;
        } else if self.shared_intermediate_size != 0 {
            let wanted = "0 without shared experts";
            return Err(ConfigError::invalid(
                "shared_intermediate_size",
                self.shared_intermediate_size,
                wanted,
            ));
        }
        if self.shared_gate && self.n_shared_experts == 0 {
            return Err(ConfigError::invalid("shared_gate", true, "false without shared experts"));
        }
        if let Some(limit) = self.swiglu_limit.filter(|l| !(l.is_finite() && *l > 0.0)) {
            return Err(ConfigError::invalid("swiglu_limit", limit, "a finite number greater than 0"));
        }
        at_least_zero("router_aux_loss_coef", self.router_aux_loss_coef)
    }
}

fn size(key: &str, value: usize) -> Result<(), ConfigError> {
    if (1..=MAX_SIZE).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::invalid(key, value, format!("from 1 to {MAX_SIZE}")))
}

fn at_least_zero(key: &str, value: f64) -> Result<(), ConfigError> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(ConfigError::invalid(key, value, "a finite number, 0 or more"))
}
