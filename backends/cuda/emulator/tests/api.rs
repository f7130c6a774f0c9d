//! The entry points as a program calls them, on a device where nothing fails.

use cudarc::driver::sys::CUresult::{self, *};
use cudarc::driver::sys::{CUDA_KERNEL_NODE_PARAMS_v2, CUDA_MEMSET_NODE_PARAMS};
use halite_cuda_emulator::api::{In, Out, context::*, copy::*, device::*, event::*, graph::*, launch::*};
use halite_cuda_emulator::api::{library::*, memory::*, module::*, stream::*};
use std::ffi::c_char;
use std::ptr;

const PTX: &std::ffi::CStr = c".version 8.0
.target sm_80
.address_size 64
.visible .entry nothing(
    .param .u64 nothing_param_0,
    .param .u32 nothing_param_1
)
{
    ret;
}
";

fn ok(code: CUresult) {
    assert_eq!(code, CUDA_SUCCESS);
}

/// Starts the library, and makes the primary context current.
fn start() -> usize {
    ok(cuInit(0));
    let mut context = 0;
    ok(cuDevicePrimaryCtxRetain(Out::from(&mut context), 0));
    ok(cuCtxSetCurrent(context));
    context
}

fn stream() -> usize {
    let mut stream = 0;
    ok(cuStreamCreate(Out::from(&mut stream), 1));
    stream
}

fn allocate(bytes: usize) -> u64 {
    let mut address = 0;
    ok(cuMemAlloc_v2(Out::from(&mut address), bytes));
    address
}

fn read(address: u64, bytes: usize) -> Vec<u8> {
    let mut read = vec![0u8; bytes];
    ok(cuMemcpyDtoH_v2(Out::from(&mut *read), address, bytes));
    read
}

fn function() -> usize {
    let (mut module, mut function) = (0, 0);
    ok(cuModuleLoadData(Out::from(&mut module), In::from(PTX)));
    ok(cuModuleGetFunction(Out::from(&mut function), module, In::from(c"nothing")));
    function
}

fn launch(function: usize, block: [u32; 3], shared: u32) -> CUresult {
    let (pointer, number) = (0u64, 0u32);
    let arguments = [ptr::from_ref(&pointer).cast(), ptr::from_ref(&number).cast()];
    let [x, y, z] = block;
    cuLaunchKernel(function, 1, 1, 1, x, y, z, shared, 0, In::from(&arguments[..]), In::none())
}

#[test]
fn the_device_says_what_it_is() {
    start();
    let mut count = 0;
    ok(cuDeviceGetCount(Out::from(&mut count)));
    assert_eq!(count, 1);
    assert_eq!(cuDeviceGet(Out::from(&mut count), 1), CUDA_ERROR_INVALID_DEVICE);
    let mut name = [1 as c_char; 12];
    ok(cuDeviceGetName(Out::from(&mut name[..]), 12, 0));
    assert_eq!(name.map(|c| c as u8), *b"Halite CUDA\0");
    let mut warp = 0;
    ok(cuDeviceGetAttribute(Out::from(&mut warp), 10, 0));
    assert_eq!(warp, 32);
    let mut text = ptr::null();
    ok(cuGetErrorName(700, Out::from(&mut text)));
    // SAFETY: it is a constant.
    assert_eq!(unsafe { std::ffi::CStr::from_ptr(text) }, c"CUDA_ERROR_ILLEGAL_ADDRESS");
    assert_eq!(cuGetErrorName(12345, Out::from(&mut text)), CUDA_ERROR_INVALID_VALUE);
    let mut entry = ptr::null();
    ok(cuGetProcAddress(In::from(c"cuMemAlloc"), Out::from(&mut entry), 12000, 0));
    assert_eq!(entry, cuMemAlloc_v2 as *const std::ffi::c_void);
    assert_eq!(cuGetProcAddress(In::from(c"cuNo"), Out::from(&mut entry), 12000, 0), CUDA_ERROR_NOT_FOUND);
}

#[test]
fn memory_is_copied_filled_and_checked() {
    start();
    let (a, b) = (allocate(16), allocate(16));
    assert_eq!(read(a, 16), [0xA5; 16]);
    let data: Vec<u8> = (0..16).collect();
    ok(cuMemcpyHtoD_v2(a, In::from(&*data), 16));
    ok(cuMemcpyDtoD_v2(b, a, 8));
    ok(cuMemsetD32_v2(b + 8, 0x0403_0201, 2));
    assert_eq!(read(b, 16), [0, 1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 1, 2, 3, 4]);
    assert_eq!(cuMemcpyDtoD_v2(b, a + 8, 16), CUDA_ERROR_INVALID_VALUE);
    assert_eq!(cuMemsetD32_v2(b + 2, 0, 1), CUDA_ERROR_INVALID_VALUE);
    let (mut start, mut bytes) = (0, 0);
    ok(cuMemGetAddressRange_v2(Out::from(&mut start), Out::from(&mut bytes), b + 3));
    assert_eq!((start, bytes), (b, 16));
    ok(cuMemFree_v2(b));
    assert_eq!(cuMemFree_v2(b), CUDA_ERROR_INVALID_VALUE);
    assert_eq!(cuMemcpyDtoD_v2(a, b, 8), CUDA_ERROR_INVALID_VALUE);
    let mut address = 0;
    assert_eq!(cuMemAlloc_v2(Out::from(&mut address), 1 << 40), CUDA_ERROR_OUT_OF_MEMORY);
    assert_eq!(cuMemAlloc_v2(Out::from(&mut address), 0), CUDA_ERROR_INVALID_VALUE);
    assert_eq!(cuMemAlloc_v2(Out::none(), 8), CUDA_ERROR_INVALID_VALUE);
}

#[test]
fn handles_that_were_destroyed_are_refused() {
    start();
    let stream = stream();
    let mut event = 0;
    ok(cuEventCreate(Out::from(&mut event), 0));
    let mut ms = 0.0;
    assert_eq!(cuEventElapsedTime(Out::from(&mut ms), event, event), CUDA_ERROR_INVALID_HANDLE);
    ok(cuEventRecord(event, stream));
    ok(cuEventQuery(event));
    ok(cuEventElapsedTime(Out::from(&mut ms), event, event));
    assert_eq!(ms, 0.0);
    ok(cuEventDestroy_v2(event));
    assert_eq!(cuEventDestroy_v2(event), CUDA_ERROR_INVALID_HANDLE);
    ok(cuStreamDestroy_v2(stream));
    assert_eq!(cuStreamSynchronize(stream), CUDA_ERROR_INVALID_HANDLE);
    assert_eq!(cuCtxPushCurrent_v2(stream), CUDA_ERROR_INVALID_CONTEXT);
    // A thread of its own has no context yet.
    let without = std::thread::spawn(|| cuMemAlloc_v2(Out::from(&mut 0), 8)).join().unwrap();
    assert_eq!(without, CUDA_ERROR_INVALID_CONTEXT);
}

#[test]
fn launches_that_no_device_could_run_are_refused() {
    start();
    let f = function();
    ok(launch(f, [32, 32, 1], 48 << 10));
    assert_eq!(launch(f, [1025, 1, 1], 0), CUDA_ERROR_INVALID_VALUE);
    assert_eq!(launch(f, [0, 1, 1], 0), CUDA_ERROR_INVALID_VALUE);
    assert_eq!(launch(f, [1, 1, 1], (48 << 10) + 1), CUDA_ERROR_INVALID_VALUE);
    assert_eq!(cuFuncSetAttribute(f, 8, (227 << 10) + 1), CUDA_ERROR_INVALID_VALUE);
    ok(cuFuncSetAttribute(f, 8, 227 << 10));
    ok(launch(f, [1, 1, 1], 227 << 10));
    assert_eq!(launch(f + 1, [1, 1, 1], 0), CUDA_ERROR_INVALID_HANDLE);
}

#[test]
fn ptx_that_is_refused_is_told_with_its_line() {
    start();
    let text = c".version 8.0\n.target sm_80\nwhatever;\n";
    let mut log = [1 as c_char; 200];
    let mut module = 0;
    let values = [log.as_mut_ptr().cast(), ptr::without_provenance_mut(200)];
    // CU_JIT_ERROR_LOG_BUFFER and its size.
    let options = [5, 6];
    let code = cuModuleLoadDataEx(
        Out::from(&mut module),
        In::from(text),
        2,
        In::from(&options[..]),
        In::from(&values[..]),
    );
    assert_eq!(code, CUDA_ERROR_INVALID_PTX);
    let machine_code = cuModuleLoadData(Out::from(&mut module), In::from(c"\x7fELF\xff"));
    assert_eq!(machine_code, CUDA_ERROR_INVALID_IMAGE);
    let log: Vec<u8> = log.iter().map(|c| *c as u8).take_while(|c| *c != 0).collect();
    let log = String::from_utf8(log).unwrap();
    assert!(log.contains("line 3") && log.contains("whatever"), "{log}");
}

fn set(to: u64, value: u32) -> CUDA_MEMSET_NODE_PARAMS {
    CUDA_MEMSET_NODE_PARAMS { dst: to, pitch: 0, value, elementSize: 1, width: 1, height: 1 }
}

/// Two nodes that write to the same byte, the second after the first if `ordered`: what is there in the end.
fn last_of_two(ordered: bool) -> u8 {
    let context = start();
    let a = allocate(1);
    let (mut graph, mut first, mut second, mut exec) = (0, 0, 0, 0);
    ok(cuGraphCreate(Out::from(&mut graph), 0));
    let add = |node: &mut usize, after: &[usize], value| {
        let (count, set) = (after.len(), set(a, value));
        cuGraphAddMemsetNode(Out::from(node), graph, In::from(after), count, In::from(&set), context)
    };
    ok(add(&mut first, &[], 1));
    let after: &[usize] = if ordered { &[first] } else { &[] };
    ok(add(&mut second, after, 2));
    let mut count = 0;
    ok(cuGraphGetNodes(graph, Out::none(), Out::from(&mut count)));
    assert_eq!(count, 2);
    ok(cuGraphInstantiateWithFlags(Out::from(&mut exec), graph, 0));
    ok(cuGraphDestroy(graph));
    assert_eq!(read(a, 1), [0xA5]);
    ok(cuGraphLaunch(exec, 0));
    ok(cuGraphExecDestroy(exec));
    assert_ne!(cuGraphLaunch(exec, 0), CUDA_SUCCESS);
    read(a, 1)[0]
}

#[test]
fn a_graph_shows_a_dependency_that_is_missing() {
    assert_eq!(last_of_two(true), 2);
    assert_eq!(last_of_two(false), 1);
}

#[test]
fn kernels_of_graphs_are_checked_and_can_be_given_other_arguments() {
    start();
    let f = function();
    let (pointer, number) = (0u64, 0u32);
    let mut arguments = [ptr::from_ref(&pointer).cast_mut().cast(), ptr::from_ref(&number).cast_mut().cast()];
    let mut params = CUDA_KERNEL_NODE_PARAMS_v2 {
        func: f as *mut _,
        gridDimX: 1,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: 32,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: 0,
        kernelParams: arguments.as_mut_ptr(),
        extra: ptr::null_mut(),
        kern: ptr::null_mut(),
        ctx: ptr::null_mut(),
    };
    let (mut graph, mut node, mut empty, mut exec) = (0, 0, 0, 0);
    ok(cuGraphCreate(Out::from(&mut graph), 0));
    ok(cuGraphAddKernelNode_v2(Out::from(&mut node), graph, In::none(), 0, In::from(&params)));
    ok(cuGraphAddEmptyNode(Out::from(&mut empty), graph, In::from(&node), 1));
    ok(cuGraphInstantiateWithFlags(Out::from(&mut exec), graph, 0));
    ok(cuGraphExecKernelNodeSetParams_v2(exec, node, In::from(&params)));
    assert_ne!(cuGraphExecKernelNodeSetParams_v2(exec, empty, In::from(&params)), CUDA_SUCCESS);
    params.blockDimX = 2048;
    let refused = cuGraphAddKernelNode_v2(Out::from(&mut node), graph, In::none(), 0, In::from(&params));
    assert_eq!(refused, CUDA_ERROR_INVALID_VALUE);
    ok(cuGraphLaunch(exec, 0));
    ok(cuCtxSynchronize());
}

#[test]
fn streams_are_recorded_and_replayed() {
    start();
    let (a, one, two) = (allocate(4), stream(), stream());
    let (mut graph, mut exec, mut event, mut status) = (0, 0, 0, 9);
    ok(cuEventCreate(Out::from(&mut event), 2));
    ok(cuStreamBeginCapture_v2(one, 0));
    ok(cuStreamIsCapturing(one, Out::from(&mut status)));
    assert_eq!(status, 1);
    ok(cuMemsetD8Async(a, 1, 4, one));
    ok(cuEventRecord(event, one));
    ok(cuStreamWaitEvent(two, event, 0));
    ok(cuMemsetD8Async(a, 2, 2, two));
    ok(cuEventRecord(event, two));
    ok(cuStreamWaitEvent(one, event, 0));
    ok(cuMemsetD8Async(a, 3, 1, one));
    assert_ne!(cuStreamSynchronize(one), CUDA_SUCCESS);
    ok(cuStreamEndCapture(one, Out::from(&mut graph)));
    assert_eq!(read(a, 4), [0xA5; 4]);
    ok(cuGraphInstantiateWithFlags(Out::from(&mut exec), graph, 0));
    ok(cuGraphLaunch(exec, one));
    assert_eq!(read(a, 4), [3, 2, 1, 1]);
    // Neither stream is recorded any more.
    ok(cuMemsetD8Async(a, 9, 1, two));
    assert_eq!(read(a, 1), [9]);
}
