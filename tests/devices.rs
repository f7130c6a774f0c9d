//! The same work on every device that is there: what the CPU computes, all others must compute too.

mod common;

use common::Place;
use common::parity::{check_grads, check_logits, check_training};
use serde_json::Value;

/// Selectors of all devices but the CPU. On a machine without any these tests have nothing to compare.
fn others(place: &Place) -> Vec<String> {
    let devices = place.ok("devices --json").json();
    let selectors = devices.as_array().unwrap().iter().map(|d| d["selector"].as_str().unwrap().to_string());
    let found: Vec<String> = selectors.filter(|s| s != "cpu:0").collect();
    if found.is_empty() {
        eprintln!("skipped: there is no device but the CPU (scripts/drivers.sh installs software drivers)");
    }
    found
}

#[test]
fn logits_gradients_and_curves_are_those_of_the_references() {
    let place = Place::new();
    for device in others(&place) {
        for model in ["mixtral", "mixtral_6x3", "glm4_moe"] {
            let place = Place::new();
            place.add(model);
            let options = format!("--device {device}");
            check_logits(&place, model, &options, 2e-4);
            check_logits(&place, model, &format!("{options} --decode"), 2e-4);
            check_grads(&place, model, &options);
            if model == "mixtral" {
                check_training(&place, model, &options);
            }
        }
    }
}

#[test]
fn fifty_steps_follow_one_curve_and_one_checkpoint_says_the_same_everywhere() {
    let place = Place::with_run();
    let others = others(&place);
    let losses = |device: &str, out: &str| -> Vec<f64> {
        place.ok(&format!("train --config run.toml --steps 50 --device {device} --out {out}"));
        place.metrics(out).iter().map(|m| m["loss"].as_f64().unwrap()).collect()
    };
    let tokens = |device: &str| -> Value {
        let line = format!("generate --model cpu --prompt the -n 48 --json --device {device}");
        place.ok(&line).json()["tokens"].clone()
    };
    let want = losses("cpu:0", "cpu");
    assert_eq!(want.len(), 50);
    let said = tokens("cpu:0");
    for device in others {
        let got = losses(&device, &device.replace(':', "-"));
        for (step, (got, want)) in got.iter().zip(&want).enumerate() {
            let off = (got / want - 1.0).abs();
            assert!(off <= 1e-3, "{device} at step {}: {got}, wanted {want}; off by {off:e}", step + 1);
        }
        assert_eq!(tokens(&device), said, "{device}");
    }
}

#[test]
fn choices_and_compiled_programs_are_kept() {
    for device in others(&Place::new()) {
        let place = Place::new();
        let run = |line: &str| {
            let mut command = place.command(&format!("{line} --device {device} --json"));
            command.env("HALITE_CACHE", place.path("cache")).env("HALITE_LOG", "halite_kernels=debug");
            let ran = common::Ran::from(command.output().unwrap());
            assert_eq!(ran.code, Some(0), "{}", ran.stderr);
            let stored = ran.stderr.lines().filter(|l| l.contains("halite_kernels::cache: stored")).count();
            (ran.json()["devices"][0].clone(), stored)
        };
        let (report, _) = run("tune --op expert_permutation --quick");
        let text = std::fs::read_to_string(report["file"].as_str().unwrap()).unwrap();
        let kept: Value = serde_json::from_str(&text).unwrap();
        let found = report["found"].as_array().unwrap();
        assert!(!found.is_empty());
        for f in found {
            assert!(f["winner"].is_string(), "{f}");
            assert_eq!(kept["choices"][f["key"].as_str().unwrap()], f["winner"], "{text}");
        }
        // Which kernels a tuner compiles depends on which is faster, those of a case don't.
        let (_, stored) = run("verify --op swiglu --slice 0/20");
        assert!(stored > 0, "{device} compiled nothing");
        let (_, stored) = run("verify --op swiglu --slice 0/20");
        assert_eq!(stored, 0, "{device} compiled again what it had");
    }
}

#[test]
fn the_validation_layer_has_nothing_to_say_about_training() {
    let place = Place::with_run();
    for device in others(&place).iter().filter(|d| d.starts_with("vulkan:")) {
        let out = device.replace(':', "-");
        let line = format!("train --config run.toml --steps 20 --device {device} --out {out}");
        let ran = place.command(&line).env("HALITE_VALIDATE", "1").output().unwrap();
        let said = String::from_utf8_lossy(&ran.stderr);
        if said.contains("VK_LAYER_KHRONOS_validation is not installed") {
            println!("skipped: {said}");
            return;
        }
        assert!(ran.status.success() && !said.contains("Vulkan validation"), "{device}: {said}");
        assert_eq!(place.metrics(&out).len(), 20);
    }
}
