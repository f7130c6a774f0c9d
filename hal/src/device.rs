//! The device trait: do these operations on these buffers.

use crate::compose;
use crate::plan::{self, Place};
use crate::{
    Buffer, DeviceInfo, Error, Graph, Layout, Op, OpDesc, Packing, Result, Slot, SlotKind, Source, TensorRef,
};
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// How a device does an op.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Support {
    /// With a kernel of its own.
    Native,
    /// As other ops, see [`compose`].
    Composed,
    /// Not at all, and why.
    Unsupported(String),
}

/// An in-order queue of a device. Stream 0 always exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StreamId(pub u32);

/// Bytes of device memory in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// In live buffers now.
    pub used: u64,
    /// The most that was in live buffers at one time.
    pub peak: u64,
    /// The most that may be used; `u64::MAX` when there is no limit.
    pub limit: u64,
}

impl MemoryStats {
    /// From the parts.
    pub fn new(used: u64, peak: u64, limit: u64) -> Self {
        MemoryStats { used, peak, limit }
    }
}

/// A backend's side of a [`Readback`].
pub trait TransferState: Send {
    /// Whether the bytes have arrived. Does not block.
    fn poll(&mut self) -> Result<bool>;
    /// Waits for the bytes.
    fn wait(self: Box<Self>) -> Result<Vec<u8>>;
}

/// A download under way.
pub struct Readback(Box<dyn TransferState>);

impl Readback {
    /// From a backend's state.
    pub fn new(state: impl TransferState + 'static) -> Self {
        Readback(Box::new(state))
    }

    /// A download that has already ended.
    pub fn ready(bytes: Vec<u8>) -> Self {
        struct Ready(Vec<u8>);
        impl TransferState for Ready {
            fn poll(&mut self) -> Result<bool> {
                Ok(true)
            }
            fn wait(self: Box<Self>) -> Result<Vec<u8>> {
                Ok(self.0)
            }
        }
        Readback::new(Ready(bytes))
    }

    /// Whether the bytes have arrived. Does not block; reports asynchronous errors.
    pub fn poll(&mut self) -> Result<bool> {
        self.0.poll()
    }

    /// Waits for the bytes; reports asynchronous errors of the stream.
    pub fn wait(self) -> Result<Vec<u8>> {
        self.0.wait()
    }

    /// Waits, and reads the bytes as numbers of type `T`.
    pub fn wait_as<T: bytemuck::Pod>(self) -> Result<Vec<T>> {
        Ok(bytemuck::allocation::pod_collect_to_vec(&self.wait()?))
    }
}

impl fmt::Debug for Readback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Readback")
    }
}

/// A backend's side of an [`Event`].
pub trait EventState: Any + Send + Sync {
    /// Whether everything before the event has ended. Does not block.
    fn poll(&self) -> Result<bool>;
    /// Waits until everything before the event has ended.
    fn wait(&self) -> Result<()>;
    /// For the backend to find its own type again.
    fn as_any(&self) -> &dyn Any;
}

/// A point on a stream's timeline.
#[derive(Clone)]
pub struct Event(Arc<dyn EventState>);

impl Event {
    /// From a backend's state.
    pub fn new(state: impl EventState) -> Self {
        Event(Arc::new(state))
    }

    /// An event that has already come to pass: for devices whose calls return when the work is done.
    pub fn past() -> Self {
        struct Past;
        impl EventState for Past {
            fn poll(&self) -> Result<bool> {
                Ok(true)
            }
            fn wait(&self) -> Result<()> {
                Ok(())
            }
            fn as_any(&self) -> &dyn Any {
                self
            }
        }
        Event::new(Past)
    }

    /// Whether everything before the event has ended. Does not block.
    pub fn poll(&self) -> Result<bool> {
        self.0.poll()
    }

    /// Waits until everything before the event has ended.
    pub fn wait(&self) -> Result<()> {
        self.0.wait()
    }

    /// The backend's state.
    pub fn state(&self) -> &dyn EventState {
        &*self.0
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Event")
    }
}

/// A graph that a device has prepared: composed ops written out, temporaries placed. Replayed with
/// [`Device::replay`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Recording {
    /// The ops as they run; operands name buffers or external slots.
    pub ops: Vec<Op>,
    /// The slots; only the external ones are left in use.
    pub slots: Vec<Slot>,
    /// Bytes of the planned temporaries.
    pub temporary_bytes: u64,
    /// What the backend keeps with the recording.
    pub backend: Option<Arc<dyn Any + Send + Sync>>,
}

/// Memory for an external slot of a recording.
#[derive(Clone, Debug)]
pub struct Binding {
    /// The slot's number.
    pub slot: u32,
    /// The memory, from its start; at least as large as the slot.
    pub buffer: Buffer,
}

impl Binding {
    /// From the parts.
    pub fn new(slot: u32, buffer: &Buffer) -> Self {
        Binding { slot, buffer: buffer.clone() }
    }
}

/// A device: buffers, and operations on them.
///
/// **Asynchronous.** [`submit`](Device::submit), [`replay`](Device::replay), [`upload`](Device::upload)
/// and [`copy`](Device::copy) return before the work is done; the work of one stream takes effect in
/// order. Streams are ordered among each other by events. `upload` has copied its data when it returns;
/// submissions keep their buffers alive.
///
/// **Errors.** What can be seen from the arguments is returned at once. What goes wrong later is
/// *sticky*: it names the op, and every later wait on that stream reports it.
///
/// **No silent fallback.** An op that the device can't do is an error.
pub trait Device: Send + Sync + fmt::Debug {
    /// What the device is.
    fn info(&self) -> &DeviceInfo;

    /// How the device does an op.
    fn supports(&self, desc: &OpDesc) -> Support;

    /// How many of the leading `ops`, at least 1, the device does at once. When a recording is planned, none
    /// of the temporaries that these ops use takes the place of another.
    fn fuses(&self, _ops: &[Op]) -> usize {
        1
    }

    /// The layout in which the device likes to multiply with a weight `[.., n, k]`, contiguous and plain, made by
    /// [`Op::pack`](crate::Op::pack). `Plain` when it is as good as any.
    fn packing(&self, _weight: &Layout) -> Packing {
        Packing::Plain
    }

    /// Scratch bytes that the device takes for an op beyond its operands.
    fn workspace(&self, _desc: &OpDesc) -> u64 {
        0
    }

    /// New memory of `bytes` bytes, its content undefined. Memory beyond the largest binding is cut into
    /// chunks at multiples of `row_bytes` (0: may be cut at any multiple of the offset alignment).
    fn allocate(&self, bytes: u64, row_bytes: u64) -> Result<Buffer>;

    /// A further stream.
    fn create_stream(&self) -> Result<StreamId>;

    /// Writes `data` at byte `offset` of `to`. The data is copied before this returns.
    fn upload(&self, stream: StreamId, to: &Buffer, offset: u64, data: &[u8]) -> Result<()>;

    /// Reads `bytes` bytes from byte `offset` of `from`.
    fn download(&self, stream: StreamId, from: &Buffer, offset: u64, bytes: u64) -> Result<Readback>;

    /// Copies bytes between buffers of this device; the ranges must not overlap.
    fn copy(&self, stream: StreamId, from: (&Buffer, u64), to: (&Buffer, u64), bytes: u64) -> Result<()>;

    /// Runs ops in order. Operands must be buffers, not slots.
    fn submit(&self, stream: StreamId, ops: &[Op]) -> Result<()>;

    /// Prepares a graph: writes out composed ops, checks, and places temporaries by lifetime.
    fn record(&self, graph: &Graph) -> Result<Recording> {
        prepare(self, graph)
    }

    /// Runs a recording with its external slots bound. Each external slot that the ops use must be bound.
    fn replay(&self, stream: StreamId, recording: &Recording, bindings: &[Binding]) -> Result<()> {
        let bound = recording.bind(bindings)?;
        self.submit(stream, &recording.resolve(&bound))
    }

    /// Marks the present end of a stream.
    fn record_event(&self, stream: StreamId) -> Result<Event>;

    /// Lets later work on `stream` wait for an event of this device.
    fn wait_event(&self, stream: StreamId, event: &Event) -> Result<()>;

    /// Waits until the stream is idle; reports its asynchronous error, if there was one.
    fn synchronize(&self, stream: StreamId) -> Result<()>;

    /// Memory in use.
    fn memory(&self) -> MemoryStats;

    /// Choices of kernel variants in force, as (key, variant). Empty for devices without variants.
    fn tuning(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Sets choices of kernel variants, in place of those set before; they go before all others that the
    /// device has. A key is one that [`tuning`](Device::tuning) gave, or the name of an op for all its
    /// shapes. Choices that don't fit the device do nothing.
    fn set_tuning(&self, _choices: &[(String, String)]) -> Result<()> {
        Ok(())
    }

    /// The names of the variants that can do an op, the one that would be used first. Empty for devices
    /// without variants.
    fn variants(&self, _desc: &OpDesc) -> Vec<String> {
        Vec::new()
    }

    /// What a device runs for an op, with the choices in force: for each program, in order, numbers that stand for
    /// what its text depends on (the kernel with its dtypes, layouts, tile sizes and so on), so that checks can try all of it
    /// without running each case. Empty for devices that have no programs, and for ops that they compose of others.
    fn programs(&self, _op: &Op) -> Result<Vec<Vec<u64>>> {
        Ok(Vec::new())
    }

    /// Runs ops one by one, after everything before on stream 0, and says how many seconds each took: by the
    /// device's clock where it has one, otherwise by the host's.
    fn time_ops(&self, ops: &[Op]) -> Result<Vec<f64>> {
        self.synchronize(StreamId(0))?;
        let time_one = |op: &Op| {
            let start = Instant::now();
            self.submit(StreamId(0), std::slice::from_ref(op))?;
            self.synchronize(StreamId(0))?;
            Ok(start.elapsed().as_secs_f64())
        };
        ops.iter().map(time_one).collect()
    }

    /// Runs a recording once, after everything before it, kernel by kernel and each alone: for each a label
    /// and the seconds that it took by the device's own clock. `None` where the device has no such clock,
    /// see [`DeviceInfo::timestamps`]; then nothing has run.
    ///
    /// # Errors
    /// Those of [`replay`](Device::replay), asynchronous ones too: this returns when the work is done.
    fn time(&self, _recording: &Recording, _bindings: &[Binding]) -> Result<Option<Vec<(String, f64)>>> {
        Ok(None)
    }
}

fn bound(table: &[Option<Buffer>], slot: u32) -> Result<&Buffer> {
    let missing = || Error::Slot { slot, message: "used by the recording but not bound".into() };
    table.get(slot as usize).and_then(Option::as_ref).ok_or_else(missing)
}

/// The buffer of each slot of a recording, with sizes checked and every used slot bound.
pub(crate) fn binding_table(recording: &Recording, bindings: &[Binding]) -> Result<Vec<Option<Buffer>>> {
    let mut table: Vec<Option<Buffer>> = vec![None; recording.slots.len()];
    for b in bindings {
        let slot = recording.slots.get(b.slot as usize).filter(|s| s.kind == SlotKind::External);
        let slot = slot.ok_or_else(|| Error::Slot {
            slot: b.slot,
            message: "not an external slot of this recording".into(),
        })?;
        if b.buffer.bytes() < slot.bytes {
            let message = format!("bound to {} bytes, needs {}", b.buffer.bytes(), slot.bytes);
            return Err(Error::Slot { slot: b.slot, message });
        }
        table[b.slot as usize] = Some(b.buffer.clone());
    }
    Ok(table)
}

impl Recording {
    /// The buffer of each slot, for backends that replay by themselves: sizes are checked, and every
    /// external slot that the ops use is there.
    pub fn bind(&self, bindings: &[Binding]) -> Result<Vec<Option<Buffer>>> {
        let table = binding_table(self, bindings)?;
        for t in self.ops.iter().flat_map(Op::operands) {
            if let Source::Slot(s) = t.source {
                bound(&table, s)?;
            }
        }
        Ok(table)
    }

    /// Whether no memory is bound to two slots, or named by an op too: then what was checked of the slots
    /// holds for the memory behind them. `bound` is what [`bind`](Recording::bind) gave.
    pub fn binds_apart(&self, bound: &[Option<Buffer>]) -> bool {
        let address = |b: &Buffer| std::ptr::from_ref(b.storage().as_any()).addr();
        let mut seen: Vec<usize> = bound.iter().flatten().map(address).collect();
        let slots = seen.len();
        seen.sort_unstable();
        seen.dedup();
        let named = |t: &TensorRef| match &t.source {
            Source::Buffer(b) => seen.binary_search(&address(b)).is_ok(),
            Source::Slot(_) => false,
        };
        seen.len() == slots && !self.ops.iter().flat_map(Op::operands).any(named)
    }

    /// The ops with the bound memory in place of the slots. `bound` is what [`bind`](Recording::bind) gave.
    pub fn resolve(&self, bound: &[Option<Buffer>]) -> Vec<Op> {
        let mut ops = self.ops.clone();
        for t in ops.iter_mut().flat_map(Op::operands_mut) {
            if let Source::Slot(s) = t.source
                && let Some(buffer) = &bound[s as usize]
            {
                t.source = Source::Buffer(buffer.clone());
            }
        }
        ops
    }
}

/// The sizes of the groups of ops that a device does at once, in order; their sum is the number of ops.
fn groups<D: Device + ?Sized>(device: &D, ops: &[Op]) -> Vec<usize> {
    let mut sizes = Vec::new();
    let mut rest = ops;
    while !rest.is_empty() {
        let size = device.fuses(rest).clamp(1, rest.len());
        sizes.push(size);
        rest = &rest[size..];
    }
    sizes
}

/// What [`Device::record`] does unless a backend does more: composed ops are written out, the graph is
/// checked, temporaries are placed in arenas of the device. A backend's own `record` starts with it.
pub fn prepare<D: Device + ?Sized>(device: &D, graph: &Graph) -> Result<Recording> {
    graph.check()?;
    let info = device.info();
    let graph = compose::lower(device, graph)?;
    let alignment = info.offset_alignment.max(64);
    let max_arena = info.max_buffer_bytes.min(info.max_binding_bytes);
    let plan = plan::plan(&graph, &groups(device, &graph.ops), alignment, max_arena, &info.selector)?;
    let arenas = plan.arenas.iter().map(|&bytes| device.allocate(bytes, 0)).collect::<Result<Vec<_>>>()?;
    let Graph { mut ops, slots } = graph;
    for t in ops.iter_mut().flat_map(Op::operands_mut) {
        let Source::Slot(s) = t.source else { continue };
        let Some(Place { arena, offset }) = plan.places[s as usize] else { continue };
        // The offset is a multiple of the block; block types count elements, not bytes.
        let elems = offset / t.dtype.block_bytes() as u64 * t.dtype.block_elems() as u64;
        t.offset += elems as usize;
        t.source = Source::Buffer(arenas[arena].clone());
    }
    Ok(Recording { ops, slots, temporary_bytes: plan.bytes(), backend: None })
}
