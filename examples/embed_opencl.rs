//! Halite on an OpenCL device that the program has already: its context, queue and a buffer go in, operations
//! run on them, and a raw buffer comes out.
//!
//! `cargo run --release --example embed_opencl`

use halite::hal::{BinaryFn, DType, Device as _, DeviceOptions, Op, StreamId, TensorRef, UnaryFn};
use halite::opencl::opencl3::command_queue::{CommandQueue, enqueue_read_buffer};
use halite::opencl::opencl3::context::Context;
use halite::opencl::opencl3::device::{CL_DEVICE_TYPE_ALL, Device, get_all_devices};
use halite::opencl::opencl3::memory::{Buffer, CL_MEM_READ_WRITE, ClMem};
use halite::opencl::opencl3::types::CL_BLOCKING;
use halite::opencl::{OpenClDevice, OpenClDriver};
use std::ptr;

type Error = Box<dyn std::error::Error>;

const N: usize = 1000;
const BYTES: u64 = 4 * N as u64;

fn main() -> Result<(), Error> {
    // What a program with OpenCL has: a context, an in-order queue, and a buffer.
    let Some(&device) = get_all_devices(CL_DEVICE_TYPE_ALL).unwrap_or_default().first() else {
        println!("no OpenCL device here: skipped");
        return Ok(());
    };
    let context = Context::from_device(&Device::new(device))?;
    let queue = CommandQueue::create_default(&context, 0)?;
    let values: Vec<f32> = (0..N).map(|i| i as f32).collect();
    // SAFETY: no host memory is given; the write has ended when the call returns.
    let buffer = unsafe {
        let mut buffer = Buffer::<f32>::create(&context, CL_MEM_READ_WRITE, N, ptr::null_mut())?;
        queue.enqueue_write_buffer(&mut buffer, CL_BLOCKING, 0, &values, &[])?;
        buffer
    };

    // Halite takes references of its own to the program's objects.
    let options = DeviceOptions::default();
    // SAFETY: all are alive.
    let driver = unsafe { OpenClDriver::from_raw(context.get(), device, queue.get(), &options) }?;
    let engine = OpenClDevice::new(driver, &options)?;

    // In: a raw handle becomes a buffer like any other.
    // SAFETY: it is alive, and has as many bytes.
    let imported = unsafe {
        let memory = engine.driver().import_buffer(buffer.get(), BYTES)?;
        engine.import(memory, BYTES)?
    };
    let result = engine.allocate(BYTES, 0)?;
    let [x, y] = [&imported, &result].map(|b| TensorRef::new(b, DType::F32, &[N]));

    // y = x², then x = x + y.
    let stream = StreamId(0);
    let square = Op::unary(UnaryFn::Square, x.clone(), y.clone());
    engine.submit(stream, &[square, Op::binary(BinaryFn::Add, x.clone(), y, x)])?;

    // The queue is the program's own, so its commands come after Halite's.
    let mut sums = vec![0f32; N];
    // SAFETY: `sums` is as large; the read has ended when the call returns.
    unsafe { queue.enqueue_read_buffer(&buffer, CL_BLOCKING, 0, &mut sums, &[]) }?;
    assert!(sums.iter().enumerate().all(|(i, &s)| s == (i * i + i) as f32));

    // Out: the raw handle of a buffer of Halite's, for the program's own calls. Small buffers share a cl_mem,
    // so there is an offset.
    let region = engine.export(&result)?.remove(0);
    let (from, at) = (region.memory.raw(), region.offset as usize);
    let mut squares = vec![0f32; N];
    let to = squares.as_mut_ptr().cast();
    // SAFETY: as above. The program's own types would release the handle, which isn't the program's.
    unsafe { enqueue_read_buffer(queue.get(), from, CL_BLOCKING, at, BYTES as usize, to, 0, ptr::null()) }
        .map_err(|code| format!("clEnqueueReadBuffer: {code}"))?;
    assert!(squares.iter().enumerate().all(|(i, &s)| s == (i * i) as f32));
    println!("{}: the program's buffer went through Halite and back", engine.info().name);
    Ok(())
}
