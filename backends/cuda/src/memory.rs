//! Device memory, taken and given back in the order of the stream.

use crate::context::Context;
use crate::error::check;
use cudarc::driver::sys::{self, CUdeviceptr, CUresult};
use halite_hal::{Error, Result};
use std::fmt;
use std::sync::Arc;

/// A piece of device memory.
pub struct CudaMemory {
    address: CUdeviceptr,
    pub(crate) bytes: u64,
    origin: Origin,
}

/// Where memory comes from, and how it is given back.
enum Origin {
    /// The device's pool: freed when the stream gets there.
    Pool(Arc<Context>),
    /// The device, where it has no pools: freed when the device is idle.
    Device(Arc<Context>),
    /// The host, whose it stays.
    Host,
}

impl CudaMemory {
    /// New memory, from the device's pool if it has one.
    pub(crate) fn new(context: &Arc<Context>, bytes: u64, pools: bool) -> Result<Self> {
        let _entered = context.enter()?;
        let mut address = 0;
        let code = match pools {
            // SAFETY: the context is current, and the stream its own.
            true => unsafe { sys::cuMemAllocAsync(&mut address, bytes as usize, context.stream()) },
            // SAFETY: the context is current.
            false => unsafe { sys::cuMemAlloc_v2(&mut address, bytes as usize) },
        };
        let origin = if pools { Origin::Pool } else { Origin::Device };
        match check(code) {
            Ok(()) => Ok(CudaMemory { address, bytes, origin: origin(context.clone()) }),
            Err(CUresult::CUDA_ERROR_OUT_OF_MEMORY) => {
                let (available, limit) = context.memory()?;
                let device = context.selector.clone();
                Err(Error::OutOfMemory { device, requested: bytes, available, limit })
            }
            Err(code) => Err(context.failed(&format!("allocating {bytes} bytes"), code)),
        }
    }

    /// A host's memory.
    pub(crate) fn imported(address: CUdeviceptr, bytes: u64) -> Self {
        CudaMemory { address, bytes, origin: Origin::Host }
    }

    /// Its address, for the host's own calls. It is good as long as this value lives, and is that of the whole
    /// piece: offsets are those of the region that it was found in.
    pub fn raw(&self) -> CUdeviceptr {
        self.address
    }
}

impl fmt::Debug for CudaMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CudaMemory({} bytes at {:#x})", self.bytes, self.address)
    }
}

impl Drop for CudaMemory {
    fn drop(&mut self) {
        let (Origin::Pool(context) | Origin::Device(context)) = &self.origin else { return };
        let Ok(_entered) = context.enter() else { return };
        let code = match self.origin {
            // SAFETY: what uses it is on the stream before, and the memory is this value's own.
            Origin::Pool(_) => unsafe { sys::cuMemFreeAsync(self.address, context.stream()) },
            // SAFETY: the call waits for what uses it, and the memory is this value's own.
            _ => unsafe { sys::cuMemFree_v2(self.address) },
        };
        if code != CUresult::CUDA_SUCCESS {
            tracing::debug!("freeing CUDA memory failed: {code:?}");
        }
    }
}
