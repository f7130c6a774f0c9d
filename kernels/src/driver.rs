//! The driver trait: run this program over this grid.
//!
//! A driver is the small part of a backend that talks to a vendor's interface; the
//! [`Engine`](crate::Engine) makes a [`Device`](halite_hal::Device) of it. A driver has one in-order queue:
//! uploads, downloads and submissions take effect in the order of the calls. It checks nothing that the
//! engine has checked, and keeps whatever a submission uses alive until it has run.

use crate::Kernel;
use crate::quirks::{Avoid, vulkan_quirks};
use halite_hal::{DeviceInfo, Readback, Result};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// A point on the queue of a driver; later work has a higher number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What the engine has to know of a driver's interface beyond the device's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traits {
    /// Whether several buffers may share one piece of memory. If not, ranges of one piece are never copied
    /// to the same piece, and kernels declare all storage bindings `read_write`.
    pub shares_memory: bool,
    /// Offsets and sizes of copies, uploads and downloads are multiples of this many bytes, a power of two.
    pub transfer_alignment: u64,
    /// Whether words of the parameter block take 64 bits each, the upper 32 being 0; see
    /// [`Kernel::wide_params`](crate::Kernel::wide_params). For drivers that compile a kernel again for each
    /// dispatch where 32-bit parameters decide on loops and branches.
    pub wide_params: bool,
    /// Iterations of loops, all of them together, that an invocation of a kernel can do. A launch that may need
    /// more is never made: another variant does the op, or it is an error.
    pub max_loops: u64,
}

impl Traits {
    /// An interface that tracks no usage, with transfers of any bytes.
    pub fn new() -> Self {
        Traits { shares_memory: true, transfer_alignment: 1, wide_params: false, max_loops: u64::MAX }
    }

    /// An interface that tracks how whole pieces of memory are used, with transfers of whole words.
    pub fn tracked() -> Self {
        Traits { shares_memory: false, transfer_alignment: 4, ..Traits::new() }
    }
}

impl Traits {
    /// The same, for a Vulkan driver of this description, in whose kernels 64-bit integers may be used or not.
    pub fn on_vulkan(mut self, driver: &str, int64: bool) -> Self {
        for quirk in vulkan_quirks(driver) {
            match quirk.avoid {
                Avoid::NarrowParams => self.wide_params = int64,
                Avoid::Loops(most) => self.max_loops = most,
            }
        }
        self
    }
}

impl Default for Traits {
    fn default() -> Self {
        Self::new()
    }
}

/// A range of memory.
pub struct Region<D: Driver> {
    /// The memory.
    pub memory: Arc<D::Memory>,
    /// First byte; for bindings a multiple of the device's offset alignment.
    pub offset: u64,
    /// Length in bytes; for bindings a multiple of 4, at most the device's largest binding.
    pub bytes: u64,
}

impl<D: Driver> Clone for Region<D> {
    fn clone(&self) -> Self {
        Region { memory: self.memory.clone(), ..*self }
    }
}

/// A program over a grid.
pub struct Dispatch<D: Driver> {
    /// The program.
    pub program: Arc<D::Program>,
    /// The words of the parameter block, `Kernel::params` of them.
    pub params: Vec<u32>,
    /// Memory for bindings 1, 2, …
    pub bindings: Vec<Region<D>>,
    /// Workgroups along each axis, none 0.
    pub groups: [u32; 3],
    /// The op and kernel, for messages.
    pub label: Arc<str>,
}

impl<D: Driver> Clone for Dispatch<D> {
    fn clone(&self) -> Self {
        Dispatch {
            program: self.program.clone(),
            params: self.params.clone(),
            bindings: self.bindings.clone(),
            groups: self.groups,
            label: self.label.clone(),
        }
    }
}

/// A command of a list.
#[non_exhaustive]
pub enum Command<D: Driver> {
    /// Runs a program.
    Dispatch(Dispatch<D>),
    /// Copies a range to another of the same length.
    Copy {
        /// What is read.
        from: Region<D>,
        /// What is written.
        to: Region<D>,
    },
    /// Everything before is done, and its writes are seen, before anything after it starts. Commands
    /// without a barrier between them may run at the same time.
    Barrier,
}

/// A vendor's interface to one device.
pub trait Driver: fmt::Debug + Send + Sync + Sized + 'static {
    /// A piece of device memory; freed when dropped.
    type Memory: Send + Sync + 'static;
    /// A compiled kernel.
    type Program: Send + Sync + 'static;
    /// A command list that can be run many times.
    type Prepared: Send + Sync + 'static;

    /// What the device is, restricted by the profile that it was opened with.
    fn info(&self) -> &DeviceInfo;

    /// What the engine has to know beyond that.
    fn traits(&self) -> Traits {
        Traits::new()
    }

    /// New memory of `bytes` bytes (at least 1, at most `max_buffer_bytes`), its content undefined.
    /// `Error::OutOfMemory` when there is none left.
    fn allocate(&self, bytes: u64) -> Result<Self::Memory>;

    /// Writes `data` at byte `offset`, in the order of the queue. The data is copied before this returns.
    fn upload(&self, to: &Arc<Self::Memory>, offset: u64, data: &[u8]) -> Result<Ticket>;

    /// Reads `bytes` bytes from byte `offset`, in the order of the queue.
    fn download(&self, from: &Arc<Self::Memory>, offset: u64, bytes: u64) -> Result<Readback>;

    /// Compiles a kernel.
    fn compile(&self, kernel: &Kernel) -> Result<Self::Program>;

    /// Runs commands once. What was called before is complete, and seen, before the first of them starts.
    fn submit(&self, commands: &[Command<Self>]) -> Result<Ticket>;

    /// Makes commands ready to be run many times without lookup or allocation.
    fn prepare(&self, commands: &[Command<Self>]) -> Result<Self::Prepared>;

    /// Runs a prepared list; the same list may be on the queue several times.
    fn run(&self, list: &Arc<Self::Prepared>) -> Result<Ticket>;

    /// The ticket of the last call that entered the queue.
    fn last(&self) -> Ticket;

    /// Whether everything up to `ticket` has run; with `block`, waits until it has. Reports what went wrong.
    fn wait(&self, ticket: Ticket, block: bool) -> Result<bool>;

    /// Bytes of device memory free now, where the interface tells.
    fn free_bytes(&self) -> Option<u64> {
        None
    }

    /// Runs commands one by one and says how many seconds each took, by the device's clock where it has one.
    fn time(&self, commands: &[Command<Self>]) -> Result<Vec<f64>> {
        self.wait(self.last(), true)?;
        let time_one = |c: &Command<Self>| {
            let start = Instant::now();
            self.wait(self.submit(std::slice::from_ref(c))?, true)?;
            Ok(start.elapsed().as_secs_f64())
        };
        commands.iter().map(time_one).collect()
    }
}
