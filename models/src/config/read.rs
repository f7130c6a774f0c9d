//! Reading `config.json`, or the model table of a run's settings.
//!
//! Hugging Face files are read as transformers reads them: absent keys take the model type's
//! defaults, unknown keys are ignored, features that would change the result are refused. Settings
//! written for Halite are read strictly, so that a misspelt key is an error.

mod attention;
mod experts;

use std::path::Path;

use serde_json::Value;

use super::fields::{Fields, shorten};
use super::{AttentionBias, ConfigError, GroupScore, ModelConfig, ModelType, QkNorm, RouterScores};

/// Layers beyond this can't be built, see validation: no need to list them.
const MAX_LAYERS: usize = 1 << 24;

/// Ways of quantising weights that are read.
const QUANTIZED: [&str; 2] = ["fp8", "mxfp4"];

/// Names of the number of routed experts; Hugging Face's model types differ.
const EXPERTS: [&str; 3] = ["num_experts", "num_local_experts", "n_routed_experts"];

/// Keys of model type "halite", and of settings without a model type.
const HALITE_KEYS: &[&str] = &[
    "model_type",
    "architectures",
    "torch_dtype",
    "dtype",
    "hidden_act",
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "attention_bias",
    "qk_norm",
    "q_lora_rank",
    "kv_lora_rank",
    "v_head_dim",
    "latent_norm_eps",
    "attention_sinks",
    "sliding_window",
    "full_attention_layers",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "partial_rotary_factor",
    "rope_interleave",
    "rms_norm_eps",
    "max_position_embeddings",
    "tie_word_embeddings",
    "intermediate_size",
    "first_k_dense_replace",
    "num_experts",
    "num_local_experts",
    "n_routed_experts",
    "num_experts_per_tok",
    "moe_intermediate_size",
    "scoring_func",
    "selection_bias",
    "n_group",
    "topk_group",
    "group_score",
    "norm_topk_prob",
    "routed_scaling_factor",
    "n_shared_experts",
    "shared_intermediate_size",
    "shared_gate",
    "expert_bias",
    "swiglu_limit",
    "router_aux_loss_coef",
    "initializer_range",
    "bos_token_id",
    "eos_token_id",
];

pub(super) const SCORES: [(&str, RouterScores); 2] =
    [("softmax", RouterScores::Softmax), ("sigmoid", RouterScores::Sigmoid)];
pub(super) const GROUP_SCORES: [(&str, GroupScore); 2] =
    [("max", GroupScore::Max), ("sum_top2", GroupScore::SumTop2)];
pub(super) const QK_NORMS: [(&str, QkNorm); 3] =
    [("none", QkNorm::None), ("per_head", QkNorm::PerHead), ("projection", QkNorm::Projection)];
pub(super) const BIASES: [(&str, AttentionBias); 3] =
    [("none", AttentionBias::None), ("qkv", AttentionBias::Qkv), ("qkvo", AttentionBias::Qkvo)];

impl ModelConfig {
    /// Reads and validates a Hugging Face `config.json`.
    pub fn from_file(path: &Path) -> Result<ModelConfig, ConfigError> {
        let text = std::fs::read(path).map_err(|source| ConfigError::Io { path: path.into(), source })?;
        let json = serde_json::from_slice(&text)
            .map_err(|source| ConfigError::Json { path: path.into(), source })?;
        ModelConfig::from_json(&json)
    }

    /// Reads and validates the content of a Hugging Face `config.json`.
    pub fn from_json(json: &Value) -> Result<ModelConfig, ConfigError> {
        let fields = Fields::new("config.json", json)?;
        let name = fields
            .maybe_text("model_type")?
            .ok_or_else(|| ConfigError::Missing { key: "model_type".into(), wanted: supported_names() })?;
        let config = Reader { fields, model_type: model_type(name)?, strict: name == "halite" }.read()?;
        config.validate()?;
        Ok(config)
    }

    /// Reads and validates the model of a run's settings, which has the keys of `config.json`.
    ///
    /// Stricter than [`ModelConfig::from_json`]: unless `head_dim` is given, the heads must divide
    /// the hidden size. Without a `model_type` the keys may be combined freely and unknown ones are
    /// errors; the result's model type is then the one that expresses the combination, and
    /// [`ConfigError::NotExportable`] if there is none, unless `give_up_export` allows "halite".
    pub fn from_settings(json: &Value, give_up_export: bool) -> Result<ModelConfig, ConfigError> {
        let fields = Fields::new("model", json)?;
        let model_type = match fields.maybe_text("model_type")? {
            Some(name) => model_type(name)?,
            None => ModelType::Halite,
        };
        let mut config = Reader { fields, model_type, strict: true }.read()?;
        config.validate()?;
        if config.model_type == ModelType::Halite {
            match config.export_model_type() {
                Ok(found) => config.model_type = found,
                Err(_) if give_up_export => {}
                Err(e) => return Err(e),
            }
        }
        Ok(config)
    }
}

fn model_type(name: &str) -> Result<ModelType, ConfigError> {
    if let Some(found) = ModelType::from_name(name) {
        return Ok(found);
    }
    Err(ConfigError::unsupported(format!("model type \"{name}\" (supported: {})", supported_names())))
}

fn supported_names() -> String {
    ModelType::ALL.map(ModelType::as_str).join(", ")
}

/// What transformers assumes where a file is silent.
struct Defaults {
    rms_norm_eps: f64,
    rope_theta: f64,
    partial_rotary: f64,
    max_position_embeddings: usize,
}

struct Reader<'a> {
    fields: Fields<'a>,
    model_type: ModelType,
    strict: bool,
}

impl Reader<'_> {
    fn defaults(&self) -> Defaults {
        let (rms_norm_eps, rope_theta, max_position_embeddings) = match self.model_type {
            ModelType::Llama => (1e-6, 1e4, 2048),
            ModelType::Mistral => (1e-6, 1e4, 131072),
            ModelType::Qwen3 | ModelType::Qwen3Moe => (1e-6, 1e4, 32768),
            ModelType::Mixtral => (1e-5, 1e6, 131072),
            ModelType::Olmoe => (1e-5, 1e4, 4096),
            ModelType::Glm4Moe => (1e-5, 1e4, 131072),
            ModelType::Qwen2 | ModelType::Qwen2Moe => (1e-6, 1e4, 32768),
            ModelType::DeepseekV2 => (1e-6, 1e4, 2048),
            ModelType::DeepseekV3 => (1e-6, 1e4, 4096),
            ModelType::GptOss => (1e-5, 150_000.0, 131072),
            ModelType::Halite => (1e-5, 1e4, 2048),
        };
        let partial_rotary = if self.model_type == ModelType::Glm4Moe { 0.5 } else { 1.0 };
        Defaults { rms_norm_eps, rope_theta, partial_rotary, max_position_embeddings }
    }

    fn read(&self) -> Result<ModelConfig, ConfigError> {
        let f = &self.fields;
        self.refuse_other_features()?;
        let defaults = self.defaults();
        let hidden_size = f.size("hidden_size")?;
        let num_attention_heads = f.size("num_attention_heads")?;
        let num_hidden_layers = f.size("num_hidden_layers")?;
        let (attention, head_dim) = self.attention(hidden_size, num_attention_heads)?;
        let max_position_embeddings =
            f.size_or("max_position_embeddings", defaults.max_position_embeddings)?;
        let moe = self.moe()?;
        let (sliding_window, full_attention_layers) = self.windows(num_hidden_layers)?;
        Ok(ModelConfig {
            model_type: self.model_type,
            vocab_size: f.size("vocab_size")?,
            hidden_size,
            num_hidden_layers,
            attention,
            num_attention_heads,
            num_key_value_heads: self.key_value_heads(num_attention_heads)?,
            head_dim,
            attention_bias: self.attention_bias()?,
            qk_norm: self.qk_norm()?,
            attention_sinks: match self.model_type {
                ModelType::Halite => f.flag_or("attention_sinks", false)?,
                model_type => model_type == ModelType::GptOss,
            },
            sliding_window,
            full_attention_layers,
            rope: self.rope(head_dim, max_position_embeddings)?,
            rms_norm_eps: f.float_or("rms_norm_eps", defaults.rms_norm_eps)?,
            max_position_embeddings,
            tie_word_embeddings: f.flag_or("tie_word_embeddings", false)?,
            intermediate_size: self.dense_width(moe.is_some())?,
            first_k_dense_replace: self.leading_dense_layers(moe.is_some())?,
            moe,
            initializer_range: f.float_or("initializer_range", 0.02)?,
            bos_token_id: self.token_ids("bos_token_id")?.first().copied(),
            eos_token_ids: self.token_ids("eos_token_id")?,
        })
    }

    /// Settings that would change the model's result and that no field of [`ModelConfig`] holds.
    fn refuse_other_features(&self) -> Result<(), ConfigError> {
        let f = &self.fields;
        if self.model_type == ModelType::Halite
            && let Some(key) = f.keys().find(|k| !HALITE_KEYS.contains(&k.as_str()))
        {
            let wanted = format!("one of the known keys: {}", HALITE_KEYS.join(", "));
            return Err(ConfigError::invalid(key, "not a known key", wanted));
        }
        let activation = f.maybe_text("hidden_act")?.unwrap_or("silu");
        if activation != "silu" && activation != "swish" {
            return Err(ConfigError::unsupported(format!("activation \"{activation}\"")));
        }
        if let Some(quantization) = f.get("quantization_config") {
            let method = Fields::new("quantization_config", quantization)?.maybe_text("quant_method")?;
            if !method.is_some_and(|m| QUANTIZED.contains(&m)) {
                let what = format!("weights quantised by `{}`", method.unwrap_or("an unknown method"));
                return Err(ConfigError::unsupported(format!("{what} (known: {})", QUANTIZED.join(", "))));
            }
        }
        if f.flag_or("mlp_bias", false)? {
            return Err(ConfigError::unsupported("`mlp_bias`"));
        }
        if f.get("clip_qkv").is_some() {
            return Err(ConfigError::unsupported("`clip_qkv`"));
        }
        for key in ["decoder_sparse_step", "moe_layer_freq"] {
            let step = f.size_or(key, 1)?;
            if step != 1 {
                return Err(ConfigError::unsupported(format!("`{key}` {step}")));
            }
        }
        Ok(())
    }

    fn dense_width(&self, experts: bool) -> Result<usize, ConfigError> {
        let f = &self.fields;
        match self.model_type {
            // Here `intermediate_size` is the experts' width.
            ModelType::Mixtral | ModelType::Olmoe | ModelType::GptOss => Ok(0),
            _ if experts => f.size_or("intermediate_size", 0),
            _ => f.size("intermediate_size"),
        }
    }

    fn leading_dense_layers(&self, experts: bool) -> Result<usize, ConfigError> {
        let f = &self.fields;
        match self.model_type {
            _ if !experts => Ok(0),
            ModelType::Glm4Moe => f.size_or("first_k_dense_replace", 1),
            ModelType::DeepseekV3 => f.size_or("first_k_dense_replace", 3),
            ModelType::DeepseekV2 => f.size_or("first_k_dense_replace", 0),
            ModelType::Halite => f.size_or("first_k_dense_replace", 0),
            ModelType::Qwen2Moe | ModelType::Qwen3Moe => {
                let layers = self.layers_listed("mlp_only_layers")?;
                if layers.iter().enumerate().any(|(i, layer)| i != *layer) {
                    return Err(ConfigError::unsupported("`mlp_only_layers` that aren't the leading layers"));
                }
                Ok(layers.len())
            }
            _ => Ok(0),
        }
    }

    /// A token id, several, or none.
    fn token_ids(&self, key: &str) -> Result<Vec<u32>, ConfigError> {
        let id = |v: &Value| {
            v.as_u64().and_then(|n| u32::try_from(n).ok()).ok_or_else(|| {
                ConfigError::invalid(key, shorten(v), "a token id (or a list of them), 0 or more")
            })
        };
        match self.fields.get(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => list.iter().map(id).collect(),
            Some(one) => Ok(vec![id(one)?]),
        }
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
