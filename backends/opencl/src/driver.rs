//! The driver: one device, one context, one in-order queue.

use crate::error::{failed, is_out_of_memory, out_of_memory};
use crate::handle::{CommandQueue, Context, Event, Memory};
use crate::info::{Found, scan, workgroup_sizes};
use crate::memory::{Account, OpenClMemory};
use crate::prepared::OpenClPrepared;
use crate::program::{Compiler, Interface, OpenClProgram};
use crate::queue::Queue;
use crate::quirks::turn;
use halite_hal::{DeviceInfo, DeviceOptions, Error, Readback, Result};
use halite_kernels::writer::Dialect;
use halite_kernels::{Cache, Command, Driver, Kernel, Ticket, Traits};
use opencl3::command_queue::{
    CL_QUEUE_CONTEXT, CL_QUEUE_DEVICE, CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE, CL_QUEUE_PROFILING_ENABLE,
    CL_QUEUE_PROPERTIES, create_command_queue, get_command_queue_info,
};
use opencl3::context::context::create_context;
use opencl3::event::{
    CL_PROFILING_COMMAND_END, CL_PROFILING_COMMAND_START, get_event_profiling_info, wait_for_events,
};
use opencl3::memory::{CL_MEM_CONTEXT, CL_MEM_READ_WRITE, CL_MEM_SIZE, create_buffer, get_mem_object_info};
use opencl3::types::{
    cl_command_queue, cl_command_queue_properties, cl_context, cl_device_id, cl_int, cl_mem, cl_ulong,
};
use std::fmt;
use std::ptr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// A [`Driver`] for one OpenCL device.
pub struct OpenClDriver {
    info: DeviceInfo,
    context: Context,
    compiler: Compiler,
    queue: Arc<Queue>,
    account: Arc<Account>,
    pools: bool,
    /// Made when something is first timed: queues that take times are slower.
    timing: OnceLock<CommandQueue>,
}

impl fmt::Debug for OpenClDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenClDriver({}, {:?})", self.info.selector, self.info.name)
    }
}

impl OpenClDriver {
    /// Opens device `index` of those that [`OpenClBackend`](crate::OpenClBackend) lists.
    ///
    /// # Errors
    /// When there is no such device, or its driver refuses.
    pub fn new(index: usize, options: &DeviceOptions) -> Result<Self> {
        let (mut all, notes) = scan();
        let _turn = turn();
        if index >= all.len() {
            return Err(Error::NoDevice {
                selector: format!("opencl:{index}"),
                reason: [vec![format!("there are {} devices of kind opencl", all.len())], notes]
                    .concat()
                    .join("; "),
                available: all.into_iter().map(|f| f.info.selector).collect(),
            });
        }
        let found = all.swap_remove(index);
        let refused = |what: &'static str| {
            let selector = found.info.selector.clone();
            move |code| failed(&selector, what, code)
        };
        let context = create_context(&[found.device], ptr::null(), None, ptr::null_mut());
        let context = context.map_err(refused("making a context"))?;
        // SAFETY: the context was made for this call.
        let context = unsafe { Context::owned(context) };
        let queue = new_queue(&context, found.device, 0).map_err(refused("making a queue"))?;
        Ok(Self::with(found, context, queue, options))
    }

    /// Adopts a host's context, device and queue. They are retained: the host may release its references.
    /// The queue's order covers the host's own commands; buffers of the context can be
    /// [imported](OpenClDriver::import_buffer).
    ///
    /// # Errors
    /// When the device isn't one that [`OpenClBackend`](crate::OpenClBackend) lists, the queue isn't of this
    /// context and device, or it runs commands out of order.
    ///
    /// # Safety
    /// All three are alive.
    pub unsafe fn from_raw(
        context: cl_context,
        device: cl_device_id,
        queue: cl_command_queue,
        options: &DeviceOptions,
    ) -> Result<Self> {
        let refuse = |message: &str| Error::backend("opencl", message);
        let found = scan().0.into_iter().find(|f| f.device == device);
        let found = found.ok_or_else(|| refuse("the device is not one of the platforms' usable devices"))?;
        let _turn = turn();
        let of_queue = |what| {
            get_command_queue_info(queue, what).map_err(|code| failed("opencl", "asking the queue", code))
        };
        if isize::from(of_queue(CL_QUEUE_CONTEXT)?) != context as isize
            || isize::from(of_queue(CL_QUEUE_DEVICE)?) != device as isize
        {
            return Err(refuse("the queue belongs to another context or device"));
        }
        if u64::from(of_queue(CL_QUEUE_PROPERTIES)?) & CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE != 0 {
            return Err(refuse("the queue runs commands out of order; give one that is in order"));
        }
        // SAFETY: the caller says that they are alive.
        let (context, queue) = unsafe { (Context::retained(context), CommandQueue::retained(queue)) };
        let context = context.map_err(|code| failed("opencl", "retaining the context", code))?;
        let queue = queue.map_err(|code| failed("opencl", "retaining the queue", code))?;
        Ok(Self::with(found, context, queue, options))
    }

    fn with(found: Found, context: Context, queue: CommandQueue, options: &DeviceOptions) -> Self {
        let Found { device, mut info, identity, pools } = found;
        if let Some(profile) = &options.profile {
            profile.apply(&mut info);
        }
        let account = Account::new(info.memory_bytes);
        let compiler = Compiler {
            selector: info.selector.clone(),
            device,
            identity,
            cache: Cache::new(options.cache_dir.as_deref()),
            workgroup_sizes: workgroup_sizes(device),
            workgroup_size: info.max_workgroup_size.into(),
            local_memory_bytes: info.local_memory_bytes.into(),
        };
        let queue = Arc::new(Queue::new(info.selector.clone(), queue, account.clone()));
        OpenClDriver { info, context, compiler, queue, account, pools, timing: OnceLock::new() }
    }

    /// The context, for the host's own calls. It lives as long as the driver, unless the host retains it.
    pub fn raw_context(&self) -> cl_context {
        self.context.raw()
    }

    /// The device.
    pub fn raw_device(&self) -> cl_device_id {
        self.compiler.device
    }

    /// Takes a host's buffer for the driver's use. It is retained: the host may release its reference.
    ///
    /// # Errors
    /// When the buffer is of another context, or has fewer than `bytes` bytes.
    ///
    /// # Safety
    /// The buffer is alive, and kernels may read and write it.
    pub unsafe fn import_buffer(&self, buffer: cl_mem, bytes: u64) -> Result<OpenClMemory> {
        let _turn = turn();
        let what = |code| failed(&self.info.selector, "importing a buffer", code);
        let context = isize::from(get_mem_object_info(buffer, CL_MEM_CONTEXT).map_err(what)?);
        if context != self.context.raw() as isize {
            return Err(Error::backend(
                &self.info.selector,
                "the imported buffer belongs to another context",
            ));
        }
        let size = usize::from(get_mem_object_info(buffer, CL_MEM_SIZE).map_err(what)?) as u64;
        if bytes > size {
            return Err(Error::OutOfRange { action: "import", start: 0, end: bytes, size });
        }
        // SAFETY: the caller says that it is alive.
        let memory = unsafe { Memory::retained(buffer) }.map_err(what)?;
        Ok(OpenClMemory { memory, bytes, _share: None })
    }

    /// Compiles OpenCL C with the interface of `kernel`, in place of its WGSL. It has one kernel, which
    /// takes what the kernels take that [`writer::write`](halite_kernels::writer::write) makes.
    pub(crate) fn compile_source(&self, kernel: &Kernel, source: &str) -> Result<OpenClProgram> {
        let _turn = turn();
        let interface = Interface {
            name: &kernel.name,
            arguments: u32::from(kernel.params > 0) + 2 * kernel.bindings as u32,
            workgroup: kernel.workgroup,
        };
        self.compiler.compile(&self.context, source, &interface)
    }

    fn timing_queue(&self) -> Result<&CommandQueue> {
        if let Some(queue) = self.timing.get() {
            return Ok(queue);
        }
        let queue = new_queue(&self.context, self.compiler.device, CL_QUEUE_PROFILING_ENABLE);
        let queue =
            queue.map_err(|code| failed(&self.info.selector, "making a queue that takes times", code))?;
        Ok(self.timing.get_or_init(|| queue))
    }
}

fn new_queue(
    context: &Context,
    device: cl_device_id,
    properties: cl_command_queue_properties,
) -> Result<CommandQueue, cl_int> {
    // SAFETY: the device is one of the context's.
    let queue = unsafe { create_command_queue(context.raw(), device, properties) }?;
    // SAFETY: the queue was made for this call.
    Ok(unsafe { CommandQueue::owned(queue) })
}

/// Seconds from start to end on the device's clock.
fn device_seconds(event: &Event) -> Result<f64, cl_int> {
    let at = |what| get_event_profiling_info(event.raw(), what).map(cl_ulong::from);
    let nanoseconds = at(CL_PROFILING_COMMAND_END)?.saturating_sub(at(CL_PROFILING_COMMAND_START)?);
    Ok(nanoseconds as f64 * 1e-9)
}

impl Driver for OpenClDriver {
    type Memory = OpenClMemory;
    type Program = OpenClProgram;
    type Prepared = OpenClPrepared;

    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn traits(&self) -> Traits {
        let mut traits = Traits::new();
        traits.shares_memory = self.pools;
        traits
    }

    fn allocate(&self, bytes: u64) -> Result<OpenClMemory> {
        let none_left = || out_of_memory(&self.info.selector, &self.account, bytes);
        let _turn = turn();
        let share = self.account.take(bytes).ok_or_else(none_left)?;
        // SAFETY: no host memory is given.
        let memory =
            unsafe { create_buffer(self.context.raw(), CL_MEM_READ_WRITE, bytes as usize, ptr::null_mut()) };
        match memory {
            Ok(raw) => {
                // SAFETY: the buffer was made for this call.
                let memory = unsafe { Memory::owned(raw) };
                Ok(OpenClMemory { memory, bytes, _share: Some(share) })
            }
            Err(code) => {
                drop(share);
                if is_out_of_memory(code) {
                    return Err(none_left());
                }
                Err(failed(&self.info.selector, &format!("allocating {bytes} bytes"), code))
            }
        }
    }

    fn upload(&self, to: &Arc<OpenClMemory>, offset: u64, data: &[u8]) -> Result<Ticket> {
        self.queue.upload(to, offset, data)
    }

    fn download(&self, from: &Arc<OpenClMemory>, offset: u64, bytes: u64) -> Result<Readback> {
        self.queue.download(from, offset, bytes)
    }

    fn compile(&self, kernel: &Kernel) -> Result<OpenClProgram> {
        let source = kernel.parse().and_then(|parsed| parsed.c(Dialect::OpenClC))?;
        tracing::trace!("{}:\n{source}", kernel.name);
        self.compile_source(kernel, &source)
    }

    fn submit(&self, commands: &[Command<Self>]) -> Result<Ticket> {
        self.queue.run(&Arc::new(self.prepare(commands)?))
    }

    fn prepare(&self, commands: &[Command<Self>]) -> Result<OpenClPrepared> {
        let _turn = turn();
        OpenClPrepared::new(&self.info.selector, commands)
    }

    fn run(&self, list: &Arc<OpenClPrepared>) -> Result<Ticket> {
        self.queue.run(list)
    }

    fn last(&self) -> Ticket {
        self.queue.last()
    }

    fn wait(&self, ticket: Ticket, block: bool) -> Result<bool> {
        self.queue.wait(ticket, block)
    }

    fn time(&self, commands: &[Command<Self>]) -> Result<Vec<f64>> {
        let _turn = turn();
        let timing = self.timing_queue()?;
        let time_one = |command: &Command<Self>| {
            let list = self.prepare(std::slice::from_ref(command))?;
            // A barrier is no step, and takes no time.
            let Some(step) = list.steps.first() else { return Ok(0.0) };
            let start = Instant::now();
            let refused = |code| self.queue.refused(step.label(), step.bytes(), code);
            let event = step.enqueue(timing).map_err(refused)?;
            wait_for_events(&[event.raw()])
                .map_err(|code| failed(&self.info.selector, step.label(), code))?;
            Ok(device_seconds(&event).unwrap_or(start.elapsed().as_secs_f64()))
        };
        self.queue.idle(|| commands.iter().map(time_one).collect())
    }
}

#[cfg(test)]
mod tests;
