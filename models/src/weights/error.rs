//! What can be wrong with tensors and their files.

use std::path::PathBuf;

use safetensors::Dtype;

use super::write::BoxError;

/// Tensors that can't be read, don't fit, or can't be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// A file couldn't be opened, mapped or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The folder has neither `model.safetensors` nor `model.safetensors.index.json`.
    #[error(
        "{} is not a model folder: it has neither model.safetensors nor model.safetensors.index.json",
        dir.display()
    )]
    NoWeights {
        /// The folder.
        dir: PathBuf,
    },
    /// The file isn't a whole safetensors file.
    #[error("{}: not a complete safetensors file: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What doesn't fit.
        reason: String,
    },
    /// The index of a sharded model can't be used.
    #[error("{}: bad index: {reason}", path.display())]
    Index {
        /// The index file.
        path: PathBuf,
        /// What doesn't fit.
        reason: String,
    },
    /// Tensors that the configuration needs aren't there.
    #[error(
        "{}: {} of the model's tensors are missing: {}{}",
        path.display(), missing.len(), some(missing), others(unexpected)
    )]
    Missing {
        /// The file or folder.
        path: PathBuf,
        /// Names that are needed.
        missing: Vec<String>,
        /// Names that are there and belong to no parameter.
        unexpected: Vec<String>,
    },
    /// A tensor's shape isn't the configuration's.
    #[error("{}: tensor {name} has shape {found:?}; the configuration wants {wanted:?}", path.display())]
    Shape {
        /// The file or folder.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The parameter's shape.
        wanted: Vec<usize>,
    },
    /// A tensor's dtype has no conversion to the one asked for.
    #[error("tensor {name} has dtype {found}; it must be {wanted}")]
    Dtype {
        /// The tensor.
        name: String,
        /// Its dtype.
        found: Dtype,
        /// The dtypes that would do.
        wanted: &'static str,
    },
    /// A tensor's numbers can't be used.
    #[error("tensor {name}: {reason}")]
    Values {
        /// The tensor.
        name: String,
        /// What is wrong with them.
        reason: String,
    },
    /// A tensor to be written whose data or name doesn't fit.
    #[error("cannot write tensor {name}: {reason}")]
    Unwritable {
        /// The tensor.
        name: String,
        /// What doesn't fit.
        reason: String,
    },
    /// The provider of a tensor's data failed.
    #[error("cannot read the data of tensor {name}: {source}")]
    Source {
        /// The tensor.
        name: String,
        /// The provider's reason.
        source: BoxError,
    },
    /// The output refused bytes.
    #[error("cannot write tensors: {0}")]
    Write(#[from] std::io::Error),
}

/// The first few names.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 4;
    let mut text = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN {
        text.push_str(", …");
    }
    text
}

fn others(unexpected: &[String]) -> String {
    match unexpected.len() {
        0 => String::new(),
        n => format!("; {n} others are not the model's: {}", some(unexpected)),
    }
}
