//! Writing GGUF version 3, one tensor in memory at a time.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::Write;
use std::path::Path;

use super::value::{Item, Value, ValueType, write_string};
use super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, GgmlType, GgufError, MAX_ALIGNMENT, MAX_AXES};
use crate::replace::replace_file;
use crate::weights::BoxError;

/// The longest key, in bytes, by the format.
const MAX_KEY: usize = u16::MAX as usize;
/// The longest name of a tensor, in bytes, that ggml reads.
const MAX_TENSOR_NAME: usize = 63;

/// Metadata and tensors to be written, in the order in which they are added. A tensor comes with a
/// function that provides its bytes when its turn comes.
///
/// ```
/// use halite_models::gguf::{GgmlType, Gguf, GgufWriter};
///
/// let mut writer = GgufWriter::new();
/// writer.metadata("general.architecture", "llama")?;
/// writer.array("tokenizer.ggml.tokens", ["a", "b"])?;
/// writer.tensor("output_norm.weight", GgmlType::F32, &[1], || Ok(1f32.to_le_bytes().to_vec().into()))?;
/// let mut file = Vec::new();
/// writer.write(&mut file)?;
/// let read = Gguf::from_bytes(file)?;
/// assert_eq!(read.need::<Vec<&str>>("tokenizer.ggml.tokens")?, ["a", "b"]);
/// # Ok::<_, halite_models::gguf::GgufError>(())
/// ```
pub struct GgufWriter<'a> {
    alignment: usize,
    /// Keys and values as in the file.
    metadata: Vec<u8>,
    keys: HashSet<String>,
    tensors: Vec<Tensor<'a>>,
    names: HashSet<String>,
}

type Read<'a> = Box<dyn FnOnce() -> Result<Cow<'a, [u8]>, BoxError> + 'a>;

struct Tensor<'a> {
    name: String,
    ggml_type: GgmlType,
    shape: Vec<usize>,
    bytes: usize,
    read: Read<'a>,
}

impl Default for GgufWriter<'_> {
    fn default() -> Self {
        GgufWriter {
            alignment: DEFAULT_ALIGNMENT,
            metadata: Vec::new(),
            keys: HashSet::new(),
            tensors: Vec::new(),
            names: HashSet::new(),
        }
    }
}

impl<'a> GgufWriter<'a> {
    /// A file without anything.
    pub fn new() -> GgufWriter<'a> {
        GgufWriter::default()
    }

    /// Adds a key and its value. `general.alignment` is obeyed.
    pub fn metadata<'v>(&mut self, key: &str, value: impl Into<Value<'v>>) -> Result<(), GgufError> {
        let value = value.into();
        if key == ALIGNMENT_KEY {
            self.alignment = match value {
                Value::U32(n) if n.is_power_of_two() && n as usize <= MAX_ALIGNMENT => n as usize,
                _ => {
                    let wanted = format!("a u32 that is a power of two up to {MAX_ALIGNMENT}");
                    let reason = format!("it is {}; it must be {wanted}", value.describe());
                    return Err(GgufError::metadata(key, reason));
                }
            };
        }
        self.key(key, value.kind())?;
        value.write(&mut self.metadata);
        Ok(())
    }

    /// Adds a key and an array of values.
    pub fn array<'v, T: Item<'v>>(
        &mut self,
        key: &str,
        items: impl IntoIterator<Item = T>,
    ) -> Result<(), GgufError> {
        self.key(key, ValueType::Array)?;
        self.metadata.extend(T::KIND.number().to_le_bytes());
        let length_at = self.metadata.len();
        self.metadata.extend(0u64.to_le_bytes());
        let mut len = 0u64;
        for item in items {
            item.into().write(&mut self.metadata);
            len += 1;
        }
        self.metadata[length_at..length_at + 8].copy_from_slice(&len.to_le_bytes());
        Ok(())
    }

    fn key(&mut self, key: &str, kind: ValueType) -> Result<(), GgufError> {
        if !(1..=MAX_KEY).contains(&key.len()) {
            let reason = format!("a key of {} bytes; it must have 1 to {MAX_KEY}", key.len());
            return Err(GgufError::metadata(key, reason));
        }
        if !self.keys.insert(key.into()) {
            return Err(GgufError::metadata(key, "it was written before"));
        }
        write_string(&mut self.metadata, key);
        self.metadata.extend(kind.number().to_le_bytes());
        Ok(())
    }

    /// Adds a tensor of row-major `shape`, outermost size first, whose bytes are read when they are written.
    pub fn tensor(
        &mut self,
        name: impl Into<String>,
        ggml_type: GgmlType,
        shape: &[usize],
        read: impl FnOnce() -> Result<Cow<'a, [u8]>, BoxError> + 'a,
    ) -> Result<(), GgufError> {
        let name = name.into();
        if !(1..=MAX_TENSOR_NAME).contains(&name.len()) {
            let reason = format!("a name of {} bytes; it must have 1 to {MAX_TENSOR_NAME}", name.len());
            return Err(GgufError::Tensor { name, reason });
        }
        if shape.len() > MAX_AXES {
            let reason = format!("shape {shape:?} has more than {MAX_AXES} axes");
            return Err(GgufError::Tensor { name, reason });
        }
        let Some(bytes) = ggml_type.bytes(shape) else {
            let block = ggml_type.block_elems();
            let reason =
                format!("rows of shape {shape:?} must be blocks of {block} {ggml_type}, not too many");
            return Err(GgufError::Tensor { name, reason });
        };
        if !self.names.insert(name.clone()) {
            return Err(GgufError::tensor(name, "it was written before"));
        }
        self.tensors.push(Tensor { name, ggml_type, shape: shape.to_vec(), bytes, read: Box::new(read) });
        Ok(())
    }

    /// Writes the file.
    pub fn write(self, out: &mut dyn Write) -> Result<(), GgufError> {
        let mut header = Vec::with_capacity(24 + self.metadata.len());
        header.extend(b"GGUF");
        header.extend(3u32.to_le_bytes());
        header.extend((self.tensors.len() as u64).to_le_bytes());
        header.extend((self.keys.len() as u64).to_le_bytes());
        header.extend(&self.metadata);
        let mut place = 0usize;
        for tensor in &self.tensors {
            write_string(&mut header, &tensor.name);
            header.extend((tensor.shape.len() as u32).to_le_bytes());
            for size in tensor.shape.iter().rev() {
                header.extend((*size as u64).to_le_bytes());
            }
            header.extend(tensor.ggml_type.number().to_le_bytes());
            header.extend((place as u64).to_le_bytes());
            let next =
                place.checked_add(tensor.bytes).and_then(|n| n.checked_next_multiple_of(self.alignment));
            place = next.ok_or_else(|| {
                GgufError::tensor(&tensor.name, format!("the file can't hold its {} bytes", tensor.bytes))
            })?;
        }
        let padding = vec![0; self.alignment];
        let pad = |written: usize| &padding[..written.next_multiple_of(padding.len()) - written];
        out.write_all(&header)?;
        out.write_all(pad(header.len()))?;
        for Tensor { name, bytes: wanted, read, .. } in self.tensors {
            let bytes = read().map_err(|source| GgufError::Source { name: name.clone(), source })?;
            if bytes.len() != wanted {
                let reason = format!("{} bytes of data; its shape and type want {wanted}", bytes.len());
                return Err(GgufError::Tensor { name, reason });
            }
            out.write_all(&bytes)?;
            out.write_all(pad(wanted))?;
        }
        Ok(())
    }

    /// Writes a file at `path`, which is replaced only when all is written and synced.
    pub fn save(self, path: &Path) -> Result<(), GgufError> {
        replace_file(path, |out| self.write(out)).map_err(|e: GgufError| e.of(path))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Gguf;
    use super::*;

    /// Every kind of value, and tensors of several types.
    pub(crate) fn sample(alignment: u32) -> Vec<u8> {
        let mut writer = GgufWriter::new();
        writer.metadata("general.architecture", "llama").unwrap();
        writer.metadata(ALIGNMENT_KEY, alignment).unwrap();
        writer.metadata("u8", 200u8).unwrap();
        writer.metadata("i8", -100i8).unwrap();
        writer.metadata("u16", 60000u16).unwrap();
        writer.metadata("i16", -30000i16).unwrap();
        writer.metadata("i32", i32::MIN).unwrap();
        writer.metadata("u64", u64::MAX).unwrap();
        writer.metadata("i64", i64::MIN).unwrap();
        writer.metadata("f32", 0.1f32).unwrap();
        writer.metadata("f64", 0.1f64).unwrap();
        writer.metadata("yes", true).unwrap();
        writer.array("strings", ["", "ä", "<s>"]).unwrap();
        writer.array("numbers", [1.5f32, -2.0]).unwrap();
        writer.array("flags", [true, false]).unwrap();
        writer.array::<u64>("nothing", []).unwrap();
        let q4: Vec<u8> = (0..72).collect();
        writer.tensor("b", GgmlType::Q4_0, &[2, 64], move || Ok(q4.into())).unwrap();
        writer.tensor("empty", GgmlType::F32, &[0, 3], || Ok(Vec::new().into())).unwrap();
        writer.tensor("a", GgmlType::F16, &[3], || Ok(vec![1, 2, 3, 4, 5, 6].into())).unwrap();
        writer.tensor("scalar", GgmlType::F32, &[], || Ok(vec![0, 0, 0, 63].into())).unwrap();
        let mut file = Vec::new();
        writer.write(&mut file).unwrap();
        file
    }

    /// Writes again what was read.
    fn rewrite(gguf: &Gguf) -> Vec<u8> {
        let mut writer = GgufWriter::new();
        for (key, value) in gguf.metadata() {
            writer.metadata(key, value).unwrap();
        }
        for t in gguf.tensors() {
            writer.tensor(t.name, t.ggml_type, t.shape, move || Ok(t.bytes.into())).unwrap();
        }
        let mut file = Vec::new();
        writer.write(&mut file).unwrap();
        file
    }

    #[test]
    fn what_is_written_reads_back_and_rewrites_to_the_same_bytes() {
        for alignment in [1, 8, 32, 4096] {
            let file = sample(alignment);
            let read = Gguf::from_bytes(file.clone()).unwrap();
            assert_eq!((read.version(), read.alignment()), (3, alignment as usize));
            assert_eq!(read.value("u8"), Some(Value::U8(200)));
            assert_eq!(read.value("i8"), Some(Value::I8(-100)));
            assert_eq!(read.value("u16"), Some(Value::U16(60000)));
            assert_eq!(read.value("i16"), Some(Value::I16(-30000)));
            assert_eq!(read.value("i32"), Some(Value::I32(i32::MIN)));
            assert_eq!(read.value("u64"), Some(Value::U64(u64::MAX)));
            assert_eq!(read.value("i64"), Some(Value::I64(i64::MIN)));
            assert_eq!(read.value("f32"), Some(Value::F32(0.1)));
            assert_eq!(read.value("f64"), Some(Value::F64(0.1)));
            assert_eq!(read.value("yes"), Some(Value::Bool(true)));
            assert_eq!(read.need::<Vec<&str>>("strings").unwrap(), ["", "ä", "<s>"]);
            assert_eq!(read.need::<Vec<f32>>("numbers").unwrap(), [1.5, -2.0]);
            assert_eq!(read.need::<Vec<bool>>("flags").unwrap(), [true, false]);
            assert!(read.need::<Vec<u64>>("nothing").unwrap().is_empty());

            let names: Vec<&str> = read.tensors().map(|t| t.name).collect();
            assert_eq!(names, ["b", "empty", "a", "scalar"]);
            let b = read.tensor("b").unwrap();
            assert_eq!((b.ggml_type, b.shape, b.elems()), (GgmlType::Q4_0, &[2, 64][..], 128));
            assert_eq!(b.dimensions().collect::<Vec<_>>(), [64, 2]);
            assert_eq!(b.bytes, (0..72).collect::<Vec<u8>>());
            assert_eq!(read.tensor("a").unwrap().bytes, [1, 2, 3, 4, 5, 6]);
            assert_eq!(read.tensor("scalar").unwrap().bytes, [0, 0, 0, 63]);
            assert!(read.tensor("empty").unwrap().bytes.is_empty());
            assert_eq!(rewrite(&read), file, "alignment {alignment}");
        }
    }

    #[test]
    fn what_no_reader_takes_is_refused() {
        let mut writer = GgufWriter::new();
        let message = |r: Result<(), GgufError>| r.unwrap_err().to_string();
        writer.metadata("k", 1u32).unwrap();
        assert!(message(writer.metadata("k", 2u32)).contains("\"k\": it was written before"));
        assert!(message(writer.metadata("", 2u32)).contains("a key of 0 bytes"));
        assert!(message(writer.metadata(ALIGNMENT_KEY, 24u32)).contains("it is u32 24"));
        assert!(message(writer.metadata(ALIGNMENT_KEY, 32u64)).contains("it is u64 32"));
        let none = || Ok(Vec::new().into());
        assert!(message(writer.tensor("t".repeat(64), GgmlType::F32, &[0], none)).contains("64 bytes"));
        assert!(message(writer.tensor("t", GgmlType::Q4_0, &[2, 33], none)).contains("blocks of 32 q4_0"));
        assert!(message(writer.tensor("t", GgmlType::F32, &[1; 5], none)).contains("more than 4 axes"));
        writer.tensor("t", GgmlType::F32, &[0], none).unwrap();
        assert!(message(writer.tensor("t", GgmlType::F32, &[0], none)).contains("it was written before"));
    }

    #[test]
    fn a_failed_write_keeps_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        let save = |read: fn() -> Result<Cow<'static, [u8]>, BoxError>| {
            let mut writer = GgufWriter::new();
            writer.tensor("t", GgmlType::F32, &[1], read).unwrap();
            writer.save(&path)
        };
        save(|| Ok(vec![1, 2, 3, 4].into())).unwrap();
        let short = save(|| Ok(vec![1, 2, 3].into())).unwrap_err().to_string();
        assert!(
            short.contains("m.gguf: tensor \"t\": 3 bytes of data; its shape and type want 4"),
            "{short}"
        );
        let failed = save(|| Err("device lost".into())).unwrap_err().to_string();
        assert!(failed.contains("tensor \"t\": device lost"), "{failed}");
        assert_eq!(Gguf::open(&path).unwrap().tensor("t").unwrap().bytes, [1, 2, 3, 4]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    proptest! {
        #[test]
        fn any_tensors_read_back(
            sizes in proptest::collection::vec((0usize..5, 0usize..4, 0usize..30), 0..6),
            power in 0u32..8,
        ) {
            let types = [GgmlType::F32, GgmlType::BF16, GgmlType::Q8_0, GgmlType::Q6_K, GgmlType::I8];
            let mut writer = GgufWriter::new();
            writer.metadata(ALIGNMENT_KEY, 1u32 << power).unwrap();
            let mut wanted = Vec::new();
            for (i, (rows, blocks, kind)) in sizes.into_iter().enumerate() {
                let ggml_type = types[kind % types.len()];
                let shape = [rows, blocks * ggml_type.block_elems()];
                let bytes = vec![i as u8 + 1; rows * blocks * ggml_type.block_bytes()];
                let data = bytes.clone();
                writer.tensor(format!("t{i}"), ggml_type, &shape, move || Ok(data.into())).unwrap();
                wanted.push((ggml_type, shape, bytes));
            }
            let mut file = Vec::new();
            writer.write(&mut file).unwrap();
            let read = Gguf::from_bytes(file).unwrap();
            prop_assert_eq!(read.tensors().len(), wanted.len());
            for (t, (ggml_type, shape, bytes)) in read.tensors().zip(wanted) {
                prop_assert_eq!((t.ggml_type, t.shape, t.bytes), (ggml_type, &shape[..], &bytes[..]));
            }
        }
    }
}
