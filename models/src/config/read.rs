//! Reading `config.json`, or the model table of a run's settings.
//!
//! Hugging Face files are read as transformers reads them: absent keys take the model type's
//! defaults, unknown keys are ignored, features that would change the result are refused. Settings
//! written for Halite are read strictly, so that a misspelt key is an error.

use std::path::Path;

use serde_json::Value;

use super::fields::{Fields, shorten};
use super::{
    AttentionBias, AttentionKind, ConfigError, GroupScore, ModelConfig, ModelType, MoeConfig, QkNorm, Rope,
    RouterScores,
};

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
    "sliding_window",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "partial_rotary_factor",
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
    if name.starts_with("deepseek_v2") || name.starts_with("deepseek_v3") {
        return Err(ConfigError::unsupported(format!("multi-head latent attention (model type \"{name}\")")));
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
        let head_dim = self.head_dim(hidden_size, num_attention_heads)?;
        let max_position_embeddings =
            f.size_or("max_position_embeddings", defaults.max_position_embeddings)?;
        let moe = self.moe()?;
        Ok(ModelConfig {
            model_type: self.model_type,
            vocab_size: f.size("vocab_size")?,
            hidden_size,
            num_hidden_layers,
            attention: AttentionKind::GroupedQuery,
            num_attention_heads,
            num_key_value_heads: f.size_or("num_key_value_heads", num_attention_heads)?,
            head_dim,
            attention_bias: self.attention_bias()?,
            qk_norm: self.qk_norm()?,
            sliding_window: self.sliding_window(num_hidden_layers)?,
            rope: Rope::read(
                f,
                defaults.rope_theta,
                defaults.partial_rotary,
                head_dim,
                max_position_embeddings,
            )?,
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
        if f.get("quantization_config").is_some() {
            return Err(ConfigError::unsupported("a quantised checkpoint (`quantization_config`)"));
        }
        if f.flag_or("mlp_bias", false)? {
            return Err(ConfigError::unsupported("`mlp_bias`"));
        }
        if f.get("clip_qkv").is_some() {
            return Err(ConfigError::unsupported("`clip_qkv`"));
        }
        let step = f.size_or("decoder_sparse_step", 1)?;
        if step != 1 {
            return Err(ConfigError::unsupported(format!("`decoder_sparse_step` {step}")));
        }
        Ok(())
    }

    fn head_dim(&self, hidden_size: usize, heads: usize) -> Result<usize, ConfigError> {
        if let Some(given) = self.fields.maybe_size("head_dim")? {
            return Ok(given);
        }
        if heads == 0 {
            return Err(ConfigError::invalid("num_attention_heads", heads, "1 or more"));
        }
        if matches!(self.model_type, ModelType::Qwen3) {
            return Ok(128); // transformers' default for this type, whatever the hidden size
        }
        if self.strict && !hidden_size.is_multiple_of(heads) {
            let wanted = format!("a multiple of num_attention_heads ({heads}), or `head_dim` given");
            return Err(ConfigError::invalid("hidden_size", hidden_size, wanted));
        }
        Ok(hidden_size / heads)
    }

    fn attention_bias(&self) -> Result<AttentionBias, ConfigError> {
        if self.model_type == ModelType::Halite {
            return self.fields.choice_or("attention_bias", &BIASES, AttentionBias::None);
        }
        let kind = match self.model_type {
            ModelType::Mixtral | ModelType::Mistral => return Ok(AttentionBias::None),
            ModelType::Glm4Moe => AttentionBias::Qkv,
            _ => AttentionBias::Qkvo,
        };
        Ok(if self.fields.flag_or("attention_bias", false)? { kind } else { AttentionBias::None })
    }

    fn qk_norm(&self) -> Result<QkNorm, ConfigError> {
        Ok(match self.model_type {
            ModelType::Llama | ModelType::Mistral | ModelType::Mixtral => QkNorm::None,
            ModelType::Qwen3 | ModelType::Qwen3Moe => QkNorm::PerHead,
            ModelType::Olmoe => QkNorm::Projection,
            ModelType::Glm4Moe if self.fields.flag_or("use_qk_norm", false)? => QkNorm::PerHead,
            ModelType::Glm4Moe => QkNorm::None,
            ModelType::Halite => self.fields.choice_or("qk_norm", &QK_NORMS, QkNorm::None)?,
        })
    }

    fn sliding_window(&self, layers: usize) -> Result<Option<usize>, ConfigError> {
        let f = &self.fields;
        let default = match self.model_type {
            // Null is no window, but absent is 4096.
            ModelType::Mistral | ModelType::Qwen3 | ModelType::Qwen3Moe if !f.has("sliding_window") => {
                Some(4096)
            }
            _ => None,
        };
        let window = f.maybe_size("sliding_window")?.or(default);
        match self.model_type {
            ModelType::Mistral | ModelType::Mixtral | ModelType::Halite => Ok(window),
            ModelType::Llama | ModelType::Olmoe | ModelType::Glm4Moe => Ok(None),
            ModelType::Qwen3 | ModelType::Qwen3Moe => {
                if !f.flag_or("use_sliding_window", false)? {
                    return Ok(None);
                }
                let Some(window) = window else { return Ok(None) };
                if self.model_type == ModelType::Qwen3Moe {
                    return Ok(Some(window));
                }
                let windowed = match f.maybe_list("layer_types")? {
                    Some(kinds) => kinds.iter().filter(|k| k.as_str() == Some("sliding_attention")).count(),
                    None => layers.saturating_sub(f.size_or("max_window_layers", 28)?),
                };
                match windowed {
                    0 => Ok(None),
                    n if n == layers => Ok(Some(window)),
                    n => Err(ConfigError::unsupported(format!(
                        "a sliding window in {n} of {layers} layers (all or none can have one)"
                    ))),
                }
            }
        }
    }

    fn dense_width(&self, experts: bool) -> Result<usize, ConfigError> {
        let f = &self.fields;
        match self.model_type {
            // Here `intermediate_size` is the experts' width.
            ModelType::Mixtral | ModelType::Olmoe => Ok(0),
            _ if experts => f.size_or("intermediate_size", 0),
            _ => f.size("intermediate_size"),
        }
    }

    fn leading_dense_layers(&self, experts: bool) -> Result<usize, ConfigError> {
        let f = &self.fields;
        match self.model_type {
            _ if !experts => Ok(0),
            ModelType::Glm4Moe => f.size_or("first_k_dense_replace", 1),
            ModelType::Halite => f.size_or("first_k_dense_replace", 0),
            ModelType::Qwen3Moe => {
                let Some(list) = f.maybe_list("mlp_only_layers")? else { return Ok(0) };
                let mut layers: Vec<Option<u64>> = list.iter().map(Value::as_u64).collect();
                layers.sort();
                if layers.iter().enumerate().any(|(i, l)| *l != Some(i as u64)) {
                    return Err(ConfigError::unsupported("`mlp_only_layers` that aren't the leading layers"));
                }
                Ok(layers.len())
            }
            _ => Ok(0),
        }
    }

    fn moe(&self) -> Result<Option<MoeConfig>, ConfigError> {
        let f = &self.fields;
        match self.model_type {
            ModelType::Llama | ModelType::Mistral | ModelType::Qwen3 => Ok(None),
            ModelType::Mixtral => Ok(Some(MoeConfig {
                num_experts_per_tok: f.size_or("num_experts_per_tok", 2)?,
                router_aux_loss_coef: f.float_or("router_aux_loss_coef", 0.001)?,
                ..self.softmax_moe("intermediate_size", true)?
            })),
            ModelType::Qwen3Moe => Ok(Some(self.softmax_moe("moe_intermediate_size", false)?)),
            ModelType::Olmoe => Ok(Some(self.softmax_moe("intermediate_size", false)?)),
            ModelType::Glm4Moe => Ok(Some(self.sigmoid_moe()?)),
            ModelType::Halite => self.free_moe(),
        }
    }

    /// The router of `mixtral` (always normalised), `qwen3_moe` and `olmoe` (as they say).
    fn softmax_moe(&self, width: &str, always_normalised: bool) -> Result<MoeConfig, ConfigError> {
        let f = &self.fields;
        Ok(MoeConfig {
            num_experts: f.size(f.pick(&EXPERTS))?,
            num_experts_per_tok: f.size_or("num_experts_per_tok", 8)?,
            moe_intermediate_size: f.size(width)?,
            scores: RouterScores::Softmax,
            selection_bias: false,
            n_group: 1,
            topk_group: 1,
            group_score: GroupScore::Max,
            norm_topk_prob: always_normalised || f.flag_or("norm_topk_prob", false)?,
            routed_scaling_factor: 1.0,
            n_shared_experts: 0,
            shared_intermediate_size: 0,
            router_aux_loss_coef: f.float_or("router_aux_loss_coef", 0.001)?,
        })
    }

    /// The router of DeepSeek-V3, which `glm4_moe` shares.
    fn sigmoid_moe(&self) -> Result<MoeConfig, ConfigError> {
        let f = &self.fields;
        let moe_intermediate_size = f.size("moe_intermediate_size")?;
        let n_shared_experts = f.size_or("n_shared_experts", 1)?;
        Ok(MoeConfig {
            num_experts: f.size(f.pick(&["n_routed_experts", "num_local_experts", "num_experts"]))?,
            num_experts_per_tok: f.size_or("num_experts_per_tok", 8)?,
            moe_intermediate_size,
            scores: RouterScores::Sigmoid,
            selection_bias: true,
            n_group: f.size_or("n_group", 1)?,
            topk_group: f.size_or("topk_group", 1)?,
            group_score: GroupScore::SumTop2,
            norm_topk_prob: f.flag_or("norm_topk_prob", true)?,
            routed_scaling_factor: f.float_or("routed_scaling_factor", 1.0)?,
            n_shared_experts,
            // A product too large saturates, and validation refuses it.
            shared_intermediate_size: moe_intermediate_size.saturating_mul(n_shared_experts),
            router_aux_loss_coef: f.float_or("router_aux_loss_coef", 0.0)?,
        })
    }

    /// Any router: the keys of "halite".
    fn free_moe(&self) -> Result<Option<MoeConfig>, ConfigError> {
        let f = &self.fields;
        let num_experts = f.size_or(f.pick(&EXPERTS), 0)?;
        if num_experts == 0 {
            return Ok(None);
        }
        let scores = f.choice_or("scoring_func", &SCORES, RouterScores::Softmax)?;
        let selection_bias = f.flag_or("selection_bias", scores == RouterScores::Sigmoid)?;
        let group_score = if selection_bias { GroupScore::SumTop2 } else { GroupScore::Max };
        let moe_intermediate_size = f.size("moe_intermediate_size")?;
        let n_shared_experts = f.size_or("n_shared_experts", 0)?;
        let shared = moe_intermediate_size.saturating_mul(n_shared_experts);
        Ok(Some(MoeConfig {
            num_experts,
            num_experts_per_tok: f.size("num_experts_per_tok")?,
            moe_intermediate_size,
            scores,
            selection_bias,
            n_group: f.size_or("n_group", 1)?,
            topk_group: f.size_or("topk_group", 1)?,
            group_score: f.choice_or("group_score", &GROUP_SCORES, group_score)?,
            norm_topk_prob: f.flag_or("norm_topk_prob", true)?,
            routed_scaling_factor: f.float_or("routed_scaling_factor", 1.0)?,
            n_shared_experts,
            shared_intermediate_size: f.size_or("shared_intermediate_size", shared)?,
            router_aux_loss_coef: f.float_or("router_aux_loss_coef", 0.01)?,
        }))
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
