//! A stand-in for `libcuda.so.1`, the library of NVIDIA's driver, for tests where there is no such device. It
//! runs PTX on the CPU, and reports what a device would pass over in silence.
//!
//! `scripts/with-cuda-emulator.sh COMMAND…` runs a command with it.
//!
//! - **Devices.** One of compute capability 9.0, with the limits of an H100, named as an emulator.
//! - **Streams** run what they are given at once, in the order of the calls: legal, for a stream promises no
//!   more than its own order. As on a device, a kernel that fails is told of by the next call that waits, and by
//!   every call after it; its message goes to standard error.
//! - **Graphs** run the node that was added last among those whose dependencies have run, so that a missing
//!   dependency shows.
//! - **Memory** has addresses of its own, far from the host's and never used twice, with gaps between
//!   allocations; it begins as bytes of 0xA5. What is outside of allocations, or freed, is not accessible;
//!   the memory of other devices is, whether or not that was asked for.
//! - **Handles** are never used twice: one that was destroyed is refused.
//!
//! Read from the environment by `cuInit`:
//!
//! | variable | meaning |
//! |---|---|
//! | `HALITE_CUDA_EMULATOR_DEVICES` | number of devices, 1 unless given |
//! | `HALITE_CUDA_EMULATOR_MEMORY` | MiB of memory of a device, 4096 unless given |
//! | `HALITE_CUDA_EMULATOR_ARCH` | compute capability, such as `80`; `90` unless given |
//! | `HALITE_CUDA_EMULATOR_CHECKS` | `0`: races and uninitialised shared memory aren't looked for |
//! | `HALITE_CUDA_EMULATOR_FAIL` | what fails, separated by commas; see below |
//!
//! What can be made to fail: `no-device`; `ptx` (every module is refused); `out-of-memory:BYTES` (allocations of
//! at least as many); `launch:NAME`, `illegal-address:NAME` and `misaligned-address:NAME` (kernels of this name).

#![warn(missing_docs)]

pub mod api;
mod attributes;
mod config;
mod driver;
pub mod exec;
mod graph;
mod memory;
mod module;
pub mod ptx;
mod stream;
