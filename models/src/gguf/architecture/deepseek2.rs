//! `deepseek2`: DeepSeek-V2 and V3, which the router's scores tell apart.
//!
//! Rows of rotary parts stay where they are: both Hugging Face's weights and llama.cpp turn neighbours together.
//! The up-projection of latent vectors is one tensor in older files and two in newer ones, see
//! [`latent`](super::super::latent). The models' rules are followed where llama.cpp simplifies them: it scores
//! the groups of DeepSeek-V2's experts by their two best, the model by the best.

use serde_json::{Map, Value, json};

use super::super::GgufError;
use super::super::config::Keys;
use super::{SIGMOID, SOFTMAX, grouped_experts};
use crate::config::{AttentionKind, ModelConfig, RopeScaling};

pub(super) fn describe(keys: &Keys<'_>, out: &mut Map<String, Value>) -> Result<(), GgufError> {
    grouped_experts(keys, out)?;
    let grouped = out.get("n_group").is_some_and(|n| *n != json!(1));
    // The first files of DeepSeek-V2 don't say.
    match keys.get_or("expert_gating_func", 0)? {
        SIGMOID => out.insert("model_type".into(), json!("deepseek_v3")),
        0 | SOFTMAX => {
            let biased = |name: &str| name.ends_with(".exp_probs_b.bias");
            if let Some(bias) = keys.gguf.tensors().find(|t| biased(t.name)) {
                return Err(GgufError::tensor(
                    bias.name,
                    "a softmax router with a selection bias is not supported",
                ));
            }
            let method = if grouped { "group_limited_greedy" } else { "greedy" };
            out.insert("topk_method".into(), json!(method));
            out.insert("model_type".into(), json!("deepseek_v2"))
        }
        other => {
            return Err(keys.unsupported("expert_gating_func", other, "1 (softmax) or 2 (sigmoid)"));
        }
    };
    // Without compression of queries there is no rank, or 0.
    let rank = keys.get("attention.q_lora_rank")?.filter(|rank: &usize| *rank > 0);
    out.insert("q_lora_rank".into(), json!(rank));
    out.insert("kv_lora_rank".into(), json!(keys.need::<usize>("attention.kv_lora_rank")?));
    widths(keys, out)?;
    strengths(keys, out)
}

/// The widths of heads. Newer files have those of the latent vector under the common keys, and the heads' under
/// keys of their own.
fn widths(keys: &Keys<'_>, out: &mut Map<String, Value>) -> Result<(), GgufError> {
    let width = |own: &str, common: &str| match keys.get(own)?.filter(|width: &usize| *width > 0) {
        Some(width) => Ok(width),
        None => keys.need::<usize>(common),
    };
    let head_dim = width("attention.key_length_mla", "attention.key_length")?;
    let turned: usize = keys.need("rope.dimension_count")?;
    let plain = head_dim.checked_sub(turned).ok_or_else(|| {
        keys.unsupported("rope.dimension_count", turned, &format!("at most the keys' width, {head_dim}"))
    })?;
    out.insert("qk_nope_head_dim".into(), json!(plain));
    out.insert("qk_rope_head_dim".into(), json!(turned));
    let value = width("attention.value_length_mla", "attention.value_length")?;
    out.insert("v_head_dim".into(), json!(value));
    Ok(())
}

/// The strengths of YaRN, which llama.cpp takes to be the same. Files have a tenth of them.
fn strengths(keys: &Keys<'_>, out: &mut Map<String, Value>) -> Result<(), GgufError> {
    let Some(tenth) = keys.float("rope.scaling.yarn_log_multiplier")?.filter(|m| *m != 0.0) else {
        return Ok(());
    };
    // In decimal, so that 0.0707 becomes 0.707 and not its neighbour.
    let strength: f64 = format!("{tenth}e1").parse().unwrap_or(10.0 * tenth);
    if let Some(Value::Object(scaling)) = out.get_mut("rope_scaling")
        && scaling.get("rope_type") == Some(&json!("yarn"))
    {
        scaling.insert("mscale".into(), json!(strength));
        scaling.insert("mscale_all_dim".into(), json!(strength));
    }
    Ok(())
}

pub(super) fn check(config: &ModelConfig) -> Result<(), &'static str> {
    let AttentionKind::Latent(latent) = config.attention else { return Err("attention that isn't latent") };
    // llama.cpp has one epsilon for all norms.
    if latent.norm_eps != config.rms_norm_eps {
        return Err("a `rms_norm_eps` other than that of the latent vectors' norms, 1e-6,");
    }
    if !config.rope.interleaved {
        return Err("a rotary embedding that isn't interleaved");
    }
    match config.rope.scaling {
        // Other strengths llama.cpp takes for these, and none for others on the scores.
        Some(RopeScaling::Yarn {
            mscale: Some(a), mscale_all_dim: Some(b), attention_factor: None, ..
        }) if a == b && a != 0.0 => Ok(()),
        Some(RopeScaling::Yarn { .. }) => {
            Err("YaRN without `mscale` and `mscale_all_dim`, the same and not 0, or with `attention_factor`,")
        }
        _ => Ok(()),
    }
}
