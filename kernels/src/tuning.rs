//! Choices of variants: which of an op's variants is used for which shapes.
//!
//! A [`Key`] is an op with dtypes, layout and a bucket of shapes; [`Choices`] give a variant for each, and say
//! which were excluded and why. They come from, in this order: what a program or a resumed run sets
//! ([`Device::set_tuning`](halite_hal::Device::set_tuning)), the user's file, which [`Tuner`] writes,
//! and the files of `kernels/tuned` for known classes of devices. Where none of them says anything, the first
//! variant of the kernel set is used. A choice that a device can't follow is passed over.

mod choices;
mod error;
mod key;
mod shipped;
mod tune;

pub use choices::{Choices, Excluded, Identity};
pub use error::TuningError;
pub use key::Key;
pub(crate) use shipped::shipped;
pub use tune::{Limits, Tuned, Tuner};
