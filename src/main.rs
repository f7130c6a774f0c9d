//! The `halite` command line.
fn main() {}
