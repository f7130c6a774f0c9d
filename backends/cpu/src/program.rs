//! Ops made ready to run: addresses known, or a slot number to add one to.

use crate::memory::Pool;
use crate::ops;
use crate::simd::panels;
use crate::view::View;
use halite_hal::{Buffer, Error, Layout, Op, OpDesc, OpKind, Result, Slot, Source};
use std::sync::Arc;

/// The largest number of operands that an op of the catalogue has: attention's backward.
const MAX_OPERANDS: usize = 10;

/// A checked list of ops, with the memory that it names.
pub(crate) struct Program {
    kernels: Vec<Kernel>,
    /// Keeps the memory alive.
    _buffers: Vec<Buffer>,
    /// Addresses of all the buffers that the ops name, ascending.
    addresses: Vec<usize>,
    /// For each slot the bytes that it must have; `None` where no op uses it.
    slots: Vec<Option<u64>>,
    pool: Arc<Pool>,
}

struct Kernel {
    kind: OpKind,
    operands: Vec<Operand>,
    inputs: usize,
}

struct Operand {
    /// The view; for a slot its address counts from the slot's start.
    view: View,
    slot: Option<u32>,
}

impl Program {
    /// Checks the ops and resolves what is known of their memory.
    pub(crate) fn new(ops: &[Op], slots: &[Slot], pool: &Arc<Pool>) -> Result<Self> {
        let mut program = Program {
            kernels: Vec::with_capacity(ops.len()),
            _buffers: Vec::new(),
            addresses: Vec::new(),
            slots: vec![None; slots.len()],
            pool: pool.clone(),
        };
        for op in ops {
            op.check(|s| slots.get(s as usize).map(|s| s.bytes))?;
            let unsupported = |reason: String| Error::Unsupported {
                device: pool.selector().into(),
                op: op.desc().to_string(),
                reason,
            };
            if let Some(t) = op.operands().find(|t| !panels::knows(t.packing, t.dtype)) {
                return Err(unsupported(panels::foreign(t.packing, t.dtype)));
            }
            if matches!(op.kind, OpKind::Custom(_)) {
                return Err(unsupported("it has not been decomposed".into()));
            }
            let mut operands = Vec::with_capacity(op.inputs.len() + op.outputs.len());
            for t in op.operands() {
                let (base, slot) = match &t.source {
                    Source::Buffer(b) => {
                        let base = pool.address(b)?;
                        if let Err(at) = program.addresses.binary_search(&(base as usize)) {
                            program.addresses.insert(at, base as usize);
                            program._buffers.push(b.clone());
                        }
                        (base, None)
                    }
                    Source::Slot(s) => {
                        program.slots[*s as usize] = Some(slots[*s as usize].bytes);
                        (std::ptr::null_mut(), Some(*s))
                    }
                    other => unreachable!("a source that Op::check doesn't know: {other:?}"),
                };
                operands.push(Operand { view: View::new(base, t), slot });
            }
            program.kernels.push(Kernel { kind: op.kind.clone(), operands, inputs: op.inputs.len() });
        }
        Ok(program)
    }

    /// Whether the bindings are as the program needs them, and none names memory a second time: then
    /// the checks that were made for the slots hold for the memory behind them.
    pub(crate) fn accepts(&self, pool: &Arc<Pool>, bound: &[Option<Buffer>]) -> Result<bool> {
        if !Arc::ptr_eq(pool, &self.pool) || bound.len() != self.slots.len() {
            return Ok(false);
        }
        let mut seen = Vec::with_capacity(bound.len());
        for (slot, (buffer, needed)) in bound.iter().zip(&self.slots).enumerate() {
            let (Some(buffer), Some(needed)) = (buffer, needed) else {
                if needed.is_some() {
                    let message = "used by the recording but not bound".into();
                    return Err(Error::Slot { slot: slot as u32, message });
                }
                continue;
            };
            if buffer.bytes() < *needed {
                return Ok(false);
            }
            seen.push(pool.address(buffer)? as usize);
        }
        seen.sort_unstable();
        let twice = seen.windows(2).any(|w| w[0] == w[1]);
        Ok(!twice && seen.iter().all(|a| self.addresses.binary_search(a).is_err()))
    }

    /// The address of each bound slot.
    pub(crate) fn bases(&self, bound: &[Option<Buffer>]) -> Result<Vec<*mut u8>> {
        let base = |b: &Option<Buffer>| b.as_ref().map_or(Ok(std::ptr::null_mut()), |b| self.pool.address(b));
        bound.iter().map(base).collect()
    }

    /// Runs the ops in order, on the current thread and its pool; stops at the first that fails.
    ///
    /// # Safety
    /// `bases` holds the start of memory for each slot in use, as large as the slot. No other thread
    /// touches memory that the ops name.
    pub(crate) unsafe fn run(&self, bases: &[*mut u8], device: &str) -> Result<()> {
        for kernel in &self.kernels {
            let mut views = [View::empty(); MAX_OPERANDS];
            for (view, operand) in views.iter_mut().zip(&kernel.operands) {
                *view = operand.view;
                if let Some(slot) = operand.slot {
                    view.ptr = bases[slot as usize].wrapping_add(view.ptr as usize);
                }
            }
            let (inputs, outputs) = views[..kernel.operands.len()].split_at(kernel.inputs);
            let run = || {
                // SAFETY: the op was checked against the sizes of its buffers and slots, which live as
                // long as this program and its bindings; the caller keeps other threads away.
                unsafe { ops::run(&kernel.kind, inputs, outputs) }
            };
            match catch(run) {
                Ok(Ok(())) => {}
                Ok(Err(message)) => return Err(Error::invalid_op(kernel.desc().to_string(), message)),
                Err(panic) => return Err(Error::backend(device, format!("{}: {panic}", kernel.desc()))),
            }
        }
        Ok(())
    }
}

/// Runs `f`; a panic, on this thread or one of its pool, becomes an error.
fn catch<R>(f: impl FnOnce() -> R) -> Result<R, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|s| s.to_string());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        format!("panicked: {}", text.unwrap_or_default())
    })
}

// SAFETY: the addresses belong to buffers that the program keeps alive; whoever runs it sees to it that
// no one else uses them meanwhile.
unsafe impl Send for Program {}
// SAFETY: as above.
unsafe impl Sync for Program {}

impl Kernel {
    fn desc(&self) -> OpDesc {
        let layout = |o: &Operand| {
            let mut l = Layout::contiguous(o.view.dtype, &o.view.shape);
            l.strides = o.view.strides;
            l
        };
        let (inputs, outputs) = self.operands.split_at(self.inputs);
        OpDesc::new(
            self.kind.clone(),
            inputs.iter().map(layout).collect(),
            outputs.iter().map(layout).collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ThreadPool, par};

    #[test]
    fn a_panic_in_a_task_becomes_an_error() {
        let mut pool = ThreadPool::new(3).unwrap();
        let result = pool.install(|| catch(|| par::for_each(100, |i| assert!(i != 57, "task {i}"))));
        assert_eq!(result, Err("panicked: task 57".into()));
        assert_eq!(pool.install(|| catch(|| 5)), Ok(5));
    }
}
