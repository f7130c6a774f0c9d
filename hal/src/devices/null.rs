//! A device that does nothing.

use crate::{
    Buffer, Device, DeviceInfo, Error, Event, MemoryStats, Op, OpDesc, Readback, Result, Storage, StreamId,
    Support,
};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Checks and accepts every op, holds no memory and reads back zeros: for the cost of everything but
/// the device, and for tests of what is submitted.
#[derive(Debug)]
pub struct NullDevice {
    info: DeviceInfo,
    used: Arc<AtomicU64>,
    peak: AtomicU64,
    streams: AtomicU32,
}

struct Nothing {
    device: String,
    bytes: u64,
    used: Arc<AtomicU64>,
}

impl Storage for Nothing {
    fn device(&self) -> &str {
        &self.device
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for Nothing {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl NullDevice {
    /// With the given description.
    pub fn new(info: DeviceInfo) -> Self {
        NullDevice { info, used: Arc::default(), peak: AtomicU64::new(0), streams: AtomicU32::new(1) }
    }
}

impl Device for NullDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }
    fn supports(&self, _: &OpDesc) -> Support {
        Support::Native
    }
    fn allocate(&self, bytes: u64, _: u64) -> Result<Buffer> {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(used, Ordering::Relaxed);
        let nothing = Nothing { device: self.info.selector.clone(), bytes, used: self.used.clone() };
        Ok(Buffer::new(Arc::new(nothing), bytes))
    }
    fn create_stream(&self) -> Result<StreamId> {
        Ok(StreamId(self.streams.fetch_add(1, Ordering::Relaxed)))
    }
    fn upload(&self, _: StreamId, to: &Buffer, offset: u64, data: &[u8]) -> Result<()> {
        Error::check_range("upload", to, offset, data.len() as u64)
    }
    fn download(&self, _: StreamId, from: &Buffer, offset: u64, bytes: u64) -> Result<Readback> {
        Error::check_range("download", from, offset, bytes)?;
        Ok(Readback::ready(vec![0; bytes as usize]))
    }
    fn copy(&self, _: StreamId, from: (&Buffer, u64), to: (&Buffer, u64), bytes: u64) -> Result<()> {
        Error::check_range("copy", from.0, from.1, bytes)?;
        Error::check_range("copy", to.0, to.1, bytes)
    }
    fn submit(&self, _: StreamId, ops: &[Op]) -> Result<()> {
        ops.iter().try_for_each(|op| op.check(|_| None))
    }
    fn record_event(&self, _: StreamId) -> Result<Event> {
        Ok(Event::past())
    }
    fn wait_event(&self, _: StreamId, _: &Event) -> Result<()> {
        Ok(())
    }
    fn synchronize(&self, _: StreamId) -> Result<()> {
        Ok(())
    }
    fn memory(&self) -> MemoryStats {
        MemoryStats::new(self.used.load(Ordering::Relaxed), self.peak.load(Ordering::Relaxed), u64::MAX)
    }
}
