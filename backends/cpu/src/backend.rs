//! The backend: the one device that every host has.

use crate::{CpuDevice, info};
use halite_hal::{Backend, Device, DeviceInfo, DeviceOptions, Error, Result};
use std::sync::Arc;

/// The kind `cpu`: one device, the host's processor.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuBackend;

impl Backend for CpuBackend {
    fn kind(&self) -> &str {
        "cpu"
    }

    fn devices(&self) -> Vec<DeviceInfo> {
        vec![info::describe()]
    }

    fn open(&self, index: usize, options: &DeviceOptions) -> Result<Arc<dyn Device>> {
        if index != 0 {
            return Err(Error::NoDevice {
                selector: format!("cpu:{index}"),
                reason: "the host's processor is one device".into(),
                available: vec!["cpu:0".into()],
            });
        }
        Ok(Arc::new(CpuDevice::new(options)?))
    }
}
