//! What can be wrong with GGUF files.

use std::path::PathBuf;

use super::value::ValueType;

/// A GGUF file that can't be read, isn't the model that was looked for, or can't be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// What is wrong with the file at a path.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<GgufError>,
    },
    /// The system refused to open, map or write.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The first bytes aren't `GGUF`.
    #[error("not a GGUF file: it begins with {found:?}, not with b\"GGUF\"")]
    Magic {
        /// The first bytes, at most four.
        found: Vec<u8>,
    },
    /// Written on a machine of the other byte order.
    #[error("GGUF version {version} in big-endian byte order; only little-endian files are read")]
    BigEndian {
        /// The version.
        version: u32,
    },
    /// A version with another layout.
    #[error("GGUF version {version}; versions 2 and 3 are read")]
    Version {
        /// The version.
        version: u32,
    },
    /// The file ends before something that it must have.
    #[error("truncated: {what} at byte {at} needs {needed} bytes, {left} are left")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where, in bytes from the file's begin.
        at: usize,
        /// Bytes that it needs.
        needed: u64,
        /// Bytes that there are.
        left: usize,
    },
    /// A name or a string value isn't UTF-8.
    #[error("{what} at byte {at} isn't UTF-8")]
    NotUtf8 {
        /// What was being read.
        what: &'static str,
        /// Where its bytes begin.
        at: usize,
    },
    /// A key or a name beyond the format's limit.
    #[error("{what} at byte {at} has {length} bytes; at most 65535 are allowed")]
    LongName {
        /// What was being read.
        what: &'static str,
        /// Where it begins.
        at: usize,
        /// Its length in bytes.
        length: usize,
    },
    /// A metadata value that the format doesn't allow.
    #[error("metadata {key:?}: {reason}")]
    Metadata {
        /// The key.
        key: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A tensor that the format doesn't allow or that doesn't fit the file.
    #[error("tensor {name:?}: {reason}")]
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A tensor of a type that isn't known here.
    #[error("tensor {name:?} has the unknown ggml type {number}")]
    UnknownType {
        /// The tensor.
        name: String,
        /// The type's number.
        number: u32,
    },
    /// No metadata of that key.
    #[error("metadata {key:?} is missing; it must be {wanted}")]
    MissingKey {
        /// The key.
        key: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// Metadata of another type than was asked for.
    #[error("metadata {key:?} is {found}; it must be {wanted}")]
    WrongType {
        /// The key.
        key: String,
        /// The type of its value, and the value if it is short.
        found: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// No tensor of that name.
    #[error("there is no tensor {name:?}")]
    MissingTensor {
        /// The name.
        name: String,
    },
    /// The provider of a tensor's data failed.
    #[error("cannot read the data of tensor {name:?}: {source}")]
    Source {
        /// The tensor.
        name: String,
        /// The provider's reason.
        source: crate::weights::BoxError,
    },
    /// The file holds something that Halite doesn't build.
    #[error("{what} is not supported; {wanted}")]
    Unsupported {
        /// What was found.
        what: String,
        /// What would do.
        wanted: String,
    },
    /// The metadata describe no possible model.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
}

impl GgufError {
    pub(super) fn metadata(key: impl Into<String>, reason: impl Into<String>) -> GgufError {
        GgufError::Metadata { key: key.into(), reason: reason.into() }
    }

    pub(super) fn tensor(name: impl Into<String>, reason: impl Into<String>) -> GgufError {
        GgufError::Tensor { name: name.into(), reason: reason.into() }
    }

    /// The same, of the file at `path`.
    pub(crate) fn of(self, path: &std::path::Path) -> GgufError {
        GgufError::File { path: path.into(), source: Box::new(self) }
    }

    pub(super) fn unknown_value_type(key: &str, number: u32) -> GgufError {
        let last = ValueType::ALL.len() - 1;
        GgufError::metadata(key, format!("unknown value type {number}; known are 0 to {last}"))
    }
}
