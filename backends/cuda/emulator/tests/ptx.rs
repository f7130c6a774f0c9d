//! PTX, read and run: each family of instructions against plain arithmetic, and what kernels do wrong.

#[path = "ptx/bits.rs"]
mod bits;
#[path = "ptx/compare.rs"]
mod compare;
#[path = "ptx/faults.rs"]
mod faults;
#[path = "ptx/floats.rs"]
mod floats;
#[path = "ptx/flow.rs"]
mod flow;
#[path = "ptx/harness.rs"]
mod harness;
#[path = "ptx/integers.rs"]
mod integers;
#[path = "ptx/matrices.rs"]
mod matrices;
#[path = "ptx/memory.rs"]
mod memory;
#[path = "ptx/together.rs"]
mod together;
