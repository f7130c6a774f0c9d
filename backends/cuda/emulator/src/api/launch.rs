//! Launches of kernels.

use super::module::params;
use super::{In, entry_points};
use crate::driver::Handle;
use crate::stream::{Call, Work};
use cudarc::driver::sys::{CUlaunchConfig_st, CUresult};
use std::ffi::{c_uint, c_void};

entry_points! {
    fn cuLaunchKernel(
        function: Handle,
        grid_x: c_uint, grid_y: c_uint, grid_z: c_uint,
        block_x: c_uint, block_y: c_uint, block_z: c_uint,
        dynamic_shared: c_uint, stream: Handle, each: In<*const c_void>, extra: In<*const c_void>,
    ) |driver| {
        let params = params(driver, function, each, extra)?;
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        driver.enqueue(stream, Work::Call(Call { function, grid, block, dynamic_shared, params }))
    };

    fn cuLaunchKernelEx(
        config: In<CUlaunchConfig_st>, function: Handle, each: In<*const c_void>, extra: In<*const c_void>,
    ) |driver| {
        let config = config.get()?;
        // Clusters and the like aren't there.
        if config.numAttrs != 0 {
            return Err(CUresult::CUDA_ERROR_NOT_SUPPORTED);
        }
        let params = params(driver, function, each, extra)?;
        let call = Call {
            function,
            grid: [config.gridDimX, config.gridDimY, config.gridDimZ],
            block: [config.blockDimX, config.blockDimY, config.blockDimZ],
            dynamic_shared: config.sharedMemBytes,
            params,
        };
        driver.enqueue(config.hStream as Handle, Work::Call(call))
    };
}
