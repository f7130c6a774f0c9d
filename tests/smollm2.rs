//! A trained model, SmolLM2-135M-Instruct with Q4_1 weights, on every device. scripts/models.sh obtains it.

mod common;

use common::Place;
use std::path::{Path, PathBuf};

/// The model's file; none where it couldn't be obtained.
fn model() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../models/SmolLM2-135M-Instruct.Q4_1.gguf");
    let found = path.canonicalize().ok();
    if found.is_none() {
        eprintln!("skipped: there is no {} (scripts/models.sh obtains it)", path.display());
    }
    found
}

#[test]
fn it_answers_and_continues_on_every_device() {
    let Some(model) = model() else { return };
    let model = model.display();
    let place = Place::new();
    place.write("prompt.txt", "The capital of France is");
    for (i, device) in place.devices().into_iter().enumerate() {
        let script = format!(
            "echo 'What is the capital of France?' | \
             \"$HALITE\" chat --model {model} --device {device} -n 7 --temperature 0"
        );
        let chat: common::Ran = place.script(&script).output().unwrap().into();
        assert!(
            chat.code == Some(0) && chat.stdout.contains("Paris"),
            "{device}: {}{}",
            chat.stdout,
            chat.stderr
        );
        let cache = ["q8_0", "f16", "bf16"][i % 3];
        let line = format!("generate --model {model} --device {device} --prompts prompt.txt -n 3 --json");
        let said = place.ok(&format!("{line} --temperature 0 --cache-type {cache}"));
        assert!(said.stdout.contains("Paris"), "{device}, {cache}: {}", said.stdout);
        assert_eq!(said.json()["tokens"].as_array().unwrap().len(), 3, "{device}");
    }
}

#[test]
fn it_chats_as_before_after_the_way_to_a_folder_and_back() {
    let Some(model) = model() else { return };
    let place = Place::new();
    place.ok(&format!("convert --model {} --out folder --type bf16", model.display()));
    place.ok("convert --model folder --out back.gguf --type bf16");
    let said = |model: &str| {
        let script = format!(
            "echo 'Name a colour.' | \"$HALITE\" chat --model {model} --device cpu -n 8 --temperature 0"
        );
        let ran: common::Ran = place.script(&script).output().unwrap().into();
        assert_eq!(ran.code, Some(0), "{model}: {}", ran.stderr);
        ran.stdout
    };
    assert_eq!(said("back.gguf"), said("folder"));
    assert_eq!(said("folder"), said(&model.display().to_string()));
}

/// What llama-perplexity (llama_cpp_python 0.3.36) says of the same file and text, with an f32 cache.
const LLAMA_CPP: f64 = 47.3317;

#[test]
fn its_perplexity_is_that_of_llama_cpp() {
    let Some(model) = model() else { return };
    let place = Place::new();
    let text = common::data("prose.txt");
    let line =
        format!("perplexity --model {} --text {} --device cpu --json", model.display(), text.display());
    let said = place.ok(&line).json();
    assert_eq!((said["windows"].as_u64(), said["tokens"].as_u64()), (Some(5), Some(1275)));
    let perplexity = said["perplexity"].as_f64().unwrap();
    assert!((perplexity / LLAMA_CPP - 1.0).abs() < 3e-3, "{perplexity}, llama.cpp has {LLAMA_CPP}");
}
