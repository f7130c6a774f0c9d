//! Contexts, and which one is a thread's current one.

use super::{Out, entry_points};
use crate::driver::{Handle, Object, with_current};
use cudarc::driver::sys::CUresult;
use std::ffi::{c_int, c_uint};

entry_points! {
    fn cuDevicePrimaryCtxRetain(context: Out<Handle>, device: c_int) |driver| {
        let held = driver.device(device)?.primary;
        let (handle, times) = match held {
            Some(held) => held,
            None => (driver.add(Object::Context { device: device as usize }), 0),
        };
        driver.device(device)?.primary = Some((handle, times + 1));
        context.put(handle)
    };

    fn cuDevicePrimaryCtxRelease_v2(device: c_int) |driver| {
        let held = &mut driver.device(device)?.primary;
        let (handle, times) = held.ok_or(CUresult::CUDA_ERROR_INVALID_CONTEXT)?;
        if times > 1 {
            *held = Some((handle, times - 1));
            return Ok(());
        }
        *held = None;
        driver.end_context(handle)
    };

    fn cuDevicePrimaryCtxGetState(device: c_int, flags: Out<c_uint>, active: Out<c_int>) |driver| {
        flags.put(0)?;
        active.put(driver.device(device)?.primary.is_some().into())
    };

    fn cuCtxCreate_v2(context: Out<Handle>, _flags: c_uint, device: c_int) |driver| {
        driver.device(device)?;
        driver.state(device as usize)?;
        let handle = driver.add(Object::Context { device: device as usize });
        context.put(handle)?;
        with_current(|current| current.push(handle));
        Ok(())
    };

    fn cuCtxDestroy_v2(context: Handle) |driver| {
        if driver.devices.iter().any(|device| device.primary.is_some_and(|(handle, _)| handle == context)) {
            return Err(CUresult::CUDA_ERROR_INVALID_CONTEXT);
        }
        driver.end_context(context)?;
        with_current(|current| current.pop_if(|top| *top == context));
        Ok(())
    };

    fn cuCtxPushCurrent_v2(context: Handle) |driver| {
        driver.device_of(context)?;
        with_current(|current| current.push(context));
        Ok(())
    };

    fn cuCtxPopCurrent_v2(context: Out<Handle>) |_driver| {
        let popped = with_current(Vec::pop).ok_or(CUresult::CUDA_ERROR_INVALID_CONTEXT)?;
        context.put_if(popped);
        Ok(())
    };

    fn cuCtxSetCurrent(context: Handle) |driver| {
        if context != 0 {
            driver.device_of(context)?;
        }
        with_current(|current| {
            current.pop();
            if context != 0 {
                current.push(context);
            }
        });
        Ok(())
    };

    fn cuCtxGetCurrent(context: Out<Handle>) |_driver| {
        context.put(with_current(|current| current.last().copied()).unwrap_or(0))
    };

    fn cuCtxGetDevice(device: Out<c_int>) |driver| {
        let context = driver.current()?;
        device.put(driver.device_of(context)? as c_int)
    };

    fn cuCtxSynchronize() |driver| {
        let context = driver.current()?;
        let device = driver.device_of(context)?;
        driver.synchronize(device)
    };

    fn cuCtxEnablePeerAccess(peer: Handle, flags: c_uint) |driver| {
        let context = driver.current()?;
        if flags != 0 || driver.device_of(peer)? == driver.device_of(context)? {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        Ok(())
    };

    fn cuCtxDisablePeerAccess(peer: Handle) |driver| driver.device_of(peer).map(|_| ());
}
