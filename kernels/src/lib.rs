//! Halite's portable kernels, and the engine that turns a driver into a device.

pub mod writer;
