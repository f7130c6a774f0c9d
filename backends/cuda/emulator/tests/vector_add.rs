//! A kernel from PTX to its results, through the entry points, and what it is told when it leaves its memory. The
//! environment is read once a process, so this is the only test of its program.

use cudarc::driver::sys::CUresult::{self, *};
use halite_cuda_emulator::api::{In, Out, context::*, copy::*, launch::*, library::*, memory::*, module::*};
use std::ptr;

fn ok(code: CUresult) {
    assert_eq!(code, CUDA_SUCCESS);
}

/// The kernel on one device, with three vectors of 100 floats.
struct Adder {
    function: usize,
    vectors: [u64; 3],
}

impl Adder {
    fn new(device: i32) -> Self {
        let (mut context, mut module, mut function) = (0, 0, 0);
        ok(cuDevicePrimaryCtxRetain(Out::from(&mut context), device));
        ok(cuCtxSetCurrent(context));
        let ptx = std::ffi::CString::new(include_str!("fixtures/vector_add.ptx")).unwrap();
        ok(cuModuleLoadData(Out::from(&mut module), In::from(ptx.as_c_str())));
        ok(cuModuleGetFunction(Out::from(&mut function), module, In::from(c"vector_add")));
        let mut vectors = [0u64; 3];
        for address in &mut vectors {
            ok(cuMemAlloc_v2(Out::from(address), 100 * 4));
        }
        for (address, factor) in vectors.iter().zip([1.0f32, 10.0]) {
            let bytes: Vec<u8> = (0..100).flat_map(|i| (i as f32 * factor).to_le_bytes()).collect();
            ok(cuMemcpyHtoD_v2(*address, In::from(&*bytes), bytes.len()));
        }
        Adder { function, vectors }
    }

    /// Two blocks of 64 threads: of 100 elements, 28 have nothing to do.
    fn launch(&self, n: u32) -> CUresult {
        let [a, b, c] = self.vectors.each_ref().map(|address| ptr::from_ref(address).cast());
        let arguments = [a, b, c, ptr::from_ref(&n).cast()];
        cuLaunchKernel(self.function, 2, 1, 1, 64, 1, 1, 0, 0, In::from(&arguments[..]), In::none())
    }
}

#[test]
fn vectors_are_added_and_memory_that_is_not_there_is_a_fault() {
    // SAFETY: no other thread is there that reads the environment.
    unsafe { std::env::set_var("HALITE_CUDA_EMULATOR_DEVICES", "2") };
    ok(cuInit(0));
    let adder = Adder::new(0);
    ok(adder.launch(100));
    let mut sums = [0u8; 400];
    ok(cuMemcpyDtoH_v2(Out::from(&mut sums[..]), adder.vectors[2], 400));
    let sums = sums.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    assert_eq!(sums.collect::<Vec<_>>(), (0..100).map(|i| i as f32 * 11.0).collect::<Vec<_>>());
    // Thread 100 reads what is behind.
    ok(adder.launch(101));
    assert_eq!(cuCtxSynchronize(), CUDA_ERROR_ILLEGAL_ADDRESS);

    let adder = Adder::new(1);
    ok(adder.launch(100));
    ok(cuCtxSynchronize());
    ok(cuMemFree_v2(adder.vectors[1]));
    ok(adder.launch(100));
    assert_eq!(cuCtxSynchronize(), CUDA_ERROR_ILLEGAL_ADDRESS);
}
