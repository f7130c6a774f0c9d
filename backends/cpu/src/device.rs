//! The device: checks what it is given, and passes it on to the executor.

use crate::executor::{Bound, Executor, Mark, Place, Work};
use crate::info;
use crate::memory::Pool;
use crate::program::Program;
use crate::simd::{
    self,
    panels::{self, COLUMNS, PANELS},
};
use halite_hal::{
    Binding, Buffer, Device, DeviceInfo, DeviceOptions, Error, Event, Graph, Layout, MemoryStats, Op, OpDesc,
    OpKind, Packing, Readback, Recording, Result, StreamId, Support, compose, prepare,
};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The host's processor as a device. Dropping it waits for work under way; its buffers may live on.
pub struct CpuDevice {
    info: DeviceInfo,
    pool: Arc<Pool>,
    executor: Executor,
    streams: AtomicU32,
}

impl CpuDevice {
    /// Starts the device's threads.
    ///
    /// # Errors
    /// When the system can't start them.
    pub fn new(options: &DeviceOptions) -> Result<Self> {
        let mut info = info::describe();
        if let Ok(limit) = std::env::var(simd::LIMIT)
            && !simd::LIMITS.contains(&limit.as_str())
        {
            let message = format!("{} is {limit:?}, needs one of {}", simd::LIMIT, simd::LIMITS.join(", "));
            return Err(Error::backend(&info.selector, message));
        }
        if let Some(profile) = &options.profile {
            profile.apply(&mut info);
        }
        let threads = options.threads.or_else(|| std::thread::available_parallelism().ok().map(|n| n.get()));
        let limit = options.memory_limit.unwrap_or(match info.memory_bytes {
            0 => u64::MAX,
            known => known,
        });
        Ok(CpuDevice {
            pool: Arc::new(Pool::new(&info.selector, limit, info.max_binding_bytes)),
            executor: Executor::new(&info.selector, threads.unwrap_or(1).max(1))?,
            info,
            streams: AtomicU32::new(1),
        })
    }

    fn stream(&self, stream: StreamId) -> Result<usize> {
        let n = self.streams.load(Ordering::Relaxed);
        if stream.0 >= n {
            let message = format!("there is no stream {}; there are {n}, from 0", stream.0);
            return Err(Error::backend(&self.info.selector, message));
        }
        Ok(stream.0 as usize)
    }

    /// A piece of a buffer, checked.
    fn place(&self, action: &'static str, buffer: &Buffer, offset: u64, bytes: u64) -> Result<Place> {
        let address = self.pool.address(buffer)?;
        Error::check_range(action, buffer, offset, bytes)?;
        Ok(Place { _buffer: buffer.clone(), address: address.wrapping_add(offset as usize) })
    }

    fn run(&self, stream: usize, program: Arc<Program>, buffers: Vec<Option<Buffer>>) -> Result<()> {
        let bases = program.bases(&buffers)?;
        self.executor.push(stream, Work::Run(program, Bound { bases, _buffers: buffers }))
    }
}

impl fmt::Debug for CpuDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuDevice({})", self.info.name)
    }
}

impl Device for CpuDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn supports(&self, desc: &OpDesc) -> Support {
        if let OpKind::Custom(_) = desc.kind {
            return compose::support(self, desc);
        }
        if let Err(e) = desc.check() {
            return Support::Unsupported(e.to_string());
        }
        match desc.inputs.iter().chain(&desc.outputs).find(|l| !panels::knows(l.packing, l.dtype)) {
            Some(l) => Support::Unsupported(panels::foreign(l.packing, l.dtype)),
            None => Support::Native,
        }
    }

    fn packing(&self, weight: &Layout) -> Packing {
        match weight.shape.len().checked_sub(2) {
            // Otherwise there are no whole panels.
            Some(n) if panels::knows(PANELS, weight.dtype) && weight.shape[n] >= COLUMNS => PANELS,
            _ => Packing::Plain,
        }
    }

    fn allocate(&self, bytes: u64, row_bytes: u64) -> Result<Buffer> {
        if bytes > self.info.max_buffer_bytes {
            return Err(Error::Limit {
                device: self.info.selector.clone(),
                what: "bytes of a buffer".into(),
                requested: bytes,
                maximum: self.info.max_buffer_bytes,
            });
        }
        self.pool.allocate(bytes, row_bytes)
    }

    fn create_stream(&self) -> Result<StreamId> {
        Ok(StreamId(self.streams.fetch_add(1, Ordering::Relaxed)))
    }

    fn upload(&self, stream: StreamId, to: &Buffer, offset: u64, data: &[u8]) -> Result<()> {
        let to = self.place("upload", to, offset, data.len() as u64)?;
        self.executor.push(self.stream(stream)?, Work::Upload(to, data.to_vec()))
    }

    fn download(&self, stream: StreamId, from: &Buffer, offset: u64, bytes: u64) -> Result<Readback> {
        let from = self.place("download", from, offset, bytes)?;
        Ok(Readback::new(self.executor.download(self.stream(stream)?, from, bytes as usize)?))
    }

    fn copy(&self, stream: StreamId, from: (&Buffer, u64), to: (&Buffer, u64), bytes: u64) -> Result<()> {
        let stream = self.stream(stream)?;
        let source = self.place("copy", from.0, from.1, bytes)?;
        let target = self.place("copy", to.0, to.1, bytes)?;
        if from.0.same(to.0) && from.1 < to.1.saturating_add(bytes) && to.1 < from.1.saturating_add(bytes) {
            let message = format!("copy of {bytes} bytes from {} to {} of one buffer overlaps", from.1, to.1);
            return Err(Error::backend(&self.info.selector, message));
        }
        self.executor.push(stream, Work::Copy(source, target, bytes as usize))
    }

    fn submit(&self, stream: StreamId, ops: &[Op]) -> Result<()> {
        let stream = self.stream(stream)?;
        let custom = ops.iter().any(|op| matches!(op.kind, OpKind::Custom(_)));
        let lowered = if custom { compose::lower_ops(self, ops)? } else { None };
        let ops = lowered.as_deref().unwrap_or(ops);
        let program = Program::new(ops, &[], &self.pool)?;
        self.run(stream, Arc::new(program), Vec::new())
    }

    fn record(&self, graph: &Graph) -> Result<Recording> {
        let mut recording = prepare(self, graph)?;
        recording.backend = Some(Arc::new(Program::new(&recording.ops, &recording.slots, &self.pool)?));
        Ok(recording)
    }

    fn replay(&self, stream: StreamId, recording: &Recording, bindings: &[Binding]) -> Result<()> {
        let bound = recording.bind(bindings)?;
        let program = recording.backend.clone().and_then(|b| b.downcast::<Program>().ok());
        if let Some(program) = program
            && program.accepts(&self.pool, &bound)?
        {
            return self.run(self.stream(stream)?, program, bound);
        }
        // One buffer is bound twice, so each op must be checked again, with its memory.
        self.submit(stream, &recording.resolve(&bound))
    }

    fn record_event(&self, stream: StreamId) -> Result<Event> {
        Ok(Event::new(self.executor.mark(self.stream(stream)?)?))
    }

    fn wait_event(&self, stream: StreamId, event: &Event) -> Result<()> {
        let stream = self.stream(stream)?;
        match event.state().as_any().downcast_ref::<Mark>() {
            Some(mark) => self.executor.wait_mark(stream, mark),
            None => Err(Error::backend(&self.info.selector, "the event belongs to another device")),
        }
    }

    fn synchronize(&self, stream: StreamId) -> Result<()> {
        self.record_event(stream)?.wait()
    }

    fn memory(&self) -> MemoryStats {
        self.pool.stats()
    }
}
