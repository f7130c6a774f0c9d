//! The error type of this crate.

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with models.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device refused or failed.
    #[error(transparent)]
    Device(#[from] halite_hal::Error),
    /// The configuration is impossible or not supported.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
}
