//! What a warp can be told to do.

use crate::exec::file::{Alu, Compare, Pred, Reg};
use crate::ptx::families::Conversion;
use std::fmt;

/// Where shared memory begins among generic addresses; no allocation is there.
pub(crate) const SHARED_BASE: u64 = 0x7100_0000_0000_0000;
/// Where a thread's local memory begins among generic addresses.
pub(crate) const LOCAL_BASE: u64 = 0x7200_0000_0000_0000;
/// Where a kernel's parameters begin among generic addresses.
pub(crate) const PARAM_BASE: u64 = 0x7300_0000_0000_0000;
/// The size of each of these windows.
pub(crate) const WINDOW: u64 = 1 << 32;

/// A place in the code that none is.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// An instruction of a warp.
#[derive(Debug)]
pub(crate) struct Instr {
    /// The line of the text.
    pub line: u32,
    /// Which lanes take part.
    pub guard: Option<Pred>,
    pub op: Op,
}

/// A register that has a value when a warp starts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    pub reg: Reg,
    pub wide: bool,
    pub value: Value,
}

/// What such a register holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Value {
    Constant(u64),
    Special(Special),
    /// The device address of a variable of the module, with an offset.
    Global(usize, i64),
    /// The offset in shared memory of the part whose size the launch tells.
    DynamicShared(i64),
}

/// Registers that tell a thread where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Special {
    Tid(usize),
    Ntid(usize),
    Ctaid(usize),
    Nctaid(usize),
    Lane,
    Warp,
    Warps,
    MaskEqual,
    MaskBelow,
    MaskUpTo,
    MaskAbove,
    MaskFrom,
    DynamicShared,
    TotalShared,
    Zero,
    One,
}

/// Memory that an instruction names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    Generic,
    Global,
    Shared,
    Local,
    Param,
}

/// Where an access is: a register plus an offset.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Address {
    pub space: Space,
    pub base: Reg,
    /// Whether the base has 64 bits.
    pub wide: bool,
    pub offset: i64,
}

/// One register of a load or store; `None` is `_`.
pub(crate) type Element = Option<(Reg, bool)>;

/// How an access stands to those of other threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Not ordered: a barrier has to be between.
    Weak,
    /// Each access is whole, and none is left out (`.volatile`).
    Volatile,
    /// Threads may find each other by it (`.relaxed`, `.acquire`, `.release`).
    Strong,
}

/// A load or a store of up to eight elements.
#[derive(Debug)]
pub(crate) struct Access {
    pub at: Address,
    /// Registers, with whether they have 64 bits.
    pub elements: Vec<Element>,
    /// Bytes of an element.
    pub width: u32,
    /// Whether narrow elements are extended by their sign.
    pub signed: bool,
    pub order: Order,
}

/// What becomes of a word in memory, from its old value and two operands.
pub(crate) type Update = fn(u64, u64, u64) -> u64;

/// An atomic operation.
#[derive(Debug)]
pub(crate) struct Atomic {
    pub at: Address,
    /// Where the old value goes.
    pub to: Option<Reg>,
    pub width: u32,
    pub update: Update,
    /// Whether what becomes depends on what was.
    pub reads: bool,
    /// Whether the order of several such operations shows in what is left.
    pub ordered: bool,
    pub b: Reg,
    pub c: Reg,
}

/// What a comparison leaves.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    /// The result, and its opposite.
    Predicates(Option<u32>, Option<u32>),
    /// This where it holds, 0 elsewhere.
    Word(Reg, u32),
}

/// How predicates are combined.
pub(crate) type Combine = fn(u32, u32) -> u32;

/// How lanes exchange values.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

/// What lanes that vote learn.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Vote {
    All(u32),
    Any(u32),
    Uniform(u32),
    Ballot(Reg),
}

/// What the lanes that an instruction names do together.
#[derive(Debug)]
pub(crate) enum Together {
    Barrier,
    Shuffle { mode: Shuffle, to: Reg, valid: Option<u32>, from: Reg, lane: Reg, bounds: Reg },
    Vote { kind: Vote, of: Pred },
    Match { to: Reg, of: Reg, wide: bool, all: Option<Option<u32>> },
    Reduce { to: Reg, of: Reg, f: fn(u32, u32) -> u32 },
    Elect { to: Option<Reg>, chosen: u32 },
}

/// How a barrier of a block is met.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Meet {
    /// Waits for the others.
    Sync,
    /// Is counted, and goes on.
    Arrive,
    /// Waits, and learns in how many threads a predicate holds.
    Count(Reg, Pred),
    /// Waits, and learns whether it holds in all.
    All(u32, Pred),
    /// Waits, and learns whether it holds in any.
    Any(u32, Pred),
}

/// A barrier of a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Barrier {
    pub meet: Meet,
    /// Whether all lanes of a warp meet it at once.
    pub aligned: bool,
    pub id: Reg,
    /// How many threads meet; all of the block unless given.
    pub count: Option<Reg>,
}

/// A copy from global to shared memory that is there once it is waited for.
#[derive(Debug)]
pub(crate) struct Copy {
    pub to: Address,
    pub from: Address,
    pub bytes: u32,
    /// Bytes that are read; zeros follow.
    pub source: Option<Reg>,
    /// Lanes in which nothing is read.
    pub ignore: Option<Pred>,
}

/// Matrices of 8 x 8 16-bit elements, between shared memory and the registers of a warp.
#[derive(Debug)]
pub(crate) struct Matrices {
    pub at: Address,
    pub regs: Vec<Reg>,
    pub transposed: bool,
    pub store: bool,
}

/// Types of the factors of a matrix product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Factor {
    F16,
    Bf16,
    Tf32,
    F64,
    S8,
    U8,
}

impl Factor {
    /// Elements in a register.
    pub(crate) fn in_register(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::Tf32 | Self::F64 => 1,
            Self::S8 | Self::U8 => 4,
        }
    }
}

/// D = A B + C over a warp.
#[derive(Debug)]
pub(crate) struct Product {
    /// Rows, columns and depth.
    pub shape: [usize; 3],
    pub a_type: Factor,
    pub b_type: Factor,
    /// Whether sums are f16; otherwise they are f32, i32 or f64, as the elements ask.
    pub half_sums: bool,
    pub saturate: bool,
    pub d: Vec<Reg>,
    pub a: Vec<Reg>,
    pub b: Vec<Reg>,
    pub c: Vec<Reg>,
}

/// A piece of a call's parameters that is copied in local memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub from: u32,
    pub to: u32,
    pub bytes: u32,
}

/// What an instruction does.
pub(crate) enum Op {
    /// Each lane on its own.
    Alu {
        run: Alu,
        r: [Reg; 5],
    },
    Compare {
        run: Compare,
        a: Reg,
        b: Reg,
        with: Option<(Combine, Pred)>,
        to: Outcome,
    },
    Logic {
        f: Combine,
        d: u32,
        a: Pred,
        b: Pred,
    },
    Convert(Box<Conversion>),
    Select {
        wide: bool,
        d: Reg,
        a: Reg,
        b: Reg,
        p: Pred,
    },
    Load(Box<Access>),
    Store(Box<Access>),
    Atomic(Box<Atomic>),
    /// Registers of 16, 32 or 64 bits into one, or one into them.
    Pack {
        d: Reg,
        wide: bool,
        bits: u32,
        from: Vec<Reg>,
    },
    Unpack {
        to: Vec<Option<Reg>>,
        bits: u32,
        a: Reg,
        wide: bool,
    },
    /// Whether a generic address is in a space.
    InSpace {
        p: u32,
        space: Space,
        address: Reg,
    },
    /// Goes elsewhere; lanes that don't meet the others again at `join`.
    Branch {
        target: u32,
        join: u32,
    },
    Switch {
        index: Reg,
        targets: Vec<u32>,
        join: u32,
    },
    Call {
        target: u32,
        before: Vec<Piece>,
        after: Vec<Piece>,
    },
    Return,
    Exit,
    Trap,
    Barrier(Barrier),
    Together {
        mask: Reg,
        what: Box<Together>,
    },
    ActiveMask {
        d: Reg,
    },
    Clock {
        d: Reg,
        wide: bool,
    },
    Copy(Box<Copy>),
    Commit,
    /// Waits for all groups of copies but the last so many, or for all copies.
    Wait(Option<u32>),
    Matrices(Box<Matrices>),
    Product(Box<Product>),
    Nop,
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alu { r, .. } => write!(f, "Alu{r:?}"),
            Self::Branch { target, join } => write!(f, "Branch({target}, {join})"),
            _ => write!(f, "Op"),
        }
    }
}
