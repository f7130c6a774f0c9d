//! What can go wrong with checkpoints.

use std::path::PathBuf;

use crate::config::ConfigError;
use crate::weights::WeightsError;

/// A checkpoint that can't be saved or loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file system refused; what was saved before is intact.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The run directory names no newest checkpoint.
    #[error("no checkpoint in {}{}", dir.display(), hint(available))]
    NoCheckpoint {
        /// The run directory.
        dir: PathBuf,
        /// Checkpoints that are there all the same.
        available: Vec<u64>,
    },
    /// There is no checkpoint of the step asked for.
    #[error("no checkpoint step-{step} in {}{}", dir.display(), hint(available))]
    NoSuchStep {
        /// The run directory.
        dir: PathBuf,
        /// The step asked for.
        step: u64,
        /// Steps that are there.
        available: Vec<u64>,
    },
    /// A checkpoint isn't what was saved.
    #[error("checkpoint {} is damaged: {damage}{}", dir.display(), advice(intact))]
    Damaged {
        /// The checkpoint's folder.
        dir: PathBuf,
        /// What is wrong.
        damage: Damage,
        /// The newest other checkpoint that is intact, earlier ones first.
        intact: Option<u64>,
    },
    /// A file of a snapshot has a name that can't be used.
    #[error("checkpoint file name \"{name}\" is taken or not a plain file name")]
    FileName {
        /// The name.
        name: String,
    },
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Tensors can't be read or written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

/// How a checkpoint's files differ from what was saved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// A file isn't there.
    #[error("{file} is missing")]
    Missing {
        /// The file.
        file: String,
    },
    /// A file is shorter than it was.
    #[error("{file} is truncated: {found} of {expected} bytes")]
    Truncated {
        /// The file.
        file: String,
        /// Its length when it was saved, in bytes.
        expected: u64,
        /// Its length now.
        found: u64,
    },
    /// A file has other content than it had.
    #[error("{file} was altered: SHA-256 is {found}, was {expected}")]
    Altered {
        /// The file.
        file: String,
        /// Its SHA-256 when it was saved, in hexadecimal.
        expected: String,
        /// Its SHA-256 now.
        found: String,
    },
    /// The manifest can't be used.
    #[error("manifest.json: {reason}")]
    Manifest {
        /// What is wrong with it.
        reason: String,
    },
    /// `state.json` doesn't hold a run's state.
    #[error("state.json: {reason}")]
    State {
        /// What is wrong with it.
        reason: String,
    },
}

fn hint(available: &[u64]) -> String {
    if available.is_empty() {
        return String::new();
    }
    let names: Vec<String> = available.iter().map(|s| format!("step-{s}")).collect();
    format!("; there are {}: choose one with --resume-from", names.join(", "))
}

fn advice(intact: &Option<u64>) -> String {
    match intact {
        Some(step) => format!("; step-{step} is intact: continue from it with --resume-from step-{step}"),
        None => "; no other checkpoint of the run is intact".into(),
    }
}
