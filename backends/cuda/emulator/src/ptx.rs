//! PTX, decoded: what a module holds, and the instructions that a warp runs.
//!
//! Every operand of an instruction is a register: constants, special registers and addresses of variables are
//! registers that have their value when a warp starts (`Start`).

mod alu;
mod convert;
mod decode;
mod memory;
mod parse;

use std::fmt;
use std::sync::Arc;

pub use parse::load;

/// PTX that isn't understood.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct PtxError {
    /// The line of the text, from 1.
    pub line: usize,
    /// What isn't understood.
    pub message: String,
}

/// What a text of PTX holds.
#[derive(Debug, Default)]
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
#[derive(Debug, Clone, Copy)]
pub struct Param {
    /// Bytes before it.
    pub offset: usize,
    /// Its size.
    pub bytes: usize,
}

/// A kernel, decoded.
#[derive(Debug, Default)]
pub struct Kernel {
    /// Its name.
    pub name: String,
    /// Its parameters.
    pub params: Vec<Param>,
    /// Bytes of all parameters.
    pub param_bytes: usize,
    /// Bytes of shared memory that it declares.
    pub static_shared: u32,
    /// Bytes of local memory of a thread.
    pub local_bytes: u32,
    /// Registers of a thread, as written.
    pub registers: u32,
    /// The most threads that a block may have, where the kernel says so.
    pub max_threads: Option<u32>,
    /// What each register holds when a warp starts.
    pub(crate) start: Vec<Start>,
    pub(crate) code: Vec<Instr>,
}

/// A register's number.
pub(crate) type Reg = u32;
/// A register of the 32 threads of a warp.
pub(crate) type Lanes = [u64; 32];
/// A result from up to three operands, lane by lane.
pub(crate) type Alu = Box<dyn Fn(&Lanes, &Lanes, &Lanes) -> Lanes + Send + Sync>;
/// What an atomic operation leaves: from the old value and two operands.
pub(crate) type Update = Box<dyn Fn(u64, u64, u64) -> u64 + Send + Sync>;

/// What a register holds when a warp starts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start {
    Value(u64),
    Special(Special),
    /// The address of the module's variable of that number.
    Global(usize),
    /// The offset of shared memory whose size the launch says.
    DynamicShared,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Special {
    Tid(usize),
    Ntid(usize),
    Ctaid(usize),
    Nctaid(usize),
    Lane,
    Warp,
    Warps,
    DynamicShared,
    MaskBelow,
    MaskUpTo,
    MaskAt,
    MaskFrom,
    MaskAbove,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    Generic,
    Global,
    Shared,
    Local,
    Param,
}

/// Where shared memory lies among generic addresses; no host has memory there.
pub(crate) const SHARED_BASE: u64 = 1 << 56;
/// Where local memory lies among generic addresses.
pub(crate) const LOCAL_BASE: u64 = 1 << 57;

#[derive(Debug)]
pub(crate) struct Instr {
    pub line: u32,
    /// The predicate, and whether it is negated.
    pub guard: Option<(Reg, bool)>,
    pub op: Op,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Address {
    pub space: Space,
    pub base: Reg,
    pub offset: i64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Shuffle {
    Up,
    Down,
    Xor,
    Index,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Vote {
    All,
    Any,
    Uniform,
    Ballot,
}

pub(crate) enum Op {
    Alu {
        f: Alu,
        d: Reg,
        s: [Reg; 3],
    },
    Load {
        to: Vec<Reg>,
        at: Address,
        bytes: u32,
        signed: bool,
    },
    Store {
        from: Vec<Reg>,
        at: Address,
        bytes: u32,
    },
    Atomic {
        d: Option<Reg>,
        at: Address,
        bytes: u32,
        f: Update,
        b: Reg,
        c: Reg,
    },
    Pack {
        d: Reg,
        s: Vec<Reg>,
        bits: u32,
    },
    Unpack {
        d: Vec<Reg>,
        s: Reg,
        bits: u32,
    },
    Branch {
        target: u32,
    },
    Exit,
    Trap,
    Barrier,
    WarpBarrier {
        mask: Reg,
    },
    Shuffle {
        kind: Shuffle,
        d: Reg,
        p: Option<Reg>,
        s: [Reg; 3],
        mask: Reg,
    },
    Vote {
        kind: Vote,
        d: Reg,
        s: Reg,
        negated: bool,
        mask: Reg,
    },
    ActiveMask {
        d: Reg,
    },
    CopyAsync {
        to: Address,
        from: Address,
        bytes: u32,
        size: Option<Reg>,
    },
    Commit,
    /// Waits until at most so many groups are left.
    WaitGroups {
        left: u32,
    },
    /// Nothing to do for threads that run in order.
    Fence,
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Op")
    }
}
