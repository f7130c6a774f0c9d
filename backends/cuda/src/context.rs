//! A context with the stream that all work of a driver goes to, and how threads make it their current one.
//!
//! Most calls of CUDA act on the calling thread's current context. A host may have one of its own, so the
//! context here is pushed for a call and popped after it.

use crate::error::{check, failed};
use cudarc::driver::sys::{self, CUcontext, CUdevice, CUresult, CUstream};
use halite_hal::{Error, Result};
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;

pub(crate) struct Context {
    pub selector: String,
    device: CUdevice,
    raw: CUcontext,
    stream: CUstream,
    /// Whether context and stream are released with this value; a host's are not.
    owned: bool,
}

// SAFETY: CUDA's calls may be made from any thread, and from several at once.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

/// While it lives, the context is the thread's current one.
pub(crate) struct Entered<'a> {
    _context: &'a Context,
    /// It belongs to a thread.
    _thread: PhantomData<*const ()>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut popped = ptr::null_mut();
        // SAFETY: this value's context was pushed on this thread.
        let code = unsafe { sys::cuCtxPopCurrent_v2(&mut popped) };
        if code != CUresult::CUDA_SUCCESS {
            tracing::debug!("popping a CUDA context failed: {code:?}");
        }
    }
}

fn push(raw: CUcontext) -> Result<(), CUresult> {
    // SAFETY: whoever made the `Context` says that it is alive.
    check(unsafe { sys::cuCtxPushCurrent_v2(raw) })
}

impl Context {
    /// The device's primary context, and a stream of its own.
    pub(crate) fn primary(selector: &str, device: CUdevice) -> Result<Arc<Self>> {
        let refused = |what: &'static str| move |code| failed(selector, what, code);
        let mut raw = ptr::null_mut();
        // SAFETY: the device is one of the driver's.
        check(unsafe { sys::cuDevicePrimaryCtxRetain(&mut raw, device) })
            .map_err(refused("making a context"))?;
        let mut context =
            Context { selector: selector.into(), device, raw, stream: ptr::null_mut(), owned: true };
        // It isn't held up by work on the default stream, which libraries may use.
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        let mut stream = ptr::null_mut();
        let entered = context.enter()?;
        // SAFETY: the context is current.
        let made = check(unsafe { sys::cuStreamCreate(&mut stream, flags) });
        drop(entered);
        made.map_err(refused("making a stream"))?;
        context.stream = stream;
        Ok(Arc::new(context))
    }

    /// A host's context and stream.
    ///
    /// # Safety
    /// Both live longer than this value.
    pub(crate) unsafe fn adopted(
        selector: &str,
        device: CUdevice,
        raw: CUcontext,
        stream: CUstream,
    ) -> Result<Arc<Self>> {
        let context = Context { selector: selector.into(), device, raw, stream, owned: false };
        let entered = context.enter()?;
        let mut of_stream = ptr::null_mut();
        // SAFETY: the caller says that the stream is alive; the default stream is the current context's.
        check(unsafe { sys::cuStreamGetCtx(stream, &mut of_stream) })
            .map_err(|code| failed(selector, "asking the stream for its context", code))?;
        if of_stream != raw {
            return Err(Error::backend(selector, "the stream belongs to another context"));
        }
        drop(entered);
        Ok(Arc::new(context))
    }

    /// Makes it the thread's current context.
    pub(crate) fn enter(&self) -> Result<Entered<'_>> {
        push(self.raw).map_err(|code| self.failed("entering the context", code))?;
        Ok(Entered { _context: self, _thread: PhantomData })
    }

    pub(crate) fn raw(&self) -> CUcontext {
        self.raw
    }

    pub(crate) fn stream(&self) -> CUstream {
        self.stream
    }

    pub(crate) fn device(&self) -> CUdevice {
        self.device
    }

    pub(crate) fn failed(&self, what: &str, code: CUresult) -> Error {
        failed(&self.selector, what, code)
    }

    /// Waits for everything on the stream.
    pub(crate) fn synchronize(&self) -> Result<(), CUresult> {
        // SAFETY: the stream is alive, and CUDA knows its context.
        check(unsafe { sys::cuStreamSynchronize(self.stream) })
    }

    /// Bytes of device memory that are free, and all there are.
    pub(crate) fn memory(&self) -> Result<(u64, u64)> {
        let _entered = self.enter()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: the context is current.
        check(unsafe { sys::cuMemGetInfo_v2(&mut free, &mut total) })
            .map_err(|code| self.failed("asking for free memory", code))?;
        Ok((free as u64, total as u64))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        let mut codes = Vec::new();
        if !self.stream.is_null()
            && let Ok(_entered) = self.enter()
        {
            // SAFETY: the stream is this value's own; what is on it is finished by CUDA.
            codes.push(unsafe { sys::cuStreamDestroy_v2(self.stream) });
        }
        // SAFETY: this value has one reference, and gives it up here.
        codes.push(unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device) });
        if let Some(code) = codes.into_iter().find(|&code| code != CUresult::CUDA_SUCCESS) {
            tracing::debug!("releasing a CUDA context failed: {code:?}");
        }
    }
}
