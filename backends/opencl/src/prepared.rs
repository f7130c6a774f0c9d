//! Command lists, ready to be enqueued any number of times.
//!
//! Each dispatch has a kernel object of its own with all its arguments set, because setting arguments is
//! the one call of OpenCL that isn't thread-safe, and because nothing is then left to do but to enqueue.
//! On a queue that runs commands out of order, each waits for all of the group before: barriers part the list
//! into groups whose commands don't meet.

use crate::driver::OpenClDriver;
use crate::error::failed;
use crate::handle::{CommandQueue, Event, Kernel};
use crate::memory::OpenClMemory;
use crate::queue::pointer;
use halite_hal::{Error, Result};
use halite_kernels::{Command, Dispatch};
use opencl3::command_queue::{enqueue_copy_buffer, enqueue_nd_range_kernel};
use opencl3::kernel::set_kernel_arg;
use opencl3::types::{cl_int, cl_uint, cl_ulong};
use std::fmt;
use std::mem::size_of_val;
use std::ptr;
use std::sync::Arc;

/// Commands that can be run many times.
pub struct OpenClPrepared {
    pub(crate) steps: Vec<Step>,
    /// Where groups end, in `steps`; none is empty.
    ends: Vec<usize>,
}

pub(crate) enum Step {
    Dispatch {
        kernel: Kernel,
        global: [usize; 3],
        local: [usize; 3],
        /// The runtime doesn't keep the memory that arguments name until the kernel is enqueued.
        memory: Vec<Arc<OpenClMemory>>,
        label: Arc<str>,
    },
    Copy {
        from: (Arc<OpenClMemory>, usize),
        to: (Arc<OpenClMemory>, usize),
        bytes: usize,
    },
}

impl fmt::Debug for OpenClPrepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenClPrepared({} steps)", self.steps.len())
    }
}

fn set_arg<T: ?Sized>(kernel: &mut Kernel, index: &mut cl_uint, value: &T) -> Result<(), cl_int> {
    // SAFETY: the value is as large as is said, and nobody else has the kernel.
    let set =
        unsafe { set_kernel_arg(kernel.raw(), *index, size_of_val(value), ptr::from_ref(value).cast()) };
    *index += 1;
    set
}

fn dispatch(device: &str, d: &Dispatch<OpenClDriver>) -> Result<Step> {
    let refused = |code| failed(device, &format!("arguments of {}", d.label), code);
    let mut kernel = d.program.kernel().map_err(refused)?;
    let mut index = 0;
    if !d.params.is_empty() {
        set_arg(&mut kernel, &mut index, &d.params[..]).map_err(refused)?;
    }
    for binding in &d.bindings {
        set_arg(&mut kernel, &mut index, &binding.memory.raw()).map_err(refused)?;
        set_arg::<cl_ulong>(&mut kernel, &mut index, &binding.offset).map_err(refused)?;
    }
    let local = d.program.workgroup.map(|n| n as usize);
    Ok(Step::Dispatch {
        kernel,
        global: std::array::from_fn(|axis| d.groups[axis] as usize * local[axis]),
        local,
        memory: d.bindings.iter().map(|b| b.memory.clone()).collect(),
        label: d.label.clone(),
    })
}

impl Step {
    pub(crate) fn label(&self) -> &str {
        match self {
            Step::Dispatch { label, .. } => label,
            Step::Copy { .. } => "copy",
        }
    }

    /// Bytes of the memory that it uses.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Step::Dispatch { memory, .. } => memory.iter().map(|m| m.bytes).sum(),
            Step::Copy { from, to, .. } => from.0.bytes + to.0.bytes,
        }
    }

    /// Puts it on `queue`, after the commands of `waits` where that isn't in order.
    pub(crate) fn enqueue(&self, queue: &CommandQueue, waits: &[Event]) -> Result<Event, cl_int> {
        let event = match self {
            Step::Dispatch { kernel, global, local, .. } => {
                // SAFETY: all arguments are set, the memory behind them is alive, and the kernel was checked
                // to take workgroups of this size.
                unsafe {
                    enqueue_nd_range_kernel(
                        queue.raw(),
                        kernel.raw(),
                        3,
                        ptr::null(),
                        global.as_ptr(),
                        local.as_ptr(),
                        waits.len() as cl_uint,
                        pointer(waits),
                    )
                }
            }
            Step::Copy { from, to, bytes } => {
                // SAFETY: the ranges are inside their buffers, and don't overlap.
                unsafe {
                    enqueue_copy_buffer(
                        queue.raw(),
                        from.0.raw(),
                        to.0.raw(),
                        from.1,
                        to.1,
                        *bytes,
                        waits.len() as cl_uint,
                        pointer(waits),
                    )
                }
            }
        };
        // SAFETY: the event was made for this call.
        event.map(|raw| unsafe { Event::owned(raw) })
    }
}

impl OpenClPrepared {
    pub(crate) fn new(device: &str, commands: &[Command<OpenClDriver>]) -> Result<Self> {
        let mut steps = Vec::with_capacity(commands.len());
        let mut ends = Vec::new();
        for command in commands {
            match command {
                Command::Dispatch(d) => steps.push(dispatch(device, d)?),
                Command::Copy { from, to } => steps.push(Step::Copy {
                    from: (from.memory.clone(), from.offset as usize),
                    to: (to.memory.clone(), to.offset as usize),
                    bytes: from.bytes as usize,
                }),
                Command::Barrier => ends.push(steps.len()),
                _ => return Err(Error::backend(device, "a command that this driver doesn't know")),
            }
        }
        ends.push(steps.len());
        ends.dedup();
        ends.retain(|end| *end > 0);
        Ok(OpenClPrepared { steps, ends })
    }

    /// What step `i` does, for messages.
    pub(crate) fn label(&self, i: usize) -> &str {
        self.steps.get(i).map_or("command", Step::label)
    }

    /// Puts the steps on `queue`, and their events into `events`, which is empty; returns where in these the last
    /// group begins. On a queue that isn't in order, the first group waits for the commands `before`. When a step
    /// is refused, those before it are there.
    pub(crate) fn enqueue(
        &self,
        queue: &CommandQueue,
        in_order: bool,
        before: &[Event],
        events: &mut Vec<Event>,
    ) -> (usize, Result<(), (&Step, cl_int)>) {
        let (mut start, mut last) = (0, 0);
        for &end in &self.ends {
            let group = events.len();
            for step in &self.steps[start..end] {
                let waits = match (in_order, start) {
                    (true, _) => &[],
                    (false, 0) => before,
                    (false, _) => &events[last..group],
                };
                match step.enqueue(queue, waits) {
                    Ok(event) => events.push(event),
                    Err(code) if events.len() > group => return (group, Err((step, code))),
                    Err(code) => return (last, Err((step, code))),
                }
            }
            (start, last) = (end, group);
        }
        (last, Ok(()))
    }
}
