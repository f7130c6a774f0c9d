//! PTX, read once into what a warp runs: registers are numbers, labels are places in the code, and constants and
//! special registers are registers that have their value from the start.
//!
//! [`load`] knows every instruction of a module or refuses the module: nothing is found to be unknown as it runs.
//! `op` says what instructions there are; `families` has a module for each kind of instruction, which decodes it
//! and, where its lanes don't depend on each other, says what a lane computes. What PTX means is written in
//! NVIDIA's "Parallel Thread Execution ISA".

mod body;
mod families;
mod flow;
mod lex;
mod live;
mod module;
pub(crate) mod op;
mod operand;
mod statement;
mod types;

use op::{Instr, Start};
use std::sync::Arc;

/// PTX that isn't understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct PtxError {
    /// The line of the text, from 1.
    pub line: usize,
    /// What isn't understood.
    pub message: String,
}

/// What a text of PTX holds.
#[derive(Debug)]
pub struct Module {
    /// Kernels, in the text's order.
    pub kernels: Vec<Arc<Kernel>>,
    /// Variables in global and constant memory.
    pub globals: Vec<Global>,
}

/// A variable of a module.
#[derive(Debug)]
pub struct Global {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// What its address is a multiple of.
    pub align: u64,
    /// What it starts with; zeros follow.
    pub init: Vec<u8>,
}

/// A parameter of a kernel: where it lies among all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param {
    /// Bytes before it.
    pub offset: usize,
    /// Its size.
    pub bytes: usize,
}

/// A kernel, with all the functions that it calls.
#[derive(Debug)]
pub struct Kernel {
    /// Its name.
    pub name: String,
    /// Its parameters.
    pub params: Vec<Param>,
    /// Bytes of all parameters.
    pub param_bytes: usize,
    /// Bytes of shared memory that it declares.
    pub static_shared: u32,
    /// Bytes of local memory of a thread, parameters of functions included.
    pub local_bytes: u32,
    /// 32-bit registers of a thread: the most that are alive at one place, with a few beside, as a compiler for
    /// a device may manage with.
    pub registers: u32,
    /// The most threads that a block may have, where the kernel says so.
    pub max_threads: Option<u32>,
    /// What the registers hold that have a value from the start.
    pub(crate) start: Vec<Start>,
    /// Rows of 32 lanes of 32 bits of the register file.
    pub(crate) rows: usize,
    /// Registers of one bit.
    pub(crate) predicates: usize,
    /// The narrowest access that may be to shared memory, 4 bytes at most: what races are looked for in.
    pub(crate) granule: u32,
    /// Whether the order in which blocks reach global memory can show in results: then they run one by one.
    pub(crate) ordered: bool,
    pub(crate) code: Vec<Instr>,
}

/// Reads a module.
///
/// # Errors
///
/// The first line that isn't understood, and what of it: an instruction or a modifier that isn't known, a name
/// without a declaration, an operand that doesn't fit.
pub fn load(text: &str) -> Result<Module, PtxError> {
    module::read(text)
}
