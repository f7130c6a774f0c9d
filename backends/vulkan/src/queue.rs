//! The queue: one open command buffer that uploads gather in, submissions in flight, and their tickets.

use crate::context::Context;
use crate::driver::VulkanDriver;
use crate::memory::{HostMemory, VulkanMemory};
use crate::prepared::{self, Resources, VulkanPrepared};
use ash::{khr, vk};
use halite_hal::{Error, Result};
use halite_kernels::{Command, Ticket};
use std::collections::VecDeque;
use std::sync::Arc;

/// Uploads gather until there are this many bytes of them.
const GATHER: u64 = 8 << 20;

/// A command buffer that is still being recorded.
struct Open {
    buffer: vk::CommandBuffer,
    uploaded: u64,
    work: Work,
}

/// What a submission uses until it has run.
#[derive(Default)]
struct Work {
    resources: Vec<Resources>,
    staging: Vec<HostMemory>,
    used: Vec<Arc<dyn Send + Sync>>,
}

struct InFlight {
    ticket: u64,
    buffer: Option<vk::CommandBuffer>,
    /// Without timeline semaphores.
    fence: vk::Fence,
    work: Work,
}

/// How the end of submissions is seen.
enum Clock {
    Timeline(vk::Semaphore, Box<khr::timeline_semaphore::DeviceFn>),
    Fences(Vec<vk::Fence>),
}

pub(crate) struct Queue {
    context: Arc<Context>,
    pool: vk::CommandPool,
    free: Vec<vk::CommandBuffer>,
    open: Option<Open>,
    in_flight: VecDeque<InFlight>,
    clock: Clock,
    submitted: u64,
    reached: u64,
    /// The first submission that failed. What it and those after it should have done hasn't happened, so
    /// every later call reports it.
    failed: Option<Error>,
    /// Set by tests: the next submission finds the device lost.
    pub lose: bool,
}

impl Queue {
    pub(crate) fn new(context: &Arc<Context>) -> Result<Self> {
        let device = &context.device;
        let create = vk::CommandPoolCreateInfo::default()
            .queue_family_index(context.family)
            .flags(vk::CommandPoolCreateFlags::RESET_COMMAND_BUFFER);
        // SAFETY: a valid description.
        let pool = unsafe { device.create_command_pool(&create, None) }
            .map_err(|e| context.error("vkCreateCommandPool", e))?;
        let mut clock = Clock::Fences(Vec::new());
        if context.timeline {
            let mut kind = vk::SemaphoreTypeCreateInfo::default().semaphore_type(vk::SemaphoreType::TIMELINE);
            let create = vk::SemaphoreCreateInfo::default().push_next(&mut kind);
            // SAFETY: the feature is on.
            match unsafe { device.create_semaphore(&create, None) } {
                Ok(semaphore) => {
                    clock = Clock::Timeline(semaphore, Box::new(timeline_functions(context)));
                }
                Err(e) => {
                    // SAFETY: nothing was made from the pool.
                    unsafe { device.destroy_command_pool(pool, None) };
                    return Err(context.error("vkCreateSemaphore", e));
                }
            }
        }
        Ok(Queue {
            context: context.clone(),
            pool,
            free: Vec::new(),
            open: None,
            in_flight: VecDeque::new(),
            clock,
            submitted: 0,
            reached: 0,
            failed: None,
            lose: false,
        })
    }

    pub(crate) fn last(&self) -> Ticket {
        Ticket(self.submitted + u64::from(self.open.is_some()))
    }

    fn well(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn open(&mut self) -> Result<&mut Open> {
        self.well()?;
        if self.open.is_none() {
            let context = &self.context;
            let device = &context.device;
            let buffer = match self.free.pop() {
                Some(buffer) => buffer,
                None => {
                    let allocate = vk::CommandBufferAllocateInfo::default()
                        .command_pool(self.pool)
                        .command_buffer_count(1);
                    // SAFETY: the pool is used under the queue's lock only.
                    unsafe { device.allocate_command_buffers(&allocate) }
                        .map_err(|e| context.error("vkAllocateCommandBuffers", e))?[0]
                }
            };
            let begin =
                vk::CommandBufferBeginInfo::default().flags(vk::CommandBufferUsageFlags::ONE_TIME_SUBMIT);
            // SAFETY: the buffer is free.
            unsafe { device.begin_command_buffer(buffer, &begin) }
                .map_err(|e| context.error("vkBeginCommandBuffer", e))?;
            self.open = Some(Open { buffer, uploaded: 0, work: Work::default() });
        }
        Ok(self.open.as_mut().expect("opened above"))
    }

    pub(crate) fn upload(&mut self, to: &Arc<VulkanMemory>, offset: u64, data: &[u8]) -> Result<Ticket> {
        if !data.is_empty() {
            let context = self.context.clone();
            let mut staging = HostMemory::new(&context, data.len() as u64)?;
            staging.write(0, data);
            let open = self.open()?;
            prepared::barrier(&context, open.buffer);
            let from = (staging.buffer, 0);
            prepared::copy(&context, open.buffer, from, (to.buffer, offset), data.len() as u64);
            open.work.staging.push(staging);
            open.work.used.push(to.clone());
            open.uploaded += data.len() as u64;
            if open.uploaded >= GATHER {
                self.flush()?;
            }
        }
        Ok(self.last())
    }

    /// Copies to host memory, which holds the bytes once the ticket is reached.
    pub(crate) fn download(
        &mut self,
        from: &Arc<VulkanMemory>,
        offset: u64,
        bytes: u64,
    ) -> Result<(Ticket, Arc<HostMemory>)> {
        let context = self.context.clone();
        let staging = Arc::new(HostMemory::new(&context, bytes.max(4))?);
        let open = self.open()?;
        prepared::barrier(&context, open.buffer);
        prepared::copy(&context, open.buffer, (from.buffer, offset), (staging.buffer, 0), bytes);
        prepared::host_barrier(&context, open.buffer);
        open.work.used.push(from.clone());
        open.work.used.push(staging.clone());
        self.flush()?;
        Ok((self.last(), staging))
    }

    pub(crate) fn submit(&mut self, commands: &[Command<VulkanDriver>]) -> Result<Ticket> {
        let context = self.context.clone();
        let resources = Resources::new(&context, commands)?;
        let open = self.open()?;
        prepared::barrier(&context, open.buffer);
        resources.encode(&context, open.buffer, commands, None);
        open.work.resources.push(resources);
        open.work.used.extend(prepared::used(commands));
        self.flush()?;
        Ok(self.last())
    }

    pub(crate) fn run(&mut self, list: &Arc<VulkanPrepared>) -> Result<Ticket> {
        self.flush()?;
        let work = Work { used: vec![list.clone()], ..Work::default() };
        self.send(list.buffer, None, work)?;
        Ok(self.last())
    }

    /// Times each command by the device's clock.
    pub(crate) fn time(&mut self, commands: &[Command<VulkanDriver>]) -> Result<Vec<f64>> {
        let context = self.context.clone();
        let device = &context.device;
        let n = 2 * commands.len() as u32;
        let create = vk::QueryPoolCreateInfo::default().query_type(vk::QueryType::TIMESTAMP).query_count(n);
        // SAFETY: a valid description.
        let pool = unsafe { device.create_query_pool(&create, None) }
            .map_err(|e| context.error("vkCreateQueryPool", e))?;
        let mut timed = || {
            let resources = Resources::new(&context, commands)?;
            let open = self.open()?;
            // SAFETY: the pool is new; the command buffer is being recorded.
            unsafe { device.cmd_reset_query_pool(open.buffer, pool, 0, n) };
            prepared::barrier(&context, open.buffer);
            resources.encode(&context, open.buffer, commands, Some(pool));
            open.work.resources.push(resources);
            open.work.used.extend(prepared::used(commands));
            self.flush()?;
            self.wait(self.last(), true)?;
            let mut stamps = vec![0u64; n as usize];
            let flags = vk::QueryResultFlags::TYPE_64 | vk::QueryResultFlags::WAIT;
            // SAFETY: the results are there.
            unsafe { device.get_query_pool_results(pool, 0, &mut stamps, flags) }
                .map_err(|e| context.error("vkGetQueryPoolResults", e))?;
            let seconds = |s: &[u64]| s[1].saturating_sub(s[0]) as f64 * context.timestamp_period * 1e-9;
            Ok(stamps.chunks(2).map(seconds).collect())
        };
        let result = timed();
        // SAFETY: the work has been waited for, or was never submitted.
        unsafe {
            if result.is_err() {
                let _ = device.device_wait_idle();
            }
            device.destroy_query_pool(pool, None);
        }
        result
    }

    /// Submits what has gathered.
    pub(crate) fn flush(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        // SAFETY: the buffer is being recorded.
        let ended = unsafe { self.context.device.end_command_buffer(open.buffer) };
        match ended {
            Ok(()) => self.send(open.buffer, Some(open.buffer), open.work),
            Err(e) => {
                let e = self.context.error("vkEndCommandBuffer", e);
                self.keep(Err(e))
            }
        }
    }

    /// Remembers what a submission failed with.
    fn keep<T>(&mut self, result: Result<T>) -> Result<T> {
        if let Err(e) = &result {
            self.failed.get_or_insert_with(|| e.clone());
        }
        result
    }

    fn send(
        &mut self,
        buffer: vk::CommandBuffer,
        reuse: Option<vk::CommandBuffer>,
        work: Work,
    ) -> Result<()> {
        self.well()?;
        let sent = self.try_send(buffer, reuse, work);
        self.keep(sent)
    }

    fn try_send(
        &mut self,
        buffer: vk::CommandBuffer,
        reuse: Option<vk::CommandBuffer>,
        work: Work,
    ) -> Result<()> {
        if std::mem::take(&mut self.lose) {
            return Err(self.context.error("vkQueueSubmit", vk::Result::ERROR_DEVICE_LOST));
        }
        let context = self.context.clone();
        let device = &context.device;
        let ticket = self.submitted + 1;
        let buffers = [buffer];
        let mut submit = vk::SubmitInfo::default().command_buffers(&buffers);
        let values = [ticket];
        let mut timeline = vk::TimelineSemaphoreSubmitInfo::default().signal_semaphore_values(&values);
        let semaphores;
        let mut fence = vk::Fence::null();
        match &mut self.clock {
            Clock::Timeline(semaphore, _) => {
                semaphores = [*semaphore];
                submit = submit.signal_semaphores(&semaphores).push_next(&mut timeline);
            }
            Clock::Fences(free) => {
                fence = match free.pop() {
                    Some(fence) => fence,
                    // SAFETY: a valid description.
                    None => unsafe { device.create_fence(&vk::FenceCreateInfo::default(), None) }
                        .map_err(|e| context.error("vkCreateFence", e))?,
                };
            }
        }
        // SAFETY: the buffer is complete, and what it uses stays alive with the entry below; the queue is used
        // under this lock only.
        unsafe { device.queue_submit(context.queue, &[submit], fence) }
            .map_err(|e| context.error("vkQueueSubmit", e))?;
        self.submitted = ticket;
        self.in_flight.push_back(InFlight { ticket, buffer: reuse, fence, work });
        self.retire()?;
        context.validated()
    }

    /// Lets go of what has run.
    fn retire(&mut self) -> Result<()> {
        let context = self.context.clone();
        let device = &context.device;
        if let Clock::Timeline(semaphore, functions) = &self.clock {
            let mut value = 0;
            // SAFETY: the semaphore is ours; the functions are those of the device.
            let result = unsafe {
                (functions.get_semaphore_counter_value_khr)(device.handle(), *semaphore, &mut value)
            };
            result.result().map_err(|e| context.error("vkGetSemaphoreCounterValue", e))?;
            self.reached = self.reached.max(value);
        }
        while let Some(first) = self.in_flight.front() {
            if let Clock::Fences(_) = self.clock {
                // SAFETY: the fence belongs to the submission.
                match unsafe { device.get_fence_status(first.fence) } {
                    Ok(true) => self.reached = first.ticket,
                    Ok(false) => break,
                    Err(e) => return Err(context.error("vkGetFenceStatus", e)),
                }
            }
            if first.ticket > self.reached {
                break;
            }
            let Some(mut done) = self.in_flight.pop_front() else { break };
            done.work.resources.iter_mut().for_each(|r| r.destroy(&context));
            self.free.extend(done.buffer);
            if let Clock::Fences(free) = &mut self.clock {
                // SAFETY: the submission is over.
                unsafe { device.reset_fences(&[done.fence]) }
                    .map_err(|e| context.error("vkResetFences", e))?;
                free.push(done.fence);
            }
        }
        Ok(())
    }

    /// See [`halite_kernels::Driver::wait`].
    pub(crate) fn wait(&mut self, ticket: Ticket, block: bool) -> Result<bool> {
        self.well()?;
        if ticket.0 > self.submitted {
            self.flush()?;
        }
        if ticket.0 > self.reached && block {
            let context = &self.context;
            let device = &context.device;
            let result = match &self.clock {
                Clock::Timeline(semaphore, functions) => {
                    let (semaphores, values) = ([*semaphore], [ticket.0]);
                    let info = vk::SemaphoreWaitInfo::default().semaphores(&semaphores).values(&values);
                    // SAFETY: the semaphore will reach the value: it has been submitted.
                    unsafe { (functions.wait_semaphores_khr)(device.handle(), &info, u64::MAX) }.result()
                }
                Clock::Fences(_) => match self.in_flight.iter().find(|f| f.ticket >= ticket.0) {
                    // SAFETY: the fence belongs to a submission.
                    Some(f) => unsafe { device.wait_for_fences(&[f.fence], true, u64::MAX) },
                    None => Ok(()),
                },
            };
            let result = result.map_err(|e| context.error("waiting for the device", e));
            self.keep(result)?;
        }
        if ticket.0 > self.reached {
            self.retire()?;
        }
        self.context.validated()?;
        Ok(ticket.0 <= self.reached)
    }
}

/// The functions under their extension's name, or, from Vulkan 1.2 on, under the core's.
fn timeline_functions(context: &Context) -> khr::timeline_semaphore::DeviceFn {
    let instance = &context.host.instance;
    // SAFETY: the physical device is one of the instance's.
    let version = unsafe { instance.get_physical_device_properties(context.physical) }.api_version;
    if version < vk::API_VERSION_1_2 {
        return khr::timeline_semaphore::Device::new(instance, &context.device).fp().clone();
    }
    let core = context.device.fp_v1_2();
    khr::timeline_semaphore::DeviceFn {
        get_semaphore_counter_value_khr: core.get_semaphore_counter_value,
        wait_semaphores_khr: core.wait_semaphores,
        signal_semaphore_khr: core.signal_semaphore,
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let device = &self.context.device;
        // SAFETY: everything is waited for (or the device is lost) before its parts are destroyed.
        unsafe {
            let _ = device.queue_wait_idle(self.context.queue);
            for mut entry in self.in_flight.drain(..) {
                entry.work.resources.iter_mut().for_each(|r| r.destroy(&self.context));
                device.destroy_fence(entry.fence, None);
            }
            if let Some(mut open) = self.open.take() {
                open.work.resources.iter_mut().for_each(|r| r.destroy(&self.context));
            }
            match &self.clock {
                Clock::Timeline(semaphore, _) => device.destroy_semaphore(*semaphore, None),
                Clock::Fences(free) => free.iter().for_each(|f| device.destroy_fence(*f, None)),
            }
            device.destroy_command_pool(self.pool, None);
        }
    }
}
