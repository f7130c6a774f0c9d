//! One Mixture-of-Experts stack, trained and served on any vendor's hardware.
//!
//! This crate joins the parts: [`hal`] says what a device is, [`models`] has the training and inference
//! stack written against it, and each backend is a cargo feature. [`registry`] lists the backends that
//! were compiled in; a program may add its own.
//!
//! ```
//! let registry = halite::registry();
//! let device = registry.open("auto", &halite::hal::DeviceOptions::default())?;
//! println!("{}", device.info().name);
//! # Ok::<(), halite::hal::Error>(())
//! ```

pub use halite_hal as hal;
#[cfg(feature = "kernels")]
pub use halite_kernels as kernels;
pub use halite_models as models;

#[cfg(feature = "cpu")]
pub use halite_cpu as cpu;
#[cfg(feature = "cuda")]
pub use halite_cuda as cuda;
#[cfg(feature = "opencl")]
pub use halite_opencl as opencl;
#[cfg(feature = "vulkan")]
pub use halite_vulkan as vulkan;
#[cfg(feature = "wgpu")]
pub use halite_wgpu as wgpu;

/// The backends that this build of Halite has.
pub fn registry() -> hal::Registry {
    #[allow(unused_mut)]
    let mut registry = hal::Registry::new();
    #[cfg(feature = "cpu")]
    registry.register(cpu::CpuBackend);
    #[cfg(feature = "cuda")]
    registry.register(cuda::CudaBackend);
    #[cfg(feature = "opencl")]
    registry.register(opencl::OpenClBackend);
    #[cfg(feature = "vulkan")]
    registry.register(vulkan::VulkanBackend::new());
    #[cfg(feature = "wgpu")]
    registry.register(wgpu::WgpuBackend::new());
    registry
}

/// The README's example, compiled and run.
#[cfg(all(doctest, feature = "cpu"))]
#[doc = include_str!("../README.md")]
struct Readme;
