//! The error type of this crate.

use halite_hal::OpKind;

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with a benchmark.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device refused or failed.
    #[error(transparent)]
    Device(#[from] halite_hal::Error),
    /// The model can't be run.
    #[error(transparent)]
    Model(#[from] halite_models::Error),
    /// No op of that name.
    #[error("no op {name:?}; there are: {}", OpKind::NAMES.join(", "))]
    NoOp {
        /// The name as given.
        name: String,
    },
    /// Text that is not the output of a benchmark.
    #[error("not the JSON of `halite bench`: {reason}")]
    Report {
        /// What is wrong with it.
        reason: String,
    },
    /// Two reports without a common test.
    #[error("no test was measured in both reports")]
    NothingInCommon,
}
