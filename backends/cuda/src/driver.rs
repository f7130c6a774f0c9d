//! The driver: one device, one context, one stream.

use crate::context::Context;
use crate::error::{check, failed};
use crate::handle::Event;
use crate::info::{Found, scan};
use crate::memory::CudaMemory;
use crate::nvrtc;
use crate::prebuilt;
use crate::prepared::{CudaPrepared, Step};
use crate::program::{Compiler, CudaProgram};
use crate::queue::Queue;
use cudarc::driver::sys::{self, CUcontext, CUdeviceptr, CUmemPool_attribute, CUresult, CUstream};
use halite_hal::{DeviceInfo, DeviceOptions, Error, Readback, Result};
use halite_kernels::{Cache, Command, Driver, Kernel, Ticket};
use std::ffi::c_void;
use std::fmt;
use std::ptr;
use std::sync::Arc;

/// A [`Driver`] for one CUDA device.
pub struct CudaDriver {
    info: DeviceInfo,
    context: Arc<Context>,
    compiler: Compiler,
    queue: Arc<Queue>,
    pools: bool,
    validation: bool,
}

impl fmt::Debug for CudaDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CudaDriver({}, {:?})", self.info.selector, self.info.name)
    }
}

impl CudaDriver {
    /// Opens device `index` of those that [`CudaBackend`](crate::CudaBackend) lists, in its primary context.
    ///
    /// # Errors
    /// When there is no such device, or its driver refuses.
    pub fn new(index: usize, options: &DeviceOptions) -> Result<Self> {
        let (mut all, notes) = scan();
        if index >= all.len() {
            return Err(Error::NoDevice {
                selector: format!("cuda:{index}"),
                reason: [vec![format!("there are {} devices of kind cuda", all.len())], notes]
                    .concat()
                    .join("; "),
                available: all.into_iter().map(|f| f.info.selector).collect(),
            });
        }
        let found = all.swap_remove(index);
        let context = Context::primary(&found.info.selector, found.device)?;
        let driver = Self::with(found, context, options);
        driver.keep_memory()?;
        Ok(driver)
    }

    /// Adopts a host's context and a stream of it; the default stream, which is null, is one too. Its order
    /// covers the host's own work; memory of the context can be [imported](CudaDriver::import_memory). They
    /// stay the host's.
    ///
    /// # Errors
    /// When the context's device isn't one that [`CudaBackend`](crate::CudaBackend) lists, or the stream is of
    /// another context.
    ///
    /// # Safety
    /// Both are alive, and live longer than the driver and all that is made with it.
    pub unsafe fn from_context(
        context: CUcontext,
        stream: CUstream,
        options: &DeviceOptions,
    ) -> Result<Self> {
        let (all, notes) = scan();
        let mut device = 0;
        let mut popped = ptr::null_mut();
        // SAFETY: the caller says that it is alive; it is current only in between.
        let asked = unsafe {
            check(sys::cuCtxPushCurrent_v2(context)).and_then(|()| {
                let asked = check(sys::cuCtxGetDevice(&mut device));
                asked.and(check(sys::cuCtxPopCurrent_v2(&mut popped)))
            })
        };
        asked.map_err(|code| failed("cuda", "asking the context for its device", code))?;
        let found = all.into_iter().find(|f| f.device == device).ok_or_else(|| {
            let reason = format!("the context's device is not one that can be used: {}", notes.join("; "));
            Error::backend("cuda", reason)
        })?;
        // SAFETY: the caller says that they are alive.
        let context = unsafe { Context::adopted(&found.info.selector, device, context, stream) }?;
        Ok(Self::with(found, context, options))
    }

    fn with(found: Found, context: Arc<Context>, options: &DeviceOptions) -> Self {
        let Found { mut info, architecture, workgroup_sizes, pools, .. } = found;
        info.memory_free_bytes = context.memory().ok().map(|(free, _)| free);
        if let Some(profile) = &options.profile {
            profile.apply(&mut info);
        }
        let compiler = Compiler {
            find: prebuilt::FIND,
            nvrtc: nvrtc::get(),
            architecture,
            cache: Cache::new(options.cache_dir.as_deref()),
            workgroup_sizes,
            workgroup_size: info.max_workgroup_size.into(),
            local_memory_bytes: info.local_memory_bytes.into(),
        };
        let asked = std::env::var_os("HALITE_VALIDATE").is_some_and(|v| !v.is_empty() && v != "0");
        let validation = options.validation || asked;
        let queue = Arc::new(Queue::new(&context, validation));
        CudaDriver { info, context, compiler, queue, pools, validation }
    }

    /// Lets the device's pool keep memory that is given back, up to a block of the engine's for each of a few
    /// drivers: CUDA's own choice is to keep nothing beyond the next wait.
    fn keep_memory(&self) -> Result<()> {
        if !self.pools {
            return Ok(());
        }
        let mut pool = ptr::null_mut();
        let mut bytes: u64 = 256 << 20;
        // SAFETY: the device is one of the driver's, it has pools, and the value has the attribute's type.
        let code = unsafe {
            check(sys::cuDeviceGetDefaultMemPool(&mut pool, self.context.device())).and_then(|()| {
                let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
                check(sys::cuMemPoolSetAttribute(pool, attribute, ptr::from_mut(&mut bytes).cast::<c_void>()))
            })
        };
        code.map_err(|code| self.context.failed("setting up the pool of memory", code))
    }

    /// The context, for the host's own calls. It lives as long as the driver.
    pub fn raw_context(&self) -> CUcontext {
        self.context.raw()
    }

    /// The stream that all work goes to, for the host's own calls. It lives as long as the driver.
    pub fn raw_stream(&self) -> CUstream {
        self.context.stream()
    }

    /// Takes a host's device memory for the driver's use. It stays the host's.
    ///
    /// # Errors
    /// When the address isn't one of device memory, is not a multiple of 16, or is followed by fewer than
    /// `bytes` bytes.
    ///
    /// # Safety
    /// The memory lives longer than the result, and kernels may read and write it.
    pub unsafe fn import_memory(&self, address: CUdeviceptr, bytes: u64) -> Result<CudaMemory> {
        let _entered = self.context.enter()?;
        let alignment = self.info.offset_alignment;
        if !address.is_multiple_of(alignment) {
            let message =
                format!("imported memory must begin at a multiple of {alignment}, not at {address:#x}");
            return Err(Error::backend(&self.info.selector, message));
        }
        let (mut start, mut size) = (0, 0);
        // SAFETY: the call checks the address.
        check(unsafe { sys::cuMemGetAddressRange_v2(&mut start, &mut size, address) })
            .map_err(|code| self.context.failed("importing memory", code))?;
        let left = start + size as u64 - address;
        if bytes > left {
            return Err(Error::OutOfRange { action: "import", start: 0, end: bytes, size: left });
        }
        Ok(CudaMemory::imported(address, bytes))
    }

    /// Seconds that a step takes by the device's clock. The stream is idle, and the context current.
    fn time_step(&self, step: &Step) -> Result<f64> {
        let time = || -> Result<f64, CUresult> {
            let (start, end) = (Event::new(&self.context, true)?, Event::new(&self.context, true)?);
            start.record(self.context.stream())?;
            step.enqueue(&self.context)?;
            end.record(self.context.stream())?;
            end.synchronize()?;
            start.seconds_to(&end)
        };
        time().map_err(|code| self.context.failed(step.label(), code))
    }
}

impl Driver for CudaDriver {
    type Memory = CudaMemory;
    type Program = CudaProgram;
    type Prepared = CudaPrepared;

    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn allocate(&self, bytes: u64) -> Result<CudaMemory> {
        CudaMemory::new(&self.context, bytes, self.pools)
    }

    fn upload(&self, to: &Arc<CudaMemory>, offset: u64, data: &[u8]) -> Result<Ticket> {
        self.queue.upload(to, offset, data)
    }

    fn download(&self, from: &Arc<CudaMemory>, offset: u64, bytes: u64) -> Result<Readback> {
        self.queue.download(from, offset, bytes)
    }

    fn compile(&self, kernel: &Kernel) -> Result<CudaProgram> {
        let kernel = kernel.to_cuda_c()?;
        tracing::trace!("{}:\n{}", kernel.name, kernel.text);
        self.compiler.compile(&self.context, &kernel)
    }

    fn submit(&self, commands: &[Command<Self>]) -> Result<Ticket> {
        self.queue.run(&Arc::new(CudaPrepared::steps(&self.info.selector, commands)?))
    }

    fn prepare(&self, commands: &[Command<Self>]) -> Result<CudaPrepared> {
        // A graph that fails doesn't tell which of its nodes did.
        if self.validation {
            return CudaPrepared::steps(&self.info.selector, commands);
        }
        CudaPrepared::graph(&self.context, commands)
    }

    fn run(&self, list: &Arc<CudaPrepared>) -> Result<Ticket> {
        self.queue.run(list)
    }

    fn last(&self) -> Ticket {
        self.queue.last()
    }

    fn wait(&self, ticket: Ticket, block: bool) -> Result<bool> {
        self.queue.wait(ticket, block)
    }

    fn free_bytes(&self) -> Option<u64> {
        self.context.memory().ok().map(|(free, _)| free)
    }

    fn time(&self, commands: &[Command<Self>]) -> Result<Vec<f64>> {
        let list = CudaPrepared::steps(&self.info.selector, commands)?;
        let time_one = |step: &Step| if step.is_barrier() { Ok(0.0) } else { self.time_step(step) };
        self.queue.idle(|| list.steps.iter().map(time_one).collect())
    }
}

#[cfg(test)]
mod tests;
