use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::*;

fn data(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data")).join(path)
}

fn mixtral() -> Value {
    serde_json::from_slice(&std::fs::read(data("mixtral/config.json")).unwrap()).unwrap()
}

fn changed(key: &str, value: Value) -> Result<ModelConfig, ConfigError> {
    let mut json = mixtral();
    json[key] = value;
    ModelConfig::from_json(&json)
}

#[test]
fn both_layouts_of_every_type_read_alike_and_survive_writing() {
    let mut paths = vec![("mixtral/config.json".to_string(), "mixtral/config_v5.json".to_string())];
    for name in ["llama", "llama3", "mistral", "qwen3", "qwen3_moe", "olmoe"] {
        paths.push((format!("configs/{name}.json"), format!("configs/{name}.v5.json")));
    }
    for name in ["deepseek_v2", "deepseek_v2_lite", "deepseek_v3", "gpt_oss"] {
        paths.push((format!("{name}/config.json"), format!("{name}/config_v5.json")));
    }
    for (old, new) in paths {
        let config = ModelConfig::from_file(&data(&old)).unwrap();
        assert_eq!(config, ModelConfig::from_file(&data(&new)).unwrap(), "{old}");
        assert_eq!(config, ModelConfig::from_json(&config.to_json()).unwrap(), "{old}");
        assert_eq!(config.export_model_type().unwrap(), config.model_type, "{old}");
    }
}

#[test]
fn mixtral_reads_as_it_is() {
    let c = ModelConfig::from_json(&mixtral()).unwrap();
    let moe = c.moe.as_ref().unwrap();
    assert_eq!((c.vocab_size, c.hidden_size, c.num_hidden_layers), (256, 64, 2));
    assert_eq!((c.num_attention_heads, c.num_key_value_heads, c.head_dim), (4, 2, 16));
    assert_eq!((moe.num_experts, moe.num_experts_per_tok, moe.moe_intermediate_size), (8, 2, 48));
    assert_eq!((c.rope.theta, c.rope.rotary_dim, c.rms_norm_eps), (1e6, 16, 1e-5));
    assert_eq!((c.bos_token_id, c.eos_token_ids.as_slice()), (Some(1), &[2][..]));
    assert!(moe.norm_topk_prob && moe.scores == RouterScores::Softmax);
}

#[test]
fn other_types_keep_their_kinds() {
    let read = |name: &str| ModelConfig::from_file(&data(&format!("configs/{name}.json"))).unwrap();
    assert!(read("llama").tie_word_embeddings && read("llama").moe.is_none());
    assert!(matches!(read("llama3").rope.scaling, Some(RopeScaling::Llama3 { .. })));
    assert_eq!(read("mistral").sliding_window, Some(16));
    assert_eq!((read("qwen3").qk_norm, read("qwen3").head_dim), (QkNorm::PerHead, 24));
    assert!(read("qwen3_moe").moe.unwrap().norm_topk_prob);
    assert_eq!(read("olmoe").qk_norm, QkNorm::Projection);
    assert!(!read("olmoe").moe.unwrap().norm_topk_prob);
}

#[test]
fn latent_attention_has_widths_of_its_own() {
    let read = |name: &str| ModelConfig::from_file(&data(name).join("config.json")).unwrap();
    let latent = |c: &ModelConfig| match c.attention {
        AttentionKind::Latent(latent) => latent,
        other => panic!("{other:?}"),
    };
    let v3 = read("deepseek_v3");
    assert_eq!((v3.head_dim, v3.rope.rotary_dim, v3.value_dim()), (24, 8, 16));
    assert_eq!((latent(&v3).q_lora_rank, latent(&v3).kv_lora_rank), (Some(24), 32));
    assert!(v3.rope.interleaved);
    // Softmax scale: 1/√24 times the square of YaRN's 0.1 · ln 40 + 1.
    let stretch = 0.1 * 40f64.ln() + 1.0;
    assert!((v3.attention_scale() - stretch * stretch / 24f64.sqrt()).abs() < 1e-12);
    let lite = read("deepseek_v2_lite");
    assert_eq!(latent(&lite).q_lora_rank, None);
    let v2 = read("deepseek_v2");
    let moe = v2.moe.as_ref().unwrap();
    assert_eq!((moe.n_group, moe.topk_group, moe.group_score), (4, 2, GroupScore::Max));
    assert_eq!((v2.value_dim(), moe.shared_intermediate_size), (12, 64));
    let mut json = v2.to_json();
    json["norm_topk_prob"] = json!(true);
    assert!(matches!(ModelConfig::from_json(&json), Err(ConfigError::Unsupported { .. })));
}

#[test]
fn windows_are_in_the_layers_that_say_so() {
    let read = |name: &str| ModelConfig::from_file(&data(name).join("config.json")).unwrap();
    let oss = read("gpt_oss");
    assert_eq!([0, 1, 2].map(|i| oss.window(i)), [Some(16), None, Some(16)]);
    assert!(oss.attention_sinks && oss.moe.unwrap().swiglu_limit == Some(0.5));

    let mut json = qwen2(4);
    assert_eq!(ModelConfig::from_json(&json).unwrap().sliding_window, None);
    (json["use_sliding_window"], json["max_window_layers"]) = (json!(true), json!(3));
    let c = ModelConfig::from_json(&json).unwrap();
    assert_eq!([0, 2, 3].map(|i| c.window(i)), [None, None, Some(4096)]);
    assert_eq!(c, ModelConfig::from_json(&c.to_json()).unwrap());
    json["max_window_layers"] = json!(4);
    assert_eq!(ModelConfig::from_json(&json).unwrap().sliding_window, None);
    json["layer_types"] = json!(["full_attention"]);
    assert!(ModelConfig::from_json(&json).is_err());
}

fn qwen2(layers: usize) -> Value {
    json!({
        "model_type": "qwen2", "vocab_size": 250, "hidden_size": 48, "num_hidden_layers": layers,
        "num_attention_heads": 3, "num_key_value_heads": 1, "intermediate_size": 80
    })
}

#[test]
fn qwen2_moe_has_a_gated_shared_expert() {
    let mut json = qwen2(3);
    for (key, value) in [
        ("model_type", json!("qwen2_moe")),
        ("num_experts", json!(6)),
        ("moe_intermediate_size", json!(20)),
        ("shared_expert_intermediate_size", json!(50)),
        ("mlp_only_layers", json!([0])),
    ] {
        json[key] = value;
    }
    let c = ModelConfig::from_json(&json).unwrap();
    let moe = c.moe.as_ref().unwrap();
    assert_eq!((moe.num_experts_per_tok, moe.shared_intermediate_size, moe.shared_gate), (4, 50, true));
    assert_eq!((c.attention_bias, c.first_k_dense_replace), (AttentionBias::Qkv, 1));
    assert_eq!(c, ModelConfig::from_json(&c.to_json()).unwrap());
    let names: Vec<String> = parameters(&c).into_iter().map(|p| p.name).collect();
    for name in ["mlp.shared_expert.up_proj.weight", "mlp.shared_expert_gate.weight"] {
        assert!(names.contains(&format!("model.layers.1.{name}")), "{name}");
    }
}

fn glm4_moe() -> Value {
    json!({
        "model_type": "glm4_moe", "vocab_size": 250, "hidden_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 24, "attention_bias": true,
        "use_qk_norm": true, "intermediate_size": 80, "moe_intermediate_size": 20, "n_routed_experts": 10,
        "num_experts_per_tok": 3, "n_group": 5, "topk_group": 2, "n_shared_experts": 2,
        "first_k_dense_replace": 1, "norm_topk_prob": true, "routed_scaling_factor": 2.5,
        "eos_token_id": [3, 4], "rope_theta": 1e6
    })
}

#[test]
fn glm4_moe_reads_its_router() {
    let c = ModelConfig::from_json(&glm4_moe()).unwrap();
    let moe = c.moe.as_ref().unwrap();
    assert_eq!((c.attention_bias, c.qk_norm, c.rope.rotary_dim), (AttentionBias::Qkv, QkNorm::PerHead, 12));
    assert_eq!((moe.scores, moe.group_score), (RouterScores::Sigmoid, GroupScore::SumTop2));
    assert_eq!((moe.n_group, moe.topk_group, moe.shared_intermediate_size), (5, 2, 40));
    assert!(moe.selection_bias && moe.routed_scaling_factor == 2.5);
    assert_eq!(c.eos_token_ids, [3, 4]);
    assert_eq!(c.feed_forward(0), FeedForward::Dense { intermediate_size: 80 });
    assert_eq!(c.feed_forward(1), FeedForward::Moe(moe));
    assert_eq!(c, ModelConfig::from_json(&c.to_json()).unwrap());
}

#[test]
fn odd_shapes_are_fine() {
    let mut json = mixtral();
    for (key, value) in [
        ("hidden_size", 48),
        ("num_attention_heads", 3),
        ("num_key_value_heads", 1),
        ("num_local_experts", 6),
        ("num_experts_per_tok", 5),
        ("vocab_size", 250),
    ] {
        json[key] = json!(value);
    }
    assert_eq!(ModelConfig::from_json(&json).unwrap().head_dim, 16);
    assert_eq!(changed("num_local_experts", json!(10)).unwrap().moe.unwrap().num_experts, 10);
}

#[test]
fn impossible_values_name_the_key_the_value_and_what_would_be_right() {
    for (key, value, wanted) in [
        ("num_key_value_heads", json!(3), "divisor of num_attention_heads (4)"),
        ("num_hidden_layers", json!(0), "from 1"),
        ("vocab_size", json!(0), "from 1"),
        ("num_attention_heads", json!(0), "1 or more"),
        ("num_experts_per_tok", json!(9), "number of experts (8)"),
        ("num_experts_per_tok", json!(0), "number of experts (8)"),
        ("hidden_size", json!(-64), "whole number"),
        ("hidden_size", json!("64"), "whole number"),
        ("head_dim", json!(15), "even"),
        ("rms_norm_eps", json!(0), "greater than 0"),
        ("rope_theta", json!(-1.0), "greater than 0"),
        ("hidden_size", json!(1u64 << 40), "from 1 to"),
        ("num_hidden_layers", json!(2_000_000_000), "parameters"),
        ("eos_token_id", json!(-1), "token id"),
        ("tie_word_embeddings", json!(1), "true or false"),
        ("sliding_window", json!(0), "from 1"),
    ] {
        let message = changed(key, value.clone()).unwrap_err().to_string();
        assert!(message.contains(wanted), "{key}={value}: {message}");
        assert!(!message.contains('\n'), "{message}");
    }
    let mut json = glm4_moe();
    json["n_group"] = json!(3);
    let message = ModelConfig::from_json(&json).unwrap_err().to_string();
    assert!(
        message.contains("`n_group` is 3; it must be a divisor of the number of experts (10)"),
        "{message}"
    );
    json["n_group"] = json!(5);
    json["topk_group"] = json!(1);
    let message = ModelConfig::from_json(&json).unwrap_err().to_string();
    assert!(message.contains("at most the 2 experts of 1 group(s)"), "{message}");
}

#[test]
fn features_that_would_change_the_result_are_refused() {
    for (key, value) in [
        ("hidden_act", json!("gelu")),
        ("quantization_config", json!({"bits": 4})),
        ("rope_scaling", json!({"rope_type": "longrope"})),
        ("model_type", json!("gpt2")),
    ] {
        let error = changed(key, value).unwrap_err();
        assert!(matches!(error, ConfigError::Unsupported { .. }), "{error}");
    }
}

#[test]
fn an_absent_window_is_not_a_null_one() {
    let mut json: Value =
        serde_json::from_slice(&std::fs::read(data("configs/mistral.json")).unwrap()).unwrap();
    json["sliding_window"] = Value::Null;
    assert_eq!(ModelConfig::from_json(&json).unwrap().sliding_window, None);
    json.as_object_mut().unwrap().remove("sliding_window");
    assert_eq!(ModelConfig::from_json(&json).unwrap().sliding_window, Some(4096));
}

#[test]
fn settings_are_read_strictly_and_find_their_type() {
    let base = json!({
        "vocab_size": 260, "hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3,
        "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 32
    });
    let read = |changes: Value, give_up| {
        let mut json = base.clone();
        for (k, v) in changes.as_object().unwrap() {
            json[k] = v.clone();
        }
        ModelConfig::from_settings(&json, give_up)
    };
    assert_eq!(read(json!({}), false).unwrap().model_type, ModelType::Mixtral);
    let shared = json!({"scoring_func": "sigmoid", "n_shared_experts": 1, "first_k_dense_replace": 1,
        "intermediate_size": 64});
    assert_eq!(read(shared, false).unwrap().model_type, ModelType::Glm4Moe);

    let odd = json!({"n_shared_experts": 1});
    assert!(matches!(read(odd.clone(), false), Err(ConfigError::NotExportable { .. })));
    let kept = read(odd, true).unwrap();
    assert_eq!(kept.model_type, ModelType::Halite);
    assert_eq!(kept, ModelConfig::from_json(&kept.to_json()).unwrap());

    let message = read(json!({"num_expert": 4}), false).unwrap_err().to_string();
    assert!(message.contains("num_expert") && message.contains("known keys"), "{message}");
    let message = read(json!({"hidden_size": 100}), false).unwrap_err().to_string();
    assert!(message.contains("multiple of num_attention_heads (3)"), "{message}");
    let message = read(json!({"model_type": "mixtral", "hidden_size": 100}), false).unwrap_err().to_string();
    assert!(message.contains("multiple of num_attention_heads (3)"), "{message}");
}

#[test]
fn no_value_of_any_key_panics() {
    let hostile = [
        Value::Null,
        json!(0),
        json!(1),
        json!(3),
        json!(-1),
        json!(1.5),
        json!(u64::MAX),
        json!(i32::MAX),
        json!(1e300),
        json!("x"),
        json!(true),
        json!([]),
        json!([-1, "x"]),
        json!({}),
        json!({"rope_type": "yarn", "factor": 0, "rope_theta": 0.5}),
        json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1}),
        json!({"type": 4}),
    ];
    let mut bases = vec![mixtral(), glm4_moe(), json!([]), json!("text")];
    for entry in std::fs::read_dir(data("configs")).unwrap() {
        bases.push(serde_json::from_slice(&std::fs::read(entry.unwrap().path()).unwrap()).unwrap());
    }
    let halite = ModelConfig { model_type: ModelType::Halite, ..ModelConfig::tiny() };
    bases.push(halite.to_json());
    let mut accepted = 0;
    for base in bases {
        let keys: Vec<String> = base.as_object().map_or(Vec::new(), |o| o.keys().cloned().collect());
        for key in keys {
            for value in &hostile {
                let mut json = base.clone();
                json[&key] = value.clone();
                if let Ok(config) = ModelConfig::from_json(&json) {
                    accepted += 1;
                    // What is accepted can be written, read again and has finite frequencies.
                    assert_eq!(ModelConfig::from_json(&config.to_json()).unwrap(), config, "{key} = {value}");
                    assert!(
                        config.rope.rotary_dim > 1 << 20
                            || config.rope.inverse_frequencies().iter().all(|f| f.is_finite())
                    );
                }
            }
        }
    }
    assert!(accepted > 100, "{accepted}");
}
