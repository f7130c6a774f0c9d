//! The architectures that GGUF files are read as: what each says beyond the keys that all have.
//!
//! Adding one is an entry in [`ARCHITECTURES`] and the function that gives its keys of `config.json`; for
//! models with experts also what is told of them when such a file is written.
//! Sources: llama.cpp's `src/models/*.cpp` (what is read, and what is built of it), and `conversion/*.py`
//! (what Hugging Face's keys and tensors became).

mod deepseek2;
mod gpt_oss;

use serde_json::{Map, Value, json};

use super::config::Keys;
use super::export::Out;
use super::{Gguf, GgufError};
use crate::config::{ModelConfig, ModelType, MoeConfig, RouterScores};

/// One value of `general.architecture`.
#[derive(Debug)]
pub(super) struct Architecture {
    /// The value, and the prefix of its keys.
    pub name: &'static str,
    /// Whether rows of query and key stand in the order of interleaved rotation: conversion moved them
    /// from Hugging Face's half-split order.
    pub interleaved: bool,
    /// Whether attention is latent.
    pub latent: bool,
    /// Whether the ends of YaRN's ramp are rounded to whole dimensions.
    pub rounds_ramp: bool,
    /// What the norm before the feed-forward part is called.
    pub post_attention_norm: &'static str,
    /// The model types whose files have it.
    model_types: &'static [ModelType],
    /// Adds its own keys of `config.json`, `model_type` among them.
    pub describe: fn(&Keys<'_>, &mut Map<String, Value>) -> Result<(), GgufError>,
    /// What files can't say of a model, as a noun phrase.
    pub check: fn(&ModelConfig) -> Result<(), &'static str>,
    /// What files can't say of a model's experts, as a noun phrase.
    pub check_experts: fn(&ModelConfig, &MoeConfig) -> Result<(), &'static str>,
    /// Writes metadata of the experts beyond their number.
    pub describe_experts: fn(&MoeConfig, &mut Out<'_, '_>) -> Result<(), GgufError>,
}

/// Most of them: without experts, and nothing moved.
const DENSE: Architecture = Architecture {
    name: "",
    interleaved: false,
    latent: false,
    rounds_ramp: true,
    post_attention_norm: "ffn_norm",
    model_types: &[],
    describe: |_, _| Ok(()),
    check: |config| if config.sliding_window.is_some() { Err("a sliding window") } else { Ok(()) },
    check_experts: |_, _| Ok(()),
    describe_experts: |_, _| Ok(()),
};

/// All that are known.
static ARCHITECTURES: [Architecture; 9] = [
    Architecture {
        name: "llama",
        interleaved: true,
        model_types: &[ModelType::Llama, ModelType::Mistral, ModelType::Mixtral],
        describe: llama,
        ..DENSE
    },
    Architecture { name: "qwen2", model_types: &[ModelType::Qwen2], describe: qwen2, ..DENSE },
    Architecture {
        name: "qwen2moe",
        model_types: &[ModelType::Qwen2Moe],
        describe: qwen2_moe,
        check_experts: |config, moe| match (moe.norm_topk_prob, config.first_k_dense_replace) {
            (true, _) => Err("normalised router weights"),
            (false, 0) if config.tie_word_embeddings => Err("a head that shares the embedding's weights"),
            (false, 0) => Ok(()),
            _ => Err("leading dense layers"),
        },
        describe_experts: |moe, out| {
            out.size("expert_feed_forward_length", moe.moe_intermediate_size)?;
            out.size("expert_shared_feed_forward_length", moe.shared_intermediate_size)
        },
        ..DENSE
    },
    Architecture { name: "qwen3", model_types: &[ModelType::Qwen3], describe: qwen3, ..DENSE },
    Architecture {
        name: "qwen3moe",
        model_types: &[ModelType::Qwen3Moe],
        describe: qwen3_moe,
        check_experts: |config, moe| match (moe.norm_topk_prob, config.first_k_dense_replace) {
            (true, 0) => Ok(()),
            (false, _) => Err("router weights that aren't normalised"),
            _ => Err("leading dense layers"),
        },
        describe_experts: |moe, out| out.size("expert_feed_forward_length", moe.moe_intermediate_size),
        ..DENSE
    },
    Architecture {
        name: "olmoe",
        model_types: &[ModelType::Olmoe],
        describe: olmoe,
        check_experts: |_, moe| if moe.norm_topk_prob { Err("normalised router weights") } else { Ok(()) },
        ..DENSE
    },
    Architecture {
        name: "glm4moe",
        post_attention_norm: "post_attention_norm",
        model_types: &[ModelType::Glm4Moe],
        describe: glm4_moe,
        describe_experts: describe_grouped_experts,
        ..DENSE
    },
    Architecture {
        name: "deepseek2",
        latent: true,
        model_types: &[ModelType::DeepseekV2, ModelType::DeepseekV3],
        describe: deepseek2::describe,
        check: deepseek2::check,
        describe_experts: describe_grouped_experts,
        ..DENSE
    },
    Architecture {
        name: "gpt-oss",
        rounds_ramp: false,
        post_attention_norm: "post_attention_norm",
        model_types: &[ModelType::GptOss],
        describe: gpt_oss::describe,
        check: gpt_oss::check,
        describe_experts: |moe, out| out.size("expert_feed_forward_length", moe.moe_intermediate_size),
        ..DENSE
    },
];

impl Architecture {
    /// The architecture of a file.
    pub fn of(gguf: &Gguf) -> Result<&'static Architecture, GgufError> {
        let name: &str = gguf.need("general.architecture")?;
        ARCHITECTURES.iter().find(|a| a.name == name).ok_or_else(|| {
            let known: Vec<&str> = ARCHITECTURES.iter().map(|a| a.name).collect();
            let wanted = format!("known are {}", known.join(", "));
            GgufError::Unsupported { what: format!("architecture {name:?}"), wanted }
        })
    }

    /// The architecture that files of a model type have.
    pub fn for_model(model_type: ModelType) -> Result<&'static Architecture, GgufError> {
        ARCHITECTURES.iter().find(|a| a.model_types.contains(&model_type)).ok_or_else(|| {
            let known = ARCHITECTURES.iter().flat_map(|a| a.model_types).map(|t| t.as_str());
            let wanted = format!("known are {}", known.collect::<Vec<_>>().join(", "));
            GgufError::Unsupported { what: format!("GGUF of model type \"{model_type}\""), wanted }
        })
    }
}

/// Llama and Mistral, which are one model here, and Mixtral, which is those with experts.
fn llama(keys: &Keys<'_>, out: &mut Map<String, Value>) -> Result<(), GgufError> {
    if keys.get_or("expert_count", 0usize)? == 0 {
        out.insert("model_type".into(), json!("llama"));
        return Ok(());
    }
    out.insert("model_type".into(), json!("mixtral"));
    routed(keys, out)
}

fn qwen2(_: &Keys<'_>, out: &mut Map<String, Value>) -> Result<(), GgufError> {
    out.insert("model_type".into(), json!("qwen2"));
    Ok(())
}

/// llama.cpp never divides the chosen scores by their sum, as all published models want.
fn qwen2_moe(keys: &Keys<'_>, out: &mut Map<String, Value>) -> Result<(), GgufError> {
    out.insert("model_type".into(), json!("qwen2_moe"));
    out.insert("norm_topk_prob".into(), json!(false));
    let shared = match keys.get("expert_shared_feed_forward_length")? {
        Some(width) => width,
        None => keys.need::<usize>("feed_forward_length")?,
    };
    out.insert("shared_expert_intermediate_size".into(), json!(shared));
    expert_width(keys, out)?;
    routed(keys, out)
}

fn qwen3(_: &Keys<'_>, out: &mut Map<String, Value>) -> Result<(), GgufError> {
    out.insert("model_type".into(), json!("qwen3"));
    Ok(())
}

/// llama.cpp always divides the chosen scores by their sum, as all published models want.
fn qwen3_moe(keys: &Keys<'_>, out: &mut Map<String, Value>) -> Result<(), GgufError> {
    out.insert("model_type".into(), json!("qwen3_moe"));
    out.insert("norm_topk_prob".into(), json!(true));
    expert_width(keys, out)?;
    routed(keys, out)
}

/// llama.cpp never divides the chosen scores by their sum, as all published models want.
fn olmoe(keys: &Keys<'_>, out: &mut Map<String, Value>) -> Result<(), GgufError> {
    out.insert("model_type".into(), json!("olmoe"));
    out.insert("norm_topk_prob".into(), json!(false));
    routed(keys, out)
}

/// llama.cpp's numbers of routers' scores; 0 leaves them to the architecture.
const SOFTMAX: u32 = 1;
const SIGMOID: u32 = 2;

fn glm4_moe(keys: &Keys<'_>, out: &mut Map<String, Value>) -> Result<(), GgufError> {
    let gating = keys.get_or("expert_gating_func", SIGMOID)?;
    if gating != SIGMOID && gating != 0 {
        return Err(keys.unsupported("expert_gating_func", gating, "2 (sigmoid)"));
    }
    out.insert("model_type".into(), json!("glm4_moe"));
    out.insert("use_qk_norm".into(), json!(keys.gguf.find("blk.0.attn_q_norm.weight").is_some()));
    grouped_experts(keys, out)
}

/// Experts in groups, with shared ones beside them and dense layers before them.
fn grouped_experts(keys: &Keys<'_>, out: &mut Map<String, Value>) -> Result<(), GgufError> {
    out.insert("n_shared_experts".into(), json!(keys.need::<usize>("expert_shared_count")?));
    out.insert("first_k_dense_replace".into(), json!(keys.get_or("leading_dense_block_count", 0usize)?));
    out.insert("norm_topk_prob".into(), json!(keys.get_or("expert_weights_norm", false)?));
    // 0 is no factor, in files and in llama.cpp.
    let factor = keys.float("expert_weights_scale")?.filter(|f| *f != 0.0).unwrap_or(1.0);
    out.insert("routed_scaling_factor".into(), json!(factor));
    out.insert("n_group".into(), json!(keys.get_or("expert_group_count", 1usize)?.max(1)));
    out.insert("topk_group".into(), json!(keys.get_or("expert_group_used_count", 1usize)?.max(1)));
    expert_width(keys, out)?;
    experts(keys, out)
}

fn describe_grouped_experts(moe: &MoeConfig, out: &mut Out<'_, '_>) -> Result<(), GgufError> {
    out.size("expert_feed_forward_length", moe.moe_intermediate_size)?;
    out.size("expert_shared_count", moe.n_shared_experts)?;
    let gating = match moe.scores {
        RouterScores::Softmax => SOFTMAX,
        RouterScores::Sigmoid => SIGMOID,
    };
    out.size("expert_gating_func", gating as usize)?;
    out.float("expert_weights_scale", moe.routed_scaling_factor)?;
    out.flag("expert_weights_norm", moe.norm_topk_prob)?;
    // llama.cpp wants fewer groups used than there are.
    if moe.topk_group < moe.n_group {
        out.size("expert_group_count", moe.n_group)?;
        out.size("expert_group_used_count", moe.topk_group)?;
    }
    Ok(())
}

/// The number of experts, and how many are chosen.
fn experts(keys: &Keys<'_>, out: &mut Map<String, Value>) -> Result<(), GgufError> {
    out.insert("num_local_experts".into(), json!(keys.need::<usize>("expert_count")?));
    out.insert("num_experts_per_tok".into(), json!(keys.need::<usize>("expert_used_count")?));
    Ok(())
}

/// The experts of a router without a factor on their weights.
fn routed(keys: &Keys<'_>, out: &mut Map<String, Value>) -> Result<(), GgufError> {
    if let Some(factor) = keys.float("expert_weights_scale")?.filter(|f| *f != 0.0 && *f != 1.0) {
        return Err(keys.unsupported("expert_weights_scale", factor, "1 for this architecture"));
    }
    experts(keys, out)
}

/// The experts' own width. Without the key it is what llama.cpp takes: the dense width's share.
fn expert_width(keys: &Keys<'_>, out: &mut Map<String, Value>) -> Result<(), GgufError> {
    let width = match keys.get("expert_feed_forward_length")? {
        Some(width) => width,
        None => keys.need::<usize>("feed_forward_length")? / keys.need::<usize>("expert_used_count")?.max(1),
    };
    out.insert("moe_intermediate_size".into(), json!(width));
    Ok(())
}
