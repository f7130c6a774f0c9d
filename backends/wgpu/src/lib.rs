//! Halite's wgpu backend: a [`Driver`](halite_kernels::Driver) for wgpu, and with it for Metal, Direct3D 12
//! and Vulkan.
//!
//! The system's libraries are opened at run time. Kernels go to wgpu as they are, in WGSL, without the checks
//! that it would add to programs from strangers. A program that has a wgpu device of its own can have it
//! adopted with [`WgpuDriver::from_device_queue`].

mod backend;
mod context;
mod driver;
mod info;
mod instance;
mod memory;
mod prepared;
mod program;
mod queue;

pub use backend::WgpuBackend;
pub use driver::WgpuDriver;
pub use memory::WgpuMemory;
pub use prepared::WgpuPrepared;
pub use program::WgpuProgram;
pub use wgpu;

/// A wgpu device.
pub type WgpuDevice = halite_kernels::Engine<WgpuDriver>;
