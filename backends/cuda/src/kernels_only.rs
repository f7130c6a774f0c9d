//! A device that does nothing, to see which kernels work needs.

use halite_hal::{DeviceInfo, DeviceKind, Readback, Result};
use halite_kernels::{Command, Driver, Kernel, Ticket};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};

/// A driver that keeps the kernels that it is to compile, and does nothing else.
#[derive(Debug)]
pub(crate) struct KernelsOnly {
    info: DeviceInfo,
    kernels: Mutex<HashSet<Kernel>>,
}

impl KernelsOnly {
    pub(crate) fn new(info: DeviceInfo) -> Self {
        KernelsOnly { info, kernels: Mutex::default() }
    }

    /// The kernels, by name.
    pub(crate) fn kernels(&self) -> Vec<Kernel> {
        let mut kernels: Vec<Kernel> = self.kernels.lock().unwrap().iter().cloned().collect();
        kernels.sort_by(|a, b| (&a.name, &a.text).cmp(&(&b.name, &b.text)));
        kernels
    }
}

/// A device of compute capability 8.0.
pub(crate) fn device_info() -> DeviceInfo {
    let mut info = DeviceInfo::new("cuda", 0, "of compute capability 8.0", DeviceKind::DiscreteGpu);
    info.subgroup_sizes = Some((32, 32));
    info.max_workgroup_size = 1024;
    info.max_workgroups = 65535;
    info.local_memory_bytes = 163 << 10;
    info.offset_alignment = 16;
    info.memory_bytes = 80 << 30;
    info.max_buffer_bytes = 80 << 30;
    info.max_binding_bytes = (4 << 30) - 4096;
    info.matrix = crate::info::matrix_shapes();
    info
}

impl Driver for KernelsOnly {
    type Memory = ();
    type Program = ();
    type Prepared = ();

    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn allocate(&self, _: u64) -> Result<()> {
        Ok(())
    }

    fn upload(&self, _: &Arc<()>, _: u64, _: &[u8]) -> Result<Ticket> {
        Ok(Ticket(0))
    }

    fn download(&self, _: &Arc<()>, _: u64, bytes: u64) -> Result<Readback> {
        Ok(Readback::ready(vec![0; bytes as usize]))
    }

    fn compile(&self, kernel: &Kernel) -> Result<()> {
        self.kernels.lock().unwrap().insert(kernel.clone());
        Ok(())
    }

    fn submit(&self, _: &[Command<Self>]) -> Result<Ticket> {
        Ok(Ticket(0))
    }

    fn prepare(&self, _: &[Command<Self>]) -> Result<()> {
        Ok(())
    }

    fn run(&self, _: &Arc<()>) -> Result<Ticket> {
        Ok(Ticket(0))
    }

    fn last(&self) -> Ticket {
        Ticket(0)
    }

    fn wait(&self, _: Ticket, _: bool) -> Result<bool> {
        Ok(true)
    }
}
