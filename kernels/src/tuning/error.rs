//! What can go wrong with files of choices.

use super::Identity;
use std::io;
use std::path::PathBuf;

/// Why choices can't be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TuningError {
    /// The file can't be read.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file can't be written.
    #[error("can't write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file isn't a file of choices, or is damaged.
    #[error("{}: not a file of tuned choices: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// The file was written by another version.
    #[error("{}: of version {found}; this version reads {wanted}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version that is read.
        wanted: u32,
    },
    /// The file holds for another device, driver or profile.
    #[error("{}: holds for {found}, not for {wanted}", path.display())]
    Device {
        /// The file.
        path: PathBuf,
        /// The device that it holds for.
        found: Box<Identity>,
        /// The device at hand.
        wanted: Box<Identity>,
    },
    /// It was asked to stop.
    #[error("tuning was stopped; what was found is kept")]
    Stopped,
    /// The device can't be opened (again).
    #[error(transparent)]
    Hal(#[from] halite_hal::Error),
}
