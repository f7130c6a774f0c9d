//! Finds wgpu's adapters and opens them.

use crate::WgpuDevice;
use crate::context::Context;
use crate::driver::WgpuDriver;
use crate::info;
use crate::instance::{self, SOUGHT};
use halite_hal::{Backend, Device, DeviceInfo, DeviceOptions, Error, Result};
use std::sync::{Arc, OnceLock};
use wgpu::{Backends, DownlevelFlags};

/// What the kernels need of an adapter beyond limits.
const NEEDED: DownlevelFlags = DownlevelFlags::COMPUTE_SHADERS.union(DownlevelFlags::SHADER_F16_IN_F32);

/// The wgpu backend, of kind `wgpu`: every adapter that can run compute kernels. The system's libraries are
/// looked for when devices are first asked for.
#[derive(Debug, Default)]
pub struct WgpuBackend {
    instance: OnceLock<Result<wgpu::Instance, String>>,
}

/// Adapters that kernels can run on, and a line on each other.
fn adapters(instance: &wgpu::Instance) -> (Vec<wgpu::Adapter>, Vec<String>) {
    let (mut usable, mut notes) = (Vec::new(), Vec::new());
    for adapter in pollster::block_on(instance.enumerate_adapters(Backends::all())) {
        let missing = NEEDED.difference(adapter.get_downlevel_capabilities().flags);
        if missing.is_empty() {
            usable.push(adapter);
        } else {
            let info = adapter.get_info();
            notes.push(format!("{} ({}) is not used: it lacks {missing:?}", info.name, info.backend));
        }
    }
    (usable, notes)
}

impl WgpuBackend {
    /// With all interfaces of the system that wgpu knows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the driver of device `index`, to make an engine of it. With `DeviceOptions::validation`, what the
    /// system's validation layers say goes to the `log` crate.
    ///
    /// # Errors
    /// When there is no such device, or it refuses.
    pub fn open_driver(&self, index: usize, options: &DeviceOptions) -> Result<WgpuDriver> {
        let failed = |message| Error::backend(format!("wgpu:{index}"), message);
        let adapters = match options.validation {
            true => adapters(&instance::make(true).map_err(failed)?).0,
            false => self.found().map_err(failed)?.0,
        };
        let gone = || failed(format!("there are {} devices", adapters.len()));
        let adapter = adapters.get(index).ok_or_else(gone)?;
        Ok(WgpuDriver::new(Context::open(adapter, index)?, info::of_adapter(adapter, index), options))
    }

    fn found(&self) -> Result<(Vec<wgpu::Adapter>, Vec<String>), String> {
        let instance = self.instance.get_or_init(|| instance::make(false));
        instance.as_ref().map(adapters).map_err(|e| format!("{e}; it looked for {SOUGHT}"))
    }
}

impl Backend for WgpuBackend {
    fn kind(&self) -> &str {
        "wgpu"
    }

    fn devices(&self) -> Vec<DeviceInfo> {
        let adapters = self.found().map_or(Vec::new(), |found| found.0);
        adapters.iter().enumerate().map(|(i, a)| info::of_adapter(a, i)).collect()
    }

    fn open(&self, index: usize, options: &DeviceOptions) -> Result<Arc<dyn Device>> {
        Ok(Arc::new(WgpuDevice::new(self.open_driver(index, options)?, options)?))
    }

    fn notes(&self) -> Vec<String> {
        match self.found() {
            Err(message) => vec![message],
            Ok((usable, mut notes)) => {
                if usable.is_empty() {
                    notes.push(format!("wgpu found no usable device; it looked for {SOUGHT}"));
                }
                notes
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_there_is_an_error() {
        let backend = WgpuBackend::new();
        let n = backend.devices().len();
        let e = backend.open(n, &DeviceOptions::default()).unwrap_err().to_string();
        assert!(e.starts_with(&format!("wgpu:{n}: ")), "{e}");
    }
}
