//! Device memory: a wgpu buffer. wgpu tracks usage a whole buffer at a time, so each of the engine's has one
//! to itself.

use crate::context::Context;
use halite_hal::{Error, Result};
use std::fmt;
use wgpu::BufferUsages;

/// What kernels and transfers do with memory.
pub(crate) const USAGES: BufferUsages =
    BufferUsages::STORAGE.union(BufferUsages::COPY_SRC).union(BufferUsages::COPY_DST);

/// A buffer of device memory.
pub struct WgpuMemory {
    pub(crate) buffer: wgpu::Buffer,
}

impl WgpuMemory {
    /// The buffer as wgpu knows it, for the host's own calls; a clone of it outlives this.
    pub fn raw(&self) -> &wgpu::Buffer {
        &self.buffer
    }

    pub(crate) fn new(context: &Context, bytes: u64) -> Result<Self> {
        let desc =
            wgpu::BufferDescriptor { label: None, size: bytes, usage: USAGES, mapped_at_creation: false };
        let make = || context.device.create_buffer(&desc);
        Ok(WgpuMemory { buffer: context.checked("allocating", bytes, make)? })
    }

    /// A buffer of the host's, which is checked to be of the device and of use.
    pub(crate) fn import(context: &Context, buffer: wgpu::Buffer) -> Result<Self> {
        let missing = USAGES.difference(buffer.usage());
        if !missing.is_empty() {
            let message = format!("the imported buffer was made without the usages {missing:?}");
            return Err(Error::backend(&context.selector, message));
        }
        if !buffer.size().is_multiple_of(16) {
            let message =
                format!("the imported buffer has {} bytes; a multiple of 16 is needed", buffer.size());
            return Err(Error::backend(&context.selector, message));
        }
        context.checked("importing a buffer, which must be of this device", 0, || {
            let layout = crate::program::layout(&context.device, &[(1, crate::program::STORAGE)]);
            let entry = wgpu::BindGroupEntry { binding: 1, resource: buffer.as_entire_binding() };
            let desc = wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &[entry] };
            context.device.create_bind_group(&desc)
        })?;
        Ok(WgpuMemory { buffer })
    }
}

impl fmt::Debug for WgpuMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WgpuMemory({} bytes)", self.buffer.size())
    }
}
