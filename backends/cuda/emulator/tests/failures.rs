//! What can be made to fail. Each case is this test program again, in a process of its own: the environment is
//! read once, and a kernel that fails takes its device along.

use cudarc::driver::sys::CUresult::{self, *};
use halite_cuda_emulator::api::{In, Out, context::*, copy::*, launch::*, library::*, memory::*};
use halite_cuda_emulator::api::{module::*, stream::*};

/// The variable of the environment.
const FAIL: &str = "HALITE_CUDA_EMULATOR_FAIL";

const PTX: &std::ffi::CStr = c".version 8.0
.target sm_80
.address_size 64
.visible .entry sound()
{
    ret;
}
.visible .entry failing()
{
    ret;
}
";

fn ok(code: CUresult) {
    assert_eq!(code, CUDA_SUCCESS);
}

/// Whether this is the process of its own; otherwise, starts one for each value, which passes.
fn in_own_process(test: &str, values: &[&str]) -> bool {
    if std::env::var_os(FAIL).is_some() {
        return true;
    }
    for value in values {
        let ran = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(FAIL, value)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
        assert!(ran.status.success() && said.contains("1 passed"), "{value}: {said}");
    }
    false
}

fn start() {
    ok(cuInit(0));
    let mut context = 0;
    ok(cuDevicePrimaryCtxRetain(Out::from(&mut context), 0));
    ok(cuCtxSetCurrent(context));
}

fn launch(module: usize, name: &std::ffi::CStr) -> CUresult {
    let mut function = 0;
    ok(cuModuleGetFunction(Out::from(&mut function), module, In::from(name)));
    cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, 0, In::none(), In::none())
}

#[test]
fn there_is_no_device() {
    if in_own_process("there_is_no_device", &["no-device"]) {
        assert_eq!(cuInit(0), CUDA_ERROR_NO_DEVICE);
        assert_eq!(cuMemFree_v2(0), CUDA_ERROR_NOT_INITIALIZED);
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    if in_own_process("what_is_not_understood_is_refused", &["sometimes"]) {
        assert_eq!(cuInit(0), CUDA_ERROR_INVALID_VALUE);
    }
}

#[test]
fn memory_runs_out() {
    if in_own_process("memory_runs_out", &["out-of-memory:1000"]) {
        start();
        let mut address = 0;
        ok(cuMemAlloc_v2(Out::from(&mut address), 999));
        assert_eq!(cuMemAlloc_v2(Out::from(&mut address), 1000), CUDA_ERROR_OUT_OF_MEMORY);
        assert_eq!(cuMemAllocAsync(Out::from(&mut address), 1000, 0), CUDA_ERROR_OUT_OF_MEMORY);
    }
}

#[test]
fn ptx_is_refused() {
    if in_own_process("ptx_is_refused", &["ptx"]) {
        start();
        let mut module = 0;
        assert_eq!(cuModuleLoadData(Out::from(&mut module), In::from(PTX)), CUDA_ERROR_INVALID_PTX);
    }
}

#[test]
fn a_kernel_that_fails_is_told_of_when_waited_for_and_ever_after() {
    let test = "a_kernel_that_fails_is_told_of_when_waited_for_and_ever_after";
    let values = ["launch:failing", "illegal-address:failing", "misaligned-address:failing"];
    if !in_own_process(test, &values) {
        return;
    }
    let code = match std::env::var(FAIL).unwrap().as_str() {
        "launch:failing" => CUDA_ERROR_LAUNCH_FAILED,
        "illegal-address:failing" => CUDA_ERROR_ILLEGAL_ADDRESS,
        _ => CUDA_ERROR_MISALIGNED_ADDRESS,
    };
    start();
    let (mut module, mut stream, mut address) = (0, 0, 0);
    ok(cuStreamCreate(Out::from(&mut stream), 1));
    ok(cuMemAlloc_v2(Out::from(&mut address), 4));
    ok(cuModuleLoadData(Out::from(&mut module), In::from(PTX)));
    ok(launch(module, c"sound"));
    ok(cuStreamSynchronize(stream));
    ok(launch(module, c"failing"));
    // Nobody was told yet.
    ok(cuMemsetD8Async(address, 1, 4, stream));
    assert_eq!(cuStreamSynchronize(stream), code);
    assert_eq!(launch(module, c"sound"), code);
    assert_eq!(cuMemAlloc_v2(Out::from(&mut address), 4), code);
    assert_eq!(cuMemcpyDtoH_v2(Out::from(&mut [0u8; 4][..]), address, 4), code);
    assert_eq!(cuCtxSynchronize(), code);
}
