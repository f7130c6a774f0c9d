//! Device memory: a buffer with memory of its own. The engine puts several of its buffers into one.

use crate::context::Context;
use ash::vk;
use halite_hal::{Error, Result};
use std::sync::Arc;

/// A buffer and its memory.
pub struct VulkanMemory {
    context: Arc<Context>,
    pub(crate) buffer: vk::Buffer,
    /// Null for a buffer that someone else destroys.
    memory: vk::DeviceMemory,
    owned: bool,
}

impl VulkanMemory {
    /// The raw handle; it lives as long as this.
    pub fn raw(&self) -> vk::Buffer {
        self.buffer
    }

    pub(crate) fn new(context: &Arc<Context>, bytes: u64) -> Result<Self> {
        let wanted = vk::MemoryPropertyFlags::DEVICE_LOCAL;
        let usage = vk::BufferUsageFlags::STORAGE_BUFFER;
        let (buffer, memory) = create(context, bytes, usage, &[wanted, vk::MemoryPropertyFlags::empty()])?;
        Ok(VulkanMemory { context: context.clone(), buffer, memory, owned: true })
    }

    pub(crate) fn import(context: &Arc<Context>, buffer: vk::Buffer) -> Self {
        VulkanMemory { context: context.clone(), buffer, memory: vk::DeviceMemory::null(), owned: false }
    }
}

impl Drop for VulkanMemory {
    fn drop(&mut self) {
        if self.owned {
            // SAFETY: work that uses the buffer keeps it alive, so none is left.
            unsafe {
                self.context.device.destroy_buffer(self.buffer, None);
                self.context.device.free_memory(self.memory, None);
            }
        }
    }
}

/// Memory that the host reads and writes, mapped for its whole life.
pub(crate) struct HostMemory {
    context: Arc<Context>,
    pub buffer: vk::Buffer,
    memory: vk::DeviceMemory,
    pub bytes: u64,
    mapped: *mut u8,
}

// SAFETY: the mapping is only used by who holds the memory.
unsafe impl Send for HostMemory {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for HostMemory {}

impl HostMemory {
    pub(crate) fn new(context: &Arc<Context>, bytes: u64) -> Result<Self> {
        let coherent = vk::MemoryPropertyFlags::HOST_VISIBLE | vk::MemoryPropertyFlags::HOST_COHERENT;
        let usage = vk::BufferUsageFlags::UNIFORM_BUFFER;
        let kinds = [coherent | vk::MemoryPropertyFlags::HOST_CACHED, coherent];
        let (buffer, memory) = create(context, bytes, usage, &kinds)?;
        // SAFETY: the memory is host visible and not mapped yet.
        let mapped =
            unsafe { context.device.map_memory(memory, 0, vk::WHOLE_SIZE, vk::MemoryMapFlags::empty()) };
        match mapped {
            Ok(mapped) => {
                Ok(HostMemory { context: context.clone(), buffer, memory, bytes, mapped: mapped.cast() })
            }
            Err(e) => {
                // SAFETY: nothing uses them yet.
                unsafe {
                    context.device.destroy_buffer(buffer, None);
                    context.device.free_memory(memory, None);
                }
                Err(context.error("vkMapMemory", e))
            }
        }
    }

    pub(crate) fn write(&mut self, at: u64, data: &[u8]) {
        assert!(at + data.len() as u64 <= self.bytes, "a write beyond host memory");
        // SAFETY: inside the mapping, which no one else holds.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), self.mapped.add(at as usize), data.len()) };
    }

    pub(crate) fn read(&self, bytes: usize) -> Vec<u8> {
        assert!(bytes as u64 <= self.bytes, "a read beyond host memory");
        // SAFETY: inside the mapping, which the device has finished writing.
        unsafe { std::slice::from_raw_parts(self.mapped, bytes) }.to_vec()
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        // SAFETY: work that uses the buffer keeps it alive, so none is left.
        unsafe {
            self.context.device.destroy_buffer(self.buffer, None);
            self.context.device.free_memory(self.memory, None);
        }
    }
}

/// A buffer in memory of the first of `kinds` that there is.
fn create(
    context: &Context,
    bytes: u64,
    usage: vk::BufferUsageFlags,
    kinds: &[vk::MemoryPropertyFlags],
) -> Result<(vk::Buffer, vk::DeviceMemory)> {
    let device = &context.device;
    let usage = usage | vk::BufferUsageFlags::TRANSFER_SRC | vk::BufferUsageFlags::TRANSFER_DST;
    let create = vk::BufferCreateInfo::default().size(bytes).usage(usage);
    // SAFETY: a valid description.
    let buffer = unsafe { device.create_buffer(&create, None) };
    let buffer = buffer.map_err(|e| allocation_error(context, bytes, "vkCreateBuffer", e))?;
    // SAFETY: the buffer was just made.
    let needs = unsafe { device.get_buffer_memory_requirements(buffer) };
    let types = &context.memory.memory_types_as_slice();
    let of_kind = |kind: &vk::MemoryPropertyFlags| {
        (0..types.len())
            .find(|&i| needs.memory_type_bits >> i & 1 == 1 && types[i].property_flags.contains(*kind))
    };
    let result = match kinds.iter().find_map(of_kind) {
        None => Err(Error::backend(&context.selector, "no memory type for a buffer")),
        Some(kind) => {
            let allocate =
                vk::MemoryAllocateInfo::default().allocation_size(needs.size).memory_type_index(kind as u32);
            // SAFETY: the type is one of the device's; the memory is as large as the buffer needs.
            unsafe {
                device
                    .allocate_memory(&allocate, None)
                    .map_err(|e| allocation_error(context, bytes, "vkAllocateMemory", e))
                    .and_then(|memory| match device.bind_buffer_memory(buffer, memory, 0) {
                        Ok(()) => Ok(memory),
                        Err(e) => {
                            device.free_memory(memory, None);
                            Err(allocation_error(context, bytes, "vkBindBufferMemory", e))
                        }
                    })
            }
        }
    };
    match result {
        Ok(memory) => Ok((buffer, memory)),
        Err(e) => {
            // SAFETY: nothing uses the buffer.
            unsafe { device.destroy_buffer(buffer, None) };
            Err(e)
        }
    }
}

fn allocation_error(context: &Context, bytes: u64, what: &str, e: vk::Result) -> Error {
    match e {
        vk::Result::ERROR_OUT_OF_DEVICE_MEMORY
        | vk::Result::ERROR_OUT_OF_HOST_MEMORY
        | vk::Result::ERROR_TOO_MANY_OBJECTS => {
            let limit = crate::info::memory_bytes(&context.memory);
            let available = crate::info::free_bytes(&context.host, context.physical).unwrap_or(limit);
            Error::OutOfMemory { device: context.selector.clone(), requested: bytes, available, limit }
        }
        e => context.error(what, e),
    }
}
