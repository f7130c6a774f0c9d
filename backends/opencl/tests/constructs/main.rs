//! The writer of OpenCL C and CUDA C, construct by construct: what the OpenCL device and the CUDA device make of
//! each small program is what the Vulkan device makes of it. The programs are in the text files of this folder.

mod cuda;
mod device;
mod table;

use halite_cuda::CudaDriver;
use halite_kernels::{Driver, Engine};
use halite_opencl::OpenClDriver;
use halite_vulkan::VulkanDriver;

#[test]
fn opencl_does_what_vulkan_does() {
    let Some(opencl) = device::open(OpenClDriver::new, "opencl") else { return };
    does_what_vulkan_does(&opencl);
}

#[test]
fn cuda_does_what_vulkan_does() {
    let Some(cuda) = device::open(CudaDriver::new, "cuda") else { return };
    does_what_vulkan_does(&cuda);
}

fn does_what_vulkan_does<D: Driver>(engine: &Engine<D>) {
    let vulkan = device::open(VulkanDriver::new, "vulkan");
    let mut failures = Vec::new();
    for program in &table::programs() {
        let result = match device::run(engine, program) {
            Ok(result) => result,
            Err(e) => {
                failures.push(format!("{}: {e}", program.title));
                continue;
            }
        };
        // Without Vulkan the programs still have to compile and run, under a checker for instance.
        let Some(vulkan) = &vulkan else { continue };
        let expected = device::run(vulkan, program).unwrap_or_else(|e| panic!("{}: {e}", program.title));
        let different = program.differences(&result, &expected);
        let more = different.len().saturating_sub(6);
        failures.extend(different.into_iter().take(6).map(|line| format!("{}: {line}", program.title)));
        if more > 0 {
            failures.push(format!("{}: {more} more", program.title));
        }
    }
    assert!(failures.is_empty(), "its results and Vulkan's differ:\n{}", failures.join("\n"));
}
