//! Objects of a CUDA context, destroyed when dropped.

use crate::context::Context;
use crate::error::check;
use cudarc::driver::sys::{self, CUevent, CUevent_flags, CUgraph, CUgraphExec, CUmodule, CUresult, CUstream};
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

macro_rules! handle {
    ($name:ident, $raw:ty, $destroy:path) => {
        /// An object of a context, which it keeps alive.
        pub(crate) struct $name {
            raw: $raw,
            context: Arc<Context>,
        }

        impl $name {
            /// Takes over an object.
            ///
            /// # Safety
            /// It is alive, belongs to this context, and is nobody else's to destroy.
            pub(crate) unsafe fn owned(context: &Arc<Context>, raw: $raw) -> Self {
                $name { raw, context: context.clone() }
            }

            pub(crate) fn raw(&self) -> $raw {
                self.raw
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                let Ok(_entered) = self.context.enter() else { return };
                // SAFETY: the object is this value's own.
                let code = unsafe { $destroy(self.raw) };
                if code != CUresult::CUDA_SUCCESS {
                    tracing::debug!(concat!("destroying a CUDA ", stringify!($name), " failed: {:?}"), code);
                }
            }
        }

        // SAFETY: CUDA's calls may be made from any thread, and from several at once; the exception is
        // launching a graph, for which the queue has sole access.
        unsafe impl Send for $name {}
        // SAFETY: as above.
        unsafe impl Sync for $name {}
    };
}

handle!(Event, CUevent, sys::cuEventDestroy_v2);
handle!(Module, CUmodule, sys::cuModuleUnload);
handle!(Graph, CUgraph, sys::cuGraphDestroy);
handle!(GraphExec, CUgraphExec, sys::cuGraphExecDestroy);
handle!(Pinned, *mut c_void, sys::cuMemFreeHost);

impl Event {
    /// An event; only those with times can be used to measure them. The context is current.
    pub(crate) fn new(context: &Arc<Context>, times: bool) -> Result<Self, CUresult> {
        let flags =
            if times { CUevent_flags::CU_EVENT_DEFAULT } else { CUevent_flags::CU_EVENT_DISABLE_TIMING };
        let mut raw = ptr::null_mut();
        // SAFETY: the context is current.
        check(unsafe { sys::cuEventCreate(&mut raw, flags as u32) })?;
        // SAFETY: it was made for this call.
        Ok(unsafe { Event::owned(context, raw) })
    }

    /// Puts it on the stream, after what is there.
    pub(crate) fn record(&self, stream: CUstream) -> Result<(), CUresult> {
        // SAFETY: event and stream are alive, of one context.
        check(unsafe { sys::cuEventRecord(self.raw(), stream) })
    }

    /// Whether what was before it on the stream has run.
    pub(crate) fn query(&self) -> Result<bool, CUresult> {
        // SAFETY: the event is alive.
        match unsafe { sys::cuEventQuery(self.raw()) } {
            CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            code => check(code).map(|()| true),
        }
    }

    /// Waits until that has run.
    pub(crate) fn synchronize(&self) -> Result<(), CUresult> {
        // SAFETY: the event is alive.
        check(unsafe { sys::cuEventSynchronize(self.raw()) })
    }

    /// Seconds from this event to a later one; both have times, and have happened.
    pub(crate) fn seconds_to(&self, end: &Event) -> Result<f64, CUresult> {
        let mut milliseconds = 0.0f32;
        // SAFETY: both are alive.
        check(unsafe { sys::cuEventElapsedTime(&mut milliseconds, self.raw(), end.raw()) })?;
        Ok(f64::from(milliseconds) * 1e-3)
    }
}

impl Pinned {
    /// Host memory that the device reads and writes by itself. The context is current.
    pub(crate) fn new(context: &Arc<Context>, bytes: usize) -> Result<Self, CUresult> {
        let mut raw = ptr::null_mut();
        // SAFETY: the context is current.
        check(unsafe { sys::cuMemHostAlloc(&mut raw, bytes, 0) })?;
        // SAFETY: it was made for this call.
        Ok(unsafe { Pinned::owned(context, raw) })
    }
}
