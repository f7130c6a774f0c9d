//! A model's configuration out of a GGUF file's metadata.
//!
//! Metadata become the keys of a Hugging Face `config.json`, which is read as such a file is: what a model
//! type means, and what no model can have, is said in one place. What would change the model's result and
//! has no place in it is refused.

use serde_json::{Map, Value as Json, json};

use super::architecture::Architecture;
use super::value::{FromValue, Value};
use super::{Gguf, GgufError};
use crate::config::{AttentionKind, ModelConfig, ModelType};

/// The keys of a file's architecture.
pub(super) struct Keys<'a> {
    pub gguf: &'a Gguf,
    architecture: &'static str,
}

/// Keys that change a model's result, and for which the models that are read have no place.
const REFUSED: [&str; 14] = [
    "attention.causal",
    "attention.clamp_kqv",
    "attention.output_scale",
    "attention.scale",
    "attention.temperature_scale",
    "attention.value_scale",
    "attn_logit_softcapping",
    "embedding_scale",
    "expert_group_scale",
    "final_logit_softcapping",
    "logit_scale",
    "residual_scale",
    "rope.scaling.alpha",
    "router_logit_softcapping",
];

impl<'a> Keys<'a> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    pub fn get<T: FromValue<'a>>(&self, key: &str) -> Result<Option<T>, GgufError> {
        self.gguf.get(&self.name(key))
    }

    pub fn get_or<T: FromValue<'a>>(&self, key: &str, default: T) -> Result<T, GgufError> {
        Ok(self.get(key)?.unwrap_or(default))
    }

    pub fn need<T: FromValue<'a>>(&self, key: &str) -> Result<T, GgufError> {
        self.gguf.need(&self.name(key))
    }

    /// A finite number. One that was written in decimal before it was stored as f32 is that decimal: `1e-5`,
    /// not its nearest f32.
    pub fn float(&self, key: &str) -> Result<Option<f64>, GgufError> {
        let key = self.name(key);
        let Some(number) = self.gguf.get::<f64>(&key)? else { return Ok(None) };
        if !number.is_finite() {
            return Err(GgufError::metadata(key, format!("it is {number}; it must be a finite number")));
        }
        match self.gguf.value(&key) {
            // Rust prints the shortest decimal that is this f32.
            Some(Value::F32(v)) => Ok(v.to_string().parse().ok()),
            _ => Ok(Some(number)),
        }
    }

    fn need_float(&self, key: &str) -> Result<f64, GgufError> {
        self.float(key)?.ok_or_else(|| GgufError::MissingKey {
            key: self.name(key),
            wanted: <f64 as FromValue<'_>>::WANTED,
        })
    }

    /// The error that a key has a value which nothing here is built for.
    pub fn unsupported(&self, key: &str, value: impl std::fmt::Display, wanted: &str) -> GgufError {
        GgufError::Unsupported {
            what: format!("`{}` {value}", self.name(key)),
            wanted: format!("it must be {wanted}"),
        }
    }
}

/// Reads and validates the configuration of a file of that architecture.
pub(super) fn read(gguf: &Gguf, architecture: &'static Architecture) -> Result<ModelConfig, GgufError> {
    whole_model(gguf)?;
    let keys = Keys { gguf, architecture: architecture.name };
    refuse_other_features(&keys)?;

    let hidden_size: usize = keys.need("embedding_length")?;
    let heads: usize = keys.need("attention.head_count")?;
    let mut out = Map::new();
    if !architecture.latent {
        plain_heads(&keys, hidden_size, heads, &mut out)?;
    }
    // The last layers may be for predicting further tokens; nothing here runs those.
    let layers: usize = keys.need("block_count")?;
    let layers = layers.saturating_sub(keys.get_or("nextn_predict_layers", 0)?);
    let embedding = gguf.tensor("token_embd.weight")?;
    let mut set = |key: &str, value: Json| out.insert(key.into(), value);
    set("vocab_size", json!(embedding.shape.first()));
    set("hidden_size", json!(hidden_size));
    set("num_hidden_layers", json!(layers));
    set("num_attention_heads", json!(heads));
    set("intermediate_size", json!(keys.get_or("feed_forward_length", 0usize)?));
    set("attention_bias", json!(gguf.find("blk.0.attn_q.bias").is_some()));
    set("rms_norm_eps", json!(keys.need_float("attention.layer_norm_rms_epsilon")?));
    set("max_position_embeddings", json!(keys.need::<usize>("context_length")?));
    set("tie_word_embeddings", json!(gguf.find("output.weight").is_none()));
    set("rope_theta", json!(keys.float("rope.freq_base")?.unwrap_or(10000.0)));
    set("rope_scaling", rope_scaling(&keys)?);
    set("bos_token_id", json!(gguf.get::<u32>("tokenizer.ggml.bos_token_id")?));
    set("eos_token_id", json!(end_tokens(gguf)?));
    (architecture.describe)(&keys, &mut out)?;

    let mut config = ModelConfig::from_json(&Json::Object(out))?;
    if let AttentionKind::Latent(latent) = &mut config.attention
        && latent.norm_eps != config.rms_norm_eps
    {
        // llama.cpp has one epsilon for all norms, Hugging Face's types a fixed one for these.
        latent.norm_eps = config.rms_norm_eps;
        config.model_type = ModelType::Halite;
    }
    check_rope_factors(gguf, &config)?;
    Ok(config)
}

/// The widths of heads of which several may share keys and values.
fn plain_heads(
    keys: &Keys<'_>,
    hidden_size: usize,
    heads: usize,
    out: &mut Map<String, Json>,
) -> Result<(), GgufError> {
    let head_dim: usize = match keys.get("attention.key_length")? {
        Some(width) => width,
        None => hidden_size / heads.max(1),
    };
    let values = keys.get_or("attention.value_length", head_dim)?;
    if values != head_dim {
        return Err(keys.unsupported("attention.value_length", values, &format!("the keys' {head_dim}")));
    }
    let rotary_dim = keys.get_or("rope.dimension_count", head_dim)?;
    out.insert("head_dim".into(), json!(head_dim));
    out.insert("num_key_value_heads".into(), json!(keys.get_or("attention.head_count_kv", heads)?));
    out.insert("partial_rotary_factor".into(), json!(partial(rotary_dim, head_dim)));
    Ok(())
}

/// The file holds all of a model, and a model.
fn whole_model(gguf: &Gguf) -> Result<(), GgufError> {
    let parts = gguf.get::<u32>("split.count")?.unwrap_or(1);
    if parts > 1 {
        let what = format!("a model in {parts} files (`split.count`)");
        let wanted = "join them with llama.cpp's `llama-gguf-split --merge`".into();
        return Err(GgufError::Unsupported { what, wanted });
    }
    match gguf.get::<&str>("general.type")? {
        None | Some("model") => Ok(()),
        Some(other) => Err(GgufError::Unsupported {
            what: format!("`general.type` {other:?}"),
            wanted: "it must be \"model\"".into(),
        }),
    }
}

/// Keys that must be absent, or say what is so anyway.
fn refuse_other_features(keys: &Keys<'_>) -> Result<(), GgufError> {
    for key in REFUSED {
        let Some(value) = keys.gguf.value(&keys.name(key)) else { continue };
        // 0 leaves out a factor or a limit, 1 is a factor without effect.
        let neutral = match bool::from_value(&value) {
            Some(causal) => causal,
            None => matches!(f64::from_value(&value), Some(0.0 | 1.0)),
        };
        if !neutral {
            return Err(keys.unsupported(key, value.describe(), "absent"));
        }
    }
    Ok(())
}

/// The part of a head that turns, so that [`ModelConfig`] finds the same number of dimensions.
fn partial(rotary_dim: usize, head_dim: usize) -> f64 {
    let partial = rotary_dim as f64 / head_dim as f64;
    // The quotient may have been rounded down, and readers truncate.
    if (head_dim as f64 * partial) as usize == rotary_dim { partial } else { partial.next_up() }
}

/// What ends a text: the end of the text, and that of a turn.
fn end_tokens(gguf: &Gguf) -> Result<Vec<u32>, GgufError> {
    let mut ends = Vec::new();
    for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"] {
        ends.extend(gguf.get::<u32>(key)?.filter(|id| !ends.contains(id)));
    }
    Ok(ends)
}

/// `rope_scaling` of `config.json`, null without.
fn rope_scaling(keys: &Keys<'_>) -> Result<Json, GgufError> {
    let factor = match keys.float("rope.scaling.factor")? {
        Some(factor) => Some(factor),
        None => keys.float("rope.scale_linear")?, // the older key
    }
    .filter(|f| *f != 0.0);
    let original: Option<usize> = keys.get("rope.scaling.original_context_length")?;
    if let Some(factors) = rope_factors(keys.gguf)? {
        // Llama 3's rule was evaluated when the file was made; only the factors are left. Its settings have
        // been the same in all releases but for the largest factor. That they give these factors is checked.
        return Ok(json!({
            "rope_type": "llama3",
            "factor": factors.iter().copied().fold(1.0, f32::max),
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": original.unwrap_or(8192),
        }));
    }
    let kind: &str = keys.get_or("rope.scaling.type", "linear")?;
    Ok(match (kind, factor) {
        ("none", _) | ("linear", None) => Json::Null,
        ("linear", Some(factor)) => json!({"rope_type": "linear", "factor": factor}),
        ("yarn", _) => {
            for key in ["rope.scaling.attn_factor", "rope.scaling.yarn_ext_factor"] {
                if let Some(other) = keys.float(key)?.filter(|f| *f != 1.0) {
                    return Err(keys.unsupported(key, other, "1"));
                }
            }
            json!({
                "rope_type": "yarn",
                "factor": factor.unwrap_or(1.0),
                "original_max_position_embeddings": original,
                "attention_factor": keys.float("rope.scaling.yarn_attn_factor")?,
                "beta_fast": keys.float("rope.scaling.yarn_beta_fast")?,
                "beta_slow": keys.float("rope.scaling.yarn_beta_slow")?,
            })
        }
        (other, _) => return Err(keys.unsupported("rope.scaling.type", other, "none, linear or yarn")),
    })
}

/// What each frequency is divided by, where that isn't 1 throughout.
fn rope_factors(gguf: &Gguf) -> Result<Option<Vec<f32>>, GgufError> {
    let Some(tensor) = gguf.find("rope_freqs.weight") else { return Ok(None) };
    let factors = tensor.to_f32()?;
    if let Some(bad) = factors.iter().find(|f| !(f.is_finite() && **f > 0.0)) {
        return Err(GgufError::tensor(tensor.name, format!("a factor is {bad}; it must be greater than 0")));
    }
    Ok(Some(factors).filter(|factors| factors.iter().any(|f| *f != 1.0)))
}

/// The configuration's rotary embedding turns as the file's factors say.
fn check_rope_factors(gguf: &Gguf, config: &ModelConfig) -> Result<(), GgufError> {
    let Some(factors) = rope_factors(gguf)? else { return Ok(()) };
    let rope = &config.rope;
    // Before the frequencies are listed: the configuration may claim any number of them.
    if factors.len() != rope.rotary_dim / 2 {
        let why = format!("{} factors; {} dimensions turn in pairs", factors.len(), rope.rotary_dim);
        return Err(GgufError::tensor("rope_freqs.weight", why));
    }
    let frequencies = rope.inverse_frequencies();
    let plain = |i: usize| rope.theta.powf(-2.0 * i as f64 / rope.rotary_dim as f64);
    let same = |(i, (found, factor)): (usize, (&f64, &f32))| {
        let wanted = plain(i) / f64::from(*factor);
        (found - wanted).abs() <= 1e-5 * wanted
    };
    if frequencies.iter().zip(&factors).enumerate().all(same) {
        return Ok(());
    }
    Err(GgufError::Unsupported {
        what: format!("rope_freqs.weight of {} factors {factors:?}", factors.len()),
        wanted: "they must be those of Llama 3 (low_freq_factor 1, high_freq_factor 4, context 8192)".into(),
    })
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
