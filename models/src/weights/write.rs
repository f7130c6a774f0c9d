//! Writing safetensors, one tensor in memory at a time.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::WeightsError;
use crate::replace::replace_file;

/// An error of whoever provides a tensor's data.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Name, dtype and shape of a tensor to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorMeta {
    /// Its name; unique in the file.
    pub name: String,
    /// Type of an element.
    pub dtype: Dtype,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
}

type Read<'a> = Box<dyn FnOnce() -> Result<Cow<'a, [u8]>, BoxError> + 'a>;

/// Tensors to be written, each with a function that provides its bytes (row-major, little-endian)
/// when its turn comes.
#[derive(Default)]
pub struct TensorSource<'a> {
    tensors: Vec<(TensorMeta, Read<'a>)>,
}

impl<'a> TensorSource<'a> {
    /// No tensors.
    pub fn new() -> TensorSource<'a> {
        TensorSource::default()
    }

    /// Adds a tensor whose bytes are read when they are written.
    pub fn push(&mut self, meta: TensorMeta, read: impl FnOnce() -> Result<Cow<'a, [u8]>, BoxError> + 'a) {
        self.tensors.push((meta, Box::new(read)));
    }

    /// Adds an f32 tensor.
    pub fn push_f32(&mut self, name: impl Into<String>, shape: &[usize], data: &'a [f32]) {
        let meta = TensorMeta { name: name.into(), dtype: Dtype::F32, shape: shape.to_vec() };
        self.push(meta, move || Ok(data.iter().flat_map(|x| x.to_le_bytes()).collect()));
    }

    /// Adds an int64 tensor.
    pub fn push_i64(&mut self, name: impl Into<String>, shape: &[usize], data: &'a [i64]) {
        let meta = TensorMeta { name: name.into(), dtype: Dtype::I64, shape: shape.to_vec() };
        self.push(meta, move || Ok(data.iter().flat_map(|x| x.to_le_bytes()).collect()));
    }
}

/// Writes a safetensors file to `out`. Wider dtypes come first, so that every tensor is aligned to
/// its element; otherwise the order is kept.
pub fn write_tensors(out: &mut dyn Write, source: TensorSource<'_>) -> Result<(), WeightsError> {
    let mut tensors = source.tensors;
    tensors.sort_by_key(|(meta, _)| std::cmp::Reverse(meta.dtype));

    let mut names = HashSet::new();
    let mut infos = Vec::with_capacity(tensors.len());
    let mut end = 0usize;
    for (meta, _) in &tensors {
        let unwritable =
            |reason: &str| WeightsError::Unwritable { name: meta.name.clone(), reason: reason.into() };
        if meta.name == "__metadata__" || !names.insert(meta.name.as_str()) {
            return Err(unwritable("its name is taken"));
        }
        let elements = meta.shape.iter().try_fold(1usize, |n, size| n.checked_mul(*size));
        let bits = elements.and_then(|n| n.checked_mul(meta.dtype.bitsize()));
        let start = end;
        end = bits.and_then(|b| start.checked_add(b / 8)).ok_or_else(|| unwritable("it is too large"))?;
        let info = TensorInfo { dtype: meta.dtype, shape: meta.shape.clone(), data_offsets: (start, end) };
        infos.push((meta.name.clone(), info));
    }
    let sizes: Vec<usize> = infos.iter().map(|(_, i)| i.data_offsets.1 - i.data_offsets.0).collect();

    // Some versions of transformers insist on knowing which framework's layout it is.
    let origin = HashMap::from([("format".to_string(), "pt".to_string())]);
    let header = Metadata::new(Some(origin), infos)
        .map_err(|e| e.to_string())
        .and_then(|metadata| serde_json::to_string(&metadata).map_err(|e| e.to_string()));
    let mut header =
        header.map_err(|reason| WeightsError::Unwritable { name: "header".into(), reason })?.into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');

    out.write_all(&(header.len() as u64).to_le_bytes()).map_err(WeightsError::Write)?;
    out.write_all(&header).map_err(WeightsError::Write)?;
    for ((meta, read), size) in tensors.into_iter().zip(sizes) {
        let bytes = read().map_err(|source| WeightsError::Source { name: meta.name.clone(), source })?;
        if bytes.len() != size {
            let reason = format!("{} bytes of data; its shape and dtype want {size}", bytes.len());
            return Err(WeightsError::Unwritable { name: meta.name, reason });
        }
        out.write_all(&bytes).map_err(WeightsError::Write)?;
    }
    Ok(())
}

/// Writes a safetensors file at `path`, which is replaced only when all is written.
pub fn save_tensors(path: &Path, source: TensorSource<'_>) -> Result<(), WeightsError> {
    replace_file(path, |out| write_tensors(out, source)).map_err(|e| match e {
        WeightsError::Write(source) => WeightsError::Io { path: path.into(), source },
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Weights;
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.safetensors");
        let mut source = TensorSource::new();
        source.push_f32("a", &[3], &[1.0, -2.5, f32::MIN_POSITIVE]);
        source.push_i64("ids", &[2, 1], &[7, -1]);
        source.push_f32("empty", &[0, 4], &[]);
        source.push_f32("scalar", &[], &[0.5]);
        save_tensors(&path, source).unwrap();

        let read = Weights::open_file(&path).unwrap();
        assert_eq!(read.names().collect::<Vec<_>>(), ["a", "empty", "ids", "scalar"]);
        assert_eq!(read.tensor("a").unwrap().to_f32().unwrap(), [1.0, -2.5, f32::MIN_POSITIVE]);
        assert_eq!(read.tensor("ids").unwrap().to_i64().unwrap(), [7, -1]);
        assert_eq!(read.tensor("ids").unwrap().shape, [2, 1]);
        assert!(read.tensor("empty").unwrap().to_f32().unwrap().is_empty());
        assert_eq!(read.tensor("scalar").unwrap().to_f32().unwrap(), [0.5]);
    }

    #[test]
    fn a_failed_write_keeps_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.safetensors");
        let mut good = TensorSource::new();
        good.push_f32("a", &[1], &[1.0]);
        save_tensors(&path, good).unwrap();

        let mut short = TensorSource::new();
        short.push_f32("a", &[2], &[1.0]);
        let message = save_tensors(&path, short).unwrap_err().to_string();
        assert!(message.contains("4 bytes of data; its shape and dtype want 8"), "{message}");
        let mut twice = TensorSource::new();
        twice.push_f32("a", &[1], &[1.0]);
        twice.push_f32("a", &[1], &[1.0]);
        assert!(save_tensors(&path, twice).is_err());
        let mut failing = TensorSource::new();
        let meta = TensorMeta { name: "b".into(), dtype: Dtype::F32, shape: vec![1] };
        failing.push(meta, || Err("device lost".into()));
        let message = save_tensors(&path, failing).unwrap_err().to_string();
        assert!(message.contains("tensor b: device lost"), "{message}");

        let read = Weights::open_file(&path).unwrap();
        assert_eq!(read.tensor("a").unwrap().to_f32().unwrap(), [1.0]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
