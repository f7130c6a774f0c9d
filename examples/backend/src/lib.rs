//! A complete backend: `toy:0`, a machine whose memory is the host's and whose kernels are the definitions
//! of the ops. A real one allocates, copies and starts kernels in the same places, through its vendor's
//! interface. CONTRIBUTING.md walks through it.

use halite_hal::reference::{Array, eval};
use halite_hal::{
    Backend, Buffer, Device, DeviceInfo, DeviceKind, DeviceOptions, Error, Event, MemoryStats, Op, OpDesc,
    Packing, Readback, Result, Source, Storage, StreamId, Support, TensorRef, compose,
};
use std::any::Any;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The backend: which devices there are, and how one is opened.
pub struct ToyBackend;

impl Backend for ToyBackend {
    fn kind(&self) -> &str {
        "toy"
    }

    fn devices(&self) -> Vec<DeviceInfo> {
        let mut info = DeviceInfo::new("toy", 0, "Toy", DeviceKind::Software);
        (info.vendor, info.driver) = ("Halite".into(), env!("CARGO_PKG_VERSION").into());
        info.memory_bytes = 1 << 30;
        vec![info]
    }

    fn open(&self, index: usize, options: &DeviceOptions) -> Result<Arc<dyn Device>> {
        let gone = || Error::backend(format!("toy:{index}"), "there is one device, toy:0");
        let mut info = self.devices().into_iter().nth(index).ok_or_else(gone)?;
        if let Some(profile) = &options.profile {
            profile.apply(&mut info);
        }
        let limit = options.memory_limit.unwrap_or(info.memory_bytes);
        let stats = Arc::new(Mutex::new(MemoryStats::new(0, 0, limit)));
        Ok(Arc::new(ToyDevice { info, stats, streams: AtomicU32::new(1) }))
    }
}

/// The device. Its calls return when the work is done; so streams and events have nothing to wait for, and
/// there are no late errors to keep.
#[derive(Debug)]
pub struct ToyDevice {
    info: DeviceInfo,
    stats: Arc<Mutex<MemoryStats>>,
    streams: AtomicU32,
}

/// What lies behind a [`Buffer`] of this device.
struct Memory {
    bytes: Mutex<Vec<u8>>,
    /// The device's; which also tells its memory from that of others.
    stats: Arc<Mutex<MemoryStats>>,
}

impl Storage for Memory {
    fn device(&self) -> &str {
        "toy:0"
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        lock(&self.stats).used -= lock(&self.bytes).len() as u64;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ToyDevice {
    fn bytes_of<'b>(&self, buffer: &'b Buffer) -> Result<MutexGuard<'b, Vec<u8>>> {
        match buffer.downcast::<Memory>() {
            Some(memory) if Arc::ptr_eq(&memory.stats, &self.stats) => Ok(lock(&memory.bytes)),
            _ => Err(Error::WrongDevice {
                device: self.info.selector.clone(),
                found: buffer.storage().device().into(),
            }),
        }
    }

    fn operand<'t>(&self, t: &'t TensorRef) -> Result<MutexGuard<'t, Vec<u8>>> {
        match &t.source {
            Source::Buffer(buffer) => self.bytes_of(buffer),
            other => Err(Error::backend(&self.info.selector, format!("{other:?} is not a buffer"))),
        }
    }

    /// One core op: here a real backend starts a kernel.
    fn run(&self, op: &Op) -> Result<()> {
        let load = |t: &TensorRef| Ok(Array::read(t, &self.operand(t)?));
        let inputs = op.inputs.iter().map(load).collect::<Result<Vec<_>>>()?;
        let mut outputs = op.outputs.iter().map(load).collect::<Result<Vec<_>>>()?;
        eval(&op.kind, &inputs, &mut outputs);
        for (t, y) in op.outputs.iter().zip(&outputs) {
            y.write(t, &mut self.operand(t)?);
        }
        Ok(())
    }
}

impl Device for ToyDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn supports(&self, desc: &OpDesc) -> Support {
        if desc.inputs.iter().chain(&desc.outputs).any(|l| l.packing != Packing::Plain) {
            return Support::Unsupported("only the plain packing is known".into());
        }
        match desc.check() {
            Err(e) => Support::Unsupported(e.to_string()),
            Ok(()) if desc.kind.is_core() => Support::Native,
            Ok(()) => compose::support(self, desc),
        }
    }

    fn allocate(&self, bytes: u64, _row_bytes: u64) -> Result<Buffer> {
        let mut stats = lock(&self.stats);
        let (limit, available) = (stats.limit, stats.limit.saturating_sub(stats.used));
        if bytes > available {
            let device = self.info.selector.clone();
            return Err(Error::OutOfMemory { device, requested: bytes, available, limit });
        }
        stats.used += bytes;
        stats.peak = stats.peak.max(stats.used);
        let memory = Memory { bytes: Mutex::new(vec![0; bytes as usize]), stats: self.stats.clone() };
        Ok(Buffer::new(Arc::new(memory), bytes))
    }

    fn upload(&self, _: StreamId, to: &Buffer, offset: u64, data: &[u8]) -> Result<()> {
        Error::check_range("upload", to, offset, data.len() as u64)?;
        self.bytes_of(to)?[offset as usize..][..data.len()].copy_from_slice(data);
        Ok(())
    }

    fn download(&self, _: StreamId, from: &Buffer, offset: u64, bytes: u64) -> Result<Readback> {
        Error::check_range("download", from, offset, bytes)?;
        Ok(Readback::ready(self.bytes_of(from)?[offset as usize..][..bytes as usize].to_vec()))
    }

    fn copy(&self, stream: StreamId, from: (&Buffer, u64), to: (&Buffer, u64), bytes: u64) -> Result<()> {
        Error::check_range("copy", from.0, from.1, bytes)?;
        let data = self.bytes_of(from.0)?[from.1 as usize..][..bytes as usize].to_vec();
        self.upload(stream, to.0, to.1, &data)
    }

    fn submit(&self, _: StreamId, ops: &[Op]) -> Result<()> {
        ops.iter().try_for_each(|op| op.check(|_| None))?;
        // Ops that aren't core are written out as ops that are.
        let lowered = compose::lower_ops(self, ops)?;
        lowered.as_deref().unwrap_or(ops).iter().try_for_each(|op| self.run(op))
    }

    fn create_stream(&self) -> Result<StreamId> {
        Ok(StreamId(self.streams.fetch_add(1, Ordering::Relaxed)))
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
        *lock(&self.stats)
    }
}
