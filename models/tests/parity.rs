//! The model on the f64 reference device against Hugging Face transformers (tests/data).

use halite_hal::reference::ReferenceDevice;
use halite_hal::{DType, Device};
use halite_models::checkpoint;
use halite_models::data::Batch;
use halite_models::inference::{CacheOptions, Decoder, Want};
use halite_models::model::Model;
use halite_models::training::{Decay, OptimizerOptions, Trainer};
use halite_models::weights::Weights;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// With gradients and a loss curve.
const TRAINED: [&str; 5] = ["mixtral", "mixtral_6x3", "mixtral_10x1", "glm4_moe", "deepseek_v3"];
const OTHERS: [&str; 3] = ["deepseek_v2", "deepseek_v2_lite", "gpt_oss"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data").join(name)
}

fn model(name: &str) -> Model {
    let device: Arc<dyn Device> = Arc::new(ReferenceDevice::new());
    Model::open(device, &folder(name)).unwrap()
}

fn ids(file: &Weights, name: &str) -> Vec<u32> {
    file.tensor(name).unwrap().to_i64().unwrap().into_iter().map(|x| x as u32).collect()
}

/// Largest difference over the standard deviation of what is wanted.
fn error(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let mean = want.iter().map(|&x| f64::from(x)).sum::<f64>() / want.len() as f64;
    let var = want.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / want.len() as f64;
    let max = got.iter().zip(want).map(|(a, b)| f64::from(a - b).abs()).fold(0.0, f64::max);
    max / var.sqrt()
}

/// gpt-oss's windows of 16 tokens slide over far more than they hold, in pieces and token by token.
#[test]
fn windows_that_slide_see_what_full_caches_do() {
    let model = model("gpt_oss");
    let tokens: Vec<u32> = (0..150).map(|i| i * i * 31 % 256).collect();
    let whole = Decoder::new(&model, 150).unwrap().feed(&tokens, Want::All).unwrap().logits;
    let options = CacheOptions { piece: 11, ..CacheOptions::new(vec![150]) };
    let mut decoder = Decoder::with_cache(&model, &options).unwrap();
    let mut logits = decoder.feed(&tokens[..70], Want::All).unwrap().logits;
    for token in &tokens[70..120] {
        logits.extend(decoder.feed(&[*token], Want::All).unwrap().logits);
    }
    logits.extend(decoder.feed(&tokens[120..], Want::All).unwrap().logits);
    let e = error(&logits, &whole);
    assert!(e <= 1e-6, "{e:e}");
    // Two of three layers keep 15 tokens and a piece.
    let width = (2 * model.config.num_key_value_heads * model.config.head_dim) as u64;
    assert_eq!(options.bytes(&model.config), 4 * width * (150 + 2 * 26));
}

/// Caches of 16 and 8 bits, with keys and values and with latent vectors: what they round is all that differs.
#[test]
fn caches_of_few_bits_differ_by_their_rounding() {
    for name in ["mixtral", "gpt_oss", "deepseek_v2"] {
        let model = model(name);
        let tokens: Vec<u32> = (0..40).map(|i| i * i * 31 % 256).collect();
        // Logits and experts of a prompt and of single tokens, with the experts chosen here or as they are given.
        let run = |dtype, given: Option<&[Vec<i32>]>| {
            let options = CacheOptions::new(vec![40]).dtype(dtype);
            let mut decoder = Decoder::with_cache(&model, &options).unwrap();
            let (mut logits, mut experts) = (Vec::new(), Vec::new());
            for part in std::iter::once(0..30).chain((30..40).map(|i| i..i + 1)) {
                let of_part = |all: &[i32]| {
                    let k = all.len() / tokens.len();
                    all[part.start * k..part.end * k].to_vec()
                };
                let parts: Option<Vec<Vec<i32>>> =
                    given.map(|layers| layers.iter().map(|l| of_part(l)).collect());
                let choices: Option<Vec<&[i32]>> =
                    parts.as_ref().map(|layers| layers.iter().map(|l| &l[..]).collect());
                let fed = decoder.feed_routed(&tokens[part], Want::Routing, choices.as_deref()).unwrap();
                logits.extend(fed.logits);
                experts.resize(fed.experts.len(), Vec::new());
                experts.iter_mut().zip(fed.experts).for_each(|(all, fed)| all.extend(fed));
            }
            (logits, experts)
        };
        let (exact, experts) = run(DType::F32, None);
        // Of a unit in the last place, half; through all layers. That of a block is one of its largest element.
        let units = [(DType::F16, 2f64.powi(-11)), (DType::BF16, 2f64.powi(-8)), (DType::Q8_0, 1.0 / 127.0)];
        for (dtype, unit) in units {
            let e = error(&run(dtype, Some(&experts)).0, &exact);
            assert!(e > unit / 1000.0 && e < 20.0 * unit, "{name} {dtype}: {e:e}");
            let bytes = |dtype| CacheOptions::new(vec![40]).dtype(dtype).bytes(&model.config);
            // Heads of 16 take up a block of 34 bytes each; a latent vector and its rotary part, of 32 and 8, two.
            let (wide, narrow) = match (dtype, name) {
                (DType::Q8_0, "deepseek_v2") => (4 * (32 + 8), 2 * 34),
                (DType::Q8_0, _) => (4 * 16, 34),
                _ => (2, 1),
            };
            assert_eq!(wide * bytes(dtype), narrow * bytes(DType::F32), "{name} {dtype}");
        }
        let refused = Decoder::with_cache(&model, &CacheOptions::new(vec![40]).dtype(DType::Q4_0));
        assert!(refused.unwrap_err().to_string().contains("q4_0"));
    }
}

#[test]
fn logits_and_greedy_tokens_are_those_of_transformers() {
    for name in TRAINED.into_iter().chain(OTHERS) {
        let model = model(name);
        let reference = Weights::open_file(&folder(name).join("reference.safetensors")).unwrap();
        let prompts: Vec<String> =
            reference.names().filter_map(|n| Some(n.strip_prefix("logits.")?.into())).collect();
        assert!(!prompts.is_empty());
        for n in prompts {
            let prompt = ids(&reference, &format!("input_ids.{n}"));
            let want = reference.tensor(&format!("logits.{n}")).unwrap().to_f32().unwrap();
            let mut decoder = Decoder::new(&model, prompt.len() + 16).unwrap();
            let mut logits = decoder.feed(&prompt, Want::All).unwrap().logits;
            let e = error(&logits, &want);
            assert!(e <= 1e-5, "{name} {n}: {e:e}");
            let vocab = model.config.vocab_size;
            let mut greedy = Vec::new();
            for _ in 0..16 {
                let last = &logits[logits.len() - vocab..];
                let best = (0..vocab).fold(0, |b, i| if last[i] > last[b] { i } else { b });
                greedy.push(best as u32);
                logits = decoder.feed(&[best as u32], Want::Last).unwrap().logits;
            }
            assert_eq!(greedy, ids(&reference, &format!("greedy.{n}")), "{name} {n}");
        }
    }
}

#[test]
fn gradients_and_the_loss_curve_are_those_of_pytorch() {
    TRAINED.into_iter().for_each(learns_like_pytorch);
}

fn learns_like_pytorch(name: &str) {
    let model = model(name);
    let train = Weights::open_file(&folder(name).join("train.safetensors")).unwrap();
    let grads = Weights::open_file(&folder(name).join("grads.safetensors")).unwrap();
    let ids: Vec<i32> = ids(&train, "train_ids").iter().map(|&x| x as i32).collect();
    let rows = train.tensor("train_ids").unwrap().shape[0];
    let batch = Batch::rows(&ids, rows);
    let options = OptimizerOptions { decay: Decay::All, balance: false, ..Default::default() };
    let mut trainer = Trainer::new(model, options, ids.len() / rows).unwrap();

    let loss = trainer.gradients_of(std::slice::from_ref(&batch)).unwrap().loss;
    let want = f64::from(train.tensor("loss").unwrap().to_f32().unwrap()[0]);
    assert!((loss - want).abs() < 1e-5 * want, "{loss} {want}");
    let table = trainer.model.table.clone();
    let l2 = |x: &[f32]| x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    trainer
        .gradients()
        .for_each(&table, |spec, got| {
            if !spec.trainable {
                return Ok(());
            }
            let want = grads.parameter(spec)?.to_f32()?;
            let diff: Vec<f32> = got.iter().zip(&want).map(|(a, b)| a - b).collect();
            assert!(l2(&diff) <= 1e-4 * l2(&want).max(1e-6), "{}: {} of {}", spec.name, l2(&diff), l2(&want));
            Ok(())
        })
        .unwrap();

    let text = std::fs::read_to_string(folder(name).join("train.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    for step in 0..4 {
        let want = json["loss_curve_f64"][step].as_f64().unwrap();
        let report = trainer.step(std::slice::from_ref(&batch), 1e-3).unwrap();
        assert!((report.loss - want).abs() < 1e-5 * want, "step {step}: {} {want}", report.loss);
        let norm = json["grad_norm_curve_f64"][step].as_f64().unwrap();
        assert!((report.grad_norm - norm).abs() < 1e-4 * norm, "step {step}: {} {norm}", report.grad_norm);
    }
}

#[test]
fn a_folder_without_a_model_is_an_error() {
    assert!(checkpoint::open_model(&folder("nothing")).is_err());
}
