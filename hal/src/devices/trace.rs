//! A device that writes down what another is asked to do.

use crate::{Binding, Buffer, Device, Graph, Op, OpDesc, Readback, Recording, Result, StreamId, Support};
use std::sync::{Arc, Mutex, PoisonError};

/// One thing that a traced device was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceEvent {
    /// An op was submitted, or stood in a recording.
    Op {
        /// The op without its memory.
        desc: OpDesc,
        /// Whether the device composed it of other ops.
        composed: bool,
    },
    /// A graph was recorded; its ops come before this, as given.
    Record {
        /// Number of ops that the recording runs.
        ops: usize,
    },
    /// A recording was replayed.
    Replay,
    /// Bytes went to the device.
    Upload(u64),
    /// Bytes came from the device.
    Download(u64),
}

/// Passes everything on to another device and keeps a list of it.
#[derive(Debug)]
pub struct TraceDevice {
    inner: Arc<dyn Device>,
    events: Mutex<Vec<TraceEvent>>,
}

impl TraceDevice {
    /// Wraps a device.
    pub fn new(inner: Arc<dyn Device>) -> Self {
        TraceDevice { inner, events: Mutex::default() }
    }

    /// Takes the list so far.
    pub fn take(&self) -> Vec<TraceEvent> {
        std::mem::take(&mut self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, events: impl IntoIterator<Item = TraceEvent>) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).extend(events);
    }

    fn note_ops(&self, ops: &[Op]) {
        self.note(ops.iter().map(|op| {
            let desc = op.desc();
            TraceEvent::Op { composed: self.inner.supports(&desc) == Support::Composed, desc }
        }));
    }
}

impl Device for TraceDevice {
    crate::forward_to!(inner; info, supports, packing, workspace, allocate, create_stream, copy);
    crate::forward_to!(inner; record_event, wait_event, synchronize, memory, time, tuning, set_tuning);
    crate::forward_to!(inner; variants, programs);

    fn upload(&self, stream: StreamId, to: &Buffer, offset: u64, data: &[u8]) -> Result<()> {
        self.note([TraceEvent::Upload(data.len() as u64)]);
        self.inner.upload(stream, to, offset, data)
    }
    fn download(&self, stream: StreamId, from: &Buffer, offset: u64, bytes: u64) -> Result<Readback> {
        self.note([TraceEvent::Download(bytes)]);
        self.inner.download(stream, from, offset, bytes)
    }
    fn submit(&self, stream: StreamId, ops: &[Op]) -> Result<()> {
        self.note_ops(ops);
        self.inner.submit(stream, ops)
    }
    fn record(&self, graph: &Graph) -> Result<Recording> {
        self.note_ops(&graph.ops);
        let recording = self.inner.record(graph)?;
        self.note([TraceEvent::Record { ops: recording.ops.len() }]);
        Ok(recording)
    }
    fn replay(&self, stream: StreamId, recording: &Recording, bindings: &[Binding]) -> Result<()> {
        self.note([TraceEvent::Replay]);
        self.inner.replay(stream, recording, bindings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::CoreOnly;
    use crate::reference::ReferenceDevice;
    use crate::{DType, TensorRef};

    #[test]
    fn a_trace_shows_what_was_composed() {
        let core = CoreOnly::new(Arc::new(ReferenceDevice::new()));
        let device = TraceDevice::new(Arc::new(core));
        let buffer = device.allocate(48, 0).unwrap();
        device.upload(StreamId(0), &buffer, 0, &[0; 32]).unwrap();
        let [gate, up, y] = [0, 4, 8].map(|at| TensorRef::new(&buffer, DType::F32, &[4]).with_offset(at));
        let ops = [Op::swiglu(gate.clone(), up, y.clone()), Op::fill(1.0, gate)];
        device.submit(StreamId(0), &ops).unwrap();
        device.download(StreamId(0), &buffer, 32, 16).unwrap();
        let [swiglu, fill] = ops.each_ref().map(Op::desc);
        assert_eq!(
            device.take(),
            [
                TraceEvent::Upload(32),
                TraceEvent::Op { desc: swiglu, composed: true },
                TraceEvent::Op { desc: fill.clone(), composed: false },
                TraceEvent::Download(16),
            ]
        );

        let mut graph = Graph::new();
        graph.push(Op::fill(2.0, y));
        let recording = device.record(&graph).unwrap();
        device.replay(StreamId(0), &recording, &[]).unwrap();
        let fill = OpDesc { kind: Op::fill(2.0, TensorRef::new(&buffer, DType::F32, &[4])).kind, ..fill };
        let op = TraceEvent::Op { desc: fill, composed: false };
        assert_eq!(device.take(), [op, TraceEvent::Record { ops: 1 }, TraceEvent::Replay]);
        assert!(device.take().is_empty());
    }
}
