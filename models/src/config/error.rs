//! What can be wrong with a configuration.

use std::path::PathBuf;

/// A configuration that can't be read, is inconsistent, or asks for what Halite doesn't have.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file couldn't be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The text isn't JSON.
    #[error("{}: not valid JSON: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why parsing stopped.
        source: serde_json::Error,
    },
    /// A key that has no default is absent or null.
    #[error("model configuration: `{key}` is missing; it must be {wanted}")]
    Missing {
        /// The key.
        key: String,
        /// What it must be.
        wanted: String,
    },
    /// A value that no model can have, or that contradicts another.
    #[error("model configuration: `{key}` is {value}; it must be {wanted}")]
    Invalid {
        /// The key.
        key: String,
        /// What was found.
        value: String,
        /// What would be right.
        wanted: String,
    },
    /// A valid configuration of something that Halite doesn't build.
    #[error("model configuration: {what} is not supported")]
    Unsupported {
        /// The feature.
        what: String,
    },
    /// No Hugging Face model type means the same as this configuration.
    #[error(
        "no Hugging Face model type can express this configuration ({}); \
         change it, or give up export (model type \"halite\")",
        reasons.join("; ")
    )]
    NotExportable {
        /// For each candidate type, the first thing in the way.
        reasons: Vec<String>,
    },
}

impl ConfigError {
    pub(super) fn invalid(key: &str, value: impl ToString, wanted: impl ToString) -> ConfigError {
        ConfigError::Invalid { key: key.into(), value: value.to_string(), wanted: wanted.to_string() }
    }

    pub(super) fn unsupported(what: impl ToString) -> ConfigError {
        ConfigError::Unsupported { what: what.to_string() }
    }
}
