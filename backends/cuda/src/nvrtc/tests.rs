//! What NVRTC makes of sources: sound ones, faulty ones, and every kernel.

mod machine_code;
mod sass;

use super::*;
use halite_hal::conformance::{self, Options};
use halite_hal::{DeviceInfo, DeviceKind, DeviceOptions, Readback, Result};
use halite_kernels::testing::slice;
use halite_kernels::{Command, Driver, Engine, Kernel, Ticket};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};

/// The compiler, or a line that says that there is none.
fn here() -> Option<&'static Nvrtc> {
    get().map_err(|why| println!("skipped: {why}")).ok()
}

#[test]
fn cuda_c_becomes_ptx_and_errors_name_the_place() {
    let Some(nvrtc) = here() else { return };
    let ptx = nvrtc.compile("extern \"C\" __global__ void f(float *x) { x[threadIdx.x] *= 2.0f; }").unwrap();
    let text = CStr::from_bytes_with_nul(&ptx).unwrap().to_str().unwrap();
    assert!(text.contains(".visible .entry f(") && text.contains(".target sm_80"), "{text}");
    let e =
        nvrtc.compile("extern \"C\" __global__ void f(float *x) {\n x[0] = no_such_thing; }").unwrap_err();
    assert!(e.contains("kernel.cu(2)") && e.contains("no_such_thing"), "{e}");
    assert!(nvrtc.compile("a\0b").is_err());
}

/// A driver that keeps the kernels that it is to compile, and does nothing else.
#[derive(Debug)]
struct KernelsOnly {
    info: DeviceInfo,
    kernels: Mutex<HashSet<Kernel>>,
}

impl KernelsOnly {
    fn new(info: DeviceInfo) -> Self {
        KernelsOnly { info, kernels: Mutex::default() }
    }

    /// The kernels, by name.
    fn kernels(&self) -> Vec<Kernel> {
        let mut kernels: Vec<Kernel> = self.kernels.lock().unwrap().iter().cloned().collect();
        kernels.sort_by(|a, b| (&a.name, &a.text).cmp(&(&b.name, &b.text)));
        kernels
    }
}

/// A device of compute capability 8.0.
fn device_info() -> DeviceInfo {
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

/// All variants for the ops of the conformance suite: every `20 n`th case from the `i`th on, where
/// `HALITE_SLICE=i/n`, since compiling takes long.
#[test]
fn every_kernel_compiles() {
    let Some(nvrtc) = here() else { return };
    let (i, n) = slice();
    let mut options = Options::default();
    options.slice = Some((i, 20 * n));
    options.variants = true;

    let engine = Engine::new(KernelsOnly::new(device_info()), &DeviceOptions::default()).unwrap();
    // What it computes is wrong.
    conformance::run(&engine, &options);
    let kernels = engine.driver().kernels();
    let refusal = |kernel: &Kernel| {
        let compiled = kernel.to_cuda_c().map_err(|e| e.to_string());
        let compiled = compiled
            .and_then(|native| nvrtc.compile(&native.text).map_err(|log| format!("{log}\n{}", native.text)));
        compiled.err().map(|why| format!("{}: {why}", kernel.name))
    };
    let refused: Vec<String> = kernels.iter().filter_map(refusal).collect();
    assert!(refused.is_empty(), "{} kernels are refused; the first: {}", refused.len(), refused[0]);
    println!("{} kernels", kernels.len());
    assert!(kernels.len() > 50);
}
