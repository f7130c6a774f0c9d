//! Reading routers and experts.

use super::{EXPERTS, GROUP_SCORES, Reader, SCORES};
use crate::config::{ConfigError, GroupScore, ModelType, MoeConfig, RouterScores};

impl Reader<'_> {
    pub(super) fn moe(&self) -> Result<Option<MoeConfig>, ConfigError> {
        let f = &self.fields;
        match self.model_type {
            ModelType::Llama | ModelType::Mistral | ModelType::Qwen2 | ModelType::Qwen3 => Ok(None),
            ModelType::Mixtral => Ok(Some(MoeConfig {
                num_experts_per_tok: f.size_or("num_experts_per_tok", 2)?,
                router_aux_loss_coef: f.float_or("router_aux_loss_coef", 0.001)?,
                ..self.softmax_moe("intermediate_size", true)?
            })),
            ModelType::Qwen3Moe => Ok(Some(self.softmax_moe("moe_intermediate_size", false)?)),
            ModelType::Olmoe => Ok(Some(self.softmax_moe("intermediate_size", false)?)),
            ModelType::Glm4Moe => Ok(Some(self.sigmoid_moe()?)),
            ModelType::Qwen2Moe => Ok(Some(self.gated_moe()?)),
            ModelType::DeepseekV2 => Ok(Some(self.deepseek_v2_moe()?)),
            ModelType::DeepseekV3 => Ok(Some(self.deepseek_v3_moe()?)),
            ModelType::GptOss => Ok(Some(MoeConfig {
                num_experts_per_tok: f.size_or(f.pick(&["num_experts_per_tok", "experts_per_token"]), 4)?,
                bias: true,
                swiglu_limit: Some(f.float_or("swiglu_limit", 7.0)?),
                ..self.softmax_moe("intermediate_size", true)?
            })),
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
            shared_gate: false,
            bias: false,
            swiglu_limit: None,
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
            shared_gate: false,
            bias: false,
            swiglu_limit: None,
            router_aux_loss_coef: f.float_or("router_aux_loss_coef", 0.0)?,
        })
    }

    /// `qwen2_moe`: one shared expert behind a gate.
    fn gated_moe(&self) -> Result<MoeConfig, ConfigError> {
        let f = &self.fields;
        let softmax = self.softmax_moe("moe_intermediate_size", false)?;
        Ok(MoeConfig {
            num_experts_per_tok: f.size_or("num_experts_per_tok", 4)?,
            n_shared_experts: 1,
            shared_intermediate_size: f.size("shared_expert_intermediate_size")?,
            shared_gate: true,
            ..softmax
        })
    }

    fn deepseek_v2_moe(&self) -> Result<MoeConfig, ConfigError> {
        let f = &self.fields;
        let text = |key, default| Ok::<_, ConfigError>(f.maybe_text(key)?.unwrap_or(default));
        let scores = text("scoring_func", "softmax")?;
        if scores != "softmax" {
            return Err(ConfigError::unsupported(format!("`scoring_func` \"{scores}\" with deepseek_v2")));
        }
        // Transformers ignores it, DeepSeek's own code doesn't: no released model has it.
        if f.flag_or("norm_topk_prob", false)? {
            return Err(ConfigError::unsupported("`norm_topk_prob` with deepseek_v2"));
        }
        let groups = match text("topk_method", "greedy")? {
            "greedy" => (1, 1),
            "group_limited_greedy" => (f.size_or("n_group", 1)?, f.size_or("topk_group", 1)?),
            other => {
                let wanted = "\"greedy\" or \"group_limited_greedy\"";
                return Err(ConfigError::invalid("topk_method", format!("\"{other}\""), wanted));
            }
        };
        let shared = f.size_or("n_shared_experts", 2)?;
        let width = f.size("moe_intermediate_size")?;
        Ok(MoeConfig {
            n_group: groups.0,
            topk_group: groups.1,
            norm_topk_prob: false,
            routed_scaling_factor: f.float_or("routed_scaling_factor", 1.0)?,
            n_shared_experts: shared,
            shared_intermediate_size: width.saturating_mul(shared),
            router_aux_loss_coef: f.float_or(f.pick(&["router_aux_loss_coef", "aux_loss_alpha"]), 0.001)?,
            ..self.softmax_moe("moe_intermediate_size", false)?
        })
    }

    fn deepseek_v3_moe(&self) -> Result<MoeConfig, ConfigError> {
        let f = &self.fields;
        for (key, only) in [("scoring_func", "sigmoid"), ("topk_method", "noaux_tc")] {
            let value = f.maybe_text(key)?.unwrap_or(only);
            if value != only {
                return Err(ConfigError::unsupported(format!("`{key}` \"{value}\" with deepseek_v3")));
            }
        }
        Ok(MoeConfig {
            n_group: f.size_or("n_group", 8)?,
            topk_group: f.size_or("topk_group", 4)?,
            routed_scaling_factor: f.float_or("routed_scaling_factor", 2.5)?,
            ..self.sigmoid_moe()?
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
            shared_gate: f.flag_or("shared_gate", false)?,
            bias: f.flag_or("expert_bias", false)?,
            swiglu_limit: f.maybe_float("swiglu_limit")?,
            router_aux_loss_coef: f.float_or("router_aux_loss_coef", 0.01)?,
        }))
    }
}
