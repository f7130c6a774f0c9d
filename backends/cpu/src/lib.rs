//! Halite's native CPU backend.
//!
//! A [`CpuDevice`] is one executor thread with a first-in-first-out queue for all its streams, and a
//! thread pool that the ops spread over. Every op of the catalogue is native, for all float types and any
//! strides. Results are bit-identical for any number of threads: how work is split, and in which order
//! partial sums are added, follows from the operands alone.
//!
//! Kernels are chosen for the processor at run time. `HALITE_CPU_ISA=avx2` or `portable` in the environment
//! keeps to lesser instruction sets, to find a fault or to test what other processors run.

mod backend;
mod device;
mod executor;
pub mod gemm;
mod info;
mod memory;
mod ops;
mod par;
mod program;
mod simd;
mod threads;
mod view;

pub use backend::CpuBackend;
pub use device::CpuDevice;
pub use threads::ThreadPool;
