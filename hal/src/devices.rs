//! Devices made of other devices, or of nothing: for tests, traces and new backends.

mod core_only;
mod forward;
mod null;
mod trace;

pub use core_only::CoreOnly;
pub use null::NullDevice;
pub use trace::{TraceDevice, TraceEvent};
