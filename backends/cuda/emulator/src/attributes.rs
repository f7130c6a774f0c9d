//! What devices say of themselves: the limits of an H100 (CUDA C++ Programming Guide, "Technical Specifications
//! per Compute Capability").

use crate::config::Config;
use crate::module::{SHARED, SHARED_OPT_IN};
use cudarc::driver::sys::CUdevice_attribute as Attribute;

/// CUDA 12.9.
pub(crate) const DRIVER_VERSION: i32 = 12090;
/// Multiprocessors.
const MULTIPROCESSORS: i32 = 132;

/// The device's name.
pub(crate) fn name(config: &Config) -> String {
    format!("Halite CUDA emulator (sm_{})", config.arch)
}

/// Its place on the bus.
pub(crate) fn bus(device: usize) -> String {
    format!("0000:{:02X}:00.0", device + 1)
}

/// The value of an attribute, by its number; 0 where it isn't listed, which for flags is no.
pub(crate) fn attribute(config: &Config, device: usize, which: i32) -> i32 {
    use Attribute::*;
    let is = |attribute: Attribute| which == attribute as i32;
    let listed = [
        (CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024),
        (CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, 1024),
        (CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, 1024),
        (CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z, 64),
        (CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, i32::MAX),
        (CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, 65535),
        (CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, 65535),
        (CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, SHARED as i32),
        (CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, SHARED_OPT_IN as i32),
        (CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, 228 << 10),
        (CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK, 1 << 10),
        (CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY, 64 << 10),
        (CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32),
        (CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK, 64 << 10),
        (CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR, 64 << 10),
        (CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, 2048),
        (CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR, 32),
        (CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, MULTIPROCESSORS),
        (CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1_980_000),
        (CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 2_619_000),
        (CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, 5120),
        (CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, 50 << 20),
        (CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT, 512),
        (CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS, 1),
        (CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT, 3),
        (CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1),
        (CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY, 1),
        (CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED, 1),
        (CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, 1),
        (CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, (config.arch / 10) as i32),
        (CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, (config.arch % 10) as i32),
        (CU_DEVICE_ATTRIBUTE_PCI_BUS_ID, device as i32 + 1),
    ];
    listed.into_iter().find(|(attribute, _)| is(*attribute)).map_or(0, |(_, value)| value)
}
