//! Halite's CUDA backend.
//!
//! It runs on NVIDIA's GPUs of compute capability 8.0 and higher, with a driver for CUDA 12.0 or newer. The
//! driver's library and NVRTC, the compiler, are opened at run time; without them there are no devices, and a
//! note that says what is missing. With the feature `prebuilt-kernels` the kernels of usual models are compiled already, and
//! devices are there without NVRTC too. [`CudaDriver`] is the part that talks to CUDA; kernels arrive as CUDA C,
//! written from Halite's portable ones. A program that has a context and a stream already can have them adopted
//! with [`CudaDriver::from_context`].
//!
//! CUDA tells of a kernel that failed only when something waits for it. `HALITE_VALIDATE=1` in the environment,
//! or `DeviceOptions::validation`, makes every command be waited for, so that the error names the one that
//! failed.

mod backend;
mod context;
mod driver;
mod error;
mod handle;
mod info;
#[cfg(test)]
mod kernels_only;
mod memory;
mod nvrtc;
mod prebuilt;
mod prepared;
mod program;
mod queue;
mod staging;

pub use backend::CudaBackend;
pub use cudarc;
pub use driver::CudaDriver;
pub use memory::CudaMemory;
pub use prepared::CudaPrepared;
pub use program::CudaProgram;

/// A CUDA device.
pub type CudaDevice = halite_kernels::Engine<CudaDriver>;
