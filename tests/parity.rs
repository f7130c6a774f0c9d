//! `halite inspect` and `halite train --ids-from` against Hugging Face transformers (tests/data).

mod common;

use common::parity::{TRAIN, check_grads, check_logits, check_training};
use common::{Place, data};
use halite::models::weights::{TensorMeta, TensorSource, Weights, save_tensors};
use serde_json::json;

const MODELS: [&str; 7] =
    ["mixtral", "mixtral_6x3", "mixtral_10x1", "glm4_moe", "deepseek_v3", "qwen2", "qwen2_moe"];

/// Without gradients and a loss curve.
const OTHERS: [&str; 5] = ["deepseek_v2", "deepseek_v2_lite", "gpt_oss", "deepseek_v3_fp8", "gpt_oss_mxfp4"];

#[test]
fn logits_are_those_of_transformers() {
    let place = Place::new();
    for model in MODELS.into_iter().chain(OTHERS) {
        place.add(model);
        check_logits(&place, model, "", 5e-5);
        check_logits(&place, model, "--decode", 5e-5);
    }
}

#[test]
fn gradients_are_those_of_transformers() {
    let place = Place::new();
    for model in MODELS {
        place.add(model);
        check_grads(&place, model, "");
    }
}

#[test]
fn training_follows_the_curve_of_pytorch() {
    for model in MODELS {
        let place = Place::new();
        place.add(model);
        check_training(&place, model, "");
    }
}

#[test]
fn core_ops_alone_do_the_same() {
    for model in ["mixtral", "glm4_moe", "deepseek_v3"] {
        let place = Place::new();
        place.add(model);
        check_logits(&place, model, "--profile core-only", 5e-5);
        check_logits(&place, model, "--profile core-only --decode", 5e-5);
        check_grads(&place, model, "--profile core-only");
        check_training(&place, model, "--profile core-only");
    }
}

#[test]
fn both_layouts_of_a_configuration_and_sharded_weights_give_the_same_bits() {
    let place = Place::new();
    place.add("mixtral");
    let logits = |model: &str| {
        place.ok(&format!(
            "inspect logits --model {model} --ids-from mixtral/reference.safetensors --out l.st"
        ));
        place.read("l.st")
    };
    let want = logits("mixtral");

    place.copy("mixtral", "newer");
    place.write("newer/config.json", place.read("mixtral/config_v5.json"));
    assert!(logits("newer") == want, "the newer layout of config.json");

    place.copy("mixtral", "sharded");
    std::fs::remove_file(place.path("sharded/model.safetensors")).unwrap();
    let weights = Weights::open_file(&data("mixtral/model.safetensors")).unwrap();
    let names: Vec<&str> = weights.names().collect();
    let mut map = serde_json::Map::new();
    for (i, names) in names.chunks(names.len().div_ceil(3)).enumerate() {
        let file = format!("model-{:05}-of-00003.safetensors", i + 1);
        let mut shard = TensorSource::new();
        for name in names {
            let t = weights.tensor(name).unwrap();
            let meta = TensorMeta { name: name.to_string(), dtype: t.dtype, shape: t.shape.to_vec() };
            shard.push(meta, move || Ok(t.bytes.into()));
            map.insert(name.to_string(), json!(file));
        }
        save_tensors(&place.path("sharded").join(&file), shard).unwrap();
    }
    place.write("sharded/model.safetensors.index.json", json!({ "weight_map": map }).to_string());
    assert!(logits("sharded") == want, "three shards");
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for model in ["mixtral", "glm4_moe"] {
        let place = Place::new();
        place.add(model);
        let results = [1, 2, 3].map(|threads| {
            let t = format!("--threads {threads}");
            place.ok(&format!(
                "inspect logits --model {model} --ids-from {model}/reference.safetensors --out l.st {t}"
            ));
            place.ok(&format!(
                "inspect grads --model {model} --ids-from {model}/train.safetensors --out g.st {t}"
            ));
            place.ok(&format!(
                "train --from {model} --ids-from {model}/train.safetensors {TRAIN} --out run-{threads} {t}"
            ));
            let run = format!("run-{threads}");
            [place.read("l.st"), place.read("g.st"), place.read(&format!("{run}/step-20/model.safetensors"))]
        });
        assert!(results[0] == results[1] && results[0] == results[2], "{model}");
    }
}
