//! Devices, and what they say of themselves.

use super::{Out, entry_points};
use crate::attributes;
use cudarc::driver::sys::CUresult;
use std::ffi::{c_char, c_int};

entry_points! {
    fn cuDeviceGetCount(count: Out<c_int>) |driver| count.put(driver.devices.len() as c_int);

    fn cuDeviceGet(device: Out<c_int>, ordinal: c_int) |driver| {
        driver.device(ordinal)?;
        device.put(ordinal)
    };

    fn cuDeviceGetName(name: Out<c_char>, bytes: c_int, device: c_int) |driver| {
        driver.device(device)?;
        let bytes = usize::try_from(bytes).map_err(|_| CUresult::CUDA_ERROR_INVALID_VALUE)?;
        name.put_text(&attributes::name(&driver.config), bytes)
    };

    fn cuDeviceGetUuid(uuid: Out<[u8; 16]>, device: c_int) |driver| {
        driver.device(device)?;
        let mut bytes = *b"Halite emulator\0";
        bytes[15] = device as u8;
        uuid.put(bytes)
    };

    fn cuDeviceGetUuid_v2(uuid: Out<[u8; 16]>, device: c_int) |driver| {
        driver.device(device)?;
        let mut bytes = *b"Halite emulator\0";
        bytes[15] = device as u8;
        uuid.put(bytes)
    };

    fn cuDeviceGetPCIBusId(id: Out<c_char>, bytes: c_int, device: c_int) |driver| {
        driver.device(device)?;
        let bytes = usize::try_from(bytes).map_err(|_| CUresult::CUDA_ERROR_INVALID_VALUE)?;
        id.put_text(&attributes::bus(device as usize), bytes)
    };

    fn cuDeviceTotalMem_v2(bytes: Out<usize>, device: c_int) |driver| {
        driver.device(device)?;
        bytes.put(driver.config.memory as usize)
    };

    fn cuDeviceGetAttribute(value: Out<c_int>, which: c_int, device: c_int) |driver| {
        driver.device(device)?;
        value.put(attributes::attribute(&driver.config, device as usize, which))
    };

    fn cuDeviceCanAccessPeer(can: Out<c_int>, device: c_int, peer: c_int) |driver| {
        driver.device(device)?;
        driver.device(peer)?;
        can.put((device != peer).into())
    };
}
