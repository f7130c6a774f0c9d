//! Shapes and strides of up to [`MAX_RANK`] axes, stored inline.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Deref;

/// The largest number of axes of a tensor.
pub const MAX_RANK: usize = 5;

macro_rules! inline_dims {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(try_from = "Vec<usize>", into = "Vec<usize>")]
        pub struct $name {
            rank: u8,
            dims: [usize; MAX_RANK],
        }

        impl $name {
            /// From a slice, outermost axis first; `None` beyond [`MAX_RANK`] axes.
            pub fn try_new(dims: &[usize]) -> Option<Self> {
                let mut out = [0; MAX_RANK];
                out.get_mut(..dims.len())?.copy_from_slice(dims);
                Some(Self { rank: dims.len() as u8, dims: out })
            }

            /// From a slice, outermost axis first.
            ///
            /// # Panics
            /// Beyond [`MAX_RANK`] axes.
            pub fn new(dims: &[usize]) -> Self {
                Self::try_new(dims).unwrap_or_else(|| panic!("{} axes, at most {MAX_RANK}", dims.len()))
            }

            /// The axes, mutable.
            pub fn dims_mut(&mut self) -> &mut [usize] {
                &mut self.dims[..self.rank as usize]
            }
        }

        impl Deref for $name {
            type Target = [usize];
            fn deref(&self) -> &[usize] {
                &self.dims[..self.rank as usize]
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&**self, f)
            }
        }

        impl From<$name> for Vec<usize> {
            fn from(x: $name) -> Self {
                x.to_vec()
            }
        }

        impl TryFrom<Vec<usize>> for $name {
            type Error = String;
            fn try_from(v: Vec<usize>) -> Result<Self, String> {
                Self::try_new(&v).ok_or_else(|| format!("{} axes, at most {MAX_RANK}", v.len()))
            }
        }
    };
}

inline_dims! {
    /// The extent of each axis, outermost first.
    Shape
}
inline_dims! {
    /// The distance, in elements, between neighbours along each axis; 0 repeats (broadcast).
    Strides
}

impl Shape {
    /// The number of elements; 1 for rank 0, `usize::MAX` if there are more.
    pub fn elems(&self) -> usize {
        if self.contains(&0) { 0 } else { self.iter().fold(1, |n: usize, &d| n.saturating_mul(d)) }
    }

    /// Row-major strides of a contiguous tensor, at most `usize::MAX`.
    pub fn contiguous_strides(&self) -> Strides {
        let mut strides = Strides { rank: self.rank, dims: [0; MAX_RANK] };
        let mut step = 1;
        for axis in (0..self.len()).rev() {
            strides.dims[axis] = step;
            step = step.saturating_mul(self.dims[axis]);
        }
        strides
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contiguous_strides_are_row_major() {
        assert_eq!(&*Shape::new(&[2, 3, 4]).contiguous_strides(), &[12, 4, 1]);
        assert_eq!(Shape::new(&[]).elems(), 1);
        assert!(Shape::try_new(&[1; MAX_RANK + 1]).is_none());
    }
}
