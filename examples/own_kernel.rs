//! A kernel of the program's own, in WGSL, on the memory of a Halite device: the same text runs through
//! Vulkan and OpenCL.
//!
//! `cargo run --release --example own_kernel`

use halite::hal::{DType, Device, DeviceOptions, Error, Op, StreamId, TensorRef, UnaryFn};
use halite::kernels::{Driver, Engine};
use halite::opencl::OpenClDriver;
use halite::vulkan::VulkanDriver;

/// Binding 0 holds the parameters, bindings 1, 2, … the buffers. `main` is the entry point.
const BLUR: &str = "
    struct Params { n: u32, side: f32 }
    @group(0) @binding(0) var<uniform> params: Params;
    @group(0) @binding(1) var<storage, read> x: array<f32>;
    @group(0) @binding(2) var<storage, read_write> y: array<f32>;

    @compute @workgroup_size(64)
    fn main(@builtin(global_invocation_id) id: vec3<u32>) {
        let i = id.x;
        if i >= params.n { return; }
        let left = x[max(i, 1u) - 1u];
        let right = x[min(i + 1u, params.n - 1u)];
        y[i] = (1.0 - 2.0 * params.side) * x[i] + params.side * (left + right);
    }";

fn main() -> Result<(), Error> {
    let options = DeviceOptions::default();
    let mut found = false;
    match VulkanDriver::new(0, &options) {
        Ok(driver) => (found, _) = (true, blur(&Engine::new(driver, &options)?)?),
        Err(Error::NoDevice { .. }) => println!("no Vulkan device here: skipped"),
        Err(e) => return Err(e),
    }
    match OpenClDriver::new(0, &options) {
        Ok(driver) => (found, _) = (true, blur(&Engine::new(driver, &options)?)?),
        Err(Error::NoDevice { .. }) => println!("no OpenCL device here: skipped"),
        Err(e) => return Err(e),
    }
    if !found {
        println!("mesa-vulkan-drivers and pocl-opencl-icd (Debian, Ubuntu) offer the processor");
    }
    Ok(())
}

fn blur<D: Driver>(engine: &Engine<D>) -> Result<(), Error> {
    let (stream, n) = (StreamId(0), 1000u32);
    let bytes = 4 * u64::from(n);
    let (x, y) = (engine.allocate(bytes, 0)?, engine.allocate(bytes, 0)?);
    let line: Vec<u8> = (0..n).flat_map(|i| (i as f32).to_le_bytes()).collect();
    engine.upload(stream, &x, 0, &line)?;

    // SAFETY: it ends, and stays within its bindings as long as they have `n` elements.
    let kernel = unsafe { engine.compile("blur", BLUR) }?;
    // One word a parameter, in order; (buffer, first byte, bytes) a binding.
    let params = [n, 0.25f32.to_bits()];
    engine.dispatch(&kernel, &params, &[(&x, 0, bytes), (&y, 0, bytes)], [n.div_ceil(64), 1, 1])?;

    // Ops of Halite's, and all else on the stream, come before and after it in the order of the calls.
    let y_all = TensorRef::new(&y, DType::F32, &[n as usize]);
    engine.submit(stream, &[Op::unary(UnaryFn::Neg, y_all.clone(), y_all)])?;

    let blurred: Vec<f32> = engine.download(stream, &y, 0, bytes)?.wait_as()?;
    // A straight line stays as it is, except at its ends.
    assert_eq!((blurred[0], blurred[999]), (-0.25, -998.75));
    assert!(blurred.iter().enumerate().take(999).skip(1).all(|(i, &b)| b == -(i as f32)));
    println!("{}: the kernel ran", engine.info().name);
    Ok(())
}
