//! Finds wgpu's adapters and opens them.

use crate::WgpuDevice;
use crate::context::Context;
use crate::driver::WgpuDriver;
use crate::info;
use halite_hal::{Backend, Device, DeviceInfo, DeviceOptions, Error, Result};
use std::sync::{Arc, OnceLock};
use wgpu::{Backends, DownlevelFlags, InstanceFlags};

/// What wgpu looks for on this system, and what makes devices appear.
const SOUGHT: &str = if cfg!(windows) {
    "Direct3D 12 and Vulkan (vulkan-1.dll); both come with the graphics card's driver"
} else if cfg!(target_vendor = "apple") {
    "Metal, which is part of the system"
} else {
    "Vulkan (libvulkan.so.1); Debian/Ubuntu: libvulkan1 and the maker's driver, or mesa-vulkan-drivers"
};

/// What the kernels need of an adapter beyond limits.
const NEEDED: DownlevelFlags = DownlevelFlags::COMPUTE_SHADERS.union(DownlevelFlags::SHADER_F16_IN_F32);

/// The wgpu backend, of kind `wgpu`: every adapter that can run compute kernels. The system's libraries are
/// looked for when devices are first asked for.
#[derive(Debug)]
pub struct WgpuBackend {
    backends: Backends,
    instance: OnceLock<wgpu::Instance>,
}

impl Default for WgpuBackend {
    fn default() -> Self {
        WgpuBackend { backends: Backends::all(), instance: OnceLock::new() }
    }
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
        let adapters = match options.validation {
            true => self.adapters(&self.make_instance(true)).0,
            false => self.found().0,
        };
        let gone =
            || Error::backend(format!("wgpu:{index}"), format!("there are {} devices", adapters.len()));
        let adapter = adapters.get(index).ok_or_else(gone)?;
        Ok(WgpuDriver::new(Context::open(adapter, index)?, info::of_adapter(adapter, index), options))
    }

    fn make_instance(&self, validation: bool) -> wgpu::Instance {
        let mut desc = wgpu::InstanceDescriptor::new_without_display_handle();
        desc.backends = self.backends;
        // Conformance is for Halite's own suite to say.
        desc.flags = InstanceFlags::ALLOW_UNDERLYING_NONCOMPLIANT_ADAPTER;
        if validation {
            desc.flags |= InstanceFlags::VALIDATION | InstanceFlags::DEBUG;
        }
        wgpu::Instance::new(desc)
    }

    /// Adapters that kernels can run on, and a line on each other.
    fn adapters(&self, instance: &wgpu::Instance) -> (Vec<wgpu::Adapter>, Vec<String>) {
        let (mut usable, mut notes) = (Vec::new(), Vec::new());
        for adapter in pollster::block_on(instance.enumerate_adapters(self.backends)) {
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

    fn found(&self) -> (Vec<wgpu::Adapter>, Vec<String>) {
        self.adapters(self.instance.get_or_init(|| self.make_instance(false)))
    }
}

impl Backend for WgpuBackend {
    fn kind(&self) -> &str {
        "wgpu"
    }

    fn devices(&self) -> Vec<DeviceInfo> {
        self.found().0.iter().enumerate().map(|(i, a)| info::of_adapter(a, i)).collect()
    }

    fn open(&self, index: usize, options: &DeviceOptions) -> Result<Arc<dyn Device>> {
        Ok(Arc::new(WgpuDevice::new(self.open_driver(index, options)?, options)?))
    }

    fn notes(&self) -> Vec<String> {
        let (usable, mut notes) = self.found();
        if usable.is_empty() {
            notes.push(format!("wgpu found no usable device; it looked for {SOUGHT}"));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_interface_there_are_notes_and_no_devices() {
        let backend = WgpuBackend { backends: Backends::empty(), instance: OnceLock::new() };
        assert_eq!(backend.devices(), []);
        let [note] = &backend.notes()[..] else { panic!("one note") };
        assert!(note.contains(SOUGHT), "{note}");
        let e = backend.open(0, &DeviceOptions::default()).unwrap_err().to_string();
        assert_eq!(e, "wgpu:0: there are 0 devices");
    }
}
