//! From launches to commands: operands become bindings, parameters words, and hazards barriers.

use super::pool::Pool;
use crate::lowering::scratch_of;
use crate::source::{Store, unit};
use crate::{Command, Dispatch, Driver, Launch, Region};
use halite_hal::{Buffer, Error, Result, Source, TensorRef};
use std::sync::Arc;

/// A launch whose program is compiled.
pub(crate) struct Ready<D: Driver> {
    pub launch: Launch,
    pub program: Arc<D::Program>,
    /// The op, for messages and traces.
    pub label: Arc<str>,
    /// Offset of each piece of its scratch memory in the scratch buffer.
    pub scratch: Arc<[u64]>,
}

/// What the sources of operands stand for.
pub(crate) struct Bound<'a> {
    pub slots: &'a [Option<Buffer>],
    pub scratch: Option<&'a Buffer>,
}

/// Bytes of a piece of memory that a command since the last barrier reads or writes.
struct Touched {
    memory: usize,
    start: u64,
    end: u64,
    written: bool,
}

/// A command list under construction.
pub(crate) struct Commands<'p, D: Driver> {
    pool: &'p Arc<Pool<D>>,
    pub list: Vec<Command<D>>,
    touched: Vec<Touched>,
}

/// Where an operand lies: its binding, and what the kernel's parameters say of it.
struct Located<D: Driver> {
    region: Region<D>,
    /// Bytes that it touches in the memory.
    start: u64,
    end: u64,
    /// Elements (half words for block types) from the binding's start.
    offset: u32,
}

impl<'p, D: Driver> Commands<'p, D> {
    pub(crate) fn new(pool: &'p Arc<Pool<D>>) -> Self {
        Commands { pool, list: Vec::new(), touched: Vec::new() }
    }

    /// Appends a launch.
    pub(crate) fn push(&mut self, ready: &Ready<D>, bound: &Bound<'_>) -> Result<()> {
        let launch = &ready.launch;
        let mut params = launch.values.clone();
        let mut bindings: Vec<Option<Region<D>>> = Vec::new();
        let mut touched = Vec::with_capacity(launch.operands.len());
        for (spec, t) in launch.source.operands.iter().zip(&launch.operands) {
            let at = self.locate(t, bound, ready)?;
            params.push(at.offset);
            for axis in 0..t.rank() {
                params.push(crate::lowering::steps(t, axis).min(u32::MAX as usize) as u32);
            }
            touched.push(Touched {
                memory: Arc::as_ptr(&at.region.memory).addr(),
                start: at.start,
                end: at.end,
                written: spec.store != Store::None,
            });
            if bindings.len() < spec.binding {
                bindings.resize_with(spec.binding, || None);
            }
            bindings[spec.binding - 1].get_or_insert(at.region);
        }
        self.order(touched);
        self.list.push(Command::Dispatch(Dispatch {
            program: ready.program.clone(),
            params,
            bindings: bindings.into_iter().flatten().collect(),
            groups: launch.groups,
            label: ready.label.clone(),
        }));
        Ok(())
    }

    /// Puts a barrier where a command would meet what one before it left under way.
    fn order(&mut self, next: Vec<Touched>) {
        let meets = |a: &Touched, b: &Touched| {
            a.memory == b.memory && (a.written || b.written) && a.start < b.end && b.start < a.end
        };
        if self.touched.iter().any(|a| next.iter().any(|b| meets(a, b))) {
            self.list.push(Command::Barrier);
            self.touched.clear();
        }
        self.touched.extend(next);
    }

    fn locate(&self, t: &TensorRef, bound: &Bound<'_>, ready: &Ready<D>) -> Result<Located<D>> {
        let info = self.pool.driver.info();
        let (buffer, base) = match &t.source {
            Source::Buffer(b) => (Some(b), 0),
            Source::Slot(s) => match scratch_of(*s) {
                Some(n) => (bound.scratch, ready.scratch[n]),
                None => (bound.slots.get(*s as usize).and_then(Option::as_ref), 0),
            },
            _ => (None, 0),
        };
        let buffer = buffer.ok_or_else(|| {
            Error::backend(
                &info.selector,
                format!("{}: an operand without memory: {:?}", ready.label, t.source),
            )
        })?;
        let range = t.byte_range().ok_or_else(|| Error::backend(&info.selector, "an operand without end"))?;
        // Of an empty operand nothing is touched, but something must be bound.
        let (start, end) = if range.0 == range.1 { (base, base) } else { (base + range.0, base + range.1) };
        let memory = self.pool.memory(buffer)?;
        let (part, limit) = memory.part(start);
        if end > limit {
            return Err(Error::Limit {
                device: info.selector.clone(),
                what: format!("bytes of an operand of {} in one piece of memory", ready.label),
                requested: end - start,
                maximum: limit - start,
            });
        }
        let (start, end) = (start - part.start + part.base, end - part.start + part.base);
        let first = start / info.offset_alignment * info.offset_alignment;
        // Whole vectors, which lie inside the memory because its granule is larger.
        let bytes = (end - first).max(1).next_multiple_of(16);
        if bytes > info.max_binding_bytes.min(1 << 32).next_multiple_of(16) {
            return Err(Error::Limit {
                device: info.selector.clone(),
                what: format!("bytes of an operand of {}", ready.label),
                requested: bytes,
                maximum: info.max_binding_bytes.min(1 << 32),
            });
        }
        let unit = unit(t.dtype) as u64;
        Ok(Located {
            region: Region { memory: part.memory.clone(), offset: first, bytes },
            start,
            end,
            offset: ((start - first) / unit) as u32,
        })
    }
}
