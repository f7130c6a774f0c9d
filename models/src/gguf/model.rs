//! A model in a GGUF file: its configuration, and each parameter's bytes.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::Path;

use half::{bf16, f16};
use halite_hal::blocks;

use super::architecture::Architecture;
use super::latent::{LatentUp, Part};
use super::names::{GgufPlace, half_split};
use super::{GgmlType, Gguf, GgufError, GgufTensor, config, expand};
use crate::config::{FeedForward, LayerParam, ModelConfig, ParamId, ParamSpec, Projection};
use crate::weights::map_groups;

/// A model in a GGUF file.
///
/// ```no_run
/// use halite_models::config::parameters;
/// use halite_models::gguf::GgufModel;
///
/// let model = GgufModel::open("model.gguf".as_ref())?;
/// let specs = parameters(model.config());
/// model.check(&specs)?;
/// for spec in &specs {
///     let parameter = model.parameter(spec)?;
///     println!("{}: {} {:?}", spec.name, parameter.ggml_type, parameter.shape);
/// }
/// # Ok::<_, halite_models::gguf::GgufError>(())
/// ```
#[derive(Debug)]
pub struct GgufModel {
    gguf: Gguf,
    architecture: &'static Architecture,
    config: ModelConfig,
}

/// A parameter's data: row-major, rows in Hugging Face's order.
#[derive(Debug, Clone)]
pub struct GgufParameter<'a> {
    /// The tensor that it lies in.
    pub tensor: &'a str,
    /// How its elements are stored.
    pub ggml_type: GgmlType,
    /// Sizes, outermost first: the parameter's.
    pub shape: Vec<usize>,
    /// Its rows one after another; lent from the file unless they were moved or put together.
    pub bytes: Cow<'a, [u8]>,
}

impl GgufModel {
    /// Opens a file, and reads which model it holds.
    pub fn open(path: &Path) -> Result<GgufModel, GgufError> {
        GgufModel::new(Gguf::open(path)?).map_err(|e| e.of(path))
    }

    /// The model of an opened file.
    pub fn new(gguf: Gguf) -> Result<GgufModel, GgufError> {
        let architecture = Architecture::of(&gguf)?;
        let config = config::read(&gguf, architecture)?;
        let model = GgufModel { gguf, architecture, config };
        model.check_counts()?;
        Ok(model)
    }

    /// The model's configuration, as of its Hugging Face model type.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The file.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// The claimed layers and experts are there, so that a list of all parameters is in proportion to the file.
    fn check_counts(&self) -> Result<(), GgufError> {
        let layers = self.config.num_hidden_layers;
        if layers > self.gguf.tensors().len() {
            let key = format!("{}.block_count", self.architecture.name);
            let reason = format!("{layers} layers, but the file has {} tensors", self.gguf.tensors().len());
            return Err(GgufError::metadata(key, reason));
        }
        let sparse =
            (0..layers).filter(|layer| matches!(self.config.feed_forward(*layer), FeedForward::Moe(_)));
        for layer in sparse {
            self.experts(layer, Projection::Gate)?;
        }
        Ok(())
    }

    /// Where a parameter lies. For the up-projection of latent
    /// vectors that is its one tensor, though the file may have it in two, `attn_k_b` and `attn_v_b`.
    pub fn place(&self, id: ParamId) -> GgufPlace {
        self.architecture.place(id)
    }

    /// A parameter's data, of the parameter's shape.
    pub fn parameter(&self, spec: &ParamSpec) -> Result<GgufParameter<'_>, GgufError> {
        if let Some((up, parts)) = self.latent_parts(spec.id)? {
            return join(up, parts, spec);
        }
        let mut parameter = self.as_stored(spec)?;
        if self.architecture.moves_rows(spec.id) {
            let (rows, head_dim) = (parameter.shape[0], self.config.head_dim);
            parameter.bytes = half_split(&parameter.bytes, rows, rows / head_dim).into();
        }
        Ok(parameter)
    }

    /// A parameter's data with rows in the file's order.
    fn as_stored(&self, spec: &ParamSpec) -> Result<GgufParameter<'_>, GgufError> {
        let place = self.place(spec.id);
        if let Some(expert) = place.expert {
            let experts = self.config.moe.as_ref().map_or(0, |moe| moe.num_experts);
            let stack = [&[experts], &spec.shape[..]].concat();
            return self.whole(&place.tensor, &stack)?.member(expert);
        }
        let parameter = self.whole(&place.tensor, &spec.shape)?;
        if self.architecture.moves_rows(spec.id) {
            parameter.check_rows(self.config.head_dim)?;
        }
        Ok(parameter)
    }

    /// The parts of an up-projection of latent vectors that isn't whole in the file: of keys, of values.
    fn latent_parts(&self, id: ParamId) -> Result<Option<(LatentUp, [GgufParameter<'_>; 2])>, GgufError> {
        let ParamId::Layer { layer, param: LayerParam::LatentUp } = id else { return Ok(None) };
        let Some(up) = LatentUp::of(&self.config) else { return Ok(None) };
        if self.gguf.find(&self.place(id).tensor).is_some() {
            return Ok(None);
        }
        let [keys, values] = Part::BOTH.map(|part| self.whole(&part.tensor(layer), &up.shape(part)));
        let parts = [keys?, values?];
        if let Some(part) = parts.iter().find(|part| !has_f32(part.ggml_type)) {
            return Err(no_conversion(part.tensor, part.ggml_type));
        }
        Ok(Some((up, parts)))
    }

    /// One matrix of all routed experts of a layer, `[experts, out, in]`.
    pub fn experts(&self, layer: usize, projection: Projection) -> Result<GgufParameter<'_>, GgufError> {
        let moe = self.config.moe.as_ref();
        let (experts, width) = moe.map_or((0, 0), |moe| (moe.num_experts, moe.moe_intermediate_size));
        let hidden = self.config.hidden_size;
        let shape = match projection {
            Projection::Gate | Projection::Up => [experts, width, hidden],
            Projection::Down => [experts, hidden, width],
        };
        let id = ParamId::Layer { layer, param: LayerParam::Expert { expert: 0, projection } };
        self.whole(&self.place(id).tensor, &shape)
    }

    /// A tensor that must have that shape.
    fn whole(&self, name: &str, shape: &[usize]) -> Result<GgufParameter<'_>, GgufError> {
        let tensor = self.gguf.tensor(name)?;
        // Some writers drop outer axes of size 1.
        let inner = |shape: &[usize]| shape.iter().copied().skip_while(|n| *n == 1).collect::<Vec<_>>();
        if inner(tensor.shape) != inner(shape) {
            let reason = format!("its shape is {:?}; the configuration wants {shape:?}", tensor.shape);
            return Err(GgufError::tensor(name, reason));
        }
        let GgufTensor { name, ggml_type, bytes, .. } = tensor;
        Ok(GgufParameter { tensor: name, ggml_type, shape: shape.to_vec(), bytes: bytes.into() })
    }

    /// Checks that every parameter is there with its shape. Returns the names of tensors that hold none of
    /// them: those of further layers, and those that the configuration already speaks of.
    pub fn check(&self, parameters: &[ParamSpec]) -> Result<Vec<String>, GgufError> {
        let mut used = HashSet::new();
        for spec in parameters {
            if let Some((_, parts)) = self.latent_parts(spec.id)? {
                used.extend(parts.map(|part| part.tensor.to_string()));
                continue;
            }
            // Only the first of a stack is looked at: the others are as large as it.
            let first = used.insert(self.place(spec.id).tensor);
            if first {
                self.as_stored(spec)?;
            }
        }
        let names = self.gguf.tensors().map(|t| t.name);
        Ok(names.filter(|name| !used.contains(*name)).map(String::from).collect())
    }
}

/// The parameter that two tensors hold. If they are of one plain type, it is too; otherwise it is f32.
fn join<'a>(
    up: LatentUp,
    parts: [GgufParameter<'a>; 2],
    spec: &ParamSpec,
) -> Result<GgufParameter<'a>, GgufError> {
    let [keys, values] = &parts;
    let (ggml_type, bytes) = if keys.ggml_type == values.ggml_type && keys.ggml_type.block_elems() == 1 {
        (keys.ggml_type, up.join(&keys.bytes, &values.bytes, keys.ggml_type.block_bytes()))
    } else {
        let bytes = |part: &GgufParameter<'_>| {
            Ok::<Vec<u8>, GgufError>(part.to_f32()?.iter().flat_map(|x| x.to_le_bytes()).collect())
        };
        (GgmlType::F32, up.join(&bytes(keys)?, &bytes(values)?, 4))
    };
    Ok(GgufParameter { tensor: keys.tensor, ggml_type, shape: spec.shape.clone(), bytes: bytes.into() })
}

impl<'a> GgufParameter<'a> {
    /// Member `expert` of a stack.
    fn member(self, expert: usize) -> Result<GgufParameter<'a>, GgufError> {
        let (experts, shape) = (self.shape[0], self.shape[1..].to_vec());
        if expert >= experts {
            return Err(GgufError::tensor(self.tensor, format!("no expert {expert}; it holds {experts}")));
        }
        let size = self.bytes.len() / experts;
        let range = expert * size..(expert + 1) * size;
        let bytes = match self.bytes {
            Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[range]),
            Cow::Owned(bytes) => Cow::Owned(bytes[range].to_vec()),
        };
        Ok(GgufParameter { shape, bytes, ..self })
    }

    /// Its rows can be moved within heads.
    fn check_rows(&self, head_dim: usize) -> Result<(), GgufError> {
        let rows = self.shape.first().copied().unwrap_or(0);
        if rows == 0 || !rows.is_multiple_of(head_dim) {
            let reason = format!("{rows} rows; it must have whole heads of {head_dim}");
            return Err(GgufError::tensor(self.tensor, reason));
        }
        // A vector's rows are its elements: each must have bytes of its own.
        if self.shape.len() == 1 && self.ggml_type.block_elems() > 1 {
            let reason = format!("a bias of type {}; it must be of a plain type", self.ggml_type);
            return Err(GgufError::tensor(self.tensor, reason));
        }
        Ok(())
    }

    /// The elements as f32: see [`GgufTensor::to_f32`].
    pub fn to_f32(&self) -> Result<Vec<f32>, GgufError> {
        to_f32(self.tensor, self.ggml_type, &self.bytes)
    }
}

impl GgufTensor<'_> {
    /// The elements as f32, of plain floating-point types (f64 is rounded to nearest), of devices' block types
    /// and of those that [`expand`] has.
    pub fn to_f32(&self) -> Result<Vec<f32>, GgufError> {
        to_f32(self.name, self.ggml_type, self.bytes)
    }
}

fn to_f32(name: &str, ggml_type: GgmlType, bytes: &[u8]) -> Result<Vec<f32>, GgufError> {
    match ggml_type {
        GgmlType::F32 => Ok(map_groups(bytes, f32::from_le_bytes)),
        GgmlType::F16 => Ok(map_groups(bytes, |b| f16::from_le_bytes(b).to_f32())),
        GgmlType::BF16 => Ok(map_groups(bytes, |b| bf16::from_le_bytes(b).to_f32())),
        GgmlType::F64 => Ok(map_groups(bytes, |b| f64::from_le_bytes(b) as f32)),
        _ => match ggml_type.dtype().filter(|dtype| dtype.is_block()) {
            Some(dtype) => {
                let mut out = vec![0.0; bytes.len() / dtype.block_bytes() * dtype.block_elems()];
                blocks::decode(dtype, bytes, &mut out).map_err(|e| GgufError::tensor(name, e.to_string()))?;
                Ok(out)
            }
            None => expand::expand(ggml_type, bytes).ok_or_else(|| no_conversion(name, ggml_type)),
        },
    }
}

/// Whether [`to_f32`] has the type.
fn has_f32(ggml_type: GgmlType) -> bool {
    let plain = [GgmlType::F32, GgmlType::F16, GgmlType::BF16, GgmlType::F64].contains(&ggml_type);
    plain || expand::expands(ggml_type) || ggml_type.dtype().is_some_and(|dtype| dtype.is_block())
}

fn no_conversion(name: &str, ggml_type: GgmlType) -> GgufError {
    GgufError::tensor(name, format!("type {ggml_type} has no conversion to f32"))
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
