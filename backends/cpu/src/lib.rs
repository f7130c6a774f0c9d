//! Halite's native CPU backend.

pub mod gemm;
