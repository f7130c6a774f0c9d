//! Comparison of `halite inspect` and `halite train --ids-from` with what transformers and PyTorch computed.

use super::{Place, data};
use halite::models::weights::Weights;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// The tensors of a file: shapes, and values as f64.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f64>)>;

pub fn tensors(path: &Path) -> Tensors {
    let file = Weights::open_file(path).unwrap();
    let read = |name: &str| {
        let t = file.tensor(name).unwrap();
        let values = match t.dtype {
            halite::models::weights::Dtype::I64 => t.to_i64().unwrap().iter().map(|&x| x as f64).collect(),
            _ => t.to_f32().unwrap().iter().map(|&x| f64::from(x)).collect(),
        };
        (name.to_string(), (t.shape.to_vec(), values))
    };
    file.names().map(read).collect()
}

pub fn norm(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum::<f64>().sqrt()
}

pub fn difference<'a>(a: &'a [f64], b: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| x - y)
}

/// The largest difference between two lists, in standard deviations of the second.
pub fn deviations(got: &[f64], want: &[f64]) -> f64 {
    let mean = want.iter().sum::<f64>() / want.len() as f64;
    let variance = want.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / want.len() as f64;
    difference(got, want).fold(0.0, |m: f64, d| m.max(d.abs())) / variance.sqrt()
}

/// `inspect logits` agrees with `reference.safetensors` within `allowed` standard deviations.
pub fn check_logits(place: &Place, model: &str, options: &str, allowed: f64) {
    place.ok(&format!(
        "inspect logits --model {model} --ids-from {model}/reference.safetensors --out l.st {options}"
    ));
    let (got, want) = (tensors(&place.path("l.st")), tensors(&data(model).join("reference.safetensors")));
    let names: Vec<&String> = want.keys().filter(|n| !n.starts_with("input_ids")).collect();
    assert_eq!(got.keys().collect::<Vec<_>>(), names);
    assert!(names.len() >= 4);
    for name in names {
        let ((got_shape, got), (want_shape, want)) = (&got[name], &want[name]);
        assert_eq!(got_shape, want_shape, "{model} {name} {options}");
        if name.starts_with("greedy") {
            assert_eq!(got, want, "{model} {name} {options}");
            continue;
        }
        let error = deviations(got, want);
        assert!(error <= allowed, "{model} {name} {options}: {error:e} standard deviations");
    }
}

/// `inspect grads` agrees with `grads.safetensors`, parameter by parameter.
pub fn check_grads(place: &Place, model: &str, options: &str) {
    place.ok(&format!(
        "inspect grads --model {model} --ids-from {model}/train.safetensors --out g.st {options}"
    ));
    let (mut got, want) = (tensors(&place.path("g.st")), tensors(&data(model).join("grads.safetensors")));
    let (_, loss) = got.remove("loss").unwrap();
    let (_, wanted_loss) = &tensors(&data(model).join("train.safetensors"))["loss"];
    assert!((loss[0] / wanted_loss[0] - 1.0).abs() <= 1e-5, "{model}: {loss:?}, wanted {wanted_loss:?}");
    assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
    let all = want.values().map(|(_, g)| norm(g).powi(2)).sum::<f64>().sqrt();
    for (name, (shape, want)) in &want {
        assert_eq!(&got[name].0, shape, "{model} {name}");
        let off = norm(&difference(&got[name].1, want).collect::<Vec<_>>());
        let allowed = 1e-3 * norm(want).max(1e-6 * all);
        assert!(off <= allowed, "{model} {name} {options}: off by {off:e}, allowed {allowed:e}");
    }
}

pub const TRAIN: &str =
    "--steps 20 --lr 1e-3 --beta2 0.95 --weight-decay 0.1 --clip 1.0 --schedule constant --decay all";

/// Twenty steps follow the curve of `train.json` and end at its norms.
pub fn check_training(place: &Place, model: &str, options: &str) {
    place.ok(&format!(
        "train --from {model} --ids-from {model}/train.safetensors {TRAIN} --out run {options}"
    ));
    let want: Value = serde_json::from_slice(&place.read(&format!("{model}/train.json"))).unwrap();
    let near = |what: &str, got: &Value, want: &Value, allowed: f64| {
        let (got, want) = (got.as_f64().unwrap(), want.as_f64().unwrap());
        let off = (got - want).abs() / want;
        assert!(off <= allowed, "{model} {options} {what}: {got}, wanted {want}; off by {off:e}");
    };
    let metrics = place.metrics("run");
    assert_eq!(metrics.len(), 20);
    for (i, m) in metrics.iter().enumerate() {
        assert_eq!(m["step"], i + 1);
        assert_eq!(m["lr"], 1e-3);
        near("loss", &m["loss"], &want["loss_curve"][i], 1e-4);
        near("gradient norm", &m["grad_norm"], &want["grad_norm_curve"][i], 1e-3);
    }
    let trained = tensors(&place.path("run/step-20/model.safetensors"));
    let norms = want["final_param_l2"].as_object().unwrap();
    for (name, want) in norms {
        // Gradients of keys' biases nearly cancel, and AdamW scales what rounding leaves of them up to whole steps, of 1e-3:
        // PyTorch's own norms in f32 and f64 differ by 4e-6. A fiftieth of a step is let pass.
        let steps = if name.ends_with("k_proj.bias") { 2e-5 } else { 0.0 };
        near(name, &json!(norm(&trained[name].1)), want, 1e-5 + steps / want.as_f64().unwrap());
    }
    // Every parameter was compared, and training continues from what was saved as from what was there.
    let (before, rest): (Vec<_>, Vec<_>) = trained.keys().partition(|n| norms.contains_key(*n));
    assert_eq!(before.len(), norms.len());
    assert!(rest.iter().all(|n| n.ends_with("e_score_correction_bias")), "{rest:?}");
    place.ok(&format!(
        "inspect grads --model run --ids-from {model}/train.safetensors --out after.st {options}"
    ));
    let after = tensors(&place.path("after.st"));
    near("last loss", &json!(after["loss"].1[0]), &want["loss_curve"][20], 1e-4);
}
