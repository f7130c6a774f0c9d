//! Command lists, ready to be enqueued any number of times.
//!
//! Each dispatch has a kernel object of its own with all its arguments set, because setting arguments is
//! the one call of OpenCL that isn't thread-safe, and because nothing is then left to do but to enqueue.
//! Barriers need nothing: the queue runs one command after the other.

use crate::driver::OpenClDriver;
use crate::error::failed;
use crate::handle::{CommandQueue, Event, Kernel};
use crate::memory::OpenClMemory;
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

    pub(crate) fn enqueue(&self, queue: &CommandQueue) -> Result<Event, cl_int> {
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
                        0,
                        ptr::null(),
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
                        0,
                        ptr::null(),
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
        for command in commands {
            match command {
                Command::Dispatch(d) => steps.push(dispatch(device, d)?),
                Command::Copy { from, to } => steps.push(Step::Copy {
                    from: (from.memory.clone(), from.offset as usize),
                    to: (to.memory.clone(), to.offset as usize),
                    bytes: from.bytes as usize,
                }),
                Command::Barrier => {}
                _ => return Err(Error::backend(device, "a command that this driver doesn't know")),
            }
        }
        Ok(OpenClPrepared { steps })
    }

    /// What step `i` does, for messages.
    pub(crate) fn label(&self, i: usize) -> &str {
        self.steps.get(i).map_or("command", Step::label)
    }

    /// Puts the steps on `queue`, and their events into `events`. When one is refused, those before it are
    /// there.
    pub(crate) fn enqueue(
        &self,
        queue: &CommandQueue,
        events: &mut Vec<Event>,
    ) -> Result<(), (&Step, cl_int)> {
        for step in &self.steps {
            events.push(step.enqueue(queue).map_err(|code| (step, code))?);
        }
        Ok(())
    }
}
