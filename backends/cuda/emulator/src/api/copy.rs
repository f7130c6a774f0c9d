//! Copies and fills. Those without a stream wait, and so tell of kernels that failed.

use super::{In, Out, entry_points};
use crate::driver::{Answer, Driver, Handle};
use crate::stream::{Place, Side, Work};
use cudarc::driver::sys::{CUDA_MEMCPY3D_st, CUmemorytype, CUresult};
use std::ffi::c_uint;

/// An address may be the device's or the host's.
fn place(driver: &Driver, address: u64) -> Place {
    match driver.memory.find(address) {
        Some(_) => Place::Device(address),
        None => Place::Host(address as usize),
    }
}

fn set(to: u64, value: u32, element: u64, count: usize) -> Work {
    Work::Set { to, pitch: 0, value, element, extent: [count as u64, 1] }
}

/// Does it on the default stream, and waits.
fn now(driver: &mut Driver, work: Work) -> Answer {
    let device = driver.healthy()?;
    driver.enqueue(0, work)?;
    driver.synchronize(device)
}

/// A copy of any shape; arrays aren't there.
pub(super) fn shaped(driver: &Driver, copy: &CUDA_MEMCPY3D_st) -> Answer<Work> {
    let start = |kind, host: usize, device, x: usize, y: usize, z: usize, pitch: usize, height: usize| {
        let offset = (z * pitch * height + y * pitch + x) as u64;
        let start = match kind {
            CUmemorytype::CU_MEMORYTYPE_HOST => Place::Host(host + offset as usize),
            CUmemorytype::CU_MEMORYTYPE_DEVICE => Place::Device(device + offset),
            CUmemorytype::CU_MEMORYTYPE_UNIFIED => place(driver, device + offset),
            _ => return Err(CUresult::CUDA_ERROR_NOT_SUPPORTED),
        };
        Ok(Side { start, pitch: pitch as u64, slice: (pitch * height) as u64 })
    };
    let c = copy;
    Ok(Work::Copy {
        from: start(
            c.srcMemoryType,
            c.srcHost as usize,
            c.srcDevice,
            c.srcXInBytes,
            c.srcY,
            c.srcZ,
            c.srcPitch,
            c.srcHeight,
        )?,
        to: start(
            c.dstMemoryType,
            c.dstHost as usize,
            c.dstDevice,
            c.dstXInBytes,
            c.dstY,
            c.dstZ,
            c.dstPitch,
            c.dstHeight,
        )?,
        extent: [c.WidthInBytes, c.Height, c.Depth].map(|n| n as u64),
    })
}

entry_points! {
    fn cuMemcpy(to: u64, from: u64, bytes: usize) |driver| {
        let work = Work::copy(place(driver, from), place(driver, to), bytes as u64);
        now(driver, work)
    };

    fn cuMemcpyAsync(to: u64, from: u64, bytes: usize, stream: Handle) |driver| {
        let work = Work::copy(place(driver, from), place(driver, to), bytes as u64);
        driver.enqueue(stream, work)
    };

    fn cuMemcpyHtoD_v2(to: u64, from: In<u8>, bytes: usize) |driver| {
        now(driver, Work::copy(Place::Host(from.address()), Place::Device(to), bytes as u64))
    };

    fn cuMemcpyHtoDAsync_v2(to: u64, from: In<u8>, bytes: usize, stream: Handle) |driver| {
        driver.enqueue(stream, Work::copy(Place::Host(from.address()), Place::Device(to), bytes as u64))
    };

    fn cuMemcpyDtoH_v2(to: Out<u8>, from: u64, bytes: usize) |driver| {
        now(driver, Work::copy(Place::Device(from), Place::Host(to.address()), bytes as u64))
    };

    fn cuMemcpyDtoHAsync_v2(to: Out<u8>, from: u64, bytes: usize, stream: Handle) |driver| {
        driver.enqueue(stream, Work::copy(Place::Device(from), Place::Host(to.address()), bytes as u64))
    };

    fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) |driver| {
        now(driver, Work::copy(Place::Device(from), Place::Device(to), bytes as u64))
    };

    fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle) |driver| {
        driver.enqueue(stream, Work::copy(Place::Device(from), Place::Device(to), bytes as u64))
    };

    fn cuMemcpyPeerAsync(
        to: u64, to_context: Handle, from: u64, from_context: Handle, bytes: usize, stream: Handle,
    ) |driver| {
        driver.device_of(to_context)?;
        driver.device_of(from_context)?;
        driver.enqueue(stream, Work::copy(Place::Device(from), Place::Device(to), bytes as u64))
    };

    fn cuMemcpy3DAsync_v2(copy: In<CUDA_MEMCPY3D_st>, stream: Handle) |driver| {
        let work = shaped(driver, &copy.get()?)?;
        driver.enqueue(stream, work)
    };

    fn cuMemsetD8_v2(to: u64, value: u8, count: usize) |driver| now(driver, set(to, value.into(), 1, count));

    fn cuMemsetD32_v2(to: u64, value: c_uint, count: usize) |driver| now(driver, set(to, value, 4, count));

    fn cuMemsetD8Async(to: u64, value: u8, count: usize, stream: Handle) |driver| {
        driver.enqueue(stream, set(to, value.into(), 1, count))
    };

    fn cuMemsetD32Async(to: u64, value: c_uint, count: usize, stream: Handle) |driver| {
        driver.enqueue(stream, set(to, value, 4, count))
    };
}
