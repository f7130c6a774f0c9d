//! Metadata values: what a key can hold, lent from the file.

use super::GgufError;
use super::cursor::Cursor;

/// Arrays in arrays that are read; files in use have none.
const MAX_DEPTH: usize = 4;

/// The kind of a metadata value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// Unsigned byte.
    U8,
    /// Signed byte.
    I8,
    /// Unsigned 16-bit integer.
    U16,
    /// Signed 16-bit integer.
    I16,
    /// Unsigned 32-bit integer.
    U32,
    /// Signed 32-bit integer.
    I32,
    /// IEEE 754 binary32.
    F32,
    /// Truth value: a byte that is 0 or 1.
    Bool,
    /// UTF-8 text.
    String,
    /// Values of one kind.
    Array,
    /// Unsigned 64-bit integer.
    U64,
    /// Signed 64-bit integer.
    I64,
    /// IEEE 754 binary64.
    F64,
}

impl ValueType {
    /// Every kind, by its number in files.
    pub const ALL: [ValueType; 13] = {
        use ValueType::*;
        [U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64]
    };

    /// The number in files.
    pub fn number(self) -> u32 {
        self as u32
    }

    fn read(cursor: &mut Cursor<'_>, key: &str) -> Result<ValueType, GgufError> {
        let number = cursor.u32("a value's type")?;
        let known = ValueType::ALL.get(number as usize).copied();
        known.ok_or_else(|| GgufError::unknown_value_type(key, number))
    }

    /// Bytes of a value, where all have the same.
    fn bytes(self) -> Option<u64> {
        use ValueType::*;
        match self {
            U8 | I8 | Bool => Some(1),
            U16 | I16 => Some(2),
            U32 | I32 | F32 => Some(4),
            U64 | I64 | F64 => Some(8),
            String | Array => None,
        }
    }

    /// The lower-case name.
    pub fn name(self) -> &'static str {
        use ValueType::*;
        match self {
            U8 => "u8",
            I8 => "i8",
            U16 => "u16",
            I16 => "i16",
            U32 => "u32",
            I32 => "i32",
            F32 => "f32",
            Bool => "bool",
            String => "string",
            Array => "array",
            U64 => "u64",
            I64 => "i64",
            F64 => "f64",
        }
    }
}

impl std::fmt::Display for ValueType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A metadata value. Texts and arrays are lent from the file.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs, reason = "the kinds of `ValueType`")]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(&'a str),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// Values of one kind, as bytes of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Array<'a> {
    item: ValueType,
    len: u64,
    /// The values, checked when they were read or encoded.
    bytes: &'a [u8],
}

impl<'a> Value<'a> {
    /// Its kind.
    pub fn kind(&self) -> ValueType {
        match self {
            Value::U8(_) => ValueType::U8,
            Value::I8(_) => ValueType::I8,
            Value::U16(_) => ValueType::U16,
            Value::I16(_) => ValueType::I16,
            Value::U32(_) => ValueType::U32,
            Value::I32(_) => ValueType::I32,
            Value::F32(_) => ValueType::F32,
            Value::Bool(_) => ValueType::Bool,
            Value::String(_) => ValueType::String,
            Value::Array(_) => ValueType::Array,
            Value::U64(_) => ValueType::U64,
            Value::I64(_) => ValueType::I64,
            Value::F64(_) => ValueType::F64,
        }
    }

    /// Reads a kind and a value of it, which belongs to `key`.
    pub(super) fn read(cursor: &mut Cursor<'a>, key: &str) -> Result<Value<'a>, GgufError> {
        let kind = ValueType::read(cursor, key)?;
        Value::read_as(cursor, kind, key, 0)
    }

    fn read_as(
        cursor: &mut Cursor<'a>,
        kind: ValueType,
        key: &str,
        depth: usize,
    ) -> Result<Value<'a>, GgufError> {
        const WHAT: &str = "a metadata value";
        /// A number of `N` bytes.
        fn of<'a, const N: usize>(cursor: &mut Cursor<'a>) -> Result<[u8; N], GgufError> {
            let bytes = cursor.take(N as u64, WHAT)?;
            Ok(bytes.try_into().expect("`take` gives as many bytes as were asked for"))
        }
        Ok(match kind {
            ValueType::U8 => Value::U8(u8::from_le_bytes(of(cursor)?)),
            ValueType::I8 => Value::I8(i8::from_le_bytes(of(cursor)?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(of(cursor)?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(of(cursor)?)),
            ValueType::U32 => Value::U32(u32::from_le_bytes(of(cursor)?)),
            ValueType::I32 => Value::I32(i32::from_le_bytes(of(cursor)?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(of(cursor)?)),
            ValueType::U64 => Value::U64(u64::from_le_bytes(of(cursor)?)),
            ValueType::I64 => Value::I64(i64::from_le_bytes(of(cursor)?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(of(cursor)?)),
            ValueType::Bool => match of(cursor)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return Err(bad_bool(key, other)),
            },
            ValueType::String => Value::String(cursor.string("a string of the metadata")?),
            ValueType::Array => Value::Array(Array::read(cursor, key, depth)?),
        })
    }

    /// Appends the value as in a file, without its kind.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Value::U8(v) => out.push(*v),
            Value::I8(v) => out.extend(v.to_le_bytes()),
            Value::U16(v) => out.extend(v.to_le_bytes()),
            Value::I16(v) => out.extend(v.to_le_bytes()),
            Value::U32(v) => out.extend(v.to_le_bytes()),
            Value::I32(v) => out.extend(v.to_le_bytes()),
            Value::F32(v) => out.extend(v.to_le_bytes()),
            Value::U64(v) => out.extend(v.to_le_bytes()),
            Value::I64(v) => out.extend(v.to_le_bytes()),
            Value::F64(v) => out.extend(v.to_le_bytes()),
            Value::Bool(v) => out.push(u8::from(*v)),
            Value::String(v) => write_string(out, v),
            Value::Array(v) => {
                out.extend(v.item.number().to_le_bytes());
                out.extend(v.len.to_le_bytes());
                out.extend(v.bytes);
            }
        }
    }

    /// Kind and value for errors, cut if it is long.
    pub(super) fn describe(&self) -> String {
        match self {
            Value::String(text) => {
                let cut = text.char_indices().nth(60).map_or(text.len(), |(i, _)| i);
                format!("string {:?}{}", &text[..cut], if cut < text.len() { "…" } else { "" })
            }
            Value::Array(array) => format!("array of {} {}", array.len, array.item),
            Value::Bool(v) => format!("bool {v}"),
            Value::F32(v) => format!("f32 {v}"),
            Value::F64(v) => format!("f64 {v}"),
            // Every other kind is an integer, and each fits.
            other => format!("{} {}", other.kind(), other.integer().unwrap_or_default()),
        }
    }

    /// The value of any integer kind.
    fn integer(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(v) => v.into(),
            Value::I8(v) => v.into(),
            Value::U16(v) => v.into(),
            Value::I16(v) => v.into(),
            Value::U32(v) => v.into(),
            Value::I32(v) => v.into(),
            Value::U64(v) => v.into(),
            Value::I64(v) => v.into(),
            _ => return None,
        })
    }
}

pub(super) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn bad_bool(key: &str, byte: u8) -> GgufError {
    GgufError::metadata(key, format!("a bool is {byte}; it must be 0 or 1"))
}

impl<'a> Array<'a> {
    fn read(cursor: &mut Cursor<'a>, key: &str, depth: usize) -> Result<Array<'a>, GgufError> {
        const WHAT: &str = "an array of the metadata";
        if depth == MAX_DEPTH {
            let reason = format!("arrays in arrays, more than {MAX_DEPTH} deep");
            return Err(GgufError::metadata(key, reason));
        }
        let item = ValueType::read(cursor, key)?;
        let len = cursor.u64(WHAT)?;
        let Some(each) = item.bytes() else {
            // Walked through a copy, which says how many bytes they are.
            let mut walk = *cursor;
            for _ in 0..len {
                Value::read_as(&mut walk, item, key, depth + 1)?;
            }
            let bytes = cursor.take((walk.at() - cursor.at()) as u64, WHAT)?;
            return Ok(Array { item, len, bytes });
        };
        // A product too large is more than any file has.
        let bytes = cursor.take(len.saturating_mul(each), WHAT)?;
        if item == ValueType::Bool
            && let Some(other) = bytes.iter().find(|b| **b > 1)
        {
            return Err(bad_bool(key, *other));
        }
        Ok(Array { item, len, bytes })
    }

    /// The kind of its values.
    pub fn item(&self) -> ValueType {
        self.item
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        // Each of them takes a byte at least, so that there are no more than can be addressed.
        self.len as usize
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its values in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let (mut cursor, item) = (Cursor::new(self.bytes), self.item);
        // They were read before, so that no value is an error, and arrays aren't too deep.
        (0..self.len).map_while(move |_| Value::read_as(&mut cursor, item, "", 0).ok())
    }

    /// Its values as `T`s; `None` if they are of another kind.
    pub fn to_vec<T: FromValue<'a>>(&self) -> Option<Vec<T>> {
        self.iter().map(|value| T::from_value(&value)).collect()
    }
}

/// What metadata can be asked for as: see [`Gguf::get`](super::Gguf::get). Integers are taken from any
/// integer kind that holds a number in range, floats from any number.
pub trait FromValue<'a>: Sized {
    /// What a value must be, for errors.
    const WANTED: &'static str;

    /// The value, if it is one.
    fn from_value(value: &Value<'a>) -> Option<Self>;
}

/// What arrays can be written of.
pub trait Item<'a>: Into<Value<'a>> {
    /// The kind of such values.
    const KIND: ValueType;
}

/// A value of one variant: into it, and as an item of arrays.
macro_rules! values {
    ($($type:ty: $variant:ident),*) => {$(
        impl<'a> From<$type> for Value<'a> {
            fn from(value: $type) -> Value<'a> {
                Value::$variant(value)
            }
        }

        impl<'a> Item<'a> for $type {
            const KIND: ValueType = ValueType::$variant;
        }
    )*};
}

values!(u8: U8, i8: I8, u16: U16, i16: I16, u32: U32, i32: I32, u64: U64, i64: I64, f32: F32, f64: F64);
values!(bool: Bool, &'a str: String, Array<'a>: Array);

macro_rules! from_integers {
    ($($type:ty: $wanted:literal),*) => {$(
        impl<'a> FromValue<'a> for $type {
            const WANTED: &'static str = $wanted;

            fn from_value(value: &Value<'a>) -> Option<$type> {
                value.integer()?.try_into().ok()
            }
        }
    )*};
}

from_integers!(
    u8: "a whole number from 0 to 255",
    u32: "a whole number of 32 bits, 0 or more",
    i32: "a whole number of 32 bits",
    u64: "a whole number, 0 or more",
    i64: "a whole number",
    usize: "a whole number, 0 or more"
);

impl<'a> FromValue<'a> for f64 {
    const WANTED: &'static str = "a number";

    fn from_value(value: &Value<'a>) -> Option<f64> {
        match *value {
            Value::F32(v) => Some(v.into()),
            Value::F64(v) => Some(v),
            _ => value.integer().map(|v| v as f64),
        }
    }
}

impl<'a> FromValue<'a> for f32 {
    const WANTED: &'static str = "a number";

    fn from_value(value: &Value<'a>) -> Option<f32> {
        f64::from_value(value).map(|v| v as f32)
    }
}

impl<'a> FromValue<'a> for bool {
    const WANTED: &'static str = "a bool";

    fn from_value(value: &Value<'a>) -> Option<bool> {
        match *value {
            Value::Bool(v) => Some(v),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for &'a str {
    const WANTED: &'static str = "a string";

    fn from_value(value: &Value<'a>) -> Option<&'a str> {
        match *value {
            Value::String(v) => Some(v),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for Array<'a> {
    const WANTED: &'static str = "an array";

    fn from_value(value: &Value<'a>) -> Option<Array<'a>> {
        match *value {
            Value::Array(v) => Some(v),
            _ => None,
        }
    }
}

/// Every item must be a `T`.
macro_rules! from_arrays {
    ($($type:ty: $wanted:literal),*) => {$(
        impl<'a> FromValue<'a> for Vec<$type> {
            const WANTED: &'static str = $wanted;

            fn from_value(value: &Value<'a>) -> Option<Vec<$type>> {
                Array::from_value(value)?.to_vec()
            }
        }
    )*};
}

from_arrays!(
    u32: "an array of whole numbers of 32 bits, 0 or more",
    i32: "an array of whole numbers of 32 bits",
    u64: "an array of whole numbers, 0 or more",
    f32: "an array of numbers",
    f64: "an array of numbers",
    bool: "an array of bools",
    &'a str: "an array of strings"
);
