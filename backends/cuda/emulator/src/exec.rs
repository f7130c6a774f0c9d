//! Running a grid of a kernel's blocks.

use crate::ptx::Kernel;

/// Where device memory is on the host.
pub trait GlobalMemory: Sync {
    /// Host address of `bytes` bytes at a device address.
    ///
    /// # Errors
    /// What is wrong with the address.
    fn resolve(&self, address: u64, bytes: u64, write: bool) -> Result<*mut u8, String>;
}

/// What is run.
pub struct Launch<'a> {
    /// The kernel.
    pub kernel: &'a Kernel,
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y and z.
    pub block: [u32; 3],
    /// Bytes of shared memory beyond what the kernel declares.
    pub dynamic_shared: u32,
    /// The bytes of all parameters.
    pub params: &'a [u8],
    /// Device memory.
    pub memory: &'a dyn GlobalMemory,
    /// The device address of each of the module's variables.
    pub globals: &'a [u64],
    /// Whether races and uninitialised shared memory are looked for.
    pub checks: bool,
    /// Threads of the host to run on.
    pub threads: usize,
}

/// What kind of fault a kernel had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// An access to what isn't accessible.
    IllegalAddress,
    /// An access to an address that isn't a multiple of its size.
    MisalignedAddress,
    /// An instruction that the device doesn't have.
    IllegalInstruction,
    /// A race, uninitialised shared memory, a barrier that not all reach, a trap.
    LaunchFailure,
}

/// Why a kernel failed.
#[derive(Debug)]
pub struct Fault {
    /// Its kind.
    pub kind: FaultKind,
    /// Kernel, line of PTX, block, thread, and what happened.
    pub message: String,
}

/// Runs it: so far, kernels that only return.
///
/// # Errors
/// The first fault.
pub fn run(_launch: &Launch<'_>) -> Result<(), Fault> {
    Ok(())
}
