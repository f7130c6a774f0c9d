//! The same work on every device that is there: what the CPU computes, all others must compute too.

mod common;

use common::parity::{check_grads, check_logits, check_training};
use common::{Place, data, turn};
use halite::hal::philox::Normals;
use halite::hal::reference::ReferenceDevice;
use halite::hal::{
    Attention, Buffer, DType, Device, DeviceOptions, Error, GroupScore, Op, Router, ScoreFn, StreamId,
    TensorRef,
};
use halite::models::inference::parity::Reference;
use halite::models::model::Model;
use halite::models::tape::{Choices, Tape};
use halite::models::tokenizer::Tokenizer;
use serde_json::Value;
use std::sync::Arc;

/// Selectors of all devices but the CPU. On a machine without any these tests have nothing to compare.
fn others(place: &Place) -> Vec<String> {
    let mut found = place.devices();
    found.retain(|s| s != "cpu:0");
    if found.is_empty() {
        eprintln!("skipped: there is no device but the CPU (scripts/drivers.sh installs software drivers)");
    }
    found
}

/// Opens a device in this process, with the compiled programs of the other tests.
fn open(selector: &str) -> Arc<dyn Device> {
    let options = DeviceOptions::default().cache_dir(concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"));
    halite::registry().open(selector, &options).unwrap()
}

#[test]
fn logits_gradients_and_curves_are_those_of_the_references() {
    let place = Place::new();
    for (nth, device) in others(&place).iter().enumerate() {
        for &model in turn(&["mixtral", "mixtral_6x3", "glm4_moe"], nth) {
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
fn latent_attention_and_sinks_are_those_of_the_references() {
    let place = Place::new();
    for model in ["deepseek_v3", "gpt_oss", "deepseek_v3_fp8", "gpt_oss_mxfp4"] {
        place.add(model);
    }
    for (nth, device) in others(&place).iter().enumerate() {
        let options = format!("--device {device}");
        for &model in turn(&["deepseek_v3", "gpt_oss"], nth) {
            check_logits(&place, model, &options, 2e-4);
            check_logits(&place, model, &format!("{options} --decode"), 2e-4);
        }
        for &model in turn(&["gpt_oss_mxfp4", "deepseek_v3_fp8"], nth) {
            check_logits(&place, model, &options, 2e-4);
        }
        check_grads(&place, "deepseek_v3", &options);
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
    let tokens = |device: &str| -> Vec<Value> {
        let line = format!("generate --model cpu --prompt the -n 48 --json --device {device}");
        place.ok(&line).json()["tokens"].as_array().unwrap().clone()
    };
    let want = losses("cpu:0", "cpu");
    assert_eq!(want.len(), 50);
    let said = tokens("cpu:0");
    let tokenizer = Tokenizer::from_file(place.path("cpu/step-50/tokenizer.json")).unwrap();
    let prompt = tokenizer.encode("the", true).unwrap();
    let cpu = Model::open(open("cpu:0"), &place.path("cpu")).unwrap();
    let reference = Reference::new(&cpu, &prompt, 47).unwrap();
    for device in others {
        let got = losses(&device, &device.replace(':', "-"));
        for (step, (got, want)) in got.iter().zip(&want).enumerate() {
            let off = (got / want - 1.0).abs();
            assert!(off <= 1e-3, "{device} at step {}: {got}, wanted {want}; off by {off:e}", step + 1);
        }
        let model = Model::open(open(&device), &place.path("cpu")).unwrap();
        let parity = reference.compare(&model).unwrap();
        parity.check().unwrap_or_else(|fault| panic!("{device} {fault}"));
        // Of tokens 0 to 47 after the prompt, the first is chosen at the prompt's last.
        let agreed = parity.first.map_or(48, |p| (p.token + 1).saturating_sub(prompt.len()));
        let got = tokens(&device);
        assert_eq!(got.len(), said.len(), "{device}");
        assert_eq!(got[..agreed], said[..agreed], "{device}: {parity:?}");
    }
}

#[test]
fn devices_part_ways_at_near_ties_alone() {
    let prompt: Vec<u32> = (0..24).map(|i| i * i * 7 % 50).collect();
    let others: Vec<_> = others(&Place::new()).iter().map(|selector| open(selector)).collect();
    for name in ["mixtral_6x3", "mixtral_10x1", "glm4_moe"] {
        let cpu = Model::open(open("cpu:0"), &data(name)).unwrap();
        let reference = Reference::new(&cpu, &prompt, 4).unwrap();
        // Its own choices, which it makes again.
        let parity = reference.compare(&cpu).unwrap();
        assert!(parity.free == 0.0 && parity.first.is_none(), "{name}: {parity:?}");
        parity.check().unwrap();
        for device in &others {
            let parity = reference.compare(&Model::open(device.clone(), &data(name)).unwrap()).unwrap();
            parity.check().unwrap_or_else(|fault| panic!("{name}: {} {fault}", device.info().selector));
        }
    }
}

/// Uploads words of 32 bits.
fn upload(device: &dyn Device, words: impl Iterator<Item = u32>) -> Buffer {
    let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
    let buffer = device.allocate(bytes.len() as u64, 0).unwrap();
    device.upload(StreamId(0), &buffer, 0, &bytes).unwrap();
    buffer
}

/// The weights that a router gives, and those of the same experts as they are when choices are replayed.
fn router_weights(device: &dyn Device, kind: Router, logits: &[f32], bias: &[f32]) -> [Vec<f32>; 2] {
    const STREAM: StreamId = StreamId(0);
    let floats = |x: &[f32]| upload(device, x.iter().map(|x| x.to_bits()));
    let ints = |x: &[i32]| upload(device, x.iter().map(|x| *x as u32));
    let (experts, k) = (bias.len(), kind.top_k);
    let tokens = logits.len() / experts;
    let tensor = |b: &Buffer, dtype, shape: &[usize]| TensorRef::new(b, dtype, shape);
    let logits = tensor(&floats(logits), DType::F32, &[tokens, experts]);
    let bias = kind.bias.then(|| tensor(&floats(bias), DType::F32, &[experts]));
    let kept = [(); 2].map(|()| device.allocate(4 * (tokens * k) as u64, 0).unwrap());

    let mut tape = Tape::new();
    let v = tape.constant(logits.clone());
    let routing = tape.route(kind, v, bias);
    let (chosen, weights) = (routing.experts, tape.tensor(routing.weights));
    tape.graph.push(Op::copy(chosen, tensor(&kept[0], DType::I32, &[tokens, k])));
    tape.graph.push(Op::copy(weights, tensor(&kept[1], DType::F32, &[tokens, k])));
    device.replay(STREAM, &device.record(&tape.graph).unwrap(), &[]).unwrap();
    let read = |b: &Buffer| device.download(STREAM, b, 0, b.bytes()).unwrap();
    let chosen: Vec<i32> = read(&kept[0]).wait_as().unwrap();
    let want: Vec<f32> = read(&kept[1]).wait_as().unwrap();

    let places: Vec<i32> = Choices::places(&chosen, k, experts).collect();
    let choices = Choices {
        experts: tensor(&ints(&chosen), DType::I32, &[tokens, k]),
        places: tensor(&ints(&places), DType::I32, &[tokens * k]),
    };
    let mut tape = Tape::new();
    let v = tape.constant(logits);
    let routing = tape.route_to(kind, v, &choices);
    let weights = tape.tensor(routing.weights);
    tape.graph.push(Op::copy(weights, tensor(&kept[1], DType::F32, &[tokens, k])));
    device.replay(STREAM, &device.record(&tape.graph).unwrap(), &[]).unwrap();
    [want, read(&kept[1]).wait_as().unwrap()]
}

#[test]
fn replayed_choices_have_the_weights_of_the_router_on_every_device() {
    let normals = |n, stream| Normals::new(5, stream).take(n).map(|x| x as f32).collect::<Vec<_>>();
    let (logits, bias) = (normals(7 * 8, 0), normals(8, 1));
    let kinds = [
        Router::new(ScoreFn::Softmax, 2).normalize(true),
        Router::new(ScoreFn::Softmax, 3).scale(0.5),
        Router::new(ScoreFn::Softmax, 1).normalize(true).bias(true),
        Router::new(ScoreFn::Sigmoid, 8),
        Router::new(ScoreFn::Sigmoid, 3)
            .groups(4, 2, GroupScore::SumTop2)
            .bias(true)
            .normalize(true)
            .scale(2.5),
    ];
    let mut devices: Vec<Arc<dyn Device>> = vec![Arc::new(ReferenceDevice::new()), open("cpu:0")];
    devices.extend(others(&Place::new()).iter().map(|selector| open(selector)));
    for device in devices {
        for kind in kinds {
            let [want, got] = router_weights(&*device, kind, &logits, &bias);
            assert_eq!(want.len(), 7 * kind.top_k);
            let near = want.iter().zip(&got).all(|(w, g)| (w - g).abs() <= 2e-6 * w.abs());
            assert!(near, "{} {kind:?}: {got:?}, wanted {want:?}", device.info().selector);
        }
    }
}

#[test]
fn a_resumed_run_ends_bit_for_bit_as_it_did() {
    let place = Place::with_run();
    for device in others(&place) {
        let out = device.replace(':', "-");
        let line = format!("train --config run.toml --steps 4 --save-every 2 --device {device} --out {out}");
        let ended = || {
            let weights = place.read(&format!("{out}/step-4/model.safetensors"));
            (place.curve(&out), weights)
        };
        place.ok(&line);
        let want = ended();
        assert_eq!(want.0.len(), 4, "{device}");
        std::fs::remove_dir_all(place.path(&format!("{out}/step-4"))).unwrap();
        place.ok(&format!("{line} --resume-from step-2"));
        assert!(ended() == want, "{device} went another way: {:?}, before: {:?}", ended().0, want.0);
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

/// Some drivers end loops early: then an op is done in another way, or it is an error.
#[test]
fn long_loops_give_right_results_or_errors() {
    let place = Place::new();
    for selector in others(&place) {
        let device = open(&selector);
        let floats = |shape: &[usize], value: fn(usize) -> f32| {
            let words = (0..shape.iter().product()).map(|i| value(i).to_bits());
            TensorRef::new(&upload(&*device, words), DType::F32, shape)
        };
        let integers = |shape: &[usize], numbers: &[i32]| {
            TensorRef::new(&upload(&*device, numbers.iter().map(|n| *n as u32)), DType::I32, shape)
        };
        // Gives the result, or nothing where the device says that the loops are too long for it.
        let result = |op: Op| -> Option<Vec<f32>> {
            let y = op.outputs[0].clone();
            match device.submit(StreamId(0), &[op]) {
                Err(Error::Limit { what, .. }) if what.contains("loops") => return None,
                submitted => submitted.unwrap(),
            }
            let halite::hal::Source::Buffer(buffer) = &y.source else { unreachable!("it was uploaded") };
            Some(device.download(StreamId(0), buffer, 0, 4 * y.elems() as u64).unwrap().wait_as().unwrap())
        };
        let close = |what: &str, got: Option<Vec<f32>>, want: f32| match got {
            None => println!("{selector}: {what} loops for too long"),
            Some(got) => {
                let bad = got.iter().find(|x| ((*x - want) / want).abs() > 1e-4);
                assert_eq!(bad, None, "{selector}: {what} wants {want}");
            }
        };

        let n = 300_000;
        let zeros = |shape: &[usize]| floats(shape, |_| 0.0);
        let row = zeros(&[1, n]);
        close("softmax", result(Op::softmax(row.clone(), zeros(&[1, n]))), 1.0 / n as f32);
        let ones = floats(&[n, 1], |_| 1.0);
        let sum = Op::matmul(ones.clone().reshape(&[1, n]), ones, zeros(&[1, 1]));
        close("matmul", result(sum), n as f32);
        // The mean of as many zeros as ones, all keys being alike.
        let (tokens, keys, width) = (17, 40_000, 16);
        let v = floats(&[keys, 1, width], |i| (i / 16 % 2) as f32);
        let seqs = integers(&[1, 4], &[0, tokens as i32, 0, keys as i32]);
        let (q, k, o) = (zeros(&[tokens, 1, width]), zeros(&[keys, 1, width]), zeros(&[tokens, 1, width]));
        let attention = Op::attention(Attention::causal(1.0).full(), q, k, v, seqs, o, zeros(&[tokens, 1]));
        close("attention", result(attention), 0.5);
        // Every entry is for one row: it adds them all up.
        let all = 70_000;
        let entries = floats(&[all, 1], |_| 1.0);
        close(
            "scatter",
            result(Op::scatter(entries, integers(&[all], &vec![0; all]), zeros(&[1, 1]), true)),
            all as f32,
        );
    }
}
