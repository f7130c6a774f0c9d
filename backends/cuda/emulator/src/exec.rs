//! Runs a kernel over a grid, a warp at a time.
//!
//! Threads of a warp that diverged go on by the smallest program counter, so that they meet again where their
//! paths do; an instruction for several threads of a warp waits until all that it names are there. Blocks are
//! spread over the host's threads.

mod memory;
mod warp;

use crate::ptx::Kernel;
use memory::Shared;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use warp::{State, Warp};

/// Device memory as kernels see it.
pub trait GlobalMemory: Sync {
    /// The host's address of `bytes` bytes at a device address.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the address.
    fn resolve(&self, address: u64, bytes: u64, write: bool) -> Result<*mut u8, String>;
}

/// A kernel and what it is launched with.
#[derive(Clone, Copy)]
pub struct Launch<'a> {
    /// What runs.
    pub kernel: &'a Kernel,
    /// Blocks along each axis.
    pub grid: [u32; 3],
    /// Threads of a block along each axis.
    pub block: [u32; 3],
    /// Bytes of shared memory beside what the kernel declares.
    pub dynamic_shared: u32,
    /// The parameters, laid out as the kernel declares them.
    pub params: &'a [u8],
    /// Global memory.
    pub memory: &'a dyn GlobalMemory,
    /// Device addresses of the module's variables.
    pub globals: &'a [u64],
    /// Whether shared memory is watched for races and for reads before the first write.
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
    /// An instruction that can't be run.
    IllegalInstruction,
    /// Anything else: a race, a barrier that not all threads reach.
    LaunchFailure,
}

/// A kernel that failed: how, and where.
#[derive(Debug, Clone)]
pub struct Fault {
    /// How.
    pub kind: FaultKind,
    /// Kernel, line of PTX, block, thread, and what was wrong.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Fault {
    fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// Grids with fewer threads than this run on the caller's thread.
const SMALL: u64 = 4096;

/// Runs a grid to its end.
///
/// # Errors
///
/// The fault of the first block, in the grid's order, that was seen to fail.
pub fn run(launch: &Launch<'_>) -> Result<(), Fault> {
    let blocks: u64 = launch.grid.iter().map(|&n| u64::from(n)).product();
    let size: u64 = launch.block.iter().map(|&n| u64::from(n)).product();
    let next = AtomicU64::new(0);
    let failed: Mutex<Option<(u64, Fault)>> = Mutex::new(None);
    let work = || {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= blocks {
                return;
            }
            if let Err(fault) = block(launch, n) {
                next.store(blocks, Ordering::Relaxed);
                let mut failed = failed.lock().unwrap_or_else(|e| e.into_inner());
                if failed.as_ref().is_none_or(|(m, _)| n < *m) {
                    *failed = Some((n, fault));
                }
                return;
            }
        }
    };
    if launch.threads < 2 || blocks < 2 || blocks * size < SMALL {
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

fn block(launch: &Launch<'_>, n: u64) -> Result<(), Fault> {
    let [x, y] = [launch.grid[0], launch.grid[1]].map(u64::from);
    let id = [(n % x) as u32, (n / x % y) as u32, (n / x / y) as u32];
    let threads: u32 = launch.block.iter().product();
    let mut shared = Shared::new(launch.kernel.static_shared, launch.dynamic_shared, launch.checks);
    let mut warps: Vec<Warp<'_>> =
        (0..threads.div_ceil(32)).map(|w| Warp::new(launch, id, w, threads)).collect();
    loop {
        for warp in &mut warps {
            warp.run(&mut shared).map_err(|fault| warp.place(fault))?;
        }
        let waits = warps.iter().position(|w| w.state() == State::AtBarrier);
        let Some(first) = waits else { return Ok(()) };
        if warps.iter().any(|w| w.state() == State::Done || w.ended_early()) && launch.checks {
            let fault = Fault::new(
                FaultKind::LaunchFailure,
                "barrier divergence: some threads of the block wait at a barrier that others left out",
            );
            return Err(warps[first].place(fault));
        }
        shared.barrier();
        warps.iter_mut().for_each(Warp::pass_barrier);
    }
}
