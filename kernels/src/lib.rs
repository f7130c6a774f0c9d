//! Halite's portable kernels, and the engine that turns a driver into a device.

mod cache;
mod driver;
mod engine;
mod fusion;
mod identity;
mod lowering;
mod program;
mod quirks;
mod set;
mod sets;
mod source;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tuning;
pub mod writer;

pub use cache::{Cache, digest};
pub use driver::{Command, Dispatch, Driver, Region, Ticket, Traits};
pub use engine::{Engine, HostKernel};
pub use identity::{uuid, vendor};
pub use lowering::{Launch, LaunchBuilder, Lowering};
pub use program::{ENTRY, Kernel, Language, Parsed, TranslateError};
pub use quirks::{Avoid, Quirk, vulkan_quirks};
pub use set::{KernelSet, Variant};
pub use source::{Access, Literal, Source, Template};
