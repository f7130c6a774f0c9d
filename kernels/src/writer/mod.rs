//! Writes naga's intermediate representation as OpenCL C or CUDA C.
//!
//! A portable kernel is WGSL. [`write()`] takes it, parsed and validated by naga, and returns the source of one
//! kernel. What it doesn't know is a [`WriteError`] that names the construct; it never guesses.
//!
//! # The kernel's arguments
//!
//! 1. The uniform binding, if the module has one: a structure, by value.
//! 2. The storage bindings of group 0 in ascending order of binding, used or not. OpenCL C: a pointer to the
//!    element (or to the value, where the binding isn't a runtime-sized array) and a `ulong`, the offset in
//!    bytes at which the binding starts in that buffer. CUDA C: the pointer alone. None is `restrict`: two
//!    bindings may be the same memory.
//!
//! The kernel is called [`kernel_name`] of the entry point. Workgroup size is part of the source. A CUDA C kernel
//! declares up to 48 KiB of workgroup memory; where it has more, the launch gives all of it, as many bytes as
//! [`Kernel::dynamic_bytes`](crate::Kernel::dynamic_bytes) of [`Kernel::to_cuda_c`](crate::Kernel::to_cuda_c) says.
//!
//! # What is promised, and what is left to the kernel
//!
//! - Integers behave as in WGSL: overflow wraps, `x / 0` is `x`, `x % 0` is 0, shift amounts are taken modulo
//!   32, a float that doesn't fit an integer becomes the nearest one that a float can hold.
//! - Floats are rounded after each operation. OpenCL C says so with `FP_CONTRACT OFF`; CUDA C has no such
//!   pragma, and must be compiled with `--fmad=false`. Functions are the precise ones.
//! - Indices are not checked, and workgroup memory is not set to zero: a kernel must stay in bounds, and
//!   write workgroup memory before it reads it. Other variables start as zero, as in WGSL.
//! - Subgroup operations (CUDA C only) take whole warps of 32: all lanes must reach them together.

mod atomics;
mod bits;
mod convert;
mod error;
mod expressions;
mod function;
mod helpers;
mod lanes;
mod layout;
mod literals;
mod math;
mod module;
mod names;
mod operators;
mod packing;
mod places;
mod statements;
mod subgroups;
mod types;
mod workgroup;

pub use error::WriteError;
pub use module::write;
pub use names::kernel_name;
pub(crate) use workgroup::dynamic_bytes;

/// The language to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenCL C 1.2 without extensions.
    OpenClC,
    /// CUDA C++ as NVRTC compiles it.
    CudaC,
}

impl Dialect {
    /// `opencl` or `cuda`, whichever this is.
    fn pick<T>(self, opencl: T, cuda: T) -> T {
        match self {
            Dialect::OpenClC => opencl,
            Dialect::CudaC => cuda,
        }
    }
}

impl std::fmt::Display for Dialect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.pick("OpenCL C", "CUDA C"))
    }
}
