//! A device that offers only the core ops of another.

use crate::{
    Binding, Buffer, Device, DeviceInfo, Event, Graph, MemoryStats, Op, OpDesc, Readback, Recording, Result,
    StreamId, Support, compose,
};
use std::sync::Arc;

/// Shows the core ops of another device and composes the rest: what a new backend with only the core
/// ops would be.
#[derive(Debug)]
pub struct CoreOnly {
    inner: Arc<dyn Device>,
}

impl CoreOnly {
    /// Wraps a device.
    pub fn new(inner: Arc<dyn Device>) -> Self {
        CoreOnly { inner }
    }
}

impl Device for CoreOnly {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }
    fn supports(&self, desc: &OpDesc) -> Support {
        if desc.kind.is_core() { self.inner.supports(desc) } else { compose::support(self, desc) }
    }
    fn workspace(&self, desc: &OpDesc) -> u64 {
        self.inner.workspace(desc)
    }
    fn allocate(&self, bytes: u64, row_bytes: u64) -> Result<Buffer> {
        self.inner.allocate(bytes, row_bytes)
    }
    fn create_stream(&self) -> Result<StreamId> {
        self.inner.create_stream()
    }
    fn upload(&self, stream: StreamId, to: &Buffer, offset: u64, data: &[u8]) -> Result<()> {
        self.inner.upload(stream, to, offset, data)
    }
    fn download(&self, stream: StreamId, from: &Buffer, offset: u64, bytes: u64) -> Result<Readback> {
        self.inner.download(stream, from, offset, bytes)
    }
    fn copy(&self, stream: StreamId, from: (&Buffer, u64), to: (&Buffer, u64), bytes: u64) -> Result<()> {
        self.inner.copy(stream, from, to, bytes)
    }
    fn submit(&self, stream: StreamId, ops: &[Op]) -> Result<()> {
        match compose::lower_ops(self, ops)? {
            Some(lowered) => self.inner.submit(stream, &lowered),
            None => self.inner.submit(stream, ops),
        }
    }
    fn record(&self, graph: &Graph) -> Result<Recording> {
        graph.check()?;
        self.inner.record(&compose::lower(self, graph)?)
    }
    fn replay(&self, stream: StreamId, recording: &Recording, bindings: &[Binding]) -> Result<()> {
        self.inner.replay(stream, recording, bindings)
    }
    fn record_event(&self, stream: StreamId) -> Result<Event> {
        self.inner.record_event(stream)
    }
    fn wait_event(&self, stream: StreamId, event: &Event) -> Result<()> {
        self.inner.wait_event(stream, event)
    }
    fn synchronize(&self, stream: StreamId) -> Result<()> {
        self.inner.synchronize(stream)
    }
    fn memory(&self) -> MemoryStats {
        self.inner.memory()
    }
}
