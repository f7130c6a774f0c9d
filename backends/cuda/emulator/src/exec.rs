//! Runs a kernel over a grid, a warp at a time.
//!
//! `block` runs the warps of a block in turn, each until it waits or ends; `warp` follows the paths of a warp's
//! lanes, which part at branches and meet again at their post-dominators; `step` does what an instruction says;
//! `memory`, `shared`, `copies`, `together` and `matrix` do what isn't a matter of one lane's registers. Blocks are
//! spread over the host's threads, unless the order in which they reach memory could show: results are the same
//! on every run.

mod block;
mod copies;
pub(crate) mod file;
mod matrix;
mod memory;
pub(crate) mod rounding;
mod shared;
mod step;
mod together;
mod warp;

use crate::ptx::Kernel;
use block::Machine;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Device memory as kernels see it.
pub trait GlobalMemory: Sync {
    /// The host's address of `bytes` bytes at a device address, which lie in one allocation. It is a multiple of 8
    /// where the device address is.
    ///
    /// # Errors
    ///
    /// What is wrong with the address.
    fn resolve(&self, address: u64, bytes: u64, write: bool) -> Result<*mut u8, String>;
}

/// A kernel and what it is launched with.
#[derive(Clone, Copy)]
pub struct Launch<'a> {
    /// What runs.
    pub kernel: &'a Kernel,
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y and z.
    pub block: [u32; 3],
    /// Bytes of shared memory beside what the kernel declares.
    pub dynamic_shared: u32,
    /// The bytes of all parameters, laid out as the kernel says.
    pub params: &'a [u8],
    /// Device memory.
    pub memory: &'a dyn GlobalMemory,
    /// The device address of each of the module's variables.
    pub globals: &'a [u64],
    /// Whether races, reads of shared memory before the first write, and threads that leave others waiting at a
    /// barrier are looked for. What is outside of memory or misaligned is a fault in any case.
    pub checks: bool,
    /// How many of the host's threads share the blocks.
    pub threads: usize,
}

/// What a kernel did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// An address without memory.
    IllegalAddress,
    /// An address that isn't a multiple of what is read or written there.
    MisalignedAddress,
    /// An instruction whose operands it doesn't allow.
    IllegalInstruction,
    /// A race, uninitialised shared memory, a barrier that not all threads reach, a trap.
    LaunchFailure,
}

/// A kernel that failed: how, and where.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// How.
    pub kind: FaultKind,
    /// Kernel, line of PTX, block, thread, and what was wrong.
    pub message: String,
}

/// Something wrong, before it is known where.
#[derive(Debug)]
struct Trouble {
    kind: FaultKind,
    lane: Option<usize>,
    what: String,
}

impl Trouble {
    fn new(kind: FaultKind, lane: impl Into<Option<usize>>, what: impl Into<String>) -> Self {
        Self { kind, lane: lane.into(), what: what.into() }
    }
}

/// Grids with fewer threads than this run on the caller's thread.
const SMALL: u64 = 4096;
/// The most threads of a block.
const MOST_THREADS: u64 = 1024;

/// Runs a grid to its end.
///
/// # Errors
///
/// The fault of the first block, in the grid's order, that failed; a launch that no device would take.
pub fn run(launch: &Launch<'_>) -> Result<(), Fault> {
    let product = |sizes: [u32; 3]| sizes.iter().map(|&n| u64::from(n)).product::<u64>();
    let (blocks, size) = (product(launch.grid), product(launch.block));
    let refused = |message: String| Err(Fault { kind: FaultKind::LaunchFailure, message });
    if size == 0 || size > MOST_THREADS || blocks == 0 {
        return refused(format!("a launch of {blocks} blocks of {size} threads"));
    }
    if launch.params.len() < launch.kernel.param_bytes {
        let (given, takes) = (launch.params.len(), launch.kernel.param_bytes);
        return refused(format!(
            "{given} bytes of parameters for `{}`, which takes {takes}",
            launch.kernel.name
        ));
    }
    let next = AtomicU64::new(0);
    let failed: Mutex<Option<(u64, Fault)>> = Mutex::new(None);
    let work = || {
        let mut machine = Machine::new(launch);
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= blocks {
                return;
            }
            if let Err(fault) = machine.run(n) {
                next.store(blocks, Ordering::Relaxed);
                let mut failed = failed.lock().unwrap_or_else(|e| e.into_inner());
                if failed.as_ref().is_none_or(|(m, _)| n < *m) {
                    *failed = Some((n, fault));
                }
                return;
            }
        }
    };
    if launch.threads < 2 || blocks < 2 || blocks.saturating_mul(size) < SMALL || launch.kernel.ordered {
        work();
    } else {
        std::thread::scope(|scope| {
            for _ in 0..launch.threads {
                scope.spawn(work);
            }
        });
    }
    failed.into_inner().unwrap_or_else(|e| e.into_inner()).map_or(Ok(()), |(_, fault)| Err(fault))
}
