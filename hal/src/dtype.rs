//! Element types, including block-quantised ones.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The element type of a tensor.
///
/// Block types pack [`block_elems`](DType::block_elems) elements into
/// [`block_bytes`](DType::block_bytes) bytes, so there is no size of one element: ask
/// [`bytes`](DType::bytes) for the size of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of a binary32.
    BF16,
    /// Signed 32-bit integer; the type of every index, offset and token id.
    I32,
    /// Unsigned 32-bit integer; random bits and counters.
    U32,
    /// Unsigned byte.
    U8,
    /// Signed byte.
    I8,
    /// 32 elements in 34 bytes: an f16 scale, then 32 signed bytes (GGML's `Q8_0`).
    #[serde(rename = "q8_0")]
    Q8_0,
    /// 32 elements in 18 bytes: an f16 scale, then 16 bytes of nibbles, low ones first (GGML's `Q4_0`).
    #[serde(rename = "q4_0")]
    Q4_0,
}

impl DType {
    /// Every type, in a fixed order.
    pub const ALL: [DType; 9] = [
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::I32,
        DType::U32,
        DType::U8,
        DType::I8,
        DType::Q8_0,
        DType::Q4_0,
    ];

    /// The floating-point types that ops compute on.
    pub const FLOATS: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

    /// Elements in one block; 1 for plain types.
    pub const fn block_elems(self) -> usize {
        match self {
            DType::Q8_0 | DType::Q4_0 => 32,
            _ => 1,
        }
    }

    /// Bytes of one block; for plain types, of one element.
    pub const fn block_bytes(self) -> usize {
        match self {
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::F16 | DType::BF16 => 2,
            DType::U8 | DType::I8 => 1,
            DType::Q8_0 => 34,
            DType::Q4_0 => 18,
        }
    }

    /// Whether this is a block type: contiguous along one axis, read only by matmuls, embedding and copy.
    pub const fn is_block(self) -> bool {
        self.block_elems() > 1
    }

    /// Whether this is one of [`FLOATS`](DType::FLOATS).
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F16 | DType::BF16)
    }

    /// Bytes of a contiguous tensor of `shape`, or `None` when the last axis is no multiple of the
    /// block or the size overflows.
    pub fn bytes(self, shape: &[usize]) -> Option<u64> {
        if self.is_block() && shape.last().is_none_or(|n| n % self.block_elems() != 0) {
            return None;
        }
        let elems = shape.iter().try_fold(1u64, |p, &d| p.checked_mul(d as u64))?;
        (elems / self.block_elems() as u64).checked_mul(self.block_bytes() as u64)
    }

    /// The unit roundoff of a floating type: half the distance from 1 to the next number; 0 for others.
    pub const fn unit_roundoff(self) -> f64 {
        match self {
            DType::F32 => 5.960_464_477_539_063e-8,
            DType::F16 => 4.882_812_5e-4,
            DType::BF16 => 3.906_25e-3,
            _ => 0.0,
        }
    }

    /// The lower-case name, as in configuration files.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::I32 => "i32",
            DType::U32 => "u32",
            DType::U8 => "u8",
            DType::I8 => "i8",
            DType::Q8_0 => "q8_0",
            DType::Q4_0 => "q4_0",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_blocks() {
        assert_eq!(DType::F16.bytes(&[3, 5]), Some(30));
        assert_eq!(DType::Q8_0.bytes(&[2, 64]), Some(2 * 2 * 34));
        assert_eq!(DType::Q4_0.bytes(&[2, 33]), None);
        assert_eq!(DType::F32.bytes(&[usize::MAX, 8]), None);
        assert_eq!(DType::F32.bytes(&[]), Some(4));
    }
}
