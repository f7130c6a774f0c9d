//! The devices that OpenCL offers.

use crate::OpenClDriver;
use crate::info::scan;
use halite_hal::{Backend, Device, DeviceInfo, DeviceOptions, Result};
use halite_kernels::Engine;
use std::sync::Arc;

/// The OpenCL backend, of kind `opencl`: the devices of all drivers that the system's loader finds. The
/// loader is opened at run time; without it there are no devices, and a note.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenClBackend;

impl Backend for OpenClBackend {
    fn kind(&self) -> &str {
        "opencl"
    }

    fn devices(&self) -> Vec<DeviceInfo> {
        scan().0.into_iter().map(|found| found.info).collect()
    }

    fn open(&self, index: usize, options: &DeviceOptions) -> Result<Arc<dyn Device>> {
        Ok(Arc::new(Engine::new(OpenClDriver::new(index, options)?, options)?))
    }

    fn notes(&self) -> Vec<String> {
        scan().1
    }
}
