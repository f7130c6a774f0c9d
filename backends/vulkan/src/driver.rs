//! The driver: Vulkan behind the trait that the engine uses.

use crate::VulkanBackend;
use crate::context::{Context, Host};
use crate::info;
use crate::memory::{HostMemory, VulkanMemory};
use crate::prepared::VulkanPrepared;
use crate::program::VulkanProgram;
use crate::queue::Queue;
use ash::vk;
use halite_hal::{DeviceInfo, DeviceOptions, Error, Readback, Result, TransferState};
use halite_kernels::{Cache, Command, Driver, Kernel, Ticket, Traits};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A Vulkan device as a driver.
pub struct VulkanDriver {
    info: DeviceInfo,
    cache: Cache,
    /// Dropped before the context.
    queue: Arc<Mutex<Queue>>,
    context: Arc<Context>,
}

impl fmt::Debug for VulkanDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VulkanDriver({})", self.info.name)
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Download {
    queue: Arc<Mutex<Queue>>,
    ticket: Ticket,
    staging: Arc<HostMemory>,
    bytes: usize,
}

impl TransferState for Download {
    fn poll(&mut self) -> Result<bool> {
        lock(&self.queue).wait(self.ticket, false)
    }

    fn wait(self: Box<Self>) -> Result<Vec<u8>> {
        lock(&self.queue).wait(self.ticket, true)?;
        Ok(self.staging.read(self.bytes))
    }
}

impl VulkanDriver {
    pub(crate) fn open(
        host: Arc<Host>,
        physical: vk::PhysicalDevice,
        index: usize,
        options: &DeviceOptions,
    ) -> Result<Self> {
        let info = info::describe(&host, physical, index);
        let context = Context::new(host, physical, &info.selector)?;
        Self::with(context, info, options)
    }

    /// Opens device `index` of those that [`VulkanBackend`](crate::VulkanBackend) lists. In an
    /// [`Engine`](halite_kernels::Engine) it is a device to which a program can add memory and kernels of its
    /// own.
    ///
    /// # Errors
    /// When there is no such device, or its driver refuses.
    pub fn new(index: usize, options: &DeviceOptions) -> Result<Self> {
        VulkanBackend::new().driver(index, options)
    }

    fn with(context: Context, mut info: DeviceInfo, options: &DeviceOptions) -> Result<Self> {
        if let Some(profile) = &options.profile {
            profile.apply(&mut info);
        }
        let context = Arc::new(context);
        Ok(VulkanDriver {
            info,
            cache: Cache::new(options.cache_dir.as_deref()),
            queue: Arc::new(Mutex::new(Queue::new(&context)?)),
            context,
        })
    }

    /// A driver on a device that the program has already. Nothing of it is destroyed; no feature or extension
    /// beyond Vulkan 1.1 is used. The queue's order covers the program's own submissions too; what Halite has
    /// gathered is submitted by a download or [`synchronize`](halite_hal::Device::synchronize).
    ///
    /// # Errors
    /// When the driver refuses.
    ///
    /// # Safety
    /// The handles are valid, belong together, and outlive the driver, what is made with it, and its
    /// [`Engine`](halite_kernels::Engine). Instance and device are of Vulkan 1.1 or newer; the queue, of family
    /// `family`, computes. No one else uses the queue during a call of Halite's.
    pub unsafe fn from_raw(
        entry: ash::Entry,
        instance: ash::Instance,
        physical: vk::PhysicalDevice,
        device: ash::Device,
        queue: vk::Queue,
        family: u32,
        options: &DeviceOptions,
    ) -> Result<Self> {
        let host = Arc::new(Host::adopt(entry, instance));
        let index = host.physical_devices().iter().position(|&p| p == physical).unwrap_or(0);
        let mut info = info::describe(&host, physical, index);
        let context = Context::adopt(host, physical, device, queue, family, &info.selector);
        // What has to be switched on when a device is made.
        if info.subgroup_size_control {
            info.subgroup_sizes = None;
        }
        (info.subgroup_size_control, info.f16, info.int8_dot) = (false, false, false);
        info.timestamps = context.timestamp_period > 0.0;
        Self::with(context, info, options)
    }

    /// A buffer of the program's own as memory; it is not destroyed with it.
    ///
    /// # Safety
    /// The buffer belongs to this driver's device, has memory bound, may be used for storage and transfers,
    /// and outlives what is returned.
    pub unsafe fn import_buffer(&self, buffer: vk::Buffer) -> VulkanMemory {
        VulkanMemory::import(&self.context, buffer)
    }

    /// Makes the next submission find the device lost: fault injection for tests.
    #[doc(hidden)]
    pub fn lose_device(&self) {
        lock(&self.queue).lose = true;
    }
}

impl Driver for VulkanDriver {
    type Memory = VulkanMemory;
    type Program = VulkanProgram;
    type Prepared = VulkanPrepared;

    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn traits(&self) -> Traits {
        Traits::new().on_vulkan(&self.info.driver, self.context.int64)
    }

    fn allocate(&self, bytes: u64) -> Result<VulkanMemory> {
        if bytes > self.info.max_buffer_bytes {
            return Err(Error::Limit {
                device: self.info.selector.clone(),
                what: "bytes of a buffer".into(),
                requested: bytes,
                maximum: self.info.max_buffer_bytes,
            });
        }
        VulkanMemory::new(&self.context, bytes.max(16))
    }

    fn upload(&self, to: &Arc<VulkanMemory>, offset: u64, data: &[u8]) -> Result<Ticket> {
        lock(&self.queue).upload(to, offset, data)
    }

    fn download(&self, from: &Arc<VulkanMemory>, offset: u64, bytes: u64) -> Result<Readback> {
        if bytes == 0 {
            return Ok(Readback::ready(Vec::new()));
        }
        let (ticket, staging) = lock(&self.queue).download(from, offset, bytes)?;
        Ok(Readback::new(Download { queue: self.queue.clone(), ticket, staging, bytes: bytes as usize }))
    }

    fn compile(&self, kernel: &Kernel) -> Result<VulkanProgram> {
        VulkanProgram::new(&self.context, &self.info, &self.cache, kernel)
    }

    fn submit(&self, commands: &[Command<Self>]) -> Result<Ticket> {
        lock(&self.queue).submit(commands)
    }

    fn prepare(&self, commands: &[Command<Self>]) -> Result<VulkanPrepared> {
        VulkanPrepared::new(&self.context, commands)
    }

    fn run(&self, list: &Arc<VulkanPrepared>) -> Result<Ticket> {
        lock(&self.queue).run(list)
    }

    fn last(&self) -> Ticket {
        lock(&self.queue).last()
    }

    fn wait(&self, ticket: Ticket, block: bool) -> Result<bool> {
        lock(&self.queue).wait(ticket, block)
    }

    fn free_bytes(&self) -> Option<u64> {
        info::free_bytes(&self.context.host, self.context.physical)
    }

    fn time(&self, commands: &[Command<Self>]) -> Result<Vec<f64>> {
        lock(&self.queue).time(commands)
    }
}
