//! Input that can't be used gives one clear line and exit code 1 (2 for a wrong command line).

mod common;

use common::Place;
use halite::models::weights::{TensorMeta, TensorSource, save_tensors};

const TRAIN: &str = "train --config run.toml";

#[test]
fn text_that_cannot_be_used() {
    let place = Place::with_run();
    place.write("binary", [0xff, 0, 1, 2]);
    place.write("empty", "");
    place.write("short", "ab\n");
    place.write("number.jsonl", "{\"text\": \"a\"}\n{\"text\": 1}\n");
    place.write("broken.jsonl", "{\"text\": \n");
    std::fs::create_dir(place.path("folder")).unwrap();
    for (data, words) in [
        ("missing", &["missing", "No such file"][..]),
        ("text.txt missing/file", &["missing/file"]),
        ("text.txt/x", &["text.txt/x"]),
        ("binary", &["binary", "byte 0"]),
        ("empty", &["no text in empty"]),
        ("folder", &["no text in folder"]),
        ("*.nothing", &["*.nothing"]),
        ("number.jsonl", &["number.jsonl", "line 2"]),
        ("broken.jsonl", &["broken.jsonl", "line 1"]),
        ("short", &["3 bytes", "too few"]),
    ] {
        place.fails(&format!("{TRAIN} --out run --data {data}"), words);
        if data != "short" {
            place.fails(&format!("tokenizer train --out t.json --data {data}"), &words[..1]);
        }
        place.fails(&format!("demo --steps 1 --out run --data {data}"), words);
    }
    place.fails(&format!("{TRAIN} --out run --data number.jsonl --tokenizer missing.json"), &["line 2"]);
    for left in ["run", "t.json"] {
        assert!(!place.path(left).exists(), "{left} came of a failure");
    }
}

#[test]
fn settings_that_are_impossible() {
    let place = Place::with_run();
    let settings = place.read_text("run.toml");
    let huge = "100000000000000000000";
    for (from, to, words) in [
        ("seed = 7", "seed = ", &["line 2"][..]),
        ("seed = 7", "sead = 7", &["line 2", "sead", "seed"]),
        ("seed = 7", "seed = -7", &["line 2"]),
        ("[data]", "[dota]", &["dota"]),
        ("lr = 1e-2", "lr = \"x\"", &["\"x\""]),
        ("lr = 1e-2", "lr = -1.0", &["-1"]),
        ("lr = 1e-2", "lr = nan", &["NaN"]),
        ("seed = 7", "seed = 7\npreset = \"tiny\"", &["preset", "[model]"]),
        ("\"mixtral\"", "\"bert\"", &["bert", "mixtral"]),
        ("hidden_size = 32", "hidden_size = 33", &["hidden_size", "33", "num_attention_heads (2)"]),
        ("hidden_size = 32", "hidden_size = 0", &["hidden_size", "0"]),
        ("hidden_size = 32", "hidden_size = -4", &["hidden_size", "-4"]),
        ("hidden_size = 32", "hidden_size = 3.5", &["hidden_size", "3.5"]),
        ("hidden_size = 32", "hidden_size = 1000000000", &["larger than can be addressed"]),
        ("hidden_size = 32", "hidden_size = 32\nhead_dim = 15", &["head_dim", "15", "even"]),
        ("num_attention_heads = 2", "num_attention_heads = 0", &["num_attention_heads"]),
        ("num_attention_heads = 2", "num_attention_heads = 3", &["hidden_size", "num_attention_heads (3)"]),
        ("num_key_value_heads = 1", "num_key_value_heads = 3", &["num_key_value_heads", "3"]),
        ("num_experts_per_tok = 2", "num_experts_per_tok = 5", &["num_experts_per_tok", "5", "4"]),
        ("num_experts_per_tok = 2", "num_experts_per_tok = 0", &["num_experts_per_tok", "0"]),
        ("num_local_experts = 4", "num_local_experts = 0", &["experts", "0"]),
        ("num_hidden_layers = 2", "num_hidden_layers = 0", &["num_hidden_layers", "0"]),
        ("vocab_size = 260", "vocab_size = 0", &["vocab_size", "0"]),
        ("vocab_size = 260", "vocab_size = 200", &["257", "200"]),
        ("vocab_size = 260", "vocab_size = 2147483647", &["out of memory"]),
        ("intermediate_size = 24", "intermediate_size = 2000000000", &["out of memory"]),
        ("vocab_size = 260", "vocab_size = 99999999999", &["vocab_size", "99999999999"]),
        ("max_position_embeddings = 64", "max_position_embeddings = 0", &["max_position_embeddings"]),
        ("rms_norm_eps = 1e-5", "rms_norm_eps = 0", &["rms_norm_eps"]),
        ("rope_theta = 10000.0", "rope_theta = -1", &["rope_theta"]),
        ("seq_len = 32", "seq_len = 65", &["65", "64"]),
        ("seq_len = 32", "seq_len = 0", &["0 tokens"]),
        ("batch_size = 2", "batch_size = 0", &["0 rows"]),
        ("batch_size = 2", "batch_size = 100000000", &["100000000 rows"]),
        ("batch_size = 2", "batch_size = 10000000", &["out of memory"]),
        ("batch_size = 2", "batch_size = 2\nvalidation = 1.5", &["validation", "1.5"]),
        ("batch_size = 2", "batch_size = 2\ntokenizer = \"missing.json\"", &["missing.json"]),
        ("batch_size = 2", "batch_size = 2\ntokenizer = \".\"", &["tokenizer ."]),
        ("batch_size = 2", "batch_size = 2\ntokenizer = \"text.txt\"", &["text.txt"]),
        ("steps = 8", "steps = 0", &["steps", "0"]),
        ("steps = 8", &format!("steps = {huge}"), &["run.toml"]),
        ("steps = 8", "steps = 8\naccumulation = 0", &["accumulation", "0"]),
        ("steps = 8", "steps = 8\naccumulation = 1000000000000", &["accumulation", "1000000000000"]),
        ("steps = 8", "steps = 8\nbeta1 = 1.0", &["beta1", "1"]),
        ("steps = 8", "steps = 8\nschedule = \"wsd\"", &["run.toml", "wsd"]),
        (
            "steps = 8",
            "steps = 8\nschedule = { kind = \"wsd\", decay_steps = 100, min_ratio = 0.1 }",
            &["decay_steps", "100", "6"],
        ),
    ] {
        assert!(settings.contains(from), "{from}");
        place.write("run.toml", settings.replacen(from, to, 1));
        place.fails(&format!("{TRAIN} --out run"), words);
        assert!(place.lines("run") == 0 && !place.path("run/latest").exists(), "{to}");
    }
    // Nothing of it is in the way of a run with the right settings.
    place.write("run.toml", settings);
    place.ok(&format!("{TRAIN} --steps 1 --out run"));
}

#[test]
fn options_that_are_impossible() {
    let place = Place::with_run();
    std::fs::create_dir(place.path("folder")).unwrap();
    for (options, words) in [
        ("--config missing.toml", &["missing.toml"][..]),
        ("--config folder", &["folder"]),
        ("--config text.txt", &["text.txt"]),
        ("--preset huge --data text.txt", &["huge", "tiny", "small"]),
        ("--data text.txt", &["[model]", "preset"]),
        ("--config run.toml --device warp", &["warp", "cpu:0"]),
        ("--config run.toml --device cpu:99", &["cpu:99", "cpu:0"]),
        ("--config run.toml --device cpu:x", &["cpu:x", "cpu:0"]),
        ("--config run.toml --profile none", &["none", "core-only"]),
        ("--config run.toml --memory-limit 0", &["out of memory", "0 available"]),
        ("--config run.toml --memory-limit 1 --batch-size 64", &["out of memory", "1048576"]),
        ("--config run.toml --lr -1", &["-1"]),
        ("--config run.toml --lr nan", &["NaN"]),
        ("--config run.toml --lr inf", &["inf"]),
        ("--config run.toml --clip -1", &["clip", "-1"]),
        ("--config run.toml --beta2 1", &["beta2", "1"]),
        ("--config run.toml --eps 0", &["eps", "0"]),
        ("--config run.toml --weight-decay inf", &["weight_decay", "inf"]),
        ("--config run.toml --validation -0.5", &["-0.5"]),
        ("--config run.toml --schedule cosine --warmup 9 --steps 0", &["steps", "0"]),
        ("--from missing --data text.txt", &["missing"]),
        ("--from folder --data text.txt", &["folder"]),
        ("--resume", &["run"]),
        ("--resume-from step-3", &["run"]),
    ] {
        place.fails(&format!("train --out run {options}"), words);
        assert!(place.lines("run") == 0 && !place.path("run/latest").exists(), "{options}");
    }
    for line in [
        "verify --op nonsense",
        "verify --device nonsense",
        "verify --profile nonsense",
        "tune --op nonsense",
    ] {
        place.fails(line, &["nonsense"]);
    }
    place.fails("tokenizer train --data text.txt --vocab-size 10 --out t.json", &["10", "257"]);

    for line in [
        "",
        "nonsense",
        "devices --nonsense",
        "train --out run --preset tiny",
        "train --out run --preset tiny --config run.toml",
        "train --out run --config run.toml --lr high",
        "train --out run --config run.toml --threads 0",
        "train --out run --config run.toml --threads 100000",
        "train --out run --config run.toml --schedule slow",
        "train --out run --resume-from last",
        "train --out run --ids-from x --data y",
        "generate --model run",
        "inspect logits --model run",
        "tokenizer train",
    ] {
        let ran = place.run(line);
        assert_eq!(ran.code, Some(2), "{line}: {}", ran.stderr);
        assert!(!ran.stderr.is_empty() && !ran.stderr.contains("panicked"), "{line}: {}", ran.stderr);
    }
    assert!(!place.path("run").join("latest").exists());
}

#[test]
fn places_that_cannot_be_written() {
    let place = Place::with_run();
    place.add("mixtral_6x3");
    std::fs::create_dir(place.path("folder")).unwrap();
    let text = place.read("text.txt");
    for out in ["text.txt", "text.txt/run"] {
        place.fails(&format!("{TRAIN} --out {out}"), &[out]);
        place.fails(&format!("demo --data text.txt --steps 1 --out {out}"), &[out]);
    }
    for out in ["folder", "missing/file", "text.txt/file"] {
        place.fails(&format!("tokenizer train --data text.txt --out {out}"), &[out]);
        let files = format!("--model mixtral_6x3 --out {out} --ids-from mixtral_6x3");
        place.fails(&format!("inspect logits {files}/reference.safetensors"), &[out]);
        place.fails(&format!("inspect grads {files}/train.safetensors"), &[out]);
    }
    assert!(place.path("folder").is_dir() && place.read("text.txt") == text);
}

#[test]
fn models_that_cannot_be_used() {
    let place = Place::with_run();
    place.add("mixtral_6x3");
    place.ok(&format!("{TRAIN} --out run"));
    place.copy("run/step-8", "plain");
    std::fs::remove_file(place.path("plain/manifest.json")).unwrap();
    place.ok("generate --model plain --prompt a -n 1");
    std::fs::create_dir(place.path("folder")).unwrap();

    let model = place.read("plain/model.safetensors");
    let config = place.read_text("plain/config.json");
    let flipped = |at: usize| {
        let mut bytes = model.clone();
        bytes[at] ^= 0xff;
        bytes
    };
    let cases: Vec<(&str, Option<Vec<u8>>, &str)> = vec![
        ("config.json", None, "config.json"),
        ("config.json", Some(b"{".to_vec()), "config.json"),
        ("config.json", Some(b"[]".to_vec()), "JSON object"),
        ("config.json", Some(b"\xff\x00".to_vec()), "config.json"),
        ("config.json", Some(config.replace("\"vocab_size\": 260", "\"vocab_size\": 261").into()), "wants"),
        ("config.json", Some(config.replace("\"vocab_size\": 260", "\"vocab_size\": 256").into()), "256"),
        ("config.json", Some(config.replace("\"mixtral\"", "\"bert\"").into()), "bert"),
        ("config.json", Some(config.replace("_layers\": 2", "_layers\": 3").into()), "missing"),
        ("model.safetensors", None, "model.safetensors"),
        ("model.safetensors", Some(Vec::new()), "model.safetensors"),
        ("model.safetensors", Some(model[..4].to_vec()), "model.safetensors"),
        ("model.safetensors", Some(model[..100].to_vec()), "model.safetensors"),
        ("model.safetensors", Some(model[..model.len() - 1].to_vec()), "model.safetensors"),
        ("model.safetensors", Some(flipped(7)), "model.safetensors"),
        ("model.safetensors", Some(flipped(20)), "model.safetensors"),
        ("tokenizer.json", None, "tokenizer.json"),
        ("tokenizer.json", Some(b"{}".to_vec()), "tokenizer.json"),
        ("tokenizer.json", Some(b"\xff".to_vec()), "tokenizer.json"),
    ];
    for (file, content, word) in cases {
        std::fs::remove_dir_all(place.path("folder")).unwrap();
        place.copy("plain", "folder");
        std::fs::remove_file(place.path("folder").join(file)).unwrap();
        if let Some(bytes) = content {
            place.write(&format!("folder/{file}"), bytes);
        }
        place.fails("generate --model folder --prompt a -n 1", &[word]);
        place.fails("train --from folder --data text.txt --steps 1 --seq-len 32 --out new", &[word]);
        if file != "tokenizer.json" && word != "256" {
            let ids = "--ids-from mixtral_6x3/train.safetensors";
            place.fails(&format!("inspect grads --model folder {ids} --out g.st"), &[word]);
        }
    }
    // A folder in place of a file.
    std::fs::remove_file(place.path("folder/tokenizer.json")).unwrap();
    std::fs::create_dir(place.path("folder/tokenizer.json")).unwrap();
    place.fails("generate --model folder --prompt a", &["tokenizer.json"]);

    for missing in ["missing", "text.txt"] {
        place.fails(&format!("generate --model {missing} --prompt a"), &[missing]);
        let ids = "--ids-from mixtral_6x3/train.safetensors --out g.st";
        place.fails(&format!("inspect grads --model {missing} {ids}"), &[missing]);
    }
    // Mixtral's folder has no tokenizer; one of another model is larger than its vocabulary.
    place.fails("generate --model mixtral_6x3 --prompt a", &["tokenizer.json"]);
    place.write("mixtral_6x3/tokenizer.json", place.read("plain/tokenizer.json"));
    place.fails("generate --model mixtral_6x3 --prompt a", &["257", "250"]);
    assert!(!place.path("g.st").exists() && !place.path("new").exists());
}

#[test]
fn prompts_and_sampling_options_that_are_impossible() {
    let place = Place::with_run();
    place.ok(&format!("{TRAIN} --out run"));
    let long = "a".repeat(64);
    for (options, words) in [
        (format!("--prompt {long}"), &["65", "64"][..]),
        ("--prompt a --temperature nan".into(), &["temperature", "NaN"]),
        ("--prompt a --temperature -1".into(), &["temperature", "-1"]),
        ("--prompt a --top-p 0".into(), &["top_p", "0"]),
        ("--prompt a --top-p 1.5".into(), &["top_p", "1.5"]),
        ("--prompt a --min-p -1".into(), &["min_p", "-1"]),
        ("--prompt a --repetition-penalty 0".into(), &["repetition_penalty", "0"]),
        ("--prompt=".into(), &["no tokens"]),
        ("--prompt a --stop=".into(), &["stop"]),
        ("--prompt a --device nonsense".into(), &["nonsense", "cpu:0"]),
        ("--prompt a --memory-limit 0".into(), &["out of memory"]),
    ] {
        place.fails(&format!("generate --model run {options}"), words);
    }
    // What fits to the last token is right, however much is asked for.
    let full =
        place.ok(&format!("generate --model run --prompt {} -n 1000000000000 --json", &long[..62])).json();
    assert_eq!(full["finish"], "context");
}

#[test]
fn token_ids_that_cannot_be_used() {
    let place = Place::with_run();
    place.add("mixtral_6x3");
    // A safetensors file with one tensor, of zero bytes but for the first.
    let write = |file: &str, name: &str, dtype, shape: &[usize], first: u8| {
        let width = if dtype == halite::models::weights::Dtype::F32 { 4 } else { 8 };
        let mut bytes = vec![0u8; width * shape.iter().product::<usize>()];
        if let Some(byte) = bytes.first_mut() {
            *byte = first;
        }
        let mut source = TensorSource::new();
        source.push(TensorMeta { name: name.into(), dtype, shape: shape.into() }, move || Ok(bytes.into()));
        save_tensors(&place.path(file), source).unwrap();
    };
    use halite::models::weights::Dtype::{F32, I64};
    place.write("empty", "");
    let logits = "inspect logits --model mixtral_6x3 --out out.st --ids-from";
    let grads = "inspect grads --model mixtral_6x3 --out out.st --ids-from";
    let train = "train --from mixtral_6x3 --steps 1 --out run --ids-from";
    for (file, word) in [("missing", "missing"), (".", "."), ("empty", "empty"), ("text.txt", "text.txt")] {
        for line in [logits, grads, train] {
            place.fails(&format!("{line} {file}"), &[word]);
        }
    }
    write("x.st", "other", I64, &[1, 4], 0);
    place.fails(&format!("{logits} x.st"), &["x.st", "input_ids"]);
    for line in [grads, train] {
        place.fails(&format!("{line} x.st"), &["x.st", "train_ids"]);
    }
    for (dtype, len, first, word) in
        [(F32, 4, 0, "F32"), (I64, 0, 0, "no tokens"), (I64, 4, 250, "250"), (I64, 1010, 0, "1025")]
    {
        write("x.st", "input_ids.1", dtype, &[len], first);
        place.fails(&format!("{logits} x.st"), &[word]);
    }
    for (dtype, shape, first, word) in [
        (F32, &[1, 4][..], 0, "F32"),
        (I64, &[4], 0, "[4]"),
        (I64, &[0, 0], 0, "no token"),
        (I64, &[2, 1], 0, "no token"),
        (I64, &[1, 4], 250, "250"),
        (I64, &[1, 1025], 0, "1025"),
    ] {
        write("x.st", "train_ids", dtype, shape, first);
        for line in [grads, train] {
            place.fails(&format!("{line} x.st"), &[word]);
        }
    }
    assert!(!place.path("out.st").exists() && !place.path("run/latest").exists());
}
