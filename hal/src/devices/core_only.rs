//! A device that offers only the core ops of another.

use crate::{Device, Graph, Op, OpDesc, Recording, Result, StreamId, Support, compose};
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
    crate::forward_to!(inner; info, fuses, workspace, allocate, create_stream, upload, download, copy, replay);
    crate::forward_to!(inner; record_event, wait_event, synchronize, memory, time, tuning, set_tuning);

    fn supports(&self, desc: &OpDesc) -> Support {
        if desc.kind.is_core() { self.inner.supports(desc) } else { compose::support(self, desc) }
    }
    fn variants(&self, desc: &OpDesc) -> Vec<String> {
        if desc.kind.is_core() { self.inner.variants(desc) } else { Vec::new() }
    }
    fn programs(&self, op: &Op) -> Result<Vec<Vec<u64>>> {
        if op.kind.is_core() { self.inner.programs(op) } else { Ok(Vec::new()) }
    }
    fn time_ops(&self, ops: &[Op]) -> Result<Vec<f64>> {
        let time_one = |op: &Op| match compose::lower_ops(self, std::slice::from_ref(op))? {
            Some(lowered) => Ok(self.inner.time_ops(&lowered)?.iter().sum()),
            None => Ok(self.inner.time_ops(std::slice::from_ref(op))?.iter().sum()),
        };
        ops.iter().map(time_one).collect()
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
}
