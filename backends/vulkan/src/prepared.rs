//! Command buffers: how commands become Vulkan's, and lists that are recorded once and submitted many times.

use crate::context::Context;
use crate::driver::VulkanDriver;
use crate::memory::HostMemory;
use ash::vk;
use halite_hal::Result;
use halite_kernels::{Command, Dispatch, Kernel};
use std::sync::Arc;

/// Everything that a list of commands uses beside its command buffer.
#[derive(Default)]
pub(crate) struct Resources {
    /// Parameter blocks.
    params: Option<HostMemory>,
    pool: vk::DescriptorPool,
    sets: Vec<vk::DescriptorSet>,
    /// Offset of each dispatch's parameters.
    offsets: Vec<u64>,
}

/// A memory barrier between everything before and everything after.
pub(crate) fn barrier(context: &Context, commands: vk::CommandBuffer) {
    let stages = vk::PipelineStageFlags::COMPUTE_SHADER | vk::PipelineStageFlags::TRANSFER;
    let memory = vk::MemoryBarrier::default()
        .src_access_mask(vk::AccessFlags::SHADER_WRITE | vk::AccessFlags::TRANSFER_WRITE)
        .dst_access_mask(
            vk::AccessFlags::SHADER_READ
                | vk::AccessFlags::SHADER_WRITE
                | vk::AccessFlags::UNIFORM_READ
                | vk::AccessFlags::TRANSFER_READ
                | vk::AccessFlags::TRANSFER_WRITE,
        );
    let flags = vk::DependencyFlags::empty();
    // SAFETY: the command buffer is being recorded.
    unsafe { context.device.cmd_pipeline_barrier(commands, stages, stages, flags, &[memory], &[], &[]) };
}

/// What is written last is seen by the host.
pub(crate) fn host_barrier(context: &Context, commands: vk::CommandBuffer) {
    let memory = vk::MemoryBarrier::default()
        .src_access_mask(vk::AccessFlags::TRANSFER_WRITE)
        .dst_access_mask(vk::AccessFlags::HOST_READ);
    let (from, to) = (vk::PipelineStageFlags::TRANSFER, vk::PipelineStageFlags::HOST);
    let flags = vk::DependencyFlags::empty();
    // SAFETY: the command buffer is being recorded.
    unsafe { context.device.cmd_pipeline_barrier(commands, from, to, flags, &[memory], &[], &[]) };
}

/// A copy between buffers.
pub(crate) fn copy(
    context: &Context,
    commands: vk::CommandBuffer,
    from: (vk::Buffer, u64),
    to: (vk::Buffer, u64),
    bytes: u64,
) {
    let region = vk::BufferCopy { src_offset: from.1, dst_offset: to.1, size: bytes };
    // SAFETY: the ranges were checked by the engine; the command buffer is being recorded.
    unsafe { context.device.cmd_copy_buffer(commands, from.0, to.0, &[region]) };
}

/// Bytes of a dispatch's parameter block.
fn param_bytes(d: &Dispatch<VulkanDriver>) -> u64 {
    d.params.len() as u64 * if d.program.wide_params { 8 } else { 4 }
}

impl Resources {
    /// Descriptor sets and parameters for the dispatches among `commands`.
    pub(crate) fn new(context: &Arc<Context>, commands: &[Command<VulkanDriver>]) -> Result<Self> {
        let dispatches: Vec<&Dispatch<VulkanDriver>> = commands
            .iter()
            .filter_map(|c| match c {
                Command::Dispatch(d) => Some(d),
                _ => None,
            })
            .collect();
        let mut resources = Resources::default();
        if dispatches.is_empty() {
            return Ok(resources);
        }
        let mut end = 0;
        for d in &dispatches {
            resources.offsets.push(end);
            end += param_bytes(d).next_multiple_of(context.uniform_alignment);
        }
        if end > 0 {
            let mut memory = HostMemory::new(context, end)?;
            for (d, at) in dispatches.iter().zip(&resources.offsets) {
                memory.write(*at, &Kernel::param_bytes(&d.params, d.program.wide_params));
            }
            resources.params = Some(memory);
        }
        let storage: usize = dispatches.iter().map(|d| d.bindings.len()).sum();
        let n = dispatches.len() as u32;
        let size = |ty, n: u32| vk::DescriptorPoolSize::default().ty(ty).descriptor_count(n.max(1));
        let sizes = [
            size(vk::DescriptorType::STORAGE_BUFFER, storage as u32),
            size(vk::DescriptorType::UNIFORM_BUFFER, n),
        ];
        let create = vk::DescriptorPoolCreateInfo::default().max_sets(n).pool_sizes(&sizes);
        let device = &context.device;
        // SAFETY: valid descriptions; the layouts belong to programs that the commands hold.
        unsafe {
            resources.pool = device
                .create_descriptor_pool(&create, None)
                .map_err(|e| context.error("vkCreateDescriptorPool", e))?;
            let layouts: Vec<_> = dispatches.iter().map(|d| d.program.set_layout).collect();
            let allocate = vk::DescriptorSetAllocateInfo::default()
                .descriptor_pool(resources.pool)
                .set_layouts(&layouts);
            match device.allocate_descriptor_sets(&allocate) {
                Ok(sets) => resources.sets = sets,
                Err(e) => {
                    device.destroy_descriptor_pool(resources.pool, None);
                    return Err(context.error("vkAllocateDescriptorSets", e));
                }
            }
        }
        for ((d, &set), &at) in dispatches.iter().zip(&resources.sets).zip(&resources.offsets) {
            let mut infos: Vec<vk::DescriptorBufferInfo> = d
                .bindings
                .iter()
                .map(|r| vk::DescriptorBufferInfo {
                    buffer: r.memory.buffer,
                    offset: r.offset,
                    range: r.bytes,
                })
                .collect();
            let storage = infos.len();
            if d.program.params > 0
                && let Some(params) = &resources.params
            {
                let range = param_bytes(d);
                infos.push(vk::DescriptorBufferInfo { buffer: params.buffer, offset: at, range });
            }
            let write = |(i, info)| {
                let (binding, ty) = match i < storage {
                    true => (i as u32 + 1, vk::DescriptorType::STORAGE_BUFFER),
                    false => (0, vk::DescriptorType::UNIFORM_BUFFER),
                };
                vk::WriteDescriptorSet::default()
                    .dst_set(set)
                    .dst_binding(binding)
                    .descriptor_type(ty)
                    .buffer_info(std::slice::from_ref(info))
            };
            let writes: Vec<_> = infos.iter().enumerate().map(write).collect();
            // SAFETY: the sets are not in use; buffers and ranges are those of the commands.
            unsafe { device.update_descriptor_sets(&writes, &[]) };
        }
        Ok(resources)
    }

    /// Frees what the driver doesn't free by itself.
    pub(crate) fn destroy(&mut self, context: &Context) {
        // SAFETY: the list that used the pool has run; a null handle is allowed.
        unsafe { context.device.destroy_descriptor_pool(self.pool, None) };
        self.pool = vk::DescriptorPool::null();
    }

    /// Records the commands. With `stamps`, timestamps around each: two a command.
    pub(crate) fn encode(
        &self,
        context: &Context,
        buffer: vk::CommandBuffer,
        commands: &[Command<VulkanDriver>],
        stamps: Option<vk::QueryPool>,
    ) {
        let device = &context.device;
        let stamp = |n: usize| {
            if let Some(pool) = stamps {
                let stage = vk::PipelineStageFlags::BOTTOM_OF_PIPE;
                // SAFETY: the pool has two queries a command, reset before.
                unsafe { device.cmd_write_timestamp(buffer, stage, pool, n as u32) };
            }
        };
        let mut next = 0;
        for (i, command) in commands.iter().enumerate() {
            if stamps.is_some() {
                barrier(context, buffer);
            }
            stamp(2 * i);
            match command {
                Command::Dispatch(d) => {
                    let point = vk::PipelineBindPoint::COMPUTE;
                    let [x, y, z] = d.groups;
                    // SAFETY: handles are kept alive with the list; the grid was checked by the engine.
                    unsafe {
                        device.cmd_bind_pipeline(buffer, point, d.program.pipeline);
                        let sets = [self.sets[next]];
                        device.cmd_bind_descriptor_sets(buffer, point, d.program.layout, 0, &sets, &[]);
                        device.cmd_dispatch(buffer, x, y, z);
                    }
                    next += 1;
                }
                Command::Copy { from, to } => {
                    let (a, b) = ((from.memory.buffer, from.offset), (to.memory.buffer, to.offset));
                    copy(context, buffer, a, b, from.bytes);
                }
                _ => barrier(context, buffer),
            }
            stamp(2 * i + 1);
        }
    }
}

/// What commands use, to be kept alive.
pub(crate) fn used(commands: &[Command<VulkanDriver>]) -> Vec<Arc<dyn Send + Sync>> {
    let mut used: Vec<Arc<dyn Send + Sync>> = Vec::new();
    for command in commands {
        match command {
            Command::Dispatch(d) => {
                used.push(d.program.clone());
                used.extend(d.bindings.iter().map(|r| r.memory.clone() as Arc<dyn Send + Sync>));
            }
            Command::Copy { from, to } => {
                used.push(from.memory.clone());
                used.push(to.memory.clone());
            }
            _ => {}
        }
    }
    used.sort_by_key(|a| Arc::as_ptr(a).addr());
    used.dedup_by_key(|a| Arc::as_ptr(a).addr());
    used
}

/// A command buffer that is recorded once and submitted many times.
pub struct VulkanPrepared {
    context: Arc<Context>,
    pool: vk::CommandPool,
    pub(crate) buffer: vk::CommandBuffer,
    resources: Resources,
    _used: Vec<Arc<dyn Send + Sync>>,
}

impl VulkanPrepared {
    pub(crate) fn new(context: &Arc<Context>, commands: &[Command<VulkanDriver>]) -> Result<Self> {
        let device = &context.device;
        let create = vk::CommandPoolCreateInfo::default().queue_family_index(context.family);
        // SAFETY: a valid description. What is made is owned by the list from here on.
        let pool = unsafe { device.create_command_pool(&create, None) }
            .map_err(|e| context.error("vkCreateCommandPool", e))?;
        let mut list = VulkanPrepared {
            context: context.clone(),
            pool,
            buffer: vk::CommandBuffer::null(),
            resources: Resources::default(),
            _used: used(commands),
        };
        list.resources = Resources::new(context, commands)?;
        let allocate = vk::CommandBufferAllocateInfo::default().command_pool(pool).command_buffer_count(1);
        // SAFETY: the pool was just made; the buffer is recorded here only.
        unsafe {
            list.buffer = device
                .allocate_command_buffers(&allocate)
                .map_err(|e| context.error("vkAllocateCommandBuffers", e))?[0];
            let begin =
                vk::CommandBufferBeginInfo::default().flags(vk::CommandBufferUsageFlags::SIMULTANEOUS_USE);
            device
                .begin_command_buffer(list.buffer, &begin)
                .map_err(|e| context.error("vkBeginCommandBuffer", e))?;
            barrier(context, list.buffer);
            list.resources.encode(context, list.buffer, commands, None);
            device.end_command_buffer(list.buffer).map_err(|e| context.error("vkEndCommandBuffer", e))?;
        }
        Ok(list)
    }
}

impl Drop for VulkanPrepared {
    fn drop(&mut self) {
        self.resources.destroy(&self.context);
        // SAFETY: submissions keep the list alive, so none is left.
        unsafe { self.context.device.destroy_command_pool(self.pool, None) };
    }
}
