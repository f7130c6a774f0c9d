//! Halite's cross-hardware benchmarks.
