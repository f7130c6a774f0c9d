//! Device memory, its pools, and the host's pinned memory. Pools keep nothing, and give and take at once.

use super::{Out, entry_points};
use crate::driver::{Answer, Driver, Handle};
use cudarc::driver::sys::{
    CUmemPool_attribute as PoolAttribute, CUmemorytype, CUpointer_attribute, CUresult,
};
use std::ffi::{c_int, c_uint, c_void};

/// Memory of a device, if that has as much left.
fn allocate(driver: &mut Driver, device: usize, address: Out<u64>, bytes: usize) -> Answer {
    driver.state(device)?;
    if bytes == 0 {
        return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    let bytes = bytes as u64;
    let left = driver.config.memory.saturating_sub(driver.memory.used(device));
    if bytes > left || bytes >= driver.config.too_much {
        return Err(CUresult::CUDA_ERROR_OUT_OF_MEMORY);
    }
    let allocated = driver.memory.allocate(bytes, device).ok_or(CUresult::CUDA_ERROR_OUT_OF_MEMORY)?;
    address.put(allocated)
}

fn free(driver: &mut Driver, address: u64, pinned: bool) -> Answer {
    if address == 0 || driver.memory.free(address, pinned) {
        return Ok(());
    }
    Err(CUresult::CUDA_ERROR_INVALID_VALUE)
}

fn pin(driver: &mut Driver, address: Out<u64>, bytes: usize) -> Answer {
    driver.healthy()?;
    if bytes == 0 {
        return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    address.put(driver.memory.pin(bytes as u64).ok_or(CUresult::CUDA_ERROR_OUT_OF_MEMORY)?)
}

fn pool(driver: &mut Driver, pool: Out<Handle>, device: c_int) -> Answer {
    pool.put(driver.device(device)?.pool)
}

entry_points! {
    fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) |driver| {
        let device = driver.healthy()?;
        free.put((driver.config.memory - driver.memory.used(device)) as usize)?;
        total.put(driver.config.memory as usize)
    };

    fn cuMemAlloc_v2(address: Out<u64>, bytes: usize) |driver| {
        let device = driver.healthy()?;
        allocate(driver, device, address, bytes)
    };

    fn cuMemFree_v2(address: u64) |driver| {
        driver.healthy()?;
        free(driver, address, false)
    };

    fn cuMemAllocAsync(address: Out<u64>, bytes: usize, stream: Handle) |driver| {
        let device = driver.device_of_stream(stream)?;
        allocate(driver, device, address, bytes)
    };

    fn cuMemAllocFromPoolAsync(address: Out<u64>, bytes: usize, pool: Handle, stream: Handle) |driver| {
        driver.device_of_stream(stream)?;
        let device = driver.device_of_pool(pool)?;
        allocate(driver, device, address, bytes)
    };

    fn cuMemFreeAsync(address: u64, stream: Handle) |driver| {
        let device = driver.device_of_stream(stream)?;
        driver.state(device)?;
        free(driver, address, false)
    };

    fn cuMemHostAlloc(address: Out<u64>, bytes: usize, _flags: c_uint) |driver| pin(driver, address, bytes);

    fn cuMemAllocHost_v2(address: Out<u64>, bytes: usize) |driver| pin(driver, address, bytes);

    fn cuMemFreeHost(address: u64) |driver| free(driver, address, true);

    fn cuMemGetAddressRange_v2(start: Out<u64>, bytes: Out<usize>, address: u64) |driver| {
        driver.healthy()?;
        let (found, block) = driver.memory.find(address).ok_or(CUresult::CUDA_ERROR_NOT_FOUND)?;
        start.put_if(found);
        bytes.put_if(block.bytes as usize);
        Ok(())
    };

    fn cuPointerGetAttribute(data: Out<c_void>, attribute: c_uint, address: u64) |driver| {
        let (_, block) = driver.memory.find(address).ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)?;
        let is = |which: CUpointer_attribute| attribute == which as c_uint;
        if is(CUpointer_attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE) {
            let kind = match block.device {
                Some(_) => CUmemorytype::CU_MEMORYTYPE_DEVICE,
                None => CUmemorytype::CU_MEMORYTYPE_HOST,
            };
            data.cast().put(kind as c_uint)
        } else if is(CUpointer_attribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL) {
            data.cast().put(block.device.unwrap_or(0) as c_int)
        } else if is(CUpointer_attribute::CU_POINTER_ATTRIBUTE_DEVICE_POINTER) {
            data.cast().put(address)
        } else {
            Err(CUresult::CUDA_ERROR_NOT_SUPPORTED)
        }
    };

    fn cuDeviceGetDefaultMemPool(handle: Out<Handle>, device: c_int) |driver| pool(driver, handle, device);

    fn cuDeviceGetMemPool(handle: Out<Handle>, device: c_int) |driver| pool(driver, handle, device);

    fn cuMemPoolSetAttribute(pool: Handle, attribute: c_uint, value: Out<c_void>) |driver| {
        let device = driver.device_of_pool(pool)?;
        if attribute == PoolAttribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD as c_uint {
            driver.devices[device].threshold = value.cast().get()?;
            return Ok(());
        }
        Err(CUresult::CUDA_ERROR_NOT_SUPPORTED)
    };

    fn cuMemPoolGetAttribute(pool: Handle, attribute: c_uint, value: Out<c_void>) |driver| {
        let device = driver.device_of_pool(pool)?;
        if attribute == PoolAttribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD as c_uint {
            return value.cast().put(driver.devices[device].threshold);
        }
        Err(CUresult::CUDA_ERROR_NOT_SUPPORTED)
    };

    fn cuMemPoolTrimTo(pool: Handle, _bytes: usize) |driver| driver.device_of_pool(pool).map(|_| ());
}
