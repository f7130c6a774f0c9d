//! Halite's OpenCL backend.
//!
//! It runs on any device with OpenCL 1.2 and a compiler, without extensions. [`OpenClDriver`] is the part
//! that talks to OpenCL; kernels arrive as OpenCL C, written from Halite's portable ones. A program that has
//! a context and a queue already can have them adopted with [`OpenClDriver::from_raw`].

mod backend;
mod driver;
mod error;
mod handle;
mod info;
mod memory;
mod prepared;
mod program;
mod queue;
mod quirks;

pub use backend::OpenClBackend;
pub use driver::OpenClDriver;
pub use memory::OpenClMemory;
pub use opencl3;
pub use prepared::OpenClPrepared;
pub use program::OpenClProgram;

/// An OpenCL device.
pub type OpenClDevice = halite_kernels::Engine<OpenClDriver>;
