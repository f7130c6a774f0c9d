//! Opening safetensors files and model folders.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::{Component, Path, PathBuf};

use memmap2::Mmap;
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::Deserialize;

use super::WeightsError;
use super::quantized::{TILE, scale_name, tile};
use crate::config::ParamSpec;

/// Longest header that the format allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// The tensors of a safetensors file or of a model folder, memory-mapped.
pub struct Weights {
    path: PathBuf,
    files: Vec<Mmap>,
    tensors: BTreeMap<String, Place>,
    /// Rows and columns of 8-bit weights that share a scale.
    pub(super) tile: [usize; 2],
}

/// Where a tensor lies; checked to be within its file when it was opened.
struct Place {
    file: usize,
    start: usize,
    end: usize,
    dtype: Dtype,
    shape: Vec<usize>,
}

/// One tensor as it is in the file: row-major, little-endian.
#[derive(Debug, Clone, Copy)]
pub struct TensorView<'a> {
    /// Its name.
    pub name: &'a str,
    /// Type of an element.
    pub dtype: Dtype,
    /// Sizes, outermost first.
    pub shape: &'a [usize],
    /// Its elements; aligned to nothing in particular.
    pub bytes: &'a [u8],
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// Opens a Hugging Face model folder: `model.safetensors`, or the shards that
    /// `model.safetensors.index.json` names.
    pub fn open_folder(dir: &Path) -> Result<Weights, WeightsError> {
        let single = dir.join("model.safetensors");
        if single.exists() {
            let weights = Weights::open_file(&single)?;
            return Ok(Weights { path: dir.into(), tile: tile(dir), ..weights });
        }
        let index = dir.join("model.safetensors.index.json");
        if index.exists() {
            return Weights::open_shards(dir, &index);
        }
        Err(WeightsError::NoWeights { dir: dir.into() })
    }

    /// Opens one safetensors file.
    pub fn open_file(path: &Path) -> Result<Weights, WeightsError> {
        let (map, tensors) = open_one(path, 0)?;
        Ok(Weights { path: path.into(), files: vec![map], tensors, tile: TILE })
    }

    fn open_shards(dir: &Path, index_path: &Path) -> Result<Weights, WeightsError> {
        let bad = |reason: String| WeightsError::Index { path: index_path.into(), reason };
        let text = std::fs::read(index_path)
            .map_err(|source| WeightsError::Io { path: index_path.into(), source })?;
        let index: Index = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;

        let (files, tensors) = (Vec::new(), BTreeMap::new());
        let mut weights = Weights { path: dir.into(), files, tensors, tile: tile(dir) };
        let mut shards: BTreeMap<&str, BTreeMap<String, Place>> = BTreeMap::new();
        for (name, file) in &index.weight_map {
            if !shards.contains_key(file.as_str()) {
                let mut parts = Path::new(file).components();
                if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
                    return Err(bad(format!("\"{file}\" is not the name of a file in the folder")));
                }
                let (map, tensors) = open_one(&dir.join(file), weights.files.len())?;
                weights.files.push(map);
                shards.insert(file, tensors);
            }
            let place = shards.get_mut(file.as_str()).and_then(|tensors| tensors.remove(name));
            let place = place.ok_or_else(|| bad(format!("tensor {name} is not in {file}")))?;
            weights.tensors.insert(name.clone(), place);
        }
        Ok(weights)
    }

    /// The names of all tensors, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The tensor of that name, if there is one.
    pub fn get(&self, name: &str) -> Option<TensorView<'_>> {
        let (name, place) = self.tensors.get_key_value(name)?;
        let bytes = &self.files[place.file][place.start..place.end];
        Some(TensorView { name, dtype: place.dtype, shape: &place.shape, bytes })
    }

    /// The tensor of that name; [`WeightsError::Missing`] without one.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>, WeightsError> {
        self.get(name).ok_or_else(|| WeightsError::Missing {
            path: self.path.clone(),
            missing: vec![name.into()],
            unexpected: Vec::new(),
        })
    }

    /// The tensor of a parameter, of the parameter's shape.
    pub fn parameter(&self, spec: &ParamSpec) -> Result<TensorView<'_>, WeightsError> {
        let view = self.tensor(&spec.name)?;
        if view.shape != spec.shape {
            return Err(self.wrong_shape(&view, spec.shape.clone()));
        }
        Ok(view)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub(super) fn wrong_shape(&self, found: &TensorView<'_>, wanted: Vec<usize>) -> WeightsError {
        WeightsError::Shape {
            path: self.path.clone(),
            name: found.name.into(),
            found: found.shape.to_vec(),
            wanted,
        }
    }

    /// Checks that every parameter is there with its shape and a floating-point dtype. Returns the
    /// names of tensors that belong to none, except those that are known to be derived (rotary
    /// tables, the copy of a tied head).
    pub fn check(&self, parameters: &[ParamSpec]) -> Result<Vec<String>, WeightsError> {
        let mut wanted: HashSet<String> = HashSet::new();
        let mut missing: Vec<String> = Vec::new();
        for spec in parameters {
            let stacks = if self.has(&spec.name) { Vec::new() } else { self.stacks(spec) };
            if stacks.is_empty() && !self.has(&spec.name) {
                missing.push(spec.name.clone());
            }
            wanted.extend(if stacks.is_empty() { vec![spec.name.clone()] } else { stacks });
            wanted.insert(scale_name(&spec.name));
        }
        let unexpected: Vec<String> =
            self.names().filter(|n| !wanted.contains(*n) && !derived(n)).map(String::from).collect();
        if !missing.is_empty() {
            return Err(WeightsError::Missing { path: self.path.clone(), missing, unexpected });
        }
        for spec in parameters.iter().filter(|spec| self.has(&spec.name)) {
            let view = self.parameter(spec)?;
            if view.dtype != Dtype::F8_E4M3 {
                view.check_float()?;
            }
        }
        Ok(unexpected)
    }
}

/// Tensors that older checkpoints carry and that follow from the rest. A head is one if it isn't a
/// parameter: then it is tied to the embedding.
fn derived(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq") || name == "lm_head.weight"
}

fn open_one(path: &Path, file: usize) -> Result<(Mmap, BTreeMap<String, Place>), WeightsError> {
    let io = |source| WeightsError::Io { path: path.into(), source };
    let opened = File::open(path).map_err(io)?;
    // SAFETY: nothing here writes to the mapping; that no other process cuts the file while it is
    // open is the module's stated condition, as for every memory-mapped model.
    let map = unsafe { Mmap::map(&opened) }.map_err(io)?;
    let tensors =
        places(&map, file).map_err(|reason| WeightsError::Malformed { path: path.into(), reason })?;
    Ok((map, tensors))
}

/// Reads the header: its length (u64), JSON of that length, then the tensors' bytes, gapless.
fn places(bytes: &[u8], file: usize) -> Result<BTreeMap<String, Place>, String> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(format!("{} bytes, too short for a header", bytes.len()));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER || length > rest.len() as u64 {
        return Err(format!("the header claims {length} bytes, {} follow", rest.len()));
    }
    let (header, data) = rest.split_at(length as usize);
    // Parsing checks names, offsets without gaps, and shapes against offsets, without overflow.
    let metadata: Metadata = serde_json::from_slice(header).map_err(|e| format!("header: {e}"))?;
    if metadata.data_len() != data.len() {
        let claimed = metadata.data_len();
        return Err(format!("the header describes {claimed} bytes of data, the file has {}", data.len()));
    }
    let data_start = bytes.len() - data.len();
    let place = |(name, info): (String, &safetensors::tensor::TensorInfo)| {
        let (start, end) = (data_start + info.data_offsets.0, data_start + info.data_offsets.1);
        (name, Place { file, start, end, dtype: info.dtype, shape: info.shape.clone() })
    };
    Ok(metadata.tensors().into_iter().map(place).collect())
}

#[cfg(test)]
#[path = "open_tests.rs"]
mod tests;
