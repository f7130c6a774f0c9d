//! The devices that CUDA offers.

use crate::CudaDriver;
use crate::info::scan;
use halite_hal::{Backend, Device, DeviceInfo, DeviceOptions, Result};
use halite_kernels::Engine;
use std::sync::Arc;

/// The CUDA backend, of kind `cuda`: NVIDIA's GPUs of compute capability 8.0 and higher. The driver's library
/// and NVRTC are opened at run time; without them there are no devices, and a note. Where kernels are compiled already,
/// NVRTC may be missing.
#[derive(Clone, Copy, Debug, Default)]
pub struct CudaBackend;

impl Backend for CudaBackend {
    fn kind(&self) -> &str {
        "cuda"
    }

    fn devices(&self) -> Vec<DeviceInfo> {
        scan().0.into_iter().map(|found| found.info).collect()
    }

    fn open(&self, index: usize, options: &DeviceOptions) -> Result<Arc<dyn Device>> {
        Ok(Arc::new(Engine::new(CudaDriver::new(index, options)?, options)?))
    }

    fn notes(&self) -> Vec<String> {
        scan().1
    }
}
