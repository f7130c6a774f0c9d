//! `gpt-oss`.
//!
//! What files don't say is the same in all such models: every second layer has the window, the first among them;
//! the gate is clamped at 7; the ends of YaRN's ramp aren't rounded (llama.cpp does round them, the models'
//! own code doesn't). Experts in MXFP4 have the blocks of all GGUF files.

use serde_json::{Map, Value, json};

use super::super::GgufError;
use super::super::config::Keys;
use super::{expert_width, routed};
use crate::config::{AttentionBias, ModelConfig};

/// Where llama.cpp clamps the gate.
const SWIGLU_LIMIT: f64 = 7.0;

pub(super) fn describe(keys: &Keys<'_>, out: &mut Map<String, Value>) -> Result<(), GgufError> {
    // Of so many layers the last has no window.
    let pattern = "attention.sliding_window_pattern";
    let period = keys.get_or(pattern, 2u32)?;
    if period != 2 {
        return Err(keys.unsupported(pattern, period, "2 for this architecture"));
    }
    if let Some(theta) = keys.float("rope.freq_base_swa")?
        && Some(theta) != keys.float("rope.freq_base")?
    {
        return Err(keys.unsupported("rope.freq_base_swa", theta, "the same as `rope.freq_base`"));
    }
    out.insert("model_type".into(), json!("gpt_oss"));
    out.insert("sliding_window".into(), json!(keys.need::<usize>("attention.sliding_window")?));
    out.insert("swiglu_limit".into(), json!(SWIGLU_LIMIT));
    if let Some(Value::Object(scaling)) = out.get_mut("rope_scaling") {
        scaling.insert("truncate".into(), json!(false));
    }
    expert_width(keys, out)?;
    if let Some(width) = out.remove("moe_intermediate_size") {
        out.insert("intermediate_size".into(), width);
    }
    routed(keys, out)
}

pub(super) fn check(config: &ModelConfig) -> Result<(), &'static str> {
    let every_second = (0..config.num_hidden_layers).all(|i| config.window(i).is_some() == (i % 2 == 0));
    if !every_second {
        return Err("a sliding window in other layers than the first and every second after it");
    }
    if config.attention_bias != AttentionBias::Qkvo {
        return Err("attention without biases");
    }
    if config.tie_word_embeddings {
        return Err("a head that shares the embedding's weights");
    }
    if config.moe.as_ref().is_some_and(|moe| moe.swiglu_limit != Some(SWIGLU_LIMIT)) {
        return Err("a `swiglu_limit` other than 7");
    }
    Ok(())
}
