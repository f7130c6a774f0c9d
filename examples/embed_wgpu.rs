//! Halite beside a program's own use of wgpu: one device and queue for both, and no copies between them.
//!
//! `cargo run --release --example embed_wgpu`

use halite::hal::{DType, Device, DeviceOptions, Op, StreamId, TensorRef, UnaryFn};
use halite::wgpu::{WgpuDevice, WgpuDriver, wgpu};
use wgpu::BufferUsages;

type Error = Box<dyn std::error::Error>;

/// A kernel of the host's own: `x[i] = x[i] * x[i] + params.c * x[i]`.
const SQUARE: &str = "
struct Params { n: u32, c: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < params.n { x[id.x] = x[id.x] * x[id.x] + params.c * x[id.x]; }
}";

fn main() -> Result<(), Error> {
    let Some((device, queue)) = pollster::block_on(host()) else {
        println!("wgpu found no device");
        return Ok(());
    };
    println!("{}", device.adapter_info().name);

    // A buffer of the host's, filled by the host.
    let n = 1024;
    let buffer = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("the host's"),
        size: 4 * n,
        usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let values: Vec<f32> = (0..n).map(|i| i as f32).collect();
    queue.write_buffer(&buffer, 0, &values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>());

    // Halite on the same device and queue, and in the same memory.
    let options = DeviceOptions::default();
    let driver = WgpuDriver::from_device_queue(device, queue, &options)?;
    let memory = driver.import_buffer(&buffer)?;
    let engine = WgpuDevice::new(driver, &options)?;
    // SAFETY: the buffer has that many bytes.
    let x = unsafe { engine.import(memory, 4 * n) }?;

    // An op of Halite's, then the host's kernel.
    let stream = StreamId(0);
    let view = TensorRef::new(&x, DType::F32, &[n as usize]);
    engine.submit(stream, &[Op::unary(UnaryFn::Neg, view.clone(), view)])?;
    // SAFETY: it ends, and stays within its binding as long as that has `n` elements.
    let kernel = unsafe { engine.compile("square", SQUARE) }?;
    let params = [n as u32, 1f32.to_bits()];
    engine.dispatch(&kernel, &params, &[(&x, 0, 4 * n)], [(n as u32).div_ceil(64), 1, 1])?;

    let found: Vec<f32> = engine.download(stream, &x, 0, 4 * n)?.wait_as()?;
    for (x, &y) in values.iter().zip(&found) {
        assert_eq!(y, x * x - x);
    }
    println!("x² - x of {n} values: {:?}, …", &found[..6]);
    Ok(())
}

/// What a program that draws or computes with wgpu has already.
async fn host() -> Option<(wgpu::Device, wgpu::Queue)> {
    let instance = wgpu::Instance::default();
    let adapter = instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await.ok()?;
    adapter.request_device(&wgpu::DeviceDescriptor::default()).await.ok()
}
