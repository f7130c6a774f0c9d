//! Halite's cross-hardware benchmarks: what `halite bench` measures.
//!
//! [`ops`] times single ops, [`model`] prompts, generation and training, on any
//! [`Device`](halite_hal::Device). Both give [`Row`]s, which serialise with the keys of llama.cpp's
//! `llama-bench`; [`compare`] sets the rows of two runs side by side. Every figure is the median of several
//! samples after a warm-up. Speeds are set against what the same device was measured to reach, its
//! [`Roofline`], never against a data sheet.

pub mod cases;
pub mod compare;
mod conformance;
mod error;
pub mod measure;
pub mod model;
pub mod ops;
mod roofline;
mod row;
mod run;
pub mod skew;
pub mod statistics;

pub use conformance::{Conformance, Part};
pub use error::{Error, Result};
pub use roofline::Roofline;
pub use row::{Clock, Line, Replay, Row, Speed, Subject, Timing};
pub use run::{Host, Run};
