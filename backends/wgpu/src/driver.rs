//! The driver: wgpu behind the trait that the engine uses.

use crate::context::Context;
use crate::info;
use crate::memory::WgpuMemory;
use crate::prepared::WgpuPrepared;
use crate::program::WgpuProgram;
use crate::queue::Queue;
use halite_hal::{DeviceInfo, DeviceOptions, Error, Readback, Result};
use halite_kernels::{Cache, Command, Driver, Kernel, Ticket, Traits};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// A [`Driver`] for one wgpu device.
pub struct WgpuDriver {
    info: DeviceInfo,
    cache: Cache,
    context: Arc<Context>,
    queue: Arc<Queue>,
}

impl fmt::Debug for WgpuDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WgpuDriver({}, {:?})", self.info.selector, self.info.name)
    }
}

impl WgpuDriver {
    pub(crate) fn new(context: Context, mut info: DeviceInfo, options: &DeviceOptions) -> Self {
        if let Some(profile) = &options.profile {
            profile.apply(&mut info);
        }
        let context = Arc::new(context);
        WgpuDriver {
            info,
            cache: Cache::new(options.cache_dir.as_deref()),
            queue: Arc::new(Queue::new(context.clone())),
            context,
        }
    }

    /// Adopts a host's device and queue, with the limits and features that the host asked for. The queue's
    /// order covers the host's own submissions. The host's callbacks for errors and for a lost device stay;
    /// errors of Halite's calls go to no callback.
    ///
    /// # Errors
    /// When the device can't run compute kernels.
    pub fn from_device_queue(
        device: wgpu::Device,
        queue: wgpu::Queue,
        options: &DeviceOptions,
    ) -> Result<Self> {
        let info = info::of_device(&device);
        if info.max_workgroups == 0 || device.limits().max_storage_buffers_per_shader_stage == 0 {
            let message = "the device was made without compute workgroups or storage buffers";
            return Err(Error::backend(&info.selector, message));
        }
        let context = Context::adopt(device, queue, info.selector.clone());
        Ok(Self::new(context, info, options))
    }

    /// A buffer of the program's own as memory; it may be used by the program as before.
    ///
    /// # Errors
    /// When the buffer is of another device, lacks one of the usages `STORAGE`, `COPY_SRC` and `COPY_DST`, or
    /// has a size that isn't a multiple of 16 bytes: kernels read whole vectors.
    pub fn import_buffer(&self, buffer: &wgpu::Buffer) -> Result<WgpuMemory> {
        WgpuMemory::import(&self.context, buffer.clone())
    }

    /// The device, for the program's own calls.
    pub fn raw_device(&self) -> &wgpu::Device {
        &self.context.device
    }

    /// The queue, for the program's own calls.
    pub fn raw_queue(&self) -> &wgpu::Queue {
        &self.context.queue
    }
}

impl Driver for WgpuDriver {
    type Memory = WgpuMemory;
    type Program = WgpuProgram;
    type Prepared = WgpuPrepared;

    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn traits(&self) -> Traits {
        let int64 = self.context.device.features().contains(wgpu::Features::SHADER_INT64);
        Traits::tracked().on_vulkan(&self.info.driver, int64)
    }

    fn allocate(&self, bytes: u64) -> Result<WgpuMemory> {
        if bytes > self.info.max_buffer_bytes {
            return Err(Error::Limit {
                device: self.info.selector.clone(),
                what: "bytes of a buffer".into(),
                requested: bytes,
                maximum: self.info.max_buffer_bytes,
            });
        }
        // What kernels are given is rounded up to whole vectors.
        WgpuMemory::new(&self.context, bytes.next_multiple_of(16))
    }

    fn upload(&self, to: &Arc<WgpuMemory>, offset: u64, data: &[u8]) -> Result<Ticket> {
        self.queue.upload(&to.buffer, offset, data)
    }

    fn download(&self, from: &Arc<WgpuMemory>, offset: u64, bytes: u64) -> Result<Readback> {
        self.queue.download(&from.buffer, offset, bytes)
    }

    fn compile(&self, kernel: &Kernel) -> Result<WgpuProgram> {
        WgpuProgram::new(&self.context, &self.info, &self.cache, kernel)
    }

    fn submit(&self, commands: &[Command<Self>]) -> Result<Ticket> {
        self.queue.run(&self.prepare(commands)?)
    }

    fn prepare(&self, commands: &[Command<Self>]) -> Result<WgpuPrepared> {
        WgpuPrepared::new(&self.context, commands)
    }

    fn run(&self, list: &Arc<WgpuPrepared>) -> Result<Ticket> {
        self.queue.run(list)
    }

    fn last(&self) -> Ticket {
        self.queue.last()
    }

    fn wait(&self, ticket: Ticket, block: bool) -> Result<bool> {
        self.queue.wait(ticket, block)
    }

    fn time(&self, commands: &[Command<Self>]) -> Result<Vec<f64>> {
        self.wait(self.last(), true)?;
        let time_one = |command: &Command<Self>| {
            let list = self.prepare(std::slice::from_ref(command))?;
            // A barrier is no step, and takes no time.
            let Some(step) = list.steps.first() else { return Ok(0.0) };
            if self.info.timestamps {
                return self.queue.time(step);
            }
            let start = Instant::now();
            self.wait(self.queue.run(&list)?, true)?;
            Ok(start.elapsed().as_secs_f64())
        };
        commands.iter().map(time_one).collect()
    }
}

#[cfg(test)]
mod tests;
