//! Opening GGUF files, and checking them.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use memmap2::Mmap;

use super::cursor::Cursor;
use super::value::{FromValue, Value};
use super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, GgmlType, GgufError, MAX_ALIGNMENT, MAX_AXES};

/// A GGUF file of version 2 or 3, read and checked.
#[derive(Debug)]
pub struct Gguf {
    bytes: Bytes,
    header: Header,
}

#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl Bytes {
    fn get(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

/// What the header says, as places in the file.
#[derive(Debug)]
struct Header {
    version: u32,
    alignment: usize,
    /// In the file's order.
    metadata: Vec<Entry>,
    /// In the file's order.
    tensors: Vec<Place>,
    /// Indices into `metadata`, by key.
    keys: Vec<usize>,
    /// Indices into `tensors`, by name.
    names: Vec<usize>,
}

/// A key, and where its value (its kind first) begins.
#[derive(Debug)]
struct Entry {
    key: Range<usize>,
    value: usize,
}

/// A tensor; its range was checked to be within the file.
#[derive(Debug)]
struct Place {
    name: Range<usize>,
    ggml_type: GgmlType,
    /// Sizes, outermost first; the first `axes` of them.
    shape: [usize; MAX_AXES],
    axes: usize,
    /// Where its bytes are in the file.
    data: Range<usize>,
}

/// One tensor as it is in the file.
#[derive(Debug, Clone, Copy)]
pub struct GgufTensor<'a> {
    /// Its name.
    pub name: &'a str,
    /// How its elements are stored.
    pub ggml_type: GgmlType,
    /// Sizes in row-major order, outermost first: a matrix is `[out, in]`. The file has them the other
    /// way round, see [`GgufTensor::dimensions`].
    pub shape: &'a [usize],
    /// Its rows one after another; aligned to nothing in particular.
    pub bytes: &'a [u8],
}

impl<'a> GgufTensor<'a> {
    /// Sizes in the file's order, innermost first.
    pub fn dimensions(&self) -> impl Iterator<Item = usize> + use<'a> {
        self.shape.iter().rev().copied()
    }

    /// Number of elements.
    pub fn elems(&self) -> usize {
        self.shape.iter().product() // checked when the file was opened
    }
}

impl Gguf {
    /// Opens and maps a file.
    pub fn open(path: &Path) -> Result<Gguf, GgufError> {
        let open = || {
            let file = File::open(path)?;
            // SAFETY: nothing here writes to the mapping; that no other process cuts the file while it
            // is open is the module's stated condition, as for every memory-mapped model.
            let map = unsafe { Mmap::map(&file) }?;
            Gguf::new(Bytes::Mapped(map))
        };
        open().map_err(|e| e.of(path))
    }

    /// A file's content in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Gguf, GgufError> {
        Gguf::new(Bytes::Owned(bytes))
    }

    fn new(bytes: Bytes) -> Result<Gguf, GgufError> {
        let header = Header::read(bytes.get())?;
        Ok(Gguf { bytes, header })
    }

    /// The format's version: 2 or 3.
    pub fn version(&self) -> u32 {
        self.header.version
    }

    /// What every tensor's place is a multiple of, in bytes.
    pub fn alignment(&self) -> usize {
        self.header.alignment
    }

    /// All keys and values in the file's order.
    pub fn metadata(&self) -> impl ExactSizeIterator<Item = (&str, Value<'_>)> {
        self.header.metadata.iter().map(|entry| (self.text(&entry.key), self.value_of(entry)))
    }

    /// The value of a key, if there is one.
    pub fn value(&self, key: &str) -> Option<Value<'_>> {
        let metadata = &self.header.metadata;
        let found = self.header.keys.binary_search_by(|&i| self.text(&metadata[i].key).cmp(key)).ok()?;
        Some(self.value_of(&metadata[self.header.keys[found]]))
    }

    /// The value of a key as a `T`; [`GgufError::WrongType`] if it is something else.
    ///
    /// ```no_run
    /// # let gguf = halite_models::gguf::Gguf::open("m.gguf".as_ref())?;
    /// let layers: usize = gguf.need("llama.block_count")?;
    /// let tokens: Vec<&str> = gguf.need("tokenizer.ggml.tokens")?;
    /// let name: Option<&str> = gguf.get("general.name")?;
    /// # Ok::<_, halite_models::gguf::GgufError>(())
    /// ```
    pub fn get<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, GgufError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match T::from_value(&value) {
            Some(t) => Ok(Some(t)),
            None => Err(GgufError::WrongType { key: key.into(), found: value.describe(), wanted: T::WANTED }),
        }
    }

    /// The value of a key that must be there.
    pub fn need<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, GgufError> {
        self.get(key)?.ok_or_else(|| GgufError::MissingKey { key: key.into(), wanted: T::WANTED })
    }

    /// All tensors in the file's order.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = GgufTensor<'_>> {
        self.header.tensors.iter().map(|place| self.tensor_at(place))
    }

    /// The tensor of that name, if there is one.
    pub fn find(&self, name: &str) -> Option<GgufTensor<'_>> {
        let tensors = &self.header.tensors;
        let found = self.header.names.binary_search_by(|&i| self.text(&tensors[i].name).cmp(name)).ok()?;
        Some(self.tensor_at(&tensors[self.header.names[found]]))
    }

    /// The tensor of that name; [`GgufError::MissingTensor`] without one.
    pub fn tensor(&self, name: &str) -> Result<GgufTensor<'_>, GgufError> {
        self.find(name).ok_or_else(|| GgufError::MissingTensor { name: name.into() })
    }

    fn tensor_at<'a>(&'a self, place: &'a Place) -> GgufTensor<'a> {
        GgufTensor {
            name: self.text(&place.name),
            ggml_type: place.ggml_type,
            shape: &place.shape[..place.axes],
            bytes: &self.bytes.get()[place.data.clone()],
        }
    }

    fn text(&self, range: &Range<usize>) -> &str {
        text(self.bytes.get(), range)
    }

    fn value_of(&self, entry: &Entry) -> Value<'_> {
        let mut cursor = Cursor::new(&self.bytes.get()[entry.value..]);
        Value::read(&mut cursor, "").expect("read before, when the file was opened")
    }
}

/// A name whose place was found by reading it.
fn text<'a>(bytes: &'a [u8], range: &Range<usize>) -> &'a str {
    std::str::from_utf8(&bytes[range.clone()]).expect("checked when it was read")
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Header, GgufError> {
        let mut cursor = Cursor::new(bytes);
        if !bytes.starts_with(b"GGUF") {
            return Err(GgufError::Magic { found: bytes[..bytes.len().min(4)].to_vec() });
        }
        cursor.take(4, "the magic number")?;
        let version = cursor.u32("the version")?;
        match version {
            2 | 3 => {}
            // Both halves of a version that is a small number tell the order of bytes.
            v if v != 0 && v & 0xffff == 0 => {
                return Err(GgufError::BigEndian { version: v.swap_bytes() });
            }
            _ => return Err(GgufError::Version { version }),
        }
        let tensor_count = cursor.u64("the number of tensors")?;
        let metadata_count = cursor.u64("the number of metadata")?;

        // Lists grow as they are read: what is claimed reserves nothing.
        let mut metadata = Vec::new();
        for _ in 0..metadata_count {
            let key = cursor.name("a metadata key")?;
            let end = cursor.at();
            Value::read(&mut cursor, key)?;
            metadata.push(Entry { key: end - key.len()..end, value: end });
        }
        let keys = sorted(bytes, &metadata, |entry| &entry.key)
            .map_err(|key| GgufError::metadata(key, "it is there twice"))?;
        let alignment = alignment(bytes, &metadata, &keys)?;

        let mut tensors = Vec::new();
        for _ in 0..tensor_count {
            tensors.push(read_place(&mut cursor)?);
        }
        let names = sorted(bytes, &tensors, |place| &place.name)
            .map_err(|name| GgufError::tensor(name, "it is there twice"))?;
        place_all(bytes, &mut tensors, cursor.at(), alignment)?;
        Ok(Header { version, alignment, metadata, tensors, keys, names })
    }
}

/// Indices of `items` in the order of their names, or a name that is there twice.
fn sorted<T>(bytes: &[u8], items: &[T], name: impl Fn(&T) -> &Range<usize>) -> Result<Vec<usize>, String> {
    let text = |i: &usize| text(bytes, name(&items[*i]));
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by(|a, b| text(a).cmp(text(b)));
    match order.windows(2).find(|pair| text(&pair[0]) == text(&pair[1])) {
        Some(pair) => Err(text(&pair[0]).into()),
        None => Ok(order),
    }
}

fn alignment(bytes: &[u8], metadata: &[Entry], keys: &[usize]) -> Result<usize, GgufError> {
    let found = keys.binary_search_by(|&i| text(bytes, &metadata[i].key).cmp(ALIGNMENT_KEY));
    let Ok(found) = found else { return Ok(DEFAULT_ALIGNMENT) };
    let value = Value::read(&mut Cursor::new(&bytes[metadata[keys[found]].value..]), ALIGNMENT_KEY)?;
    match usize::from_value(&value) {
        Some(n) if n.is_power_of_two() && n <= MAX_ALIGNMENT => Ok(n),
        _ => {
            let wanted = format!("a power of two up to {MAX_ALIGNMENT}");
            Err(GgufError::metadata(
                ALIGNMENT_KEY,
                format!("it is {}; it must be {wanted}", value.describe()),
            ))
        }
    }
}

/// Reads what the header says of a tensor. Its data begin where it says, from the data's begin.
fn read_place(cursor: &mut Cursor<'_>) -> Result<Place, GgufError> {
    const WHAT: &str = "a tensor's description";
    let name = cursor.name("a tensor's name")?;
    let end = cursor.at();
    let bad = |reason: String| GgufError::tensor(name, reason);
    let axes = cursor.u32(WHAT)? as usize;
    if axes > MAX_AXES {
        return Err(bad(format!("{axes} axes; at most {MAX_AXES} are allowed")));
    }
    let mut shape = [0; MAX_AXES];
    for size in shape[..axes].iter_mut().rev() {
        let claimed = cursor.u64(WHAT)?;
        *size = usize::try_from(claimed)
            .map_err(|_| bad(format!("an axis of {claimed} elements can't be addressed")))?;
    }
    let number = cursor.u32(WHAT)?;
    let ggml_type =
        GgmlType::from_number(number).ok_or_else(|| GgufError::UnknownType { name: name.into(), number })?;
    let offset = cursor.u64(WHAT)?;
    let start = usize::try_from(offset).map_err(|_| bad(format!("its place {offset} is beyond the file")))?;

    let shape_of = &shape[..axes];
    let size = ggml_type.bytes(shape_of).ok_or_else(|| {
        let block = ggml_type.block_elems();
        match shape_of.last().is_some_and(|n| n.is_multiple_of(block)) {
            true => bad(format!("its shape {shape_of:?} overflows")),
            false => {
                bad(format!("rows of its shape {shape_of:?} aren't blocks of {block}, as {ggml_type} has"))
            }
        }
    })?;
    let stop =
        start.checked_add(size).ok_or_else(|| bad(format!("its place {offset} is beyond the file")))?;
    Ok(Place { name: end - name.len()..end, ggml_type, shape, axes, data: start..stop })
}

/// Turns places in the data into places in the file, and checks that they are within it, aligned, and
/// that none overlaps another.
fn place_all(bytes: &[u8], tensors: &mut [Place], header: usize, alignment: usize) -> Result<(), GgufError> {
    let base = header.next_multiple_of(alignment); // both are far below overflow
    let name = |place: &Place| text(bytes, &place.name);
    for place in tensors.iter_mut() {
        let Range { start, end } = place.data;
        if !start.is_multiple_of(alignment) {
            let reason = format!("its place {start} isn't a multiple of the alignment {alignment}");
            return Err(GgufError::tensor(name(place), reason));
        }
        // An empty tensor may stand where the data of the others end, padding left out.
        let moved = base.checked_add(start).zip(base.checked_add(end));
        match moved.filter(|(_, end)| *end <= bytes.len() || start == place.data.end) {
            Some((start, end)) => place.data = start.min(bytes.len())..end.min(bytes.len()),
            None => {
                let has = bytes.len().saturating_sub(base);
                let reason = format!("it ends at byte {end} of the data, the file has {has}");
                return Err(GgufError::tensor(name(place), reason));
            }
        }
    }
    let mut order: Vec<&Place> = tensors.iter().filter(|place| !place.data.is_empty()).collect();
    order.sort_by_key(|place| place.data.start);
    match order.windows(2).find(|pair| pair[1].data.start < pair[0].data.end) {
        Some(pair) => {
            Err(GgufError::tensor(name(pair[1]), format!("it overlaps tensor {:?}", name(pair[0]))))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
