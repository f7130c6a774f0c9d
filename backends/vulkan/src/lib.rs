//! Halite's Vulkan backend.
