//! Halite's hardware-abstraction layer: what a device is, the op catalogue and its reference meaning.
