//! Halite's OpenCL backend.
