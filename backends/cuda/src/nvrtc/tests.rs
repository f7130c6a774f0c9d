//! What NVRTC makes of sources: sound ones, faulty ones, and every kernel.

mod machine_code;
mod sass;

use super::*;
use crate::kernels_only::{KernelsOnly, device_info};
use halite_hal::DeviceOptions;
use halite_hal::conformance::{self, Options, Variants};
use halite_kernels::testing::slice;
use halite_kernels::{Engine, Kernel};

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

/// All variants for the ops of the conformance suite: every `20 n`th case from the `i`th on, where
/// `HALITE_SLICE=i/n`, since compiling takes long.
#[test]
fn every_kernel_compiles() {
    let Some(nvrtc) = here() else { return };
    let (i, n) = slice();
    let mut options = Options::default();
    options.slice = Some((i, 20 * n));
    options.variants = Variants::Each;

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
