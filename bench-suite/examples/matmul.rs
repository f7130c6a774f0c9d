//! Times f32 matrix products on an OpenCL or Vulkan device, for comparison with other libraries.
//!
//!     matmul DEVICE LAYOUT SAMPLES MxNxK [VARIANT]...
//!
//! DEVICE is `opencl:0` or `vulkan:0`; LAYOUT says how the second factor lies, `kn` (each row of n follows the
//! last) or `nk`. SAMPLES is their number, each one product and the wait for it, or `NxP`: N samples of P products
//! that are submitted together and waited for once. Prints the device's name to stderr, and a line for each
//! variant (without one, for the engine's own choice): its name, the median and the smallest of the samples in
//! milliseconds a product, and how long the first call took, which compiles. The last product is checked
//! against sums in f64 in a few places.

use halite_hal::{DType, Device, DeviceOptions, Op, StreamId, TensorRef};
use halite_kernels::{Driver, Engine};
use halite_opencl::OpenClDriver;
use halite_vulkan::VulkanDriver;
use std::process::ExitCode;
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;

/// The sizes and layout of a product.
#[derive(Clone, Copy)]
struct Product {
    m: usize,
    n: usize,
    k: usize,
    /// Whether the second factor is stored `[n, k]`.
    nk: bool,
}

/// Small numbers without a pattern that a product would cancel.
fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..len).map(|_| next()).collect()
}

fn bytes(x: &[f32]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// What is timed: this many times, this many products at once.
#[derive(Clone, Copy)]
struct Samples {
    count: usize,
    products: usize,
}

fn measure<D: Driver>(engine: &Engine<D>, p: Product, samples: Samples) -> Result<String, Failure> {
    let Product { m, n, k, nk } = p;
    let stream = StreamId::default();
    let (x, y) = (numbers(m * k, 1), numbers(k * n, 2));
    let upload = |data: &[f32]| -> Result<_, Failure> {
        let buffer = engine.allocate(4 * data.len() as u64, 0)?;
        engine.upload(stream, &buffer, 0, &bytes(data))?;
        Ok(buffer)
    };
    let (a, b, c) = (upload(&x)?, upload(&y)?, engine.allocate(4 * (m * n) as u64, 0)?);
    let b = match nk {
        true => TensorRef::new(&b, DType::F32, &[n, k]).transpose(0, 1),
        false => TensorRef::new(&b, DType::F32, &[k, n]),
    };
    let op = Op::matmul(TensorRef::new(&a, DType::F32, &[m, k]), b, TensorRef::new(&c, DType::F32, &[m, n]));
    let ops = vec![op.clone(); samples.products];
    let time = |ops: &[Op]| -> Result<f64, Failure> {
        let start = Instant::now();
        engine.submit(stream, ops)?;
        engine.synchronize(stream)?;
        Ok(1e3 * start.elapsed().as_secs_f64() / ops.len() as f64)
    };
    let first = time(&ops[..1])?;
    let mut times = (0..samples.count).map(|_| time(&ops)).collect::<Result<Vec<_>, _>>()?;
    times.sort_by(f64::total_cmp);
    let got: Vec<f32> = engine.download(stream, &c, 0, 4 * (m * n) as u64)?.wait_as()?;
    for i in [0, m / 2, m - 1] {
        for j in [0, n / 3, n - 1] {
            let term =
                |l: usize| f64::from(x[i * k + l]) * f64::from(if nk { y[j * k + l] } else { y[l * n + j] });
            let want: f64 = (0..k).map(term).sum();
            let off = (f64::from(got[i * n + j]) - want).abs();
            if off > 1e-6 * k as f64 {
                return Err(format!("row {i}, column {j}: {} for {want}", got[i * n + j]).into());
            }
        }
    }
    let variant = &engine.variants(&op.desc())[0];
    Ok(format!("{variant} {:.4} {:.4} {first:.1}", times[times.len() / 2], times[0]))
}

fn all<D: Driver>(
    mut engine: Engine<D>,
    p: Product,
    samples: Samples,
    variants: &[String],
) -> Result<(), Failure> {
    eprintln!("{}", engine.info().name);
    if variants.is_empty() {
        println!("{}", measure(&engine, p, samples)?);
    }
    for v in variants {
        engine.force_variant(Some(v.clone()));
        println!("{}", measure(&engine, p, samples)?);
    }
    Ok(())
}

fn run(args: &[String]) -> Result<(), Failure> {
    let [device, layout, samples, shape, variants @ ..] = args else {
        return Err("usage: matmul DEVICE kn|nk SAMPLES MxNxK [VARIANT]...".into());
    };
    let extents: Vec<usize> = shape.split('x').map(str::parse).collect::<Result<_, _>>()?;
    let &[m, n, k] = &extents[..] else { return Err(format!("{shape}: want MxNxK").into()) };
    let nk = match layout.as_str() {
        "nk" => true,
        "kn" => false,
        other => return Err(format!("layout {other:?}: want kn or nk").into()),
    };
    let (count, products) = samples.split_once('x').unwrap_or((samples, "1"));
    let samples =
        Samples { count: count.parse::<usize>()?.max(1), products: products.parse::<usize>()?.max(1) };
    let (p, options) = (Product { m, n, k, nk }, DeviceOptions::default());
    let (kind, index) = device.split_once(':').unwrap_or((device, "0"));
    let index = index.parse()?;
    match kind {
        "opencl" => all(Engine::new(OpenClDriver::new(index, &options)?, &options)?, p, samples, variants),
        "vulkan" => all(Engine::new(VulkanDriver::new(index, &options)?, &options)?, p, samples, variants),
        other => Err(format!("device {other:?}: want opencl:N or vulkan:N").into()),
    }
}

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("matmul: {e}");
            ExitCode::FAILURE
        }
    }
}
