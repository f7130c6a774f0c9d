//! Tensors in safetensors files: opening model folders, checking them against a configuration,
//! converting, and writing.
//!
//! Files are memory-mapped, so opening a folder costs the headers only. Everything a header says is
//! checked against the file before it is used: a truncated or lying file is an error, never a panic.
//! A mapped file must not be cut short by another process while it is open.

mod convert;
mod error;
mod experts;
mod open;
mod quantized;
mod values;
mod write;

pub(crate) use convert::map_groups;
pub use error::WeightsError;
pub use experts::push_parameters;
pub use open::{TensorView, Weights};
pub use safetensors::Dtype;
pub use values::{ParameterSource, Values};
pub use write::{BoxError, TensorMeta, TensorSource, save_tensors, write_tensors};
