//! Halite's Vulkan backend: a [`Driver`](halite_kernels::Driver) for Vulkan 1.1 and newer.
//!
//! The loader is opened at run time. Timeline semaphores are used where the device has them, fences
//! otherwise. `HALITE_VALIDATE=1` in the environment, or `DeviceOptions::validation`, switches the Khronos
//! validation layer on, synchronization checks included; whatever it says is an error of the next call.

mod backend;
mod context;
mod driver;
mod info;
mod memory;
mod prepared;
mod program;
mod queue;

pub use ash;
pub use backend::VulkanBackend;
pub use driver::VulkanDriver;
pub use memory::VulkanMemory;
pub use prepared::VulkanPrepared;
pub use program::VulkanProgram;

/// A Vulkan device.
pub type VulkanDevice = halite_kernels::Engine<VulkanDriver>;
