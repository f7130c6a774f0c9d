use std::path::{Path, PathBuf};

use serde_json::json;

use super::super::{TensorSource, save_tensors};
use super::*;
use crate::config::{ModelConfig, parameters};

fn mixtral() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/mixtral"))
}

fn specs() -> Vec<ParamSpec> {
    parameters(&ModelConfig::from_file(&mixtral().join("config.json")).unwrap())
}

/// The bytes of a file with that header and that many bytes of data.
fn raw(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// Opens the bytes as a file and reads every tensor; neither may panic.
fn read_all(path: &Path, bytes: &[u8]) -> Result<(), WeightsError> {
    std::fs::write(path, bytes).unwrap();
    let weights = Weights::open_file(path)?;
    for name in weights.names() {
        let view = weights.tensor(name)?;
        let _ = (view.to_f32(), view.to_i64());
    }
    Ok(())
}

#[test]
fn the_reference_model_has_exactly_the_parameters() {
    let weights = Weights::open_folder(&mixtral()).unwrap();
    assert_eq!(weights.check(&specs()).unwrap(), [""; 0]);
    assert_eq!(weights.names().count(), specs().len());
    let count: usize = specs().iter().map(|s| s.shape.iter().product::<usize>()).sum();
    assert_eq!(count, 206144);
    // Gradients have the same names and shapes.
    let grads = Weights::open_file(&mixtral().join("grads.safetensors")).unwrap();
    grads.check(&specs()).unwrap();
    let prompts = Weights::open_file(&mixtral().join("reference.safetensors")).unwrap();
    assert_eq!(prompts.tensor("input_ids.7").unwrap().to_i64().unwrap().len(), 7);
}

/// Writes some of the reference's tensors.
fn write_part(path: &Path, keep: impl Fn(usize, &str) -> bool) -> Vec<String> {
    let whole = Weights::open_folder(&mixtral()).unwrap();
    let kept: Vec<&str> = whole.names().enumerate().filter(|(i, n)| keep(*i, n)).map(|(_, n)| n).collect();
    let data: Vec<Vec<f32>> = kept.iter().map(|n| whole.tensor(n).unwrap().to_f32().unwrap()).collect();
    let mut source = TensorSource::new();
    for (name, values) in kept.iter().zip(&data) {
        source.push_f32(*name, whole.tensor(name).unwrap().shape, values);
    }
    save_tensors(path, source).unwrap();
    kept.into_iter().map(String::from).collect()
}

#[test]
fn shards_are_one_model() {
    let dir = tempfile::tempdir().unwrap();
    let mut weight_map = serde_json::Map::new();
    for shard in 0..3 {
        let file = format!("model-{shard}.safetensors");
        for name in write_part(&dir.path().join(&file), |i, _| i % 3 == shard) {
            weight_map.insert(name, json!(file));
        }
    }
    let index = dir.path().join("model.safetensors.index.json");
    let write = |map: &serde_json::Map<String, serde_json::Value>| {
        std::fs::write(&index, json!({"metadata": {}, "weight_map": map}).to_string()).unwrap();
        Weights::open_folder(dir.path())
    };
    let sharded = write(&weight_map).unwrap();
    sharded.check(&specs()).unwrap();
    let whole = Weights::open_folder(&mixtral()).unwrap();
    for name in whole.names() {
        assert_eq!(sharded.tensor(name).unwrap().bytes, whole.tensor(name).unwrap().bytes, "{name}");
    }

    for (file, wanted) in [
        ("../model-0.safetensors", "not the name of a file in the folder"),
        ("/etc/hostname", "not the name of a file in the folder"),
        ("model-0.safetensors", "is not in model-0.safetensors"),
        ("model-9.safetensors", "model-9.safetensors"),
    ] {
        let mut bad = weight_map.clone();
        bad.insert("model.nothing".into(), json!(file));
        let message = write(&bad).err().unwrap().to_string();
        assert!(message.contains(wanted), "{message}");
    }
    std::fs::write(&index, "{\"weight_map\": [").unwrap();
    assert!(matches!(Weights::open_folder(dir.path()), Err(WeightsError::Index { .. })));
}

#[test]
fn missing_and_misshapen_tensors_are_named() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Weights::open_folder(dir.path()), Err(WeightsError::NoWeights { .. })));
    let path = dir.path().join("model.safetensors");
    write_part(&path, |_, name| !name.ends_with("experts.3.w2.weight"));
    let mut renamed = specs();
    renamed[0].name = "model.embedding".into();
    let message = Weights::open_folder(dir.path()).unwrap().check(&renamed).unwrap_err().to_string();
    assert!(message.contains("3 of the model's tensors are missing: model.embedding"), "{message}");
    assert!(message.contains("layers.1.block_sparse_moe.experts.3.w2.weight"), "{message}");
    assert!(message.contains("1 others are not the model's: model.embed_tokens.weight"), "{message}");

    let mut larger = specs();
    larger[0].shape = vec![250, 64];
    let message = Weights::open_folder(&mixtral()).unwrap().check(&larger).unwrap_err().to_string();
    assert!(message.contains("model.embed_tokens.weight has shape [256, 64]"), "{message}");
    assert!(message.contains("[250, 64]"), "{message}");
}

#[test]
fn derived_tensors_are_ignored_and_others_reported() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = TensorSource::new();
    source.push_f32("model.layers.0.self_attn.rotary_emb.inv_freq", &[1], &[1.0]);
    source.push_f32("lm_head.weight", &[1], &[1.0]);
    source.push_f32("model.extra", &[1], &[1.0]);
    save_tensors(&dir.path().join("model.safetensors"), source).unwrap();
    assert_eq!(Weights::open_folder(dir.path()).unwrap().check(&[]).unwrap(), ["model.extra"]);
}

#[test]
fn lying_headers_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.safetensors");
    let huge = usize::MAX / 64; // eight of these, one after the other, leave usize
    let overflowing: Vec<String> = (0..9)
        .map(|i| {
            let (start, end) = (huge.wrapping_mul(8 * i), huge.wrapping_mul(8 * (i + 1)));
            format!(r#""t{i}":{{"dtype":"F64","shape":[{huge}],"data_offsets":[{start},{end}]}}"#)
        })
        .collect();
    for (header, data) in [
        (String::new(), 0),
        ("[]".into(), 0),
        (r#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#.into(), 7),
        (r#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#.into(), 9),
        (r#"{"t":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#.into(), 8),
        (r#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#.into(), 8),
        (r#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#.into(), 12),
        (r#"{"t":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#.into(), 8),
        (r#"{"t":{"dtype":"Q9","shape":[2],"data_offsets":[0,8]}}"#.into(), 8),
        (r#"{"t":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#.into(), 0),
        (format!("{{{}}}", overflowing.join(",")), 8),
    ] {
        let error = read_all(&path, &raw(&header, data)).expect_err(&header);
        assert!(matches!(error, WeightsError::Malformed { .. }), "{header}: {error}");
    }
    let mut long = raw("{}", 0);
    long[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(read_all(&path, &long).is_err());
}

#[test]
fn every_truncation_is_an_error_and_no_changed_byte_panics() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.safetensors");
    let mut source = TensorSource::new();
    source.push_f32("a", &[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    source.push_i64("b", &[1], &[5]);
    save_tensors(&path, source).unwrap();
    let good = std::fs::read(&path).unwrap();
    for length in 0..good.len() {
        assert!(read_all(&path, &good[..length]).is_err(), "cut to {length} bytes");
    }
    for position in 0..good.len() {
        for flip in [1, 4, 16, 128] {
            let mut bad = good.clone();
            bad[position] ^= flip;
            let _ = read_all(&path, &bad);
        }
    }
}
