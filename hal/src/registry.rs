//! Finds devices by selector.

use crate::devices::CoreOnly;
use crate::{Device, DeviceInfo, DeviceKind, DeviceOptions, Error, Result};
use std::fmt;
use std::sync::Arc;

/// A backend: devices of one kind.
pub trait Backend: Send + Sync {
    /// The kind, as in selectors: `cpu`, `vulkan`, …
    fn kind(&self) -> &str;

    /// The devices that are there; device `i` has the selector `kind:i`. Absence is no error.
    fn devices(&self) -> Vec<DeviceInfo>;

    /// Opens device `index`.
    fn open(&self, index: usize, options: &DeviceOptions) -> Result<Arc<dyn Device>>;

    /// What was looked for and not found, and what would make it appear; a line each.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What a selector string asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// `auto`: the device that is likely fastest.
    Auto,
    /// `all`: every device.
    All,
    /// `kind` or `kind:index`.
    One {
        /// The backend's kind.
        kind: String,
        /// Which of its devices.
        index: usize,
    },
}

impl std::str::FromStr for Selector {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "auto" => return Ok(Selector::Auto),
            "all" => return Ok(Selector::All),
            _ => {}
        }
        let (kind, index) = s.split_once(':').unwrap_or((s, "0"));
        if kind.is_empty() {
            return Err("a selector is auto, all, a kind such as cpu, or kind:number".into());
        }
        let index = index.parse().map_err(|_| format!("{index:?} is not a device number"))?;
        Ok(Selector::One { kind: kind.into(), index })
    }
}

/// The backends that a program offers.
#[derive(Default)]
pub struct Registry {
    backends: Vec<Box<dyn Backend>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.backends.iter().map(|b| b.kind())).finish()
    }
}

impl Registry {
    /// Without backends.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a backend; one of the same kind is replaced.
    pub fn register(&mut self, backend: impl Backend + 'static) {
        self.backends.retain(|b| b.kind() != backend.kind());
        self.backends.push(Box::new(backend));
    }

    /// Every device of every backend, in order of registration.
    pub fn devices(&self) -> Vec<DeviceInfo> {
        self.backends.iter().flat_map(|b| b.devices()).collect()
    }

    /// What the backends looked for: `(kind, line)`.
    pub fn notes(&self) -> Vec<(String, String)> {
        let of =
            |b: &dyn Backend| b.notes().into_iter().map(|n| (b.kind().to_string(), n)).collect::<Vec<_>>();
        self.backends.iter().flat_map(|b| of(&**b)).collect()
    }

    /// The devices that a selector names; several may be separated by commas.
    pub fn find(&self, selector: &str) -> Result<Vec<DeviceInfo>> {
        let devices = self.devices();
        let missing = |s: &str, reason: String| Error::NoDevice {
            selector: s.into(),
            reason,
            available: devices
                .iter()
                .map(|d| d.selector.clone())
                .chain(["auto".into(), "all".into()])
                .collect(),
        };
        let mut found: Vec<DeviceInfo> = Vec::new();
        for part in selector.split(',').map(str::trim) {
            let matching: Vec<&DeviceInfo> = match part.parse().map_err(|reason| missing(part, reason))? {
                Selector::All => devices.iter().collect(),
                Selector::Auto => fastest(&devices).into_iter().collect(),
                Selector::One { kind, index } => {
                    let wanted = format!("{kind}:{index}");
                    let one: Vec<_> = devices.iter().filter(|d| d.selector == wanted).collect();
                    if one.is_empty() {
                        let n = devices.iter().filter(|d| d.backend == kind).count();
                        let count = format!("there are {n} devices of kind {kind}");
                        let reason = match self.backends.iter().find(|b| b.kind() == kind) {
                            Some(b) if n == 0 => [vec![count], b.notes()].concat().join("; "),
                            Some(_) => count,
                            None => format!("the kind {kind:?} is unknown"),
                        };
                        return Err(missing(part, reason));
                    }
                    one
                }
            };
            if matching.is_empty() {
                return Err(missing(part, "no backend found a device".into()));
            }
            for d in matching {
                if !found.iter().any(|f| f.selector == d.selector) {
                    found.push(d.clone());
                }
            }
        }
        Ok(found)
    }

    /// Opens the one device that a selector names.
    pub fn open(&self, selector: &str, options: &DeviceOptions) -> Result<Arc<dyn Device>> {
        let found = self.find(selector)?;
        let [info] = &found[..] else {
            return Err(Error::NoDevice {
                selector: selector.into(),
                reason: format!("it names {} devices, one is needed", found.len()),
                available: found.iter().map(|d| d.selector.clone()).collect(),
            });
        };
        self.open_info(info, options)
    }

    /// Opens every device that a selector names.
    pub fn open_all(&self, selector: &str, options: &DeviceOptions) -> Result<Vec<Arc<dyn Device>>> {
        self.find(selector)?.iter().map(|info| self.open_info(info, options)).collect()
    }

    fn open_info(&self, info: &DeviceInfo, options: &DeviceOptions) -> Result<Arc<dyn Device>> {
        let absent = || Error::backend(&info.selector, "the device has disappeared");
        let backend = self.backends.iter().find(|b| b.kind() == info.backend).ok_or_else(absent)?;
        let index = backend.devices().iter().position(|d| d.selector == info.selector).ok_or_else(absent)?;
        let device = backend.open(index, options)?;
        Ok(match options.profile {
            Some(p) if p.core_only => Arc::new(CoreOnly::new(device)),
            _ => device,
        })
    }
}

/// Hardware before software, GPUs of their own memory first; among equals the one with more memory,
/// then the first.
fn fastest(devices: &[DeviceInfo]) -> Option<&DeviceInfo> {
    let rank = |d: &DeviceInfo| match d.kind {
        DeviceKind::Software => 0,
        DeviceKind::Cpu => 1,
        DeviceKind::IntegratedGpu | DeviceKind::Accelerator => 2,
        DeviceKind::DiscreteGpu => 3,
    };
    devices.iter().rev().max_by_key(|d| (rank(d), d.memory_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::NullDevice;

    struct Fake(&'static str, usize);

    impl Backend for Fake {
        fn kind(&self) -> &str {
            self.0
        }
        fn devices(&self) -> Vec<DeviceInfo> {
            (0..self.1).map(|i| DeviceInfo::new(self.0, i, "fake", DeviceKind::Cpu)).collect()
        }
        fn notes(&self) -> Vec<String> {
            vec!["the package fake-drivers has one".into()]
        }
        fn open(&self, index: usize, _: &DeviceOptions) -> Result<Arc<dyn Device>> {
            Ok(Arc::new(NullDevice::new(self.devices().swap_remove(index))))
        }
    }

    #[test]
    fn selectors_find_devices_or_say_what_is_there() {
        let mut r = Registry::new();
        r.register(Fake("cpu", 1));
        r.register(Fake("toy", 2));
        let names = |s: &str| r.find(s).map(|v| v.iter().map(|d| d.selector.clone()).collect::<Vec<_>>());
        assert_eq!(names("cpu").unwrap(), ["cpu:0"]);
        assert_eq!(names("toy:1,cpu,toy:1").unwrap(), ["toy:1", "cpu:0"]);
        assert_eq!(names("all").unwrap().len(), 3);
        assert_eq!(names("auto").unwrap(), ["cpu:0"]);
        for bad in ["toy:2", "cuda", "", "cpu:x", ":1"] {
            let e = names(bad).unwrap_err().to_string();
            assert!(e.contains("toy:1") && e.contains("cpu:0"), "{e}");
        }
        r.register(Fake("absent", 0));
        let e = r.find("absent").unwrap_err().to_string();
        assert!(e.contains("there are 0 devices of kind absent; the package fake-drivers has one"), "{e}");
        assert!(r.open("all", &DeviceOptions::default()).is_err());
        assert_eq!(r.open("toy:1", &DeviceOptions::default()).unwrap().info().selector, "toy:1");
    }
}
