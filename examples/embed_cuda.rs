//! Halite on a CUDA device that the program has already: its context, stream and device memory go in, operations
//! run on them, and a raw address comes out.
//!
//! `cargo run --release --example embed_cuda`

use halite::cuda::cudarc::driver::sys::{self, CUcontext, CUresult, CUstream};
use halite::cuda::{CudaBackend, CudaDevice, CudaDriver};
use halite::hal::{Backend, BinaryFn, DType, Device as _, DeviceOptions, Op, StreamId, TensorRef, UnaryFn};
use std::ptr;

type Error = Box<dyn std::error::Error>;

const N: usize = 1000;
const BYTES: usize = 4 * N;

fn check(code: CUresult) -> Result<(), Error> {
    if code == CUresult::CUDA_SUCCESS { Ok(()) } else { Err(format!("{code:?}").into()) }
}

fn main() -> Result<(), Error> {
    // The program's own calls would panic without the driver's library.
    if CudaBackend.devices().is_empty() {
        println!("no CUDA device here: skipped");
        return Ok(());
    }
    // What a program with CUDA has: a context, a stream, and device memory.
    let (mut device, mut context, mut stream): (_, CUcontext, CUstream) =
        (0, ptr::null_mut(), ptr::null_mut());
    let mut address = 0;
    let values: Vec<f32> = (0..N).map(|i| i as f32).collect();
    // SAFETY: each call gets what the ones before made; the copy has ended when it returns.
    unsafe {
        check(sys::cuInit(0))?;
        check(sys::cuDeviceGet(&mut device, 0))?;
        check(sys::cuDevicePrimaryCtxRetain(&mut context, device))?;
        check(sys::cuCtxSetCurrent(context))?;
        check(sys::cuStreamCreate(&mut stream, 0))?;
        check(sys::cuMemAlloc_v2(&mut address, BYTES))?;
        check(sys::cuMemcpyHtoD_v2(address, values.as_ptr().cast(), BYTES))?;
    }
    on_halite(context, stream, address)?;
    // SAFETY: nothing of Halite's is left that uses them.
    unsafe {
        check(sys::cuMemFree_v2(address))?;
        check(sys::cuStreamDestroy_v2(stream))?;
        check(sys::cuDevicePrimaryCtxRelease_v2(device))
    }
}

fn on_halite(context: CUcontext, stream: CUstream, address: u64) -> Result<(), Error> {
    let options = DeviceOptions::default();
    // SAFETY: both live longer than what is made here.
    let driver = unsafe { CudaDriver::from_context(context, stream, &options) }?;
    let engine = CudaDevice::new(driver, &options)?;

    // In: a raw address becomes a buffer like any other.
    // SAFETY: the memory lives longer, and has as many bytes.
    let imported = unsafe {
        let memory = engine.driver().import_memory(address, BYTES as u64)?;
        engine.import(memory, BYTES as u64)?
    };
    let result = engine.allocate(BYTES as u64, 0)?;
    let [x, y] = [&imported, &result].map(|b| TensorRef::new(b, DType::F32, &[N]));

    // y = x², then x = x + y.
    let square = Op::unary(UnaryFn::Square, x.clone(), y.clone());
    engine.submit(StreamId(0), &[square, Op::binary(BinaryFn::Add, x.clone(), y, x)])?;

    // The stream is the program's own, so its copies come after Halite's work.
    assert!(read(address, stream)?.iter().enumerate().all(|(i, &s)| s == (i * i + i) as f32));

    // Out: the raw address of a buffer of Halite's, for the program's own calls. Small buffers share memory, so
    // there is an offset.
    let region = engine.export(&result)?.remove(0);
    let squares = read(region.memory.raw() + region.offset, stream)?;
    assert!(squares.iter().enumerate().all(|(i, &s)| s == (i * i) as f32));
    println!("{}: the program's memory went through Halite and back", engine.info().name);
    Ok(())
}

/// The floats at an address, when the stream gets there.
fn read(address: u64, stream: CUstream) -> Result<Vec<f32>, Error> {
    let mut values = vec![0f32; N];
    // SAFETY: there are as many bytes at both ends, and the copy has ended when the second call returns.
    unsafe {
        check(sys::cuMemcpyDtoHAsync_v2(values.as_mut_ptr().cast(), address, BYTES, stream))?;
        check(sys::cuStreamSynchronize(stream))?;
    }
    Ok(values)
}
