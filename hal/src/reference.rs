//! The plain f64 meaning of every op, and a device that computes with it.

use crate::{DType, Shape};

/// A dense row-major array of any dtype, held in f64 (which holds every value of every type exactly).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Array {
    /// The type that the values are rounded to when they are stored.
    pub dtype: DType,
    /// Extent of each axis.
    pub shape: Shape,
    /// The values.
    pub data: Vec<f64>,
}
