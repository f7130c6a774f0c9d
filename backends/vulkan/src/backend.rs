//! Finds Vulkan devices and opens them.

use crate::VulkanDevice;
use crate::context::{Host, NO_DRIVER};
use crate::driver::VulkanDriver;
use crate::info;
use ash::Entry;
use halite_hal::{Backend, Device, DeviceInfo, DeviceOptions, Error, Result};
use std::sync::{Arc, OnceLock};

/// What makes devices appear.
const ADVICE: &str = "graphics drivers bring it, and Debian and Ubuntu have it as libvulkan1 (with \
    mesa-vulkan-drivers it offers the processor)";

/// The Vulkan backend. The loader is looked for when devices are first asked for.
#[derive(Default)]
pub struct VulkanBackend {
    library: Option<String>,
    host: OnceLock<Result<Arc<Host>, String>>,
}

impl VulkanBackend {
    /// With the system's loader.
    pub fn new() -> Self {
        Self::default()
    }

    /// With the loader in this file.
    pub fn with_library(path: impl Into<String>) -> Self {
        VulkanBackend { library: Some(path.into()), host: OnceLock::new() }
    }

    fn load(&self, validation: bool) -> Result<Arc<Host>, String> {
        let name =
            self.library.as_deref().unwrap_or(if cfg!(windows) { "vulkan-1.dll" } else { "libvulkan.so.1" });
        // SAFETY: the system's Vulkan loader, or what the program named in its place.
        let entry = unsafe {
            match &self.library {
                Some(path) => Entry::load_from(path),
                None => Entry::load(),
            }
        };
        let entry = entry
            .map_err(|e| format!("{name}, the loader of Vulkan drivers, was not found ({e}); {ADVICE}"))?;
        Host::new(entry, validation).map(Arc::new)
    }

    fn host(&self) -> &Result<Arc<Host>, String> {
        self.host.get_or_init(|| self.load(false))
    }

    pub(crate) fn driver(&self, index: usize, options: &DeviceOptions) -> Result<VulkanDriver> {
        let selector = format!("vulkan:{index}");
        let validation = options.validation
            || std::env::var_os("HALITE_VALIDATE").is_some_and(|v| !v.is_empty() && v != "0");
        let host = match validation {
            true => self.load(true),
            false => self.host().clone(),
        };
        let none = |reason: String, n: usize| {
            let available = (0..n).map(|i| format!("vulkan:{i}")).collect();
            Error::NoDevice { selector: selector.clone(), reason, available }
        };
        let host = host.map_err(|message| none(message, 0))?;
        let devices = host.physical_devices();
        let n = devices.len();
        let gone = || none(format!("there are {n} devices of kind vulkan"), n);
        let physical = *devices.get(index).ok_or_else(gone)?;
        VulkanDriver::open(host, physical, index, options)
    }
}

impl Backend for VulkanBackend {
    fn kind(&self) -> &str {
        "vulkan"
    }

    fn devices(&self) -> Vec<DeviceInfo> {
        let Ok(host) = self.host() else { return Vec::new() };
        host.physical_devices().into_iter().enumerate().map(|(i, p)| info::describe(host, p, i)).collect()
    }

    fn open(&self, index: usize, options: &DeviceOptions) -> Result<Arc<dyn Device>> {
        Ok(Arc::new(VulkanDevice::new(self.driver(index, options)?, options)?))
    }

    fn notes(&self) -> Vec<String> {
        match self.host() {
            Err(message) => vec![message.clone()],
            Ok(host) if host.physical_devices().is_empty() => {
                vec![NO_DRIVER.into()]
            }
            Ok(_) => Vec::new(),
        }
    }
}
