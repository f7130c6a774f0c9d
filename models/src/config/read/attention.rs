//! Reading how layers attend.

use serde_json::Value;

use super::{BIASES, MAX_LAYERS, QK_NORMS, Reader};
use crate::config::fields::shorten;
use crate::config::{AttentionBias, AttentionKind, ConfigError, Latent, ModelType, QkNorm, Rope};

impl Reader<'_> {
    /// How layers attend, and the width of a head's query and key.
    pub(super) fn attention(
        &self,
        hidden_size: usize,
        heads: usize,
    ) -> Result<(AttentionKind, usize), ConfigError> {
        let f = &self.fields;
        let latent = match self.model_type {
            ModelType::DeepseekV2 | ModelType::DeepseekV3 => true,
            ModelType::Halite => f.get("kv_lora_rank").is_some(),
            _ => false,
        };
        if !latent {
            return Ok((AttentionKind::GroupedQuery, self.head_dim(hidden_size, heads)?));
        }
        let kind = AttentionKind::Latent(Latent {
            q_lora_rank: f.maybe_size("q_lora_rank")?,
            kv_lora_rank: f.size("kv_lora_rank")?,
            v_head_dim: f.size("v_head_dim")?,
            // Not `rms_norm_eps`: transformers' classes for these norms have a default of their own.
            norm_eps: match self.model_type {
                ModelType::Halite => f.float_or("latent_norm_eps", 1e-6)?,
                _ => 1e-6,
            },
        });
        let width = match self.model_type {
            ModelType::Halite => self.head_dim(hidden_size, heads)?,
            // Too large a sum saturates, and validation refuses it.
            _ => f.size("qk_nope_head_dim")?.saturating_add(f.size("qk_rope_head_dim")?),
        };
        Ok((kind, width))
    }

    pub(super) fn key_value_heads(&self, heads: usize) -> Result<usize, ConfigError> {
        match self.model_type {
            // Every head has keys and values of its own, whatever the file says.
            ModelType::DeepseekV2 | ModelType::DeepseekV3 => Ok(heads),
            _ => self.fields.size_or("num_key_value_heads", heads),
        }
    }

    pub(super) fn rope(&self, head_dim: usize, max_position_embeddings: usize) -> Result<Rope, ConfigError> {
        let defaults = self.defaults();
        let latent = matches!(self.model_type, ModelType::DeepseekV2 | ModelType::DeepseekV3);
        // The part of a head that turns is a width of its own there.
        let (partial, width) = match latent {
            true => (1.0, self.fields.size("qk_rope_head_dim")?),
            false => (defaults.partial_rotary, head_dim),
        };
        let mut rope =
            Rope::read(&self.fields, defaults.rope_theta, partial, width, max_position_embeddings)?;
        rope.interleaved = match self.model_type {
            ModelType::DeepseekV2 => true,
            ModelType::DeepseekV3 => self.fields.flag_or("rope_interleave", true)?,
            ModelType::Halite => rope.interleaved,
            _ => false,
        };
        Ok(rope)
    }

    fn head_dim(&self, hidden_size: usize, heads: usize) -> Result<usize, ConfigError> {
        if let Some(given) = self.fields.maybe_size("head_dim")? {
            return Ok(given);
        }
        if heads == 0 {
            return Err(ConfigError::invalid("num_attention_heads", heads, "1 or more"));
        }
        match self.model_type {
            // Transformers' defaults for these types, whatever the hidden size.
            ModelType::Qwen3 => return Ok(128),
            ModelType::GptOss => return Ok(64),
            _ => {}
        }
        if self.strict && !hidden_size.is_multiple_of(heads) {
            let wanted = format!("a multiple of num_attention_heads ({heads}), or `head_dim` given");
            return Err(ConfigError::invalid("hidden_size", hidden_size, wanted));
        }
        Ok(hidden_size / heads)
    }

    pub(super) fn attention_bias(&self) -> Result<AttentionBias, ConfigError> {
        if self.model_type == ModelType::Halite {
            return self.fields.choice_or("attention_bias", &BIASES, AttentionBias::None);
        }
        let kind = match self.model_type {
            ModelType::Mixtral | ModelType::Mistral => return Ok(AttentionBias::None),
            ModelType::Qwen2 | ModelType::Qwen2Moe => return Ok(AttentionBias::Qkv),
            ModelType::DeepseekV2 | ModelType::DeepseekV3
                if self.fields.flag_or("attention_bias", false)? =>
            {
                return Err(ConfigError::unsupported("`attention_bias` with latent attention"));
            }
            ModelType::Glm4Moe => AttentionBias::Qkv,
            _ => AttentionBias::Qkvo,
        };
        if self.model_type == ModelType::GptOss {
            let given = self.fields.flag_or("attention_bias", true)?;
            return Ok(if given { AttentionBias::Qkvo } else { AttentionBias::None });
        }
        Ok(if self.fields.flag_or("attention_bias", false)? { kind } else { AttentionBias::None })
    }

    pub(super) fn qk_norm(&self) -> Result<QkNorm, ConfigError> {
        Ok(match self.model_type {
            ModelType::Llama | ModelType::Mistral | ModelType::Mixtral => QkNorm::None,
            ModelType::Qwen2 | ModelType::Qwen2Moe | ModelType::GptOss => QkNorm::None,
            ModelType::DeepseekV2 | ModelType::DeepseekV3 => QkNorm::None,
            ModelType::Qwen3 | ModelType::Qwen3Moe => QkNorm::PerHead,
            ModelType::Olmoe => QkNorm::Projection,
            ModelType::Glm4Moe if self.fields.flag_or("use_qk_norm", false)? => QkNorm::PerHead,
            ModelType::Glm4Moe => QkNorm::None,
            ModelType::Halite => self.fields.choice_or("qk_norm", &QK_NORMS, QkNorm::None)?,
        })
    }

    /// The sliding window, and the layers that don't have it.
    pub(super) fn windows(&self, layers: usize) -> Result<(Option<usize>, Vec<usize>), ConfigError> {
        use ModelType::*;
        let f = &self.fields;
        let default = match self.model_type {
            // Null is no window, but absent is a number.
            Mistral | Qwen2 | Qwen2Moe | Qwen3 | Qwen3Moe if !f.has("sliding_window") => Some(4096),
            GptOss if !f.has("sliding_window") => Some(128),
            _ => None,
        };
        let window = match self.model_type {
            Llama | Olmoe | Glm4Moe | DeepseekV2 | DeepseekV3 => None,
            Qwen2 | Qwen2Moe | Qwen3 | Qwen3Moe if !f.flag_or("use_sliding_window", false)? => None,
            _ => f.maybe_size("sliding_window")?.or(default),
        };
        if window.is_none() {
            return Ok((None, Vec::new()));
        }
        let full = match self.model_type {
            Halite => self.layers_listed("full_attention_layers")?,
            Qwen2 | Qwen2Moe | Qwen3 | GptOss => match f.maybe_list("layer_types")? {
                Some(kinds) => self.full_layers(kinds, layers)?,
                // Every second layer, the first with a window.
                None if self.model_type == GptOss => (1..layers.min(MAX_LAYERS)).step_by(2).collect(),
                // The window is in the layers from there on.
                None => (0..f.size_or("max_window_layers", 28)?.min(layers).min(MAX_LAYERS)).collect(),
            },
            _ => Vec::new(),
        };
        // Without a layer that has it, there is no window.
        if full.len() == layers { Ok((None, Vec::new())) } else { Ok((window, full)) }
    }

    /// The layers that `layer_types` gives no window.
    fn full_layers(&self, kinds: &[Value], layers: usize) -> Result<Vec<usize>, ConfigError> {
        if kinds.len() != layers {
            let wanted = format!("one kind for each of {layers} layers");
            return Err(ConfigError::invalid("layer_types", format!("{} kinds", kinds.len()), wanted));
        }
        let mut full = Vec::new();
        for (layer, kind) in kinds.iter().enumerate() {
            match kind.as_str() {
                Some("sliding_attention") => {}
                Some("full_attention") => full.push(layer),
                _ => {
                    let wanted = "\"sliding_attention\" or \"full_attention\"";
                    return Err(ConfigError::invalid("layer_types", shorten(kind), wanted));
                }
            }
        }
        Ok(full)
    }

    /// A list of layers, ascending.
    pub(super) fn layers_listed(&self, key: &str) -> Result<Vec<usize>, ConfigError> {
        let Some(list) = self.fields.maybe_list(key)? else { return Ok(Vec::new()) };
        let layer = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok());
        let mut layers = Vec::with_capacity(list.len());
        for value in list {
            let wanted = "a layer's number";
            layers.push(layer(value).ok_or_else(|| ConfigError::invalid(key, shorten(value), wanted))?);
        }
        layers.sort();
        Ok(layers)
    }
}
