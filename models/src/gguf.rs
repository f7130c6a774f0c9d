//! GGUF files: metadata and tensors as llama.cpp and its relatives write them.
//!
//! [`Gguf`] reads versions 2 and 3, memory-mapped: opening costs the header only, values and bytes are
//! lent from the file. Everything a header says is checked against the file before it is used, so that a
//! truncated or lying file is an error, never a panic, and no claimed count is reserved memory for. A
//! mapped file must not be cut short by another process while it is open. [`GgufWriter`] writes version 3,
//! one tensor in memory at a time.
//!
//! [`GgufModel`] finds a model in a file: its configuration, and each parameter's bytes with rows in
//! Hugging Face's order. [`GgufExport`] is the way back.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod architecture;
mod config;
mod cursor;
mod error;
mod expand;
mod export;
mod latent;
mod model;
mod names;
mod read;
mod types;
mod value;
mod vocab;
mod write;

pub use error::GgufError;
pub use expand::{expand, expands};
pub use export::{ExportTensor, GgufExport};
pub use model::{GgufModel, GgufParameter};
pub use names::GgufPlace;
pub use read::{Gguf, GgufTensor};
pub use types::GgmlType;
pub use value::{Array, FromValue, Item, Value, ValueType};
pub use write::GgufWriter;

/// The alignment of tensors where `general.alignment` is absent, in bytes.
pub const DEFAULT_ALIGNMENT: usize = 32;

/// The largest alignment that is read or written: a writer pads by as much.
const MAX_ALIGNMENT: usize = 1 << 20;

/// Axes that a tensor may have.
const MAX_AXES: usize = 4;

/// The key of the alignment.
const ALIGNMENT_KEY: &str = "general.alignment";
