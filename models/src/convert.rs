//! Models from one file format to the other, and from one type of weights to another.
//!
//! Matrices get the type asked for; norms, biases and routers stay f32; the up-projection of latent vectors has no blocks.
//! Rows that a block type doesn't divide get
//! what llama.cpp gives them: `Q4_K` becomes `Q5_0`, and what has no blocks of 32 either f16. The head of a model
//! that is quantised to fewer than 8 bits is `Q6_K`, or `Q8_0` where rows have no blocks of 256.

use crate::chat::source_in;
use crate::checkpoint;
use crate::config::{LayerParam, ModelConfig, ParamId, ParamSpec, parameters};
use crate::gguf::{GgmlType, GgufExport, GgufWriter};
use crate::open::ModelFiles;
use crate::replace::replace_file;
use crate::tokenizer::{GgufVocab, Tokenizer};
use crate::weights::{
    BoxError, Dtype, ParameterSource, TensorSource, Values, WeightsError, push_parameters, save_tensors,
};
use crate::{Error, Result};
use half::{bf16, f16};
use halite_hal::{DType, blocks};
use std::path::Path;

/// Types that weights can be written in.
pub const TYPES: [DType; 6] = [DType::F32, DType::F16, DType::BF16, DType::Q8_0, DType::Q4_0, DType::Q4K];

/// The type that a parameter is written in, when matrices are to have `wanted`.
pub fn written_type(spec: &ParamSpec, tied: bool, wanted: DType) -> DType {
    let router = matches!(spec.id, ParamId::Layer { param: LayerParam::Router | LayerParam::SharedGate, .. });
    let &[_, width] = &spec.shape[..] else { return DType::F32 };
    if router {
        return DType::F32;
    }
    // GGUF has it in parts, one of them transposed.
    if matches!(spec.id, ParamId::Layer { param: LayerParam::LatentUp, .. }) && wanted.is_block() {
        return DType::F16;
    }
    let divides = |dtype: DType| width.is_multiple_of(dtype.block_elems());
    let head = spec.id == ParamId::Head || tied && spec.id == ParamId::Embedding;
    match wanted {
        DType::Q4_0 | DType::Q4K if head && divides(DType::Q6K) => DType::Q6K,
        DType::Q4_0 | DType::Q4K if head && divides(DType::Q8_0) => DType::Q8_0,
        DType::Q4K if !divides(DType::Q4K) && divides(DType::Q5_0) => DType::Q5_0,
        wanted if divides(wanted) => wanted,
        _ => DType::F16,
    }
}

/// Values in another type; the same bytes where it is theirs already.
fn converted(values: Values<'_>, spec: &ParamSpec, to: DType) -> Result<Vec<u8>> {
    if values.dtype == to {
        return Ok(values.bytes.into_owned());
    }
    let x = values.to_f32(&spec.name)?;
    Ok(match to {
        DType::F32 => x.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::F16 => x.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
        DType::BF16 => x.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
        block => {
            let mut bytes = vec![0; x.len() / block.block_elems() * block.block_bytes()];
            blocks::encode(block, &x, &mut bytes)
                .map_err(|e| WeightsError::Values { name: spec.name.clone(), reason: e.to_string() })?;
            bytes
        }
    })
}

/// Writes a GGUF file, which replaces an older one when it is complete. `done` hears of each tensor that is
/// written, and how many there are. Returns whether the tokenizer is in it: that of a GGUF file is, that of a
/// folder if GGUF can say what it does.
pub fn to_gguf(from: &ModelFiles, wanted: DType, path: &Path, done: &dyn Fn(usize)) -> Result<bool> {
    let config = from.config();
    let export = GgufExport::new(config)?;
    let mut writer = GgufWriter::new();
    export.describe(&mut writer)?;
    let tokenizer = copy_tokenizer(from, &mut writer)?;
    let tensors = export.tensors()?;
    let count = tensors.len();
    for tensor in tensors {
        let dtype = written_type(&tensor.members[0], config.tie_word_embeddings, wanted);
        let ggml = GgmlType::of(dtype).ok_or_else(|| WeightsError::Values {
            name: tensor.name.clone(),
            reason: format!("GGUF has no type {dtype}"),
        })?;
        tensor.add_to(&mut writer, ggml, move |members| {
            let mut bytes = Vec::new();
            for spec in members {
                bytes.extend(converted(from.values(spec)?, spec, dtype)?);
            }
            done(count);
            Ok::<_, BoxError>(bytes)
        })?;
    }
    writer.save(path)?;
    Ok(tokenizer)
}

/// The metadata of a GGUF file's tokenizer, as they are, or those that a folder's tokenizer comes to.
fn copy_tokenizer(from: &ModelFiles, writer: &mut GgufWriter<'_>) -> Result<bool> {
    let model = match from {
        ModelFiles::Gguf(model) => model,
        ModelFiles::Folder(folder) => return write_tokenizer(folder, from, writer),
    };
    // These the configuration has written.
    let written =
        ["tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"];
    for (key, value) in model.gguf().metadata() {
        if key.starts_with("tokenizer.") && !written.contains(&key) {
            writer.metadata(key, value)?;
        }
    }
    Ok(true)
}

/// The metadata of a folder's tokenizer and chat template, if there is one that works and GGUF can say what it does.
fn write_tokenizer(
    folder: &checkpoint::Model,
    from: &ModelFiles,
    writer: &mut GgufWriter<'_>,
) -> Result<bool> {
    let config = &folder.config;
    let found = match from.tokenizer().and_then(|tokenizer| vocabulary(config, tokenizer)) {
        Err(Error::Tokenizer(_)) => None,
        found => found?,
    };
    let Some(mut vocab) = found else {
        writer.metadata("tokenizer.ggml.model", "none")?;
        return Ok(false);
    };
    vocab.chat_template = source_in(&folder.dir)?.0;
    // The configuration has written those that it has.
    for (key, id, known) in [
        ("bos", vocab.bos_id, config.bos_token_id.is_some()),
        ("eos", vocab.eos_id, !config.eos_token_ids.is_empty()),
    ] {
        if let Some(id) = id.filter(|_| !known) {
            writer.metadata(&format!("tokenizer.ggml.{key}_token_id"), id)?;
        }
    }
    vocab.write(writer)?;
    Ok(true)
}

/// What a GGUF file says of a tokenizer, whose texts begin and end as the configuration says.
fn vocabulary(config: &ModelConfig, mut tokenizer: Tokenizer) -> Result<Option<GgufVocab>> {
    if let Some(id) = config.bos_token_id {
        tokenizer.set_bos_id(id)?;
    }
    if let Some(&id) = config.eos_token_ids.first() {
        tokenizer.set_eos_id(id)?;
    }
    Ok(GgufVocab::of(&tokenizer, config.vocab_size)?)
}

/// What a folder says of chats: the template, and the names of special tokens.
fn beside_tokenizer(from: &ModelFiles) -> Result<Vec<(&'static str, String)>> {
    const TEMPLATE: &str = "chat_template.jinja";
    const TOKENS: &str = "tokenizer_config.json";
    let mut files = Vec::new();
    match from {
        ModelFiles::Folder(folder) => {
            for name in [TEMPLATE, TOKENS] {
                let path = folder.dir.join(name);
                match std::fs::read_to_string(&path) {
                    Ok(content) => files.push((name, content)),
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                    Err(source) => return Err(WeightsError::Io { path, source }.into()),
                }
            }
        }
        ModelFiles::Gguf(model) => {
            let Ok(vocab) = GgufVocab::read(model.gguf()) else { return Ok(files) };
            let Some(template) = &vocab.chat_template else { return Ok(files) };
            let tokens: serde_json::Map<String, serde_json::Value> =
                vocab.special_tokens().map(|(name, token)| (name, token.into())).collect();
            files.push((TEMPLATE, template.clone()));
            files.push((TOKENS, format!("{:#}\n", serde_json::Value::Object(tokens))));
        }
    }
    Ok(files)
}

/// Writes a Hugging Face folder: `config.json`, `model.safetensors`, and `tokenizer.json` if the model has a
/// tokenizer, which is returned; with it go the chat template and the names of special tokens. The weights are f32,
/// f16 or bf16.
pub fn to_folder(from: &ModelFiles, wanted: DType, dir: &Path, done: &dyn Fn(usize)) -> Result<bool> {
    let config = from.config();
    let (name, stored) = match wanted {
        DType::F32 => ("float32", Dtype::F32),
        DType::F16 => ("float16", Dtype::F16),
        DType::BF16 => ("bfloat16", Dtype::BF16),
        block => {
            let reason = format!("safetensors have no type {block}; a folder can have f32, f16 or bf16");
            return Err(WeightsError::Values { name: "model.safetensors".into(), reason }.into());
        }
    };
    let file = |path: &Path, content: &[u8]| -> Result<()> {
        let io = |source| WeightsError::Io { path: path.into(), source };
        replace_file(path, |out| std::io::Write::write_all(out, content))
            .map_err(|e: std::io::Error| io(e).into())
    };
    std::fs::create_dir_all(dir).map_err(|source| WeightsError::Io { path: dir.into(), source })?;
    let specs = parameters(config);
    let count = specs.len();
    let types = |spec: &ParamSpec| match written_type(spec, config.tie_word_embeddings, wanted) {
        DType::F32 => (DType::F32, Dtype::F32),
        _ => (wanted, stored),
    };
    let mut source = TensorSource::new();
    let specs = specs.into_iter().map(|spec| {
        let dtype = types(&spec).1;
        (spec, dtype)
    });
    push_parameters(&mut source, config.model_type, specs, move |spec| {
        done(count);
        Ok(converted(from.values(spec)?, spec, types(spec).0)?)
    });
    save_tensors(&dir.join("model.safetensors"), source)?;
    let mut json = config.to_json();
    json["torch_dtype"] = name.into();
    file(&dir.join("config.json"), format!("{json:#}\n").as_bytes())?;
    for (name, content) in beside_tokenizer(from)? {
        file(&dir.join(name), content.as_bytes())?;
    }
    match from.tokenizer() {
        Ok(tokenizer) => {
            tokenizer.save(dir.join("tokenizer.json"))?;
            Ok(true)
        }
        Err(Error::Tokenizer(_) | Error::Gguf(_)) => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_projections_of_latent_vectors_stay_without_blocks() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/deepseek_v2");
        let from = ModelFiles::open(folder.as_ref()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        to_gguf(&from, DType::Q8_0, &path, &|_| ()).unwrap();
        let to = ModelFiles::open(&path).unwrap();
        for spec in parameters(from.config()) {
            let found = to.values(&spec).unwrap();
            if matches!(spec.id, ParamId::Layer { param: LayerParam::LatentUp, .. }) {
                let wanted = converted(from.values(&spec).unwrap(), &spec, DType::F16).unwrap();
                assert_eq!((found.dtype, &*found.bytes), (DType::F16, &wanted[..]), "{}", spec.name);
            } else {
                assert_eq!(found.dtype, written_type(&spec, false, DType::Q8_0), "{}", spec.name);
            }
        }
    }

    #[test]
    fn a_tokenizer_that_does_not_work_is_left_behind() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/mixtral");
        let dir = tempfile::tempdir().unwrap();
        for name in ["config.json", "model.safetensors"] {
            std::fs::copy(folder.join(name), dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("tokenizer.json"), "{").unwrap();
        let from = ModelFiles::open(dir.path()).unwrap();
        let path = dir.path().join("model.gguf");
        assert!(!to_gguf(&from, DType::F32, &path, &|_| ()).unwrap());
        assert!(ModelFiles::open(&path).unwrap().tokenizer().is_err());
    }
}
