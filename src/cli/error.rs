//! What can go wrong on the command line.

use std::path::PathBuf;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Hal(#[from] halite::hal::Error),
    #[error(transparent)]
    Tuning(#[from] halite::kernels::tuning::TuningError),
    #[error(transparent)]
    Models(#[from] halite::models::Error),
    #[error(transparent)]
    Bench(#[from] halite_bench::Error),
    #[error("can't {action} {}: {source}", path.display())]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{}{}: {reason}", path.display(), line.map(|n| format!(", line {n}")).unwrap_or_default())]
    Settings { path: PathBuf, line: Option<usize>, reason: String },
    #[error("standard output: {0}")]
    Output(#[from] std::io::Error),
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// Whether standard output was closed by its reader.
    pub fn is_broken_pipe(&self) -> bool {
        let closed = |e: &std::io::Error| e.kind() == std::io::ErrorKind::BrokenPipe;
        match self {
            Error::Output(e) => closed(e),
            Error::Json(e) => e.io_error_kind() == Some(std::io::ErrorKind::BrokenPipe),
            _ => false,
        }
    }
}

/// Errors of the model crate's parts, as its own.
macro_rules! from_models {
    ($($part:ty),*) => {
        $(impl From<$part> for Error {
            fn from(e: $part) -> Self {
                Error::Models(e.into())
            }
        })*
    };
}

from_models!(
    halite::models::chat::TemplateError,
    halite::models::config::ConfigError,
    halite::models::data::DataError,
    halite::models::tokenizer::TokenizerError,
    halite::models::weights::WeightsError,
    halite::models::checkpoint::CheckpointError
);
