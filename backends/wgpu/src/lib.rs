//! Halite's wgpu backend.
