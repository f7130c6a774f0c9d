//! Models in files of both formats: found, converted, inspected, scored.

mod common;

use common::parity::{deviations, tensors};
use common::{Place, data, turn};
use halite::hal::DType;
use halite::models::ModelFiles;
use halite::models::config::parameters;
use halite::models::weights::{ParameterSource, Weights};

/// Reference models that GGUF has an architecture for.
const IN_GGUF: [&str; 6] = ["mixtral", "mixtral_6x3", "glm4_moe", "deepseek_v2", "deepseek_v2_lite", "qwen2"];

#[test]
fn a_model_comes_back_from_gguf_with_the_same_bytes() {
    for model in IN_GGUF {
        let place = Place::new();
        place.add(model);
        place.ok(&format!("convert --model {model} --out m.gguf"));
        place.ok("convert --model m.gguf --out back");
        let read = |path: &std::path::Path| Weights::open_folder(path).unwrap();
        let (before, after) = (read(&data(model)), read(&place.path("back")));
        assert!(before.names().eq(after.names()), "{model}");
        for name in before.names() {
            let (a, b) = (before.tensor(name).unwrap(), after.tensor(name).unwrap());
            assert!(a.bytes == b.bytes && a.shape == b.shape && a.dtype == b.dtype, "{model} {name}");
        }
        let config = |path: &std::path::Path| {
            let mut config = ModelFiles::open(path).unwrap().config().clone();
            // Only training knows of it.
            if let Some(moe) = &mut config.moe {
                moe.router_aux_loss_coef = 0.0;
            }
            config
        };
        assert_eq!(config(&data(model)), config(&place.path("back")), "{model}");
    }
}

#[test]
fn stacked_experts_are_stacked_again() {
    let place = Place::new();
    place.add("gpt_oss");
    place.ok("convert --model gpt_oss --out back");
    let (before, after) = (data("gpt_oss"), place.path("back"));
    let [before, after] = [before, after].map(|dir| Weights::open_folder(&dir).unwrap());
    assert!(before.names().eq(after.names()));
    for name in before.names() {
        let (a, b) = (before.tensor(name).unwrap(), after.tensor(name).unwrap());
        assert!(a.bytes == b.bytes && a.shape == b.shape, "{name}");
    }
}

#[test]
fn a_gguf_file_computes_what_the_folder_does() {
    for model in IN_GGUF {
        let place = Place::new();
        place.add(model);
        let logits = |from: &str, out: &str| {
            let ids = format!("{model}/reference.safetensors");
            place.ok(&format!("inspect logits --model {from} --ids-from {ids} --out {out}"));
            place.read(out)
        };
        place.ok(&format!("convert --model {model} --out m.gguf"));
        assert!(logits(model, "a.st") == logits("m.gguf", "b.st"), "{model}");
    }
}

#[test]
fn quantized_weights_stay_quantized_and_are_nearly_the_same() {
    let place = Place::new();
    place.add("mixtral");
    let wanted = tensors(&data("mixtral/reference.safetensors"));
    for (name, allowed) in [("f16", 5e-3), ("bf16", 5e-2), ("q8_0", 0.1), ("q4_0", 1.5), ("q4_k", 1.5)] {
        place.ok(&format!("convert --model mixtral --out {name}.gguf --type {name}"));
        let files = ModelFiles::open(&place.path(&format!("{name}.gguf"))).unwrap();
        let specs = parameters(files.config());
        let of = |tensor: &str| {
            let spec = specs.iter().find(|s| s.name.ends_with(tensor)).unwrap();
            files.values(spec).unwrap().dtype
        };
        // Rows of 64 and of 48 elements: no blocks of 256, and of 32 only in the first.
        let query = match name {
            "q4_k" => DType::Q5_0,
            _ => DType::ALL.into_iter().find(|d| d.name() == name).unwrap(),
        };
        assert_eq!(of("q_proj.weight"), query, "{name}");
        assert_eq!(of("w2.weight"), if name == "bf16" { DType::BF16 } else { DType::F16 }, "{name}");
        assert_eq!(of("input_layernorm.weight"), DType::F32, "{name}");
        assert_eq!(of("gate.weight"), DType::F32, "{name}");
        place.ok(&format!(
            "inspect logits --model {name}.gguf --ids-from mixtral/reference.safetensors --out l.st"
        ));
        let got = tensors(&place.path("l.st"));
        let (_, want) = &wanted["logits.33"];
        let (_, got) = &got["logits.33"];
        let rms = |x: &[f64]| (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64).sqrt();
        let off: Vec<f64> = got.iter().zip(want).map(|(a, b)| a - b).collect();
        let error = rms(&off) / rms(want);
        assert!(error > 0.0 && error < allowed, "{name}: {error}");
    }
    let said = place.ok("inspect model --model q8_0.gguf --device cpu --json").json();
    assert_eq!((&said["model_type"], &said["parameters"]), (&"mixtral".into(), &206144.into()));
    assert!(said["bytes_by_type"]["q8_0"].as_u64().unwrap() > 0);
    assert_eq!(said["devices"][0]["expanded"], serde_json::json!([]));
    let text = place.ok("inspect model --model q8_0.gguf --device cpu --tensors").stdout;
    assert!(text.contains("model.layers.1.block_sparse_moe.experts.0.w1.weight"), "{text}");
}

#[test]
fn quantized_weights_give_the_same_logits_on_every_device() {
    let place = Place::new();
    place.add("mixtral");
    let mut others = place.devices();
    others.retain(|s| s != "cpu:0");
    let logits = |file: &str, device: &str| {
        let ids = "--ids-from mixtral/reference.safetensors --out l.st";
        place.ok(&format!("inspect logits --model {file} {ids} --device {device}"));
        tensors(&place.path("l.st"))["logits.33"].1.clone()
    };
    let types = ["f16", "bf16", "q8_0", "q4_k"].map(|name| {
        place.ok(&format!("convert --model mixtral --out {name}.gguf --type {name}"));
        (name, logits(&format!("{name}.gguf"), "cpu:0"))
    });
    for (nth, device) in others.iter().enumerate() {
        for (name, want) in turn(&types, nth) {
            let off = deviations(&logits(&format!("{name}.gguf"), device), want);
            assert!(off <= 2e-4, "{name} on {device}: {off:e}");
        }
    }
}

#[test]
fn caches_of_few_bits_take_less_memory_and_foretell_nearly_as_well() {
    let place = Place::with_run();
    place.ok("train --config run.toml --steps 20 --out run");
    place.write("text.txt", common::text(2000));
    let nll = |device: &str, cache: &str| {
        let line =
            format!("perplexity --model run --text text.txt --context 32 --windows 2 --device {device}");
        place.ok(&format!("{line} --cache-type {cache} --json")).json()["nll"].as_f64().unwrap()
    };
    let exact = nll("cpu", "f32");
    let caches = [("f16", 1e-3), ("bf16", 1e-2), ("q8_0", 3e-2)];
    for (cache, tolerance) in caches {
        let want = nll("cpu", cache);
        assert!(want != exact && (want - exact).abs() < tolerance, "{cache}: {want}, f32 {exact}");
    }
    for (nth, device) in place.devices().iter().enumerate() {
        for &(cache, tolerance) in turn(&caches, nth) {
            let got = nll(device, cache);
            assert!((got - exact).abs() < tolerance, "{device}, {cache}: {got}, f32 {exact}");
        }
    }
    let bytes = |cache: &str| {
        let report = place.ok(&format!("inspect model --model run --device cpu --cache-type {cache} --json"));
        report.json()["devices"][0]["cache"]["64"].as_u64().unwrap()
    };
    assert_eq!(bytes("f32"), 2 * bytes("bf16"));
    // A head of 16 takes up a block, and each token begins with a word.
    assert_eq!(bytes("q8_0"), 64 * 2 * 2 * 2 * 34);
    // Two layers, keys and values of one head of 16.
    assert_eq!(bytes("f32"), 64 * 2 * 2 * 16 * 4);
}

/// A tokenizer goes with its model from a folder to a GGUF file.
#[test]
fn a_trained_model_continues_text_out_of_a_gguf_file() {
    for tokenizer in ["bpe", "bytes"] {
        let place = Place::with_run();
        place.ok(&format!("train --config run.toml --steps 20 --tokenizer {tokenizer} --out run"));
        place.ok("convert --model run --out run.gguf");
        let said = |model: &str| {
            let line = format!("generate --model {model} --device cpu --temperature 0 -n 12 --json --prompt");
            place.ok(&format!("{line} it")).json()["tokens"].clone()
        };
        assert_eq!(said("run.gguf"), said("run"), "{tokenizer}");
    }
}

#[test]
fn what_a_format_cannot_hold_is_said() {
    let place = Place::new();
    place.add("mixtral");
    place.add("gpt_oss");
    place.fails("convert --model mixtral --out folder --type q8_0", &["q8_0", "f32, f16 or bf16"]);
    place.fails("convert --model gpt_oss --out x.gguf", &["swiglu_limit"]);
    place.fails("convert --model nothing.gguf --out x.gguf", &["nothing.gguf"]);
    place.write("broken.gguf", b"GGUF\x03\0\0\0");
    place.fails("generate --model broken.gguf --prompt a", &["broken.gguf"]);
    place.fails("chat --model mixtral", &["chat template"]);
}

#[test]
fn a_text_is_scored() {
    let place = Place::with_run();
    place.ok("train --config run.toml --steps 2 --out run");
    place.write("text.txt", "the quick brown fox jumps over the lazy dog. ".repeat(30));
    let said = place.ok("perplexity --model run --text text.txt --context 32 --windows 2 --json").json();
    assert_eq!((said["windows"].as_u64(), said["tokens"].as_u64()), (Some(2), Some(30)));
    let (nll, ppl) = (said["nll"].as_f64().unwrap(), said["perplexity"].as_f64().unwrap());
    assert!((nll.exp() / ppl - 1.0).abs() < 1e-9 && ppl > 1.0);
    place.write("short.txt", "too short");
    place.fails("perplexity --model run --text short.txt --context 32", &["64 tokens"]);
}

/// The texts of several prompts and samples, against those of each prompt alone, on every device.
#[test]
fn texts_are_the_same_alone_and_together() {
    let place = Place::with_run();
    place.ok("train --config run.toml --steps 20 --out run");
    place.write("prompts.txt", "the quick\n\na\nthe dog jumps over the lazy fox and then it\n");
    for (nth, device) in place.devices().iter().enumerate() {
        let line = format!("generate --model run --device {device} -n 24 --json --temperature 1.1 --seed 3");
        let all = place.ok(&format!("{line} --n 3 --prompts prompts.txt --prompt once")).json();
        let all = all.as_array().unwrap();
        assert_eq!(all.len(), 12, "{device}");
        for &four in turn(&all.chunks(3).collect::<Vec<_>>(), nth) {
            let prompt = four[0]["prompt"].as_str().unwrap();
            place.write("prompt.txt", prompt);
            let one = place.ok(&format!("{line} --prompts prompt.txt")).json();
            let two = place.ok(&format!("{line} --prompts prompt.txt --n 2")).json();
            for (sample, alone) in [(0, &one), (0, &two[0]), (1, &two[1])] {
                assert_eq!(four[sample]["sample"].as_u64(), Some(sample as u64));
                assert_eq!(four[sample]["tokens"], alone["tokens"], "{device}: {prompt:?}, {sample}");
                assert_eq!(four[sample]["text"], alone["text"], "{device}: {prompt:?}, {sample}");
            }
            assert_ne!(four[0]["tokens"], four[1]["tokens"], "{device}: {prompt:?}");
        }
    }
    let scored = place.ok("generate --model run --device cpu -n 3 --prompt a --json --logprobs 2").json();
    let scored = scored["logprobs"].as_array().unwrap();
    assert_eq!(scored.len(), 3);
    // Greedy: what is chosen is the likeliest.
    assert!(scored.iter().all(|s| s["top"][0]["token"] == s["token"] && s["top"][1]["logprob"].is_f64()));
    let labelled = place.ok("generate --model run --device cpu -n 4 --prompt a --prompt the --n 2").stdout;
    for label in ["prompt 0, sample 0", "prompt 0, sample 1", "prompt 1, sample 0", "prompt 1, sample 1"] {
        assert!(labelled.contains(&format!("=== {label} ===\n")), "{labelled}");
    }
    place.write("empty.txt", "\n\n");
    place.fails("generate --model run --prompts empty.txt", &["empty.txt", "no prompt"]);
    place.fails("generate --model run --prompts nothing.txt", &["nothing.txt"]);
}
