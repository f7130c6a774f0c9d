//! Halite's native CPU backend.
