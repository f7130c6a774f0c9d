use std::path::{Path, PathBuf};

use super::super::{GgmlType, GgufExport, GgufModel, GgufWriter};
use super::*;
use crate::config::{AttentionBias, ParamSpec, RopeScaling, parameters};

fn data() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data"))
}

fn hugging_face(path: &Path) -> ModelConfig {
    ModelConfig::from_file(&data().join(path)).unwrap()
}

/// A file of zeros for the configuration.
fn file(config: &ModelConfig) -> Result<Gguf, GgufError> {
    let export = GgufExport::new(config)?;
    let mut writer = GgufWriter::new();
    export.describe(&mut writer)?;
    for tensor in export.tensors()? {
        let zeros = |members: &[ParamSpec]| {
            vec![0; members.iter().map(|spec| GgmlType::F32.bytes(&spec.shape).unwrap()).sum()]
        };
        tensor.add_to(&mut writer, GgmlType::F32, move |members| Ok(zeros(members)))?;
    }
    let mut out = Vec::new();
    writer.write(&mut out)?;
    Gguf::from_bytes(out)
}

/// The file with other values for some keys; keys that it doesn't have are added.
fn with(gguf: &Gguf, values: &[(&str, Value<'_>)]) -> Result<GgufModel, GgufError> {
    let mut writer = GgufWriter::new();
    for (key, value) in gguf.metadata().filter(|(key, _)| values.iter().all(|(other, _)| key != other)) {
        writer.metadata(key, value)?;
    }
    for (key, value) in values {
        writer.metadata(key, *value)?;
    }
    for t in gguf.tensors() {
        writer.tensor(t.name, t.ggml_type, t.shape, move || Ok(t.bytes.into()))?;
    }
    let mut out = Vec::new();
    writer.write(&mut out)?;
    GgufModel::new(Gguf::from_bytes(out)?)
}

/// What a file doesn't say: how training starts, and how it weighs balance.
fn forget_training(config: &mut ModelConfig) {
    config.initializer_range = 0.02;
    if let Some(moe) = &mut config.moe {
        moe.router_aux_loss_coef = 0.0;
    }
}

#[test]
fn configurations_come_back_as_they_were() {
    let names = [
        "configs/llama.json",
        "configs/llama3.json",
        "configs/llama3.v5.json",
        "configs/qwen3.json",
        "configs/qwen3_moe.json",
        "configs/olmoe.json",
        "glm4_moe/config.json",
        "mixtral/config.json",
        "mixtral_6x3/config.json",
        "deepseek_v2/config.json",
        "deepseek_v2_lite/config.json",
        "deepseek_v3/config.json",
        "gpt_oss/config.json",
        "../../models/src/gguf/fixtures/qwen2.json",
        "../../models/src/gguf/fixtures/qwen2_moe.json",
    ];
    for name in names {
        let mut wanted = hugging_face(name.as_ref());
        if wanted.model_type == ModelType::DeepseekV3 {
            wanted.rms_norm_eps = 1e-6; // the only one that files can say
        }
        if wanted.model_type == ModelType::GptOss {
            wanted.moe.as_mut().unwrap().swiglu_limit = Some(7.0); // here too
        }
        let model = GgufModel::new(file(&wanted).unwrap()).unwrap();
        let mut found = model.config().clone();
        forget_training(&mut wanted);
        forget_training(&mut found);
        assert_eq!(found, wanted, "{name}");
        let unused = model.check(&parameters(&found)).unwrap();
        let factors = matches!(wanted.rope.scaling, Some(RopeScaling::Llama3 { .. }));
        assert_eq!(unused, if factors { vec!["rope_freqs.weight"] } else { vec![] }, "{name}");
    }
}

#[test]
fn scalings_of_the_rotary_embedding_come_back() {
    let mut config = hugging_face("configs/qwen3.json".as_ref());
    let yarn = |attention_factor| RopeScaling::Yarn {
        factor: 4.0,
        original_max_position_embeddings: 32,
        beta_fast: 30.0,
        beta_slow: 1.5,
        mscale: None,
        mscale_all_dim: None,
        attention_factor,
        truncate: true,
    };
    for scaling in [RopeScaling::Linear { factor: 2.5 }, yarn(None), yarn(Some(1.25))] {
        config.rope.scaling = Some(scaling);
        assert_eq!(GgufModel::new(file(&config).unwrap()).unwrap().config().rope, config.rope);
    }
    // The older key.
    config.rope.scaling = None;
    let model = with(&file(&config).unwrap(), &[("qwen3.rope.scale_linear", 4f32.into())]).unwrap();
    assert_eq!(model.config().rope.scaling, Some(RopeScaling::Linear { factor: 4.0 }));
}

#[test]
fn factors_that_no_rule_gives_are_refused() {
    let gguf = file(&hugging_face("configs/llama3.json".as_ref())).unwrap();
    // Other than the rule's by the original context, which has no key in llama.cpp's files.
    let message = with(&gguf, &[("llama.rope.scaling.original_context_length", 8192u32.into())])
        .err()
        .unwrap()
        .to_string();
    assert!(message.starts_with("rope_freqs.weight of 8 factors [1.0, 2.4422593, 8.0, "), "{message}");
    assert!(message.contains("must be those of Llama 3"), "{message}");
    // Of another number: no list of as many as the file claims is made.
    for length in [14u32, 1 << 30] {
        let keys = ["attention.key_length", "attention.value_length", "rope.dimension_count"];
        let keys = keys.map(|key| format!("llama.{key}"));
        let values = keys.each_ref().map(|key| (key.as_str(), length.into()));
        let message = with(&gguf, &values).err().unwrap().to_string();
        let wanted = format!("8 factors; {length} dimensions turn in pairs");
        assert!(message.contains(&wanted), "{message}");
    }
}

#[test]
fn what_files_cannot_say_is_not_written() {
    let message = |config: &ModelConfig| file(config).err().unwrap().to_string();
    assert!(message(&hugging_face("configs/mistral.json".as_ref())).starts_with("a sliding window is not"));
    let mut olmoe = hugging_face("configs/olmoe.json".as_ref());
    olmoe.moe.as_mut().unwrap().norm_topk_prob = true;
    assert!(message(&olmoe).starts_with("normalised router weights is not supported"));
    let mut qwen = hugging_face("configs/qwen3_moe.json".as_ref());
    qwen.moe.as_mut().unwrap().norm_topk_prob = false;
    assert!(message(&qwen).starts_with("router weights that aren't normalised"));
    let qwen2 = hugging_face("../../models/src/gguf/fixtures/qwen2_moe.json".as_ref());
    let tied = ModelConfig { tie_word_embeddings: true, ..qwen2.clone() };
    assert!(message(&tied).starts_with("a head that shares the embedding's weights"));
    let leading = ModelConfig { first_k_dense_replace: 1, ..qwen2.clone() };
    assert!(message(&leading).starts_with("leading dense layers is not supported"));
    let mut normalised = qwen2;
    normalised.moe.as_mut().unwrap().norm_topk_prob = true;
    assert!(message(&normalised).starts_with("normalised router weights is not supported"));
    let mut own = ModelConfig::tiny();
    own.model_type = ModelType::Halite;
    assert!(
        message(&own).starts_with("GGUF of model type \"halite\" is not supported; known are llama, mistral")
    );
}

#[test]
fn latent_attention_keeps_to_what_llama_cpp_computes() {
    let v3 = hugging_face("deepseek_v3/config.json".as_ref());
    let message = |config: &ModelConfig| file(config).err().unwrap().to_string();
    assert!(
        message(&v3).starts_with("a `rms_norm_eps` other than that of the latent vectors' norms, 1e-6, is")
    );
    let v3 = ModelConfig { rms_norm_eps: 1e-6, ..v3 };
    let mut split = v3.clone();
    split.rope.interleaved = false;
    assert!(message(&split).starts_with("a rotary embedding that isn't interleaved is not supported"));
    for (first, second, factor) in [
        (None, None, None),
        (Some(0.7), Some(1.0), None),
        (Some(0.0), Some(0.0), None),
        (Some(1.0), Some(1.0), Some(2.0)),
    ] {
        let mut other = v3.clone();
        let Some(RopeScaling::Yarn { mscale, mscale_all_dim, attention_factor, .. }) =
            &mut other.rope.scaling
        else {
            panic!("{:?}", other.rope.scaling)
        };
        (*mscale, *mscale_all_dim, *attention_factor) = (first, second, factor);
        assert!(message(&other).starts_with("YaRN without `mscale` and `mscale_all_dim`"));
    }

    let gguf = file(&v3).unwrap();
    // The keys of older files, without those of the latent space, and no rank for 0.
    let lite = file(&hugging_face("deepseek_v2_lite/config.json".as_ref())).unwrap();
    let older = [
        ("deepseek2.attention.key_length", 24u32.into()),
        ("deepseek2.attention.value_length", 16u32.into()),
        ("deepseek2.attention.key_length_mla", 0u32.into()),
        ("deepseek2.attention.value_length_mla", 0u32.into()),
        ("deepseek2.attention.head_count_kv", 4u32.into()),
        ("deepseek2.expert_gating_func", 0u32.into()),
    ];
    let plain = GgufModel::new(lite).unwrap();
    assert_eq!(with(plain.gguf(), &older).unwrap().config(), plain.config());
    // An epsilon that only llama.cpp has in all norms.
    let model = with(&gguf, &[("deepseek2.attention.layer_norm_rms_epsilon", 1e-5f32.into())]).unwrap();
    let AttentionKind::Latent(latent) = model.config().attention else { panic!() };
    assert_eq!((latent.norm_eps, model.config().rms_norm_eps), (1e-5, 1e-5));
    assert_eq!(model.config().model_type, ModelType::Halite);
    assert_eq!(&ModelConfig::from_json(&model.config().to_json()).unwrap(), model.config());

    for (key, value, wanted) in [
        ("deepseek2.expert_gating_func", 3u32, "it must be 1 (softmax) or 2 (sigmoid)"),
        ("deepseek2.expert_gating_func", 1, "exp_probs_b.bias\": a softmax router with a selection bias"),
        ("deepseek2.rope.dimension_count", 25, "it must be at most the keys' width, 24"),
        ("deepseek2.attention.key_length_mla", 8, "rotary dimensions"),
        ("deepseek2.attention.kv_lora_rank", 0, "`kv_lora_rank` is 0"),
    ] {
        let message = with(&gguf, &[(key, value.into())]).err().unwrap().to_string();
        assert!(message.contains(wanted), "{key}: {message:?} should contain {wanted:?}");
    }
}

#[test]
fn what_is_the_same_in_all_gpt_oss_models_must_be_so() {
    let message = |config: &ModelConfig| file(config).err().unwrap().to_string();
    let mut model = hugging_face("gpt_oss/config.json".as_ref());
    assert!(message(&model).starts_with("a `swiglu_limit` other than 7 is not supported"));
    model.moe.as_mut().unwrap().swiglu_limit = Some(7.0);
    let gguf = file(&model).unwrap();

    let without = ModelConfig { full_attention_layers: vec![0, 2], ..model.clone() };
    assert!(message(&without).starts_with("a sliding window in other layers"));
    let tied = ModelConfig { tie_word_embeddings: true, ..model.clone() };
    assert!(message(&tied).starts_with("a head that shares"));
    let bare = ModelConfig { attention_bias: AttentionBias::None, ..model.clone() };
    assert!(message(&bare).starts_with("attention without biases"));
    let mut rounded = model.clone();
    if let Some(RopeScaling::Yarn { truncate, .. }) = &mut rounded.rope.scaling {
        *truncate = true;
    }
    assert!(message(&rounded).starts_with("this scaling of the rotary embedding"));

    for (key, value, wanted) in [
        ("gpt-oss.attention.sliding_window_pattern", 6u32.into(), "` 6 is not supported; it must be 2"),
        ("gpt-oss.attention.sliding_window", 0u32.into(), "`sliding_window` is 0"),
        ("gpt-oss.rope.freq_base_swa", 1e4f32.into(), "it must be the same as `rope.freq_base`"),
        ("gpt-oss.expert_weights_scale", 2f32.into(), "it must be 1 for this architecture"),
    ] {
        let message = with(&gguf, &[(key, value)]).err().unwrap().to_string();
        assert!(message.contains(wanted), "{key}: {message:?} should contain {wanted:?}");
    }
}

#[test]
fn metadata_that_describe_no_possible_model_are_errors() {
    let dense = file(&hugging_face("configs/llama.json".as_ref())).unwrap();
    let experts = file(&hugging_face("mixtral/config.json".as_ref())).unwrap();
    let glm = file(&hugging_face("glm4_moe/config.json".as_ref())).unwrap();
    let cases: [(&Gguf, &str, Value<'_>, &str); 17] = [
        (
            &dense,
            "general.architecture",
            "mamba".into(),
            "known are llama, qwen2, qwen2moe, qwen3, qwen3moe, olmoe, glm4moe, ",
        ),
        (&dense, "general.type", "adapter".into(), "`general.type` \"adapter\" is not supported"),
        (&dense, "split.count", 3u16.into(), "a model in 3 files"),
        (
            &dense,
            "llama.block_count",
            "3".into(),
            "\"llama.block_count\" is string \"3\"; it must be a whole",
        ),
        (&dense, "llama.block_count", u32::MAX.into(), "`num_hidden_layers` is 4294967295"),
        (&dense, "llama.block_count", 1_000_000_000u32.into(), "model size"),
        (&dense, "llama.block_count", 1000u32.into(), "1000 layers, but the file has 29 tensors"),
        (&dense, "llama.attention.head_count", 0u32.into(), "`num_attention_heads` is 0"),
        (&dense, "llama.attention.key_length", 0u32.into(), "must be the keys' 0"),
        (&dense, "llama.attention.value_length", 4u32.into(), "value_length` 4 is not supported"),
        (&dense, "llama.attention.scale", 0.5f32.into(), "`llama.attention.scale` f32 0.5 is not supported"),
        (&dense, "llama.attention.causal", false.into(), "`llama.attention.causal` bool false is not"),
        (&dense, "llama.rope.scaling.type", "longrope".into(), "`llama.rope.scaling.type` longrope is not"),
        (
            &dense,
            "llama.rope.freq_base",
            f32::NAN.into(),
            "\"llama.rope.freq_base\": it is NaN; it must be a finite",
        ),
        (&experts, "llama.expert_count", 4000u32.into(), "the configuration wants [4000, "),
        (&experts, "llama.expert_weights_scale", 2f32.into(), "expert_weights_scale` 2 is not supported"),
        (&glm, "glm4moe.expert_gating_func", 1u32.into(), "it must be 2 (sigmoid)"),
    ];
    for (gguf, key, value, wanted) in cases {
        let message = match with(gguf, &[(key, value)]) {
            Ok(_) => panic!("{key} {value:?} was accepted"),
            Err(e) => e.to_string(),
        };
        assert!(message.contains(wanted), "{key}: {message:?} should contain {wanted:?}");
    }
    // Neutral values of the same keys, and layers for predicting further tokens.
    with(&dense, &[("llama.attention.causal", true.into()), ("llama.logit_scale", 0f32.into())]).unwrap();
    let further = [("glm4moe.block_count", 4u32.into()), ("glm4moe.nextn_predict_layers", 1u32.into())];
    assert_eq!(with(&glm, &further).unwrap().config().num_hidden_layers, 3);
}

#[test]
fn widths_of_experts_may_be_left_out() {
    let gguf = file(&hugging_face("../../models/src/gguf/fixtures/qwen2_moe.json".as_ref())).unwrap();
    let mut writer = GgufWriter::new();
    for (key, value) in gguf.metadata() {
        match key {
            // What llama.cpp takes them from then: the dense width, and its share.
            "qwen2moe.feed_forward_length" => writer.metadata(key, 40u32).unwrap(),
            "qwen2moe.expert_shared_feed_forward_length" | "qwen2moe.expert_feed_forward_length" => {}
            _ => writer.metadata(key, value).unwrap(),
        }
    }
    for t in gguf.tensors() {
        writer.tensor(t.name, t.ggml_type, t.shape, move || Ok(t.bytes.into())).unwrap();
    }
    let mut out = Vec::new();
    writer.write(&mut out).unwrap();
    let model = GgufModel::new(Gguf::from_bytes(out).unwrap()).unwrap();
    let moe = model.config().moe.as_ref().unwrap();
    assert_eq!((moe.shared_intermediate_size, moe.moe_intermediate_size), (40, 20));
}

#[test]
fn ends_of_text_and_of_turns_both_end() {
    let gguf = file(&hugging_face("glm4_moe/config.json".as_ref())).unwrap();
    let ends = |eot: u32| {
        let model = with(&gguf, &[("tokenizer.ggml.eot_token_id", eot.into())]).unwrap();
        model.config().eos_token_ids.clone()
    };
    assert_eq!(ends(7), [2, 7]);
    assert_eq!(ends(2), [2]);
}
