//! Several devices, and memory that is smaller than the host's. The environment is read once a process, so this
//! is the only test of its program.

use cudarc::driver::sys::CUresult::{self, *};
use halite_cuda_emulator::api::{In, Out, context::*, copy::*, device::*, launch::*};
use halite_cuda_emulator::api::{library::*, memory::*, module::*, stream::*};

const PTX: &std::ffi::CStr =
    c".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry nothing()\n{\nret;\n}\n";

fn ok(code: CUresult) {
    assert_eq!(code, CUDA_SUCCESS);
}

#[test]
fn devices_have_memory_and_contexts_of_their_own() {
    for (name, value) in [("DEVICES", "2"), ("MEMORY", "1"), ("ARCH", "80")] {
        // SAFETY: no other thread is there that reads the environment.
        unsafe { std::env::set_var(format!("HALITE_CUDA_EMULATOR_{name}"), value) };
    }
    ok(cuInit(0));
    let (mut count, mut major, mut contexts, mut addresses) = (0, 0, [0; 2], [0; 2]);
    ok(cuDeviceGetCount(Out::from(&mut count)));
    ok(cuDeviceGetAttribute(Out::from(&mut major), 75, 1));
    assert_eq!((count, major), (2, 8));
    for device in 0..2 {
        ok(cuDevicePrimaryCtxRetain(Out::from(&mut contexts[device]), device as i32));
        ok(cuCtxSetCurrent(contexts[device]));
        // All there is, and no byte more.
        ok(cuMemAlloc_v2(Out::from(&mut addresses[device]), 1 << 20));
        let (mut free, mut total) = (1, 1);
        ok(cuMemGetInfo_v2(Out::from(&mut free), Out::from(&mut total)));
        assert_eq!((free, total), (0, 1 << 20));
        let refused = cuMemAlloc_v2(Out::from(&mut 0), 1);
        assert_eq!(refused, CUDA_ERROR_OUT_OF_MEMORY);
    }
    ok(cuMemsetD8_v2(addresses[0], 7, 4));
    let [a, b] = addresses;
    ok(cuMemcpyPeerAsync(b, contexts[1], a, contexts[0], 4, 0));
    let mut read = [0u8; 5];
    ok(cuMemcpyDtoH_v2(Out::from(&mut read[..]), b, 5));
    assert_eq!(read, [7, 7, 7, 7, 0xA5]);
    // A kernel runs in its own context only.
    let (mut module, mut function, mut stream) = (0, 0, 0);
    ok(cuStreamCreate(Out::from(&mut stream), 0));
    ok(cuCtxSetCurrent(contexts[0]));
    ok(cuModuleLoadData(Out::from(&mut module), In::from(PTX)));
    ok(cuModuleGetFunction(Out::from(&mut function), module, In::from(c"nothing")));
    let launch = |stream| cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, In::none(), In::none());
    ok(launch(0));
    assert_eq!(launch(stream), CUDA_ERROR_INVALID_HANDLE);
    ok(cuStreamDestroy_v2(stream));
    ok(cuCtxSetCurrent(contexts[1]));
    // The last one who holds a primary context ends it, with its streams and its memory.
    ok(cuStreamCreate(Out::from(&mut stream), 0));
    ok(cuDevicePrimaryCtxRetain(Out::from(&mut 0usize), 1));
    ok(cuDevicePrimaryCtxRelease_v2(1));
    ok(cuStreamSynchronize(stream));
    ok(cuDevicePrimaryCtxRelease_v2(1));
    assert_eq!(cuDevicePrimaryCtxRelease_v2(1), CUDA_ERROR_INVALID_CONTEXT);
    assert_eq!(cuStreamSynchronize(stream), CUDA_ERROR_INVALID_HANDLE);
    assert_eq!(cuMemAlloc_v2(Out::from(&mut 0), 1), CUDA_ERROR_INVALID_CONTEXT);
    ok(cuCtxSetCurrent(contexts[0]));
    assert_eq!(cuMemcpyHtoD_v2(b, In::from(&read[..]), 1), CUDA_ERROR_INVALID_VALUE);
}
