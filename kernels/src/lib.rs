//! Halite's portable kernels, and the engine that turns a driver into a device.

mod driver;
mod program;
pub mod writer;

pub use driver::{Command, Dispatch, Driver, Region, Ticket, Traits};
pub use program::{ENTRY, Kernel, Parsed, TranslateError};

/// The engine.
pub struct Engine;
