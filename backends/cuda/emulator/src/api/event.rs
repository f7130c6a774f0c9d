//! Events. Their times are the host's.

use super::{Out, entry_points};
use crate::driver::{Answer, Driver, Handle, Object};
use crate::stream::Event;
use cudarc::driver::sys::{CUevent_flags, CUresult};
use std::ffi::c_uint;
use std::time::Instant;

fn wait(driver: &mut Driver, event: Handle) -> Answer {
    let context = driver.event(event)?.context;
    let device = driver.device_of(context)?;
    driver.synchronize(device)
}

fn record(driver: &mut Driver, event: Handle, stream: Handle) -> Answer {
    let device = driver.device_of_stream(stream)?;
    driver.state(device)?;
    if driver.context_of(stream)? != driver.event(event)?.context {
        return Err(CUresult::CUDA_ERROR_INVALID_HANDLE);
    }
    let captured = driver.capture(stream).ok().and_then(|capture| capture.clone());
    let event = driver.event(event)?;
    event.at = Some(Instant::now());
    event.captured = captured;
    Ok(())
}

entry_points! {
    fn cuEventCreate(event: Out<Handle>, flags: c_uint) |driver| {
        driver.healthy()?;
        let context = driver.current()?;
        let timed = flags & CUevent_flags::CU_EVENT_DISABLE_TIMING as c_uint == 0;
        event.put(driver.add(Object::Event(Event { context, timed, at: None, captured: None })))
    };

    fn cuEventDestroy_v2(event: Handle) |driver| {
        driver.remove(event, |object| matches!(object, Object::Event(_))).map(|_| ())
    };

    fn cuEventRecord(event: Handle, stream: Handle) |driver| record(driver, event, stream);

    fn cuEventRecordWithFlags(event: Handle, stream: Handle, _flags: c_uint) |driver| {
        record(driver, event, stream)
    };

    fn cuEventSynchronize(event: Handle) |driver| wait(driver, event);

    fn cuEventQuery(event: Handle) |driver| wait(driver, event);

    fn cuEventElapsedTime(milliseconds: Out<f32>, start: Handle, end: Handle) |driver| {
        let mut time = |event| {
            let event = driver.event(event)?;
            event.at.filter(|_| event.timed).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)
        };
        let (start, end) = (time(start)?, time(end)?);
        let seconds = match end.checked_duration_since(start) {
            Some(after) => after.as_secs_f64(),
            None => -(start - end).as_secs_f64(),
        };
        milliseconds.put((seconds * 1e3) as f32)
    };
}
