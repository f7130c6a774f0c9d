use super::super::value::write_string;
use super::super::{GgufWriter, ValueType};
use super::*;

/// A header, written by hand: whatever it claims.
struct Raw {
    bytes: Vec<u8>,
}

impl Raw {
    fn new(version: u32, tensors: u64, metadata: u64) -> Raw {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(version.to_le_bytes());
        bytes.extend(tensors.to_le_bytes());
        bytes.extend(metadata.to_le_bytes());
        Raw { bytes }
    }

    fn string(mut self, text: &str) -> Raw {
        write_string(&mut self.bytes, text);
        self
    }

    fn u32(mut self, n: u32) -> Raw {
        self.bytes.extend(n.to_le_bytes());
        self
    }

    fn u64(mut self, n: u64) -> Raw {
        self.bytes.extend(n.to_le_bytes());
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Raw {
        self.bytes.extend(bytes);
        self
    }

    fn key(self, key: &str, kind: ValueType) -> Raw {
        self.string(key).u32(kind.number())
    }

    /// A tensor of f32 with sizes in the file's order.
    fn tensor(self, name: &str, sizes: &[u64], offset: u64) -> Raw {
        let raw = self.string(name).u32(sizes.len() as u32);
        sizes.iter().fold(raw, |raw, size| raw.u64(*size)).u32(0).u64(offset)
    }

    /// Pads to 32 bytes, adds that many bytes of data, and reads all of it.
    fn open(mut self, data: usize) -> Result<Gguf, GgufError> {
        let base = self.bytes.len().next_multiple_of(32);
        self.bytes.resize(base + data, 0);
        self.open_unpadded()
    }

    fn open_unpadded(self) -> Result<Gguf, GgufError> {
        read_all(self.bytes)
    }
}

/// Reads every value and tensor; nothing may panic.
fn read_all(bytes: Vec<u8>) -> Result<Gguf, GgufError> {
    let gguf = Gguf::from_bytes(bytes)?;
    for (key, value) in gguf.metadata() {
        assert_eq!(gguf.value(key).map(|v| v.describe()), Some(value.describe()));
        if let Value::Array(array) = value {
            assert_eq!(array.iter().count(), array.len());
        }
    }
    for t in gguf.tensors() {
        assert_eq!(t.ggml_type.bytes(t.shape), Some(t.bytes.len()));
        assert_eq!(gguf.tensor(t.name)?.bytes.as_ptr(), t.bytes.as_ptr());
    }
    Ok(gguf)
}

/// Values of several kinds, and two tensors, the last of which ends with the file.
fn small() -> Vec<u8> {
    let mut writer = GgufWriter::new();
    writer.metadata("general.architecture", "llama").unwrap();
    writer.metadata("n", 3u32).unwrap();
    writer.array("words", ["a", "bc"]).unwrap();
    writer.metadata("yes", true).unwrap();
    writer.tensor("a", GgmlType::F32, &[2, 3], || Ok(vec![1; 24].into())).unwrap();
    writer.tensor("b", GgmlType::I8, &[32], || Ok(vec![2; 32].into())).unwrap();
    let mut file = Vec::new();
    writer.write(&mut file).unwrap();
    file
}

#[test]
fn every_truncation_is_an_error_and_no_changed_byte_panics() {
    let good = small();
    read_all(good.clone()).unwrap();
    for length in 0..good.len() {
        assert!(read_all(good[..length].to_vec()).is_err(), "cut to {length} bytes");
    }
    for position in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[position] ^= 1 << bit;
            let _ = read_all(bad);
        }
    }
}

#[test]
fn a_mapped_file_reads_as_its_bytes_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    std::fs::write(&path, small()).unwrap();
    let mapped = Gguf::open(&path).unwrap();
    assert_eq!(mapped.tensor("b").unwrap().bytes, [2; 32]);
    std::fs::write(&path, b"GGML").unwrap();
    let message = Gguf::open(&path).unwrap_err().to_string();
    assert!(message.contains("m.gguf: not a GGUF file: it begins with [71, 71, 77, 76]"), "{message}");
    std::fs::write(&path, b"").unwrap();
    assert!(Gguf::open(&path).is_err());
    assert!(matches!(Gguf::open(&dir.path().join("none")), Err(GgufError::File { .. })));
}

#[test]
fn versions_two_and_three_are_read_and_others_named() {
    for version in [2, 3] {
        assert_eq!(Raw::new(version, 0, 0).open(0).unwrap().version(), version);
    }
    for version in [0, 1, 4, 70000] {
        let error = Raw::new(version, 0, 0).open(0).unwrap_err();
        assert!(matches!(error, GgufError::Version { version: v } if v == version), "{error}");
    }
    let error = Raw::new(3u32.swap_bytes(), 0, 0).open(0).unwrap_err().to_string();
    assert_eq!(error, "GGUF version 3 in big-endian byte order; only little-endian files are read");
}

#[test]
fn metadata_that_lie_are_errors_with_the_value() {
    let string = ValueType::String;
    let array = ValueType::Array;
    let cases: [(Raw, &str); 12] = [
        (Raw::new(3, 0, u64::MAX), "a metadata key at byte 24 needs 8 bytes"),
        (Raw::new(3, 0, 1).u64(u64::MAX), "needs 18446744073709551615 bytes"),
        (Raw::new(3, 0, 1).key("k", string).u64(1 << 60), "a string of the metadata at byte"),
        (Raw::new(3, 0, 1).string("k").u32(13).u64(0), "\"k\": unknown value type 13; known are 0 to 12"),
        (Raw::new(3, 0, 1).key("k", ValueType::Bool).raw(&[2]), "\"k\": a bool is 2; it must be 0 or 1"),
        (Raw::new(3, 0, 1).key("k", array).u32(7).u64(2).raw(&[1, 9]), "\"k\": a bool is 9"),
        (Raw::new(3, 0, 1).key("k", array).u32(10).u64(u64::MAX / 2), "needs 18446744073709551615 bytes"),
        (Raw::new(3, 0, 1).key("k", array).u32(8).u64(u64::MAX), "a string of the metadata at byte"),
        (Raw::new(3, 0, 1).key("k", string).u64(2).raw(&[0xc3, 0x28]), "at byte 45 isn't UTF-8"),
        (Raw::new(3, 0, 1).u64(1).raw(&[0xff]).u32(0).raw(&[0]), "a metadata key at byte 32 isn't UTF-8"),
        (Raw::new(3, 0, 1).string(&"k".repeat(65536)).u32(0).raw(&[0]), "has 65536 bytes; at most 65535"),
        (
            Raw::new(3, 0, 2).key("k", ValueType::U8).raw(&[1]).key("k", ValueType::U8).raw(&[2]),
            "\"k\": it is there twice",
        ),
    ];
    for (raw, wanted) in cases {
        let message = raw.open_unpadded().unwrap_err().to_string();
        assert!(message.contains(wanted), "{message:?} should contain {wanted:?}");
    }
}

#[test]
fn arrays_in_arrays_are_read_to_a_depth() {
    let nested = |depth: usize| {
        let mut raw = Raw::new(3, 0, 1).key("k", ValueType::Array);
        for _ in 1..depth {
            raw = raw.u32(ValueType::Array.number()).u64(1);
        }
        raw.u32(ValueType::U8.number()).u64(3).raw(&[1, 2, 3]).open_unpadded()
    };
    let gguf = nested(4).unwrap();
    let mut array: super::super::Array<'_> = gguf.need("k").unwrap();
    while let Some(Value::Array(inner)) = array.iter().next() {
        array = inner;
    }
    assert_eq!(array.to_vec::<u8>().unwrap(), [1, 2, 3]);
    for depth in [5, 100_000] {
        let message = nested(depth).unwrap_err().to_string();
        assert!(message.contains("arrays in arrays, more than 4 deep"), "{message}");
    }
}

#[test]
fn tensors_that_lie_are_errors_with_the_value() {
    let one = || Raw::new(3, 1, 0);
    let two = || Raw::new(3, 2, 0);
    let cases = [
        (Raw::new(3, u64::MAX, 0), 0, "a tensor's description at byte 32 needs 4 bytes"),
        (one().tensor("t", &[9], 0), 32, "\"t\": it ends at byte 36 of the data, the file has 32"),
        (one().tensor("t", &[1], 64), 32, "\"t\": it ends at byte 68 of the data, the file has 32"),
        (one().tensor("t", &[1], 16), 32, "its place 16 isn't a multiple of the alignment 32"),
        (one().tensor("t", &[1], u64::MAX - 31), 32, "\"t\": it ends at byte 18446744073709551588"),
        (one().tensor("t", &[1], 1 << 62), 32, "\"t\": it ends at byte"),
        (one().tensor("t", &[u64::MAX, u64::MAX], 0), 32, "overflows"),
        (one().tensor("t", &[1 << 62, 4], 0), 32, "its shape [4, 4611686018427387904] overflows"),
        (one().tensor("t", &[1; 5], 0), 32, "5 axes; at most 4 are allowed"),
        (one().string("t").u32(u32::MAX), 32, "4294967295 axes"),
        (one().string("t").u32(1).u64(1).u32(99).u64(0), 32, "\"t\" has the unknown ggml type 99"),
        (one().string("t").u32(1).u64(33).u32(2).u64(0), 32, "[33] aren't blocks of 32, as q4_0 has"),
        (two().tensor("t", &[1], 0).tensor("t", &[1], 32), 64, "\"t\": it is there twice"),
        (two().tensor("t", &[9], 0).tensor("u", &[1], 32), 64, "\"u\": it overlaps tensor \"t\""),
        (two().tensor("t", &[1], 0).tensor("u", &[1], 0), 64, "overlaps"),
    ];
    for (raw, data, wanted) in cases {
        let message = raw.open(data).unwrap_err().to_string();
        assert!(message.contains(wanted), "{message:?} should contain {wanted:?}");
    }
    // In another order than their data, which is allowed; an empty one at the end of the file too.
    let raw = Raw::new(3, 3, 0).tensor("t", &[1], 32).tensor("u", &[8], 0).tensor("e", &[0], 64);
    assert_eq!(raw.open(36).unwrap().tensors().len(), 3);
}

#[test]
fn alignment_is_a_power_of_two() {
    let aligned = |n: u32| Raw::new(3, 0, 1).key(ALIGNMENT_KEY, ValueType::U32).u32(n).open(0);
    assert_eq!(aligned(64).unwrap().alignment(), 64);
    for n in [0, 24, 1 << 21] {
        let message = aligned(n).unwrap_err().to_string();
        assert!(message.contains(&format!("it is u32 {n}; it must be a power of two")), "{message}");
    }
    let text = Raw::new(3, 0, 1).key(ALIGNMENT_KEY, ValueType::String).string("32").open(0);
    assert!(text.unwrap_err().to_string().contains("it is string \"32\""));
}

#[test]
fn getters_name_key_found_and_wanted() {
    let gguf = Gguf::from_bytes(small()).unwrap();
    assert_eq!(gguf.need::<u64>("n").unwrap(), 3);
    assert_eq!(gguf.need::<f64>("n").unwrap(), 3.0);
    assert_eq!(gguf.get::<u32>("absent").unwrap(), None);
    let message = |r: Result<u32, GgufError>| r.unwrap_err().to_string();
    assert_eq!(
        message(gguf.need("absent")),
        "metadata \"absent\" is missing; it must be a whole number of 32 bits, 0 or more"
    );
    assert_eq!(
        message(gguf.need("general.architecture")),
        "metadata \"general.architecture\" is string \"llama\"; it must be a whole number of 32 bits, 0 or more"
    );
    assert_eq!(
        gguf.need::<Vec<u32>>("words").unwrap_err().to_string(),
        "metadata \"words\" is array of 2 string; it must be an array of whole numbers of 32 bits, 0 or more"
    );
    assert_eq!(gguf.tensor("c").unwrap_err().to_string(), "there is no tensor \"c\"");
}

/// Made by fixtures/make.py with llama.cpp's own package.
#[test]
fn a_file_of_other_software_reads_as_it_was_meant() {
    let gguf = read_all(include_bytes!("fixtures/python.gguf").to_vec()).unwrap();
    assert_eq!((gguf.version(), gguf.alignment()), (3, 64));
    let wanted = [
        ("general.architecture", Value::String("llama")),
        ("general.alignment", Value::U32(64)),
        ("test.u8", Value::U8(200)),
        ("test.i8", Value::I8(-100)),
        ("test.u16", Value::U16(60000)),
        ("test.i16", Value::I16(-30000)),
        ("test.u32", Value::U32(4_000_000_000)),
        ("test.i32", Value::I32(-2_000_000_000)),
        ("test.f32", Value::F32(0.1)),
        ("test.yes", Value::Bool(true)),
        ("test.text", Value::String("grüße")),
        ("test.u64", Value::U64(u64::MAX)),
        ("test.i64", Value::I64(i64::MIN)),
        ("test.f64", Value::F64(0.1)),
    ];
    let found: Vec<(&str, Value<'_>)> = gguf.metadata().collect();
    assert_eq!(found[..wanted.len()], wanted);
    assert_eq!(gguf.need::<Vec<&str>>("test.texts").unwrap(), ["", "a", "é"]);
    assert_eq!(gguf.need::<Vec<i32>>("test.numbers").unwrap(), [1, -2, 3]);
    let matrix = gguf.tensor("matrix").unwrap();
    assert_eq!(matrix.shape, [2, 3]);
    assert_eq!(matrix.to_f32().unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let blocks = gguf.tensor("blocks").unwrap();
    assert_eq!((blocks.ggml_type, blocks.shape), (GgmlType::Q4_0, &[2, 32][..]));
    assert_eq!(blocks.bytes, (0..36).collect::<Vec<u8>>());
}
