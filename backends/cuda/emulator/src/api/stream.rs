//! Streams, and their recording into graphs.

use super::{Out, entry_points};
use crate::driver::{Answer, Driver, Handle, Object};
use crate::graph::Graph;
use crate::stream::Capture;
use cudarc::driver::sys::{CUresult, CUstreamCaptureStatus};
use std::ffi::{c_int, c_uint, c_void};

fn create(driver: &mut Driver, stream: Out<Handle>) -> Answer {
    driver.healthy()?;
    let context = driver.current()?;
    stream.put(driver.add(Object::Stream { context, capture: None }))
}

entry_points! {
    fn cuStreamCreate(stream: Out<Handle>, _flags: c_uint) |driver| create(driver, stream);

    fn cuStreamCreateWithPriority(stream: Out<Handle>, _flags: c_uint, _priority: c_int) |driver| {
        create(driver, stream)
    };

    fn cuStreamDestroy_v2(stream: Handle) |driver| {
        driver.remove(stream, |object| matches!(object, Object::Stream { .. })).map(|_| ())
    };

    fn cuStreamSynchronize(stream: Handle) |driver| {
        if driver.capture(stream).is_ok_and(|capture| capture.is_some()) {
            return Err(CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
        }
        let device = driver.device_of_stream(stream)?;
        driver.synchronize(device)
    };

    fn cuStreamQuery(stream: Handle) |driver| {
        let device = driver.device_of_stream(stream)?;
        driver.synchronize(device)
    };

    fn cuStreamGetCtx(stream: Handle, context: Out<Handle>) |driver| {
        context.put(driver.context_of(stream)?)
    };

    fn cuStreamWaitEvent(stream: Handle, event: Handle, _flags: c_uint) |driver| {
        let device = driver.device_of_stream(stream)?;
        driver.state(device)?;
        let Some(recorded) = driver.event(event)?.captured.clone() else { return Ok(()) };
        // The stream joins the recording that the event is of.
        let capture = driver.capture(stream)?;
        match capture {
            Some(own) if own.graph == recorded.graph => own.after.extend(recorded.after),
            Some(_) => return Err(CUresult::CUDA_ERROR_STREAM_CAPTURE_MERGE),
            None => *capture = Some(recorded),
        }
        Ok(())
    };

    fn cuStreamBeginCapture_v2(stream: Handle, _mode: c_uint) |driver| {
        let device = driver.device_of_stream(stream)?;
        driver.state(device)?;
        if driver.capture(stream)?.is_some() {
            return Err(CUresult::CUDA_ERROR_ILLEGAL_STATE);
        }
        let graph = driver.add(Object::Graph(Graph::default()));
        *driver.capture(stream)? = Some(Capture { graph, after: Vec::new() });
        Ok(())
    };

    fn cuStreamEndCapture(stream: Handle, graph: Out<Handle>) |driver| {
        let capture = driver.capture(stream)?.take().ok_or(CUresult::CUDA_ERROR_ILLEGAL_STATE)?;
        driver.leave_capture(capture.graph);
        graph.put(capture.graph)
    };

    fn cuStreamIsCapturing(stream: Handle, status: Out<c_uint>) |driver| {
        driver.device_of_stream(stream)?;
        let capturing = driver.capture(stream).is_ok_and(|capture| capture.is_some());
        status.put(match capturing {
            true => CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_ACTIVE as c_uint,
            false => CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE as c_uint,
        })
    };

    fn cuLaunchHostFunc(
        stream: Handle, function: Option<extern "C" fn(*mut c_void)>, data: *mut c_void,
    ) |driver| {
        let function = function.ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)?;
        let device = driver.device_of_stream(stream)?;
        driver.state(device)?;
        if driver.capture(stream).is_ok_and(|capture| capture.is_some()) {
            return Err(CUresult::CUDA_ERROR_NOT_SUPPORTED);
        }
        // It makes no calls of CUDA: that is forbidden.
        if driver.devices[device].fault.is_none() {
            function(data);
        }
        Ok(())
    };
}
