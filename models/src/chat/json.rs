//! The filter `tojson` of chat templates, which gives what Python's `json.dumps` gives: a space after
//! separators, keys in their order, other characters than ASCII as they are.

use std::io::{self, Write};

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};
use serde::ser::{Error as _, SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;

use super::template::Limited;

/// The deepest nesting that is written.
const MAX_DEPTH: usize = 100;

/// The filter, with the keyword arguments that transformers has.
pub(super) fn tojson(value: Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<(String, String)> = match options.get::<Option<Vec<String>>>("separators")? {
        None => None,
        Some(pair) => match <[String; 2]>::try_from(pair) {
            Ok([item, key]) => Some((item, key)),
            Err(_) => return Err(Error::new(ErrorKind::InvalidOperation, "separators must be two strings")),
        },
    };
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    let sorted: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;
    let (item, key) = separators.unwrap_or_else(|| {
        // Python's: no space at a line's end.
        (if indent.is_some() { "," } else { ", " }.into(), ": ".into())
    });
    let layout = Layout { item, key, indent, ascii: ascii.unwrap_or(false), depth: 0, empty: true };
    let mut out = Limited::default();
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, layout);
    let node = Node(&value, MAX_DEPTH);
    let done = match sorted {
        // The maps of `serde_json` are sorted.
        Some(true) => serde_json::to_value(node).and_then(|json| json.serialize(&mut serializer)),
        _ => node.serialize(&mut serializer),
    };
    done.map_err(|e| Error::new(ErrorKind::BadSerialization, format!("tojson: {e}")))?;
    Ok(out.into_text())
}

/// A value, and how deep it may go.
struct Node<'a>(&'a Value, usize);

impl Serialize for Node<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Node(value, depth) = *self;
        let kind = value.kind();
        let nested = matches!(kind, ValueKind::Map | ValueKind::Seq | ValueKind::Iterable);
        if nested && depth == 0 {
            return Err(S::Error::custom("nested too deeply"));
        }
        match kind {
            ValueKind::Undefined => Err(S::Error::custom("the value is undefined")),
            ValueKind::Map => {
                let mut map = serializer.serialize_map(None)?;
                for key in value.try_iter().map_err(S::Error::custom)? {
                    let item = value.get_item(&key).map_err(S::Error::custom)?;
                    map.serialize_entry(&key, &Node(&item, depth - 1))?;
                }
                map.end()
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let mut seq = serializer.serialize_seq(None)?;
                for item in value.try_iter().map_err(S::Error::custom)? {
                    seq.serialize_element(&Node(&item, depth - 1))?;
                }
                seq.end()
            }
            _ => value.serialize(serializer),
        }
    }
}

/// How `json.dumps` lays it out.
struct Layout {
    item: String,
    key: String,
    indent: Option<usize>,
    ascii: bool,
    depth: usize,
    /// Whether the innermost list or object has nothing yet.
    empty: bool,
}

impl Layout {
    fn line<W: ?Sized + Write>(&self, out: &mut W) -> io::Result<()> {
        let Some(indent) = self.indent else { return Ok(()) };
        out.write_all(b"\n")?;
        (0..indent.saturating_mul(self.depth)).try_for_each(|_| out.write_all(b" "))
    }

    fn open<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.empty = true;
        out.write_all(bracket)
    }

    fn close<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if !self.empty {
            self.line(out)?;
        }
        self.empty = false;
        out.write_all(bracket)
    }

    fn begin<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.empty = false;
        if !first {
            out.write_all(self.item.as_bytes())?;
        }
        self.line(out)
    }
}

impl Formatter for Layout {
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.begin(out, first)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.begin(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(self.key.as_bytes())
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, text: &str) -> io::Result<()> {
        if !self.ascii {
            return out.write_all(text.as_bytes());
        }
        for c in text.chars() {
            if c.is_ascii() {
                out.write_all(&[c as u8])?;
            } else {
                c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}"))?;
            }
        }
        Ok(())
    }
}
