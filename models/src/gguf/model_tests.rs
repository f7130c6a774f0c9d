use std::path::PathBuf;

use super::super::{GgufExport, GgufWriter};
use super::*;
use crate::config::{ModelType, parameters};
use crate::weights::{ParameterSource, Weights};

fn folder(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data")).join(name)
}

/// A reference model as a GGUF file.
fn exported(name: &str) -> (Weights, Vec<u8>) {
    let mut config = ModelConfig::from_file(&folder(name).join("config.json")).unwrap();
    let weights = Weights::open_folder(&folder(name)).unwrap();
    if config.model_type == ModelType::DeepseekV3 {
        config.rms_norm_eps = 1e-6; // the only one that files can say
    }
    if config.model_type == ModelType::GptOss {
        config.moe.as_mut().unwrap().swiglu_limit = Some(7.0); // here too
    }
    let file = written(&config, &|spec| weights.values(spec).unwrap().bytes.to_vec());
    (weights, file)
}

/// A GGUF file of parameters in f32.
fn written(config: &ModelConfig, bytes: &dyn Fn(&ParamSpec) -> Vec<u8>) -> Vec<u8> {
    let export = GgufExport::new(config).unwrap();
    let mut writer = GgufWriter::new();
    export.describe(&mut writer).unwrap();
    for tensor in export.tensors().unwrap() {
        let read = move |members: &[ParamSpec]| Ok(members.iter().flat_map(bytes).collect());
        tensor.add_to(&mut writer, GgmlType::F32, read).unwrap();
    }
    let mut file = Vec::new();
    writer.write(&mut file).unwrap();
    file
}

#[test]
fn every_parameter_of_a_made_up_model_comes_back() {
    // Bytes that differ from parameter to parameter and from row to row.
    let bytes = |spec: &ParamSpec| -> Vec<u8> {
        let seed = spec.name.bytes().fold(7u32, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into()));
        let count = spec.shape.iter().product::<usize>() as u32;
        (0..count).flat_map(|i| seed.wrapping_add(i).to_le_bytes()).collect()
    };
    for name in ["qwen2", "qwen2_moe"] {
        let file = format!("../../models/src/gguf/fixtures/{name}.json");
        let config = ModelConfig::from_file(&folder(&file)).unwrap();
        let model = GgufModel::new(Gguf::from_bytes(written(&config, &bytes)).unwrap()).unwrap();
        let specs = parameters(&config);
        assert_eq!(parameters(model.config()), specs);
        assert_eq!(model.check(&specs).unwrap(), [""; 0], "{name}");
        for spec in &specs {
            assert_eq!(*model.parameter(spec).unwrap().bytes, bytes(spec), "{}", spec.name);
        }
    }
}

#[test]
fn every_parameter_of_the_reference_models_comes_back() {
    for name in
        ["mixtral", "mixtral_6x3", "glm4_moe", "deepseek_v2", "deepseek_v2_lite", "deepseek_v3", "gpt_oss"]
    {
        let (weights, file) = exported(name);
        let model = GgufModel::new(Gguf::from_bytes(file).unwrap()).unwrap();
        let specs = parameters(model.config());
        assert_eq!(model.check(&specs).unwrap(), [""; 0], "{name}");
        let mut moved = 0;
        for spec in &specs {
            let found = model.parameter(spec).unwrap();
            assert_eq!(found.shape, spec.shape);
            let wanted = weights.values(spec).unwrap();
            assert_eq!(found.bytes, wanted.bytes, "{}", spec.name);
            assert_eq!(found.to_f32().unwrap(), wanted.to_f32(&spec.name).unwrap());
            moved += usize::from(matches!(found.bytes, Cow::Owned(_)));
        }
        let in_a_layer = match model.config().model_type {
            ModelType::Mixtral => 2,                            // query and key
            ModelType::DeepseekV2 | ModelType::DeepseekV3 => 1, // the latent vectors' up-projection
            _ => 0,
        };
        assert_eq!(moved, in_a_layer * model.config().num_hidden_layers, "{name}");
        if name == "mixtral" {
            let q = model.gguf().tensor("blk.0.attn_q.weight").unwrap().bytes;
            assert_ne!(q, weights.tensor("model.layers.0.self_attn.q_proj.weight").unwrap().bytes);
        }
    }
}

/// The file with the up-projections of latent vectors as `make` gives them: of a layer's two parts, name and
/// type and shape and bytes of tensors instead.
fn with_latent(
    file: &[u8],
    make: impl Fn(GgufTensor<'_>) -> Vec<(String, GgmlType, Vec<usize>, Vec<u8>)>,
) -> GgufModel {
    let gguf = Gguf::from_bytes(file.to_vec()).unwrap();
    let mut writer = GgufWriter::new();
    for (key, value) in gguf.metadata() {
        writer.metadata(key, value).unwrap();
    }
    for t in gguf.tensors() {
        if !t.name.contains("attn_k_b") && !t.name.contains("attn_v_b") {
            writer.tensor(t.name, t.ggml_type, t.shape, move || Ok(t.bytes.into())).unwrap();
            continue;
        }
        for (name, ggml_type, shape, bytes) in make(t) {
            writer.tensor(name, ggml_type, &shape, || Ok(bytes.into())).unwrap();
        }
    }
    let mut out = Vec::new();
    writer.write(&mut out).unwrap();
    GgufModel::new(Gguf::from_bytes(out).unwrap()).unwrap()
}

#[test]
fn up_projections_of_latent_vectors_are_read_whole_too() {
    let (weights, file) = exported("deepseek_v3");
    let whole = |layer: &str| {
        let name = format!("model.layers.{layer}.self_attn.kv_b_proj.weight");
        weights.tensor(&name).unwrap().bytes.to_vec()
    };
    let model = with_latent(&file, |t| {
        let Some(layer) = t.name.strip_suffix(".attn_k_b.weight") else { return Vec::new() };
        let bytes = whole(layer.strip_prefix("blk.").unwrap());
        vec![(format!("{layer}.attn_kv_b.weight"), GgmlType::F32, vec![bytes.len() / 4 / 32, 32], bytes)]
    });
    let specs = parameters(model.config());
    assert_eq!(model.check(&specs).unwrap(), [""; 0]);
    for spec in specs.iter().filter(|s| s.name.ends_with("kv_b_proj.weight")) {
        let found = model.parameter(spec).unwrap();
        assert!(matches!(found.bytes, Cow::Borrowed(_)));
        assert_eq!(found.bytes, weights.values(spec).unwrap().bytes);
    }
}

#[test]
fn parts_of_other_types_are_joined_in_f32() {
    let (weights, file) = exported("deepseek_v3");
    // The values' rows are 32 wide, the keys' 16.
    let model = with_latent(&file, |t| {
        let x = t.to_f32().unwrap();
        let (ggml_type, bytes) = if t.name.contains("attn_v_b") {
            let mut bytes = vec![0; GgmlType::Q8_0.bytes(t.shape).unwrap()];
            blocks::encode(halite_hal::DType::Q8_0, &x, &mut bytes).unwrap();
            (GgmlType::Q8_0, bytes)
        } else {
            (GgmlType::BF16, x.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect())
        };
        vec![(t.name.to_string(), ggml_type, t.shape.to_vec(), bytes)]
    });
    let specs = parameters(model.config());
    model.check(&specs).unwrap();
    let spec = specs.iter().find(|s| s.name.ends_with("1.self_attn.kv_b_proj.weight")).unwrap();
    let found = model.parameter(spec).unwrap();
    assert_eq!((found.ggml_type, &found.shape), (GgmlType::F32, &spec.shape));
    let wanted = weights.values(spec).unwrap().to_f32(&spec.name).unwrap();
    for (row, (found, wanted)) in found.to_f32().unwrap().chunks(32).zip(wanted.chunks(32)).enumerate() {
        let top = wanted.iter().fold(0f32, |top, x| top.max(x.abs()));
        for (found, wanted) in found.iter().zip(wanted) {
            // 16 rows of a head are keys in bf16, 16 are values in Q8_0.
            let error = if row % 32 < 16 { wanted.abs() / 256.0 } else { top / 127.0 };
            assert!((found - wanted).abs() <= error, "{found} is not {wanted}");
        }
    }

    let model =
        with_latent(&file, |t| vec![(t.name.to_string(), GgmlType::I32, t.shape.to_vec(), t.bytes.to_vec())]);
    let message = model.check(&specs).unwrap_err().to_string();
    assert_eq!(message, "tensor \"blk.0.attn_k_b.weight\": type i32 has no conversion to f32");
}

#[test]
fn all_experts_of_a_layer_are_one_tensor() {
    let (_, file) = exported("mixtral_6x3");
    let model = GgufModel::new(Gguf::from_bytes(file).unwrap()).unwrap();
    let stack = model.experts(1, Projection::Down).unwrap();
    assert_eq!((stack.shape[0], stack.tensor), (6, "blk.1.ffn_down_exps.weight"));
    let mut members = Vec::new();
    for spec in parameters(model.config()) {
        let ParamId::Layer { layer: 1, param: LayerParam::Expert { projection: Projection::Down, .. } } =
            spec.id
        else {
            continue;
        };
        members.extend(model.parameter(&spec).unwrap().bytes.iter().copied());
    }
    assert_eq!(members, *stack.bytes);

    let mut spec = parameters(model.config()).pop().unwrap();
    spec.id =
        ParamId::Layer { layer: 1, param: LayerParam::Expert { expert: 6, projection: Projection::Down } };
    spec.shape = stack.shape[1..].to_vec();
    let message = model.parameter(&spec).unwrap_err().to_string();
    assert_eq!(message, "tensor \"blk.1.ffn_down_exps.weight\": no expert 6; it holds 6");
}

/// The file with some tensors left out or of another shape: `change` gives a shape, or none.
fn changed(
    file: &[u8],
    change: impl Fn(&str, &[usize]) -> Option<Vec<usize>>,
) -> Result<GgufModel, GgufError> {
    let gguf = Gguf::from_bytes(file.to_vec()).unwrap();
    let mut writer = GgufWriter::new();
    for (key, value) in gguf.metadata() {
        writer.metadata(key, value).unwrap();
    }
    for t in gguf.tensors() {
        if let Some(shape) = change(t.name, t.shape) {
            let bytes = vec![0; t.ggml_type.bytes(&shape).unwrap()];
            writer.tensor(t.name, t.ggml_type, &shape, || Ok(bytes.into())).unwrap();
        }
    }
    let mut out = Vec::new();
    writer.write(&mut out).unwrap();
    GgufModel::new(Gguf::from_bytes(out).unwrap())
}

#[test]
fn experts_in_blocks_are_lent_as_they_are() {
    let mut config = ModelConfig::from_file(&folder("gpt_oss").join("config.json")).unwrap();
    let weights = Weights::open_folder(&folder("gpt_oss")).unwrap();
    config.moe.as_mut().unwrap().swiglu_limit = Some(7.0);
    let blocks_of = |spec: &ParamSpec| {
        let x = weights.values(spec).unwrap().to_f32(&spec.name).unwrap();
        let mut bytes = vec![0; GgmlType::MXFP4.bytes(&spec.shape).unwrap()];
        blocks::encode(halite_hal::DType::Mxfp4, &x, &mut bytes).unwrap();
        bytes
    };
    let export = GgufExport::new(&config).unwrap();
    let mut writer = GgufWriter::new();
    export.describe(&mut writer).unwrap();
    for tensor in export.tensors().unwrap() {
        let blocks_of = &blocks_of;
        if tensor.name.ends_with("_exps.weight") {
            let read = move |members: &[ParamSpec]| Ok(members.iter().flat_map(blocks_of).collect());
            tensor.add_to(&mut writer, GgmlType::MXFP4, read).unwrap();
        } else {
            let zeros = |members: &[ParamSpec]| {
                Ok(vec![0; members.iter().map(|m| GgmlType::F32.bytes(&m.shape).unwrap()).sum()])
            };
            tensor.add_to(&mut writer, GgmlType::F32, zeros).unwrap();
        }
    }
    let mut file = Vec::new();
    writer.write(&mut file).unwrap();
    let model = GgufModel::new(Gguf::from_bytes(file).unwrap()).unwrap();
    let specs = parameters(model.config());
    model.check(&specs).unwrap();
    let mut experts = 0;
    for spec in &specs {
        if matches!(spec.id, ParamId::Layer { param: LayerParam::Expert { .. }, .. }) {
            let found = model.parameter(spec).unwrap();
            assert!(matches!(found.bytes, Cow::Borrowed(_)));
            assert_eq!((found.ggml_type, &*found.bytes), (GgmlType::MXFP4, &blocks_of(spec)[..]));
            experts += 1;
        }
    }
    assert_eq!(experts, 3 * 8 * 3);
}

#[test]
fn a_gate_of_shared_experts_may_be_a_vector() {
    // llama.cpp knows it as one.
    let config = ModelConfig::from_file(&folder("../../models/src/gguf/fixtures/qwen2_moe.json")).unwrap();
    let file = written(&config, &|spec| vec![0; GgmlType::F32.bytes(&spec.shape).unwrap()]);
    let model = changed(&file, |name, shape| {
        let gate = name.ends_with("ffn_gate_inp_shexp.weight");
        Some(if gate { shape[1..].to_vec() } else { shape.to_vec() })
    });
    let specs = parameters(&config);
    let model = model.unwrap();
    assert_eq!(model.check(&specs).unwrap(), [""; 0]);
    let gate = specs.iter().find(|s| s.name.ends_with("shared_expert_gate.weight")).unwrap();
    assert_eq!(model.gguf().tensor("blk.0.ffn_gate_inp_shexp.weight").unwrap().shape, [48]);
    assert_eq!(model.parameter(gate).unwrap().shape, [1, 48]);
}

#[test]
fn tensors_that_are_missing_or_of_another_shape_are_named() {
    let (_, file) = exported("glm4_moe");
    let check = |model: Result<GgufModel, GgufError>| {
        model.and_then(|m| m.check(&parameters(m.config()))).unwrap_err().to_string()
    };
    let without =
        |gone: &'static str| changed(&file, move |name, shape| (name != gone).then(|| shape.into()));
    assert_eq!(check(without("blk.2.attn_k.weight")), "there is no tensor \"blk.2.attn_k.weight\"");
    // Experts are looked at when the file is opened.
    assert_eq!(
        check(without("blk.1.ffn_gate_exps.weight")),
        "there is no tensor \"blk.1.ffn_gate_exps.weight\""
    );
    let longer = changed(&file, |name, shape| {
        let more = usize::from(name == "blk.1.ffn_down_exps.weight");
        Some(shape.iter().map(|n| n + more).collect())
    });
    assert_eq!(
        check(longer),
        "tensor \"blk.1.ffn_down_exps.weight\": its shape is [9, 33, 13]; the configuration wants [8, 32, 12]"
    );
}

#[test]
fn rows_move_in_whatever_type_they_are() {
    let (_, file) = exported("mixtral");
    let gguf = Gguf::from_bytes(file).unwrap();
    let quantised = |ggml_type: GgmlType| {
        let mut writer = GgufWriter::new();
        for (key, value) in gguf.metadata() {
            writer.metadata(key, value).unwrap();
        }
        for t in gguf.tensors() {
            if t.name != "blk.0.attn_k.weight" {
                writer.tensor(t.name, t.ggml_type, t.shape, move || Ok(t.bytes.into())).unwrap();
                continue;
            }
            // Each row has its own number in all bytes.
            let row = ggml_type.bytes(&t.shape[1..]).unwrap();
            let bytes: Vec<u8> = (0..t.shape[0]).flat_map(|i| vec![i as u8; row]).collect();
            writer.tensor(t.name, ggml_type, t.shape, || Ok(bytes.into())).unwrap();
        }
        let mut out = Vec::new();
        writer.write(&mut out).unwrap();
        GgufModel::new(Gguf::from_bytes(out).unwrap()).unwrap()
    };
    for ggml_type in [GgmlType::F16, GgmlType::Q8_0, GgmlType::Q4_1] {
        let model = quantised(ggml_type);
        let specs = parameters(model.config());
        let key = specs.iter().find(|s| s.name == "model.layers.0.self_attn.k_proj.weight").unwrap();
        let found = model.parameter(key).unwrap();
        let row = ggml_type.bytes(&key.shape[1..]).unwrap();
        let head_dim = model.config().head_dim;
        for (i, bytes) in found.bytes.chunks_exact(row).enumerate() {
            let (head, within) = (i / head_dim, i % head_dim);
            let from = head * head_dim + 2 * (within % (head_dim / 2)) + within / (head_dim / 2);
            assert_eq!(bytes, vec![from as u8; row], "row {i} of {ggml_type}");
        }
    }
}

#[test]
fn rows_that_are_no_heads_are_not_moved() {
    let check = |ggml_type: GgmlType, shape: &[usize]| {
        let bytes = Cow::Owned(Vec::new());
        GgufParameter { tensor: "q", ggml_type, shape: shape.to_vec(), bytes }.check_rows(4)
    };
    check(GgmlType::Q4_0, &[8, 32]).unwrap();
    check(GgmlType::F32, &[8]).unwrap();
    for shape in [&[0, 32][..], &[6, 32], &[]] {
        assert!(check(GgmlType::F32, shape).unwrap_err().to_string().contains("whole heads of 4"));
    }
    let message = check(GgmlType::Q4_0, &[32]).unwrap_err().to_string();
    assert_eq!(message, "tensor \"q\": a bias of type q4_0; it must be of a plain type");
}

#[test]
fn types_without_a_conversion_say_so() {
    let parameter = |ggml_type: GgmlType| GgufParameter {
        tensor: "t",
        ggml_type,
        shape: vec![ggml_type.block_elems()],
        bytes: vec![0; ggml_type.block_bytes()].into(),
    };
    for (ggml_type, elems) in
        [(GgmlType::F64, 1), (GgmlType::BF16, 1), (GgmlType::F16, 1), (GgmlType::Q3_K, 256)]
    {
        assert_eq!(parameter(ggml_type).to_f32().unwrap(), vec![0.0; elems]);
    }
    let message = parameter(GgmlType::IQ1_S).to_f32().unwrap_err().to_string();
    assert_eq!(message, "tensor \"t\": type iq1_s has no conversion to f32");
}
