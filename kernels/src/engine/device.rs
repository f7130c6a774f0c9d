//! The engine as a device.

use super::{Engine, Failed};
use crate::{Driver, Ticket};
use halite_hal::{
    Binding, Buffer, Device, DeviceInfo, Error, Event, EventState, Graph, MemoryStats, Op, OpDesc, Readback,
    Recording, Result, StreamId, Support, TransferState, compose, prepare,
};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A place in the driver's queue.
struct Mark<D: Driver> {
    driver: Arc<D>,
    failed: Arc<Failed>,
    ticket: Ticket,
}

impl<D: Driver> EventState for Mark<D> {
    fn poll(&self) -> Result<bool> {
        self.failed.keep(self.driver.wait(self.ticket, false))
    }

    fn wait(&self) -> Result<()> {
        self.failed.keep(self.driver.wait(self.ticket, true)).map(drop)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A download that keeps its error for later waits.
struct Download {
    inner: Readback,
    failed: Arc<Failed>,
}

impl TransferState for Download {
    fn poll(&mut self) -> Result<bool> {
        self.failed.keep(self.inner.poll())
    }

    fn wait(self: Box<Self>) -> Result<Vec<u8>> {
        self.failed.keep(self.inner.wait())
    }
}

impl<D: Driver> Engine<D> {
    fn stream(&self, stream: StreamId) -> Result<()> {
        let n = self.streams.load(Ordering::Relaxed);
        if stream.0 < n {
            return Ok(());
        }
        let message = format!("there is no stream {}; there are {n}, from 0", stream.0);
        Err(Error::backend(&self.info().selector, message))
    }
}

impl<D: Driver> Device for Engine<D> {
    fn info(&self) -> &DeviceInfo {
        self.driver().info()
    }

    fn supports(&self, desc: &OpDesc) -> Support {
        self.support(desc)
    }

    fn fuses(&self, ops: &[Op]) -> usize {
        self.fused(ops).map_or(1, |(_, size)| size)
    }

    fn allocate(&self, bytes: u64, row_bytes: u64) -> Result<Buffer> {
        self.pool.allocate(bytes, row_bytes)
    }

    fn create_stream(&self) -> Result<StreamId> {
        Ok(StreamId(self.streams.fetch_add(1, Ordering::Relaxed)))
    }

    fn upload(&self, stream: StreamId, to: &Buffer, offset: u64, data: &[u8]) -> Result<()> {
        self.stream(stream)?;
        self.pool.memory(to)?;
        Error::check_range("upload", to, offset, data.len() as u64)?;
        self.upload_bytes(to, offset, data)
    }

    fn download(&self, stream: StreamId, from: &Buffer, offset: u64, bytes: u64) -> Result<Readback> {
        self.stream(stream)?;
        self.pool.memory(from)?;
        Error::check_range("download", from, offset, bytes)?;
        self.failed.check()?;
        let inner = self.download_bytes(from, offset, bytes)?;
        Ok(Readback::new(Download { inner, failed: self.failed.clone() }))
    }

    fn copy(&self, stream: StreamId, from: (&Buffer, u64), to: (&Buffer, u64), bytes: u64) -> Result<()> {
        self.stream(stream)?;
        self.pool.memory(from.0)?;
        self.pool.memory(to.0)?;
        Error::check_range("copy", from.0, from.1, bytes)?;
        Error::check_range("copy", to.0, to.1, bytes)?;
        if from.0.same(to.0) && from.1 < to.1 + bytes && to.1 < from.1 + bytes {
            let message = format!("copy of {bytes} bytes from {} to {} of one buffer overlaps", from.1, to.1);
            return Err(Error::backend(&self.info().selector, message));
        }
        self.copy_bytes(from, to, bytes)
    }

    fn submit(&self, stream: StreamId, ops: &[Op]) -> Result<()> {
        self.stream(stream)?;
        self.failed.check()?;
        for op in ops {
            self.check(op)?;
        }
        match compose::lower_ops(self, ops)? {
            None => self.run(ops),
            Some(lowered) => self.run(&lowered),
        }
    }

    fn record(&self, graph: &Graph) -> Result<Recording> {
        let mut recording = prepare(self, graph)?;
        recording.backend = Some(Arc::new(self.recorded(&recording.ops)?));
        Ok(recording)
    }

    fn replay(&self, stream: StreamId, recording: &Recording, bindings: &[Binding]) -> Result<()> {
        self.stream(stream)?;
        self.failed.check()?;
        let bound = recording.bind(bindings)?;
        if self.replay_recorded(recording, &bound)? {
            return Ok(());
        }
        self.submit(stream, &recording.resolve(&bound))
    }

    fn record_event(&self, stream: StreamId) -> Result<Event> {
        self.stream(stream)?;
        let (driver, failed) = (self.driver().clone(), self.failed.clone());
        Ok(Event::new(Mark { ticket: driver.last(), driver, failed }))
    }

    fn wait_event(&self, stream: StreamId, event: &Event) -> Result<()> {
        self.stream(stream)?;
        match event.state().as_any().downcast_ref::<Mark<D>>() {
            Some(mark) if Arc::ptr_eq(&mark.driver, self.driver()) => Ok(()),
            _ => Err(Error::backend(&self.info().selector, "the event belongs to another device")),
        }
    }

    fn synchronize(&self, stream: StreamId) -> Result<()> {
        self.record_event(stream)?.wait()
    }

    fn memory(&self) -> MemoryStats {
        self.pool.stats()
    }

    fn tuning(&self) -> Vec<(String, String)> {
        self.choices()
    }

    fn set_tuning(&self, choices: &[(String, String)]) -> Result<()> {
        self.chooser.give(choices);
        Ok(())
    }

    fn variants(&self, desc: &OpDesc) -> Vec<String> {
        Engine::variants(self, desc).iter().map(ToString::to_string).collect()
    }

    fn programs(&self, op: &Op) -> Result<Vec<Vec<u64>>> {
        if op.outputs.iter().all(|t| t.elems() == 0) || !self.has(&op.desc()) {
            return Ok(Vec::new());
        }
        let (lowered, variant) = self.lower(op)?;
        Ok(lowered.launches.iter().map(|launch| launch.source.traits(&variant.0)).collect())
    }

    fn time_ops(&self, ops: &[Op]) -> Result<Vec<f64>> {
        self.time_each(ops)
    }

    fn time(&self, recording: &Recording, bindings: &[Binding]) -> Result<Option<Vec<(String, f64)>>> {
        self.failed.check()?;
        let bound = recording.bind(bindings)?;
        if !self.info().timestamps {
            return Ok(None);
        }
        self.time_recorded(recording, &bound).map(Some)
    }
}
